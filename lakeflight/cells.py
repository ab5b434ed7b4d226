"""Arrow columns as cells: values that JSON can hold, and text. Every type has one representation, and it says everything.

| Arrow | JSON |
|---|---|
| boolean, integer | itself, with all digits |
| floating point | a number; ``"NaN"``, ``"Infinity"``, ``"-Infinity"``, which JSON has no number for |
| decimal | text with all digits |
| text, enum | text |
| binary | hexadecimal text; of a UUID its usual text |
| date, time of day | ``"2026-01-31"``, ``"12:00:00.000001"`` |
| timestamp | ISO 8601 with the digits of its unit, and ``Z`` if it has a zone; ``"infinity"`` and ``"-infinity"`` as the engine says |
| duration | a number of nanoseconds |
| interval | ``{"months": 1, "days": 2, "nanoseconds": 3}`` |
| list | an array; of structs of a text ``key`` and ``value``, as properties are: an object, where no key is missing or twice |
| struct | an object |
| map | an object; what is no text is a key as the text of its cell (a list of ``key`` and ``value`` where a key is twice) |
| union | an object of one entry: the member and its value; where the engine has NULL, a member that is null |

The text of a cell is the value itself where that is text, JSON where it is nested, and the usual spelling of a number.
Works by columns and by type, never by what a value happens to be.
"""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from itertools import pairwise
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

_NS_PER: Final = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}
_DIGITS: Final = {"s": 0, "ms": 3, "us": 6, "ns": 9}
_EPOCH_DAYS: Final = date(1970, 1, 1).toordinal()
_DAYS_PER_CYCLE: Final = 146_097
_INFINITIES: Final[Mapping[int, str]] = {(1 << 63) - 1: "infinity", -((1 << 63) - 1): "-infinity"}
_DATE_INFINITIES: Final[Mapping[int, str]] = {(1 << 31) - 1: "infinity", -((1 << 31) - 1): "-infinity"}

to_json: Final[Callable[[Any], str]] = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode


def column_texts(column: pa.Array) -> list[str | None]:
    """The cells of a column as text, ``None`` for null."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return column_texts(column.dictionary_decode())
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return _list(pc.cast(column, pa.string()))
    return [value if value is None or isinstance(value, str) else to_json(value) for value in json_column(column)]


def json_column(column: pa.Array) -> list[Any]:
    """The cells of a column as values that JSON can hold.

    Raises:
        TypeError: The type is none that a result can have.
    """
    kind = column.type
    for is_kind, read in _READERS:
        if is_kind(kind):
            return read(column)
    raise TypeError(f"a column of type {kind} cannot be written as text or JSON; use parquet or arrow")


def distinct(names: Sequence[str]) -> list[str]:
    """Names that an object can have side by side: SQL may give two columns one name."""
    taken: set[str] = set()
    different = []
    for name in names:
        candidate, number = name, 2
        while candidate in taken:
            candidate, number = f"{name}_{number}", number + 1
        taken.add(candidate)
        different.append(candidate)
    return different


# --- plain values -----------------------------------------------------------------------------------------------------


def _list(column: pa.Array) -> list[Any]:
    values: list[Any] = column.to_pylist()
    return values


def _text(column: pa.Array) -> list[Any]:
    return _list(pc.cast(column, pa.string()))


def _floats(column: pa.Array) -> list[Any]:
    is_double = (
        column.type == pa.float64()
    )  # of the others, the shortest text that gives the same value in their precision
    values = _list(column) if is_double else [None if text is None else float(text) for text in _text(column)]
    if pc.all(pc.is_finite(column), min_count=0).as_py():
        return values
    return [value if value is None or math.isfinite(value) else _nonfinite(value) for value in values]


def _nonfinite(value: float) -> str:
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _binary(column: pa.Array) -> list[Any]:
    return [None if value is None else value.hex() for value in _list(column)]


def _dates(column: pa.Array) -> list[Any]:
    column = column.cast(pa.date32())
    return _spelled(_list(pc.cast(column, pa.string())), column.cast(pa.int32()), _DATE_INFINITIES, _far_date)


def _times(column: pa.Array) -> list[Any]:
    counts = column.cast(pa.int32() if pa.types.is_time32(column.type) else pa.int64())
    fraction = "0" * _DIGITS[column.type.unit]
    midnight = (
        f"24:00:00.{fraction}" if fraction else "24:00:00"
    )  # the end of a day, the only time that Arrow has no text for
    return _spelled(_text(column), counts, {}, lambda _: midnight)


def _timestamps(column: pa.Array) -> list[Any]:
    unit, zone = column.type.unit, "" if column.type.tz is None else "Z"
    naive = column.cast(pa.timestamp(unit))  # the instant in UTC
    texts = pc.replace_substring(pc.cast(naive, pa.string()), " ", "T", max_replacements=1)
    if zone:
        texts = pc.binary_join_element_wise(texts, zone, "")
    return _spelled(_list(texts), naive.cast(pa.int64()), _INFINITIES, lambda count: _far_instant(count, unit) + zone)


def _spelled(
    texts: list[Any], counts: pa.Array, infinities: Mapping[int, str], spell: Callable[[int], str]
) -> list[Any]:
    """Texts of times; the engine's infinities, and what Arrow calls out of range, are spelled here."""
    plain = not any(text is not None and text.startswith("<") for text in texts)
    if plain and not pc.any(pc.is_in(counts, pa.array(list(infinities), counts.type))).as_py():
        return texts
    return [
        text
        if text is None
        else infinities[count]
        if count in infinities
        else spell(count)
        if text.startswith("<")
        else text
        for text, count in zip(texts, _list(counts), strict=True)
    ]


def _far_date(days: int) -> str:
    """A date of the Gregorian calendar, which repeats itself every 400 years, in a year beyond those of Arrow's texts."""
    cycles, rest = divmod(days, _DAYS_PER_CYCLE)
    day = date.fromordinal(_EPOCH_DAYS + rest)
    year = day.year + 400 * cycles
    return f"{'-' if year < 0 else ''}{abs(year):04}-{day.month:02}-{day.day:02}"


def _far_instant(count: int, unit: str) -> str:
    seconds, fraction = divmod(count, _NS_PER["s"] // _NS_PER[unit])
    days, second = divmod(seconds, 86_400)
    digits = f".{fraction:0{_DIGITS[unit]}}" if _DIGITS[unit] else ""
    return f"{_far_date(days)}T{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}{digits}"


def _durations(column: pa.Array) -> list[Any]:
    factor = _NS_PER[column.type.unit]
    counts = _list(column.cast(pa.int64()))
    return counts if factor == 1 else [None if count is None else count * factor for count in counts]


def _intervals(column: pa.Array) -> list[Any]:
    return [
        None if value is None else {"months": value.months, "days": value.days, "nanoseconds": value.nanoseconds}
        for value in _list(column)
    ]


# --- values with values in them ---------------------------------------------------------------------------------------


def _extension(column: pa.Array) -> list[Any]:
    if column.type.extension_name == "arrow.uuid":
        return [None if value is None else str(uuid.UUID(bytes=value)) for value in _list(column.storage)]
    return json_column(column.storage)


def _structs(column: pa.Array) -> list[Any]:
    names = distinct([field.name for field in column.type])
    children = [json_column(column.field(position)) for position in range(column.type.num_fields)]
    rows = zip(*children, strict=True) if children else [()] * len(column)
    return _where_valid(column, (dict(zip(names, row, strict=True)) for row in rows))


def _lists(column: pa.Array) -> list[Any]:
    bounds = _list(column.offsets)
    items = json_column(column.values.slice(bounds[0], bounds[-1] - bounds[0]))
    return _parts(column, items, ((begin - bounds[0], end - bounds[0]) for begin, end in pairwise(bounds)))


def _fixed_size_lists(column: pa.Array) -> list[Any]:
    size = column.type.list_size
    items = json_column(column.values.slice(column.offset * size, len(column) * size))
    return _parts(column, items, ((place * size, (place + 1) * size) for place in range(len(column))))


def _list_views(column: pa.Array) -> list[Any]:
    places = zip(_list(column.offsets), _list(column.sizes), strict=True)
    return _parts(column, json_column(column.values), ((begin, begin + size) for begin, size in places))


def _parts(column: pa.Array, items: list[Any], spans: Iterable[tuple[int, int]]) -> list[Any]:
    make = _properties if _is_property_list(column.type) else list
    return _where_valid(column, (make(items[begin:end]) for begin, end in spans))


def _maps(column: pa.Array) -> list[Any]:
    bounds = _list(column.offsets)
    first, count = bounds[0], bounds[-1] - bounds[0]
    keys, values = column_texts(column.keys.slice(first, count)), json_column(column.items.slice(first, count))
    entries = list(zip(keys, values, strict=True))
    return _where_valid(column, (_object(entries[begin - first : end - first]) for begin, end in pairwise(bounds)))


def _where_valid(column: pa.Array, values: Iterable[Any]) -> list[Any]:
    """Children are read without their parent's nulls: Arrow aborts the process if it is to mask a union."""
    return [value if there else None for value, there in zip(values, _list(column.is_valid()), strict=True)]


def _unions(column: pa.Array) -> list[Any]:
    """Each value stands in the child that its type code names; of a dense union, at its offset."""
    kind = column.type
    children = [json_column(column.field(position)) for position in range(kind.num_fields)]
    places = {code: position for position, code in enumerate(kind.type_codes)}
    names = distinct([kind.field(position).name for position in range(kind.num_fields)])
    codes = _list(column.type_codes)
    offsets = _list(column.offsets) if kind.mode == "dense" else range(len(column))
    return [{names[places[code]]: children[places[code]][at]} for code, at in zip(codes, offsets, strict=True)]


def _is_property_list(kind: Any) -> bool:
    item = kind.value_type
    if not pa.types.is_struct(item) or [field.name for field in item] != ["key", "value"]:
        return False
    return all(pa.types.is_string(field.type) for field in item)


def _properties(pairs: list[Any]) -> Any:
    keys = {pair["key"] for pair in pairs if pair is not None}
    if len(keys) < len(pairs) or None in keys:
        return pairs
    return {pair["key"]: pair["value"] for pair in pairs}


def _object(pairs: list[Any]) -> Any:
    entries = dict(pairs)
    if len(entries) < len(pairs):
        return [{"key": key, "value": value} for key, value in pairs]
    return entries


_READERS: Final[Sequence[tuple[Callable[[Any], bool], Callable[[Any], list[Any]]]]] = (
    (lambda kind: isinstance(kind, pa.BaseExtensionType), _extension),
    (pa.types.is_dictionary, lambda column: json_column(column.dictionary_decode())),
    (pa.types.is_run_end_encoded, lambda column: json_column(pc.run_end_decode(column))),
    (pa.types.is_null, _list),
    (pa.types.is_boolean, _list),
    (pa.types.is_integer, _list),
    (pa.types.is_floating, _floats),
    (pa.types.is_decimal, _text),
    (pa.types.is_string, _list),
    (pa.types.is_large_string, _list),
    (pa.types.is_string_view, _list),
    (pa.types.is_binary, _binary),
    (pa.types.is_large_binary, _binary),
    (pa.types.is_fixed_size_binary, _binary),
    (pa.types.is_binary_view, _binary),
    (pa.types.is_date, _dates),
    (pa.types.is_time, _times),
    (pa.types.is_timestamp, _timestamps),
    (pa.types.is_duration, _durations),
    (pa.types.is_interval, _intervals),
    (pa.types.is_struct, _structs),
    (pa.types.is_map, _maps),
    (pa.types.is_list, _lists),
    (pa.types.is_large_list, _lists),
    (pa.types.is_fixed_size_list, _fixed_size_lists),
    (pa.types.is_list_view, _list_views),
    (pa.types.is_large_list_view, _list_views),
    (pa.types.is_union, _unions),
)
