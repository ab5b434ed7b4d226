"""Local copies of objects that are far away: immutable files in one folder, bounded in bytes, filled once however many ask.

Whoever uses copies holds them pinned, and a pinned copy stays where it is. Of the others, those that were used longest ago
make room. Copies outlive the process: a server that starts again finds what the one before it fetched. One process owns a
folder; what a copy holds is the caller's to fetch and to judge.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import uuid
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, TypeAlias

from lakehouse.errors import LimitExceededError

CACHE_BYTES_MAX: Final = 4 << 30  # what is being fetched comes on top, and is counted once it is there
UNFINISHED_SUFFIX: Final = ".part"

Fetch: TypeAlias = Callable[[str, Path], Awaitable[None]]


class FileCache:
    """Copies in ``folder``, which is made when it is first needed and may be emptied between runs."""

    def __init__(self, folder: Path, fetch: Fetch, *, bytes_max: int = CACHE_BYTES_MAX) -> None:
        """``fetch(key, path)`` writes an object into a new file, or raises; what it leaves of it is removed."""
        self._folder = folder
        self._fetch = fetch
        self._bytes_max = bytes_max
        self._sizes: OrderedDict[str, int] | None = None  # by name of the copy, the one used last comes last
        self._loading = asyncio.Lock()
        self._bytes = 0
        self._pins: Counter[str] = Counter()
        self._fetches: dict[str, asyncio.Task[None]] = {}

    @asynccontextmanager
    async def pinned(self, keys: Sequence[str]) -> AsyncIterator[list[Path]]:
        """Copies of the objects, in order, which stay until the context is left.

        Raises:
            LimitExceededError: There is no room, because too much is pinned.
        """
        names = [_name(key) for key in keys]
        self._pins.update(names)  # before they are fetched: what came first must not make room for what comes last
        try:
            async with asyncio.TaskGroup() as group:
                for key, name in dict(zip(keys, names, strict=True)).items():
                    group.create_task(self._have(key, name))
        except ExceptionGroup as errors:
            self._unpin(names)
            raise errors.exceptions[0] from None
        except BaseException:
            self._unpin(names)
            raise
        try:
            yield [self._folder / name for name in names]
        finally:
            self._unpin(names)

    def discard(self, keys: Sequence[str]) -> None:
        """Forget copies that are not to be believed. Who holds one open keeps it; who asks next has it fetched."""
        for name in map(_name, keys):
            self._remove(name)

    async def _have(self, key: str, name: str) -> None:
        """One fetch per object. A caller that gives up does not stop it for the others."""
        sizes = self._sizes if self._sizes is not None else await self._load()
        if name in sizes:
            sizes.move_to_end(name)
            with contextlib.suppress(OSError):
                os.utime(self._folder / name)  # for the order after the next start
                return
            self._remove(name)  # somebody emptied the folder
        running = self._fetches.get(name)
        if running is None:
            running = self._fetches[name] = asyncio.create_task(self._make(key, name))
            running.add_done_callback(lambda done: self._fetched(name, done))
        await asyncio.shield(running)

    async def _make(self, key: str, name: str) -> None:
        fresh = self._folder / f"{name}.{uuid.uuid4().hex}{UNFINISHED_SUFFIX}"
        try:
            await self._fetch(key, fresh)
            size = fresh.stat().st_size
            self._make_room(size)
            fresh.rename(self._folder / name)
        finally:
            fresh.unlink(missing_ok=True)
        sizes = await self._load()
        sizes[name] = size
        self._bytes += size

    def _fetched(self, name: str, done: asyncio.Task[None]) -> None:
        self._fetches.pop(name, None)
        if not done.cancelled():
            done.exception()  # somebody has seen it, or nobody waits any more

    def _make_room(self, needed: int) -> None:
        for name in list(self._sizes or ()):
            if self._bytes + needed <= self._bytes_max:
                return
            if not self._pins[name]:
                self._remove(name)
        if self._bytes + needed > self._bytes_max:
            raise LimitExceededError(
                f"the files that running statements read take more than the {self._bytes_max} bytes of the local cache:"
                " ask for a shorter time range, or again when others are done"
            )

    def _remove(self, name: str) -> None:
        if self._sizes is not None:
            self._bytes -= self._sizes.pop(name, 0)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._folder / name)

    def _unpin(self, names: Sequence[str]) -> None:
        self._pins.subtract(names)
        for name in set(names):
            if self._pins[name] <= 0:
                del self._pins[name]

    async def _load(self) -> OrderedDict[str, int]:
        """What is there, looked at once, before anything is fetched: a second look would take what is being fetched away."""
        if self._sizes is None:
            async with self._loading:
                if self._sizes is None:
                    found = await asyncio.to_thread(_copies_in, self._folder)
                    self._bytes = sum(found.values())
                    self._sizes = found
        return self._sizes


def _name(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def _copies_in(folder: Path) -> OrderedDict[str, int]:
    """What an earlier run left, without what it had not finished; what was used longest ago comes first."""
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for entry in os.scandir(folder):
        if entry.name.endswith(UNFINISHED_SUFFIX):
            os.unlink(entry.path)
        elif entry.is_file(follow_symlinks=False):
            status = entry.stat()
            found.append((status.st_mtime_ns, entry.name, status.st_size))
    return OrderedDict((name, size) for _, name, size in sorted(found))
