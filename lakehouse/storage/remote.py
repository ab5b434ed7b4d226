"""What stores that are far away have in common: keys are checked, files are read from local copies, the same key goes one at a time.

A store of this kind shows an object whole or not at all, so there are no remainders of a crash to repair.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

from lakehouse.errors import BackendUnavailableError
from lakehouse.storage.blobs import BlobOutcome, StoredBlob, sizes_of
from lakehouse.storage.cache import CacheFigures, FileCache, Room
from lakehouse.storage.paths import checked_key, checked_prefix

T = TypeVar("T")
Keys = list[str]  # inside the class, "list" is a method
Paths = list[Path]
Outcomes = list[BlobOutcome]
Numbers = list[int]


class RemoteStore(ABC):
    """An ``ObjectStore`` over the few requests that an adapter makes.

    Args:
        cache: Folder for local copies; better not emptied between runs.
    """

    def __init__(self, name: str, *, cache: Path, cache_bytes_max: int) -> None:
        self._name = name
        self._cache = FileCache(cache, self._fetch_here, store=name, bytes_max=cache_bytes_max)
        self._has_conditions: bool | None = None
        self._finding_out = asyncio.Lock()

    @property
    def name(self) -> str:
        return self._name

    async def put_blobs(self, objects: Sequence[tuple[str, bytes]]) -> Numbers:
        return sizes_of(await self.create_blobs(objects))

    async def create_blobs(self, objects: Sequence[tuple[str, bytes]]) -> Outcomes:
        checked = [(checked_key(key), data) for key, data in objects]
        return await self._run(self._create_all(checked))

    async def put_file(self, key: str, source: Path) -> None:
        if not await self._run(self._upload(checked_key(key), source)):
            raise FileExistsError("the key is taken")
        source.unlink()

    @contextlib.asynccontextmanager
    async def localize(self, keys: Sequence[str]) -> AsyncIterator[Paths]:
        async with self._cache.pinned([checked_key(key) for key in keys]) as paths:
            yield paths

    def discard_copies(self, keys: Sequence[str]) -> bool:
        self._cache.discard(keys)
        return True

    def cache_figures(self) -> CacheFigures:
        return self._cache.figures()

    async def get(self, key: str) -> bytes:
        return await self._run(self._read(checked_key(key)))

    async def size(self, key: str) -> int | None:
        return await self._run(self._size(checked_key(key)))

    async def delete(self, keys: Sequence[str]) -> None:
        checked = [checked_key(key) for key in keys]

        async def all_of_them() -> None:
            await asyncio.gather(*(self._remove(key) for key in checked))

        await self._run(all_of_them())

    async def list(self, prefix: str) -> Keys:
        return sorted([key async for page in self.pages(prefix) for key in page])

    async def pages(self, prefix: str) -> AsyncIterator[Keys]:
        folder, place = checked_prefix(prefix), None
        while True:
            page, place = await self._run(self._page(folder, place))
            if page:
                yield page
            if place is None:
                return

    async def is_empty(self, prefix: str) -> bool:
        return await self._run(self._has_nothing(checked_prefix(prefix)))

    async def prepare(self) -> None:
        await self._run(self._prepare())

    async def probe(self) -> None:
        await self._run(self._probe())

    async def close(self) -> None:
        await self._cache.close()

    async def _create_all(self, objects: Sequence[tuple[str, bytes]]) -> Outcomes:
        places: dict[str, Numbers] = {}
        for place, (key, _) in enumerate(objects):
            places.setdefault(key, []).append(place)
        outcomes: dict[int, BlobOutcome] = {}

        async def one_after_the_other(key: str) -> None:
            for place in places[key]:
                try:
                    outcomes[place] = await self._create_blob(key, objects[place][1])
                except BackendUnavailableError as error:
                    outcomes[place] = error

        await asyncio.gather(*map(one_after_the_other, places))
        return [outcomes[place] for place in range(len(objects))]

    async def _fetch_here(self, key: str, room: Room) -> None:
        await self._run(self._fetch(key, room))

    async def _knows_conditions(self) -> bool:
        """Whether the store can create an object only if it is absent; found out before the first write."""
        if self._has_conditions is None:
            async with self._finding_out:
                if self._has_conditions is None:
                    # A folder that nobody else uses: a store over files removes it with the probe, under whoever writes there.
                    self._has_conditions = await self._refuses_to_overwrite(f"_probe/{uuid.uuid4().hex}")
        return self._has_conditions

    # --- an adapter's: keys and prefixes are checked, and trouble is a ``BackendUnavailableError`` --------------------

    async def _run(self, work: Coroutine[Any, Any, T]) -> T:
        """Have work of the adapter done, on whichever loop it needs."""
        return await work

    @abstractmethod
    async def _create_blob(self, key: str, data: bytes) -> StoredBlob: ...

    @abstractmethod
    async def _upload(self, key: str, source: Path) -> bool:
        """Whether the key was free."""

    @abstractmethod
    async def _fetch(self, key: str, room: Room) -> None: ...

    @abstractmethod
    async def _read(self, key: str) -> bytes: ...

    @abstractmethod
    async def _size(self, key: str) -> int | None: ...

    @abstractmethod
    async def _remove(self, key: str) -> None: ...

    @abstractmethod
    async def _page(self, prefix: str, place: str | None) -> tuple[Keys, str | None]:
        """Some keys, from the place on (``None``: the begin), and where the others begin, if there are any."""

    @abstractmethod
    async def _has_nothing(self, prefix: str) -> bool: ...

    @abstractmethod
    async def _prepare(self) -> None: ...

    @abstractmethod
    async def _refuses_to_overwrite(self, key: str) -> bool:
        """Whether creating an object twice under a key of nobody's fails. Nothing is left of it."""

    @abstractmethod
    async def _probe(self) -> None: ...
