"""What is done about what was found: expressions of the tree changed in place, or the statement refused by name.

A time that is read more coarsely is brought down to the microsecond that it is in; what needs the rest is done by
functions of our own (``functions/lakeflight_*.sql``). Whatever else would lose nanoseconds is refused: no list has to be
complete.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from lakehouse.engine.alike import Alike
from lakehouse.engine.functions import words
from lakehouse.engine.times.findings import Found
from lakehouse.engine.times.syntax import (
    COMMON_MOMENT,
    UNITS,
    Place,
    around,
    constant_span,
    depends_on_rows,
    integer_literal,
    is_coarse_cast,
    place_of,
)
from lakehouse.engine.tree import Node, call_of, cast_target, function_name, nodes, rename, string_literal, type_of
from lakehouse.engine.zones import refuse_zone
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
_NEW_TIMES: Final = frozenset({"lakeflight_plus", "lakeflight_less"})  # with nanoseconds, where the engine's had none
_DIFFERENCE: Final = "lakeflight_difference"
_ZONED: Final = "lakeflight_timezone"


class Outcome(Enum):
    """Of a repair of all that was found."""

    NOTHING = "nothing"  # was to be changed
    SETTLED = "settled"  # as columns were brought down, or moved, where they are read: another look would find nothing
    OPEN = "open"  # what is around a repaired expression might lose what that one has now


def repair(tree: Node, found: list[Found]) -> Outcome:
    """Change the tree in place."""
    parts = _parts(tree, {one.place for one in found})
    found = [one for one in found if one.what != "far" or (one.place in parts and not _is_near(parts[one.place].node))]
    # What is far is another question once a time is lost no more, and none where that is moved to be compared with one.
    far = [one for one in found if one.what == "far"]
    compared = frozenset(
        {one.place for one in far} & {_moved(parts[one.place], one) for one in found if one.place in parts}
    )
    postponed: list[Found] = []
    if any(one.what == "lost" for one in found):
        postponed = [one for one in far if one.place not in compared]
        found = [one for one in found if one.what != "far"]
    named = {
        str(item["alias"]).lower() for node in nodes(tree) for item in node.get("select_list") or [] if "alias" in item
    }
    # What is found at the name of a column of the result was copied there, and is repaired where it comes from.
    copies: list[Found] = []
    others: list[Found] = []
    for one in found:
        names = parts[one.place].node.get("column_names") or [] if one.place in parts else []
        (copies if len(names) == 1 and str(names[0]).lower() in named else others).append(one)
    outcome = _repair_parts(tree, others, parts, compared)
    if outcome is Outcome.NOTHING:
        return _repair_parts(tree, copies, parts, compared)
    return Outcome.OPEN if copies or postponed else outcome


def _moved(part: _Part, one: Found) -> Place | None:
    """The sum in which a column, or the clock, is lost."""
    is_sum = one.what == "lost" and OWN.get((one.function, len(one.types))) in _NEW_TIMES
    return place_of(part.around) if is_sum and _is_name(part.node) and "INTERVAL" in one.types else None


def _repair_parts(
    tree: Node, found: list[Found], parts: dict[Place | None, _Part], compared: frozenset[Place | None]
) -> Outcome:
    """
    Args:
        compared: Sums that are compared with a time, as which they will be.
    """
    if not found:
        return Outcome.NOTHING
    alike = Alike(tree)
    changes: list[tuple[_Part, Found]] = []
    done: set[int] = set()
    is_open = False
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
            twins = part.twins(alike, of_itself=_is_of_itself(part.node, one))
            fresh = [twin for twin in twins if id(twin.node) not in done]
            is_open |= len(fresh) < len(twins) or not _is_settled(part, one, compared)
            done.update(id(twin.node) for twin in fresh)
            changes += [(twin, one) for twin in fresh]
        elif one.what == "rounded":
            raise _rounds()
        elif one.what not in ("far", "zone", "text"):
            raise _loses(one)
    changed = False
    for part, one in changes:
        changed |= _change(part, one)
    if not changed:
        return Outcome.NOTHING
    return Outcome.OPEN if is_open else Outcome.SETTLED


def _is_settled(part: _Part, one: Found, compared: frozenset[Place | None]) -> bool:
    """Whether a column is lost where it is read, so that nothing around it loses anything once it is not."""
    if one.what != "lost":
        return False
    if OWN.get((one.function, len(one.types))) in _NEW_TIMES:
        moved = _moved(part, one)
        return moved is not None and moved in compared
    read = part.node.get("child") or {} if is_coarse_cast(part.node) else part.node
    return read.get("class") == "COLUMN_REF"


def _change(part: _Part, one: Found) -> bool:
    match one.what:
        case "far":
            return _bound(part, one)
        case "zone":
            return _zoned(part)
        case "text":
            _guard(part)
        case "range":
            _reach(part, one)
        case "rounded":
            _round_down(part, one)
        case "lost" if one.source == "TIMESTAMP_NS":
            _lost(part, one)
        case _:
            raise _loses(one)
    return True


def _is_of_itself(node: Node, one: Found) -> bool:
    """Whether an expression is changed whatever is around it."""
    return one.what == "zone" or (one.what in ("lost", "rounded", "text") and is_coarse_cast(node))


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
        return self.key == "child" and is_coarse_cast(self.around) and not cast_target(self.node)

    def wrap(self, name: str) -> None:
        self.holder[self.key] = around(self.node, name)

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


def _parts(tree: Node, places: set[Place | None]) -> dict[Place | None, _Part]:
    found: dict[Place | None, _Part] = {}
    todo: list[tuple[Any, Any, Node, tuple[Any, ...]]] = [({"": tree}, "", {}, ("",))]
    while todo:
        holder, key, around, way = todo.pop()
        part = holder[key]
        if isinstance(part, dict) and "class" in part:
            place = place_of(part)
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


def _lost(part: _Part, one: Found) -> None:
    node, around = part.node, part.around
    if is_coarse_cast(node):
        node["child"] = _truncated(call_of(_brought_down(node["child"]), node["child"]), one.target)
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


def _reach(part: _Part, one: Found) -> None:
    """A window over times reaches over the same rows as one over their nanoseconds, unless its span is of months."""
    window = part.around
    orders = window.get("orders") or []
    if window.get("class") != "WINDOW" or len(orders) != 1 or depends_on_rows(part.node):
        raise _loses(one)
    if function_name(orders[0]["expression"]) != "epoch_ns":
        orders[0]["expression"] = call_of("epoch_ns", orders[0]["expression"])
    part.wrap("lakeflight_range")


def _guard(part: _Part) -> None:
    """What a text says is known when the statement runs: one with a zone is no time without one then."""
    if is_coarse_cast(part.node) or cast_target(part.node) == "timestamp_ns":
        part.node["child"] = call_of("lakeflight_zoneless", part.node["child"])
    else:
        part.wrap("lakeflight_zoneless")


def _round_down(part: _Part, one: Found) -> None:
    """A cast to seconds or milliseconds gives those that a moment is in; a text that is compared with such keeps its own."""
    node = part.node
    if not one.source:
        raise _rounds()
    if is_coarse_cast(node):
        inner = node["child"]
        if one.source in ("VARCHAR", "TIMESTAMP WITH TIME ZONE"):
            keys = ("class", "type", "try_cast")
            inner = {
                **{key: node[key] for key in keys if key in node},
                "child": inner,
                "type_expr": type_of("timestamp"),
            }
        node["child"] = _truncated(inner, one.target)
    elif one.source == "VARCHAR":
        alias = node.pop("alias", None)
        cast = {"class": "CAST", "type": "OPERATOR_CAST", "child": node, "type_expr": type_of("timestamp")}
        part.holder[part.key] = {**cast, "alias": alias} if alias else cast
    else:
        raise _rounds()


def _truncated(moment: Node, target: str) -> Node:
    unit = UNITS.get(target)
    if unit is None:
        return moment
    text = {"class": "CONSTANT", "type": "VALUE_CONSTANT", "literal": {"kind": "STRING", "text": unit}}
    return call_of("date_trunc", text, moment)


def _rounds() -> Exception:
    return UnsupportedError(
        "a cast to TIMESTAMP_S or TIMESTAMP_MS would round a time here: cast each time by itself, CAST(… AS TIMESTAMP_S)"
    )


def _call_own(call: Node, own: str, one: Found) -> None:
    """Replace the call around a time by one that keeps nanoseconds."""
    if own in _NEW_TIMES:
        first, second = one.types
        if own == "lakeflight_less" and second == "TIMESTAMP":
            own = _DIFFERENCE
        elif "INTERVAL" not in one.types:
            raise _loses(one)
        elif first == "INTERVAL":
            call["arguments"] = call["arguments"][::-1]
    arguments = [argument["expression"] for argument in call["arguments"]]
    if own == _DIFFERENCE and all(map(_is_name, arguments)):
        own = "lakeflight_apart"
    elif own in _NEW_TIMES and _is_name(arguments[0]):
        span = constant_span(arguments[1])
        if span is not None:
            nanoseconds = integer_literal(span if own == "lakeflight_plus" else -span)
            own = "lakeflight_moved"
            call["arguments"] = [call["arguments"][0], {"expression": nanoseconds}]
    rename(call, own)


def _is_name(node: Node) -> bool:
    """Whether an expression may stand in another as often as one likes: a column, or the clock."""
    return node.get("class") == "COLUMN_REF" or (function_name(node) == "now" and not node.get("arguments"))


def _is_argument(call: Node, node: Node, place: int) -> bool:
    arguments = call.get("arguments") or []
    return len(arguments) > place and arguments[place].get("expression") is node


def _loses(one: Found) -> Exception:
    where = f"function {one.function!r}" if one.function else "this statement"
    return UnsupportedError(
        f"{where} would lose the nanoseconds of a time: give it CAST(… AS TIMESTAMP), or epoch_ns(…) of it"
    )


def cannot_be_kept(function: str) -> UnsupportedError:
    """The user's text binds, and the repaired one does not.

    Args:
        function: That takes the time; empty for a cast.
    """
    what = f"function {function!r}" if function else "a cast"
    return UnsupportedError(
        f"{what} of a time cannot keep its nanoseconds in this place: "
        "give its value a name in a subquery, WITH q AS (SELECT …), and use that name here"
    )


def _is_near(constant: Node) -> bool:
    text = string_literal(constant if constant.get("class") == "CONSTANT" else constant.get("child") or {})
    return text is not None and COMMON_MOMENT.fullmatch(text) is not None


def _bound(part: _Part, one: Found) -> bool:
    """A constant that is compared with a time: beyond what nanoseconds reach it bounds nothing."""
    node = part.node
    name = function_name(node)
    if depends_on_rows(node) or (name.startswith("lakeflight_") and name != "lakeflight_zoneless"):
        return False
    if node.get("class") == "CAST" and one.source == "VARCHAR":  # TIMESTAMP_NS '9999-12-31'
        part.holder[part.key] = around({**node["child"], "alias": node.get("alias")}, "lakeflight_moment")
        return True
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
    rename(call, _ZONED)
    return True
