"""Results as clients of the original are sent them: JSONB, dictionaries, doubles, +00:00."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
import pytest

from lakehouse.engine import EngineCatalog, Relation
from lakehouse.engine.engine import QueryEngine
from lakehouse.model import Spelling
from tests.support.engine_lake import PROCESS
from tests.support.jsonb import decoded
from views import default_registry

DECLARED = default_registry().declarations
CATALOG = EngineCatalog({name: DECLARED[name] for name in ("processes", "log_entries")}, DECLARED)
STOCK = Spelling.JSONB | Spelling.DOUBLES | Spelling.OFFSETS
WITH_DICTIONARIES = STOCK | Spelling.DICTIONARIES
DOCUMENT = pa.dictionary(pa.int32(), pa.binary())
TEXT = pa.dictionary(pa.int32(), pa.string())
FEW = pa.dictionary(pa.int16(), pa.string())
UTC = pa.timestamp("ns", "+00:00")
NAMES = ("exe", "properties")
ROWS = [{"exe": exe, "properties": json.dumps({"n": n % 2, "a": [n / 2]})} for n, exe in enumerate("abab")]


@pytest.fixture(scope="module")
def engine() -> Iterator[QueryEngine]:
    made = QueryEngine()
    yield made
    made.close()


def log_entries() -> Relation:
    """Four lines, of which some columns matter."""
    schema = DECLARED["log_entries"].schema
    columns = [
        pa.array([row[member.name] for row in ROWS])
        if member.name in NAMES
        else pa.array(range(4), pa.int64()).cast(member.type)
        if not pa.types.is_string(member.type)
        else pa.array(["{}"] * 4)
        for member in schema
    ]
    sink = pa.BufferOutputStream()
    table = pa.table(columns, schema=schema)
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return Relation("log_entries", schema, table=sink.getvalue().to_pybytes())


def ask(engine: QueryEngine, sql: str, spelling: Spelling, parameters: Any = ()) -> Any:
    """The result, whose schema must be the one that was announced."""
    announced = pa.ipc.read_schema(
        pa.py_buffer(engine.inspect(sql, list(parameters), CATALOG, spelling=spelling).schema)
    )
    relations = [log_entries()]
    with engine.run(sql, parameters, relations, catalog=CATALOG, identity="i", spelling=spelling) as reader:
        assert reader.schema.equals(announced, check_metadata=True)
        return pa.Table.from_batches(list(reader), schema=reader.schema)


def types_of(engine: QueryEngine, sql: str, spelling: Spelling) -> dict[str, Any]:
    schema = pa.ipc.read_schema(pa.py_buffer(engine.inspect(sql, [], CATALOG, spelling=spelling).schema))
    return dict(zip(schema.names, schema.types, strict=True))


LOGS: Mapping[str, Any] = {
    **dict.fromkeys(("process_id", "stream_id", "block_id", "exe", "username", "computer", "target"), TEXT),
    **dict.fromkeys(("insert_time", "time"), UTC),
    "level": pa.int32(),
    "msg": pa.string(),
    "properties": DOCUMENT,
    "process_properties": DOCUMENT,
}


def test_every_column_of_a_view_has_the_type_that_the_original_gives_it(engine: QueryEngine) -> None:
    assert types_of(engine, "SELECT * FROM log_entries", WITH_DICTIONARIES) == LOGS
    spans = f"SELECT * FROM process_spans('{PROCESS}', 'both')"
    assert types_of(engine, spans, WITH_DICTIONARIES) == {
        **dict.fromkeys(("stream_id", "thread_name"), FEW),
        **dict.fromkeys(("id", "parent", "duration"), pa.int64()),
        **dict.fromkeys(("depth", "hash", "line"), pa.uint32()),
        **dict.fromkeys(("begin", "end"), UTC),
        **dict.fromkeys(("name", "target", "filename"), TEXT),
    }
    parsed = f"SELECT value FROM parse_block('{PROCESS}')"
    assert types_of(engine, parsed, WITH_DICTIONARIES) == {"value": pa.binary()}


def test_dictionaries_are_for_those_who_ask(engine: QueryEngine) -> None:
    sql = "SELECT exe, properties, time FROM log_entries"

    assert types_of(engine, sql, STOCK) == {"exe": pa.string(), "properties": pa.binary(), "time": UTC}
    assert types_of(engine, sql, Spelling.DICTIONARIES) == {
        "exe": TEXT,
        "properties": pa.string(),
        "time": pa.timestamp("ns", "UTC"),
    }
    assert types_of(engine, sql, Spelling.PLAIN)["properties"] == pa.string()


@pytest.mark.parametrize(
    ("expression", "kind"),
    [
        ("properties", DOCUMENT),
        ("max(properties)", DOCUMENT),
        ("first(properties)", DOCUMENT),
        ("jsonb_parse(max(msg))", DOCUMENT),
        ("jsonb_get(max(properties), 'a')", DOCUMENT),
        ("jsonb_path_query(max(properties), '$.a[*]')", DOCUMENT),
        ("properties_to_jsonb(properties)", DOCUMENT),
        ("property_get(properties, 'n')", TEXT),
        ("jsonb_as_string(max(msg))", TEXT),
        ("jsonb_format_json(max(properties))", TEXT),
        ("jsonb_as_i64(jsonb_get(max(properties), 'n'))", pa.int64()),
        ("lower(max(exe))", pa.string()),
        ("max(exe) || 'x'", pa.string()),
        ("max(exe)", TEXT),
        ("coalesce(max(exe), 'none')", pa.string()),
        ("list(exe)", pa.list_(pa.field("l", pa.string()))),
        ("max(exe)[1:2]", pa.string()),
        ("CAST(max(properties) AS VARCHAR)", pa.string()),
        ("0.25", pa.float64()),
        ("[max(time)]", pa.list_(pa.field("l", UTC))),
    ],
)
def test_what_is_made_of_columns_has_the_type_of_what_it_is(engine: QueryEngine, expression: str, kind: Any) -> None:
    sql = f"SELECT {expression} AS x FROM log_entries GROUP BY properties"

    assert ask(engine, sql, WITH_DICTIONARIES).schema.field("x").type == kind


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT exe AS x FROM log_entries",
        "SELECT x FROM (SELECT exe AS x FROM log_entries)",
        "WITH l AS (SELECT exe AS x FROM log_entries) SELECT a.x FROM l a JOIN l b USING (x)",
        "SELECT exe AS x FROM log_entries UNION ALL SELECT target FROM log_entries",
        "SELECT exe AS x FROM log_entries WHERE exe IN ('a', 'b') AND exe <> 'c' AND exe LIKE '%' ORDER BY exe",
        "SELECT last_value(exe) OVER (PARTITION BY target ORDER BY time) AS x FROM log_entries",
        "SELECT (SELECT max(exe) FROM log_entries) AS x",
        "SELECT DISTINCT exe AS x FROM log_entries WHERE time < now()",
        "SELECT unnest([exe]) AS x FROM log_entries",
    ],
)
def test_a_column_keeps_what_it_is_wherever_it_goes(engine: QueryEngine, sql: str) -> None:
    table = ask(engine, sql, WITH_DICTIONARIES)

    assert table.schema.field("x").type == TEXT
    plain = ask(engine, sql, Spelling.PLAIN)["x"].to_pylist()
    assert sorted(table["x"].to_pylist()) == sorted(plain)


@pytest.mark.parametrize("spelling", [STOCK, WITH_DICTIONARIES])
def test_documents_are_what_their_text_says(engine: QueryEngine, spelling: Spelling) -> None:
    table = ask(engine, "SELECT exe, properties FROM log_entries WHERE exe = $1", spelling, ["b"])

    assert table["exe"].to_pylist() == ["b", "b"]
    assert [decoded(one) for one in table["properties"].to_pylist()] == [{"a": [0.5], "n": 1}, {"a": [1.5], "n": 1}]


def test_members_of_a_document_are_documents(engine: QueryEngine) -> None:
    sql = """SELECT key, value FROM jsonb_each((SELECT properties FROM log_entries LIMIT 1))"""

    table = ask(engine, sql, WITH_DICTIONARIES)

    assert table.schema.types == [pa.string(), pa.binary()]
    assert [(row["key"], decoded(row["value"])) for row in table.to_pylist()] == [("a", [0.0]), ("n", 0)]


def test_pairs_are_documents_and_a_value_of_one_is_text(engine: QueryEngine) -> None:
    sql = "SELECT properties, properties[1].value AS v, properties_to_array(properties) AS a FROM processes"

    kinds = types_of(engine, sql, WITH_DICTIONARIES)

    assert (kinds["properties"], kinds["v"]) == (DOCUMENT, pa.string())
    assert pa.types.is_list(kinds["a"])


def test_a_dashboard_is_sent_types_that_it_can_show(engine: QueryEngine) -> None:
    sql = """
        SELECT 1.5 AS decimal, DATE '2024-01-31' AS day, TIME '01:02:03.5' AS clock, NULL AS nothing, [1, 2] AS many,
            {'a': 1, 'b': 'x'} AS members, MAP {'k': 2} AS pairs, '\\xAB\\x01'::BLOB AS bytes, [[1]]::INTEGER[1][] AS grid,
            [DATE '2024-01-31'] AS days, 5::HUGEINT AS big, true AS flag, INTERVAL 1 SECOND AS pause, uuid() AS id,
            'a'::ENUM ('a', 'b') AS one_of, TIMESTAMPTZ '2024-01-31 12:00:00+00' AS t, count(*) AS n
    """
    shown = ask(engine, sql, Spelling.DOUBLES | Spelling.SHOWN)

    (row,) = (
        shown.drop(["id"])
        .cast(
            pa.schema(
                [f.with_type(pa.int64()) if f.name in ("day", "t", "pause") else f for f in shown.drop(["id"]).schema]
            )
        )
        .to_pylist()
    )
    assert row == {
        "decimal": 1.5,
        "day": 1_706_659_200_000_000_000,
        "clock": "01:02:03.5",
        "nothing": None,
        "many": "[1,2]",
        "members": '{"a":1,"b":"x"}',
        "pairs": '{"k":2}',
        "bytes": "AB01",
        "grid": "[[1]]",
        "days": '["2024-01-31"]',
        "big": 5,
        "flag": True,
        "pause": 1_000_000_000,
        "one_of": "a",
        "t": 1_706_702_400_000_000_000,
        "n": 1,
    }
    types = dict(zip(shown.schema.names, shown.schema.types, strict=True))
    assert types["day"] == types["t"] == pa.timestamp("ns", "UTC")
    assert all(pa.types.is_string(kind) or pa.types.is_primitive(kind) for kind in types.values())


def test_every_column_of_every_table_can_be_shown_on_a_dashboard(engine: QueryEngine) -> None:
    catalog = EngineCatalog(DECLARED, DECLARED)
    for name in DECLARED:
        message = engine.inspect(f"SELECT * FROM {name}", [], catalog, spelling=Spelling.SHOWN).schema
        for member in pa.ipc.read_schema(pa.py_buffer(message)):
            assert pa.types.is_string(member.type) or pa.types.is_primitive(member.type), (name, member)


def test_times_without_a_zone_are_utc_all_the_same(engine: QueryEngine) -> None:
    sql = "SELECT time, [time] AS many, TIMESTAMPTZ '2024-01-31 12:00:00+00' AS zoned, TIMESTAMP_S '2024-01-31 12:00:00' AS s"

    plain = ask(engine, f"{sql} FROM log_entries", Spelling.PLAIN)
    unzoned = ask(engine, f"{sql} FROM log_entries", Spelling.UNZONED)

    assert unzoned.schema.types == [
        pa.timestamp("ns"),
        pa.list_(pa.field("l", pa.timestamp("ns"))),
        *[pa.timestamp("ns")] * 2,
    ]
    for name in ("time", "zoned", "s"):
        assert unzoned.column(name).cast(pa.int64()) == plain.column(name).cast(pa.int64())
