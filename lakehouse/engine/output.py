"""Results as the Flight edge shows them: names, types and nullability from a bound statement, batches converted to match.

One rule for every timestamp: nanoseconds, UTC. DuckDB's 128-bit sums are 64-bit integers, differences of timestamps
are durations. What cannot be converted exactly is an error, never another value.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.engine import jsonb
from lakehouse.engine.functions import relation_functions
from lakehouse.engine.relations import Origin
from lakehouse.engine.sql_types import literal
from lakehouse.engine.tree import Node, may_widen
from lakehouse.errors import QueryError, UnsupportedError
from lakehouse.model import Spelling

EDGE_TIMESTAMP: Final = pa.timestamp("ns", "UTC")
_OFFSET_TIMESTAMP: Final = pa.timestamp("ns", "+00:00")
_PLAIN_TIMESTAMP: Final = pa.timestamp("ns")
NESTING_MAX: Final = 60  # lists in structs in lists …: Arrow's readers give up at 64
_TYPE_CHARS_MAX: Final = 100  # of a type's name in a message
_NS_PER_DAY: Final = 86_400_000_000_000
_NS_MAX: Final = float((1 << 63) - 1024)  # of what still fits int64 once it is rounded to a double
_INT64_MAX: Final = (1 << 63) - 1
_COUNTS: Final = frozenset({"count_star", "count"})
_INTERVAL_LAYOUT: Final = np.dtype([("months", "<i4"), ("days", "<i4"), ("ns", "<i8")])

_EDGE_SIMPLE: Final[dict[str, Any]] = {
    "boolean": pa.bool_(),
    "tinyint": pa.int8(),
    "smallint": pa.int16(),
    "integer": pa.int32(),
    "bigint": pa.int64(),
    "hugeint": pa.int64(),
    "uhugeint": pa.int64(),
    "utinyint": pa.uint8(),
    "usmallint": pa.uint16(),
    "uinteger": pa.uint32(),
    "ubigint": pa.uint64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "varchar": pa.string(),
    "uuid": pa.string(),
    "enum": pa.string(),
    "blob": pa.binary(),
    "date": pa.date32(),
    "time": pa.time64("us"),
    "time_ns": pa.time64("ns"),
    "timestamp": EDGE_TIMESTAMP,
    "timestamp_ns": EDGE_TIMESTAMP,
    "timestamp_ms": EDGE_TIMESTAMP,
    "timestamp_s": EDGE_TIMESTAMP,
    "timestamp with time zone": EDGE_TIMESTAMP,
    "timestamptz_ns": EDGE_TIMESTAMP,
    "interval": pa.duration("ns"),
    "null": pa.null(),
}


# On the way out of the engine these wrap around without a word: a condition has to watch them inside of it.
_WATCHED_BY_THE_ENGINE: Final = {
    "interval": f"abs(epoch({{column}})) < {_NS_MAX / 1e9}",
    "uhugeint": f"{{column}} <= {_INT64_MAX}",
}
# The raw values, both ends included, that are what they seem to be: beyond are infinity, which would arrive as a day or
# moment far away, and 24:00:00, which would arrive as midnight.
_FINITE: Final[dict[Any, tuple[int, int]]] = {
    pa.date32(): (-(1 << 31) + 2, (1 << 31) - 2),
    pa.time64("us"): (0, _NS_PER_DAY // 1_000 - 1),
    pa.time64("ns"): (0, _NS_PER_DAY - 1),
    pa.timestamp("ns"): (1 - _INT64_MAX, _INT64_MAX - 1),
    EDGE_TIMESTAMP: (1 - _INT64_MAX, _INT64_MAX - 1),
}


class _NoEdgeTypeError(Exception):
    """A type that no Arrow type stands for, or that only some clients could read."""


def edge_type(kind: Any, depth: int = 0) -> Any:
    """The Arrow type at the edge of a DuckDB result type (``DuckDBPyType``).

    Bits, big numbers, unions and times with an offset are refused: DuckDB would hand out its own inner bytes for
    them, or drop a part of the value.
    """
    name = str(kind.id)
    if depth and name in _WATCHED_BY_THE_ENGINE:
        raise _NoEdgeTypeError(
            f"the type {_type_name(kind)} inside of a list, struct or map, which results do not have"
        )
    simple = _EDGE_SIMPLE.get(name)
    if simple is not None:
        return simple
    build = _NESTED.get(name)
    if build is None:
        raise _NoEdgeTypeError(f"the type {_type_name(kind)}, which results do not have")
    if depth == NESTING_MAX:
        raise _NoEdgeTypeError(f"a type nested deeper than {NESTING_MAX} levels, which clients cannot read")
    return build(kind, depth + 1)


def _type_name(kind: Any) -> str:
    text = str(kind)
    return text if len(text) <= _TYPE_CHARS_MAX else f"{text[:_TYPE_CHARS_MAX]}…"


def _decimal(kind: Any, depth: int) -> Any:
    children = dict(kind.children)
    return pa.decimal128(int(children["precision"]), int(children["scale"]))


def _list(kind: Any, depth: int) -> Any:
    return pa.list_(pa.field("l", edge_type(dict(kind.children)["child"], depth)))


def _array(kind: Any, depth: int) -> Any:
    children = dict(kind.children)
    return pa.list_(pa.field("", edge_type(children["child"], depth)), int(children["size"]))


def _struct(kind: Any, depth: int) -> Any:
    return pa.struct([pa.field(name, edge_type(child, depth)) for name, child in kind.children])


def _tuple(kind: Any, depth: int) -> Any:
    return pa.struct(
        [
            pa.field(f"element{position}", edge_type(child, depth))
            for position, (_, child) in enumerate(kind.children, 1)
        ]
    )


def _map(kind: Any, depth: int) -> Any:
    children = dict(kind.children)
    if str(children["key"].id) == "null":
        raise _NoEdgeTypeError("a map whose keys have no type")
    return pa.map_(edge_type(children["key"], depth), edge_type(children["value"], depth))


_NESTED: Final[dict[str, Callable[[Any, int], Any]]] = {
    "decimal": _decimal,
    "list": _list,
    "array": _array,
    "struct": _struct,
    "tuple": _tuple,
    "map": _map,
}


_ORIGINAL: Final[Mapping[Origin, tuple[Spelling, Any, Any]]] = {
    Origin.DOCUMENT: (Spelling.JSONB, pa.binary(), pa.int32()),
    Origin.PAIRS: (Spelling.JSONB, pa.binary(), pa.int32()),
    Origin.PLAIN_DOCUMENT: (Spelling.JSONB, pa.binary(), None),
    Origin.TEXT: (Spelling.DICTIONARIES, pa.string(), pa.int32()),
    Origin.FEW_TEXTS: (Spelling.DICTIONARIES, pa.string(), pa.int16()),
}
"""By origin: what has to be asked for, the type of a value, and that of its number in a dictionary."""


def _spelled(kind: Any, origin: Origin | None, spelling: Spelling) -> Any:
    """The type of a column as this client is to have it."""
    if origin is not None:
        asked, value, index = _ORIGINAL[origin]
        if asked in spelling:
            return pa.dictionary(index, value) if index is not None and Spelling.DICTIONARIES in spelling else value
    if Spelling.SHOWN in spelling:
        return _shown(kind)
    return _plainly_spelled(kind, spelling) if spelling else kind


def _shown(kind: Any) -> Any:
    """The plugins of Grafana leave a field empty, and break the frame, for any other type; a day is a time at midnight."""
    types = pa.types
    if types.is_decimal(kind):
        return pa.float64()
    if types.is_date(kind):
        return EDGE_TIMESTAMP
    is_shown = types.is_primitive(kind) and not types.is_time(kind) and not types.is_null(kind)
    return kind if is_shown else pa.string()


def _plainly_spelled(kind: Any, spelling: Spelling) -> Any:
    if kind == EDGE_TIMESTAMP and spelling & (Spelling.OFFSETS | Spelling.UNZONED):
        return _OFFSET_TIMESTAMP if Spelling.OFFSETS in spelling else _PLAIN_TIMESTAMP
    if pa.types.is_decimal(kind) and Spelling.DOUBLES in spelling:
        return pa.float64()
    if pa.types.is_list(kind):
        return pa.list_(_field_spelled(kind.value_field, spelling))
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(_field_spelled(kind.value_field, spelling), kind.list_size)
    if pa.types.is_map(kind):
        return pa.map_(_plainly_spelled(kind.key_type, spelling), _plainly_spelled(kind.item_type, spelling))
    if pa.types.is_struct(kind):
        return pa.struct([_field_spelled(member, spelling) for member in kind])
    return kind


def _field_spelled(field: Any, spelling: Spelling) -> Any:
    return field.with_type(_plainly_spelled(field.type, spelling))


def edge_schema(
    names: Sequence[str],
    kinds: Sequence[Any],
    tree: Node | None,
    spelling: Spelling = Spelling.PLAIN,
    origins: Sequence[Origin | None] = (),
    folded: Container[str] = frozenset(),
) -> Any:
    """The schema a client sees.

    Args:
        names, kinds: Columns of the bound statement.  folded: Names that are shown in small letters.
        tree: The statement's query node; its counts are the only columns that are never null.
        origins: What the columns are to the original; empty: nothing is known of them.
    Raises:
        UnsupportedError: A column has a type that clients cannot be given.
    """
    counts = never_null(tree, len(names)) if tree is not None else frozenset()
    fields = []
    for position, (name, kind, origin) in enumerate(zip(names, kinds, origins or [None] * len(names), strict=True)):
        shown = name.lower() if name in folded else name.replace("count_star()", "count(*)")
        try:
            wanted = _spelled(edge_type(kind), origin, spelling)
            fields.append(pa.field(shown, wanted, nullable=position not in counts))
        except _NoEdgeTypeError as error:
            raise UnsupportedError(f"column {shown!r} has {error}: cast it to VARCHAR") from None
    return pa.schema(fields)


PAIRS_AS_TEXT: Final = "properties_to_jsonb"


def on_its_way_out(names: Sequence[str], kinds: Sequence[Any], schema: Any) -> str | None:
    """A select list that passes every column on, makes text of pairs that become documents, and fails on values that would
    wrap around; ``None``: not needed."""
    as_text = [_text_of(str(kind.id), wanted.type) for kind, wanted in zip(kinds, schema, strict=True)]
    if not any(as_text) and all(str(kind.id) not in _WATCHED_BY_THE_ENGINE for kind in kinds):
        return None
    columns = []
    for position, (name, kind) in enumerate(zip(names, kinds, strict=True), 1):
        column = f"#{position}"
        if text := as_text[position - 1]:
            column = text.format(column=column)
        condition = _WATCHED_BY_THE_ENGINE.get(str(kind.id))
        if condition is not None:
            complaint = literal(_misfit(name, edge_type(kind)))
            fits = condition.format(column=column)
            column = f"CASE WHEN {fits} OR {column} IS NULL THEN {column} ELSE error({complaint}) END"
        columns.append(column)
    return ", ".join(columns)


def _text_of(kind: str, wanted: Any) -> str | None:
    """The expression that makes text of a column of this type where text is wanted; ``None``: it is passed on."""
    if not pa.types.is_string(wanted):
        return f"{PAIRS_AS_TEXT}({{column}})" if kind == "list" and not _is_list(wanted) else None
    if kind in _NESTED and kind != "decimal":
        return "CAST(to_json({column}) AS VARCHAR)"
    if kind == "blob":
        return "hex({column})"
    return "CAST({column} AS VARCHAR)" if kind in ("time", "time_ns", "null") else None


def shows_stored_columns(tree: Node | None) -> bool:
    """Whether every column of the result is one of a single table's, as it was sent.

    The last nanosecond of int64 is infinity to the engine. In what was sent it is a moment, and keeps nobody from reading.
    """
    if tree is None or tree.get("type") != "SELECT_NODE" or (tree.get("cte_map") or {}).get("map"):
        return False
    source = tree.get("from_table") or {}
    call = str((source.get("function") or {}).get("function_name")).lower()
    if source.get("type") != "BASE_TABLE" and call not in relation_functions():
        return False
    return all(
        item.get("class") == "COLUMN_REF"
        or (item.get("class") == "STAR" and not item.keys() & {"replace_list", "expr"})
        for item in tree.get("select_list") or []
    )


def _misfit(name: str, wanted: Any) -> str:
    return f"a value of column {name!r} does not fit {wanted}: cast it to VARCHAR"


def never_null(tree: Node, width: int) -> frozenset[int]:
    """Positions of the top select list that are plain counts. A ``*`` hides positions, so they are found from both ends."""
    if tree.get("type") != "SELECT_NODE":
        return frozenset()
    items = tree.get("select_list") or []
    found: set[int] = set()
    for step, positions in ((1, range(width)), (-1, range(width - 1, -1, -1))):
        for item, position in zip(items[::step], positions, strict=False):
            if may_widen(item):
                break
            if item.get("class") == "FUNCTION" and str(item.get("function_name")).lower() in _COUNTS:
                found.add(position)
    return frozenset(found)


class EdgeConverter:
    """Brings record batches of one result to its edge schema. Columns that match are passed on as they are."""

    def __init__(self, source: Any, target: Any, *, stored: bool = False) -> None:
        """``stored``: its columns come as they were sent, see ``shows_stored_columns``."""
        finite = {kind: ends for kind, ends in _FINITE.items() if not (stored and pa.types.is_timestamp(kind))}
        self.schema = target
        self._checks = [_finiteness(given.type, finite) for given in source]
        self._converts = [_conversion(given.type, wanted) for given, wanted in zip(source, target, strict=True)]

    def convert(self, batch: Any) -> Any:
        columns = []
        steps = zip(self._checks, self._converts, batch.columns, self.schema, strict=True)
        for check, convert, column, wanted in steps:
            try:
                if check is not None:
                    check(column)
                columns.append(column if convert is None else convert(column))
            except (pa.ArrowInvalid, OverflowError) as error:
                raise QueryError(f"Out of Range Error: {_misfit(wanted.name, wanted.type)}") from error
        return pa.RecordBatch.from_arrays(columns, schema=self.schema)


def _is_list(kind: Any) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind))


def _conversion(given: Any, field: Any) -> Callable[[Any], Any] | None:
    wanted = field.type
    if given == wanted:
        return None
    if given == pa.timestamp("ns") and wanted in (EDGE_TIMESTAMP, _OFFSET_TIMESTAMP):
        return lambda column: column.view(wanted)
    if pa.types.is_string(given) and wanted == pa.binary():
        return jsonb.encoded
    if pa.types.is_string(given) and pa.types.is_dictionary(wanted):
        if wanted.value_type == pa.binary():
            return lambda column: jsonb.encoded_dictionary(column, wanted)
        return lambda column: pc.dictionary_encode(column).cast(wanted)
    if pa.types.is_interval(given):
        return lambda column: _interval_to_duration(column, field.name)
    if pa.types.is_dictionary(given):
        return lambda column: pc.cast(column.dictionary_decode(), wanted)
    return lambda column: pc.cast(column, wanted)


def _finiteness(kind: Any, finite: Mapping[Any, tuple[int, int]]) -> Callable[[Any], None] | None:
    """What raises ``OverflowError`` over a column with a value beyond ``finite``, however deep inside; ``None``: nothing can."""
    if kind in finite:
        low, high = finite[kind]
        return lambda column: _refuse_beyond(column, low, high)
    checks = [_finiteness(member, finite) for member in _member_types(kind)]
    if not any(checks):
        return None

    def check_members(column: Any) -> None:
        for check, member in zip(checks, _members(column), strict=True):
            if check is not None:
                check(member)

    return check_members


def _member_types(kind: Any) -> list[Any]:
    if pa.types.is_map(kind):
        return [kind.key_type, kind.item_type]
    if pa.types.is_struct(kind):
        return [member.type for member in kind]
    return [kind.value_type] if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind) else []


def _members(column: Any) -> list[Any]:
    """Arrays of ``_member_types``, without what lies under a null."""
    if pa.types.is_map(column.type):
        return [column.keys, column.items]
    members: list[Any] = column.flatten() if pa.types.is_struct(column.type) else [column.flatten()]
    return members


def _refuse_beyond(column: Any, low: int, high: int) -> None:
    ends = pc.min_max(column)
    least, most = ends["min"].value, ends["max"].value
    if least is not None and (least < low or most > high):
        raise OverflowError


def _interval_to_duration(column: Any, name: str) -> Any:
    """Months have no fixed length: a value with months is an error."""
    if len(column) == 0:
        return pa.array([], pa.duration("ns"))
    parts = np.frombuffer(column.buffers()[1], dtype=_INTERVAL_LAYOUT)[column.offset : column.offset + len(column)]
    valid = np.asarray(column.is_valid()) if column.null_count else np.ones(len(column), dtype=bool)
    if np.any(parts["months"][valid]):
        raise QueryError(f"column {name!r} has an interval of months, which has no fixed length: cast it to VARCHAR")
    days, ns = parts["days"].astype(np.int64), parts["ns"]
    if np.any(np.abs(days.astype(np.float64) * _NS_PER_DAY + ns)[valid] > _NS_MAX):
        raise OverflowError
    total = np.where(valid, days * _NS_PER_DAY + ns, 0)
    return pa.array(total.view("timedelta64[ns]"), mask=~valid if column.null_count else None)


def split_by_bytes(batch: Any, bytes_max: int) -> Iterator[Any]:
    """Slices of at most ``bytes_max``, in order; a single row may be larger."""
    todo = [batch]
    while todo:
        part = todo.pop()
        size = part.nbytes
        if size <= bytes_max or part.num_rows <= 1:
            yield part
            continue
        pieces = min(part.num_rows, -(-size // bytes_max))
        step = -(-part.num_rows // pieces)
        todo.extend(part.slice(start, step) for start in reversed(range(0, part.num_rows, step)))
