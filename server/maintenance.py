"""Housekeeping at a steady pace. No answer depends on it: a query makes fresh what it reads.

It makes the global views fresh ahead of time, merges the files of closed hours and the hours of closed days, retires what only
servers of other versions used and none does any more, removes what crashes left behind and deletes files that no row has named
for longer than any query runs. Each of these steps has rounds of its own, so that none waits for another, and goes on while
there is more to do. What fails is logged and tried again in a later round, a merge
after a pause that grows; it never stops the rest. Several servers may run this
at once, of several versions: every step claims what it changes, and files are rewritten by their own version alone.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Protocol, TypeAlias

import structlog

from lakehouse.buckets.catalog import LakeCatalog
from lakehouse.buckets.materialize import Materializer
from lakehouse.buckets.merging import MERGED_BYTES_MAX
from lakehouse.buckets.model import InstanceGoneError, InstanceId, ViewVersion
from lakehouse.buckets.planning import version_of
from lakehouse.errors import BackendUnavailableError, LakeflightError
from lakehouse.failpoints import failpoint
from lakehouse.model import EVERYTHING, GLOBAL_INSTANCE
from lakehouse.ports import ObjectStore, View
from lakehouse.sources import SourceRegistry
from lakehouse.storage.deletion import delete_each
from lakehouse.storage.paths import LAKE_ID, PARTITIONS
from server.audit import Audit
from server.backoff import Backoff
from server.retention import Kept, Retention

log = structlog.get_logger(__name__)

_Merge: TypeAlias = Callable[[View, InstanceId, datetime], Coroutine[Any, Any, None]]
Step: TypeAlias = Callable[[], Coroutine[Any, Any, bool | None]]  # False: not all of it was done

FILES_PER_BUCKET_MAX: Final = 4  # a closed bucket of more files is made whole: every query opens all of them
BATCH: Final = 100  # objects, buckets or instances that are claimed, and lost to a failure, at a time
STEP_S_MAX: Final = 300.0  # so long a step begins further batches; then it pauses like after any round
OWNER: Final = f"{os.uname().nodename}/{os.getpid()}"
ORPHAN_GRACE_S: Final = 2 * 86_400.0  # after a file was found that nothing names: an operator may find out why
DAY_S: Final = 86_400.0
BEHIND: Final = 2  # rounds, after which a step says how long ago it was done
SILENT_S_MAX: Final = 900.0  # longer than a round of a step takes: its leader is stopped, and another does it
AGAIN_S_MIN: Final = 60.0  # until a bucket is merged again whose merge failed …
AGAIN_S_MAX: Final = 3600.0  # … every time: whoever has repaired what was wrong need not wait for longer
LEASE_FORGOTTEN: Final = timedelta(hours=1)  # after it ran out: longer than a server is paused that then goes on
VERSION_UNUSED_MAX: Final = timedelta(days=7)  # longer than an upgrade takes, server by server, or is regretted


class Leadership(Protocol):
    """Which of many servers does a step."""

    async def leads(self, task: str) -> bool: ...


class SoleLeadership:
    """Of the only server."""

    async def leads(self, task: str) -> bool:
        return True


@dataclass(slots=True)
class Maintenance:
    """The steps, and the loops that repeat them."""

    registry: SourceRegistry
    catalog: LakeCatalog
    materializer: Materializer
    store: ObjectStore
    interval_s: float
    retired_grace_s: float
    kept: Kept = field(default_factory=Kept)
    orphan_grace_s: float = ORPHAN_GRACE_S
    leadership: Leadership = field(default_factory=SoleLeadership)
    clock: Callable[[], float] = time.monotonic  # seconds
    _compacted: tuple[InstanceId, datetime] | None = field(default=None, init=False)  # where the next round goes on
    _merged: tuple[InstanceId, datetime] | None = field(default=None, init=False)
    _audit: Audit = field(init=False)
    _backoff: Backoff = field(init=False)

    def __post_init__(self) -> None:
        self._backoff = Backoff(AGAIN_S_MIN, AGAIN_S_MAX, self.clock)
        self._audit = Audit(self.registry, self.catalog)

    async def run(self) -> None:
        """Rounds of every step until cancelled. They leave no telemetry: it would be work for the next round, for ever."""
        async with asyncio.TaskGroup() as steps:
            for step in self._steps():
                steps.create_task(self._repeat(step, 0.0))
            for step in self._daily_steps():
                steps.create_task(self._repeat(step, DAY_S))

    async def round(self) -> None:
        """Every step once, one after the other."""
        for step in (*self._steps(), *self._daily_steps()):
            await _guarded(step.__name__, step())

    def _steps(self) -> Sequence[Step]:
        return (
            self.note_senders,
            self.freshen_global_views,
            self.compact_closed_buckets,
            self.merge_closed_days,
            self.retain,
            self.retire_unused_versions,
            self.reap_expired_intents,
            self.collect_retired_objects,
        )

    def _daily_steps(self) -> Sequence[Step]:
        return (self.audit, self.sweep_orphans)

    async def _repeat(self, step: Step, period_s: float) -> None:
        while True:
            await asyncio.sleep(self.interval_s)
            # It takes a while to load, and the start should not wait for it.
            from lakeflight.telemetry import float_metric, suppressed

            with suppressed():
                lag_s = await self._take_turn(step, period_s)
            if lag_s is not None and lag_s > BEHIND * (
                period_s + self.interval_s
            ):  # one that is not would never end, as above
                float_metric("maintenance_lag", lag_s, unit="s", properties={"step": step.__name__})

    async def _take_turn(self, step: Step, period_s: float) -> float | None:
        """Do a step if it is due and ours to do; how long ago it was last done, and not how often it should have been since."""
        name = step.__name__
        try:
            leads = await self.leadership.leads(name)
            age = await self.catalog.task_age(name)
        except BackendUnavailableError as error:
            log.warning("maintenance.failed", step=name, reason=str(error))
            return None
        except Exception:
            log.exception("maintenance.failed", step=name)
            return None
        age_s = None if age is None else age.total_seconds()
        if not leads:
            if age_s is None or age_s < period_s + self.interval_s + SILENT_S_MAX:
                return None
            log.warning("maintenance.leader_silent", step=name, seconds=round(age_s))
        if age_s is not None and age_s < period_s:
            return None
        if await _guarded(name, step()):
            await _guarded(name, self.catalog.task_done(name, OWNER))
        return age_s

    async def audit(self) -> bool:
        """What is materialized is what was sent."""
        return await self._audit.run(STEP_S_MAX)

    async def note_senders(self) -> None:
        """Whoever lists processes and streams reads the blocks that came since, and no more."""
        await self.catalog.note_senders()

    async def sweep_orphans(self) -> None:
        """Files of partitions that nothing names, such as one whose upload came to its end after its write was given up.

        In a store that another database uses as well, those of the other one would seem to be such.
        """
        lake_id = await self.catalog.lake_id()
        await self.store.put_blobs([(LAKE_ID, lake_id)])
        if (owner := await self.store.get(LAKE_ID)) != lake_id:
            log.error(
                "sweep.refused", reason="the store is another lake's, too", store=self.store.name, lake=owner[:36]
            )
            return
        async for listed in self.store.pages(PARTITIONS):
            await self.catalog.note_orphans(listed)
        await _in_batches(self._sweep)

    async def _sweep(self) -> int:
        orphans = await self.catalog.orphans(timedelta(seconds=self.orphan_grace_s), BATCH)
        if gone := await delete_each(self.store, "sweep", [(key, key) for key in orphans]):
            failpoint("sweep")
            await self.catalog.forget_orphans(gone)
            log.warning("orphans.deleted", objects=len(gone), first=gone[0])
        return len(orphans) if gone else 0

    async def freshen_global_views(self) -> None:
        """What dashboards ask for first is there before they ask."""
        for view in self.registry.views:
            if view.has_global:
                await _guarded(
                    "freshen", self.materializer.ensure(view, GLOBAL_INSTANCE, EVERYTHING), view_set=view.view_set
                )

    async def compact_closed_buckets(self) -> None:
        """Deltas of buckets that can get no further block become as few files as they can be.

        Batches take turns through all of them, so that those which fail do not keep the others from being tried.
        """
        await self.catalog.seal_buckets()
        await _in_batches(self._compact)

    async def _compact(self) -> int:
        views = self._views()
        found = await self.catalog.fragmented_buckets(list(views), FILES_PER_BUCKET_MAX, BATCH, self._compacted)
        self._compacted = found[-1] if len(found) == BATCH else None
        for instance, begin in found:
            await self._unless_postponed("compact", self.materializer.compact, views[instance.version], instance, begin)
        return len(found)

    async def merge_closed_days(self) -> None:
        """The hours of a closed day become one bucket, as far as they are small. Batches take turns here, too."""
        await _in_batches(self._merge)

    async def _merge(self) -> int:
        views = self._views()
        found = await self.catalog.mergeable_days(list(views), MERGED_BYTES_MAX, BATCH, self._merged)
        self._merged = found[-1] if len(found) == BATCH else None
        for instance, day in found:
            await self._unless_postponed("merge", self.materializer.merge_day, views[instance.version], instance, day)
        return len(found)

    async def _unless_postponed(
        self, step: str, merge: _Merge, view: View, instance: InstanceId, begin: datetime
    ) -> None:
        """What failed is left alone for a while: it would cost as much again in every round, and fail."""
        bucket = (step, instance, begin)
        if not self._backoff.is_due(bucket):
            return
        about = {
            "view_set": instance.key.view_set,
            "instance": instance.key.instance,
            "bucket": begin.isoformat(),
        }
        if await _guarded(step, merge(view, instance, begin), **about):
            self._backoff.succeeded(bucket)
        else:
            times, pause_s = self._backoff.failed(bucket)
            log.warning("maintenance.postponed", step=step, failures=times, seconds=round(pause_s), **about)

    async def retire_unused_versions(self) -> None:
        """What servers of other versions made and none has used for long. Its files go as those of replaced partitions."""
        await _in_batches(self._retire)

    async def _retire(self) -> int:
        unused = await self.catalog.unused_instances(list(self._views()), VERSION_UNUSED_MAX, BATCH)
        gone = [
            await _guarded(
                "retire", self._retire_one(instance), view_set=instance.key.view_set, instance=instance.key.instance
            )
            for instance in unused
        ]
        return len(unused) if any(gone) else 0

    async def _retire_one(self, instance: InstanceId) -> None:
        if await self.catalog.retire_instance(instance, VERSION_UNUSED_MAX):
            log.info(
                "instance.retired",
                view_set=instance.key.view_set,
                instance=instance.key.instance,
                writer_version=instance.version.writer_version,
            )

    async def retain(self) -> bool:
        """What is older than it is to be kept. Partitions first: none is made of blocks only to expire."""
        retention = self._retention
        done = [
            await _guarded("carry", _in_batches(retention.carry_frozen_buckets)),
            await _guarded("expire_partitions", retention.expire_partitions()),
            await _guarded("expire_blocks", _while_more(retention.expire_blocks)),
            await _guarded("purge_blocks", _while_more(retention.purge_blocks)),
            await _guarded("expire_partitions", retention.expire_partitions()),
            await _guarded("forget", _while_more(retention.forget_registrations)),
            await _guarded("forget", self._forget_instances()),
        ]
        return all(done)

    async def _forget_instances(self) -> None:
        await _in_batches(lambda: self.catalog.forget_instances(VERSION_UNUSED_MAX, BATCH))

    @property
    def _retention(self) -> Retention:
        grace = timedelta(seconds=self.retired_grace_s)
        return Retention(self.registry, self.catalog, self.materializer, self.store, self.kept, grace)

    async def reap_expired_intents(self) -> None:
        """Objects whose writer died between announcing and committing them, and what it held."""
        await self.catalog.forget_leases(LEASE_FORGOTTEN)
        await _in_batches(self._reap)

    async def _reap(self) -> int:
        claimed = await self.catalog.claim_expired_intents(BATCH)
        if gone := await delete_each(self.store, "reap", claimed):
            failpoint("reap")
            await self.catalog.finish_reaped(gone)
            log.info("intents.reaped", objects=len(gone))
        return len(claimed) if gone else 0

    async def collect_retired_objects(self) -> None:
        """Files of replaced partitions, once nobody can be reading them any more."""
        await _in_batches(self._collect)

    async def _collect(self) -> int:
        condemned = await self.catalog.condemn_unreferenced(timedelta(seconds=self.retired_grace_s), BATCH)
        if gone := await delete_each(self.store, "collect", condemned):
            failpoint("release")
            await self.catalog.forget_objects(gone)
            log.info("objects.collected", objects=len(gone))
        return len(condemned) if gone else 0

    def _views(self) -> dict[ViewVersion, View]:
        return {version_of(view): view for view in self.registry.views}


async def _in_batches(batch: Callable[[], Awaitable[int]]) -> None:
    """Repeat what does up to ``BATCH`` things while there may be more of them.

    It says how many it found, or none if it got nowhere: it would find the same again.
    """
    begun = time.monotonic()
    while await batch() == BATCH and time.monotonic() - begun < STEP_S_MAX:
        pass


async def _while_more(batch: Callable[[], Awaitable[int | bool]]) -> None:
    """Repeat until there was nothing to do."""
    begun = time.monotonic()
    while await batch() and time.monotonic() - begun < STEP_S_MAX:
        pass


async def _guarded(step: str, work: Coroutine[Any, Any, object], **about: str) -> bool:
    """Whether all of it was done; why not is in the log."""
    try:
        done = await work
    except (LakeflightError, InstanceGoneError) as error:
        log.warning("maintenance.failed", step=step, reason=str(error), **about)
    except Exception:
        log.exception("maintenance.failed", step=step, **about)
    else:
        return done is not False
    return False
