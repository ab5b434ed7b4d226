"""The port between a statement and what it reads: a name in SQL becomes a source, and a source makes its rows fresh.

Every kind of relation is one class behind ``RelationSource``; nobody outside asks which kind it is. A source decides what
a statement's arguments mean and what has to exist before it runs. It opens no file, copies no row and knows no engine:
what it answers names stored objects by key, or rows of the catalog by condition, and whoever executes the statement
fetches them where it runs; or it is the rows themselves, if they are few and made of the arguments.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from lakehouse.buckets.model import StoredPartition
from lakehouse.buckets.sharing import Allowance
from lakehouse.buckets.single_block import BlockView
from lakehouse.catalog.tables import RowsNeed
from lakehouse.engine import DeclaredRelation
from lakehouse.model import EVERYTHING, NEVER, Caller, TimeRange
from lakehouse.ports import View

Arguments: TypeAlias = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Read:
    """What one reference of a statement can need, by headers and its own predicates. Rows too many are no harm."""

    range: TimeRange = EVERYTHING
    equals: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # column -> its only possible values
    columns: frozenset[str] | None = None  # lower-case names, with those of all columns that are read; ``None``: any
    ended_by_ns: int | None = None  # of rows that last, only those that end no later


@dataclass(frozen=True, slots=True)
class Use:
    """All that one statement wants of one relation: a source and its arguments."""

    arguments: Arguments  # as ``RelationSource.resolve`` returned them
    reads: tuple[Read, ...]

    @property
    def range(self) -> TimeRange:
        """The smallest range of event time that covers every read; empty if none needs a row."""
        wanted = [read.range for read in self.reads if not read.range.is_empty]
        if not wanted:
            return NEVER
        found = wanted[0]
        for other in wanted[1:]:
            found = found.union(other)
        return found

    @property
    def equals(self) -> Mapping[str, tuple[str, ...]]:
        """Columns, and the only values that any read needs of each."""
        reading = [read.equals for read in self.reads if not read.range.is_empty]
        if not reading:
            return {}
        shared = set(reading[0]).intersection(*reading[1:])
        return {column: tuple({value for equals in reading for value in equals[column]}) for column in shared}


class FreshPartitions(Protocol):
    """Every partition that rows of a range may be in, and the blocks that could not be decoded into them."""

    @property
    def partitions(self) -> Sequence[StoredPartition]: ...

    @property
    def missing_blocks(self) -> int: ...


class PartitionMaker(Protocol):
    """What sources ask of ``lakehouse.buckets.materialize``."""

    async def ensure_stored(
        self,
        view: View,
        instance: str,
        wanted: TimeRange,
        allowance: Allowance,
        values: Mapping[str, Sequence[str]] = ...,
    ) -> FreshPartitions:
        """Make the partitions of ``wanted`` and list them. Files that are lost or damaged are made again.

        Args:
            values: Columns, and what a row has in each of them that is read: files without such a row need not be listed.
        """
        ...

    async def decode_block(
        self, view: BlockView, block_id: str, wanted: TimeRange, allowance: Allowance
    ) -> bytes | None:
        """What a view makes of one block, kept nowhere: a Parquet file, or ``None`` if that is no row.

        Raises:
            UnknownViewError: There is no such block in the range.
            CorruptBlockError: It cannot be decoded.
        """
        ...

    async def known_missing(self, uses: Sequence[tuple[View, str, TimeRange]]) -> int | None:
        """Blocks known to be missing from these instances and ranges; ``None``: no block of the lake is."""
        ...


@dataclass(frozen=True, slots=True)
class Rows:
    """Where the rows of one use are, fresh when the source answered."""

    partitions: Sequence[StoredPartition] = ()  # in these files, and …
    needs: tuple[RowsNeed, ...] = ()  # … in the catalog, of which all of a statement is one later snapshot, …
    table: bytes | None = None  # … or these: an Arrow IPC stream or a Parquet file with the declared columns
    missing_blocks: int = 0


@dataclass(frozen=True, slots=True)
class Freshening:
    """What a source may call on for one statement: who makes partitions, and how much the statement may have made."""

    maker: PartitionMaker
    allowance: Allowance


class RelationSource(Protocol):
    """One kind of relation, under one name."""

    @property
    def name(self) -> str:
        """The name of the view set, or of the function."""
        ...

    @property
    def declaration(self) -> DeclaredRelation:
        """Its columns, and how its rows lie in time; the same whatever the arguments."""
        ...

    @property
    def is_table(self) -> bool:
        """Whether the name alone, without arguments, can stand in a FROM clause."""
        ...

    @property
    def view(self) -> View | None:
        """What its partitions are built with from blocks, for build workers and housekeeping; ``None``: it keeps none."""
        ...

    def resolve(self, arguments: Arguments) -> Arguments:
        """The arguments in their one spelling. Whether what they name exists is not asked here.

        Raises:
            UnknownViewError: They cannot name anything.
        """
        ...

    async def freshen(self, use: Use, caller: Caller, freshening: Freshening) -> Rows:
        """Make what the use reads fresh, and say where its rows are.

        Raises:
            UnknownViewError: No such process or stream, for this caller.
            LimitExceededError: More to build than one statement may ask for.
            BackendUnavailableError: Postgres or the object store.
        """
        ...

    async def known_missing(self, use: Use, caller: Caller, maker: PartitionMaker) -> int | None:
        """Blocks that are known to be missing from what the use reads; ``None``: no block of the lake is.

        Looks for no new block, makes nothing.
        """
        ...
