"""Arrow batches as text and files: aligned tables, CSV, JSON, JSON lines, Parquet, Arrow.

Every format streams: nothing here holds more than one batch, but the table, which looks at its first rows to choose
widths. Times are ISO 8601 to the nanosecond with ``Z``, lists of key and value are shown as one object, binary as
hexadecimal. The table is for people: control characters, which log lines may carry into a terminal, are shown as
escapes there.
"""

from __future__ import annotations

import csv
import json
import os
import unicodedata
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO, Final, Protocol, TextIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

WIDTH_SAMPLE_ROWS: Final = 1000  # of a table: later rows keep the widths, and what is wider sticks out
NULL_TEXT: Final = "NULL"
_CUT: Final = "…"


class Writer(Protocol):
    """Takes batches of one schema, in order."""

    def write(self, batch: pa.RecordBatch) -> None: ...

    def finish(self) -> None:
        """Write what is held back. Not called if something failed."""
        ...


TEXT_FORMATS: Final = ("table", "csv", "json", "jsonl")
BINARY_FORMATS: Final = ("parquet", "arrow")
FORMATS: Final = (*TEXT_FORMATS, *BINARY_FORMATS)


def text_writer(name: str, schema: pa.Schema, target: TextIO, *, column_width_max: int = 0) -> Writer:
    """``column_width_max`` cuts the cells of a table, 0 leaves them."""
    match name:
        case "table":
            return TableWriter(schema, target, column_width_max)
        case "csv":
            return CsvWriter(schema, target)
        case "json":
            return JsonWriter(schema, target)
        case "jsonl":
            return JsonLinesWriter(schema, target)
        case _:
            raise ValueError(f"not a text format: {name!r}")


def binary_writer(name: str, schema: pa.Schema, target: BinaryIO) -> Writer:
    match name:
        case "parquet":
            return ParquetWriter(schema, target)
        case "arrow":
            return ArrowWriter(schema, target)
        case _:
            raise ValueError(f"not a binary format: {name!r}")


# --- values ---------------------------------------------------------------------------------------------------------


def column_texts(column: pa.Array) -> list[str | None]:
    """The cells of a column as text, ``None`` for null."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return column_texts(column.dictionary_decode())
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return _python_list(column)
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_date(kind):
        return _python_list(pc.cast(column, pa.string()))
    if pa.types.is_timestamp(kind):
        return _python_list(_iso(column))
    if pa.types.is_null(kind):
        return [None] * len(column)
    return [None if value is None else _cell(value) for value in json_column(column)]


def _cell(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def json_column(column: pa.Array) -> list[Any]:
    """The cells of a column as values that JSON can hold. What is no number becomes null, because JSON has no name for it."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return json_column(column.dictionary_decode())
    if pa.types.is_floating(kind):
        finite = pc.if_else(pc.is_finite(column), column, pa.scalar(None, kind))
        return _python_list(finite)
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_null(kind):
        return _python_list(column)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return _python_list(column)
    if pa.types.is_timestamp(kind):
        return _python_list(_iso(column))
    if pa.types.is_date(kind) or pa.types.is_time(kind):
        return _python_list(pc.cast(column, pa.string()))
    if pa.types.is_duration(kind):
        return _python_list(pc.cast(column, pa.int64()))
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return [None if value is None else value.hex() for value in _python_list(column)]
    if pa.types.is_struct(kind):
        return _json_structs(column)
    if pa.types.is_map(kind):
        return [
            None if value is None else {str(key): str(item) for key, item in value} for value in _python_list(column)
        ]
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return _json_lists(column)
    return [None if value is None else str(value) for value in _python_list(column)]


def _json_structs(column: pa.Array) -> list[Any]:
    names = [field.name for field in column.type]
    valid = _python_list(column.is_valid())
    children = [json_column(child) for child in column.flatten()]
    if not children:
        return [{} if there else None for there in valid]
    rows = zip(*children, strict=True)
    return [dict(zip(names, row, strict=True)) if there else None for there, row in zip(valid, rows, strict=True)]


def _json_lists(column: pa.Array) -> list[Any]:
    lengths = _python_list(pc.list_value_length(column))
    items = json_column(column.flatten())
    as_object = _is_property_list(column.type)
    lists: list[Any] = []
    position = 0
    for length in lengths:
        if length is None:
            lists.append(None)
            continue
        part = items[position : position + length]
        position += length
        lists.append({pair["key"]: pair["value"] for pair in part if pair} if as_object else part)
    return lists


def _is_property_list(kind: Any) -> bool:
    item = kind.value_type
    return pa.types.is_struct(item) and [(field.name, field.type) for field in item] == [
        ("key", pa.string()),
        ("value", pa.string()),
    ]


def _iso(column: pa.Array) -> pa.Array:
    naive = column.cast(pa.timestamp(column.type.unit))  # the instant in UTC
    text = pc.replace_substring(pc.cast(naive, pa.string()), " ", "T", max_replacements=1)
    return pc.binary_join_element_wise(text, "Z", "") if column.type.tz is not None else text


def _python_list(column: pa.Array) -> list[Any]:
    values: list[Any] = column.to_pylist()
    return values


# --- text -----------------------------------------------------------------------------------------------------------

_ESCAPES: Final = {
    **{code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))},
    **{code: f"\\u{code:04x}" for code in (0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A), 0xFEFF)},
    ord("\n"): "\\n",
    ord("\r"): "\\r",
    ord("\t"): "\\t",
}


def printable(text: str) -> str:
    """Text without anything that moves a cursor, colours, or turns the direction of writing."""
    return text if text.isascii() and text.isprintable() else text.translate(_ESCAPES)


def display_width(text: str) -> int:
    """Columns of a terminal that the text takes."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )


def _cut(text: str, width: int) -> str:
    if width <= 0 or display_width(text) <= width:
        return text
    while display_width(text) > width - 1:
        text = text[: max(0, min(len(text) - 1, width - 1))]
    return text + _CUT


class TableWriter:
    """Aligned columns, numbers to the right."""

    def __init__(self, schema: pa.Schema, target: TextIO, column_width_max: int = 0) -> None:
        self._names = [printable(name) for name in schema.names]
        self._right = [_is_number(field.type) for field in schema]
        self._target = target
        self._column_width_max = column_width_max
        self._held: list[list[str]] = []
        self._widths: list[int] | None = None

    def write(self, batch: pa.RecordBatch) -> None:
        rows = self._cells(batch)
        if self._widths is not None:
            self._put(rows)
            return
        self._held += rows
        if len(self._held) >= WIDTH_SAMPLE_ROWS:
            self._put_head()

    def finish(self) -> None:
        if self._widths is None:
            self._put_head()

    def _cells(self, batch: pa.RecordBatch) -> list[list[str]]:
        limit = self._column_width_max
        columns = [
            [NULL_TEXT if text is None else _cut(printable(text), limit) for text in column_texts(column)]
            for column in batch.columns
        ]
        return [list(row) for row in zip(*columns, strict=True)]

    def _put_head(self) -> None:
        self._widths = [
            max([display_width(name), *(display_width(row[position]) for row in self._held)])
            for position, name in enumerate(self._names)
        ]
        rule = ["-" * width for width in self._widths]
        held, self._held = self._held, []
        self._put([self._names, rule, *held])

    def _put(self, rows: Sequence[Sequence[str]]) -> None:
        assert self._widths is not None
        lines = []
        for row in rows:
            cells = [
                _pad(text, width, right) for text, width, right in zip(row, self._widths, self._right, strict=True)
            ]
            lines.append("  ".join(cells).rstrip() + "\n")
        self._target.write("".join(lines))


def _pad(text: str, width: int, right: bool) -> str:
    blank = " " * (width - display_width(text))
    return blank + text if right else text + blank


def _is_number(kind: Any) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


class CsvWriter:
    """A head line, then a line a row; null is an empty cell, an empty text is ``""``."""

    def __init__(self, schema: pa.Schema, target: TextIO) -> None:
        self._rows = csv.writer(target, lineterminator="\n", quoting=csv.QUOTE_MINIMAL)
        self._rows.writerow(schema.names)

    def write(self, batch: pa.RecordBatch) -> None:
        columns = [column_texts(column) for column in batch.columns]
        self._rows.writerows(zip(*columns, strict=True))

    def finish(self) -> None:
        return None


def _json_rows(batch: pa.RecordBatch, names: Sequence[str]) -> list[str]:
    encode: Callable[[Any], str] = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode
    columns = [json_column(column) for column in batch.columns]
    if not columns:
        return ["{}"] * batch.num_rows
    return [encode(dict(zip(names, row, strict=True))) for row in zip(*columns, strict=True)]


class JsonLinesWriter:
    """One object a line."""

    def __init__(self, schema: pa.Schema, target: TextIO) -> None:
        self._names = _distinct(schema.names)
        self._target = target

    def write(self, batch: pa.RecordBatch) -> None:
        self._target.write("".join(row + "\n" for row in _json_rows(batch, self._names)))

    def finish(self) -> None:
        return None


class JsonWriter:
    """One array of objects, a line each."""

    def __init__(self, schema: pa.Schema, target: TextIO) -> None:
        self._names = _distinct(schema.names)
        self._target = target
        self._begun = False

    def write(self, batch: pa.RecordBatch) -> None:
        rows = _json_rows(batch, self._names)
        if rows:
            self._target.write((",\n" if self._begun else "[\n") + ",\n".join(rows))
            self._begun = True

    def finish(self) -> None:
        self._target.write("\n]\n" if self._begun else "[]\n")


def _distinct(names: Sequence[str]) -> list[str]:
    """Names that an object can have side by side: SQL may give two columns one name."""
    taken: set[str] = set()
    distinct = []
    for name in names:
        candidate, number = name, 2
        while candidate in taken:
            candidate, number = f"{name}_{number}", number + 1
        taken.add(candidate)
        distinct.append(candidate)
    return distinct


# --- files ----------------------------------------------------------------------------------------------------------


class _ParquetFile(pq.ParquetWriter):  # type: ignore[misc]  # pyarrow has no types
    """Without the base's finalizer: it would end a file that nobody has finished, which has been closed by then."""

    def __del__(self) -> None:
        return None


class ParquetWriter:
    """One Parquet file, zstd; batches are gathered into row groups."""

    _ROW_GROUP_BYTES: Final = 32 << 20
    _ROW_GROUP_ROWS: Final = 1 << 17

    def __init__(self, schema: pa.Schema, target: BinaryIO) -> None:
        self._schema = schema
        self._file = _ParquetFile(target, schema, compression="zstd")
        self._held: list[pa.RecordBatch] = []
        self._held_rows = 0
        self._held_bytes = 0

    def write(self, batch: pa.RecordBatch) -> None:
        self._held.append(batch)
        self._held_rows += batch.num_rows
        self._held_bytes += batch.nbytes
        if self._held_rows >= self._ROW_GROUP_ROWS or self._held_bytes >= self._ROW_GROUP_BYTES:
            self._flush()

    def finish(self) -> None:
        if self._held_rows:
            self._flush()
        self._file.close()

    def _flush(self) -> None:
        self._file.write_table(pa.Table.from_batches(self._held, self._schema))
        self._held, self._held_rows, self._held_bytes = [], 0, 0


class ArrowWriter:
    """An Arrow IPC stream."""

    def __init__(self, schema: pa.Schema, target: BinaryIO) -> None:
        self._stream = pa.ipc.new_stream(target, schema)

    def write(self, batch: pa.RecordBatch) -> None:
        self._stream.write_batch(batch)

    def finish(self) -> None:
        self._stream.close()


def silence(stream: TextIO) -> None:
    """After a reader has gone: what is still buffered goes nowhere, and the interpreter's last flush does not complain."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    except (OSError, ValueError):
        return
