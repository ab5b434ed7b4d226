"""What a bound value is to the engine. Its Arrow type alone decides the SQL type, so that NULL and every row agree.

A value travels as something that DuckDB's Python client keeps exactly (an integer, a text, bytes), of the type ``raw``,
and an expression in SQL makes the value of it. Refuses types that the engine has not, and values that it cannot hold, by
the number of the parameter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.engine.sql_types import quoted
from lakehouse.errors import QueryError

UNTYPED: Final = '"NULL"'  # the type of a column without one
_NESTING_MAX: Final = 8  # a lambda in the engine for each level
_DECIMAL_DIGITS_MAX: Final = 38
_TYPE_CHARS_MAX: Final = 64  # of a type's name in a message
_INT64_MAX: Final = (1 << 63) - 1
_US_PER_DAY: Final = 86_400_000_000
_DAYS: Final = (-(1 << 31) + 2, (1 << 31) - 2)  # beyond are the engine's infinities, here and below
_US: Final = (-9_223_372_022_400_000_000, _INT64_MAX - 1)
_NS: Final = (1 - _INT64_MAX, _INT64_MAX - 1)


class _NoValueError(Exception):
    """Why a type or a value cannot be bound."""


@dataclass(frozen=True, slots=True)
class BoundType:
    """How values of one Arrow type are bound."""

    sql: str  # the type that a parameter has
    raw: str  # the type of what is handed to the engine
    encode: Callable[[Any], Any]  # an Arrow scalar that is not null -> what is handed to the engine
    decode: str = "{}"  # an expression over one of ``raw``
    is_text: bool = False  # an untyped literal, as a quoted one is: its place decides how it is read

    @property
    def in_text(self) -> str:
        """What of it is in the text of a statement: types of Arrow that are one type of SQL are made in different ways."""
        return f"{self.sql} of {self.raw} by {self.decode}"


@dataclass(frozen=True, slots=True)
class BoundValue:
    """One parameter of one execution."""

    type: BoundType
    value: Any  # of ``type.raw``, or ``None``


def bound_values(columns: Sequence[Any]) -> list[BoundValue]:
    """The first row of Arrow columns, one per parameter.

    Raises:
        QueryError: A type or a value cannot be bound; it is named by the parameter's number.
    """
    return [_bound(number, column) for number, column in enumerate(columns, 1)]


def check_bindable(schema: Any) -> None:
    """Refuse by number what no value of could be bound.

    Raises:
        QueryError: A column has such a type.
    """
    for number, member in enumerate(schema, 1):
        bound_type(member.type, number)


def bound_type(kind: Any, number: int) -> BoundType:
    """Raises ``QueryError``, with the parameter's number, for a type that cannot be bound."""
    try:
        found = _type(kind, 0)
        # Of NULL, the engine forgets what types lists and structs had inside.
        return replace(found, decode=f"CAST({found.decode} AS {_escaped(found.sql)})") if _is_nested(kind) else found
    except _NoValueError as error:
        raise QueryError(f"parameter {number} has the Arrow type {_shown(kind)}, {error}") from None


def python_column(value: Any) -> Any:
    """A value of Python's as an Arrow column of one row, for callers that have no columns."""
    return pa.array([value])


def _bound(number: int, column: Any) -> BoundValue:
    found = bound_type(column.type, number)
    if pa.types.is_run_end_encoded(column.type):
        column = pc.run_end_decode(column)
    scalar = column[0]
    if not scalar.is_valid:
        return BoundValue(found, None)
    try:
        return BoundValue(found, found.encode(scalar))
    except (
        _NoValueError,
        ValueError,
        OverflowError,
    ) as error:  # Arrow itself refuses some values, as text that is no UTF-8
        raise QueryError(f"parameter {number}, {_shown(column.type)}: {error}") from None


def _is_nested(kind: Any) -> bool:
    return bool(pa.types.is_nested(kind.value_type if pa.types.is_dictionary(kind) else kind))


def _shown(kind: Any) -> str:
    text = str(kind)
    return text if len(text) <= _TYPE_CHARS_MAX else f"{text[:_TYPE_CHARS_MAX]}…"


# --- types


def _type(kind: Any, depth: int) -> BoundType:
    simple = _SIMPLE.get(kind)
    if simple is not None:
        return simple
    if depth > _NESTING_MAX:
        raise _NoValueError(f"which is nested deeper than {_NESTING_MAX} levels")
    for is_kind, make in _MADE:
        if is_kind(kind):
            return make(kind, depth)
    raise _NoValueError("which cannot be bound")


def _as_py(scalar: Any) -> Any:
    return scalar.as_py()


def _plain(sql: str, encode: Callable[[Any], Any] = _as_py) -> BoundType:
    return BoundType(sql, sql, encode)


def _number(scalar: Any) -> float:
    return float(scalar.as_py())


def _integer(factor: int, low: int, high: int, what: str) -> Callable[[Any], int]:
    def encode(scalar: Any) -> int:
        value = int(scalar.value) * factor
        if not low <= value <= high:
            raise _NoValueError(f"{scalar.value} is beyond the {what} that the engine has")
        return value

    return encode


def _whole(step: int, what: str) -> Callable[[Any], int]:
    """Of a type that is finer than the engine's."""

    def encode(scalar: Any) -> int:
        value, rest = divmod(int(scalar.value), step)
        if rest:
            raise _NoValueError(f"{scalar.value} is no whole number of {what}, which is all that the engine has")
        return value

    return encode


def _time_of_day(scalar: Any, factor: int, per_day: int) -> int:
    value = int(scalar.value) * factor
    if not 0 <= value < per_day:
        raise _NoValueError(f"{scalar.value} is no time of a day")
    return value


def _clock(factor: int) -> BoundType:
    decode = "CAST(make_timestamp({}) AS TIME)"
    return BoundType("TIME", "BIGINT", lambda scalar: _time_of_day(scalar, factor, _US_PER_DAY), decode)


_MOMENTS: Final = "times"
_SIMPLE: Final[dict[Any, BoundType]] = {
    pa.null(): BoundType(UNTYPED, "VARCHAR", _as_py),
    pa.bool_(): _plain("BOOLEAN"),
    pa.int8(): _plain("TINYINT"),
    pa.int16(): _plain("SMALLINT"),
    pa.int32(): _plain("INTEGER"),
    pa.int64(): _plain("BIGINT"),
    pa.uint8(): _plain("UTINYINT"),
    pa.uint16(): _plain("USMALLINT"),
    pa.uint32(): _plain("UINTEGER"),
    pa.uint64(): _plain("UBIGINT"),
    pa.float16(): _plain("FLOAT", _number),
    pa.float32(): _plain("FLOAT", _number),
    pa.float64(): _plain("DOUBLE", _number),
    pa.date32(): BoundType("DATE", "INTEGER", _integer(1, *_DAYS, "days"), "(CAST('1970-01-01' AS DATE) + {})"),
    pa.date64(): BoundType(
        "DATE",
        "INTEGER",
        _whole(86_400_000, "days"),
        "(CAST('1970-01-01' AS DATE) + {})",
    ),
    pa.time32("s"): _clock(1_000_000),
    pa.time32("ms"): _clock(1_000),
    pa.time64("us"): _clock(1),
    pa.time64("ns"): BoundType(
        "TIME_NS",
        "BIGINT",
        lambda scalar: _time_of_day(scalar, 1, 1_000 * _US_PER_DAY),
        "CAST(make_timestamp_ns({}) AS TIME_NS)",
    ),
    pa.duration("s"): BoundType(
        "INTERVAL", "BIGINT", _integer(1_000_000, -_INT64_MAX, _INT64_MAX, "intervals"), "to_microseconds({})"
    ),
    pa.duration("ms"): BoundType(
        "INTERVAL", "BIGINT", _integer(1_000, -_INT64_MAX, _INT64_MAX, "intervals"), "to_microseconds({})"
    ),
    pa.duration("us"): BoundType(
        "INTERVAL", "BIGINT", _integer(1, -_INT64_MAX, _INT64_MAX, "intervals"), "to_microseconds({})"
    ),
    pa.duration("ns"): BoundType(
        "INTERVAL",
        "BIGINT",
        _whole(1_000, "microseconds"),
        "to_microseconds({})",
    ),
}
# A time with a zone is the moment in UTC, as every time column here is.
_BY_UNIT: Final[dict[str, BoundType]] = {
    "s": BoundType(
        "TIMESTAMP_S",
        "BIGINT",
        _integer(1_000_000, *_US, _MOMENTS),
        "CAST(make_timestamp({}) AS TIMESTAMP_S)",
    ),
    "ms": BoundType(
        "TIMESTAMP_MS",
        "BIGINT",
        _integer(1_000, *_US, _MOMENTS),
        "CAST(make_timestamp({}) AS TIMESTAMP_MS)",
    ),
    "us": BoundType("TIMESTAMP", "BIGINT", _integer(1, *_US, _MOMENTS), "make_timestamp({})"),
    "ns": BoundType("TIMESTAMP_NS", "BIGINT", _integer(1, *_NS, _MOMENTS), "make_timestamp_ns({})"),
}
_TEXT: Final = BoundType("VARCHAR", "VARCHAR", _as_py, is_text=True)


def _timestamp(kind: Any, depth: int) -> BoundType:
    return _BY_UNIT[kind.unit]


def _text(kind: Any, depth: int) -> BoundType:
    return _TEXT if depth == 0 else _plain("VARCHAR")


def _bytes(kind: Any, depth: int) -> BoundType:
    return _plain("BLOB")


def _decimal(kind: Any, depth: int) -> BoundType:
    if kind.precision > _DECIMAL_DIGITS_MAX or not 0 <= kind.scale <= kind.precision:
        raise _NoValueError(
            f"but decimals have at most {_DECIMAL_DIGITS_MAX} digits, of which some may be behind the point"
        )
    sql = f"DECIMAL({kind.precision},{kind.scale})"
    return BoundType(sql, "VARCHAR", lambda scalar: format(scalar.as_py(), "f"), f"CAST({{}} AS {sql})")


def _interval(kind: Any, depth: int) -> BoundType:
    def encode(scalar: Any) -> str:
        months, days, ns = scalar.as_py()
        if ns % 1_000:
            raise _NoValueError(f"{ns} ns is no whole number of microseconds, which is all that an interval has")
        return f"{months} months {days} days {ns // 1_000} microseconds"

    return BoundType("INTERVAL", "VARCHAR", encode, "CAST({} AS INTERVAL)")


def _encoded(kind: Any, depth: int) -> BoundType:
    """Dictionaries and runs are ways to write values, and no types of their own."""
    inner = _type(kind.value_type, depth)
    if pa.types.is_run_end_encoded(kind):
        if depth:
            raise _NoValueError("which holds runs inside of a value")
        return inner

    def encode(scalar: Any) -> Any:
        return inner.encode(scalar.value) if scalar.value.is_valid else None

    return BoundType(inner.sql, inner.raw, encode, inner.decode, inner.is_text)


def _inside(inner: BoundType, scalar: Any) -> Any:
    return inner.encode(scalar) if scalar.is_valid else None


def _list(kind: Any, depth: int) -> BoundType:
    inner = _type(kind.value_type, depth + 1)
    decode = _each(inner, depth)
    sql = f"{inner.sql}[]"
    if pa.types.is_fixed_size_list(kind):
        if not kind.list_size:
            raise _NoValueError("which has no elements")
        sql = f"{inner.sql}[{kind.list_size}]"
        decode = f"CAST({decode} AS {sql})"
    return BoundType(sql, f"{inner.raw}[]", lambda scalar: [_inside(inner, item) for item in scalar.values], decode)


def _each(inner: BoundType, depth: int) -> str:
    if inner.decode == "{}":
        return "{}"
    name = f"lakeflight_{depth}"
    return f"list_transform({{}}, lambda {name}: {inner.decode.format(name)})"


def _struct(kind: Any, depth: int) -> BoundType:
    names = [member.name for member in kind]
    if not names or "" in names or len({name.lower() for name in names}) != len(names):
        raise _NoValueError("whose fields need different names")
    inner = [_type(member.type, depth + 1) for member in kind]
    # Fields travel under names of ours: a dictionary of "key" and "value" would be taken for a map.
    raw = ", ".join(f"f{place} {one.raw}" for place, one in enumerate(inner))
    sql = ", ".join(f"{quoted(name)} {one.sql}" for name, one in zip(names, inner, strict=True))
    made = ", ".join(
        f"{_escaped(quoted(name))} := {one.decode.format(f'struct_extract({{0}}, {chr(39)}f{place}{chr(39)})')}"
        for place, (name, one) in enumerate(zip(names, inner, strict=True))
    )

    def encode(scalar: Any) -> dict[str, Any]:
        return {f"f{place}": _inside(one, scalar[place]) for place, one in enumerate(inner)}

    return BoundType(
        f"STRUCT({sql})", f"STRUCT({raw})", encode, f"CASE WHEN {{0}} IS NOT NULL THEN struct_pack({made}) END"
    )


def _map(kind: Any, depth: int) -> BoundType:
    keys, items = _type(kind.key_type, depth + 1), _type(kind.item_type, depth + 1)
    name = f"lakeflight_{depth}"
    made = f"struct_pack(k := {keys.decode.format(f'{name}.k')}, v := {items.decode.format(f'{name}.v')})"

    def encode(scalar: Any) -> list[dict[str, Any]]:
        return [{"k": _inside(keys, entry[0]), "v": _inside(items, entry[1])} for entry in scalar.values]

    return BoundType(
        f"MAP({keys.sql}, {items.sql})",
        f"STRUCT(k {keys.raw}, v {items.raw})[]",
        encode,
        f"map_from_entries(list_transform({{}}, lambda {name}: {made}))",
    )


def _escaped(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


_MADE: Final[tuple[tuple[Callable[[Any], bool], Callable[[Any, int], BoundType]], ...]] = (
    (pa.types.is_timestamp, _timestamp),
    (pa.types.is_string, _text),
    (pa.types.is_large_string, _text),
    (pa.types.is_string_view, _text),
    (pa.types.is_binary, _bytes),
    (pa.types.is_large_binary, _bytes),
    (pa.types.is_binary_view, _bytes),
    (pa.types.is_fixed_size_binary, _bytes),
    (pa.types.is_decimal, _decimal),
    (pa.types.is_interval, _interval),
    (pa.types.is_dictionary, _encoded),
    (pa.types.is_run_end_encoded, _encoded),
    (pa.types.is_list, _list),
    (pa.types.is_large_list, _list),
    (pa.types.is_list_view, _list),
    (pa.types.is_large_list_view, _list),
    (pa.types.is_fixed_size_list, _list),
    (pa.types.is_struct, _struct),
    (pa.types.is_map, _map),
)
