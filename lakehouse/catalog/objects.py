"""Objects of partitions: announced before they are written, known by what was written, deleted when nobody can need them."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Final

from lakehouse.catalog.parts import CatalogPart
from lakehouse.catalog.queries import load
from lakehouse.filters import probe

_SQL: Final = load("objects")


class Objects(CatalogPart):
    """Statements over ``lake_objects`` and ``staged_writes``."""

    async def reserve(self, keys: Sequence[str], lease: timedelta, owner: str) -> tuple[uuid.UUID, ...]:
        """Write intents for objects that are about to be made, committed before this returns."""
        intents = tuple(uuid.uuid4() for _ in keys)
        async with self.connection() as connection:
            await connection.execute(
                _SQL["reserve"], uuid.uuid4(), owner, self._store, list(intents), list(keys), lease
            )
        return intents

    async def renew_intents(self, intents: Sequence[uuid.UUID], lasts: timedelta) -> None:
        async with self.connection(renews=True) as connection:
            await connection.execute(_SQL["renew_intents"], list(intents), lasts)

    async def drop_intents(self, intents: Sequence[uuid.UUID]) -> None:
        async with self.connection() as connection:
            await connection.execute(_SQL["drop_intents"], list(intents))

    async def digests(self, keys: Sequence[str]) -> dict[str, bytes | None]:
        async with self.connection() as connection:
            rows = await connection.fetch(_SQL["fetch_digests"], self._store, list(keys))
        return {row["path"]: row["sha256"] for row in rows}

    async def without(self, keys: Sequence[str], values: Mapping[str, Sequence[str]]) -> set[str]:
        """Those of these files that have no row with, in each of these columns, one of its values. It may leave some out."""
        wanted = [(column, *probe(column, value)) for column, texts in values.items() for value in texts]
        if not keys or not wanted:
            return set()
        columns, firsts, steps = zip(*wanted, strict=True)
        async with self.connection() as connection:
            rows = await connection.fetch(
                _SQL["fetch_without"], list(keys), list(columns), list(firsts), list(steps), self._store
            )
        return {row["path"] for row in rows}

    async def claim_expired_intents(self, limit: int) -> list[tuple[uuid.UUID, str]]:
        async with self.connection() as connection:
            rows = await connection.fetch(_SQL["claim_expired_intents"], self._store, limit)
        return [(row["staged_id"], row["path"]) for row in rows]

    async def finish_reaped(self, intents: Sequence[uuid.UUID]) -> None:
        async with self.connection() as connection:
            await connection.execute(_SQL["finish_reaped"], list(intents))
            await connection.execute(_SQL["purge_reaped"])

    async def condemn_unreferenced(self, grace: timedelta, limit: int) -> list[tuple[int, str]]:
        """Objects that nobody can need any more, fenced against new references; delete them, then forget them."""
        async with self.connection() as connection:
            async with connection.transaction():
                claimed = await connection.fetch(_SQL["claim_unreferenced"], self._store, limit, grace)
                rows = await connection.fetch(_SQL["condemn"], [row["object_id"] for row in claimed])
        return [(row["object_id"], row["path"]) for row in rows]

    async def forget_objects(self, object_ids: Sequence[int]) -> None:
        async with self.connection() as connection:
            await connection.execute(_SQL["forget_objects"], list(object_ids))
