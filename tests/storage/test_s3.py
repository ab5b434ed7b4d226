"""What S3 is relied on for, over a real HTTP server and one that misbehaves between: nothing lost, nothing half there."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from lakehouse.errors import BackendUnavailableError
from lakehouse.storage import BlobStore, StoredBlob, open_store
from lakehouse.storage.s3 import PART_BYTES
from tests.support.s3 import CONDITION, Asked, Bucket, Fault, FaultyS3, faulty_s3

BLOB = "blobs/p/s/b"
FILE = "_schema/lake/x.parquet"


@pytest.fixture
def proxy(s3_endpoint: str) -> Iterator[FaultyS3]:
    with faulty_s3(s3_endpoint) as proxy:
        yield proxy


@pytest_asyncio.fixture
async def store(bucket: Bucket, proxy: FaultyS3, tmp_path: Path) -> AsyncIterator[BlobStore]:
    store = open_store(bucket.url, cache=tmp_path / "cache", s3=bucket.at(proxy.endpoint).options)
    await store.put_blobs([("_staging/warm", b"")])  # what the store can do is known from here on
    yield store
    proxy.heal()
    await store.close()


def large_file(path: Path) -> bytes:
    content = os.urandom(1 << 20) * (2 * (PART_BYTES >> 20)) + b"the end"
    path.write_bytes(content)
    return content


def open_uploads(bucket: Bucket) -> list[str]:
    found = bucket.client().list_multipart_uploads(Bucket=bucket.name).get("Uploads", [])
    return [upload["Key"] for upload in found]


async def until_no_upload_is_open(bucket: Bucket) -> None:
    deadline = time.monotonic() + 20
    while left := await asyncio.to_thread(open_uploads, bucket):
        assert time.monotonic() < deadline, left
        await asyncio.sleep(0.05)


def is_put(asked: Asked) -> bool:
    return asked.method == "PUT"


def is_get(asked: Asked) -> bool:
    return asked.method == "GET"


async def test_objects_are_created_by_requests_that_fail_if_the_key_is_taken(
    store: BlobStore, proxy: FaultyS3, tmp_path: Path
) -> None:
    proxy.asked.clear()
    small, large = tmp_path / "small", tmp_path / "large"
    small.write_bytes(b"rows")
    large_file(large)

    await store.put_blobs([(BLOB, b"payload")])
    await store.put_file(f"{FILE}.small", small)
    await store.put_file(FILE, large)

    creating = [asked for asked in proxy.asked if (is_put(asked) and not asked.is_part) or asked.is_completion]
    assert [asked.headers.get(CONDITION) for asked in creating] == ["*", "*", "*"]


@pytest.mark.parametrize("fault", ["503", "reset", "lose answer"])
async def test_a_blob_is_stored_once_whatever_the_first_tries_met(
    store: BlobStore, proxy: FaultyS3, fault: Fault
) -> None:
    proxy.fail(fault, 3, is_put)

    assert await store.create_blobs([(BLOB, b"payload")]) == [StoredBlob(7, True)]
    assert await store.create_blobs([(BLOB, b"payload")]) == [StoredBlob(7, False)]
    assert await store.create_blobs([(BLOB, b"PAYLOAD")]) == [StoredBlob(7, False, differs=True)]
    assert await store.get(BLOB) == b"payload"


@pytest.mark.parametrize("fault", ["503", "reset", "lose answer"])
@pytest.mark.parametrize("kind", ["part", "completion", "any"])
async def test_a_large_file_is_stored_once_whatever_its_parts_met(
    store: BlobStore, proxy: FaultyS3, bucket: Bucket, tmp_path: Path, fault: Fault, kind: str
) -> None:
    content = large_file(tmp_path / "source")
    rules = {"part": lambda asked: asked.is_part, "completion": lambda asked: asked.is_completion}
    proxy.fail(fault, 2, rules.get(kind, lambda _: True))

    await store.put_file(FILE, tmp_path / "source")

    assert await store.get(FILE) == content
    assert not (tmp_path / "source").exists()
    if kind != "any":  # a creation whose answer was lost leaves an upload that nobody knows the id of
        await until_no_upload_is_open(bucket)


@pytest.mark.parametrize("fault", ["403", "501"])
async def test_what_the_store_does_not_like_of_a_direct_request_is_asked_by_the_client(
    store: BlobStore, proxy: FaultyS3, tmp_path: Path, fault: Fault
) -> None:
    def is_direct(asked: Asked) -> bool:
        return asked.headers.get("user-agent") == "lakeflight"

    content = large_file(tmp_path / "source")
    proxy.asked.clear()
    proxy.fail(fault, 1_000, is_direct)

    assert await store.create_blobs([(BLOB, b"payload")]) == [StoredBlob(7, True)]
    assert await store.create_blobs([(BLOB, b"PAYLOAD")]) == [StoredBlob(7, False, differs=True)]
    await store.put_file(FILE, tmp_path / "source")
    assert await store.get(BLOB) == b"payload"
    async with store.localize([FILE]) as paths:
        assert paths[0].read_bytes() == content

    assert len([asked for asked in proxy.asked if is_direct(asked)]) == 1, "no request is made twice for long"


async def test_a_slow_local_disk_holds_up_no_other_request(
    store: BlobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = large_file(tmp_path / "source")
    await store.put_file(FILE, tmp_path / "source")
    await store.put_blobs([(BLOB, b"payload")])
    writev, begun, go_on = os.writev, threading.Event(), threading.Event()

    def slow(*arguments: Any) -> int:
        begun.set()
        assert go_on.wait(20)
        return writev(*arguments)

    monkeypatch.setattr(os, "writev", slow)

    async def read_here() -> bytes:
        async with store.localize([FILE]) as paths:
            return paths[0].read_bytes()

    fetched = asyncio.create_task(read_here())
    await asyncio.to_thread(begun.wait, 20)
    assert await store.get(BLOB) == b"payload"
    assert not fetched.done()
    go_on.set()
    assert await fetched == content


async def test_of_two_who_write_a_large_file_the_later_is_told_that_the_key_is_taken(
    store: BlobStore, proxy: FaultyS3, bucket: Bucket, tmp_path: Path
) -> None:
    other = open_store(bucket.url, cache=tmp_path / "other", s3=bucket.options)
    content = large_file(tmp_path / "first")
    large_file(tmp_path / "later")
    is_stored = threading.Event()

    def hold_completions(asked: Asked) -> None:
        if asked.is_completion:
            is_stored.wait(60)

    proxy.rule = hold_completions
    later = asyncio.create_task(store.put_file(FILE, tmp_path / "later"))
    await asyncio.to_thread(proxy.wait_for, lambda asked: asked.is_completion)
    await other.put_file(FILE, tmp_path / "first")
    is_stored.set()

    with pytest.raises(FileExistsError, match="the key is taken"):
        await later
    assert await store.get(FILE) == content
    assert (tmp_path / "later").exists()
    await until_no_upload_is_open(bucket)
    await other.close()


@pytest.mark.parametrize("how", ["cancelled", "failed"])
async def test_an_upload_that_is_given_up_leaves_nothing_behind(
    store: BlobStore, proxy: FaultyS3, bucket: Bucket, tmp_path: Path, how: str
) -> None:
    large_file(tmp_path / "source")
    proxy.fail("stall" if how == "cancelled" else "403", 100, lambda asked: asked.is_part)
    uploading = asyncio.create_task(store.put_file(FILE, tmp_path / "source"))
    await asyncio.to_thread(proxy.wait_for, lambda asked: asked.is_part)

    if how == "cancelled":
        uploading.cancel()
    with pytest.raises(asyncio.CancelledError if how == "cancelled" else BackendUnavailableError):
        await uploading

    await until_no_upload_is_open(bucket)
    assert await store.size(FILE) is None
    assert (tmp_path / "source").exists()


@pytest.mark.parametrize("fault", ["503", "reset", "cut off", "damage"])
async def test_what_does_not_arrive_as_it_was_stored_is_fetched_again(
    store: BlobStore, proxy: FaultyS3, tmp_path: Path, fault: Fault
) -> None:
    content = os.urandom(3 << 20)
    await store.put_blobs([(BLOB, content)])
    proxy.fail(fault, 2, is_get)
    assert await store.get(BLOB) == content

    proxy.fail(fault, 2, is_get)
    async with store.localize([BLOB]) as (path,):
        assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("503", "the object store failed: 503 SlowDown"),
        ("403", "the object store refuses: 403 AccessDenied"),
        ("reset", "the object store does not answer"),
        ("cut off", "the object store does not answer"),
        ("damage", "an object did not arrive as it was stored"),
    ],
)
async def test_trouble_that_does_not_pass_is_said_and_leaves_no_copy(
    store: BlobStore, proxy: FaultyS3, tmp_path: Path, fault: Fault, said: str
) -> None:
    await store.put_blobs([(BLOB, b"payload")])
    proxy.fail(fault, 1000, is_get)

    with pytest.raises(BackendUnavailableError) as refused:
        async with store.localize([BLOB]):
            pass

    assert str(refused.value) == said
    assert [*(tmp_path / "cache" / "copies").iterdir(), *(tmp_path / "cache" / "parts").iterdir()] == []
    proxy.heal()
    async with store.localize([BLOB]) as (path,):
        assert path.read_bytes() == b"payload"


async def test_a_store_that_falls_silent_holds_nobody_beyond_the_deadline(
    store: BlobStore, proxy: FaultyS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lakehouse.storage.s3.REQUEST_S", 0.5)
    proxy.fail("stall", 1000, is_put)

    (outcome,) = await store.create_blobs([(BLOB, b"payload")])

    assert isinstance(outcome, BackendUnavailableError)
    assert "the object store did not answer within" in str(outcome)
    proxy.heal()
    assert await store.size(BLOB) is None


@pytest.mark.parametrize("fault", ["unconditional", "501"])
async def test_of_a_store_without_conditions_keys_are_looked_up_before(
    bucket: Bucket, proxy: FaultyS3, tmp_path: Path, fault: Fault
) -> None:
    proxy.rule = lambda asked: fault if CONDITION in asked.headers else None
    store = open_store(bucket.url, cache=tmp_path / "cache", s3=bucket.at(proxy.endpoint).options)
    for name in ("one", "two"):
        large_file(tmp_path / name)

    stored = await asyncio.gather(*(store.create_blobs([(BLOB, bytes([n]) * 9)]) for n in range(8)))
    await store.put_file(FILE, tmp_path / "one")
    with pytest.raises(FileExistsError, match="the key is taken"):
        await store.put_file(FILE, tmp_path / "two")

    blobs = [blob for group in stored for blob in group if isinstance(blob, StoredBlob)]
    assert sum(blob.created for blob in blobs) == 1
    assert await store.get(BLOB) == bytes([next(n for n, blob in enumerate(blobs) if blob.created)]) * 9
    await until_no_upload_is_open(bucket)
    await store.close()


async def test_a_bucket_that_is_not_there_and_a_server_that_is_not_are_told_apart(
    bucket: Bucket, tmp_path: Path
) -> None:
    absent = open_store("s3://not-there-at-all/lake", cache=tmp_path, s3=bucket.options)
    away = open_store(bucket.url, cache=tmp_path, s3=bucket.at("http://127.0.0.1:1").options)

    for asked in (absent.probe(), absent.prepare()):
        with pytest.raises(BackendUnavailableError, match=r"^the object store has no bucket of that name$"):
            await asked
    for asked in (away.probe(), away.prepare()):
        with pytest.raises(BackendUnavailableError, match=r"^the object store does not answer$"):
            await asked

    for store in (absent, away):
        await store.close()


async def test_an_object_of_a_bucket_that_is_gone_is_not_called_absent(bucket: Bucket, tmp_path: Path) -> None:
    store = open_store(bucket.url, cache=tmp_path, s3=bucket.options)
    await store.put_blobs([(BLOB, b"payload")])
    assert await store.size(f"{BLOB}x") is None
    await store.delete([BLOB])
    bucket.client().delete_bucket(Bucket=bucket.name)

    async def localized() -> None:
        async with store.localize([BLOB]):
            pass

    for asked in (store.size(BLOB), store.get(BLOB), localized(), store.put_blobs([(BLOB, b"payload")])):
        with pytest.raises(BackendUnavailableError, match=r"^the object store has no bucket of that name$"):
            await asked
    await store.close()


@pytest.mark.parametrize("url", ["s3://", "s3://key:secret@bucket/x", "s3://bucket/../x", "s3://bucket/x?y=1"])
def test_a_url_that_names_no_store_is_refused_without_repeating_it(tmp_path: Path, url: str) -> None:
    with pytest.raises(ValueError) as refused:
        open_store(url, cache=tmp_path)

    assert "secret" not in str(refused.value)


async def test_files_that_the_store_has_damaged_are_handed_out_to_be_judged_and_payloads_never(
    store: BlobStore, bucket: Bucket, tmp_path: Path
) -> None:
    (tmp_path / "source").write_bytes(b"written")
    await store.put_file(FILE, tmp_path / "source")
    await store.put_blobs([(BLOB, b"written")])
    client = bucket.client()
    for key in (f"lake/{FILE}", f"lake/{BLOB}"):
        marks = client.head_object(Bucket=bucket.name, Key=key)["Metadata"]
        client.put_object(Bucket=bucket.name, Key=key, Body=b"WRITTEN", Metadata=marks)

    async with store.localize([FILE]) as (path,):
        assert path.read_bytes() == b"WRITTEN"
    with pytest.raises(BackendUnavailableError, match="an object did not arrive as it was stored"):
        async with store.localize([BLOB]):
            pass
    with pytest.raises(BackendUnavailableError, match="an object did not arrive as it was stored"):
        await store.get(BLOB)
