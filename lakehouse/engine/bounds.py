"""Which rows of its relations a statement can use: a time range and id equalities per relation, read from its plan.

The argument is the engine's own. Its optimizer has moved every filter as far down as the statement's meaning allows, so a
row that the filters at a scan reject cannot change the result, whether it was read or not. What is read here are those
filters, and those that are left above joins; a filter that is not understood bounds nothing. A relation that the plan
does not scan gives no row. Refuses to judge whether a statement is allowed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from lakehouse.engine.functions import reference_of
from lakehouse.engine.names import CATALOG_NAME, SCHEMA_NAME
from lakehouse.engine.readings import INT64_MAX, Reading, constant, reading_of
from lakehouse.engine.relations import Call, DeclaredRelation, Reference
from lakehouse.engine.tree import Node, nodes
from lakehouse.model import EVERYTHING, GLOBAL_INSTANCE, NEVER, TimeRange

Named = Call | str  # of a relation function, or the name of a global table

_IDS_MAX: Final = 1_000  # more values than this for one id column push nothing down
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
    """The rows of a relation that may matter: those in the range, with one of the values in each of the columns.

    ``ended_by_ns``: of rows that last, those that end no later. The range leaves that open: a row that is in it may go on.
    """

    range: TimeRange = EVERYTHING
    equals: Mapping[str, frozenset[str]] = field(default_factory=dict)
    ended_by_ns: int | None = None

    def both(self, other: Rows) -> Rows:
        equals = dict(self.equals)
        for column, values in other.equals.items():
            equals[column] = equals[column] & values if column in equals else values
        ends = [t for t in (self.ended_by_ns, other.ended_by_ns) if t is not None]
        return Rows(self.range.intersect(other.range), equals, min(ends, default=None))

    def either(self, other: Rows) -> Rows:
        equals = {c: v | other.equals[c] for c, v in self.equals.items() if c in other.equals}
        ended_by_ns = None
        if self.ended_by_ns is not None and other.ended_by_ns is not None:
            ended_by_ns = max(self.ended_by_ns, other.ended_by_ns)
        return Rows(self.range.union(other.range), equals, ended_by_ns)


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
        rows = replace(scan.rows, range=scan.rows.range.spanned()) if tables[scan.table].lasts else scan.rows
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
        return Reference(named, named, (GLOBAL_INSTANCE,), rows.range, equals, ended_by_ns=rows.ended_by_ns)
    return reference_of(named, range=rows.range, equals=equals, ended_by_ns=rows.ended_by_ns)


def _scanned(scan: Node) -> str:
    """The table of ours that is scanned; empty for anything else that makes rows."""
    path = ((scan.get("function_data") or {}).get("qualified_name") or {}).get("path") or []
    return str(path[2]) if path[:2] == [CATALOG_NAME, SCHEMA_NAME] and len(path) == 3 else ""


class _Scan:
    """One scan of a stand-in, and what the filters at it imply."""

    def __init__(self, scan: Node, table: str, declared: DeclaredRelation) -> None:
        self.table = table
        self._scan = scan
        self._declared = declared
        read = [self._name(column) for column in scan.get("column_indexes") or []]
        self.shown = [read[position] for position in scan.get("projection_ids") or []] or read
        self.rows = ALL_ROWS
        by_place = scan.get("table_filters_by_projection")  # else by the number of a column in the table
        for entry in (scan.get("table_filters") or {}).get("filters") or [] if by_place else []:
            self.rows = self.rows.both(self._pushed(entry["value"], read[entry.get("key", 0)]))

    def _name(self, column: Node) -> str | None:
        """The declared name of a column that is read; ``None`` for a part of one, and for a row's own number."""
        names, index = self._scan["names"], int(column.get("index", 0))
        return str(names[index]) if column.keys() <= {"index"} and index < len(names) else None

    # --- filters inside of the scan: about one column each

    def _pushed(self, condition: Node, column: str | None) -> Rows:
        match condition.get("filter_type"):
            case "LEGACY_CONSTANT_COMPARISON":
                return self._compared(_of(column), str(condition["comparison_type"]), condition["constant"])
            case "LEGACY_IN_FILTER":
                return self._listed(_of(column), condition.get("values") or [])
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
                tested = reading_of(children[0], columns)
                return self._compared(tested, "COMPARE_GREATERTHANOREQUALTO", constant(children[1])).both(
                    self._compared(tested, "COMPARE_LESSTHANOREQUALTO", constant(children[2]))
                )
            case "BOUND_FUNCTION", _ if kind in _FLIPPED:
                left, right = children
                if constant(left) is not None:
                    return self._compared(reading_of(right, columns), _FLIPPED[kind], constant(left))
                return self._compared(reading_of(left, columns), kind, constant(right))
            case "BOUND_OPERATOR", "COMPARE_IN":
                return self._listed(reading_of(children[0], columns), [constant(child) for child in children[1:]])
        return ALL_ROWS

    # --- comparisons with constants

    def _listed(self, tested: Reading | None, constants: Sequence[Node | None]) -> Rows:
        if len(constants) > _IDS_MAX:
            return ALL_ROWS
        return _any(self._compared(tested, "COMPARE_EQUAL", constant) for constant in constants)

    def _compared(self, tested: Reading | None, kind: str, compared: Node | None) -> Rows:
        if tested is None or compared is None or compared.get("is_null"):
            return ALL_ROWS
        if tested.column in (self._declared.begin_column, self._declared.end_column):
            return self._within(tested, kind, compared)
        if kind == "COMPARE_EQUAL" and tested.is_exact and compared["type"] == _PLAIN_TEXT:
            return Rows(equals={tested.column: frozenset({str(compared.get("value", ""))})})
        return ALL_ROWS

    def _within(self, tested: Reading, kind: str, compared: Node) -> Rows:
        """Closed bounds of a column of which a reading compares as ``kind`` with a constant."""
        value = compared.get("value", 0)
        if not isinstance(value, (int, float)) or not abs(value) <= INT64_MAX:
            return ALL_ROWS
        moment = value * tested.step_ns if isinstance(value, int) else round(value * tested.step_ns)
        if abs(moment) >= INT64_MAX and not tested.is_exact:
            return ALL_ROWS
        lower = upper = None
        if kind in ("COMPARE_EQUAL", "COMPARE_GREATERTHANOREQUALTO", "COMPARE_GREATERTHAN"):
            lower = moment - tested.above + (tested.is_exact and kind == "COMPARE_GREATERTHAN")
        if kind in ("COMPARE_EQUAL", "COMPARE_LESSTHANOREQUALTO", "COMPARE_LESSTHAN"):
            upper = moment + tested.below - (tested.is_exact and kind == "COMPARE_LESSTHAN")
        lower, upper = _within_int64(lower), _within_int64(upper)
        is_end = self._declared.lasts and tested.column == self._declared.end_column
        return Rows(_range_of(self._declared, tested.column, lower, upper), ended_by_ns=upper if is_end else None)


def _of(column: str | None) -> Reading | None:
    return Reading(column) if column is not None else None


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


def _within_int64(moment: int | None) -> int | None:
    return moment if moment is not None and abs(moment) <= INT64_MAX else None


def _range_of(declared: DeclaredRelation, name: str, lower: int | None, upper: int | None) -> TimeRange:
    """A row is needed if it begins at or before ``end`` and ends at or after ``begin``."""
    begins, ends = name == declared.begin_column, name == declared.end_column
    if begins and ends:
        return TimeRange(lower, upper)
    if declared.ordered:  # no row ends before it begins, so each bound holds for the other column as well
        return TimeRange(lower, upper)
    return TimeRange(lower if ends else None, upper if begins else None)
