"""What an OpenTelemetry SDK sent, through HTTP, the object store, Parquet, DuckDB and ADBC: the rows that were recorded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.comparison import assert_same_rows
from tests.support.fixtures import Case, otlp_cases, rows_of
from tests.support.serving import Server, start

CASES = pytest.mark.parametrize("case", otlp_cases(), ids=lambda case: case.name)
VIEW_SETS = ("processes", "streams", "blocks", "log_entries", "measures", "otel_spans")


@CASES
@pytest.mark.parametrize("view_set", VIEW_SETS)
def test_a_recorded_sdk_answers_the_recorded_rows(server: Server, case: Case, view_set: str) -> None:
    server.replay(case.requests)

    assert_same_rows(answers(server, case, view_set), recorded(case, view_set), f"{case.name}: {view_set}")


@CASES
def test_sending_everything_twice_changes_nothing(server: Server, case: Case) -> None:
    server.replay(case.requests)
    before = {view_set: answers(server, case, view_set) for view_set in VIEW_SETS}

    server.replay([request for request in case.requests for _ in range(2)])

    for view_set in VIEW_SETS:
        assert_same_rows(answers(server, case, view_set), before[view_set], view_set)


@CASES
def test_a_kill_of_everything_loses_nothing_that_was_acknowledged(tmp_path: Path, case: Case) -> None:
    server = start(tmp_path)
    try:
        server.replay(case.requests[:1])  # the first to come says when the process began
        server.kill()
        server = start(tmp_path)
        assert_same_rows(answers(server, case, "otel_spans"), recorded(case, "otel_spans"), "otel_spans")
        server.replay(list(reversed(case.requests)))
        for view_set in VIEW_SETS:
            assert_same_rows(answers(server, case, view_set), recorded(case, view_set), view_set)
    finally:
        server.kill()


def answers(server: Server, case: Case, view_set: str) -> list[dict[str, Any]]:
    sql = case.description["queries"][view_set]["sql"]
    for name in ("properties", "process_properties"):  # ours are JSON text already
        sql = sql.replace(f"jsonb_format_json({name}) AS {name}", name)
    return rows_of(server.query(sql))


def recorded(case: Case, view_set: str) -> list[dict[str, Any]]:
    """As it was recorded, with arrays among the properties of a process as JSON in place of the original's debug text."""
    rows = case.expected(view_set)
    for row in rows:
        for name in {"properties", "process_properties"} & row.keys():
            properties = json.loads(row[name])
            if "otel.resource.tags" in properties:
                properties["otel.resource.tags"] = '["a","b"]'
            row[name] = json.dumps(properties)
        for name in {"events", "links"} & row.keys():
            row[name] = json.dumps(json.loads(row[name]), sort_keys=True, separators=(",", ":"))
    return rows
