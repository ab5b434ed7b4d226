"""Tasks of maintenance: which of many servers does one, and when it was last done."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Final

import asyncpg

from lakehouse.catalog.connect import CLOSE_TIMEOUT_S, connect, database_errors
from lakehouse.catalog.parts import CatalogPart
from lakehouse.catalog.queries import load

_SQL: Final = load("tasks")
LOCK_SPACE: Final = 0x1A4E  # ours among the advisory locks of two numbers


class Tasks(CatalogPart):
    """Statements over ``lakehouse_tasks``."""

    async def task_age(self, task: str) -> timedelta | None:
        """Since it was last done by any server; ``None``: it never was."""
        async with self.connection() as connection:
            age: timedelta | None = await connection.fetchval(_SQL["fetch_age"], task)
        return age

    async def task_done(self, task: str, owner: str) -> None:
        async with self.connection() as connection:
            await connection.execute(_SQL["note_done"], task, owner)


class SessionLeadership:
    """Leads tasks by locks of one database session, which ends with the server, however that ends."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._session: asyncpg.Connection | None = None
        self._led: set[str] = set()
        self._turn = asyncio.Lock()  # a connection does one thing at a time

    async def leads(self, task: str) -> bool:
        """Whether this server is the one that does a task, from now on until its session ends.

        Raises:
            BackendUnavailableError: The database does not answer, so nobody can know.
        """
        async with self._turn:
            if self._session is None or self._session.is_closed():
                self._led.clear()
                self._session = await connect(self._url)
            with database_errors():
                try:
                    if task in self._led:
                        await self._session.fetchval(_SQL["still_there"])
                    elif await self._session.fetchval(_SQL["try_lead"], LOCK_SPACE, task):
                        self._led.add(task)
                except BaseException:
                    self._session.terminate()  # its locks go, and whoever asks next begins anew
                    raise
            return task in self._led

    async def close(self) -> None:
        if self._session is not None and not self._session.is_closed():
            try:
                await self._session.close(timeout=CLOSE_TIMEOUT_S)
            except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
                self._session.terminate()
