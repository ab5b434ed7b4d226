"""Which schemas of the database this program can work with, and that none comes about under it that it cannot.

The schema is changed in numbered steps, in order. A step says with which older programs the database goes on to work:
``-- serves: 12`` in its text are those that know step 12, or more. One that does not say so serves none but those that know
it, and waits until none of the others is connected: each connection of a server holds a lock for as long as it lasts.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Final

import asyncpg

from lakehouse.errors import BackendUnavailableError

SERVED_LOCK_KEY: Final = 0x6C616B6573727664  # "lakesrvd"; must be the same in every version, as is what it is for
FILE_NAME: Final = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")
_SERVES: Final = re.compile(r"^-- serves: (\d+)$", re.MULTILINE)

# What a program has to know at least; steps of before there were others than itself have nothing of their own to say.
_SERVED: Final = """
    SELECT coalesce(max(coalesce((to_jsonb(step) ->> 'serves_from')::integer, version)), 0)
    FROM schema_migrations AS step
    WHERE version > {version}
"""
# One exchange for each connection. The steps are looked at under the lock, by a statement of their own: those that were made
# before it are seen, and after it none can come.
_HOLD: Final = """
    DO $$ BEGIN
        IF NOT pg_try_advisory_lock_shared({key}) THEN
            RAISE SQLSTATE 'LF003';
        END IF;
        IF to_regclass('schema_migrations') IS NOT NULL THEN
            IF ({served}) > {version} THEN
                RAISE SQLSTATE 'LF004';
            END IF;
        END IF;
    END $$
"""
_REFUSALS: Final = {
    "LF003": "a newer version of lakeflight is changing the database; ask again",
    "LF004": "a newer version of lakeflight has changed the database, and this server cannot work with it: it has to be upgraded",
}
_OTHERS: Final = """
    SELECT DISTINCT coalesce(host(client_addr), 'the host of the database')
    FROM pg_locks JOIN pg_stat_activity USING (pid)
    WHERE locktype = 'advisory' AND mode = 'ShareLock' AND objsubid = 1
        AND pg_locks.database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND (classid::bigint << 32 | objid::bigint) = $1
    ORDER BY 1
"""


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

    @property
    def serves_from(self) -> int:
        """Programs that know this step of the schema, or a later one, work with the database after it."""
        said = _SERVES.search(self.sql)
        return self.version if said is None else int(said[1])


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


@cache
def known_version() -> int:
    """The last step that this program knows."""
    return len(migrations())


async def served_from(connection: Any, version: int) -> int:
    """What a program has to know that knows ``version``: no more than that, where the database works with it."""
    found: int = await connection.fetchval(_SERVED.format(version=version))
    return found


async def hold_schema(connection: Any) -> None:
    """For as long as the connection lasts, no step is made that this program could not work with.

    Raises:
        BackendUnavailableError: One has been made, or is just being made.
    """
    version = known_version()
    try:
        await connection.execute(
            _HOLD.format(key=SERVED_LOCK_KEY, served=_SERVED.format(version=version), version=version)
        )
    except asyncpg.PostgresError as error:
        if (refusal := _REFUSALS.get(error.sqlstate or "")) is None:
            raise
        raise BackendUnavailableError(refusal) from error


async def try_exclude(connection: Any) -> Sequence[str] | None:
    """Keep programs out that hold the schema, until the transaction ends; where they are that it has to wait for, or ``None``."""
    if await connection.fetchval("SELECT pg_try_advisory_xact_lock($1)", SERVED_LOCK_KEY):
        return None
    return [row[0] for row in await connection.fetch(_OTHERS, SERVED_LOCK_KEY)]
