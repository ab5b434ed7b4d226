"""A second decoder of native blocks: plain, slow, one value at a time, sharing no line with the one it checks.

Follows the format and nothing else: no limits, no columns. For tests alone.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field
from typing import Any

import cbor2
import xxhash

PRIMITIVES = {
    "u8": "<B",
    "uint8": "<B",
    "u32": "<I",
    "uint32": "<I",
    "u64": "<Q",
    "uint64": "<Q",
    "i64": "<q",
    "int64": "<q",
    "f64": "<d",
}
LEVELS = {"fatal": 1, "error": 2, "warning": 3, "info": 4, "debug": 5, "trace": 6}


class Corrupt(Exception):
    """The block cannot be decoded."""


@dataclass
class Object:
    """A decoded record; of a type without a reader, one without members."""

    type_name: str
    members: dict[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Any:
        if name not in self.members:
            raise Corrupt(f"{self.type_name} has no {name}")
        return self.members[name]


class Properties(list[tuple[str, str]]):
    """A property set."""


def decode(
    dependencies_metadata: bytes, objects_metadata: bytes, dependencies: bytes, objects: bytes
) -> list[Object | str]:
    """Every object of a block, in order."""
    entries: dict[int, Any] = {}
    _records(cbor2.loads(dependencies_metadata), dependencies, entries, is_dependencies=True)
    return _records(cbor2.loads(objects_metadata), objects, entries, is_dependencies=False)


def _records(types: list[Any], data: bytes, entries: dict[int, Any], *, is_dependencies: bool) -> list[Any]:
    found = []
    at = 0
    while at < len(data):
        if data[at] >= len(types):
            raise Corrupt("type index")
        udt = types[data[at]]
        at += 1
        size = udt["size"]
        if size == 0:
            size = _read("<I", data, at)
            at += 4
        if at + size > len(data):
            raise Corrupt("record beyond the buffer")
        value: Any = None
        if udt["size"] != 0:
            value = _fixed(types, udt, data[at : at + size], entries)
        elif is_dependencies:
            _dependency(types, udt["name"], data, at, size, entries)
        else:
            value = _event(types, udt["name"], data[at : at + size], entries)
        if is_dependencies and isinstance(value, Object):
            _add(entries, value["id"], value)
        found.append(value)
        at += size
    return found


def _read(fmt: str, data: bytes, at: int) -> Any:
    if at + struct.calcsize(fmt) > len(data):
        raise Corrupt("read beyond the window")
    return struct.unpack_from(fmt, data, at)[0]


def _add(entries: dict[int, Any], address: int, value: Any) -> None:
    if address in entries:
        raise Corrupt("address twice")
    entries[address] = value


def _resolve(entries: dict[int, Any], address: int) -> Any:
    if address not in entries:
        raise Corrupt("unknown address")
    return entries[address]


def _named(types: list[Any], name: str) -> Any:
    for udt in types:
        if udt["name"] == name:
            return udt
    raise Corrupt(f"no type {name}")


def _fixed(types: list[Any], udt: Any, window: bytes, entries: dict[int, Any]) -> Any:
    members: dict[str, Any] = {}
    for member in udt["members"]:
        offset, size = member["offset"], member["size"]
        if offset + size > len(window):
            raise Corrupt("member beyond the window")
        if member["is_reference"]:
            if size < 8:
                raise Corrupt("short reference")
            value = _resolve(entries, _read("<Q", window, offset))
        elif member["type_name"] in PRIMITIVES:
            fmt = PRIMITIVES[member["type_name"]]
            if struct.calcsize(fmt) != size:
                raise Corrupt("size of a member")
            value = _read(fmt, window, offset)
        else:
            nested = _named(types, member["type_name"])
            if offset + nested["size"] > len(window):
                raise Corrupt("nested type beyond the window")
            value = _fixed(types, nested, window[offset : offset + nested["size"]], entries)
        members.setdefault(member["name"], value)
    if udt["is_reference"]:
        if "id" not in members:
            raise Corrupt("reference type without id")
        return members["id"]
    return Object(udt["name"], members)


def _string(data: bytes, at: int) -> tuple[str, int]:
    codec, length = _read("<B", data, at), _read("<I", data, at + 1)
    at += 5
    if at + length > len(data):
        raise Corrupt("string beyond the window")
    raw = data[at : at + length]
    if codec in (0, 2):
        return raw.decode("utf-8", "replace"), at + length
    if codec == 1 and length % 2 == 0:
        return raw.decode("utf-16-le", "replace"), at + length
    raise Corrupt("codec")


def _rest(data: bytes, at: int) -> str:
    if at > len(data):
        raise Corrupt("too short")
    try:
        return data[at:].decode()
    except UnicodeDecodeError:
        raise Corrupt("not UTF-8") from None


def _dependency(types: list[Any], name: str, data: bytes, at: int, size: int, entries: dict[int, Any]) -> None:
    if name == "StaticString":
        body = data[at : at + size]
        _add(entries, _read("<Q", body, 0), _rest(body, 8))
    elif name == "StaticStringDependency":
        _add(entries, _read("<Q", data, at), _string(data, at + 8)[0])
    elif name == "PropertySetDependency":
        udt = _named(types, "Property")
        step = udt["size"]
        count = _read("<I", data, at + 8)
        first = at + 12
        if step == 0 or count > (len(data) - first) // step:
            raise Corrupt("count of properties")
        properties = Properties()
        for start in range(first, first + count * step, step):
            pair = _fixed(types, udt, data[start : start + step], entries)
            if not isinstance(pair, Object) or not isinstance(pair["name"], str) or not isinstance(pair["value"], str):
                raise Corrupt("property")
            properties.append((pair["name"], pair["value"]))
        _add(entries, _read("<Q", data, at), properties)
    else:
        raise Corrupt(f"dependency {name}")


def _event(types: list[Any], name: str, body: bytes, entries: dict[int, Any]) -> Object:
    event = Object(name)
    at = 0

    def take(member: str, fmt: str) -> None:
        nonlocal at
        event.members[member] = _read(fmt, body, at)
        at += struct.calcsize(fmt)

    def take_reference(member: str) -> None:
        take(member, "<Q")
        event.members[member] = _resolve(entries, event.members[member])

    def take_named(member: str, type_name: str) -> None:
        nonlocal at
        udt = _named(types, type_name)
        if at + udt["size"] > len(body):
            raise Corrupt("too short")
        event.members[member] = _fixed(types, udt, body[at : at + udt["size"]], entries)
        at += udt["size"]

    if name in ("LogStringEvent", "LogStringEventV2", "TaggedLogString"):
        take_reference("desc")
        if name == "TaggedLogString":
            take_reference("properties")
        take("time", "<q")
        event.members["msg"] = _rest(body, at) if name == "LogStringEvent" else _string(body, at)[0]
    elif name == "LogStringInteropEventV2":
        take("time", "<q")
        take("level", "<I")
        take_named("target", "StringId")
        event.members["msg"] = _rest(body, at)
    elif name in ("LogStringInteropEventV3", "TaggedLogInteropEvent"):
        take("time", "<q")
        take("level", "<B")
        take_named("target", "StaticStringRef")
        if name == "TaggedLogInteropEvent":
            take_reference("properties")
        event.members["msg"] = _string(body, at)[0]
    elif name == "ImageEvent":
        take("time", "<q")
        event.members["name"], at = _string(body, at)
        event.members["format"], at = _string(body, at)
        take("size", "<I")
        if at + event["size"] > len(body):
            raise Corrupt("data beyond the window")
        event.members["data"] = body[at : at + event["size"]]
    return event


# --- rows


def _is(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise Corrupt(f"{value!r} is no {kind.__name__}")
    return value


def _signed(value: int) -> int:
    return struct.unpack("<q", struct.pack("<Q", value & (1 << 64) - 1))[0]  # type: ignore[no-any-return]


def _json(properties: Properties) -> str:
    return json.dumps(dict(properties), ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def log_rows(objects: list[Object | str]) -> list[tuple[int, int, str, str, str]]:
    """(ticks, level, target, msg, properties as JSON)."""
    rows = []
    for event in objects:
        if not isinstance(event, Object):
            continue
        properties = Properties()
        if event.type_name in ("LogStaticStrEvent", "LogStringEvent", "LogStringEventV2", "TaggedLogString"):
            described = _is(event["desc"], Object)
            target, level = _is(described["target"], str), described["level"]
            msg = described["fmt_str"] if event.type_name == "LogStaticStrEvent" else event["msg"]
            if event.type_name == "TaggedLogString":
                properties = _is(event["properties"], Properties)
                tags = dict(properties)
                target = tags.get("target", target)
                level = LEVELS.get(tags.get("level", ""), level)
        elif event.type_name in (
            "LogStaticStrInteropEvent",
            "LogStringInteropEventV2",
            "LogStringInteropEventV3",
            "TaggedLogInteropEvent",
        ):
            target, level, msg = _is(event["target"], str), event["level"], event["msg"]
            if event.type_name == "TaggedLogInteropEvent":
                properties = _is(event["properties"], Properties)
        else:
            continue
        rows.append((_signed(event["time"]), level, target, _is(msg, str), _json(properties)))
    return rows


def metric_rows(objects: list[Object | str]) -> list[tuple[int, bool, int | float, str, str, str, str]]:
    """(ticks, is integer, value as sent, name, unit, target, properties as JSON)."""
    rows = []
    for event in objects:
        if not isinstance(event, Object) or not event.type_name.endswith("MetricEvent"):
            continue
        described = _is(event["desc"], Object)
        properties = _is(event["properties"], Properties) if event.type_name.startswith("Tagged") else Properties()
        tags = dict(properties)
        name, unit, target = (tags.get(n, described[n]) for n in ("name", "unit", "target"))
        integer = "Integer" in event.type_name
        rows.append((_signed(event["time"]), integer, event["value"], name, unit, target, _json(properties)))
    return rows


def span_rows(objects: list[Object | str]) -> list[tuple[int, int, int, tuple[str, str, str, int]]]:
    """(kind, ticks, ordinal, (name, file, target, line)) of the sync events."""
    rows = []
    for ordinal, event in enumerate(objects):
        if not isinstance(event, Object) or not event.type_name.endswith(("ThreadSpanEvent", "ThreadNamedSpanEvent")):
            continue
        scope = _scope(event, "thread_span_location", "thread_span_desc")
        rows.append((int(event.type_name.startswith("End")), _signed(event["time"]), ordinal, scope))
    return rows


def async_rows(objects: list[Object | str]) -> list[tuple[int, int, int, int, int, tuple[str, str, str, int]]]:
    """(kind, ticks, id, id of the parent, depth, (name, file, target, line)) of the async events."""
    rows = []
    for event in objects:
        if not isinstance(event, Object) or not event.type_name.endswith(("AsyncSpanEvent", "AsyncNamedSpanEvent")):
            continue
        ids = (_signed(event["span_id"]), _signed(event["parent_span_id"]))
        scope = _scope(event, "span_location", "span_desc")
        rows.append((int(event.type_name.startswith("End")), _signed(event["time"]), *ids, event["depth"], scope))
    return rows


def _scope(event: Object, location: str, description: str) -> tuple[str, str, str, int]:
    named = "Named" in event.type_name
    place = _is(event[location if named else description], Object)
    name = _is(event["name"] if named else place["name"], str)
    return (name, _is(place["file"], str), _is(place["target"], str), place["line"])


_NET_MEMBERS = {
    "NetConnectionBeginEvent": ("connection_name", "is_outgoing"),
    "NetConnectionEndEvent": (None, "bit_size"),
    "NetObjectBeginEvent": ("object_name", None),
    "NetObjectEndEvent": (None, "bit_size"),
    "NetPropertyEvent": ("property_name", "bit_size"),
    "NetRPCBeginEvent": ("function_name", None),
    "NetRPCEndEvent": (None, "bit_size"),
}


def net_rows(objects: list[Object | str]) -> list[tuple[str, int, int, str | None, int]]:
    """(type, ticks, ordinal, name, size in bits or whether it is outgoing) of the events of a network trace."""
    rows = []
    for ordinal, event in enumerate(objects):
        if not isinstance(event, Object) or event.type_name not in _NET_MEMBERS:
            continue
        name, number = _NET_MEMBERS[event.type_name]
        rows.append(
            (
                event.type_name,
                _signed(event["time"]),
                ordinal,
                None if name is None else _is(event[name], str),
                0 if number is None else event[number],
            )
        )
    return rows


def image_rows(objects: list[Object | str]) -> list[tuple[int, str, str, bytes]]:
    """(ticks, name, format, data)."""
    images = [event for event in objects if isinstance(event, Object) and event.type_name == "ImageEvent"]
    return [(event["time"], event["name"], event["format"], event["data"]) for event in images]


def scope_hash(scope: tuple[str, str, str, int]) -> int:
    name, file, target, line = scope
    digest = 0
    for part in (name.encode(), file.encode(), target.encode(), struct.pack("<I", line)):
        digest = xxhash.xxh32(part, seed=digest).intdigest()
    return digest


def bits(value: int | float) -> int:
    """A metric's value as the signed number of its 8 bytes."""
    packed = struct.pack("<d", value) if isinstance(value, float) else struct.pack("<Q", value & (1 << 64) - 1)
    return int(struct.unpack("<q", packed)[0])
