"""Objects in an S3 store, of Amazon or another: the port over ``s3_session``.

Relies on no rename, no listing and no lock of the store. An object is created under its final key by a request that fails if
the key is taken; of a store that ignores the condition, which is found out before the first write, the key is looked up
before. Each object carries a digest of its bytes and a mark of who wrote it, so that what arrives damaged is fetched again and
a write whose answer was lost is known to be one's own. Files stream both ways.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import uuid
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, NoReturn, TypeVar
from urllib.parse import urlsplit
from weakref import WeakValueDictionary

import structlog
from botocore.exceptions import ClientError

from lakehouse.errors import BackendUnavailableError
from lakehouse.storage.arrival import Arrival
from lakehouse.storage.blobs import StoredBlob
from lakehouse.storage.cache import CACHE_BYTES_MAX, Room
from lakehouse.storage.cache_folder import cache_errors
from lakehouse.storage.digests import whole_digest
from lakehouse.storage.options import S3Options
from lakehouse.storage.paths import checked_prefix, is_blob
from lakehouse.storage.remote import RemoteStore
from lakehouse.storage.s3_direct import Arriving, LeftToTheClientError
from lakehouse.storage.s3_session import (
    REQUEST_S,
    ArrivedDamagedError,
    S3Session,
    code_of,
    is_absent,
    is_taken,
    is_unknown,
    words_of,
)

TRANSFER_BYTES_PER_S_MIN: Final = 1 << 20  # a transfer has more time than other requests, by its size
PART_BYTES: Final = 8 << 20  # what is larger goes in parts; each is in memory once
PARTS_AT_ONCE: Final = 8  # of all uploads
PARTS_MAX: Final = 9_000  # S3 has 10,000: parts of larger files are larger
CREATIONS_MAX: Final = 3  # of an object that was there and, a moment later, was not
UPLOADS_STARTED_OVER_MAX: Final = 3  # after a 409 to the completion, which ends the upload

T = TypeVar("T")
Keys = list[str]  # inside the class, "list" is a method

log = structlog.get_logger(__name__)


class _Head(NamedTuple):
    size: int
    sha256: str | None
    writer: str | None


class S3Store(RemoteStore):
    """An ``ObjectStore`` in ``s3://bucket/prefix``."""

    def __init__(
        self,
        url: str,
        options: S3Options,
        *,
        cache: Path,
        name: str | None = None,
        cache_bytes_max: int = CACHE_BYTES_MAX,
    ) -> None:
        parts = urlsplit(url)
        self._bucket, self._root = parts.netloc, parts.path.strip("/")
        if not self._bucket or "@" in self._bucket or parts.query or parts.fragment:
            raise ValueError("an S3 store is s3://bucket or s3://bucket/prefix, without credentials")
        if self._root:
            checked_prefix(self._root)
        place = f"s3://{self._bucket}/{self._root}".rstrip("/")
        super().__init__(name or place, cache=cache, cache_bytes_max=cache_bytes_max)
        self._session = S3Session(options)
        self._parts = asyncio.Semaphore(PARTS_AT_ONCE)
        self._creating: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def close(self) -> None:
        await super().close()
        await self._session.close()

    async def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return await self._session.run(work)

    # --- requests: on the session's loop ---------------------------------------------------------------------------

    def _at(self, key: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": f"{self._root}/{key}" if self._root else key}

    async def _create_blob(self, key: str, data: bytes) -> StoredBlob:
        sha256, writer = hashlib.sha256(data).hexdigest(), uuid.uuid4().hex
        for _ in range(CREATIONS_MAX):
            async with self._creation_of(key) as condition:
                if condition is not None and await self._put(key, data, _marks(sha256, writer), condition):
                    return StoredBlob(len(data), True)
                head = await self._head(key)
            if head is not None:
                differs = head.size != len(data) or head.sha256 not in (None, sha256)
                return StoredBlob(head.size, head.writer == writer, differs=differs)
        raise BackendUnavailableError("an object came and went in the store")

    async def _upload(self, key: str, source: Path) -> bool:
        """Whether the key was free."""
        size, digest = source.stat().st_size, await asyncio.to_thread(whole_digest, source)
        assert digest is not None
        writer = uuid.uuid4().hex
        marks = _marks(digest.hex(), writer)
        async with self._creation_of(key) as condition:
            if condition is None:
                return False
            if size <= PART_BYTES:
                created = await self._put(key, await asyncio.to_thread(source.read_bytes), marks, condition)
            else:
                created = await self._put_parts(key, source, size, marks, condition)
            return created or await self._is_by(key, writer)

    @contextlib.asynccontextmanager
    async def _creation_of(self, key: str) -> AsyncIterator[Mapping[str, str] | None]:
        """What a request must say to create the object only if it is absent; ``None`` if it is there already."""
        if await self._knows_conditions():
            yield {"IfNoneMatch": "*"}
            return
        # The next best: one at a time here, and a look before. Who writes the same key elsewhere writes the same bytes.
        async with self._creating.setdefault(key, asyncio.Lock()):
            yield None if await self._head(key) is not None else {}

    async def _put(self, key: str, data: bytes, marks: Mapping[str, str], condition: Mapping[str, str]) -> bool:
        """Whether it was created by a request whose answer was heard."""
        place = self._at(key)

        async def once(client: Any, _: asyncio.Timeout) -> None:
            try:
                direct = await self._session.direct(self._bucket)
                await direct.put(place["Key"], data, marks["sha256"], marks, only_if_absent=bool(condition))
            except LeftToTheClientError:
                await client.put_object(**place, Body=data, ContentLength=len(data), Metadata=marks, **condition)

        try:
            await self._session.request(once, _transfer_s(len(data)))
        except ClientError as error:
            if is_taken(error):
                return False
            _raise(error)
        return True

    async def _put_parts(
        self, key: str, source: Path, size: int, marks: Mapping[str, str], condition: Mapping[str, str]
    ) -> bool:
        for _ in range(UPLOADS_STARTED_OVER_MAX):
            with contextlib.suppress(_StartOverError):
                return await self._put_parts_once(key, source, size, marks, condition)
        raise BackendUnavailableError("the object store failed: others write the same object at the same time")

    async def _put_parts_once(
        self, key: str, source: Path, size: int, marks: Mapping[str, str], condition: Mapping[str, str]
    ) -> bool:
        begun = await self._answer(lambda client, _: client.create_multipart_upload(**self._at(key), Metadata=marks))
        upload = {**self._at(key), "UploadId": begun["UploadId"]}
        part_bytes = max(PART_BYTES, -(-size // PARTS_MAX))
        try:
            try:
                async with asyncio.timeout(_transfer_s(size)), asyncio.TaskGroup() as group:
                    parts = [
                        group.create_task(self._put_part(upload, number, source, begin, min(part_bytes, size - begin)))
                        for number, begin in enumerate(range(0, size, part_bytes), 1)
                    ]
            except TimeoutError as error:
                raise BackendUnavailableError(f"a file was not stored within {_transfer_s(size):.0f} s") from error
            except ExceptionGroup as errors:
                raise errors.exceptions[0] from None
            return await self._complete(upload, [part.result() for part in parts], condition)
        except BaseException:
            self._session.leave_behind(self._abort(upload))  # nobody is charged for parts that no object has
            raise

    async def _put_part(
        self, upload: Mapping[str, str], number: int, source: Path, begin: int, size: int
    ) -> dict[str, Any]:
        async with self._parts:
            data = await asyncio.to_thread(_read_part, source, begin, size)
            answer = await self._answer(
                lambda client, _: client.upload_part(**upload, PartNumber=number, Body=data, ContentLength=size),
                _transfer_s(size),
            )
        return {"PartNumber": number, "ETag": answer["ETag"]}

    async def _complete(
        self, upload: Mapping[str, str], parts: Sequence[Mapping[str, Any]], condition: Mapping[str, str]
    ) -> bool:
        async def once(client: Any, _: asyncio.Timeout) -> bool:
            try:
                await client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts}, **condition)
            except ClientError as error:
                if code_of(error) == "ConditionalRequestConflict":
                    raise _StartOverError from error
                if code_of(error) == "NoSuchUpload":
                    return False  # completed by a try whose answer was lost: the object says whose it is
                raise
            return True

        try:
            return await self._session.request(once)
        except ClientError as error:
            if not is_taken(error):
                _raise(error)
        await self._abort(upload)
        return False

    async def _abort(self, upload: Mapping[str, str]) -> None:
        with contextlib.suppress(ClientError, BackendUnavailableError):
            await self._session.request(lambda client, _: client.abort_multipart_upload(**upload))

    async def _prepare(self) -> None:
        await self._knows_conditions()

    async def _refuses_to_overwrite(self, key: str) -> bool:
        if not (refuses := await self._refuses(key)):
            log.warning("store.no_conditional_writes", store=self._name)
        return refuses

    async def _refuses(self, key: str) -> bool:
        try:
            await self._answer(lambda client, _: client.put_object(**self._at(key), Body=b"1"))
            try:
                await self._session.request(
                    lambda client, _: client.put_object(**self._at(key), Body=b"2", IfNoneMatch="*")
                )
            except ClientError as error:
                if is_taken(error):
                    return True
                if not is_unknown(error):
                    _raise(error)
            return False
        finally:
            self._session.leave_behind(self._remove(key))

    async def _fetch(self, key: str, room: Room) -> None:
        """What arrives the same twice is what the store has, though it is not what was put there. Of files it is handed out:
        whoever knows what was written has them made again. Payloads are what nobody can make again, or judge."""
        wrong: str | None = None

        async def once(client: Any, deadline: asyncio.Timeout) -> None:
            nonlocal wrong
            async with self._opened(client, key) as coming:
                deadline.reschedule(asyncio.get_running_loop().time() + _transfer_s(coming.size))
                path = await room(coming.size)
                with cache_errors():
                    arrival = Arrival(path)
                async with contextlib.aclosing(arrival):
                    async for part, _ in coming.content.iter_chunks():  # as they came, not copied together
                        await arrival.take(part)
                    found = await arrival.finish()
            if arrival.size != coming.size:
                raise ArrivedDamagedError
            if coming.sha256 not in (None, found):
                if is_blob(key) or found != wrong:
                    wrong = found
                    raise ArrivedDamagedError
                log.error("store.damaged", key=key)

        await self._answer(once)

    async def _read(self, key: str) -> bytes:
        async def once(client: Any, deadline: asyncio.Timeout) -> bytes:
            async with self._opened(client, key) as coming:
                deadline.reschedule(asyncio.get_running_loop().time() + _transfer_s(coming.size))
                data: bytes = await coming.content.read()
            if len(data) != coming.size or coming.sha256 not in (None, hashlib.sha256(data).hexdigest()):
                raise ArrivedDamagedError
            return data

        return await self._answer(once)  # type: ignore[no-any-return]

    @contextlib.asynccontextmanager
    async def _opened(self, client: Any, key: str) -> AsyncIterator[Arriving]:
        place = self._at(key)
        async with contextlib.AsyncExitStack() as opened:
            try:
                direct = await self._session.direct(self._bucket)
                coming = await opened.enter_async_context(direct.get(place["Key"]))
            except LeftToTheClientError:
                answer = await client.get_object(**place)
                body = await opened.enter_async_context(answer["Body"])
                sha256 = answer.get("Metadata", {}).get("sha256")
                coming = Arriving(int(answer["ContentLength"]), sha256, body.raw_stream.content)
            yield coming

    async def _size(self, key: str) -> int | None:
        head = await self._head(key)
        if head is None:  # which a bucket that is gone says as well, and then nothing is known of the object
            await self._answer(lambda client, _: client.list_objects_v2(Bucket=self._bucket, MaxKeys=1))
            return None
        return head.size

    async def _head(self, key: str) -> _Head | None:
        try:
            answer = await self._session.request(lambda client, _: client.head_object(**self._at(key)))
        except ClientError as error:
            if is_absent(error):
                return None
            _raise(error)
        marks = answer.get("Metadata", {})
        return _Head(int(answer["ContentLength"]), marks.get("sha256"), marks.get("writer"))

    async def _is_by(self, key: str, writer: str) -> bool:
        head = await self._head(key)
        return head is not None and head.writer == writer

    async def _remove(self, key: str) -> None:
        try:
            await self._session.request(lambda client, _: client.delete_object(**self._at(key)))
        except ClientError as error:
            if not is_absent(error):
                _raise(error)

    async def _listed(self, prefix: str, **more: Any) -> dict[str, Any]:
        below = "/".join(part for part in (self._root, prefix) if part)
        where = {"Bucket": self._bucket, "Prefix": f"{below}/" if below else ""}
        page: dict[str, Any] = await self._answer(lambda client, _: client.list_objects_v2(**where, **more))
        return page

    async def _has_nothing(self, prefix: str) -> bool:
        page = await self._listed(prefix, MaxKeys=1)
        return not page.get("Contents")

    async def _probe(self) -> None:
        await self._listed("_staging", MaxKeys=1)

    async def _page(self, prefix: str, place: str | None) -> tuple[Keys, str | None]:
        cut = len(self._root) + 1 if self._root else 0
        page = await self._listed(prefix, **({} if place is None else {"ContinuationToken": place}))
        keys = [entry["Key"][cut:] for entry in page.get("Contents", ())]
        return keys, page["NextContinuationToken"] if page.get("IsTruncated") else None

    async def _answer(self, once: Any, limit_s: float = REQUEST_S) -> Any:
        """``request``, for what nobody knows a meaning of but that it failed."""
        try:
            return await self._session.request(once, limit_s)
        except ClientError as error:
            _raise(error)


class _StartOverError(Exception):
    """Somebody else completed or deleted the same key at the same moment, which ended this upload."""


def _raise(error: ClientError) -> NoReturn:
    if is_absent(error):
        raise BackendUnavailableError("an object is missing in the store") from error
    raise BackendUnavailableError(words_of(error)) from error


def _marks(sha256: str, writer: str) -> dict[str, str]:
    return {"sha256": sha256, "writer": writer}


def _transfer_s(size_bytes: int) -> float:
    return REQUEST_S + size_bytes / TRANSFER_BYTES_PER_S_MIN


def _read_part(source: Path, begin: int, size: int) -> bytes:
    with source.open("rb") as file:
        file.seek(begin)
        return file.read(size)
