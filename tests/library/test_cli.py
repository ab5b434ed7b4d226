"""``lakeflight query``: data on standard output, everything else on standard error, exit codes for scripts."""

from __future__ import annotations

import io
import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.flight as flight
import pyarrow.parquet as pq
import pytest

from lakeflight.__main__ import run as main
from lakeflight.commands import terminal
from lakeflight.commands.answer import progress_text
from lakeflight.commands.terminal import UsageError
from lakeflight.commands.times import parse_span_ns, parse_time
from tests.support.fake_flight import FakeFlight, Laid, fake_flight
from tests.support.ports import REFUSED

ROWS = pa.record_batch({"n": pa.array([1, 20], pa.int64()), "msg": ["a", "b"]})
NOW_NS = 1_700_000_000_000_000_000  # 2023-11-14T22:13:20Z


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeFlight]:
    with fake_flight() as running:
        running.answers[None] = Laid([ROWS])
        monkeypatch.setenv("LAKEFLIGHT_SERVER", running.uri)
        monkeypatch.delenv("LAKEFLIGHT_TOKEN", raising=False)
        yield running


def test_rows_go_to_standard_output_and_the_count_to_standard_error(
    server: FakeFlight, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["query", "SELECT 1"]) == terminal.OK

    printed = capsys.readouterr()
    assert printed.out == " n  msg\n--  ---\n 1  a\n20  b\n"
    assert printed.err.startswith("(2 rows, 0.")


def test_machine_formats_are_silent_beside_the_data(server: FakeFlight, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["query", "SELECT 1", "--format", "jsonl"]) == terminal.OK

    printed = capsys.readouterr()
    assert [json.loads(line) for line in printed.out.splitlines()] == ROWS.to_pylist()
    assert printed.err == ""


def test_timing_says_rows_time_and_query(server: FakeFlight, capsys: pytest.CaptureFixture[str]) -> None:
    main(["query", "SELECT 1", "--format", "csv", "--timing"])

    printed = capsys.readouterr()
    assert printed.out == "n,msg\n1,a\n20,b\n"
    assert "2 rows" in printed.err
    assert "first row after" in printed.err
    assert "query query-1" in printed.err


def test_the_statement_comes_from_an_argument_a_file_or_standard_input(
    server: FakeFlight, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "report.sql"
    file.write_text("SELECT 'file'")
    monkeypatch.setattr(sys, "stdin", io.StringIO("SELECT 'stdin'"))

    assert main(["query", "SELECT 'argument'"]) == terminal.OK
    assert main(["query", "-f", str(file)]) == terminal.OK
    assert main(["query", "-"]) == terminal.OK

    assert server.asked.sql == ["SELECT 'argument'", "SELECT 'file'", "SELECT 'stdin'"]


def test_no_range_is_all_of_time(server: FakeFlight) -> None:
    assert main(["query", "SELECT 1"]) == terminal.OK
    assert main(["query", "SELECT 1", "--all"]) == terminal.OK

    assert not any("query_range_begin" in headers or "query_range_end" in headers for headers in server.asked.headers)


def test_ranges_limit_and_strictness_reach_the_server(server: FakeFlight) -> None:
    main(
        ["query", "SELECT 1", "--begin", "2026-01-31", "--end", "2026-02-01T00:00:00+01:00", "--limit", "5", "--strict"]
    )
    main(["query", "SELECT 1", "--last", "1h"])

    absolute, last = server.asked.headers[0], server.asked.headers[2]
    assert absolute["query_range_begin"] == "2026-01-31T00:00:00.000000000Z"
    assert absolute["query_range_end"] == "2026-01-31T23:00:00.000000000Z"
    assert (absolute["limit"], absolute["x-lakeflight-strict"]) == ("5", "true")
    assert "query_range_end" not in last
    age_s = time.time() - flight_time(last["query_range_begin"])
    assert 3600 <= age_s < 3660


def flight_time(text: str) -> float:
    import datetime

    return datetime.datetime.fromisoformat(text[:19] + "+00:00").timestamp()


def test_parameters_are_bound_by_position(server: FakeFlight) -> None:
    server.answers["SELECT ?, ?"] = Laid([ROWS], parameters=[pa.field("1", pa.int64()), pa.field("2", pa.string())])

    assert main(["query", "SELECT ?, ?", "--param", "17", "--param", "x=y"]) == terminal.OK

    assert server.asked.parameters == [[17, "x=y"]]


@pytest.mark.parametrize("name", ["rows.parquet", "rows.arrow", "rows.arrows", "rows.csv", "rows.jsonl", "rows.json"])
def test_a_file_gets_the_format_of_its_suffix(
    server: FakeFlight, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / name

    assert main(["query", "SELECT 1", "-o", str(path)]) == terminal.OK

    match path.suffix:
        case ".parquet":
            rows = pq.read_table(path).to_pylist()
        case ".arrow":
            assert feather.read_table(path).to_pylist() == ROWS.to_pylist()
            rows = pa.ipc.open_file(path.read_bytes()).read_all().to_pylist()
        case ".arrows":
            rows = pa.ipc.open_stream(path.read_bytes()).read_all().to_pylist()
        case ".json":
            rows = json.loads(path.read_text())
        case ".jsonl":
            rows = [json.loads(line) for line in path.read_text().splitlines()]
        case _:
            assert path.read_text() == "n,msg\n1,a\n20,b\n"
            rows = ROWS.to_pylist()
    assert rows == ROWS.to_pylist()
    assert capsys.readouterr().out == ""
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_no_regular_file_is_written_into_and_stays(server: FakeFlight, tmp_path: Path) -> None:
    """A device that was replaced by a file would be lost to everybody."""
    fifo = tmp_path / "rows"
    os.mkfifo(fifo)
    for format in ("csv", "parquet", "arrow"):
        read: list[bytes] = []
        reader = threading.Thread(target=lambda into: into.append(fifo.read_bytes()), args=(read,))
        reader.start()

        assert main(["query", "SELECT 1", "-o", str(fifo), "--format", format]) == terminal.OK

        reader.join(10)
        if format == "csv":
            assert read == [b"n,msg\n1,a\n20,b\n"]
        elif format == "arrow":  # what is read as it comes is a stream
            assert pa.ipc.open_stream(read[0]).read_all().to_pylist() == ROWS.to_pylist()
        else:
            assert pq.read_table(io.BytesIO(read[0])).to_pylist() == ROWS.to_pylist()
    assert stat.S_ISFIFO(fifo.stat().st_mode)
    assert list(tmp_path.iterdir()) == [fifo]


@pytest.mark.parametrize("there", [True, False])
def test_a_link_is_followed(server: FakeFlight, tmp_path: Path, there: bool) -> None:
    real, link = tmp_path / "elsewhere" / "rows.csv", tmp_path / "latest.csv"
    real.parent.mkdir()
    if there:
        real.write_text("what was there")
    link.symlink_to(real)

    assert main(["query", "SELECT 1", "-o", str(link)]) == terminal.OK

    assert link.is_symlink()
    assert real.read_text() == "n,msg\n1,a\n20,b\n"
    assert list(real.parent.iterdir()) == [real]


def test_a_file_that_is_replaced_keeps_its_mode(server: FakeFlight, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("what was there")
    path.chmod(0o640)
    inode = path.stat().st_ino

    assert main(["query", "SELECT 1", "-o", str(path)]) == terminal.OK

    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert path.stat().st_ino != inode  # whole or not at all: the old file was not written into


def test_an_ending_that_is_not_known_is_refused_unless_the_format_is_said(
    server: FakeFlight, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "rows.xlsx"

    assert main(["query", "SELECT 1", "-o", str(path)]) == terminal.USAGE
    assert ".csv, .json, .jsonl, .ndjson, .parquet, .arrow, .arrows, .txt, or say --format" in capsys.readouterr().err
    assert server.asked.sql == []
    assert main(["query", "SELECT 1", "-o", str(path), "--format", "csv"]) == terminal.OK
    assert path.read_text() == "n,msg\n1,a\n20,b\n"


@pytest.mark.parametrize("name", ["rows", "rows.txt"])
def test_a_name_without_an_ending_and_a_text_file_get_the_table(server: FakeFlight, tmp_path: Path, name: str) -> None:
    assert main(["query", "SELECT 1", "-o", str(tmp_path / name)]) == terminal.OK

    assert (tmp_path / name).read_text().startswith(" n  msg\n")


def test_a_file_that_would_be_incomplete_is_not_left_behind(server: FakeFlight, tmp_path: Path) -> None:
    server.answers[None] = Laid([ROWS], fail_midway=flight.FlightTimedOutError("too slow"))
    path = tmp_path / "rows.csv"
    path.write_text("what was there")

    assert main(["query", "SELECT 1", "-o", str(path)]) == terminal.FAILED

    assert path.read_text() == "what was there"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (pa.ArrowInvalid("Parser Error: near X (query_id=q7)"), terminal.FAILED, "Parser Error: near X"),
        (flight.FlightTimedOutError("too slow"), terminal.FAILED, "too slow"),
        (flight.FlightInternalError("internal error (query_id=q7)"), terminal.FAILED, "internal error"),
        (flight.FlightUnauthenticatedError("no token"), terminal.DENIED, "no token"),
        (flight.FlightUnauthorizedError("not yours"), terminal.DENIED, "not yours"),
        (flight.FlightUnavailableError("draining"), terminal.UNAVAILABLE, "draining"),
    ],
)
def test_exit_codes_say_whose_turn_it_is(
    server: FakeFlight, capsys: pytest.CaptureFixture[str], error: Exception, code: int, said: str
) -> None:
    server.answers[None] = Laid(fail_bind=error)

    assert main(["query", "SELECT 1"]) == code

    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"lakeflight query: {said}")
    assert "gRPC" not in printed.err
    assert len(printed.err.splitlines()) == 1


def test_an_error_names_the_query_for_the_servers_log(server: FakeFlight, capsys: pytest.CaptureFixture[str]) -> None:
    server.answers[None] = Laid(fail_bind=pa.ArrowInvalid("no \x1b[31m such table (query_id=q7)"))

    main(["query", "SELECT 1"])

    said = capsys.readouterr().err
    assert "(query q7)" in said
    assert "\x1b" not in said


def test_nobody_there_is_exit_code_5(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["query", "SELECT 1", "--server", REFUSED]) == terminal.UNAVAILABLE

    assert capsys.readouterr().err == f"lakeflight query: cannot connect: connection refused (server {REFUSED})\n"


def test_a_server_that_cannot_answer_now_is_told_from_one_that_is_not_there(
    server: FakeFlight, capsys: pytest.CaptureFixture[str]
) -> None:
    said = "the database is not available: no connection"
    server.answers[None] = Laid(fail_bind=flight.FlightUnavailableError(f"{said} (query_id=q7)"))

    assert main(["query", "SELECT 1"]) == terminal.UNAVAILABLE

    assert capsys.readouterr().err == f"lakeflight query: {said} (query q7)\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "give one statement"),
        (["SELECT 1", "-f", "x.sql"], "give one statement"),
        (["  "], "the statement is empty"),
        (["-f", __file__ + ".sql"], f"cannot read {__file__}.sql"),
        (["SELECT 1", "--last", "1h", "--begin", "now"], "exclude each other"),
        (["SELECT 1", "--all", "--end", "now"], "exclude each other"),
        (["SELECT 1", "--last", "10mins"], "not a span of time: '10mins'"),
        (["SELECT 1", "--begin", "2026-01-31T12:00:00"], "a time needs its offset: 2026-01-31T12:00:00Z for UTC"),
        (["SELECT 1", "--begin", "monday"], "not a time: 'monday'"),
        (["SELECT 1", "--begin", "1500-01-01"], "'1500-01-01' is out of range: times lie between 1677-09-21T00:12:44Z"),
        (["SELECT 1", "--last", "99999w"], "is out of range"),
        (["SELECT 1", "--begin", "2026-02-01", "--end", "2026-01-01"], "--begin lies after --end"),
        (["SELECT 1", "--limit", "-1"], "--limit must not be negative"),
        (["SELECT 1", "--server", "nowhere"], "a Flight address needs a host and a port"),
    ],
)
def test_usage_errors_are_exit_code_2(
    server: FakeFlight, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert main(["query", *arguments]) == terminal.USAGE

    printed = capsys.readouterr()
    assert said in printed.err
    assert printed.out == ""
    assert server.asked.sql == []


def test_a_file_that_cannot_be_written_is_a_usage_error(
    server: FakeFlight, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "not there" / "rows.csv"

    assert main(["query", "SELECT 1", "-o", str(path)]) == terminal.USAGE

    assert f"cannot write {path}" in capsys.readouterr().err


def test_missing_blocks_are_said_on_standard_error(server: FakeFlight, capsys: pytest.CaptureFixture[str]) -> None:
    server.answers[None] = Laid([ROWS], missing_blocks=1)

    assert main(["query", "SELECT 1", "--format", "csv"]) == terminal.OK

    assert capsys.readouterr().err == (
        "warning: 1 block that could not be decoded is missing from this answer: see quarantined_blocks\n"
    )


def test_spans_of_time_are_read_whole() -> None:
    assert parse_span_ns("1h") == 3600 * 10**9
    assert parse_span_ns("1d2h") == 26 * 3600 * 10**9
    assert parse_span_ns("1.5h") == 5400 * 10**9
    assert parse_span_ns("250ms") == 250 * 10**6
    for text in ("", "h", "1", "1x", "1h!", "-1h", "1h 2m", "١h"):
        with pytest.raises(UsageError):
            parse_span_ns(text)


def test_times_are_read_as_people_write_them() -> None:
    assert parse_time("now", NOW_NS) == "2023-11-14T22:13:20.000000000Z"
    assert parse_time("now-1h30m", NOW_NS) == "2023-11-14T20:43:20.000000000Z"
    assert parse_time("2026-01-31", NOW_NS) == "2026-01-31T00:00:00.000000000Z"
    assert parse_time("2026-01-31T12:00:00.5+02:00", NOW_NS) == "2026-01-31T10:00:00.500000000Z"
    with pytest.raises(UsageError):
        parse_time("2026-13-31", NOW_NS)


def test_progress_shows_what_is_known() -> None:
    assert progress_text(None, 0.61) == "running · 0.6 s"
    assert progress_text({"buckets": 0, "buckets_done": 0}, 1) == "running · 1.0 s"
    known = {"buckets": 12, "buckets_done": 3, "blocks": 4000, "payload_bytes": 18_200_000, "other": "x"}
    assert progress_text(known, 2.1) == "making partitions 3/12 · 4,000 blocks · 18.2 MB · 2.1 s"


# --- as a program ---


def program(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "lakeflight", "query", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def test_a_reader_that_goes_away_is_no_error(server: FakeFlight) -> None:
    server.answers[None] = Laid([pa.record_batch({"n": list(range(1000))})] * 200)
    running = program("SELECT 1", "--format", "csv")
    assert running.stdout is not None and running.stderr is not None

    running.stdout.readline()
    running.stdout.close()

    assert running.wait(20) == terminal.OK
    assert running.stderr.read() == ""
    running.stderr.close()


def test_control_c_stops_the_statement_at_once(server: FakeFlight) -> None:
    server.answers[None] = Laid([ROWS], wait_s=30)
    running = program("SELECT 1")
    deadline = time.monotonic() + 20
    while not server.asked.sql and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.3)

    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=5)

    assert (running.returncode, out, err) == (terminal.INTERRUPTED, "", "lakeflight query: interrupted\n")


_ENDS = {
    signal.SIGINT: "lakeflight query: interrupted\n",
    signal.SIGTERM: "lakeflight query: terminated\n",
    signal.SIGHUP: "lakeflight query: the terminal is gone\n",
}


@pytest.mark.parametrize("number", _ENDS)
def test_a_signal_to_end_while_a_file_is_written_leaves_nothing(
    server: FakeFlight, tmp_path: Path, number: signal.Signals
) -> None:
    batch = pa.record_batch({"n": list(range(100_000))})
    server.answers[None] = Laid([batch] * 20, pause_s=0.1)
    running = program("SELECT 1", "-o", str(tmp_path / "big.parquet"))
    deadline = time.monotonic() + 20
    while not (parts := list(tmp_path.iterdir())) or not parts[0].stat().st_size:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.5)

    running.send_signal(number)
    out, err = running.communicate(timeout=10)

    assert (running.returncode, out, err) == (128 + number, "", _ENDS[number])
    assert list(tmp_path.iterdir()) == []


def test_a_hangup_that_is_ignored_stops_nothing(server: FakeFlight, tmp_path: Path) -> None:
    """As under ``nohup``."""
    server.answers[None] = Laid([ROWS] * 20, pause_s=0.1)
    path = tmp_path / "rows.csv"
    running = subprocess.Popen(
        ["sh", "-c", 'trap "" HUP; exec "$0" -m lakeflight query "SELECT 1" -o "$1"', sys.executable, str(path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    deadline = time.monotonic() + 20
    while not list(tmp_path.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.02)

    running.send_signal(signal.SIGHUP)

    assert running.wait(20) == terminal.OK
    assert len(path.read_text().splitlines()) == 41


@pytest.mark.parametrize("number", _ENDS)
@pytest.mark.parametrize("command", ["lakeflight.__main__", "server.__main__"])
def test_a_signal_to_end_while_libraries_load_is_one_line(command: str, number: signal.Signals) -> None:
    """In the middle of an import it would be a traceback, or an ImportError of somebody who knows no interrupts."""
    starting = subprocess.Popen(
        [sys.executable, "-c", _SLOW_IMPORT, command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert starting.stdout is not None
    assert starting.stdout.readline() == "loading\n"

    starting.send_signal(number)
    _, err = starting.communicate(timeout=5)

    assert (starting.returncode, err) == (128 + number, _ENDS[number])


_SLOW_IMPORT = """
import importlib, sys, time

class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == "pyarrow.flight":
            print("loading", flush=True)
            try:
                time.sleep(20)
            except BaseException:
                raise ImportError("pyarrow.flight failed to import") from None

sys.meta_path.insert(0, Slow())
importlib.import_module(sys.argv[1]).main(["query", "SELECT 1"])
"""


def test_asking_does_not_load_what_a_server_needs() -> None:
    """It would take longer than most questions."""
    program = (
        "import sys, lakeflight.__main__ as command\n"
        f"try: command.main(['query', 'SELECT 1', '--server', '{REFUSED}'])\n"
        "except SystemExit as ended: print(ended.code)\n"
        "print(sorted({'pydantic', 'duckdb', 'asyncpg', 'numba', 'uvloop'} & set(sys.modules)))"
    )

    ran = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=20,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )

    assert ran.stdout == "5\n[]\n", ran.stderr


def test_a_port_that_does_not_speak_tls_is_one_line(server: FakeFlight) -> None:
    out, err = program("SELECT 1", "--server", server.uri.replace("grpc:", "grpc+tls:")).communicate(timeout=20)

    assert out == ""
    assert err.startswith("lakeflight query: cannot connect: this port does not speak TLS; say grpc://")
    assert len(err.splitlines()) == 1


def test_a_terminal_shows_progress_and_clears_it(server: FakeFlight) -> None:
    server.answers[None] = Laid([ROWS], wait_s=1.5)
    server.progress = {"buckets": 4, "buckets_done": 1, "blocks": 7, "payload_bytes": 1_000_000}
    ours, theirs = os.openpty()

    running = subprocess.Popen(
        [sys.executable, "-m", "lakeflight", "query", "SELECT 1", "--format", "csv"],
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    os.close(theirs)
    out, _ = running.communicate(timeout=20)
    shown = os.read(ours, 1 << 16).decode()
    os.close(ours)

    assert (running.returncode, out) == (terminal.OK, "n,msg\n1,a\n20,b\n")
    assert "making partitions 1/4 · 7 blocks · 1.0 MB" in shown
    assert shown.endswith("\r\x1b[K")


def test_help_has_examples() -> None:
    out, _ = program("--help").communicate(timeout=20)

    assert "lakeflight query --last 1h" in out
    assert "exit codes: 0 done, 2 usage, 3 the statement failed" in out
