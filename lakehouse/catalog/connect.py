"""Connections and pools on which nothing can wait for ever, and the translation of the driver's errors.

Nothing here knows a table of the lake.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import asyncpg

from lakehouse.catalog.schema import hold_schema
from lakehouse.errors import BackendUnavailableError

CONNECT_TIMEOUT_S: Final = 5.0
ACQUIRE_TIMEOUT_S: Final = 10.0
CLOSE_TIMEOUT_S: Final = 5.0
IDLE_CONNECTION_S: Final = 300.0
INGEST_TRANSACTION_S: Final = 10.0  # "sealed" rests on it: no ingest transaction is older
HOST_GONE_S: Final = 30  # the server drops a client that vanished, and with it the locks that others wait for


@dataclass(frozen=True, slots=True)
class Limits:
    """What a connection may take. Seconds."""

    statement_timeout_s: float = 30.0
    lock_timeout_s: float = 10.0
    idle_in_transaction_timeout_s: float = 30.0

    @property
    def command_timeout_s(self) -> float:
        """The client's own patience: a little more than the server's, which gives the better message."""
        return self.statement_timeout_s + 5.0


QUERY_LIMITS: Final = Limits()
INGEST_LIMITS: Final = Limits(  # each ingest transaction is one statement, so these cut the transaction
    statement_timeout_s=INGEST_TRANSACTION_S,
    lock_timeout_s=INGEST_TRANSACTION_S,
    idle_in_transaction_timeout_s=INGEST_TRANSACTION_S,
)
MIGRATION_LIMITS: Final = Limits(statement_timeout_s=600.0, lock_timeout_s=600.0, idle_in_transaction_timeout_s=600.0)


async def connect(url: str, limits: Limits = QUERY_LIMITS, *, serves: bool = True) -> asyncpg.Connection:
    """One connection outside any pool.

    Args:
        serves: A server works over it, so the schema has to be one that it knows, and stays one. Others only look, or change it.

    Raises:
        BackendUnavailableError: The database does not answer, or belongs to a newer version.
    """
    with database_errors():
        connection = await asyncpg.connect(
            url,
            timeout=CONNECT_TIMEOUT_S,
            command_timeout=limits.command_timeout_s,
            server_settings=_server_settings(limits),
        )
        if serves:
            try:
                await hold_schema(connection)
            except BaseException:
                connection.terminate()
                raise
        return connection


async def open_pool(
    url: str, *, connections_max: int, connections_min: int = 0, limits: Limits = QUERY_LIMITS
) -> asyncpg.Pool:
    """A pool whose every connection carries ``limits`` and serves; pass ``timeout=ACQUIRE_TIMEOUT_S`` to ``acquire``.

    Raises:
        BackendUnavailableError: ``connections_min`` is above 0, and ``connect`` would raise it.
    """
    with database_errors():
        return await asyncpg.create_pool(
            url,
            min_size=connections_min,
            max_size=connections_max,
            timeout=CONNECT_TIMEOUT_S,
            command_timeout=limits.command_timeout_s,
            max_inactive_connection_lifetime=IDLE_CONNECTION_S,
            server_settings=_server_settings(limits),
            init=hold_schema,
            reset=_keep_session,
        )


async def _keep_session(_: asyncpg.Connection) -> None:
    """A connection goes back as it is: a transaction that was left open is rolled back before this is called, and nothing
    here outlives one (no SET but LOCAL, no cursor, no lock but that of the schema, which is to stay). To have the server reset
    it is a round trip for each use."""


async def close_pool(pool: asyncpg.Pool) -> None:
    """Close politely, or at once if the database does not answer any more."""
    try:
        async with asyncio.timeout(CLOSE_TIMEOUT_S):
            await pool.close()
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        pool.terminate()


@contextlib.contextmanager
def database_errors() -> Iterator[None]:
    """Turn trouble of the database into ``BackendUnavailableError``; mistakes in a statement pass as they are."""
    try:
        yield
    except asyncio.CancelledError:
        raise
    except Exception as error:
        if isinstance(error, asyncpg.TransactionRollbackError):  # deadlock, serialization
            raise BackendUnavailableError("another change of the database was in the way; ask again") from error
        if is_unavailable(error):
            raise BackendUnavailableError(f"the database is not available: {_reason(error)}") from error
        raise


def is_unavailable(error: BaseException) -> bool:
    """Whether the same statement may work later."""
    return isinstance(
        error,
        (
            OSError,
            TimeoutError,
            asyncpg.PostgresConnectionError,
            asyncpg.InterfaceError,
            asyncpg.InternalClientError,
            asyncpg.OperatorInterventionError,  # shutting down, starting up, statement_timeout
            asyncpg.InsufficientResourcesError,  # disk full, too many connections
            asyncpg.TransactionRollbackError,  # deadlock, serialization
            asyncpg.LockNotAvailableError,
            asyncpg.IdleInTransactionSessionTimeoutError,
            asyncpg.ReadOnlySQLTransactionError,
            asyncpg.PostgresSystemError,
            asyncpg.InvalidAuthorizationSpecificationError,
            asyncpg.InvalidCatalogNameError,
        ),
    )


def _reason(error: Exception) -> str:
    """Words for the user: no host, no socket path."""
    if isinstance(error, asyncpg.QueryCanceledError):
        return "a statement ran into its timeout"
    if isinstance(error, asyncpg.LockNotAvailableError):
        return "a lock was not granted in time"
    if isinstance(error, asyncpg.InsufficientResourcesError):
        return "it is out of resources"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return "no connection"


def _server_settings(limits: Limits) -> dict[str, str]:
    return {
        "application_name": "lakeflight",
        "statement_timeout": _milliseconds(limits.statement_timeout_s),
        "lock_timeout": _milliseconds(limits.lock_timeout_s),
        "idle_in_transaction_session_timeout": _milliseconds(limits.idle_in_transaction_timeout_s),
        "default_transaction_isolation": "read committed",  # who waited for a row reads what it is then, not what it was
        "synchronous_commit": "on",  # an answer says "durable", whatever the role or the database has as its default
        # Keepalives notice a peer that is idle, the timeout one that does not acknowledge. Unix sockets ignore all four.
        "tcp_keepalives_idle": str(HOST_GONE_S // 2),
        "tcp_keepalives_interval": str(HOST_GONE_S // 6),
        "tcp_keepalives_count": "3",
        "tcp_user_timeout": _milliseconds(HOST_GONE_S),
        "timezone": "UTC",
        "jit": "off",  # compiling costs more than any of our statements
    }


def _milliseconds(seconds: float) -> str:
    return str(round(seconds * 1000))
