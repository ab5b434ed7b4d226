"""What a crowd left behind in the edge's heap goes back to the system."""

from __future__ import annotations

import subprocess
import sys
from typing import Final

_TAKEN_BYTES: Final = 192 << 20

# Frames are freed beneath one that stays, as beneath a reader who is still there: the heap cannot just become shorter.
_PROGRAM: Final = f"""
import asyncio, os
from pathlib import Path
from server.heap import give_back, keep_frames

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

async def main():
    keep_frames()
    before = resident()
    frames = [b"x" * (1 << 20) for _ in range({_TAKEN_BYTES >> 20})]
    stays = b"x" * 65536
    del frames
    kept = resident() - before
    task = asyncio.create_task(give_back(0.01))
    for _ in range(500):
        await asyncio.sleep(0.01)
        if resident() - before < 16 << 20:
            break
    print(kept, resident() - before, len(stays), task.done())

asyncio.run(main())
"""


def test_a_crowd_that_has_gone_leaves_the_edge_as_small_as_it_was() -> None:
    told = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, timeout=60, check=True)
    kept, left, _, ended = told.stdout.split()
    assert int(kept) > _TAKEN_BYTES * 3 // 4, "the heap keeps freed frames for the next ones"
    assert int(left) < 16 << 20
    assert ended == "False", "it goes on giving back"
