"""Prepares and runs statements for the edges. Implements ``server.query.ports.QueryService``; ``query`` tells the story."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from lakehouse.buckets.materialize import Materializer
from lakehouse.buckets.sharing import together
from lakehouse.jobs.run import QueryExecutor
from lakehouse.model import Caller, QueryOptions
from lakehouse.sources import SourceRegistry
from server.administration import Administration, require_admin
from server.query.inspections import Inspections
from server.query.query import Means, Query
from server.query.relations import Relations
from server.query.statement import BoundValues, Statement


@dataclass(frozen=True, slots=True)
class Prepared:
    """What can be said of a statement without running it."""

    schema: bytes
    parameter_schema: bytes
    _missing_blocks: Callable[[], Awaitable[int]]

    async def missing_blocks(self) -> int:
        """What the catalog knows; the stream's trailer says what is so once everything is made fresh."""
        return await self._missing_blocks()


@dataclass(frozen=True, slots=True)
class Table:
    """A table as users see it."""

    name: str
    kind: Literal["TABLE", "VIEW"]
    schema: pa.Schema


class LakeQueryService:
    """Statements over the lake."""

    def __init__(
        self,
        registry: SourceRegistry,
        materializer: Materializer,
        executor: QueryExecutor,
        *,
        administration: Administration,
        statement_timeout_s: float,
        prune: bool = True,
    ) -> None:
        self._registry = registry
        self._inspections = Inspections(executor)
        self._relations = Relations(registry, materializer, prune=prune)
        self._means = Means(
            self._inspections, self._relations, materializer, executor, administration, statement_timeout_s
        )

    async def prepare(
        self, sql: str, caller: Caller, options: QueryOptions, values: BoundValues | None = None
    ) -> Prepared:
        """Bind without running."""
        inspection, _ = await self._inspections.inspect(sql, values, caller, options.spelling)
        require_admin(caller, inspection.administers)
        self._relations.check(inspection)
        return Prepared(
            inspection.schema,
            inspection.parameter_schema,
            lambda: self._relations.known_missing(inspection, caller, options),
        )

    def execute(self, sql: str, caller: Caller, options: QueryOptions, values: BoundValues | None = None) -> Query:
        """A statement that starts when its first frame is asked for."""
        return Query(Statement(sql, values, caller, options), self._means)

    async def tables(self, caller: Caller, options: QueryOptions) -> Sequence[Table]:
        """What can be named without arguments; with them it is a function, not a table."""
        names = self._registry.tables
        inspected = await together(
            self._inspections.inspect(f"SELECT * FROM {name}", None, caller, options.spelling) for name in names
        )
        return [
            Table(name, "TABLE", pa.ipc.read_schema(pa.py_buffer(inspection.schema)))
            for name, (inspection, _) in zip(names, inspected, strict=True)
        ]
