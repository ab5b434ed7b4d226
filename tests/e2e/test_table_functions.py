"""``parse_block``, ``list_view_sets``, ``list_partitions``: in any statement, with any arguments, or refused in words."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from lakeflight.wire.compression import compress
from lakeflight.wire.envelope import decode_block, encode_block, encode_payload
from tests.support.fixtures import otlp_cases
from tests.support.programs import Program
from tests.support.serving import Server

NOWHERE = "00000000-0000-4000-8000-00000000dead"


@pytest.fixture(scope="module")
def program(server: Server) -> Program:
    sent = Program()
    server.replay([*sent.registration(), sent.thread_block(frames=2), *sent.async_requests()])
    return sent


@pytest.fixture(scope="module")
def block_id(server: Server, program: Program) -> str:
    found = server.query(f"SELECT block_id FROM blocks WHERE stream_id = '{program.thread_stream}'").to_pylist()
    return str(found[0]["block_id"])


def test_a_block_is_read_as_it_was_sent(server: Server, block_id: str) -> None:
    rows = server.query(f"SELECT * FROM parse_block('{block_id}') ORDER BY object_index").to_pylist()

    assert [row["object_index"] for row in rows] == list(range(len(rows)))
    assert [json.loads(row["value"])["__type"] for row in rows] == [row["type_name"] for row in rows]
    first = json.loads(rows[0]["value"])
    assert first["thread_span_desc"]["name"] == "Frame" and first["thread_span_desc"]["__type"] == "SpanRecord"


def test_it_stands_wherever_a_table_does(server: Server, block_id: str) -> None:
    joined = server.query(
        """
        WITH objects AS (SELECT * FROM parse_block(?))
        SELECT count(*) AS events, any_value(b.nb_objects) AS sent, count(DISTINCT o.type_name) AS types
        FROM objects o JOIN blocks b ON b.block_id = ?
        WHERE EXISTS (SELECT 1 FROM parse_block(?) other WHERE other.object_index = o.object_index)
        """,
        (block_id.upper(), block_id, block_id),
    ).to_pylist()

    assert joined == [{"events": joined[0]["sent"], "sent": joined[0]["sent"], "types": 2}]


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        ("parse_block('x')", "parse_block: 'x' is not a valid block id"),
        ("parse_block(1)", "the first argument of parse_block must be a string literal"),
        ("parse_block()", "parse_block takes a block id, not 0 arguments"),
        (f"parse_block('{NOWHERE}')", f"block {NOWHERE} not found"),
        ("parse_block", r"it is a function, parse_block\(block_id\)"),
        ("list_view_sets(1)", "list_view_sets takes nothing, not 1 arguments"),
        ("list_partitions('x')", "list_partitions takes nothing, not 1 arguments"),
        ("view_instance('list_partitions', 'global')", "list_partitions is a function"),
    ],
)
def test_what_means_nothing_is_refused_in_words(server: Server, call: str, reason: str) -> None:
    with pytest.raises(Exception, match=reason):
        server.query(f"SELECT * FROM {call}")


def test_a_block_outside_of_the_range_is_not_found_and_the_range_is_named(server: Server, block_id: str) -> None:
    headers = {"query_range_begin": "2001-01-01T00:00:00Z", "query_range_end": "2001-01-02T00:00:00Z"}
    with server.connect(headers) as connection, connection.cursor() as cursor:
        with pytest.raises(Exception, match=r"not found between 2001-01-01T00.*wider time range"):
            cursor.execute(f"SELECT * FROM parse_block('{block_id}')")
            cursor.fetch_arrow_table()


def test_a_block_that_cannot_be_decoded_is_named(server: Server) -> None:
    broken = Program()
    request = broken.thread_block(frames=2)
    block = replace(decode_block(request.body), payload=encode_payload(compress(b""), compress(b"\xff" * 9)))
    server.replay([*broken.registration(), replace(request, body=encode_block(block))])

    with pytest.raises(Exception, match=f"block {block.block_id} cannot be decoded: object at byte 0 has the unknown"):
        server.query(f"SELECT * FROM parse_block('{block.block_id}')")


def test_blocks_of_opentelemetry_have_their_records(server: Server) -> None:
    (case,) = otlp_cases()[:1]
    server.replay(case.requests)
    blocks = server.query(
        f"""SELECT block_id, nb_objects, "streams.format" AS format FROM blocks WHERE process_id = '{case.process_id}'"""
    ).to_pylist()
    of = {row["format"].removeprefix("otlp/v1/"): row["block_id"] for row in blocks}

    spans = server.query(
        f"""
        SELECT count(*) AS rows, count(s.span_id) AS spans, any_value(o.type_name) AS type_name,
               bool_and((o.value ->> '$.name') = s.name AND (o.value ->> '$.__scope."otel.scope.name"') IS NOT NULL
                        AND (o.value ->> '$.startTimeUnixNano') = epoch_ns(s.start_time)::VARCHAR
                        AND coalesce(json_array_length(o.value -> '$.events'), 0) = json_array_length(s.events)
               ) AS agree
        FROM parse_block('{of["traces"]}') o
        LEFT JOIN view_instance('otel_spans', '{case.process_id}') s ON (o.value ->> '$.spanId') = lower(hex(s.span_id))
        """
    ).to_pylist()
    logs = server.query(
        f"""
        SELECT object_index, value -> '$.__attributes' AS own, value ->> '$.__resource."service.name"' AS service
        FROM parse_block('{of["logs"]}') ORDER BY object_index
        """
    ).to_pylist()
    points = server.query(
        f"SELECT DISTINCT type_name, value ->> '$.__metric.name' AS name FROM parse_block('{of['metrics']}')"
    ).to_pylist()

    sent = {row["block_id"]: row["nb_objects"] for row in blocks}
    assert spans == [{"rows": sent[of["traces"]], "spans": sent[of["traces"]], "type_name": "otlp.Span", "agree": True}]
    assert [row["object_index"] for row in logs] == list(range(sent[of["logs"]]))
    assert len({row["service"] for row in logs}) == 1 and logs[0]["service"]
    assert any(json.loads(row["own"]) for row in logs)
    types = {row["type_name"] for row in points}
    assert {"otlp.NumberDataPoint", "otlp.HistogramDataPoint"} <= types and all(row["name"] for row in points)


def test_view_sets_are_listed_global_ones_first(server: Server) -> None:
    rows = server.query("SELECT * FROM list_view_sets()").to_pylist()

    names = [row["view_set_name"] for row in rows]
    assert {"log_entries", "measures", "thread_spans", "processes", "log_stats"} < set(names)
    assert "parse_block" not in names and "process_spans" not in names
    available = [row["global_instance_available"] for row in rows]
    assert available == sorted(available, reverse=True)
    of = {row["view_set_name"]: (row["has_view_maker"], row["global_instance_available"]) for row in rows}
    assert (of["log_entries"], of["processes"], of["thread_spans"]) == ((True, True), (False, True), (True, False))
    assert all(row["current_schema_hash"] and "Field" in row["schema"] for row in rows)
    for name in server.query("SHOW TABLES").column("table_name").to_pylist():
        assert of[name][1]


def test_partitions_are_listed_with_what_they_hold(server: Server, program: Program) -> None:
    instance = program.thread_stream
    spans = server.query(f"SELECT count(*) AS n FROM view_instance('thread_spans', '{instance}')").to_pylist()

    (found,) = server.query(
        f"""
        SELECT p.*, v.current_schema_hash = p.file_schema_hash AS is_current
        FROM list_partitions() p JOIN list_view_sets() v USING (view_set_name)
        WHERE view_instance_id = '{instance}' AND view_set_name = 'thread_spans'
        """
    ).to_pylist()

    assert found["num_rows"] == spans[0]["n"] and found["is_current"]
    assert found["begin_insert_time"] < found["end_insert_time"] and found["file_size"] > 0 and found["file_path"]
    assert found["min_event_time"] <= found["max_event_time"]
