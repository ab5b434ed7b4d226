"""Columns of text: from the bytes of a block, in whatever codec, to Arrow and Python.

Bytes that are no UTF-8 (or UTF-16) become U+FFFD, one for each maximal ill-formed part, except where the format demands
valid UTF-8. Never one Python string after the other: a column is decoded at once.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa

from lakeflight.wire.errors import CorruptPayloadError
from lakeflight.wire.transit import text_kernels
from lakeflight.wire.transit.columns import Int32Array, Int64Array, UInt8Array
from lakeflight.wire.transit.records import new_outcome, raise_fault

TEXT_BYTES_MAX: Final = (1 << 31) - 1  # of one column: its offsets have 32 bits


class Texts(NamedTuple):
    """Sound UTF-8, one text behind the other: text ``i`` is ``data[offsets[i]:offsets[i + 1]]``."""

    data: UInt8Array
    offsets: Int32Array

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def to_arrow(self) -> Any:
        """A string array over the same memory."""
        return pa.StringArray.from_buffers(len(self), pa.py_buffer(self.offsets), pa.py_buffer(self.data))

    def to_strings(self) -> list[str]:
        strings: list[str] = self.to_arrow().to_pylist()
        return strings


NO_TEXTS: Final = Texts(np.zeros(0, np.uint8), np.zeros(1, np.int32))


def read_texts(
    buffer: UInt8Array,
    starts: Int64Array,
    lengths: Int64Array,
    sources: UInt8Array,
    *,
    noun: str,
    references: Texts = NO_TEXTS,
    bytes_max: int = TEXT_BYTES_MAX,
) -> Texts:
    """Decode a column: row ``i`` has ``lengths[i]`` bytes at ``starts[i]``, in the codec that ``sources[i]`` says.

    A row whose source is a reference has the text of ``references`` whose ordinal is its start. ``noun`` is what errors
    call a row, and ``sources`` is used up.

    Raises:
        CorruptPayloadError: A text cannot be decoded, or all together have more than ``bytes_max`` bytes.
    """
    sizes = np.empty(len(starts), np.int64)
    outcome = new_outcome()
    total = text_kernels.measure_text(buffer, starts, lengths, sources, references.offsets, sizes, outcome)
    raise_fault(outcome, noun)
    if total > bytes_max:
        raise CorruptPayloadError(f"the {noun} texts of the block have {total} bytes, more than {bytes_max}")
    texts = Texts(np.empty(total, np.uint8), np.empty(len(starts) + 1, np.int32))
    text_kernels.write_text(buffer, starts, lengths, sources, sizes, *references, texts.offsets, texts.data)
    return texts


__all__ = ["NO_TEXTS", "Texts", "read_texts"]
