"""Housekeeping at a steady pace. No answer depends on it: a query makes fresh what it reads.

Each round makes the global views fresh ahead of time, makes closed buckets whole, retires what only servers of other
versions used and none does any more, removes what crashes left behind and deletes files that no row has named for longer
than any query runs. What fails is logged and tried again in a later round; it never stops the rest. Several servers may run
this at once, of several versions: every step claims what it changes, and files are rewritten by their own version alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

import structlog

from lakehouse.buckets.catalog import BucketCatalog
from lakehouse.buckets.materialize import Materializer
from lakehouse.buckets.model import InstanceGoneError, InstanceId, ViewVersion
from lakehouse.buckets.planning import version_of
from lakehouse.errors import LakeflightError
from lakehouse.failpoints import failpoint
from lakehouse.model import EVERYTHING, GLOBAL_INSTANCE
from lakehouse.ports import ObjectStore, View
from lakehouse.sources import SourceRegistry

log = structlog.get_logger(__name__)

FILES_PER_BUCKET_MAX: Final = 4  # a closed bucket of more files is made whole: every query opens all of them
BATCH: Final = 100  # objects, buckets or instances per step; the rest waits for the next round
VERSION_UNUSED_MAX: Final = timedelta(days=7)  # longer than an upgrade takes, server by server, or is regretted


@dataclass(slots=True)
class Maintenance:
    """The steps of one round, and the loop that repeats them."""

    registry: SourceRegistry
    catalog: BucketCatalog
    materializer: Materializer
    store: ObjectStore
    interval_s: float
    retired_grace_s: float
    _compacted: tuple[InstanceId, datetime] | None = field(default=None, init=False)  # where the next round goes on

    async def run(self) -> None:
        """Rounds until cancelled. They leave no telemetry: it would be work for the next round, for ever."""
        while True:
            await asyncio.sleep(self.interval_s)
            from lakeflight.telemetry import suppressed  # takes a while to load, and the start should not wait for it

            with suppressed():
                await self.round()

    async def round(self) -> None:
        """Every step once."""
        for step in (
            self.freshen_global_views,
            self.compact_closed_buckets,
            self.retire_unused_versions,
            self.reap_expired_intents,
            self.collect_retired_objects,
        ):
            await _guarded(step.__name__, step())

    async def freshen_global_views(self) -> None:
        """What dashboards ask for first is there before they ask."""
        for view in self.registry.views:
            if view.has_global:
                await _guarded(
                    "freshen", self.materializer.ensure(view, GLOBAL_INSTANCE, EVERYTHING), view_set=view.view_set
                )

    async def compact_closed_buckets(self) -> None:
        """Deltas of buckets that can get no further block become as few files as they can be.

        Rounds take turns through all of them, so that those which fail do not keep the others from being tried.
        """
        await self.catalog.seal_buckets()
        views = self._views()
        found = await self.catalog.fragmented_buckets(list(views), FILES_PER_BUCKET_MAX, BATCH, self._compacted)
        self._compacted = found[-1] if len(found) == BATCH else None
        for instance, bucket_begin in found:
            await _guarded(
                "compact",
                self.materializer.compact(views[instance.version], instance, bucket_begin),
                view_set=instance.key.view_set,
                instance=instance.key.instance,
                bucket=bucket_begin.isoformat(),
            )

    async def retire_unused_versions(self) -> None:
        """What servers of other versions made and none has used for long. Its files go as those of replaced partitions."""
        for instance in await self.catalog.unused_instances(list(self._views()), VERSION_UNUSED_MAX, BATCH):
            await _guarded(
                "retire", self._retire(instance), view_set=instance.key.view_set, instance=instance.key.instance
            )

    async def _retire(self, instance: InstanceId) -> None:
        if await self.catalog.retire_instance(instance, VERSION_UNUSED_MAX):
            log.info(
                "instance.retired",
                view_set=instance.key.view_set,
                instance=instance.key.instance,
                writer_version=instance.version.writer_version,
            )

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

    def _views(self) -> dict[ViewVersion, View]:
        return {version_of(view): view for view in self.registry.views}


async def _guarded(step: str, work: Coroutine[Any, Any, object], **about: str) -> None:
    try:
        await work
    except (LakeflightError, InstanceGoneError) as error:
        log.warning("maintenance.failed", step=step, reason=str(error), **about)
    except Exception:
        log.exception("maintenance.failed", step=step, **about)
