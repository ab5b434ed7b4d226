"""Local copies of remote objects: pinned while they are used, bounded in bytes, kept from one start to the next."""

from __future__ import annotations

import asyncio
import contextlib
import os
import uuid
from pathlib import Path

import pytest

from lakehouse.errors import BackendUnavailableError, LimitExceededError
from lakehouse.storage.cache import FileCache, Room
from lakehouse.storage.fsspec_store import SINGLE_REQUEST_BYTES_MAX, FsspecStore


class Remote:
    """Objects that can be fetched, and how often each was."""

    def __init__(self, sizes: dict[str, int]) -> None:
        self.sizes = sizes
        self.fetched: list[str] = []
        self.is_asked = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()

    async def fetch(self, key: str, room: Room) -> None:
        self.fetched.append(key)
        self.is_asked.set()
        path = await room(self.sizes.get(key, 100))
        await self.gate.wait()
        if key not in self.sizes:
            raise BackendUnavailableError("an object is missing in the store")
        with path.open("r+b") as file:
            file.write(key[-1:].encode() * self.sizes[key])


def files_in(folder: Path) -> list[Path]:
    return [path for kind in ("copies", "parts") for path in (folder / kind).iterdir()]


def bytes_in(folder: Path) -> int:
    """Without those that go while they are counted: a process stops a moment after it is told to."""
    total = 0
    for path in files_in(folder):
        with contextlib.suppress(FileNotFoundError):
            total += path.stat().st_size
    return total


async def test_what_is_used_stays_while_others_make_room(tmp_path: Path) -> None:
    remote = Remote({f"k/{n}": 100 for n in range(6)})
    cache = FileCache(tmp_path / "cache", remote.fetch, bytes_max=250)

    async with cache.pinned(["k/0"]) as (held,):
        for n in range(1, 6):
            async with cache.pinned([f"k/{n}"]):
                pass
        assert held.read_bytes() == b"0" * 100
        assert bytes_in(tmp_path / "cache") <= 250
    async with cache.pinned(["k/0", "k/5"]):
        pass

    assert remote.fetched == [f"k/{n}" for n in range(6)]


async def test_more_than_there_is_room_for_is_refused_with_the_limit_and_frees_what_it_held(tmp_path: Path) -> None:
    remote = Remote({f"k/{n}": 100 for n in range(3)})
    cache = FileCache(tmp_path / "cache", remote.fetch, bytes_max=250)

    with pytest.raises(LimitExceededError, match="the 250 bytes of the local cache"):
        async with cache.pinned(["k/0", "k/1", "k/2"]):
            pass

    async with cache.pinned(["k/2", "k/1"]) as paths:
        assert [path.read_bytes()[:1] for path in paths] == [b"2", b"1"]


async def test_many_who_ask_at_once_fetch_once_and_one_who_gives_up_stops_nobody(tmp_path: Path) -> None:
    remote = Remote({"k/0": 100})
    cache = FileCache(tmp_path / "cache", remote.fetch)
    remote.gate.clear()

    async def use() -> bytes:
        async with cache.pinned(["k/0", "k/0"]) as paths:
            return paths[1].read_bytes()

    first, *others = [asyncio.create_task(use()) for _ in range(10)]
    await asyncio.sleep(0.02)
    first.cancel()
    await asyncio.sleep(0)
    remote.gate.set()

    assert set(await asyncio.gather(*others)) == {b"0" * 100}
    assert remote.fetched == ["k/0"]


async def test_a_fetch_that_fails_leaves_nothing_and_is_tried_again(tmp_path: Path) -> None:
    remote = Remote({})
    cache = FileCache(tmp_path / "cache", remote.fetch)

    for _ in range(2):
        with pytest.raises(BackendUnavailableError, match="an object is missing in the store"):
            async with cache.pinned(["k/0"]):
                pass

    assert remote.fetched == ["k/0", "k/0"]
    assert files_in(tmp_path / "cache") == []


async def test_copies_outlive_the_process_and_what_it_had_not_finished_does_not(tmp_path: Path) -> None:
    remote = Remote({f"k/{n}": 100 for n in range(4)})
    before = FileCache(tmp_path / "cache", remote.fetch)
    for n in (0, 1, 2):
        async with before.pinned([f"k/{n}"]) as (path,):
            os.utime(path, ns=(n, n))
    await before.close()
    (tmp_path / "cache" / "parts" / f"{'a' * 64}.{'b' * 32}").write_bytes(b"half")

    after = FileCache(tmp_path / "cache", remote.fetch, bytes_max=300)
    async with after.pinned(["k/3", "k/2"]):
        pass
    async with after.pinned(["k/1"]):
        pass

    assert remote.fetched == ["k/0", "k/1", "k/2", "k/3"]
    assert bytes_in(tmp_path / "cache") == 300


@pytest.mark.parametrize("lost", ["discarded", "deleted by hand"])
async def test_a_copy_that_is_not_believed_or_not_there_is_fetched_again(tmp_path: Path, lost: str) -> None:
    remote = Remote({"k/0": 100})
    cache = FileCache(tmp_path / "cache", remote.fetch)
    async with cache.pinned(["k/0"]) as (path,):
        path.write_bytes(b"damaged")
    if lost == "discarded":
        cache.discard(["k/0", "k/unknown"])
    else:
        path.unlink()

    async with cache.pinned(["k/0"]) as (path,):
        assert path.read_bytes() == b"0" * 100


async def test_large_files_stream_both_ways(tmp_path: Path) -> None:
    store = FsspecStore(f"memory://bucket/{uuid.uuid4().hex}", cache=tmp_path / "cache")
    content = os.urandom(1 << 20) * (SINGLE_REQUEST_BYTES_MAX // (1 << 20) + 1)
    for name in ("one", "two"):
        (tmp_path / name).write_bytes(content)

    await store.put_file("k/large", tmp_path / "one")
    with pytest.raises(FileExistsError, match="the key is taken"):
        await store.put_file("k/large", tmp_path / "two")

    async with store.localize(["k/large"]) as (path,):
        assert path.read_bytes() == content
    assert (tmp_path / "two").exists()
    await store.close()
