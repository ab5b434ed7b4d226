"""One server for each role, and what they do together."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import asyncpg

from tests.support.postgres import PostgresServer
from tests.support.programs import Program
from tests.support.serving import serving


def test_servers_of_one_role_each_are_a_lake_together(tmp_path: Path, postgres_server: PostgresServer) -> None:
    url = asyncio.run(postgres_server.create(migrated=True))
    shared = ("--postgres-url", url, "--store-url", (tmp_path / "store").as_uri())
    often = {"LAKEFLIGHT_MAINTENANCE_INTERVAL_S": "0.1"}
    program = Program()
    with (
        serving(tmp_path / "a", *shared, "--roles", "ingestion", environment=often) as ingestion,
        serving(tmp_path / "b", *shared, "--roles", "maintenance", environment=often) as maintenance,
        serving(tmp_path / "c", *shared, "--roles", "flight", environment=often) as flight,
    ):
        told = [
            json.loads((server.data_dir / "server.json").read_text()) for server in (ingestion, maintenance, flight)
        ]
        assert [sorted(answers) for answers in told] == [["http", "otlp_grpc", "pid"], ["pid"], ["flight", "pid"]]
        ingestion.replay([*program.registration(), program.log_block()])

        deadline = time.monotonic() + 60
        while not asyncio.run(_made(url)):  # nobody has asked
            assert time.monotonic() < deadline, maintenance.log.read_text()[-3000:]
            time.sleep(0.2)

        rows = flight.query("SELECT msg FROM log_entries ORDER BY time")
        assert rows.column(0).to_pylist() == [f"line {number}" for number in range(program.logged)]
    asyncio.run(postgres_server.drop(url))


async def _made(url: str) -> bool:
    connection = await asyncpg.connect(url)
    try:
        made: bool = await connection.fetchval(
            "SELECT EXISTS (SELECT FROM lakehouse_partitions WHERE view_set_name = 'log_entries' AND num_rows > 0)"
        )
        return made
    finally:
        await connection.close()
