"""One folder of copies and several processes: each of them filled once, none taken from who reads it, whoever dies when."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from lakehouse.errors import BackendUnavailableError, LimitExceededError
from lakehouse.storage import cache as cache_module
from lakehouse.storage import cache_folder
from lakehouse.storage.cache import FileCache
from tests.storage.test_cache import Remote, bytes_in, files_in
from tests.support.cache_user import OBJECTS, WRONG, content_of, key_of
from tests.support.cache_user import fetch as fetch_content
from tests.support.fixtures import ROOT
from tests.support.sizes import SEED, size

BYTES_MAX = 400_000
USERS = 4
KILLS = size(12, 200)


async def test_two_who_share_a_folder_fetch_once_and_the_second_waits(tmp_path: Path) -> None:
    remote = Remote({"k/0": 100})
    one, two = (FileCache(tmp_path, remote.fetch) for _ in range(2))
    remote.gate.clear()

    async def read(cache: FileCache) -> bytes:
        async with cache.pinned(["k/0"]) as (path,):
            return path.read_bytes()

    reading = [asyncio.create_task(read(cache)) for cache in (one, two)]
    await asyncio.sleep(0.1)
    assert not any(task.done() for task in reading)
    remote.gate.set()

    assert await asyncio.gather(*reading) == [b"0" * 100] * 2
    assert remote.fetched == ["k/0"]
    assert sorted(cache.figures().bytes_fetched for cache in (one, two)) == [0, 100]
    assert one.figures().bytes_kept == two.figures().bytes_kept == 100


async def test_what_one_reads_the_other_does_not_remove_and_both_keep_the_bound(tmp_path: Path) -> None:
    remote = Remote({f"k/{n}": 100 for n in range(6)})
    one, two = (FileCache(tmp_path, remote.fetch, bytes_max=250) for _ in range(2))

    async with one.pinned(["k/0"]) as (held,):
        for n in range(1, 6):
            async with two.pinned([f"k/{n}"]):
                assert bytes_in(tmp_path) <= 250
        with pytest.raises(LimitExceededError, match="the 250 bytes of the local cache"):
            async with two.pinned(["k/1", "k/2"]):
                pass
        assert held.read_bytes() == b"0" * 100
    async with two.pinned(["k/3", "k/4"]):
        assert bytes_in(tmp_path) <= 250


async def test_somebody_who_stops_while_fetching_holds_others_up_for_a_while_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_module, "FILL_WAIT_S_MAX", 0.2)
    stopped, remote = Remote({"k/0": 100}), Remote({"k/0": 100})
    stopped.gate.clear()
    first = FileCache(tmp_path, stopped.fetch)
    waiting = asyncio.create_task(first.pinned(["k/0"]).__aenter__())
    await stopped.is_asked.wait()

    async with FileCache(tmp_path, remote.fetch).pinned(["k/0"]) as (path,):
        assert path.read_bytes() == b"0" * 100
        stopped.gate.set()
        assert (await waiting)[0].read_bytes() == b"0" * 100

    assert [path.name for path in files_in(tmp_path)] == [path.name]


async def test_a_folder_that_cannot_be_written_is_said_and_is_used_once_it_can_be(tmp_path: Path) -> None:
    remote = Remote({"k/0": 100})
    (tmp_path / "cache").write_bytes(b"in the way")
    cache = FileCache(tmp_path / "cache", remote.fetch)

    with pytest.raises(BackendUnavailableError, match=r"^the local cache cannot be written: [a-z ]+$"):
        async with cache.pinned(["k/0"]):
            pass

    (tmp_path / "cache").unlink()
    async with cache.pinned(["k/0"]) as (path,):
        assert path.read_bytes() == b"0" * 100


async def test_on_a_full_disk_copies_make_room_and_then_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = Remote({f"k/{n}": 100 for n in range(4)})
    cache = FileCache(tmp_path, remote.fetch)
    allocate = os.posix_fallocate

    def on_a_small_disk(file: int, offset: int, size: int) -> None:
        if bytes_in(tmp_path) + size > 250:
            raise OSError(28, "No space left on device")
        allocate(file, offset, size)

    monkeypatch.setattr(os, "posix_fallocate", on_a_small_disk)
    async with AsyncExitStack() as held:
        for n in range(3):
            async with cache.pinned([f"k/{n}"]) as (path,):
                assert path.read_bytes() == str(n).encode() * 100
        await held.enter_async_context(cache.pinned(["k/1", "k/2"]))
        with pytest.raises(BackendUnavailableError, match=r"^the disk of the local cache is full"):
            async with cache.pinned(["k/3"]):
                pass
        assert len(files_in(tmp_path)) == 2
    async with cache.pinned(["k/3"]) as (path,):
        assert path.read_bytes() == b"3" * 100


async def test_copies_from_before_the_machine_started_are_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = Remote({"k/0": 100})
    before = FileCache(tmp_path / "cache", remote.fetch)
    async with before.pinned(["k/0"]) as (path,):
        pass
    await before.close()
    path.write_bytes(bytes(100))  # what a loss of power may leave of it
    (tmp_path / "boot_id").write_text("another")
    monkeypatch.setattr(cache_folder, "BOOT_ID", tmp_path / "boot_id")

    async with FileCache(tmp_path / "cache", remote.fetch).pinned(["k/0"]) as (path,):
        assert path.read_bytes() == b"0" * 100


async def test_stores_that_share_a_folder_do_not_share_keys(tmp_path: Path) -> None:
    remote = Remote({"k/0": 100})
    for store in ("s3://one", "s3://two"):
        async with FileCache(tmp_path, remote.fetch, store=store).pinned(["k/0"]):
            pass

    assert remote.fetched == ["k/0", "k/0"]


async def test_using_a_copy_does_not_make_it_look_changed(tmp_path: Path) -> None:
    cache = FileCache(tmp_path, Remote({"k/0": 100}).fetch)
    async with cache.pinned(["k/0"]) as (path,):
        before = path.stat()
    async with cache.pinned(["k/0"]):
        pass

    assert (path.stat().st_mtime_ns, path.stat().st_ino) == (before.st_mtime_ns, before.st_ino)
    assert (cache.figures().hits, cache.figures().misses) == (1, 1)


class Users:
    """Processes at work in one folder."""

    def __init__(self, folder: Path, chance: random.Random) -> None:
        self.folder, self.chance = folder, chance
        self.running: list[subprocess.Popen[bytes]] = []
        self.output = (folder.parent / "output").open("ab")

    def start_one(self) -> None:
        command = [sys.executable, "-m", "tests.support.cache_user", str(self.folder), str(BYTES_MAX)]
        self.running.append(
            subprocess.Popen(
                [*command, str(self.chance.randrange(1 << 30))], cwd=ROOT, stdout=self.output, stderr=self.output
            )
        )

    def signal(self, number: signal.Signals) -> None:
        for user in self.running:
            assert user.poll() is None, self.said()
            user.send_signal(number)

    def kill(self, user: subprocess.Popen[bytes]) -> None:
        self.running.remove(user)
        user.kill()
        assert user.wait() != WRONG

    def said(self) -> str:
        return (self.folder.parent / "output").read_text()


@pytest.fixture
def users(tmp_path: Path) -> Iterator[Users]:
    users = Users(tmp_path / "cache", random.Random(SEED))
    yield users
    for user in users.running:
        user.kill()
        user.wait()
    users.output.close()


async def test_whoever_is_killed_when_all_that_is_read_is_right_and_the_bound_holds(users: Users) -> None:
    print(f"LAKEFLIGHT_TEST_SEED={SEED}")
    for _ in range(USERS):
        users.start_one()

    for _ in range(KILLS):
        read = users.said().count("right")
        deadline = time.monotonic() + 60
        while users.said().count("right") < read + 20:
            assert time.monotonic() < deadline, users.said()[-2000:]
            await asyncio.sleep(users.chance.random() * 0.02)
        users.signal(signal.SIGSTOP)  # at some moment each, and all looked at together
        assert bytes_in(users.folder) <= BYTES_MAX
        users.signal(signal.SIGCONT)
        users.kill(users.chance.choice(users.running))
        users.start_one()
    for user in list(users.running):
        users.kill(user)

    assert set(users.said().split("\n")) <= {"right", "no room", ""}
    async with FileCache(users.folder, fetch_content, bytes_max=BYTES_MAX).pinned([key_of(0)]):
        assert list((users.folder / "parts").iterdir()) == []
        assert bytes_in(users.folder) <= BYTES_MAX
    contents = {content_of(key_of(n)) for n in range(OBJECTS)}
    assert {path.read_bytes() for path in files_in(users.folder)} <= contents
