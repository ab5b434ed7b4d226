"""Whatever happens to a partition file while a server runs, the next answer is right, and a line of the log says what was."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lakehouse.test_damaged_files import noise
from tests.support.damage import DAMAGES, damage_inside
from tests.support.programs import Program
from tests.support.serving import Server, serving


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(
        tmp_path_factory.mktemp("damage"), environment={"LAKEFLIGHT_MAINTENANCE_INTERVAL_S": "3600"}
    ) as running:
        yield running


def send(server: Server, lines: int) -> Program:
    program = Program()
    server.replay([*program.registration(), program.log_block(lines, noise)])
    return program


def ask(server: Server, program: Program) -> dict[str, int]:
    """Of the column that is damaged inside."""
    logs = f"view_instance('log_entries', '{program.process_id}')"
    (row,) = server.query(f"SELECT count(*) AS n, sum(strlen(msg))::BIGINT AS characters FROM {logs}").to_pylist()
    return dict(row)


def answer(lines: int) -> dict[str, int]:
    return {"n": lines, "characters": lines * len(noise(0))}


def file_of(server: Server, program: Program) -> Path:
    """The newest of its partitions."""
    files = (server.data_dir / "store").rglob(f"view_instance={program.process_id}/**/*.parquet")
    return max(files, key=lambda path: path.stat().st_mtime_ns)


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_file_that_is_damaged_between_two_queries_is_made_again(server: Server, kind: str) -> None:
    program, other = send(server, 200), send(server, 300)
    assert ask(server, program) == answer(200)
    assert ask(server, other) == answer(300)
    file = file_of(server, program)
    DAMAGES[kind](file, file_of(server, other))

    assert ask(server, program) == answer(200)

    (line,) = [line for line in server.log.read_text().splitlines() if "partition.lost" in line and file.name in line]
    assert "keys" in line


@pytest.mark.parametrize("rows", ["aggregated", "selected"])
def test_what_the_engine_stumbles_over_is_made_again_and_the_statement_runs_again(server: Server, rows: str) -> None:
    program = send(server, 20_000)
    assert ask(server, program) == answer(20_000)
    file = file_of(server, program)
    damage_inside(file)

    if rows == "aggregated":
        assert ask(server, program) == answer(20_000)
    else:
        table = server.query(f"SELECT msg FROM view_instance('log_entries', '{program.process_id}')")
        assert sorted(table.column(0).to_pylist()) == sorted(map(noise, range(20_000)))

    log = server.log.read_text()
    assert [line for line in log.splitlines() if "partition.damaged" in line and file.name in line]
