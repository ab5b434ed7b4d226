"""Which texts the columns of a file may have: a small Bloom filter, kept in the catalog, that says which files need no look.

A filter forgets nothing that was put in, so a file that it rules out has no row with the value. Of the columns that it covers,
that is: one with too many values is left out, and may then have any. Pure; the catalog checks the same bits in its own words.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

COLUMNS: Final = ("process_id", "stream_id", "name", "target")
"""What statements ask for one or few values of. Another one may come any time: older filters do not cover it."""

BITS_BYTES_MAX: Final = 1 << 10  # so that the catalog keeps it within the row
VALUES_MAX: Final = (
    1_600  # of a file: about five bits for each, and every tenth file that has not a value is read in vain
)
ASKED_MAX: Final = 100  # values of one column; so many rule out little
PROBES: Final = 4
_BITS_PER_VALUE: Final = 10
_BITS_BYTES_MIN: Final = 8


@dataclass(frozen=True, slots=True)
class ValueFilter:
    """``bits``: a power of two of bytes; bit ``n`` is bit ``n % 8``, from the least, of byte ``n // 8``."""

    columns: tuple[str, ...]
    bits: bytes

    def __post_init__(self) -> None:
        size = len(self.bits)
        if not _BITS_BYTES_MIN <= size <= BITS_BYTES_MAX or size & (size - 1):
            raise ValueError(f"a filter of {size} bytes")
        if not set(self.columns) <= set(COLUMNS):
            raise ValueError(f"a filter of columns {', '.join(self.columns)}")

    def may_hold(self, column: str, values: Collection[str]) -> bool:
        """Whether a row of the file may have one of these in a column."""
        return column not in self.columns or any(self._has(column, value) for value in values)

    def _has(self, column: str, value: str) -> bool:
        return all(self.bits[bit >> 3] >> (bit & 7) & 1 for bit in _bits(column, value, len(self.bits)))


def filter_of(values: Mapping[str, Collection[str]]) -> ValueFilter | None:
    """The filter of a file, by all values of those of ``COLUMNS`` that it has; ``None`` if there is nothing to cover."""
    covered = dict(sorted(values.items(), key=lambda column: len(column[1])))
    while sum(map(len, covered.values())) > VALUES_MAX:
        covered.popitem()  # that with most
    if not covered:
        return None
    wanted_bits = max(8 * _BITS_BYTES_MIN, _BITS_PER_VALUE * sum(map(len, covered.values())))
    size = min(BITS_BYTES_MAX, 1 << (wanted_bits - 1).bit_length() - 3)
    bits = bytearray(size)
    for column, texts in covered.items():
        for text in texts:
            for bit in _bits(column, text, size):
                bits[bit >> 3] |= 1 << (bit & 7)
    return ValueFilter(tuple(sorted(covered)), bytes(bits))


def asked(equals: Mapping[str, Collection[str]]) -> dict[str, tuple[str, ...]]:
    """Of what rows must have to matter, what filters can be asked for."""
    return {
        column: tuple(values) for column, values in equals.items() if column in COLUMNS and 0 < len(values) <= ASKED_MAX
    }


def probe(column: str, value: str) -> tuple[int, int]:
    """Where the bits of a value lie, in a filter of any size: at the first number, and then every so many further on."""
    digest = hashlib.blake2b(f"{column}\0{value}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:], "little") | 1


def _bits(column: str, value: str, size_bytes: int) -> Iterator[int]:
    first, step = probe(column, value)
    return ((first + n * step) % (8 * size_bytes) for n in range(PROBES))
