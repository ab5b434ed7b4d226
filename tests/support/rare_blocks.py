"""Blocks of the kinds that our own emitter does not send: network traces and images, as other programs send them."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import NamedTuple

from lakeflight.wire.transit.types import Member, StreamTypes, UserDefinedType
from lakeflight.wire.transit.writer import EncodedBlock


def _event(name: str, size: int, **members: tuple[str, int, int]) -> UserDefinedType:
    """``member=(type, offset, bytes)``; members of the type StaticStringRef are references."""
    made = [Member(key, kind, at, size, kind == "StaticStringRef") for key, (kind, at, size) in members.items()]
    return UserDefinedType(name, size, (Member("time", "uint64", 0, 8), *made))


_NAME, _BITS = ("StaticStringRef", 8, 16), ("uint32", 8, 4)
NET_TYPES = StreamTypes(
    tag="net",
    dependencies=(UserDefinedType("StaticStringDependency"),),
    objects=(
        _event("NetConnectionBeginEvent", 32, connection_name=_NAME, is_outgoing=("uint8", 24, 1)),
        _event("NetConnectionEndEvent", 16, bit_size=_BITS),
        _event("NetObjectBeginEvent", 24, object_name=_NAME),
        _event("NetObjectEndEvent", 16, bit_size=_BITS),
        _event("NetPropertyEvent", 32, property_name=_NAME, bit_size=("uint32", 24, 4)),
        _event("NetRPCBeginEvent", 24, function_name=_NAME),
        _event("NetRPCEndEvent", 16, bit_size=_BITS),
        UserDefinedType("FutureEvent"),
    ),
)
IMAGE_TYPES = StreamTypes(
    tag="image",
    dependencies=(UserDefinedType("StaticStringDependency"),),
    objects=(UserDefinedType("ImageEvent"), UserDefinedType("FutureEvent")),
)

CONNECTION, CONNECTION_END, OBJECT, OBJECT_END, PROPERTY, RPC, RPC_END, OTHER = range(8)
_LAYOUTS = {CONNECTION: "<QQ8xB7x", OBJECT: "<QQ8x", RPC: "<QQ8x", PROPERTY: "<QQ8xI4x"}


class NetEvent(NamedTuple):
    """One event of a network trace. ``number``: bits, or of a connection whether it is outgoing."""

    type: int
    ticks: int
    name: str = ""
    number: int = 0


def net_block(events: Iterable[NetEvent]) -> EncodedBlock:
    dependencies, objects, addresses, count = b"", b"", dict[str, int](), 0
    for event in events:
        count += 1
        if event.type == OTHER:
            objects += struct.pack("<BI", OTHER, 3) + b"new"
            continue
        if event.type not in _LAYOUTS:
            objects += struct.pack("<BQI4x", event.type, event.ticks, event.number)
            continue
        if event.name not in addresses:
            addresses[event.name] = 4096 + 16 * len(addresses)
            text = event.name.encode()
            dependencies += struct.pack("<BIQBI", 0, 13 + len(text), addresses[event.name], 2, len(text)) + text
        values = (event.number,) if event.type in (CONNECTION, PROPERTY) else ()
        objects += struct.pack("<B" + _LAYOUTS[event.type][1:], event.type, event.ticks, addresses[event.name], *values)
    return EncodedBlock(dependencies, objects, count)


class Image(NamedTuple):
    ticks: int
    name: bytes
    format: bytes
    data: bytes
    codec: int = 2


def image_block(images: Iterable[Image]) -> EncodedBlock:
    objects, count = b"", 0
    for image in images:
        texts = b"".join(struct.pack("<BI", image.codec, len(text)) + text for text in (image.name, image.format))
        body = struct.pack("<q", image.ticks) + texts + struct.pack("<I", len(image.data)) + image.data
        objects += struct.pack("<BI", 0, len(body)) + body
        count += 1
    return EncodedBlock(b"", objects, count)
