"""A relation whose rows are made while the engine reads it, of the rows of files: one batch at a time, and nothing is kept.

The engine asks for an Arrow stream wherever a statement scans the relation, and each scan makes its own. What is read of
files runs on a connection of its own over the same locked database, so it can open what the statement can, and no more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import pyarrow as pa

from lakehouse.engine.functions import StoredRows
from lakehouse.engine.relations import Relation
from lakehouse.model import TimeRange

READ_ROWS: Final = 1 << 16  # of files, at a time


@dataclass
class MadeRelation:
    """What the engine scans: an object of Arrow's C stream interface."""

    relation: Relation
    make: Callable[[StoredRows], Iterator[Any]]
    connection: Any
    scan: str  # SQL of the files, empty if there is none
    tables: Mapping[str, Any]  # of the catalog
    fault: Exception | None = field(default=None, init=False)  # why making failed: the engine only passes words on

    def __arrow_c_schema__(self) -> Any:
        return self.relation.schema.__arrow_c_schema__()

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        return pa.RecordBatchReader.from_batches(self.relation.schema, self._batches()).__arrow_c_stream__()

    @property
    def arguments(self) -> tuple[str, ...]:
        return self.relation.arguments

    @property
    def range(self) -> TimeRange:
        return self.relation.range

    def table(self, name: str) -> Any:
        return self.tables[name]

    def query(self, sql: str) -> Iterator[Any]:
        if not self.scan:
            return
        with self.connection.cursor() as cursor:
            yield from cursor.sql(sql.format(rows=self.scan)).to_arrow_reader(READ_ROWS)

    def _batches(self) -> Iterator[Any]:
        try:
            yield from self.make(self)
        except GeneratorExit:
            raise
        except Exception as error:
            self.fault = error
            raise
