"""What the catalog's parts share: connections, the names of statements, times as Postgres keeps them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import asyncpg

from lakehouse.buckets.model import InstanceGoneError, InstanceId, InstanceScope, ViewVersion
from lakehouse.catalog.connect import ACQUIRE_TIMEOUT_S, database_errors
from lakehouse.model import NS_PER_US, ViewKey

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class CatalogPart:
    """Statements of one subject over a pool.

    Raises ``BackendUnavailableError`` when Postgres does not answer.
    """

    def __init__(self, pool: asyncpg.Pool, store_name: str, renewing: asyncpg.Pool | None = None) -> None:
        """``renewing``: for what must not wait until others are done with their connections."""
        self._pool = pool
        self._store = store_name
        self._renewing = pool if renewing is None else renewing

    @asynccontextmanager
    async def connection(self, *, renews: bool = False) -> AsyncIterator[Any]:
        """A pooled connection; its troubles become ``BackendUnavailableError``."""
        pool = self._renewing if renews else self._pool
        with database_errors():
            async with pool.acquire(timeout=ACQUIRE_TIMEOUT_S) as connection:
                yield connection


def microseconds(timestamp_ns: int, *, up: bool = False) -> datetime:
    """A nanosecond time as Postgres can keep it: rounded down, or up."""
    return _EPOCH + timedelta(microseconds=-(-timestamp_ns // NS_PER_US) if up else timestamp_ns // NS_PER_US)


def suffix_of(scope: InstanceScope) -> str:
    """Which of the statements for the three kinds of instances is meant."""
    return "global" if scope.kind is None else scope.kind.value


def named(instance: InstanceId) -> tuple[int, bytes, int, str, str]:
    """What ``seen`` asks for."""
    version, key = instance.version, instance.key
    return instance.vid, version.schema_hash, version.writer_version, key.view_set, key.instance


def gone(instance: InstanceId) -> InstanceGoneError:
    return InstanceGoneError(f"view instance {instance.vid} is not {instance.key} any more, or is emptied")


def columns_of(versions: Sequence[ViewVersion]) -> tuple[list[str], list[bytes], list[int]]:
    return (
        [version.view_set for version in versions],
        [version.schema_hash for version in versions],
        [version.writer_version for version in versions],
    )


def instance_of(row: Any) -> InstanceId:
    version = ViewVersion(row["view_set"], row["schema_hash"], row["writer_version"])
    return InstanceId(row["vid"], ViewKey(row["view_set"], row["instance_id"]), version)
