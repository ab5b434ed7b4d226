"""The rows of processes, streams and blocks as CSV files, all of one snapshot, for the engine to read.

Postgres writes the text and nobody parses it here: the bytes go from the connection to the file. Only rows that a statement
can need are asked for; rows too many are no harm, because the engine filters again, so several needs are joined by OR.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import asyncpg

from lakehouse.catalog.connect import ACQUIRE_TIMEOUT_S, database_errors
from lakehouse.errors import LimitExceededError
from lakehouse.model import EVERYTHING, NS_PER_US, TimeRange

COPY_TIMEOUT_S: Final = 120.0


@dataclass(frozen=True, slots=True)
class MetadataNeed:
    """Rows of ``processes``, ``streams`` or ``blocks`` that one reference of a statement may read."""

    view: str
    range: TimeRange = EVERYTHING
    equals: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # id column -> its only possible values


class MetadataExport:
    """Copies rows out of Postgres.

    Raises ``BackendUnavailableError``, and ``LimitExceededError`` for more than ``bytes_max`` of text per statement.
    """

    def __init__(self, pool: asyncpg.Pool, bytes_max: int) -> None:
        self._pool = pool
        self._bytes_max = bytes_max

    async def write(self, needs: Sequence[MetadataNeed], folder: Path) -> dict[str, Path]:
        """One file per raw table that the needs touch, by its name."""
        conditions = _conditions(needs)
        files = {table: folder / f"{table}.csv" for table in conditions}
        left = [self._bytes_max]
        with database_errors():
            async with self._pool.acquire(timeout=ACQUIRE_TIMEOUT_S) as connection:
                async with connection.transaction(isolation="repeatable_read", readonly=True):
                    for table, condition in conditions.items():
                        await self._copy(
                            connection, _COPIES[table].replace("{condition}", condition), files[table], left
                        )
        return files

    async def _copy(self, connection: Any, query: str, path: Path, left: list[int]) -> None:
        with path.open("wb") as file:

            async def sink(data: bytes) -> None:
                left[0] -= len(data)
                if left[0] < 0:
                    raise LimitExceededError(
                        f"the processes, streams and blocks of this statement take more than {self._bytes_max} bytes:"
                        " name a process_id or stream_id, or give a shorter time range"
                    )
                file.write(data)

            await connection.copy_from_query(query, output=sink, format="csv", timeout=COPY_TIMEOUT_S)


def _conditions(needs: Sequence[MetadataNeed]) -> dict[str, str]:
    """What each raw table is filtered by. Texts hold nothing but UUIDs and integers of our own making."""
    found: dict[str, list[str]] = {}
    for need in needs:
        match need.view:
            case "processes":
                found.setdefault("processes", []).append(
                    _all(
                        _ids("p.process_id", need, "process_id"), _overlap("p.insert_time", "a.insert_time", need.range)
                    )
                )
            case "streams":
                found.setdefault("streams", []).append(
                    _all(
                        _ids("s.stream_id", need, "stream_id"),
                        _ids("s.process_id", need, "process_id"),
                        _overlap("s.insert_time", "a.insert_time", need.range),
                    )
                )
            case "blocks":
                own = _all(
                    _ids("b.block_id", need, "block_id"),
                    _ids("b.stream_id", need, "stream_id"),
                    _ids("b.process_id", need, "process_id"),
                    _overlap("b.begin_time", "b.insert_time", need.range),
                )
                found.setdefault("blocks", []).append(own)
                for table, key in (("streams", "s.stream_id"), ("processes", "p.process_id")):
                    column = key.replace("s.", "b.").replace("p.", "b.")
                    found.setdefault(table, []).append(own and f"{key} IN (SELECT {column} FROM blocks b WHERE {own})")
            case _:
                raise ValueError(f"not a metadata view: {need.view}")
    return {
        table: " OR ".join(f"({part})" for part in dict.fromkeys(parts)) if all(parts) else "true"
        for table, parts in found.items()
    }


def _all(*parts: str) -> str:
    return " AND ".join(part for part in parts if part)


def _ids(column: str, need: MetadataNeed, name: str) -> str:
    """Ids are stored in one spelling, so a text in another equals none of them."""
    values = need.equals.get(name)
    if values is None:
        return ""
    wanted = [value for value in values if _is_canonical(value)]
    if len(wanted) == 1:
        return f"{column} = '{wanted[0]}'::uuid"  # unlike a list of one, this reaches into the aggregates
    listed = ", ".join(f"'{value}'::uuid" for value in wanted)
    return f"{column} IN ({listed})" if wanted else "false"


def _is_canonical(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False


def _overlap(begin: str, end: str, wanted: TimeRange) -> str:
    parts = []
    if wanted.end_ns is not None:
        parts.append(f"{begin} <= {_timestamp(-(-wanted.end_ns // NS_PER_US))}")
    if wanted.begin_ns is not None:
        parts.append(f"{end} >= {_timestamp(wanted.begin_ns // NS_PER_US)}")
    return " AND ".join(parts)


def _timestamp(microseconds: int) -> str:
    return f"('epoch'::timestamptz + {microseconds} * interval '1 microsecond')"


def _microseconds(column: str) -> str:
    return f"(extract(EPOCH FROM {column}) * 1000000)::bigint"


# A process or stream shows once it has a block whose stream and process are both registered.
_COPIES: Final = {
    "processes": f"""
        SELECT
            p.process_id, p.exe, p.username, p.realname, p.computer, p.distro, p.cpu_brand, p.tsc_frequency,
            {_microseconds("p.start_time")}, p.start_ticks, {_microseconds("p.insert_time")}, p.parent_process_id,
            p.properties, {_microseconds("a.insert_time")}, a.end_ticks, {_microseconds("a.end_time")}
        FROM processes p
        JOIN (
            SELECT b.process_id, max(b.insert_time) AS insert_time, max(b.end_ticks) AS end_ticks, max(b.end_time) AS end_time
            FROM blocks b
            WHERE EXISTS (SELECT FROM streams s WHERE s.stream_id = b.stream_id)
            GROUP BY b.process_id
        ) AS a ON a.process_id = p.process_id
        WHERE {{condition}}""",
    "streams": f"""
        SELECT
            s.stream_id, s.process_id, encode(s.dependencies_metadata, 'hex'), encode(s.objects_metadata, 'hex'),
            to_json(s.tags), s.properties, {_microseconds("s.insert_time")}, s.format, {_microseconds("a.insert_time")}
        FROM streams s
        JOIN (
            SELECT b.stream_id, max(b.insert_time) AS insert_time
            FROM blocks b
            WHERE EXISTS (SELECT FROM processes p WHERE p.process_id = b.process_id)
            GROUP BY b.stream_id
        ) AS a ON a.stream_id = s.stream_id
        WHERE {{condition}}""",
    "blocks": f"""
        SELECT
            b.block_id, b.stream_id, b.process_id, {_microseconds("b.begin_time")}, b.begin_ticks,
            {_microseconds("b.end_time")}, b.end_ticks, b.nb_objects, b.object_offset, b.payload_size,
            {_microseconds("b.insert_time")}
        FROM blocks b
        WHERE {{condition}}""",
}
