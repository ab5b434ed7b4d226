"""A process that uses one cache with others: fills, reads and evicts at random until it is killed.

``python -m tests.support.cache_user FOLDER BYTES_MAX SEED`` prints a line for each copy that it has read and found right, and
ends with 3 where one was not.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import sys
from pathlib import Path
from typing import Final

from lakehouse.errors import LimitExceededError
from lakehouse.storage.cache import FileCache, Room

OBJECTS: Final = 30
WRONG: Final = 3
PIECE_BYTES: Final = 8 << 10


def key_of(number: int) -> str:
    return f"k/{number}"


def content_of(key: str) -> bytes:
    """Always the same, and of no other key."""
    digest = hashlib.sha256(key.encode()).digest()
    return (digest * (1 << 11))[: 10_000 + 1_000 * (digest[0] % 50)]


async def fetch(key: str, room: Room) -> None:
    content = content_of(key)
    path = await room(len(content))
    with path.open("r+b", buffering=0) as file:
        for begin in range(0, len(content), PIECE_BYTES):
            file.write(content[begin : begin + PIECE_BYTES])
            await asyncio.sleep(0)


async def use(folder: Path, bytes_max: int, chance: random.Random) -> None:
    cache = FileCache(folder, fetch, bytes_max=bytes_max)

    async def one() -> None:
        keys = [key_of(chance.randrange(OBJECTS)) for _ in range(chance.randint(1, 2))]
        try:
            async with cache.pinned(keys) as paths:
                await asyncio.sleep(chance.random() * 0.01)
                for key, path in zip(keys, paths, strict=True):
                    if path.read_bytes() != content_of(key):
                        print("wrong", key, flush=True)
                        sys.exit(WRONG)
                    print("right", flush=True)
        except LimitExceededError:
            print("no room", flush=True)

    while True:
        await asyncio.gather(one(), one())


if __name__ == "__main__":
    asyncio.run(use(Path(sys.argv[1]), int(sys.argv[2]), random.Random(int(sys.argv[3]))))
