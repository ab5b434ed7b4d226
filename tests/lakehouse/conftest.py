"""Lakes for materialization: in memory, which needs nothing installed, and over a real database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest
import pytest_asyncio

from tests.support.materializer_lake import Lake, MemoryLake

with suppress(ImportError):  # without a driver the tests in memory run all the same
    from tests.support.postgres import PostgresServer, database_url, postgres_server

    __all__ = ["database_url", "postgres_server"]


@pytest.fixture(params=["memory", "postgres"])
def database(request: pytest.FixtureRequest) -> PostgresServer | None:
    """Where the catalog is: ``None`` is in memory."""
    if request.param == "memory":
        return None
    pytest.importorskip("asyncpg")
    server: PostgresServer = request.getfixturevalue("postgres_server")
    return server


@pytest_asyncio.fixture
async def lake(database: PostgresServer | None, tmp_path: Path) -> AsyncIterator[Lake]:
    if database is None:
        in_memory = MemoryLake(tmp_path)
        yield in_memory
        in_memory.builder.gate.set()
        await in_memory.store.close()
        return
    from tests.support.postgres_lake import postgres_lake_at

    url = await database.create(migrated=True)
    async with postgres_lake_at(url, tmp_path) as made:
        yield made
    await database.drop(url)
