"""Damage, seeded: request bodies as broken senders, cut connections and people who mean harm would make them."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

from lakeflight.wire.compression import BLOCK_DECODED_BYTES_MAX, compress, decompress
from lakeflight.wire.envelope import (
    BlockRequest,
    decode_payload,
    decode_types,
    encode_block,
    encode_payload,
    encode_types,
)

INT64_MAX = (1 << 63) - 1
_EXTREMES = (0, 1, -1, 1 << 31, -(1 << 31), 1 << 62, INT64_MAX, -INT64_MAX - 1)


def damaged_bytes(chance: random.Random, data: bytes) -> bytes:
    """A few bytes changed, put in, left out or cut off."""
    broken = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(broken) + 1)
        match chance.randrange(6):
            case 0 | 1 if at < len(broken):
                broken[at] = chance.randrange(256)
            case 2 if at < len(broken):
                broken[at] ^= 1 << chance.randrange(8)
            case 3:
                broken[at:at] = chance.randbytes(chance.randint(1, 8))
            case 4:
                del broken[at : at + chance.randint(1, 8)]
            case 5 if chance.random() < 0.3:
                del broken[at:]
    return bytes(broken)


def _in_the_envelope(chance: random.Random, block: BlockRequest) -> bytes:
    return damaged_bytes(chance, encode_block(block))


def _in_the_payload(chance: random.Random, block: BlockRequest) -> bytes:
    """Frames that decompress well to something that is not what the types say."""
    halves = [decompress(half, limit_bytes=BLOCK_DECODED_BYTES_MAX) for half in decode_payload(block.payload)]
    hurt = chance.randrange(2)
    halves[hurt] = damaged_bytes(chance, halves[hurt])
    return encode_block(replace(block, payload=encode_payload(*map(compress, halves))))


def _in_the_frames(chance: random.Random, block: BlockRequest) -> bytes:
    dependencies, objects = decode_payload(block.payload)
    if chance.random() < 0.5:
        dependencies = damaged_bytes(chance, dependencies)
    else:
        objects = damaged_bytes(chance, objects)
    return encode_block(replace(block, payload=encode_payload(dependencies, objects)))


def _in_the_numbers(chance: random.Random, block: BlockRequest) -> bytes:
    number = chance.choice(_EXTREMES)
    match chance.randrange(5):
        case 0:
            return encode_block(replace(block, begin_ticks=number))
        case 1:
            return encode_block(replace(block, end_ticks=number))
        case 2:
            return encode_block(replace(block, object_offset=number))
        case 3:
            return encode_block(replace(block, nb_objects=max(min(number, (1 << 31) - 1), -(1 << 31))))
        case _:
            return encode_block(replace(block, begin_time_ns=number))


_DAMAGES: tuple[Callable[[random.Random, BlockRequest], bytes], ...] = (
    _in_the_envelope,
    _in_the_payload,
    _in_the_payload,
    _in_the_frames,
    _in_the_numbers,
)


def damaged_block(chance: random.Random, block: BlockRequest) -> bytes:
    """A body of ``insert_block`` with damage somewhere."""
    return chance.choice(_DAMAGES)(chance, block)


def damaged_types(chance: random.Random, metadata: bytes) -> bytes:
    """A sound description of types that are not what the blocks hold."""
    types = decode_types(metadata)
    hurt = chance.choice([described for described in types if described["members"]])
    member = chance.choice(hurt["members"])
    match chance.randrange(6):
        case 0:
            hurt["size"] = abs(chance.choice(_EXTREMES[:5]))
        case 1:
            member["offset"] = abs(chance.choice(_EXTREMES[:5]))
        case 2:
            member["size"] = abs(chance.choice(_EXTREMES[:5]))
        case 3:
            member["type_name"] = chance.choice(("", "x", "u8", "StaticString", "DynamicString"))
        case 4:
            hurt["members"] = [other for other in hurt["members"] if other is not member]
        case _:
            types.remove(hurt)
    return encode_types(types)
