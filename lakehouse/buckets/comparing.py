"""Compares whole files with what was written, in threads of its own: however many ask, few files are read at a time, each once.

A file that was found to be sound is taken to be for a while, so that whoever asks again for a long comparison comes to its
end. A comparison that nobody waits for any more stops.
"""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from lakehouse.parquet import has_footer
from lakehouse.storage.digests import Signature, whole_digest

THREADS: Final = 2  # files at a time, of all statements: a disk gives no more, and the processors are for queries
SOUND_FOR_S: Final = 600.0  # what was compared is not read again before; a disk may lose what it has given once
FILES_REMEMBERED_MAX: Final = 100_000


@dataclass(slots=True)
class _Reading:
    """A file that is being read, and how many wait for it."""

    digest: asyncio.Future[bytes | None]
    stop: threading.Event
    waiting: int = 0


@dataclass(slots=True)
class FileComparer:
    """For the files of one server."""

    _threads: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(THREADS, thread_name_prefix="compare-files")
    )
    _readings: dict[tuple[str, Signature], _Reading] = field(default_factory=dict)
    _sound: dict[str, tuple[Signature, float]] = field(default_factory=dict)  # by key, and until when

    def is_sound(self, key: str, signature: Signature) -> bool:
        """It was compared lately, and nothing about it has changed."""
        known, until = self._sound.get(key, (None, 0.0))
        return known == signature and time.monotonic() < until

    async def is_as_written(self, key: str, path: Path, signature: Signature, digest: bytes | None) -> bool:
        """Whether all of a file is what was written; if no digest of that was kept, whether it is a Parquet file at all.

        Raises:
            OSError: It cannot be read.
        """
        if self.is_sound(key, signature):
            return True
        if digest is None:
            is_sound = await asyncio.get_running_loop().run_in_executor(self._threads, has_footer, path)
        else:
            is_sound = await self._read(key, path, signature) == digest
        if is_sound:
            if len(self._sound) >= FILES_REMEMBERED_MAX:
                self._sound.clear()
            self._sound[key] = signature, time.monotonic() + SOUND_FOR_S
        return is_sound

    async def _read(self, key: str, path: Path, signature: Signature) -> bytes | None:
        name = key, signature
        reading = self._readings.get(name)
        if reading is None:
            stop = threading.Event()
            digest = asyncio.get_running_loop().run_in_executor(self._threads, whole_digest, path, stop.is_set)
            reading = self._readings[name] = _Reading(digest, stop)
        reading.waiting += 1
        try:
            return await asyncio.shield(reading.digest)
        finally:
            reading.waiting -= 1
            if not reading.waiting:
                del self._readings[name]
                reading.stop.set()
                reading.digest.cancel()  # if its turn has not come
