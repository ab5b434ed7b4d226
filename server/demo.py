"""``lakeflight demo``: a server in the background, a small game that tells it what it does, and the first answers.

The server goes on running when the command ends, so that what it prints can be tried; ``lakeflight demo --stop`` ends it.
A second demo uses the server of the first.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow as pa

from lakeflight.connection import Connection, connect
from lakeflight.output import text_writer
from server.demo_game import MAIN_THREAD
from server.python_programs import import_path, own_program
from server.settings import data_home

START_S: Final = 180.0  # the first start on a machine compiles the decoders
STOP_S: Final = 40.0
FLIGHT_PORT: Final = 50051
HTTP_PORT: Final = 9000
GAME_FRAMES: Final = 240

SNIPPET: Final = """\
{python} - <<'PY'
import adbc_driver_flightsql.dbapi as flight_sql

with flight_sql.connect("{flight}", autocommit=True) as connection, connection.cursor() as cursor:
    cursor.execute("SELECT name, count(*) AS calls, sum(duration) / 1e6 AS total_ms"
                   " FROM view_instance('thread_spans', '{stream}') WHERE depth > 0 GROUP BY name ORDER BY total_ms DESC")
    for row in cursor.fetchall():
        print(row)
PY
"""


@dataclass(frozen=True, slots=True)
class DemoServer:
    """A server that runs on its own."""

    flight: str
    http: str
    pid: int


def default_data_dir() -> Path:
    return data_home() / "lakeflight-demo"


def run_demo(data_dir: Path) -> int:
    """Start, send, ask, explain; 0 if rows came back."""
    server = _running(data_dir) or _start(data_dir)
    if server is None:
        return 1
    print("a small game sends its logs, metrics and spans ...", flush=True)
    process_id = _play(server)
    with contextlib.closing(connect(server.flight)) as connection:
        stream = _show(connection, process_id)
    if stream is None:
        print("lakeflight: no rows came back; the server's log is in its data folder", file=sys.stderr)
        return 1
    print("The server keeps running. Ask it yourself, through ADBC:\n")
    print(SNIPPET.format(python=sys.executable, flight=server.flight, stream=stream))
    command = Path(sys.executable).with_name("lakeflight")
    print("or from the command line:\n")
    print(
        f'{command} query --server {server.flight} "SELECT time, level, msg FROM log_entries ORDER BY time LIMIT 10"\n'
    )
    print(f"Programs send telemetry to  {server.http}")
    print(f"SQL over Arrow Flight at    {server.flight}")
    print(f"Stop the server with        {command} demo --stop")
    return 0


def stop_demo(data_dir: Path) -> int:
    """End the demo's server; 0 also if none runs."""
    server = _running(data_dir)
    if server is None:
        kept = f"; its data is still there: {data_dir}" if data_dir.exists() else ""
        print(f"no demo server is running{kept}")
        return 0
    os.kill(server.pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_S
    while time.monotonic() < deadline:
        if not (data_dir / "server.json").exists() and not _is_alive(server.pid):
            print(f"the demo server has stopped; its data is still there: {data_dir}")
            return 0
        time.sleep(0.05)
    print(f"lakeflight: the demo server (process {server.pid}) did not stop within {STOP_S:g} s", file=sys.stderr)
    return 1


def _running(data_dir: Path) -> DemoServer | None:
    """The server of an earlier demo, if it still answers."""
    try:
        told = json.loads((data_dir / "server.json").read_text())
        server = DemoServer(told["flight"], told["http"], told["pid"])
        with contextlib.closing(connect(server.flight)) as connection:
            connection.query("SELECT 1")
    except Exception:
        return None
    return server


def _start(data_dir: Path) -> DemoServer | None:
    data_dir.mkdir(parents=True, exist_ok=True)
    ready, log = data_dir / "ready.json", data_dir / "server.log"
    ready.unlink(missing_ok=True)
    print("starting a server with a database and a store of its own ...", flush=True)
    command = [
        *own_program("server", "serve", "--data-dir", str(data_dir), "--ready-file", str(ready)),
        *("--flight-address", f"127.0.0.1:{_free(FLIGHT_PORT)}", "--http-address", f"127.0.0.1:{_free(HTTP_PORT)}"),
    ]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            env=os.environ | import_path(os.environ),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # it outlives this command and its terminal
        )
    deadline = time.monotonic() + START_S
    explained = False
    while not ready.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            print(_why_not(log), file=sys.stderr)
            return None
        if not explained and time.monotonic() > deadline - START_S + 5:
            print("compiling the decoders for this machine (once, about half a minute) ...", flush=True)
            explained = True
        time.sleep(0.05)
    told = json.loads(ready.read_text())
    return DemoServer(told["flight"], told["http"], told["pid"])


def _play(server: DemoServer) -> str:
    """Run the game as a program of its own, as any user's would be; returns its process id in the lake."""
    played = subprocess.run(
        own_program("server.demo_game", server.http, str(GAME_FRAMES)),
        env=os.environ | import_path(os.environ),
        check=True,
        capture_output=True,
        text=True,
    )
    return played.stdout.strip()


def _show(connection: Connection, process_id: str) -> str | None:
    """Ask a few questions and print the answers; returns the stream of the game's main thread."""
    print("\nWhat it logged:")
    logged = _ask(
        connection,
        f"SELECT time, level, target, msg FROM view_instance('log_entries', '{process_id}') ORDER BY time LIMIT 8",
    )
    print("What it measured:")
    _ask(
        connection,
        "SELECT name, unit, count(*) AS samples, round(avg(value), 3) AS mean, round(max(value), 3) AS max"
        f" FROM view_instance('measures', '{process_id}') GROUP BY name, unit ORDER BY name",
    )
    streams = connection.query(
        f"SELECT stream_id, properties FROM streams WHERE process_id = '{process_id}' AND list_contains(tags, 'cpu')"
    )
    main_thread = {"key": "thread-name", "value": MAIN_THREAD}
    found = [row["stream_id"] for row in streams.to_pylist() if main_thread in row["properties"]]
    if logged == 0 or not found:
        return None
    stream = str(found[0])
    print("Where its main thread spent its time (made into Parquet just now, by asking):")
    spans = _ask(
        connection,
        "SELECT name, count(*) AS calls, round(sum(duration) / 1e6, 2) AS total_ms, round(avg(duration) / 1e3, 1) AS mean_us"
        f" FROM view_instance('thread_spans', '{stream}') WHERE depth > 0 GROUP BY name ORDER BY total_ms DESC",
    )
    return stream if spans else None


def _ask(connection: Connection, sql: str) -> int:
    table: pa.Table = connection.query(sql)
    writer = text_writer("table", table.schema, sys.stdout)
    for batch in table.to_batches():
        writer.write(batch)
    writer.finish()
    print(flush=True)
    return int(table.num_rows)


def _free(port: int) -> int:
    """The well-known port if nobody has it, else any."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return 0
    return port


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _why_not(log: Path) -> str:
    """The sentence that the server ended with, or the end of what it said."""
    lines: Sequence[str] = log.read_text(errors="replace").splitlines()
    if lines and lines[-1].startswith("lakeflight: "):
        return lines[-1]
    return "\n".join(["lakeflight: the server did not start:", *lines[-15:]])
