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
LEGACY_PAYLOAD_BYTES_MAX: Final = 32 << 20  # of payloads as integer arrays, per body: 8 bytes of memory each


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


def loads(body: bytes, what: str) -> Any:
    """The one item that ``body`` begins with; ``what`` it is to be stands in the error.

    Raises:
        MalformedRequestError: It is no CBOR, or more of it than a request has.
    """
    if len(body) > CBOR_ITEMS_MAX:  # a shorter one cannot hold more items
        _bound_items(body, what)
    try:
        return cbor2.loads(body, **_LOAD_OPTIONS)
    except (cbor2.CBORError, ValueError, TypeError, OverflowError, RecursionError) as error:
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
