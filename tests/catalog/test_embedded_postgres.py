"""The embedded server: one command away, gone with its parent, and never short of a row."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import pwd
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from server import embedded_postgres
from server.data_folder import DataFolder, DataFolderInUseError
from server.embedded_postgres import READY_POLL_S, EmbeddedPostgres, EmbeddedPostgresError


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


def at_work_below(folder: Path) -> list[int]:
    """Processes whose working folder is somewhere below ``folder``."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and Path(os.readlink(entry / "cwd")).is_relative_to(folder):
                found.append(int(entry.name))
    return found


async def test_who_gives_up_the_making_leaves_neither_processes_nor_files(tmp_path: Path) -> None:
    """The lock of the data folder is given up at that moment: the next server makes its database there."""
    making = asyncio.create_task(EmbeddedPostgres(tmp_path / "postgres").start())
    working: list[int] = []
    async with asyncio.timeout(20):
        while not working:
            await asyncio.sleep(0.01)
            working = at_work_below(tmp_path)

    making.cancel()
    with pytest.raises(asyncio.CancelledError):
        await making

    for pid in at_work_below(tmp_path):  # those of initdb have been killed and need a moment to be gone
        wait_until_gone(pid)
    assert list(tmp_path.iterdir()) == []


async def test_a_making_that_hangs_is_given_up_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hanging = [sys.executable, "-c", "import time; time.sleep(60)"]
    monkeypatch.setattr(embedded_postgres, "_launcher_command", lambda *_: hanging)
    monkeypatch.setattr(embedded_postgres, "INITDB_TIMEOUT_S", 1.0)

    with pytest.raises(EmbeddedPostgresError, match="the embedded database could not be made: not within 1 s"):
        await EmbeddedPostgres(tmp_path / "postgres").start()

    assert list(tmp_path.iterdir()) == []


async def test_who_gives_up_a_start_that_waits_for_an_orphan_leaves_it_to_the_next_one(folder: Path) -> None:
    orphan = EmbeddedPostgres(folder)
    await orphan.start()
    os.kill(orphan.pid, signal.SIGSTOP)  # does not obey yet
    starting = asyncio.create_task(EmbeddedPostgres(folder).start())
    await asyncio.sleep(0.2)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(starting, 2)

    server = EmbeddedPostgres(folder)
    waiting = asyncio.create_task(server.start())
    await asyncio.sleep(0.1)
    os.kill(orphan.pid, signal.SIGCONT)
    await waiting

    await keep(server, 1)
    assert await rows(server) == [1]
    await server.stop()
    await orphan.stop()


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


async def test_a_restart_that_fails_is_tried_again_until_the_server_runs(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = EmbeddedPostgres(folder)
    await server.start()
    await keep(server, 1)
    url = server.url
    launch = server.launch
    failures = [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), EmbeddedPostgresError("not now"), ValueError("odd")]
    paused: list[float] = []
    sleep = asyncio.sleep

    def no_room_yet(*arguments: Any) -> None:
        if failures:
            raise failures.pop(0)
        launch(*arguments)

    async def watched_sleep(delay: float) -> None:
        paused.append(delay)
        await sleep(0.01)

    monkeypatch.setattr(server, "launch", no_room_yet)
    monkeypatch.setattr("server.embedded_postgres.asyncio.sleep", watched_sleep)
    watching = asyncio.create_task(server.supervise())
    await sleep(0.05)

    os.kill(server.pid, signal.SIGKILL)

    async with asyncio.timeout(20):
        found: list[int] = []
        while not found:
            await sleep(0.05)
            with contextlib.suppress(OSError, asyncpg.PostgresError):
                found = await rows(server)
    assert found == [1]
    assert server.url == url
    assert [pause for pause in paused if pause > READY_POLL_S][:4] == [0.2, 0.4, 0.8, 1.6]
    await server.stop()
    await asyncio.wait_for(watching, 5)


async def test_a_database_whose_folder_is_gone_is_not_replaced_by_an_empty_one(folder: Path, tmp_path: Path) -> None:
    server = EmbeddedPostgres(folder)
    await server.start()
    await keep(server, 1)
    watching = asyncio.create_task(server.supervise())
    await asyncio.sleep(0.05)

    folder.rename(tmp_path / "elsewhere")  # as a disk that is unmounted
    os.kill(server.pid, signal.SIGKILL)
    await asyncio.sleep(0.5)
    assert not folder.exists()
    (tmp_path / "elsewhere").rename(folder)

    async with asyncio.timeout(20):
        found: list[int] = []
        while not found:
            await asyncio.sleep(0.05)
            with contextlib.suppress(OSError, asyncpg.PostgresError):
                found = await rows(server)
    assert found == [1]
    await server.stop()
    await asyncio.wait_for(watching, 5)


async def test_a_full_disk_is_said_instead_of_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = 'FATAL:  could not write to file "base/4/1255_fsm": No space left on device'
    failing = [sys.executable, "-c", f"import sys; sys.exit({said!r})"]
    monkeypatch.setattr("server.embedded_postgres._launcher_command", lambda *_: failing)

    with pytest.raises(EmbeddedPostgresError) as caught:
        await EmbeddedPostgres(tmp_path / "postgres").start()

    assert str(caught.value) == (
        f"the embedded database could not be made: the disk of {tmp_path} is full, make room there"
    )


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


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives itself up")
def test_a_program_below_a_private_home_of_root_finds_its_neighbours(tmp_path: Path) -> None:
    """An environment in root's home: initdb asks with access() whether it may run the server beside it."""
    tmp_path.chmod(0o700)
    tested, neighbour = tmp_path / "test", tmp_path / "neighbour"
    for copy in (tested, neighbour):
        copy.write_bytes(Path("/usr/bin/test").read_bytes())
        copy.chmod(0o755)
    nobody = pwd.getpwnam("nobody")

    def ask(*question: str) -> int:
        launcher = str(Path(embedded_postgres.__file__).with_name("postgres_launcher.py"))
        who = (str(nobody.pw_uid), str(nobody.pw_gid), "0", str(tmp_path), str(tested))
        return subprocess.run([sys.executable, "-I", "-S", launcher, *who, *question], timeout=20).returncode

    assert ask("-x", str(neighbour)) == 0
    assert ask("-x", str(tmp_path / "absent")) == 1
