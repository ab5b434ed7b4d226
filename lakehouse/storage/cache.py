"""Local copies of objects that are far away: immutable files in one folder, bounded in bytes, filled once however many ask.

Whoever uses copies holds them pinned, and a pinned copy stays where it is. Of the others, those that were used longest ago
make room. Copies outlive the process: a server that starts again finds what the one before it fetched. Several processes of a
machine may share a folder (``cache_folder.py``): what one fetches the others wait for, and nobody removes what another reads.
What a copy holds is the caller's to fetch and to judge.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

from lakehouse.errors import BackendUnavailableError
from lakehouse.storage.cache_folder import CacheFolder
from lakehouse.storage.paths import is_blob

CACHE_BYTES_MAX: Final = 4 << 30  # what is being fetched is counted as well
TAKEN_AT_ONCE: Final = 64  # so many are taken within a millisecond; then it is somebody else's turn
FETCHES_AT_ONCE: Final = 64  # of one caller; a store has bounds of its own
FILL_WAIT_S_MAX: Final = 60.0  # for another process that is filling a copy and may be stopped; then it is fetched twice
FILL_PAUSE_S: Final = 0.01  # between looks whether it is there; twice as long after each …
FILL_PAUSE_MAX_S: Final = 0.2  # … up to this

Room: TypeAlias = Callable[
    [int], Awaitable[Path]
]  # a file that has so many bytes already, to be written over; may be asked for again
Fetch: TypeAlias = Callable[[str, Room], Awaitable[None]]


class CacheFigures(NamedTuple):
    """Of one process since its start, but for ``bytes_kept``, which is of all that share the folder."""

    hits: int  # files that were there when they were asked for; of payloads, which are read once, none are counted
    misses: int
    bytes_fetched: int
    files_evicted: int
    bytes_evicted: int
    bytes_kept: int
    bytes_max: int


@dataclass(slots=True)
class _Pin:
    count: int = 0
    is_held: bool = False  # for other processes to see


class FileCache:
    """Copies in ``folder``, which is made when it is first needed and may be emptied while no process uses it.

    Args:
        fetch: ``fetch(key, room)`` learns how long an object is, asks for room, and writes all of it there, or raises.
        store: Whose keys these are; those of another are other objects.
    """

    def __init__(self, folder: Path, fetch: Fetch, *, store: str = "", bytes_max: int = CACHE_BYTES_MAX) -> None:
        self._folder = CacheFolder(folder, bytes_max)
        self._fetch = fetch
        self._store = store
        self._bytes_max = bytes_max
        self._is_open = False
        self._opening = asyncio.Lock()
        self._pins: dict[str, _Pin] = {}
        self._fetches: dict[str, asyncio.Task[None]] = {}
        self._hits = self._misses = self._bytes_fetched = 0

    @asynccontextmanager
    async def pinned(self, keys: Sequence[str]) -> AsyncIterator[list[Path]]:
        """Copies of the objects, in order, which stay until the context is left.

        Raises:
            LimitExceededError: There is no room, because too much is pinned.
            BackendUnavailableError: The store, or the folder.
        """
        names = [self._name(key) for key in keys]
        await self._open()
        taken: list[str] = []
        try:
            missing = []
            # All before the first is fetched: what came first must not make room for what comes last.
            for number, (name, key) in enumerate(dict(zip(names, keys, strict=True)).items(), 1):
                taken.append(name)
                if not self._take(name):
                    missing.append((key, name))
                if number % TAKEN_AT_ONCE == 0:
                    await asyncio.sleep(0)
            counted, absent = _files(keys), _files([key for key, _ in missing])
            self._hits += counted - absent
            self._misses += absent
            if missing:
                await self._obtain_all(missing)
            yield [self._folder.path(name) for name in names]
        finally:
            for name in taken:
                self._release(name)

    def discard(self, keys: Sequence[str]) -> None:
        """Forget copies that are not to be believed. Who holds one open keeps it; who asks next has it fetched."""
        for key in keys:
            self._folder.remove(self._name(key))

    def figures(self) -> CacheFigures:
        folder = self._folder
        return CacheFigures(
            self._hits,
            self._misses,
            self._bytes_fetched,
            folder.evicted_files,
            folder.evicted_bytes,
            folder.bytes_kept,
            self._bytes_max,
        )

    async def close(self) -> None:
        """Nobody uses copies any more; what is being fetched is given up."""
        running = list(self._fetches.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        self._folder.close()
        self._is_open = False

    def _name(self, key: str) -> str:
        return hashlib.sha256(f"{self._store}\n{key}".encode()).hexdigest()

    async def _open(self) -> None:
        if not self._is_open:
            async with self._opening:
                if not self._is_open:
                    await asyncio.to_thread(self._folder.open)
                    self._is_open = True

    def _take(self, name: str) -> bool:
        """Pin a copy; whether it is there."""
        pin = self._pins.setdefault(name, _Pin())
        pin.count += 1
        if not pin.is_held:
            pin.is_held = self._folder.hold(name)
        return pin.is_held and self._folder.use(name)

    def _release(self, name: str) -> None:
        pin = self._pins[name]
        pin.count -= 1
        if not pin.count:
            del self._pins[name]
            if pin.is_held:
                self._folder.release(name)

    async def _obtain_all(self, missing: Sequence[tuple[str, str]]) -> None:
        left = iter(missing)

        async def have_some() -> None:
            for key, name in left:
                await self._have(key, name)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(FETCHES_AT_ONCE, len(missing))):
                    group.create_task(have_some())
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None

    async def _have(self, key: str, name: str) -> None:
        """One fetch per object. A caller that gives up does not stop it for the others."""
        running = self._fetches.get(name)
        if running is None:
            running = self._fetches[name] = asyncio.create_task(self._obtain(key, name))
            running.add_done_callback(lambda done: self._obtained(name, done))
        await asyncio.shield(running)

    def _obtained(self, name: str, done: asyncio.Task[None]) -> None:
        self._fetches.pop(name, None)
        if not done.cancelled():
            done.exception()  # somebody has seen it, or nobody waits any more

    async def _obtain(self, key: str, name: str) -> None:
        """Fill the copy, or wait for another process that is at it."""
        try:
            is_there = self._take(name)
            pause_s, give_up_at = FILL_PAUSE_S, asyncio.get_running_loop().time() + FILL_WAIT_S_MAX
            while not is_there:
                pin = self._pins[name]
                pin.is_held = pin.is_held or self._folder.hold(name)
                if pin.is_held and await self._fill(
                    key, name, whoever_else=asyncio.get_running_loop().time() > give_up_at
                ):
                    return
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, FILL_PAUSE_MAX_S)
                is_there = pin.is_held and self._folder.use(name)
        finally:
            self._release(name)

    async def _fill(self, key: str, name: str, *, whoever_else: bool) -> bool:
        """Whether the copy is there now; not, while another process fills it."""
        folder = self._folder
        is_alone = folder.begin_filling(name)
        if not is_alone and not whoever_else:
            return False
        size, is_wanted = -1, True

        async def room(wanted: int) -> Path:
            nonlocal size
            size = wanted
            return await asyncio.to_thread(folder.reserve, name, wanted, lambda: is_wanted)

        try:
            if folder.use(name):
                return True
            await self._fetch(key, room)
            if not folder.publish(name, size):
                raise BackendUnavailableError("an object did not arrive as it was stored")
            self._bytes_fetched += size
            return True
        finally:
            is_wanted = False
            folder.give_up(name)
            if is_alone:
                folder.end_filling(name)


def _files(keys: Iterable[str]) -> int:
    return sum(not is_blob(key) for key in set(keys))
