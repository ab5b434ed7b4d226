"""What every connection to the database has, whatever the role, the database or the server has as its default."""

from __future__ import annotations

import contextlib
import socket
import uuid
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from lakehouse.catalog.connect import HOST_GONE_S, INGEST_LIMITS, close_pool, connect, open_pool
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
