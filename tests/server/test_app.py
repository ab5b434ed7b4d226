"""How a server ends: when a part of it does, and when it is told to before it has started."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from server.app import url_of
from tests.support.fixtures import ROOT
from tests.support.serving import serving


@pytest.mark.parametrize(
    ("task", "name", "when"),
    [
        ("server.maintenance.Maintenance.run", "housekeeping", "once it is ready"),
        ("server.embedded_postgres.EmbeddedPostgres.supervise", "database supervisor", "once it is ready"),
        ("server.embedded_postgres.EmbeddedPostgres.supervise", "database supervisor", "while it starts"),
    ],
)
def test_a_server_that_lost_a_part_of_itself_ends_and_says_so(tmp_path: Path, task: str, name: str, when: str) -> None:
    """Whoever started it starts it again; half a server would be noticed by nobody."""
    program = textwrap.dedent(
        """
        import asyncio, sys
        from pathlib import Path
        from unittest import mock
        from lakeflight.__main__ import main

        async def dies(self):
            while sys.argv[3] == "once it is ready" and not Path(sys.argv[2]).exists():
                await asyncio.sleep(0.05)
            raise ValueError("out of the blue")

        with mock.patch(sys.argv[1], dies):
            main(["serve", "--no-self-telemetry", "--ready-file", sys.argv[2], *sys.argv[4:]])
        """
    )
    addresses = ("--flight-address", "127.0.0.1:0", "--http-address", "127.0.0.1:0")

    ended = subprocess.run(
        [
            sys.executable,
            "-c",
            program,
            task,
            str(tmp_path / "ready"),
            when,
            "--data-dir",
            str(tmp_path / "lake"),
            *addresses,
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=150,
    )

    assert ended.returncode == 1
    assert f"lakeflight: the server stopped because its {name} ended" in ended.stderr
    assert "out of the blue" in ended.stderr
    assert ("server.ready" in ended.stderr) == (when == "once it is ready")
    assert not (tmp_path / "lake" / "server.json").exists()


def living_with(word: str) -> list[psutil.Process]:
    """Processes with ``word`` in their environment, arguments or working folder, and not only yet to be reaped."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            known_by = (*process.environ().values(), *process.cmdline(), process.cwd())
            if process.status() != psutil.STATUS_ZOMBIE and any(word in text for text in known_by):
                found.append(process)
    return found


@pytest.mark.parametrize(
    ("moment", "signals"),
    [
        pytest.param("lock", [signal.SIGTERM], id="at once"),
        pytest.param("postgres.new-*/*", [signal.SIGTERM], id="while the database is made"),
        pytest.param("postgres-socket/.s.PGSQL.*", [signal.SIGINT] * 2, id="while the decoders are compiled"),
    ],
)
def test_a_server_that_still_starts_ends_when_it_is_told_to(
    tmp_path: Path, moment: str, signals: list[signal.Signals]
) -> None:
    """As one that runs: exit code 0, no process left, and the next start finds a folder that it can use."""
    lake = tmp_path / "lake"
    with (tmp_path / "output").open("wb") as output:
        server = subprocess.Popen(
            [
                *(sys.executable, "-m", "server", "serve", "--data-dir", str(lake), "--no-self-telemetry"),
                *("--flight-address", "127.0.0.1:0", "--http-address", "127.0.0.1:0"),
            ],
            cwd=ROOT,
            env=os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "nothing compiled")},  # which takes half a minute
            stdout=output,
            stderr=output,
        )
    try:
        deadline = time.monotonic() + 60
        while not any(lake.glob(moment)):
            assert server.poll() is None and time.monotonic() < deadline, (tmp_path / "output").read_text()
            time.sleep(0.005)

        for number in signals:
            server.send_signal(number)
        code = server.wait(timeout=20)
    finally:
        server.kill()

    said = (tmp_path / "output").read_text()
    assert (code, "Traceback" in said, "server.ready" in said) == (0, False, False), said
    psutil.wait_procs(living_with(str(tmp_path)), timeout=5)
    assert living_with(str(tmp_path)) == []
    assert list(lake.glob("postgres.new-*")) == []
    assert not (lake / "server.json").exists()
    with serving(lake) as again:
        assert again.query("SELECT 1 AS one").to_pylist() == [{"one": 1}]


def test_where_a_server_answers_is_a_url_for_either_kind_of_address() -> None:
    assert url_of("grpc", "127.0.0.1", 50051) == "grpc://127.0.0.1:50051"
    assert url_of("http", "::1", 9000) == "http://[::1]:9000"
