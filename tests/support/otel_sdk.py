"""What programs with an SDK of OpenTelemetry say that they sent, against what stands in the tables."""

from __future__ import annotations

import json
from typing import Any

from tests.support.comparison import assert_same_rows
from tests.support.fixtures import rows_of
from tests.support.serving import Server


def assert_everything_is_a_row(server: Server, service: str, sent: dict[str, Any]) -> str:
    """``sent`` has spans, logs and metrics, as rows. Returns the id of the one process that sent them."""
    ids: list[str] = server.query("SELECT process_id FROM processes WHERE exe = ?", [service]).column(0).to_pylist()
    assert len(ids) == 1
    assert_same_rows(spans(server, ids[0]), [as_json(row) for row in sent["spans"]], "spans")
    assert_same_rows(lines(server, ids[0]), sent["logs"], "logs")
    metrics = [as_json(row) | {"value": float(row["value"])} for row in sent["metrics"]]
    assert_same_rows(points(server, ids[0]), metrics, "metrics")
    return ids[0]


def as_json(row: dict[str, Any]) -> dict[str, Any]:
    """Lists and objects as the text that columns have."""
    return {k: json.dumps(v, sort_keys=True) if isinstance(v, list | dict) else v for k, v in row.items()}


def spans(server: Server, process_id: str) -> list[dict[str, Any]]:
    rows = rows_of(server.query(f"SELECT * FROM view_instance('otel_spans', '{process_id}')"))
    for row in rows:
        for name in ("trace_id", "span_id", "parent_span_id"):
            row[name] = None if row[name] is None else row[name].hex()
        for name in ("events", "links"):
            row[name] = json.dumps(json.loads(row[name]), sort_keys=True)
    return [{name: row[name] for name in row if name in _OF_SPANS} for row in rows]


_OF_SPANS = (
    "trace_id", "span_id", "parent_span_id", "start_time", "end_time", "duration", "name", "kind", "status",
    "status_message", "properties", "events", "links",
)  # fmt: skip


def lines(server: Server, process_id: str) -> list[dict[str, Any]]:
    rows = rows_of(server.query(f"SELECT * FROM view_instance('log_entries', '{process_id}')"))
    found = []
    for row in rows:
        properties = json.loads(row["properties"])
        found.append(
            {name: row[name] for name in ("target", "level", "msg")} | {k: properties[k] for k in ("order", "vip")}
        )
        assert properties["otel.scope.name"] == row["target"]
    return found


def points(server: Server, process_id: str) -> list[dict[str, Any]]:
    columns = "target, name, unit, value, properties"
    return rows_of(server.query(f"SELECT {columns} FROM view_instance('measures', '{process_id}')"))
