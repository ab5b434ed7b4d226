"""What DuckDB's own optimizer makes of a statement: its logical plan, as data.

Planned over empty stand-ins of the relations and with the rules alone that hold for any rows. Whatever follows from
statistics, from how many rows there are or from what they hold stays off: a plan that is right for no rows at all
would say nothing about the rows that the statement will read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, Final

import duckdb

from lakehouse.engine.gate import Checked
from lakehouse.engine.limits import EngineLimits
from lakehouse.engine.names import BOUND_VARIABLE
from lakehouse.engine.sql_types import literal
from lakehouse.engine.tree import Node, nodes

# Each rewrites a plan into one that is equal for all rows, and helps a filter on its way down.
_RULES: Final = (
    "expression_rewriter",
    "filter_pullup",
    "filter_pushdown",
    "empty_result_pullup",
    "cte_filter_pusher",
    "cte_inlining",
    "deliminator",
    "unnest_rewriter",
    "outer_join_simplification",
)
_PLAN: Final = (
    "SELECT json_serialize_plan("
    "?::VARCHAR, optimize := true, skip_null := true, skip_empty := true, skip_default := true)"
)
_FILTERS: Final = frozenset({"where_clause", "having", "qualify", "condition"})
_PARAMETER: Final = re.compile(rb"\?|\$[0-9]+")


def planning_setting(connection: Any) -> str:
    """The setting of a database that plans: every rule of this version but those above is off."""
    known = connection.execute("SELECT name FROM duckdb_optimizers()").fetchall()
    return f"disabled_optimizers = {literal(','.join(name for (name,) in known if name not in _RULES))}"


def plan_of(connection: Any, checked: Checked, values: Sequence[Any], limits: EngineLimits) -> Node | None:
    """The plan of a SELECT that binds; ``None`` where the engine cannot tell it, or it is too long to read.

    Args:
        values: Of all of its parameters, in order.
    """
    if not _may_reject_rows(checked.tree):  # nothing to learn
        return None
    closed = _with_values(connection, checked, values) if values else checked.text
    if closed is None:
        return None
    try:
        plan = connection.execute(_PLAN, [closed]).fetchall()[0][0]
        if len(plan) > limits.plan_chars_max:
            return None
        answer: Node = json.loads(plan)
    except (duckdb.InterruptException, duckdb.OutOfMemoryException):
        raise
    except (duckdb.Error, RecursionError, ValueError):
        return None
    return None if answer["error"] else answer


def _may_reject_rows(tree: Node) -> bool:
    """Whether the statement has a filter, or asks for no rows at all, as tools do that look for columns."""
    return any(node.keys() & _FILTERS or _is_zero(node.get("limit")) for node in nodes(tree))


def _is_zero(limit: Any) -> bool:
    return isinstance(limit, dict) and (limit.get("literal") or {}).get("text") == "0"


def _with_values(connection: Any, checked: Checked, values: Sequence[Any]) -> str | None:
    """The text with its parameters closed: the engine plans no others. A value means what it means when it is bound.

    A bound string is an untyped literal, as a quoted one is. Every other value keeps its type in a variable.
    """
    if checked.splices:  # positions are those of the text before
        return None
    data = checked.text.encode()
    end = len(data)
    parameters = [node for node in nodes(checked.tree) if node.get("class") == "PARAMETER"]
    places = {(int(node.get("query_location", 0)), int(node["identifier"])) for node in parameters}
    pieces: list[bytes] = []
    for place, number in sorted(places, reverse=True):
        match = _PARAMETER.match(data, place)
        value = values[number - 1]
        if match is None or match.end() > end or (isinstance(value, str) and "\0" in value):
            return None
        closed = f"struct_extract(getvariable('{BOUND_VARIABLE}'), 'v{number}')"
        if isinstance(value, str):
            closed = literal(value)
        pieces += [data[match.end() : end], f" ({closed}) ".encode()]
        end = place
    try:
        closed_text = b"".join([data[:end], *reversed(pieces)]).decode()
        others = {f"v{number}": value for number, value in enumerate(values, 1) if not isinstance(value, str)}
        if others:
            members = ", ".join(f"{name} := ${name}" for name in others)
            connection.execute(f"SET VARIABLE {BOUND_VARIABLE} = struct_pack({members})", others)
    except duckdb.InterruptException:
        raise
    except (duckdb.Error, UnicodeError):
        return None
    return closed_text
