"""A small lake for tests of the engine: declared relations, Parquet files of them, statements run to the end."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from lakehouse.engine import DeclaredRelation, EngineCatalog, Relation, relation_name
from lakehouse.engine.engine import QueryEngine
from lakehouse.model import EVERYTHING, TimeRange
from views import default_registry

TIME: Final = pa.timestamp("ns")
T0: Final = 1_700_000_000_000_000_000  # 2023-11-14T22:13:20Z
SECOND: Final = 1_000_000_000
STREAM: Final = "6a1b2c3d-0000-4000-8000-000000000001"
PROCESS: Final = "6a1b2c3d-0000-4000-8000-0000000000aa"

LOGS: Final = pa.schema(
    [
        ("process_id", pa.string()),
        ("stream_id", pa.string()),
        ("insert_time", TIME),
        ("time", TIME),
        ("target", pa.string()),
        ("level", pa.int32()),
        ("msg", pa.string()),
        ("properties", pa.string()),
    ]
)
SPANS: Final = pa.schema(
    [
        ("id", pa.int64()),
        ("parent", pa.int64()),
        ("depth", pa.uint32()),
        ("hash", pa.uint32()),
        ("begin", TIME),
        ("end", TIME),
        ("duration", pa.int64()),
        ("name", pa.string()),
    ]
)
METADATA_NAMES: Final = ("processes", "streams", "blocks", "quarantined_blocks")
METADATA: Final = {
    name: declared for name, declared in default_registry().declarations.items() if name in METADATA_NAMES
}
CATALOG: Final = EngineCatalog(
    tables={
        "log_entries": DeclaredRelation(LOGS, "time", "time", ordered=True),
        **METADATA,
    },
    view_sets={
        "log_entries": DeclaredRelation(LOGS, "time", "time", ordered=True),
        "thread_spans": DeclaredRelation(SPANS, "begin", "end", ordered=True),
        **METADATA,
    },
)


def log_rows(count: int, *, seed: int = 0, begin_ns: int = T0, step_ns: int = SECOND) -> Any:
    """Lines one step apart, of three processes."""
    chance = random.Random(seed)
    times = [begin_ns + i * step_ns for i in range(count)]
    return pa.table(
        [
            pa.array([f"p{chance.randrange(3)}" for _ in times]),
            pa.array([f"s{chance.randrange(4)}" for _ in times]),
            pa.array(times, TIME),
            pa.array(times, TIME),
            pa.array([chance.choice(["net", "disk"]) for _ in times]),
            pa.array([chance.randrange(1, 7) for _ in times], pa.int32()),
            pa.array([f"line {i}" for i in range(count)]),
            pa.array(["{}"] * count),
        ],
        schema=LOGS,
    )


def span_rows(count: int, *, seed: int = 0, begin_ns: int = T0) -> Any:
    """Spans that overlap each other."""
    chance = random.Random(seed)
    begins = [begin_ns + i * SECOND for i in range(count)]
    durations = [chance.randrange(5 * SECOND) for _ in begins]
    return pa.table(
        [
            pa.array(range(count), pa.int64()),
            pa.array([i // 2 for i in range(count)], pa.int64()),
            pa.array([i % 5 for i in range(count)], pa.uint32()),
            pa.array([i * 7 for i in range(count)], pa.uint32()),
            pa.array(begins, TIME),
            pa.array([b + d for b, d in zip(begins, durations, strict=True)], TIME),
            pa.array(durations, pa.int64()),
            pa.array([f"span {i % 3}" for i in range(count)]),
        ],
        schema=SPANS,
    )


@dataclass
class EngineLake:
    """Files in a folder, and an engine over them."""

    folder: Path
    engine: QueryEngine

    def write(self, table: Any, name: str) -> str:
        path = self.folder / f"{name}.parquet"
        pq.write_table(table, path, row_group_size=64, store_schema=False)
        return str(path)

    def logs(self, *files: str, range: TimeRange = EVERYTHING, inside: Sequence[str] = ()) -> Relation:
        return Relation("log_entries", LOGS, files, "time", "time", range, tuple(inside))

    def spans(self, *files: str, range: TimeRange = EVERYTHING, stream: str = STREAM) -> Relation:
        return Relation(relation_name("thread_spans", stream), SPANS, files, "begin", "end", range)

    def rows(
        self,
        sql: str,
        *relations: Relation,
        parameters: Any = (),
        identity: str = "somebody",
        row_limit: int | None = None,
        now_ns: int | None = None,
        metadata: Mapping[str, Path | bytes] | None = None,
    ) -> list[dict[str, Any]]:
        """All rows; times come as ``pa`` scalars' nanoseconds would lose nothing, so they are integers."""
        table = self.table(
            sql,
            *relations,
            parameters=parameters,
            identity=identity,
            row_limit=row_limit,
            now_ns=now_ns,
            metadata=metadata,
        )
        columns = [
            column.cast(pa.int64())
            if pa.types.is_timestamp(column.type) or pa.types.is_duration(column.type)
            else column
            for column in table.columns
        ]
        plain: list[dict[str, Any]] = pa.table(columns, names=table.column_names).to_pylist()
        return plain

    def table(
        self,
        sql: str,
        *relations: Relation,
        parameters: Any = (),
        identity: str = "somebody",
        row_limit: int | None = None,
        now_ns: int | None = None,
        metadata: Mapping[str, Path | bytes] | None = None,
    ) -> Any:
        with self.engine.run(
            sql,
            parameters,
            relations,
            catalog=CATALOG,
            identity=identity,
            row_limit=row_limit,
            now_ns=now_ns,
            metadata=metadata,
        ) as reader:
            return pa.Table.from_batches(list(reader), schema=reader.schema)


def schema_of(message: bytes) -> Any:
    return pa.ipc.read_schema(pa.py_buffer(message))
