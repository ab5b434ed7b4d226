"""Compiled loops over text: columns of sound UTF-8 out of whatever codecs say, and canonical JSON out of properties.

Bytes that are no UTF-8 (or UTF-16) become U+FFFD, one for each maximal ill-formed part, as Python replaces them, except
where the format demands valid UTF-8. Texts that are sound already lie one behind the other, as in Arrow: text ``i`` is
``text[offsets[i]:offsets[i + 1]]``. Positions were checked by the kernels that found them; errors are reported as
there, and the same options hold (``kernels``).
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import njit, types

from lakeflight.wire.compiled import HELPER, KERNEL
from lakeflight.wire.transit.kernels import IS_DESCRIPTION, IS_PROPERTIES, TEXT_REFERENCE, TEXT_REPAIR, TEXT_STRICT

_ODD_WIDE_STRING: Final = 9
_NOT_UTF8: Final = 10
_LONG_PROPERTIES: Final = 20

_WIDE: Final = 1

_bytes = types.Array(types.uint8, 1, "C", readonly=True)
_u8 = types.uint8[::1]
_i32 = types.int32[::1]
_i64 = types.int64[::1]
_rows = types.int32[:, ::1]
_int = types.int64


# --- text of the wire -------------------------------------------------------------------------------------------------


@njit(**HELPER)
def utf8_part(buffer: Any, at: Any, end: Any) -> Any:
    """Length of the character at ``at``; negative: length of a maximal ill-formed part, which one U+FFFD replaces."""
    lead = buffer[at]
    if lead < 0x80:
        return np.int64(1)
    low = 0x80
    high = 0xBF
    if 0xC2 <= lead <= 0xDF:
        more = 1
    elif 0xE0 <= lead <= 0xEF:
        more = 2
        if lead == 0xE0:
            low = 0xA0
        elif lead == 0xED:
            high = 0x9F
    elif 0xF0 <= lead <= 0xF4:
        more = 3
        if lead == 0xF0:
            low = 0x90
        elif lead == 0xF4:
            high = 0x8F
    else:
        return np.int64(-1)
    for step in range(1, more + 1):
        if at + step >= end or buffer[at + step] < low or buffer[at + step] > high:
            return np.int64(-step)
        low = 0x80
        high = 0xBF
    return np.int64(more + 1)


@njit(**HELPER)
def _wide_unit(buffer: Any, at: Any, end: Any) -> Any:
    """The code point at ``at`` of UTF-16; an unpaired surrogate is U+FFFD. Two units lie above 0xFFFF."""
    unit = np.int64(buffer[at]) | np.int64(buffer[at + 1]) << 8
    if unit < 0xD800 or unit > 0xDFFF:
        return unit
    if unit < 0xDC00 and at + 4 <= end:
        low = np.int64(buffer[at + 2]) | np.int64(buffer[at + 3]) << 8
        if 0xDC00 <= low <= 0xDFFF:
            return 0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00)
    return np.int64(0xFFFD)


@njit(types.int64(_bytes, _i64, _i64, _u8, _i32, _i64, _i64), **KERNEL)
def measure_text(
    buffer: Any, starts: Any, lengths: Any, sources: Any, reference_offsets: Any, out_lengths: Any, outcome: Any
) -> Any:
    """Bytes of each row's text in UTF-8. Returns the sum; rows that need repair are marked in ``sources``.

    A row that has no text is empty.
    """
    total = np.int64(0)
    for row in range(len(starts)):
        source = sources[row]
        size = np.int64(0)
        if source == TEXT_REFERENCE:
            size = np.int64(reference_offsets[starts[row] + 1]) - np.int64(reference_offsets[starts[row]])
        elif source == _WIDE:
            at = starts[row]
            end = at + lengths[row]
            if lengths[row] & 1:
                outcome[0], outcome[1], outcome[2] = _ODD_WIDE_STRING, row, lengths[row]
                return total
            while at < end:
                point = _wide_unit(buffer, at, end)
                at += 2
                if point < 0x80:
                    size += 1
                elif point < 0x800:
                    size += 2
                elif point < 0x10000:
                    size += 3
                else:
                    size += 4
                    at += 2
        elif source < IS_DESCRIPTION:
            at = starts[row]
            end = at + lengths[row]
            sound = True
            high = np.uint8(0)
            for where in range(at, end):
                high |= buffer[np.uint64(where)]
            if high < 0x80:
                size = lengths[row]
            else:
                while at < end:
                    part = utf8_part(buffer, at, end)
                    if part > 0:
                        at += part
                        size += part
                    else:
                        at -= part
                        size += 3
                        sound = False
            if not sound:
                if source == TEXT_STRICT:
                    outcome[0], outcome[1], outcome[2] = _NOT_UTF8, row, lengths[row]
                    return total
                sources[row] = TEXT_REPAIR
        out_lengths[row] = size
        total += size
    return total


@njit(types.void(_bytes, _i64, _i64, _u8, _i64, _u8, _i32, _i32, _u8), **KERNEL)
def write_text(
    buffer: Any,
    starts: Any,
    lengths: Any,
    sources: Any,
    out_lengths: Any,
    reference_text: Any,
    reference_offsets: Any,
    out_offsets: Any,
    out: Any,
) -> None:
    """Write the texts that were measured, one behind the other, and where each starts."""
    to = np.int64(0)
    out_offsets[0] = 0
    for row in range(len(starts)):
        source = sources[row]
        if source == TEXT_REFERENCE:
            at = np.int64(reference_offsets[starts[row]])
            for step in range(out_lengths[row]):
                out[np.uint64(to + step)] = reference_text[np.uint64(at + step)]
            to += out_lengths[row]
        elif source == _WIDE:
            at = starts[row]
            end = at + lengths[row]
            while at < end:
                point = _wide_unit(buffer, at, end)
                at += 2
                if point < 0x80:
                    out[to] = point
                    to += 1
                elif point < 0x800:
                    out[to] = 0xC0 | point >> 6
                    out[to + 1] = 0x80 | point & 0x3F
                    to += 2
                elif point < 0x10000:
                    out[to] = 0xE0 | point >> 12
                    out[to + 1] = 0x80 | point >> 6 & 0x3F
                    out[to + 2] = 0x80 | point & 0x3F
                    to += 3
                else:
                    out[to] = 0xF0 | point >> 18
                    out[to + 1] = 0x80 | point >> 12 & 0x3F
                    out[to + 2] = 0x80 | point >> 6 & 0x3F
                    out[to + 3] = 0x80 | point & 0x3F
                    to += 4
                    at += 2
        elif source == TEXT_REPAIR:
            at = starts[row]
            end = at + lengths[row]
            while at < end:
                part = utf8_part(buffer, at, end)
                if part > 0:
                    for step in range(part):
                        out[to + step] = buffer[at + step]
                    at += part
                    to += part
                else:
                    at -= part
                    out[to] = 0xEF
                    out[to + 1] = 0xBF
                    out[to + 2] = 0xBD
                    to += 3
        elif source < IS_DESCRIPTION:
            at = starts[row]
            for step in range(lengths[row]):
                out[np.uint64(to + step)] = buffer[np.uint64(at + step)]
            to += lengths[row]
        out_offsets[row + 1] = to


# --- sound text -------------------------------------------------------------------------------------------------------


@njit(types.void(_u8, _i32, _u8, _i32, _u8, _i64, _i64, _i32, _i32, _rows), **KERNEL)
def find_properties(
    text: Any,
    offsets: Any,
    words: Any,
    word_offsets: Any,
    sources: Any,
    starts: Any,
    lengths: Any,
    pairs: Any,
    out_words: Any,
    out_values: Any,
) -> None:
    """Look for properties by name. The first words, as many as ``out_values`` has columns, are the names.

    ``out_words`` receives the number of the word that a text is, or -1; ``out_values`` the ordinal of each set's value,
    of a doubled name the last, or -1.
    """
    for ordinal in range(len(sources)):
        out_words[ordinal] = -1
        if sources[ordinal] >= IS_DESCRIPTION:
            continue
        at = np.int64(offsets[ordinal])
        length = np.int64(offsets[ordinal + 1]) - at
        for word in range(len(word_offsets) - 1):
            begin = np.int64(word_offsets[word])
            if np.int64(word_offsets[word + 1]) - begin == length:
                step = np.int64(0)
                while step < length and text[at + step] == words[begin + step]:
                    step += 1
                if step == length:
                    out_words[ordinal] = word
    for ordinal in range(len(sources)):
        if sources[ordinal] != IS_PROPERTIES:
            continue
        for which in range(out_values.shape[1]):
            out_values[ordinal, which] = -1
        for pair in range(starts[ordinal], starts[ordinal] + lengths[ordinal]):
            word = out_words[pairs[2 * pair]]
            if 0 <= word < out_values.shape[1]:
                out_values[ordinal, word] = pairs[2 * pair + 1]


# --- JSON -------------------------------------------------------------------------------------------------------------


@njit(**HELPER)
def _compare(text: Any, offsets: Any, one: Any, other: Any) -> Any:
    """Negative, zero or positive, as one text comes before the other; the order of bytes is that of code points."""
    if one == other:
        return np.int64(0)
    at = np.int64(offsets[one])
    with_at = np.int64(offsets[other])
    length = np.int64(offsets[one + 1]) - at
    with_length = np.int64(offsets[other + 1]) - with_at
    for step in range(min(length, with_length)):
        difference = np.int64(text[np.uint64(at + step)]) - np.int64(text[np.uint64(with_at + step)])
        if difference != 0:
            return difference
    return length - with_length


@njit(**HELPER)
def _sort_by_name(text: Any, offsets: Any, pairs: Any, order: Any, spare: Any, count: Any) -> None:
    """Put the first ``count`` pairs of ``order`` in the order of their names; of equal names, the earlier stays so.

    Merges, because no input makes that slow: a round compares no more bytes than the names have.
    """
    width = 1
    while width < count:
        for low in range(0, count, 2 * width):
            middle = min(low + width, count)
            high = min(low + 2 * width, count)
            left = low
            right = middle
            for to in range(low, high):
                if left < middle and (
                    right >= high or _compare(text, offsets, pairs[2 * order[left]], pairs[2 * order[right]]) <= 0
                ):
                    spare[to] = order[left]
                    left += 1
                else:
                    spare[to] = order[right]
                    right += 1
        for to in range(count):
            order[to] = spare[to]
        width *= 2


@njit(**HELPER)
def _escaped_length(text: Any, offsets: Any, ordinal: Any) -> Any:
    """Bytes of a text as a JSON string, quotes included."""
    length = np.int64(2)
    for at in range(offsets[ordinal], offsets[ordinal + 1]):
        byte = text[np.uint64(at)]
        if byte < 0x20:
            length += 2 if byte in (0x08, 0x09, 0x0A, 0x0C, 0x0D) else 6
        else:
            length += 2 if byte in (0x22, 0x5C) else 1
    return length


@njit(types.int64(_i32, _i64, _i64, _i32, _u8, _i32, _int, _i32, _i32, _i32, _i32, _i32, _i64), **KERNEL)
def measure_json(
    sets: Any,
    starts: Any,
    lengths: Any,
    pairs: Any,
    text: Any,
    offsets: Any,
    bytes_max: Any,
    order: Any,
    spare: Any,
    out_pairs: Any,
    out_counts: Any,
    out_offsets: Any,
    outcome: Any,
) -> Any:
    """What the JSON objects of these property sets hold, and where each starts. Returns the sum of their bytes.

    ``out_pairs`` receives each set's pairs in the order of their names, of equal names the last alone; ``out_counts``
    how many they are. ``bytes_max`` is what the texts of all pairs may sum up to.
    """
    raw = np.int64(0)
    for row in range(len(sets)):  # before anything is done: many sets may share a few long texts
        for pair in range(starts[sets[row]], starts[sets[row]] + lengths[sets[row]]):
            for text_of in range(2 * pair, 2 * pair + 2):
                raw += np.int64(offsets[pairs[text_of] + 1]) - np.int64(offsets[pairs[text_of]])
        if raw > bytes_max:
            outcome[0], outcome[1], outcome[2] = _LONG_PROPERTIES, sets[row], bytes_max
            return raw
    total = np.int64(0)
    to = np.int64(0)
    out_offsets[0] = 0
    for row in range(len(sets)):
        length = lengths[sets[row]]
        for step in range(length):
            order[step] = starts[sets[row]] + step
        _sort_by_name(text, offsets, pairs, order, spare, length)
        count = np.int64(0)
        total += 2
        for step in range(length):
            name = pairs[2 * order[step]]
            value = pairs[2 * order[step] + 1]
            if step + 1 < length and _compare(text, offsets, name, pairs[2 * order[step + 1]]) == 0:
                continue
            out_pairs[2 * to] = name
            out_pairs[2 * to + 1] = value
            total += _escaped_length(text, offsets, name) + _escaped_length(text, offsets, value)
            total += 1 if count == 0 else 2
            to += 1
            count += 1
        out_counts[row] = count
        out_offsets[row + 1] = total
    return total


@njit(**HELPER)
def _write_escaped(text: Any, offsets: Any, ordinal: Any, to: Any, out: Any) -> Any:
    """A JSON string. Returns where it ends."""
    out[to] = 0x22
    to += 1
    for at in range(offsets[ordinal], offsets[ordinal + 1]):
        byte = text[np.uint64(at)]
        if byte >= 0x20 and byte != 0x22 and byte != 0x5C:
            out[to] = byte
            to += 1
            continue
        out[to] = 0x5C
        letter = byte
        if byte == 0x08:
            letter = 0x62
        elif byte == 0x09:
            letter = 0x74
        elif byte == 0x0A:
            letter = 0x6E
        elif byte == 0x0C:
            letter = 0x66
        elif byte == 0x0D:
            letter = 0x72
        elif byte < 0x20:
            out[to + 1] = 0x75
            out[to + 2] = 0x30
            out[to + 3] = 0x30
            out[to + 4] = 0x30 + (byte >> 4)
            letter = (0x30 if byte & 0xF < 10 else 0x57) + np.int64(byte & 0xF)
            to += 4
        out[to + 1] = letter
        to += 2
    out[to] = 0x22
    return to + 1


@njit(types.void(_i32, _i32, _u8, _i32, _u8), **KERNEL)
def write_json(pairs: Any, counts: Any, text: Any, offsets: Any, out: Any) -> None:
    """Write the objects that were measured, one behind the other: no spaces, only ASCII escaped that must be."""
    to = np.int64(0)
    pair = np.int64(0)
    for row in range(len(counts)):
        out[to] = 0x7B
        to += 1
        for step in range(counts[row]):
            if step > 0:
                out[to] = 0x2C
                to += 1
            to = _write_escaped(text, offsets, pairs[2 * pair], to, out)
            out[to] = 0x3A
            to = _write_escaped(text, offsets, pairs[2 * pair + 1], to + 1, out)
            pair += 1
        out[to] = 0x7D
        to += 1


def warm_up() -> None:
    """Run every kernel once on next to nothing, so that their machine code is loaded before the first block."""
    buffer = np.zeros(17, np.uint8)
    buffer.flags.writeable = False
    i32, i64, u8, outcome = np.zeros(8, np.int32), np.zeros(8, np.int64), np.zeros(17, np.uint8), np.zeros(4, np.int64)
    texts = (np.zeros(1, np.int64), np.ones(1, np.int64), np.full(1, TEXT_STRICT, np.uint8))
    measure_text(buffer, *texts, i32, i64, outcome)
    write_text(buffer, *texts, i64, u8, i32, i32.copy(), u8.copy())
    one = np.full(1, IS_PROPERTIES, np.uint8)
    find_properties(u8, i32, u8, i32, one, i64, i64, i32, i32.copy(), np.zeros((1, 1), np.int32))
    out = (i32.copy(), i32.copy(), i32.copy(), i32.copy(), i32.copy())
    measure_json(i32[:1], i64, i64, i32, u8, i32, 9, *out, outcome)
    write_json(i32, i32[:1], u8, i32, u8.copy())


__all__ = [
    "find_properties",
    "measure_json",
    "measure_text",
    "warm_up",
    "write_json",
    "write_text",
]
