"""Compiled loops that write encoded protobuf as JSON, by a table of what its messages have.

A message is written by its table alone, so nothing here knows one by name. What the table does not have, or has with another
wire type, is not there; of a field that comes twice the last counts, and of alternatives the last one. Members come in the
order of the table, which is that of their names.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import njit, types

from lakeflight.wire.compiled import HELPER, KERNEL
from lakeflight.wire.otlp.primitives import (
    NUMBER_TEXT_BYTES_MAX,
    find_double,
    next_field,
    next_varint,
    put_base64,
    put_bool,
    put_double,
    put_hex,
    put_number,
    put_text,
)
from lakeflight.wire.words import copy_bytes, load_word

# columns of the table of fields
NUMBER: Final = 0
WIRE: Final = 1
KIND: Final = 2
MESSAGE: Final = 3  # which, of a field that is one
GROUP: Final = 4  # of alternatives; 0: none
NAME: Final = 5  # where it lies among the names, with quotes and a colon
NAME_BYTES: Final = 6
IS_REPEATED: Final = 7
IS_IMPLICIT: Final = 8  # zero, or nothing, means that it was not sent
FIELD_COLUMNS: Final = 9

NUMBER_MAX: Final = 31  # of a field

# kinds: how a value is written
AS_MESSAGE: Final = 0
AS_TEXT: Final = 1
AS_HEX: Final = 2
AS_BASE64: Final = 3
AS_DOUBLE: Final = 4
AS_BOOL: Final = 5
AS_SIGNED_TEXT: Final = 6  # 64 bits, in quotes
AS_UNSIGNED_TEXT: Final = 7
AS_SIGNED: Final = 8  # 64 bits, as a number
AS_INT32: Final = 9
AS_UINT32: Final = 10
AS_ZIGZAG32: Final = 11

DEPTH_MAX: Final = 320  # messages in messages: a value in a map in a value is three, and values may be nested 100 deep

_DAMAGED: Final = 1  # as in kernels.Fault
_TOO_DEEP: Final = 2
_PACKED: Final = 2  # the wire type of numbers one behind the other

# columns of a frame: compiled code that calls itself cannot be kept in numba's cache
_MESSAGE: Final = 0
_START: Final = 1
_END: Final = 2
_FIELD: Final = 3  # the next one
_AT: Final = 4  # where the next element of a repeated field is looked for; -1: at the beginning
_ELEMENTS: Final = 5  # so far
_MEMBERS: Final = 6  # so far
_FRAME_COLUMNS: Final = 7

_bytes = types.Array(types.uint8, 1, "C", readonly=True)
_u8 = types.uint8[::1]
_i32 = types.int32[::1]
_i64 = types.int64[::1]
_table = types.int64[:, ::1]
_int = types.int64
_tuple: Any = types.Tuple
_schema = _tuple((_table, _table, _table, _bytes))  # fields; those of each message; by their numbers; names
_doubles = _tuple((_i64, _u8, _i32))  # bits in order, their texts, where each begins
_work = _tuple((_table, _i64, _i64))  # frames; doubles that were found, and how many


def room(doubles_max: int = 0) -> tuple[Any, ...]:
    """What the kernels work in."""
    return np.zeros((DEPTH_MAX, _FRAME_COLUMNS), np.int64), np.zeros(doubles_max, np.int64), np.zeros(1, np.int64)


@njit(**HELPER)
def _put(byte: Any, out: Any, to: Any, writing: Any) -> Any:
    if writing:
        out[to] = byte
    return to + 1


@njit(**HELPER)
def _unsigned(value: Any, out: Any, to: Any) -> Any:
    if value >= 0:
        return put_number(value, out, to)
    bits = np.uint64(value)
    to = put_number(np.int64(bits // np.uint64(10)), out, to)
    out[to] = 0x30 + np.int64(bits % np.uint64(10))
    return to + 1


@njit(**HELPER)
def _narrowed(kind: Any, value: Any) -> Any:
    """What a number of 32 bits is, which may have been sent with more."""
    low = value & np.int64(0xFFFFFFFF)
    if kind == AS_INT32:
        return low - ((low & np.int64(0x80000000)) << 1)
    if kind == AS_UINT32:
        return low
    if kind == AS_ZIGZAG32:
        return (low >> 1) ^ -(low & 1)
    return value


@njit(**HELPER)
def _value(
    buffer: Any, kind: Any, value: Any, length: Any, doubles: Any, work: Any, out: Any, to: Any, writing: Any
) -> Any:
    """A value that is no message: written, or how long it is at most. Returns where it ends."""
    if not writing:
        if kind == AS_TEXT:
            return to + 6 * length + 2
        if kind == AS_HEX:
            return to + 2 * length + 2
        if kind == AS_BASE64:
            return to + 2 * length + 8
        if kind == AS_DOUBLE:
            _, found, count = work
            found[count[0]] = value
            count[0] += 1
        return to + NUMBER_TEXT_BYTES_MAX
    if kind == AS_TEXT:
        return put_text(buffer, value, length, out, to, True)
    if kind == AS_HEX:
        return put_hex(buffer, value, length, out, to)
    if kind == AS_DOUBLE:
        known, texts, offsets = doubles
        return put_double(find_double(value, known), texts, offsets, out, to, True)
    if kind == AS_BOOL:
        return put_bool(value, out, to)
    is_quoted = kind in (AS_BASE64, AS_SIGNED_TEXT, AS_UNSIGNED_TEXT)
    if is_quoted:
        out[to] = 0x22
        to += 1
    if kind == AS_BASE64:
        to = put_base64(buffer, value, length, out, to)
    elif kind == AS_UNSIGNED_TEXT:
        to = _unsigned(value, out, to)
    else:
        to = put_number(value, out, to)
    if is_quoted:
        out[to] = 0x22
        to += 1
    return to


@njit(**HELPER)
def _last(buffer: Any, at: Any, end: Any, field: Any, message: Any, schema: Any) -> Any:
    """A field that is not repeated: its value or where it starts, and its length; -1 where it is not, -2 where it is damaged."""
    fields, _, by_number, _ = schema
    wanted = fields[field, NUMBER]
    group = fields[field, GROUP]
    value = np.int64(0)
    length = np.int64(-1)
    while at < end:
        number, wire, found, found_length, at = next_field(buffer, at, end)
        if at < 0:
            return value, np.int64(-2)
        if number > NUMBER_MAX:
            continue
        if number == wanted:
            if wire == fields[field, WIRE]:
                value, length = found, found_length
        elif group > 0:
            other = by_number[message, number]
            if other >= 0 and fields[other, GROUP] == group and fields[other, WIRE] == wire:
                length = np.int64(-1)
    return value, length


@njit(**HELPER)
def _packed(
    buffer: Any, at: Any, end: Any, kind: Any, wire: Any, doubles: Any, work: Any, out: Any, to: Any, writing: Any
) -> Any:
    """Numbers one behind the other, with commas between them. Returns where they end; a negative number is a fault."""
    is_first = True
    while at < end:
        if wire == 0:
            value, at = next_varint(buffer, at, end)
            if at < 0:
                return np.int64(-_DAMAGED)
        else:
            if end - at < 8:
                return np.int64(-_DAMAGED)
            value = np.int64(load_word(buffer, at))
            at += 8
        if not is_first:
            to = _put(0x2C, out, to, writing)
        is_first = False
        to = _value(buffer, kind, _narrowed(kind, value), np.int64(8), doubles, work, out, to, writing)
    return to


@njit(**HELPER)
def _members(
    buffer: Any, at: Any, end: Any, message: Any, schema: Any, doubles: Any, work: Any, out: Any, to: Any, writing: Any
) -> Any:
    """The members of a message, each behind a comma. Returns where they end; a negative number is a fault."""
    fields, messages, _, names = schema
    frames = work[0]
    depth = np.int64(1)
    frames[0, _MESSAGE] = message
    frames[0, _START] = at
    frames[0, _END] = end
    frames[0, _FIELD] = messages[message, 0]
    frames[0, _AT] = -1
    frames[0, _ELEMENTS] = 0
    frames[0, _MEMBERS] = 1
    while depth > 0:
        frame = depth - 1
        message = frames[frame, _MESSAGE]
        field = frames[frame, _FIELD]
        if field == messages[message, 1]:
            if depth > 1:
                to = _put(0x7D, out, to, writing)
            depth -= 1
            continue
        start = frames[frame, _START]
        end = frames[frame, _END]
        kind = fields[field, KIND]
        wire = fields[field, WIRE]
        value = np.int64(0)
        length = np.int64(-1)
        is_packed = False
        if fields[field, IS_REPEATED]:
            at = frames[frame, _AT] if frames[frame, _AT] >= 0 else start
            is_found = False
            while at < end and not is_found:
                number, found_wire, value, length, at = next_field(buffer, at, end)
                if at < 0:
                    return np.int64(-_DAMAGED)
                is_packed = found_wire == _PACKED and wire != _PACKED
                is_found = number == fields[field, NUMBER] and (found_wire == wire or (is_packed and length > 0))
            if not is_found:
                if frames[frame, _ELEMENTS] > 0:
                    to = _put(0x5D, out, to, writing)
                frames[frame, _FIELD] += 1
                frames[frame, _AT] = -1
                frames[frame, _ELEMENTS] = 0
                continue
            frames[frame, _AT] = at
        else:
            value, length = _last(buffer, start, end, field, message, schema)
            if length == -2:
                return np.int64(-_DAMAGED)
            frames[frame, _FIELD] += 1
            if length < 0:
                continue
        if not is_packed:
            value = _narrowed(kind, value)
        if fields[field, IS_IMPLICIT] and (length == 0 if wire == 2 else value == 0):
            continue
        if frames[frame, _ELEMENTS] > 0:
            to = _put(0x2C, out, to, writing)
        else:
            if frames[frame, _MEMBERS] > 0:
                to = _put(0x2C, out, to, writing)
            frames[frame, _MEMBERS] += 1
            if writing:
                to = copy_bytes(names, fields[field, NAME], fields[field, NAME_BYTES], out, to)
            else:
                to += fields[field, NAME_BYTES]
            if fields[field, IS_REPEATED]:
                to = _put(0x5B, out, to, writing)
        if fields[field, IS_REPEATED]:
            frames[frame, _ELEMENTS] += 1
        if is_packed:
            to = _packed(buffer, value, value + length, kind, wire, doubles, work, out, to, writing)
            if to < 0:
                return to
        elif kind == AS_MESSAGE:
            if depth == DEPTH_MAX:
                return np.int64(-_TOO_DEEP)
            to = _put(0x7B, out, to, writing)
            frames[depth, _MESSAGE] = fields[field, MESSAGE]
            frames[depth, _START] = value
            frames[depth, _END] = value + length
            frames[depth, _FIELD] = messages[fields[field, MESSAGE], 0]
            frames[depth, _AT] = -1
            frames[depth, _ELEMENTS] = 0
            frames[depth, _MEMBERS] = 0
            depth += 1
        else:
            to = _value(buffer, kind, value, length, doubles, work, out, to, writing)
    return to


@njit(types.void(_bytes, _i64, _i64, _i64, _i64, _schema, _work, _doubles, _u8, _i64, _i64), **KERNEL)
def bound_documents(
    buffer: Any,
    starts: Any,
    ends: Any,
    blocks: Any,
    messages: Any,
    schema: Any,
    work: Any,
    doubles: Any,
    nothing: Any,
    out_sizes: Any,
    faults: Any,
) -> None:
    """How long the members of each message are at most. ``messages`` has which it is; the doubles of all are kept."""
    for row in range(len(starts)):
        size = _members(
            buffer, starts[row], ends[row], messages[row], schema, doubles, work, nothing, np.int64(0), False
        )
        if size < 0:
            faults[blocks[row]] = -size
            size = np.int64(0)
        out_sizes[row] = size


@njit(types.void(_bytes, _i64, _i64, _i64, _schema, _work, _doubles, _int, _int, _u8, _i32), **KERNEL)
def write_documents(
    buffer: Any,
    starts: Any,
    ends: Any,
    messages: Any,
    schema: Any,
    work: Any,
    doubles: Any,
    first: Any,
    last: Any,
    out: Any,
    out_offsets: Any,
) -> None:
    """The members of messages ``first`` to ``last``, which have been bounded: each behind a comma, without braces."""
    to = np.int64(0)
    out_offsets[0] = 0
    for row in range(first, last):
        to = _members(buffer, starts[row], ends[row], messages[row], schema, doubles, work, out, to, True)
        out_offsets[row - first + 1] = to


def warm_up() -> None:
    """Run every kernel once on next to nothing, so that their machine code is loaded before the first block."""
    buffer, names = np.zeros(8, np.uint8), np.zeros(8, np.uint8)
    buffer.flags.writeable = names.flags.writeable = False
    i64, u8, i32 = np.zeros(1, np.int64), np.zeros(8, np.uint8), np.zeros(2, np.int32)
    table = np.zeros((1, FIELD_COLUMNS), np.int64)
    schema, doubles = (table, table.copy(), table.copy(), names), (i64[:0].copy(), u8, i32)
    bound_documents(buffer, i64, i64, i64, i64, schema, room(), doubles, u8.copy(), i64.copy(), i64.copy())
    write_documents(buffer, i64, i64, i64, schema, room(), doubles, 0, 1, u8.copy(), i32.copy())
