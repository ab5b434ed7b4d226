"""What compiled loops over encoded protobuf are made of: a field is read, a value is written as JSON.

No bound is checked here that the bytes themselves do not say: who writes has seen to it that there is room.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import njit, types

from lakeflight.wire.compiled import HELPER, INLINED, KERNEL
from lakeflight.wire.transit.text_kernels import utf8_part
from lakeflight.wire.words import WORD_BYTES, copy_bytes, is_plain, load_word, store_word

NUMBER_TEXT_BYTES_MAX: Final = 32

_TRUE: Final = np.frombuffer(b"true", np.uint8)
_FALSE: Final = np.frombuffer(b"false", np.uint8)
_BASE64: Final = np.frombuffer(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", np.uint8)

_bytes = types.Array(types.uint8, 1, "C", readonly=True)
_u8 = types.uint8[::1]
_i32 = types.int32[::1]
_int = types.int64


# --- fields -----------------------------------------------------------------------------------------------------------


@njit(**INLINED)
def next_varint(buffer: Any, at: Any, end: Any) -> Any:
    """A number and where it ends; -1: it does not."""
    value = np.int64(0)
    shift = np.int64(0)
    if at < end and buffer[np.uint64(at)] < 0x80:  # most are short
        return np.int64(buffer[np.uint64(at)]), at + 1
    while at < end and shift < 70:
        byte = np.int64(buffer[np.uint64(at)])
        at += 1
        if shift < 64:
            value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    return value, np.int64(-1)


@njit(**INLINED)
def next_field(buffer: Any, at: Any, end: Any) -> Any:
    """The field at ``at``: number, wire type, value or where it starts, length, where it ends (-1: damaged)."""
    tag, at = next_varint(buffer, at, end)
    number = tag >> 3
    wire = tag & 7
    bad = np.int64(-1)
    if at < 0 or number <= 0 or number > 0x1FFFFFFF:
        return number, wire, bad, bad, bad
    if wire == 0:
        value, at = next_varint(buffer, at, end)
        return number, wire, value, np.int64(0), at
    if wire == 2:
        length, at = next_varint(buffer, at, end)
        if at < 0 or length < 0 or length > end - at:
            return number, wire, bad, bad, bad
        return number, wire, at, length, at + length
    size = np.int64(8) if wire == 1 else np.int64(4)
    if (wire != 1 and wire != 5) or size > end - at:
        return number, wire, bad, bad, bad
    if wire == 1:
        return number, wire, np.int64(load_word(buffer, at)), size, at + size
    value = np.int64(0)
    for step in range(size):
        value |= np.int64(buffer[np.uint64(at + step)]) << (8 * step)
    return number, wire, value, size, at + size


# --- JSON -------------------------------------------------------------------------------------------------------------


@njit(types.int64(_bytes, _int, _int, _u8, _int, types.boolean), **KERNEL)
def put_text(buffer: Any, at: Any, length: Any, out: Any, to: Any, quoted: Any) -> Any:
    """UTF-8, with U+FFFD for what is none; ``quoted``: as a JSON string. Returns where it ends."""
    end = at + length
    if quoted:
        out[to] = 0x22
        to += 1
    while at < end:
        while at + WORD_BYTES <= end:  # what most text is made of
            word = load_word(buffer, at)
            if not is_plain(word):
                break
            store_word(out, to, word)
            at += WORD_BYTES
            to += WORD_BYTES
        if at == end:
            break
        byte = np.int64(buffer[np.uint64(at)])
        if byte < 0x80 and byte >= 0x20 and byte != 0x22 and byte != 0x5C:
            out[np.uint64(to)] = byte
            at += 1
            to += 1
            continue
        if byte >= 0x80:
            part = utf8_part(buffer, at, end)
            if part > 0:
                to = copy_bytes(buffer, at, part, out, to)
                at += part
            else:
                at -= part
                out[to] = 0xEF
                out[to + 1] = 0xBF
                out[to + 2] = 0xBD
                to += 3
            continue
        at += 1
        if not quoted:
            out[to] = byte
            to += 1
            continue
        letter = byte
        if byte == 0x08:
            letter = np.int64(0x62)
        elif byte == 0x09:
            letter = np.int64(0x74)
        elif byte == 0x0A:
            letter = np.int64(0x6E)
        elif byte == 0x0C:
            letter = np.int64(0x66)
        elif byte == 0x0D:
            letter = np.int64(0x72)
        out[to] = 0x5C
        if letter < 0x20:
            out[to + 1] = 0x75
            out[to + 2] = 0x30
            out[to + 3] = 0x30
            out[to + 4] = 0x30 + (byte >> 4)
            letter = (0x30 if (byte & 0xF) < 10 else 0x57) + (byte & 0xF)
            to += 4
        out[to + 1] = letter
        to += 2
    if quoted:
        out[to] = 0x22
        to += 1
    return to


@njit(**HELPER)
def put_number(value: Any, out: Any, to: Any) -> Any:
    if value < 0:
        out[to] = 0x2D
        to += 1
    digits = np.int64(1)
    rest = value // 10 if value >= 0 else -(value // 10 + (1 if value % 10 else 0))
    probe = rest
    while probe > 0:
        probe //= 10
        digits += 1
    last = value % 10 if value >= 0 else (10 - value % 10) % 10
    out[to + digits - 1] = 0x30 + last
    for step in range(digits - 1):
        out[to + digits - 2 - step] = 0x30 + rest % 10
        rest //= 10
    return to + digits


@njit(**HELPER)
def put_hex(buffer: Any, at: Any, length: Any, out: Any, to: Any) -> Any:
    out[to] = 0x22
    to += 1
    for step in range(length):
        byte = np.int64(buffer[at + step])
        for half in (byte >> 4, byte & 0xF):
            out[to] = (0x30 if half < 10 else 0x57) + half
            to += 1
    out[to] = 0x22
    return to + 1


@njit(**HELPER)
def put_base64(buffer: Any, at: Any, length: Any, out: Any, to: Any) -> Any:
    end = at + length
    while at < end:
        left = end - at
        group = np.int64(buffer[at]) << 16
        if left > 1:
            group |= np.int64(buffer[at + 1]) << 8
        if left > 2:
            group |= np.int64(buffer[at + 2])
        out[to] = _BASE64[group >> 18 & 63]
        out[to + 1] = _BASE64[group >> 12 & 63]
        out[to + 2] = _BASE64[group >> 6 & 63] if left > 1 else 0x3D
        out[to + 3] = _BASE64[group & 63] if left > 2 else 0x3D
        to += 4
        at += 3
    return to


@njit(**HELPER)
def find_double(bits: Any, known: Any) -> Any:
    """Where a double is among all that there are, in order."""
    low = np.int64(0)
    high = np.int64(len(known))
    while low < high:
        middle = (low + high) // 2
        if known[middle] < bits:
            low = middle + 1
        else:
            high = middle
    return low


@njit(types.int64(_int, _u8, _i32, _u8, _int, types.boolean), **KERNEL)
def put_double(number: Any, texts: Any, text_offsets: Any, out: Any, to: Any, quoted: Any) -> Any:
    """The text of a double. As text of its own it loses ``.0``."""
    at = np.int64(text_offsets[number])
    length = np.int64(text_offsets[number + 1]) - at
    if not quoted:
        if texts[at] == 0x22:
            at += 1
            length -= 2
        elif length > 2 and texts[at + length - 2] == 0x2E and texts[at + length - 1] == 0x30:
            length -= 2
    return copy_bytes(texts, at, length, out, to)


@njit(**HELPER)
def put_bool(value: Any, out: Any, to: Any) -> Any:
    return copy_bytes(_TRUE, 0, 4, out, to) if value else copy_bytes(_FALSE, 0, 5, out, to)
