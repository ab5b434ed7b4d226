"""Finds the files of partitions and sees whether they are what was written: lost, cut off, damaged or another's are told apart.

A file is looked at before it is used: its length, and the digest of its end, once for as long as its inode, length and time of
change stay what they were. Damage elsewhere in it shows when the engine stumbles; then all of it is compared with what was
written. A local copy of a remote object that is damaged is fetched again before the object is blamed.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final, NamedTuple

import structlog

from lakehouse.buckets.catalog import Objects
from lakehouse.buckets.model import StoredPartition
from lakehouse.buckets.sharing import together
from lakehouse.errors import BackendUnavailableError
from lakehouse.ports import ObjectStore
from lakehouse.storage.digests import tail_digest, whole_digest

log = structlog.get_logger(__name__)

INLINE_MAX: Final = 64  # so many stat calls are cheaper than a change of threads
DIGESTS_INLINE_MAX: Final = 4  # and so many reads of an end
SIZES_AT_ONCE: Final = 16  # requests for the sizes of objects, when some of them are lost
DIGESTS_AT_ONCE: Final = 4  # files that are read whole, when the engine has stumbled over one of them
FILES_REMEMBERED_MAX: Final = 100_000  # that were looked at; forgetting them costs one more look each
KEYS_LOGGED_MAX: Final = 20


class Signature(NamedTuple):
    """What changes when a file is written to, replaced or restored."""

    inode: int
    size_bytes: int
    changed_ns: int


class PartitionFiles:
    """Those of one server."""

    def __init__(self, store: ObjectStore, catalog: Objects) -> None:
        self._store = store
        self._catalog = catalog
        self._sound: dict[str, Signature] = {}  # by key: as it was when it was last looked at
        self._damaged: dict[str, Signature] = {}  # found so by comparing all of it, and not made again yet

    async def localize(
        self, partitions: Sequence[StoredPartition], pins: AsyncExitStack
    ) -> tuple[dict[str, Path], list[str]]:
        """Local files by key, which ``pins`` keeps, and the keys of which the store has not what was written."""
        if not partitions:
            return {}, []
        try:
            paths, suspects = await self._look(partitions, pins)
            if suspects:
                self._store.discard_copies([partition.key for partition in suspects])
                fetched, suspects = await self._look(suspects, pins)
                paths |= fetched
        except BackendUnavailableError:
            keys = [partition.key for partition in partitions]
            sizes = await together((self._store.size(key) for key in keys), asyncio.Semaphore(SIZES_AT_ONCE))
            lost = [p.key for p, size in zip(partitions, sizes, strict=True) if size != p.size_bytes]
            if not lost:
                raise
            return {}, lost
        return paths, [partition.key for partition in suspects]

    async def find_damaged(self, keys: Collection[str]) -> list[str]:
        """Compare all of these files with what was written; those that differ count as lost from now on.

        One of which no digest was kept when it was written counts as damaged, too: being made again gives it one.
        """
        if not keys:
            return []
        written = await self._catalog.digests(list(keys))
        places = asyncio.Semaphore(DIGESTS_AT_ONCE)

        async def is_damaged(key: str, digest: bytes | None) -> bool:
            for _ in range(2):
                async with AsyncExitStack() as pins:
                    try:
                        (path,) = await pins.enter_async_context(self._store.localize([key]))
                        found = await asyncio.to_thread(whole_digest, path)
                        signature = _signature(path)
                    except (BackendUnavailableError, OSError):
                        return False  # lost, or the store is in trouble: who uses it next sees which
                if found == digest:
                    return False
                self._store.discard_copies([key])
            self._forget_some()
            self._sound.pop(key, None)
            self._damaged[key] = signature
            return True

        judged = await together((is_damaged(key, digest) for key, digest in written.items()), places)
        damaged = [key for key, is_bad in zip(written, judged, strict=True) if is_bad]
        if damaged:
            log.error("partition.damaged", files=len(damaged), keys=damaged[:KEYS_LOGGED_MAX])
        return damaged

    async def _look(
        self, partitions: Sequence[StoredPartition], pins: AsyncExitStack
    ) -> tuple[dict[str, Path], list[StoredPartition]]:
        keys = [partition.key for partition in partitions]
        paths = dict(zip(keys, await pins.enter_async_context(self._store.localize(keys)), strict=True))
        if len(partitions) <= INLINE_MAX and sum(key not in self._sound for key in keys) <= DIGESTS_INLINE_MAX:
            return paths, self._suspects(partitions, paths)
        return paths, await asyncio.to_thread(self._suspects, partitions, paths)

    def _suspects(self, partitions: Sequence[StoredPartition], paths: Mapping[str, Path]) -> list[StoredPartition]:
        return [partition for partition in partitions if not self._is_sound(partition, paths[partition.key])]

    def _is_sound(self, partition: StoredPartition, path: Path) -> bool:
        try:
            signature = _signature(path)
            if self._sound.get(partition.key) == signature:
                return True
            if signature.size_bytes != partition.size_bytes or self._damaged.get(partition.key) == signature:
                return False
            if partition.tail_digest not in (None, tail_digest(path)):
                return False
        except OSError:
            return False  # it is pinned, so nothing of ours made room for others
        self._forget_some()
        self._damaged.pop(partition.key, None)
        self._sound[partition.key] = signature
        return True

    def _forget_some(self) -> None:
        for known in (self._sound, self._damaged):
            if len(known) >= FILES_REMEMBERED_MAX:
                known.clear()


def _signature(path: Path) -> Signature:
    status = os.stat(path)
    return Signature(status.st_ino, status.st_size, status.st_mtime_ns)
