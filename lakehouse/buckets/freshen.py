"""Makes stale buckets fresh, each once however many queries want it, and one server at a time.

A bucket is held under a lease while its source is read in one snapshot, its files are built outside the store, and
``publish`` swaps its rows.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Final

import structlog

from lakehouse.buckets.bucket import Bucket
from lakehouse.buckets.catalog import BucketCatalog
from lakehouse.buckets.decoding import BucketDecoder, JobLimits
from lakehouse.buckets.leases import Leases
from lakehouse.buckets.merging import BucketMerger
from lakehouse.buckets.model import Lease, LeaseLostError, Source, SwapConflictError
from lakehouse.buckets.planning import Action, plan_bucket
from lakehouse.buckets.publish import Publisher
from lakehouse.buckets.sharing import Allowance, SharedBuild, together
from lakehouse.errors import BackendUnavailableError, QueryError
from lakehouse.jobs.executor import Executor
from lakehouse.ports import ObjectStore

log = structlog.get_logger(__name__)

HOLD_PAUSE_MIN_S: Final = 0.02  # between attempts to get a bucket that another server makes …
HOLD_PAUSE_MAX_S: Final = 0.5  # … which may take minutes
_ATTEMPTS_MAX: Final = 4  # a swap is repeated when somebody else was faster


@dataclass(frozen=True, slots=True)
class MaterializerLimits:
    """What one query may cause to be built, and how."""

    buckets_at_once: int = 4  # of one query, and of all together
    freshen_bytes_max: int = 16 << 30  # payload bytes per query; committed buckets survive the error
    freshen_s_max: float = 600.0
    abandoned_s_max: float = 60.0  # how long a bucket is decoded that nobody waits for, while nobody waits for another
    deltas_max: int = 16  # partitions of an open bucket before it is made whole again
    margin_s: float = 300.0  # how far an event may lie outside what its block claims
    intent_s: float = 900.0  # how long a write intent protects its object when its server does not renew it
    lease_s: float = 10.0  # for which a server that does not answer keeps a bucket from others
    held_elsewhere_s_max: float = 120.0  # how long a query waits for a bucket that another server is at, and renews
    jobs: JobLimits = field(default_factory=JobLimits)


class BucketMaker:
    """Makes buckets for one server."""

    def __init__(
        self,
        catalog: BucketCatalog,
        store: ObjectStore,
        executor: Executor,
        scratch: Path,
        limits: MaterializerLimits,
    ) -> None:
        owner = f"{os.uname().nodename}/{os.getpid()}"
        self._catalog = catalog
        self._decoder = BucketDecoder(catalog, executor, limits.jobs, limits.buckets_at_once)
        self._leases = Leases(catalog, owner, limits.lease_s)
        self._publisher = Publisher(catalog, store, owner, limits.intent_s)
        self.merger = BucketMerger(catalog, executor, self._decoder, self._leases, self._publisher, scratch)
        self._scratch = scratch
        self._limits = limits
        self._running: dict[tuple[int, datetime], SharedBuild] = {}
        self._slots = asyncio.Semaphore(limits.buckets_at_once)

    @property
    def under_way(self) -> int:
        """Buckets that are being made, or wait for it."""
        return len(self._running)

    async def freshen(self, buckets: Iterable[Bucket], allowance: Allowance, lost: Iterable[str] = ()) -> None:
        """Make each of them hold the blocks that there are; ``lost`` are keys of files that have to be made again."""
        wanted = sorted(buckets, key=lambda bucket: bucket.begin)
        allowance.progress.buckets += len(wanted)

        async def one(bucket: Bucket) -> None:
            await self._freshen(bucket, allowance, lost)
            allowance.progress.buckets_done += 1

        # A query asks for a few buckets at a time, so however many it needs, the next query's are soon in turn.
        await together((one(bucket) for bucket in wanted), allowance.places)

    async def regenerate(self, bucket: Bucket) -> None:
        """Build a bucket whole, although it is fresh.

        Raises:
            QueryError: Some of what it holds is all that there is: its blocks are gone.
        """
        await self._build(bucket, SharedBuild(whole=True, is_paid=True, keeps_rows=True))

    async def _freshen(self, bucket: Bucket, allowance: Allowance, lost: Iterable[str]) -> None:
        """Build a bucket, or wait for whoever is at it; a cancelled query does not stop what others wait for."""
        key = (bucket.instance.vid, bucket.begin)
        while (build := self._running.get(key)) is not None and not build.is_open:
            # It may have read its source before this query's blocks came; building again finds out. All who wait here
            # wake together, before the next build reads anything: nobody waits twice.
            await build.outlast()
        if build is None:
            for other in list(self._running.values()):
                other.give_up()  # if nobody waits for it
            build = self._running[key] = SharedBuild()
            build.start(self._build(bucket, build), partial(self._leave, key, build), self._patience_s)
        build.lost_keys.update(lost)
        await build.wait(allowance)

    def _leave(self, key: tuple[int, datetime], build: SharedBuild) -> None:
        if self._running.get(key) is build:
            del self._running[key]

    def _patience_s(self) -> float:
        """How long a build goes on that nobody waits for: it keeps a worker from those that somebody does."""
        return 0.0 if any(build.is_wanted for build in self._running.values()) else self._limits.abandoned_s_max

    async def _build(self, bucket: Bucket, build: SharedBuild) -> None:
        loop = asyncio.get_running_loop()
        pause_s, held_since = HOLD_PAUSE_MIN_S, None
        for _ in range(_ATTEMPTS_MAX):
            while True:
                async with self._slots, self._leases.holding(bucket.instance, bucket.begin) as lease:
                    if lease is not None:
                        try:
                            await self._build_held(bucket, lease, build)
                        except LeaseLostError as lost:
                            log.warning("bucket.lease_lost", bucket=bucket.words, reason=str(lost))
                            break
                        return
                # Another server is at it. No slot waits with us: other buckets can use it.
                held_since = loop.time() if held_since is None else held_since
                if loop.time() - held_since > self._limits.held_elsewhere_s_max:
                    await self._say_held(bucket)
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, HOLD_PAUSE_MAX_S)
        raise BackendUnavailableError(
            f"this server was too slow to keep its hold of {bucket.words}, {_ATTEMPTS_MAX} times; ask again"
        )

    async def _say_held(self, bucket: Bucket) -> None:
        owner = await self._catalog.lease_owner(bucket.instance, bucket.begin)
        log.warning("bucket.held_elsewhere", bucket=bucket.words, owner=owner)
        raise BackendUnavailableError(
            f"another server has been making {bucket.words} for more than {self._limits.held_elsewhere_s_max:g} s:"
            " ask again, or for a time range without it"
        )

    async def _build_held(self, bucket: Bucket, lease: Lease, build: SharedBuild) -> None:
        for _ in range(_ATTEMPTS_MAX):
            build.reads()
            lost = build.lost_keys and await self._catalog.buckets_of(bucket.instance, list(build.lost_keys))
            source = await self._catalog.read_source(bucket.instance, bucket.scope, bucket.begin)
            is_lost = bool(lost) and bucket.begin in lost
            if not (source.state.dirty or build.whole or is_lost):
                return
            try:
                await self._make(bucket, lease, source, build, is_lost=is_lost)
            except LeaseLostError:
                raise
            except SwapConflictError as conflict:
                log.info("bucket.conflict", bucket=bucket.words, reason=str(conflict))
            else:
                return
        raise BackendUnavailableError(f"{bucket.words} changed {_ATTEMPTS_MAX} times while it was built; ask again")

    async def _make(self, bucket: Bucket, lease: Lease, source: Source, build: SharedBuild, *, is_lost: bool) -> None:
        view = bucket.view
        if (is_lost or build.keeps_rows) and (reason := _less_than_before(source)) is not None:
            if not is_lost:
                raise QueryError(f"{bucket.words} stays as it is: {reason}, and made again it would lose rows")
            raise BackendUnavailableError(
                f"{reason}; restore the files from a backup, or ask for a time range without them"
            )
        plan = plan_bucket(
            source, view.block_order, view.writer_version, self._limits.deltas_max, whole=build.whole or is_lost
        )
        if plan.action is Action.KEEP:
            await self._catalog.mark_clean(bucket.instance, bucket.begin, source.state, plan.missing_blocks)
            return
        if not build.decodes(view.view_set, plan.blocks):
            return  # nobody who waits for it may ask for so much
        scratch = self._scratch / f"build-{secrets.token_hex(8)}"
        scratch.mkdir(parents=True)
        announcing = asyncio.create_task(self._publisher.announce(bucket, 1))
        try:
            try:
                built = await self._decoder.decode(
                    view, bucket.instance.key, source, plan.blocks, scratch, build.sees_through
                )
            except BaseException:
                await asyncio.shield(self._publisher.withdraw(announcing))
                raise
            build.sees_through()
            await self._publisher.publish(bucket, lease, source, plan, built, await announcing)
            self._leases.ended(lease)
        finally:
            self._publisher.give_up(announcing)
            await asyncio.to_thread(shutil.rmtree, scratch, ignore_errors=True)


def _less_than_before(source: Source) -> str | None:
    """Why partitions that are made again would come out with fewer rows; ``None``: they would not."""
    if source.state.frozen:
        return "it is kept without its blocks"
    included = frozenset[str]().union(*source.included.values())
    gone = included - {block.block_id for block in source.blocks}
    return f"{len(gone)} of the blocks that it was made from are not kept any more" if gone else None
