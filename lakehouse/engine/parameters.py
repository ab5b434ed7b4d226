"""Parameters of a statement: the types that a client is told, and the text in which each has the type of its column.

DuckDB has no typed parameters, so each stands in the text with a cast that its Arrow type decides (``values.py``). Text
is the exception: it is an untyped literal, as a quoted one is, and its place decides how it is read; NULL of such a
column has the type that its place gives to text.

Nor does DuckDB say which types a statement expects. So sentinels are tried and the plan is read: around each stands the
cast that the binder chose. Where text does not bind, other types are tried; where none does, it is the value's to decide,
and the parameter is declared as text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, islice, product
from typing import Any, Final

import duckdb
import pyarrow as pa

from lakehouse.engine.functions import relation_functions
from lakehouse.engine.gate import Checked
from lakehouse.engine.names import BOUND_VARIABLE, NIL_INSTANCE, bound_mark
from lakehouse.engine.output import EDGE_TIMESTAMP
from lakehouse.engine.rewrite import Substitute, expression, replaced, rewritten
from lakehouse.engine.sql_types import literal
from lakehouse.engine.times import BOUND_PLAN, Repaired
from lakehouse.engine.tree import Node, cast_target, function_name, nodes, parameter_number, read_plan
from lakehouse.engine.values import UNTYPED, BoundType, BoundValue, bound_type
from lakehouse.model import Spelling

_FIRST_SENTINEL: Final = 912_345_001
_ATTEMPTS_MAX: Final = 48  # about a third of a millisecond each
# Each attempt writes and binds the whole statement: a thousand nodes of its tree are some thirty milliseconds of it.
_ATTEMPTED_NODES_MAX: Final = 20_000
_TEXT: Final = pa.string()
_MILLISECONDS: Final = pa.timestamp("ms", "UTC")
_OF_NUMBERS: Final = frozenset({"+", "-", "*", "/", "//", "%"})
# What is tried where text does not bind, the likeliest first. A number declared as int64 is accepted from every client.
_CANDIDATES: Final = (
    EDGE_TIMESTAMP,
    pa.int64(),
    pa.int32(),
    pa.float64(),
    pa.date32(),
    pa.duration("us"),
    pa.bool_(),
    pa.list_(pa.string()),
    pa.list_(pa.int64()),
    pa.list_(pa.float64()),
)
_DECLARED: Final[dict[str, Any]] = {
    "BIGINT": pa.int64(),
    "INTEGER": pa.int64(),
    "SMALLINT": pa.int64(),
    "TINYINT": pa.int64(),
    "UBIGINT": pa.int64(),
    "UINTEGER": pa.int64(),
    "HUGEINT": pa.int64(),
    "DECIMAL": pa.float64(),
    "DOUBLE": pa.float64(),
    "FLOAT": pa.float64(),
    "BOOLEAN": pa.bool_(),
    "DATE": pa.date32(),
    "TIMESTAMP": EDGE_TIMESTAMP,
    "TIMESTAMP_NS": EDGE_TIMESTAMP,
    "TIMESTAMP WITH TIME ZONE": EDGE_TIMESTAMP,
}
_OPERANDS: Final = ("children", "left", "right", "input", "lower", "upper", "child", "arguments")  # of an expression
# As they are written in a cast.
_DECLARED_NAMES: Final = {name.lower(): name for name in _DECLARED} | {
    **dict.fromkeys(("int", "int4", "int32", "integral", "signed"), "INTEGER"),
    **dict.fromkeys(("int8", "int64", "long"), "BIGINT"),
    **dict.fromkeys(("float8", "float64"), "DOUBLE"),
    **dict.fromkeys(("real", "float4"), "FLOAT"),
    **dict.fromkeys(("bool", "logical"), "BOOLEAN"),
    **dict.fromkeys(("datetime", "timestamp_us"), "TIMESTAMP"),
    "timestamptz": "TIMESTAMP WITH TIME ZONE",
}
# The engine's complaints that no type and no value of a parameter would end.
_CERTAIN: Final = re.compile(
    r"Referenced (?:column|table)|Catalog Error|does not exist|not found in|must appear in the GROUP BY|[Aa]mbiguous reference"
    r"|Duplicate alias|does not have a column|cannot contain|same number of|UNION types"
)
Contexts = Mapping[int, str]  # where a parameter stands in the text -> the type that its place gives to text


@dataclass(frozen=True, slots=True)
class Declared:
    """What can be said of a statement's parameters before there are values."""

    types: tuple[Any, ...] = ()
    contexts: Contexts = field(default_factory=dict)
    binds: bool = True  # with NULLs of these types; else only values can tell

    def schema(self, spelling: Spelling = Spelling.PLAIN) -> Any:
        """One field per parameter, named by its number."""
        time = _MILLISECONDS if Spelling.MILLISECONDS in spelling else EDGE_TIMESTAMP
        kinds = [time if kind == EDGE_TIMESTAMP else kind for kind in self.types]
        return pa.schema([pa.field(str(number), kind) for number, kind in enumerate(kinds, 1)])


@dataclass(frozen=True, slots=True)
class Executable:
    """What is given to the engine: text that stands in the statement, and values that are bound to it."""

    text: str
    values: tuple[Any, ...] = ()
    repaired_function: str | None = None  # whose times were repaired, see Repaired


@dataclass(frozen=True, slots=True)
class Template:
    """A statement with the types of its values in it: good for all values of these types and these texts."""

    text: str  # with a mark for each value that is no text
    numbers: tuple[int, ...]  # of the parameters that have marks
    repaired_function: str | None = None  # whose times were repaired, see Repaired

    def bound(self, bound: Sequence[BoundValue]) -> Executable:
        """With the values to be bound."""
        text = self.text
        for place, number in enumerate(self.numbers, 1):
            text = text.replace(bound_mark(number), f"${place}")
        values = tuple(bound[number - 1].value for number in self.numbers)
        return Executable(text, values, self.repaired_function)

    def closed(self, connection: Any, bound: Sequence[BoundValue]) -> str:
        """With the values in it, for a plan, which has no open parameters."""
        text, others = self.text, {}
        for number in self.numbers:
            value = bound[number - 1].value
            if value is None:
                shown = "NULL"
            elif isinstance(value, (str, int, float)) and "\0" not in str(value):
                shown = literal(str(value))
            else:
                others[f"v{number}"] = value
                shown = f"struct_extract(getvariable('{BOUND_VARIABLE}'), 'v{number}')"
            text = text.replace(bound_mark(number), shown)
        if others:
            members = ", ".join(f"{name} := ${name}" for name in others)
            connection.execute(f"SET VARIABLE {BOUND_VARIABLE} = struct_pack({members})", others)
        return text


class Parameters:
    """The parameters of one statement that the gate let pass, over the connection that binds it."""

    def __init__(self, connection: Any, checked: Checked) -> None:
        self._connection = connection
        self._checked = checked
        self._counted = _row_counts(checked.tree)
        self._named = _relation_arguments(checked.tree)
        self._beside_literals = _beside_literals(checked.tree)

    def declare(self) -> Declared:
        """The types for which the statement binds, as near to text as it allows.

        Raises:
            duckdb.Error: It binds for no types and no values.
        """
        return self._infer([None] * self._checked.parameters)

    def contexts(self, bound: Sequence[BoundValue]) -> Contexts:
        """The types that text is read as where a NULL of a text column stands; empty if there is none."""
        if not any(one.type.is_text and one.value is None for one in bound):
            return {}
        return self._infer([None if one.type.is_text else one.type for one in bound]).contexts

    def prepared(self, declared: Declared, *, repair: bool = True) -> Executable:
        """With a NULL of the declared type for each, and an instance that nobody has."""
        types = [bound_type(kind, number) for number, kind in enumerate(declared.types, 1)]

        def substitute(node: Node) -> Node:
            number = _number(node)
            if number in self._named:
                return expression(self._connection, literal(NIL_INSTANCE))
            one = types[number - 1]
            if not declared.binds:
                return expression(self._connection, "NULL")
            kind = declared.contexts.get(_place(node), "VARCHAR") if one.is_text else one.sql
            return expression(self._connection, f"CAST(NULL AS {kind})")

        made = self._rewritten(substitute, repair=repair)
        return Executable(made.text, repaired_function=made.function)

    def template(self, bound: Sequence[BoundValue]) -> Template:
        """With the types of the values, and with those that are text."""
        contexts = self.contexts(bound)

        def substitute(node: Node) -> Node:
            number = _number(node)
            one = bound[number - 1]
            if one.type.is_text:
                if one.value is None:
                    return expression(self._connection, f"CAST(NULL AS {contexts.get(_place(node), 'VARCHAR')})")
                return _text_node(self._connection, one.value)
            mark = expression(self._connection, bound_mark(number))
            if one.type.sql == UNTYPED:
                return mark
            decode = expression(self._connection, one.type.decode.format(f"CAST($1 AS {one.type.raw})"))
            return replaced(decode, lambda _: json.loads(json.dumps(mark)))

        made = self._rewritten(substitute)
        numbers = tuple(number for number, one in enumerate(bound, 1) if not one.type.is_text)
        return Template(made.text, numbers, made.function)

    def _rewritten(self, substitute: Substitute, *, repair: bool = True) -> Repaired:
        made = rewritten(
            self._connection, self._checked, substitute if self._checked.parameters else None, repair=repair
        )
        return Repaired(self._checked.text) if made is None else made

    # --- inference

    def _infer(self, known: Sequence[BoundType | None]) -> Declared:
        types = [
            bound_type(pa.int64(), number) if one is None and number in self._counted else one
            for number, one in enumerate(known, 1)
        ]
        open_numbers = [n for n, one in enumerate(types, 1) if one is None and n not in self._named]
        complaint: duckdb.Error | None = None
        size = sum(1 for _ in nodes(self._checked.tree))
        attempts = min(_ATTEMPTS_MAX, 1 + _ATTEMPTED_NODES_MAX // size)
        for guess in islice(_guesses(open_numbers), attempts):
            tried = [guess.get(n, one) for n, one in enumerate(types, 1)]
            try:
                contexts = self._contexts(tried)
            except duckdb.InterruptException:
                raise
            except duckdb.Error as error:
                complaint = complaint or error
                if _CERTAIN.search(str(error)):
                    break
                continue
            found = self._declared(tried, contexts, known)
            if found is not None:
                return found
        if complaint is not None and _CERTAIN.search(str(complaint)):
            raise complaint
        return Declared(tuple(self._as_declared(number, None, {}) for number in range(1, len(types) + 1)), binds=False)

    def _declared(
        self, tried: Sequence[BoundType | None], contexts: Contexts, known: Sequence[BoundType | None]
    ) -> Declared | None:
        """What is told of the types that bind; ``None``: with NULLs of them it binds after all not."""
        by_number: dict[int, set[str]] = {}
        for node in nodes(self._checked.tree):
            if node.get("class") == "PARAMETER":
                by_number.setdefault(_number(node), set()).add(contexts.get(_place(node), "VARCHAR"))
        wanted = tuple(self._as_declared(n, one, by_number) for n, one in enumerate(tried, 1))
        found = Declared(wanted, contexts)
        if any(one is not None for one in known):
            return found
        # What a text is read as is not always what may stand there: a fraction, or int32 where int64 may not.
        real = tuple(
            pa.float64() if pa.types.is_integer(kind) and n in self._beside_literals else kind
            for n, kind in enumerate(wanted, 1)
        )
        exact = tuple(pa.int32() if by_number.get(n) == {"INTEGER"} else kind for n, kind in enumerate(wanted, 1))
        choices = (Declared(types, contexts) for types in dict.fromkeys((real, wanted, exact)))
        return next((one for one in choices if self._binds(one)), None)

    def _binds(self, declared: Declared) -> bool:
        try:
            self._connection.sql(self.prepared(declared, repair=False).text)
        except duckdb.InterruptException:
            raise
        except duckdb.Error:
            return False
        return True

    def _as_declared(self, number: int, tried: BoundType | None, by_number: Mapping[int, set[str]]) -> Any:
        if number in self._named:
            return _TEXT
        if tried is not None:
            return next((kind for kind in _CANDIDATES if bound_type(kind, number).sql == tried.sql), _TEXT)
        read_as = by_number.get(number, set())
        return _DECLARED.get(next(iter(read_as)).partition("(")[0], _TEXT) if len(read_as) == 1 else _TEXT

    def _contexts(self, types: Sequence[BoundType | None]) -> dict[int, str]:
        """Bind with NULLs of these types, and sentinels for text; the types that the sentinels are read as."""
        sentinels: dict[int, str] = {}

        def substitute(node: Node) -> Node:
            number, place = _number(node), _place(node)
            one = types[number - 1]
            if number in self._named:
                return expression(self._connection, literal(NIL_INSTANCE))
            if number in self._counted and one is not None:
                return expression(self._connection, "1")
            if one is not None and not one.is_text:
                return expression(self._connection, f"CAST(NULL AS {one.sql})")
            sentinels[place] = str(_FIRST_SENTINEL + len(sentinels))
            return _text_node(self._connection, sentinels[place])

        text = self._rewritten(substitute, repair=False).text
        answer = read_plan(self._connection.execute(BOUND_PLAN, [text]).fetchall()[0][0])
        if answer["error"]:
            self._connection.sql(text)  # says it in the engine's words
            raise duckdb.BinderException(str(answer.get("error_message")))
        read_as: dict[str, str] = {}
        for node in nodes(answer.get("plans")):
            if node.get("type") == "OPERATOR_CAST":
                value = (node["children"][0].get("value") or {}).get("value")
                if isinstance(value, str):
                    read_as.setdefault(value, _sql_type(node.get("return_type") or {}))
        found = {place: read_as[sentinel] for place, sentinel in sentinels.items() if sentinel in read_as}
        return self._cast(sentinels) | found

    def _cast(self, places: Collection[int]) -> dict[int, str]:
        """What stands in a cast has its type, also where the engine has no cast left because it knows the value."""
        found = {}
        for node in nodes(self._checked.tree):
            child, target = node.get("child") or {}, cast_target(node)
            if parameter_number(child) is not None and _place(child) in places and target in _DECLARED_NAMES:
                found[_place(child)] = _DECLARED_NAMES[target]
        return found


def _sql_type(kind: Node) -> str:
    """A type of a plan as SQL, as far as text is read as it."""
    info = kind.get("type_info") or {}
    if kind.get("id") == "DECIMAL":
        return f"DECIMAL({info.get('width', 18)}, {info.get('scale', 3)})"
    if kind.get("id") == "LIST":
        return f"{_sql_type(info.get('child_type') or {})}[]"
    return str(kind.get("id")) if kind.get("id") not in ("STRUCT", "MAP", "ARRAY", "ENUM", "UNION") else "VARCHAR"


def _guesses(numbers: Sequence[int]) -> Iterator[dict[int, BoundType]]:
    """Types for some parameters while the others are text: the fewest first."""
    candidates = [bound_type(kind, 0) for kind in _CANDIDATES]
    for size in range(len(numbers) + 1):
        for chosen in combinations(numbers, size):
            for kind in product(candidates, repeat=size) if size < 2 else ((one,) * size for one in candidates):
                yield dict(zip(chosen, kind, strict=True))


def _number(node: Node) -> int:
    return int(node["identifier"])


def _place(node: Node) -> int:
    return int(node.get("query_location", 0))


def _text_node(connection: Any, text: str) -> Node:
    if "\0" in text:  # a text of SQL would end there
        return expression(connection, " || chr(0) || ".join(literal(part) for part in text.split("\0")))
    return {"class": "CONSTANT", "type": "VALUE_CONSTANT", "literal": {"kind": "STRING", "text": text}}


def _row_counts(tree: Node) -> frozenset[int]:
    """Parameters that are a LIMIT or an OFFSET."""
    modifiers = [node for node in nodes(tree) if node.get("type") == "LIMIT_MODIFIER"]
    numbers = [parameter_number(modifier.get(key)) for modifier in modifiers for key in ("limit", "offset")]
    return frozenset(number for number in numbers if number is not None)


def _beside_literals(tree: Node) -> frozenset[int]:
    """Parameters that meet whole numbers as literals and nothing else: nothing says that they are whole themselves."""
    met: set[int] = set()
    elsewhere: set[int] = set()
    for node in nodes(tree):
        operands = [part.get("expression", part) for key in _OPERANDS for part in _members(node.get(key))]
        numbers = {number for one in operands if (number := parameter_number(one)) is not None}
        is_of_numbers = node.get("class") in ("COMPARISON", "BETWEEN", "OPERATOR") or (
            node.get("class") == "FUNCTION" and function_name(node) in _OF_NUMBERS
        )
        others = [one for one in operands if parameter_number(one) is None]
        if is_of_numbers and (others or len(operands) == 1) and all(one.get("class") == "CONSTANT" for one in others):
            met |= numbers
        else:
            elsewhere |= numbers
    return frozenset(met - elsewhere)


def _members(value: Any) -> list[Node]:
    return [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, dict)]


def _relation_arguments(tree: Node) -> frozenset[int]:
    """Parameters that are texts among the arguments of a relation function."""
    calls = [node["function"] for node in nodes(tree) if node.get("type") == "TABLE_FUNCTION"]
    arguments = [
        argument
        for call in calls
        if (function := relation_functions().get(function_name(call))) is not None
        for argument in (call.get("arguments") or [])[: len(function.texts)]
    ]
    numbers = [parameter_number(argument.get("expression")) for argument in arguments]
    return frozenset(number for number in numbers if number is not None)
