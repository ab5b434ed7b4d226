"""Files in the store that nothing names."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from lakehouse.catalog.parts import CatalogPart
from lakehouse.catalog.queries import load
from lakehouse.catalog.settings import shared_value

_SQL: Final = load("sweep")


class Sweep(CatalogPart):
    """Statements over ``lakehouse_orphans``."""

    async def lake_id(self) -> bytes:
        """What tells this database from others, copies of it apart."""
        async with self.connection() as connection:
            return await shared_value(connection, "lake_id", str(uuid.uuid4()).encode())

    async def note_orphans(self, keys: Sequence[str]) -> None:
        async with self.connection() as connection:
            await connection.execute(_SQL["note_orphans"], self._store, list(keys))

    async def orphans(self, grace: timedelta, limit: int) -> list[str]:
        async with self.connection() as connection:
            rows = await connection.fetch(_SQL["fetch_orphans"], self._store, grace, limit)
        return [row["path"] for row in rows]

    async def forget_orphans(self, keys: Sequence[str]) -> None:
        async with self.connection() as connection:
            await connection.execute(_SQL["forget_orphans"], self._store, list(keys))
