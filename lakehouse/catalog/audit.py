"""Whether what is materialized is what was sent, counted anew."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from lakehouse.buckets.model import DifferingBucket, InstanceId, InstanceScope, ViewVersion
from lakehouse.catalog.parts import CatalogPart, columns_of, instance_of, suffix_of
from lakehouse.catalog.queries import load

_SQL: Final = load("audit")
_DIFFERING: Final = {
    suffix: _SQL["fetch_differing"].replace("{source}", _SQL[f"source_of_{suffix}"])
    for suffix in ("global", "process", "stream")
}
WINDOW: Final = timedelta(days=7)  # of one statement: a week of all that was sent is counted in seconds


class Audit(CatalogPart):
    """Statements that compare buckets with ``blocks``."""

    async def instances_after(self, versions: Sequence[ViewVersion], vid: int, limit: int) -> list[InstanceId]:
        async with self.connection() as connection:
            rows = await connection.fetch(_SQL["list_instances"], *columns_of(versions), vid, limit)
        return [instance_of(row) for row in rows]

    async def differing_buckets(self, instance: InstanceId, scope: InstanceScope) -> list[DifferingBucket]:
        found = []
        async with self.connection() as connection:
            span = await connection.fetchrow(_SQL["fetch_span"], instance.vid)
            begin = span["begin"]
            while begin is not None and begin < span["end"]:
                rows = await connection.fetch(
                    _DIFFERING[suffix_of(scope)],
                    instance.vid,
                    None if scope.instance is None else uuid.UUID(scope.instance),
                    scope.tag,
                    begin,
                    begin + WINDOW,
                )
                found += [
                    DifferingBucket(row["bucket_begin"], row["frozen"], row["src_blocks"], row["blocks"])
                    for row in rows
                ]
                begin += WINDOW
        return found
