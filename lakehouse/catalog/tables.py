"""What of the catalog's own rows users may read, as values: which SELECT, which columns, which rows of it.

No driver here: whoever declares a table needs no database, and ``lakehouse.catalog.metadata`` copies the rows out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa

from lakehouse.model import EVERYTHING, TimeRange


@dataclass(frozen=True, slots=True)
class CatalogTable:
    """A table whose rows are the catalog's own, so it has no blocks and no files.

    ``lakehouse/catalog/sql/metadata.sql`` has a SELECT of its name, with the columns of the schema. Only a column called
    ``other.column`` is not in it: that is a column of the table that one of the ids is joined with. Every row of the SELECT
    has a row in each of these tables, so that it can be read without them.

    A row is in a range of time if ``begin_column`` is at or before its end and ``end_column`` at or after its begin.
    """

    name: str
    schema: pa.Schema
    ids: tuple[str, ...]  # columns of UUIDs: rows are chosen by them before they leave the catalog
    begin_column: str
    end_column: str
    joins: Mapping[str, CatalogTable] = field(default_factory=dict)  # id column -> the table that describes it

    def __post_init__(self) -> None:
        unknown = {*self.ids, *self.joins} - set(self.schema.names)
        if unknown:
            raise ValueError(f"{self.name} has no column {', '.join(sorted(unknown))}")


@dataclass(frozen=True, slots=True)
class RowsNeed:
    """Rows of a catalog table that one reference of a statement may read."""

    table: CatalogTable
    range: TimeRange = EVERYTHING
    equals: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # column -> its only possible values
    columns: frozenset[str] | None = None  # lower-case names, with those of all columns that are read; ``None``: any
    ended_by_ns: int | None = None  # only rows whose ``end_column`` is no later
