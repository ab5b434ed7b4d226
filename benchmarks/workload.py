"""What is sent: a recorded game where there is one, else a made-up one of the same shape; and small blocks of logs."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from lakeflight.wire.envelope import (
    BlockRequest,
    ProcessRequest,
    StreamRequest,
    decode_block,
    decode_process,
    decode_stream,
    encode_block,
    encode_process,
    encode_stream,
)
from lakeflight.wire.transit.types import LOG_TYPES, SPAN_TYPES
from lakeflight.wire.transit.writer import (
    BEGIN,
    END,
    LogBlockBuilder,
    LogMetadata,
    SpanBlockBuilder,
    SpanMetadata,
    describe_stream,
)

_ROOT: Final = Path(__file__).resolve().parents[1]
_RECORDED: Final = Path(os.environ.get("LAKEFLIGHT_SHARED", _ROOT.parent / "shared")) / "fixtures" / "native-large"
_START_NS: Final = 1_760_000_000_000_000_000
_START_TICKS: Final = 1_000_000_000
_FREQUENCY: Final = 1_000_000_000  # a tick is a nanosecond
_ACTORS: Final = 40  # of a frame; three spans each
_EVENT_TICKS_MEAN: Final = 240
_REQUEST: Final = ("request", "authenticate", "query", "render", "send")
LOG_LINES: Final = 50  # of a block
_STATEMENTS: Final = (LogMetadata("game::net", 4), LogMetadata("game::assets", 3), LogMetadata("game::ai", 5))
_PLACES: Final = tuple(  # as programs of many files log: four strings in each description, three of them its own
    LogMetadata(
        "game", 4, f"actor {{}} passed place {place} in {{}} us", f"game::place{place}", f"src/{place}.rs", place
    )
    for place in range(28)
)
STRINGS_OF_PLACES: Final = 3 * len(_PLACES) + 1


class Request(NamedTuple):
    path: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Telemetry:
    """One process with everything it sends."""

    process: ProcessRequest
    streams: tuple[StreamRequest, ...]
    blocks: tuple[BlockRequest, ...]

    def renamed(self) -> Telemetry:
        """The same under fresh ids, as if another process had sent it. What events say stays as it is."""
        process_id = str(uuid.uuid4())
        names = {stream.stream_id: str(uuid.uuid4()) for stream in self.streams}
        return Telemetry(
            replace(self.process, process_id=process_id),
            tuple(replace(s, process_id=process_id, stream_id=names[s.stream_id]) for s in self.streams),
            tuple(
                replace(b, process_id=process_id, stream_id=names[b.stream_id], block_id=str(uuid.uuid4()))
                for b in self.blocks
            ),
        )

    def requests(self) -> Iterator[Request]:
        yield Request("/ingestion/insert_process", encode_process(self.process))
        for stream in self.streams:
            yield Request("/ingestion/insert_stream", encode_stream(stream))
        for block in self.blocks:
            yield block_request(block)

    @property
    def thread(self) -> StreamRequest:
        """The stream with most events of spans."""
        return max((s for s in self.streams if "cpu" in s.tags), key=lambda s: sum(b.nb_objects for b in self.of(s)))

    def of(self, stream: StreamRequest) -> tuple[BlockRequest, ...]:
        return tuple(block for block in self.blocks if block.stream_id == stream.stream_id)


def block_request(block: BlockRequest) -> Request:
    return Request("/ingestion/insert_block", encode_block(block))


def recorded() -> Telemetry | None:
    """The recorded game, where the developers' collection lies beside the checkout."""
    return _of_folder(_RECORDED) if _RECORDED.is_dir() else None


def recorded_lines() -> Telemetry:
    """Plain log lines of a real program, which is part of the checkout."""
    return _of_folder(_ROOT / "tests" / "data" / "native" / "generator-a")


def _of_folder(folder: Path) -> Telemetry:
    bodies: dict[str, list[bytes]] = {"insert_process": [], "insert_stream": [], "insert_block": []}
    for described in sorted((folder / "requests").glob("*.json")):
        kind = json.loads(described.read_text())["path"].rpartition("/")[2]
        bodies[kind].append(described.with_suffix(".body").read_bytes())
    return Telemetry(
        decode_process(bodies["insert_process"][0]),
        tuple(map(decode_stream, bodies["insert_stream"])),
        tuple(map(decode_block, bodies["insert_block"])),
    )


def made_up(events: int, blocks: int) -> Telemetry:
    """One thread of a game: frames of nested spans, cut into blocks wherever a block was full."""
    process = _process()
    stream = describe_stream(
        SPAN_TYPES,
        process_id=process.process_id,
        stream_id=str(uuid.uuid4()),
        properties={"thread-name": "GameThread", "thread-id": "1"},
    )
    scopes, kinds, codes = _frame()
    frames = max(1, events // kinds.size)
    all_kinds, all_codes = np.tile(kinds, frames), np.tile(codes, frames)
    ticks = _START_TICKS + np.cumsum(_gaps(all_kinds.size))
    made: list[BlockRequest] = []
    previous_end = _START_TICKS
    for part in np.array_split(np.arange(all_kinds.size), blocks):
        builder = SpanBlockBuilder()
        builder.extend(scopes, all_kinds[part], all_codes[part], ticks[part])
        begin, previous_end = previous_end - _START_TICKS, int(ticks[part[-1]])
        made.append(_request(builder, process, stream, begin, previous_end - _START_TICKS, int(part[0])))
    return Telemetry(process, (stream,), tuple(made))


def async_spans(events: int, blocks: int) -> Telemetry:
    """One thread of a server: requests that wait, each with four spans inside."""
    process = _process()
    stream = describe_stream(SPAN_TYPES, process_id=process.process_id, stream_id=str(uuid.uuid4()))
    scopes = [SpanMetadata(name, "server", "server", "server.rs", 10 * i) for i, name in enumerate(_REQUEST)]
    events -= events % blocks
    number = np.arange(events)
    span = number // 2 + 1
    place = (span - 1) % len(_REQUEST)
    parents = np.where(place == 0, 0, span - place)
    ticks = _START_TICKS + np.cumsum(_gaps(events))
    made: list[BlockRequest] = []
    previous_end = 0
    for part in np.split(number, blocks):
        builder = SpanBlockBuilder()
        kinds, depths = number[part] % 2, np.minimum(place[part], 1)
        builder.extend_async(scopes, kinds, place[part], ticks[part], span[part], parents[part], depths)
        begin, previous_end = previous_end, int(ticks[part[-1]]) - _START_TICKS
        made.append(_request(builder, process, stream, begin, previous_end, int(part[0])))
    return Telemetry(process, (stream,), tuple(made))


def logs(blocks: int, lines: int = LOG_LINES) -> Telemetry:
    """A process that logs."""
    process = _process()
    stream = describe_stream(LOG_TYPES, process_id=process.process_id, stream_id=str(uuid.uuid4()))
    return Telemetry(process, (stream,), tuple(log_block(process, stream, number, lines) for number in range(blocks)))


def logs_of_places(blocks: int) -> Telemetry:
    """A process that logs from many places of its program: each block names all of them."""
    process = _process()
    stream = describe_stream(LOG_TYPES, process_id=process.process_id, stream_id=str(uuid.uuid4()))
    numbers = range(blocks)
    return Telemetry(process, (stream,), tuple(log_block(process, stream, n, statements=_PLACES) for n in numbers))


def log_block(
    process: ProcessRequest,
    stream: StreamRequest,
    number: int,
    lines: int = LOG_LINES,
    statements: Sequence[LogMetadata] = _STATEMENTS,
) -> BlockRequest:
    """The block ``number`` of a stream of logs: a second each."""
    texts = [f"actor {number * lines + line} took {line * 37 % 1000} us".encode() for line in range(lines)]
    offsets = np.cumsum([0, *map(len, texts)])
    begin, end = number * _FREQUENCY, (number + 1) * _FREQUENCY - 1
    ticks = _START_TICKS + np.linspace(begin, end, lines).astype(np.int64)
    builder = LogBlockBuilder()
    builder.extend(statements, np.arange(lines) % len(statements), ticks, b"".join(texts), offsets)
    return _request(builder, process, stream, begin, end, number * lines)


def random_log_block(
    process: ProcessRequest,
    stream: StreamRequest,
    number: int,
    lines: int,
    line_bytes: int,
    chance: np.random.Generator,
) -> Request:
    """One whose text no codec makes much smaller than half; its offset is ``number``."""
    letters = np.frombuffer(b"0123456789abcdef", np.uint8)[chance.integers(0, 16, lines * line_bytes)]
    begin, end = number * _FREQUENCY, (number + 1) * _FREQUENCY - 1
    ticks = _START_TICKS + np.linspace(begin, end, lines).astype(np.int64)
    builder = LogBlockBuilder()
    builder.extend(
        _STATEMENTS[:1], np.zeros(lines, np.int64), ticks, letters.tobytes(), np.arange(lines + 1) * line_bytes
    )
    return block_request(_request(builder, process, stream, begin, end, number))


def block_of(process: ProcessRequest, stream: StreamRequest, payload_bytes: int) -> BlockRequest:
    """A block of spans whose payload has about so many bytes."""
    guessed = _block_of_events(process, stream, payload_bytes // 5)
    return _block_of_events(process, stream, payload_bytes // 5 * payload_bytes // len(guessed.payload))


def _block_of_events(process: ProcessRequest, stream: StreamRequest, events: int) -> BlockRequest:
    scopes, kinds, codes = _frame()
    repeated = np.resize(np.arange(kinds.size), events)
    ticks = _START_TICKS + np.cumsum(_gaps(events))
    builder = SpanBlockBuilder()
    builder.extend(scopes, kinds[repeated], codes[repeated], ticks)
    return _request(builder, process, stream, 0, int(ticks[-1]) - _START_TICKS, 0)


def thread_of_nothing() -> Telemetry:
    """A process with one stream of spans that has sent none yet."""
    process = _process()
    stream = describe_stream(SPAN_TYPES, process_id=process.process_id, stream_id=str(uuid.uuid4()))
    return Telemetry(process, (stream,), ())


def _frame() -> tuple[
    Sequence[SpanMetadata], np.ndarray[tuple[int], np.dtype[np.uint8]], np.ndarray[tuple[int], np.dtype[np.int64]]
]:
    names = ["FEngineLoop::Tick", "AActor::Tick", "Physics::Step", "UAnimInstance::Update", "Slate::Tick"]
    scopes = [SpanMetadata(name, "game", "game", "game.cpp", 10 * i) for i, name in enumerate(names)]
    events: list[tuple[int, int]] = [(BEGIN, 0)]
    for _ in range(_ACTORS):
        events += [(BEGIN, 1), (BEGIN, 2), (END, 2), (BEGIN, 3), (END, 3), (END, 1)]
    events += [(BEGIN, 4), (END, 4), (END, 0)]
    kinds, codes = zip(*events, strict=True)
    return scopes, np.array(kinds, np.uint8), np.array(codes, np.int64)


def _gaps(count: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.random.default_rng(1).exponential(_EVENT_TICKS_MEAN, count).astype(np.int64) + 20


def _process() -> ProcessRequest:
    return ProcessRequest(
        process_id=str(uuid.uuid4()),
        exe="game",
        username="player",
        realname="Player",
        computer="console",
        distro="Linux",
        cpu_brand="CPU",
        tsc_frequency=_FREQUENCY,
        start_time_ns=_START_NS,
        start_ticks=_START_TICKS,
        parent_process_id=None,
        properties={"version": "1.0"},
    )


def _request(
    builder: SpanBlockBuilder | LogBlockBuilder,
    process: ProcessRequest,
    stream: StreamRequest,
    begin_ticks: int,
    end_ticks: int,
    object_offset: int,
) -> BlockRequest:
    return builder.finish().request(
        block_id=str(uuid.uuid4()),
        stream_id=stream.stream_id,
        process_id=process.process_id,
        begin_time_ns=_START_NS + begin_ticks,
        begin_ticks=begin_ticks,
        end_time_ns=_START_NS + end_ticks,
        end_ticks=end_ticks,
        object_offset=object_offset,
    )
