"""What a server does when a part of it ends by itself."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from server.app import _url
from tests.support.fixtures import ROOT


@pytest.mark.parametrize(
    ("task", "name"),
    [
        ("server.maintenance.Maintenance.run", "housekeeping"),
        ("server.embedded_postgres.EmbeddedPostgres.supervise", "database supervisor"),
    ],
)
def test_a_server_that_lost_a_part_of_itself_ends_and_says_so(tmp_path: Path, task: str, name: str) -> None:
    """Whoever started it starts it again; half a server would be noticed by nobody."""
    program = textwrap.dedent(
        """
        import asyncio, sys
        from pathlib import Path
        from unittest import mock
        from server.__main__ import main

        async def dies(self):
            while not Path(sys.argv[2]).exists():
                await asyncio.sleep(0.05)
            raise ValueError("out of the blue")

        with mock.patch(sys.argv[1], dies):
            main(["serve", "--no-self-telemetry", "--ready-file", sys.argv[2], *sys.argv[3:]])
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
    assert not (tmp_path / "lake" / "server.json").exists()


def test_where_a_server_answers_is_a_url_for_either_kind_of_address() -> None:
    assert _url("grpc", "127.0.0.1", 50051) == "grpc://127.0.0.1:50051"
    assert _url("http", "::1", 9000) == "http://[::1]:9000"
