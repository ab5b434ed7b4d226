"""API keys in the catalog: found by their digests, listed, made and revoked. Never sees a key itself."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from lakehouse.catalog.connect import ACQUIRE_TIMEOUT_S, database_errors
from lakehouse.catalog.queries import load
from lakehouse.model import KeyUse

_TABLES: Final = {KeyUse.READER: "lakehouse_reader_keys", KeyUse.WRITER: "lakehouse_writer_keys"}
_SQL: Final = {
    use: {name: text.replace("{keys}", table) for name, text in load("keys").items()} for use, table in _TABLES.items()
}
USE_NOTED_AFTER: Final = timedelta(minutes=5)  # how exact the time of the latest use is


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A key that may be used now."""

    key_id: int
    name: str
    digest: bytes
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class ListedKey:
    """What can be said of a key, whether it may still be used or not."""

    use: KeyUse
    key_id: int
    name: str
    hint: str
    created_by: str
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None


class StoredKeys:
    """The keys of one use. ``pool`` is of asyncpg.

    Raises, wherever it asks:
        BackendUnavailableError: The database does not answer.
    """

    def __init__(self, pool: Any, use: KeyUse) -> None:
        self._pool = pool
        self._use = use
        self._sql = _SQL[use]

    async def find(self, digest: bytes) -> StoredKey | None:
        """The key, unless it is unknown, revoked or expired."""
        with database_errors():
            async with self._pool.acquire(timeout=ACQUIRE_TIMEOUT_S) as connection:
                row = await connection.fetchrow(self._sql["find"], digest)
        return None if row is None else StoredKey(row["key_id"], row["name"], row["digest"], row["expires_at"])

    async def add(self, name: str, digest: bytes, hint: str, created_by: str, lasting: timedelta | None) -> ListedKey:
        """Keep a new key."""
        with database_errors():
            async with self._pool.acquire(timeout=ACQUIRE_TIMEOUT_S) as connection:
                row = await connection.fetchrow(self._sql["add"], name, digest, hint, created_by, lasting)
        return ListedKey(use=self._use, **row)

    async def list(self) -> list[ListedKey]:
        """All keys, also those that cannot be used any more, in the order in which they were made."""
        with database_errors():
            async with self._pool.acquire(timeout=ACQUIRE_TIMEOUT_S) as connection:
                rows = await connection.fetch(self._sql["list"])
        return [ListedKey(use=self._use, **row) for row in rows]

    async def revoke(self, key_id: int) -> str | None:
        """Whose key it was; ``None`` if there is no such key."""
        with database_errors():
            async with self._pool.acquire(timeout=ACQUIRE_TIMEOUT_S) as connection:
                name: str | None = await connection.fetchval(self._sql["revoke"], key_id)
        return name

    async def note_use(self, key_ids: Collection[int]) -> None:
        """Keep that these were used just now."""
        with database_errors():
            async with self._pool.acquire(timeout=ACQUIRE_TIMEOUT_S) as connection:
                await connection.execute(self._sql["note_use"], sorted(key_ids), USE_NOTED_AFTER)
