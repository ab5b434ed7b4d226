"""Kill −9 between any two steps of writing: nothing acknowledged is lost, nothing is doubled, no row without its file."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import random
import time
import urllib.parse
from pathlib import Path

import asyncpg
import pytest

from lakehouse.failpoints import WRITING
from lakehouse.storage.paths import PARTITIONS
from server.data_folder import DataFolder
from server.embedded_postgres import EmbeddedPostgres
from tests.support.fixtures import Request
from tests.support.programs import Program
from tests.support.serving import Server, ServerDiedError, start
from tests.support.sizes import SEED, size

INGESTION = ("payload", "row")
RUNS = size(1, 20)  # of each point: a hundred of those at which partitions are made
PATIENCE_S = 60.0
DEATHS_MAX = 5  # of one run: each costs a start


def _send(server: Server, request: Request) -> bool:
    """Whether it was acknowledged."""
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(server.http).netloc, timeout=10)
    with contextlib.closing(connection):
        try:
            connection.request("POST", request.path, request.body)
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False


def _ask(server: Server, program: Program) -> tuple[list[str], int] | None:
    """All messages and the number of spans; ``None`` if the server died meanwhile."""
    try:
        messages = server.query(f"SELECT msg FROM view_instance('log_entries', '{program.process_id}') ORDER BY time")
        spans = server.query(
            f"SELECT count(*) FROM view_instance('thread_spans', '{program.thread_stream}') WHERE depth > 0"
        )
    except Exception:
        return None
    return messages.column(0).to_pylist(), spans.column(0)[0].as_py()


async def _check_catalog(data_dir: Path) -> None:
    """Every partition row names an object that is there, as long as it should be, and every file is in the journal or named."""
    folder = DataFolder(data_dir)
    postgres = EmbeddedPostgres(folder.postgres)
    await postgres.start()
    try:
        connection = await asyncpg.connect(postgres.url)
        partitions = await connection.fetch("SELECT file_path, file_size FROM lakehouse_partitions WHERE num_rows > 0")
        blocks = await connection.fetch("SELECT process_id, stream_id, block_id, payload_size FROM blocks")
        known = await connection.fetch(
            "SELECT path FROM lake_objects UNION SELECT path FROM staged_writes WHERE state <> 'reaped'"
        )
        await connection.close()
    finally:
        await postgres.stop()
    assert partitions
    files = {str(path.relative_to(folder.store)) for path in (folder.store / PARTITIONS).rglob("*.parquet")}
    assert files <= {row["path"] for row in known}
    for row in partitions:
        assert (folder.store / row["file_path"]).stat().st_size == row["file_size"]
    for row in blocks:
        key = f"blobs/{row['process_id']}/{row['stream_id']}/{row['block_id']}"
        assert (folder.store / key).stat().st_size == row["payload_size"]


@pytest.mark.parametrize("run", range(RUNS))
@pytest.mark.parametrize("point", [*INGESTION, *WRITING, "release"])
def test_a_kill_at_any_step_loses_and_doubles_nothing(tmp_path: Path, point: str, run: int) -> None:
    seed = f"{SEED}-{point}-{run}"
    print(f"seed {seed}")
    chance = random.Random(seed)
    program = Program()
    requests = program.registration()
    for _ in range(10):
        requests += [program.log_block(), program.thread_block()]
    probability = 0.1 if point in INGESTION else 0.5
    armed = {
        "LAKEFLIGHT_FAILPOINT": f"{point}:kill:{probability}:{chance.randrange(1 << 30)}",
        "LAKEFLIGHT_MAINTENANCE_INTERVAL_S": "0.2",
        "LAKEFLIGHT_RETIRED_GRACE_S": "0",
    }
    deaths = 0

    def revived() -> Server:
        """A server that may die again, also while it starts; after some deaths one that does not."""
        nonlocal deaths
        while True:
            deaths += 1
            try:
                return start(tmp_path, environment=armed if deaths <= DEATHS_MAX else None)
            except ServerDiedError:
                assert deaths <= DEATHS_MAX

    server = revived()
    try:
        for request in requests:
            deadline = time.monotonic() + PATIENCE_S
            while not _send(server, request):
                assert time.monotonic() < deadline, server.log.read_text()[-3000:]
                if server.process.poll() is not None or point not in INGESTION:
                    server.kill()
                    server = revived()
                else:
                    time.sleep(0.05)
            if point not in INGESTION and chance.random() < 0.3 and _ask(server, program) is None:
                server.kill()
                server = revived()
        server.kill()
        server = start(tmp_path)

        answer = _ask(server, program)

        assert answer is not None, server.log.read_text()[-3000:]
        assert answer[0] == [f"line {index}" for index in range(program.logged)]
        assert answer[1] == program.spans
    finally:
        server.kill()
    asyncio.run(_check_catalog(tmp_path))
