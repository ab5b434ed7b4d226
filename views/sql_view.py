"""Views defined in SQL: rows that are counted, summed or binned out of the rows of another view.

Such a view is made with its base, bucket by bucket, and so is as fresh and grows by the same deltas. What a file holds are
*parts*: ``select`` makes them of some rows of the base, and ``merge`` makes the rows of the parts of all files when somebody
asks. So it must not matter how rows are divided: merging the parts of two sets of rows has to be the same as the parts of
both together, as it is with sums, counts, and least and greatest values, and is not with averages (keep sum and count).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from lakehouse.engine.sql_types import literal, quoted, sql_type
from lakehouse.model import BlockOrder, InstanceKind
from lakehouse.ports import BucketSource, View
from views.columns import BATCH_ROWS

PARTS_MAX: Final = 1 << 20
"""Rows of parts that are kept before they are merged, of one bucket."""

_NS_PER_S: Final = 1_000_000_000
MERGE_MEMORY: Final = "256MB"
"""Of the engine, while it merges parts of files: beyond it they go to the disk."""

_TIMES: Final = ("SET TimeZone = 'UTC'", "SET integer_division = true")
_SETTINGS: Final = (
    "SET threads = 1",  # others build beside us
    "SET memory_limit = '1GB'",
    "SET temp_directory = ''",
    "SET python_enable_replacements = false",
    "SET enable_external_access = false",
    *_TIMES,
    "SET lock_configuration = true",
)


def time_bin(column: str, seconds: int) -> str:
    """SQL: the begin of the bin that a time is in, counted from 1970. Exact to the nanosecond, before 1970 too.

    ``date_trunc`` goes through microseconds, and would put the last of a minute into the next.
    """
    width = seconds * _NS_PER_S
    begin = f"make_timestamp_ns(epoch_ns({column}) - (epoch_ns({column}) % {width} + {width}) % {width})"
    # what only a broken clock says: no bin begins there
    return f"CASE WHEN isfinite({column}) AND epoch_ns({column}) >= {width - (1 << 63)} THEN {begin} ELSE {column} END"


@dataclass(frozen=True, kw_only=True)
class SqlView:
    """One view set. Both texts read ``{rows}`` and name their columns as the schema does; it casts them.

    ``reach_s``: how far a row may lie before the events that it is made of, as a bin does that begins with its minute.
    """

    view_set: str
    base: View
    schema: pa.Schema
    select: str
    merge: str
    begin_column: str
    end_column: str
    reach_s: int = 0
    is_ordered: bool = True
    sorted_by: tuple[str, ...] = ()

    @property
    def writer_version(self) -> int:
        """It follows from what makes the rows, so nobody has to remember to raise it."""
        told = f"{self.select}\0{self.merge}\0{self.base.view_set}\0{self.base.writer_version}"
        return zlib.crc32(told.encode()) >> 1

    @property
    def instance_kind(self) -> InstanceKind:
        return self.base.instance_kind

    @property
    def has_global(self) -> bool:
        return self.base.has_global

    @property
    def stream_tag(self) -> str | None:
        return self.base.stream_tag

    @property
    def block_order(self) -> BlockOrder:
        return self.base.block_order

    @property
    def reach_ns(self) -> int:
        return self.reach_s * _NS_PER_S

    @property
    def merged(self) -> str:
        """``merge`` with the columns of the schema, in its types."""
        return self._with_columns(self.merge)

    def build(self, source: BucketSource) -> Iterator[pa.RecordBatch]:
        """The parts of a bucket, by the columns of the schema in their order."""
        import duckdb  # only where views are built: a server that asks for the schema runs no SQL here

        parts: list[pa.Table] = []
        with duckdb.connect() as connection:
            for setting in _SETTINGS:
                connection.execute(setting)
            for batch in self.base.build(source):
                parts.append(_run(connection, self._with_columns(self.select), pa.Table.from_batches([batch])))
                if sum(part.num_rows for part in parts) > PARTS_MAX:
                    parts = [_run(connection, self.merged, pa.concat_tables(parts))]
            if parts:
                merged = _run(connection, f"{self.merged} ORDER BY ALL", pa.concat_tables(parts))
                for batch in merged.to_batches(BATCH_ROWS):
                    yield pa.RecordBatch.from_arrays(batch.columns, schema=self.schema)

    def merge_parts(self, paths: Sequence[Path], scratch: Path) -> Iterator[pa.RecordBatch]:
        """The parts of several files, merged, by the columns of the schema in their order."""
        import duckdb

        files = ", ".join(literal(str(path)) for path in paths)
        with duckdb.connect(
            config={"temp_directory": str(scratch), "memory_limit": MERGE_MEMORY, "threads": 1}
        ) as engine:
            for setting in _TIMES:
                engine.execute(setting)
            text = f"{self.merged} ORDER BY ALL".format(rows=f"read_parquet([{files}])")
            reader: Any = engine.execute(text).to_arrow_reader(BATCH_ROWS)
            for batch in reader:
                yield pa.RecordBatch.from_arrays(batch.columns, schema=self.schema)

    def _with_columns(self, text: str) -> str:
        columns = ", ".join(f"CAST({quoted(f.name)} AS {sql_type(f.type)}) AS {quoted(f.name)}" for f in self.schema)
        return f"SELECT {columns} FROM ({text})"


def _run(connection: Any, text: str, rows: pa.Table) -> pa.Table:
    connection.register("view_rows", rows)
    try:
        result: pa.Table = connection.sql(text.format(rows="view_rows")).to_arrow_table()
    finally:
        connection.unregister("view_rows")
    return result
