"""Bring a database to this program's schema: numbered files, forward only, one transaction each.

Any number of servers may do it at once; each step is made by one of them, while servers run that it serves and not while
others do. A database that a newer program has changed is left alone, and refused unless it serves this one; so is one whose
steps are not the ones that we know.
"""

from __future__ import annotations

import asyncio
from typing import Final

import asyncpg
import structlog

from lakehouse.catalog.connect import MIGRATION_LIMITS, connect, database_errors
from lakehouse.catalog.looks import continue_ids
from lakehouse.catalog.schema import Migration, SchemaError, migrations, served_from, try_exclude

log = structlog.get_logger(__name__)

ADVISORY_LOCK_KEY: Final = 0x6C616B65666C6774  # "lakeflgt"; must be the same in every version
OTHERS_S_MAX: Final = 10.0  # until servers that were just told to stop have done so
OTHERS_PAUSE_S: Final = 0.1


async def migrate(url: str) -> int:
    """Apply what is missing; returns the schema version.

    Raises:
        SchemaError: The database is newer than this program, or was made by other steps, or servers run that are too old
            for the next step.
        BackendUnavailableError: The database does not answer.
    """
    steps = migrations()
    connection = await connect(url, MIGRATION_LIMITS, serves=False)
    try:
        with database_errors():
            while await _apply_next(connection, steps):
                pass
            await continue_ids(connection)  # before anything is ingested: the database may come from a backup
    finally:
        await connection.close(timeout=5)
    return len(steps)


async def _apply_next(connection: asyncpg.Connection, steps: list[Migration]) -> bool:
    """One step in one transaction; ``False`` when there is nothing left to do."""
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", ADVISORY_LOCK_KEY)
        await connection.execute(
            """
            CREATE TABLE IF NOT EXISTS schema_migrations (
                version    integer PRIMARY KEY,
                name       text NOT NULL,
                digest     bytea NOT NULL,
                applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
            )
            """
        )
        applied = await connection.fetch("SELECT version, name, digest FROM schema_migrations ORDER BY version")
        if len(applied) > len(steps) and await served_from(connection, len(steps)) > len(steps):
            raise SchemaError(
                f"the database has schema version {applied[-1]['version']} and this program knows {len(steps)}: "
                "it was used by a newer lakeflight, upgrade this one"
            )
        for row, step in zip(applied, steps, strict=False):
            if row["digest"] != step.digest:
                raise SchemaError(
                    f"step {row['version']} ({row['name']}) of the database's schema is not the one of this program: "
                    "it was made by another build, use a fresh database or data folder"
                )
        if len(applied) >= len(steps):
            return False
        step = steps[len(applied)]
        if step.serves_from > len(applied):
            await _wait_for_others(connection, step)
        await connection.execute(step.sql)
        await connection.execute(
            "INSERT INTO schema_migrations (version, name, digest) VALUES ($1, $2, $3)",
            step.version,
            step.name,
            step.digest,
        )
        if step.serves_from != step.version:  # those that say so come after the one that has a place for it
            await connection.execute(
                "UPDATE schema_migrations SET serves_from = $2 WHERE version = $1", step.version, step.serves_from
            )
    return True


async def _wait_for_others(connection: asyncpg.Connection, step: Migration) -> None:
    """Until nobody is connected whom the step does not serve."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + OTHERS_S_MAX
    is_said = False
    while (others := await try_exclude(connection)) is not None:
        where = " and ".join(others) or "another host"
        if loop.time() > deadline:
            raise SchemaError(
                f"step {step.version} ({step.name}) of the database's schema is not for the servers of an older version that"
                f" still run, on {where}: stop them all, then start this one"
            )
        if not is_said:
            log.info("schema.waiting", step=step.version, servers_on=where)
            is_said = True
        await asyncio.sleep(OTHERS_PAUSE_S)
