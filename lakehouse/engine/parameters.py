"""Types of a statement's parameters, for clients that convert by declared type.

DuckDB reports no parameter types. So sentinels are bound and the plan is read: around each sentinel stands the cast
that the binder chose. Refuses to guess: a parameter without a cast is text, which binds against every type.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any, Final

import duckdb
import pyarrow as pa

from lakehouse.engine.output import EDGE_TIMESTAMP
from lakehouse.engine.tree import Node, nodes, parameter_number

_FIRST_SENTINEL: Final = 912_345_001
_ATTEMPTS_MAX: Final = 8
_TYPES: Final[dict[str, Any]] = {
    "BIGINT": pa.int64(),
    "INTEGER": pa.int64(),  # a number declared as int64 is accepted from every client; narrower ones are not
    "SMALLINT": pa.int64(),
    "TINYINT": pa.int64(),
    "UBIGINT": pa.int64(),
    "UINTEGER": pa.int64(),
    "HUGEINT": pa.int64(),
    "DOUBLE": pa.float64(),
    "FLOAT": pa.float64(),
    "BOOLEAN": pa.bool_(),
    "DATE": pa.date32(),
    "TIMESTAMP": EDGE_TIMESTAMP,
    "TIMESTAMP_NS": EDGE_TIMESTAMP,
    "TIMESTAMP WITH TIME ZONE": EDGE_TIMESTAMP,
    "VARCHAR": pa.string(),
}


def parameter_schema(tree: Node, count: int, explain: Callable[[Sequence[Any]], str], instances: frozenset[int]) -> Any:
    """One field per parameter, named by its number.

    Args:
        explain: Binds values and returns the unoptimized plan as JSON text; raises ``duckdb.Error``.
        instances: Numbers of parameters that are instances of ``view_instance``: text.
    """
    if count == 0:
        return pa.schema([])
    counted = _row_counts(tree)
    kinds: list[Any] = [pa.int64() if n in counted else pa.string() for n in range(1, count + 1)]
    values: list[Any] = [_FIRST_SENTINEL + n if n in counted else str(_FIRST_SENTINEL + n) for n in range(1, count + 1)]
    plan = _plan(explain, values, instances | counted)
    for number in range(1, count + 1):
        if plan is None or number in counted or number in instances:
            continue
        if isinstance(values[number - 1], int):
            kinds[number - 1] = pa.int64()
            continue
        match = re.search(rf"CAST\('{_FIRST_SENTINEL + number}' AS ([A-Z_ ]+)(\(\d+,\s*\d+\))?\)", plan)
        if match is not None:
            kinds[number - 1] = pa.float64() if match.group(1) == "DECIMAL" else _TYPES.get(match.group(1), pa.string())
    return pa.schema([pa.field(str(number), kind) for number, kind in enumerate(kinds, 1)])


def _plan(explain: Callable[[Sequence[Any]], str], values: list[Any], fixed: frozenset[int]) -> str | None:
    """The plan's text. Where text does not bind, one parameter after the other is tried as a number."""
    open_positions = [n - 1 for n in range(1, len(values) + 1) if n not in fixed]
    for attempt in range(_ATTEMPTS_MAX):
        try:
            return " ".join(_strings(json.loads(explain(values))))
        except (duckdb.BinderException, duckdb.ConversionException, duckdb.InvalidInputException):
            if attempt >= len(open_positions):
                return None
            values[open_positions[attempt]] = _FIRST_SENTINEL + open_positions[attempt] + 1
    return None


def _strings(value: Any) -> list[str]:
    found: list[str] = []
    todo = [value]
    while todo:
        part = todo.pop()
        if isinstance(part, str):
            found.append(part)
        elif isinstance(part, list):
            todo.extend(part)
        elif isinstance(part, dict):
            todo.extend(part.values())
    return found


def _row_counts(tree: Node) -> frozenset[int]:
    """Parameters that are a LIMIT or an OFFSET."""
    limits = [node for node in nodes(tree) if node.get("type") == "LIMIT_MODIFIER"]
    numbers = [parameter_number(node.get(key)) for node in limits for key in ("limit", "offset")]
    return frozenset(number for number in numbers if number is not None)
