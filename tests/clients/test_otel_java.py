"""The published SDK of OpenTelemetry for Java, over HTTP and gRPC: every span, line and point is there, row by row."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.support.java import with_packages
from tests.support.otel_sdk import assert_everything_is_a_row
from tests.support.serving import Server

SOURCE = Path(__file__).parent / "otel_java"
pytestmark = [pytest.mark.needs("java"), pytest.mark.needs("mvn"), pytest.mark.needs("registry")]


@pytest.fixture(scope="module")
def sender(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the program with the packages that it needs."""
    return with_packages(SOURCE, tmp_path_factory.mktemp("otel-java") / "sender")


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_everything_that_the_sdk_sends_is_a_row(server: Server, sender: Path, protocol: str) -> None:
    service = f"otel-java-{protocol}"
    endpoint = server.http if protocol == "http" else server.otlp_grpc

    ran = subprocess.run(
        ["java", "-Dfile.encoding=UTF-8", "-cp", "lib/*", "Sender.java", protocol, endpoint, service],
        cwd=sender,
        capture_output=True,
        encoding="utf-8",
        timeout=120,
    )

    assert ran.returncode == 0, ran.stderr
    assert_everything_is_a_row(server, service, json.loads(ran.stdout))
