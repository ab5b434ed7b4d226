"""Which rows of its relations a statement can use: a time range and id equalities per relation, read from its plan.

The argument is the engine's own. Its optimizer has moved every filter as far down as the statement's meaning allows,
so a row that the filters at a scan reject cannot change the result, whether it was read or not. What is read here are
those filters, and those that are left above joins; a filter that is not understood bounds nothing. A relation that the plan does
not scan gives no row. Refuses to judge whether a statement is allowed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from lakehouse.engine.functions import reference_of
from lakehouse.engine.names import CATALOG_NAME, SCHEMA_NAME
from lakehouse.engine.relations import Call, DeclaredRelation, Reference
from lakehouse.engine.tree import Node, nodes
from lakehouse.model import EVERYTHING, GLOBAL_INSTANCE, NEVER, TimeRange

Named = Call | str  # of a relation function, or the name of a global table

_INT64_MIN: Final = -(1 << 63)
_INT64_MAX: Final = (1 << 63) - 1
_IDS_MAX: Final = 1_000  # more values than this for one id column push nothing down
_US: Final = 1_000
_DAY_NS: Final = 86_400_000_000_000
_MONTH_NS_MAX: Final = 31 * _DAY_NS
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
_TRUNC_NS_MAX: Final[Mapping[str, int]] = {
    "microsecond": _US,
    "microseconds": _US,
    "millisecond": 1_000_000,
    "milliseconds": 1_000_000,
    "second": 1_000_000_000,
    "minute": 60_000_000_000,
    "hour": 3_600_000_000_000,
    "day": _DAY_NS,
    "week": 7 * _DAY_NS,
    "month": _MONTH_NS_MAX,
    "quarter": 92 * _DAY_NS,
    "year": 366 * _DAY_NS,
}
_FLIPPED: Final[Mapping[str, str]] = {
    "COMPARE_EQUAL": "COMPARE_EQUAL",
    "COMPARE_LESSTHAN": "COMPARE_GREATERTHAN",
    "COMPARE_GREATERTHAN": "COMPARE_LESSTHAN",
    "COMPARE_LESSTHANOREQUALTO": "COMPARE_GREATERTHANOREQUALTO",
    "COMPARE_GREATERTHANOREQUALTO": "COMPARE_LESSTHANOREQUALTO",
}
_JOINS_OF_BOTH: Final = frozenset({"INNER", "LEFT", "RIGHT", "FULL"})
_JOINS: Final = _JOINS_OF_BOTH | {"SEMI", "ANTI", "MARK", "SINGLE"}
_PLAIN_TEXT: Final = {"id": "VARCHAR"}  # without a collation


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of a relation that may matter: those in the range, with one of the values in each of the columns."""

    range: TimeRange = EVERYTHING
    equals: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def both(self, other: Rows) -> Rows:
        equals = dict(self.equals)
        for column, values in other.equals.items():
            equals[column] = equals[column] & values if column in equals else values
        return Rows(self.range.intersect(other.range), equals)

    def either(self, other: Rows) -> Rows:
        equals = {c: v | other.equals[c] for c, v in self.equals.items() if c in other.equals}
        return Rows(self.range.union(other.range), equals)


ALL_ROWS: Final = Rows()
NO_ROWS: Final = Rows(NEVER)


def find_rows(plan: Node, tables: Mapping[str, DeclaredRelation]) -> dict[str, Rows]:
    """What is let through of each table, by table; one that is not scanned is not in it.

    Raises:
        RecursionError: A condition is nested too deep to be read.
    """
    scans: dict[int, _Scan] = {}
    filters: list[Node] = []
    for node in nodes(plan, without="expressions"):
        if node.get("type") == "LOGICAL_GET" and (table := _scanned(node)) in tables:
            scans[id(node)] = _Scan(node, table, tables[table])
        elif node.get("type") == "LOGICAL_FILTER":
            filters.append(node)
    for node in filters:
        shown = _shown(node["children"][0], scans) or []
        for scan in {scan for scan, _ in shown if scan is not None}:
            columns = [name if of is scan else None for of, name in shown]
            scan.rows = scan.rows.both(_all(scan.implied(e, columns) for e in node.get("expressions") or []))
    found: dict[str, Rows] = {}
    for scan in scans.values():
        rows = Rows(scan.rows.range.spanned(), scan.rows.equals) if tables[scan.table].lasts else scan.rows
        found[scan.table] = found[scan.table].either(rows) if scan.table in found else rows
    return found


_Shown = tuple["_Scan | None", str | None]  # whose column stands at a place of an operator's rows, and which
_UNKNOWN: Final[_Shown] = (None, None)


def _shown(operator: Node, scans: Mapping[int, _Scan]) -> list[_Shown] | None:
    """What an operator's rows are made of, as far as each of its rows carries a scanned one on; ``None``: unknown.

    The engine leaves a filter that can fail, such as one with a cast, above joins. A comparison is not true for NULL, so
    it rejects every joined row of a row that it rejects, and the row of NULLs that an outer join puts in its place.
    """
    children = operator.get("children") or []
    expressions = operator.get("expressions") or []
    if any(operator.get(key) for key in ("projection_map", "left_projection_map", "right_projection_map")):
        return None
    match operator.get("type"):
        case "LOGICAL_GET" if not children:
            scan = scans.get(id(operator))
            if scan is None:
                return [_UNKNOWN] * len(operator.get("projection_ids") or operator.get("column_indexes") or [])
            return [(scan, name) for name in scan.shown]
        case "LOGICAL_CTE_REF":
            return [_UNKNOWN] * len(operator.get("chunk_types") or [])
        case "LOGICAL_FILTER":
            return _shown(children[0], scans)
        case "LOGICAL_PROJECTION":
            below = _shown(children[0], scans)
            return [_passed_on(expression, below or []) for expression in expressions]
        case "LOGICAL_CROSS_PRODUCT" | "LOGICAL_COMPARISON_JOIN" | "LOGICAL_ANY_JOIN" | "LOGICAL_ASOF_JOIN" as kind:
            left, right = (_shown(child, scans) for child in children)
            if left is None or operator.get("join_type", "INNER") not in _JOINS:
                return None
            # The nearest match of an ASOF join is another one without a row, and of other joins only left rows are shown.
            both = kind != "LOGICAL_ASOF_JOIN" and operator.get("join_type", "INNER") in _JOINS_OF_BOTH
            return left + (right or []) if both else left
    return None


def _passed_on(expression: Node, below: Sequence[_Shown]) -> _Shown:
    index = int(expression.get("index", 0))
    return below[index] if expression.get("expression_class") == "BOUND_REF" and index < len(below) else _UNKNOWN


def reference(named: Named, rows: Rows) -> Reference:
    """What the engine's caller is told about a relation."""
    equals = {c: tuple(sorted(v)) for c, v in sorted(rows.equals.items()) if len(v) <= _IDS_MAX}
    if isinstance(named, str):
        return Reference(named, named, (GLOBAL_INSTANCE,), rows.range, equals)
    return reference_of(named, range=rows.range, equals=equals)


def _scanned(scan: Node) -> str:
    """The table of ours that is scanned; empty for anything else that makes rows."""
    path = ((scan.get("function_data") or {}).get("qualified_name") or {}).get("path") or []
    return str(path[2]) if path[:2] == [CATALOG_NAME, SCHEMA_NAME] and len(path) == 3 else ""


@dataclass(frozen=True, slots=True)
class _Reading:
    """A column read more coarsely, or moved: ``value * step_ns`` lies at most ``below`` under it and ``above`` over it."""

    column: str
    step_ns: int
    below: int = 0
    above: int = 0

    def rounded(self, step_ns: int, error_ns: int) -> _Reading:
        return _Reading(self.column, step_ns, self.below + error_ns, self.above + error_ns)

    def lowered(self, size_ns: int) -> _Reading:
        return _Reading(self.column, self.step_ns, self.below + size_ns, self.above)

    def moved(self, by_ns: int) -> _Reading:
        return _Reading(self.column, self.step_ns, self.below - by_ns, self.above + by_ns)


class _Scan:
    """One scan of a stand-in, and what the filters at it imply."""

    def __init__(self, scan: Node, table: str, declared: DeclaredRelation) -> None:
        self.table = table
        self._scan = scan
        self._declared = declared
        read = [self._name(column) for column in scan.get("column_indexes") or []]
        self.shown = [read[position] for position in scan.get("projection_ids") or []] or read
        self.rows = ALL_ROWS
        if scan.get("table_filters_by_projection"):
            for entry in (scan.get("table_filters") or {}).get("filters") or []:
                column = read[entry.get("key", 0)]
                self.rows = self.rows.both(self._pushed(entry["value"], column))

    def _name(self, column: Node) -> str | None:
        """The declared name of a column that is read; ``None`` for a part of one, and for a row's own number."""
        names, index = self._scan["names"], int(column.get("index", 0))
        return str(names[index]) if column.keys() <= {"index"} and index < len(names) else None

    # --- filters inside of the scan: about one column each

    def _pushed(self, condition: Node, column: str | None) -> Rows:
        match condition.get("filter_type"):
            case "LEGACY_CONSTANT_COMPARISON":
                return self._compared(self._column(column), str(condition["comparison_type"]), condition["constant"])
            case "LEGACY_IN_FILTER":
                return self._listed(self._column(column), condition.get("values") or [])
            case "LEGACY_OPTIONAL_FILTER":  # implied by what stands above, and here for the scan to skip by
                return self._pushed(condition.get("child_filter") or {}, column)
            case "LEGACY_CONJUNCTION_AND":
                return _all(self._pushed(child, column) for child in condition["child_filters"])
            case "LEGACY_CONJUNCTION_OR":
                return _any(self._pushed(child, column) for child in condition["child_filters"])
            case "EXPRESSION_FILTER":
                return self.implied(condition["expr"], [column])
        return ALL_ROWS

    # --- expressions

    def implied(self, expression: Node, columns: Sequence[str | None]) -> Rows:
        """What a condition implies, over rows of which some columns are this scan's."""
        kind = str(expression.get("type"))
        children: list[Node] = expression.get("children") or []
        match expression.get("expression_class"), kind:
            case "BOUND_CONJUNCTION", "CONJUNCTION_AND":
                return _all(self.implied(child, columns) for child in children)
            case "BOUND_CONJUNCTION", "CONJUNCTION_OR":
                return _any(self.implied(child, columns) for child in children)
            case "BOUND_FUNCTION", "COMPARE_BETWEEN":
                tested = self._reading(children[0], columns)
                return self._compared(tested, "COMPARE_GREATERTHANOREQUALTO", _constant(children[1])).both(
                    self._compared(tested, "COMPARE_LESSTHANOREQUALTO", _constant(children[2]))
                )
            case "BOUND_FUNCTION", _ if kind in _FLIPPED:
                left, right = children
                if _constant(left) is not None:
                    return self._compared(self._reading(right, columns), _FLIPPED[kind], _constant(left))
                return self._compared(self._reading(left, columns), kind, _constant(right))
            case "BOUND_OPERATOR", "COMPARE_IN":
                return self._listed(self._reading(children[0], columns), [_constant(child) for child in children[1:]])
        return ALL_ROWS

    def _column(self, name: str | None) -> _Reading | None:
        return _Reading(name, 1) if name is not None else None

    def _reading(self, expression: Node, columns: Sequence[str | None]) -> _Reading | None:
        """What an expression says about one column, if it grows with it; else ``None``."""
        kind, children = expression.get("type"), expression.get("children") or []
        if expression.get("expression_class") == "BOUND_REF":
            index = int(expression.get("index", 0))
            return self._column(columns[index]) if index < len(columns) else None
        if expression.get("expression_class") != "BOUND_FUNCTION" or not children:
            return None
        result = str((expression.get("return_type") or {}).get("id"))
        name = str(((expression.get("qname") or {}).get("path") or [""])[-1])
        if kind == "OPERATOR_CAST":
            inner, step = self._reading(children[0], columns), _STEP_NS.get(result)
            is_moment = _type(children[0]) in _STEP_NS and not (expression.get("function_data") or {}).get("try_cast")
            return inner.rounded(step, step) if inner is not None and step is not None and is_moment else None
        if kind != "BOUND_FUNCTION":
            return None
        if name in _EPOCH_STEP_NS and len(children) == 1 and _type(children[0]) in _STEP_NS:
            inner, step = self._reading(children[0], columns), _EPOCH_STEP_NS[name]
            return inner.rounded(step, _EPOCH_ROUNDING_NS if result == "DOUBLE" else step - 1) if inner else None
        if len(children) != 2 or result not in _STEP_NS:
            return None
        first, second = _constant(children[0]), _constant(children[1])
        if name in ("date_trunc", "datetrunc") and first is not None:
            inner, size = self._reading(children[1], columns), _TRUNC_NS_MAX.get(str(first.get("value")).lower())
            return inner.rounded(_STEP_NS[result], 0).lowered(size) if inner is not None and size is not None else None
        if name == "time_bucket" and first is not None and (width := _interval_ns(first, _MONTH_NS_MAX)) is not None:
            inner = self._reading(children[1], columns)
            return inner.rounded(_STEP_NS[result], 0).lowered(width) if inner is not None else None
        if name in ("+", "-") and second is not None and (by_ns := _interval_ns(second, None)) is not None:
            inner = self._reading(children[0], columns)
            return inner.rounded(_STEP_NS[result], 0).moved(by_ns if name == "+" else -by_ns) if inner else None
        return None

    # --- comparisons with constants

    def _listed(self, tested: _Reading | None, constants: Sequence[Node | None]) -> Rows:
        if len(constants) > _IDS_MAX:
            return ALL_ROWS
        return _any(self._compared(tested, "COMPARE_EQUAL", constant) for constant in constants)

    def _compared(self, tested: _Reading | None, kind: str, constant: Node | None) -> Rows:
        if tested is None or constant is None or constant.get("is_null"):
            return ALL_ROWS
        if tested.column in (self._declared.begin_column, self._declared.end_column):
            return Rows(self._range(tested, kind, constant))
        if kind == "COMPARE_EQUAL" and tested.step_ns == 1 and constant["type"] == _PLAIN_TEXT:
            return Rows(equals={tested.column: frozenset({str(constant.get("value", ""))})})
        return ALL_ROWS

    def _range(self, tested: _Reading, kind: str, constant: Node) -> TimeRange:
        """Closed bounds of a column of which a reading compares as ``kind`` with a constant."""
        value = constant.get("value", 0)
        if not isinstance(value, (int, float)) or not _INT64_MIN <= value <= _INT64_MAX:
            return EVERYTHING
        moment = int(value * tested.step_ns) if isinstance(value, int) else round(value * tested.step_ns)
        exact = tested.step_ns == 1 and not tested.below and not tested.above
        lower = upper = None
        if kind in ("COMPARE_EQUAL", "COMPARE_GREATERTHANOREQUALTO", "COMPARE_GREATERTHAN"):
            lower = moment - tested.above + (exact and kind == "COMPARE_GREATERTHAN")
        if kind in ("COMPARE_EQUAL", "COMPARE_LESSTHANOREQUALTO", "COMPARE_LESSTHAN"):
            upper = moment + tested.below - (exact and kind == "COMPARE_LESSTHAN")
        return _range_of(self._declared, tested.column, _within_int64(lower), _within_int64(upper))


def _all(rows: Iterable[Rows]) -> Rows:
    combined = ALL_ROWS
    for one in rows:
        combined = combined.both(one)
    return combined


def _any(rows: Iterable[Rows]) -> Rows:
    combined: Rows | None = None
    for one in rows:
        combined = one if combined is None else combined.either(one)
    return combined or ALL_ROWS


def _constant(expression: Node) -> Node | None:
    """A value with its type; ``None`` for any other expression."""
    return expression["value"] if expression.get("expression_class") == "BOUND_CONSTANT" else None


def _type(expression: Node) -> str:
    return str((expression.get("return_type") or {}).get("id"))


def _interval_ns(constant: Node, month_ns: int | None) -> int | None:
    """Nanoseconds of an interval; ``None`` for another type, and for months where these have no length."""
    if constant["type"].get("id") != "INTERVAL" or constant.get("is_null"):
        return None
    parts = constant.get("value") or {}
    months = int(parts.get("months", 0))
    if months and month_ns is None:
        return None
    return months * (month_ns or 0) + int(parts.get("days", 0)) * _DAY_NS + int(parts.get("micros", 0)) * _US


def _within_int64(moment: int | None) -> int | None:
    return moment if moment is not None and _INT64_MIN <= moment <= _INT64_MAX else None


def _range_of(declared: DeclaredRelation, name: str, lower: int | None, upper: int | None) -> TimeRange:
    """A row is needed if it begins at or before ``end`` and ends at or after ``begin``."""
    begins, ends = name == declared.begin_column, name == declared.end_column
    if begins and ends:
        return TimeRange(lower, upper)
    if declared.ordered:  # no row ends before it begins, so each bound holds for the other column as well
        return TimeRange(lower, upper)
    return TimeRange(lower if ends else None, upper if begins else None)
