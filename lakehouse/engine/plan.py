"""What DuckDB's own optimizer makes of a statement: its logical plan, as data.

Planned over empty stand-ins of the relations and with the rules alone that hold for any rows. Whatever follows from
statistics, from how many rows there are or from what they hold stays off: a plan that is right for no rows at all
would say nothing about the rows that the statement will read.
"""

from __future__ import annotations

from typing import Any, Final

import duckdb

from lakehouse.engine.limits import EngineLimits
from lakehouse.engine.sql_types import literal
from lakehouse.engine.tree import Node, nodes, read_plan

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


def planning_setting(connection: Any) -> str:
    """The setting of a database that plans: every rule of this version but those above is off."""
    known = connection.execute("SELECT name FROM duckdb_optimizers()").fetchall()
    return f"disabled_optimizers = {literal(','.join(name for (name,) in known if name not in _RULES))}"


def may_reject_rows(tree: Node) -> bool:
    """Whether the statement has a filter, or asks for no rows at all, as tools do that look for columns.

    Without one there is nothing to learn from its plan.
    """
    return any(node.keys() & _FILTERS or _is_zero(node.get("limit")) for node in nodes(tree))


def plan_of(connection: Any, text: str, limits: EngineLimits) -> Node | None:
    """The plan of a SELECT that binds and has no parameters; ``None``: the engine cannot tell it, or it is too long."""
    try:
        plan = connection.execute(_PLAN, [text]).fetchall()[0][0]
        if len(plan) > limits.plan_chars_max:
            return None
        answer = read_plan(plan)
    except (duckdb.InterruptException, duckdb.OutOfMemoryException):
        raise
    except (duckdb.Error, RecursionError, ValueError):
        return None
    return None if answer["error"] else answer


def _is_zero(limit: Any) -> bool:
    return isinstance(limit, dict) and (limit.get("literal") or {}).get("text") == "0"
