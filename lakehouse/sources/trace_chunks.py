"""``perfetto_trace_chunks(process, types, begin, end)``: a trace that is made of the files of ``process_spans`` while it is read."""

from __future__ import annotations

import pyarrow as pa

from lakeflight.wire.errors import WireError
from lakeflight.wire.identifiers import canonical_uuid
from lakehouse.catalog.tables import CatalogTable, RowsNeed
from lakehouse.engine import DeclaredRelation
from lakehouse.engine.functions import relation_functions
from lakehouse.errors import QueryError, UnknownViewError
from lakehouse.model import Caller
from lakehouse.ports import View
from lakehouse.sources.port import Arguments, Freshening, PartitionMaker, Rows, Use

NAME = "perfetto_trace_chunks"
SCHEMA = pa.schema(
    [pa.field("chunk_id", pa.int32(), nullable=False), pa.field("chunk_data", pa.binary(), nullable=False)]
)


class TraceChunksSource:
    """Its partitions are those of the view of spans; the process and its threads are rows of the catalog."""

    name = NAME
    is_table = False
    view = None  # it keeps nothing of its own

    def __init__(self, spans: View, *tables: CatalogTable) -> None:
        self._spans = spans
        self._tables = tables
        self.declaration = DeclaredRelation(SCHEMA, made_by=NAME)

    def resolve(self, arguments: Arguments) -> Arguments:
        if len(arguments) != 4:
            raise UnknownViewError(
                f"{NAME} is a function: {NAME}('<process id>', 'thread', 'async' or 'both', begin, end)"
            )
        process_id, *others = arguments
        try:
            return (canonical_uuid(process_id), *others)
        except WireError as error:
            raise _not_found(process_id) from error

    async def freshen(self, use: Use, caller: Caller, freshening: Freshening) -> Rows:
        process_id = use.arguments[0]
        try:
            fresh = await freshening.maker.ensure_stored(self._spans, process_id, use.range, freshening.allowance)
        except UnknownViewError as error:
            raise _not_found(process_id) from error
        made = relation_functions()[NAME].made
        assert made is not None
        needs = tuple(
            RowsNeed(table, equals={"process_id": (process_id,)}, columns=frozenset(made.catalog[table.name]))
            for table in self._tables
        )
        return Rows(fresh.partitions, needs, missing_blocks=fresh.missing_blocks)

    async def known_missing(self, use: Use, caller: Caller, maker: PartitionMaker) -> int | None:
        return await maker.known_missing([(self._spans, use.arguments[0], use.range)])


def _not_found(process_id: str) -> QueryError:
    return UnknownViewError(f"Process {process_id[:100]} not found")
