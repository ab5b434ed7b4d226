"""The published SDK of OpenTelemetry for Python, over HTTP and gRPC: every span, line and point is there, row by row."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.otel_sdk import assert_everything_is_a_row
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
    process_id = assert_everything_is_a_row(server, service, sent)
    counted = "SELECT nb_objects FROM blocks WHERE process_id = ? AND array_has(\"streams.tags\", 'metrics')"
    assert server.query(counted, [process_id]).column(0).to_pylist() == [sent["points"]]
