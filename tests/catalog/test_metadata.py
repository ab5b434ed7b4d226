"""What leaves the catalog for a statement: the rows that it can need, and the engine reads them as they are declared."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import asyncpg
import pytest
import pytest_asyncio

from lakehouse.catalog.metadata import WRITTEN_BYTES, MetadataExport, SpooledRows, copy_queries
from lakehouse.catalog.tables import RowsNeed
from lakehouse.engine import Relation
from lakehouse.engine.engine import QueryEngine
from lakehouse.errors import LimitExceededError
from lakehouse.model import EVERYTHING, TimeRange
from tests.support.engine_lake import CATALOG, METADATA, EngineLake
from views.blocks import BLOCKS as BLOCKS_TABLE
from views.processes import PROCESSES as PROCESSES_TABLE
from views.quarantined_blocks import QUARANTINED_BLOCKS
from views.streams import STREAMS as STREAMS_TABLE

TABLES: Final = {table.name: table for table in (PROCESSES_TABLE, STREAMS_TABLE, BLOCKS_TABLE, QUARANTINED_BLOCKS)}
T0: Final = datetime(2026, 3, 1, 12, tzinfo=UTC)
T0_NS: Final = int(T0.timestamp()) * 1_000_000_000
HOUR_NS: Final = 3_600_000_000_000
PROCESSES, STREAMS, BLOCKS = ([str(uuid.uuid4()) for _ in range(3)] for _ in range(3))
HOSTILE: Final = ("x' OR true --", "'; DROP TABLE blocks; --", "", "é" * 5_000, "\\")


@dataclass
class Catalog:
    """Three processes with a stream, a block and two quarantine rows each, one hour apart from each other."""

    pool: Any
    folder: Path
    engine: EngineLake
    exported: int = 0

    async def fill(self) -> None:
        for hour, (process, stream, block) in enumerate(zip(PROCESSES, STREAMS, BLOCKS, strict=True)):
            time = T0 + timedelta(hours=hour)
            await self.pool.execute(
                "INSERT INTO processes (process_id, exe, username, realname, computer, distro, cpu_brand, tsc_frequency,"
                " start_time, start_ticks, insert_time, properties)"
                " VALUES ($1, 'a', '', '', '', '', '', 7, $2, 0, $2, '{\"k\": \"v\"}')",
                process,
                time,
            )
            await self.pool.execute(
                "INSERT INTO streams (stream_id, process_id, dependencies_metadata, objects_metadata, tags, insert_time)"
                " VALUES ($1, $2, '\\x00', '\\x01ff', ARRAY['log', 'a,\"b'], $3)",
                stream,
                process,
                time,
            )
            await self.pool.execute(
                "INSERT INTO blocks (block_id, stream_id, process_id, begin_time, begin_ticks, end_time, end_ticks,"
                " nb_objects, object_offset, payload_size, insert_time) VALUES ($1, $2, $3, $4, 0, $4, 9, 1, 0, 5, $4)",
                block,
                stream,
                process,
                time,
            )
            await self.pool.executemany(
                "INSERT INTO quarantined_blocks (block_id, stream_id, process_id, view_set, writer_version, error, time)"
                " VALUES ($1, $2, $3, $4, 3, 'line one,\nline \"two\"', $5)",
                [(block, stream, process, view_set, time) for view_set in ("log_entries", "thread_spans")],
            )

    async def export(self, *needs: RowsNeed, bytes_max: int = 1 << 20) -> dict[str, Path]:
        self.exported += 1
        folder = self.folder / str(self.exported)
        written = await MetadataExport(self.pool, bytes_max, inline_bytes_max=-1).write(needs, folder)
        files = {name: rows for name, rows in written.items() if isinstance(rows, Path)}
        assert files.keys() == written.keys()
        return files

    async def hours(
        self, view: str, equals: Mapping[str, Sequence[str]] | None = None, range: TimeRange = EVERYTHING
    ) -> list[int]:
        """Which of the three hours' rows leave the catalog."""
        files = await self.export(need(view, equals, range))
        rows = self.read(f"SELECT DISTINCT process_id FROM {view}", files)
        return sorted(PROCESSES.index(row["process_id"]) for row in rows)

    def read(self, sql: str, files: Mapping[str, Path | bytes]) -> list[dict[str, Any]]:
        relations = [
            Relation(name, METADATA[name].schema, metadata=name) for name in METADATA if f" {name}" in f" {sql} "
        ]
        return self.engine.rows(sql, *relations, metadata=files)


def needs_of(engine: QueryEngine, sql: str) -> list[RowsNeed]:
    """What a statement reads, as the engine says it."""
    return [
        RowsNeed(TABLES[found.view_set], found.range, found.equals, found.columns, found.ended_by_ns)
        for found in engine.inspect(sql, None, CATALOG).references
    ]


def need(view: str, equals: Mapping[str, Sequence[str]] | None = None, range: TimeRange = EVERYTHING) -> RowsNeed:
    return RowsNeed(TABLES[view], range, {name: tuple(values) for name, values in (equals or {}).items()})


@pytest.fixture(scope="module")
def engine() -> Iterator[QueryEngine]:
    engine = QueryEngine()
    yield engine
    engine.close()


@pytest_asyncio.fixture
async def catalog(database_url: str, tmp_path: Path, engine: QueryEngine) -> AsyncIterator[Catalog]:
    async with asyncpg.create_pool(database_url, min_size=0, max_size=2) as pool:
        made = Catalog(pool, tmp_path, EngineLake(tmp_path, engine))
        await made.fill()
        yield made


@pytest.mark.parametrize("view", TABLES)
async def test_every_view_can_be_exported_and_read(catalog: Catalog, view: str) -> None:
    files = await catalog.export(need(view))

    rows = catalog.read(f"SELECT * FROM {view}", files)

    assert len(rows) == (6 if view == "quarantined_blocks" else 3)
    assert list(rows[0]) == TABLES[view].schema.names


async def test_quarantined_blocks_say_where_when_and_why(catalog: Catalog) -> None:
    files = await catalog.export(need("quarantined_blocks", {"block_id": [BLOCKS[1]]}))

    rows = catalog.read("SELECT * FROM quarantined_blocks ORDER BY view_set", files)

    assert rows == [
        {
            "block_id": BLOCKS[1],
            "stream_id": STREAMS[1],
            "process_id": PROCESSES[1],
            "view_set": view_set,
            "writer_version": 3,
            "error": 'line one,\nline "two"',
            "time": T0_NS + HOUR_NS,
        }
        for view_set in ("log_entries", "thread_spans")
    ]


async def test_a_block_brings_its_own_stream_and_process_and_no_other(catalog: Catalog) -> None:
    files = await catalog.export(need("blocks", {"block_id": [BLOCKS[2]]}))

    assert {name: path.read_text().count("\n") for name, path in files.items()} == {
        "blocks": 2,  # their names stand above the rows
        "streams": 2,
        "processes": 2,
    }
    (row,) = catalog.read("SELECT * FROM blocks", files)
    assert (row["process_id"], row["stream_id"], row["nb_objects"]) == (PROCESSES[2], STREAMS[2], 1)
    assert row["streams.tags"] == ["log", 'a,"b']
    assert row["streams.objects_metadata"] == b"\x01\xff"
    assert row["processes.properties"] == [{"key": "k", "value": "v"}]
    assert row["processes.parent_process_id"] == ""
    assert row["processes.start_time"] == T0_NS + 2 * HOUR_NS


@pytest.mark.parametrize("view", TABLES)
async def test_rows_of_other_ids_stay_where_they_are(catalog: Catalog, view: str) -> None:
    values = {"process_id": PROCESSES, "stream_id": STREAMS, "block_id": BLOCKS}
    for name in TABLES[view].ids:
        assert await catalog.hours(view, {name: [values[name][1]]}) == [1]
        assert await catalog.hours(view, {name: [values[name][0], values[name][2]]}) == [0, 2]
        assert await catalog.hours(view, {name: [values[name][1].upper()]}) == []
        assert await catalog.hours(view, {name: [str(uuid.uuid4())]}) == []


@pytest.mark.parametrize("view", TABLES)
async def test_rows_of_other_times_stay_where_they_are(catalog: Catalog, view: str) -> None:
    middle = T0_NS + HOUR_NS

    assert await catalog.hours(view, range=TimeRange(middle, middle)) == [1]
    assert await catalog.hours(view, range=TimeRange(middle, None)) == [1, 2]
    assert await catalog.hours(view, range=TimeRange(None, middle)) == [0, 1]
    assert await catalog.hours(view, range=TimeRange(middle + 999, middle + 2_000)) == [1]  # kept in microseconds
    assert await catalog.hours(view, range=TimeRange(middle + 1_000, None)) == [2]
    assert await catalog.hours(view, range=TimeRange(-(1 << 63), (1 << 63) - 1)) == [0, 1, 2]
    assert await catalog.hours(view, range=TimeRange(middle, T0_NS)) == []


async def test_rows_that_end_later_stay_where_they_are(catalog: Catalog, engine: QueryEngine) -> None:
    """A window of the time when blocks came reads what came in it, and not all that came since."""
    (only,) = needs_of(
        engine,
        f"SELECT count(*) FROM blocks WHERE insert_time BETWEEN '{T0 + timedelta(minutes=30):%F %T}'"
        f" AND '{T0 + timedelta(minutes=90):%F %T}'",
    )

    files = await catalog.export(only)

    assert catalog.read(
        "SELECT block_id, nb_objects FROM blocks", await catalog.export(replace(only, columns=None))
    ) == [{"block_id": BLOCKS[1], "nb_objects": 1}]
    assert files["blocks"].read_text().count("\n") == 2


@pytest.mark.parametrize(
    ("sql", "columns"),
    [
        ("SELECT count(*) AS n FROM blocks", {"blocks": ["nb_objects"]}),
        ("SELECT count(*) AS n FROM processes", {"processes": ["process_id"]}),
        ("SELECT exe, last_update_time FROM processes", {"processes": ["exe", "last_update_time"]}),
        ("SELECT count(*) AS n FROM blocks WHERE process_id = '{process}'", {"blocks": ["process_id"]}),
        (
            'SELECT "processes.exe", count(*) AS n FROM blocks GROUP BY ALL',
            {"blocks": ["process_id"], "processes": ["process_id", "exe"]},
        ),
        (
            "SELECT block_id FROM blocks WHERE list_contains(\"streams.tags\", 'log') ORDER BY insert_time",
            {"blocks": ["block_id", "stream_id", "insert_time"], "streams": ["stream_id", "tags"]},
        ),
        ("SELECT properties FROM processes p WHERE p.process_id = '{process}'", None),
        ("SELECT p FROM processes p", None),
        ("SELECT p.* EXCLUDE (properties) FROM processes AS p", None),
        ("SELECT exe.upper() AS e FROM processes", None),
        ("SELECT a FROM processes AS t(a)", None),
        ("SELECT #2 FROM processes", None),
        ("SELECT count(*) AS n FROM processes NATURAL JOIN streams", None),
        ("SELECT max(b.nb_objects) AS m, max(s.format) AS f FROM blocks b JOIN streams s USING (stream_id)", None),
        (
            "WITH a AS (SELECT exe AS x FROM processes) SELECT x FROM a WHERE x < (SELECT min(tags[1]) FROM streams)",
            None,
        ),
        ("SELECT count(*) AS n FROM blocks WHERE insert_time > TIMESTAMP '2024-01-01'", None),
    ],
)
async def test_only_the_columns_that_a_statement_reads_leave_the_catalog_and_the_answer_is_the_same(
    catalog: Catalog, engine: QueryEngine, sql: str, columns: dict[str, list[str]] | None
) -> None:
    sql = sql.format(process=PROCESSES[1])
    needs = needs_of(engine, sql)

    files = await catalog.export(*needs)

    if columns is not None:
        assert {name: path.read_text().partition("\n")[0].split(",") for name, path in files.items()} == columns
    everything = await catalog.export(*(need(name) for name in TABLES))
    assert catalog.read(sql, files) == catalog.read(sql, everything) != []


async def test_a_block_shows_once_its_stream_and_its_process_do_whatever_is_read_of_it(catalog: Catalog) -> None:
    await catalog.pool.executemany(
        "INSERT INTO blocks (block_id, stream_id, process_id, begin_time, begin_ticks, end_time, end_ticks,"
        " nb_objects, object_offset, payload_size, insert_time) VALUES ($1, $2, $3, $4, 0, $4, 9, 1, 0, 5, $4)",
        [
            (str(uuid.uuid4()), stream, process, T0)
            for stream, process in ((STREAMS[0], str(uuid.uuid4())), (str(uuid.uuid4()), PROCESSES[0]))
        ],
    )

    for columns in (None, frozenset({"block_id"}), frozenset({"block_id", "processes.exe"})):
        files = await catalog.export(RowsNeed(BLOCKS_TABLE, columns=columns))
        assert {row["block_id"] for row in catalog.read("SELECT block_id FROM blocks", files)} == set(BLOCKS)


@pytest.mark.parametrize("inline_bytes_max", [0, 300, 1 << 20])
async def test_few_rows_stay_in_memory_and_are_the_same(catalog: Catalog, inline_bytes_max: int) -> None:
    needs = [need("streams"), need("processes")]
    files = await catalog.export(*needs)

    found = await MetadataExport(catalog.pool, 1 << 20, inline_bytes_max=inline_bytes_max).write(
        needs, catalog.folder / "inline"
    )

    assert found.keys() == files.keys()
    for name, rows in found.items():
        text = files[name].read_bytes()
        assert isinstance(rows, bytes) == (len(text) <= inline_bytes_max)
        assert (rows if isinstance(rows, bytes) else rows.read_bytes()) == text
    sql = "SELECT s.*, p.exe FROM streams s JOIN processes p USING (process_id) ORDER BY stream_id"
    for _ in range(2):  # the engine keeps what it has loaded, if it is the same
        assert catalog.read(sql, found) == catalog.read(sql, files) != []


async def test_needs_of_one_statement_are_joined(catalog: Catalog) -> None:
    one, two = need("streams", {"stream_id": [STREAMS[0]]}), need("blocks", {"stream_id": [STREAMS[2]]})

    files = await catalog.export(one, two)

    found = catalog.read("SELECT stream_id FROM streams", files)
    assert {row["stream_id"] for row in found} == {STREAMS[0], STREAMS[2]}
    assert len(catalog.read("SELECT 1 FROM blocks", files)) == 1
    assert len(catalog.read("SELECT 1 FROM streams", await catalog.export(one, two, need("streams")))) == 3


@pytest.mark.parametrize("view", TABLES)
async def test_no_text_of_a_statement_gets_into_a_condition(catalog: Catalog, view: str) -> None:
    hostile = dict.fromkeys(TABLES[view].schema.names, HOSTILE)

    assert copy_queries([need(view, hostile)]) == copy_queries([need(view, dict.fromkeys(hostile, ()))])
    assert await catalog.hours(view, hostile) == []


@pytest.mark.parametrize("rows", [0, 5_000])  # the end of a copy may be there already when the limit is noticed
async def test_more_text_than_a_statement_may_read_is_an_error_that_says_how_to_narrow(
    catalog: Catalog, rows: int
) -> None:
    await catalog.pool.execute(
        "INSERT INTO quarantined_blocks (block_id, stream_id, process_id, view_set, writer_version, error)"
        " SELECT gen_random_uuid(), $1, $1, 'measures', 1, repeat('x', 1000) FROM generate_series(1, $2)",
        str(uuid.uuid4()),
        rows,
    )

    async with asyncio.timeout(20):
        with pytest.raises(LimitExceededError) as caught:
            await catalog.export(need("quarantined_blocks"), need("processes"), bytes_max=700)
        await catalog.export(need("quarantined_blocks", {"block_id": [BLOCKS[0]]}), bytes_max=700)

    assert str(caught.value) == (
        "what this statement reads of quarantined_blocks, processes takes more than 700 bytes:"
        " name a process_id or stream_id, or give a shorter time range"
    )


@pytest.mark.parametrize("pieces", [1, 3, 40])
async def test_many_rows_are_written_in_the_order_they_came(tmp_path: Path, pieces: int) -> None:
    sent = [os.urandom(WRITTEN_BYTES // 7) for _ in range(pieces)]

    async with SpooledRows(tmp_path / "folder" / "rows.csv", 1000) as rows:
        for piece in sent:
            await rows.write(piece)
        found = await rows.finish()

    assert isinstance(found, Path)
    assert found.read_bytes() == b"".join(sent)


async def test_a_disk_that_does_not_answer_holds_up_nobody_else(tmp_path: Path) -> None:
    """As a pipe, which nobody reads yet."""
    os.mkfifo(tmp_path / "rows.csv")

    async def spool() -> None:
        async with SpooledRows(tmp_path / "rows.csv", 3) as rows:
            await rows.write(b"rows")
            await rows.finish()

    spooling = asyncio.create_task(spool())
    await asyncio.wait({spooling}, timeout=0.01)

    assert not spooling.done()
    assert await asyncio.to_thread((tmp_path / "rows.csv").read_bytes) == b"rows"
    await spooling


async def test_whoever_is_cancelled_leaves_nothing_that_is_still_being_written(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "rows.csv")

    async def spool() -> None:
        async with SpooledRows(tmp_path / "rows.csv", 3) as rows:
            await rows.write(b"rows")

    spooling = asyncio.create_task(spool())
    await asyncio.wait({spooling}, timeout=0.01)
    for _ in range(3):
        spooling.cancel()
        await asyncio.wait({spooling}, timeout=0.01)

    assert not spooling.done()
    assert await asyncio.to_thread((tmp_path / "rows.csv").read_bytes) == b"rows"
    await asyncio.wait({spooling})
    assert spooling.cancelled()
