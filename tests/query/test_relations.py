"""Every kind of relation is one class behind one port, and nobody between a statement and its rows asks which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest

from lakehouse.buckets.model import StoredPartition
from lakehouse.buckets.sharing import Allowance, Progress
from lakehouse.buckets.single_block import BlockView
from lakehouse.catalog.tables import CatalogTable, RowsNeed
from lakehouse.engine import DeclaredRelation, Inspection, Reference, relation_name
from lakehouse.errors import QueryError, UnknownViewError
from lakehouse.model import EVERYTHING, NEVER, Caller, QueryOptions, TimeRange
from lakehouse.ports import View
from lakehouse.sources import (
    Arguments,
    BlocksSource,
    CatalogSource,
    Freshening,
    ParsedBlockSource,
    PartitionMaker,
    Rows,
    SourceRegistry,
    Use,
)
from server.query.relations import Relations
from views.log_entries import LogEntries
from views.parse_block import ParseBlock

ADA = Caller("ada")
PROCESS = "0a1b2c3d-0000-4000-8000-00000000000f"
TIMES = pa.schema([("id", pa.string()), ("t", pa.timestamp("ns"))])
TABLE = CatalogTable("things", TIMES, ("id",), "t", "t")
NUMBERS = pa.schema([("n", pa.int64())])


class Numbers:
    """A table function in one class: as many rows as its argument says, made for whoever asks."""

    name = "numbers"
    declaration = DeclaredRelation(NUMBERS)
    is_table = False
    view: View | None = None

    def __init__(self) -> None:
        self.askers: list[Caller] = []

    def resolve(self, arguments: Arguments) -> Arguments:
        (count,) = arguments
        if not count.isdigit():
            raise UnknownViewError(f"numbers takes a number, not '{count}'")
        return (str(int(count)),)

    async def freshen(self, use: Use, caller: Caller, freshening: Freshening) -> Rows:
        self.askers.append(caller)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, NUMBERS) as writer:
            writer.write_batch(pa.record_batch([pa.array(range(int(use.arguments[0])))], schema=NUMBERS))
        return Rows(table=sink.getvalue().to_pybytes())

    async def known_missing(self, use: Use, caller: Caller, maker: PartitionMaker) -> int | None:
        return 0


class Fresh:
    def __init__(self, partitions: Sequence[StoredPartition], missing_blocks: int) -> None:
        self.partitions, self.missing_blocks = partitions, missing_blocks


class Maker:
    """Partitions as if they had been made: one a second, from 0 to 9."""

    def __init__(self, missing: int | None = 0) -> None:
        self.asked: list[tuple[str, TimeRange]] = []
        self.looked = 0
        self.missing = missing

    async def ensure_stored(
        self,
        view: View,
        instance: str,
        wanted: TimeRange,
        allowance: Allowance,
        values: Mapping[str, Sequence[str]] | None = None,
    ) -> Fresh:
        self.asked.append((instance, wanted))
        return Fresh([StoredPartition(f"key-{s}", 1, 1, s * 1_000, s * 1_000 + 999) for s in range(10)], 2)

    async def decode_block(
        self, view: BlockView, block_id: str, wanted: TimeRange, allowance: Allowance
    ) -> bytes | None:
        self.asked.append((block_id, wanted))
        return b"rows"

    async def known_missing(self, uses: Sequence[tuple[View, str, TimeRange]]) -> int | None:
        self.looked += 1
        return self.missing


def relations(maker: Maker, numbers: Numbers | None = None) -> Relations:
    sources = SourceRegistry([CatalogSource(TABLE), BlocksSource(LogEntries()), numbers or Numbers()])
    return Relations(sources, maker)


def statement(*references: Reference) -> Inspection:
    return Inspection("query", references, 0, False, b"", b"", 0, True)


def options(**given: Any) -> QueryOptions:
    return QueryOptions(query_id="1", **given)


def allowance() -> Allowance:
    return Allowance(1, 1, Progress())


LOGS = Reference("log_entries", "log_entries", ("global",))
OF_PROCESS = Reference("view_instance", "log_entries", (PROCESS,), is_call=True)


async def test_a_table_function_is_one_more_class() -> None:
    numbers = Numbers()
    reference = Reference("numbers", "numbers", ("003",), is_call=True)

    readable = await relations(Maker(), numbers).freshen(statement(reference), ADA, options(), allowance())

    (relation,) = readable.relations
    assert relation.name == relation_name("numbers", "003")  # as the engine looks for it
    assert pa.ipc.open_stream(relation.table).read_all().to_pydict() == {"n": [0, 1, 2]}
    assert numbers.askers == [ADA]


async def test_a_block_is_decoded_for_whoever_may_read_a_row_of_it() -> None:
    maker = Maker()
    found = Relations(SourceRegistry([ParsedBlockSource(ParseBlock())]), maker)
    reference = Reference("parse_block", "parse_block", (PROCESS.upper(),), is_call=True)

    readable = await found.freshen(statement(reference), ADA, options(time_range=TimeRange(5, None)), allowance())
    await found.freshen(statement(replace(reference, range=NEVER)), ADA, options(), allowance())

    assert [relation.table for relation in readable.relations] == [b"rows"]
    assert maker.asked == [(PROCESS, TimeRange(5, None))]
    with pytest.raises(UnknownViewError, match="'global' is not a valid block id"):
        found.check(statement(Reference("view_instance", "parse_block", ("global",), is_call=True)))


async def test_each_source_says_where_its_rows_are() -> None:
    things = Reference("things", "things", ("global",), TimeRange(5, None), {"id": ("a",)}, columns=frozenset({"id"}))

    readable = await relations(Maker()).freshen(statement(LOGS, things), ADA, options(), allowance())

    logs, catalog = readable.relations
    assert (logs.source, len(logs.keys_inside), logs.keys, logs.from_catalog) == ("log_entries", 10, (), False)
    assert (catalog.source, catalog.keys_inside, catalog.from_catalog) == ("things", (), True)
    assert readable.needs == (RowsNeed(TABLE, TimeRange(5, None), {"id": ("a",)}, frozenset({"id"})),)
    assert readable.missing_blocks == 2


async def test_one_instance_under_two_names_and_two_ranges_is_made_once() -> None:
    maker = Maker()
    early, late = TimeRange(None, 10), TimeRange(5, 20)
    spelled = PROCESS.upper()

    readable = await relations(maker).freshen(
        statement(
            Reference("view_instance", "log_entries", (PROCESS,), early, is_call=True),
            Reference("view_instance", "log_entries", (spelled,), late, is_call=True),
        ),
        ADA,
        options(),
        allowance(),
    )

    assert maker.asked == [(PROCESS, TimeRange(None, 20))]
    names = {relation_name("log_entries", PROCESS), relation_name("log_entries", spelled)}
    assert {relation.name for relation in readable.relations} == names


async def test_the_headers_range_filters_only_files_that_cross_it() -> None:
    maker = Maker()
    headers = TimeRange(2_500, 6_999)

    readable = await relations(maker).freshen(statement(LOGS), ADA, options(time_range=headers), allowance())

    (logs,) = readable.relations
    assert set(logs.keys_inside) == {"key-3", "key-4", "key-5", "key-6"}
    assert "key-2" in logs.keys and logs.range == headers
    assert maker.asked == [("global", headers)]


async def test_what_is_missing_is_asked_of_each_source_and_none_of_the_lake_is_remembered() -> None:
    maker = Maker(missing=3)
    found = relations(maker)
    assert await found.known_missing(statement(LOGS, OF_PROCESS), ADA, options()) == 6

    maker.missing = None  # no block of the lake is missing
    assert [await found.known_missing(statement(LOGS), ADA, options()) for _ in range(5)] == [0] * 5
    assert maker.looked == 3


def test_what_names_nothing_is_refused_before_anything_is_made() -> None:
    found = relations(Maker())

    found.check(statement(LOGS, Reference("view_instance", "log_entries", (None,), is_call=True)))  # left open
    for reference in (
        Reference("x", "x", ("global",)),
        Reference("numbers", "numbers", ("many",), is_call=True),
        Reference("view_instance", "things", (PROCESS,), is_call=True),
    ):
        with pytest.raises(UnknownViewError):
            found.check(statement(reference))


async def test_an_open_argument_cannot_run_and_is_missing_nothing() -> None:
    open_reference = Reference("view_instance", "log_entries", (None,), is_call=True)
    found = relations(Maker(missing=3))

    assert await found.known_missing(statement(open_reference), ADA, options()) == 0
    with pytest.raises(QueryError, match="a parameter without a value"):
        await found.freshen(statement(open_reference), ADA, options(), allowance())


async def test_without_pruning_everything_is_read() -> None:
    maker = Maker()
    sources = SourceRegistry([CatalogSource(TABLE), BlocksSource(LogEntries())])
    narrow = Reference("log_entries", "log_entries", ("global",), TimeRange(1, 2))

    await Relations(sources, maker, prune=False).freshen(statement(narrow), ADA, options(), allowance())

    assert maker.asked == [("global", EVERYTHING)]
