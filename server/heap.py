"""The edge's heap: frames of results come and go through it, and what a burst leaves behind goes back to the system.

glibc keeps what is freed. That is right while results stream, because the next frame wants the same pages; a crowd of
readers that has gone would otherwise stay in the size of the process for as long as it runs.
"""

from __future__ import annotations

import asyncio
import ctypes
from typing import Final

import pyarrow as pa

GIVE_BACK_EACH_S: Final = 10.0  # seldom enough that filling the pages again costs nothing beside what they carry
# mmap and trim threshold, top pad, arenas
_OPTIONS: Final = {-3: 32 << 20, -1: 128 << 20, -2: 16 << 20, -8: 2}
_LIBC: Final = ctypes.CDLL(None)


def keep_frames() -> None:
    """Keep freed frames of results for the next ones: giving 2 MiB back to the kernel costs more than copying it."""
    for parameter, value in _OPTIONS.items():
        _LIBC.mallopt(parameter, value)


async def give_back(each_s: float = GIVE_BACK_EACH_S) -> None:
    """Return free pages now and then, in a thread: it takes milliseconds, and the loop goes on meanwhile."""
    while True:
        await asyncio.sleep(each_s)
        await asyncio.to_thread(_release)


def _release() -> None:
    pa.default_memory_pool().release_unused()
    _LIBC.malloc_trim(0)
