"""OTLP/JSON -> the messages of OTLP: protobuf's JSON mapping with the exceptions that OTLP makes.

Trace and span ids are hexadecimal in place of base64, enums are numbers. Liberal where protobuf's own mapping is: 64-bit
numbers as text or as numbers, names in lowerCamelCase or as they are declared, unknown names and ``null`` ignored. Values
of a wrong kind are refused and never guessed.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from typing import Any, Final, NamedTuple, NoReturn

from lakeflight.wire.errors import MalformedRequestError

DEPTH_MAX: Final = 100  # of messages in messages, as protobuf's own parser has it
JSON_ARRAYS_MAX: Final = 131_072  # in one body: a message has them for records and attributes, and never in each other

HEXADECIMAL: Final = frozenset({"trace_id", "span_id", "parent_span_id"})
_INTEGER: Final = re.compile(r"-?[0-9]{1,20}", re.ASCII)
_HALF_OF_A_PAIR: Final = re.compile("[\ud800-\udfff]")
_STRING_OR_ARRAY: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|\[', re.DOTALL)
_EMPTY: Final[dict[str, Any]] = {}  # nobody writes to it
_SPECIAL: Final = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}


class _Field(NamedTuple):
    name: str
    repeated: bool
    message: Any  # the descriptor of its message; ``None``: a plain value
    convert: Callable[[Any], Any]


def from_json(message_class: Any, body: bytes) -> Any:
    """The message that a JSON document describes.

    Raises:
        MalformedRequestError: It is no JSON, or not of that message.
    """
    try:
        bound_arrays(body)
        document = json.loads(body.decode(), parse_constant=_refuse_constant, object_hook=shared_if_empty)
        message = message_class()
        _fill(message, document, DEPTH_MAX)
    except RecursionError as error:
        raise MalformedRequestError("the JSON is nested too deeply") from error
    except (ValueError, TypeError, OverflowError) as error:  # of the parser, and of a message that cannot hold a value
        if isinstance(error, MalformedRequestError):
            raise
        raise MalformedRequestError(f"not sound JSON: {str(error)[:200]}") from error
    return message


def bound_arrays(body: bytes) -> None:
    """The parser makes arrays without a pause for other threads, and the collector of garbage goes through them all.

    Raises:
        MalformedRequestError: There are more than a body may have.
    """
    if body.count(b"[") <= JSON_ARRAYS_MAX:
        return
    arrays = 0
    for token in _STRING_OR_ARRAY.finditer(body):  # what stands in a string is none
        arrays += token[0] == b"["
        if arrays > JSON_ARRAYS_MAX:
            raise MalformedRequestError(f"the JSON has more than {JSON_ARRAYS_MAX} arrays")


def shared_if_empty(found: dict[str, Any]) -> dict[str, Any]:
    """A body may have a million empty objects. To be called for each lets other threads have their turn, too."""
    return found or _EMPTY


def _fill(message: Any, value: Any, depth: int) -> None:
    if type(value) is not dict:
        raise MalformedRequestError(f"a {message.DESCRIPTOR.name} is an object, not {_kind(value)}")
    if depth == 0:
        raise MalformedRequestError(f"messages are nested more than {DEPTH_MAX} deep")
    fields = _fields_of(message.DESCRIPTOR)
    for name, given in value.items():
        field = fields.get(name)
        if field is None or given is None:
            continue
        if field.repeated:
            if type(given) is not list:
                raise MalformedRequestError(f"{name} is an array, not {_kind(given)}")
            target = getattr(message, field.name)
            if field.message is None:
                target.extend(map(field.convert, given))
            else:
                for element in given:
                    _fill(target.add(), element, depth - 1)
        elif field.message is None:
            setattr(message, field.name, field.convert(given))
        else:
            target = getattr(message, field.name)
            target.SetInParent()
            _fill(target, given, depth - 1)


_known: Final[dict[str, dict[str, _Field]]] = {}  # of the messages there are, so it cannot grow


def _fields_of(descriptor: Any) -> dict[str, _Field]:
    known = _known.get(descriptor.full_name)
    if known is None:
        known = {}
        for declared in descriptor.fields:
            convert = _hexadecimal if declared.name in HEXADECIMAL else _CONVERT[declared.type]
            field = _Field(declared.name, declared.is_repeated, declared.message_type, convert)
            known[declared.name] = known[declared.json_name] = field
        _known[descriptor.full_name] = known
    return known


def _integer(value: Any) -> int:
    if type(value) is int:
        return value
    if type(value) is str and _INTEGER.fullmatch(value):
        return int(value)
    if type(value) is float and value.is_integer():
        return int(value)
    raise MalformedRequestError(f"expected a whole number, not {_shown(value)}")


def _double(value: Any) -> float:
    if type(value) in (int, float):
        return float(value)
    if type(value) is str:
        special = _SPECIAL.get(value)
        if special is not None:
            return special
        if value.strip() == value and "_" not in value:
            return float(value)
    raise MalformedRequestError(f"expected a number, not {_shown(value)}")


def _boolean(value: Any) -> bool:
    if type(value) is not bool:
        raise MalformedRequestError(f"expected true or false, not {_shown(value)}")
    return value


def _text(value: Any) -> str:
    if type(value) is not str:
        raise MalformedRequestError(f"expected text, not {_shown(value)}")
    return sound(value)


def sound(text: str) -> str:
    """What UTF-8 can have of a text: half of a pair, which JSON can write alone, becomes U+FFFD.

    Programs that cut a text between the two have such ones, and would lose a whole request.
    """
    return text if text.isascii() else _HALF_OF_A_PAIR.sub("\ufffd", text)


def _base64(value: Any) -> bytes:
    digits = _text(value).replace("-", "+").replace("_", "/").rstrip("=")
    return base64.b64decode(digits + "=" * (-len(digits) % 4), validate=True)


def _hexadecimal(value: Any) -> bytes:
    digits = _text(value)
    if " " in digits:
        raise MalformedRequestError(f"expected hexadecimal digits, not {_shown(value)}")
    return bytes.fromhex(digits)


_TYPES: Final[tuple[tuple[Callable[[Any], Any], tuple[int, ...]], ...]] = (  # by the numbers of descriptor.proto
    (_double, (1,)),
    (_integer, (3, 4, 5, 6, 7, 13, 15, 16, 17, 18)),
    (_boolean, (8,)),
    (_text, (9,)),
    (_base64, (12,)),
)
_CONVERT: Final = {number: convert for convert, numbers in _TYPES for number in numbers} | {11: _text}


def _refuse_constant(text: str) -> NoReturn:
    raise MalformedRequestError(f"{text} is not JSON: write it as text")


def _shown(value: Any) -> str:
    return repr(value)[:64] if isinstance(value, (str, int, float)) else _kind(value)


def _kind(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case list():
            return "an array"
        case _:
            return "an object"
