"""What ingestion answers when a backend fails, and what is there after a kill."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import asyncpg
import pytest
import structlog

from lakeflight.wire.envelope import BlockRequest
from lakehouse import failpoints
from lakehouse.catalog.migrate import migrate
from lakehouse.errors import BackendUnavailableError
from lakehouse.storage import BlobOutcome, LocalStore, local_blobs
from lakehouse.storage.paths import blob_key
from server.embedded_postgres import EmbeddedPostgres
from server.ingestion.group_commit import GroupCommit
from server.ingestion.listener import listen
from tests.support.ingestion import Connection, block_request, body_of, running_ingestion

BLOCK = "/ingestion/insert_block"


class Rows:
    """Stands in for the database."""

    def __init__(self) -> None:
        self.inserted: list[str] = []
        self.failing: set[str] = set()
        self.error: Exception = BackendUnavailableError("down")
        self.groups: list[int] = []

    async def insert(self, blocks: Sequence[BlockRequest], sizes: Sequence[int]) -> set[str]:
        await asyncio.sleep(0)
        self.groups.append(len(blocks))
        if any(block.block_id in self.failing for block in blocks):
            raise self.error
        new = {block.block_id for block in blocks} - set(self.inserted)
        self.inserted += new
        return new


def group_commit(folder: Path, rows: Rows) -> GroupCommit:
    return GroupCommit(LocalStore(folder), rows)  # type: ignore[arg-type]


async def test_a_failing_group_fails_alone(tmp_path: Path) -> None:
    rows = Rows()
    commit = group_commit(tmp_path, rows)
    bad, good = block_request(), block_request()
    rows.failing = {bad.block_id}

    with pytest.raises(BackendUnavailableError):
        await commit.put(bad)
    await commit.put(good)

    assert rows.inserted == [good.block_id]


async def test_a_block_that_nothing_can_be_done_with_does_not_take_its_group_along(tmp_path: Path) -> None:
    rows = Rows()
    rows.error = ValueError("not for this column")
    commit = group_commit(tmp_path, rows)
    blocks = [block_request() for _ in range(10)]
    rows.failing = {blocks[3].block_id}

    outcomes = await asyncio.gather(*(commit.put(block) for block in blocks), return_exceptions=True)

    assert [n for n, outcome in enumerate(outcomes) if outcome is not None] == [3]
    assert isinstance(outcomes[3], BackendUnavailableError)
    assert "column" not in str(outcomes[3])


async def test_callers_that_give_up_do_not_hold_up_the_others(tmp_path: Path) -> None:
    rows = Rows()
    commit = group_commit(tmp_path, rows)
    leaving = [asyncio.create_task(commit.put(block_request())) for _ in range(5)]
    await asyncio.sleep(0)
    for task in leaving:
        task.cancel()

    await asyncio.wait_for(asyncio.gather(*(commit.put(block_request()) for _ in range(100))), 10)
    await commit.close()

    assert len(rows.inserted) >= 100
    assert max(rows.groups) <= 64


async def test_the_four_outcomes_are_counted_apart(tmp_path: Path) -> None:
    rows = Rows()
    commit = group_commit(tmp_path, rows)
    block, orphan, lost = block_request(), block_request(), block_request()
    await LocalStore(tmp_path).create_blobs(
        [(f"blobs/{orphan.process_id}/{orphan.stream_id}/{orphan.block_id}", orphan.payload)]
    )
    rows.inserted.append(lost.block_id)

    for request in (block, block, orphan, lost):
        await commit.put(request)

    assert commit.outcomes == {
        ("created", "inserted"): 1,
        ("existed", "conflict"): 1,
        ("existed", "inserted"): 1,
        ("created", "conflict"): 1,
    }


async def test_a_payload_that_cannot_be_stored_fails_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_blobs, "LOCK_WAIT_S", 0.1)
    rows = Rows()
    commit = group_commit(tmp_path, rows)
    blocks = [block_request() for _ in range(6)]
    stuck = tmp_path / blob_key(blocks[2].process_id, blocks[2].stream_id, blocks[2].block_id)
    stuck.parent.mkdir(parents=True)
    with stuck.open("xb") as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)

        outcomes = await asyncio.gather(*(commit.put(block) for block in blocks), return_exceptions=True)

    assert [n for n, outcome in enumerate(outcomes) if outcome is not None] == [2]
    assert isinstance(outcomes[2], BackendUnavailableError)
    assert sorted(rows.inserted) == sorted(block.block_id for block in blocks if block is not blocks[2])
    await commit.put(blocks[2])
    assert stuck.read_bytes() == blocks[2].payload


async def test_what_comes_second_under_an_id_is_dropped_and_said_to_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = structlog.testing.CapturingLogger()
    monkeypatch.setattr("server.ingestion.group_commit.log", log)
    commit = group_commit(tmp_path, Rows())
    first = block_request(payload=b"first")

    await commit.put(first)
    await commit.put(first)
    await commit.put(replace(first, payload=b"other"))

    assert [(call.args, call.kwargs["dropped_bytes"]) for call in log.calls] == [(("ingestion.block_differs",), 5)]
    key = blob_key(first.process_id, first.stream_id, first.block_id)
    assert (tmp_path / key).read_bytes() == b"first"


async def test_a_store_that_fails_means_no_row(tmp_path: Path) -> None:
    class FullStore(LocalStore):
        async def create_blobs(self, objects: Sequence[tuple[str, bytes]]) -> list[BlobOutcome]:
            raise BackendUnavailableError("the object store failed: no space left on device")

    rows = Rows()
    commit = GroupCommit(FullStore(tmp_path), rows)  # type: ignore[arg-type]

    with pytest.raises(BackendUnavailableError):
        await commit.put(block_request())

    assert rows.inserted == []


async def test_postgres_down_is_503_and_its_return_needs_no_restart(tmp_path: Path) -> None:
    postgres = EmbeddedPostgres(tmp_path / "postgres")
    await postgres.start()
    await migrate(postgres.url)
    async with running_ingestion(postgres.url, tmp_path) as server:
        before, during = block_request(), block_request()
        assert (await server.post(BLOCK, body_of(before))).status == 200

        await postgres.stop()
        answer = await server.post(BLOCK, body_of(during))
        ready = await server.get("/ready")
        await postgres.start()

        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert str(tmp_path).encode() not in answer.body
        assert ready.status in (200, 503)  # a good answer may be a second old
        assert (await server.post(BLOCK, body_of(during))).status == 200
        assert (await server.get("/ready")).status == 200
        database = await asyncpg.connect(postgres.url)
        assert {str(row[0]) for row in await database.fetch("SELECT block_id FROM blocks")} == {
            before.block_id,
            during.block_id,
        }
        await database.close()
    await postgres.stop()


@pytest.mark.parametrize("point", ["payload", "row"])
async def test_a_kill_between_two_steps_loses_no_acknowledged_block(
    database_url: str, tmp_path: Path, point: str
) -> None:
    """Senders deliver again until they get their 200. Then payload and row are there, once."""
    listener = listen("127.0.0.1", 0)
    port = listener.getsockname()[1]
    waiting = [block_request() for _ in range(48)]
    acknowledged: list[BlockRequest] = []
    kills = 0

    async def send(connection: Connection) -> None:
        while waiting:
            block = waiting.pop()
            try:
                assert (await asyncio.wait_for(connection.post(BLOCK, body_of(block)), 20)).status == 200
            except (TimeoutError, OSError, asyncio.IncompleteReadError):
                waiting.append(block)
                return
            acknowledged.append(block)

    while waiting and kills < 40:
        child = start_child(listener.fileno(), database_url, tmp_path, f"{point}:kill:0.2:{kills}")
        connections = [await Connection.open(port) for _ in range(4)]
        await asyncio.gather(*(send(connection) for connection in connections))
        if waiting:
            assert await asyncio.to_thread(child.wait, 20) == -signal.SIGKILL
            kills += 1
        else:
            child.terminate()
            assert await asyncio.to_thread(child.wait, 20) == 0
        for connection in connections:
            await connection.close()
        assert child.stdout is not None
        child.stdout.close()
    listener.close()

    assert kills >= 1
    assert not waiting
    database = await asyncpg.connect(database_url)
    stored = [str(row[0]) for row in await database.fetch("SELECT block_id FROM blocks")]
    assert sorted(stored) == sorted(block.block_id for block in acknowledged)
    for block in acknowledged:
        path = tmp_path / "store" / "blobs" / block.process_id / block.stream_id / block.block_id
        assert path.read_bytes() == block.payload
    await database.close()


def start_child(listener: int, database_url: str, folder: Path, failpoint: str) -> subprocess.Popen[bytes]:
    program = textwrap.dedent(
        """
        import socket, sys
        from pathlib import Path
        from server.ingestion.process import IngestionSettings, run_ingestion_process
        listener = socket.socket(fileno=int(sys.argv[1]))
        folder = Path(sys.argv[3])
        settings = IngestionSettings(sys.argv[2], (folder / "store").as_uri(), folder / "scratch")
        run_ingestion_process(listener, settings, int(sys.argv[4]), lambda: print("ready", flush=True))
        """
    )
    return subprocess.Popen(
        [sys.executable, "-c", program, str(listener), database_url, str(folder), str(os.getpid())],
        pass_fds=[listener],
        env={**os.environ, failpoints.VARIABLE: failpoint},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )


def test_a_child_ends_with_its_parent(tmp_path: Path) -> None:
    program = textwrap.dedent(
        """
        import sys, time
        from pathlib import Path
        from server.ingestion.listener import listen
        from tests.ingestion.test_faults import start_child
        listener = listen("127.0.0.1", 0)
        child = start_child(listener.fileno(), "postgresql://x@127.0.0.1:1/x", Path(sys.argv[1]), "")
        child.stdout.readline()
        print(child.pid, child.poll(), flush=True)
        time.sleep(60)
        """
    )
    parent = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    pid, state = parent.stdout.readline().decode().split()
    assert state == "None"

    parent.kill()
    parent.wait()
    parent.stdout.close()

    for _ in range(200):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
                return
        except FileNotFoundError:
            return
        subprocess.run(["sleep", "0.05"], check=True)
    raise AssertionError("the child outlived its parent")


def test_failpoints_cost_a_name_and_refuse_unknown_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failpoints, "_armed", None)
    failpoints.failpoint("row")

    failpoints.arm("row:raise:1,payload:raise:0")
    failpoints.failpoint("payload")
    with pytest.raises(failpoints.FailpointError):
        failpoints.failpoint("row")

    for wrong in ("nowhere:kill", "row:explode", "row:kill:often", "row:kill:1:2:3"):
        with pytest.raises(ValueError):
            failpoints.arm(wrong)
    failpoints.arm("")
    failpoints.failpoint("row")
