"""What every store promises, and what local files promise beyond."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import random
import sys
import textwrap
import threading
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from lakehouse.errors import BackendUnavailableError
from lakehouse.storage import BlobStore, LocalStore, StoredBlob, local_blobs, open_store
from lakehouse.storage import local as local_module
from lakehouse.storage.paths import blob_key, checked_key, partition_key, path_value
from tests.storage.conftest import S3_SERVERS
from tests.support.s3 import new_bucket


async def localized(store: BlobStore, keys: Sequence[str]) -> list[bytes]:
    async with store.localize(keys) as paths:
        return [path.read_bytes() for path in paths]


async def create(store: BlobStore, objects: Sequence[tuple[str, bytes]]) -> list[StoredBlob]:
    """``create_blobs`` where nothing goes wrong."""
    stored = []
    for outcome in await store.create_blobs(objects):
        assert isinstance(outcome, StoredBlob), outcome
        stored.append(outcome)
    return stored


@pytest_asyncio.fixture(params=["file", "memory", *S3_SERVERS])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[BlobStore]:
    match request.param:
        case "file":
            store = open_store((tmp_path / "store").as_uri(), cache=tmp_path / "cache")
        case "memory":
            store = open_store(f"memory://bucket/{uuid.uuid4().hex}", cache=tmp_path / "cache")
        case _:
            bucket = new_bucket(request.getfixturevalue(f"{request.param}_endpoint"))
            store = open_store(bucket.url, cache=tmp_path / "cache", s3=bucket.options)
    yield store
    await store.close()


async def test_an_object_is_created_once_and_kept(store: BlobStore) -> None:
    first = await create(store, [("blobs/a/b/c", b"first"), ("blobs/a/b/d", b"")])
    again = await create(store, [("blobs/a/b/c", b"other bytes"), ("blobs/a/b/e", b"new")])

    assert [(blob.size, blob.created) for blob in first] == [(5, True), (0, True)]
    assert [(blob.size, blob.created) for blob in again] == [(5, False), (3, True)]
    assert await store.get("blobs/a/b/c") == b"first"
    assert await store.put_blobs([("blobs/a/b/c", b"x")]) == [5]


async def test_one_of_many_writers_at_once_creates(store: BlobStore) -> None:
    contents = [bytes([65 + n]) * 1000 for n in range(12)]

    stored = await asyncio.gather(*(create(store, [("k/one", content)]) for content in contents))

    winners = [content for content, [blob] in zip(contents, stored, strict=True) if blob.created]
    assert len(winners) == 1
    assert await store.get("k/one") == winners[0]


async def test_the_same_key_twice_in_a_group(store: BlobStore) -> None:
    stored = await create(store, [("k/twice", b"abc"), ("k/twice", b"abc")])

    assert [(blob.size, blob.created) for blob in stored] == [(3, True), (3, False)]


async def test_files_move_in_and_their_names_are_never_taken_twice(store: BlobStore, tmp_path: Path) -> None:
    source, second = tmp_path / "source", tmp_path / "second"
    source.write_bytes(b"parquet")
    second.write_bytes(b"other")

    await store.put_file("_schema/lake/x.parquet", source)
    with pytest.raises(FileExistsError, match="the key is taken"):
        await store.put_file("_schema/lake/x.parquet", second)

    assert not source.exists()
    assert second.exists()
    assert await store.get("_schema/lake/x.parquet") == b"parquet"


async def test_local_copies_hold_the_objects(store: BlobStore) -> None:
    await store.put_blobs([(f"k/{n}", str(n).encode()) for n in range(70)])
    keys = [f"k/{n}" for n in (3, 1, 3)] + [f"k/{n}" for n in range(70)]

    async with store.localize(keys) as paths:
        assert [path.read_bytes().decode() for path in paths] == ["3", "1", "3", *map(str, range(70))]


async def test_listing_size_and_deletion(store: BlobStore) -> None:
    await store.put_blobs([("k/a/1", b"1"), ("k/a/2", b"22"), ("k/b/3", b"333")])

    assert await store.list("k/a") == ["k/a/1", "k/a/2"]
    assert await store.list("") == ["k/a/1", "k/a/2", "k/b/3"]
    assert await store.list("absent") == []
    assert [await store.is_empty(prefix) for prefix in ("", "k", "k/a", "absent")] == [False, False, False, True]
    assert [await store.size(key) for key in ("k/b/3", "k/none")] == [3, None]

    await store.delete(["k/a/1", "k/a/2", "k/none"])
    assert await store.list("k") == ["k/b/3"]
    assert [blob.created for blob in await create(store, [("k/a/1", b"1")])] == [True]


async def test_a_long_listing_comes_in_pages(store: BlobStore) -> None:
    keys = {f"k/{n % 7}/{n}" for n in range(1_010)}
    await store.put_blobs([(key, b"x") for key in keys])

    pages = [page async for page in store.pages("k")]

    listed = [key for page in pages for key in page]
    assert len(listed) == len(keys)
    assert set(listed) == keys
    assert all(pages)
    assert len(pages) == (1 if store.name.startswith("memory:") else 2)  # what fsspec reaches is listed as a whole
    assert [page async for page in store.pages("absent")] == []


async def test_an_absent_object_is_trouble_of_the_store_and_names_no_path(store: BlobStore, tmp_path: Path) -> None:
    await store.probe()

    for attempt in (store.get("k/none"), localized(store, ["k/none"])):
        with pytest.raises(BackendUnavailableError) as refused:
            await attempt
        assert str(refused.value) == "an object is missing in the store"


@pytest.mark.parametrize(
    "key",
    ["", "/abs", "../up", "a/../b", "a//b", "a/", "a/.", "./a", "a\0b", "a b", "ü", "a" * 256, "a/" * 600 + "a"],
)
async def test_no_key_leads_out_of_the_store(store: BlobStore, tmp_path: Path, key: str) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"")

    for attempt in (
        store.put_blobs([(key, b"")]),
        store.put_file(key, source),
        localized(store, [key]),
        store.get(key),
        store.size(key),
        store.delete([key]),
    ):
        with pytest.raises(ValueError, match="not a key"):
            await attempt


async def test_the_torn_remainder_of_a_crash_is_made_whole(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    whole = bytes(range(256)) * 40
    for name, content in {"torn": whole[:5000], "empty": b"", "other": b"zzz", "longer": whole + b"!"}.items():
        (tmp_path / "k").mkdir(exist_ok=True)
        (tmp_path / "k" / name).write_bytes(content)

    stored = await create(store, [(f"k/{name}", whole) for name in ("torn", "empty", "other", "longer")])

    assert [blob.size for blob in stored] == [len(whole), len(whole), 3, len(whole) + 1]
    assert [blob.created for blob in stored] == [True, True, False, False]
    assert (tmp_path / "k" / "torn").read_bytes() == whole
    assert (tmp_path / "k" / "other").read_bytes() == b"zzz"
    await store.close()


async def test_a_writer_at_work_is_waited_for_and_not_taken_for_a_remainder(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    (tmp_path / "k").mkdir()
    with (tmp_path / "k" / "slow").open("xb", buffering=0) as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)
        writer.write(b"ab")
        second = asyncio.create_task(create(store, [("k/slow", b"abcdef")]))
        await asyncio.sleep(0.1)
        assert not second.done()
        writer.write(b"XY")

    assert [tuple(blob) for blob in await second] == [(4, False, True)]
    assert (tmp_path / "k" / "slow").read_bytes() == b"abXY"
    await store.close()


async def test_a_writer_that_hangs_makes_others_fail_and_not_hang(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_blobs, "LOCK_WAIT_S", 0.1)
    store = LocalStore(tmp_path)
    with (tmp_path / "stuck").open("xb") as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)

        with pytest.raises(BackendUnavailableError, match="timed out"):
            await store.put_blobs([("stuck", b"abcdef")])
    await store.close()


async def test_what_hangs_costs_a_group_one_wait_and_only_the_objects_that_it_is_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_blobs, "LOCK_WAIT_S", 0.3)
    store = LocalStore(tmp_path)
    writers = [(tmp_path / f"stuck-{n}").open("xb") for n in range(8)]
    for writer in writers:
        fcntl.flock(writer, fcntl.LOCK_EX)

    begin = time.monotonic()
    outcomes = await store.create_blobs([(f"{kind}-{n}", b"abcdef") for n in range(8) for kind in ("stuck", "free")])

    assert time.monotonic() - begin < 2
    assert outcomes[1::2] == [StoredBlob(6, True)] * 8
    assert all("timed out" in str(outcome) for outcome in outcomes[::2])
    assert [(tmp_path / f"free-{n}").read_bytes() for n in range(8)] == [b"abcdef"] * 8
    for writer in writers:
        writer.close()
    await store.close()


async def test_an_object_without_room_fails_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LocalStore(tmp_path)
    write_all = local_blobs.write_all

    def full_disk(fd: int, data: bytes) -> None:
        if data == b"large":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write_all(fd, data)

    monkeypatch.setattr(local_blobs, "write_all", full_disk)
    outcomes = await store.create_blobs([("k/1", b"small"), ("k/2", b"large"), ("k/3", b"small")])

    assert [outcomes[0], outcomes[2]] == [StoredBlob(5, True)] * 2
    assert str(outcomes[1]) == "the object store failed: no space left on device"
    assert await store.list("k") == ["k/1", "k/3"]
    await store.close()


async def test_two_stores_over_one_folder_agree_on_who_was_first(tmp_path: Path) -> None:
    stores = [LocalStore(tmp_path) for _ in range(4)]

    for round_number in range(50):
        contents = [bytes([65 + n]) * (5_000 + n) for n in range(len(stores))]
        key = f"k/{round_number}"
        stored = await asyncio.gather(
            *(create(store, [(key, content)]) for store, content in zip(stores, contents, strict=True))
        )
        winners = [content for content, [blob] in zip(contents, stored, strict=True) if blob.created]
        assert len(winners) == 1
        assert (tmp_path / key).read_bytes() == winners[0]
        assert {blob.size for [blob] in stored} == {len(winners[0])}
    for store in stores:
        await store.close()


async def test_a_failed_sync_leaves_no_name_that_would_pass_for_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LocalStore(tmp_path)

    class BrokenDisk:
        def syncfs(self, _: int) -> int:
            return -1

    with monkeypatch.context() as patched:
        patched.setattr(local_blobs, "libc", BrokenDisk())
        with pytest.raises(BackendUnavailableError):
            await store.create_blobs([("k/1", b"1")])

    assert await store.list("k") == []
    assert [blob.created for blob in await create(store, [("k/1", b"1")])] == [True]
    await store.close()


class Disk:
    """Stands in for the C library: a sync does what the test says."""

    def __init__(self, sync: Any) -> None:
        self.sync = sync

    def syncfs(self, fd: int) -> int:
        result: int = self.sync(fd)
        return result


@pytest.mark.parametrize("servers", [1, 2])
async def test_a_group_that_fails_takes_nothing_away_from_one_that_was_told_it_is_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, servers: int
) -> None:
    stores = [LocalStore(tmp_path) for _ in range(servers)]
    syncfs = local_blobs.libc.syncfs
    syncing, fail = threading.Event(), threading.Event()

    def first_fails(fd: int) -> int:
        if syncing.is_set():
            return int(syncfs(fd))
        syncing.set()
        fail.wait(10)
        return -1

    monkeypatch.setattr(local_blobs, "libc", Disk(first_fails))
    first = asyncio.create_task(stores[0].create_blobs([("k/x", b"x" * 10), ("k/y", b"y")]))
    await asyncio.to_thread(syncing.wait)
    again = asyncio.create_task(create(stores[-1], [("k/w", b"w"), ("k/x", b"x" * 10)]))
    await asyncio.wait([again], timeout=0.3)
    fail.set()
    with pytest.raises(BackendUnavailableError):
        await first

    assert [blob.size for blob in await again] == [1, 10]
    assert (tmp_path / "k/x").read_bytes() == b"x" * 10
    assert await stores[0].list("") == ["k/w", "k/x"]
    for store in stores:
        await store.close()


async def test_groups_that_share_keys_in_any_order_do_not_wait_for_each_other_in_a_circle(tmp_path: Path) -> None:
    stores = [LocalStore(tmp_path) for _ in range(3)]
    begin = time.monotonic()

    for round_number in range(10):
        keys = [f"k/{round_number}/{n}" for n in range(20)]
        orders = [keys, keys[::-1], keys[10:] + keys[:10]]
        stored = await asyncio.gather(
            *(
                create(store, [(key, key.encode()) for key in order])
                for store, order in zip(stores, orders, strict=True)
            )
        )
        assert sum(blob.created for group in stored for blob in group) == len(keys)

    assert time.monotonic() - begin < local_blobs.LOCK_WAIT_S
    for store in stores:
        await store.close()


async def test_what_one_group_was_told_is_stored_stays_however_often_others_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(5)
    syncfs = local_blobs.libc.syncfs

    def often_fails(fd: int) -> int:
        time.sleep(chance.random() / 500)
        return -1 if chance.random() < 0.4 else int(syncfs(fd))

    monkeypatch.setattr(local_blobs, "libc", Disk(often_fails))
    stores = [LocalStore(tmp_path) for _ in range(3)]
    stored: set[str] = set()

    async def send(store: LocalStore, order: random.Random) -> None:
        for round_number in range(25):
            keys = order.sample([f"k/{round_number}/{n}" for n in range(6)], 4)
            try:
                await create(store, [(key, key.encode() * 300) for key in keys])
            except BackendUnavailableError:
                continue
            stored.update(keys)
            assert all((tmp_path / key).read_bytes() == key.encode() * 300 for key in keys)

    await asyncio.gather(*(send(store, random.Random(n)) for n in range(2) for store in stores))

    assert len(stored) > 100
    for key in stored:
        assert (tmp_path / key).read_bytes() == key.encode() * 300, key
    for store in stores:
        await store.close()


async def test_a_writer_that_is_killed_before_its_sync_leaves_its_place_to_the_next(tmp_path: Path) -> None:
    program = textwrap.dedent(
        """
        import sys, time
        from lakehouse.storage import local_blobs
        class Disk:
            def syncfs(self, fd):
                print("syncing", flush=True)
                time.sleep(60)
        local_blobs.libc = Disk()
        local_blobs.create_group(sys.argv[1], [("k/1", b"whole"), ("k/2", b"beg")])
        """
    )
    store = LocalStore(tmp_path)
    first = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    assert first.stdout is not None
    assert await first.stdout.readline() == b"syncing\n"
    second = asyncio.create_task(create(store, [("k/1", b"whole"), ("k/2", b"beginning")]))
    await asyncio.sleep(0.2)
    assert not second.done()

    first.kill()

    assert await second == [StoredBlob(5, False), StoredBlob(9, True)]
    assert (tmp_path / "k/2").read_bytes() == b"beginning"
    await first.communicate()
    await store.close()


def test_a_file_that_somebody_filled_before_its_lock_was_ours_is_theirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    class Locks:
        LOCK_EX, LOCK_NB = fcntl.LOCK_EX, fcntl.LOCK_NB

        def flock(self, fd: int, operation: int) -> None:
            calls.append(fd)
            if len(calls) == 1:
                assert local_blobs.create_group(str(tmp_path), [("k", b"theirs, longer")]) == [StoredBlob(14, True)]
            fcntl.flock(fd, operation)

    monkeypatch.setattr(local_blobs, "fcntl", Locks())

    assert local_blobs.create_group(str(tmp_path), [("k", b"ours")]) == [StoredBlob(14, False, differs=True)]
    assert (tmp_path / "k").read_bytes() == b"theirs, longer"


async def test_zeros_that_a_crash_left_are_made_whole_and_other_bytes_are_not_touched(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    whole = random.Random(1).randbytes(3 << 20)
    torn = {
        "all": bytes(len(whole)),
        "end": whole[:4096].ljust(len(whole), b"\0"),
        "hole": whole[:8192] + bytes(4096) + whole[12288:],
        "hole-and-short": whole[:8192] + bytes(4096) + whole[12288:-7],
    }
    other = {
        "other": whole[:-1] + bytes([whole[-1] ^ 1]),
        "other-and-zeros": bytes(4096) + whole[4096:-1] + bytes([whole[-1] ^ 1]),
    }
    for name, content in (torn | other | {"same": whole}).items():
        (tmp_path / name).write_bytes(content)

    stored = await create(store, [(name, whole) for name in (*torn, *other, "same")])

    size = len(whole)
    assert stored == [StoredBlob(size, True)] * 4 + [StoredBlob(size, False, True)] * 2 + [StoredBlob(size, False)]
    assert all((tmp_path / name).read_bytes() == whole for name in torn)
    assert all((tmp_path / name).read_bytes() == content for name, content in other.items())
    await store.close()


async def test_folders_that_somebody_has_just_made_are_synced_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their maker may not have come to it yet, and a power loss would take the folder with our file in it."""
    store = LocalStore(tmp_path / "store")
    (tmp_path / "store/a/b").mkdir(parents=True)
    synced: list[str] = []
    fsync = local_module.fsync

    def watched_fsync(path: str, flags: int) -> None:
        fsync(path, flags)
        synced.append(os.path.relpath(path, tmp_path))

    monkeypatch.setattr(local_module, "fsync", watched_fsync)
    for name in ("1", "2", "3"):
        (tmp_path / name).write_bytes(b"x")

    await store.put_file("a/b/1", tmp_path / "1")
    assert sorted(synced) == ["store", "store/a", "store/a/b", "store/a/b/1"]
    await store.put_file("a/b/2", tmp_path / "2")
    assert sorted(synced[4:]) == ["store/a/b", "store/a/b/2"]

    await store.delete(["a/b/1", "a/b/2"])
    await store.put_file("a/b/3", tmp_path / "3")
    assert sorted(synced[6:]) == ["store", "store/a", "store/a/b", "store/a/b/3"]
    await store.close()


async def test_a_file_whose_sync_fails_leaves_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LocalStore(tmp_path / "store")
    fsync = local_module.fsync

    def failing(path: str, flags: int) -> None:
        if path.endswith("/b"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        fsync(path, flags)

    (tmp_path / "1").write_bytes(b"x")
    with monkeypatch.context() as patched:
        patched.setattr(local_module, "fsync", failing)
        with pytest.raises(BackendUnavailableError, match="input/output error"):
            await store.put_file("a/b/1", tmp_path / "1")

    assert await store.list("") == []
    await store.put_file("a/b/1", tmp_path / "1")
    assert await store.get("a/b/1") == b"x"
    await store.close()


async def test_a_store_that_is_gone_is_unavailable_without_showing_its_path(tmp_path: Path) -> None:
    (tmp_path / "store").write_bytes(b"a file in the way")

    with pytest.raises(BackendUnavailableError) as refused:
        LocalStore(tmp_path / "store")

    assert str(tmp_path) not in str(refused.value)


def test_names_of_stores_have_no_credentials(tmp_path: Path) -> None:
    store = open_store("memory://user:secret@bucket/prefix/", cache=tmp_path)

    assert store.name == "memory://bucket/prefix"
    assert open_store(tmp_path.as_uri(), cache=tmp_path, name="data-folder").name == "data-folder"
    for url in ("nonsense", "file://relative/path", "nope://x"):
        with pytest.raises(ValueError):
            open_store(url, cache=tmp_path)


async def test_a_file_is_put_although_a_delete_takes_its_empty_folder_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LocalStore(tmp_path / "store")
    source = tmp_path / "source"
    source.write_bytes(b"rows")
    for name in ("first", "last"):
        (tmp_path / name).write_bytes(b"older")
        await store.put_file(f"k/{name}", tmp_path / name)
    await store.delete(["k/first"])
    make_folders, lost = store.make_folders, 0

    def make_and_lose(folder: str) -> dict[str, int]:
        nonlocal lost
        made = make_folders(folder)
        if not lost:
            lost += 1
            store.delete_now([f"{folder}/last"])
        return made

    monkeypatch.setattr(store, "make_folders", make_and_lose)
    await store.put_file("k/new", source)

    assert lost
    assert await store.get("k/new") == b"rows"
    await store.close()


def test_keys_of_partitions_are_fresh_and_safe() -> None:
    keys = {partition_key("log_entries", "global", 1_767_225_600_000_000_000) for _ in range(100)}

    assert len(keys) == 100
    for key in keys:
        assert checked_key(key) == key
        folders, _, file = key.rpartition("/")
        assert folders == (
            "_schema/lake/partitions/view_set=log_entries/view_instance=global/begin=2026-01-01T00-00-00.000000Z"
        )
        assert file.startswith("data_") and file.endswith(".parquet") and len(file) == 5 + 16 + 8
    assert blob_key("p", "s", "b") == "blobs/p/s/b"


def test_values_in_paths_never_collide() -> None:
    values = ["a", "A", "a/b", "a%2Fb", "..", "ü", "a~", "a%7E", "x" * 100, "x" * 101, "x" * 102, "%" * 40]

    encoded = [path_value(value) for value in values]

    assert len(set(encoded)) == len(values)
    for value in encoded:
        checked_key(f"k={value}")
