"""The published SDK of OpenTelemetry for Python, over HTTP and gRPC: every span, line and point is there, row by row."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.comparison import assert_same_rows
from tests.support.fixtures import rows_of
from tests.support.serving import Server

SEND = Path(__file__).parent / "otel_python" / "send.py"
PACKAGES = (
    "opentelemetry-sdk",
    "opentelemetry-exporter-otlp-proto-http",
    "opentelemetry-exporter-otlp-proto-grpc",
)
pytestmark = pytest.mark.needs("registry")


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment that has the SDK, and nothing of ours."""
    folder = tmp_path_factory.mktemp("otel") / "env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=120)
    program = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(program), "install", "--quiet"]
    subprocess.run([*pip, *PACKAGES], check=True, timeout=500)
    return program


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_everything_that_the_sdk_sends_is_a_row(server: Server, python: Path, protocol: str) -> None:
    service = f"otel-python-{protocol}"
    endpoint = server.http if protocol == "http" else server.otlp_grpc

    ran = subprocess.run(
        [str(python), str(SEND), protocol, endpoint, service], capture_output=True, text=True, timeout=120
    )

    assert ran.returncode == 0, ran.stderr
    sent = json.loads(ran.stdout)
    ids = server.query("SELECT process_id FROM processes WHERE exe = ?", [service]).column(0).to_pylist()
    assert len(ids) == 1, ran.stderr
    assert_same_rows(spans(server, ids[0]), [as_json(row) for row in sent["spans"]], "spans")
    assert_same_rows(lines(server, ids[0]), sent["logs"], "logs")
    assert_same_rows(points(server, ids[0]), [as_json(row) for row in sent["metrics"]], "metrics")
    counted = "SELECT nb_objects FROM blocks WHERE process_id = ? AND array_has(\"streams.tags\", 'metrics')"
    assert server.query(counted, ids).column(0).to_pylist() == [sent["points"]]


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
        assert json.loads(row["process_properties"])["otel.resource.tags"] == '["a","b"]'
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
