"""What an expression of a plan says about a column that it grows with: how far its value can lie from the column's.

Rules for the functions of time, and for the arithmetic that repairs of them are made of. Each carries an error on; none
has to be exact, and none may be too small. An expression that is not understood says nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from lakehouse.engine.tree import Node

INT64_MAX: Final = (1 << 63) - 1  # of nanoseconds, and infinity to the engine

_US: Final = 1_000
_DAY_NS: Final = 86_400_000_000_000
# Nanoseconds of a step of each type that a moment can be read as.
_STEP_NS: Final[Mapping[str, int]] = {
    "TIMESTAMP_NS": 1,
    "TIMESTAMP": _US,
    "TIMESTAMP WITH TIME ZONE": _US,
    "TIMESTAMP_MS": 1_000_000,
    "TIMESTAMP_S": 1_000_000_000,
    "DATE": _DAY_NS,
}
_EPOCH_STEP_NS: Final[Mapping[str, int]] = {
    "epoch_ns": 1,
    "epoch_us": _US,
    "epoch_ms": 1_000_000,
    "epoch": 1_000_000_000,
}
_EPOCH_ROUNDING_NS: Final = 2_000  # of a double that holds seconds, anywhere in the range of int64 nanoseconds
_MADE_OF_STEPS_NS: Final[Mapping[str, int]] = {
    "make_timestamp_ns": 1,
    "make_timestamp": _US,
    "make_timestamp_ms": 1_000_000,
}
# The longest that there is of each part that a moment is truncated to, by all of its names.
_TRUNC_NS_MAX: Final[Mapping[str, int]] = {
    name: longest
    for names, longest in (
        ("microsecond microseconds us usec usecs usecond useconds", _US),
        ("millisecond milliseconds ms msec msecs msecond mseconds", 1_000_000),
        ("second seconds s sec secs", 1_000_000_000),
        ("minute minutes m min mins", 60_000_000_000),
        ("hour hours h hr hrs", 3_600_000_000_000),
        ("day days d dow isodow weekday doy dayofyear", _DAY_NS),
        ("week weeks w weekofyear yearweek", 7 * _DAY_NS),
        ("month months mon mons", 31 * _DAY_NS),
        ("quarter quarters", 92 * _DAY_NS),
        ("year years y yr yrs", 366 * _DAY_NS),
        ("isoyear", 371 * _DAY_NS),
        ("decade decades dec decs", 3_653 * _DAY_NS),
        ("century centuries cent c", 36_525 * _DAY_NS),
        ("millennium millennia mil millenniums millenium mils", 365_243 * _DAY_NS),
    )
    for name in names.split()
}
_INTEGERS: Final = frozenset({"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT"})
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_INFINITE: Final[Mapping[str, int]] = {"infinity": INT64_MAX, "-infinity": -INT64_MAX}
_UP: Final = frozenset({"COMPARE_GREATERTHAN", "COMPARE_GREATERTHANOREQUALTO"})
_DOWN: Final = frozenset({"COMPARE_LESSTHAN", "COMPARE_LESSTHANOREQUALTO"})
_STRICT: Final = frozenset({"COMPARE_GREATERTHAN", "COMPARE_LESSTHAN"})


@dataclass(frozen=True, slots=True)
class Reading:
    """``value * step_ns`` lies at most ``below`` nanoseconds under the column and ``above`` over it; or it is infinite."""

    column: str
    step_ns: int = 1
    below: int = 0
    above: int = 0

    @property
    def is_exact(self) -> bool:
        return self.step_ns == 1 and not self.below and not self.above

    def rounded(self, step_ns: int, error_ns: int) -> Reading:
        return Reading(self.column, step_ns, self.below + error_ns, self.above + error_ns)

    def moved(self, least_ns: int, most_ns: int) -> Reading:
        return Reading(self.column, self.step_ns, self.below - least_ns, self.above + most_ns)


@dataclass(frozen=True, slots=True)
class Within:
    """A whole number that lies between two others, whatever the row; or an interval, in nanoseconds."""

    least: int
    most: int

    @property
    def only(self) -> int | None:
        """The number, if there is but one."""
        return self.least if self.least == self.most else None


def constant(expression: Node) -> Node | None:
    """A value with its type; ``None`` for any other expression."""
    return expression["value"] if expression.get("expression_class") == "BOUND_CONSTANT" else None


def reading_of(expression: Node, columns: Sequence[str | None]) -> Reading | None:
    """What an expression says about one of the columns; ``None``: nothing, or not about one alone.

    Args:
        columns: Names at the places that the expression refers to; ``None`` for what is of no concern.
    """
    found = _read(expression, [Reading(name) if name is not None else None for name in columns])
    return found if isinstance(found, Reading) else None


@dataclass(frozen=True, slots=True)
class _Fields:
    """What is said of the fields of a struct."""

    by_name: Mapping[str, _Said]


@dataclass(frozen=True, slots=True)
class _Elements:
    """What is said of each element of a list."""

    each: _Said


_Said = Reading | Within | _Fields | _Elements | None


def _read(expression: Node, places: Sequence[_Said]) -> _Said:
    """``places``: what is said of the values that the expression refers to."""
    children = expression.get("children") or []
    match expression.get("expression_class"), expression.get("type"):
        case "BOUND_REF", _:
            index = int(expression.get("index", 0))
            return places[index] if index < len(places) else None
        case "BOUND_CONSTANT", _:
            return _number(expression["value"])
        case "BOUND_CASE", _:
            return _clamped(expression, places)
        case "BOUND_FUNCTION", "OPERATOR_CAST":
            return _cast(expression, _read(children[0], places), _type(children[0]))
        case "BOUND_FUNCTION", "BOUND_FUNCTION" if _name(expression) in ("struct_pack", "list_value"):
            return _packed(expression, children, places)
        case "BOUND_FUNCTION", "BOUND_FUNCTION" if len(children) == 1:
            return _call(expression, _read(children[0], places), _type(children[0]))
        case "BOUND_FUNCTION", "BOUND_FUNCTION" if len(children) == 2:
            first = _read(children[0], places)
            if isinstance(first, (_Fields, _Elements)):
                return _taken(expression, first, children[1])
            return _call_of_two(expression, children[0], first, _read(children[1], places), _type(children[1]))
        case "BOUND_FUNCTION", "BOUND_FUNCTION" if len(children) == 3 and _name(expression) == "time_bucket":
            width, moment = _read(children[0], places), _read(children[1], places)
            # Wherever the bins are counted from, a moment is in its own.
            is_origin = _type(children[2]) in _STEP_NS and constant(children[2]) is not None
            return _binned(expression, width, moment) if is_origin else None
    return None


def _packed(expression: Node, children: Sequence[Node], places: Sequence[_Said]) -> _Said:
    """Repairs keep what they say often in a list of one, or a struct."""
    said = [_read(child, places) for child in children]
    if _name(expression) == "list_value":
        return _Elements(said[0]) if len(said) == 1 else None
    names = expression.get("named_arguments") or []
    return _Fields(dict(zip(names, said, strict=True))) if len(names) == len(said) else None


def _taken(expression: Node, first: _Fields | _Elements, second: Node) -> _Said:
    name, value = _name(expression), (constant(second) or {}).get("value")
    if isinstance(first, _Fields):
        return first.by_name.get(str(value)) if name == "struct_extract" else None
    if name == "array_extract":
        return first.each if value == 1 else None
    if name == "list_transform" and second.get("expression_class") == "BOUND_LAMBDA":
        return _Elements(_read(second["lambda_expr"], [first.each]) if second.get("parameter_count") == 1 else None)
    return None


def _number(value: Node) -> Within | None:
    kind = value["type"].get("id")
    if value.get("is_null"):
        return None
    if kind == "INTERVAL":
        parts: dict[str, Any] = value.get("value") or {}
        months = int(parts.get("months", 0))
        exact = int(parts.get("days", 0)) * _DAY_NS + int(parts.get("micros", 0)) * _US
        lengths = sorted((28 * _DAY_NS * months, 31 * _DAY_NS * months))
        return Within(exact + lengths[0], exact + lengths[1])
    return Within(int(value.get("value", 0)), int(value.get("value", 0))) if kind in _INTEGERS else None


def _cast(expression: Node, inner: _Said, given: str) -> _Said:
    result = _type(expression)
    if result in _INTEGERS:
        return Within(0, 1) if given == "BOOLEAN" else inner if given in _INTEGERS else None
    if (expression.get("function_data") or {}).get("try_cast") or result not in _STEP_NS or given not in _STEP_NS:
        return None
    return inner.rounded(_STEP_NS[result], _STEP_NS[result]) if isinstance(inner, Reading) else None


def _call(expression: Node, inner: _Said, given: str) -> Reading | None:
    name = _name(expression)
    if not isinstance(inner, Reading):
        return None
    if name in _EPOCH_STEP_NS and given in _STEP_NS:
        step = _EPOCH_STEP_NS[name]
        return inner.rounded(step, _EPOCH_ROUNDING_NS if _type(expression) == "DOUBLE" else step - 1)
    return inner if _MADE_OF_STEPS_NS.get(name) == inner.step_ns and given in _INTEGERS else None


def _call_of_two(expression: Node, argument: Node, first: _Said, second: _Said, given: str) -> _Said:
    name, result = _name(expression), _type(expression)
    if isinstance(second, Reading) and result in _STEP_NS:
        if name in ("date_trunc", "datetrunc"):
            size = _TRUNC_NS_MAX.get(str((constant(argument) or {}).get("value")).lower())
            return second.rounded(_STEP_NS[result], 0).moved(-size, 0) if size is not None else None
        return _binned(expression, first, second) if name == "time_bucket" else None
    if not isinstance(second, Within):
        return None
    number = second.only
    if name == "%" and result in _INTEGERS and number:
        return Within(1 - abs(number), abs(number) - 1)
    if name in ("+", "-"):
        least, most = (second.least, second.most) if name == "+" else (-second.most, -second.least)
        if isinstance(first, Within):
            return Within(first.least + least, first.most + most) if result in _INTEGERS else None
        if isinstance(first, Reading) and result in _STEP_NS and given == "INTERVAL":
            return first.rounded(_STEP_NS[result], 0).moved(least, most)
        if isinstance(first, Reading) and result in _INTEGERS:
            return first.moved(least * first.step_ns, most * first.step_ns)
    if isinstance(first, Reading) and result in _INTEGERS and number is not None and number > 0:
        if name in ("//", "/"):
            return first.rounded(first.step_ns * number, first.step_ns * number)
        if name == "*" and first.step_ns % number == 0:
            return Reading(first.column, first.step_ns // number, first.below, first.above)
    return None


def _binned(expression: Node, width: _Said, moment: _Said) -> Reading | None:
    """The begin of the bin of this width that a moment is in."""
    step = _STEP_NS.get(_type(expression))
    if step is None or not isinstance(width, Within) or not isinstance(moment, Reading):
        return None
    return moment.rounded(step, 0).moved(-width.most, 0)


def _clamped(expression: Node, places: Sequence[_Said]) -> Reading | None:
    """A CASE that makes infinity of what is beyond a limit, and else is a reading."""
    inner = _read(expression["else_expr"], places)
    for check in expression["case_checks"]:
        when, then = check["when_expr"], _moment(check["then_expr"])
        if not isinstance(inner, Reading) or then is None or len(when.get("children") or []) != 2:
            return None
        tested, limit = _read(when["children"][0], places), _moment(when["children"][1])
        if not isinstance(tested, Reading) or tested.column != inner.column or limit is None:
            return None
        limit_ns = limit * _STEP_NS[_type(when["children"][1])]
        # Infinity compares as true with every moment: what makes it must lie no further from them than the reading does.
        # A moment that is infinite itself no bound leaves out.
        is_infinite = tested.is_exact and abs(limit_ns) + (when.get("type") in _STRICT) >= INT64_MAX
        if when.get("type") in _UP and then == INT64_MAX:
            if not (is_infinite and limit_ns > 0):
                above = max(inner.above, INT64_MAX - limit_ns + tested.above)
                inner = Reading(inner.column, inner.step_ns, inner.below, above)
        elif when.get("type") in _DOWN and then == -INT64_MAX:
            if not (is_infinite and limit_ns < 0):
                below = max(inner.below, INT64_MAX + limit_ns + tested.below)
                inner = Reading(inner.column, inner.step_ns, below, inner.above)
        else:
            return None
    return inner if isinstance(inner, Reading) else None


def _moment(expression: Node) -> int | None:
    """A constant time, in steps of its type. In a lambda it is the cast of a text still."""
    step, value = _STEP_NS.get(_type(expression)), constant(expression)
    if step is None or (value is not None and value.get("is_null")):
        return None
    if value is not None:
        return int(value.get("value", 0))
    text = (constant((expression.get("children") or [{}])[0]) or {}).get("value")
    if expression.get("type") != "OPERATOR_CAST" or not isinstance(text, str):
        return None
    if text in _INFINITE:
        return _INFINITE[text]
    try:
        since = datetime.fromisoformat(f"{text}+00:00") - _EPOCH
    except ValueError:
        return None
    return (since // timedelta(microseconds=1)) * _US // step


def _name(expression: Node) -> str:
    return str(((expression.get("qname") or {}).get("path") or [""])[-1])


def _type(expression: Node) -> str:
    value = constant(expression)
    return str((value["type"] if value is not None else expression.get("return_type") or {}).get("id"))
