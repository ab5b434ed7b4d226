"""Relation functions that change the lake: sources by name, so that statements over them bind, with rows that the server has.

``server.administration`` does the work and streams the rows; the engine never runs such a statement.
"""

from __future__ import annotations

from typing import Final

import pyarrow as pa

from lakehouse.engine import DeclaredRelation
from lakehouse.engine.functions import relation_functions
from lakehouse.errors import InternalError, UnknownViewError
from lakehouse.model import Caller
from lakehouse.ports import View
from lakehouse.sources.port import Arguments, Freshening, PartitionMaker, Rows, Use

ADMINISTRATION_SCHEMA: Final = pa.schema(
    [pa.field("time", pa.timestamp("ns"), nullable=False), pa.field("msg", pa.string(), nullable=False)]
)


class AdministrationSource:
    """What one of these functions says while it works."""

    is_table = False
    view: View | None = None
    declaration = DeclaredRelation(ADMINISTRATION_SCHEMA)

    def __init__(self, name: str) -> None:
        self.name = name
        self._arguments = [argument.name for argument in relation_functions()[name].arguments]

    def resolve(self, arguments: Arguments) -> Arguments:
        if len(arguments) != len(self._arguments):
            raise UnknownViewError(f"{self.name} is a function: {self.name}({', '.join(self._arguments)})")
        return arguments

    async def freshen(self, use: Use, caller: Caller, freshening: Freshening) -> Rows:
        raise InternalError(f"{self.name} is run by the server, not by the engine")

    async def known_missing(self, use: Use, caller: Caller, maker: PartitionMaker) -> int | None:
        return 0


def administration_sources() -> list[AdministrationSource]:
    """One for each function that is declared."""
    return [AdministrationSource(name) for name, function in relation_functions().items() if function.administers]
