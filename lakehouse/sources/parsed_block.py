"""``parse_block(block)``: a table function whose rows are decoded when somebody asks, and kept nowhere."""

from __future__ import annotations

import pyarrow as pa

from lakeflight.wire.errors import WireError
from lakeflight.wire.identifiers import canonical_uuid
from lakehouse.buckets.single_block import BlockView
from lakehouse.engine import DeclaredRelation
from lakehouse.errors import UnknownViewError
from lakehouse.model import Caller
from lakehouse.ports import View
from lakehouse.sources.port import Arguments, Freshening, PartitionMaker, Rows, Use


class ParsedBlockSource:
    """The rows that a view makes of one block, without the time that its files need."""

    is_table = False

    def __init__(self, view: BlockView) -> None:
        self.view: View | None = view
        self.name = view.view_set
        self._view = view
        self.declaration = DeclaredRelation(
            pa.schema([column for column in view.schema if column.name not in (view.begin_column, view.end_column)])
        )

    def resolve(self, arguments: Arguments) -> Arguments:
        if len(arguments) != 1:
            raise UnknownViewError(f"{self.name} is a function: {self.name}('<block id>')")
        try:
            return (canonical_uuid(arguments[0]),)
        except WireError as error:
            raise UnknownViewError(f"{self.name}: '{arguments[0][:100]}' is not a valid block id") from error

    async def freshen(self, use: Use, caller: Caller, freshening: Freshening) -> Rows:
        (block_id,) = use.arguments
        if use.range.is_empty:
            return Rows()
        rows = await freshening.maker.decode_block(self._view, block_id, use.range, freshening.allowance)
        return Rows(table=rows)

    async def known_missing(self, use: Use, caller: Caller, maker: PartitionMaker) -> int | None:
        return 0  # a block that cannot be decoded is an error
