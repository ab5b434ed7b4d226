"""Arrow batches as text and files: aligned tables, CSV, JSON, JSON lines, Parquet, Arrow.

Every format streams: nothing here holds more than one batch, but the table, which looks at its first rows to choose
widths. What a cell says is told in ``cells``. The table is for people: control characters, which log lines may carry into
a terminal, are shown as escapes there.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Any, BinaryIO, Final, Protocol, TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from lakeflight.cells import column_texts, distinct, json_column, to_json
from lakeflight.printable import printable

WIDTH_SAMPLE_ROWS: Final = 1000  # of a table: later rows keep the widths, and what is wider sticks out
NULL_TEXT: Final = "NULL"
_CUT: Final = "…"
_CSV_QUOTED: Final = re.compile(r'[",\n\r]')


class Writer(Protocol):
    """Takes batches of one schema, in order."""

    def write(self, batch: pa.RecordBatch) -> None: ...

    def finish(self) -> None:
        """Write what is held back. Not called if something failed."""
        ...


TEXT_FORMATS: Final = ("table", "csv", "json", "jsonl")
BINARY_FORMATS: Final = ("parquet", "arrow", "arrows")
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
            return ArrowWriter(pa.ipc.new_file(target, schema))
        case "arrows":
            return ArrowWriter(pa.ipc.new_stream(target, schema))
        case _:
            raise ValueError(f"not a binary format: {name!r}")


# --- text -----------------------------------------------------------------------------------------------------------


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
        self._target = target
        target.write(_csv_line(schema.names))

    def write(self, batch: pa.RecordBatch) -> None:
        columns = [column_texts(column) for column in batch.columns]
        self._target.write("".join(map(_csv_line, zip(*columns, strict=True))))

    def finish(self) -> None:
        return None


def _csv_line(cells: Sequence[str | None]) -> str:
    if len(cells) == 1 and cells[0] is None:
        return "\n"
    return ",".join("" if cell is None else _csv_cell(cell) for cell in cells) + "\n"


def _csv_cell(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if not text or _CSV_QUOTED.search(text) else text


def _json_rows(batch: pa.RecordBatch, names: Sequence[str]) -> list[str]:
    columns = [json_column(column) for column in batch.columns]
    if not columns:
        return ["{}"] * batch.num_rows
    return [to_json(dict(zip(names, row, strict=True))) for row in zip(*columns, strict=True)]


class JsonLinesWriter:
    """One object a line."""

    def __init__(self, schema: pa.Schema, target: TextIO) -> None:
        self._names = distinct(schema.names)
        self._target = target

    def write(self, batch: pa.RecordBatch) -> None:
        self._target.write("".join(row + "\n" for row in _json_rows(batch, self._names)))

    def finish(self) -> None:
        return None


class JsonWriter:
    """One array of objects, a line each."""

    def __init__(self, schema: pa.Schema, target: TextIO) -> None:
        self._names = distinct(schema.names)
        self._target = target
        self._begun = False

    def write(self, batch: pa.RecordBatch) -> None:
        rows = _json_rows(batch, self._names)
        if rows:
            self._target.write((",\n" if self._begun else "[\n") + ",\n".join(rows))
            self._begun = True

    def finish(self) -> None:
        self._target.write("\n]\n" if self._begun else "[]\n")


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
    """An Arrow IPC file (Feather, version 2), or a stream."""

    def __init__(self, messages: Any) -> None:
        self._messages = messages

    def write(self, batch: pa.RecordBatch) -> None:
        self._messages.write_batch(batch)

    def finish(self) -> None:
        self._messages.close()
