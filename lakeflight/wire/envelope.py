"""The CBOR bodies of ``insert_process``, ``insert_stream`` and ``insert_block``, and the payload map that is stored.

Reading is liberal in what older and other senders write (key order, unknown keys, indefinite lengths, byte-string
keys, bytes after the item) and strict in what a row could not hold: missing or doubled keys, wrong kinds, numbers out
of range, times that int64 nanoseconds cannot express. Nothing is refused for what it *means*: type layouts, counts and
the order of times are judged when a block is decoded, because a refused body is lost for ever. Writing gives the bytes
of the original's Rust sink.

Refuses every CBOR tag but self-described CBOR (55799): the others make a decoder build regular expressions, giant
numbers and cycles out of somebody else's bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import Any, Final, NoReturn

import cbor2

from lakeflight.wire.errors import CorruptPayloadError, MalformedRequestError
from lakeflight.wire.identifiers import canonical_uuid

CBOR_DEPTH_MAX: Final = 16  # our deepest schema has 5 levels
CBOR_ITEMS_MAX: Final = 65_536  # keys and values of one body; each costs up to 72 bytes of memory per byte of input
LEGACY_PAYLOAD_BYTES_MAX: Final = (
    32 << 20
)  # payload bytes in the form of integer arrays, per body: 8 bytes of memory each

_INT64: Final = (-(1 << 63), (1 << 63) - 1)
_INT32: Final = (-(1 << 31), (1 << 31) - 1)
_UINT64: Final = (0, (1 << 64) - 1)

_NS_PER_S: Final = 1_000_000_000
_STORED_TIME_NS_MIN: Final = -((1 << 63) // 1_000) * 1_000
_EPOCH_DAYS: Final = date(1970, 1, 1).toordinal()


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
    return _dumps(
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
            _dumps("process_id"),
            _dumps(request.process_id),
            _dumps("stream_id"),
            _dumps(request.stream_id),
            _dumps("dependencies_metadata"),
            request.dependencies_metadata,
            _dumps("objects_metadata"),
            request.objects_metadata,
            _dumps("tags"),
            _dumps(list(request.tags)),
            _dumps("properties"),
            _dumps(request.properties),
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
            _dumps(head)[1:],
            _dumps("payload"),
            request.payload,
            _dumps("object_offset"),
            _dumps(request.object_offset),
            _dumps("nb_objects"),
            _dumps(request.nb_objects),
        )
    )


def encode_payload(dependencies: bytes, objects: bytes) -> bytes:
    """The map that is stored, from two LZ4 frames."""
    return b"".join(
        (
            b"\xa2\x6cdependencies",
            _byte_string_head(len(dependencies)),
            dependencies,
            b"\x67objects",
            _byte_string_head(len(objects)),
            objects,
        )
    )


def decode_types(metadata: bytes) -> list[dict[str, Any]]:
    """Read a type table: maps with the keys of user-defined types (``name size members is_reference``) and members.

    Raises:
        MalformedRequestError: It is no array of such maps.
    """
    loaded = _loads(metadata, "type table")
    if not isinstance(loaded, (list, tuple)):
        raise _wrong_kind("a type table", "an array", loaded)
    return _checked_types(loaded)


def encode_types(types: Iterable[Mapping[str, Any]]) -> bytes:
    """A type table in its one spelling, from maps with the keys of user-defined types and members.

    Raises:
        MalformedRequestError: A type is not of that shape.
    """
    return _types(list(types))


def format_time(time_ns: int, *, trim: bool = False) -> str:
    """``2024-01-01T00:00:00.123456789``, UTC, without the zone; ``trim`` leaves groups of three zeros away."""
    seconds, fraction = divmod(time_ns, _NS_PER_S)
    days, second = divmod(seconds, 86_400)
    day = date.fromordinal(_EPOCH_DAYS + days).isoformat()
    text = f"{day}T{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}.{fraction:09}"
    if trim:
        digits = f"{fraction:09}"
        while digits.endswith("000"):
            digits = digits[:-3]
        text = text[:20] + digits if digits else text[:19]
    return text


# --- times ------------------------------------------------------------------------------------------------------------

_TIME: Final = re.compile(
    r"\+?(\d{4}-\d\d-\d\d)(?:[Tt]|\s+)(\d\d):(\d\d):(\d\d)(?:[.,](\d+))?\s*"
    r"(?:([Zz]|UTC|utc)|([+\-−])(\d\d):?(\d\d)?)",
    re.ASCII,
)
_USUAL_TIME: Final = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d):([0-5]\d)\.(\d{9})\+00:00", re.ASCII)
_match_time: Final = _TIME.fullmatch
_match_usual_time: Final = _USUAL_TIME.fullmatch


@lru_cache(maxsize=64)
def _days(text: str) -> int:
    return date.fromisoformat(text).toordinal() - _EPOCH_DAYS


@lru_cache(maxsize=64)
def _minute_ns(text: str) -> int:
    return parse_time_ns(text + ":59.999999999Z") - 59_999_999_999


def parse_time_ns(text: str) -> int:
    """RFC 3339 to nanoseconds since 1970, UTC. Digits beyond nanoseconds are dropped; a leap second is the next second.

    Raises:
        MalformedRequestError: Not a time with an offset, or outside what int64 nanoseconds hold (1677 to 2262).
    """
    usual = _match_usual_time(text)
    if (
        usual is not None and text < "2262" and text > "1678"
    ):  # every block of the Rust sink; successive ones share minutes
        minute_text, second_text, digits = usual.groups()
        return _minute_ns(minute_text) + int(second_text + digits)
    match = _match_time(text)
    if match is None:
        raise MalformedRequestError(f"not an RFC 3339 time: {text[:64]!r}")
    day, hour_text, minute_text, second_text, digits, zulu, sign, offset_hours, offset_minutes = match.groups()
    hour, minute, second = int(hour_text), int(minute_text), int(second_text)
    try:
        days = _days(day)
    except ValueError as error:
        raise MalformedRequestError(f"no such day: {text[:64]!r}") from error
    if hour > 23 or minute > 59 or second > 60:
        raise MalformedRequestError(f"no such time of day: {text[:64]!r}")
    seconds = days * 86_400 + hour * 3600 + minute * 60 + second
    if zulu is None:
        away = int(offset_hours) * 3600
        if offset_minutes is not None:
            if int(offset_minutes) > 59:
                raise MalformedRequestError(f"no such offset: {text[:64]!r}")
            away += int(offset_minutes) * 60
        if away >= 86_400:
            raise MalformedRequestError(f"no such offset: {text[:64]!r}")
        seconds += -away if sign == "+" else away
    time_ns = seconds * _NS_PER_S
    if digits is not None:
        time_ns += int(digits) if len(digits) == 9 else int(digits[:9].ljust(9, "0"))
    if not _INT64[0] <= time_ns <= _INT64[1]:
        raise MalformedRequestError(f"time is outside of int64 nanoseconds: {text[:64]!r}")
    return time_ns


# --- fields -----------------------------------------------------------------------------------------------------------


def _fields(body: bytes, what: str) -> Mapping[str, Any]:
    loaded = _loads(body, what)
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
    return _dumps(_checked_types(types))


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


# --- CBOR -------------------------------------------------------------------------------------------------------------


def _refuse_tag(*_: Any) -> NoReturn:
    raise MalformedRequestError("CBOR tags are not accepted")


# every tag the library would act on; any other one goes to the hook
_SEMANTIC_DECODERS: Final[Mapping[int, Callable[..., NoReturn]]] = dict.fromkeys(
    (*range(6), 25, 28, 29, 30, 35, 36, 37, 52, 54, 100, 256, 258, 260, 261, 1004, 43000), _refuse_tag
)
_LOAD_OPTIONS: Final[Mapping[str, Any]] = {
    "max_depth": CBOR_DEPTH_MAX,
    "allow_duplicate_keys": False,
    "strict_hashable_types": True,
    "semantic_decoders": _SEMANTIC_DECODERS,
    "tag_hook": _refuse_tag,
}
_dumps: Final[Callable[[Any], bytes]] = cbor2.dumps


def _loads(body: bytes, what: str) -> Any:
    if len(body) > CBOR_ITEMS_MAX:  # a shorter one cannot hold more items
        _bound_items(body, what)
    try:
        return cbor2.loads(body, **_LOAD_OPTIONS)
    except (cbor2.CBORError, ValueError, TypeError, OverflowError, RecursionError, MemoryError) as error:
        if isinstance(error, MalformedRequestError):
            raise
        cause = error.__cause__
        reason = str(cause) if isinstance(cause, MalformedRequestError) else str(error)
        raise MalformedRequestError(f"{what} is not sound CBOR: {reason[:200]}") from error


_SMALL_INTEGER: Final = rb"(?:[\x00-\x17]|\x18.)"
_SMALL_INTEGERS: Final = re.compile(rb"(?:[\x00-\x17]*+(?:\x18.)*+)*+", re.DOTALL)  # any number, in runs
_BREAK: Final = 0xFF
_ENDLESS: Final = -1


def _bound_items(body: bytes, what: str) -> None:
    """Walk the items without building them: a large body must be large byte strings, not many small things.

    Only counts. What is malformed in another way is left for the decoder to refuse.
    """
    position = 0
    items = 0
    payload_bytes = 0
    end = len(body)
    open_items = [1]  # how many items each open container still lacks
    while open_items:
        if open_items[-1] == 0:
            open_items.pop()
            continue
        if position >= end or len(open_items) > 2 * CBOR_DEPTH_MAX:
            return
        head = body[position]
        position += 1
        if head == _BREAK:
            if open_items.pop() >= 0:
                return
            continue
        items += 1
        if items > CBOR_ITEMS_MAX:
            raise MalformedRequestError(f"{what} has more than {CBOR_ITEMS_MAX} CBOR items")
        open_items[-1] -= open_items[-1] > 0
        kind, short = head >> 5, head & 0x1F
        if short < 24:
            value = short
        elif short < 28:
            width = 1 << (short - 24)
            value = int.from_bytes(body[position : position + width])
            position += width
        elif short == 31 and kind in (2, 3, 4, 5):
            value = _ENDLESS
        else:
            return
        if kind in (2, 3):
            if value == _ENDLESS:
                open_items.append(_ENDLESS)
            else:
                position += value
        elif kind == 4:
            if value == _ENDLESS or value > CBOR_ITEMS_MAX:  # the old form of a payload: one integer per byte
                counted = re.compile(_SMALL_INTEGER + b"{%d}+" % min(value, end), re.DOTALL) if value >= 0 else None
                if match := (counted or _SMALL_INTEGERS).match(body, position):
                    length = match.end() - position
                    payload_bytes += max(length - body.count(b"\x18", position, match.end()), length // 2)
                    position = match.end()
                    value = min(value, 0)
                if payload_bytes > LEGACY_PAYLOAD_BYTES_MAX:
                    raise MalformedRequestError(
                        f"{what} has integer arrays of more than {LEGACY_PAYLOAD_BYTES_MAX} bytes"
                    )
            open_items.append(value)
        elif kind == 5:
            open_items.append(_ENDLESS if value == _ENDLESS else 2 * value)
        elif kind == 6:
            open_items.append(1)


def _byte_string_head(length: int) -> bytes:
    if length < 24:
        return bytes((0x40 | length,))
    if length < 1 << 8:
        return bytes((0x58, length))
    if length < 1 << 16:
        return b"\x59" + length.to_bytes(2)
    if length < 1 << 32:
        return b"\x5a" + length.to_bytes(4)
    return b"\x5b" + length.to_bytes(8)
