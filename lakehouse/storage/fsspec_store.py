"""Objects in whatever fsspec reaches. Used over ``memory://`` so far; written for stores that are far away.

Relies on no rename, no listing and no lock of the store: objects are created under their final key with a request
that fails if the key is taken, and read into a local cache of immutable files (``cache.py``). Files stream both ways: none
of them is ever whole in memory. Conditional creation is checked
once, when the store is first written to: a store that would overwrite in silence is refused.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit, urlunsplit

import fsspec

from lakehouse.errors import BackendUnavailableError
from lakehouse.storage.blobs import StoredBlob
from lakehouse.storage.cache import CACHE_BYTES_MAX, Room
from lakehouse.storage.remote import RemoteStore

REQUESTS_MAX: Final = 16
REQUEST_TIMEOUT_S: Final = 60.0
TRANSFER_BYTES_PER_S_MIN: Final = 1 << 20  # a file has more time than other requests, by its size
SINGLE_REQUEST_BYTES_MAX: Final = 8 << 20  # what is larger goes in parts

T = TypeVar("T")
Keys = list[str]  # inside the class, "list" is a method
Paths = list[Path]


class FsspecStore(RemoteStore):
    """An ``ObjectStore`` over an fsspec URL, ``protocol://bucket/prefix``."""

    def __init__(
        self, url: str, *, cache: Path, name: str | None = None, cache_bytes_max: int = CACHE_BYTES_MAX
    ) -> None:
        parts = urlsplit(url)
        try:
            self._files: Any = fsspec.filesystem(parts.scheme, use_listings_cache=False, skip_instance_cache=True)
        except (ValueError, ImportError) as error:
            raise ValueError(f"no store for {parts.scheme}:// is installed: {error}") from error
        self._root = f"{parts.netloc}{parts.path}".strip("/")
        place = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"), "", ""))
        super().__init__(name or place, cache=cache, cache_bytes_max=cache_bytes_max)
        self._threads = ThreadPoolExecutor(REQUESTS_MAX, thread_name_prefix="store")

    async def close(self) -> None:
        await super().close()
        await asyncio.to_thread(self._threads.shutdown)

    async def _create_blob(self, key: str, data: bytes) -> StoredBlob:
        await self._prepare()
        return await self._in_thread(self._create_or_keep, key, data)

    async def _upload(self, key: str, source: Path) -> bool:
        await self._prepare()
        return await self._in_thread(self._store_file, key, source, timeout_s=_transfer_s(source.stat().st_size))

    async def _fetch(self, key: str, room: Room) -> None:
        size = await self._size(key)
        if size is None:
            raise BackendUnavailableError("an object is missing in the store")
        await self._in_thread(self._copy_to, key, await room(size), timeout_s=_transfer_s(size))

    async def _read(self, key: str) -> bytes:
        data: bytes = await self._in_thread(self._files.cat_file, self._path(key))
        return data

    async def _size(self, key: str) -> int | None:
        return await self._in_thread(self._size_now, key)

    async def _remove(self, key: str) -> None:
        await self._in_thread(self._remove_now, key)

    async def _page(self, prefix: str, place: str | None) -> tuple[Keys, str | None]:
        return await self._in_thread(self._find, prefix), None  # fsspec has them all or none

    async def _has_nothing(self, prefix: str) -> bool:
        return await self._in_thread(self._is_bare, prefix)

    async def _prepare(self) -> None:
        if not await self._knows_conditions():
            raise BackendUnavailableError("the object store cannot create an object only if it is absent")

    async def _refuses_to_overwrite(self, key: str) -> bool:
        return await self._in_thread(self._creates_once, key)

    async def _probe(self) -> None:
        await self._in_thread(self._files.exists, self._path("probe"))

    # --- requests: each runs in a thread of the bounded pool -------------------------------------------------------

    def _path(self, key: str) -> str:
        return f"{self._root}/{key}" if self._root else key

    async def _in_thread(self, work: Callable[..., T], *arguments: Any, timeout_s: float = REQUEST_TIMEOUT_S) -> T:
        with _store_errors(timeout_s):
            waiting: Awaitable[T] = asyncio.get_running_loop().run_in_executor(self._threads, lambda: work(*arguments))
            return await asyncio.wait_for(waiting, timeout_s)

    def _creates_once(self, key: str) -> bool:
        self._create(key, b"1")
        try:
            self._create(key, b"2")
        except FileExistsError:
            return True
        finally:
            self._remove_now(key)
        return False

    def _create(self, key: str, data: bytes) -> None:
        self._files.pipe_file(self._path(key), data, mode="create")

    def _create_or_keep(self, key: str, data: bytes) -> StoredBlob:
        try:
            self._create(key, data)
        except FileExistsError:
            size = self._size_now(key)
            if size is None:
                raise BackendUnavailableError("an object came and went in the store") from None
            # Such a store shows an object whole or not at all: no remainders to repair.
            return StoredBlob(size, False, differs=size != len(data))
        return StoredBlob(len(data), True)

    def _store_file(self, key: str, source: Path) -> bool:
        try:
            if source.stat().st_size <= SINGLE_REQUEST_BYTES_MAX:
                self._create(key, source.read_bytes())
            else:
                self._files.put_file(str(source), self._path(key), mode="create")
        except FileExistsError:
            return False
        return True

    def _copy_to(self, key: str, path: Path) -> None:
        with path.open("r+b") as file:  # given as a file, because fsspec would ask first whether it is a folder
            self._files.get_file(self._path(key), file)

    def _size_now(self, key: str) -> int | None:
        try:
            size = self._files.info(self._path(key))["size"]
        except FileNotFoundError:
            return None
        return int(size)

    def _remove_now(self, key: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._files.rm_file(self._path(key))

    def _is_bare(self, prefix: str) -> bool:
        try:
            return not self._files.ls(self._path(prefix) if prefix else self._root, detail=False)
        except FileNotFoundError:
            return True

    def _find(self, prefix: str) -> Keys:
        try:
            found = self._files.find(self._path(prefix) if prefix else self._root)
        except FileNotFoundError:
            return []
        cut = len(self._root) + 1 if self._root else 0
        return [path.lstrip("/")[cut:] for path in found]


def _transfer_s(size_bytes: int) -> float:
    return REQUEST_TIMEOUT_S + size_bytes / TRANSFER_BYTES_PER_S_MIN


@contextlib.contextmanager
def _store_errors(timeout_s: float) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise BackendUnavailableError("an object is missing in the store") from error
    except TimeoutError as error:
        raise BackendUnavailableError(f"the object store did not answer within {timeout_s:.0f} s") from error
    except OSError as error:
        raise BackendUnavailableError("the object store failed") from error
