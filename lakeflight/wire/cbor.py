"""CBOR of strangers: decoded under limits of depth, items and bytes, and without what tags could make of it.

Refuses every tag but self-described CBOR (55799): the others make a decoder build regular expressions, giant numbers and
cycles out of somebody else's bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, NoReturn

import cbor2

from lakeflight.wire.errors import MalformedRequestError

CBOR_DEPTH_MAX: Final = 16  # our deepest schema has 5 levels
CBOR_ITEMS_MAX: Final = 65_536  # keys and values of one body; each costs up to 72 bytes of memory per byte of input
CBOR_TEXT_BYTES_MAX: Final = 16 << 20  # of one body; no reader of a block takes more from its process and its stream
CBOR_KEY_BYTES_MAX: Final = 1 << 20  # of all keys of one body
LEGACY_PAYLOAD_BYTES_MAX: Final = 32 << 20  # of payloads as integer arrays, per body: each takes a second for 10 MiB


def tags_refused_by(refuse: Callable[..., NoReturn]) -> dict[str, Any]:
    """Options of ``cbor2.loads`` that call ``refuse`` for every tag but 55799."""
    return {"tag_hook": refuse, "semantic_decoders": dict.fromkeys(_ACTED_ON, refuse)}


def _refuse_tag(*_: object) -> NoReturn:
    raise MalformedRequestError("CBOR tags are not accepted")


# every tag the library would act on by itself; any other one goes to the hook
_ACTED_ON: Final = (*range(6), 25, 28, 29, 30, 35, 36, 37, 52, 54, 100, 256, 258, 260, 261, 1004, 43000)
_LOAD_OPTIONS: Final[Mapping[str, Any]] = {
    "max_depth": CBOR_DEPTH_MAX,
    "allow_duplicate_keys": False,
    "strict_hashable_types": True,
    **tags_refused_by(_refuse_tag),
}
dumps: Final[Callable[[Any], bytes]] = cbor2.dumps


def check_begins_with_map(body: bytes, what: str) -> None:
    """Refuse by its first bytes what is long and no map, before any of it is read.

    Raises:
        MalformedRequestError: It is a string or an array.
    """
    position = 0
    for _ in range(CBOR_DEPTH_MAX):
        if position >= len(body) or body[position] >> 5 != 6:
            break
        short = body[position] & 0x1F
        position += 1 + ((1 << (short - 24)) if 24 <= short < 28 else 0)
    if position < len(body) and (kind := _LONG_KINDS.get(body[position] >> 5)):
        raise MalformedRequestError(f"{what} must be a map, not {kind}")


_LONG_KINDS: Final = {2: "a byte string", 3: "text", 4: "an array"}


def loads(body: bytes, what: str) -> Any:
    """The one item that ``body`` begins with; ``what`` it is to be stands in the error.

    Raises:
        MalformedRequestError: It is no CBOR, or more of it than a request has.
    """
    if len(body) > CBOR_ITEMS_MAX:  # a shorter one cannot hold more items
        body = _bounded(body, what)
    try:
        return cbor2.loads(body, **_LOAD_OPTIONS)
    except (cbor2.CBORError, ValueError, TypeError, OverflowError, RecursionError) as error:
        if isinstance(error, MalformedRequestError):
            raise
        cause = error.__cause__
        reason = str(cause) if isinstance(cause, MalformedRequestError) else str(error)
        raise MalformedRequestError(f"{what} is not sound CBOR: {reason[:200]}") from error


_SMALL_INTEGER: Final = rb"(?:[\x00-\x17]|\x18.)"
_PIECE_INTEGERS: Final = 65_536  # 3 ms; between two pieces other threads have their turn
_BREAK: Final = 0xFF
_ENDLESS: Final = -2  # even, as what a map lacks is before a key; odd before a value


def _bounded(body: bytes, what: str) -> bytes:
    """Walk the items without building them: a large body must be large byte strings, not many small things.

    Only counts. What is malformed in another way is left for the decoder to refuse. Returns the body as it is, but for the
    old form of a payload, an array with an integer for each byte: in its place stands the byte string that it means.
    """
    position = replaced_until = 0
    items = text_bytes = key_bytes = payload_bytes = 0
    end = len(body)
    parts: list[bytes | memoryview] = []
    lacking = [1]  # how many items each open container still lacks
    are_maps = [False]
    in_keys = [False]  # whether it is inside of a key

    while lacking:
        lacks = lacking[-1]
        if lacks == 0:
            lacking.pop(), are_maps.pop(), in_keys.pop()
            continue
        if position >= end or len(lacking) > 2 * CBOR_DEPTH_MAX:
            break
        begin = position
        head = body[position]
        position += 1
        if head == _BREAK:
            are_maps.pop(), in_keys.pop()
            if lacking.pop() >= 0:
                break
            continue
        items += 1
        if items > CBOR_ITEMS_MAX:
            raise MalformedRequestError(f"{what} has more than {CBOR_ITEMS_MAX} CBOR items")
        in_key = in_keys[-1] or (are_maps[-1] and lacks % 2 == 0)
        lacking[-1] = lacks - 1 if lacks > 0 else -3 - lacks
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
            break
        opens: int | None = None
        if kind in (2, 3):
            if value == _ENDLESS:
                opens = _ENDLESS
            else:
                position += value
                text_bytes += value if kind == 3 else 0
                key_bytes += value if in_key else 0
                if text_bytes > CBOR_TEXT_BYTES_MAX:
                    raise MalformedRequestError(f"{what} has texts of more than {CBOR_TEXT_BYTES_MAX} bytes")
                if key_bytes > CBOR_KEY_BYTES_MAX:
                    raise MalformedRequestError(f"{what} has keys of more than {CBOR_KEY_BYTES_MAX} bytes")
        elif kind == 4:
            opens = value
            if (value == _ENDLESS or value > CBOR_ITEMS_MAX) and not in_key:
                found = _integers(body, position, value, LEGACY_PAYLOAD_BYTES_MAX - payload_bytes, what)
                if found is not None:
                    position, payload = found
                    payload_bytes += len(payload)
                    parts += memoryview(body)[replaced_until:begin], byte_string_head(len(payload)), payload
                    replaced_until = position
                    opens = None
        elif kind == 5:
            opens = _ENDLESS if value == _ENDLESS else 2 * value
        elif kind == 6:
            opens = 1
        if opens is not None:
            lacking.append(opens)
            are_maps.append(kind == 5)
            in_keys.append(in_key)
    return b"".join((*parts, memoryview(body)[replaced_until:])) if parts else body


def _integers(body: bytes, position: int, number: int, bytes_max: int, what: str) -> tuple[int, bytes] | None:
    """An array's items as bytes, and where it ends; ``None`` if there is any but small integers, or nothing in it."""
    parts: list[bytes] = []
    length = 0
    while number == _ENDLESS or length < number:
        if max(length, number) > bytes_max:
            raise MalformedRequestError(f"{what} has integer arrays of more than {LEGACY_PAYLOAD_BYTES_MAX} bytes")
        counts = (
            b"{1,%d}+" % _PIECE_INTEGERS if number == _ENDLESS else b"{%d}+" % min(number - length, _PIECE_INTEGERS)
        )
        match = re.compile(_SMALL_INTEGER + counts, re.DOTALL).match(body, position)
        if match is None:
            break
        parts.append(bytes(cbor2.loads(b"\x9f" + match[0] + b"\xff")))
        length += len(parts[-1])
        position = match.end()
    if number == _ENDLESS:
        if not length or body[position : position + 1] != b"\xff":
            return None
        position += 1
    elif length < number:
        return None
    return position, b"".join(parts)


def byte_string_head(length: int) -> bytes:
    """What stands before a byte string of this length."""
    if length < 24:
        return bytes((0x40 | length,))
    if length < 1 << 8:
        return bytes((0x58, length))
    if length < 1 << 16:
        return b"\x59" + length.to_bytes(2)
    if length < 1 << 32:
        return b"\x5a" + length.to_bytes(4)
    return b"\x5b" + length.to_bytes(8)
