"""How many bytes are fetched ahead of the workers that read them: one job at a time may begin, in the order in which they came.

Jobs are localized before they wait for a worker, so that what the next one reads is on its way while this one is decoded. All
of it is pinned meanwhile, and the pins of many must not take the room that each of them could have had alone.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class BytesAhead:
    """``bytes_max`` for all jobs together, ``None``: as many as they like. A job of more than that goes alone."""

    def __init__(self, bytes_max: int | None) -> None:
        self._bytes_max = bytes_max
        self._held = 0
        self._jobs = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def held(self, size: int) -> AsyncIterator[None]:
        """Returns when there is room for a job of ``size``, and takes it until the context is left."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((size, turn))
        self._admit()
        try:
            await turn
            yield
        finally:
            if turn.done() and not turn.cancelled():
                self._held -= size
                self._jobs -= 1
            self._admit()

    def _admit(self) -> None:
        while self._waiting:
            size, turn = self._waiting[0]
            if not turn.cancelled():
                if self._jobs and self._bytes_max is not None and self._held + size > self._bytes_max:
                    return
                self._held += size
                self._jobs += 1
                turn.set_result(None)
            self._waiting.popleft()
