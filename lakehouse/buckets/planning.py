"""What to do about a bucket, decided from what is stored and what should be. Pure: reads and writes nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from lakeflight.wire.errors import CorruptPayloadError
from lakeflight.wire.ticks import frequency
from lakehouse.buckets.model import EstimatedBucket, Source, UnknownClock, ViewVersion
from lakehouse.model import Block, BlockOrder, LastTiming, ProcessId, TimeRange
from lakehouse.ports import View

TIMING_SHIFT_NS_MAX: Final = (
    100_000  # an estimated clock may move an event by this much before its bucket is made again
)


class Action(Enum):
    """How a bucket becomes fresh."""

    KEEP = "keep"  # its partitions hold exactly its blocks
    EXTEND = "extend"  # new blocks become one more partition
    REPLACE = "replace"  # all its partitions are made anew


@dataclass(frozen=True, slots=True)
class BucketPlan:
    """What a builder does: the blocks to decode, and the ordinal of the first partition they become."""

    action: Action
    blocks: tuple[Block, ...]
    first_ordinal: int
    digest: bytes


def source_digest(source: Source, writer_version: int, timing: LastTiming | None) -> bytes:
    """16 bytes over everything that the rows of a bucket depend on: equal digests, equal rows."""
    digest = hashlib.blake2b(digest_size=16)
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
    timing: LastTiming | None,
    deltas_max: int,
    *,
    whole: bool = False,
) -> BucketPlan:
    """Choose the cheapest change that makes a bucket hold exactly the blocks of ``source``.

    Args:
        block_order: Only blocks that stand alone can be added; a chain of blocks is always built whole.
        deltas_max: With this many partitions the bucket is built whole, so that readers do not open ever more files.
        whole: Build it whole in any case.
    """
    digest = source_digest(source, writer_version, timing)
    if whole:
        return BucketPlan(Action.REPLACE, source.blocks, 0, digest)
    included = frozenset[str]().union(*source.included.values())
    present = {block.block_id for block in source.blocks}
    missing = tuple(block for block in source.blocks if block.block_id not in included)
    if digest == source.state.digest and not missing and included == present:
        return BucketPlan(Action.KEEP, (), 0, digest)
    can_extend = (
        block_order is BlockOrder.INSERT_TIME
        and source.included
        and source.state.digest is not None
        and included <= present
        and len(source.included) < deltas_max
    )
    if can_extend:
        return BucketPlan(Action.EXTEND, missing, max(source.included) + 1, digest)
    return BucketPlan(Action.REPLACE, source.blocks, 0, digest)


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
    """Cut blocks that stand alone into runs that several workers can decode; chains stay together.

    Args:
        metadata_bytes_max: Of the processes and streams of a run, each counted once. A block may be over it alone.
    """
    if block_order is BlockOrder.EVENT_TIME:
        if blocks:
            yield tuple(blocks)
        return
    run: list[Block] = []
    named: set[str] = set()
    size = metadata = 0
    for block in blocks:
        added = 0
        if block.process_id not in named:
            added += source.processes[block.process_id].size_bytes
        if block.stream_id not in named:
            added += source.streams[block.stream_id].size_bytes
        is_full = (
            size + block.payload_size > bytes_max or metadata + added > metadata_bytes_max or len(run) >= blocks_max
        )
        if run and is_full:
            yield tuple(run)
            run, named, size, metadata = [], set(), 0, 0
            added = metadata_bytes(source, block)
        run.append(block)
        named |= {block.process_id, block.stream_id}
        size += block.payload_size
        metadata += added
    if run:
        yield tuple(run)


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
    moved = TimeRange(
        clock.start_ns + begin * then // now - TIMING_SHIFT_NS_MAX,
        clock.start_ns + end * then // now + TIMING_SHIFT_NS_MAX,
    )
    return not (wanted.intersect(bucket.events).is_empty and wanted.intersect(moved).is_empty)


def _ticks_per_s(start_ns: int, timing: LastTiming) -> int | None:
    """What the rows are made with; ``None`` if they cannot be."""
    try:
        return frequency(0, start_ns, timing.end_ticks, timing.end_time_ns)
    except CorruptPayloadError:
        return None


def latest_timing(timings: Mapping[ProcessId, LastTiming], block_order: BlockOrder) -> LastTiming | None:
    """The estimate that a bucket of chains depends on: its one process's, if the clock is unknown."""
    if block_order is BlockOrder.INSERT_TIME or not timings:
        return None
    return next(iter(timings.values()))


def version_of(view: View) -> ViewVersion:
    """The version in which this program reads and makes the files of a view."""
    schema_hash = hashlib.blake2b(view.schema.serialize().to_pybytes(), digest_size=8).digest()
    return ViewVersion(view.view_set, schema_hash, view.writer_version)
