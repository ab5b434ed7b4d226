"""What is older than it is to be kept goes: blocks of all that was sent, and partitions by view set.

Readers come first. An hour of blocks goes in one moment: from then on no look and no table shows it, and no bucket is made of
what is left of it. Before that, all that is to be kept for longer than the blocks is made of them, and kept as it is from
then on. What a query may still read, payloads as well as files, is deleted only when no query that saw it can be running.
Each step does a batch at a time, in transactions of its own, and goes on in a later round where it was broken off.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

import structlog

from lakehouse.buckets.catalog import LakeCatalog
from lakehouse.buckets.materialize import Materializer
from lakehouse.buckets.model import ExpiredHour, InstanceId, ViewVersion
from lakehouse.buckets.planning import version_of
from lakehouse.errors import BackendUnavailableError
from lakehouse.failpoints import failpoint
from lakehouse.model import GLOBAL_INSTANCE
from lakehouse.ports import ObjectStore, View
from lakehouse.sources import SourceRegistry
from lakehouse.storage.deletion import delete_each
from lakehouse.storage.paths import blob_key

log = structlog.get_logger(__name__)

BLOCKS_AT_ONCE: Final = 1_000  # rows of a transaction, and payloads that are deleted before it
BUCKETS_AT_ONCE: Final = 100
MADE_AGAIN_KEPT: Final = timedelta(days=1)  # partitions older than they are to be kept, of blocks that are not
IN_THE_WAY_LOGGED_MAX: Final = 3


@dataclass(frozen=True, slots=True)
class Kept:
    """For how long things are kept after they came; ``None``: for ever."""

    blocks: timedelta | None = None
    partitions: timedelta | None = None
    of_view_sets: Mapping[str, timedelta | None] = field(default_factory=dict)  # other than ``partitions``

    def partitions_of(self, view_set: str) -> timedelta | None:
        return self.of_view_sets.get(view_set, self.partitions)


@dataclass(slots=True)
class Retention:
    """The steps."""

    registry: SourceRegistry
    catalog: LakeCatalog
    materializer: Materializer
    store: ObjectStore
    kept: Kept
    grace: timedelta  # no query runs for longer

    async def carry_frozen_buckets(self) -> int:
        """Rows whose blocks are gone stay readable when the writer version of their view set is raised."""
        versions = {version.view_set: version for version in map(version_of, self.registry.views)}
        uncarried = await self.catalog.uncarried_instances(list(versions.values()), BUCKETS_AT_ONCE)
        for key in uncarried:
            instance = await self.catalog.add_instance(key, versions[key.view_set])
            await self.catalog.carry_frozen(instance)
            log.info("buckets.carried", view_set=key.view_set, instance=key.instance)
        return len(uncarried)

    async def expire_partitions(self) -> None:
        """Release the partitions of old buckets, by view set; their files go like those that were replaced."""
        for view_set in dict.fromkeys(view.view_set for view in self.registry.views):
            kept = self.kept.partitions_of(view_set)
            while kept is not None:
                count = await self.catalog.expire_buckets(view_set, kept, MADE_AGAIN_KEPT, BUCKETS_AT_ONCE)
                failpoint("expire")
                if count:
                    log.info("partitions.expired", view_set=view_set, buckets=count)
                if count < BUCKETS_AT_ONCE:
                    break

    async def expire_blocks(self) -> bool:
        """Have the oldest hour of blocks go, if it is older than blocks are kept; whether there may be another.

        Raises:
            BackendUnavailableError: What is to be kept of it could not be made, so it stays.
        """
        if self.kept.blocks is None:
            return False
        hour = await self.catalog.next_expired_hour(self.kept.blocks)
        if hour is None:
            return False
        views = [view for view in self.registry.views if self._outlives(view, hour)]
        versions = {version_of(view): view for view in views}
        await self._settle(versions, hour)
        in_the_way = await self._move_horizon(versions, hour)
        for instance, begin in in_the_way:  # such as a day that was merged, and got a late block
            if instance.version in versions:
                await self.materializer.settle(versions[instance.version], instance.key.instance, begin)
        if in_the_way and (in_the_way := await self._move_horizon(versions, hour)):
            named = ", ".join(
                f"{instance.key.view_set} of {instance.key.instance} at {begin:%Y-%m-%d %H:%M}"
                for instance, begin in in_the_way[:IN_THE_WAY_LOGGED_MAX]
            )
            raise BackendUnavailableError(
                f"{len(in_the_way)} hours are to be kept and are not made of their blocks yet: {named}"
            )
        failpoint("horizon")
        log.info("blocks.expired", hour=hour.begin.isoformat())
        return True

    async def purge_blocks(self) -> int:
        """Delete a batch of what nobody can be reading any more: payloads first, so that none is left without its row."""
        blocks = await self.catalog.expired_blocks(self.grace, BLOCKS_AT_ONCE)
        keyed = [(block.block_id, blob_key(block.process_id, block.stream_id, block.block_id)) for block in blocks]
        gone = await delete_each(self.store, "purge", keyed)
        if gone:
            failpoint("purge")
            await self.catalog.forget_blocks(gone)
            log.info("blocks.purged", blocks=len(gone))
        elif not blocks:
            await self.catalog.forget_horizons(self.grace)
        return len(blocks) if gone else 0

    async def forget_registrations(self) -> int:
        """Processes and streams that nothing is kept of."""
        if self.kept.blocks is None:
            return 0
        return await self.catalog.forget_registrations(self.kept.blocks, BLOCKS_AT_ONCE)

    async def _settle(self, views: Mapping[ViewVersion, View], hour: ExpiredHour) -> None:
        """Make what is kept longer than its blocks: of what somebody has asked for, and all of global views."""
        for view in views.values():
            if view.has_global:
                await self.materializer.settle(view, GLOBAL_INSTANCE, hour.begin)
        for instance in await self.catalog.instances_of_hour(hour.begin, list(views)):
            await self.materializer.settle(views[instance.version], instance.key.instance, hour.begin)

    async def _move_horizon(
        self, views: Mapping[ViewVersion, View], hour: ExpiredHour
    ) -> list[tuple[InstanceId, datetime]]:
        """What is in the way."""
        await self.catalog.seal_buckets()
        return await self.catalog.expire_blocks(hour.begin + timedelta(hours=1), list(views))

    def _outlives(self, view: View, hour: ExpiredHour) -> bool:
        kept = self.kept.partitions_of(view.view_set)
        return kept is None or hour.age < kept
