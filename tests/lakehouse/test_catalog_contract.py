"""What every catalog of buckets promises, in memory and in Postgres."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest

from lakehouse.buckets.materialize import Freshened
from lakehouse.buckets.model import (
    InstanceGoneError,
    InstanceId,
    InstanceScope,
    Lease,
    LeaseLostError,
    NewPartition,
    PartitionFile,
    PartitionsOf,
    Retired,
    Source,
    StoredBucket,
    Swap,
    SwapConflictError,
    UnknownClock,
    ViewVersion,
)
from lakehouse.buckets.planning import version_of
from lakehouse.errors import BackendUnavailableError
from lakehouse.filters import COLUMNS, filter_of
from lakehouse.model import EVERYTHING, Block, InstanceKind, LastTiming, TimeRange, ViewKey
from tests.support.materializer_lake import Lake, view_of
from tests.support.programs import SECOND_NS, START_NS, Program

VERSION, NEXT_VERSION = ViewVersion("log_entries", b"12345678", 1), ViewVersion("log_entries", b"87654321", 2)
MINUTE, NO_TIME = timedelta(minutes=1), timedelta(0)
LOGS = view_of("log_entries")
SCOPES = pytest.mark.parametrize("kind", ["process", "stream", "global"])


def scope_of(program: Program, kind: str) -> InstanceScope:
    return {
        "process": InstanceScope(InstanceKind.PROCESS, program.process_id, "log"),
        "stream": InstanceScope(InstanceKind.STREAM, program.log_stream, None),
        "global": InstanceScope(None, None, "log"),
    }[kind]


class Instance:
    """One view instance of a lake, and a builder that makes its buckets out of nothing."""

    def __init__(self, lake: Lake, id_: InstanceId, scope: InstanceScope) -> None:
        self.catalog, self.id, self.scope = lake.catalog, id_, scope

    async def look(self, wanted: TimeRange = EVERYTHING) -> list[StoredBucket]:
        return await self.catalog.look(self.id, self.scope, wanted, 300)

    async def source(self, begin: datetime) -> Source:
        return await self.catalog.read_source(self.id, self.scope, begin)

    async def is_dirty(self) -> bool:
        return any(bucket.dirty for bucket in await self.look())

    async def clean(self) -> set[str]:
        """Take all blocks of all buckets as built, and say which they were."""
        seen: set[str] = set()
        for bucket in await self.look():
            source = await self.source(bucket.begin)
            seen |= {block.block_id for block in source.blocks}
            await self.catalog.mark_clean(self.id, bucket.begin, source.state)
        return seen

    async def lease(self, begin: datetime, lasts: timedelta = MINUTE) -> Lease:
        lease = await self.take(begin, "test", lasts)
        assert lease is not None
        return lease

    async def take(self, begin: datetime, owner: str, lasts: timedelta = MINUTE) -> Lease | None:
        lease = Lease(self.id, begin, uuid.uuid4())
        return lease if await self.catalog.take_lease(lease, owner, lasts) else None

    async def swap(
        self, begin: datetime, keys: Sequence[str], lease: Lease, source: Source, *, replaces: bool = True
    ) -> Swap:
        first = 0 if replaces else max(source.included, default=-1) + 1
        return Swap(
            instance=self.id,
            bucket_begin=begin,
            lease=lease,
            state=source.state,
            replace=replaces,
            partitions=tuple(
                NewPartition(
                    first + number, key, 10, 5, START_NS, START_NS + 999, None, (), 0, key.encode().rjust(32), bytes(16)
                )
                for number, key in enumerate(keys)
            ),
            intents=await self.catalog.reserve(keys, MINUTE, "test"),
            digest=bytes(16),
            blocks=1,
            objects=1,
            max_insert_ns=None,
            timing=None,
            missing_blocks=0,
            repaired_events=0,
            quarantined=(),
            sort_order=(),
        )

    async def build(self, begin: datetime, keys: Sequence[str], *, replaces: bool = True) -> None:
        lease, source = await self.lease(begin), await self.source(begin)
        await self.catalog.commit(await self.swap(begin, keys, lease, source, replaces=replaces))

    async def stored_keys(self) -> list[str]:
        return [partition.key for partition in await self.catalog.all_partitions(self.id)]


async def instance_of(lake: Lake, program: Program, kind: str = "process", version: ViewVersion = VERSION) -> Instance:
    key = ViewKey("log_entries", str(uuid.uuid4()))
    return Instance(lake, await lake.catalog.add_instance(key, version), scope_of(program, kind))


async def with_a_bucket(lake: Lake, hours: int = 0) -> tuple[Instance, datetime]:
    """An instance with one block, which came so long ago."""
    program = Program()
    blocks = await lake.send([*program.registration(), program.log_block()])
    await lake.make_older(blocks, hours)
    instance = await instance_of(lake, program)
    (bucket,) = await instance.look()
    return instance, bucket.begin


# --- instances and looks ----------------------------------------------------------------------------------------------


async def test_an_instance_is_added_once_for_each_version(lake: Lake) -> None:
    key = ViewKey("log_entries", "global")
    assert await lake.catalog.find_instance(key, VERSION) is None

    first, again, other = [await lake.catalog.add_instance(key, v) for v in (VERSION, VERSION, NEXT_VERSION)]

    assert first == again == await lake.catalog.find_instance(key, VERSION)
    assert other.vid != first.vid


async def test_who_is_registered_is_known(lake: Lake) -> None:
    program = Program()
    await lake.send(program.registration())

    assert await lake.catalog.find_entity(InstanceKind.PROCESS, program.process_id)
    assert await lake.catalog.find_entity(InstanceKind.STREAM, program.log_stream)
    assert not await lake.catalog.find_entity(InstanceKind.STREAM, program.process_id)


@SCOPES
async def test_a_block_is_seen_by_the_next_look_and_only_by_that(lake: Lake, kind: str) -> None:
    program, other = Program(), Program()
    await lake.send([*program.registration(), *other.registration()])
    instance = await instance_of(lake, program, kind)
    assert await instance.look() == []

    (block, _) = await lake.send([program.log_block(), program.thread_block()])

    assert await instance.is_dirty()
    assert await instance.clean() == {block}
    assert not await instance.is_dirty()
    await lake.send([other.log_block()])
    assert await instance.is_dirty() == (kind == "global")


@SCOPES
@pytest.mark.parametrize("late", ["process", "stream", "both"])
async def test_a_late_registration_brings_its_earlier_blocks(lake: Lake, kind: str, late: str) -> None:
    program = Program()
    process, stream, *_ = program.registration()
    later = {"process": [process], "stream": [stream], "both": [stream, process]}[late]
    await lake.send([request for request in (process, stream) if request not in later])
    (block,) = await lake.send([program.log_block()])
    instance = await instance_of(lake, program, kind)
    assert not await instance.is_dirty()

    await lake.send(later)

    assert await instance.clean() == {block}
    assert not await instance.is_dirty()


async def test_blocks_are_bucketed_by_the_hour_they_came_in(lake: Lake) -> None:
    program = Program()
    blocks = await lake.send([*program.registration(), *(program.log_block() for _ in range(3))])
    await lake.spread(blocks)
    instance = await instance_of(lake, program)

    begins = [bucket.begin for bucket in await instance.look()]

    assert [later - earlier for earlier, later in pairwise(begins)] == [timedelta(hours=1)] * 2
    assert all(begin.replace(minute=0, second=0, microsecond=0, tzinfo=UTC) == begin for begin in begins)
    sources = [await instance.source(begin) for begin in begins]
    assert [[block.block_id for block in source.blocks] for source in sources] == [[block] for block in blocks]


async def test_a_reader_is_given_what_its_range_can_need(lake: Lake) -> None:
    """A bucket that is not made yet by what its blocks claim, with a margin; a partition by its rows."""
    instance, begin = await with_a_bucket(lake)
    before_ns = START_NS - 301 * SECOND_NS

    assert await instance.look(TimeRange(None, before_ns)) == []
    (claimed,) = await instance.look(TimeRange(None, before_ns + 2 * SECOND_NS))
    assert claimed.claimed_in_range
    await instance.build(begin, ["a"])
    found = [await instance.look(TimeRange(START_NS + at, START_NS + at)) for at in (0, 999, 1000)]
    assert [[partition.key for partition in buckets[0].partitions] for buckets in found] == [["a"], ["a"], []]


async def test_a_bucket_that_is_marked_while_it_is_built_stays_dirty(lake: Lake) -> None:
    instance, begin = await with_a_bucket(lake)
    lease, source = await instance.lease(begin), await instance.source(begin)
    await lake.catalog.mark(instance.id, begin)

    await lake.catalog.commit(await instance.swap(begin, ["a"], lease, source))

    assert await instance.is_dirty()
    after = await instance.source(begin)
    await lake.catalog.mark_clean(instance.id, begin, source.state)
    assert await instance.is_dirty()
    await lake.catalog.mark_clean(instance.id, begin, after.state)
    assert not await instance.is_dirty()


async def test_an_instance_that_is_gone_is_an_error_and_not_an_empty_answer(lake: Lake) -> None:
    instance, begin = await with_a_bucket(lake)
    await instance.clean()
    source = await instance.source(begin)
    assert not await lake.catalog.retire_instance(instance.id, timedelta(hours=1))
    assert await lake.catalog.retire_instance(instance.id, timedelta(seconds=-1))

    with pytest.raises(InstanceGoneError):
        await instance.look()
    with pytest.raises(InstanceGoneError):
        await instance.source(begin)
    with pytest.raises(SwapConflictError):
        await lake.catalog.mark_clean(instance.id, begin, source.state)


async def test_only_clocks_that_are_unknown_are_estimated(lake: Lake) -> None:
    program = Program()
    await lake.send([*program.registration(), program.log_block()])
    scopes = [scope_of(program, kind) for kind in ("process", "stream", "global")]
    assert [await lake.catalog.unknown_clock(scope) for scope in scopes] == [None] * 3
    unknown = Program()
    await lake.send([*unknown.registration(), unknown.log_block(), unknown.thread_block()])
    await lake.forget_clocks()

    clocks = [await lake.catalog.unknown_clock(scope_of(unknown, kind)) for kind in ("process", "stream", "global")]

    estimate = UnknownClock(unknown.start_ns, LastTiming(SECOND_NS, START_NS + SECOND_NS))
    assert clocks == [estimate, estimate, None]


# --- sources ----------------------------------------------------------------------------------------------------------


async def test_a_source_has_what_the_rows_depend_on(lake: Lake) -> None:
    program = Program()
    blocks = await lake.send([*program.registration(), program.log_block(), program.log_block()])
    instance = await instance_of(lake, program)
    (bucket,) = await instance.look()

    source = await instance.source(bucket.begin)

    assert [block.block_id for block in source.blocks] == blocks
    assert set(source.streams) == {program.log_stream}
    assert set(source.processes) == {program.process_id}
    assert min(registration.size_bytes for registration in source.streams.values()) > 100
    assert (source.state.dirty, source.state.digest, source.included, source.timings) == (True, None, {}, {})
    processes, streams = await lake.catalog.registrations(source.blocks)
    assert {process.exe for process in processes.values()} == {"made-up"}
    assert {stream.tags for stream in streams.values()} == {("log",)}
    strange: list[Block] = [replace(source.blocks[0], process_id=type(source.blocks[0].process_id)(str(uuid.uuid4())))]
    with pytest.raises(BackendUnavailableError, match="ask again"):
        await lake.catalog.registrations(strange)
    assert [await lake.catalog.find_block(block.block_id) for block in source.blocks] == list(source.blocks)
    assert await lake.catalog.find_block(str(uuid.uuid4())) is None


# --- leases -----------------------------------------------------------------------------------------------------------


async def test_one_builder_holds_a_bucket_at_a_time(lake: Lake) -> None:
    instance, begin = await with_a_bucket(lake)
    other = await instance_of(lake, Program())

    taken = await asyncio.gather(*(instance.take(begin, f"server {number}") for number in range(5)))

    (lease,) = [lease for lease in taken if lease is not None]
    assert await lake.catalog.lease_owner(instance.id, begin) == f"server {taken.index(lease)}"
    assert await other.take(begin, "test") is not None
    await lake.catalog.drop_lease(lease)
    assert await instance.take(begin, "test") is not None


async def test_leases_that_ran_out_long_ago_are_forgotten_and_no_other(lake: Lake) -> None:
    instance, begin = await with_a_bucket(lake)
    other = await instance_of(lake, Program())
    gone, held = Lease(instance.id, begin, uuid.uuid4()), Lease(other.id, begin, uuid.uuid4())
    assert await lake.catalog.take_lease(gone, "one that is gone", timedelta(0))
    assert await lake.catalog.take_lease(held, "one that is at it", timedelta(hours=1))

    await lake.catalog.forget_leases(timedelta(minutes=1))
    assert await lake.catalog.lease_owner(instance.id, begin) == "one that is gone", "it may go on"
    await lake.catalog.forget_leases(timedelta(seconds=-1))

    assert await lake.catalog.lease_owner(instance.id, begin) is None
    assert await lake.catalog.lease_owner(other.id, begin) == "one that is at it"


async def test_a_lease_that_is_renewed_is_kept_and_one_that_is_not_is_taken_over(lake: Lake) -> None:
    instance, begin = await with_a_bucket(lake)
    lease = await instance.lease(begin, timedelta(seconds=0.3))

    for _ in range(4):
        await asyncio.sleep(0.15)
        await lake.catalog.renew_leases([lease], timedelta(seconds=5))
        assert await instance.take(begin, "other") is None
    await lake.catalog.renew_leases([lease], NO_TIME)
    await asyncio.sleep(0.01)

    assert await instance.take(begin, "other") is not None


async def test_who_was_stopped_for_too_long_does_not_commit_and_takes_nothing_from_who_took_over(lake: Lake) -> None:
    instance, begin = await with_a_bucket(lake)
    stopped, source = await instance.lease(begin, NO_TIME), await instance.source(begin)
    late = await instance.swap(begin, ["late"], stopped, source)
    await asyncio.sleep(0.01)
    fresh = await instance.lease(begin)

    for _ in range(2):
        with pytest.raises(LeaseLostError):
            await lake.catalog.commit(late)
        await lake.catalog.renew_leases([stopped], MINUTE)
        await lake.catalog.drop_lease(stopped)
        assert await instance.take(begin, "third") is None
    await lake.catalog.commit(await instance.swap(begin, ["fresh"], fresh, source))
    with pytest.raises(LeaseLostError):
        await lake.catalog.commit(late)

    assert await instance.stored_keys() == ["fresh"]
    assert await lake.catalog.lease_owner(instance.id, begin) is None, "it ends with the swap"


# --- swaps ------------------------------------------------------------------------------------------------------------


async def test_a_swap_replaces_all_partitions_and_releases_their_objects(lake: Lake) -> None:
    instance, begin = await with_a_bucket(lake)
    await instance.build(begin, ["a", "b"])
    await instance.build(begin, ["c"], replaces=False)
    assert await instance.stored_keys() == ["a", "b", "c"]

    await instance.build(begin, ["d"])

    assert await instance.stored_keys() == ["d"]
    assert not await instance.is_dirty()
    assert await lake.catalog.buckets_of(instance.id, ["d", "a"]) == [begin]
    assert await lake.catalog.buckets_of(instance.id, ["a"]) == []
    assert await lake.catalog.condemn_unreferenced(timedelta(hours=1), 10) == []
    await asyncio.sleep(0.01)
    condemned = await lake.catalog.condemn_unreferenced(NO_TIME, 10)
    assert sorted(path for _, path in condemned) == ["a", "b", "c"]
    await lake.catalog.forget_objects([object_id for object_id, _ in condemned])
    assert await lake.object_keys() == {"d"}


async def test_of_two_builders_of_one_source_only_the_first_commits(lake: Lake) -> None:
    instance, begin = await with_a_bucket(lake)
    source = await instance.source(begin)
    await instance.build(begin, ["first"])

    second = await instance.swap(begin, ["second"], await instance.lease(begin), source)
    with pytest.raises(SwapConflictError):
        await lake.catalog.commit(second)

    assert await instance.stored_keys() == ["first"]
    assert await lake.object_keys() == {"first"}


async def test_an_intent_that_is_renewed_is_not_reaped_and_one_that_a_reaper_has_is_not_renewed(lake: Lake) -> None:
    kept, lost = await lake.catalog.reserve(["kept", "lost"], MINUTE, "test")
    await lake.expire_intents()
    await lake.catalog.renew_intents([kept], timedelta(hours=2))
    claimed = [(lost, "lost")]
    assert await lake.catalog.claim_expired_intents(10) == claimed

    await lake.catalog.renew_intents([kept, lost, uuid.uuid4()], timedelta(hours=2))

    assert await lake.catalog.claim_expired_intents(10) == claimed


async def test_an_intent_that_was_reaped_stops_its_commit_and_nothing_has_happened(lake: Lake) -> None:
    instance, begin = await with_a_bucket(lake)
    swap = await instance.swap(begin, ["a"], await instance.lease(begin), await instance.source(begin))
    assert await lake.catalog.claim_expired_intents(10) == []
    await lake.expire_intents()
    claimed = await lake.catalog.claim_expired_intents(10)
    assert [path for _, path in claimed] == ["a"]

    with pytest.raises(SwapConflictError, match="intent"):
        await lake.catalog.commit(swap)

    await lake.catalog.finish_reaped([intent for intent, _ in claimed])
    assert await lake.catalog.claim_expired_intents(10) == []
    assert await instance.stored_keys() == []
    assert await instance.is_dirty()


async def test_what_was_written_is_known_by_its_digest(lake: Lake) -> None:
    instance, begin = await with_a_bucket(lake)
    await instance.build(begin, ["a", "b"])

    assert await lake.catalog.digests(["b", "unknown"]) == {"b": b"b".rjust(32)}
    (partition, _) = await lake.catalog.all_partitions(instance.id)
    assert partition.tail_digest == bytes(16)
    await lake.forget_digests()
    assert await lake.catalog.digests(["b"]) == {"b": None}
    assert (await lake.catalog.all_partitions(instance.id))[0].tail_digest is None


async def test_files_that_have_not_a_value_are_told_from_those_that_may(lake: Lake) -> None:
    """Whatever the values and however large the filters: none that may have a row is left out, as the filters say."""
    instance, begin = await with_a_bucket(lake)
    random = Random(1)
    filters = {
        f"file{number}": filter_of(
            {
                column: {str(random.randrange(3_000)) for _ in range(random.choice((0, 1, 20, 400, 1_500)))}
                for column in random.sample(COLUMNS, random.randrange(3))
            }
        )
        for number in range(24)
    }
    keys = [*filters, "plain"]
    lease, source = await instance.lease(begin), await instance.source(begin)
    swap = await instance.swap(begin, keys, lease, source)
    parts = tuple(replace(part, filter=filters.get(part.key or "")) for part in swap.partitions)
    await lake.catalog.commit(replace(swap, partitions=parts))

    for _ in range(60):
        values = {
            column: [str(random.randrange(3_000)) for _ in range(random.choice((1, 1, 5)))]
            for column in random.sample(COLUMNS, random.randrange(1, 3))
        }
        assert await lake.catalog.without(keys, values) == {
            key
            for key, known in filters.items()
            if known is not None and not all(known.may_hold(column, texts) for column, texts in values.items())
        }


async def test_a_filter_goes_with_its_file(lake: Lake) -> None:
    instance, begin = await with_a_bucket(lake)
    lease, source = await instance.lease(begin), await instance.source(begin)
    swap = await instance.swap(begin, ["file"], lease, source)
    known = filter_of({"name": ["here"]})
    await lake.catalog.commit(replace(swap, partitions=(replace(swap.partitions[0], filter=known),)))
    assert await lake.catalog.without(["file"], {"name": ["elsewhere"]}) == {"file"}

    await instance.build(begin, ["other"])
    (condemned,) = await lake.catalog.condemn_unreferenced(timedelta(0), 10)
    await lake.catalog.forget_objects([condemned[0]])

    assert condemned[1] == "file"
    assert await lake.catalog.without(["file"], {"name": ["elsewhere"]}) == set()


# --- closed buckets ---------------------------------------------------------------------------------------------------


async def test_closed_buckets_of_many_files_are_listed_in_turns_until_they_are_whole(lake: Lake) -> None:
    made = [await with_a_bucket(lake, hours) for hours in (5, 4, 3)]
    for number, (instance, begin) in enumerate(made):
        await instance.build(begin, [f"{number}-{delta}" for delta in range(3)], replaces=False)
    assert await lake.catalog.fragmented_buckets([VERSION], 2, 10) == []
    await lake.catalog.seal_buckets()
    expected = [(instance.id, begin) for instance, begin in made]

    assert await lake.catalog.fragmented_buckets([VERSION], 2, 10) == expected
    assert await lake.catalog.fragmented_buckets([VERSION], 3, 10) == []
    assert await lake.catalog.fragmented_buckets([NEXT_VERSION], 2, 10) == []
    assert await lake.catalog.fragmented_buckets([VERSION], 2, 1, expected[0]) == [expected[1]]
    await made[0][0].build(made[0][1], ["0-whole"])
    assert await lake.catalog.fragmented_buckets([VERSION], 2, 10) == expected[1:]


async def test_an_open_bucket_is_not_sealed(lake: Lake) -> None:
    instance, begin = await with_a_bucket(lake)
    await instance.build(begin, ["a"])
    await lake.catalog.seal_buckets()

    assert not await lake.catalog.freeze(instance.id, begin)


async def test_a_bucket_is_frozen_once_it_is_sealed_and_clean_and_no_builder_commits_into_it(lake: Lake) -> None:
    instance, begin = await with_a_bucket(lake, 2)
    assert not await lake.catalog.freeze(instance.id, begin)
    await instance.build(begin, [f"{number}" for number in range(3)], replaces=False)
    await lake.catalog.seal_buckets()
    under_way = await instance.swap(begin, ["late"], await instance.lease(begin), await instance.source(begin))

    assert await lake.catalog.freeze(instance.id, begin)

    assert not await lake.catalog.freeze(instance.id, begin)
    assert (await instance.source(begin)).state.frozen
    with pytest.raises(SwapConflictError):
        await lake.catalog.commit(under_way)
    assert await lake.catalog.fragmented_buckets([VERSION], 2, 10) == [(instance.id, begin)], "its files can be merged"
    assert await instance.stored_keys() == ["0", "1", "2"]


async def test_versions_that_nobody_uses_are_listed_and_their_objects_released(lake: Lake) -> None:
    instance, begin = await with_a_bucket(lake)
    await instance.build(begin, ["a"])
    assert await lake.catalog.unused_instances([], timedelta(days=7), 10) == []
    assert await lake.catalog.unused_instances([VERSION], timedelta(seconds=-1), 10) == []
    assert await lake.catalog.unused_instances([NEXT_VERSION], timedelta(seconds=-1), 10) == [instance.id]

    assert await lake.catalog.retire_instance(instance.id, timedelta(seconds=-1))

    await asyncio.sleep(0.01)
    assert [path for _, path in await lake.catalog.condemn_unreferenced(NO_TIME, 10)] == ["a"]


# --- a frozen bucket, made by the real thing --------------------------------------------------------------------------


@dataclass
class Frozen:
    """An hour of a program, made, sealed and frozen; then the rows of its blocks went."""

    lake: Lake
    program: Program
    before: Freshened
    instance: InstanceId
    begin: datetime

    async def ask(self) -> Freshened:
        """Of a server that remembers nothing, after a look that found the bucket stale."""
        await self.lake.catalog.mark(self.instance, self.begin)
        return await self.lake.materializer().ensure(LOGS, self.program.process_id, EVERYTHING)


async def frozen(lake: Lake, *, hours: int = 3) -> Frozen:
    program = Program()
    blocks = await lake.send([*program.registration(), program.log_block(), program.log_block()])
    await lake.make_older(blocks, hours)
    before = await lake.materializer().ensure(LOGS, program.process_id, EVERYTHING)
    instance = await lake.catalog.find_instance(ViewKey("log_entries", program.process_id), version_of(LOGS))
    assert instance is not None
    (begin,) = await lake.catalog.buckets_of(instance, [partition.key for partition in before.partitions])
    await lake.catalog.seal_buckets()
    assert await lake.catalog.freeze(instance, begin)
    for block in blocks:
        await lake.remove_block(block)
    return Frozen(lake, program, before, instance, begin)


async def test_a_frozen_bucket_keeps_its_rows_when_the_rows_of_its_blocks_are_gone(lake: Lake) -> None:
    kept = await frozen(lake)

    after = await kept.ask()

    assert after == kept.before
    assert await lake.messages(after) == [f"line {number}" for number in range(6)]
    assert lake.builder.sizes == [2]


async def test_blocks_that_come_too_late_for_a_frozen_bucket_are_counted_as_missing(lake: Lake) -> None:
    kept = await frozen(lake)
    late = await lake.send([kept.program.log_block()])
    await lake.make_older(late, 3)

    after = [await kept.ask() for _ in range(2)]

    assert after == [replace(kept.before, missing_blocks=1)] * 2
    assert lake.builder.sizes == [2]


async def test_a_frozen_bucket_whose_file_is_lost_is_an_error_that_says_so(lake: Lake, tmp_path: Path) -> None:
    kept = await frozen(lake)
    (tmp_path / "store" / kept.before.partitions[0].key).unlink()

    with pytest.raises(BackendUnavailableError, match=r"kept without its blocks; restore the files from a backup"):
        await lake.local(lake.materializer(), LOGS, kept.program.process_id)

    assert sum(await lake.partition_rows()) == 6


# --- what administrators see and take away ------------------------------------------------------------------------------

ALWAYS = (datetime(2000, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC))
HOUR = timedelta(hours=1)


async def test_partitions_are_retired_by_their_range_and_their_file_and_their_buckets_are_dirty(lake: Lake) -> None:
    instance, begin = await with_a_bucket(lake)
    await instance.build(begin, ["a", "b"])
    key = instance.id.key
    (held,) = await lake.catalog.held_buckets(key, *ALWAYS)

    assert (held.instance, held.bucket_begin, held.begin, held.end) == (instance.id, begin, begin, begin + HOUR)
    assert (held.frozen, held.files, held.rows, held.size_bytes) == (False, 2, 10, 20)
    assert await lake.catalog.retire([PartitionFile("a")]) == [Retired.GONE]
    assert await instance.stored_keys() == ["b"]
    assert await instance.is_dirty()
    assert await lake.catalog.retire([PartitionsOf(key.view_set, key.instance, begin, begin + HOUR)]) == [Retired.GONE]
    assert await instance.stored_keys() == []
    assert await lake.catalog.held_buckets(key, *ALWAYS) == []
    assert {path for _, path in await lake.catalog.condemn_unreferenced(timedelta(seconds=-1), 10)} == {"a", "b"}


async def test_what_is_held_lies_wholly_inside_of_the_window(lake: Lake) -> None:
    instance, begin = await with_a_bucket(lake)
    await instance.build(begin, ["a"])
    key = instance.id.key

    assert len(await lake.catalog.held_buckets(key, begin, begin + HOUR)) == 1
    assert await lake.catalog.held_buckets(key, begin + timedelta(microseconds=1), begin + HOUR) == []
    assert await lake.catalog.held_buckets(key, begin, begin + HOUR - timedelta(microseconds=1)) == []
    assert await lake.catalog.held_buckets(ViewKey("log_entries", "another"), *ALWAYS) == []


async def test_partitions_of_every_version_go(lake: Lake) -> None:
    instance, begin = await with_a_bucket(lake)
    other = Instance(lake, await lake.catalog.add_instance(instance.id.key, NEXT_VERSION), instance.scope)
    await instance.build(begin, ["old"])
    await other.look()
    await other.build(begin, ["new"])
    key = instance.id.key

    assert [held.instance for held in await lake.catalog.held_buckets(key, *ALWAYS)] == [instance.id, other.id]
    assert await lake.catalog.retire([PartitionsOf(key.view_set, key.instance, begin, begin + HOUR)]) == [Retired.GONE]
    assert (await instance.stored_keys(), await other.stored_keys()) == ([], [])


async def test_if_one_cannot_be_retired_none_is(lake: Lake) -> None:
    instance, begin = await with_a_bucket(lake)
    await instance.build(begin, ["a", "b"])

    outcomes = await lake.catalog.retire([PartitionFile("a"), PartitionFile("nowhere"), PartitionFile("b")])

    assert outcomes == [Retired.GONE, Retired.NOT_FOUND, Retired.GONE]
    assert await instance.stored_keys() == ["a", "b"]
    assert not await instance.is_dirty()


async def test_a_frozen_bucket_is_not_retired(lake: Lake) -> None:
    kept = await frozen(lake)
    (held,) = await lake.catalog.held_buckets(kept.instance.key, *ALWAYS)
    files = [PartitionFile(partition.key) for partition in kept.before.partitions]

    assert held.frozen
    assert await lake.catalog.retire(files) == [Retired.KEPT] * len(files)
    key = kept.instance.key
    assert await lake.catalog.retire([PartitionsOf(key.view_set, key.instance, held.begin, held.end)]) == [Retired.KEPT]
    assert await kept.ask() == kept.before


async def test_a_builder_adds_nothing_to_what_was_retired_meanwhile(lake: Lake) -> None:
    instance, begin = await with_a_bucket(lake)
    await instance.build(begin, ["a", "b"])
    source = await instance.source(begin)
    under_way = await instance.swap(begin, ["late"], await instance.lease(begin), source, replaces=False)
    await lake.catalog.retire([PartitionFile("a")])

    with pytest.raises(SwapConflictError):
        await lake.catalog.commit(under_way)
    assert await instance.stored_keys() == ["b"]
