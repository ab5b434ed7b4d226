"""Eight bytes at once, for compiled loops over bytes. The callers see to it that all eight are there.

The compiler makes one instruction of each of these: what is written out is a load, a load in reverse order, and a store.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import njit, types

from lakeflight.wire.compiled import INLINED, KERNEL

WORD_BYTES: Final = 8

READ_ONLY: Final = types.Array(types.uint8, 1, "C", readonly=True)
_WRITABLE: Final = types.uint8[::1]
_int: Final = types.int64

_ONE: Final = np.uint64(1)
_ONES: Final = np.uint64(0x0101010101010101)
_HIGH_BITS: Final = np.uint64(0x8080808080808080)
_SPACES: Final = np.uint64(0x2020202020202020)
_QUOTES: Final = np.uint64(0x2222222222222222)
_BACKSLASHES: Final = np.uint64(0x5C5C5C5C5C5C5C5C)


@njit(**INLINED)
def load_word(buffer: Any, at: Any) -> Any:
    """Eight bytes, the first one lowest."""
    at = np.uint64(at)  # or each position would be tested for being negative
    word = np.uint64(buffer[at])
    at += _ONE
    word |= np.uint64(buffer[at]) << np.uint64(8)
    at += _ONE
    word |= np.uint64(buffer[at]) << np.uint64(16)
    at += _ONE
    word |= np.uint64(buffer[at]) << np.uint64(24)
    at += _ONE
    word |= np.uint64(buffer[at]) << np.uint64(32)
    at += _ONE
    word |= np.uint64(buffer[at]) << np.uint64(40)
    at += _ONE
    word |= np.uint64(buffer[at]) << np.uint64(48)
    at += _ONE
    word |= np.uint64(buffer[at]) << np.uint64(56)
    return word


@njit(**INLINED)
def load_half(buffer: Any, at: Any) -> Any:
    """Four bytes, the first one lowest."""
    at = np.uint64(at)  # or each position would be tested for being negative
    word = np.uint64(buffer[at])
    at += _ONE
    word |= np.uint64(buffer[at]) << np.uint64(8)
    at += _ONE
    word |= np.uint64(buffer[at]) << np.uint64(16)
    at += _ONE
    word |= np.uint64(buffer[at]) << np.uint64(24)
    return np.int64(word)


@njit(**INLINED)
def load_ordered_word(buffer: Any, at: Any) -> Any:
    """Eight bytes, the first one highest: words compare as the bytes do."""
    at = np.uint64(at)  # or each position would be tested for being negative
    word = np.uint64(buffer[at]) << np.uint64(56)
    at += _ONE
    word |= np.uint64(buffer[at]) << np.uint64(48)
    at += _ONE
    word |= np.uint64(buffer[at]) << np.uint64(40)
    at += _ONE
    word |= np.uint64(buffer[at]) << np.uint64(32)
    at += _ONE
    word |= np.uint64(buffer[at]) << np.uint64(24)
    at += _ONE
    word |= np.uint64(buffer[at]) << np.uint64(16)
    at += _ONE
    word |= np.uint64(buffer[at]) << np.uint64(8)
    at += _ONE
    word |= np.uint64(buffer[at])
    return word


@njit(**INLINED)
def store_word(out: Any, to: Any, word: Any) -> None:
    """The reverse of ``load_word``."""
    for step in range(WORD_BYTES):
        out[np.uint64(to + step)] = np.uint8(word >> np.uint64(8 * step))


@njit(**INLINED)
def is_plain(word: Any) -> Any:
    """Whether JSON has all of the bytes as they are, and each is a character: no quote, no backslash, none below a space."""
    quote = word ^ _QUOTES
    backslash = word ^ _BACKSLASHES
    found = (word - _SPACES) & ~word | (quote - _ONES) & ~quote | (backslash - _ONES) & ~backslash | word
    return found & _HIGH_BITS == 0


@njit(types.int64(READ_ONLY, _int, _int, _WRITABLE, _int), **KERNEL)
def copy_bytes(source: Any, at: Any, length: Any, out: Any, to: Any) -> Any:
    """Copy some bytes; returns where they end."""
    end = to + length
    if length < WORD_BYTES:
        for step in range(length):
            out[np.uint64(to + step)] = source[np.uint64(at + step)]
        return end
    last = end - WORD_BYTES
    while to < last:
        store_word(out, to, load_word(source, at))
        at += WORD_BYTES
        to += WORD_BYTES
    store_word(out, last, load_word(source, at - (to - last)))  # what is left, and some again
    return end


@njit(types.int64(READ_ONLY, _int, _int, _int, _int), **KERNEL)
def compare_bytes(buffer: Any, one: Any, one_length: Any, other: Any, other_length: Any) -> Any:
    """Negative, zero or positive, as bytes are ordered."""
    shared = min(one_length, other_length)
    step = np.int64(0)
    while step + WORD_BYTES <= shared:
        first = load_ordered_word(buffer, one + step)
        second = load_ordered_word(buffer, other + step)
        if first != second:
            return np.int64(-1) if first < second else np.int64(1)
        step += WORD_BYTES
    while step < shared:
        difference = np.int64(buffer[np.uint64(one + step)]) - np.int64(buffer[np.uint64(other + step)])
        if difference != 0:
            return difference
        step += 1
    return one_length - other_length
