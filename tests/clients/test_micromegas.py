"""The stock Python client of micromegas, from the registry, against a server with recorded telemetry.

It runs in an environment of its own: it pins versions of protobuf and pyarrow that are not ours.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.support.comparison import assert_same_rows
from tests.support.fixtures import OWN_CASES, ROOT, Case, rows_of
from tests.support.jsonb import decoded
from tests.support.perfetto_traces import decode
from tests.support.serving import Server, serving, wait_out_the_hour

PAGE = ROOT / "docs" / "compatibility.md"
ASK = Path(__file__).parent / "micromegas" / "ask.py"
PACKAGE = "micromegas==0.32.*"
THREAD = "thread_spans_"
pytestmark = pytest.mark.needs("registry")

TIME = pa.timestamp("ns", "+00:00")
TEXT, FEW, DOCUMENT = (
    pa.dictionary(index, value)
    for index, value in ((pa.int32(), pa.string()), (pa.int16(), pa.string()), (pa.int32(), pa.binary()))
)
S, I64, I32, U32, B = pa.string(), pa.int64(), pa.int32(), pa.uint32(), pa.binary()
TAGS = pa.list_(pa.field("l", pa.string()))


def columns(kind: Any, names: str) -> dict[str, Any]:
    return dict.fromkeys(names.split(), kind)


SPAN = {
    **columns(I64, "id parent"),
    **columns(U32, "depth hash"),
    **columns(TIME, "begin end"),
    "duration": I64,
    **columns(TEXT, "name target filename"),
    "line": U32,
}
SOURCE = {
    **columns(TEXT, "process_id stream_id block_id"),
    "insert_time": TIME,
    **columns(TEXT, "exe username computer"),
    "time": TIME,
}
SHAPES: dict[str, dict[str, Any]] = {
    "processes": {
        **columns(S, "process_id exe username realname computer distro cpu_brand"),
        "tsc_frequency": I64,
        "start_time": TIME,
        "start_ticks": I64,
        "insert_time": TIME,
        "parent_process_id": S,
        "properties": DOCUMENT,
        "last_update_time": TIME,
        "last_block_end_ticks": I64,
        "last_block_end_time": TIME,
    },
    "thread_spans": SPAN,
    "process_spans": {"stream_id": FEW, "thread_name": FEW, **SPAN},
    "log_entries": {
        **SOURCE,
        "target": TEXT,
        "level": I32,
        "msg": S,
        "properties": DOCUMENT,
        "process_properties": DOCUMENT,
    },
    "measures": {
        **SOURCE,
        **columns(TEXT, "target name unit"),
        "value": pa.float64(),
        **columns(DOCUMENT, "properties process_properties"),
    },
    "images": {**SOURCE, "name": S, "format": TEXT, "payload_size": I64, "data": B},
    "list_partitions": {
        **columns(S, "view_set_name view_instance_id"),
        **columns(TIME, "begin_insert_time end_insert_time min_event_time max_event_time updated"),
        "file_path": S,
        "file_size": I64,
        "file_schema_hash": B,
        "source_data_hash": B,
        "num_rows": I64,
        "partition_format_version": I32,
        "sort_order": TAGS,
        "max_sort_key_time": TIME,
    },
    "list_view_sets": {
        "view_set_name": S,
        "current_schema_hash": B,
        "schema": S,
        **columns(pa.bool_(), "has_view_maker global_instance_available"),
    },
    "parse_block": {"value": B},
    "payloads": {"block_id": S, "payload_size": I64, "payload": B},
    "members": {"key": S, "value": B},
    "property": {"thread": TEXT},
}


@dataclass(frozen=True)
class Asked:
    """What the client wrote down."""

    folder: Path
    answers: dict[str, Any]
    case: Case
    block_count: int

    def table(self, name: str, folder: str = "plain") -> pa.Table:
        return pa.ipc.open_stream((self.folder / folder / f"{name}.arrow").read_bytes()).read_all()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One of its own: what is counted is all that there is."""
    with serving(tmp_path_factory.mktemp("lake")) as running:
        yield running


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment that has the client, and nothing of ours."""
    folder = tmp_path_factory.mktemp("micromegas") / "env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=120)
    program = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(program), "install", "--quiet", PACKAGE]
    installed = subprocess.run(pip, capture_output=True, text=True, timeout=500)
    if installed.returncode != 0:
        pytest.skip(f"{PACKAGE} cannot be had from the registry: {installed.stderr.strip().splitlines()[-1:]}")
    return program


@pytest.fixture(scope="module")
def asked(server: Server, python: Path, tmp_path_factory: pytest.TempPathFactory) -> Asked:
    case = Case(OWN_CASES / "craft-3")
    wait_out_the_hour()  # trees are cut where it ends
    server.replay(case.requests)
    (thread,) = [name.removeprefix(THREAD) for name in case.description["queries"] if name.startswith(THREAD)]
    folder = tmp_path_factory.mktemp("answers")
    command = [python, ASK, server.flight, folder, case.process_id, thread, case.description["query_range"][0]]
    ran = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr[-4000:]
    answers = json.loads((folder / "answers.json").read_text())
    return Asked(folder, answers, case, case.description["queries"]["blocks"]["rows"])


def decoded_rows(table: pa.Table) -> list[dict[str, Any]]:
    """Rows with documents as JSON text, as the recording has them."""
    documents = [field.name for field in table.schema if field.name.endswith("properties")]
    return [
        {**row, **{name: json.dumps(decoded(row[name])) for name in documents if row[name] is not None}}
        for row in rows_of(table)
    ]


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_columns_have_the_names_the_order_and_the_types_of_the_original(asked: Asked, name: str) -> None:
    assert dict(zip(*_shape(asked.table(name, "dictionaries")), strict=True)) == SHAPES[name]
    assert asked.table(name, "dictionaries").column_names == list(SHAPES[name])

    names, kinds = _shape(asked.table(name))
    plain = {one: kind.value_type if pa.types.is_dictionary(kind) else kind for one, kind in SHAPES[name].items()}
    assert dict(zip(names, kinds, strict=True)) == plain


def _shape(table: pa.Table) -> tuple[list[str], list[Any]]:
    return table.schema.names, table.schema.types


@pytest.mark.parametrize("folder", ["plain", "dictionaries"])
@pytest.mark.parametrize(
    ("name", "recorded"),
    [
        ("log_entries", "log_entries"),
        ("measures", "measures"),
        ("async_events", "async_events"),
        ("net_spans", "net_spans"),
        ("images", "images"),
        ("process_spans", "process_spans_both"),
        ("thread_spans", ""),
        ("processes", "processes"),
        ("blocks", "blocks"),
    ],
)
def test_rows_are_those_of_the_original(asked: Asked, folder: str, name: str, recorded: str) -> None:
    recorded = recorded or next(query for query in asked.case.description["queries"] if query.startswith(THREAD))

    assert_same_rows(decoded_rows(asked.table(name, folder)), asked.case.expected(recorded), name)


def test_documents_are_the_bytes_of_the_original(asked: Asked) -> None:
    name_value = bytes.fromhex("400000011000000410000005") + b"namevalue"

    [row] = asked.table("document").to_pylist()

    assert row["j"] == name_value
    assert (row["half"], row["count(*)"]) == (0.5, 103)
    assert asked.table("document").schema.field("levels").type == pa.int64()
    assert [(row["key"], decoded(row["value"])) for row in asked.table("members").to_pylist()] == [("name", "value")]


def test_payloads_are_as_long_as_their_blocks_say(asked: Asked) -> None:
    rows = asked.table("payloads").to_pylist()

    assert len(rows) == asked.block_count
    assert all(len(row["payload"]) == row["payload_size"] for row in rows)


def test_statements_of_frame_reports_find_the_thread_and_its_frames(asked: Asked) -> None:
    [stream] = asked.table("main_thread").to_pylist()
    [lifetime] = rows_of(asked.table("stream_range"))
    frames, spans = rows_of(asked.table("frames")), rows_of(asked.table("spans_by_name"))

    assert stream["stream_id"] in asked.answers["cpu_streams"]
    assert lifetime["begin_time"] < lifetime["end_time"]
    assert frames and all(frame["begin"] <= frame["end"] for frame in frames)
    assert len(spans) == asked.table("thread_spans").num_rows
    assert [row["exe"] for row in asked.table("search").to_pylist()] == asked.answers["found"]
    assert asked.table("start_time").num_rows == 1


def test_the_methods_of_the_client_answer(asked: Asked) -> None:
    answers, queries = asked.answers, asked.case.description["queries"]

    assert answers["version"].startswith("0.32.")
    assert answers["found"] == [row["exe"] for row in asked.case.expected("processes")]
    assert answers["streams"] == queries["streams"]["rows"] == len(answers["streams_of_process"])
    assert set(answers["streams_of_process"]) == {asked.case.process_id}
    assert len(answers["blocks"]) == 2 and len(set(answers["blocks"])) == 1
    assert answers["spans"] == 5
    assert answers["batches"] == queries["log_entries"]["rows"]
    assert answers["out_of_range"] == 0
    assert answers["pandas"]["time"] == "datetime64[ns, UTC]"
    assert answers["prepared"] == "count(*): int64 not null"
    assert answers["prepared_rows"] == [[{"count(*)": queries["log_entries"]["rows"]}]]
    assert (answers["incompatible"][4:6], answers["retired"]) == (
        ["incompatible_schema_hash", "current_schema_hash"],
        0,
    )


def test_its_functions_for_administrators_do_what_they_say(asked: Asked) -> None:
    said = asked.answers["administered"]

    assert set(said) == {"materialize", "regenerate", "retire", "retire_one", "retire_file"}
    assert said["retire_one"][0].startswith("ERROR: Partition not found: log_entries/global [2024-01-01T00:00:00Z")
    assert said["retire_file"] == ["ERROR: Partition not found: x"]


def test_a_trace_that_it_writes_has_every_span(asked: Asked) -> None:
    trace = decode((asked.folder / "trace.perfetto").read_bytes())

    assert len(trace.slices) == asked.table("process_spans").num_rows


def test_views_and_functions_that_its_pages_name_are_there(asked: Asked) -> None:
    tables = {row["table_name"] for row in asked.table("show_tables").to_pylist()}

    assert {"log_entries", "log_stats", "measures", "processes", "streams", "blocks"} <= tables
    assert tables == {row["table_name"] for row in asked.table("information").to_pylist()}
    assert sum(row["count"] for row in asked.table("histogram").to_pylist()) == asked.table("measures").num_rows
    assert asked.table("as_dictionary")["n"].to_pylist() == [
        len(decoded(row["properties"])) for row in asked.table("processes").to_pylist()
    ]


@pytest.mark.parametrize(
    ("name", "kind", "instead"),
    [
        ("definitions", "ArrowInvalid", "list_view_sets() shows what there is"),
        ("create_view", "ArrowInvalid", "statements cannot change views"),
        ("replace_view", "ArrowInvalid", "statements cannot change views"),
        ("drop_view", "ArrowInvalid", "statements cannot change views"),
        ("denials", "ArrowInvalid", "the limits of each identity"),
        ("deny", "ArrowInvalid", "the limits of each identity"),
        ("allow", "ArrowInvalid", "the limits of each identity"),
        ("grants", "ArrowInvalid", "has no audiences"),
        ("ingest", "ArrowNotImplementedError", "over HTTP"),
        ("unknown_column", "ArrowInvalid", "nothing"),
        ("syntax", "ArrowInvalid", "syntax error"),
    ],
)
def test_what_there_is_not_is_refused_with_what_there_is(asked: Asked, name: str, kind: str, instead: str) -> None:
    given_kind, message = asked.answers["refused"][name]

    assert given_kind == kind
    assert instead in message
    assert "(query_id=" in message and "Traceback" not in message


def test_what_its_page_shows_runs(server: Server, python: Path, asked: Asked) -> None:
    section = PAGE.read_text().partition("## The Python client of micromegas")[2]
    example = section.partition("```python\n")[2].partition("```")[0]
    assert "grpc://localhost:50051" in example and "hours=1" in example
    program = example.replace("grpc://localhost:50051", server.flight).replace("hours=1", "days=10_000")

    ran = subprocess.run(
        [str(python), "-c", f"{program}\nprint(list(lines.columns), len(lines))"],
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip() == "['time', 'level', 'msg', 'rule'] 10"
