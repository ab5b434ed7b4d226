"""From the bytes of blocks to rows, of a thread's spans and of logs, on one core and without anything around it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from benchmarks.figures import Figure, Limit, at_least
from benchmarks.measure import Samples, take_turns
from benchmarks.sizes import Size
from benchmarks.workload import LOG_LINES, STRINGS_OF_PLACES, Telemetry, logs_of_places
from lakeflight.wire.compression import BLOCK_DECODED_BYTES_MAX, decompress
from lakeflight.wire.envelope import BlockRequest, decode_payload
from lakeflight.wire.ticks import TickClock, frequency
from lakeflight.wire.transit.layout import compile_layout
from lakeflight.wire.transit.logs import read_logs
from lakeflight.wire.transit.spans import read_spans
from views.call_tree import CallTree
from views.columns import BATCH_ROWS
from views.span_rows import CallSites

EVENTS_PER_S: Final = 10e6
LOG_BLOCKS_PER_S: Final = 5_000
_LOG_BLOCKS: Final = 200  # decoded in a row, because one takes too little time to be measured


def measure(telemetry: Telemetry, size: Size) -> tuple[list[Figure], float]:
    """The figures, and the seconds of decompressing and decoding together: the least that a cold query can take."""
    stream = telemetry.thread
    blocks = telemetry.of(stream)
    events = sum(block.nb_objects for block in blocks)
    frames, plain = _opened(blocks)
    layout = compile_layout(stream.dependencies_metadata, stream.objects_metadata)
    process = telemetry.process
    last = max(blocks, key=lambda block: block.end_ticks)
    ticks_per_s = frequency(process.tsc_frequency, process.start_time_ns, last.end_ticks, last.end_time_ns)
    clock = TickClock(process.start_ticks, process.start_time_ns, ticks_per_s)
    begin_ns, end_ns = clock.relative_ns(blocks[0].begin_ticks), clock.relative_ns(last.end_ticks)

    def lz4() -> None:
        for pair in frames:
            for frame in pair:
                _decompressed(frame)

    def trees() -> None:
        sites = CallSites("thread")
        tree = CallTree(begin_ns, end_ns, sites.root, events)
        for block, (dependencies, objects) in zip(blocks, plain, strict=True):
            found = read_spans(layout, dependencies, objects)
            times = clock.absolute_ns(found.ticks)
            tree.add(found.kind, times, found.index, found.scope, sites.numbers(found.scopes), block.object_offset)
        rows = sum(rows.id.size for rows in tree.read(BATCH_ROWS))
        if rows < events // 2:
            raise RuntimeError(f"{events} events gave only {rows} spans")

    found = take_turns(size.rounds, {"lz4": lz4, "trees": trees})
    decoding_s = found["lz4"].p50 + found["trees"].p50
    decompressed_mb = sum(len(part) for pair in plain for part in pair) / 1e6
    rate = events / found["trees"].p50
    figures = [
        Figure(
            "decode_events_per_s",
            "events to rows of spans, one core (scan, call trees, columns)",
            rate / 1e6,
            "M/s",
            _rates(found["trees"], events / 1e6),
            limit=Limit(events / found["lz4"].p50 / 1e6, "LZ4 alone"),
            targets=(at_least(rate, EVENTS_PER_S, f"{EVENTS_PER_S / 1e6:g} M/s"),),
        ),
        Figure(
            "lz4_mb_per_s",
            "LZ4 alone, one core, decompressed bytes",
            decompressed_mb / found["lz4"].p50,
            "MB/s",
            _rates(found["lz4"], decompressed_mb),
        ),
    ]
    return [*figures, _measure_logs(size)], decoding_s


def _measure_logs(size: Size) -> Figure:
    telemetry = logs_of_places(_LOG_BLOCKS)
    (stream,) = telemetry.streams
    frames, plain = _opened(telemetry.blocks)
    layout = compile_layout(stream.dependencies_metadata, stream.objects_metadata)

    def lz4() -> None:
        for pair in frames:
            for frame in pair:
                _decompressed(frame)

    def logs() -> None:
        rows = sum(len(read_logs(layout, dependencies, objects).msg) for dependencies, objects in plain)
        if rows != LOG_LINES * _LOG_BLOCKS:
            raise RuntimeError(f"{_LOG_BLOCKS} blocks of {LOG_LINES} log lines gave {rows} rows")

    found = take_turns(size.rounds, {"lz4": lz4, "logs": logs})
    rate = _LOG_BLOCKS / found["logs"].p50
    return Figure(
        "decode_log_blocks_per_s",
        f"blocks of {LOG_LINES} log lines with {STRINGS_OF_PLACES} strings to columns, one core",
        rate,
        "/s",
        _rates(found["logs"], _LOG_BLOCKS),
        limit=Limit(_LOG_BLOCKS / found["lz4"].p50, "LZ4 alone"),
        targets=(at_least(rate, LOG_BLOCKS_PER_S, f"{LOG_BLOCKS_PER_S:,} /s"),),
    )


Pairs = list[tuple[bytes, bytes]]  # of a block: dependencies, objects


def _opened(blocks: Sequence[BlockRequest]) -> tuple[Pairs, Pairs]:
    """Both halves of each payload, as they were sent and decompressed."""
    frames = [decode_payload(block.payload) for block in blocks]
    return frames, [(_decompressed(dependencies), _decompressed(objects)) for dependencies, objects in frames]


def _decompressed(frame: bytes) -> bytes:
    return decompress(frame, limit_bytes=BLOCK_DECODED_BYTES_MAX)


def _rates(samples: Samples, amount: float) -> tuple[float, float]:
    least, most = samples.spread
    return amount / most, amount / least
