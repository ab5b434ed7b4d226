"""What does not fit in a statement's memory: it goes to disk, and comes back as it was."""

from __future__ import annotations

from pathlib import Path

import pytest

from lakehouse.engine import EngineCatalog, EngineLimits
from lakehouse.engine.engine import QueryEngine
from lakehouse.errors import LimitExceededError

MEMORY_BYTES = 64 << 20
ROWS = 800_000
WIDE = f"(SELECT i, repeat('x', 90) || i AS text, hash(i) AS chance FROM range({ROWS}) r(i))"
SORT = f"SELECT i, text FROM {WIDE} ORDER BY chance"
LARGER = {
    "aggregate": (
        f"SELECT count(*), sum(n), max(t) FROM (SELECT text, count(*) AS n, max(i) AS t FROM {WIDE} GROUP BY text)",
        (ROWS, ROWS, ROWS - 1),
    ),
    "distinct": (
        f"SELECT count(*), min(length(text)), max(length(text)) FROM (SELECT DISTINCT text FROM {WIDE})",
        (ROWS, 91, 96),
    ),
    "join": (
        f"SELECT count(*), sum(a.i), max(b.i) FROM {WIDE} a JOIN {WIDE} b USING (text)",
        (ROWS, ROWS * (ROWS - 1) // 2, ROWS - 1),
    ),
}


def engine(folder: Path | str, spill_bytes_max: int = 4 << 30) -> QueryEngine:
    return QueryEngine(
        EngineLimits(memory_bytes_max=MEMORY_BYTES, spill_folder=str(folder), spill_bytes_max=spill_bytes_max)
    )


def rows_of(engine: QueryEngine, sql: str) -> list[tuple[object, ...]]:
    with engine.run(sql, (), [], catalog=EngineCatalog({}, {}), identity="me") as reader:
        return [tuple(row.values()) for batch in reader for row in batch.to_pylist()]


def files_in(folder: Path) -> list[str]:
    return [str(path) for path in folder.rglob("*.tmp")]


@pytest.mark.parametrize("kind", LARGER)
def test_what_is_larger_than_memory_has_the_right_rows(kind: str, tmp_path: Path) -> None:
    sql, expected = LARGER[kind]

    assert rows_of(engine(tmp_path / "files"), sql) == [expected]
    assert files_in(tmp_path) == []
    with pytest.raises(LimitExceededError, match="needs more memory than one statement may use"):
        rows_of(engine(""), sql)


def test_a_sort_that_is_larger_than_memory_is_in_order(tmp_path: Path) -> None:
    sorting = engine(tmp_path / "files")
    sql = f"SELECT i, hash(i) AS chance, repeat('x', 90) || i AS text FROM range({ROWS}) r(i) ORDER BY chance"
    seen, total, last, spilled = 0, 0, -1, False

    with sorting.run(sql, (), [], catalog=EngineCatalog({}, {}), identity="me") as reader:
        for batch in reader:
            chances = batch.column("chance").to_pylist()
            assert chances[0] >= last
            assert chances == sorted(chances)
            last, seen = chances[-1], seen + len(chances)
            total += sum(batch.column("i").to_pylist())
            spilled = spilled or bool(files_in(tmp_path))

    assert (seen, total) == (ROWS, ROWS * (ROWS - 1) // 2)
    assert spilled
    assert files_in(tmp_path) == []


def test_a_reader_that_gives_up_leaves_no_file(tmp_path: Path) -> None:
    reader = engine(tmp_path / "files").run(SORT, (), [], catalog=EngineCatalog({}, {}), identity="me")
    next(iter(reader))
    assert files_in(tmp_path)

    reader.close()

    assert files_in(tmp_path) == []


def test_what_is_larger_than_the_disk_it_may_use_is_refused_with_what_to_do(tmp_path: Path) -> None:
    small = engine(tmp_path / "files", spill_bytes_max=32 << 20)

    with pytest.raises(LimitExceededError, match=r"more than the 32\.0 MiB of disk that one may use: select less, or"):
        rows_of(small, LARGER["join"][0])

    assert files_in(tmp_path) == []
    assert rows_of(small, "SELECT 42") == [(42,)]
