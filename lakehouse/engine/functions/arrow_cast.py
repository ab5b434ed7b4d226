"""``arrow_cast``: the type is told by a literal, so it is a cast in the engine's words."""

from __future__ import annotations

import re
from typing import Final

from lakehouse.engine.functions.declare import Rewording
from lakehouse.engine.tree import Node, arguments_of, call_of, function_name, is_difference, string_literal, type_of
from lakehouse.errors import ForbiddenSqlError, UnsupportedError

_ARROW_TYPES: Final = {
    "utf8": "VARCHAR",
    "largeutf8": "VARCHAR",
    "utf8view": "VARCHAR",
    "boolean": "BOOLEAN",
    "binary": "BLOB",
    "largebinary": "BLOB",
    "binaryview": "BLOB",
    "int8": "TINYINT",
    "int16": "SMALLINT",
    "int32": "INTEGER",
    "int64": "BIGINT",
    "uint8": "UTINYINT",
    "uint16": "USMALLINT",
    "uint32": "UINTEGER",
    "uint64": "UBIGINT",
    "float32": "FLOAT",
    "float64": "DOUBLE",
    "date32": "DATE",
}
_WHOLE: Final = frozenset({"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT"})
_UNITS: Final = {
    **dict.fromkeys(("nanosecond", "ns"), "TIMESTAMP_NS"),
    **dict.fromkeys(("microsecond", "us", "µs"), "TIMESTAMP"),
    **dict.fromkeys(("millisecond", "ms"), "TIMESTAMP_MS"),
    **dict.fromkeys(("second", "s"), "TIMESTAMP_S"),
}
_TIMESTAMP: Final = re.compile(
    r"timestamp\(\s*(\w+)\s*(?:,\s*(?:none|(?:some\()?\s*\"(?:utc|\+00:00|z)\"\s*\)?)\s*)?\)", re.IGNORECASE
)
_DICTIONARY: Final = re.compile(r"dictionary\(\s*u?int\d+\s*,\s*(\w+)\s*\)", re.IGNORECASE)
_DECIMAL: Final = re.compile(r"decimal128\(\s*(\d+)\s*,\s*(\d+)\s*\)", re.IGNORECASE)


def translate(call: Node) -> Node:
    """``CAST``, which to integers cuts numbers off as Arrow does."""
    return cast_of(call)


def cast_of(call: Node, *, tries: bool = False) -> Node:
    """The cast that a call stands for; ``tries``: NULL is what cannot be cast."""
    name = function_name(call)
    given = arguments_of(call)
    text = string_literal(given[1]) if len(given) == 2 else None
    if text is None:
        raise ForbiddenSqlError(f"{name} takes a value and the name of a type as a literal: {name}(x, 'Int64')")
    target = _sql_type(text)
    if target is None:
        raise UnsupportedError(f"{name}: there is no type for {text[:100]!r} here, use CAST(… AS …)")
    value = given[0]
    if target in _WHOLE:
        spans = is_difference(value)
        value = call_of("lakeflight_whole_span", *arguments_of(value)) if spans else call_of("lakeflight_whole", value)
        if tries and not spans:  # the engine tries nothing that may raise an error of ours
            value = {"class": "OPERATOR", "type": "OPERATOR_TRY", "children": [value]}
    cast: Node = {"class": "CAST", "type": "OPERATOR_CAST", "child": value, "type_expr": type_of(target)}
    return cast | {"try_cast": True} if tries else cast


def _sql_type(text: str) -> str | None:
    """The engine's type for one of Arrow's by its name; ``None``: there is none."""
    text = text.strip()
    if dictionary := _DICTIONARY.fullmatch(text):
        text = dictionary.group(1)
    if moment := _TIMESTAMP.fullmatch(text):
        return _UNITS.get(moment.group(1).lower())
    if decimal := _DECIMAL.fullmatch(text):
        return f"DECIMAL({decimal.group(1)},{decimal.group(2)})"
    return _ARROW_TYPES.get(text.lower())


FUNCTION: Final = Rewording(
    signature="arrow_cast(value ANY, type VARCHAR) -> ANY",
    documentation="The value in a type by Arrow's name for it, a literal such as 'Int64' or 'Timestamp(Nanosecond, None)'."
    " Numbers are cut off where CAST rounds; times and differences of times are nanoseconds.",
    examples=(
        ("arrow_cast(2.7, 'Int64')", "2"),
        ("arrow_cast(TIMESTAMP '2026-01-01 00:00:01' - TIMESTAMP '2026-01-01', 'Int64')", "1000000000"),
    ),
    translate=translate,
)
