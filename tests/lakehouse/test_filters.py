"""Which texts a file may have: what its filter rules out is not in it, and what it rules out need not be opened."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from benchmarks.history import History
from lakehouse.filters import ASKED_MAX, BITS_BYTES_MAX, COLUMNS, VALUES_MAX, ValueFilter, asked, filter_of
from lakehouse.model import EVERYTHING, GLOBAL_INSTANCE
from lakehouse.parquet import write_file
from tests.support.fixtures import Request
from tests.support.materializer_lake import Lake
from views.log_entries import LogEntries

LOGS = LogEntries()


@pytest.mark.parametrize("size", [0, 1, 7, 100, 800, VALUES_MAX])
def test_a_filter_has_all_that_was_put_in_and_little_else(size: int) -> None:
    random = Random(size)
    values = {str(random.random()) for _ in range(size)}

    known = filter_of({"name": values})

    assert known is not None and len(known.bits) <= BITS_BYTES_MAX
    assert all(known.may_hold("name", [value]) for value in values)
    others = [str(random.random()) for _ in range(2_000)]
    assert sum(known.may_hold("name", [other]) for other in others) < 0.2 * len(others)


def test_a_column_with_too_many_values_may_have_any() -> None:
    known = filter_of({"name": {str(n) for n in range(VALUES_MAX)}, "target": {"here"}})

    assert known is not None and known.columns == ("target",)
    assert known.may_hold("name", ["anything"])
    assert known.may_hold("target", ["there", "here"]) and not known.may_hold("target", ["there"])


def test_a_value_is_of_its_column() -> None:
    known = filter_of({"name": {"a"}, "target": {"b"}})

    assert known is not None
    assert not known.may_hold("name", ["b"]) and not known.may_hold("target", ["a"])


def test_files_are_asked_for_what_filters_can_know() -> None:
    many = tuple(str(n) for n in range(ASKED_MAX + 1))

    assert asked({"name": ("a",), "msg": ("b",), "target": many, "process_id": ()}) == {"name": ("a",)}


@pytest.mark.parametrize("bits", [b"", bytes(9), bytes(2 * BITS_BYTES_MAX)])
def test_what_is_no_filter_is_refused(bits: bytes) -> None:
    with pytest.raises(ValueError, match="bytes"):
        ValueFilter(("name",), bits)


def test_a_file_is_written_with_the_filter_of_its_columns(tmp_path: Path) -> None:
    schema = pa.schema(
        [("time", pa.timestamp("ns")), ("name", pa.string()), ("target", pa.string()), ("msg", pa.string())]
    )
    names = [None if n % 10 == 0 else f"name{n % 7}" for n in range(1_000)]
    table = pa.table(
        [pa.array(range(1_000), pa.timestamp("ns")), names, [f"target{n}" for n in range(1_000)], names], schema=schema
    )
    encoded = table.set_column(1, "name", table.column("name").dictionary_encode())

    summary = write_file(tmp_path / "file", schema, encoded.to_batches(max_chunksize=300), "time", "time")

    known = summary.filter
    assert known is not None and set(known.columns) == {"name", "target"} <= set(COLUMNS)
    assert all(known.may_hold("name", [f"name{n}"]) for n in range(7)) and not known.may_hold("name", ["name7"])
    assert all(known.may_hold("target", [f"target{n}"]) for n in range(1_000))


async def test_rows_are_the_same_with_and_without_filters_and_fewer_files_are_opened(lake: Lake) -> None:
    begins = datetime(2026, 3, 1, tzinfo=UTC)
    fleet = History("filtered", 6, 3, timedelta(minutes=50), begins, begins + timedelta(days=1), lines=6)
    blocks = await lake.send([Request(path, {}, body) for path, body in fleet.requests()])
    await lake.spread(blocks)
    materializer = lake.materializer()
    async with materializer.ensure_local(LOGS, GLOBAL_INSTANCE, EVERYTHING) as all_of_it:
        files = len(all_of_it.paths)
        everything = pa.concat_tables([pq.read_table(path) for path in all_of_it.paths.values()])
    random = Random(3)
    opened = []

    for _ in range(12):
        values = {"process_id": random.sample([fleet.process_id(n) for n in range(fleet.processes)], 2)}
        if random.random() < 0.5:
            values["target"] = [f"game::net{random.randrange(8)}"]
        async with materializer.ensure_local(LOGS, GLOBAL_INSTANCE, EVERYTHING, values=values) as local:
            opened.append(len(local.paths))
            table = pa.concat_tables([pq.read_table(path) for path in local.paths.values()] or [everything.slice(0, 0)])
        assert _sorted(_those(table, values)) == _sorted(_those(everything, values))

    assert files == len(blocks)
    assert max(opened) <= 2 * fleet.blocks + 1 and min(opened) < fleet.blocks


def _those(table: pa.Table, values: dict[str, list[str]]) -> pa.Table:
    for column, texts in values.items():
        table = table.filter(pc.is_in(table.column(column), pa.array(texts)))
    return table


def _sorted(table: pa.Table) -> list[str]:
    whole = table.set_column(table.schema.get_field_index("time"), "time", table.column("time").cast(pa.int64()))
    return sorted(map(str, whole.to_pylist()))
