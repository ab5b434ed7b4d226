"""Housekeeping of a lake with two view sets, as a server does it that has just started; as a program, until it is killed.

``python -m tests.support.housekeeping URL FOLDER`` does a round of it. ``LAKEFLIGHT_FAILPOINT`` says where it ends.
"""

from __future__ import annotations

import asyncio
import sys
from datetime import timedelta
from pathlib import Path
from typing import Final

from lakehouse.sources import SourceRegistry
from lakehouse.sources.blocks import BlocksSource
from server.maintenance import Maintenance
from server.retention import Kept
from tests.support.materializer_lake import view_of
from tests.support.postgres_lake import PostgresLake, postgres_lake_at

LOGS, SPANS = view_of("log_entries"), view_of("thread_spans")
REGISTRY: Final = SourceRegistry([BlocksSource(LOGS), BlocksSource(SPANS)])
OLD_H: Final = 24 * 30  # hours: older than blocks and spans are kept, not older than logs are
KEPT: Final = Kept(timedelta(days=7), timedelta(days=14), {"log_entries": None})


def housekeeping(lake: PostgresLake, kept: Kept | None = None) -> Maintenance:
    """Without a grace for anything."""
    return Maintenance(
        registry=REGISTRY,
        catalog=lake.catalog,
        materializer=lake.materializer(),
        store=lake.store,
        interval_s=1.0,
        retired_grace_s=0.0,
        orphan_grace_s=0.0,
        kept=kept or Kept(),
    )


async def all_runs_out(lake: PostgresLake) -> None:
    """As if the servers that were at it had ended, and what they held had run out."""
    await lake.expire_intents()
    await lake.pool.execute("UPDATE lakehouse_leases SET expires_at = clock_timestamp() - interval '1 s'")


async def _round(url: str, folder: Path) -> None:
    async with postgres_lake_at(url, folder) as lake:
        await housekeeping(lake, KEPT).round()


if __name__ == "__main__":
    asyncio.run(_round(sys.argv[1], Path(sys.argv[2])))
