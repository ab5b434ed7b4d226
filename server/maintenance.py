"""Housekeeping at a steady pace. No answer depends on it: a query makes fresh what it reads.

Each round makes the global views fresh ahead of time, makes closed buckets whole, removes what crashes left behind and
deletes files that no row has named for longer than any query runs. A step that fails is logged and tried again in the next
round; it never stops the others. Several servers may run this at once: every step claims what it changes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import structlog

from lakehouse.catalog.partitions import PartitionCatalog
from lakehouse.errors import LakeflightError
from lakehouse.failpoints import failpoint
from lakehouse.materialize import Materializer
from lakehouse.model import EVERYTHING, GLOBAL_INSTANCE
from lakehouse.ports import ObjectStore
from lakehouse.registry import MetadataView, ViewRegistry

log = structlog.get_logger(__name__)

FILES_PER_BUCKET_MAX: Final = 4  # a closed bucket of more files is made whole: every query opens all of them
BATCH: Final = 100  # objects or buckets per statement; the rest waits for the next round


@dataclass(frozen=True, slots=True)
class Maintenance:
    """The steps of one round, and the loop that repeats them."""

    registry: ViewRegistry
    catalog: PartitionCatalog
    materializer: Materializer
    store: ObjectStore
    interval_s: float
    retired_grace_s: float

    async def run(self) -> None:
        """Rounds until cancelled. They leave no telemetry: it would be work for the next round, for ever."""
        while True:
            await asyncio.sleep(self.interval_s)
            from client.telemetry import suppressed  # takes a while to load, and the start should not wait for it

            with suppressed():
                await self.round()

    async def round(self) -> None:
        """Every step once."""
        for step in (
            self.freshen_global_views,
            self.compact_closed_buckets,
            self.reap_expired_intents,
            self.collect_retired_objects,
        ):
            await _guarded(step)

    async def freshen_global_views(self) -> None:
        """What dashboards ask for first is there before they ask."""
        for view in self.registry.global_tables:
            if not isinstance(view, MetadataView):
                await self.materializer.ensure(view, GLOBAL_INSTANCE, EVERYTHING)

    async def compact_closed_buckets(self) -> None:
        """Deltas of buckets that can get no further block become as few files as they can be."""
        await self.catalog.seal_buckets()
        for instance, bucket_begin in await self.catalog.fragmented_buckets(FILES_PER_BUCKET_MAX, BATCH):
            view = self.registry.find(instance.key.view_set)
            if not isinstance(view, MetadataView):
                await self.materializer.compact(view, instance, bucket_begin)

    async def reap_expired_intents(self) -> None:
        """Objects whose writer died between announcing and committing them."""
        claimed = await self.catalog.claim_expired_intents(BATCH)
        if claimed:
            await self.store.delete([path for _, path in claimed])
            await self.catalog.finish_reaped([intent for intent, _ in claimed])
            log.info("intents.reaped", objects=len(claimed))

    async def collect_retired_objects(self) -> None:
        """Files of replaced partitions, once nobody can be reading them any more."""
        condemned = await self.catalog.condemn_unreferenced(timedelta(seconds=self.retired_grace_s), BATCH)
        if condemned:
            await self.store.delete([path for _, path in condemned])
            failpoint("release")
            await self.catalog.forget_objects([object_id for object_id, _ in condemned])
            log.info("objects.collected", objects=len(condemned))


async def _guarded(step: Callable[[], Awaitable[None]]) -> None:
    try:
        await step()
    except LakeflightError as error:
        log.warning("maintenance.failed", step=getattr(step, "__name__", "?"), reason=str(error))
    except Exception:
        log.exception("maintenance.failed", step=getattr(step, "__name__", "?"))
