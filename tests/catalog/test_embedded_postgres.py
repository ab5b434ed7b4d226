"""The embedded server: one command away, gone with its parent, and never short of a row."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import asyncpg
import pytest

from server.data_folder import DataFolder, DataFolderInUseError, ForeignFolderError
from server.embedded_postgres import EmbeddedPostgres, EmbeddedPostgresError


@pytest.fixture(scope="module")
def made_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database that has been made and stopped; copying it is faster than making another."""
    server = EmbeddedPostgres(tmp_path_factory.mktemp("made") / "postgres")

    async def make() -> None:
        await server.start()
        await server.stop()

    asyncio.run(make())
    return server.folder


@pytest.fixture
def folder(made_folder: Path, tmp_path: Path) -> Path:
    subprocess.run(["cp", "-a", "--reflink=auto", made_folder, tmp_path / "postgres"], check=True)
    return tmp_path / "postgres"


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + 15
    while is_running(pid):
        assert time.monotonic() < deadline, f"process {pid} is still there"
        time.sleep(0.02)


async def rows(server: EmbeddedPostgres) -> list[int]:
    connection = await asyncpg.connect(server.url)
    found = [row["n"] for row in await connection.fetch("SELECT n FROM kept ORDER BY n")]
    await connection.close()
    return found


async def keep(server: EmbeddedPostgres, number: int) -> None:
    connection = await asyncpg.connect(server.url)
    await connection.execute("CREATE TABLE IF NOT EXISTS kept (n int)")
    await connection.execute("INSERT INTO kept VALUES ($1)", number)
    await connection.close()


async def test_rows_survive_every_way_of_ending(folder: Path) -> None:
    server = EmbeddedPostgres(folder)
    await server.start()
    await keep(server, 1)
    await server.stop()

    server = EmbeddedPostgres(folder)
    await server.start()
    await keep(server, 2)
    os.kill(server.pid, signal.SIGKILL)
    wait_until_gone(server.pid)

    await server.start()  # over the stale pid file
    await keep(server, 3)
    assert await rows(server) == [1, 2, 3]
    await server.stop()
    assert not (folder / "postmaster.pid").exists()


async def test_a_stale_pid_file_of_somebody_who_lives_is_no_obstacle(folder: Path) -> None:
    server = EmbeddedPostgres(folder)
    await server.start()
    await keep(server, 1)
    os.kill(server.pid, signal.SIGKILL)
    wait_until_gone(server.pid)
    pid_file = folder / "postmaster.pid"
    pid_file.write_text(pid_file.read_text().replace(str(server.pid), "1", 1))

    await server.start()

    assert await rows(server) == [1]
    await server.stop()


def test_the_server_ends_when_its_parent_is_killed_and_an_orphan_is_taken_over(folder: Path) -> None:
    program = textwrap.dedent(
        """
        import asyncio, sys, time
        from pathlib import Path
        from server.embedded_postgres import EmbeddedPostgres
        from tests.catalog.test_embedded_postgres import keep
        async def main():
            server = EmbeddedPostgres(Path(sys.argv[1]))
            await server.start()
            await keep(server, 7)
            print(server.pid, flush=True)
        asyncio.run(main())
        time.sleep(60)
        """
    )
    parent = subprocess.Popen([sys.executable, "-c", program, str(folder)], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    postgres = int(parent.stdout.readline())
    os.kill(postgres, signal.SIGSTOP)  # cannot obey the signal of its parent's death yet: an orphan
    parent.kill()
    parent.communicate()
    assert is_running(postgres)
    os.kill(postgres, signal.SIGCONT)

    async def take_over() -> list[int]:
        server = EmbeddedPostgres(folder)
        await server.start()
        found = await rows(server)
        await server.stop()
        return found

    assert asyncio.run(take_over()) == [7]
    wait_until_gone(postgres)


async def test_a_kill_during_the_making_leaves_nothing_in_the_way(tmp_path: Path) -> None:
    half_made = tmp_path / "postgres.new-abc"
    half_made.mkdir()
    (half_made / "PG_VERSION").write_text("18")

    server = EmbeddedPostgres(tmp_path / "postgres")
    await server.start()
    await server.stop()

    assert not half_made.exists()


async def test_a_folder_with_other_things_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "holiday.jpg").write_bytes(b"")

    with pytest.raises(EmbeddedPostgresError, match="is not empty and is not a database"):
        await EmbeddedPostgres(tmp_path / "postgres").start()


async def test_a_path_too_long_for_a_socket_works(folder: Path, tmp_path: Path) -> None:
    far = tmp_path / ("long" * 30)
    far.mkdir()
    server = EmbeddedPostgres(folder.rename(far / "postgres"))

    await server.start()
    await keep(server, 1)

    assert await rows(server) == [1]
    await server.stop()


async def test_a_crash_is_noticed_and_mended(folder: Path) -> None:
    server = EmbeddedPostgres(folder)
    await server.start()
    await keep(server, 1)
    watching = asyncio.create_task(server.supervise())
    await asyncio.sleep(0.05)
    first = server.pid

    os.kill(first, signal.SIGKILL)

    async with asyncio.timeout(20):
        found: list[int] = []
        while not found:
            await asyncio.sleep(0.05)
            with contextlib.suppress(OSError, asyncpg.PostgresError):
                found = await rows(server)
    assert found == [1]
    assert server.pid != first
    await server.stop()
    await asyncio.wait_for(watching, 5)


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    notes = tmp_path / "scratch" / "notes.txt"
    notes.parent.mkdir()
    notes.write_text("precious")

    with pytest.raises(ForeignFolderError, match="is no data folder of lakeflight"):
        DataFolder(tmp_path).acquire()

    assert notes.read_text() == "precious"
    assert list(tmp_path.iterdir()) == [notes.parent]


def test_whoever_only_looks_deletes_nothing(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    folder.acquire()
    (folder.scratch / "old").write_bytes(b"x")
    folder.release()

    folder.acquire(empty_scratch=False)

    assert (folder.scratch / "old").exists()
    folder.release()


def test_a_data_folder_has_one_owner(tmp_path: Path) -> None:
    owner = DataFolder(tmp_path / "lake")
    owner.acquire()
    (owner.scratch / "old").write_bytes(b"x")

    with pytest.raises(DataFolderInUseError, match=f"{tmp_path}/lake is in use by process {os.getpid()}"):
        DataFolder(tmp_path / "lake").acquire()
    assert (owner.scratch / "old").exists()

    owner.release()
    DataFolder(tmp_path / "lake").acquire()
    assert list(owner.scratch.iterdir()) == []
