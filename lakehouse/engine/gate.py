"""The SQL gate: the tree of a statement, as DuckDB's own parser gives it, is held against allow-lists.

What the gate does not know it refuses, with a sentence that names it. It runs nothing, binds nothing and opens
nothing: it reads a tree, and needs no engine for that.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache
from itertools import accumulate
from typing import Any, Final

from lakehouse.engine.administration import administering_functions, refuse_misplaced
from lakehouse.engine.ambiguous import refuse_ambiguous
from lakehouse.engine.elsewhere import function_elsewhere
from lakehouse.engine.functions import (
    CALLS_BY_NAME,
    CALLS_BY_STRUCTURE,
    CLOCK_FUNCTIONS,
    CLOCK_KEYWORDS,
    PLAIN_NAME,
    Verdict,
    function_rules,
    own_functions,
    read_by,
    relation_functions,
    words,
)
from lakehouse.engine.limits import DEFAULT_LIMITS, EngineLimits
from lakehouse.engine.names import (
    CATALOG_NAME,
    INFORMATION_SCHEMA,
    INFORMATION_STAND_IN,
    INFORMATION_TABLES,
    SCHEMA_NAME,
    find_information_schema,
    is_foreign,
)
from lakehouse.engine.relations import Call, StatementKind
from lakehouse.engine.tree import Node, Parsed, bound_value, nodes, string_literal
from lakehouse.engine.zones import refuse_zone
from lakehouse.errors import (
    ForbiddenSqlError,
    LimitExceededError,
    QueryError,
    UnknownViewError,
)

_ENGINE_SCHEMAS: Final = ("system", "pg_catalog")
_QUERY_NODES: Final = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE", "VALUES_NODE"})
_TABLE_REFERENCES: Final = frozenset(
    {"BASE_TABLE", "SUBQUERY", "JOIN", "TABLE_FUNCTION", "EXPRESSION_LIST", "EMPTY", "PIVOT", "SHOW_REF"}
)
_EXPRESSIONS: Final = frozenset(
    {
        *("CASE", "CAST", "COLLATE", "COLUMN_REF", "COMPARISON", "CONJUNCTION", "CONSTANT", "FUNCTION", "LAMBDA"),
        *("OPERATOR", "PARAMETER", "POSITIONAL_REFERENCE", "STAR", "SUBQUERY", "WINDOW", "BETWEEN", "TYPE"),
    }
)
_NEVER_MATERIALIZED: Final = "CTE_MATERIALIZE_NEVER"
_MODIFIERS: Final = frozenset({"LIMIT_MODIFIER", "LIMIT_PERCENT_MODIFIER", "ORDER_MODIFIER", "DISTINCT_MODIFIER"})
_ORDERS: Final = frozenset({"ORDER_DEFAULT", "ASCENDING", "DESCENDING"})
_TYPES: Final = words(
    """
    json varchar array bigint bignum binary bit bitstring blob bool boolean bpchar bytea char date datetime dec
    decimal double enum float float4 float64 float8 guid hugeint int int1 int128 int16 int2 int32 int4 int64 int8 integer
    integral interval list logical long map null numeric nvarchar oid real row short signed smallint string struct
    text time time_ns timestamp timestamp_ms timestamp_ns timestamp_s timestamp_us timestamptz timestamptz_ns timetz
    tinyint tuple ubigint uhugeint uint128 uint16 uint32 uint64 uint8 uinteger union usmallint utinyint uuid
    varbinary varchar varint
    """
) | {"time with time zone", "timestamp with time zone"}
# Types of other types, which JSON spells as lists and objects, and those that are not read from JSON.
_NOT_PLAIN_TYPES: Final = words("array bignum bit bitstring enum list map row struct tuple union varint")
_PLAIN_TYPE: Final = re.compile(r"([A-Za-z_0-9 ]+)(?:\(\d{1,9}(?:, *\d{1,9})?\))?", re.ASCII)
_SHOWN_CHARS_MAX: Final = 100  # of a text of the user's in a message
# Of a subquery's rows an expression may have one only, so where all of them are meant, it becomes a list for these.
_OF_ALL_ROWS: Final = {
    "jsonb_each": "lakeflight_each_of",
    "jsonb_array_elements": "lakeflight_elements_of",
    "expand_histogram": "lakeflight_bins_of",
}
_TIMESTAMP_TYPES: Final = frozenset(
    {"timestamp", "timestamp_ns", "timestamp_us", "timestamp_ms", "timestamp_s", "datetime"}
)
_ORDER_COMPARISONS: Final = frozenset(
    {
        "COMPARE_LESSTHAN",
        "COMPARE_GREATERTHAN",
        "COMPARE_LESSTHANOREQUALTO",
        "COMPARE_GREATERTHANOREQUALTO",
    }
)


@dataclass(slots=True)
class Checked:
    """A statement that passed: what runs, and what it reads."""

    text: str  # what is given to the engine; the user's text unless a repair was needed
    kind: StatementKind
    analyze: bool  # EXPLAIN ANALYZE
    tree: Node  # the query node at the top
    parameters: int
    folded: frozenset[str] = frozenset()  # names with capitals that were written without quotes
    tables: frozenset[str] = frozenset()  # lower-case names of global tables
    calls: frozenset[Call] = frozenset()
    reads_information: bool = False
    reads_clock: bool = False
    functions: frozenset[str] = frozenset()
    administers: frozenset[str] = frozenset()  # functions that change the lake
    splices: list[tuple[int, int, str]] = field(default_factory=list)
    is_reworded: bool = False  # the text calls other functions than the tree


def judge(
    parsed: Parsed,
    *,
    tables: Collection[str],
    view_sets: Collection[str],
    time_columns: Container[str] = frozenset(),
    other_columns: Container[str] = frozenset(),
    parameters: Sequence[Any] | None = None,
    limits: EngineLimits = DEFAULT_LIMITS,
) -> Checked:
    """Hold a statement against the lists.

    Args:
        tables: Lower-case names of the global tables.  view_sets: What ``view_instance`` may name.
        time_columns: Names of declared timestamp columns.  other_columns: Names of columns of other types.
        parameters: Bound values in order; ``None`` at prepare.
    Raises:
        ForbiddenSqlError: It uses something that is not on a list.
        LimitExceededError: It is too deep or too wide.
    """
    kind = _kind_of(parsed.node)
    checked = Checked(
        text=parsed.text,
        kind="explain" if parsed.explain else kind,
        analyze=parsed.analyze,
        tree=parsed.node,
        parameters=parsed.parameters,
        folded=parsed.folded,
    )
    if parsed.explain and kind != "query":
        raise ForbiddenSqlError("only SELECT statements can be explained")
    walk = _Walk(limits, tables, view_sets, time_columns, other_columns, parameters, checked, parsed.is_translated)
    if checked.kind != "show_tables":
        walk.run(parsed.node)
    return checked


def _kind_of(node: Node) -> StatementKind:
    """``SHOW TABLES`` and ``DESCRIBE x`` parse as a SELECT over a special reference."""
    source = node.get("from_table") or {}
    if node.get("type") == "SELECT_NODE" and source.get("type") == "SHOW_REF" and "query_location" not in source:
        if source.get("show_type") == "SHOW_SPECIAL" and source.get("table_name") == '"tables"':
            return "show_tables"
        if source.get("show_type") == "DESCRIBE" and "query" in source:
            return "describe"
    return "query"


# --- the walk -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Frame:
    value: Any
    depth: int
    lambdas: int
    scope: frozenset[str]  # CTEs that a name at this place may mean
    elements: int = 1  # of the fixed-size arrays that this type is in


class _Walk:
    """Visits every node once, without recursion: depth is the attacker's. CTE names count only where they are seen."""

    def __init__(
        self,
        limits: EngineLimits,
        tables: Collection[str],
        view_sets: Collection[str],
        time_columns: Container[str],
        other_columns: Container[str],
        parameters: Sequence[Any] | None,
        checked: Checked,
        is_translated: bool,
    ) -> None:
        self._limits = limits
        self._known_tables = tables
        self._view_sets = view_sets
        self._time_columns = time_columns
        self._other_columns = other_columns
        self._parameters = parameters
        self._checked = checked
        self._is_translated = is_translated
        self._rules = function_rules()
        self._references = 0
        self._ctes = 0
        self._queries = 0
        self._inlined: dict[str, Node] = {}  # common table expressions that are planned again for every use
        self._tables: set[str] = set()
        self._calls: set[Call] = set()
        self._functions: set[str] = set()
        self._reads_clock = False

    def run(self, root: Node) -> None:
        todo = [_Frame(root, 0, 0, frozenset())]
        visited = 0
        while todo:
            frame = todo.pop()
            visited += 1
            if visited > self._limits.nodes_max:
                raise LimitExceededError(f"the statement is too complex: more than {self._limits.nodes_max} nodes")
            if frame.depth > self._limits.tree_depth_max:
                raise LimitExceededError("the statement is nested too deep")
            if isinstance(frame.value, list):
                depth, lambdas, scope, elements = frame.depth + 1, frame.lambdas, frame.scope, frame.elements
                todo.extend(_Frame(item, depth, lambdas, scope, elements) for item in frame.value)
            elif isinstance(frame.value, dict):
                todo.extend(self._visit(frame.value, frame))
        if len(self._calls) > self._limits.view_instances_max:
            raise LimitExceededError(
                f"the statement reads {len(self._calls)} view instances, the limit is {self._limits.view_instances_max}"
            )
        if self._inlined:
            count = _relations_inlined(root, self._inlined)
            if count > self._limits.relations_inlined_max:
                raise LimitExceededError(
                    f"with every use of an expression that is NOT MATERIALIZED the statement reads {count} relations,"
                    f" the limit is {self._limits.relations_inlined_max}: leave NOT MATERIALIZED out"
                )
        self._checked.tables = frozenset(self._tables)
        self._checked.calls = frozenset(self._calls)
        self._checked.functions = frozenset(self._functions)
        self._checked.reads_clock = self._reads_clock or bool(self._functions & CLOCK_FUNCTIONS)
        self._checked.administers = administering_functions() & {*self._functions, *(one.name for one in self._calls)}
        if self._checked.administers:
            refuse_misplaced(root, self._checked.administers, is_query=self._checked.kind == "query")
        if self._checked.splices:
            self._checked.text = _splice(self._checked.text, self._checked.splices)

    def _visit(self, node: Node, frame: _Frame) -> Iterator[_Frame]:
        lambdas, elements = frame.lambdas, frame.elements
        kind, name = node.get("class"), node.get("type")
        if kind is not None:
            if kind not in _EXPRESSIONS:
                raise ForbiddenSqlError(f"expressions of class {kind} are not allowed")
            if kind == "LAMBDA":
                lambdas += 1
                if lambdas > self._limits.lambda_depth_max:
                    raise LimitExceededError(f"lambdas are nested deeper than {self._limits.lambda_depth_max}")
            if kind == "TYPE":
                elements *= self._array_size(node)
                if elements > self._limits.array_elements_max:
                    raise LimitExceededError(
                        f"an array type has more than {self._limits.array_elements_max} elements: use a list"
                    )
            self._expression(kind, node)
        elif isinstance(name, str):
            self._structure(name, node, frame)
        scope = frame.scope
        ctes = (node.get("cte_map") or {}).get("map", [])
        for entry in ctes:
            key = self._cte_name(entry["key"])
            if entry["value"].get("materialized") == _NEVER_MATERIALIZED:
                self._inlined[key] = entry["value"]
            yield _Frame(entry["value"], frame.depth + 1, lambdas, scope)
            scope = scope | {key}
        recursive = self._cte_name(node["cte_name"]) if name == "RECURSIVE_CTE_NODE" else None
        for key, value in node.items():
            if key == "cte_map" or not isinstance(value, (dict, list)):
                continue
            if name == "TABLE_FUNCTION" and key == "function":  # judged above, as a table function
                value = [part for part in node["function"].values() if isinstance(part, (dict, list))]
            seen = scope | {recursive} if recursive is not None and key == "right" else scope
            yield _Frame(value, frame.depth + 1, lambdas, seen, elements)

    def _cte_name(self, name: str) -> str:
        self._ctes += 1
        if self._ctes > 2 * self._limits.ctes_max:  # a recursive one is met twice
            raise LimitExceededError(f"the statement has more than {self._limits.ctes_max} common table expressions")
        if is_foreign(name):
            raise ForbiddenSqlError(f"a common table expression must not be called {name!r}")
        return name.lower()

    # what is not an expression

    def _structure(self, name: str, node: Node, frame: _Frame) -> None:
        if name.endswith("_NODE"):
            self._queries += 1
            if self._queries > self._limits.queries_max:
                raise LimitExceededError(f"the statement has more than {self._limits.queries_max} SELECTs")
            if name not in _QUERY_NODES:
                what = name.removesuffix("_NODE").replace("_", " ").lower()
                raise ForbiddenSqlError(f"only SELECT statements are allowed, not {what}")
        elif name in _TABLE_REFERENCES:
            if name == "BASE_TABLE":
                self._base_table(node, frame.scope)
            elif name == "TABLE_FUNCTION":
                self._table_function(node)
            elif name == "SHOW_REF":
                self._show(node)
            elif name == "SUBQUERY":  # lateral ones cost as much to plan as relations
                self._count_reference()
            elif name == "PIVOT" and node.get("pivot_enum"):
                raise ForbiddenSqlError("PIVOT over an enum is not allowed: add IN (…)")
        elif name not in _MODIFIERS and name not in _ORDERS:
            raise ForbiddenSqlError(f"{name.lower()} is not allowed here")

    def _count_reference(self) -> None:
        self._references += 1
        if self._references > self._limits.relations_max:
            raise LimitExceededError(
                f"the statement reads more than {self._limits.relations_max} relations and subqueries"
            )

    def _base_table(self, node: Node, scope: frozenset[str]) -> None:
        self._count_reference()
        if node.get("at_clause"):
            raise ForbiddenSqlError("AT is not allowed")
        path = [str(part) for part in node["qualified_name"]["path"]]
        shown = ".".join(path)
        names = [part.lower() for part in path]
        if not shown.isascii():  # the engine folds ASCII letters only
            raise ForbiddenSqlError(f"unknown table {shown!r}")
        if len(names) == 1 and names[0] in scope:
            return
        if names[-2:-1] == [INFORMATION_SCHEMA] and names[:-2] in ([], [CATALOG_NAME]):
            self._information_table(node, names[-1], shown)
            return
        if names[:-1] not in ([], [SCHEMA_NAME], [CATALOG_NAME], [CATALOG_NAME, SCHEMA_NAME]):
            raise ForbiddenSqlError(f"unknown table {shown!r}: tables are in {CATALOG_NAME}.{SCHEMA_NAME}")
        if names[-1] not in self._known_tables:
            raise ForbiddenSqlError(f"unknown table {shown!r}{self._instead_of_table(names[-1], scope)}")
        self._tables.add(names[-1])

    def _instead_of_table(self, name: str, ctes: frozenset[str]) -> str:
        """What a table that there is not could have been meant to be."""
        function = relation_functions().get(name)
        if function is not None:
            return f": it is a function, {name}({', '.join(argument.name for argument in function.arguments)})"
        if name in self._view_sets:
            return f": its rows are those of one instance, read it as view_instance('{name}', '<id>')"
        near = nearest(name, {*self._known_tables, *self._view_sets, *ctes, *relation_functions()})
        if near is None:
            return ""
        if near in self._known_tables or near in ctes:
            return f": did you mean {near}?"
        return (
            f": did you mean {near}(…)?"
            if near in relation_functions()
            else f": did you mean view_instance('{near}', '<id>')?"
        )

    def _information_table(self, node: Node, name: str, shown: str) -> None:
        if name not in INFORMATION_TABLES:
            raise ForbiddenSqlError(f"unknown table {shown!r}")
        location = node.get("query_location")
        if not isinstance(location, int):
            raise ForbiddenSqlError(f"{shown} can only be read with SELECT")
        after = self._checked.text.encode()[location:]
        span = find_information_schema(after)
        if span is None:
            raise ForbiddenSqlError(f"{shown} must be written without comments in its name")
        begin, end = span
        self._checked.splices.append((location + begin, location + end, INFORMATION_STAND_IN))
        self._checked.reads_information = True

    def _table_function(self, node: Node) -> None:
        self._count_reference()
        call = node.get("function") or {}
        path = (call.get("qualified_name") or {}).get("path") or []
        name = str(call.get("function_name", "")).lower()
        if call.get("class") != "FUNCTION" or len(path) != 1:
            raise ForbiddenSqlError(f"table function {'.'.join(map(str, path))!r} is not allowed")
        function = relation_functions().get(name)
        if function is not None:
            resolved = function.call(call.get("arguments") or [], self._parameters)
            source, _ = read_by(resolved)
            if source not in self._view_sets:
                near = nearest(source, self._view_sets)
                raise UnknownViewError(f"view set {source!r} not found" + (f": did you mean {near!r}?" if near else ""))
            self._calls.add(resolved)
            return
        rule = self._rules.get(name)
        if rule is None or rule.verdict is not Verdict.TABLE:
            if (instead := function_elsewhere(name)) is not None:
                raise ForbiddenSqlError(f"there is no {name}: {instead}")
            if name.isascii() and rule is None:
                near = nearest(name, {*relation_functions(), *_named_functions(Verdict.TABLE)})
                raise ForbiddenSqlError(
                    f"unknown table function {name!r}" + (f": did you mean {near}?" if near else "")
                )
            raise ForbiddenSqlError(f"table function {name!r} is not allowed")
        if name in _OF_ALL_ROWS:
            self._take_all_rows(name, node, call.get("arguments") or [])

    def _take_all_rows(self, name: str, node: Node, arguments: Sequence[Node]) -> None:
        given = (arguments[0].get("expression") or {}) if len(arguments) == 1 else {}
        begin, place = node.get("query_location"), given.get("query_location")
        if given.get("subquery_type") != "SCALAR" or not isinstance(begin, int) or not isinstance(place, int):
            return
        text = self._checked.text.encode()
        if text[begin : begin + len(name)].lower() == name.encode() and text[place : place + 1] == b"(":
            self._checked.splices += [(begin, begin + len(name), _OF_ALL_ROWS[name]), (place, place, "ARRAY")]
            self._checked.is_reworded = True

    @staticmethod
    def _show(node: Node) -> None:
        if node.get("show_type") not in ("DESCRIBE", "SUMMARY") or "query" not in node:
            raise ForbiddenSqlError("only SHOW TABLES, DESCRIBE and SUMMARIZE of a table or query are allowed")

    # expressions

    def _expression(self, kind: str, node: Node) -> None:
        if kind in ("FUNCTION", "WINDOW"):
            self._function(node)
        elif kind == "COLUMN_REF":
            names = node.get("column_names") or []
            if len(names) > self._limits.name_parts_max:
                raise LimitExceededError(f"a column name has more than {self._limits.name_parts_max} parts")
            self._reads_clock |= len(names) == 1 and str(names[0]).lower() in CLOCK_KEYWORDS
        elif kind == "TYPE":
            self._type(node)
        elif kind == "CAST":
            target = str((node.get("type_expr") or {}).get("type_name", "")).lower()
            if target in _TIMESTAMP_TYPES:
                self._refuse_offset(node.get("child"))
        elif kind == "COMPARISON":
            ordered = node.get("type") in _ORDER_COMPARISONS
            left, right = node.get("left"), node.get("right")
            self._refuse_offset_against(left, right, ordered)
            self._refuse_offset_against(right, left, ordered)
        elif kind == "BETWEEN":
            for bound in (node.get("lower"), node.get("upper")):
                self._refuse_offset_against(node.get("input"), bound, True)
        elif kind == "OPERATOR" and node.get("type") in ("COMPARE_IN", "COMPARE_NOT_IN"):
            tested, *values = node.get("children") or [None]
            for value in values:
                self._refuse_offset_against(tested, value, False)
        elif kind == "SUBQUERY" and node.get("subquery_type") not in ("SCALAR", "EXISTS", "NOT_EXISTS", "ANY"):
            raise ForbiddenSqlError(f"subqueries of type {node.get('subquery_type')} are not allowed")

    def _function(self, node: Node) -> None:
        written = str(node.get("function_name") or "")
        if not written and str(node.get("type", "")).startswith("WINDOW_"):
            written = str(node["type"]).removeprefix("WINDOW_")
        name = written.lower()
        rule = self._rules.get(name) if name.isascii() else None
        refuse_ambiguous(name, node)
        if node.get("is_operator"):
            if rule is None or rule.verdict is not Verdict.OPERATOR:
                raise ForbiddenSqlError(f"operator {written!r} is not allowed")
            return
        if rule is None and self._is_translated and name in _own_names():
            self._functions.add(name)
            return
        if rule is None and (instead := function_elsewhere(name)) is not None:
            raise ForbiddenSqlError(f"there is no {name}: {instead}")
        if rule is None and PLAIN_NAME.match(written):
            near = nearest(name, _named_functions(Verdict.ALLOW))
            raise ForbiddenSqlError(f"unknown function {written!r}" + (f": did you mean {near}?" if near else ""))
        if rule is None or not PLAIN_NAME.match(written) or rule.verdict not in (Verdict.ALLOW, Verdict.TABLE):
            reason = f": {rule.reason}" if rule is not None and rule.reason else ""
            raise ForbiddenSqlError(f"function {written!r} is not allowed{reason}")
        self._engine_clock(node, written, name)
        if name in CALLS_BY_NAME:
            self._called_by_name(written, node.get("arguments") or [])
        if name in CALLS_BY_STRUCTURE:
            self._called_by_structure(written, node.get("arguments") or [])
        if name == "strftime":
            self._format(node)
        self._functions.add(name)

    def _format(self, node: Node) -> None:
        """The engine writes %n, its nanoseconds, into fewer bytes than it takes for them: what follows is other memory."""
        given = [argument.get("expression") or {} for argument in node.get("arguments") or []]
        texts = [string_literal(argument) for argument in given]
        texts += [one for argument in given if isinstance(one := bound_value(argument, self._parameters), str)]
        formats = [text.replace("%%", "") for text in texts if text is not None]
        if any("%n" in one for one in formats):
            raise ForbiddenSqlError("strftime has no %n for nanoseconds here: write to_char(time, '%f')")
        if not formats and not any(argument.get("class") == "PARAMETER" for argument in given):
            raise ForbiddenSqlError("the format that strftime gets must be a string literal or a parameter")

    def _engine_clock(self, node: Node, written: str, name: str) -> None:
        """What would reach the engine's own clock, or any function of the engine that one of ours stands before."""
        schemas = [str(part).lower() for part in ((node.get("qualified_name") or {}).get("path") or [])[:-1]]
        if schemas and schemas[0] in _ENGINE_SCHEMAS and name in _own_names():
            raise ForbiddenSqlError(f"function {'.'.join(schemas)}.{written} is not allowed: write {written}")
        is_method = bool(schemas) and schemas[-1] not in (*_ENGINE_SCHEMAS, SCHEMA_NAME)
        if name == "age" and len(node.get("arguments") or []) + is_method == 1:
            raise ForbiddenSqlError("age of one time follows the engine's own clock: write age(today(), …)")

    def _called_by_name(self, written: str, arguments: list[Node]) -> None:
        """``list_aggregate(list, 'sum')`` would reach every aggregate; as a method, the list is not an argument."""
        named = [string_literal(argument.get("expression") or {}) for argument in arguments[:2]]
        names = [name.lower() for name in named if name is not None]
        if not names or any(
            (rule := self._rules.get(name)) is None or rule.verdict is not Verdict.ALLOW for name in names
        ):
            raise ForbiddenSqlError(f"{written} needs the name of an allowed aggregate as a string literal")

    def _called_by_structure(self, written: str, arguments: list[Node]) -> None:
        """A structure holds type names, which the engine parses on its own, and may be too deep for its stack."""
        if any(argument.get("name") for argument in arguments):
            raise ForbiddenSqlError(f"{written} takes its arguments by position")
        for argument in arguments[1:] or arguments:  # as a method of a column, the JSON is not an argument
            structure = argument.get("expression") or {}
            text = string_literal(structure)
            if text is None and structure.get("class") == "PARAMETER":
                if self._parameters is None:
                    continue
                bound = bound_value(structure, self._parameters)
                if not isinstance(bound, str):
                    raise ForbiddenSqlError(f"the structure that {written} gets must be bound to a string")
                text = bound
            if text is None:
                raise ForbiddenSqlError(f"the structure that {written} gets must be a string literal or a parameter")
            self._json_structure(written, text)

    def _json_structure(self, written: str, text: str) -> None:
        size = len(text.encode(errors="replace"))
        if size > self._limits.json_structure_bytes_max:
            raise LimitExceededError(
                f"the structure that {written} gets has {size} bytes,"
                f" the limit is {self._limits.json_structure_bytes_max}"
            )
        if _nesting(text) > self._limits.json_structure_depth_max:
            raise LimitExceededError(
                f"the structure that {written} gets is nested deeper than {self._limits.json_structure_depth_max}"
            )
        try:
            todo = [json.loads(text, object_pairs_hook=_Members)]
        except ValueError as error:
            raise QueryError(f"the structure that {written} gets is not JSON: {error}") from None
        while todo:
            part = todo.pop()
            if isinstance(part, _Members):
                todo.extend(value for _, value in part)
            elif isinstance(part, list):
                todo.extend(part)
            elif not isinstance(part, str) or not _is_plain_type(part):
                raise ForbiddenSqlError(
                    f"the structure that {written} gets may hold names of plain types such as VARCHAR or DECIMAL(18, 3),"
                    f" in lists and objects of JSON, not {_shortened(str(part))!r}"
                )

    @staticmethod
    def _array_size(node: Node) -> int:
        """Elements of a value of a fixed-size array type; 1 for any other type."""
        if str(node.get("type_name", "")).lower() != "array":
            return 1
        literals = [child.get("literal") or {} for child in node.get("children") or [] if isinstance(child, dict)]
        sizes = [int(literal["text"]) for literal in literals if str(literal.get("text", "")).isdigit()]
        return max([1, *sizes])

    @staticmethod
    def _type(node: Node) -> None:
        path = (node.get("qualified_name") or {}).get("path") or [node.get("type_name", "")]
        if len(path) != 1 or str(path[0]).lower() not in _TYPES:
            raise ForbiddenSqlError(f"type {'.'.join(map(str, path))} is not allowed")

    def _refuse_offset_against(self, tested: Any, constant: Any, ordered: bool) -> None:
        """A comparison reads the text as a timestamp if its other side is one."""
        if not isinstance(tested, dict) or tested.get("class") == "CONSTANT":
            return
        if tested.get("class") == "COLUMN_REF":
            column = str(tested.get("column_names", [""])[-1]).lower()
            if column in self._time_columns:
                self._refuse_offset(constant)
                return
            if column in self._other_columns:
                return
        elif tested.get("class") == "CAST":
            target = str((tested.get("type_expr") or {}).get("type_name", "")).lower()
            if target not in _TIMESTAMP_TYPES:
                return
        if ordered:
            self._refuse_offset(constant)

    def _refuse_offset(self, node: Any) -> None:
        """DuckDB drops the offset, or the zone, of a text that it reads as a timestamp without zone."""
        if not isinstance(node, dict):
            return
        text = string_literal(node)
        if text is None and node.get("class") == "PARAMETER":
            value = bound_value(node, self._parameters)
            text = value if isinstance(value, str) else None
        if text is not None:
            refuse_zone(text)


def nearest(name: str, known: Collection[str]) -> str | None:
    """The known name that a misspelt one is likeliest to mean; ``None``: none is near."""
    found = get_close_matches(name.lower(), sorted(known), n=1, cutoff=0.75)
    return found[0] if found else None


@cache
def _own_names() -> frozenset[str]:
    return frozenset(function.name for function in own_functions())


@cache
def _named_functions(verdict: Verdict) -> frozenset[str]:
    rules = function_rules().values()
    return frozenset(rule.name for rule in rules if rule.verdict is verdict and PLAIN_NAME.match(rule.name))


class _Members(list[tuple[str, Any]]):
    """Of a JSON object, with every value of a key that is there twice."""


def _is_plain_type(text: str) -> bool:
    """A single word or its spelling in several, with at most a precision and a scale: nothing with types inside."""
    match = _PLAIN_TYPE.fullmatch(text)
    return match is not None and " ".join(match.group(1).lower().split()) in _TYPES - _NOT_PLAIN_TYPES


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARS_MAX else f"{text[:_SHOWN_CHARS_MAX]}…"


def _nesting(text: str) -> int:
    """How deep brackets are open at most. Those in quoted names count too, which only makes it larger."""
    steps = [1 if mark in "[{" else -1 for mark in re.findall(r"[\[\]{}]", text)]
    return max(accumulate(steps), default=0)


def _relations_inlined(root: Node, bodies: Mapping[str, Node]) -> int:
    """At most how many relations are planned, where the body of an expression stands in place of each use of it."""
    uses = {name: _tables_in(body) for name, body in bodies.items()}
    counts: dict[str, int] = {}
    while len(counts) < len(uses):
        waiting = [name for name in uses if name not in counts]
        # One that names itself, or goes in a circle with others, means a table or an expression of an outer query there.
        ready = [name for name in waiting if not (uses[name].keys() & set(waiting)) - {name}] or waiting[:1]
        for name in ready:
            counts[name] = sum(many * (1 + counts.get(other, 0)) for other, many in uses[name].items())
    return sum(many * (1 + counts.get(name, 0)) for name, many in _tables_in(root).items())


def _tables_in(part: Node) -> Counter[str]:
    return Counter(
        str(node["qualified_name"]["path"][-1]).lower() for node in nodes(part) if node.get("type") == "BASE_TABLE"
    )


def _splice(text: str, splices: list[tuple[int, int, str]]) -> str:
    data = text.encode()
    for begin, end, new in sorted(splices, reverse=True):
        data = data[:begin] + new.encode() + data[end:]
    return data.decode()
