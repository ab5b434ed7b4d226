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

from lakeflight.wire.compiled import HELPER, INLINED, KERNEL
from lakeflight.wire.otlp.primitives import (
    NUMBER_TEXT_BYTES_MAX,
    find_double,
    next_field,
    put_base64,
    put_bool,
    put_double,
    put_hex,
    put_number,
    put_text,
)
from lakeflight.wire.words import compare_bytes, copy_bytes


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
ENTRY_DOUBLE: Final = 6  # its bits, and once texts of all are made, the number of its text; in place of where it starts
ENTRY_BOOL: Final = 7  # 0 or 1, likewise

# columns of an entry. One table, because an array for each of them would be counted in and out at every call.
ENTRY_KEY: Final = 0
ENTRY_KEY_LENGTH: Final = 1
ENTRY_VALUE: Final = 2
ENTRY_LENGTH: Final = 3
ENTRY_KIND: Final = 4
ENTRY_BLOCK: Final = 5  # the ordinal of the block that it is in
ENTRY_COLUMNS: Final = 6

_FEW: Final = 12  # entries
_NULL: Final = np.frombuffer(b"null", np.uint8)

_bytes = types.Array(types.uint8, 1, "C", readonly=True)
_u8 = types.uint8[::1]
_i32 = types.int32[::1]
_i64 = types.int64[::1]
_table = types.int64[:, ::1]
_ranges = types.int64[:, :, ::1]
_int = types.int64
_tuple: Any = types.Tuple
_doubles = _tuple((_i64, _u8, _i32))  # see write_objects
_room = _tuple((_table, _table, _table, _table))  # see room


# --- fields -----------------------------------------------------------------------------------------------------------


@njit(types.void(_bytes, _i64, _i64, _i64, _i64, _i64, _table, _table, _i64), **KERNEL)
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
    """The wanted fields of messages: a value, or where it starts; how long it is, -1 where there is none. A row for each.

    ``columns`` has the ordinal of a field by its number, -1 for what is not wanted; ``kinds`` what it takes. Of a field that
    comes twice the last counts, and one of another wire type is not there, as protobuf has it.
    """
    out_values[:] = 0
    out_lengths[:] = -1
    for row in range(len(starts)):
        at = starts[row]
        end = ends[row]
        while at < end:
            number, wire, value, length, at = next_field(buffer, at, end)
            if at < 0:
                faults[blocks[row]] = _DAMAGED
                break
            if number < len(columns) and columns[number] >= 0:
                column = columns[number]
                if kinds[column] == wire:
                    out_values[column, row] = value
                    out_lengths[column, row] = length
                elif kinds[column] == REPEATED and wire == 2:
                    out_values[column, row] += 1


@njit(types.void(_bytes, _i64, _i64, _int, _i64, _i64, _i64), **KERNEL)
def list_children(
    buffer: Any, starts: Any, ends: Any, wanted: Any, firsts: Any, out_starts: Any, out_ends: Any
) -> None:
    """Where the messages of a repeated field lie; ``firsts`` has where those of each message go."""
    for row in range(len(starts)):
        at = starts[row]
        end = ends[row]
        to = firsts[row]
        while at < end and to < firsts[row + 1]:
            number, wire, value, length, at = next_field(buffer, at, end)
            if at < 0:
                break
            if number == wanted and wire == 2:
                out_starts[to] = value
                out_ends[to] = value + length
                to += 1


@njit(**HELPER)
def _pair(buffer: Any, at: Any, end: Any) -> Any:
    """Of a ``KeyValue``: where its key starts, how long it is, the same of its value, and whether it is sound."""
    key = np.int64(0)
    key_length = np.int64(0)
    value = np.int64(0)
    value_length = np.int64(0)
    while at < end:
        number, wire, found, found_length, at = next_field(buffer, at, end)
        if at < 0:
            return key, key_length, value, value_length, False
        if wire == 2 and number == 1:
            key, key_length = found, found_length
        elif wire == 2 and number == 2:
            value, value_length = found, found_length
    return key, key_length, value, value_length, True


@njit(types.void(_bytes, _i64, _i64, _i64, _int, _i64, _table, _i64), **KERNEL)
def list_pairs(
    buffer: Any, starts: Any, ends: Any, blocks: Any, wanted: Any, firsts: Any, out: Any, faults: Any
) -> None:
    """The messages of a repeated field as entries: they are of type ``KeyValue``. ``firsts`` has where those of each go."""
    for row in range(len(starts)):
        at = starts[row]
        end = ends[row]
        to = firsts[row]
        while at < end and to < firsts[row + 1]:
            number, wire, value, length, at = next_field(buffer, at, end)
            if at < 0:
                break
            if number == wanted and wire == 2:
                key, key_length, value, length, sound = _pair(buffer, value, value + length)
                if not sound:
                    faults[blocks[row]] = _DAMAGED
                out[to, ENTRY_KEY] = key
                out[to, ENTRY_KEY_LENGTH] = key_length
                out[to, ENTRY_VALUE] = value
                out[to, ENTRY_LENGTH] = length
                out[to, ENTRY_KIND] = ENTRY_ANY
                out[to, ENTRY_BLOCK] = blocks[row]
                to += 1


@njit(types.void(_bytes, _i64, _int, types.uint8[:, ::1]), **KERNEL)
def gather_pieces(buffer: Any, starts: Any, size: Any, out: Any) -> None:
    """Copy pieces of one size; where one starts before 0, there is none."""
    for row in range(len(starts)):
        if starts[row] >= 0:
            copy_bytes(buffer, starts[row], size, out[row], 0)


# --- JSON -------------------------------------------------------------------------------------------------------------


@njit(**HELPER)
def _compare_keys(buffer: Any, entries: Any, one: Any, other: Any) -> Any:
    """Negative, zero or positive; the order of bytes is that of code points."""
    return compare_bytes(
        buffer,
        entries[one, ENTRY_KEY],
        entries[one, ENTRY_KEY_LENGTH],
        entries[other, ENTRY_KEY],
        entries[other, ENTRY_KEY_LENGTH],
    )


@njit(types.void(_bytes, _table, _table, _int, _int), **KERNEL)
def _sort_by_key(buffer: Any, entries: Any, order: Any, begin: Any, end: Any) -> None:
    """Put ``order[0, begin:end]`` in the order of the entries' keys; of equal keys, the earlier stays so.

    Merges, because no input makes that slow; a few are put in their places.
    """
    if end - begin <= _FEW:
        for step in range(begin + 1, end):
            entry = order[0, step]
            to = step
            while to > begin and _compare_keys(buffer, entries, order[0, to - 1], entry) > 0:
                order[0, to] = order[0, to - 1]
                to -= 1
            order[0, to] = entry
        return
    width = 1
    while width < end - begin:
        for low in range(begin, end, 2 * width):
            middle = min(low + width, end)
            high = min(low + 2 * width, end)
            left = low
            right = middle
            for to in range(low, high):
                if left < middle and (
                    right >= high or _compare_keys(buffer, entries, order[0, left], order[0, right]) <= 0
                ):
                    order[1, to] = order[0, left]
                    left += 1
                else:
                    order[1, to] = order[0, right]
                    right += 1
        for to in range(begin, end):
            order[0, to] = order[1, to]
        width *= 2


# Values in values are walked with a stack of frames: compiled code that calls itself cannot be kept in numba's cache.
# columns of a frame
_KIND: Final = 0  # 5 array, 6 map
_AT: Final = 1  # the next member: where it lies, of a map that is written its number
_END: Final = 2
_COUNT: Final = 3  # members so far
_FRAME_COLUMNS: Final = 4


def room(members_max: int = 0, entries_max: int = 0) -> tuple[Any, ...]:
    """What the kernels of JSON work in: frames, members of maps and their order, the order of an object's entries.

    Args:
        members_max: Of the maps of one value.  entries_max: Of one object.
    """
    return (
        np.zeros((DEPTH_MAX, _FRAME_COLUMNS), np.int64),
        np.zeros((members_max, ENTRY_COLUMNS), np.int64),
        np.zeros((2, members_max), np.int64),
        np.zeros((2, entries_max), np.int64),
    )


@njit(**HELPER)
def _alternative(buffer: Any, at: Any, end: Any) -> Any:
    """What an ``AnyValue`` is: the field that it has, its value or where it starts, its length. -1: it is damaged."""
    kind = np.int64(0)
    value = np.int64(0)
    length = np.int64(0)
    while at < end:
        number, wire, found, found_length, at = next_field(buffer, at, end)
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


@njit(**HELPER)
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
            total += NUMBER_TEXT_BYTES_MAX
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
            number, wire, found, found_length, after = next_field(buffer, frames[frame, _AT], end_of_frame)
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


@njit(**HELPER)
def _load_members(buffer: Any, at: Any, end: Any, members: Any, order: Any, top: Any) -> Any:
    """Put the pairs of a map behind those that are there, in the order of their keys. Returns where they end."""
    base = top
    while at < end:
        number, wire, found, found_length, at = next_field(buffer, at, end)
        if number != 1 or wire != 2:
            continue
        key, key_length, value, value_length, _ = _pair(buffer, found, found + found_length)
        members[top, ENTRY_KEY] = key
        members[top, ENTRY_KEY_LENGTH] = key_length
        members[top, ENTRY_VALUE] = value
        members[top, ENTRY_LENGTH] = value_length
        order[0, top] = top
        top += 1
    _sort_by_key(buffer, members, order, base, top)
    return top


@njit(types.int64(_bytes, _int, _int, _doubles, _room, _u8, _int, types.boolean), **KERNEL)
def _any(
    buffer: Any,
    at: Any,
    end: Any,
    doubles: Any,
    room: Any,
    out: Any,
    to: Any,
    quoted: Any,
) -> Any:
    """An ``AnyValue`` as JSON; it has been bounded before, so it is sound. Returns where it ends.

    ``quoted`` is not set for a value that is to be text by itself: then text has no quotes, and nothing is no text.
    """
    known, texts, text_offsets = doubles
    frames, members, order, _ = room
    depth = np.int64(0)
    top = np.int64(0)
    while True:
        kind, value, length = _alternative(buffer, at, end)
        as_json = quoted or depth > 0
        if kind == 1:
            to = put_text(buffer, value, length, out, to, as_json)
        elif kind == 2:
            to = put_bool(value, out, to)
        elif kind == 3:
            to = put_number(value, out, to)
        elif kind == 4:
            to = put_double(find_double(value, known), texts, text_offsets, out, to, as_json)
        elif kind == 7:
            if as_json:
                out[to] = 0x22
                to += 1
            to = put_base64(buffer, value, length, out, to)
            if as_json:
                out[to] = 0x22
                to += 1
        elif kind == 0:
            if as_json:
                to = copy_bytes(_NULL, 0, 4, out, to)
        else:
            frames[depth, _KIND] = kind
            frames[depth, _COUNT] = 0
            frames[depth, _AT] = value
            frames[depth, _END] = value + length
            if kind == 6:
                frames[depth, _AT] = top
                top = _load_members(buffer, value, value + length, members, order, top)
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
                while (
                    next_member + 1 < end_of_frame
                    and _compare_keys(buffer, members, order[0, next_member], order[0, next_member + 1]) == 0
                ):
                    next_member += 1
                if next_member < end_of_frame:
                    member = order[0, next_member]
                    at = members[member, ENTRY_VALUE]
                    end = at + members[member, ENTRY_LENGTH]
                    frames[frame, _AT] = next_member + 1
                    is_found = True
                    if frames[frame, _COUNT] > 0:
                        out[to] = 0x2C
                        to += 1
                    to = put_text(buffer, members[member, ENTRY_KEY], members[member, ENTRY_KEY_LENGTH], out, to, True)
                    out[to] = 0x3A
                    to += 1
                else:
                    out[to] = 0x7D
                    to += 1
            else:
                while frames[frame, _AT] < frames[frame, _END] and not is_found:
                    number, wire, found, found_length, after = next_field(
                        buffer, frames[frame, _AT], frames[frame, _END]
                    )
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


@njit(**HELPER)
def _kind_of(alternative: Any) -> Any:
    """The kind of an entry whose ``AnyValue`` has this alternative."""
    if alternative == 1:
        return ENTRY_TEXT
    if alternative == 2:
        return ENTRY_BOOL
    if alternative == 3:
        return ENTRY_NUMBER
    if alternative == 4:
        return ENTRY_DOUBLE
    return ENTRY_ANY


@njit(types.void(_bytes, _table, _room, _i64, _i64, _i64, _i64), **KERNEL)
def bound_entries(
    buffer: Any, entries: Any, room: Any, out_bounds: Any, doubles: Any, counts: Any, faults: Any
) -> None:
    """How long each entry of an object is at most, its key and all punctuation included.

    An entry that is an object itself counts as what is around it. Values that are a text, a number or a truth are told apart
    from others here, once for all: their entries become such ones. The doubles within others are added to ``doubles``;
    ``counts`` receives how many these are, and the most members that the maps of one value have.
    """
    for row in range(len(entries)):
        kind = entries[row, ENTRY_KIND]
        at = entries[row, ENTRY_VALUE]
        length = entries[row, ENTRY_LENGTH]
        if kind == ENTRY_ANY:
            alternative, value, value_length = _alternative(buffer, at, at + length)
            kind = _kind_of(alternative)
            if kind != ENTRY_ANY:
                length = value_length
                entries[row, ENTRY_KIND] = kind
                entries[row, ENTRY_VALUE] = value
                entries[row, ENTRY_LENGTH] = length
        bound = 8 + 6 * entries[row, ENTRY_KEY_LENGTH]
        if kind == ENTRY_ANY:
            size = _bound_any(buffer, at, at + length, doubles, counts, room[0])
            if size < 0:
                faults[entries[row, ENTRY_BLOCK]] = -size
            else:
                bound += size
        elif kind == ENTRY_TEXT or kind == ENTRY_HEX or kind == ENTRY_LITERAL:  # noqa: SIM109  numba compiles this
            bound += 6 * length
        elif kind != ENTRY_OBJECT:
            bound += NUMBER_TEXT_BYTES_MAX
        out_bounds[row] = bound


@njit(**INLINED)
def _entry(
    buffer: Any,
    entries: Any,
    row: Any,
    doubles: Any,
    room: Any,
    out: Any,
    to: Any,
) -> Any:
    """The key and the value of an entry; of an object, the caller writes the rest."""
    to = put_text(buffer, entries[row, ENTRY_KEY], entries[row, ENTRY_KEY_LENGTH], out, to, True)
    out[to] = 0x3A
    to += 1
    kind = entries[row, ENTRY_KIND]
    at = entries[row, ENTRY_VALUE]
    length = entries[row, ENTRY_LENGTH]
    if kind == ENTRY_TEXT:
        return put_text(buffer, at, length, out, to, True)
    if kind == ENTRY_HEX:
        return put_hex(buffer, at, length, out, to)
    if kind == ENTRY_NUMBER:
        return put_number(at, out, to)
    if kind == ENTRY_DOUBLE:
        return put_double(at, doubles[1], doubles[2], out, to, True)
    if kind == ENTRY_BOOL:
        return put_bool(at, out, to)
    if kind == ENTRY_LITERAL:
        return copy_bytes(buffer, at, length, out, to)
    if kind == ENTRY_ANY:
        return _any(buffer, at, at + length, doubles, room, out, to, True)
    return to


@njit(**INLINED)
def _object(
    buffer: Any,
    entries: Any,
    ranges: Any,
    row: Any,
    doubles: Any,
    room: Any,
    out: Any,
    to: Any,
) -> Any:
    """The entries of a few ranges as one object, sorted by their keys; of equal keys the last alone."""
    order = room[3]
    count = np.int64(0)
    for which in range(ranges.shape[1]):
        for member in range(ranges[row, which, 0], ranges[row, which, 1]):
            order[0, count] = member
            count += 1
    _sort_by_key(buffer, entries, order, 0, count)
    out[to] = 0x7B
    to += 1
    is_first = True
    for step in range(count):
        if step + 1 < count and _compare_keys(buffer, entries, order[0, step], order[0, step + 1]) == 0:
            continue
        if not is_first:
            out[to] = 0x2C
            to += 1
        is_first = False
        to = _entry(buffer, entries, order[0, step], doubles, room, out, to)
    out[to] = 0x7D
    return to + 1


@njit(types.void(_bytes, _table, _ranges, _int, _int, _doubles, _room, _u8, _i32), **KERNEL)
def write_objects(
    buffer: Any,
    entries: Any,
    ranges: Any,
    first: Any,
    last: Any,
    doubles: Any,
    room: Any,
    out: Any,
    out_offsets: Any,
) -> None:
    """Objects ``first`` to ``last``, one behind the other: no spaces, only ASCII escaped that must be.

    An object is a few ranges of entries, of which the later ones override the earlier. ``doubles`` are the bits of those
    within other values, in order; the texts of these, followed by those of the others; and where each text begins.
    """
    to = np.int64(0)
    out_offsets[0] = 0
    for row in range(first, last):
        to = _object(buffer, entries, ranges, row, doubles, room, out, to)
        out_offsets[row - first + 1] = to


@njit(types.void(_bytes, _table, _ranges, _i64, _i64, _int, _int, _doubles, _room, _u8, _i32), **KERNEL)
def write_arrays(
    buffer: Any,
    entries: Any,
    ranges: Any,
    elements: Any,
    firsts: Any,
    first: Any,
    last: Any,
    doubles: Any,
    room: Any,
    out: Any,
    out_offsets: Any,
) -> None:
    """Arrays ``first`` to ``last`` of objects: elements ``firsts[row]`` to ``firsts[row + 1]``.

    An element has the entries from ``elements[element]`` to the next's, in order; one of them may be an object.
    """
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
                to = _entry(buffer, entries, member, doubles, room, out, to)
                if entries[member, ENTRY_KIND] == ENTRY_OBJECT:
                    to = _object(buffer, entries, ranges, entries[member, ENTRY_VALUE], doubles, room, out, to)
            out[to] = 0x7D
            to += 1
        out[to] = 0x5D
        to += 1
        out_offsets[row - first + 1] = to


@njit(types.void(_bytes, _table, _int, _int, _doubles, _room, _u8, _i32), **KERNEL)
def write_values(
    buffer: Any,
    entries: Any,
    first: Any,
    last: Any,
    doubles: Any,
    room: Any,
    out: Any,
    out_offsets: Any,
) -> None:
    """The values of entries ``first`` to ``last``, which were ``AnyValue``, each as a text of its own."""
    to = np.int64(0)
    out_offsets[0] = 0
    for row in range(first, last):
        kind = entries[row, ENTRY_KIND]
        at = entries[row, ENTRY_VALUE]
        length = entries[row, ENTRY_LENGTH]
        if kind == ENTRY_TEXT:
            to = put_text(buffer, at, length, out, to, False)
        elif kind == ENTRY_NUMBER:
            to = put_number(at, out, to)
        elif kind == ENTRY_DOUBLE:
            to = put_double(at, doubles[1], doubles[2], out, to, False)
        elif kind == ENTRY_BOOL:
            to = put_bool(at, out, to)
        else:
            to = _any(buffer, at, at + length, doubles, room, out, to, False)
        out_offsets[row - first + 1] = to


def warm_up() -> None:
    """Run every kernel once on next to nothing, so that their machine code is loaded before the first block."""
    buffer = np.zeros(64, np.uint8)
    buffer.flags.writeable = False
    i64, i32, u8 = np.zeros(2, np.int64), np.zeros(2, np.int32), np.zeros(64, np.uint8)
    table, ranges = np.zeros((2, 2), np.int64), np.zeros((2, 1, 2), np.int64)
    read_fields(buffer, i64, i64, i64, i64, i64, table, table.copy(), i64.copy())
    list_children(buffer, i64, i64, 1, i64, i64.copy(), i64.copy())
    list_pairs(buffer, i64, i64, i64, 1, i64, table.copy(), i64.copy())
    gather_pieces(buffer, i64, 8, np.zeros((2, 8), np.uint8))
    entries = np.zeros((2, ENTRY_COLUMNS), np.int64)
    bound_entries(buffer, entries, room(), i64.copy(), i64.copy(), i64.copy(), i64.copy())
    doubles = (i64[:0].copy(), u8, i32)
    write_objects(buffer, entries, ranges, 0, 1, doubles, room(), u8.copy(), i32.copy())
    write_arrays(buffer, entries, ranges, i64, i64, 0, 1, doubles, room(), u8.copy(), i32.copy())
    write_values(buffer, entries, 0, 1, doubles, room(), u8.copy(), i32.copy())
