"""What the bounds leave out cannot change an answer: random statements have equal rows over all rows and over those alone."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakehouse.engine import DEFAULT_LIMITS, Reference, relation_name
from lakehouse.engine.database import Database
from lakehouse.engine.engine import QueryEngine
from lakehouse.engine.gate import judge
from lakehouse.engine.parameters import Declared, Parameters
from lakehouse.engine.parse import Parser
from lakehouse.errors import LakeflightError
from tests.support.engine_lake import CATALOG, SECOND, STREAM, T0, log_rows, span_rows
from tests.support.random_statements import StatementMaker, base
from tests.support.sizes import SEED, size

STATEMENTS = size(500, 20_000)
COUNT = 40
PROCESS = "p1"
OTHER_STREAM = "6a1b2c3d-0000-4000-8000-000000000002"

LOGS = {"times": "time insert_time", "texts": "process_id target msg", "numbers": "level"}
SPANS = {"times": 'begin "end"', "texts": "name", "numbers": "id depth"}
BLOCKS = {"times": "begin_time end_time insert_time", "texts": "process_id stream_id", "numbers": "nb_objects"}
BASES = (
    base("log_entries", **LOGS),
    base("log_entries", **LOGS),
    base(f"view_instance('log_entries', '{PROCESS}')", **LOGS),
    base(f"view_instance('thread_spans', '{STREAM}')", **SPANS),
    base(f"view_instance('thread_spans', '{OTHER_STREAM}')", **SPANS),
    base("blocks", **BLOCKS),
)


@dataclass
class Lake:
    """One open database over Parquet files; the views that statements see are defined again where they differ."""

    database: Database
    files: dict[str, Path]
    _views: dict[str, str] = field(default_factory=dict)

    def text_that_runs(self, sql: str) -> str:
        """The statement as the engine gives it to DuckDB: times in it keep their nanoseconds."""
        checked = judge(Parser(self.database.connection).parse(sql), tables=CATALOG.tables, view_sets=CATALOG.view_sets)
        text = Parameters(self.database.connection, checked).prepared(Declared()).text
        self.database.use_functions(text)
        return text

    def answer(self, sql: str, needed: dict[str, str]) -> list[str]:
        for view, file in self.files.items():
            text = f"SELECT * FROM read_parquet('{file}') WHERE {needed.get(view, 'true')}"
            if self._views.get(view) != text:
                self.database.connection.execute(f"CREATE OR REPLACE VIEW {view} AS {text}")
                self._views[view] = text
        return sorted(map(repr, self.database.connection.execute(sql).fetchall()))


@pytest.fixture(scope="module")
def engine() -> Iterator[QueryEngine]:
    engine = QueryEngine()
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    folder = tmp_path_factory.mktemp("pruning")
    tables = {
        "log_entries": log_rows(COUNT, seed=3),
        relation_name("log_entries", PROCESS): log_rows(COUNT // 2, seed=5, begin_ns=T0 + 7 * SECOND + 400),
        relation_name("thread_spans", STREAM): span_rows(COUNT, seed=4),
        relation_name("thread_spans", OTHER_STREAM): span_rows(COUNT // 2, seed=6, begin_ns=T0 + 500),
        "blocks": block_rows(COUNT // 2),
    }
    database = Database(DEFAULT_LIMITS)
    for name, table in tables.items():
        pq.write_table(table, folder / f"{name}.parquet", row_group_size=8, store_schema=False)
    yield Lake(database, {name: folder / f"{name}.parquet" for name in tables})
    database.close()


def block_rows(count: int) -> Any:
    """Blocks that came late, in any order, some before they ended; what the catalog declares besides is null."""
    chance = random.Random(7)
    begins = [T0 + chance.randrange(COUNT) * SECOND for _ in range(count)]
    values = {
        "process_id": [f"p{chance.randrange(3)}" for _ in begins],
        "stream_id": [f"s{chance.randrange(4)}" for _ in begins],
        "nb_objects": [chance.randrange(9) for _ in begins],
        "begin_time": begins,
        "end_time": [begin + chance.randrange(9) * SECOND for begin in begins],
        "insert_time": [begin + chance.randrange(-9, 9) * SECOND for begin in begins],
    }
    schema = CATALOG.tables["blocks"].schema
    columns = [pa.array(values.get(column.name, [None] * count), column.type) for column in schema]
    return pa.table(columns, names=schema.names)


def view_of(reference: Reference) -> str:
    if reference.relation != "view_instance":
        return reference.relation
    return relation_name(reference.view_set, str(reference.instance))


def needed(reference: Reference) -> str:
    """Exactly the rows that a reference asks for: less than any real pruning keeps."""
    declared = CATALOG.view_sets[reference.view_set]
    terms = []
    if reference.range.end_ns is not None:
        terms.append(f'"{declared.begin_column}" <= make_timestamp_ns({reference.range.end_ns})')
    if reference.range.begin_ns is not None:
        terms.append(f'"{declared.end_column}" >= make_timestamp_ns({reference.range.begin_ns})')
    for column, values in reference.equals.items():
        terms.append(f"{column} IN ({', '.join(repr(value) for value in values) or 'NULL'})")
    if reference.range.is_empty:
        terms.append("false")
    return " AND ".join(terms) or "true"


def test_pruning_by_the_bounds_never_changes_a_result(engine: QueryEngine, lake: Lake) -> None:
    print(f"seed {SEED}")
    chance = random.Random(SEED)
    moments = [T0 + second * SECOND for second in range(-3, COUNT + 3)]
    make = StatementMaker(chance, BASES, moments, ("p0", "p1", "p2", "net", "disk", "line 3", "span 1", "s1"))
    answered = bounded = told = 0
    for number in range(STATEMENTS):
        sql = make.statement()
        now_ns = T0 + chance.randrange(4) * 13 * SECOND
        lake.database.set_now(now_ns)
        try:
            text = lake.text_that_runs(sql)
            whole = lake.answer(text, {})
        except (duckdb.Error, LakeflightError):
            continue
        references = engine.inspect(sql, None, CATALOG, now_ns=now_ns).references
        filters = {view_of(reference): needed(reference) for reference in references}

        pruned = lake.answer(text, filters)

        assert pruned == whole, f"statement {number} of seed {SEED}, at {now_ns}: {sql}\n{filters}"
        is_bounded = any(condition != "true" for condition in filters.values())
        answered += 1
        bounded += is_bounded
        told += is_bounded and bool(whole)
    print(f"{answered} statements, {bounded} with a bound, {told} of them with rows")
    assert answered >= 0.95 * STATEMENTS
    assert bounded >= 0.25 * STATEMENTS
    assert told >= 0.1 * STATEMENTS
