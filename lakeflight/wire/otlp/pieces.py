"""Large requests in pieces, so that no more of them is in memory as messages than a piece: two bytes are a message of 180.

The encoding of a message is that of its fields one behind the other, so a resource is its head, the records of its scopes
a piece at a time, and its tail. The result is the same as if all had been read at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from lakeflight.wire.errors import MalformedRequestError

PIECE_BYTES: Final = 256 << 10
RECORD_BYTES_MAX: Final = 4 << 20  # of one record, which cannot be taken apart

_INSIDE: Final = 2  # the field of a resource that has its scopes, and of a scope that has its records
_LENGTH_DELIMITED: Final = 2
_SIZES: Final = {1: 8, 5: 4}


def fields(data: memoryview) -> Iterator[tuple[int, int, int, int, int]]:
    """The fields of an encoded message: number, wire type, where it begins, where its value does, where it ends.

    Raises:
        MalformedRequestError: One does not end within the message.
    """
    at, end = 0, len(data)
    while at < end:
        begin = at
        tag, at = varint(data, at)
        wire = tag & 7
        value = at
        if wire == _LENGTH_DELIMITED:
            length, value = varint(data, at)
            at = value + length
        elif wire == 0:
            _, at = varint(data, at)
        elif wire in _SIZES:
            at += _SIZES[wire]
        else:
            raise MalformedRequestError(f"a field of the unknown wire type {wire}")
        if at > end or tag < 8:
            raise MalformedRequestError("a field does not end within its message")
        yield tag >> 3, wire, begin, value, at


def apart(data: memoryview) -> tuple[bytes, list[memoryview]]:
    """A message without what is inside, and the parts that are."""
    around: list[memoryview] = []
    inside: list[memoryview] = []
    for number, wire, begin, value, end in fields(data):
        if number == _INSIDE and wire == _LENGTH_DELIMITED:
            inside.append(data[value:end])
        else:
            around.append(data[begin:end])
    return b"".join(around), inside


def pieces(scope: memoryview) -> tuple[bytes, list[memoryview]]:
    """A scope without its records, and these in runs, each with the heads of its fields."""
    around: list[memoryview] = []
    runs: list[memoryview] = []
    first = last = 0
    for number, wire, begin, value, end in fields(scope):
        if number != _INSIDE or wire != _LENGTH_DELIMITED:
            around.append(scope[begin:end])
            continue
        if end - value > RECORD_BYTES_MAX:
            raise MalformedRequestError(f"one record has {end - value} bytes, the limit is {RECORD_BYTES_MAX}")
        if begin != last or end - first > PIECE_BYTES:
            if last > first:
                runs.append(scope[first:last])
            first = begin
        last = end
    if last > first:
        runs.append(scope[first:last])
    return b"".join(around), runs


def inside(encoded: bytes) -> bytes:
    """The field that a message has inside of it, with its head."""
    return length_head(len(encoded)) + encoded


def length_head(length: int) -> bytes:
    head = bytearray([_INSIDE << 3 | _LENGTH_DELIMITED])
    while length > 0x7F:
        head.append(length & 0x7F | 0x80)
        length >>= 7
    head.append(length)
    return bytes(head)


def varint(data: Any, at: int) -> tuple[int, int]:
    """The number that begins here, and where it ends.

    Raises:
        MalformedRequestError: It does not end.
    """
    value = shift = 0
    while at < len(data) and shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise MalformedRequestError("a number does not end within its message")
