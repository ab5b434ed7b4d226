"""What exists of a view instance, and what of it is stale: looks at the rows that came since the last one."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from typing import Any, Final

import asyncpg

from lakehouse.buckets.model import (
    EstimatedBucket,
    InstanceId,
    InstanceScope,
    StoredBucket,
    StoredPartition,
    UnknownClock,
    ViewVersion,
)
from lakehouse.catalog.parts import CatalogPart, gone, named, suffix_of
from lakehouse.catalog.queries import load
from lakehouse.model import NS_PER_US, InstanceKind, LastTiming, TimeRange, ViewKey

_SQL: Final = load("looks")
FIND_TIMING: Final = _SQL["find_timing"].replace("{unlisted}", load("senders")["unlisted"])
FIRST_LOOK_S_MAX: Final = 600  # it reads all blocks that there are, about 100,000 a second; later ones read what is new
FIRST_LOOK_PAUSE_S: Final = 0.5  # until it is seen whether another's first look is done
CLOCKS_REMEMBERED_MAX: Final = 100_000  # forgetting them costs one look-up each
LOOK_BEHIND_MAX: Final = 1_000  # transactions that looks read again before one is recorded that found nothing new …
LOOK_ROWS_MAX: Final = 200  # … and rows: a transaction may bring thousands, which cost some microseconds each
_SUFFIXES: Final = ("global", "process", "stream")


class Looks(CatalogPart):
    """Statements over ``view_instances``, and over what looks find in ``lakehouse_buckets`` and ``lakehouse_partitions``."""

    def __init__(self, pool: asyncpg.Pool, store_name: str, renewing: asyncpg.Pool | None = None) -> None:
        super().__init__(pool, store_name, renewing)
        self._known_clocks: set[str] = set()  # instances of processes that said their tick frequency
        self._looks = {suffix: look_statements(suffix) for suffix in _SUFFIXES}

    async def find_entity(self, kind: InstanceKind, instance: str) -> bool:
        """Whether the process or stream that an instance id names is registered."""
        async with self.connection() as connection:
            return await connection.fetchval(_SQL[f"find_{kind.value}"], uuid.UUID(instance)) is not None

    async def find_instance(self, key: ViewKey, version: ViewVersion) -> InstanceId | None:
        async with self.connection() as connection:
            vid = await connection.fetchval(
                _SQL["find_instance"], key.view_set, key.instance, version.schema_hash, version.writer_version
            )
        return None if vid is None else InstanceId(vid, key, version)

    async def add_instance(self, key: ViewKey, version: ViewVersion) -> InstanceId:
        async with self.connection() as connection:
            vid = await connection.fetchval(
                _SQL["add_instance"], key.view_set, key.instance, version.schema_hash, version.writer_version
            )
        return InstanceId(vid, key, version)

    async def look(
        self, instance: InstanceId, scope: InstanceScope, wanted: TimeRange, margin_s: float
    ) -> list[StoredBucket]:
        """Take note of blocks that came since the last look, then list the buckets that a reader of ``wanted`` needs.

        Args:
            margin_s: How far outside its claims an event of a block may lie that is not materialized yet.

        Raises:
            InstanceGoneError: Without its row nothing would be found, which is not the answer.
        """
        while True:
            async with self.connection() as connection:
                try:
                    is_noted = await self._take_note(connection, instance, scope)
                except asyncpg.ExclusionViolationError:  # the hours of a block were merged since its statement began
                    continue
                if is_noted:
                    rows = await connection.fetch(
                        _of_seen("fetch_buckets"), *named(instance), wanted.begin_ns, wanted.end_ns, float(margin_s)
                    )
                    break
            await asyncio.sleep(FIRST_LOOK_PAUSE_S)  # the caller has a deadline
        if not rows:
            raise gone(instance)
        return _buckets(rows)

    async def _take_note(self, connection: Any, instance: InstanceId, scope: InstanceScope) -> bool:
        """Mark the buckets of blocks that came since the last look; false while another does so for the first time."""
        arguments = (*named(instance), None if scope.instance is None else uuid.UUID(scope.instance), scope.tag)
        looks = self._looks[suffix_of(scope)]
        state = await connection.fetchrow(looks["has_fresh"], *arguments, LOOK_BEHIND_MAX, LOOK_ROWS_MAX)
        if state is not None and not state["continuous"]:
            await continue_ids(connection)
            state = await connection.fetchrow(looks["has_fresh"], *arguments, LOOK_BEHIND_MAX, LOOK_ROWS_MAX)
        if state is None:
            raise gone(instance)
        if state["first"]:
            async with connection.transaction():
                if await connection.fetchval(_SQL["claim_first_look"], instance.vid) is None:
                    return False
                await connection.execute(f"SET LOCAL statement_timeout = '{FIRST_LOOK_S_MAX}s'")
                await connection.execute(_SQL["carry_frozen"], instance.vid, timeout=FIRST_LOOK_S_MAX)
                await connection.execute(looks["mark_all"], *arguments, timeout=FIRST_LOOK_S_MAX)
        elif state["fresh"] or state["due"]:
            await connection.execute(looks["mark_fresh"], *arguments)
        return True

    async def known_missing(
        self, uses: Sequence[tuple[ViewKey, ViewVersion, TimeRange]], margin_s: float
    ) -> int | None:
        """Blocks that the last builds had to leave out of these instances and ranges; ``None``: none of the lake's."""
        keys = [key for key, _, _ in uses]
        versions = [version for _, version, _ in uses]
        ranges = [wanted for _, _, wanted in uses]
        async with self.connection() as connection:
            found: int | None = await connection.fetchval(
                _SQL["fetch_known_missing"],
                [key.view_set for key in keys],
                [key.instance for key in keys],
                [version.schema_hash for version in versions],
                [version.writer_version for version in versions],
                [wanted.begin_ns for wanted in ranges],
                [wanted.end_ns for wanted in ranges],
                float(margin_s),
            )
        return found

    async def all_partitions(self, instance: InstanceId) -> list[StoredPartition]:
        """Every partition of an instance, unpruned (tests compare with this)."""
        async with self.connection() as connection:
            return [_partition(row) for row in await connection.fetch(_SQL["fetch_all_partitions"], instance.vid)]

    async def unknown_clock(self, scope: InstanceScope) -> UnknownClock | None:
        """That of the instance's process, if its tick frequency is unknown and it has blocks."""
        if scope.instance is None or scope.instance in self._known_clocks:
            return None
        async with self.connection() as connection:
            process = await connection.fetchrow(_SQL["find_clock"], uuid.UUID(scope.instance))
            if process is None:
                return None
            if process["is_known"]:  # and remains so: a process is registered once
                if len(self._known_clocks) >= CLOCKS_REMEMBERED_MAX:
                    self._known_clocks.clear()
                self._known_clocks.add(scope.instance)
                return None
            timing = await connection.fetchrow(FIND_TIMING, process["process_id"])
        if timing["end_ticks"] is None:
            return None
        latest = LastTiming(timing["end_ticks"], timing["end_us"] * NS_PER_US)
        return UnknownClock(process["start_us"] * NS_PER_US, latest)

    async def estimated_buckets(
        self, instance: InstanceId, clock: UnknownClock, wanted: TimeRange, shift_ns: int
    ) -> list[EstimatedBucket]:
        """Those that a reader of ``wanted`` may find too far from where ``clock`` has them: by more than ``shift_ns``."""
        async with self.connection() as connection:
            rows = await connection.fetch(
                _SQL["fetch_estimated"],
                instance.vid,
                wanted.begin_ns,
                wanted.end_ns,
                clock.start_ns,
                clock.latest.end_ticks,
                clock.latest.end_time_ns,
                float(shift_ns),
            )
        return [
            EstimatedBucket(
                row["bucket_begin"],
                row["dirty"],
                LastTiming(row["timing_end_ticks"], row["timing_end_us"] * NS_PER_US),
                None if row["min_ns"] is None else TimeRange(row["min_ns"], row["max_ns"]),
            )
            for row in rows
        ]

    async def mark(self, instance: InstanceId, bucket_begin: datetime) -> None:
        """Make a bucket dirty by hand."""
        async with self.connection() as connection:
            await connection.execute(_SQL["mark_bucket"], instance.vid, bucket_begin)


async def continue_ids(connection: Any) -> None:
    """See to it that rows which come from now on get higher ids than all that there are, whatever cluster gave those."""
    if await connection.fetchval(_SQL["ids_continue"]):
        return  # as ever: the lock would wait for a running backup, and all ingestion for the lock
    async with connection.transaction():
        await connection.execute(_SQL["lock_transactions"])
        await connection.execute(_SQL["rebase"])


def look_statements(suffix: str) -> dict[str, str]:
    """The statements of looks at one kind of instance; ``mark_all`` is ``mark_fresh`` where nothing has been seen yet."""

    def one(name: str, each: str) -> str:
        text = _of_seen(name)
        for part in ("fresh", "reread"):
            text = text.replace(f"{{{part}}}", _SQL[f"{part}_of_{suffix}"])
        return text.replace("{unseen}", _SQL["unseen"]).replace("{each}", each)

    return {
        "has_fresh": one("has_fresh", "OFFSET 0"),
        "mark_fresh": one("mark_fresh", "OFFSET 0"),
        "mark_all": one("mark_fresh", ""),
    }


def _of_seen(name: str) -> str:
    return _SQL[name].replace("{seen}", _SQL["seen"])


def _buckets(rows: Sequence[Any]) -> list[StoredBucket]:
    """Of each bucket its own row, if it has one, and then those of its partitions."""
    found = []
    for begin, group in groupby(rows, key=itemgetter("bucket_begin")):
        if begin is None:
            continue
        of_bucket = list(group)
        dirty, claimed_in_range, missing_blocks = False, True, 0
        if of_bucket[0]["file_path"] is None:
            own = of_bucket.pop(0)
            dirty, claimed_in_range, missing_blocks = own["dirty"], own["claimed_in_range"], own["missing_blocks"]
        found.append(StoredBucket(begin, dirty, claimed_in_range, missing_blocks, tuple(map(_partition, of_bucket))))
    return found


def _partition(row: Any) -> StoredPartition:
    return StoredPartition(
        row["file_path"],
        row["file_size"],
        row["num_rows"],
        row["min_event_ns"],
        row["max_event_ns"],
        row["tail_digest"],
    )
