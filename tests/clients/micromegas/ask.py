"""Asks a server everything that the stock micromegas client asks, and writes down what it got.

Usage: ask.py URI FOLDER PROCESS THREAD BEGIN. Runs in an environment of its own, which has ``micromegas`` and nothing of
lakeflight. Tables are Arrow streams in files of the folder, by name; ``answers.json`` has the rest, and every error by its Python type.
"""

from __future__ import annotations

import datetime
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import micromegas
import pyarrow as pa
from micromegas import admin, perfetto
from micromegas.flightsql.client import FlightSQLClient

URI, FOLDER, PROCESS, THREAD, BEGIN = sys.argv[1:]
NOW = datetime.datetime.now(datetime.timezone.utc)  # noqa: UP017  what its users write
SINCE = datetime.datetime.fromisoformat(BEGIN)
HOUR = NOW.replace(minute=0, second=0, microsecond=0)
NEXT_HOUR = HOUR + datetime.timedelta(hours=1)
THEN = "2024-01-01T00:00:00+00:00"

STATEMENTS = {
    "processes": "SELECT * FROM processes",
    "blocks": "\n  -- all of them\n SELECT * FROM blocks ; ",
    "log_entries": f"SELECT * FROM view_instance('log_entries', '{PROCESS}')",
    "measures": f"SELECT * FROM view_instance('measures', '{PROCESS}')",
    "thread_spans": f"SELECT * FROM view_instance('thread_spans', '{THREAD}')",
    "async_events": f"SELECT * FROM view_instance('async_events', '{PROCESS}')",
    "net_spans": f"SELECT * FROM view_instance('net_spans', '{PROCESS}')",
    "images": f"SELECT * FROM view_instance('images', '{PROCESS}')",
    "process_spans": f"SELECT * FROM process_spans('{PROCESS}', 'both')",
    "log_stats": "SELECT * FROM log_stats",
    "list_partitions": "SELECT * FROM list_partitions()",
    "list_view_sets": "SELECT * FROM list_view_sets()",
    "parse_block": "SELECT value FROM parse_block('{block}')",
    "payloads": "SELECT block_id, payload_size, get_payload(process_id, stream_id, block_id) AS payload FROM blocks",
    "histogram": "SELECT * FROM expand_histogram((SELECT make_histogram(0, 10, 2, value) FROM measures))",
    "members": 'SELECT key, value FROM jsonb_each(jsonb_parse(\'{{"name":"value"}}\'))',
    "document": 'SELECT jsonb_parse(\'{{"name":"value"}}\') AS j, 0.5 AS half, count(*), sum(level) AS levels FROM log_entries',
    "property": "SELECT property_get(\"streams.properties\", 'thread-name') AS thread FROM blocks",
    "as_dictionary": "SELECT properties_to_dict(properties) AS p, properties_length(properties) AS n FROM processes",
    "show_tables": "SHOW TABLES",
    "information": "SELECT table_name FROM information_schema.tables",
    "main_thread": "SELECT stream_id FROM blocks WHERE process_id = '{process}'"
    " AND array_has(\"streams.tags\", 'cpu') LIMIT 1",
    "stream_range": "SELECT min(begin_time) AS begin_time, max(end_time) AS end_time FROM blocks"
    " WHERE stream_id = '{thread}'",
    "frames": "SELECT begin, end FROM view_instance('thread_spans', '{thread}') WHERE name = '{name}'"
    " AND begin >= '{begin}' ORDER BY begin",
    "spans_by_name": "SELECT name, name as budget, begin, end, duration FROM view_instance('thread_spans', '{thread}')",
    "start_time": "SELECT start_time FROM processes WHERE process_id = '{process}'",
    "search": "SELECT min(begin_time) AS begin_time, max(end_time) AS end_time, process_id,"
    ' "processes.exe" AS exe, "processes.properties" AS properties FROM blocks'
    " WHERE \"end_time\" >= '{begin}' AND \"begin_time\" <= '2100-01-01T00:00:00Z'"
    " AND array_has(\"streams.tags\", 'cpu') GROUP BY process_id, exe, properties",
}
ADMINISTERED: dict[str, Callable[[FlightSQLClient], Any]] = {
    "materialize": lambda client: client.materialize_partitions("log_entries", HOUR, NEXT_HOUR, 3600),
    "regenerate": lambda client: client.regenerate_partitions("log_entries", HOUR, NEXT_HOUR, 3600),
    "retire": lambda client: client.retire_partitions("log_entries", "global", HOUR, NEXT_HOUR),
    "retire_one": lambda client: client.query(
        f"SELECT retire_partition_by_metadata( 'log_entries', 'global', CAST('{THEN}' AS TIMESTAMP),"
        f" CAST('{THEN}' AS TIMESTAMP), decode('00', 'hex') ) as message"
    ),
    "retire_file": lambda client: client.query("SELECT retire_partition_by_file('x') AS message"),
}
REFUSED: dict[str, Callable[[FlightSQLClient], Any]] = {
    "definitions": lambda client: client.query(
        "SELECT view_set_name, definition_sql, update_group, updated_at, updated_by FROM list_view_set_definitions()"
    ),
    "create_view": lambda client: client.query("-- v\nCREATE MATERIALIZED VIEW v AS SELECT 1 AS x"),
    "replace_view": lambda client: client.query("CREATE OR REPLACE MATERIALIZED VIEW v AS SELECT 1 AS x;\n"),
    "drop_view": lambda client: client.query("DROP MATERIALIZED VIEW v"),
    "denials": lambda client: client.query("SELECT * FROM list_query_denials()"),
    "deny": lambda client: client.query("SELECT * FROM deny_queries('client = ''x''', 'why')"),
    "allow": lambda client: client.query("SELECT remove_query_denial('x')"),
    "grants": lambda client: client.query("SELECT * FROM list_audience_grants()"),
    "ingest": lambda client: client.bulk_ingest("processes", pa.table({"process_id": [PROCESS]})),
    "unknown_column": lambda client: client.query("SELECT nothing FROM processes"),
    "syntax": lambda client: client.query("SELECT FROM WHERE"),
}


def main() -> None:
    answers: dict[str, Any] = {"version": micromegas.__version__}
    for folder, preserve in (("plain", False), ("dictionaries", True)):
        client = FlightSQLClient(URI, preserve_dictionary=preserve)
        into = Path(FOLDER) / folder
        into.mkdir(parents=True)
        ask_tables(client, into)
    client = micromegas.connect(URI)
    answers["found"] = client.find_process(PROCESS)["exe"].to_list()
    answers["streams"] = len(client.query_streams(SINCE, NOW, 100))
    answers["streams_of_process"] = client.query_streams(SINCE, NOW, 100, PROCESS)["process_id"].to_list()
    answers["cpu_streams"] = client.query_streams(SINCE, NOW, 100, PROCESS, "cpu")["stream_id"].to_list()
    answers["blocks"] = client.query_blocks(SINCE, NOW, 2, THREAD)["stream_id"].to_list()
    answers["spans"] = len(client.query_spans(SINCE, NOW, 5, THREAD))
    answers["batches"] = sum(batch.num_rows for batch in client.query_stream("SELECT * FROM log_entries", SINCE, NOW))
    answers["out_of_range"] = len(client.query("SELECT * FROM log_entries", SINCE, SINCE + datetime.timedelta(days=1)))
    answers["pandas"] = {
        name: str(kind) for name, kind in client.query("SELECT * FROM log_entries", SINCE, NOW).dtypes.items()
    }
    prepared = client.prepare_statement("SELECT count(*) FROM log_entries")
    answers["prepared"] = str(prepared.dataset_schema)
    answers["prepared_rows"] = [batch.to_pylist() for batch in client.prepared_statement_stream(prepared)]
    perfetto.write_process_trace(client, PROCESS, SINCE, NOW, str(Path(FOLDER) / "trace.perfetto"))
    answers["incompatible"] = list(admin.list_incompatible_partitions(client).columns)
    answers["retired"] = len(admin.retire_incompatible_partitions(client))
    answers["administered"] = {name: said_by(ask(client)) for name, ask in ADMINISTERED.items()}
    answers["refused"] = {name: error_of(ask, client) for name, ask in REFUSED.items()}
    (Path(FOLDER) / "answers.json").write_text(json.dumps(answers))


def said_by(answer: Any) -> list[str]:
    """What it said, whether or not the client makes a table of it; some of its functions only print it."""
    return [] if answer is None else list(answer.iloc[:, -1])


def ask_tables(client: FlightSQLClient, into: Path) -> None:
    known = {"process": PROCESS, "thread": THREAD, "begin": BEGIN, "block": "", "name": ""}
    for name, statement in STATEMENTS.items():
        table = client.query_arrow(statement.format(**known), SINCE, NOW)
        with pa.ipc.new_stream(into / f"{name}.arrow", table.schema) as writer:
            writer.write_table(table)
        if name == "blocks":
            known["block"] = table["block_id"][0].as_py()
        if name == "thread_spans":
            known["name"] = table["name"][table.num_rows - 1].as_py()


def error_of(ask: Callable[[FlightSQLClient], Any], client: FlightSQLClient) -> list[str] | None:
    try:
        ask(client)
    except Exception as error:
        return [type(error).__name__, str(error)]
    return None


if __name__ == "__main__":
    main()
