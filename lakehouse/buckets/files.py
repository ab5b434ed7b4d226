"""Finds the files of partitions and sees whether they are what was written: lost, cut off, damaged or another's are told apart.

A file is looked at before it is used: its length, and the digest of its end, once for as long as its inode, length and time of
change stay what they were. Damage elsewhere in it shows when the engine stumbles over a file; then all of it is compared
with what was written, within limits for one statement and for all. A local copy of a remote object that is damaged is fetched
again before the object is blamed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Final

import structlog

from lakehouse.buckets.catalog import Objects
from lakehouse.buckets.comparing import FileComparer
from lakehouse.buckets.model import StoredPartition
from lakehouse.buckets.sharing import together
from lakehouse.errors import BackendUnavailableError
from lakehouse.ports import ObjectStore
from lakehouse.storage.digests import Signature, signature_of, tail_digest

log = structlog.get_logger(__name__)

INLINE_MAX: Final = 64  # so many stat calls are cheaper than a change of threads
DIGESTS_INLINE_MAX: Final = 4  # and so many reads of an end
SIZES_AT_ONCE: Final = 16  # requests for the sizes of objects, when some of them are lost
COMPARED_BYTES_MAX: Final = (
    4 << 30
)  # read whole for one statement, when the engine has stumbled over one of its files …
COMPARED_S_MAX: Final = (
    30.0  # … and how long it waits for that; what was found to be sound is not read again when it asks again
)
FILES_REMEMBERED_MAX: Final = 100_000  # that were looked at; forgetting them costs one more look each
KEYS_LOGGED_MAX: Final = 20


class PartitionFiles:
    """Those of one server."""

    def __init__(
        self,
        store: ObjectStore,
        catalog: Objects,
        *,
        compared_bytes_max: int = COMPARED_BYTES_MAX,
        compared_s_max: float = COMPARED_S_MAX,
    ) -> None:
        self._store = store
        self._catalog = catalog
        self._compared_bytes_max, self._compared_s_max = compared_bytes_max, compared_s_max
        self._comparer = FileComparer()
        self._sound: dict[str, tuple[Signature, bytes | None]] = {}  # by key: as it was last, and the digest of its end
        self._damaged: dict[str, Signature] = {}  # found so by comparing all of it, and not made again yet

    async def localize(
        self, partitions: Sequence[StoredPartition], pins: AsyncExitStack
    ) -> tuple[dict[str, Path], list[str]]:
        """Local files by key, which ``pins`` keeps, and the keys of which the store has not what was written."""
        if not partitions:
            return {}, []
        try:
            paths, suspects = await self._look(partitions, pins)
            if suspects and self._store.discard_copies([partition.key for partition in suspects]):
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

        Of one of which no digest was kept when it was written, its Parquet footer is read.

        Raises:
            BackendUnavailableError: That takes longer than one statement may; none of those that were compared differs.
        """
        if not keys:
            return []
        written = await self._catalog.digests(list(keys))
        damaged, compared = [], 0
        read_bytes = [0]
        try:
            async with asyncio.timeout(self._compared_s_max):
                for key, digest in written.items():  # one at a time: statements take turns at the threads
                    if await self._is_damaged(key, digest, read_bytes):
                        damaged.append(key)
                    compared += 1
        except (TimeoutError, _TooMuchError):
            if not damaged:
                raise BackendUnavailableError(
                    "the engine could not read a partition file, and comparing all files of this statement with what was"
                    f" written takes longer than one statement may: {compared} of {len(written)} are compared, ask again"
                    " for the rest"
                ) from None
        return self._found(damaged)

    async def find_damaged_ends(self, keys: Collection[str]) -> list[str]:
        """Like ``find_damaged``, but compares the ends of these files alone, as far as they are known."""
        tails = {key: tail for key in keys for _, tail in [self._sound.get(key, (None, None))] if tail is not None}
        damaged: list[str] = []
        with suppress(BackendUnavailableError):  # who uses them next sees what it is
            async with self._store.localize(list(tails)) as paths:
                local = dict(zip(tails, paths, strict=True))
                for key, signature in (await asyncio.to_thread(_with_other_ends, local, tails)).items():
                    self._count_as_damaged(key, signature)
                    damaged.append(key)
            self._store.discard_copies(damaged)
        return self._found(damaged)

    async def _is_damaged(self, key: str, digest: bytes | None, read_bytes: list[int]) -> bool:
        """
        Args:
            read_bytes: What was read for the statement so far; what is read here is added.
        """
        for _ in range(2):
            try:
                async with self._store.localize([key]) as (path,):
                    signature = signature_of(path)
                    if digest is not None and not self._comparer.is_sound(key, signature):
                        is_first = not read_bytes[0]  # it may be of any size
                        read_bytes[0] += signature.size_bytes
                        if read_bytes[0] > self._compared_bytes_max and not is_first:
                            raise _TooMuchError
                    if await self._comparer.is_as_written(key, path, signature, digest):
                        return False
            except (BackendUnavailableError, OSError):
                return False  # lost, or the store is in trouble: who uses it next sees which
            if not self._store.discard_copies([key]):
                break
        self._count_as_damaged(key, signature)
        return True

    def _count_as_damaged(self, key: str, signature: Signature) -> None:
        self._forget_some()
        self._sound.pop(key, None)
        self._damaged[key] = signature

    def _found(self, damaged: list[str]) -> list[str]:
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
            signature = signature_of(path)
            known, _ = self._sound.get(partition.key, (None, None))
            if known == signature:
                return True
            if signature.size_bytes != partition.size_bytes or self._damaged.get(partition.key) == signature:
                return False
            if partition.tail_digest not in (None, tail_digest(path)):
                return False
        except OSError:
            return False  # it is pinned, so nothing of ours made room for others
        self._forget_some()
        self._damaged.pop(partition.key, None)
        self._sound[partition.key] = signature, partition.tail_digest
        return True

    def _forget_some(self) -> None:
        if len(self._sound) >= FILES_REMEMBERED_MAX:
            self._sound.clear()
        if len(self._damaged) >= FILES_REMEMBERED_MAX:
            self._damaged.clear()


class _TooMuchError(Exception):
    """The next file is more than one statement may have compared."""


def _with_other_ends(paths: Mapping[str, Path], tails: Mapping[str, bytes]) -> dict[str, Signature]:
    """Those of the files, by key, that do not end as they did."""
    found = {}
    for key, path in paths.items():
        with suppress(OSError):  # who uses it next sees what it is
            signature = signature_of(path)
            if tail_digest(path) != tails[key]:
                found[key] = signature
    return found
