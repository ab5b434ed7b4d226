"""A real database for materialization."""

from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest_asyncio

from tests.support.materializer_lake import Lake
from tests.support.postgres import database_url, postgres_server

__all__ = ["database_url", "postgres_server"]


@pytest_asyncio.fixture
async def lake(database_url: str, tmp_path: Path) -> AsyncIterator[Lake]:
    async with (
        asyncpg.create_pool(database_url, min_size=0, max_size=8) as pool,
        asyncpg.create_pool(database_url, min_size=0, max_size=4) as locks,
    ):
        made = Lake(pool, locks, database_url, tmp_path)
        yield made
        made.builder.gate.set()
        await made.rows.close()
        await made.store.close()
