"""What every connection to the database has, whatever the role, the database or the server has as its default."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import uuid
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from lakehouse.catalog.connect import HOST_GONE_S, INGEST_LIMITS, close_pool, connect, database_errors, open_pool
from lakehouse.errors import BackendUnavailableError
from server.embedded_postgres import PORT, EmbeddedPostgres

LOOPBACK = "127.7.13.21"  # an address of its own: the port is that of every other Postgres


async def test_a_commit_is_durable_whatever_the_role_has_as_its_default(empty_database_url: str) -> None:
    role = f"careless_{uuid.uuid4().hex[:12]}"
    admin = await asyncpg.connect(empty_database_url)
    await admin.execute(f"CREATE ROLE {role} LOGIN; ALTER ROLE {role} SET synchronous_commit = 'off'")
    parts = urlsplit(empty_database_url)
    url = urlunsplit(parts._replace(netloc=f"{role}@{parts.netloc.rpartition('@')[2]}"))
    try:
        pool = await open_pool(url, connections_max=1, limits=INGEST_LIMITS)
        connection = await connect(url, INGEST_LIMITS)

        assert await connection.fetchval("SHOW synchronous_commit") == "on"
        async with pool.acquire() as pooled:
            assert await pooled.fetchval("SHOW synchronous_commit") == "on"
        async with pool.acquire() as pooled:  # a pool resets what a session has set
            assert await pooled.fetchval("SHOW synchronous_commit") == "on"
        await connection.close()
        await close_pool(pool)
    finally:
        await admin.execute(f"DROP ROLE {role}")
        await admin.close()


async def test_who_waits_for_a_row_reads_what_it_is_then_whatever_the_role_has_as_its_default(
    empty_database_url: str,
) -> None:
    admin = await asyncpg.connect(empty_database_url)
    database = await admin.fetchval("SELECT current_database()")
    await admin.execute(f"ALTER DATABASE {database} SET default_transaction_isolation = 'serializable'")
    await admin.close()

    connection = await connect(empty_database_url)

    assert await connection.fetchval("SHOW transaction_isolation") == "read committed"
    await connection.close()


async def test_a_pooled_connection_comes_back_without_what_was_left_open_on_it(empty_database_url: str) -> None:
    pool = await open_pool(empty_database_url, connections_max=1)
    async with pool.acquire() as pooled:
        await pooled.execute("CREATE TABLE left_open (n int)")
        await pooled.execute("BEGIN; SET LOCAL statement_timeout = '1s'; INSERT INTO left_open VALUES (1)")

    async with pool.acquire() as pooled:
        assert not pooled.is_in_transaction()
        assert await pooled.fetchval("SHOW statement_timeout") == "30s"
        assert await pooled.fetchval("SELECT count(*) FROM left_open") == 0
    await close_pool(pool)


async def test_a_deadlock_is_not_taken_for_a_database_that_does_not_answer(empty_database_url: str) -> None:
    one, two = [await connect(empty_database_url) for _ in range(2)]

    async def lock_both(connection: asyncpg.Connection, first: int, second: int) -> None:
        with database_errors():
            async with connection.transaction():
                await connection.execute("SELECT pg_advisory_xact_lock($1)", first)
                await asyncio.sleep(0.2)
                await connection.execute("SELECT pg_advisory_xact_lock($1)", second)

    outcomes = await asyncio.gather(lock_both(one, 1, 2), lock_both(two, 2, 1), return_exceptions=True)
    for connection in (one, two):
        await connection.close()

    (error,) = [outcome for outcome in outcomes if outcome is not None]
    assert isinstance(error, BackendUnavailableError)
    assert str(error) == "another change of the database was in the way; ask again"


async def test_a_client_whose_host_vanished_gives_its_locks_back_soon(tmp_path: Path) -> None:
    with contextlib.closing(socket.socket()) as probe:
        try:
            probe.bind((LOOPBACK, PORT))
        except OSError as error:
            pytest.skip(f"{LOOPBACK}:{PORT} is not free: {error.strerror}")
    server = EmbeddedPostgres(tmp_path / "postgres", {"listen_addresses": LOOPBACK, "fsync": "off"})
    await server.start()
    try:
        connection = await connect(f"postgresql://lakeflight@{LOOPBACK}:{PORT}/lakeflight")
        idle, interval, count, unacknowledged = [
            int(await connection.fetchval("SELECT setting FROM pg_settings WHERE name = $1", name))
            for name in ("tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count", "tcp_user_timeout")
        ]
        await connection.close()
    finally:
        await server.stop()

    assert idle + interval * count == HOST_GONE_S
    assert unacknowledged == HOST_GONE_S * 1000
