"""What a statement gives comes back from JSON as the same value, for every type of the engine and every nesting of them.

The way back is the documented one: a value's JSON and its type make a literal, and the engine compares the two.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lakeflight.cells import column_texts, json_column
from lakeflight.output import text_writer


@dataclass(frozen=True, repr=False)
class Kind:
    """A type of the engine: its literals, and what makes a literal of its JSON."""

    sql: str
    literals: st.SearchStrategy[str]
    from_json: Callable[[Any], str]
    is_nested: bool = False
    has_null: bool = True

    def __repr__(self) -> str:
        return self.sql

    def literal(self, value: Any) -> str:
        return "NULL" if value is None else f"({self.from_json(value)})::{self.sql}"

    def from_key(self, text: str) -> str:
        return self.literal(json.loads(text) if self.is_nested else text)


def quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def plain(sql: str, values: st.SearchStrategy[Any]) -> Kind:
    """A type whose JSON, as text, is what the engine reads."""
    return Kind(sql, values.map(lambda value: f"{quoted(str(value))}::{sql}"), lambda value: quoted(str(value)))


def integers(sql: str, bits: int, *, signed: bool = True) -> Kind:
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    return plain(sql, st.integers(low, high) | st.sampled_from([low, high]))


CHARACTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
TEXTS = st.text(CHARACTERS, max_size=8)
DATES = st.dates().map(str) | st.sampled_from(["infinity", "-infinity", "9999-12-31"])
INSTANTS = st.datetimes().map(str) | st.sampled_from(["infinity", "-infinity"])
NEAR = st.integers(-(1 << 63) + 2, (1 << 63) - 2)


def interval_of(parts: Any) -> str:
    if isinstance(parts, str):  # the key of a map
        parts = json.loads(parts)
    return f"to_months({parts['months']}) + to_days({parts['days']}) + to_microseconds({parts['nanoseconds'] // 1000})"


SCALARS = [
    plain("BOOLEAN", st.booleans()),
    *(integers(f"{name}INT", bits) for name, bits in (("TINY", 8), ("SMALL", 16), ("", 32), ("BIG", 64))),
    *(integers(f"U{name}INT", bits, signed=False) for name, bits in (("TINY", 8), ("SMALL", 16), ("BIG", 64))),
    plain("HUGEINT", st.integers(1 - 10**38, 10**38 - 1)),
    plain("FLOAT", st.floats(width=32).filter(lambda x: x != 0)),
    plain("DOUBLE", st.floats().filter(lambda x: x != 0)),
    plain("DECIMAL(4,2)", st.decimals(-99, 99, places=2)),
    plain("DECIMAL(38,10)", st.decimals(-(10**27), 10**27, places=10)),
    plain("VARCHAR", TEXTS),
    Kind(
        "BLOB",
        st.binary(max_size=8).map(lambda data: f"from_hex('{data.hex()}')"),
        lambda value: f"from_hex('{value}')",
    ),
    plain("UUID", st.uuids()),
    plain("DATE", DATES),
    plain("TIME", st.times()),
    Kind("TIME_NS", st.integers(0, 86_399_999_999_999).map(lambda ns: quoted(clock(ns)) + "::TIME_NS"), quoted),
    plain("TIMESTAMP_S", st.datetimes().map(lambda at: str(at.replace(microsecond=0)))),
    plain("TIMESTAMP_MS", st.datetimes().map(lambda at: str(at.replace(microsecond=at.microsecond // 1000 * 1000)))),
    plain("TIMESTAMP", INSTANTS),
    Kind("TIMESTAMP_NS", NEAR.map(lambda ns: f"make_timestamp_ns({ns})"), quoted),
    plain("TIMESTAMPTZ", INSTANTS.map(lambda text: text if "infinity" in text else f"{text}+00")),
    Kind(
        "INTERVAL",
        st.tuples(st.integers(-9999, 9999), st.integers(-9999, 9999), st.integers(-(10**15), 10**15)).map(
            lambda parts: f"to_months({parts[0]}) + to_days({parts[1]}) + to_microseconds({parts[2]})"
        ),
        interval_of,
    ),
    plain("ENUM('a', 'b c', '''')", st.sampled_from(["a", "b c", "'"])),
]


def clock(ns: int) -> str:
    seconds, fraction = divmod(ns, 10**9)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{fraction:09}"


def nullable(kind: Kind) -> st.SearchStrategy[str]:
    return st.just(f"NULL::{kind.sql}") | kind.literals if kind.has_null else kind.literals


def list_of(item: Kind) -> Kind:
    return Kind(
        f"{item.sql}[]",
        st.lists(nullable(item), max_size=3).map(lambda items: f"[{', '.join(items)}]::{item.sql}[]"),
        lambda values: f"[{', '.join(map(item.literal, values))}]",
        is_nested=True,
    )


def array_of(item: Kind) -> Kind:
    return Kind(
        f"{item.sql}[2]",
        st.lists(nullable(item), min_size=2, max_size=2).map(
            lambda items: f"array_value({', '.join(items)})::{item.sql}[2]"
        ),
        lambda values: f"array_value({', '.join(map(item.literal, values))})",
        is_nested=True,
    )


NAMES = ("a", "key", "value", "b c")


def struct_of(*fields: Kind) -> Kind:
    names = NAMES[: len(fields)]
    declared = [f'"{name}" {field.sql}' for name, field in zip(names, fields, strict=True)]
    sql = f"STRUCT({', '.join(declared)})"

    def packed(literals: Any) -> str:
        return "{" + ", ".join(f"'{name}': {text}" for name, text in zip(names, literals, strict=True)) + "}"

    return Kind(
        sql,
        st.tuples(*map(nullable, fields)).map(lambda literals: f"{packed(literals)}::{sql}"),
        lambda value: packed([field.literal(value[name]) for name, field in zip(names, fields, strict=True)]),
        is_nested=True,
    )


def map_of(key: Kind, item: Kind) -> Kind:
    sql = f"MAP({key.sql}, {item.sql})"

    def packed(pairs: Any) -> str:
        return f"MAP {{{', '.join(f'{key_text}: {text}' for key_text, text in pairs)}}}"

    return Kind(
        sql,
        st.lists(st.tuples(key.literals, nullable(item)), max_size=3).map(lambda pairs: f"{packed(pairs)}::{sql}"),
        lambda value: packed([(key.from_key(text), item.literal(there)) for text, there in value.items()]),
        is_nested=True,
    )


def union_of(*members: Kind) -> Kind:
    sql = f"UNION({', '.join(f'm{place} {member.sql}' for place, member in enumerate(members))})"
    literals = [
        nullable(member).map(lambda text, place=place: f"union_value(m{place} := {text})::{sql}")  # type: ignore[misc]
        for place, member in enumerate(members)
    ]

    def again(value: Any) -> str:
        ((name, there),) = value.items()
        return f"union_value({name} := {members[int(name[1:])].literal(there)})"

    return Kind(sql, st.one_of(literals), again, is_nested=True, has_null=False)  # in Arrow its member is null instead


KINDS = st.recursive(
    st.sampled_from(SCALARS),
    lambda kinds: st.one_of(
        kinds.map(list_of),
        kinds.map(array_of),
        st.lists(kinds, min_size=1, max_size=3).map(lambda fields: struct_of(*fields)),
        st.tuples(kinds, kinds).map(lambda pair: map_of(*pair)),
        st.lists(kinds, min_size=1, max_size=2).map(lambda members: union_of(*members)),
    ),
    max_leaves=4,
)


@pytest.fixture(scope="module")
def engine() -> duckdb.DuckDBPyConnection:
    return duckdb.connect(config={"threads": 1})


def json_of(engine: duckdb.DuckDBPyConnection, literals: list[str]) -> list[Any]:
    """The values of one column, as ``--format jsonl`` writes them."""
    rows = " UNION ALL ".join(f"SELECT {place} AS i, {text} AS x" for place, text in enumerate(literals))
    reader = engine.sql(f"SELECT x FROM ({rows}) ORDER BY i").to_arrow_reader(2)
    target = io.StringIO()
    writer = text_writer("jsonl", reader.schema, target)
    for batch in reader:
        writer.write(batch)
    writer.finish()
    return [json.loads(line)["x"] for line in target.getvalue().removesuffix("\n").split("\n")]


def assert_same(engine: duckdb.DuckDBPyConnection, kind: Kind, literals: list[str]) -> None:
    again = [kind.literal(value) for value in json_of(engine, literals)]
    for before, after in zip(literals, again, strict=True):
        (same,) = engine.sql(f"SELECT ({before}) IS NOT DISTINCT FROM ({after})").fetchall()[0]
        assert same, f"{before} came back as {after}"


@pytest.mark.parametrize("kind", SCALARS, ids=lambda kind: kind.sql)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_every_plain_value_comes_back_from_json(
    engine: duckdb.DuckDBPyConnection, kind: Kind, data: st.DataObject
) -> None:
    assert_same(engine, kind, data.draw(st.lists(nullable(kind), min_size=1, max_size=5)))


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_every_nested_value_comes_back_from_json(engine: duckdb.DuckDBPyConnection, data: st.DataObject) -> None:
    kind = data.draw(KINDS)
    literals = data.draw(st.lists(nullable(kind), min_size=1, max_size=4))
    try:
        engine.sql(" UNION ALL ".join(f"SELECT {text}" for text in literals)).to_arrow_table()
    except duckdb.InvalidInputException as error:
        assume("unique" not in str(error))  # keys of a map
        raise

    assert_same(engine, kind, literals)


def properties_literal(value: Any) -> str:
    pairs = value.items() if isinstance(value, dict) else [(pair["key"], pair["value"]) for pair in value]
    texts = [f"{{'key': {TEXT.literal(key)}, 'value': {TEXT.literal(text)}}}" for key, text in pairs]
    return f"[{', '.join(texts)}]"


TEXT = next(kind for kind in SCALARS if kind.sql == "VARCHAR")
PAIRS = st.lists(st.tuples(st.sampled_from(["NULL", "'a'", "'b'"]), nullable(TEXT)), max_size=3)
PROPERTIES = Kind(
    "STRUCT(key VARCHAR, value VARCHAR)[]",
    PAIRS.map(lambda pairs: "[" + ", ".join(f"{{'key': {key}, 'value': {text}}}" for key, text in pairs) + "]"),
    properties_literal,
    is_nested=True,
)


@settings(max_examples=50, deadline=None)
@given(literal=PROPERTIES.literals)
def test_properties_are_an_object_that_loses_no_pair(engine: duckdb.DuckDBPyConnection, literal: str) -> None:
    assert_same(engine, PROPERTIES, [f"{literal}::{PROPERTIES.sql}"])


@pytest.mark.parametrize(
    ("sql", "value"),
    [
        ("MAP {1: 'a', 2: NULL}", {"1": "a", "2": None}),
        ("MAP {true: [1, 2]}", {"true": [1, 2]}),
        ("MAP {TIMESTAMP_NS '2026-01-31 12:00:00.000000001': {'n': 1}}", {"2026-01-31T12:00:00.000000001": {"n": 1}}),
        ("MAP {[1]: 1.5::DOUBLE}", {"[1]": 1.5}),
        ("MAP {}", {}),
        ("[1.5::DECIMAL(3, 1), NULL]", ["1.5", None]),
        ("['nan'::DOUBLE, '-inf'::DOUBLE, 0.1::FLOAT]", ["NaN", "-Infinity", 0.10000000149011612]),
        ("0.1::FLOAT", 0.1),
        ("18446744073709551615::UBIGINT", 18446744073709551615),
        ("INTERVAL '1 month 2 days 3 seconds'", {"months": 1, "days": 2, "nanoseconds": 3_000_000_000}),
        ("union_value(n := 1)", {"n": 1}),
        ("TIME '24:00:00'", "24:00:00.000000"),
        ("'290000-02-29'::DATE", "290000-02-29"),
        ("'290000-02-28 23:59:59.5'::TIMESTAMP", "290000-02-28T23:59:59.500000"),
        ("'290000-02-28 00:00:00+00'::TIMESTAMPTZ", "290000-02-28T00:00:00.000000Z"),
        ("'44-03-15 (BC)'::DATE", "-0043-03-15"),
        ("'290000-02-28'::TIMESTAMP_S", "290000-02-28T00:00:00"),
        ("'infinity'::TIMESTAMP", "infinity"),
        ("'a'::ENUM('a')", "a"),
        ("['a'::ENUM('a')]", ["a"]),
        ("'\\xff'::BLOB", "ff"),
    ],
)
def test_json_is_as_the_documentation_says(engine: duckdb.DuckDBPyConnection, sql: str, value: object) -> None:
    assert json_of(engine, [sql]) == [value]


TWICE = pa.map_(pa.string(), pa.int32())
OTHERS: dict[str, tuple[pa.Array, object]] = {  # what the engine does not make, and other servers may
    "map with a key twice": (
        pa.array([[("a", 1), ("a", 2)]], TWICE),
        [{"key": "a", "value": 1}, {"key": "a", "value": 2}],
    ),
    "half float": (pa.array([0.5], pa.float16()), 0.5),
    "large text": (pa.array(["a"], pa.large_string()), "a"),
    "text view": (pa.array(["a"], pa.string_view()), "a"),
    "binary view": (pa.array([b"a"], pa.binary_view()), "61"),
    "fixed binary": (pa.array([b"a"], pa.binary(1)), "61"),
    "large list": (pa.array([[1]], pa.large_list(pa.int8())), [1]),
    "list view": (pa.array([[1]], pa.list_view(pa.int8())), [1]),
    "large list view": (pa.array([[1]], pa.large_list_view(pa.int8())), [1]),
    "seconds of a day": (pa.array([1], pa.time32("s")), "00:00:01"),
    "milliseconds": (pa.array([5], pa.duration("ms")), 5_000_000),
    "days as milliseconds": (pa.array([86_400_000], pa.date64()), "1970-01-02"),
    "small decimal": (pa.array([1], pa.decimal32(3, 1)), "1.0"),
    "large decimal": (pa.array([1], pa.decimal256(50, 1)), "1.0"),
    "runs": (pa.RunEndEncodedArray.from_arrays([2], [7]).slice(1), 7),
    "dense union": (
        pa.UnionArray.from_dense(
            pa.array([1], pa.int8()), pa.array([0], pa.int32()), [pa.array(["a"]), pa.array([True])], ["s", "b"]
        ),
        {"b": True},
    ),
    "uuid": (
        pa.ExtensionArray.from_storage(pa.uuid(), pa.array([bytes(range(16))], pa.binary(16))),
        "00010203-0405-0607-0809-0a0b0c0d0e0f",
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_every_arrow_type_has_a_json_value_and_a_text(name: str) -> None:
    column, value = OTHERS[name]

    assert json_column(column) == [value]
    assert column_texts(column) == [value if isinstance(value, str) else json.dumps(value)]


def test_sliced_columns_and_null_rows_keep_their_own_entries() -> None:
    column = pa.array([[("a", 1)], None, [("b", 2), ("c", 3)], []], TWICE)

    assert json_column(column.slice(1)) == [None, {"b": 2, "c": 3}, {}]
    assert json_column(column.slice(2, 1)) == [{"b": 2, "c": 3}]
    assert json_column(column.slice(0, 0)) == []
