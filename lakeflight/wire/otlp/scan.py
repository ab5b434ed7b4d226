"""Many encoded messages at once: their fields as columns of numbers, their texts as Arrow arrays.

The payloads of several blocks lie one behind the other in one buffer, so that a thousand small blocks cost as much as one
large. What is damaged is known by its block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lakeflight.wire.errors import CorruptPayloadError
from lakeflight.wire.otlp import kernels
from lakeflight.wire.otlp.kernels import FIXED64, LENGTH_DELIMITED, REPEATED, VARINT, Fault
from lakeflight.wire.transit.text_kernels import measure_text, write_text

Int64s: TypeAlias = npt.NDArray[np.int64]
Bools: TypeAlias = npt.NDArray[np.bool_]
Bytes: TypeAlias = npt.NDArray[np.uint8]

_UTF8: Final = 2  # the codec of which ill-formed parts become U+FFFD
_ARROW_BYTES_MAX: Final = (1 << 31) - 1

_REASONS: Final = {
    Fault.DAMAGED: "the protobuf of the block is damaged",
    Fault.TOO_DEEP: f"an attribute has values that are nested more than {kernels.DEPTH_MAX} deep",
    Fault.TOO_LONG: "the attributes of the block would be too long as text",
}


class DamagedBlocksError(Exception):
    """Some of the blocks cannot be decoded; the others can, without them."""

    def __init__(self, faults: Int64s) -> None:
        super().__init__("damaged blocks")
        self.reasons = {
            ordinal: CorruptPayloadError(_REASONS[Fault(int(faults[ordinal]))])
            for ordinal in np.flatnonzero(faults).tolist()
        }


@dataclass(frozen=True, slots=True)
class Messages:
    """Ranges of the buffer, and the ordinal of the block that each is in."""

    starts: Int64s
    ends: Int64s
    blocks: Int64s

    def __len__(self) -> int:
        return int(self.starts.size)

    def __getitem__(self, which: Any) -> Messages:
        return Messages(self.starts[which], self.ends[which], self.blocks[which])


@dataclass(frozen=True, slots=True)
class Field:
    """One field of many messages: its values, or where they start; their lengths, -1 where there is none."""

    values: Int64s
    lengths: Int64s

    @property
    def present(self) -> Bools:
        return self.lengths >= 0

    @property
    def sizes(self) -> Int64s:
        """Lengths, of what is absent 0."""
        return np.maximum(self.lengths, 0)

    def __getitem__(self, which: Any) -> Field:
        return Field(self.values[which], self.lengths[which])


class Scan:
    """The payloads of some blocks, and what is found in them."""

    def __init__(self, payloads: Sequence[bytes], literals: bytes) -> None:
        """``literals`` lie before the payloads, from position 0 on."""
        self.buffer = _read_only(np.frombuffer(b"".join((literals, *payloads)), np.uint8))
        sizes = np.fromiter(map(len, payloads), np.int64, len(payloads))
        ends = len(literals) + np.cumsum(sizes)
        self.roots = Messages(ends - sizes, ends, np.arange(len(payloads), dtype=np.int64))
        self.faults = np.zeros(len(payloads), np.int64)

    def fields(self, messages: Messages, wanted: Sequence[tuple[int, int]]) -> list[Field]:
        """The fields with these numbers and kinds, in their order. Of a ``REPEATED`` one the values are counts."""
        columns = np.full(max(number for number, _ in wanted) + 1, -1, np.int64)
        columns[[number for number, _ in wanted]] = np.arange(len(wanted))
        kinds = np.array([kind for _, kind in wanted], np.int64)
        values = np.empty((len(wanted), len(messages)), np.int64)
        lengths = np.empty((len(wanted), len(messages)), np.int64)
        kernels.read_fields(
            self.buffer, messages.starts, messages.ends, messages.blocks, columns, kinds, values, lengths, self.faults
        )
        return [Field(*of_field) for of_field in zip(values, lengths, strict=True)]

    def children(self, messages: Messages, number: int, counts: Field) -> tuple[Messages, Int64s]:
        """The messages of a repeated field, and where those of each parent begin (one more than parents)."""
        firsts = starts_of(counts.values)
        total = int(firsts[-1])
        starts, ends = np.zeros(total, np.int64), np.zeros(total, np.int64)
        kernels.list_children(self.buffer, messages.starts, messages.ends, number, firsts, starts, ends)
        return Messages(starts, ends, np.repeat(messages.blocks, counts.values)), firsts

    def submessages(self, messages: Messages, field: Field) -> Messages:
        """The one message of a field; of an absent one an empty range."""
        return Messages(field.values, field.values + field.sizes, messages.blocks)

    def check(self) -> None:
        """
        Raises:
            DamagedBlocksError: There are such among what has been read.
        """
        if self.faults.any():
            raise DamagedBlocksError(self.faults)

    def refuse(self, blocks: Int64s, fault: Fault) -> None:
        self.faults[blocks] = fault

    def extend(self, more: bytes) -> int:
        """Put something behind the payloads; returns where it starts."""
        start = int(self.buffer.size)
        self.buffer = _read_only(np.concatenate((self.buffer, np.frombuffer(more, np.uint8))))
        return start

    def texts(self, field: Field) -> pa.Array:
        """UTF-8 of a field; what is none becomes U+FFFD, and what is absent is empty."""
        rows = field.values.size
        lengths = field.sizes
        sources, sizes, outcome = np.full(rows, _UTF8, np.uint8), np.zeros(rows, np.int64), np.zeros(4, np.int64)
        total = measure_text(self.buffer, field.values, lengths, sources, _NO_OFFSETS, sizes, outcome)
        if total > _ARROW_BYTES_MAX:
            raise MemoryError(f"{total} bytes of text in one column")
        offsets, text = np.empty(rows + 1, np.int32), np.empty(total, np.uint8)
        write_text(self.buffer, field.values, lengths, sources, sizes, _NO_TEXT, _NO_OFFSETS, offsets, text)
        return strings_of(offsets, text)

    def binaries(self, field: Field, size: int) -> pa.Array:
        """The bytes of a field, null where they are not of this size."""
        fits = field.lengths == size
        data = np.zeros((fits.size, size), np.uint8)
        kernels.gather_pieces(self.buffer, np.where(fits, field.values, -1), size, data)
        validity = None if fits.all() else pa.py_buffer(np.packbits(fits, bitorder="little"))
        return pa.Array.from_buffers(pa.binary(size), fits.size, [validity, pa.py_buffer(data)])


def starts_of(counts: Int64s) -> Int64s:
    """Where each of some runs begins, and where the last ends."""
    firsts = np.zeros(counts.size + 1, np.int64)
    np.cumsum(counts, out=firsts[1:])
    return firsts


def strings_of(offsets: npt.NDArray[np.int32], text: Bytes) -> pa.Array:
    return pa.Array.from_buffers(
        pa.string(), offsets.size - 1, [None, pa.py_buffer(offsets), pa.py_buffer(text)], null_count=0
    )


def _read_only(values: Bytes) -> Bytes:
    values.flags.writeable = False
    return values


_NO_OFFSETS: Final = np.zeros(1, np.int32)
_NO_TEXT: Final = np.zeros(0, np.uint8)

__all__ = ["FIXED64", "LENGTH_DELIMITED", "REPEATED", "VARINT", "DamagedBlocksError", "Field", "Messages", "Scan"]
