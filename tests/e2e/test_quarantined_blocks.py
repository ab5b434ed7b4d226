"""What is missing in an answer can be looked up: which block, for which view set, since when and why."""

from __future__ import annotations

import json
import uuid
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest

from lakeflight.connection import connect
from lakeflight.wire.envelope import decode_block, encode_block, encode_payload
from tests.support.fixtures import Request
from tests.support.flight_calls import raw_flight
from tests.support.programs import Program
from tests.support.serving import Server, serving

COLUMNS = ["block_id", "stream_id", "process_id", "view_set", "writer_version", "error", "time"]


@dataclass
class Damaged:
    """A server, and a program whose second block of logs cannot be decoded."""

    server: Server
    program: Program = field(default_factory=Program)
    bad_block: str = field(default_factory=lambda: str(uuid.uuid4()))

    @property
    def logs(self) -> str:
        return f"view_instance('log_entries', '{self.program.process_id}')"

    def send(self) -> None:
        program = self.program
        requests = [*program.registration(), program.log_block(), program.log_block(), program.thread_block()]
        payload = encode_payload(b"no LZ4 frame", b"no LZ4 frame")
        bad = replace(decode_block(requests[-2].body), block_id=self.bad_block, payload=payload)
        requests[-2] = Request(requests[-2].path, {}, encode_block(bad))
        self.server.replay(requests)

    def ask(self, sql: str, **headers: str) -> list[dict[str, Any]]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            rows: list[dict[str, Any]] = self.server.query(sql, **headers).to_pylist()
        return rows

    def quarantined(self, condition: str = "true", **headers: str) -> list[str]:
        rows = self.ask(f"SELECT block_id FROM quarantined_blocks WHERE {condition}", **headers)
        return [row["block_id"] for row in rows]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("quarantine")) as running:
        yield running


@pytest.fixture
def damaged(server: Server) -> Damaged:
    made = Damaged(server)
    made.send()
    return made


def test_a_block_that_is_missing_is_named(damaged: Damaged) -> None:
    with connect(damaged.server.flight) as client, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stream = client.query_stream(f"SELECT msg FROM {damaged.logs} ORDER BY time")
        messages = [message for batch in stream for message in batch.column(0).to_pylist()]

    (row,) = damaged.ask(f"SELECT * FROM quarantined_blocks WHERE process_id = '{damaged.program.process_id}'")

    assert stream.missing_blocks == 1
    assert messages == ["line 0", "line 1", "line 2"]
    assert list(row) == COLUMNS
    assert (row["block_id"], row["stream_id"]) == (damaged.bad_block, damaged.program.log_stream)
    assert (row["view_set"], row["process_id"]) == ("log_entries", damaged.program.process_id)
    assert row["writer_version"] >= 1
    assert "LZ4" in row["error"]
    assert abs(row["time"] - datetime.now(UTC)) < timedelta(minutes=5)


def test_flight_info_says_what_earlier_statements_found_missing(damaged: Damaged) -> None:
    sql = f"SELECT msg FROM {damaged.logs}"
    joined = f"{sql} UNION ALL SELECT msg FROM {damaged.logs} WHERE time > '2200-01-01'"
    outside = f"{sql} WHERE time > '2200-01-01'"
    with raw_flight(damaged.server.flight) as client:

        def known(statement: str) -> Any:
            return json.loads(client.app_metadata(statement))

        assert known(sql) == {"missing_blocks": 0}  # nobody has read it yet
        damaged.ask(sql)
        assert known(sql) == known(joined) == {"missing_blocks": 1}
        assert known(outside) == known("SELECT 1") == known("SELECT * FROM processes") == {"missing_blocks": 0}


def test_a_block_that_one_view_set_cannot_read_is_fine_in_others(damaged: Damaged) -> None:
    spans = f"SELECT count(*) AS n FROM view_instance('thread_spans', '{damaged.program.thread_stream}')"
    assert damaged.ask(spans) == [{"n": 11}]
    assert damaged.quarantined(f"process_id = '{damaged.program.process_id}'") == []  # nobody has asked for its logs

    damaged.ask(f"SELECT count(*) FROM {damaged.logs}")
    damaged.ask("SELECT count(*) FROM log_entries")

    rows = damaged.ask(
        "SELECT q.view_set, b.payload_size > 0 AS kept, p.exe FROM quarantined_blocks q JOIN blocks b USING (block_id)"
        f" JOIN processes p ON p.process_id = q.process_id WHERE q.block_id = '{damaged.bad_block}'"
    )
    assert rows == [{"view_set": "log_entries", "kept": True, "exe": "made-up"}]


def test_the_statement_that_finds_a_block_bad_sees_it_quarantined(damaged: Damaged) -> None:
    (row,) = damaged.ask(
        f"SELECT (SELECT count(*) FROM {damaged.logs}) AS lines, (SELECT list(block_id) FROM quarantined_blocks"
        f" WHERE process_id = '{damaged.program.process_id}') AS bad"
    )

    assert row == {"lines": 3, "bad": [damaged.bad_block]}


def test_ids_times_and_headers_choose_rows(damaged: Damaged) -> None:
    damaged.ask(f"SELECT count(*) FROM {damaged.logs}")
    bad, program = damaged.bad_block, damaged.program

    assert bad in damaged.quarantined()
    for condition in (
        f"process_id = '{program.process_id}'",
        f"stream_id = '{program.log_stream}'",
        f"block_id IN ('{bad}', '{uuid.uuid4()}') AND view_set = 'log_entries'",
        f"block_id = '{bad}' AND time > now() - INTERVAL 1 HOUR",
        f"block_id = '{bad}' AND time BETWEEN now() - INTERVAL 1 HOUR AND now() + INTERVAL 1 HOUR",
    ):
        assert damaged.quarantined(condition) == [bad], condition
    for condition in (
        f"stream_id = '{program.thread_stream}'",
        f"block_id = '{bad}' AND view_set = 'measures'",
        f"block_id = '{bad}' AND time < now() - INTERVAL 1 HOUR",
    ):
        assert damaged.quarantined(condition) == [], condition
    hour_ago = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    assert damaged.quarantined(f"block_id = '{bad}'", query_range_begin=hour_ago) == [bad]
    assert damaged.quarantined(f"block_id = '{bad}'", query_range_end=hour_ago) == []


def test_drivers_find_the_table_and_its_schema_is_what_comes(damaged: Damaged) -> None:
    expected = {"writer_version": pa.int32(), "time": pa.timestamp("ns", "UTC")}
    with damaged.server.connect() as connection, connection.cursor() as cursor:
        (found,) = (
            connection.adbc_get_objects(depth="all", table_name_filter="quarantined_blocks").read_all().to_pylist()
        )
        (table,) = found["catalog_db_schemas"][0]["db_schema_tables"]
        declared = connection.adbc_get_table_schema("quarantined_blocks")
        cursor.execute("SELECT * FROM quarantined_blocks")
        given = cursor.fetch_arrow_table().schema

    assert table["table_type"] == "TABLE"
    assert [column["column_name"] for column in table["table_columns"]] == COLUMNS
    assert declared.names == given.names == COLUMNS
    assert declared.types == given.types == [expected.get(name, pa.string()) for name in COLUMNS]
    assert "quarantined_blocks" in [row["table_name"] for row in damaged.ask("SHOW TABLES")]
    assert damaged.ask(
        "SELECT count(*) AS n FROM information_schema.columns WHERE table_name = 'quarantined_blocks'"
    ) == [{"n": len(COLUMNS)}]


def test_the_table_is_its_own_only_instance(damaged: Damaged) -> None:
    damaged.ask(f"SELECT count(*) FROM {damaged.logs}")
    everything = damaged.ask("SELECT * FROM quarantined_blocks ORDER BY ALL")

    assert damaged.ask("SELECT * FROM view_instance('quarantined_blocks', 'global') ORDER BY ALL") == everything != []
    with pytest.raises(Exception, match="quarantined_blocks has no instances"):
        damaged.ask(f"SELECT * FROM view_instance('quarantined_blocks', '{damaged.program.process_id}')")
