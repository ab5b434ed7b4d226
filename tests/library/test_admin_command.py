"""``lakeflight admin``: a line for each step, a bar on a terminal alone, exit codes for scripts."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.flight as flight
import pytest

from lakeflight.__main__ import run as main
from lakeflight.commands import terminal
from tests.support.fake_flight import FakeFlight, Laid, fake_flight
from tests.support.ports import REFUSED

WINDOW = ["--begin", "2026-01-31T12:00:00Z", "--end", "2026-02-01"]
VALUES = ["2026-01-31T12:00:00.000000000Z", "2026-02-01T00:00:00.000000000Z"]


def told(*messages: str, parameters: int = 4) -> Laid:
    batches = [pa.record_batch({"time": pa.array([1], pa.timestamp("ns", "UTC")), "msg": [text]}) for text in messages]
    return Laid(batches, parameters=[pa.field(f"p{number}", pa.null()) for number in range(parameters)])


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeFlight]:
    with fake_flight() as running:
        running.answers[None] = told("1 of 2: log_entries made", "2 of 2: log_entries made")
        monkeypatch.setenv("LAKEFLIGHT_SERVER", running.uri)
        monkeypatch.delenv("LAKEFLIGHT_TOKEN", raising=False)
        yield running


@pytest.mark.parametrize(
    ("words", "sql", "values"),
    [
        (["materialize", "log_entries"], "materialize_partitions(?, ?, ?, ?)", ["log_entries", *VALUES, 3600]),
        (
            ["regenerate", "it's", "--step", "1d", "--dry-run"],
            "regenerate_partitions_dry_run(?, ?, ?, ?)",
            ["it's", *VALUES, 86400],
        ),
        (["retire", "log_entries", "global"], "retire_partitions(?, ?, ?, ?)", ["log_entries", "global", *VALUES]),
        (["retire", "v", "p", "--dry-run"], "retire_partitions_dry_run(?, ?, ?, ?)", ["v", "p", *VALUES]),
    ],
)
def test_each_action_is_one_statement_whose_steps_are_lines(
    server: FakeFlight, capsys: pytest.CaptureFixture[str], words: list[str], sql: str, values: list[object]
) -> None:
    assert main(["admin", *words, *WINDOW]) == terminal.OK

    assert server.asked.sql == [f"SELECT time, msg FROM {sql}"]
    assert server.asked.parameters == [values]
    printed = capsys.readouterr()
    assert printed.out == "1 of 2: log_entries made\n2 of 2: log_entries made\n"
    assert printed.err == ""


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["retire", "log_entries", "global", "--begin", "yesterday", "--end", "now"], "not a time: 'yesterday'"),
        (["materialize", "log_entries", *WINDOW, "--step", "500ms"], "--step takes whole seconds"),
        (["materialize", "log_entries", *WINDOW, "--step", "long"], "not a span of time: 'long'"),
    ],
)
def test_what_makes_no_sense_is_said_before_the_server_is_asked(
    server: FakeFlight, capsys: pytest.CaptureFixture[str], words: list[str], complaint: str
) -> None:
    assert main(["admin", *words]) == terminal.USAGE

    assert f"lakeflight admin: {complaint}" in capsys.readouterr().err
    assert server.asked.sql == []


def test_a_view_that_is_not_there_is_a_failure_although_the_server_only_says_so(
    server: FakeFlight, capsys: pytest.CaptureFixture[str]
) -> None:
    server.answers[None] = told("can't find view logs")

    assert main(["admin", "materialize", "logs", *WINDOW]) == terminal.FAILED

    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", "lakeflight admin: can't find view logs\n")


def test_a_failure_leaves_what_was_done_on_the_lines_before(
    server: FakeFlight, capsys: pytest.CaptureFixture[str]
) -> None:
    server.answers[None] = told("1 of 2: made")
    server.answers[None].fail_midway = flight.FlightUnavailableError("the store does not answer")

    assert main(["admin", "materialize", "log_entries", *WINDOW]) == terminal.UNAVAILABLE

    printed = capsys.readouterr()
    assert printed.out == "1 of 2: made\n"
    assert "lakeflight admin: " in printed.err and "the store does not answer" in printed.err


def test_nobody_there_is_said_with_the_address(capsys: pytest.CaptureFixture[str]) -> None:
    address = f"grpc://{REFUSED}"

    assert main(["admin", "retire", "v", "global", *WINDOW, "--server", address]) == terminal.UNAVAILABLE

    assert f"(server {address})" in capsys.readouterr().err


def test_on_a_terminal_a_bar_shows_how_far_it_is(server: FakeFlight) -> None:
    server.answers[None].pause_s = 1.0
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "lakeflight", "admin", "materialize", "log_entries", *WINDOW]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, text=True) as running:
        os.close(theirs)
        lines = running.stdout.read() if running.stdout is not None else ""
    drawn = os.read(ours, 1 << 20).decode()
    os.close(ours)

    assert lines.splitlines() == ["1 of 2: log_entries made", "2 of 2: log_entries made"]
    assert "[############------------] 1/2" in drawn
