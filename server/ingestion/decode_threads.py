"""Threads that decode bodies: as many at once as there are threads, of the large ones a single one.

What is decoding goes on when its request has ended, by a timeout or a caller that is gone. So its turn and its bytes come
back when the work is over, never when nobody waits for it any more. What waits for a turn is forgotten at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from server.ingestion.limits import Share

THREADS: Final = 2

T = TypeVar("T")


class DecodeThreads:
    """The threads of one endpoint; used from one event loop."""

    def __init__(self, name: str) -> None:
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix=name)
        self._turns = asyncio.Semaphore(THREADS)
        self._large = asyncio.Semaphore(1)

    async def run(self, work: Callable[[], T], share: Share, *, more_bytes: int = 0, is_large: bool = False) -> T:
        """What the work returns.

        Args:
            share: Of the request; kept until the work is over.
            more_bytes: What the work may put into memory beside the body. Taken of the share once it is the work's turn;
                whoever called gives back what it did not need.
            is_large: It takes a turn with others that are.

        Raises:
            RequestRefusedError: 503, there is no memory for it.
        """
        turns: list[asyncio.Semaphore] = []
        try:
            for turn in (self._large, self._turns) if is_large else (self._turns,):
                await turn.acquire()
                turns.append(turn)
            share.take(more_bytes)
            future = asyncio.get_running_loop().run_in_executor(self._threads, work)
        except BaseException:
            _release(turns)
            raise

        def over(future: asyncio.Future[Any]) -> None:
            if not future.cancelled():
                future.exception()  # nobody may be there to see it
            _release(turns)

        future.add_done_callback(over)
        share.keep_for(future)
        return await asyncio.shield(future)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


def _release(turns: list[asyncio.Semaphore]) -> None:
    for turn in turns:
        turn.release()
