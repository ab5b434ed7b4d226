"""Compiled loops over encoded protobuf: the fields of many messages into columns, and attributes into JSON text.

Many blocks lie in one buffer, and a message is a range of it. Each kernel checks every bound before it reads; what is
damaged is reported for the block that it is in, and nothing is raised. Nothing here knows a message of OTLP by name, except
``AnyValue`` and ``KeyValue``, of which attributes are made.

Signatures are fixed, so no input can start a compilation.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Final

import numpy as np
from numba import njit, types

from lakeflight.wire.transit.text_kernels import utf8_part


class Fault(IntEnum):
    """What is wrong with a block: the first thing that was found."""

    NONE = 0
    DAMAGED = 1  # a field that does not end where its message does
    TOO_DEEP = 2  # values in values
    TOO_LONG = 3  # as text


# literals for the compiled code, which cannot read an enum cheaply
_DAMAGED: Final = 1
_TOO_DEEP: Final = 2

DEPTH_MAX: Final = 100  # of values in values; what protobuf's own parsers read

# wire types, as kinds of wanted fields
VARINT: Final = 0
FIXED64: Final = 1
LENGTH_DELIMITED: Final = 2
FIXED32: Final = 5
REPEATED: Final = 8  # length-delimited, and only counted

# how the value of an entry of an object is kept
ENTRY_ANY: Final = 0  # an encoded AnyValue
ENTRY_TEXT: Final = 1
ENTRY_HEX: Final = 2
ENTRY_NUMBER: Final = 3  # in place of where it starts
ENTRY_LITERAL: Final = 4  # JSON as it is
ENTRY_OBJECT: Final = 5  # the number of another object, in place of where it starts

DOUBLE_TEXT_BYTES_MAX: Final = 32
_FEW: Final = 12  # entries
_NULL: Final = np.frombuffer(b"null", np.uint8)
_TRUE: Final = np.frombuffer(b"true", np.uint8)
_FALSE: Final = np.frombuffer(b"false", np.uint8)
_BASE64: Final = np.frombuffer(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", np.uint8)

_bytes = types.Array(types.uint8, 1, "C", readonly=True)
_u8 = types.uint8[::1]
_i32 = types.int32[::1]
_i64 = types.int64[::1]
_table = types.int64[:, ::1]
_ranges = types.int64[:, :, ::1]
_int = types.int64
_tuple: Any = types.Tuple
_entries = _tuple((_i64, _i64, _u8, _i64, _i64))  # keys, their lengths, kinds, values, their lengths
_doubles = _tuple((_i64, _u8, _i32))  # bits in order; their texts, and where each starts
_OPTIONS: Final[dict[str, Any]] = {"nogil": True, "cache": True}


# --- fields -----------------------------------------------------------------------------------------------------------


@njit(nogil=True)
def _varint(buffer: Any, at: Any, end: Any) -> Any:
    """A number and where it ends; -1: it does not."""
    value = np.int64(0)
    shift = np.int64(0)
    while at < end and shift < 70:
        byte = np.int64(buffer[np.uint64(at)])
        at += 1
        if shift < 64:
            value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    return value, np.int64(-1)


@njit(nogil=True)
def _field(buffer: Any, at: Any, end: Any) -> Any:
    """The field at ``at``: number, wire type, value or where it starts, length, where it ends (-1: damaged)."""
    tag, at = _varint(buffer, at, end)
    number = tag >> 3
    wire = tag & 7
    bad = np.int64(-1)
    if at < 0 or number <= 0 or number > 0x1FFFFFFF:
        return number, wire, bad, bad, bad
    if wire == 0:
        value, at = _varint(buffer, at, end)
        return number, wire, value, np.int64(0), at
    if wire == 2:
        length, at = _varint(buffer, at, end)
        if at < 0 or length < 0 or length > end - at:
            return number, wire, bad, bad, bad
        return number, wire, at, length, at + length
    size = np.int64(8) if wire == 1 else np.int64(4)
    if (wire != 1 and wire != 5) or size > end - at:
        return number, wire, bad, bad, bad
    value = np.int64(0)
    for step in range(size):
        value |= np.int64(buffer[np.uint64(at + step)]) << (8 * step)
    return number, wire, value, size, at + size


@njit(types.void(_bytes, _i64, _i64, _i64, _i64, _i64, _table, _table, _i64), **_OPTIONS)
def read_fields(
    buffer: Any,
    starts: Any,
    ends: Any,
    blocks: Any,
    columns: Any,
    kinds: Any,
    out_values: Any,
    out_lengths: Any,
    faults: Any,
) -> None:
    """The wanted fields of messages: a value, or where it starts; how long it is, -1 where there is none.

    ``columns`` has the column of a field by its number, -1 for what is not wanted; ``kinds`` what a column takes. Of a field
    that comes twice the last counts, and one of another wire type is not there, as protobuf has it.
    """
    for row in range(len(starts)):
        for column in range(len(kinds)):
            out_values[row, column] = 0
            out_lengths[row, column] = -1
        at = starts[row]
        end = ends[row]
        while at < end:
            number, wire, value, length, at = _field(buffer, at, end)
            if at < 0:
                faults[blocks[row]] = _DAMAGED
                break
            if number < len(columns) and columns[number] >= 0:
                column = columns[number]
                if kinds[column] == wire:
                    out_values[row, column] = value
                    out_lengths[row, column] = length
                elif kinds[column] == REPEATED and wire == 2:
                    out_values[row, column] += 1


@njit(types.void(_bytes, _i64, _i64, _int, _i64, _i64, _i64), **_OPTIONS)
def list_children(
    buffer: Any, starts: Any, ends: Any, wanted: Any, firsts: Any, out_starts: Any, out_ends: Any
) -> None:
    """Where the messages of a repeated field lie; ``firsts`` has where those of each message go."""
    for row in range(len(starts)):
        at = starts[row]
        end = ends[row]
        to = firsts[row]
        while at < end and to < firsts[row + 1]:
            number, wire, value, length, at = _field(buffer, at, end)
            if at < 0:
                break
            if number == wanted and wire == 2:
                out_starts[to] = value
                out_ends[to] = value + length
                to += 1


# --- JSON -------------------------------------------------------------------------------------------------------------


@njit(nogil=True)
def _compare(buffer: Any, one: Any, one_length: Any, other: Any, other_length: Any) -> Any:
    """Negative, zero or positive; the order of bytes is that of code points."""
    for step in range(min(one_length, other_length)):
        difference = np.int64(buffer[np.uint64(one + step)]) - np.int64(buffer[np.uint64(other + step)])
        if difference != 0:
            return difference
    return one_length - other_length


@njit(nogil=True)
def _sort_by_key(buffer: Any, starts: Any, lengths: Any, order: Any, spare: Any, count: Any) -> None:
    """Put the first ``count`` entries of ``order`` in the order of their keys; of equal keys, the earlier stays so.

    Merges, because no input makes that slow; a few are put in their places.
    """
    if count <= _FEW:
        for step in range(1, count):
            entry = order[step]
            to = step
            while to > 0:
                before = order[to - 1]
                if _compare(buffer, starts[before], lengths[before], starts[entry], lengths[entry]) <= 0:
                    break
                order[to] = before
                to -= 1
            order[to] = entry
        return
    width = 1
    while width < count:
        for low in range(0, count, 2 * width):
            middle = min(low + width, count)
            high = min(low + 2 * width, count)
            left = low
            right = middle
            for to in range(low, high):
                if left < middle and (
                    right >= high
                    or _compare(
                        buffer,
                        starts[order[left]],
                        lengths[order[left]],
                        starts[order[right]],
                        lengths[order[right]],
                    )
                    <= 0
                ):
                    spare[to] = order[left]
                    left += 1
                else:
                    spare[to] = order[right]
                    right += 1
        for to in range(count):
            order[to] = spare[to]
        width *= 2


@njit(nogil=True)
def _copy(source: Any, at: Any, length: Any, out: Any, to: Any) -> Any:
    for step in range(length):
        out[np.uint64(to + step)] = source[np.uint64(at + step)]
    return to + length


@njit(nogil=True)
def _text(buffer: Any, at: Any, length: Any, out: Any, to: Any, quoted: Any) -> Any:
    """UTF-8, with U+FFFD for what is none; ``quoted``: as a JSON string. Returns where it ends."""
    end = at + length
    if quoted:
        out[to] = 0x22
        to += 1
    while at < end:
        byte = np.int64(buffer[np.uint64(at)])
        while byte < 0x80 and byte >= 0x20 and byte != 0x22 and byte != 0x5C:  # what most text is made of
            out[np.uint64(to)] = byte
            at += 1
            to += 1
            if at == end:
                break
            byte = np.int64(buffer[np.uint64(at)])
        if at == end:
            break
        if byte >= 0x80:
            part = utf8_part(buffer, at, end)
            if part > 0:
                to = _copy(buffer, at, part, out, to)
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


@njit(nogil=True)
def _number(value: Any, out: Any, to: Any) -> Any:
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


@njit(nogil=True)
def _hex(buffer: Any, at: Any, length: Any, out: Any, to: Any) -> Any:
    out[to] = 0x22
    to += 1
    for step in range(length):
        byte = np.int64(buffer[at + step])
        for half in (byte >> 4, byte & 0xF):
            out[to] = (0x30 if half < 10 else 0x57) + half
            to += 1
    out[to] = 0x22
    return to + 1


@njit(nogil=True)
def _base64(buffer: Any, at: Any, length: Any, out: Any, to: Any) -> Any:
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


@njit(nogil=True)
def _double(bits: Any, doubles: Any, out: Any, to: Any, quoted: Any) -> Any:
    """The text of a double; ``doubles`` has all that there are, in order. As text of its own it loses ``.0``."""
    known, text, offsets = doubles
    low = np.int64(0)
    high = np.int64(len(known))
    while low < high:
        middle = (low + high) // 2
        if known[middle] < bits:
            low = middle + 1
        else:
            high = middle
    at = np.int64(offsets[low])
    length = np.int64(offsets[low + 1]) - at
    if not quoted:
        if text[at] == 0x22:
            at += 1
            length -= 2
        elif length > 2 and text[at + length - 2] == 0x2E and text[at + length - 1] == 0x30:
            length -= 2
    return _copy(text, at, length, out, to)


@njit(nogil=True)
def _pair(buffer: Any, at: Any, end: Any) -> Any:
    """Of a ``KeyValue``: where its key starts, how long it is, the same of its value, and whether it is sound."""
    key = np.int64(0)
    key_length = np.int64(0)
    value = np.int64(0)
    value_length = np.int64(0)
    while at < end:
        number, wire, found, found_length, at = _field(buffer, at, end)
        if at < 0:
            return key, key_length, value, value_length, False
        if wire == 2 and number == 1:
            key, key_length = found, found_length
        elif wire == 2 and number == 2:
            value, value_length = found, found_length
    return key, key_length, value, value_length, True


# Values in values are walked with a stack of frames: compiled code that calls itself cannot be kept in numba's cache.
# columns of a frame
_KIND: Final = 0  # 5 array, 6 map
_AT: Final = 1  # the next member: where it lies, of a map that is written its number
_END: Final = 2
_COUNT: Final = 3  # members so far
_FRAME_COLUMNS: Final = 4
# rows of what is kept of the members of maps while they are written
_MEMBER_KEY: Final = 0
_MEMBER_KEY_LENGTH: Final = 1
_MEMBER_VALUE: Final = 2
_MEMBER_LENGTH: Final = 3
_MEMBER_ORDER: Final = 4
_MEMBER_SPARE: Final = 5
_MEMBER_ROWS: Final = 6


@njit(nogil=True)
def _alternative(buffer: Any, at: Any, end: Any) -> Any:
    """What an ``AnyValue`` is: the field that it has, its value or where it starts, its length. -1: it is damaged."""
    kind = np.int64(0)
    value = np.int64(0)
    length = np.int64(0)
    while at < end:
        number, wire, found, found_length, at = _field(buffer, at, end)
        if at < 0:
            return np.int64(-1), value, length
        if number == 2 or number == 3:
            fits = wire == 0
        elif number == 4:
            fits = wire == 1
        else:
            fits = wire == 2 and 1 <= number <= 7
        if fits:
            kind, value, length = number, found, found_length
    return kind, value, length


@njit(nogil=True)
def _bound_any(buffer: Any, at: Any, end: Any, doubles: Any, counts: Any, frames: Any) -> Any:
    """How long the JSON of an ``AnyValue`` is at most; a negative number is a fault.

    Its doubles are added to ``doubles``, ``counts[0]`` of them so far; ``counts[1]`` becomes the most members that the
    maps of one value have.
    """
    total = np.int64(0)
    members = np.int64(0)
    depth = np.int64(0)
    while True:
        kind, value, length = _alternative(buffer, at, end)
        if kind < 0:
            return np.int64(-_DAMAGED)
        if kind == 1:
            total += 6 * length + 2
        elif kind == 4:
            doubles[counts[0]] = value
            counts[0] += 1
            total += DOUBLE_TEXT_BYTES_MAX
        elif kind == 7:
            total += 2 * length + 8
        elif kind < 5:
            total += 24
        else:
            if depth == DEPTH_MAX:
                return np.int64(-_TOO_DEEP)
            frames[depth, _KIND] = kind
            frames[depth, _AT] = value
            frames[depth, _END] = value + length
            depth += 1
            total += 2
        is_found = False
        while depth > 0 and not is_found:
            frame = depth - 1
            end_of_frame = frames[frame, _END]
            if frames[frame, _AT] >= end_of_frame:
                depth -= 1
                continue
            number, wire, found, found_length, after = _field(buffer, frames[frame, _AT], end_of_frame)
            if after < 0:
                return np.int64(-_DAMAGED)
            frames[frame, _AT] = after
            if number != 1 or wire != 2:
                continue
            if frames[frame, _KIND] == 6:
                members += 1
                _, key_length, found, found_length, sound = _pair(buffer, found, found + found_length)
                if not sound:
                    return np.int64(-_DAMAGED)
                total += 6 * key_length + 3
            total += 1
            at = found
            end = found + found_length
            is_found = True
        if not is_found:
            counts[1] = max(counts[1], members)
            return total


@njit(nogil=True)
def _load_members(buffer: Any, at: Any, end: Any, members: Any, top: Any) -> Any:
    """Put the pairs of a map behind those that are there, in the order of their keys. Returns where they end."""
    base = top
    while at < end:
        number, wire, found, found_length, at = _field(buffer, at, end)
        if number != 1 or wire != 2:
            continue
        key, key_length, value, value_length, _ = _pair(buffer, found, found + found_length)
        members[_MEMBER_KEY, top] = key
        members[_MEMBER_KEY_LENGTH, top] = key_length
        members[_MEMBER_VALUE, top] = value
        members[_MEMBER_LENGTH, top] = value_length
        members[_MEMBER_ORDER, top] = top
        top += 1
    _sort_by_key(
        buffer,
        members[_MEMBER_KEY],
        members[_MEMBER_KEY_LENGTH],
        members[_MEMBER_ORDER][base:top],
        members[_MEMBER_SPARE],
        top - base,
    )
    return top


@njit(nogil=True)
def _any(
    buffer: Any,
    at: Any,
    end: Any,
    doubles: Any,
    frames: Any,
    members: Any,
    out: Any,
    to: Any,
    quoted: Any,
) -> Any:
    """An ``AnyValue`` as JSON; it has been bounded before, so it is sound. Returns where it ends.

    ``quoted`` is not set for a value that is to be text by itself: then text has no quotes, and nothing is no text.
    """
    depth = np.int64(0)
    top = np.int64(0)
    while True:
        kind, value, length = _alternative(buffer, at, end)
        as_json = quoted or depth > 0
        if kind == 1:
            to = _text(buffer, value, length, out, to, as_json)
        elif kind == 2:
            to = _copy(_TRUE, 0, 4, out, to) if value else _copy(_FALSE, 0, 5, out, to)
        elif kind == 3:
            to = _number(value, out, to)
        elif kind == 4:
            to = _double(value, doubles, out, to, as_json)
        elif kind == 7:
            if as_json:
                out[to] = 0x22
                to += 1
            to = _base64(buffer, value, length, out, to)
            if as_json:
                out[to] = 0x22
                to += 1
        elif kind == 0:
            if as_json:
                to = _copy(_NULL, 0, 4, out, to)
        else:
            frames[depth, _KIND] = kind
            frames[depth, _COUNT] = 0
            frames[depth, _AT] = value
            frames[depth, _END] = value + length
            if kind == 6:
                frames[depth, _AT] = top
                top = _load_members(buffer, value, value + length, members, top)
                frames[depth, _END] = top
            depth += 1
            out[to] = 0x7B if kind == 6 else 0x5B
            to += 1
        is_found = False
        while depth > 0 and not is_found:
            frame = depth - 1
            if frames[frame, _KIND] == 6:
                next_member = frames[frame, _AT]
                end_of_frame = frames[frame, _END]
                while next_member + 1 < end_of_frame and _is_same_key(buffer, members, next_member):
                    next_member += 1
                if next_member < end_of_frame:
                    member = members[_MEMBER_ORDER, next_member]
                    at = members[_MEMBER_VALUE, member]
                    end = at + members[_MEMBER_LENGTH, member]
                    frames[frame, _AT] = next_member + 1
                    is_found = True
                    if frames[frame, _COUNT] > 0:
                        out[to] = 0x2C
                        to += 1
                    to = _text(buffer, members[_MEMBER_KEY, member], members[_MEMBER_KEY_LENGTH, member], out, to, True)
                    out[to] = 0x3A
                    to += 1
                else:
                    out[to] = 0x7D
                    to += 1
            else:
                while frames[frame, _AT] < frames[frame, _END] and not is_found:
                    number, wire, found, found_length, after = _field(buffer, frames[frame, _AT], frames[frame, _END])
                    frames[frame, _AT] = after
                    if number == 1 and wire == 2:
                        at = found
                        end = found + found_length
                        is_found = True
                if is_found:
                    if frames[frame, _COUNT] > 0:
                        out[to] = 0x2C
                        to += 1
                else:
                    out[to] = 0x5D
                    to += 1
            if is_found:
                frames[frame, _COUNT] += 1
            else:
                depth -= 1
        if not is_found:
            return to


@njit(nogil=True)
def _is_same_key(buffer: Any, members: Any, position: Any) -> Any:
    """Whether the member at a position, in order, has the key of the next."""
    one = members[_MEMBER_ORDER, position]
    other = members[_MEMBER_ORDER, position + 1]
    return (
        _compare(
            buffer,
            members[_MEMBER_KEY, one],
            members[_MEMBER_KEY_LENGTH, one],
            members[_MEMBER_KEY, other],
            members[_MEMBER_KEY_LENGTH, other],
        )
        == 0
    )


@njit(types.void(_bytes, _i64, _i64, _u8, _i64, _i64, _i64, _i64, _i64, _i64), **_OPTIONS)
def bound_entries(
    buffer: Any,
    key_lengths: Any,
    blocks: Any,
    kinds: Any,
    values: Any,
    lengths: Any,
    out_bounds: Any,
    doubles: Any,
    counts: Any,
    faults: Any,
) -> None:
    """How long each entry of an object is at most, its key and all punctuation included; collects the doubles in them.

    An entry that is an object itself counts as what is around it. ``counts`` receives how many doubles there are, and the
    most members that the maps of one value have.
    """
    frames = np.zeros((DEPTH_MAX, _FRAME_COLUMNS), np.int64)
    for row in range(len(values)):
        bound = np.int64(8)
        kind = kinds[row]
        if kind == ENTRY_ANY:
            size = _bound_any(buffer, values[row], values[row] + lengths[row], doubles, counts, frames)
            if size < 0:
                faults[blocks[row]] = -size
            else:
                bound += size
        elif kind == ENTRY_NUMBER:
            bound += 20
        elif kind != ENTRY_OBJECT:
            bound += 6 * lengths[row]
        out_bounds[row] = bound + 6 * key_lengths[row]


@njit(nogil=True)
def _entry(buffer: Any, entries: Any, row: Any, doubles: Any, frames: Any, members: Any, out: Any, to: Any) -> Any:
    """The key and the value of an entry; of an object, the caller writes the rest."""
    keys, key_lengths, kinds, values, lengths = entries
    to = _text(buffer, keys[row], key_lengths[row], out, to, True)
    out[to] = 0x3A
    to += 1
    kind = kinds[row]
    at = values[row]
    if kind == ENTRY_ANY:
        return _any(buffer, at, at + lengths[row], doubles, frames, members, out, to, True)
    if kind == ENTRY_TEXT:
        return _text(buffer, at, lengths[row], out, to, True)
    if kind == ENTRY_HEX:
        return _hex(buffer, at, lengths[row], out, to)
    if kind == ENTRY_NUMBER:
        return _number(at, out, to)
    if kind == ENTRY_LITERAL:
        return _copy(buffer, at, lengths[row], out, to)
    return to


@njit(nogil=True)
def _object(
    buffer: Any,
    entries: Any,
    ranges: Any,
    row: Any,
    order: Any,
    spare: Any,
    doubles: Any,
    frames: Any,
    members: Any,
    out: Any,
    to: Any,
) -> Any:
    """The entries of a few ranges as one object, sorted by their keys; of equal keys the last alone."""
    keys, key_lengths = entries[0], entries[1]
    count = np.int64(0)
    for which in range(ranges.shape[1]):
        for member in range(ranges[row, which, 0], ranges[row, which, 1]):
            order[count] = member
            count += 1
    _sort_by_key(buffer, keys, key_lengths, order, spare, count)
    out[to] = 0x7B
    to += 1
    is_first = True
    for step in range(count):
        member = order[step]
        if step + 1 < count:
            after = order[step + 1]
            if _compare(buffer, keys[member], key_lengths[member], keys[after], key_lengths[after]) == 0:
                continue
        if not is_first:
            out[to] = 0x2C
            to += 1
        is_first = False
        to = _entry(buffer, entries, member, doubles, frames, members, out, to)
    out[to] = 0x7D
    return to + 1


@njit(types.void(_bytes, _entries, _ranges, _int, _int, _int, _int, _doubles, _u8, _i32), **_OPTIONS)
def write_objects(
    buffer: Any,
    entries: Any,
    ranges: Any,
    first: Any,
    last: Any,
    entries_max: Any,
    members_max: Any,
    doubles: Any,
    out: Any,
    out_offsets: Any,
) -> None:
    """Objects ``first`` to ``last``, one behind the other: no spaces, only ASCII escaped that must be.

    An object is a few ranges of entries, of which the later ones override the earlier.
    """
    order = np.zeros(entries_max, np.int64)
    spare = np.zeros(entries_max, np.int64)
    frames = np.zeros((DEPTH_MAX, _FRAME_COLUMNS), np.int64)
    members = np.zeros((_MEMBER_ROWS, members_max), np.int64)
    to = np.int64(0)
    out_offsets[0] = 0
    for row in range(first, last):
        to = _object(buffer, entries, ranges, row, order, spare, doubles, frames, members, out, to)
        out_offsets[row - first + 1] = to


@njit(types.void(_bytes, _entries, _ranges, _i64, _i64, _int, _int, _int, _int, _doubles, _u8, _i32), **_OPTIONS)
def write_arrays(
    buffer: Any,
    entries: Any,
    ranges: Any,
    elements: Any,
    firsts: Any,
    first: Any,
    last: Any,
    entries_max: Any,
    members_max: Any,
    doubles: Any,
    out: Any,
    out_offsets: Any,
) -> None:
    """Arrays ``first`` to ``last`` of objects: elements ``firsts[row]`` to ``firsts[row + 1]``.

    An element has the entries from ``elements[element]`` to the next's, in order; one of them may be an object.
    """
    order = np.zeros(entries_max, np.int64)
    spare = np.zeros(entries_max, np.int64)
    frames = np.zeros((DEPTH_MAX, _FRAME_COLUMNS), np.int64)
    members = np.zeros((_MEMBER_ROWS, members_max), np.int64)
    kinds, values = entries[2], entries[3]
    to = np.int64(0)
    out_offsets[0] = 0
    for row in range(first, last):
        out[to] = 0x5B
        to += 1
        for element in range(firsts[row], firsts[row + 1]):
            if element > firsts[row]:
                out[to] = 0x2C
                to += 1
            out[to] = 0x7B
            to += 1
            for member in range(elements[element], elements[element + 1]):
                if member > elements[element]:
                    out[to] = 0x2C
                    to += 1
                to = _entry(buffer, entries, member, doubles, frames, members, out, to)
                if kinds[member] == ENTRY_OBJECT:
                    to = _object(
                        buffer, entries, ranges, values[member], order, spare, doubles, frames, members, out, to
                    )
            out[to] = 0x7D
            to += 1
        out[to] = 0x5D
        to += 1
        out_offsets[row - first + 1] = to


@njit(types.void(_bytes, _i64, _i64, _int, _int, _int, _doubles, _u8, _i32), **_OPTIONS)
def write_values(
    buffer: Any,
    starts: Any,
    lengths: Any,
    first: Any,
    last: Any,
    members_max: Any,
    doubles: Any,
    out: Any,
    out_offsets: Any,
) -> None:
    """Values ``first`` to ``last`` (of type ``AnyValue``), each as a text of its own."""
    frames = np.zeros((DEPTH_MAX, _FRAME_COLUMNS), np.int64)
    members = np.zeros((_MEMBER_ROWS, members_max), np.int64)
    to = np.int64(0)
    out_offsets[0] = 0
    for row in range(first, last):
        at = starts[row]
        to = _any(buffer, at, at + lengths[row], doubles, frames, members, out, to, False)
        out_offsets[row - first + 1] = to


def warm_up() -> None:
    """Run every kernel once on next to nothing, so that their machine code is loaded before the first block."""
    buffer = np.zeros(64, np.uint8)
    buffer.flags.writeable = False
    i64, i32, u8 = np.zeros(2, np.int64), np.zeros(2, np.int32), np.zeros(64, np.uint8)
    table, ranges = np.zeros((2, 2), np.int64), np.zeros((2, 1, 2), np.int64)
    read_fields(buffer, i64, i64, i64, i64, i64, table, table.copy(), i64.copy())
    list_children(buffer, i64, i64, 1, i64, i64.copy(), i64.copy())
    entries = (i64, i64, np.zeros(2, np.uint8), i64, i64)
    bound_entries(buffer, i64, i64, entries[2], i64, i64, i64.copy(), i64.copy(), i64.copy(), i64.copy())
    doubles = (i64[:0].copy(), u8, i32)
    write_objects(buffer, entries, ranges, 0, 1, 1, 0, doubles, u8.copy(), i32.copy())
    write_arrays(buffer, entries, ranges, i64, i64, 0, 1, 1, 0, doubles, u8.copy(), i32.copy())
    write_values(buffer, i64, i64, 0, 1, 0, doubles, u8.copy(), i32.copy())
