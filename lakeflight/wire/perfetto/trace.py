"""Spans to packets of Perfetto's trace format, a batch at a time: one trace, however many batches it takes.

Only what is open and the texts that packets refer to are kept in between. Times are nanoseconds since 1970. Packets of one
track come in the order of its events, so that each end closes the innermost open slice; it names what it closes all the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from lakeflight.wire.perfetto import kernels

Int64s: TypeAlias = npt.NDArray[np.int64]

INTERNED_MAX: Final = 1 << 17
"""Texts and places that packets may refer to. With more, those of closed spans are forgotten, and told again when needed."""

INTERNED_BYTES_MAX: Final = 16 << 20

LANES_MAX: Final = 4096
"""Tracks for async spans that overlap without lying in each other. More are no picture any more."""

_SEQUENCE: Final = b"\x50\x01"  # trusted_packet_sequence_id
_CLEARED: Final = b"\x68\x03"  # sequence_flags: incremental state is cleared here, and needed
_NEEDED: Final = b"\x68\x02"
_OUT_BYTES: Final = 1 << 18
_STACK_ROOM: Final = 256
_LANES_ROOM: Final = 16

# what packets refer to by number, as the fields of InternedData
_CATEGORY: Final = 1
_NAME: Final = 2
_LOCATION: Final = 4  # a file and a line


class TooManyLanesError(Exception):
    """More than ``LANES_MAX`` async spans overlap, none of them inside of another."""


class Spans(NamedTuple):
    """A batch of spans, as columns."""

    begins: Int64s
    ends: Int64s
    names: pa.Array  # of strings, as are the next two
    categories: pa.Array
    files: pa.Array
    lines: Int64s


def track_uuid(text: str, seed: int = 0) -> int:
    """The number of a track that a text names."""
    return int(xxhash.xxh64_intdigest(text.encode(), seed))


class TraceWriter:
    """Writes one trace. The process comes first, then its tracks, then spans; ``finish`` ends what is open."""

    def __init__(self) -> None:
        kinds = (_CATEGORY, _NAME, _LOCATION)
        self._numbered: dict[int, dict[Any, int]] = {kind: {} for kind in kinds}
        self._next = dict.fromkeys(kinds, 1)
        self._interned_bytes = 0
        self._flags = _CLEARED  # of the next packet
        self._out = np.empty(_OUT_BYTES, np.uint8)
        self._nested = np.zeros(kernels.REGISTERS, np.int64)
        self._nested[kernels.TOP] = -1
        self._stack = np.zeros((_STACK_ROOM, kernels.OPEN_COLUMNS), np.int64)
        self._in_lanes = np.zeros(kernels.REGISTERS, np.int64)
        self._in_lanes[kernels.TOP] = -1
        self._lanes = np.zeros(0, np.uint64)
        self._tops = np.zeros(0, np.int64)
        self._open = np.zeros((0, kernels.OPEN_COLUMNS), np.int64)
        self._process = 0
        self._pid = 0
        self._lane_name = ""
        self._lanes_told = 0

    # --- tracks

    def process(self, process_id: str, name: str) -> bytes:
        """The packet that describes the process; its number is of its id."""
        self._process = track_uuid(process_id)
        self._pid = int(np.uint32(self._process & 0xFFFFFFFF).astype(np.int32))
        about = _number(1, self._pid) + _text(6, name)
        return self._descriptor(_number(1, self._process) + _bytes(3, about))

    def thread(self, stream_id: str, name: str, thread_id: int) -> bytes:
        """The packet that describes a thread of the process; its track has the number of the stream's id."""
        about = _number(1, self._pid) + _number(2, thread_id) + _text(5, name)
        return self._descriptor(
            _number(1, track_uuid(stream_id)) + _number(5, self._process) + _text(2, name) + _bytes(4, about)
        )

    def lanes(self, name: str, key: str) -> bytes:
        """The packet that describes the first track for spans of no thread. Further ones have its name, and are shown with it."""
        self._lane_name = name
        self._lanes = np.array([track_uuid(key, self._process)], np.uint64)
        self._tops = np.array([-1], np.int64)
        return self._tell_lanes(1)

    def _tell_lanes(self, count: int) -> bytes:
        told = b"".join(
            self._descriptor(_number(1, int(lane)) + _text(2, self._lane_name) + _number(5, self._process))
            for lane in self._lanes[self._lanes_told : count]
        )
        self._lanes_told = max(self._lanes_told, count)
        return told

    def _descriptor(self, body: bytes) -> bytes:
        return self._packet(_bytes(60, body))

    def _packet(self, content: bytes) -> bytes:
        flags, self._flags = self._flags, _NEEDED
        return _bytes(1, _SEQUENCE + flags + content)

    # --- spans

    def nested(self, spans: Spans, tracks: npt.NDArray[np.uint64], depths: Int64s) -> Iterator[bytes]:
        """Spans of threads, those of a track together and parents before their children, as their depths say."""
        yield from self._forget_much()
        numbers = self._numbers(spans)
        yield from self._take_told(numbers)
        begins, ends, depths = (np.ascontiguousarray(column) for column in (spans.begins, spans.ends, depths))
        tracks = np.ascontiguousarray(tracks)
        at = 0
        while at < begins.size:
            at = kernels.write_nested(
                begins, ends, depths, tracks, numbers.names, numbers.categories, numbers.locations, at, self._nested,
                self._stack, self._out,
            )  # fmt: skip
            if self._nested[kernels.TOP] + 1 >= len(self._stack):
                self._stack = np.concatenate([self._stack, np.zeros_like(self._stack)])
            yield self._written(self._nested)

    def overlapping(self, spans: Spans) -> Iterator[bytes]:
        """Spans of no thread, by their begins, of two that begin together the longer first; each takes some time.

        Raises:
            TooManyLanesError: They need more than ``LANES_MAX`` tracks.
        """
        yield from self._forget_much()
        numbers = self._numbers(spans)
        yield from self._take_told(numbers)
        begins, ends = np.ascontiguousarray(spans.begins), np.ascontiguousarray(spans.ends)
        at = 0
        while at < begins.size:
            at = kernels.write_lanes(
                begins, ends, self._lanes, numbers.names, numbers.categories, numbers.locations, at, self._in_lanes,
                self._tops, self._open, self._out,
            )  # fmt: skip
            told = self._tell_lanes(int(self._in_lanes[kernels.LANES]))
            if told:
                yield told
            yield self._written(self._in_lanes)
            if at < begins.size:
                self._make_room()

    def finish(self) -> Iterator[bytes]:
        """The ends of what is open."""
        while not kernels.end_nested(self._nested, self._stack, self._out):
            yield self._written(self._nested)
        yield self._written(self._nested)
        while not kernels.end_lanes(self._lanes, self._in_lanes, self._tops, self._open, self._out):
            yield self._written(self._in_lanes)
        yield self._written(self._in_lanes)

    def _written(self, registers: Int64s) -> bytes:
        written, registers[kernels.WRITTEN] = int(registers[kernels.WRITTEN]), 0
        return self._out[:written].tobytes()

    def _make_room(self) -> None:
        """For open spans, and for lanes, where there is none."""
        if self._in_lanes[kernels.TOP] < 0:
            first, count = len(self._open), max(_STACK_ROOM, len(self._open))
            grown = np.zeros((first + count, kernels.OPEN_COLUMNS), np.int64)
            grown[:first] = self._open
            grown[first:, kernels.OPEN_BELOW] = [*range(first + 1, first + count), -1]
            self._open = grown
            self._in_lanes[kernels.TOP] = first
        if self._in_lanes[kernels.LANES] >= len(self._lanes):
            if len(self._lanes) >= LANES_MAX:
                raise TooManyLanesError(
                    f"more than {LANES_MAX} async spans overlap, none of them inside of another: ask for a shorter time range"
                )
            first = int(self._lanes[0])
            more = range(len(self._lanes), min(LANES_MAX, max(_LANES_ROOM, 2 * len(self._lanes))))
            others = [track_uuid(f"lane {number}", first) for number in more]
            self._lanes = np.concatenate([self._lanes, np.array(others, np.uint64)])
            self._tops = np.concatenate([self._tops, np.full(len(others), -1, np.int64)])

    # --- what packets refer to

    def _numbers(self, spans: Spans) -> _Numbers:
        told: list[bytes] = []
        categories = self._text_numbers(_CATEGORY, spans.categories, told)
        names = self._text_numbers(_NAME, spans.names, told)
        locations = self._location_numbers(spans.files, spans.lines, told)
        return _Numbers(names, categories, locations, b"".join(told))

    def _text_numbers(self, kind: int, column: pa.Array, told: list[bytes]) -> Int64s:
        codes, texts = _coded(column)
        found = [self._number_of(kind, text, told) if text or kind == _NAME else 0 for text in texts]
        return np.array(found, np.int64)[codes]

    def _location_numbers(self, files: pa.Array, lines: Int64s, told: list[bytes]) -> Int64s:
        codes, texts = _coded(files)
        places, pairs = _coded(pa.array((codes << 32) | lines))
        named = [(texts[pair >> 32], pair & 0xFFFFFFFF) for pair in pairs]
        found = [self._number_of(_LOCATION, place, told) if place[0] else 0 for place in named]
        return np.array(found, np.int64)[places]

    def _number_of(self, kind: int, value: Any, told: list[bytes]) -> int:
        numbers = self._numbered[kind]
        number = numbers.get(value)
        if number is None:
            number = numbers[value] = self._next[kind]
            self._next[kind] += 1
            entry = _entry(kind, number, value)
            self._interned_bytes += len(entry)
            told.append(entry)
        return number

    def _take_told(self, numbers: _Numbers) -> Iterator[bytes]:
        if numbers.told:
            yield self._packet(_bytes(12, numbers.told))

    def _forget_much(self) -> Iterator[bytes]:
        """Texts of spans that are closed, once they are many. Those of open ones are told again: their ends need them."""
        if self._interned_bytes <= INTERNED_BYTES_MAX and sum(map(len, self._numbered.values())) <= INTERNED_MAX:
            return
        told: list[bytes] = []
        for kind, column in ((_CATEGORY, kernels.OPEN_CATEGORY), (_NAME, kernels.OPEN_NAME), (_LOCATION, None)):
            needed = set() if column is None else set(self._open_values(column).tolist())
            kept = {value: number for value, number in self._numbered[kind].items() if number in needed}
            self._numbered[kind] = kept
            told += [_entry(kind, number, value) for value, number in kept.items()]
        self._interned_bytes = sum(map(len, told))
        self._flags = _CLEARED
        yield self._packet(_bytes(12, b"".join(told)))

    def _open_values(self, column: int) -> Int64s:
        """A column of all spans that are open, and perhaps of some that are not."""
        nested = self._stack[: int(self._nested[kernels.TOP]) + 1, column]
        return np.unique(np.concatenate([nested, self._open[:, column]]))


class _Numbers(NamedTuple):
    names: Int64s
    categories: Int64s
    locations: Int64s
    told: bytes  # what is new of InternedData


def _coded(column: pa.Array) -> tuple[Int64s, list[Any]]:
    """Numbers that stand for the values of a column, and the values."""
    if not pa.types.is_dictionary(column.type):
        column = pc.dictionary_encode(column)
    return column.indices.to_numpy(zero_copy_only=False).astype(np.int64), column.dictionary.to_pylist()


def _entry(kind: int, number: int, value: Any) -> bytes:
    """One member of InternedData."""
    about = _text(2, value[0]) + _number(4, value[1]) if kind == _LOCATION else _text(2, value)
    return _bytes(kind, _number(1, number) + about)


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _text(field: int, text: str) -> bytes:
    return _bytes(field, text.encode())


def warm_up() -> None:
    """Load the machine's code before the first trace."""
    writer = TraceWriter()
    writer.process("", "")
    writer.lanes("", "")
    text = pa.array([""])
    spans = Spans(np.zeros(1, np.int64), np.ones(1, np.int64), text, text, text, np.zeros(1, np.int64))
    for _ in writer.nested(spans, np.ones(1, np.uint64), np.zeros(1, np.int64)):
        pass
    for _ in writer.overlapping(spans):
        pass
    for _ in writer.finish():
        pass
