"""What paused readers have not taken yet lies in a file without a name, and each file is given back."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest

from server.workers.spool import Spool, SpoolBudget, SpoolLimits


def open_files(folder: Path) -> int:
    links = (Path("/proc/self/fd") / name for name in os.listdir("/proc/self/fd"))
    return sum(os.readlink(link).startswith(str(folder)) for link in links if link.is_symlink())


async def closed(spool: Spool, folder: Path) -> int:
    """How many files are open a while after the spool was closed."""
    spool.close()
    for _ in range(100):
        if not open_files(folder):
            break
        await asyncio.sleep(0.01)
    return open_files(folder)


async def test_frames_come_back_as_they_were_written_however_many_at_once(tmp_path: Path) -> None:
    budget = SpoolBudget(SpoolLimits(tmp_path))
    spool = budget.open_spool()
    frames = [bytes([number]) * (1 + number * 1_000) for number in range(40)]

    offsets = await asyncio.gather(*map(spool.write, frames))
    found = await asyncio.gather(*(spool.read(at, len(frame)) for at, frame in zip(offsets, frames, strict=True)))

    assert found == frames
    assert await closed(spool, tmp_path) == 0
    budget.close()


async def test_the_first_writes_of_a_reader_share_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opens = os.open

    def slow_open(path: str, flags: int, mode: int = 0o777) -> int:
        fd = opens(path, flags, mode)
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            time.sleep(0.05)
        return fd

    monkeypatch.setattr(os, "open", slow_open)
    budget = SpoolBudget(SpoolLimits(tmp_path))
    spool = budget.open_spool()

    first, second = await asyncio.gather(spool.write(b"first"), spool.write(b"second"))

    assert [await spool.read(first, 5), await spool.read(second, 6)] == [b"first", b"second"]
    assert open_files(tmp_path) == 1
    assert await closed(spool, tmp_path) == 0
    budget.close()


async def test_a_spool_that_is_closed_takes_nothing_more(tmp_path: Path) -> None:
    budget = SpoolBudget(SpoolLimits(tmp_path))
    spool = budget.open_spool()
    await spool.write(b"something")

    assert await closed(spool, tmp_path) == 0
    with pytest.raises(OSError, match="closed"):
        await spool.write(b"more")
    budget.close()
