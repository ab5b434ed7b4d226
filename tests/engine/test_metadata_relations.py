"""Relations of the catalog's own rows, as made from the snapshots that Postgres hands over."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from lakehouse.engine import Relation, relation_name
from lakehouse.engine.engine import QueryEngine
from lakehouse.engine.metadata_relations import own_columns
from lakehouse.errors import InternalError
from lakehouse.model import EVERYTHING, TimeRange
from tests.support.engine_lake import CATALOG, METADATA, T0, EngineLake, schema_of

Snapshot = Mapping[str, Path]
US = T0 // 1000
HOUR_US = 3_600_000_000


@pytest.fixture(scope="module")
def engine() -> Iterator[QueryEngine]:
    engine = QueryEngine()
    yield engine
    engine.close()


@pytest.fixture
def lake(tmp_path: Path, engine: QueryEngine) -> EngineLake:
    return EngineLake(tmp_path, engine)


def relation(view_set: str, range: TimeRange = EVERYTHING, *, name: str | None = None) -> Relation:
    declared = METADATA[view_set]
    return Relation(
        name or view_set, declared.schema, (), declared.begin_column, declared.end_column, range, metadata=view_set
    )


def write_csv(folder: Path, view_set: str, rows: Sequence[Sequence[Any]]) -> Path:
    """As COPY … WITH (FORMAT csv) does: NULL is empty, an empty text is quoted, quotes are doubled."""

    def field(value: Any) -> str:
        if value is None:
            return ""
        text = str(value)
        needs = text == "" or any(c in text for c in ',"\n\r')
        return '"' + text.replace('"', '""') + '"' if needs else text

    header = [column.name for column in own_columns(METADATA[view_set].schema)]
    path = folder / f"{view_set}.csv"
    path.write_text("".join(",".join(map(field, row)) + "\n" for row in [header, *rows]), encoding="utf-8")
    return path


def process_row(process_id: str, **changes: Any) -> list[Any]:
    row = {
        "process_id": process_id,
        "exe": "game.exe",
        "username": "",
        "realname": 'Ann "A", B',
        "computer": "box",
        "distro": "línea\nzwei",
        "cpu_brand": "cpu",
        "tsc_frequency": 0,
        "start_time": US,
        "start_ticks": 5,
        "insert_time": US + 1,
        "parent_process_id": "",
        "properties": json.dumps({"build": "1.2", "empty": "", 'quo"te': "a,b"}),
        "last_update_time": US + 60,
        "last_block_end_ticks": 77,
        "last_block_end_time": US + 50,
        **changes,
    }
    return [row[column.name] for column in own_columns(METADATA["processes"].schema)]


def stream_row(stream_id: str, process_id: str, tags: Sequence[str] = ("log",)) -> list[Any]:
    row = {
        "stream_id": stream_id,
        "process_id": process_id,
        "dependencies_metadata": "80",
        "objects_metadata": b"\x81\x00\xff".hex(),
        "tags": json.dumps(list(tags)),
        "properties": "{}",
        "insert_time": US + 2,
        "format": "micromegas-transit",
        "last_update_time": US + 60,
    }
    return [row[column.name] for column in own_columns(METADATA["streams"].schema)]


def block_row(block_id: str, stream_id: str, process_id: str, index: int = 0) -> list[Any]:
    row = {
        "block_id": block_id,
        "stream_id": stream_id,
        "process_id": process_id,
        "begin_time": US + index * HOUR_US,
        "begin_ticks": index,
        "end_time": US + index * HOUR_US + 10,
        "end_ticks": index + 1,
        "nb_objects": 3,
        "object_offset": 0,
        "payload_size": 100,
        "insert_time": US + index * HOUR_US + 20,
    }
    return [row[column.name] for column in own_columns(METADATA["blocks"].schema)]


@pytest.fixture
def snapshot(tmp_path: Path) -> Snapshot:
    rows = {
        "processes": [process_row("p1"), process_row("p2", parent_process_id="p1")],
        "streams": [stream_row("s1", "p1"), stream_row("s2", "p2", ("cpu", "thread")), stream_row("s3", "p2", ())],
        "blocks": [block_row("b1", "s1", "p1"), block_row("b2", "s2", "p2", 5)],
        "quarantined_blocks": [
            ["b1", "s1", "p1", "log_entries", 2, 'a "quoted" reason,\non two lines', US],
            ["b1", "s1", "p1", "measures", 1, "", None],
        ],
    }
    return {name: write_csv(tmp_path, name, lines) for name, lines in rows.items()}


@pytest.mark.parametrize("name", METADATA)
def test_columns_and_types_are_the_declared_ones(lake: EngineLake, snapshot: Snapshot, name: str) -> None:
    sql = f"SELECT * FROM {name}"

    delivered = lake.table(sql, relation(name), metadata=snapshot).schema

    assert delivered == schema_of(lake.engine.inspect(sql, None, CATALOG).schema)
    assert delivered.names == METADATA[name].schema.names
    for given, declared in zip(delivered, METADATA[name].schema, strict=True):
        expected = pa.timestamp("ns", "UTC") if pa.types.is_timestamp(declared.type) else declared.type
        assert given.type.equals(expected) or pa.types.is_list(given.type)


def test_a_process_is_shown_as_it_was_registered(lake: EngineLake, snapshot: Snapshot) -> None:
    rows = lake.rows("SELECT * FROM processes ORDER BY process_id", relation("processes"), metadata=snapshot)

    assert [row["process_id"] for row in rows] == ["p1", "p2"]
    assert rows[0] == {
        "process_id": "p1",
        "exe": "game.exe",
        "username": "",
        "realname": 'Ann "A", B',
        "computer": "box",
        "distro": "línea\nzwei",
        "cpu_brand": "cpu",
        "tsc_frequency": 0,
        "start_time": T0,
        "start_ticks": 5,
        "insert_time": T0 + 1_000,
        "parent_process_id": "",
        "properties": [
            {"key": "build", "value": "1.2"},
            {"key": "empty", "value": ""},
            {"key": 'quo"te', "value": "a,b"},
        ],
        "last_update_time": T0 + 60_000,
        "last_block_end_ticks": 77,
        "last_block_end_time": T0 + 50_000,
    }
    assert rows[1]["parent_process_id"] == "p1"


def test_streams_have_their_tags_and_type_tables(lake: EngineLake, snapshot: Snapshot) -> None:
    rows = lake.rows("SELECT * FROM streams ORDER BY stream_id", relation("streams"), metadata=snapshot)

    assert [row["tags"] for row in rows] == [["log"], ["cpu", "thread"], []]
    assert rows[0]["objects_metadata"] == b"\x81\x00\xff"
    assert rows[0]["properties"] == []
    found = lake.rows(
        "SELECT stream_id FROM streams WHERE array_position(tags, 'cpu') IS NOT NULL AND array_has(tags, 'thread')",
        relation("streams"),
        metadata=snapshot,
    )
    assert found == [{"stream_id": "s2"}]


def test_a_block_carries_its_stream_and_process(lake: EngineLake, snapshot: Snapshot) -> None:
    sql = (
        'SELECT block_id, nb_objects, "streams.tags", "processes.exe", "processes.parent_process_id", '
        '"processes.start_time" FROM blocks ORDER BY block_id'
    )

    rows = lake.rows(sql, relation("blocks"), metadata=snapshot)

    assert [row["block_id"] for row in rows] == ["b1", "b2"]
    assert rows[1] == {
        "block_id": "b2",
        "nb_objects": 3,
        "streams.tags": ["cpu", "thread"],
        "processes.exe": "game.exe",
        "processes.parent_process_id": "p1",
        "processes.start_time": T0,
    }


def test_a_row_of_one_file_alone_is_as_it_was_written(lake: EngineLake, snapshot: Snapshot) -> None:
    rows = lake.rows("SELECT * FROM quarantined_blocks", relation("quarantined_blocks"), metadata=snapshot)

    ids = {"block_id": "b1", "stream_id": "s1", "process_id": "p1"}
    assert rows == [
        {
            **ids,
            "view_set": "log_entries",
            "writer_version": 2,
            "error": 'a "quoted" reason,\non two lines',
            "time": T0,
        },
        {**ids, "view_set": "measures", "writer_version": 1, "error": "", "time": None},
    ]


@pytest.mark.parametrize("name", METADATA)
def test_an_instance_has_the_rows_of_the_table(lake: EngineLake, snapshot: Snapshot, name: str) -> None:
    instance = relation(name, name=relation_name(name, "global"))

    rows = lake.rows(f"SELECT * FROM view_instance('{name}', 'global')", instance, metadata=snapshot)

    assert rows == lake.rows(f"SELECT * FROM {name}", relation(name), metadata=snapshot)
    assert len(rows) > 1


def test_the_header_range_is_applied_to_the_finished_rows(lake: EngineLake, snapshot: Snapshot) -> None:
    late = TimeRange(T0 + 5 * HOUR_US * 1_000, None)
    early = TimeRange(None, T0)

    assert lake.rows("SELECT block_id FROM blocks", relation("blocks", late), metadata=snapshot) == [{"block_id": "b2"}]
    assert lake.rows("SELECT block_id FROM blocks", relation("blocks", early), metadata=snapshot) == [
        {"block_id": "b1"}
    ]
    assert lake.rows("SELECT process_id FROM processes", relation("processes", late), metadata=snapshot) == []


def test_relations_of_the_catalog_join_with_each_other(lake: EngineLake, snapshot: Snapshot) -> None:
    sql = "SELECT p.exe, count(*) AS n FROM streams s JOIN processes p USING (process_id) GROUP BY p.exe"

    assert lake.rows(sql, relation("streams"), relation("processes"), metadata=snapshot) == [
        {"exe": "game.exe", "n": 3}
    ]


def test_each_statement_sees_its_own_snapshot(lake: EngineLake, snapshot: Snapshot, tmp_path: Path) -> None:
    count = "SELECT count(*) AS n FROM processes"
    first = lake.rows(count, relation("processes"), metadata=snapshot)
    (tmp_path / "newer").mkdir()
    newer = {"processes": write_csv(tmp_path / "newer", "processes", [process_row(f"q{i}") for i in range(7)])}

    assert (first, lake.rows(count, relation("processes"), metadata=newer)) == ([{"n": 2}], [{"n": 7}])


def test_an_empty_snapshot_is_an_empty_table(lake: EngineLake, tmp_path: Path) -> None:
    files = {name: write_csv(tmp_path, name, []) for name in METADATA}

    for name in METADATA:
        assert lake.rows(f"SELECT * FROM {name}", relation(name), metadata=files) == []


def test_a_wrong_or_absent_snapshot_is_our_fault(lake: EngineLake, snapshot: Snapshot, tmp_path: Path) -> None:
    (tmp_path / "wrong").mkdir()
    wrong = write_csv(tmp_path / "wrong", "processes", [["a", "b"]])

    with pytest.raises(InternalError, match="the snapshot of processes is not as expected"):
        lake.rows("SELECT * FROM processes", relation("processes"), metadata={"processes": wrong})
    with pytest.raises(InternalError, match="there is no snapshot of processes"):
        lake.rows("SELECT * FROM processes", relation("processes"))
    unjoined = {name: path for name, path in snapshot.items() if name != "streams"}
    with pytest.raises(InternalError, match="there is no snapshot of streams"):
        lake.rows("SELECT * FROM blocks", relation("blocks"), metadata=unjoined)


def test_large_type_tables_fit(lake: EngineLake, tmp_path: Path) -> None:
    row = stream_row("s1", "p1")
    row[2] = "ab" * (1 << 20)
    files = {"streams": write_csv(tmp_path, "streams", [row])}

    rows = lake.rows(
        "SELECT octet_length(dependencies_metadata) AS n FROM streams", relation("streams"), metadata=files
    )

    assert rows == [{"n": 1 << 20}]


def test_a_property_of_any_length_breaks_no_query(lake: EngineLake, tmp_path: Path) -> None:
    """A sender may put 100 MiB into one: more than the reader takes at a time."""
    length = 20 << 20
    rows = [
        process_row("before", exe="a"),
        process_row("large", exe="b", properties=json.dumps({"text": "x\n" * (length // 2), "last": "1"})),
        process_row("after", exe="c"),
    ]
    files = {"processes": write_csv(tmp_path, "processes", rows)}

    found = lake.rows(
        "SELECT process_id, exe, len(properties[1].value) AS n, properties[2].value AS last FROM processes ORDER BY exe",
        relation("processes"),
        metadata=files,
    )

    assert [row["process_id"] for row in found] == ["before", "large", "after"]
    assert (found[1]["n"], found[1]["last"]) == (length, "1")


def test_the_writer_of_these_files_is_the_standard_one(tmp_path: Path) -> None:
    path = write_csv(tmp_path, "processes", [process_row("p1")])

    header, row = csv.reader(path.open(newline=""))

    assert header == METADATA["processes"].schema.names
    assert len(row) == len(header)


def test_what_a_statement_does_not_read_need_not_be_there(lake: EngineLake, tmp_path: Path) -> None:
    path = tmp_path / "blocks.csv"
    path.write_text(f"block_id,process_id,begin_time,insert_time\nb1,p1,{US},{US}\nb2,p2,{US},{US}\n")
    only = {"blocks": path}

    for sql, rows in (
        ("SELECT count(*) AS n FROM blocks", [{"n": 2}]),
        ("SELECT block_id FROM blocks WHERE process_id = 'p2'", [{"block_id": "b2"}]),
        (
            "SELECT b.block_id FROM blocks b JOIN blocks c USING (process_id) WHERE c.block_id = 'b1'",
            [{"block_id": "b1"}],
        ),
    ):
        assert lake.rows(sql, relation("blocks"), metadata=only) == rows
        assert lake.rows(sql, relation("blocks", TimeRange(T0, T0)), metadata=only) == rows
    for sql in ('SELECT "processes.exe" FROM blocks', "SELECT nb_objects FROM blocks", "SELECT b FROM blocks b"):
        with pytest.raises(InternalError, match="there is no snapshot of"):
            lake.rows(sql, relation("blocks"), metadata=only)


def test_rows_that_come_with_the_statement_are_a_relation_like_any_other(lake: EngineLake) -> None:
    columns = CATALOG.tables["log_entries"].schema
    schema = pa.schema([columns.field(name) for name in ("level", "time", "msg")])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        writer.write_table(pa.table([[1, 2, None], [T0, T0 + 1, T0 + 2], ["a", None, "c"]], schema=schema))
    late = TimeRange(T0 + 1, None)

    found = lake.rows(
        "SELECT msg, level FROM log_entries ORDER BY time",
        Relation("log_entries", schema, (), "time", "time", late, table=sink.getvalue().to_pybytes()),
    )

    assert found == [{"msg": None, "level": 2}, {"msg": "c", "level": None}]
