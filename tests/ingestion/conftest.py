"""Ingestion over a database of its own; files that need other settings have a ``server`` of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest_asyncio

from tests.support.ingestion import RunningIngestion, running_ingestion
from tests.support.postgres import database_url, empty_database_url, postgres_server

__all__ = ["database", "database_url", "empty_database_url", "postgres_server", "server"]


@pytest_asyncio.fixture
async def server(database_url: str, tmp_path: Path) -> AsyncIterator[RunningIngestion]:
    async with running_ingestion(database_url, tmp_path) as running:
        yield running


@pytest_asyncio.fixture
async def database(database_url: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()
