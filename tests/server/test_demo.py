"""The demo's last words: what to type next, and where its data lies."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from server.demo import SNIPPET, stop_demo
from tests.support.fake_flight import Laid, fake_flight

_SERVER = """
import pathlib, signal, sys
def end(*_):
    pathlib.Path(sys.argv[1]).unlink()
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
print("ready", flush=True)
signal.pause()
"""


def test_a_demo_that_is_stopped_says_where_its_data_lies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = tmp_path / "server.json"
    with fake_flight() as flight:
        flight.answers[None] = Laid()
        running = subprocess.Popen([sys.executable, "-c", _SERVER, str(told)], stdout=subprocess.PIPE, text=True)
        assert running.stdout is not None
        assert running.stdout.readline() == "ready\n"
        told.write_text(json.dumps({"flight": flight.uri, "http": "", "pid": running.pid}))
        threading.Thread(target=running.wait).start()

        assert stop_demo(tmp_path) == 0

    running.stdout.close()
    assert capsys.readouterr().out == f"the demo server has stopped; its data is still there: {tmp_path}\n"


def test_a_demo_that_does_not_run_says_where_its_data_lies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert stop_demo(tmp_path) == 0
    assert stop_demo(tmp_path / "nothing") == 0

    assert capsys.readouterr().out.splitlines() == [
        f"no demo server is running; its data is still there: {tmp_path}",
        "no demo server is running",
    ]


def test_the_query_to_try_counts_calls_and_no_roots() -> None:
    assert "WHERE depth > 0" in SNIPPET
