"""The commands of ``docs/operating.md`` about several servers and backups do what the page says of them."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from urllib.parse import urlsplit

from server.embedded_postgres import postgres_binaries
from tests.support.cluster import SMALL, Cluster, until
from tests.support.fixtures import ROOT
from tests.support.postgres import PostgresServer
from tests.support.programs import Program
from tests.support.serving import Server, serving

PAGE = (ROOT / "docs" / "operating.md").read_text()
OFTEN = {"LAKEFLIGHT_MAINTENANCE_INTERVAL_S": "0.2"}


def _commands(section: str, places: Mapping[str, str]) -> list[str]:
    """The lines of all shell blocks of a section, with places of this test for those of the page."""
    (text,) = re.findall(rf"^##+ {section}\n(.*?)(?=^##+ |\Z)", PAGE, flags=re.S | re.M)
    lines = [line for block in re.findall(r"```sh\n(.*?)```", text, flags=re.S) for line in block.splitlines()]
    for written, here in places.items():
        lines = [line.replace(written, here) for line in lines]
    return lines


def _serve(
    command: str, environment: Mapping[str, str], *, self_telemetry: bool = False
) -> AbstractContextManager[Server]:
    words = shlex.split(command)
    assert words[:2] == ["lakeflight", "serve"]
    folder = words.index("--data-dir")
    arguments = [*words[2:folder], *words[folder + 2 :]]
    return serving(
        Path(words[folder + 1]), *arguments, environment=SMALL | dict(environment), self_telemetry=self_telemetry
    )


def _run(commands: Sequence[str]) -> None:
    path = f"{postgres_binaries()}{os.pathsep}{os.environ['PATH']}"
    for command in commands:
        done = subprocess.run(
            command,
            shell=True,
            env=os.environ | {"PATH": path},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"{command}: {done.stderr}"


def _lines_of(server: Server, program: Program) -> list[str]:
    answer = server.query(f"SELECT msg FROM view_instance('log_entries', '{program.process_id}') ORDER BY time")
    found: list[str] = answer["msg"].to_pylist()
    return found


def _said(program: Program) -> list[str]:
    return [f"line {number}" for number in range(program.logged)]


def test_servers_of_one_role_each_and_what_they_measure_of_maintenance(cluster: Cluster) -> None:
    """As the page starts them; and the statement that it has about maintenance which is behind."""
    commands = _commands(
        "Several servers",
        {
            "/var/lib/lakeflight": str(cluster.folder / "of-the-page"),
            "postgresql://lake@db/lake": shlex.quote(cluster.postgres_url),
            "s3://telemetry/lake": cluster.bucket.url,
            "file:///srv/lake": (cluster.folder / "store").as_uri(),
        },
    )
    together, ingestion, flight, maintenance = commands
    (lag,) = re.findall(r"`(SELECT time,\s+value FROM measures WHERE name = 'maintenance_lag')`", PAGE)
    program = Program()
    with (
        _serve(ingestion, cluster.bucket.environment) as takes,
        _serve(flight, cluster.bucket.environment) as answers,
        _serve(
            maintenance,
            cluster.bucket.environment | OFTEN | {"LAKEFLIGHT_TELEMETRY_URL": takes.http},
            self_telemetry=True,
        ),
    ):
        takes.replay([*program.registration(), program.log_block()])
        assert _lines_of(answers, program) == _said(program)
        cluster.wait_for("SELECT count(*) > 0 FROM lakehouse_tasks WHERE task = 'merge_closed_days'")
        assert answers.query(lag).num_rows == 0, "nothing is behind"

        behind = "UPDATE lakehouse_tasks SET done_at = done_at - interval '1 h' WHERE task = 'merge_closed_days'"
        until(lambda: bool(cluster.fetch(behind)) or answers.query(lag).num_rows > 0, "it says how far it is behind")
        steps = answers.query(
            "SELECT value, unit, property_get(properties, 'step') AS step FROM measures WHERE name = 'maintenance_lag'"
        ).to_pylist()

    assert {row["step"] for row in steps} == {"merge_closed_days"}
    assert all(row["unit"] == "s" and row["value"] >= 3600 for row in steps), steps
    assert together.startswith("lakeflight serve --data-dir"), "the first command is run where a folder is the store"


def test_a_lake_is_restored_from_a_dump_and_a_copy_of_its_blobs(
    cluster: Cluster, postgres_server: PostgresServer
) -> None:
    """The servers go on meanwhile, and what they take after the backup is not in it."""
    name = urlsplit(cluster.postgres_url).path.lstrip("/")
    store, restored = cluster.folder / "srv-lake", f"{name}_restored"
    places = {
        "/backup": str(cluster.folder / "backup"),
        "/srv/restored": str(cluster.folder / "srv-restored"),
        "/srv/lake": str(store),
        "/var/lib/lakeflight": str(cluster.folder / "of-the-page"),
        "postgresql://lake@db/postgres": shlex.quote(postgres_server.url_of("postgres")),
        "postgresql://lake@db/restored": shlex.quote(postgres_server.url_of(restored)),
        "postgresql://lake@db/lake": shlex.quote(cluster.postgres_url),
        " restored": f" {restored}",
    }
    commands = _commands("Backup", places)
    (serve,) = (command for command in commands if command.startswith("lakeflight serve"))
    dump, copy, *restore = [command for command in commands if command != serve]
    (cluster.folder / "backup").mkdir()
    together = _commands("Several servers", places | {"file:///srv/lake": store.as_uri()})[0]
    program, later = Program(), Program()
    with _serve(together, {}) as server:
        server.replay([*program.registration(), program.log_block(), program.log_block()])
        assert _lines_of(server, program) == _said(program)
        _run([dump, copy])
        server.replay([*later.registration(), later.log_block()])

    _run(restore)
    try:
        with _serve(serve, {}) as again:
            assert _lines_of(again, program) == _said(program)
            again.replay([program.log_block()])
            assert _lines_of(again, program) == _said(program)
            assert again.query(f"SELECT * FROM processes WHERE process_id = '{later.process_id}'").num_rows == 0
    finally:
        asyncio.run(postgres_server.drop(postgres_server.url_of(restored)))
