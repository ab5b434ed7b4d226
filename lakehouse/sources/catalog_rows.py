"""Relations that answer from the catalog's own rows, exact at query time: ``processes``, ``streams``, ``blocks``."""

from __future__ import annotations

from lakehouse.catalog.tables import CatalogTable, RowsNeed
from lakehouse.engine import DeclaredRelation
from lakehouse.errors import UnknownViewError
from lakehouse.model import GLOBAL_INSTANCE, Caller
from lakehouse.sources.port import Arguments, Freshening, PartitionMaker, Rows, Use


class CatalogSource:
    """A table of the catalog. It has one instance and nothing to be made: its rows are read when the statement runs."""

    view = None
    is_table = True

    def __init__(self, table: CatalogTable) -> None:
        self.table = table
        self.name = table.name
        self.declaration = DeclaredRelation(
            table.schema,
            table.begin_column,
            table.end_column,
            joins={column: other.name for column, other in table.joins.items()},
        )

    def resolve(self, arguments: Arguments) -> Arguments:
        (instance,) = arguments or (GLOBAL_INSTANCE,)
        if instance != GLOBAL_INSTANCE:
            raise UnknownViewError(
                f"{self.name} has no instances: its only one is '{GLOBAL_INSTANCE}', not '{instance}'"
            )
        return (GLOBAL_INSTANCE,)

    async def freshen(self, use: Use, caller: Caller, freshening: Freshening) -> Rows:
        return Rows(
            needs=tuple(
                RowsNeed(self.table, read.range, read.equals, read.columns, read.ended_by_ns) for read in use.reads
            )
        )

    async def known_missing(self, use: Use, caller: Caller, maker: PartitionMaker) -> int | None:
        return 0


class CatalogFunction(CatalogSource):
    """A table of the catalog that is called, ``list_partitions()``: all of its rows, whatever the range of the query."""

    is_table = False

    def __init__(self, table: CatalogTable) -> None:
        super().__init__(table)
        self.declaration = DeclaredRelation(table.schema)

    def resolve(self, arguments: Arguments) -> Arguments:
        if arguments:
            raise UnknownViewError(f"{self.name} is a function: {self.name}()")
        return ()

    async def freshen(self, use: Use, caller: Caller, freshening: Freshening) -> Rows:
        return Rows(needs=tuple(RowsNeed(self.table, columns=read.columns) for read in use.reads))
