"""JSONB bytes -> values, written from the description of the format and independent of what writes them."""

from __future__ import annotations

import math
import struct
from itertools import pairwise
from typing import Any

_OBJECT, _ARRAY, _SCALAR = 0x40000000, 0x80000000, 0x20000000


def decoded(document: bytes) -> Any:
    """The value of a document that is well formed to the last byte; else it fails."""
    head = _word(document, 0)
    kind, count = head & 0xE0000000, head & 0x1FFFFFFF
    if kind == _SCALAR:
        assert count == 0
        return _value(_word(document, 4), document[8:])
    assert kind in (_OBJECT, _ARRAY)
    entries = 2 * count if kind == _OBJECT else count
    at, values = 4 + 4 * entries, []
    for number in range(entries):
        entry = _word(document, 4 + 4 * number)
        values.append(_value(entry, document[at : at + (entry & 0xFFFFFFF)]))
        at += entry & 0xFFFFFFF
    assert at == len(document)
    if kind == _ARRAY:
        return values
    keys = values[:count]
    assert all(first.encode() < second.encode() for first, second in pairwise(keys))
    return dict(zip(keys, values[count:], strict=True))


def _word(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "big")


def _value(entry: int, payload: bytes) -> Any:
    assert len(payload) == entry & 0xFFFFFFF
    match entry >> 28:
        case 0 | 3 | 4 as kind:
            assert not payload
            return {0: None, 3: False, 4: True}[kind]
        case 1:
            return payload.decode()
        case 2:
            return _number(payload[0], payload[1:])
        case 5:
            return decoded(payload)
    raise AssertionError(f"entry {entry:08x}")


def _number(tag: int, payload: bytes) -> float:
    match tag:
        case 0x00 | 0x10 | 0x20 | 0x30:
            assert not payload
            return {0x00: 0, 0x10: math.nan, 0x20: math.inf, 0x30: -math.inf}[tag]
        case 0x40 | 0x50:
            assert len(payload) in (1, 2, 4, 8)
            return int.from_bytes(payload, "big", signed=tag == 0x40)
        case 0x60:
            number: float = struct.unpack(">d", payload)[0]
            return number
    raise AssertionError(f"tag {tag:02x}")
