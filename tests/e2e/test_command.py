"""The command ``lakeflight`` as a user types it: serve, demo, doctor, query, and the contract for scripts."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.fixtures import ROOT
from tests.support.ports import REFUSED
from tests.support.programs import Program
from tests.support.serving import Server, serving, start


def lakeflight(
    *arguments: str, environment: Mapping[str, str] | None = None, timeout: float = 200
) -> subprocess.CompletedProcess[str]:
    """One run of the command."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("LAKEFLIGHT_")}
    return subprocess.run(
        [sys.executable, "-m", "server", *arguments],
        cwd=ROOT,
        env=inherited | dict(environment or {}),
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def test_the_ready_file_says_where_the_server_answers_and_sigterm_ends_it_well(tmp_path: Path) -> None:
    server = start(tmp_path)
    told = json.loads(next(tmp_path.glob("ready-*.json")).read_text())

    otlp_grpc = told.pop("otlp_grpc")
    assert told == {"flight": server.flight, "http": server.http, "pid": server.process.pid}
    assert re.fullmatch(r"grpc://127\.0\.0\.1:\d+", told["flight"])
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", told["http"])
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", otlp_grpc)
    assert server.query("SELECT 1 AS one").to_pylist() == [{"one": 1}]

    assert server.stop() == 0


def test_nothing_of_a_killed_server_keeps_running(tmp_path: Path) -> None:
    server = start(tmp_path)
    tree = server.tree()
    assert len(tree) > 6

    os.kill(server.process.pid, signal.SIGKILL)
    server.process.wait()

    deadline = time.monotonic() + 15
    while any(process.is_running() and process.status() != "zombie" for process in tree):
        assert time.monotonic() < deadline, [process for process in tree if process.is_running()]
        time.sleep(0.05)


def test_a_second_server_on_a_data_folder_is_refused_by_name(server: Server) -> None:
    refused = lakeflight("serve", "--data-dir", str(server.data_dir), "--flight-address", "127.0.0.1:0")

    assert refused.returncode == 1
    assert f"is in use by process {server.process.pid}" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--flight-address", "0.0.0.0:50051"), "--flight-address 0.0.0.0:50051 is not a loopback address"),
        (("--store-url", "gs://bucket/lake"), "gs stores are not; use s3://bucket/prefix or file:///folder"),
        (("--store-url", "memory://lake"), "is not possible: each process of a server has a memory of its own"),
        (("--query-workers", "many"), "--query-workers many is not a whole number"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(tmp_path: Path, arguments: tuple[str, ...], sentence: str) -> None:
    refused = lakeflight("serve", "--data-dir", str(tmp_path), *arguments)

    assert refused.returncode == 2
    assert sentence in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_database_that_does_not_answer_is_one_sentence(tmp_path: Path) -> None:
    refused = lakeflight(
        *("serve", "--data-dir", str(tmp_path), "--postgres-url", f"postgresql://nobody:hidden@{REFUSED}/none"),
        *("--flight-address", "127.0.0.1:0", "--http-address", "127.0.0.1:0"),
    )

    assert refused.returncode == 1
    assert refused.stderr == (
        f"lakeflight: the database {REFUSED}/none is not available: nobody listens there (connection refused);"
        " see --postgres-url or LAKEFLIGHT_POSTGRES_URL\n"
    )
    assert "Traceback" not in refused.stderr


def test_doctor_finds_a_free_folder_well_and_makes_nothing(tmp_path: Path) -> None:
    new = tmp_path / "lake"

    found = lakeflight(
        *("doctor", "--data-dir", str(new), "--ready-file", str(new / "ready")),
        *("--flight-address", "127.0.0.1:0", "--http-address", "127.0.0.1:0"),
    )

    assert found.returncode == 0, found.stdout
    assert re.search(rf"ok    data folder: {new}, not there yet, a server makes it, [0-9.]+ GiB free", found.stdout)
    assert "ok    database: embedded, Postgres 18 works here, a server makes its database" in found.stdout
    assert found.stdout.endswith("everything is well\n")
    assert not new.exists()


def test_doctor_asks_a_server_that_runs(server: Server) -> None:
    name = f"process {server.process.pid}"

    found = lakeflight("doctor", "--data-dir", str(server.data_dir))

    assert found.returncode == 0, found.stdout
    assert f"ok    data folder: {server.data_dir}, in use by {name}, " in found.stdout
    assert f"ok    running server: {name} answers at {server.flight} and {server.http}" in found.stdout


def test_doctor_says_what_is_wrong(tmp_path: Path, server: Server) -> None:
    flight, http = (url.partition("://")[2] for url in (server.flight, server.http))
    strange = tmp_path / "photos"
    strange.mkdir()
    (strange / "cat.jpg").write_text("a cat")
    (tmp_path / "file").write_text("no folder")

    found = lakeflight(
        *("doctor", "--data-dir", str(strange), "--store-url", f"file://{tmp_path}/file/store"),
        *("--flight-address", flight, "--http-address", http, "--ready-file", str(tmp_path / "absent" / "ready")),
        *("--postgres-url", f"postgresql://nobody:hidden@{REFUSED}/none"),
    )

    assert found.returncode == 1
    assert (
        f"FAIL  data folder: {strange} is not empty and is not a data folder of lakeflight (it has cat.jpg)"
        in found.stdout
    )
    assert f"FAIL  database: the database {REFUSED}/none is not available: nobody listens there" in found.stdout
    assert f"FAIL  object store: the store's folder {tmp_path}/file/store cannot be written:" in found.stdout
    assert (
        f"FAIL  ready file: the ready file {tmp_path}/absent/ready cannot be written: there is no folder"
        in found.stdout
    )
    for name, address in (("Flight", flight), ("HTTP", http)):
        sentence = (
            f"a lakeflight server on another data folder answers there: {address} is taken: stop what listens there"
        )
        assert f"FAIL  {name} address: {sentence}" in found.stdout
    assert found.stdout.endswith("6 of 10 checks failed\n")
    assert "hidden" not in found.stdout + found.stderr
    assert [path.name for path in strange.iterdir()] == ["cat.jpg"]


def test_a_server_starts_beside_nobody_elses_files(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("precious")

    refused = lakeflight("serve", "--data-dir", str(tmp_path), "--flight-address", "127.0.0.1:0")

    assert refused.returncode == 1
    assert (
        f"lakeflight: {tmp_path} is not empty and is not a data folder of lakeflight (it has notes.txt)"
        in refused.stderr
    )
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("setting", ["flight", "http"])
def test_a_taken_port_is_named_with_its_flag(tmp_path: Path, server: Server, setting: str) -> None:
    taken = server.http.partition("://")[2]
    other = "http" if setting == "flight" else "flight"

    refused = lakeflight(
        *("serve", "--data-dir", str(tmp_path), f"--{setting}-address", taken, f"--{other}-address", "127.0.0.1:0")
    )

    assert refused.returncode == 1
    assert refused.stderr == (
        f"lakeflight: {taken} is taken: stop what listens there, or choose another address with --{setting}-address or"
        f" LAKEFLIGHT_{setting.upper()}_ADDRESS (port 0 takes a free one)\n"
    )


def test_a_ready_file_that_cannot_be_written_fails_before_anything_is_made(tmp_path: Path) -> None:
    refused = lakeflight("serve", "--data-dir", str(tmp_path / "lake"), "--ready-file", str(tmp_path / "no" / "ready"))

    assert refused.returncode == 1
    assert f"there is no folder {tmp_path}/no; make it, or change --ready-file" in refused.stderr
    assert not (tmp_path / "lake").exists()


def test_a_ready_file_is_there_while_the_server_answers_and_not_otherwise(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    ready.write_text("of a server that was killed")
    addresses = ("--flight-address", "127.0.0.1:0", "--http-address", "127.0.0.1:0")

    refused = lakeflight(
        *("serve", "--data-dir", str(tmp_path), "--ready-file", str(ready), *addresses),
        *("--postgres-url", f"postgresql://nobody@{REFUSED}/none"),
    )
    assert refused.returncode == 1
    assert not ready.exists()

    server = start(tmp_path)
    (told,) = tmp_path.glob("ready-*.json")
    assert server.stop() == 0
    assert not told.exists()


def test_a_database_that_vanished_is_not_replaced_by_an_empty_one(tmp_path: Path) -> None:
    """A server on it would answer every question with nothing."""
    program = Program()
    with serving(tmp_path) as server:
        server.replay([*program.registration(), program.log_block(1)])
    (tmp_path / "postgres").rename(tmp_path / "elsewhere")
    command = ("--data-dir", str(tmp_path), "--flight-address", "127.0.0.1:0", "--http-address", "127.0.0.1:0")

    refused, examined = lakeflight("serve", *command), lakeflight("doctor", *command)

    sentence = (
        f"the store {tmp_path}/store has blobs, and its database {tmp_path}/postgres is gone: none of them would be"
    )
    assert (refused.returncode, examined.returncode) == (1, 1)
    assert f"lakeflight: {sentence}" in refused.stderr
    assert f"FAIL  database: {sentence}" in examined.stdout
    assert not (tmp_path / "postgres").exists()
    (tmp_path / "elsewhere").rename(tmp_path / "postgres")
    with serving(tmp_path) as server:
        assert server.query("SELECT count(*) AS n FROM log_entries").to_pylist() == [{"n": 1}]


def test_query_prints_rows_in_every_format(server: Server) -> None:
    program = Program()
    server.replay([*program.registration(), program.log_block(2)])
    sql = f"SELECT level, msg FROM view_instance('log_entries', '{program.process_id}') ORDER BY time"
    where = ("--server", server.flight)

    csv = lakeflight("query", sql, *where, "--format", "csv")
    rows = lakeflight("query", sql, *where, "--format", "json")
    table = lakeflight("query", sql, *where)
    bound = lakeflight("query", "SELECT ? AS given", *where, "--param", "x", "--format", "csv")

    assert (csv.returncode, csv.stdout) == (0, "level,msg\n4,line 0\n4,line 1\n")
    assert json.loads(rows.stdout) == [{"level": 4, "msg": "line 0"}, {"level": 4, "msg": "line 1"}]
    assert "line 1" in table.stdout
    assert (bound.returncode, bound.stdout) == (0, "given\nx\n")


def test_query_says_in_its_exit_code_what_went_wrong(server: Server) -> None:
    wrong = lakeflight("query", "SELECT nothing FROM log_entries", "--server", server.flight)
    absent = lakeflight("query", "SELECT 1", "--server", f"grpc://{REFUSED}")

    assert wrong.returncode == 3
    assert "nothing" in wrong.stderr
    assert absent.returncode == 5
    assert wrong.stdout == absent.stdout == ""


def test_the_server_watches_itself(tmp_path: Path) -> None:
    with serving(tmp_path, self_telemetry=True) as server:
        deadline = time.monotonic() + 40
        sql = "SELECT msg FROM log_entries WHERE exe = 'lakeflight' ORDER BY time"
        while not (seen := server.query(sql).column(0).to_pylist()):
            assert time.monotonic() < deadline, server.log.read_text()[-2000:]
            time.sleep(0.5)

    assert any("server." in line or "query.done" in line for line in seen), seen


def test_the_demo_shows_rows_and_prints_what_works_when_pasted(tmp_path: Path) -> None:
    environment = {"XDG_DATA_HOME": str(tmp_path)}
    try:
        shown = lakeflight("demo", environment=environment)

        assert shown.returncode == 0, shown.stdout + shown.stderr
        assert "level loaded" in shown.stdout
        assert re.search(r"frame_time\s+│?\s*\|?\s*ms", shown.stdout) or "frame_time" in shown.stdout
        assert "Body::Integrate" in shown.stdout
        snippet = shown.stdout[shown.stdout.index(sys.executable) :]
        snippet = snippet[: snippet.index("\nPY\n") + 4]
        pasted = subprocess.run(["sh", "-c", snippet], capture_output=True, text=True, timeout=60)
        assert pasted.returncode == 0, pasted.stderr
        assert "'Body::Integrate', 2880," in pasted.stdout
    finally:
        stopped = lakeflight("demo", "--stop", environment=environment)
    assert stopped.stdout.startswith("the demo server has stopped")
    again = lakeflight("demo", "--stop", environment=environment)
    assert again.stdout.startswith("no demo server is running; its data is still there: ")
