"""The published SDK of OpenTelemetry for Go, over HTTP and gRPC: every span, line and point is there, row by row."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.otel_sdk import assert_everything_is_a_row
from tests.support.serving import Server

SOURCE = Path(__file__).parent / "otel_go"
pytestmark = [pytest.mark.needs("go"), pytest.mark.needs("registry")]


@pytest.fixture(scope="module")
def sender(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("otel-go") / "sender"
    subprocess.run(["go", "build", "-o", program, "."], cwd=SOURCE, check=True, timeout=580)
    return program


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_everything_that_the_sdk_sends_is_a_row(server: Server, sender: Path, protocol: str) -> None:
    service = f"otel-go-{protocol}"
    endpoint = urlsplit(server.http if protocol == "http" else server.otlp_grpc).netloc

    ran = subprocess.run([str(sender), protocol, endpoint, service], capture_output=True, text=True, timeout=120)

    assert ran.returncode == 0, ran.stderr
    assert_everything_is_a_row(server, service, json.loads(ran.stdout))
