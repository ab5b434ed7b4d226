"""Attributes as JSON text, a whole column at once: sorted keys, no spaces, native numbers and booleans.

Bytes become base64 and doubles that JSON has no number for become text. An object is made of ranges of *entries*, keys with
their values, of which later ones override earlier ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lakeflight.wire.otlp import kernels
from lakeflight.wire.otlp.kernels import Fault
from lakeflight.wire.otlp.scan import Field, Int64s, Messages, Scan, starts_of, strings_of

CHUNK_BYTES: Final = 64 << 20
"""Text that is made at once, at most, unless one row alone has more; what is written of it is less."""

BLOCK_TEXT_BYTES_MAX: Final = 2 << 30
"""What the JSON of one block may take. The attributes of a scope are repeated with each of its records."""

_DOUBLE_BYTES: Final = 9  # of one on the wire


class Option(NamedTuple):
    """An entry that some rows have: where its key lies, what kind of value it has, and the rows' values."""

    key: tuple[int, int]
    kind: int
    values: Int64s
    lengths: Int64s
    present: npt.NDArray[np.bool_]


@dataclass(slots=True)
class Entries:
    """The entries of everything that is to become text. All are added before any is written."""

    scan: Scan
    _parts: list[Int64s] = field(default_factory=list)
    _count: int = 0

    def add(self, keys: Any, key_lengths: Any, kinds: Any, values: Int64s, lengths: Any, blocks: Int64s) -> int:
        """Entries, a row each; one value stands for all rows. Returns the number of the first."""
        part = np.empty((values.size, kernels.ENTRY_COLUMNS), np.int64)
        part[:, kernels.ENTRY_KEY] = keys
        part[:, kernels.ENTRY_KEY_LENGTH] = key_lengths
        part[:, kernels.ENTRY_VALUE] = values
        part[:, kernels.ENTRY_LENGTH] = lengths
        part[:, kernels.ENTRY_KIND] = kinds
        part[:, kernels.ENTRY_BLOCK] = blocks
        return self._append(part)

    def add_pairs(self, messages: Messages, number: int, counts: Field) -> Int64s:
        """The messages of a repeated field, which are of type ``KeyValue``. Returns where the entries of each parent begin."""
        firsts = starts_of(counts.values)
        part = np.zeros((int(firsts[-1]), kernels.ENTRY_COLUMNS), np.int64)
        kernels.list_pairs(
            *(self.scan.buffer, messages.starts, messages.ends, messages.blocks, number, firsts, part, self.scan.faults)
        )
        return firsts + self._append(part)

    def _append(self, part: Int64s) -> int:
        first = self._count
        self._parts.append(part)
        self._count += len(part)
        return first

    def add_options(self, options: Sequence[Option], blocks: Int64s) -> Int64s:
        """What of ``options`` each row has, in their order. Returns where the entries of each row begin."""
        present = np.stack([option.present for option in options], axis=1)
        firsts = starts_of(present.sum(axis=1, dtype=np.int64))
        rows, which = np.nonzero(present)
        keys = np.array([option.key for option in options], np.int64)[which]
        base = self.add(
            keys[:, 0],
            keys[:, 1],
            np.array([option.kind for option in options], np.uint8)[which],
            np.stack([option.values for option in options], axis=1)[present],
            np.stack([option.lengths for option in options], axis=1)[present],
            blocks[rows],
        )
        return firsts + base

    def seal(self) -> JsonText:
        """What can be written.

        Raises:
            DamagedBlocksError: Some blocks have values that are damaged.
        """
        entries = np.concatenate(self._parts)
        are_any = entries[:, kernels.ENTRY_KIND] == kernels.ENTRY_ANY
        any_bytes = int(np.sum(entries[:, kernels.ENTRY_LENGTH], where=are_any))
        doubles, counts = np.zeros(any_bytes // _DOUBLE_BYTES + 1, np.int64), np.zeros(2, np.int64)
        bounds = np.zeros(len(entries), np.int64)
        kernels.bound_entries(self.scan.buffer, entries, kernels.room(), bounds, doubles, counts, self.scan.faults)
        self.scan.check()
        known = np.unique(doubles[: counts[0]])
        rows = np.flatnonzero(entries[:, kernels.ENTRY_KIND] == kernels.ENTRY_DOUBLE)
        alone = pa.array(entries[rows, kernels.ENTRY_VALUE]).dictionary_encode()
        entries[rows, kernels.ENTRY_VALUE] = alone.indices.to_numpy() + known.size
        texts = texts_of(np.concatenate((known, alone.dictionary.to_numpy())))
        return JsonText(self.scan, entries, starts_of(bounds), (known, *texts), members_max=int(counts[1]))


def texts_of(
    bits: Int64s, special: tuple[str, str, str] = ('"NaN"', '"Infinity"', '"-Infinity"')
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
    """JSON of doubles: the shortest text that is the number, one behind the other, and where each begins.

    Args:
        special: For what JSON has no number for: NaN, and the two infinities.
    """
    numbers = pa.array(bits.view(np.float64), from_pandas=False)
    named = pc.case_when(pc.make_struct(pc.is_nan(numbers), pc.greater(numbers, 0)), *special)
    plain = pc.cast(numbers, pa.string())
    whole = pc.match_substring_regex(plain, "^-?[0-9]+$")  # a double stays one for whoever reads the JSON
    plain = pc.if_else(whole, pc.binary_join_element_wise(plain, ".0", ""), plain)
    texts = pc.if_else(pc.is_finite(numbers), plain, named)
    if isinstance(texts, pa.ChunkedArray):
        texts = texts.combine_chunks()
    _, offsets, data = texts.buffers()
    text = np.zeros(0, np.uint8) if data is None else np.frombuffer(data, np.uint8)
    return text.copy(), np.frombuffer(offsets, np.int32, len(texts) + 1, texts.offset * 4).copy()


@dataclass(slots=True)
class JsonText:
    """Entries that are known to be sound."""

    scan: Scan
    entries: Int64s
    bounds: Int64s  # sums over all entries before each, of how long they are at most
    doubles: tuple[Any, Any, Any]
    members_max: int

    def objects(self, ranges: npt.NDArray[np.int64]) -> Objects:
        """An object for each row, of the ranges that it has: an array of rows, ranges, and their begin and end."""
        ranges = np.ascontiguousarray(ranges)
        sizes = (self.bounds[ranges[:, :, 1]] - self.bounds[ranges[:, :, 0]]).sum(axis=1) + 2
        return Objects(self, ranges, sizes, _longest(ranges))

    def arrays(self, ranges: npt.NDArray[np.int64], elements: Int64s, firsts: Int64s) -> Arrays:
        """An array of objects for each row: ``firsts`` has its elements, ``elements`` their entries, in order.

        An entry that is an object itself is the one of its element, of ``ranges``.
        """
        ranges = np.ascontiguousarray(ranges)
        inner = (self.bounds[ranges[:, :, 1]] - self.bounds[ranges[:, :, 0]]).sum(axis=1)
        outer = self.bounds[elements[1:]] - self.bounds[elements[:-1]]
        before = starts_of(inner + outer + 4)
        return Arrays(self, ranges, elements, firsts, before[firsts[1:]] - before[firsts[:-1]] + 2, _longest(ranges))

    def values(self, first: int, rows: int) -> Values:
        """Entries as texts of their own, without their keys."""
        return Values(self, first, np.diff(self.bounds[first : first + rows + 1]))


def _longest(ranges: npt.NDArray[np.int64]) -> int:
    return int((ranges[:, :, 1] - ranges[:, :, 0]).sum(axis=1).max(initial=0))


@dataclass(slots=True)
class Objects:
    """A column of JSON objects; ``sizes`` bounds the bytes of each."""

    json: JsonText
    ranges: npt.NDArray[np.int64]
    sizes: Int64s
    longest: int

    def write(self, first: int, last: int) -> pa.Array:
        """The texts of some rows."""
        out, offsets = room_for(self.sizes[first:last])
        json = self.json
        kernels.write_objects(
            json.scan.buffer, json.entries, self.ranges, first, last, json.doubles,
            kernels.room(json.members_max, self.longest), out, offsets,
        )  # fmt: skip
        return strings_of(offsets, out[: offsets[-1]])


@dataclass(slots=True)
class Arrays:
    """A column of JSON arrays of objects."""

    json: JsonText
    ranges: npt.NDArray[np.int64]
    elements: Int64s
    firsts: Int64s
    sizes: Int64s
    longest: int

    def write(self, first: int, last: int) -> pa.Array:
        out, offsets = room_for(self.sizes[first:last])
        json = self.json
        kernels.write_arrays(
            json.scan.buffer, json.entries, self.ranges, self.elements, self.firsts, first, last, json.doubles,
            kernels.room(json.members_max, self.longest), out, offsets,
        )  # fmt: skip
        return strings_of(offsets, out[: offsets[-1]])


@dataclass(slots=True)
class Values:
    """A column of values as text."""

    json: JsonText
    base: int
    sizes: Int64s

    def write(self, first: int, last: int) -> pa.Array:
        out, offsets = room_for(self.sizes[first:last])
        json = self.json
        kernels.write_values(
            json.scan.buffer, json.entries, self.base + first, self.base + last, json.doubles,
            kernels.room(json.members_max), out, offsets,
        )  # fmt: skip
        return strings_of(offsets, out[: offsets[-1]])


class Bounded(Protocol):
    """A column whose texts are made later."""

    sizes: Int64s
    """The bytes of each, at most."""


def room_for(sizes: Int64s) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
    return np.empty(int(sizes.sum()), np.uint8), np.empty(sizes.size + 1, np.int32)


def chunks(scan: Scan, blocks: Int64s, columns: Sequence[Bounded]) -> Iterator[tuple[int, int]]:
    """Runs of rows that are to be written together; ``blocks`` has the block of each row.

    Raises:
        DamagedBlocksError: Some blocks would have more text than one may have.
    """
    sizes = np.sum([column.sizes for column in columns], axis=0)
    of_blocks = np.bincount(blocks, weights=sizes, minlength=scan.faults.size)
    too_long = np.flatnonzero(of_blocks > BLOCK_TEXT_BYTES_MAX)
    if too_long.size:
        scan.refuse(too_long, Fault.TOO_LONG)
        scan.check()
    yield from runs(sizes)


def runs(sizes: Int64s) -> Iterator[tuple[int, int]]:
    """Runs of rows whose texts are made at once; ``sizes`` bounds the bytes of each row."""
    before = starts_of(sizes)
    first = 0
    while first < sizes.size:
        last = int(np.searchsorted(before, before[first] + CHUNK_BYTES, side="right")) - 1
        last = max(last, first + 1)
        yield first, last
        first = last
