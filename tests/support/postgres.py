"""An embedded server for the whole test run, and a fresh, migrated database for each test.

Use it from a ``conftest.py`` or a test module::

    from tests.support.postgres import database_url, empty_database_url, postgres_server  # noqa: F401

``LAKEFLIGHT_TEST_POSTGRES`` names another server (a URL of a superuser) to run the same tests against.
"""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
import pytest_asyncio

from lakehouse.catalog.migrate import migrate
from server.embedded_postgres import EmbeddedPostgres

TEMPLATE = "lakeflight_template"
FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}  # nobody kills this one


@dataclass
class PostgresServer:
    """A running server; makes and drops databases."""

    admin_url: str
    _template: str | None = field(default=None, init=False)

    def url_of(self, database: str) -> str:
        parts = urlsplit(self.admin_url)
        return urlunsplit(parts._replace(path=f"/{database}"))

    async def create(self, *, migrated: bool) -> str:
        """A new database; returns its URL."""
        if migrated and self._template is None:
            name = f"{TEMPLATE}_{uuid.uuid4().hex[:12]}"
            await self._execute(f'CREATE DATABASE "{name}"')
            await migrate(self.url_of(name))
            self._template = name
        name = f"test_{uuid.uuid4().hex[:12]}"
        template = f' TEMPLATE "{self._template}" STRATEGY FILE_COPY' if migrated else ""
        await self._execute(f'CREATE DATABASE "{name}"{template}')
        return self.url_of(name)

    async def copy(self, url: str) -> str:
        """A new database with what is in the one at ``url``, which nobody may use meanwhile; returns its URL."""
        name = f"test_{uuid.uuid4().hex[:12]}"
        original = urlsplit(url).path.lstrip("/")
        await self._execute(f'CREATE DATABASE "{name}" TEMPLATE "{original}" STRATEGY FILE_COPY')
        return self.url_of(name)

    async def drop(self, url: str) -> None:
        name = urlsplit(url).path.lstrip("/")
        await self._execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    async def close(self) -> None:
        if self._template is not None:
            await self.drop(self.url_of(self._template))

    async def _execute(self, sql: str) -> None:
        connection = await asyncpg.connect(self.admin_url)
        try:
            await connection.execute(sql)
        finally:
            await connection.close()


@contextmanager
def embedded_server(folder: Path) -> Iterator[PostgresServer]:
    """A cluster that is made for this."""
    embedded = EmbeddedPostgres(folder / "postgres", FAST)
    asyncio.run(embedded.start())
    try:
        yield PostgresServer(embedded.url_of("postgres"))
    finally:
        asyncio.run(embedded.stop())


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """One server for all tests of this process."""
    if url := os.environ.get("LAKEFLIGHT_TEST_POSTGRES"):
        server = PostgresServer(url)
        yield server
        asyncio.run(server.close())
        return
    with embedded_server(tmp_path_factory.mktemp("postgres")) as server:
        yield server


@pytest_asyncio.fixture
async def database_url(postgres_server: PostgresServer) -> AsyncIterator[str]:
    """A database with the current schema and no rows."""
    url = await postgres_server.create(migrated=True)
    yield url
    await postgres_server.drop(url)


@pytest_asyncio.fixture
async def empty_database_url(postgres_server: PostgresServer) -> AsyncIterator[str]:
    """A database without any table."""
    url = await postgres_server.create(migrated=False)
    yield url
    await postgres_server.drop(url)
