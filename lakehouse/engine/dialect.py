"""What the original's dialect has and the engine does not: a closed list of constructs, said in the engine's words.

A statement has some of it only if the engine would refuse it, or fail on it, as it stands; every other statement keeps its own
text. What can be a function is one (``functions/``); here is what is decided by a literal, by the number of arguments or by
the place: ``arrow_cast``, ``make_array``, ``named_struct``, ``first_value`` as an aggregate, what aggregates of ours are called
where they have a FILTER, casts of times and of their differences to integers, and literal times with nanoseconds, of which
the engine would keep the microseconds only. What would be another value is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Final

from lakehouse.engine.functions import Rewording, own_functions
from lakehouse.engine.tree import (
    Node,
    arguments_of,
    call_of,
    cast_target,
    function_name,
    is_difference,
    nodes,
    rename,
    string_literal,
    type_of,
)
from lakehouse.engine.written import name_items, written

_INTEGERS: Final = frozenset({"bigint", "int8", "int64", "long"})
_AGGREGATES: Final = {"first_value": "first", "last_value": "last"}
# Macros, which can carry neither FILTER nor DISTINCT nor a window, and the aggregates of the engine that they are.
_SAME: Final = {
    "approx_percentile_cont": "approx_quantile",
    "approx_distinct": "approx_count_distinct",
    "var": "var_samp",
    "var_sample": "var_samp",
    "var_population": "var_pop",
    "covar": "covar_samp",
}
_OF_REALS: Final = frozenset({"approx_percentile_cont"})  # integers too are reals to them
# Types that end with the microsecond, and those of the same times that do not.
_FINE: Final = {
    "timestamp": "TIMESTAMP_NS",
    "datetime": "TIMESTAMP_NS",
    "timestamp_us": "TIMESTAMP_NS",
    "timestamp with time zone": "TIMESTAMPTZ_NS",
    "timestamptz": "TIMESTAMPTZ_NS",
    "time": "TIME_NS",
}
_NANOSECONDS: Final = re.compile(r":\d\d\.\d{6}(?!0+(?!\d))\d+")
# Calls whose answer may be a time or a difference of times.
_MAY_BE_TIMES: Final = frozenset(
    {"min", "max", "any_value", "first", "last", "lag", "lead", "now", "coalesce", "nullif"}
)


def translated(connection: Any, tree: Node) -> str | None:
    """The text of a statement in the engine's words; ``None``: it has nothing of the original's alone.

    Raises:
        ForbiddenSqlError, UnsupportedError: It asks for what there is no exact answer to.
    """
    calls = [*_concerned(tree)]
    if not calls:
        return None
    prefix = ""
    if (tree.get("from_table") or {}).get("type") == "SHOW_REF" and "query" in tree["from_table"]:
        prefix = "SUMMARIZE " if tree["from_table"].get("show_type") == "SUMMARY" else "DESCRIBE "
        tree = tree["from_table"]["query"]
    name_items(connection, tree, lambda item: any(True for _ in _concerned(item)))
    for call in reversed(calls):  # what is inside of another first
        _translate(call)
    return prefix + written(connection, [tree])[0]


def _concerned(tree: Node) -> Iterator[Node]:
    for node in nodes(tree):
        kind, name = node.get("class"), function_name(node)
        if kind == "FUNCTION" and len((node.get("qualified_name") or {}).get("path") or []) == 1:
            is_plain = not node.get("filter") and not node.get("distinct")
            if name in _rewordings() or name in _AGGREGATES or (name in _SAME and not is_plain):
                yield node
        elif kind == "CAST":
            target = cast_target(node)
            child = node.get("child") or {}
            if (
                target == "float64"
                or _loses_nanoseconds(target, child)
                or (target in _INTEGERS and _may_be_time(child))
            ):
                yield node


def _translate(node: Node) -> None:
    if node.get("class") == "CAST":
        _cast(node)
        return
    name = function_name(node)
    if name in _rewordings():
        alias = node.get("alias")
        new = _rewordings()[name].translate(node)
        kept = {key: node[key] for key in ("query_location", "query_location_length") if key in node}
        node.clear()
        node.update(kept | new)
        if alias:
            node["alias"] = alias
    else:
        rename(node, _AGGREGATES.get(name) or _SAME[name])
        if name in _OF_REALS:
            value = node["arguments"][0]
            value["expression"] = {
                "class": "CAST",
                "type": "OPERATOR_CAST",
                "child": value["expression"],
                "type_expr": type_of("DOUBLE"),
            }


def _loses_nanoseconds(target: str, child: Node) -> bool:
    return target in _FINE and _NANOSECONDS.search(string_literal(child) or "") is not None


def _cast(node: Node) -> None:
    target = cast_target(node)
    if target == "float64":
        node["type_expr"] = type_of("DOUBLE")
    elif target in _FINE:
        node["type_expr"] = type_of(_FINE[target])
    else:
        node["child"] = _counted(node["child"])


def _may_be_time(child: Node) -> bool:
    if child.get("class") == "COLUMN_REF":
        return True
    return function_name(child) in _MAY_BE_TIMES or is_difference(child)


def _counted(child: Node) -> Node:
    """What may be a time, or a difference of times, as the number of its nanoseconds; anything else as it is."""
    parts, plain, once = [child], "lakeflight_count", "lakeflight_counted"
    if is_difference(child):
        parts, plain, once = arguments_of(child), "lakeflight_span", "lakeflight_spanned"
    return call_of(plain if all(part.get("class") == "COLUMN_REF" for part in parts) else once, *parts)


@cache
def _rewordings() -> Mapping[str, Rewording]:
    return {function.name: function for function in own_functions() if isinstance(function, Rewording)}


__all__ = ["translated"]
