"""The published SDK of OpenTelemetry for JavaScript, which writes JSON: every span, line and point is there, row by row."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.otel_sdk import assert_everything_is_a_row
from tests.support.serving import Server

SOURCE = Path(__file__).parent / "otel_js"
pytestmark = [pytest.mark.needs("node"), pytest.mark.needs("npm"), pytest.mark.needs("registry")]


@pytest.fixture(scope="module")
def sender(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the program with the packages that it needs."""
    folder = tmp_path_factory.mktemp("otel-js") / "sender"
    shutil.copytree(SOURCE, folder)
    subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--silent"], cwd=folder, check=True, timeout=300)
    return folder


def test_everything_that_the_sdk_sends_is_a_row(server: Server, sender: Path) -> None:
    ran = subprocess.run(
        ["node", "send.js", server.http, "otel-js"], cwd=sender, capture_output=True, text=True, timeout=120
    )

    assert ran.returncode == 0, ran.stderr
    assert_everything_is_a_row(server, "otel-js", json.loads(ran.stdout))
