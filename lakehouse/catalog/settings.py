"""Values that all servers of a lake share, each made by the first who needs it."""

from __future__ import annotations

from typing import Any, Final

from lakehouse.catalog.queries import load

_SQL: Final = load("settings")


async def shared_value(connection: Any, key: str, first: bytes) -> bytes:
    """The value of ``key``: ``first``, unless somebody was here before. ``connection`` may be a pool."""
    await connection.execute(_SQL["add"], key, first)
    found: bytes = await connection.fetchval(_SQL["fetch"], key)
    return found
