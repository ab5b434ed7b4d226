"""What a statement's own predicates say about the rows it can use: a time range and id equalities per relation.

Read from the parse tree, never from the text. A bound is given only where a row outside of it provably cannot change
the result; whatever is not understood bounds nothing. Refuses to judge whether a statement is allowed.

The argument, used everywhere below: a comparison of a column with a constant is not true for NULL, so a WHERE that
implies ``column >= x`` drops every joined row that lacks the column's source, outer joins included. Rows of that source
below ``x`` are therefore dropped whether they were read or not.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import duckdb
import pyarrow as pa

from lakehouse.engine.functions import (
    CLOCK_FUNCTIONS,
    CLOCK_KEYWORDS,
    CONSTANT_FUNCTIONS,
    VIEW_INSTANCE,
    function_rules,
    words,
)
from lakehouse.engine.gate import Checked, InstanceCall, resolve_call
from lakehouse.engine.limits import DEFAULT_LIMITS, EngineLimits
from lakehouse.engine.names import INFORMATION_SCHEMA
from lakehouse.engine.relations import DeclaredRelation, EngineCatalog, Reference
from lakehouse.engine.tree import Node, bound_value
from lakehouse.model import EVERYTHING, GLOBAL_INSTANCE, TimeRange

_INT64_MIN: Final = -(1 << 63)
_INT64_MAX: Final = (1 << 63) - 1
_IDS_MAX: Final = 1_000  # more values than this for one id column push nothing down
_DAY_NS: Final = 86_400_000_000_000
# How far a coarser reading of a column may lie from the column itself.
_CAST_SLACK_NS: Final[Mapping[str, int]] = {
    "timestamp_ns": 0,
    "timestamp": 1_000,
    "timestamp_us": 1_000,
    "datetime": 1_000,
    "date": _DAY_NS,
}
_TRUNC_SLACK_NS: Final[Mapping[str, int]] = {
    "microsecond": 1_000,
    "millisecond": 1_000_000,
    "second": 1_000_000_000,
    "minute": 60_000_000_000,
    "hour": 3_600_000_000_000,
    "day": _DAY_NS,
    "week": 7 * _DAY_NS,
    "month": 31 * _DAY_NS,
    "quarter": 92 * _DAY_NS,
    "year": 366 * _DAY_NS,
}
_CONSTANT_CASTS: Final = frozenset(_CAST_SLACK_NS) | words(
    "timestamp_ms timestamp_s interval int integer bigint double smallint"
)
_FLIPPED: Final[Mapping[str, str]] = {
    "COMPARE_EQUAL": "COMPARE_EQUAL",
    "COMPARE_LESSTHAN": "COMPARE_GREATERTHAN",
    "COMPARE_GREATERTHAN": "COMPARE_LESSTHAN",
    "COMPARE_LESSTHANOREQUALTO": "COMPARE_GREATERTHANOREQUALTO",
    "COMPARE_GREATERTHANOREQUALTO": "COMPARE_LESSTHANOREQUALTO",
}


@dataclass(frozen=True, slots=True)
class Bounds:
    """References of one statement, one per relation, and whether a bound follows the clock."""

    references: tuple[Reference, ...]
    volatile: bool


@dataclass(slots=True, eq=False)
class _Source:
    """One appearance of a relation in the statement, with what is known about the rows it must give."""

    call: InstanceCall | str  # a view instance, or the name of a global table
    declared: DeclaredRelation
    range: TimeRange = EVERYTHING
    equals: dict[str, frozenset[str]] = field(default_factory=dict)

    def constrain(self, implied: _Implied) -> None:
        self.range = self.range.intersect(implied.range)
        for column, values in implied.equals.items():
            self.equals[column] = self.equals[column] & values if column in self.equals else values


@dataclass(frozen=True, slots=True)
class _Implied:
    range: TimeRange = EVERYTHING
    equals: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def both(self, other: _Implied) -> _Implied:
        equals = dict(self.equals)
        for column, values in other.equals.items():
            equals[column] = equals[column] & values if column in equals else values
        return _Implied(self.range.intersect(other.range), equals)

    def either(self, other: _Implied) -> _Implied:
        equals = {c: v | other.equals[c] for c, v in self.equals.items() if c in other.equals}
        return _Implied(self.range.union(other.range), equals)


@dataclass(frozen=True, slots=True)
class _Column:
    """A column in scope. A predicate on it that rejects NULL may be applied to every origin; no origins: to none."""

    name: str
    origins: tuple[tuple[_Source, str], ...] = ()
    aliases: frozenset[str] = frozenset()

    def without_origins(self) -> _Column:
        return _Column(self.name, (), self.aliases)


@dataclass(slots=True)
class _Scope:
    """What a FROM clause offers. ``complete``: every column is listed, so that an unqualified name can be resolved."""

    columns: list[_Column] = field(default_factory=list)
    complete: bool = True

    def merge(self, other: _Scope) -> _Scope:
        return _Scope(self.columns + other.columns, self.complete and other.complete)

    def stripped(self) -> _Scope:
        return _Scope([column.without_origins() for column in self.columns], self.complete)


_OPAQUE: Final = _Scope([], complete=False)


@dataclass(frozen=True, slots=True)
class _Cte:
    entry: Node
    visible: Mapping[str, _Cte]


class _TooWide(Exception):
    """Following every use of every common table expression would take too long."""


def find_bounds(
    checked: Checked,
    catalog: EngineCatalog,
    evaluate: Callable[[str], Sequence[Any]],
    *,
    parameters: Sequence[Any] | None = None,
    limits: EngineLimits = DEFAULT_LIMITS,
) -> Bounds:
    """Bounds of every relation that a statement reads.

    Args:
        checked: What the gate let pass.
        evaluate: Runs one serialized SELECT without FROM and returns its only row.
        parameters: Bound values in order; ``None`` at prepare, where comparisons with parameters bound nothing.
    """
    finder = _Finder(catalog, evaluate, parameters, limits)
    try:
        finder.collect_constants(checked.tree)
        finder.query(checked.tree, {})
        bounded = finder.has_seen_all(checked.tree)
    except (_TooWide, RecursionError):
        bounded = False
    return Bounds(finder.references(checked, bounded), finder.volatile and bounded)


class _Finder:
    def __init__(
        self,
        catalog: EngineCatalog,
        evaluate: Callable[[str], Sequence[Any]],
        parameters: Sequence[Any] | None,
        limits: EngineLimits,
    ) -> None:
        self._catalog = catalog
        self._evaluate = evaluate
        self._parameters = parameters
        self._limits = limits
        self._rules = function_rules()
        self._sources: list[_Source] = []
        self._expansions = 0
        self._seen: set[int] = set()  # ids of references that were followed
        self._cte_names: set[str] = set()
        self._constants: dict[int, tuple[int, bool]] = {}  # id of a node -> nanoseconds, follows the clock
        self.volatile = False

    # --- constants

    def collect_constants(self, tree: Node) -> None:
        """Evaluate all constants that stand beside a column in one go: DuckDB reads them as it will in the query."""
        candidates: list[Node] = []
        todo: list[Any] = [tree]
        while todo:
            node = todo.pop()
            if isinstance(node, list):
                todo.extend(node)
            elif isinstance(node, dict):
                match node.get("class"):
                    case "COMPARISON":
                        candidates += [node["left"], node["right"]]
                    case "BETWEEN":
                        candidates += [node["lower"], node["upper"]]
                    case "OPERATOR" if node.get("type") == "COMPARE_IN":
                        candidates += (node.get("children") or [])[1:]
                todo.extend(node.values())
        constants = [(node, made) for node in candidates if (made := self._constant(node)) is not None]
        del constants[self._limits.bound_constants_max :]
        if not constants:
            return
        values = self._evaluate_all([made for _, made in constants])
        for (node, made), value in zip(constants, values, strict=True):
            if value is not None:
                self._constants[id(node)] = (value, _follows_clock(made))

    def _evaluate_all(self, expressions: list[Node]) -> list[int | None]:
        try:
            return [None if v is None else int(v) for v in self._evaluate(_select_of(expressions))]
        except duckdb.InterruptException:
            raise
        except duckdb.Error:
            if len(expressions) == 1:
                return [None]
        middle = len(expressions) // 2
        return self._evaluate_all(expressions[:middle]) + self._evaluate_all(expressions[middle:])

    def _constant(self, node: Any, depth: int = 0) -> Node | None:
        """The node with parameters replaced by their values, if it depends on no row and is cheap; else ``None``."""
        if not isinstance(node, dict) or depth > 16:
            return None
        match node.get("class"):
            case "CONSTANT":
                literal = node.get("literal")
                return node if isinstance(literal, dict) and literal.get("kind") != "NULL" else None
            case "PARAMETER":
                return self._parameter(node)
            case "COLUMN_REF":
                names = node.get("column_names") or []
                if len(names) == 1 and str(names[0]).lower() in CLOCK_KEYWORDS:
                    return node if not self._names_a_column(str(names[0]).lower()) else None
                return None
            case "CAST":
                target = str((node.get("type_expr") or {}).get("type_name", "")).lower()
                child = self._constant(node.get("child"), depth + 1)
                return {**node, "child": child} if child is not None and target in _CONSTANT_CASTS else None
            case "FUNCTION":
                return self._constant_call(node, depth)
        return None

    def _constant_call(self, node: Node, depth: int) -> Node | None:
        name = str(node.get("function_name", "")).lower()
        path = (node.get("qualified_name") or {}).get("path") or []
        if name not in CONSTANT_FUNCTIONS or len(path) != 1 or node.get("filter") or node.get("distinct"):
            return None
        arguments = []
        for argument in node.get("arguments") or []:
            made = self._constant(argument.get("expression"), depth + 1)
            if made is None or argument.get("name"):
                return None
            arguments.append({"expression": made})
        return {**node, "arguments": arguments} if arguments else node

    def _parameter(self, node: Node) -> Node | None:
        value = bound_value(node, self._parameters)
        if isinstance(value, datetime):
            value = (value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value).isoformat()
        if isinstance(value, str):
            return _text_constant(value)
        return None

    def _names_a_column(self, name: str) -> bool:
        declared = [*self._catalog.tables.values(), *self._catalog.view_sets.values()]
        return any(name in (column.lower() for column in relation.schema.names) for relation in declared)

    def _text(self, node: Any) -> str | None:
        """A plain string: a literal or a bound one."""
        if not isinstance(node, dict):
            return None
        if node.get("class") == "PARAMETER":
            node = self._parameter(node) or {}
        literal = node.get("literal") if node.get("class") == "CONSTANT" else None
        if isinstance(literal, dict) and literal.get("kind") == "STRING":
            return str(literal.get("text", ""))
        return None

    # --- query nodes: each returns its output columns

    def query(self, node: Node, outer: Mapping[str, _Cte]) -> _Scope:
        ctes = dict(outer)
        for entry in (node.get("cte_map") or {}).get("map", []):
            self._cte_names.add(str(entry["key"]).lower())
            ctes[str(entry["key"]).lower()] = _Cte(entry["value"], dict(ctes))
        match node.get("type"):
            case "SELECT_NODE":
                return self._select(node, ctes)
            case "SET_OPERATION_NODE":
                return self._set_operation(node, ctes)
            case "RECURSIVE_CTE_NODE":
                return self._recursive(node, ctes)
        self._everything_in(node, ctes)
        return _OPAQUE

    def _cte(self, cte: _Cte) -> _Scope:
        self._expansions += 1
        if self._expansions > self._limits.bound_expansions_max:
            raise _TooWide
        body = cte.entry.get("query_node") or (cte.entry.get("query") or {}).get("node")
        if not isinstance(body, dict):
            return _OPAQUE
        return _renamed(self.query(body, cte.visible), cte.entry.get("aliases") or [])

    def _recursive(self, node: Node, ctes: Mapping[str, _Cte]) -> _Scope:
        self.query(node["left"], ctes)
        hidden = {**ctes, str(node.get("cte_name", "")).lower(): _Cte({}, {})}
        self.query(node["right"], hidden)
        return _OPAQUE

    def _set_operation(self, node: Node, ctes: Mapping[str, _Cte]) -> _Scope:
        """A predicate on an output column commutes with set operations if every branch has a column there."""
        branches = [self.query(child, ctes) for child in node.get("children") or []]
        self._modifiers(node, ctes)
        plain = node.get("setop_type") in ("UNION", "EXCEPT", "INTERSECT") and _keeps_rows(node)
        if not branches or not plain or not all(branch.complete for branch in branches):
            return _OPAQUE
        width = len(branches[0].columns)
        if any(len(branch.columns) != width for branch in branches):
            return _OPAQUE
        columns = []
        for position, first in enumerate(branches[0].columns):
            stacked = [branch.columns[position] for branch in branches]
            whole = all(column.origins for column in stacked) and len({_kind(column) for column in stacked}) == 1
            origins = tuple(origin for column in stacked for origin in column.origins) if whole else ()
            columns.append(_Column(first.name, origins))
        return _Scope(columns)

    def _select(self, node: Node, ctes: Mapping[str, _Cte]) -> _Scope:
        scope = self._from(node.get("from_table") or {}, ctes)
        if node.get("sample"):
            scope = scope.stripped()
        if "where_clause" in node:
            self._apply(node["where_clause"], scope, self._implied(node["where_clause"], scope))
        for key, value in node.items():
            if key not in ("from_table", "cte_map"):
                self._subqueries(value, ctes)
        return self._output(node, scope)

    def _output(self, node: Node, scope: _Scope) -> _Scope:
        pushable = _keeps_rows(node) and not node.get("qualify") and not node.get("sample")
        keys: list[_Column] | None = None  # with GROUP BY, only its keys may be filtered before it
        if node.get("group_expressions") or not self._is_row_wise(node):
            keys = self._group_keys(node, scope) if pushable and not _has_window(node) else []
        columns: list[_Column] = []
        complete = True
        for item in node.get("select_list") or []:
            if item.get("class") == "STAR":
                plain = not any(item.get(k) for k in ("exclude_list", "replace_list", "rename_list", "columns", "expr"))
                relation = str(item.get("relation_name", "")).lower()
                if not plain or not scope.complete:
                    complete = False
                    continue
                columns += [c for c in scope.columns if not relation or relation in c.aliases]
            elif _may_widen(item):
                complete = False
            else:
                origin = self._resolve(item, scope)
                name = str(item.get("alias") or (item.get("column_names") or [""])[-1])
                columns.append(_Column(name, origin.origins if origin else ()))
        if keys is not None:
            kept = {id(source) for key in keys for source, _ in key.origins}
            names = {(id(source), column) for key in keys for source, column in key.origins}
            columns = [
                c
                if c.origins and all((id(s), n) in names and id(s) in kept for s, n in c.origins)
                else c.without_origins()
                for c in columns
            ]
        if not pushable or _has_window(node):
            columns = [c.without_origins() for c in columns]
        return _Scope([_Column(c.name, c.origins) for c in columns], complete)

    def _group_keys(self, node: Node, scope: _Scope) -> list[_Column]:
        if len(node.get("group_sets") or []) > 1 or node.get("aggregate_handling") != "STANDARD_HANDLING":
            return []
        keys = []
        for expression in node.get("group_expressions") or []:
            literal = (expression.get("literal") or {}) if expression.get("class") == "CONSTANT" else {}
            if literal.get("kind") == "INTEGER" and str(literal.get("text")).isdigit():
                items = node.get("select_list") or []
                position = int(literal["text"]) - 1
                if any(item.get("class") == "STAR" for item in items) or not 0 <= position < len(items):
                    continue
                expression = items[position]
            column = self._resolve(expression, scope)
            if column is not None:
                keys.append(column)
        return keys

    def _is_row_wise(self, node: Node) -> bool:
        """No aggregate anywhere in the select list: every output row stems from one input row."""
        if node.get("aggregate_handling") != "STANDARD_HANDLING" or node.get("having"):
            return False
        todo: list[Any] = [node.get("select_list"), node.get("modifiers")]
        while todo:
            part = todo.pop()
            if isinstance(part, list):
                todo.extend(part)
            elif isinstance(part, dict):
                if part.get("class") == "FUNCTION" and not part.get("is_operator"):
                    rule = self._rules.get(str(part.get("function_name", "")).lower())
                    if rule is None or not rule.is_row_wise:
                        return False
                todo.extend(value for key, value in part.items() if key != "subquery")
        return True

    # --- FROM

    def _from(self, node: Node, ctes: Mapping[str, _Cte]) -> _Scope:
        match node.get("type"):
            case "BASE_TABLE":
                scope = self._table(node, ctes)
            case "TABLE_FUNCTION":
                scope = self._table_function(node, ctes)
            case "SUBQUERY":
                body = (node.get("subquery") or {}).get("node") or {}
                scope = _aliased(
                    _renamed(self.query(body, ctes), node.get("column_name_alias") or []), node.get("alias")
                )
            case "JOIN":
                return self._join(node, ctes)
            case "EMPTY":
                return _Scope()
            case _:
                self._everything_in(node, ctes)
                return _OPAQUE
        return scope.stripped() if node.get("sample") else scope

    def _table(self, node: Node, ctes: Mapping[str, _Cte]) -> _Scope:
        self._seen.add(id(node))
        path = [str(part).lower() for part in node["qualified_name"]["path"]]
        renames = node.get("column_name_alias") or []
        alias = node.get("alias") or path[-1]
        if len(path) == 1 and path[0] in ctes:
            cte = ctes[path[0]]
            scope = self._cte(cte) if cte.entry else _OPAQUE
            return _aliased(_renamed(scope, renames), alias)
        declared = None if INFORMATION_SCHEMA in path[:-1] else self._catalog.table(path[-1])
        if declared is None:
            return _OPAQUE
        return _aliased(_renamed(self._source(path[-1], declared), renames), alias)

    def _table_function(self, node: Node, ctes: Mapping[str, _Cte]) -> _Scope:
        self._seen.add(id(node))
        call = node.get("function") or {}
        if str(call.get("function_name", "")).lower() != VIEW_INSTANCE:
            self._subqueries(call, ctes)
            return _OPAQUE
        resolved = resolve_call(call.get("arguments") or [], self._parameters)
        declared = self._catalog.view_sets[resolved.view_set]
        scope = self._source(resolved, declared)
        if node.get("with_ordinality"):  # numbers rows before any predicate
            return _OPAQUE
        return _aliased(_renamed(scope, node.get("column_name_alias") or []), node.get("alias") or VIEW_INSTANCE)

    def _source(self, call: InstanceCall | str, declared: DeclaredRelation) -> _Scope:
        source = _Source(call, declared)
        self._sources.append(source)
        tracked = {declared.begin_column, declared.end_column}
        columns = []
        for member in declared.schema:
            is_id = member.name.endswith("_id") and pa.types.is_string(member.type)
            known = is_id or member.name in tracked
            columns.append(_Column(member.name, ((source, member.name),) if known else ()))
        return _Scope(columns)

    def _join(self, node: Node, ctes: Mapping[str, _Cte]) -> _Scope:
        left, right = self._from(node["left"], ctes), self._from(node["right"], ctes)
        style, kind = node.get("ref_type"), node.get("join_type")
        condition = node.get("condition")
        if condition is not None:
            self._subqueries(condition, ctes)
        if style in ("POSITIONAL", "DEPENDENT") or style not in ("REGULAR", "CROSS", "NATURAL", "ASOF"):
            return left.merge(right).stripped()
        if style == "NATURAL":
            return _OPAQUE
        if style == "ASOF":  # the nearest row must be found among all rows
            right = right.stripped()
        scope = left.merge(right)
        if condition is not None and style == "REGULAR":
            implied = self._implied(condition, scope)
            kept = {
                "INNER": (left, right),
                "LEFT": (right,),
                "RIGHT": (left,),
                "SEMI": (left, right),
                "ANTI": (right,),
            }.get(str(kind), ())
            for side in kept:
                self._apply(condition, side, implied)
        if kind in ("SEMI", "ANTI"):
            return left
        if kind not in ("INNER", "LEFT", "RIGHT", "OUTER", "FULL"):
            return scope.stripped()
        return _merge_using(scope, left, right, [str(c).lower() for c in node.get("using_columns") or []], str(kind))

    # --- predicates

    def _apply(self, _: Node, scope: _Scope, implied: Mapping[_Source, _Implied]) -> None:
        inside = {id(source) for column in scope.columns for source, _name in column.origins}
        for source, what in implied.items():
            if id(source) in inside:
                source.constrain(what)

    def _implied(self, node: Any, scope: _Scope, depth: int = 0) -> dict[_Source, _Implied]:
        if not isinstance(node, dict) or depth > 200:
            return {}
        match node.get("class"), node.get("type"):
            case "CONJUNCTION", "CONJUNCTION_AND":
                found: dict[_Source, _Implied] = {}
                for child in node.get("children") or []:
                    for source, what in self._implied(child, scope, depth + 1).items():
                        found[source] = found[source].both(what) if source in found else what
                return found
            case "CONJUNCTION", "CONJUNCTION_OR":
                branches = [self._implied(child, scope, depth + 1) for child in node.get("children") or []]
                if not branches:
                    return {}
                common = dict(branches[0])
                for branch in branches[1:]:
                    common = {s: w.either(branch[s]) for s, w in common.items() if s in branch}
                return common
            case "COMPARISON", kind if kind in _FLIPPED:
                left, right = node.get("left"), node.get("right")
                found = self._compared(left, str(kind), right, scope)
                return found or self._compared(right, _FLIPPED[str(kind)], left, scope)
            case "BETWEEN", "COMPARE_BETWEEN":
                tested = node.get("input")
                found = self._compared(tested, "COMPARE_GREATERTHANOREQUALTO", node.get("lower"), scope)
                for source, what in self._compared(
                    tested, "COMPARE_LESSTHANOREQUALTO", node.get("upper"), scope
                ).items():
                    found[source] = found[source].both(what) if source in found else what
                return found
            case "OPERATOR", "COMPARE_IN":
                tested, *values = node.get("children") or [None]
                if not values or len(values) > _IDS_MAX:
                    return {}
                branches = [self._compared(tested, "COMPARE_EQUAL", value, scope) for value in values]
                common = dict(branches[0])
                for branch in branches[1:]:
                    common = {s: w.either(branch[s]) for s, w in common.items() if s in branch}
                return common
        return {}

    def _compared(self, tested: Any, kind: str, constant: Any, scope: _Scope) -> dict[_Source, _Implied]:
        column, slack = self._tested(tested, scope)
        if column is None or not column.origins:
            return {}
        found: dict[_Source, _Implied] = {}
        for source, name in column.origins:
            what = self._implied_by(source.declared, name, kind, constant, slack)
            if what is not None:
                found[source] = found[source].both(what) if source in found else what
        return found

    def _tested(self, node: Any, scope: _Scope) -> tuple[_Column | None, int | None]:
        """The column that an expression reads, and how far the expression may lie from it; ``None``: it is the column."""
        if not isinstance(node, dict):
            return None, None
        if node.get("class") == "COLUMN_REF":
            return self._resolve(node, scope), None
        if node.get("class") == "CAST" and not node.get("try_cast"):
            target = str((node.get("type_expr") or {}).get("type_name", "")).lower()
            child = node.get("child")
            if target in _CAST_SLACK_NS and isinstance(child, dict) and child.get("class") == "COLUMN_REF":
                return self._resolve(child, scope), 2 * _CAST_SLACK_NS[target]  # the constant is read as coarsely
        if node.get("class") == "FUNCTION" and str(node.get("function_name")).lower() in ("date_trunc", "datetrunc"):
            arguments = [argument.get("expression") for argument in node.get("arguments") or []]
            path = (node.get("qualified_name") or {}).get("path") or []
            if len(arguments) == 2 and len(path) == 1:
                slack = _TRUNC_SLACK_NS.get((self._text(arguments[0]) or "").lower())
                child = arguments[1]
                if slack is not None and isinstance(child, dict) and child.get("class") == "COLUMN_REF":
                    return self._resolve(child, scope), slack + 1_000
        return None, None

    def _implied_by(
        self, declared: DeclaredRelation, name: str, kind: str, constant: Any, slack: int | None
    ) -> _Implied | None:
        if name in (declared.begin_column, declared.end_column):
            value = self._constants.get(id(constant))
            if value is None:
                return None
            moment, clock = value
            self.volatile = self.volatile or clock
            lower, upper = _limits(kind, moment, slack or 0)
            return _Implied(_range_of(declared, name, lower, upper))
        text = self._text(constant)
        if kind != "COMPARE_EQUAL" or text is None or slack is not None:
            return None
        return _Implied(equals={name: frozenset({text})})

    def _resolve(self, node: Any, scope: _Scope) -> _Column | None:
        if not isinstance(node, dict) or node.get("class") != "COLUMN_REF":
            return None
        names = [str(part).lower() for part in node.get("column_names") or []]
        if len(names) == 1 and scope.complete:
            found = [c for c in scope.columns if c.name.lower() == names[0]]
        elif len(names) == 2:
            found = [c for c in scope.columns if c.name.lower() == names[1] and names[0] in c.aliases]
        else:
            return None
        return found[0] if len(found) == 1 else None

    # --- parts that are only looked through for further queries

    def _modifiers(self, node: Node, ctes: Mapping[str, _Cte]) -> None:
        self._subqueries(node.get("modifiers"), ctes)

    def _subqueries(self, part: Any, ctes: Mapping[str, _Cte]) -> None:
        todo = [part]
        while todo:
            node = todo.pop()
            if isinstance(node, list):
                todo.extend(node)
            elif isinstance(node, dict):
                if str(node.get("type", "")).endswith("_NODE"):
                    self.query(node, ctes)
                else:
                    todo.extend(node.values())

    def _everything_in(self, part: Any, ctes: Mapping[str, _Cte]) -> None:
        """Relations below a construct that is not followed: they are read, and nothing bounds them from outside."""
        todo = [part]
        while todo:
            node = todo.pop()
            if isinstance(node, list):
                todo.extend(node)
            elif isinstance(node, dict):
                kind = str(node.get("type", ""))
                if node is not part and kind.endswith("_NODE"):
                    self.query(node, ctes)
                elif node is not part and kind in ("BASE_TABLE", "TABLE_FUNCTION", "JOIN", "SUBQUERY"):
                    if "class" in node:
                        todo.extend(node.values())
                    else:
                        self._from(node, ctes)
                else:
                    todo.extend(value for key, value in node.items() if key != "cte_map")

    # --- the answer

    def has_seen_all(self, tree: Node) -> bool:
        """Whether every reference in the tree was followed. One that was not may be a CTE, with any relation behind it.

        Common table expressions that nobody uses are never run: they are left out, and so are their references.
        """
        todo: list[Any] = [tree]
        while todo:
            node = todo.pop()
            if isinstance(node, list):
                todo.extend(node)
            elif isinstance(node, dict):
                reference = node.get("type") in ("BASE_TABLE", "TABLE_FUNCTION") and "class" not in node
                if reference and id(node) not in self._seen and not self._is_plain(node):
                    return False
                todo.extend(node.values())
        return True

    def _is_plain(self, node: Node) -> bool:
        """An unfollowed reference to a declared table or view instance: it is read without bounds."""
        if node["type"] == "TABLE_FUNCTION":
            call = node.get("function") or {}
            if str(call.get("function_name", "")).lower() == VIEW_INSTANCE:
                resolved = resolve_call(call.get("arguments") or [], self._parameters)
                self._sources.append(_Source(resolved, self._catalog.view_sets[resolved.view_set]))
            return True
        path = [str(part).lower() for part in node["qualified_name"]["path"]]
        declared = self._catalog.table(path[-1])
        if declared is None or path[-1] in self._cte_names:
            return INFORMATION_SCHEMA in path[:-1]
        self._sources.append(_Source(path[-1], declared))
        return True

    def references(self, checked: Checked, bounded: bool) -> tuple[Reference, ...]:
        merged: dict[InstanceCall | str, list[_Source]] = {}
        for source in self._sources:
            merged.setdefault(source.call, []).append(source)
        named: list[InstanceCall | str] = [*sorted(checked.tables), *sorted(checked.calls, key=str)]
        return tuple(_reference(call, merged.get(call, []) if bounded else []) for call in named)


def _reference(call: InstanceCall | str, sources: Sequence[_Source]) -> Reference:
    """One view serves every appearance of a relation, so it must hold what any of them needs."""
    combined = _Implied(sources[0].range, sources[0].equals) if sources else _Implied()
    for source in sources[1:]:
        combined = combined.either(_Implied(source.range, source.equals))
    equals = {c: tuple(sorted(v)) for c, v in sorted(combined.equals.items()) if len(v) <= _IDS_MAX}
    if isinstance(call, str):
        return Reference(call, call, GLOBAL_INSTANCE, combined.range, equals)
    return Reference(VIEW_INSTANCE, call.view_set, call.instance, combined.range, equals)


def _limits(kind: str, moment: int, slack: int) -> tuple[int | None, int | None]:
    """Closed bounds of a column that compares as ``kind`` with ``moment``, read ``slack`` away from itself."""
    lower = upper = None
    if kind in ("COMPARE_EQUAL", "COMPARE_GREATERTHANOREQUALTO", "COMPARE_GREATERTHAN"):
        lower = moment - slack + (1 if kind == "COMPARE_GREATERTHAN" and not slack else 0)
    if kind in ("COMPARE_EQUAL", "COMPARE_LESSTHANOREQUALTO", "COMPARE_LESSTHAN"):
        upper = moment + slack - (1 if kind == "COMPARE_LESSTHAN" and not slack else 0)
    return _within_int64(lower), _within_int64(upper)


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


def _kind(column: _Column) -> frozenset[bool]:
    """Whether the origins are time columns: branches that mix kinds are cast to text."""
    return frozenset(n in (s.declared.begin_column, s.declared.end_column) for s, n in column.origins)


def _keeps_rows(node: Node) -> bool:
    """No LIMIT and no DISTINCT ON: dropping an input row drops its output row and no other."""
    for modifier in node.get("modifiers") or []:
        kind = modifier.get("type")
        if kind == "ORDER_MODIFIER" or (kind == "DISTINCT_MODIFIER" and not modifier.get("distinct_on_targets")):
            continue
        return False
    return True


def _has_window(node: Node) -> bool:
    return _contains(
        [node.get("select_list"), node.get("modifiers"), node.get("qualify")],
        lambda part: part.get("class") == "WINDOW",
    )


def _may_widen(item: Node) -> bool:
    return _contains([item], lambda part: part.get("class") == "STAR" or part.get("function_name") == "unnest")


def _contains(parts: list[Any], wanted: Callable[[Node], bool]) -> bool:
    todo = parts
    while todo:
        part = todo.pop()
        if isinstance(part, list):
            todo.extend(part)
        elif isinstance(part, dict):
            if wanted(part):
                return True
            todo.extend(value for key, value in part.items() if key != "subquery")
    return False


def _renamed(scope: _Scope, names: Sequence[str]) -> _Scope:
    if not names:
        return scope
    if not scope.complete or len(names) > len(scope.columns):
        return _OPAQUE
    fresh = [
        _Column(str(names[i]) if i < len(names) else column.name, column.origins, column.aliases)
        for i, column in enumerate(scope.columns)
    ]
    return _Scope(fresh)


def _aliased(scope: _Scope, alias: Any) -> _Scope:
    names = frozenset({str(alias).lower()}) if alias else frozenset()
    return _Scope([_Column(c.name, c.origins, names) for c in scope.columns], scope.complete)


def _merge_using(scope: _Scope, left: _Scope, right: _Scope, using: Sequence[str], kind: str) -> _Scope:
    """``USING`` makes one column of two. Of an inner join it is both; otherwise it is left alone."""
    if not using:
        return scope
    if not scope.complete:
        return _OPAQUE
    columns = []
    for column in left.columns:
        name = column.name.lower()
        if name in using:
            twins = [c for c in right.columns if c.name.lower() == name]
            both = kind == "INNER" and len(twins) == 1 and column.origins and twins[0].origins
            origins = column.origins + twins[0].origins if both else ()
            columns.append(_Column(column.name, origins, column.aliases))
        else:
            columns.append(column)
    return _Scope(columns + [c for c in right.columns if c.name.lower() not in using])


def _follows_clock(node: Any) -> bool:
    return _contains(
        [node],
        lambda part: (
            (part.get("class") == "FUNCTION" and str(part.get("function_name")).lower() in CLOCK_FUNCTIONS)
            or part.get("class") == "COLUMN_REF"
        ),
    )


def _text_constant(text: str) -> Node:
    return {"class": "CONSTANT", "type": "VALUE_CONSTANT", "literal": {"kind": "STRING", "text": text}}


def _select_of(expressions: Sequence[Node]) -> str:
    """Serialized ``SELECT epoch_ns(CAST(e AS TIMESTAMP_NS)), …``: as the comparison itself reads the constant."""
    items = [
        {
            "class": "FUNCTION",
            "type": "FUNCTION",
            "function_name": "epoch_ns",
            "qualified_name": {"path": ["epoch_ns"]},
            "order_bys": {"type": "ORDER_MODIFIER"},
            "arguments": [
                {
                    "expression": {
                        "class": "CAST",
                        "type": "OPERATOR_CAST",
                        "child": expression,
                        "type_expr": {
                            "class": "TYPE",
                            "type": "TYPE",
                            "type_name": "TIMESTAMP_NS",
                            "qualified_name": {"path": ["TIMESTAMP_NS"]},
                        },
                    }
                }
            ],
        }
        for expression in expressions
    ]
    node = {
        "type": "SELECT_NODE",
        "cte_map": {},
        "select_list": items,
        "from_table": {"type": "EMPTY"},
        "aggregate_handling": "STANDARD_HANDLING",
    }
    return json.dumps({"error": False, "statements": [{"node": node}]})
