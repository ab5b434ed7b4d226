"""The CBOR bodies of ``insert_process``, ``insert_stream`` and ``insert_block``, and the payload map that is stored.

Reading is liberal in what older and other senders write (key order, unknown keys, indefinite lengths, byte-string
keys, bytes after the item) and strict in what a row could not hold: missing or doubled keys, wrong kinds, numbers out
of range, times that int64 nanoseconds cannot express. Nothing is refused for what it *means*: type layouts, counts and
the order of times are judged when a block is decoded, because a refused body is lost for ever. Writing gives the bytes
of the original's Rust sink.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from lakeflight.wire.cbor import byte_string_head, check_begins_with_map, dumps, loads
from lakeflight.wire.errors import CorruptPayloadError, MalformedRequestError
from lakeflight.wire.identifiers import canonical_uuid
from lakeflight.wire.times import INT64_MAX, INT64_MIN, format_time, parse_time_ns

_INT64: Final = (INT64_MIN, INT64_MAX)
_INT32: Final = (-(1 << 31), (1 << 31) - 1)
_UINT64: Final = (0, (1 << 64) - 1)

_STORED_TIME_NS_MIN: Final = -((1 << 63) // 1_000) * 1_000


@dataclass(frozen=True, slots=True)
class ProcessRequest:
    """One run of an instrumented program, as it announces itself."""

    process_id: str
    exe: str
    username: str
    realname: str
    computer: str
    distro: str
    cpu_brand: str
    tsc_frequency: int  # ticks per second, 0 = unknown
    start_time_ns: int
    start_ticks: int
    parent_process_id: str | None
    properties: dict[str, str]


@dataclass(frozen=True, slots=True)
class StreamRequest:
    """A stream and the type tables of its blocks; the tables are CBOR arrays in one fixed spelling."""

    process_id: str
    stream_id: str
    dependencies_metadata: bytes
    objects_metadata: bytes
    tags: tuple[str, ...]
    properties: dict[str, str]


@dataclass(frozen=True, slots=True)
class BlockRequest:
    """A batch of events. Ticks are relative to the process's ``start_ticks``; ``payload`` is what is stored."""

    block_id: str
    stream_id: str
    process_id: str
    begin_time_ns: int
    begin_ticks: int
    end_time_ns: int
    end_ticks: int
    payload: bytes
    object_offset: int
    nb_objects: int


# --- reading ----------------------------------------------------------------------------------------------------------


def decode_process(body: bytes) -> ProcessRequest:
    """Read the body of ``insert_process``.

    Raises:
        MalformedRequestError: The body is not a sound envelope.
    """
    fields = _fields(body, "process")
    parent = _take(fields, "parent_process_id")
    if parent is not None and type(parent) is not str:
        raise _wrong_kind("parent_process_id", "text or null", parent)
    return ProcessRequest(
        process_id=canonical_uuid(_text(fields, "process_id")),
        exe=_text(fields, "exe"),
        username=_text(fields, "username"),
        realname=_text(fields, "realname"),
        computer=_text(fields, "computer"),
        distro=_text(fields, "distro"),
        cpu_brand=_text(fields, "cpu_brand"),
        tsc_frequency=_integer(fields, "tsc_frequency", _INT64),
        start_time_ns=_time(fields, "start_time"),
        start_ticks=_integer(fields, "start_ticks", _INT64),
        parent_process_id=canonical_uuid(parent) if parent else None,  # older senders write "" for none
        properties=_properties(fields),
    )


def decode_stream(body: bytes) -> StreamRequest:
    """Read the body of ``insert_stream``.

    Raises:
        MalformedRequestError: The body is not a sound envelope.
    """
    fields = _fields(body, "stream")
    tags = _array(fields, "tags")
    if not all(type(tag) is str for tag in tags):
        raise MalformedRequestError("tags must be an array of text")
    return StreamRequest(
        process_id=canonical_uuid(_text(fields, "process_id")),
        stream_id=canonical_uuid(_text(fields, "stream_id")),
        dependencies_metadata=_types(_array(fields, "dependencies_metadata")),
        objects_metadata=_types(_array(fields, "objects_metadata")),
        tags=tuple(map(_without_nul, tags)),
        properties=_properties(fields),
    )


def decode_block(body: bytes) -> BlockRequest:
    """Read the body of ``insert_block``. The payload is checked for shape alone: its frames are decoded by readers.

    Raises:
        MalformedRequestError: The body is not a sound envelope.
    """
    fields = _fields(body, "block")
    payload = _take(fields, "payload")
    if type(payload) is not dict and not isinstance(payload, Mapping):
        raise _wrong_kind("payload", "a map", payload)
    halves = _by_text_key(payload, "payload")
    return BlockRequest(
        block_id=canonical_uuid(_text(fields, "block_id")),
        stream_id=canonical_uuid(_text(fields, "stream_id")),
        process_id=canonical_uuid(_text(fields, "process_id")),
        begin_time_ns=_time(fields, "begin_time"),
        begin_ticks=_integer(fields, "begin_ticks", _INT64),
        end_time_ns=_time(fields, "end_time"),
        end_ticks=_integer(fields, "end_ticks", _INT64),
        payload=encode_payload(_bytes(halves, "dependencies"), _bytes(halves, "objects")),
        object_offset=_integer(fields, "object_offset", _INT64),
        nb_objects=_integer(fields, "nb_objects", _INT32),
    )


def decode_payload(stored: bytes) -> tuple[bytes, bytes]:
    """Split a stored payload into its two LZ4 frames, dependencies and objects, still compressed.

    Payloads copied from older lakes hold integer arrays in place of byte strings; they are read for ever.

    Raises:
        CorruptPayloadError: The bytes are no such map.
    """
    try:
        halves = _fields(stored, "payload")
        return _bytes(halves, "dependencies"), _bytes(halves, "objects")
    except MalformedRequestError as error:
        raise CorruptPayloadError(f"stored payload: {error}") from error


# --- writing ----------------------------------------------------------------------------------------------------------


def encode_process(request: ProcessRequest) -> bytes:
    """The body of ``insert_process`` as the Rust sink writes it."""
    return dumps(
        {
            "process_id": request.process_id,
            "exe": request.exe,
            "username": request.username,
            "realname": request.realname,
            "computer": request.computer,
            "distro": request.distro,
            "cpu_brand": request.cpu_brand,
            "tsc_frequency": request.tsc_frequency,
            "start_time": format_time(request.start_time_ns, trim=True) + "Z",
            "start_ticks": request.start_ticks,
            "parent_process_id": request.parent_process_id,
            "properties": request.properties,
        }
    )


def encode_stream(request: StreamRequest) -> bytes:
    """The body of ``insert_stream`` as the Rust sink writes it."""
    return b"".join(
        (
            b"\xa6",
            dumps("process_id"),
            dumps(request.process_id),
            dumps("stream_id"),
            dumps(request.stream_id),
            dumps("dependencies_metadata"),
            request.dependencies_metadata,
            dumps("objects_metadata"),
            request.objects_metadata,
            dumps("tags"),
            dumps(list(request.tags)),
            dumps("properties"),
            dumps(request.properties),
        )
    )


def encode_block(request: BlockRequest) -> bytes:
    """The body of ``insert_block`` as the Rust sink writes it."""
    head = {
        "block_id": request.block_id,
        "stream_id": request.stream_id,
        "process_id": request.process_id,
        "begin_time": format_time(request.begin_time_ns) + "+00:00",
        "begin_ticks": request.begin_ticks,
        "end_time": format_time(request.end_time_ns) + "+00:00",
        "end_ticks": request.end_ticks,
    }
    return b"".join(
        (
            b"\xaa",
            dumps(head)[1:],
            dumps("payload"),
            request.payload,
            dumps("object_offset"),
            dumps(request.object_offset),
            dumps("nb_objects"),
            dumps(request.nb_objects),
        )
    )


def encode_payload(dependencies: bytes, objects: bytes) -> bytes:
    """The map that is stored, from two LZ4 frames."""
    return b"".join(
        (
            b"\xa2\x6cdependencies",
            byte_string_head(len(dependencies)),
            dependencies,
            b"\x67objects",
            byte_string_head(len(objects)),
            objects,
        )
    )


def decode_types(metadata: bytes) -> list[dict[str, Any]]:
    """Read a type table: maps with the keys of user-defined types (``name size members is_reference``) and members.

    Raises:
        MalformedRequestError: It is no array of such maps.
    """
    loaded = loads(metadata, "type table")
    if not isinstance(loaded, (list, tuple)):
        raise _wrong_kind("a type table", "an array", loaded)
    return _checked_types(loaded)


def encode_types(types: Iterable[Mapping[str, Any]]) -> bytes:
    """A type table in its one spelling, from maps with the keys of user-defined types and members.

    Raises:
        MalformedRequestError: A type is not of that shape.
    """
    return _types(list(types))


# --- fields -----------------------------------------------------------------------------------------------------------


def _fields(body: bytes, what: str) -> Mapping[str, Any]:
    check_begins_with_map(body, what)
    loaded = loads(body, what)
    if type(loaded) is not dict and not isinstance(loaded, Mapping):
        raise MalformedRequestError(f"{what} must be a map, not {_kind(loaded)}")
    return _by_text_key(loaded, what)


def _by_text_key(loaded: Mapping[Any, Any], what: str) -> Mapping[str, Any]:
    """Keys as text: some encoders write them as byte strings, and ``b"a"`` beside ``"a"`` is a doubled key."""
    for key in loaded:
        if type(key) is not str:
            break
    else:
        return loaded
    renamed: dict[str, Any] = {}
    for key, value in loaded.items():
        if type(key) is bytes:
            try:
                key = key.decode()
            except UnicodeDecodeError:
                continue  # unknown for sure
        if key in renamed:
            raise MalformedRequestError(f"{what} has the key {key[:64]!r} twice")
        renamed[key] = value
    return renamed


def _take(fields: Mapping[str, Any], name: str) -> Any:
    try:
        return fields[name]
    except KeyError:
        raise MalformedRequestError(f"{name} is missing") from None


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = _take(fields, name)
    if type(value) is not str:
        raise _wrong_kind(name, "text", value)
    return value.replace("\0", "\ufffd") if "\0" in value else value


def _without_nul(text: str) -> str:
    """Postgres cannot hold U+0000, and a lost row would be worse than a replaced character."""
    return text.replace("\0", "\ufffd")


def _time(fields: Mapping[str, Any], name: str) -> int:
    """A time that stays within int64 nanoseconds when it is rounded down to the microseconds that are stored."""
    text = _text(fields, name)
    time_ns = parse_time_ns(text)
    if time_ns < _STORED_TIME_NS_MIN:
        raise MalformedRequestError(f"time is outside of int64 nanoseconds: {text[:64]!r}")
    return time_ns


def _integer(fields: Mapping[str, Any], name: str, bounds: tuple[int, int]) -> int:
    value = _take(fields, name)
    if type(value) is not int:  # a bool is an int to isinstance
        raise _wrong_kind(name, "an integer", value)
    if not bounds[0] <= value <= bounds[1]:
        raise MalformedRequestError(f"{name} is out of range: {value} is not in [{bounds[0]}, {bounds[1]}]")
    return value


def _bytes(fields: Mapping[str, Any], name: str) -> bytes:
    value = _take(fields, name)
    if type(value) is bytes:
        return value
    if isinstance(value, (list, tuple)):
        if not value:
            return b""
        if set(map(type, value)) == {int} and min(value) >= 0 and max(value) <= 255:
            return bytes(value)
        raise MalformedRequestError(f"{name} is an array of something else than bytes")
    raise _wrong_kind(name, "a byte string", value)


def _array(fields: Mapping[str, Any], name: str) -> list[Any] | tuple[Any, ...]:
    value = _take(fields, name)
    if not isinstance(value, (list, tuple)):
        raise _wrong_kind(name, "an array", value)
    return value


def _properties(fields: Mapping[str, Any]) -> dict[str, str]:
    value = _take(fields, "properties")
    if not isinstance(value, Mapping):
        raise _wrong_kind("properties", "a map", value)
    properties: dict[str, str] = {}
    for key, text in value.items():
        if type(key) is bytes:
            try:
                key = key.decode()
            except UnicodeDecodeError:
                raise MalformedRequestError("a key of properties is not UTF-8") from None
        if type(text) is not str:
            raise _wrong_kind(f"property {key[:64]!r}", "text", text)
        properties[_without_nul(key)] = _without_nul(text)
    return properties


def _types(types: Iterable[Any]) -> bytes:
    """Write a type table again in one spelling: known keys alone, in the order of the original's structs."""
    return dumps(_checked_types(types))


def _checked_types(types: Iterable[Any]) -> list[dict[str, Any]]:
    return [
        {
            "name": _text(udt, "name"),
            "size": _integer(udt, "size", _UINT64),
            "members": [
                {
                    "name": _text(member, "name"),
                    "type_name": _text(member, "type_name"),
                    "offset": _integer(member, "offset", _UINT64),
                    "size": _integer(member, "size", _UINT64),
                    "is_reference": _boolean(member, "is_reference"),
                }
                for member in (_shaped(entry, "a member") for entry in _array(udt, "members"))
            ],
            "is_reference": _boolean(udt, "is_reference"),
        }
        for udt in (_shaped(entry, "a user-defined type") for entry in types)
    ]


def _shaped(value: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise _wrong_kind(what, "a map", value)
    return _by_text_key(value, what)


def _boolean(fields: Mapping[str, Any], name: str) -> bool:
    value = _take(fields, name)
    if type(value) is not bool:
        raise _wrong_kind(name, "a boolean", value)
    return value


def _wrong_kind(name: str, wanted: str, value: Any) -> MalformedRequestError:
    return MalformedRequestError(f"{name} must be {wanted}, not {_kind(value)}")


def _kind(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int():
            return "an integer"
        case float():
            return "a float"
        case str():
            return "text"
        case bytes():
            return "a byte string"
        case list() | tuple():
            return "an array"
        case Mapping():
            return "a map"
        case _:
            return "a CBOR simple value"
