"""Formats: every type has a text, nothing is lost, and nothing reaches the terminal's controls."""

from __future__ import annotations

import csv
import io
import json
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakeflight.cells import column_texts, json_column
from lakeflight.output import (
    WIDTH_SAMPLE_ROWS,
    binary_writer,
    display_width,
    text_writer,
)
from lakeflight.printable import printable

PROPERTIES = pa.list_(pa.struct([("key", pa.string()), ("value", pa.string())]))
COLUMNS: dict[str, tuple[pa.Array, list[str | None], list[object]]] = {
    "int": (pa.array([1, None, -3]), ["1", None, "-3"], [1, None, -3]),
    "float": (
        pa.array([0.1, None, float("inf"), float("nan")]),
        ["0.1", None, "inf", "nan"],
        [0.1, None, "Infinity", "NaN"],
    ),
    "bool": (pa.array([True, False, None]), ["true", "false", None], [True, False, None]),
    "text": (pa.array(["a", "", None]), ["a", "", None], ["a", "", None]),
    "dictionary": (pa.array(["a", None, "a"]).dictionary_encode(), ["a", None, "a"], ["a", None, "a"]),
    "time": (
        pa.array([1_700_000_000_123_456_789, None], pa.timestamp("ns", "UTC")),
        ["2023-11-14T22:13:20.123456789Z", None],
        ["2023-11-14T22:13:20.123456789Z", None],
    ),
    "time with offset": (
        pa.array([0], pa.timestamp("us", "+02:00")),
        ["1970-01-01T00:00:00.000000Z"],
        ["1970-01-01T00:00:00.000000Z"],
    ),
    "naive time": (
        pa.array([0], pa.timestamp("ns")),
        ["1970-01-01T00:00:00.000000000"],
        ["1970-01-01T00:00:00.000000000"],
    ),
    "date": (pa.array([19_000], pa.date32()), ["2022-01-08"], ["2022-01-08"]),
    "decimal": (pa.array([Decimal("1.50")], pa.decimal128(9, 2)), ["1.50"], ["1.50"]),
    "binary": (pa.array([b"\x00\xff", None]), ["00ff", None], ["00ff", None]),
    "null": (pa.nulls(2), [None, None], [None, None]),
    "list": (pa.array([[1, None], None, []]), ["[1, null]", None, "[]"], [[1, None], None, []]),
    "struct": (
        pa.array([{"a": 1, "b": [1.5]}, None], pa.struct([("a", pa.int8()), ("b", pa.list_(pa.float64()))])),
        ['{"a": 1, "b": [1.5]}', None],
        [{"a": 1, "b": [1.5]}, None],
    ),
    "properties": (
        pa.array([[{"key": "k", "value": "v"}], [], None], PROPERTIES),
        ['{"k": "v"}', "{}", None],
        [{"k": "v"}, {}, None],
    ),
    "nested time": (
        pa.array([[{"t": 1}]], pa.list_(pa.struct([("t", pa.timestamp("ns", "UTC"))]))),
        ['[{"t": "1970-01-01T00:00:00.000000001Z"}]'],
        [[{"t": "1970-01-01T00:00:00.000000001Z"}]],
    ),
    "duration": (pa.array([5, None], pa.duration("ns")), ["5", None], [5, None]),
    "map": (pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int32())), ['{"a": 1}'], [{"a": 1}]),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_every_type_has_a_text_and_a_json_value(name: str) -> None:
    column, texts, values = COLUMNS[name]

    assert column_texts(column) == texts
    assert json_column(column) == values


@pytest.mark.parametrize("name", COLUMNS)
def test_slices_of_columns_are_read_at_their_offset(name: str) -> None:
    column, texts, values = COLUMNS[name]
    twice = pa.concat_arrays([column, column])

    assert column_texts(twice.slice(1)) == [*texts, *texts][1:]
    assert json_column(twice.slice(1)) == [*values, *values][1:]


def written(name: str, *batches: pa.RecordBatch, width: int = 0) -> str:
    target = io.StringIO()
    writer = text_writer(name, batches[0].schema, target, column_width_max=width)
    for batch in batches:
        writer.write(batch)
    writer.finish()
    return target.getvalue()


BATCH = pa.record_batch({"n": [1, 200, None], "text": ["a", "日本", None]})


def test_a_table_is_aligned_with_numbers_to_the_right() -> None:
    assert written("table", BATCH).splitlines() == [
        "   n  text",
        "----  ----",
        "   1  a",
        " 200  日本",
        "NULL  NULL",
    ]


def test_a_table_without_rows_shows_its_columns() -> None:
    assert written("table", BATCH.slice(0, 0)) == "n  text\n-  ----\n"


def test_a_long_table_streams_after_its_first_rows() -> None:
    target = io.StringIO()
    rows = pa.record_batch({"n": ["x"] * WIDTH_SAMPLE_ROWS})
    writer = text_writer("table", rows.schema, target)

    writer.write(rows)
    before = len(target.getvalue().splitlines())
    writer.write(pa.record_batch({"n": ["wider than the sample"]}))
    writer.finish()

    assert before == WIDTH_SAMPLE_ROWS + 2
    assert target.getvalue().splitlines()[-1] == "wider than the sample"


def test_wide_cells_are_cut_on_request() -> None:
    assert written("table", pa.record_batch({"t": ["abcdefgh", "日本日本", "abcd"]}), width=4).splitlines()[2:] == [
        "abc…",
        "日…",
        "abcd",
    ]


def test_control_characters_do_not_reach_the_terminal() -> None:
    text = written("table", pa.record_batch({"\x1b[31mname": ["\x1b]0;title\x07", "two\nlines", "\u202eevil\x9b"]}))

    assert "\x1b" not in text
    assert len(text.splitlines()) == 5
    assert "two\\nlines" in text
    assert "\\u202eevil\\x9b" in text


def test_csv_can_be_read_back() -> None:
    batch = pa.record_batch({"a,b": ["x", 'say "hi"', "two\nlines"], "n": [1, None, 3]})

    rows = list(csv.reader(io.StringIO(written("csv", batch, batch))))

    assert rows == [["a,b", "n"], *[["x", "1"], ['say "hi"', ""], ["two\nlines", "3"]] * 2]


def test_json_and_json_lines_hold_the_same_rows() -> None:
    lines = [json.loads(line) for line in written("jsonl", BATCH, BATCH).splitlines()]

    assert lines == [{"n": 1, "text": "a"}, {"n": 200, "text": "日本"}, {"n": None, "text": None}] * 2
    assert json.loads(written("json", BATCH, BATCH)) == lines
    assert json.loads(written("json", BATCH.slice(0, 0))) == []
    assert written("jsonl", BATCH.slice(0, 0)) == ""


def test_columns_of_one_name_stay_apart_in_json() -> None:
    batch = pa.RecordBatch.from_arrays([pa.array([1]), pa.array([2]), pa.array([3])], names=["a", "a", "a_2"])

    assert json.loads(written("jsonl", batch)) == {"a": 1, "a_2": 2, "a_2_2": 3}


@pytest.mark.parametrize("name", ["parquet", "arrow", "arrows"])
def test_files_hold_the_batches_as_they_are(name: str) -> None:
    target = io.BytesIO()
    writer = binary_writer(name, BATCH.schema, target)

    writer.write(BATCH)
    writer.write(BATCH)
    writer.finish()

    readers = {
        "parquet": lambda file: pq.read_table(pa.BufferReader(file)),
        "arrow": lambda file: pa.ipc.open_file(file).read_all(),
        "arrows": lambda file: pa.ipc.open_stream(file).read_all(),
    }
    read = readers[name](target.getvalue())
    assert read.to_pylist() == [*BATCH.to_pylist(), *BATCH.to_pylist()]


@settings(max_examples=100, deadline=None)
@given(st.text())
def test_what_is_printable_stays_on_its_line(text: str) -> None:
    shown = printable(text)

    assert len(shown.splitlines()) <= 1
    assert not any(ord(char) < 0x20 or 0x7F <= ord(char) < 0xA0 for char in shown)
    assert display_width(shown) >= 0
