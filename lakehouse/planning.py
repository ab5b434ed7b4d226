"""What to do about a bucket, decided from what is stored and what should be. Pure: reads and writes nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from lakehouse.catalog.partitions import Source, StoredBucket
from lakehouse.model import Block, BlockOrder, LastTiming, ProcessId

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
        stream = source.streams[stream_id]
        digest.update(stream_id.encode())
        digest.update(hashlib.blake2b(stream.dependencies_metadata).digest())
        digest.update(hashlib.blake2b(stream.objects_metadata).digest())
        digest.update(repr((stream.tags, sorted(stream.properties.items()), stream.format)).encode())
    for process_id in sorted(source.processes):
        digest.update(repr(_described(source, process_id)).encode())
    digest.update(b"".join(sorted(bytes.fromhex(block.block_id.replace("-", "")) for block in source.blocks)))
    return digest.digest()


def _described(source: Source, process_id: ProcessId) -> tuple[object, ...]:
    process = source.processes[process_id]
    return (
        process_id,
        process.exe,
        process.username,
        process.computer,
        process.tsc_frequency,
        process.start_time_ns,
        process.start_ticks,
        sorted(process.properties.items()),
    )


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
        and included <= present
        and len(source.included) < deltas_max
    )
    if can_extend:
        return BucketPlan(Action.EXTEND, missing, max(source.included) + 1, digest)
    return BucketPlan(Action.REPLACE, source.blocks, 0, digest)


def split_jobs(
    blocks: Sequence[Block], block_order: BlockOrder, bytes_max: int, blocks_max: int
) -> Iterator[tuple[Block, ...]]:
    """Cut blocks that stand alone into runs that several workers can decode; chains stay together."""
    if block_order is BlockOrder.EVENT_TIME:
        yield tuple(blocks)
        return
    run: list[Block] = []
    size = 0
    for block in blocks:
        if run and (size + block.payload_size > bytes_max or len(run) >= blocks_max):
            yield tuple(run)
            run, size = [], 0
        run.append(block)
        size += block.payload_size
    if run:
        yield tuple(run)


def is_stale_by_timing(bucket: StoredBucket, start_ns: int, latest: LastTiming) -> bool:
    """Whether today's estimate of an unknown clock would move an event of the bucket too far."""
    if bucket.timing is None or bucket.timing == latest or bucket.event_range_ns is None:
        return False
    then, now = (
        timing.end_ticks / elapsed if (elapsed := timing.end_time_ns - start_ns) > 0 else 0.0
        for timing in (bucket.timing, latest)
    )
    if then <= 0 or now <= 0:
        return then != now
    reach = max(abs(event_ns - start_ns) for event_ns in bucket.event_range_ns)
    return reach * abs(then / now - 1) > TIMING_SHIFT_NS_MAX


def latest_timing(timings: Mapping[ProcessId, LastTiming], block_order: BlockOrder) -> LastTiming | None:
    """The estimate that a bucket of chains depends on: its one process's, if the clock is unknown."""
    if block_order is BlockOrder.INSERT_TIME or not timings:
        return None
    return next(iter(timings.values()))
