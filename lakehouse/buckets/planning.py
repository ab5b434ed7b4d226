"""What to do about a bucket, decided from what is stored and what should be. Pure: reads and writes nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum
from itertools import groupby
from typing import Any, Final

from lakeflight.wire.errors import CorruptPayloadError
from lakeflight.wire.ticks import frequency
from lakehouse.buckets.model import EstimatedBucket, MergeSource, Source, UnknownClock, ViewVersion
from lakehouse.model import BUCKET_SECONDS, Block, BlockId, BlockOrder, LastTiming, ProcessId, StreamId, TimeRange
from lakehouse.ports import View

NS_PER_S: Final = 1_000_000_000
TIMING_SHIFT_NS_MAX: Final = (
    100_000  # an estimated clock may move an event by this much before its bucket is made again
)


class Action(Enum):
    """How a bucket becomes fresh."""

    KEEP = "keep"  # its partitions hold its blocks, or it is frozen and stays as it is
    EXTEND = "extend"  # new blocks become one more partition
    REPLACE = "replace"  # all its partitions are made anew


@dataclass(frozen=True, slots=True)
class BucketPlan:
    """What a builder does: the blocks to decode, and the ordinal of the first partition they become."""

    action: Action
    blocks: tuple[Block, ...]
    first_ordinal: int
    digest: bytes
    timing: LastTiming | None = None  # the estimate that it rests on
    missing_blocks: int | None = None  # of a bucket that is kept: those that it will never have


def source_digest(source: Source, writer_version: int, block_order: BlockOrder) -> bytes:
    """16 bytes over everything that the rows of a bucket depend on: equal digests, equal rows."""
    digest = hashlib.blake2b(digest_size=16)
    timings = estimates(source.timings, block_order)
    # None, one, or several: a bucket of one process has the digest that it always had.
    timing = next(iter(timings.values())) if len(timings) == 1 else sorted(timings.items()) or None
    digest.update(f"{writer_version}\0{timing}\0".encode())
    for stream_id in sorted(source.streams):
        digest.update(stream_id.encode() + source.streams[stream_id].digest)
    for process_id in sorted(source.processes):
        digest.update(process_id.encode() + source.processes[process_id].digest)
    digest.update(b"".join(sorted(bytes.fromhex(block.block_id.replace("-", "")) for block in source.blocks)))
    return digest.digest()


def plan_bucket(
    source: Source,
    block_order: BlockOrder,
    writer_version: int,
    deltas_max: int,
    *,
    whole: bool = False,
) -> BucketPlan:
    """Choose the cheapest change that makes a bucket hold exactly the blocks of ``source``.

    A frozen bucket is kept whatever its blocks are: their rows may be gone, and what it holds is all there will be.

    Args:
        block_order: Only blocks that stand alone can be added; a chain of blocks is always built whole, and so is a bucket
            whose times rest on an estimate.
        deltas_max: With this many partitions the bucket is built whole, so that readers do not open ever more files.
        whole: Build it whole in any case.
    """
    digest = source_digest(source, writer_version, block_order)
    timing = latest_timing(source.timings, block_order)
    included = frozenset[str]().union(*source.included.values())
    present = {block.block_id for block in source.blocks}
    missing = tuple(block for block in source.blocks if block.block_id not in included)
    if source.state.frozen:
        return BucketPlan(Action.KEEP, (), 0, digest, timing, len(missing))
    if whole:
        return BucketPlan(Action.REPLACE, source.blocks, 0, digest, timing)
    if digest == source.state.digest and not missing and included == present:
        return BucketPlan(Action.KEEP, (), 0, digest, timing)
    can_extend = (
        block_order.stands_alone
        and not estimates(source.timings, block_order)  # which the new blocks have changed
        and source.included
        and source.state.digest is not None
        and included <= present
        and len(source.included) < deltas_max
    )
    if can_extend:
        return BucketPlan(Action.EXTEND, missing, max(source.included) + 1, digest, timing)
    return BucketPlan(Action.REPLACE, source.blocks, 0, digest, timing)


class Merging(Enum):
    """How several buckets become one."""

    LEAVE = "leave"  # they do not
    MERGE = "merge"  # their files become fewer
    BUILD = "build"  # their blocks are decoded once more, because their rows rest on different estimates of a clock


@dataclass(frozen=True, slots=True)
class MergePlan:
    """What a merger does, or why nothing."""

    action: Merging
    reason: str = ""
    digest: bytes | None = None
    timing: LastTiming | None = None  # the estimate that the rows rest on


def plan_merge(
    source: MergeSource, begin: datetime, length: timedelta, block_order: BlockOrder, writer_version: int
) -> MergePlan:
    """Whether all buckets of a stretch of time can become one that holds the same rows.

    Frozen ones stay frozen, and are merged with frozen ones alone: a bucket that could be made again shall not become one
    that cannot.
    """
    buckets = source.buckets
    if not buckets:
        return _left("there are none")
    if any(bucket.state.dirty or not bucket.sealed for bucket in buckets):
        return _left("not all of them are sealed and clean")
    if any(bucket.begin < begin or bucket.begin + bucket.state.length > begin + length for bucket in buckets):
        return _left("one of them reaches out of it")
    timings = {bucket.timing for bucket in buckets}
    timing = buckets[0].timing if len(timings) == 1 else None
    if len({bucket.state.frozen for bucket in buckets}) > 1:
        return _left("some of them are frozen and some are not")
    if len(buckets) == 1:
        return MergePlan(Merging.MERGE, digest=buckets[0].state.digest, timing=timing)
    if buckets[0].state.frozen:
        return MergePlan(Merging.MERGE, digest=_joint_digest(source), timing=timing)
    blocks = source.source
    if {block.block_id for block in blocks.blocks} != frozenset[BlockId]().union(*blocks.included.values()):
        return _left("they do not hold the blocks that there are")
    if len(timings) > 1:
        return MergePlan(
            Merging.BUILD,
            digest=source_digest(blocks, writer_version, block_order),
            timing=latest_timing(blocks.timings, block_order),
        )
    if timing is not None:  # as if nothing was known of the clock since
        blocks = replace(blocks, timings=dict.fromkeys(blocks.timings, timing))
    return MergePlan(Merging.MERGE, digest=source_digest(blocks, writer_version, block_order), timing=timing)


def _left(reason: str) -> MergePlan:
    return MergePlan(Merging.LEAVE, reason)


def _joint_digest(source: MergeSource) -> bytes:
    """Of buckets that are never compared with their blocks again."""
    digest = hashlib.blake2b(digest_size=16)
    for bucket in source.buckets:
        digest.update(bucket.state.digest or b"")
    return digest.digest()


def metadata_bytes(source: Source, block: Block) -> int:
    """What the block's process and stream were registered with: whoever decodes the block is handed all of it."""
    return source.processes[block.process_id].size_bytes + source.streams[block.stream_id].size_bytes


def split_jobs(
    source: Source,
    blocks: Sequence[Block],
    block_order: BlockOrder,
    *,
    bytes_max: int,
    blocks_max: int,
    metadata_bytes_max: int,
) -> Iterator[tuple[Block, ...]]:
    """Cut blocks into runs that several workers can decode. A chain is never cut, and no run is of two hours of chains.

    A chain is the blocks of one stream that came in one hour, so that its rows are the same in a bucket of a day.

    Args:
        metadata_bytes_max: Of the processes and streams of a run, each counted once. A block, or a chain, may be over it, and
            over the other limits, alone.
    """
    run: list[Block] = []
    named: set[str] = set()
    size = metadata = 0
    for piece, is_of_other_hour in _pieces(blocks, block_order):
        first = piece[0]
        piece_bytes = sum(block.payload_size for block in piece)
        added = 0
        if first.process_id not in named:
            added += source.processes[first.process_id].size_bytes
        if first.stream_id not in named:
            added += source.streams[first.stream_id].size_bytes
        is_full = (
            size + piece_bytes > bytes_max
            or metadata + added > metadata_bytes_max
            or len(run) + len(piece) > blocks_max
        )
        if run and (is_full or is_of_other_hour):
            yield tuple(run)
            run, named, size, metadata = [], set(), 0, 0
            added = metadata_bytes(source, first)
        run += piece
        named |= {first.process_id, first.stream_id}
        size += piece_bytes
        metadata += added
    if run:
        yield tuple(run)


def _pieces(blocks: Sequence[Block], block_order: BlockOrder) -> Iterator[tuple[Sequence[Block], bool]]:
    """What has to be decoded together: a block, or the chain of a stream; and whether it must not be with those before."""
    if block_order.stands_alone:
        yield from (((block,), False) for block in blocks)
        return
    for _, hour in groupby(blocks, key=lambda block: block.insert_time_ns // (BUCKET_SECONDS * NS_PER_S)):
        chains: dict[StreamId, list[Block]] = {}
        for block in hour:
            chains.setdefault(block.stream_id, []).append(block)
        for number, chain in enumerate(chains.values()):
            yield chain, number == 0


def is_stale_by_timing(bucket: EstimatedBucket, clock: UnknownClock, wanted: TimeRange) -> bool:
    """Whether today's estimate of an unknown clock moves events of the bucket too far for a reader of ``wanted``.

    It matters to those who read where the rows are and to those who read where they belong, so it is judged by all rows of
    the bucket: the partitions that a look returns are chosen by the very times that may be wrong.
    """
    if bucket.timing == clock.latest:
        return False
    then, now = (_ticks_per_s(clock.start_ns, timing) for timing in (bucket.timing, clock.latest))
    if then == now:
        return False
    if then is None or now is None:
        return True  # its blocks could not be decoded with the one and can be with the other
    if bucket.events is None or bucket.events.begin_ns is None or bucket.events.end_ns is None:
        return False
    begin, end = bucket.events.begin_ns - clock.start_ns, bucket.events.end_ns - clock.start_ns
    if max(abs(begin), abs(end)) * abs(then - now) <= TIMING_SHIFT_NS_MAX * now:
        return False
    slack_ns = TIMING_SHIFT_NS_MAX + 2 + then // now  # what is known of a row is its time in whole nanoseconds of then
    moved = TimeRange(
        clock.start_ns + begin * then // now - slack_ns,
        clock.start_ns + end * then // now + slack_ns,
    )
    return not (wanted.intersect(bucket.events).is_empty and wanted.intersect(moved).is_empty)


def _ticks_per_s(start_ns: int, timing: LastTiming) -> int | None:
    """What the rows are made with; ``None`` if they cannot be."""
    try:
        return frequency(0, start_ns, timing.end_ticks, timing.end_time_ns)
    except CorruptPayloadError:
        return None


def estimates(timings: Mapping[ProcessId, LastTiming], block_order: BlockOrder) -> Mapping[ProcessId, LastTiming]:
    """Those of unknown clocks that rows depend on. Blocks with clocks of their own are not made again for a better one."""
    return timings if block_order.shares_clock else {}


def latest_timing(timings: Mapping[ProcessId, LastTiming], block_order: BlockOrder) -> LastTiming | None:
    """The estimate that is kept with a bucket: that of its process, however many streams it has. ``None``: it rests on none.

    Of a bucket of several processes there is no single one; their estimates are in its digest.
    """
    found = estimates(timings, block_order)
    return next(iter(found.values())) if len(found) == 1 else None


def version_of(view: View) -> ViewVersion:
    """The version in which this program reads and makes the files of a view."""
    return ViewVersion(view.view_set, schema_hash(view.schema), view.writer_version)


def schema_hash(schema: Any) -> bytes:
    """Equal for equal columns."""
    return hashlib.blake2b(schema.serialize().to_pybytes(), digest_size=8).digest()
