"""What the engine is told about relations, and what it tells about a statement's use of them. It knows none by name."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any, Literal

from lakehouse.engine.names import relation_name
from lakehouse.model import EVERYTHING, TimeRange

StatementKind = Literal["query", "explain", "describe", "show_tables"]


class Origin(StrEnum):
    """What a column is to the original."""

    DOCUMENT = "document"  # JSONB in a dictionary; here JSON text
    PAIRS = "pairs"  # the same; here keys and values
    PLAIN_DOCUMENT = "plain document"  # JSONB, never in a dictionary
    TEXT = "text"  # text in a dictionary
    FEW_TEXTS = "few texts"  # text in a dictionary of 16 bit


@dataclass(frozen=True, slots=True)
class DeclaredRelation:
    """Columns as users see them, and the pair that places a row in time."""

    schema: Any  # pa.Schema; times are naive timestamp[ns]
    begin_column: str | None = None
    end_column: str | None = None
    ordered: bool = False  # no row ends before it begins; lets a bound on one column hold for the other
    joins: Mapping[str, str] = field(default_factory=dict)  # id column -> the view set whose columns are here, dotted
    merge: str = ""  # SQL that makes rows of what files hold, ``{rows}``; empty: files hold rows
    made_by: str = ""  # the relation function that makes rows of what files hold, while they are asked for
    origins: Mapping[str, str] = field(default_factory=dict)  # column -> its ``Origin``

    @property
    def lasts(self) -> bool:
        """Whether a row takes time, so that it may lie on both sides of a moment."""
        return self.begin_column != self.end_column


@dataclass(frozen=True)
class EngineCatalog:
    """Everything a statement of this caller may name. Keep one instance: databases are kept per catalog."""

    tables: Mapping[str, DeclaredRelation]  # global tables, lower-case names
    view_sets: Mapping[str, DeclaredRelation]

    def table(self, name: str) -> DeclaredRelation | None:
        return self.tables.get(name.lower())

    @cached_property
    def digest(self) -> str:
        """Equal for catalogs that declare the same."""
        content = hashlib.sha256()
        for part in (self.tables, self.view_sets):
            for name, relation in sorted(part.items()):
                times = f"{relation.begin_column}/{relation.end_column}/{relation.ordered}"
                columns = sorted(relation.joins.items()), sorted(relation.origins.items())
                content.update(
                    f"\0{name}\0{times}\0{columns}\0{relation.merge}\0{relation.made_by}\0".encode()
                    + relation.schema.serialize().to_pybytes()
                )
            content.update(b"\1")
        return content.hexdigest()

    @cached_property
    def time_columns(self) -> frozenset[str]:
        """Lower-case names of timestamp columns, of any relation."""
        return frozenset(name for name, kind in self._columns if str(kind).startswith("timestamp"))

    @cached_property
    def other_columns(self) -> frozenset[str]:
        """Lower-case names that are never timestamps."""
        return frozenset(name for name, _ in self._columns) - self.time_columns

    @cached_property
    def _columns(self) -> list[tuple[str, Any]]:
        relations = [*self.tables.values(), *self.view_sets.values()]
        return [(member.name.lower(), member.type) for relation in relations for member in relation.schema]


@dataclass(frozen=True, slots=True)
class Relation:
    """One table that a statement sees, bound before the database is locked.

    ``files`` are filtered by ``range`` row by row; ``files_inside`` hold no row outside of it and are not filtered,
    which is cheaper. Neither: a typed empty table. ``metadata``: the view set whose rows, from the catalog's CSV files,
    are its rows instead. ``table``: the rows themselves, as an Arrow IPC stream or a Parquet file with the columns of the
    schema.
    """

    name: str  # a global table, or ``relation_name(view_set, instance)``
    schema: Any  # pa.Schema
    files: tuple[str, ...] = ()
    begin_column: str | None = None
    end_column: str | None = None
    range: TimeRange = EVERYTHING
    files_inside: tuple[str, ...] = ()
    metadata: str | None = None
    merge: str = ""
    table: bytes | None = None
    made_by: str = ""  # the relation function that makes rows of those of the files, with these arguments
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Call:
    """A relation function as a statement calls it: its name, and its arguments in their one spelling."""

    name: str
    literals: tuple[str | None, ...]  # ``None``: a parameter without a value yet


@dataclass(frozen=True, slots=True)
class Reference:
    """A relation that a statement reads, and what its own predicates say about the rows it needs."""

    relation: str  # the table's name, or the function that was called
    view_set: str  # the source that has the rows
    arguments: tuple[str | None, ...]  # what it is asked with; ``None``: a parameter without a value yet
    range: TimeRange = EVERYTHING
    equals: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # id column -> the only values it may have
    is_call: bool = False  # of a relation function; else a table by its name
    columns: frozenset[str] | None = None  # lower-case names, with those of all columns that are read; ``None``: any
    ended_by_ns: int | None = None  # of rows that last, only those that end no later are needed

    @property
    def is_open(self) -> bool:
        """Whether an argument is not known yet."""
        return None in self.arguments

    @property
    def instance(self) -> str | None:
        return self.arguments[0]

    @property
    def bound_name(self) -> str:
        """The name under which the engine looks for the rows."""
        if not self.is_call:
            return self.relation
        return relation_name(self.view_set, *(argument or "" for argument in self.arguments))


@dataclass(frozen=True, slots=True)
class Inspection:
    """What is known about a statement before any file is opened."""

    kind: StatementKind
    references: tuple[Reference, ...]
    parameters: int
    volatile: bool  # bounds follow the clock: good for one execution, with ``now_ns``
    schema: bytes  # IPC schema message, edge types
    parameter_schema: bytes
    now_ns: int  # what ``now()`` meant; hand it to ``run``
    needs_relations: bool  # false: ``run`` reads no partition (SHOW TABLES, DESCRIBE, information_schema alone)
    administers: tuple[str, ...] = ()  # the functions that it calls and that change the lake
