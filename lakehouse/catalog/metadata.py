"""The rows of catalog tables as CSV, all of one snapshot, for the engine to read.

Postgres writes the text and nobody parses it here: the bytes go from the connection to a file, in a thread and a megabyte at a
time, or stay as they are where they are few. Only rows that a statement can need are asked for, and columns that it can read;
rows and columns too many are no harm, because the engine filters again, so several needs are joined by OR.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Collection, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any, BinaryIO, Final

import asyncpg
import pyarrow as pa

from lakehouse.catalog.connect import ACQUIRE_TIMEOUT_S, database_errors
from lakehouse.catalog.queries import load
from lakehouse.catalog.tables import CatalogTable, RowsNeed
from lakehouse.engine.metadata_relations import columns_of, own_columns
from lakehouse.errors import BackendUnavailableError, LimitExceededError
from lakehouse.model import EVERYTHING, NS_PER_US

COPY_TIMEOUT_S: Final = 120.0
INLINE_BYTES_MAX: Final = 256 << 10  # of a table's rows: so many are sent along sooner than written and read again
WRITTEN_BYTES: Final = 1 << 20  # of a file at a time: a change of threads for each piece that comes would cost more
_SQL: Final = load("metadata")
_SENDERS: Final = load("senders")


class MetadataExport:
    """Copies rows out of Postgres.

    Raises ``BackendUnavailableError``, and ``LimitExceededError`` for more than ``bytes_max`` of text per statement.
    """

    def __init__(self, pool: asyncpg.Pool, bytes_max: int, *, inline_bytes_max: int = INLINE_BYTES_MAX) -> None:
        self._pool = pool
        self._bytes_max = bytes_max
        self._inline_bytes_max = inline_bytes_max

    async def write(self, needs: Sequence[RowsNeed], folder: Path) -> dict[str, Path | bytes]:
        """The rows of each table that the needs touch, by its name; a file in the folder, which is made for it, if they are many."""
        queries = copy_queries(needs)
        found: dict[str, Path | bytes] = {}
        left = [self._bytes_max]
        try:
            with database_errors():
                async with self._pool.acquire(timeout=ACQUIRE_TIMEOUT_S) as connection, AsyncExitStack() as snapshot:
                    if len(queries) > 1:  # one statement sees one moment anyway, in two round trips less
                        await snapshot.enter_async_context(
                            connection.transaction(isolation="repeatable_read", readonly=True)
                        )
                    for name, query in queries.items():
                        found[name] = await self._copy(connection, query, folder / f"{name}.csv", left)
        except BackendUnavailableError:
            if left[0] >= 0:
                raise
            raise LimitExceededError(
                f"what this statement reads of {', '.join(queries)} takes more than {self._bytes_max} bytes:"
                " name a process_id or stream_id, or give a shorter time range"
            ) from None
        return found

    async def _copy(self, connection: Any, query: str, path: Path, left: list[int]) -> Path | bytes:
        async with SpooledRows(path, self._inline_bytes_max) as rows:

            async def sink(data: bytes) -> None:
                left[0] -= len(data)
                if left[0] >= 0:
                    await rows.write(data)
                else:  # an error here would have asyncpg cancel the copy, and wait for ever if its end is already read
                    connection.terminate()

            await connection.copy_from_query(query, output=sink, format="csv", header=True, timeout=COPY_TIMEOUT_S)
            return await rows.finish()


class SpooledRows:
    """Bytes that stay in memory until they are too many for it, and are in a file from then on.

    The file is written in threads. Whoever is cancelled waits for what is being written, so that nothing is when the context
    is left.
    """

    def __init__(self, path: Path, memory_bytes_max: int) -> None:
        self._path, self._memory_bytes_max = path, memory_bytes_max
        self._memory = bytearray()  # what is not written yet
        self._file: BinaryIO | None = None

    async def write(self, data: bytes) -> None:
        self._memory += data
        if len(self._memory) > (self._memory_bytes_max if self._file is None else WRITTEN_BYTES):
            await _see_through(self._write)

    async def finish(self) -> Path | bytes:
        """All of them, or where they are."""
        if self._file is None:
            return bytes(self._memory)
        await _see_through(self._write)
        return self._path

    async def __aenter__(self) -> SpooledRows:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._file is not None:
            await _see_through(self._file.close)

    def _write(self) -> None:
        if self._file is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("wb", buffering=0)
        left = memoryview(bytes(self._memory))
        self._memory.clear()
        while left:
            left = left[self._file.write(left) :]


async def _see_through(work: Callable[[], None]) -> None:
    """In a thread, to its end even if the caller is cancelled."""
    running = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        await asyncio.shield(running)
    finally:
        while not running.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait({running})
        running.exception()  # raised already, or of no interest any more


def copy_queries(needs: Sequence[RowsNeed]) -> dict[str, str]:
    """The SELECT of each file. Conditions hold nothing but names of columns, and UUIDs and integers of our own making."""
    tables: dict[str, CatalogTable] = {}
    chosen: dict[str, bool] = {}  # whether all that is wanted of a table is of single ids
    conditions: dict[str, list[str]] = {}
    columns: dict[str, set[str]] = {}
    for need in needs:
        own = _condition(need)
        needed = _columns(need)
        is_of_one = any(len(values) == 1 for values in need.equals.values())
        wanted = [(need.table, own, is_of_one)]
        for column, other in need.table.joins.items():
            joined = f"SELECT r.{column} FROM {_rows(need.table, is_of_one)} WHERE {own}"
            if other.name in needed:
                wanted.append((other, own and f"r.{column} IN ({joined})", False))
        for table, condition, is_narrow in wanted:
            tables[table.name] = table
            chosen[table.name] = chosen.get(table.name, True) and is_narrow
            conditions.setdefault(table.name, []).append(condition)
            columns.setdefault(table.name, set()).update(needed[table.name])
    return {
        name: _query(table, columns[name], conditions[name], chosen[name] and len(conditions[name]) == 1)
        for name, table in tables.items()
    }


def _columns(need: RowsNeed) -> dict[str, set[str]]:
    """Of each file, the columns that are read; the time columns where rows are chosen by them."""
    table, read = need.table, need.columns
    if read is not None and (need.range != EVERYTHING or need.ended_by_ns is not None):
        read |= {table.begin_column.lower(), table.end_column.lower()}
    return columns_of(table.name, table.schema, {key: other.name for key, other in table.joins.items()}, read)


def _query(table: CatalogTable, needed: Collection[str], conditions: Sequence[str], is_of_one: bool) -> str:
    own = own_columns(table.schema)
    chosen = [column for column in own if column.name in needed] or _shortest(own)
    columns = ", ".join(f'{_written(f"r.{column.name}", column.type)} AS "{column.name}"' for column in chosen)
    anyone = " OR ".join(f"({condition})" for condition in dict.fromkeys(conditions)) if all(conditions) else "true"
    return f"SELECT {columns} FROM {_rows(table, is_of_one)} WHERE {anyone}"


def _shortest(columns: Sequence[pa.Field]) -> Sequence[pa.Field]:
    """One, to have a line for each row, which is all that is counted."""
    return ([column for column in columns if pa.types.is_int32(column.type)] or columns)[:1]


def _rows(table: CatalogTable, is_of_one: bool) -> str:
    """The rows of a table; ``is_of_one``: one id is asked for, which an index has beside the time when a block came."""
    sent = _SENDERS["sent"].replace("{unlisted}", _SENDERS["unlisted"])
    apart, each = ("", "OFFSET 0") if is_of_one else ("OFFSET 0", "")
    text = _SQL[table.name].replace("{sent}", sent).replace("{apart}", apart).replace("{each}", each)
    return f"(\n{text}\n) AS r"


def _written(column: str, kind: pa.DataType) -> str:
    """A value as ``lakehouse.engine.metadata_relations`` reads it."""
    if pa.types.is_timestamp(kind):
        return f"(extract(EPOCH FROM {column}) * 1000000)::bigint"
    if pa.types.is_binary(kind):
        return f"encode({column}, 'hex')"
    return f"to_json({column})" if pa.types.is_list(kind) else column


def _condition(need: RowsNeed) -> str:
    parts = [_is_one_of(f"r.{name}", need.equals[name]) for name in need.table.ids if name in need.equals]
    if need.range.end_ns is not None:
        parts.append(f"r.{need.table.begin_column} <= {_timestamp(-(-need.range.end_ns // NS_PER_US))}")
    if need.range.begin_ns is not None:
        parts.append(f"r.{need.table.end_column} >= {_timestamp(need.range.begin_ns // NS_PER_US)}")
    if need.ended_by_ns is not None:
        parts.append(f"r.{need.table.end_column} <= {_timestamp(-(-need.ended_by_ns // NS_PER_US))}")
    return " AND ".join(parts)


def _is_one_of(column: str, values: Sequence[str]) -> str:
    """Ids are stored in one spelling, so a text in another equals none of them."""
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


def _timestamp(microseconds: int) -> str:
    return f"('epoch'::timestamptz + {microseconds} * interval '1 microsecond')"
