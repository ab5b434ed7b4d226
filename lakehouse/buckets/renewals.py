"""Renews what a server has for a limited time, such as leases: all of it together, at a steady pace, while it is held.

It refuses to wait for one renewal longer than until the next is due: a slow one costs its turn, not what is held.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from datetime import timedelta
from typing import Final, Generic, TypeVar

import structlog

from lakehouse.errors import BackendUnavailableError

log = structlog.get_logger(__name__)

T = TypeVar("T", bound=Hashable)

RENEWALS_PER_TERM: Final = 4  # so that a pause of the event loop, or of the database, is survived


class Renewals(Generic[T]):
    """Of one kind of thing."""

    def __init__(self, renew: Callable[[Sequence[T], timedelta], Awaitable[None]], lasts_s: float) -> None:
        """
        Args:
            renew: Makes all that it is given last so long from now on. May raise ``BackendUnavailableError``.
            lasts_s: Until what is not renewed is lost.
        """
        self.lasts: Final = timedelta(seconds=lasts_s)
        self._renew = renew
        self._pause_s = lasts_s / RENEWALS_PER_TERM
        self._held: set[T] = set()
        self._next: asyncio.TimerHandle | None = None
        self._running: set[asyncio.Task[None]] = set()

    def __contains__(self, item: T) -> bool:
        return item in self._held

    def add(self, *items: T) -> None:
        self._held.update(items)
        if self._held and self._next is None:
            self._next = asyncio.get_running_loop().call_later(self._pause_s, self._begin)

    def discard(self, *items: T) -> None:
        self._held.difference_update(items)
        if not self._held and self._next is not None:
            self._next.cancel()
            self._next = None

    def _begin(self) -> None:
        self._next = asyncio.get_running_loop().call_later(self._pause_s, self._begin)
        running = asyncio.create_task(self._renew_all(list(self._held)))
        self._running.add(running)  # the loop itself would forget it
        running.add_done_callback(self._running.discard)

    async def _renew_all(self, held: Sequence[T]) -> None:
        try:
            async with asyncio.timeout(self._pause_s):
                await self._renew(held, self.lasts)
        except (BackendUnavailableError, TimeoutError) as error:
            reason = str(error) or f"no answer within {self._pause_s:g} s"
            log.warning("renewal.failed", kind=type(held[0]).__name__, count=len(held), reason=reason)
