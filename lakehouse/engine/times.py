"""Times keep their nanoseconds and their zone: the places of a statement where the engine would lose either, repaired.

DuckDB has most of its functions of time for microseconds, and a ``TIMESTAMP_NS`` that meets one is *rounded*: a moment just
before a border is in the next hour, day or year. Which expressions are concerned only the binder knows, so its plan is
read, before any optimization: it has every cast, with the place in the text that it was made for. A time that is read
more coarsely is brought down to the microsecond that it is in; what needs the rest is done by functions of our own
(``functions/lakeflight_*.sql``). Whatever else would lose nanoseconds is refused, by name: no list has to be complete.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any, Final

import duckdb

from lakehouse.engine.alike import Alike
from lakehouse.engine.functions import CLOCK_KEYWORDS, outlined, words
from lakehouse.engine.names import CATALOG_NAME, SCHEMA_NAME, bound_marks_as
from lakehouse.engine.tree import Node, function_name, nodes, string_literal
from lakehouse.engine.zones import elements, has_zone, refuse_zone
from lakehouse.errors import ForbiddenSqlError, UnsupportedError

# What they answer is the same for a moment and for the microsecond it is in.
BY_MICROSECOND: Final = words(
    """
    century date_diff datediff date_part datepart date_trunc datetrunc day dayname dayofmonth dayofweek dayofyear decade
    epoch epoch_us era hour isfinite isinf isodow isoyear julian last_day microsecond millennium millisecond
    minute month monthname quarter second timezone timezone_hour timezone_minute week weekday weekofyear year yearweek
    time_bucket age
    """
)
# These make new times of it, or of several: a time with nanoseconds is refused.
WHOLE_MICROSECONDS: Final = words("avg equi_width_bins favg generate_series mad mean quantile_cont range")
APPROXIMATE: Final = frozenset({"approx_quantile"})  # no nanosecond of it is promised
OWN: Final = {  # name and number of arguments, and what is called instead
    ("+", 2): "lakeflight_plus",
    ("add", 2): "lakeflight_plus",
    ("-", 2): "lakeflight_less",
    ("subtract", 2): "lakeflight_less",
    ("date_sub", 3): "lakeflight_date_sub",
    ("datesub", 3): "lakeflight_date_sub",
    ("age", 2): "lakeflight_age",
    ("epoch_ms", 1): "lakeflight_epoch_ms",
}
_DIFFERENCE: Final = "lakeflight_difference"
_ZONED: Final = "lakeflight_timezone"
_FINE: Final = frozenset({"TIMESTAMP_NS", "TIMESTAMPTZ_NS", "TIME_NS"})
_COARSE: Final = frozenset(
    {"TIMESTAMP", "TIMESTAMP_MS", "TIMESTAMP_S", "TIMESTAMP WITH TIME ZONE", "DATE", "TIME", "TIME WITH TIME ZONE"}
)
_ZONELESS: Final = frozenset({"TIMESTAMP_NS", "TIMESTAMP", "TIMESTAMP_MS", "TIMESTAMP_S", "DATE"})
_NESTED: Final = frozenset({"LIST", "ARRAY", "STRUCT", "TUPLE", "MAP", "UNION"})
_COARSE_CASTS: Final = frozenset(
    {"date", "time", "timetz", "time with time zone", "timestamp", "timestamp_us", "timestamp_ms", "timestamp_s"}
) | {"datetime", "timestamptz", "timestamp with time zone"}
_CASTS: Final = _COARSE_CASTS | {"timestamp_ns", "list", "struct", "array", "map", "row", "tuple", "union"}
_CONSTRUCTORS: Final = words("list_value struct_pack row map array_value")
# They take and give no times, or times as they are: a statement that calls no others needs no plan.
_HARMLESS: Final = words("count count_star min max sum any_value list array_agg string_agg lower upper length concat")
_SCHEMAS: Final = ([SCHEMA_NAME], [CATALOG_NAME], [CATALOG_NAME, SCHEMA_NAME], ["system"], ["system", "main"])
# A moment in a year that nanoseconds have, well formed for sure.
_COMMON_MOMENT: Final = re.compile(
    r"\s*(?:1[7-9]|2[01])\d\d-(?:0[1-9]|1[0-2])-(?:0[1-9]|1\d|2[0-8])"
    r"(?:[ T](?:[01]\d|2[0-3]):[0-5]\d(?::[0-5]\d(?:\.\d{1,9})?)?)?Z?\s*"
)
_INFINITE: Final = frozenset({"infinity", "-infinity"})
# What is cast to these is rounded from whatever is finer, where it should be what a moment is in.
_UNITS: Final = {"TIMESTAMP_MS": "millisecond", "TIMESTAMP_S": "second"}
_FINER: Final = {
    "TIMESTAMP_MS": frozenset({"TIMESTAMP", "TIMESTAMP WITH TIME ZONE", "VARCHAR"}),
    "TIMESTAMP_S": frozenset({"TIMESTAMP", "TIMESTAMP WITH TIME ZONE", "VARCHAR", "TIMESTAMP_MS"}),
}
_TIMESTAMP_TYPE: Final = {
    "class": "TYPE",
    "type": "TYPE",
    "type_name": "timestamp",
    "qualified_name": {"path": ["timestamp"]},
}
_ROUNDS_MAX: Final = 16  # a repaired sum of a sum of a sum … has nanoseconds that the one around it would lose
_PLAN_CHARS_MAX: Final = 32 << 20  # of one look at a statement, as JSON; read, it takes some ten times of that
BOUND_PLAN: Final = (
    "SELECT json_serialize_plan("
    "?::VARCHAR, optimize := false, skip_null := true, skip_empty := true, skip_default := true)"
)

_ERROR: Final = "SELECT json_serialize_plan(?::VARCHAR, optimize := false)->>'$.error'"


@dataclass(frozen=True, slots=True)
class _Place:
    """A part of the text as the parser counts it."""

    begin: int
    size: int


@dataclass(frozen=True, slots=True)
class _Found:
    """Something in a bound plan that has to do with times, and where it came from."""

    what: str  # lost, nested, rounded, range, far, zone, offset, text
    place: _Place | None
    function: str = ""  # that the cast is an argument of
    types: tuple[str, ...] = ()  # of all of its arguments, as it takes them
    source: str = ""
    target: str = ""


Parse = Callable[[str], Node]
Write = Callable[[Node], str]


def may_concern(tree: Node) -> bool:
    """Whether a statement could lose something of a time: it calls or casts, or compares with a far constant."""
    for node in nodes(tree):
        text = string_literal(node)
        if text is not None and any(map(has_zone, elements(text))):
            return True
        match node.get("class"):
            case "FUNCTION" | "WINDOW":
                if function_name(node) not in _HARMLESS or node.get("class") == "WINDOW":
                    return True
            case "CAST":
                if _cast_target(node) in _CASTS and not _is_plain_moment(node):
                    return True
            case "COMPARISON" | "BETWEEN":
                if any(_is_far(node.get(key)) for key in ("left", "right", "lower", "upper", "input")):
                    return True
            case "PARAMETER":
                return True
            case "OPERATOR":
                if any(_is_far(child) for child in (node.get("children") or [])[1:]):
                    return True
    return False


def needs_repair(connection: Any, text: str, tree: Node, parse: Parse, write: Write) -> bool:
    """Whether the engine would lose something of a time in a text without open parameters."""
    plans = _plans(connection, text)
    if (
        plans is None
    ):  # it does not bind, but might once AT TIME ZONE answers in times that the engine has functions for
        return any(map(_is_zoning, nodes(tree)))
    return any(True for _ in _findings(plans)) or _repair_folded(connection, {"": tree}, parse, write, try_only=True)


def repaired(connection: Any, text: str, tree: Node, parse: Parse, write: Write) -> str:
    """The text of a statement that loses nothing of its times; the same one if there is nothing to repair.

    Args:
        text: Without open parameters.  tree: Of this text, with the places of it.
    Raises:
        UnsupportedError: It would lose nanoseconds, in a way that there is no repair for.
        ForbiddenSqlError: A literal time is moved to a zone: it is not clear which way.
    """
    if _plans(connection, text) is None and any(map(_is_zoning, nodes(tree))):
        text, tree = _with_zones_turned(connection, tree, parse, write)
    reason = _Found("lost", None)
    for repairs in range(_ROUNDS_MAX):
        plans = _plans(connection, text)
        if plans is None and repairs:
            raise _cannot_be_kept(reason)
        if plans is None:  # whoever runs it will say so
            return text
        found = [*_findings(plans)]
        reason = found[0] if found else reason
        # What is found has its place in this text, so it comes first.
        changed = bool(found) and _repair(tree, found)
        if not changed and not _repair_folded(connection, {"": tree}, parse, write):
            if repairs and not _binds(connection, text):
                raise _cannot_be_kept(reason)
            return text
        text = write(tree)
        tree = parse(text)
    raise UnsupportedError("times are added up too deep in each other to keep their nanoseconds: use subqueries")


def as_plain_calls(tree: Node) -> bool:
    """``time.year()`` is parsed as a function ``year`` of a schema ``time``, and bound without a place."""
    changed = False
    for node in nodes(tree):
        path = [str(part) for part in (node.get("qualified_name") or {}).get("path") or []]
        if node.get("class") != "FUNCTION" or len(path) < 2 or [part.lower() for part in path[:-1]] in _SCHEMAS:
            continue
        column = {"class": "COLUMN_REF", "type": "COLUMN_REF", "column_names": path[:-1]}
        node["arguments"] = [{"expression": column}, *(node.get("arguments") or [])]
        _rename(node, path[-1])
        changed = True
    return changed


# --- what the plan says


def _plans(connection: Any, text: str) -> Any:
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
            raise UnsupportedError(
                "the times of this statement are too many to look at: ask for fewer, or use subqueries"
            )
        answer = json.loads(plan)
    except duckdb.InterruptException:
        raise
    except (duckdb.Error, RecursionError, ValueError) as error:
        raise UnsupportedError("the engine does not tell how it would read the times of this statement") from error
    return None if answer["error"] else answer.get("plans")


def _binds(connection: Any, text: str) -> bool:
    """Whether a repaired text binds with our own functions in full, of which the plan shows the outlines."""
    texts = dict.fromkeys((bound_marks_as(text, "random()"), text))
    return any(connection.execute(_ERROR, [one]).fetchall()[0][0] == "false" for one in texts)


def _findings(plans: Any) -> Iterator[_Found]:
    # First of all, as the others would hide it: these are about the text that a time is read from.
    for node in nodes(plans):
        if node.get("type") == "OPERATOR_CAST":
            yield from _of_text(node)
    casts: list[_Found] = []
    arguments: set[int] = set()  # ids of casts that were met as somebody's argument, before themselves
    ranges: set[int] = set()  # ids of what stands in the spans of windows
    for node in nodes(plans):
        kind = str(node.get("type"))
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
                yield _Found("zone", _place(node))
            for child in node.get("children") or []:
                if child.get("type") == "OPERATOR_CAST":
                    arguments.add(id(child))
                    yield from _cast(child, name, types, kind.startswith("COMPARE_"))
    yield from casts


def _ranges(window: Node, seen: set[int]) -> Iterator[_Found]:
    """The spans that a window reaches over from a time, which the engine subtracts and adds in microseconds."""
    for key in ("start_expr", "end_expr"):
        moved = window.get(key)
        if moved is None:
            continue
        seen.update(map(id, nodes(moved)))
        [sum_, *_] = moved.get("children") or [{}]
        spans = [child for child in sum_.get("children") or [] if child.get("type") != "OPERATOR_CAST"]
        yield _Found("range", _place(spans[0]) if len(spans) == 1 else None, "RANGE")


def _cast(node: Node, function: str, types: tuple[str, ...], is_compared: bool) -> Iterator[_Found]:
    [source] = node.get("arguments") or [{}]
    target = node.get("return_type") or {}
    if function in APPROXIMATE:
        return
    if source.get("id") in _FINE and target.get("id") in _COARSE:
        yield _Found("lost", _place(node), function, types, str(source["id"]), str(target["id"]))
    elif target.get("id") in _NESTED:
        if _count(source, _FINE) and _count(target, _COARSE) > _count(source, _COARSE):
            yield _Found("nested", _place(node), function, types)
        elif any(_count(target, {k}) > _count(source, {k}) and _count(source, finer) for k, finer in _FINER.items()):
            yield _Found("rounded", _place(node), function, types)
    elif source.get("id") in _FINER.get(str(target.get("id")), ()):
        if not _is_whole(node, str(target["id"])):
            yield _Found("rounded", _place(node), function, types, str(source["id"]), str(target["id"]))
    elif is_compared and target.get("id") == "TIMESTAMP_NS" and source.get("id") in (*_COARSE, "VARCHAR"):
        value = ((node.get("children") or [{}])[0].get("value") or {}).get("value")
        is_common = isinstance(value, str) and _COMMON_MOMENT.fullmatch(value) is not None
        if not is_common and value not in _INFINITE:
            yield _Found("far", _place(node), function, types, str(source["id"]))


def _of_text(cast: Node) -> Iterator[_Found]:
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
                        yield _Found("offset", None, source=said)
        elif child.get("type") == "OPERATOR_CAST" and child["arguments"][0].get("id") in _FINE | _COARSE:
            continue
        elif child.get("type") == "OPERATOR_CAST" or _called(child) in _CONSTRUCTORS:
            todo += inside
        elif target.get("id") in _ZONELESS - {"DATE"} and "type_info" not in source and not _is_guarded(child):
            yield _Found("text", _place(cast))


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
        return _COMMON_MOMENT.fullmatch(value) is not None and "." not in value
    first = (child.get("children") or [{}])[0].get("value") or {}
    return _called(child) == "date_trunc" and first.get("value") == _UNITS[target]


def _place(node: Node) -> _Place | None:
    if "query_location" not in node:
        return None
    return _Place(int(node["query_location"]), int(node.get("query_location_length", 0)))


def _count(kind: Node, wanted: Collection[str]) -> int:
    return sum(node.get("id") in wanted for node in nodes(kind))


# --- what is done about it


def _repair(tree: Node, found: list[_Found]) -> bool:
    """Change the tree in place; whether anything was changed."""
    if any(one.what == "lost" for one in found):  # what is far is another question once these are repaired
        found = [one for one in found if one.what != "far"]
    parts = _parts(tree, {one.place for one in found})
    named = {
        str(item["alias"]).lower() for node in nodes(tree) for item in node.get("select_list") or [] if "alias" in item
    }
    # What is found at the name of a column of the result was copied there, and is repaired where it comes from.
    copies: list[_Found] = []
    others: list[_Found] = []
    for one in found:
        names = parts[one.place].node.get("column_names") or [] if one.place in parts else []
        (copies if len(names) == 1 and str(names[0]).lower() in named else others).append(one)
    return _repair_parts(tree, others, parts) or _repair_parts(tree, copies, parts)


def _repair_parts(tree: Node, found: list[_Found], parts: dict[_Place | None, _Part]) -> bool:
    if not found:
        return False
    alike = Alike(tree)
    changes: list[tuple[_Part, _Found]] = []
    done: set[int] = set()
    # The averages of SUMMARIZE stand nowhere in the text. They are a look at the data, to the microsecond.
    summarizes = any(node.get("show_type") == "SUMMARY" for node in nodes(tree))
    for one in found:
        if one.place is None and one.function == "avg" and summarizes:
            continue
        if one.what == "offset":
            refuse_zone(one.source)
        part = parts.get(one.place) if one.place is not None else None
        if part is not None and not one.function and part.is_argument_of_a_cast:  # in a lambda a cast has this place
            part = _Part(part.around, {"": part.around}, "", part.around, ())
        if part is not None:
            twins = [
                twin for twin in part.twins(alike, of_itself=_is_of_itself(part.node, one)) if id(twin.node) not in done
            ]
            done.update(id(twin.node) for twin in twins)
            changes += [(twin, one) for twin in twins]
        elif one.what == "rounded":
            raise _rounds()
        elif one.what not in ("far", "zone", "text"):
            raise _loses(one)
    changed = False
    for part, one in changes:
        if one.what == "far":
            changed |= _bound(part, one)
        elif one.what == "zone":
            changed |= _zoned(part)
        elif one.what == "text":
            _guard(part)
            changed = True
        elif one.what == "range":
            _reach(part, one)
            changed = True
        elif one.what == "rounded":
            _round_down(part, one)
            changed = True
        elif one.what == "nested" or one.source != "TIMESTAMP_NS":
            raise _loses(one)
        else:
            _lost(part, one)
            changed = True
    return changed


def _is_of_itself(node: Node, one: _Found) -> bool:
    """Whether an expression is changed whatever is around it."""
    return one.what == "zone" or (one.what in ("lost", "rounded", "text") and _is_coarse_cast(node))


@dataclass(frozen=True, slots=True)
class _Part:
    """An expression of the tree, where it hangs, and the expression around it with the way from there."""

    node: Node
    holder: Any
    key: Any
    around: Node
    way: tuple[Any, ...]

    @property
    def is_argument_of_a_cast(self) -> bool:
        return self.key == "child" and _is_coarse_cast(self.around) and not _cast_target(self.node)

    def wrap(self, name: str) -> None:
        self.holder[self.key] = _around(self.node, name)

    def twins(self, alike: Alike, *, of_itself: bool) -> list[_Part]:
        """The same part of every expression that is alike, for the engine to still know them as such; itself first."""
        if of_itself:
            others = [_Part(node, {"": node}, "", node, ()) for node in alike.to(self.node) if node is not self.node]
        else:
            others = [_inside(node, self.way) for node in alike.to(self.around) if node is not self.around]
        return [self, *others]


def _inside(around: Node, way: tuple[Any, ...]) -> _Part:
    holder: Any = around
    for key in way[:-1]:
        holder = holder[key]
    return _Part(holder[way[-1]], holder, way[-1], around, way)


def _repair_folded(connection: Any, holder: Node, parse: Parse, write: Write, *, try_only: bool = False) -> bool:
    """Repair constant arguments of calls, which the engine has worked out before it tells its plan; whether there are any.

    Each is looked at as a column of its own. What is inside of another is repaired first, and that one the next time.
    """
    folded = {id(node) for node in _constant_arguments(holder)}
    places = _places_of(holder, lambda node: id(node) in folded) if folded else []
    if not places:
        return False
    select = {"type": "SELECT_NODE", "cte_map": {}, "from_table": {"type": "EMPTY"}}
    written = write(
        {**select, "select_list": [at[key] for at, key in places], "aggregate_handling": "STANDARD_HANDLING"}
    )
    plans = _plans(connection, written)
    found = [] if plans is None else [*_findings(plans)]
    if not found or try_only:
        return bool(found)
    tree = parse(written)
    before = [json.dumps(item) for item in tree["select_list"]]
    if not _repair(tree, found):
        return False
    changed: set[int] = set()
    for (at, key), old, new in zip(places, before, tree["select_list"], strict=True):
        if json.dumps(new) != old and changed.isdisjoint(map(id, nodes(at[key]))):
            at[key] = new
            changed.add(id(new))
    return True


def _constant_arguments(tree: Node) -> Iterator[Node]:
    for call in nodes(tree):
        if call.get("class") == "FUNCTION":
            arguments = [argument.get("expression") or {} for argument in call.get("arguments") or []]
        elif call.get("class") == "OPERATOR" and str(call.get("type")).endswith("_EXTRACT"):
            arguments = call.get("children") or []
        else:
            continue
        for node in arguments:
            is_plain = node.get("class") == "CAST" and _is_plain_moment(node)
            if not is_plain and not _depends_on_rows(node) and any(map(_makes_a_time, nodes(node))):
                yield node


def _is_plain_moment(cast: Node) -> bool:
    """A literal moment as everybody writes it, cast to what it fits into."""
    text = string_literal(cast.get("child") or {})
    is_exact = _cast_target(cast).upper() not in _UNITS or "." not in (text or "")
    return text is not None and is_exact and _COMMON_MOMENT.fullmatch(text) is not None


def _makes_a_time(node: Node) -> bool:
    if function_name(node) in ("make_timestamp_ns", "strptime", "try_strptime"):
        return True
    return _cast_target(node) == "timestamp_ns" or (_cast_target(node) in _CASTS and not _is_plain_moment(node))


def _parts(tree: Node, places: set[_Place | None]) -> dict[_Place | None, _Part]:
    found: dict[_Place | None, _Part] = {}
    todo: list[tuple[Any, Any, Node, tuple[Any, ...]]] = [({"": tree}, "", {}, ("",))]
    while todo:
        holder, key, around, way = todo.pop()
        part = holder[key]
        if isinstance(part, dict) and "class" in part:
            place = _place(part)
            if place in places and part["class"] != "TYPE":
                found[place] = _Part(part, holder, key, around, way)
            around, way = part, ()
        for inner, value in part.items() if isinstance(part, dict) else enumerate(part):
            if isinstance(value, (dict, list)):
                todo.append((part, inner, around, (*way, inner)))
    return found


def _brought_down(node: Node) -> str:
    """What brings a time down to its microsecond. A column may be named as often as one likes: then it needs no lambda,
    which the engine does not take where a name of the result stands for all of it."""
    return "lakeflight_floor" if node.get("class") == "COLUMN_REF" else "lakeflight_us"


def _lost(part: _Part, one: _Found) -> None:
    node, around = part.node, part.around
    if _is_coarse_cast(node):
        node["child"] = _truncated(_call(_brought_down(node["child"]), node["child"]), one.target)
        return
    name = one.function
    own = OWN.get((name, len(one.types)))
    if own is not None and around.get("class") == "FUNCTION":
        _call_own(around, own, one)
    elif name in BY_MICROSECOND and not (name == "time_bucket" and _is_argument(around, node, 2)):
        part.wrap(_brought_down(node))
    elif name in WHOLE_MICROSECONDS or name == "time_bucket":
        part.wrap("lakeflight_whole_us")
    else:
        raise _loses(one)


def _reach(part: _Part, one: _Found) -> None:
    """A window over times reaches over the same rows as one over their nanoseconds, unless its span is of months."""
    window = part.around
    orders = window.get("orders") or []
    if window.get("class") != "WINDOW" or len(orders) != 1 or _depends_on_rows(part.node):
        raise _loses(one)
    if function_name(orders[0]["expression"]) != "epoch_ns":
        orders[0]["expression"] = _call("epoch_ns", orders[0]["expression"])
    part.wrap("lakeflight_range")


def _guard(part: _Part) -> None:
    """What a text says is known when the statement runs: one with a zone is no time without one then."""
    if _is_coarse_cast(part.node) or _cast_target(part.node) == "timestamp_ns":
        part.node["child"] = _call("lakeflight_zoneless", part.node["child"])
    else:
        part.wrap("lakeflight_zoneless")


def _round_down(part: _Part, one: _Found) -> None:
    """A cast to seconds or milliseconds gives those that a moment is in; a text that is compared with such keeps its own."""
    node = part.node
    if not one.source:
        raise _rounds()
    if _is_coarse_cast(node):
        inner = node["child"]
        if one.source in ("VARCHAR", "TIMESTAMP WITH TIME ZONE"):
            keys = ("class", "type", "try_cast")
            inner = {**{key: node[key] for key in keys if key in node}, "child": inner, "type_expr": _TIMESTAMP_TYPE}
        node["child"] = _truncated(inner, one.target)
    elif one.source == "VARCHAR":
        alias = node.pop("alias", None)
        cast = {"class": "CAST", "type": "OPERATOR_CAST", "child": node, "type_expr": _TIMESTAMP_TYPE}
        part.holder[part.key] = {**cast, "alias": alias} if alias else cast
    else:
        raise _rounds()


def _truncated(moment: Node, target: str) -> Node:
    unit = _UNITS.get(target)
    if unit is None:
        return moment
    text = {"class": "CONSTANT", "type": "VALUE_CONSTANT", "literal": {"kind": "STRING", "text": unit}}
    return _call("date_trunc", text, moment)


def _rounds() -> Exception:
    return UnsupportedError(
        "a cast to TIMESTAMP_S or TIMESTAMP_MS would round a time here: cast each time by itself, CAST(… AS TIMESTAMP_S)"
    )


def _is_coarse_cast(node: Node) -> bool:
    return _cast_target(node) in _COARSE_CASTS


def _cast_target(node: Node) -> str:
    """The lower-case name of the type that is cast to; empty for what is no cast."""
    return str((node.get("type_expr") or {}).get("type_name", "")).lower() if node.get("class") == "CAST" else ""


def _call_own(call: Node, own: str, one: _Found) -> None:
    """Replace the call around a time by one that keeps nanoseconds."""
    if own in ("lakeflight_plus", "lakeflight_less"):
        first, second = one.types
        if own == "lakeflight_less" and second == "TIMESTAMP":
            own = _DIFFERENCE
        elif "INTERVAL" not in one.types:
            raise _loses(one)
        elif first == "INTERVAL":
            call["arguments"] = call["arguments"][::-1]
    _rename(call, own)


def _is_argument(call: Node, node: Node, place: int) -> bool:
    arguments = call.get("arguments") or []
    return len(arguments) > place and arguments[place].get("expression") is node


def _loses(one: _Found) -> Exception:
    where = f"function {one.function!r}" if one.function else "this statement"
    return UnsupportedError(
        f"{where} would lose the nanoseconds of a time: give it CAST(… AS TIMESTAMP), or epoch_ns(…) of it"
    )


def _cannot_be_kept(one: _Found) -> Exception:
    """The user's text binds, and the repaired one does not."""
    what = f"function {one.function!r}" if one.function else "a cast"
    return UnsupportedError(
        f"{what} of a time cannot keep its nanoseconds in this place: "
        "give its value a name in a subquery, WITH q AS (SELECT …), and use that name here"
    )


def _bound(part: _Part, one: _Found) -> bool:
    """A constant that is compared with a time: beyond what nanoseconds reach it bounds nothing."""
    node = part.node
    name = function_name(node)
    if _depends_on_rows(node) or (name.startswith("lakeflight_") and name != "lakeflight_zoneless"):
        return False
    if node.get("class") == "CAST" and one.source == "VARCHAR":  # TIMESTAMP_NS '9999-12-31'
        part.holder[part.key] = _around({**node["child"], "alias": node.get("alias")}, "lakeflight_moment")
        return True
    text = string_literal(node if node.get("class") == "CONSTANT" else node.get("child") or {})
    if text is not None and _COMMON_MOMENT.fullmatch(text):
        return False
    part.wrap("lakeflight_moment" if one.source == "VARCHAR" else "lakeflight_ns")
    return True


def _zoned(part: _Part) -> bool:
    call = part.node
    arguments = call.get("arguments") or []
    if function_name(call) != "timezone" or len(arguments) != 2:
        return False
    moment = arguments[1].get("expression") or {}
    literal = string_literal(moment.get("child") or {}) if moment.get("class") == "CAST" else None
    if literal is not None:
        zone = string_literal(arguments[0].get("expression") or {}) or "zone"
        raise ForbiddenSqlError(
            f"a time without a zone is UTC here, and AT TIME ZONE gives the wall clock of a zone: "
            f"for a time of that zone write TIMESTAMPTZ '{literal} {zone}' AT TIME ZONE 'UTC'"
        )
    _rename(call, _ZONED)
    return True


def _is_zoning(node: Node) -> bool:
    return (
        node.get("class") == "FUNCTION" and function_name(node) == "timezone" and len(node.get("arguments") or []) == 2
    )


def _with_zones_turned(connection: Any, tree: Node, parse: Parse, write: Write) -> tuple[str, Node]:
    """The engine has few functions for what its AT TIME ZONE makes of nanoseconds: turned our way, they bind."""
    original = tree
    holder = {"": json.loads(json.dumps(tree))}
    for at, key in _places_of(holder, _is_zoning):
        at[key] = _around(at[key], "lakeflight_zoned")
    text = write(holder[""])
    holder = {"": parse(text)}
    plans = _plans(connection, text)
    if plans is None:
        return write(original), original
    _repair(holder[""], [one for one in _findings(plans) if one.what == "zone"])
    for at, key in _places_of(holder, lambda node: function_name(node) == "lakeflight_zoned"):
        inner: Node = at[key]["arguments"][0]["expression"]
        at[key] = {**inner, "alias": at[key]["alias"]} if "alias" in at[key] else inner
    text = write(holder[""])
    return text, parse(text)


def _places_of(holder: Any, wanted: Callable[[Node], bool]) -> list[tuple[Any, Any]]:
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


def _is_far(node: Any) -> bool:
    """Whether a constant may be no moment, or one that nanoseconds do not reach."""
    text = string_literal(node) if isinstance(node, dict) else None
    return text is not None and not _COMMON_MOMENT.fullmatch(text)


def _depends_on_rows(node: Node) -> bool:
    for part in nodes(node):
        kind = part.get("class")
        if kind == "COLUMN_REF":
            names = part.get("column_names") or []
            if len(names) != 1 or str(names[0]).lower() not in CLOCK_KEYWORDS:
                return True
        elif kind in ("SUBQUERY", "STAR", "POSITIONAL_REFERENCE", "WINDOW", "LAMBDA"):
            return True
    return False


def _rename(node: Node, name: str) -> None:
    for key in ("schema", "catalog", "is_operator"):
        node.pop(key, None)
    node["function_name"] = name
    node["qualified_name"] = {"path": [name]}


def _around(node: Node, name: str) -> Node:
    """A call of one argument, in the place and under the alias that the argument had."""
    alias = node.pop("alias", None)
    call = _call(name, node)
    return {**call, "alias": alias} if alias else call


def _call(name: str, *arguments: Node) -> Node:
    return {
        "class": "FUNCTION",
        "type": "FUNCTION",
        "function_name": name,
        "qualified_name": {"path": [name]},
        "order_bys": {"type": "ORDER_MODIFIER"},
        "arguments": [{"expression": argument} for argument in arguments],
    }
