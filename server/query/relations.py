"""From the relations that a statement names to where their rows are: resolved, made fresh, cut to the headers' range."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from lakehouse.buckets.sharing import Allowance, together
from lakehouse.catalog.tables import RowsNeed
from lakehouse.engine import Inspection, Reference
from lakehouse.errors import QueryError
from lakehouse.jobs.run import JobRelation
from lakehouse.model import Caller, QueryOptions, TimeRange
from lakehouse.sources import (
    Arguments,
    Freshening,
    PartitionMaker,
    Read,
    RelationSource,
    Rows,
    SourceRegistry,
    Use,
)

NONE_MISSING_REMEMBERED_S: Final = 1.0  # other servers may set a block aside meanwhile: the trailer will tell


@dataclass(frozen=True, slots=True)
class Readable:
    """Everything that a statement may read, once it is fresh."""

    relations: tuple[JobRelation, ...] = ()
    needs: tuple[RowsNeed, ...] = ()
    missing_blocks: int = 0

    @property
    def keys(self) -> set[str]:
        """The files of partitions."""
        return {key for relation in self.relations for key in (*relation.keys, *relation.keys_inside)}


@dataclass(slots=True)
class _Named:
    """A source with arguments, and the names under which the statement looks for it."""

    source: RelationSource
    arguments: Arguments
    names: set[str] = field(default_factory=set)
    reads: list[Read] = field(default_factory=list)

    @property
    def use(self) -> Use:
        return Use(self.arguments, tuple(self.reads))


class Relations:
    """Resolves what statements name, and has it made fresh."""

    def __init__(self, registry: SourceRegistry, maker: PartitionMaker, *, prune: bool = True) -> None:
        self._registry, self._maker = registry, maker
        self._prune = prune  # a switch for tests: what a statement's predicates say must never change a result
        self._none_missing_until = 0.0  # until then it is taken for granted that no block of the lake is missing

    def check(self, inspection: Inspection) -> None:
        """Refuse what names nothing. An instance that is a parameter without a value is left open.

        Raises:
            UnknownViewError: A reference names no source, or cannot be one of its instances.
        """
        for reference in inspection.references:
            if not reference.is_open:
                self._resolve(reference)

    async def freshen(
        self, inspection: Inspection, caller: Caller, options: QueryOptions, allowance: Allowance
    ) -> Readable:
        """Make everything fresh that the statement may read, and say where it is."""
        named = self._named(inspection, options)
        freshening = Freshening(self._maker, allowance)
        rows = await together(each.source.freshen(each.use, caller, freshening) for each in named)
        missing_blocks = sum(found.missing_blocks for found in rows)
        if missing_blocks:
            self._none_missing_until = 0.0
        return Readable(
            tuple(_relations(zip(named, rows, strict=True), options.time_range)),
            tuple(need for found in rows for need in found.needs),
            missing_blocks,
        )

    async def known_missing(self, inspection: Inspection, caller: Caller, options: QueryOptions) -> int:
        """What the catalog knows of blocks that are missing from what the statement reads."""
        if any(reference.is_open for reference in inspection.references):
            return 0
        named = self._named(inspection, options)
        if not named or time.monotonic() < self._none_missing_until:
            return 0
        counts = await together(each.source.known_missing(each.use, caller, self._maker) for each in named)
        if None in counts:
            self._none_missing_until = time.monotonic() + NONE_MISSING_REMEMBERED_S
        return sum(count or 0 for count in counts)

    def arguments_of(self, reference: Reference) -> Arguments:
        """In their one spelling."""
        return self._resolve(reference)[1]

    def _resolve(self, reference: Reference) -> tuple[RelationSource, Arguments]:
        arguments = tuple(argument for argument in reference.arguments if argument is not None)
        if reference.is_open:
            raise QueryError(f"an argument of {reference.relation} is a parameter without a value")
        source = self._registry.find(reference.view_set)
        return source, source.resolve(arguments)

    def _named(self, inspection: Inspection, options: QueryOptions) -> Sequence[_Named]:
        """The sources of a statement, each with all of its uses."""
        found: dict[tuple[str, Arguments], _Named] = {}
        for reference in inspection.references:
            source, arguments = self._resolve(reference)
            named = found.setdefault((source.name, arguments), _Named(source, arguments))
            named.names.add(reference.bound_name)
            wanted = reference.range.intersect(options.time_range)
            if source.declaration.lasts and not reference.range.is_empty:
                wanted = wanted.spanned()
            named.reads.append(
                Read(wanted, reference.equals, reference.columns, reference.ended_by_ns) if self._prune else Read()
            )
        return list(found.values())


def _relations(found: Iterable[tuple[_Named, Rows]], headers: TimeRange) -> Iterable[JobRelation]:
    """Each source under each of its names. Files that the header range covers whole need no filter of their own.

    Where rows are made of those of the files, these stay in their order.
    """
    for named, rows in found:
        inside: list[str] = []
        crossing: list[str] = []
        for partition in rows.partitions:
            covered = (headers.begin_ns is None or headers.begin_ns <= partition.min_event_ns) and (
                headers.end_ns is None or partition.max_event_ns <= headers.end_ns
            )
            (inside if covered and not named.source.declaration.made_by else crossing).append(partition.key)
        for name in sorted(named.names):
            yield JobRelation(
                name,
                named.source.name,
                tuple(crossing),
                tuple(inside),
                headers,
                bool(rows.needs),
                rows.table,
                named.arguments,
            )
