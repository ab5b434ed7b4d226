"""What the plan of a statement says about its times: what would be lost or misread, and where it stands in the text.

The plan is the binder's, before any optimization: it has every cast, with the place that it was made for.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, Final

import duckdb

from lakehouse.engine.functions import outlined, words
from lakehouse.engine.names import bound_marks_as
from lakehouse.engine.times.syntax import COMMON_MOMENT, UNITS, Place, place_of
from lakehouse.engine.tree import Node, nodes, read_plan
from lakehouse.engine.zones import elements, has_zone
from lakehouse.errors import LimitExceededError, UnsupportedError

APPROXIMATE: Final = frozenset({"approx_quantile"})  # no nanosecond of it is promised
_FINE: Final = frozenset({"TIMESTAMP_NS", "TIMESTAMPTZ_NS", "TIME_NS"})
_COARSE: Final = frozenset(
    {"TIMESTAMP", "TIMESTAMP_MS", "TIMESTAMP_S", "TIMESTAMP WITH TIME ZONE", "DATE", "TIME", "TIME WITH TIME ZONE"}
)
_ZONELESS: Final = frozenset({"TIMESTAMP_NS", "TIMESTAMP", "TIMESTAMP_MS", "TIMESTAMP_S", "DATE"})
_NESTED: Final = frozenset({"LIST", "ARRAY", "STRUCT", "TUPLE", "MAP", "UNION"})
_CONSTRUCTORS: Final = words("list_value struct_pack row map array_value")
_INFINITE: Final = frozenset({"infinity", "-infinity"})
_FINER: Final = {
    "TIMESTAMP_MS": frozenset({"TIMESTAMP", "TIMESTAMP WITH TIME ZONE", "VARCHAR"}),
    "TIMESTAMP_S": frozenset({"TIMESTAMP", "TIMESTAMP WITH TIME ZONE", "VARCHAR", "TIMESTAMP_MS"}),
}
_NODE_CHARS_MAX: Final = 8 << 10  # on average: if they take more, it is the values in them
_PLAN_CHARS_MAX: Final = 32 << 20  # of one look at a statement, as JSON; read, it takes some ten times of that
BOUND_PLAN: Final = (
    "SELECT json_serialize_plan("
    "?::VARCHAR, optimize := false, skip_null := true, skip_empty := true, skip_default := true)"
)


@dataclass(frozen=True, slots=True)
class Found:
    """Something in a bound plan that has to do with times, and where it came from."""

    what: str  # lost, nested, rounded, range, far, zone, offset, text
    place: Place | None
    function: str = ""  # that the cast is an argument of
    types: tuple[str, ...] = ()  # of all of its arguments, as it takes them
    source: str = ""
    target: str = ""


def bound_plans(connection: Any, text: str) -> Any:
    """The bound plans of a text; ``None``: it does not bind.

    A value that is not there yet is NULL to the binder, which folds what is called with it, and its casts with that. So
    it is shown something that nobody can fold, of the same length: places stay what they are. What has side effects may
    not stand for a name of the result, nor a subquery everywhere, so there are several ways to say it, the short ones first.
    """
    unfolded = [bound_marks_as(text, shown) for shown in ("random()", "(SELECT NULL)", "1")]
    for shown in dict.fromkeys((*map(outlined, unfolded), *unfolded, text)):
        plans = _plans_of(connection, shown)
        if plans is not None:
            return plans
    return None


def _plans_of(connection: Any, text: str) -> Any:
    try:
        plan = connection.execute(BOUND_PLAN, [text]).fetchall()[0][0]
        if len(plan) > _PLAN_CHARS_MAX:
            if len(plan) > _NODE_CHARS_MAX * plan.count('"return_type"'):
                raise LimitExceededError(
                    f"the constants of this statement take more than {_PLAN_CHARS_MAX} characters once they are computed:"
                    " make shorter ones, or take them from a column"
                )
            raise UnsupportedError(
                "the times of this statement are too many to look at: ask for fewer, or use subqueries"
            )
        answer = read_plan(plan)
    except duckdb.InterruptException:
        raise
    except (duckdb.Error, RecursionError, ValueError) as error:
        raise UnsupportedError("the engine does not tell how it would read the times of this statement") from error
    return None if answer["error"] else answer.get("plans")


def findings(plans: Any) -> Iterator[Found]:
    """All that concerns times, in the order in which it is to be looked at."""
    # First of all, as the others would hide it: these are about the text that a time is read from.
    every = [node for node in nodes(plans) if "type" in node]
    for node in every:
        if node["type"] == "OPERATOR_CAST":
            yield from _of_text(node)
    casts: list[Found] = []
    arguments: set[int] = set()  # ids of casts that were met as somebody's argument, before themselves
    ranges: set[int] = set()  # ids of what stands in the spans of windows
    for node in every:
        kind = str(node["type"])
        if id(node) in ranges:
            continue
        if (node.get("sql_range_order_type") or {}).get("id") in _FINE:
            yield from _ranges(node, ranges)
        if kind == "OPERATOR_CAST":
            if id(node) not in arguments:
                casts += _cast(node, "", (), False)
        elif "expression_class" in node:
            types = tuple(str(argument.get("id")) for argument in node.get("arguments") or [])
            name = str(((node.get("qname") or {}).get("path") or [kind])[-1])
            if name == "timezone" and len(types) == 2 and types[1] in _ZONELESS:
                yield Found("zone", place_of(node))
            for child in node.get("children") or []:
                if child.get("type") == "OPERATOR_CAST":
                    arguments.add(id(child))
                    yield from _cast(child, name, types, kind.startswith("COMPARE_"))
    yield from casts


def _ranges(window: Node, seen: set[int]) -> Iterator[Found]:
    """The spans that a window reaches over from a time, which the engine subtracts and adds in microseconds."""
    for key in ("start_expr", "end_expr"):
        moved = window.get(key)
        if moved is None:
            continue
        seen.update(map(id, nodes(moved)))
        [sum_, *_] = moved.get("children") or [{}]
        spans = [child for child in sum_.get("children") or [] if child.get("type") != "OPERATOR_CAST"]
        yield Found("range", place_of(spans[0]) if len(spans) == 1 else None, "RANGE")


def _cast(node: Node, function: str, types: tuple[str, ...], is_compared: bool) -> Iterator[Found]:
    [source] = node.get("arguments") or [{}]
    target = node.get("return_type") or {}
    if function in APPROXIMATE:
        return
    if source.get("id") in _FINE and target.get("id") in _COARSE:
        yield Found("lost", place_of(node), function, types, str(source["id"]), str(target["id"]))
    elif target.get("id") in _NESTED:
        if _count(source, _FINE) and _count(target, _COARSE) > _count(source, _COARSE):
            yield Found("nested", place_of(node), function, types)
        elif any(_count(target, {k}) > _count(source, {k}) and _count(source, finer) for k, finer in _FINER.items()):
            yield Found("rounded", place_of(node), function, types)
    elif source.get("id") in _FINER.get(str(target.get("id")), ()):
        if not _is_whole(node, str(target["id"])):
            yield Found("rounded", place_of(node), function, types, str(source["id"]), str(target["id"]))
    elif is_compared and target.get("id") == "TIMESTAMP_NS" and source.get("id") in (*_COARSE, "VARCHAR"):
        value = ((node.get("children") or [{}])[0].get("value") or {}).get("value")
        is_common = isinstance(value, str) and COMMON_MOMENT.fullmatch(value) is not None
        if not is_common and value not in _INFINITE:
            yield Found("far", place_of(node), function, types, str(source["id"]))


def _of_text(cast: Node) -> Iterator[Found]:
    """A text that becomes a time without a zone: constants are looked at here, and others when their value is known."""
    [source] = cast.get("arguments") or [{}]
    target = cast.get("return_type") or {}
    if not _count(target, _ZONELESS) or not _count(source, {"VARCHAR"}):
        return
    todo = list(cast.get("children") or [])
    while todo:
        child = todo.pop()
        text = (child.get("value") or {}).get("value")
        inside = child.get("children") or []
        if child.get("expression_class") == "BOUND_CONSTANT":
            if isinstance(text, str):
                for said in elements(text) if target.get("id") in _NESTED else [text]:
                    if has_zone(said):
                        yield Found("offset", None, source=said)
        elif child.get("type") == "OPERATOR_CAST" and child["arguments"][0].get("id") in _FINE | _COARSE:
            continue
        elif child.get("type") == "OPERATOR_CAST" or _called(child) in _CONSTRUCTORS:
            todo += inside
        elif target.get("id") in _ZONELESS - {"DATE"} and "type_info" not in source and not _is_guarded(child):
            yield Found("text", place_of(cast))


def _is_guarded(expression: Node) -> bool:
    values = [str((child.get("value") or {}).get("value")) for child in expression.get("children") or []]
    return _called(expression) == "regexp_replace" and any("write it in UTC" in value for value in values)


def _called(expression: Node) -> str:
    return str(((expression.get("qname") or {}).get("path") or [""])[-1])


def _is_whole(cast: Node, target: str) -> bool:
    """Whether what is cast has no more than the seconds, or milliseconds, that it is cast to."""
    [child] = cast.get("children") or [{}]
    constant = child.get("value") or {}
    value = constant.get("value")
    if constant.get("is_null"):
        return True
    if isinstance(value, str):
        return COMMON_MOMENT.fullmatch(value) is not None and "." not in value
    first = (child.get("children") or [{}])[0].get("value") or {}
    return _called(child) == "date_trunc" and first.get("value") == UNITS[target]


def _count(kind: Node, wanted: Collection[str]) -> int:
    return sum(node.get("id") in wanted for node in nodes(kind))
