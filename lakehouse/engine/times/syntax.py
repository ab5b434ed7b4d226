"""Expressions of time as the parser has them: literals, casts and calls, told apart and made."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from lakehouse.engine.functions import CLOCK_KEYWORDS
from lakehouse.engine.tree import Node, call_of, cast_target, function_name, nodes, string_literal

COARSE_CASTS: Final = frozenset(
    {"date", "time", "timetz", "time with time zone", "timestamp", "timestamp_us", "timestamp_ms", "timestamp_s"}
) | {"datetime", "timestamptz", "timestamp with time zone"}
CASTS: Final = COARSE_CASTS | {"timestamp_ns", "list", "struct", "array", "map", "row", "tuple", "union"}
# A moment in a year that nanoseconds have, well formed for sure.
COMMON_MOMENT: Final = re.compile(
    r"\s*(?:1[7-9]|2[01])\d\d-(?:0[1-9]|1[0-2])-(?:0[1-9]|1\d|2[0-8])"
    r"(?:[ T](?:[01]\d|2[0-3]):[0-5]\d(?::[0-5]\d(?:\.\d{1,9})?)?)?Z?\s*"
)
# What is cast to these is rounded from whatever is finer, where it should be what a moment is in.
UNITS: Final = {"TIMESTAMP_MS": "millisecond", "TIMESTAMP_S": "second"}

_SPAN: Final = re.compile(r"\s*([+-]?\d{1,4})\s*([a-z]+?)s?\s*", re.IGNORECASE)
_NANOSECONDS: Final = {  # of the units that are always as long, in UTC
    "microsecond": 1_000,
    "millisecond": 1_000_000,
    "second": 1_000_000_000,
    "minute": 60_000_000_000,
    "hour": 3_600_000_000_000,
    "day": 86_400_000_000_000,
    "week": 604_800_000_000_000,
}


@dataclass(frozen=True, slots=True)
class Place:
    """A part of the text as the parser counts it."""

    begin: int
    size: int


def place_of(node: Node) -> Place | None:
    if "query_location" not in node:
        return None
    return Place(int(node["query_location"]), int(node.get("query_location_length", 0)))


def is_plain_moment(cast: Node) -> bool:
    """A literal moment as everybody writes it, cast to what it fits into."""
    text = string_literal(cast.get("child") or {})
    is_exact = cast_target(cast).upper() not in UNITS or "." not in (text or "")
    return text is not None and is_exact and COMMON_MOMENT.fullmatch(text) is not None


def is_coarse_cast(node: Node) -> bool:
    return cast_target(node) in COARSE_CASTS


def constant_span(node: Node) -> int | None:
    """The nanoseconds of ``INTERVAL '90 seconds'`` and ``INTERVAL 90 SECOND``; ``None`` for any other expression."""
    if node.get("class") == "CAST" and cast_target(node) == "interval":
        said = _SPAN.fullmatch(string_literal(node.get("child") or {}) or "")
        return int(said[1]) * _NANOSECONDS[said[2].lower()] if said and said[2].lower() in _NANOSECONDS else None
    name = function_name(node)
    unit = name.removeprefix("to_").removesuffix("s")
    if unit not in _NANOSECONDS or name != f"to_{unit}s":
        return None
    [number] = [argument["expression"] for argument in node.get("arguments") or []]
    for wrapped in (
        "bigint",
        "",
        "double",
    ):  # what the parser makes of INTERVAL 90 SECOND: CAST(trunc(CAST(90 AS DOUBLE)) …)
        if wrapped and cast_target(number) == wrapped:
            number = number["child"]
        elif not wrapped and function_name(number) == "trunc":
            number = number["arguments"][0]["expression"]
    literal = number.get("literal") or {}
    digits = str(literal.get("text", ""))
    is_integer = literal.get("kind") in ("INTEGER", "STRING") and re.fullmatch(r"\d{1,4}", digits) is not None
    return int(digits) * _NANOSECONDS[unit] if is_integer else None


def integer_literal(number: int) -> Node:
    return {"class": "CONSTANT", "type": "VALUE_CONSTANT", "literal": {"kind": "INTEGER", "text": str(number)}}


def is_zoning(node: Node) -> bool:
    return (
        node.get("class") == "FUNCTION" and function_name(node) == "timezone" and len(node.get("arguments") or []) == 2
    )


def where(holder: Any, wanted: Callable[[Node], bool]) -> list[tuple[Any, Any]]:
    """Where such expressions hang, the inner ones first."""
    found, todo = [], [holder]
    while todo:
        part = todo.pop()
        for key, value in part.items() if isinstance(part, dict) else enumerate(part):
            if isinstance(value, (dict, list)):
                todo.append(value)
                if isinstance(value, dict) and wanted(value):
                    found.append((part, key))
    return found[::-1]


def is_far(node: Any) -> bool:
    """Whether a constant may be no moment, or one that nanoseconds do not reach."""
    text = string_literal(node) if isinstance(node, dict) else None
    return text is not None and not COMMON_MOMENT.fullmatch(text)


def depends_on_rows(node: Node) -> bool:
    for part in nodes(node):
        kind = part.get("class")
        if kind == "COLUMN_REF":
            names = part.get("column_names") or []
            if len(names) != 1 or str(names[0]).lower() not in CLOCK_KEYWORDS:
                return True
        elif kind in ("SUBQUERY", "STAR", "POSITIONAL_REFERENCE", "WINDOW", "LAMBDA"):
            return True
    return False


def around(node: Node, name: str) -> Node:
    """A call of one argument, in the place and under the alias that the argument had."""
    alias = node.pop("alias", None)
    call = call_of(name, node)
    return {**call, "alias": alias} if alias else call
