"""Bring a database to this program's schema: numbered files, forward only, one transaction each.

Any number of servers may do it at once; each step is made by one of them. A database that a newer program has changed
is left alone, and so is one whose steps are not the ones that we know.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from importlib import resources
from typing import Final

import asyncpg

from lakehouse.catalog.connect import MIGRATION_LIMITS, connect, database_errors
from lakehouse.catalog.looks import continue_ids

ADVISORY_LOCK_KEY: Final = 0x6C616B65666C6774  # "lakeflgt"; must be the same in every version
FILE_NAME: Final = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")


class SchemaError(RuntimeError):
    """The database's schema and this program do not belong together; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Migration:
    version: int
    name: str
    sql: str

    @property
    def digest(self) -> bytes:
        return hashlib.sha256(self.sql.encode()).digest()


def migrations() -> list[Migration]:
    """The steps that ship with this program, in order."""
    found = [
        Migration(int(match[1]), match[2], entry.read_text(encoding="utf-8"))
        for entry in resources.files("migrations").iterdir()
        if (match := FILE_NAME.fullmatch(entry.name))
    ]
    found.sort(key=lambda migration: migration.version)
    if [migration.version for migration in found] != list(range(1, len(found) + 1)):
        raise SchemaError("the installed migrations are not numbered without gaps: the installation is broken")
    return found


async def migrate(url: str) -> int:
    """Apply what is missing; returns the schema version.

    Raises:
        SchemaError: The database is newer than this program, or was made by other steps.
        BackendUnavailableError: The database does not answer.
    """
    steps = migrations()
    connection = await connect(url, MIGRATION_LIMITS)
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
        if len(applied) > len(steps):
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
        if len(applied) == len(steps):
            return False
        step = steps[len(applied)]
        await connection.execute(step.sql)
        await connection.execute(
            "INSERT INTO schema_migrations (version, name, digest) VALUES ($1, $2, $3)",
            step.version,
            step.name,
            step.digest,
        )
    return True
