"""Attributes as JSON text, a whole column at once: sorted keys, no spaces, native numbers and booleans.

Bytes become base64 and doubles that JSON has no number for become text. An object is made of ranges of *entries*, keys with
their values, of which later ones override earlier ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lakeflight.wire.otlp import kernels
from lakeflight.wire.otlp.kernels import Fault
from lakeflight.wire.otlp.scan import Int64s, Messages, Scan, starts_of, strings_of

CHUNK_BYTES: Final = 64 << 20
"""Text that is made at once, at most, unless one row alone has more; what is written of it is less."""

BLOCK_TEXT_BYTES_MAX: Final = 2 << 30
"""What the JSON of one block may take. The attributes of a scope are repeated with each of its records."""

_DOUBLE_BYTES: Final = 9  # of one on the wire


class _Part(NamedTuple):
    keys: Int64s
    key_lengths: Int64s
    kinds: npt.NDArray[np.uint8]
    values: Int64s
    lengths: Int64s
    blocks: Int64s


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
    _parts: list[_Part] = field(default_factory=list)
    _count: int = 0

    def add(self, keys: Any, key_lengths: Any, kinds: Any, values: Int64s, lengths: Any, blocks: Int64s) -> int:
        """Entries, a row each; one value stands for all rows. Returns the number of the first."""
        rows = values.size

        def column(given: Any, dtype: Any) -> Any:
            return np.ascontiguousarray(np.broadcast_to(np.asarray(given, dtype), rows))

        part = _Part(
            column(keys, np.int64),
            column(key_lengths, np.int64),
            column(kinds, np.uint8),
            column(values, np.int64),
            column(lengths, np.int64),
            column(blocks, np.int64),
        )
        self._parts.append(part)
        first = self._count
        self._count += rows
        return first

    def add_pairs(self, messages: Messages) -> int:
        """Messages of type ``KeyValue``."""
        key, value = self.scan.fields(messages, ((1, kernels.LENGTH_DELIMITED), (2, kernels.LENGTH_DELIMITED)))
        return self.add(key.values, key.sizes, kernels.ENTRY_ANY, value.values, value.sizes, messages.blocks)

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
        joined = _Part(*(np.concatenate(columns) for columns in zip(*self._parts, strict=True)))
        bounds = np.zeros(joined.keys.size, np.int64)
        in_values = int(joined.lengths[joined.kinds == kernels.ENTRY_ANY].sum())
        doubles, counts = np.zeros(in_values // _DOUBLE_BYTES + 1, np.int64), np.zeros(2, np.int64)
        kernels.bound_entries(
            self.scan.buffer, joined.key_lengths, joined.blocks, joined.kinds, joined.values, joined.lengths, bounds,
            doubles, counts, self.scan.faults,
        )  # fmt: skip
        self.scan.check()
        known = np.unique(doubles[: counts[0]])
        return JsonText(
            self.scan, joined[:5], starts_of(bounds), (known, *_texts_of(known)), members_max=int(counts[1])
        )


def _texts_of(bits: Int64s) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
    """JSON of doubles: the shortest text that is the number."""
    numbers = pa.array(bits.view(np.float64), from_pandas=False)
    special = pc.case_when(
        pc.make_struct(pc.is_nan(numbers), pc.greater(numbers, 0)), '"NaN"', '"Infinity"', '"-Infinity"'
    )
    plain = pc.cast(numbers, pa.string())
    whole = pc.match_substring_regex(plain, "^-?[0-9]+$")  # a double stays one for whoever reads the JSON
    plain = pc.if_else(whole, pc.binary_join_element_wise(plain, ".0", ""), plain)
    texts = pc.if_else(pc.is_finite(numbers), plain, special)
    if isinstance(texts, pa.ChunkedArray):
        texts = texts.combine_chunks()
    _, offsets, data = texts.buffers()
    text = np.zeros(0, np.uint8) if data is None else np.frombuffer(data, np.uint8)
    return text.copy(), np.frombuffer(offsets, np.int32, len(texts) + 1, texts.offset * 4).copy()


@dataclass(slots=True)
class JsonText:
    """Entries that are known to be sound."""

    scan: Scan
    entries: tuple[Any, ...]
    bounds: Int64s  # sums over all entries before each, of how long they are at most
    doubles: tuple[Any, ...]
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
        out, offsets = _room(self.sizes[first:last])
        json = self.json
        kernels.write_objects(
            json.scan.buffer, json.entries, self.ranges, first, last, self.longest, json.members_max, json.doubles,
            out, offsets,
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
        out, offsets = _room(self.sizes[first:last])
        json = self.json
        kernels.write_arrays(
            json.scan.buffer, json.entries, self.ranges, self.elements, self.firsts, first, last, self.longest,
            json.members_max, json.doubles, out, offsets,
        )  # fmt: skip
        return strings_of(offsets, out[: offsets[-1]])


@dataclass(slots=True)
class Values:
    """A column of values as text."""

    json: JsonText
    base: int
    sizes: Int64s

    def write(self, first: int, last: int) -> pa.Array:
        out, offsets = _room(self.sizes[first:last])
        json = self.json
        kernels.write_values(
            json.scan.buffer, json.entries[3], json.entries[4], self.base + first, self.base + last, json.members_max,
            json.doubles, out, offsets,
        )  # fmt: skip
        return strings_of(offsets, out[: offsets[-1]])


def _room(sizes: Int64s) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
    return np.empty(int(sizes.sum()), np.uint8), np.empty(sizes.size + 1, np.int32)


def chunks(scan: Scan, blocks: Int64s, columns: Sequence[Objects | Arrays | Values]) -> Iterator[tuple[int, int]]:
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
    before = starts_of(sizes)
    first = 0
    while first < blocks.size:
        last = int(np.searchsorted(before, before[first] + CHUNK_BYTES, side="right")) - 1
        last = max(last, first + 1)
        yield first, last
        first = last
