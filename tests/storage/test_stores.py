"""What every store promises, and what local files promise beyond."""

from __future__ import annotations

import asyncio
import fcntl
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from lakehouse.errors import BackendUnavailableError
from lakehouse.storage import BlobStore, FsspecStore, LocalStore, open_store
from lakehouse.storage import local as local_module
from lakehouse.storage.paths import blob_key, checked_key, partition_key, path_value


@pytest_asyncio.fixture(params=["file", "memory"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[BlobStore]:
    url = (tmp_path / "store").as_uri() if request.param == "file" else f"memory://bucket/{uuid.uuid4().hex}"
    store = open_store(url, scratch=tmp_path / "scratch")
    yield store
    await store.close()


async def test_an_object_is_created_once_and_kept(store: BlobStore) -> None:
    first = await store.create_blobs([("blobs/a/b/c", b"first"), ("blobs/a/b/d", b"")])
    again = await store.create_blobs([("blobs/a/b/c", b"other bytes"), ("blobs/a/b/e", b"new")])

    assert [(blob.size, blob.created) for blob in first] == [(5, True), (0, True)]
    assert [(blob.size, blob.created) for blob in again] == [(5, False), (3, True)]
    assert await store.get("blobs/a/b/c") == b"first"
    assert await store.put_blobs([("blobs/a/b/c", b"x")]) == [5]


async def test_one_of_many_writers_at_once_creates(store: BlobStore) -> None:
    contents = [bytes([65 + n]) * 1000 for n in range(12)]

    stored = await asyncio.gather(*(store.create_blobs([("k/one", content)]) for content in contents))

    winners = [content for content, [blob] in zip(contents, stored, strict=True) if blob.created]
    assert len(winners) == 1
    assert await store.get("k/one") == winners[0]


async def test_the_same_key_twice_in_a_group(store: BlobStore) -> None:
    stored = await store.create_blobs([("k/twice", b"abc"), ("k/twice", b"abc")])

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

    paths = await store.localize(keys)

    assert [path.read_bytes().decode() for path in paths] == ["3", "1", "3", *map(str, range(70))]


async def test_listing_size_and_deletion(store: BlobStore) -> None:
    await store.put_blobs([("k/a/1", b"1"), ("k/a/2", b"22"), ("k/b/3", b"333")])

    assert await store.list("k/a") == ["k/a/1", "k/a/2"]
    assert await store.list("") == ["k/a/1", "k/a/2", "k/b/3"]
    assert await store.list("absent") == []
    assert [await store.size(key) for key in ("k/b/3", "k/none")] == [3, None]

    await store.delete(["k/a/1", "k/a/2", "k/none"])
    assert await store.list("k") == ["k/b/3"]
    assert [blob.created for blob in await store.create_blobs([("k/a/1", b"1")])] == [True]


async def test_an_absent_object_is_trouble_of_the_store_and_names_no_path(store: BlobStore, tmp_path: Path) -> None:
    await store.probe()

    for attempt in (store.get("k/none"), store.localize(["k/none"])):
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
        store.localize([key]),
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

    stored = await store.create_blobs([(f"k/{name}", whole) for name in ("torn", "empty", "other", "longer")])

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
        second = asyncio.create_task(store.create_blobs([("k/slow", b"abcdef")]))
        await asyncio.sleep(0.1)
        assert not second.done()
        writer.write(b"XY")

    assert [tuple(blob) for blob in await second] == [(4, False)]
    assert (tmp_path / "k" / "slow").read_bytes() == b"abXY"
    await store.close()


async def test_a_writer_that_hangs_makes_others_fail_and_not_hang(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_module, "LOCK_WAIT_S", 0.1)
    store = LocalStore(tmp_path)
    with (tmp_path / "stuck").open("xb") as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)

        with pytest.raises(BackendUnavailableError, match="timed out"):
            await store.create_blobs([("stuck", b"abcdef")])
    await store.close()


async def test_two_stores_over_one_folder_agree_on_who_was_first(tmp_path: Path) -> None:
    stores = [LocalStore(tmp_path) for _ in range(4)]

    for round_number in range(50):
        contents = [bytes([65 + n]) * (5_000 + n) for n in range(len(stores))]
        key = f"k/{round_number}"
        stored = await asyncio.gather(
            *(store.create_blobs([(key, content)]) for store, content in zip(stores, contents, strict=True))
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
        patched.setattr(local_module, "_libc", BrokenDisk())
        with pytest.raises(BackendUnavailableError):
            await store.create_blobs([("k/1", b"1")])

    assert await store.list("k") == []
    assert [blob.created for blob in await store.create_blobs([("k/1", b"1")])] == [True]
    await store.close()


async def test_a_store_that_is_gone_is_unavailable_without_showing_its_path(tmp_path: Path) -> None:
    (tmp_path / "store").write_bytes(b"a file in the way")

    with pytest.raises(BackendUnavailableError) as refused:
        LocalStore(tmp_path / "store")

    assert str(tmp_path) not in str(refused.value)


async def test_remote_objects_are_downloaded_once_and_the_cache_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FsspecStore(f"memory://bucket/{uuid.uuid4().hex}", cache=tmp_path / "cache", cache_bytes_max=250)
    await store.put_blobs([(f"k/{n}", bytes(100)) for n in range(4)])
    downloads = []
    read = store._read

    def counted_read(key: str) -> bytes:
        downloads.append(key)
        return read(key)

    monkeypatch.setattr(store, "_read", counted_read)

    await asyncio.gather(*(store.localize(["k/0"]) for _ in range(10)))
    for n in range(4):
        await store.localize([f"k/{n}"])

    assert downloads == ["k/0", "k/1", "k/2", "k/3"]
    assert sum(path.stat().st_size for path in (tmp_path / "cache").iterdir()) <= 250
    await store.close()


def test_names_of_stores_have_no_credentials(tmp_path: Path) -> None:
    store = open_store("memory://user:secret@bucket/prefix/", scratch=tmp_path)

    assert store.name == "memory://bucket/prefix"
    assert open_store(tmp_path.as_uri(), scratch=tmp_path, name="data-folder").name == "data-folder"
    for url in ("nonsense", "file://relative/path", "nope://x"):
        with pytest.raises(ValueError):
            open_store(url, scratch=tmp_path)


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
