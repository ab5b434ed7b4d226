"""``get_payload``: payloads of the rows that a statement computes, fetched by whoever runs it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from lakehouse.engine import payloads
from lakehouse.engine.engine import QueryEngine
from lakehouse.errors import LimitExceededError, QueryError, UnknownViewError
from tests.support.engine_lake import CATALOG

BLOCKS = "(SELECT 'p' AS p, 's' AS s, 'b' || i % 3 AS b FROM range({rows}) t(i))"


@pytest.fixture(scope="module")
def engine() -> Iterator[QueryEngine]:
    made = QueryEngine()
    yield made
    made.close()


class Files:
    """Payloads that say whose they are; remembers who asked."""

    def __init__(self, folder: Path) -> None:
        self.asked: list[list[tuple[str, str, str]]] = []
        self._folder = folder

    def __call__(self, blocks: Sequence[tuple[str, str, str]]) -> list[str]:
        self.asked.append(list(blocks))
        paths = []
        for block in blocks:
            path = self._folder / "-".join(block)
            path.write_bytes("/".join(block).encode())
            paths.append(str(path))
        return paths


def rows(engine: QueryEngine, sql: str, fetch: Callable[[Sequence[Any]], Sequence[str]]) -> list[dict[str, Any]]:
    with engine.run(sql, (), [], catalog=CATALOG, identity="somebody", fetch=lambda _, rows: fetch(rows)) as reader:
        return list(pa.Table.from_batches(list(reader), schema=reader.schema).to_pylist())


def test_every_row_has_the_payload_of_its_block_and_each_is_fetched_once(engine: QueryEngine, tmp_path: Path) -> None:
    files = Files(tmp_path)

    found = rows(engine, f"SELECT b, get_payload(p, s, b) AS payload FROM {BLOCKS.format(rows=7)}", files)

    assert [row["payload"] for row in found] == [f"p/s/b{i % 3}".encode() for i in range(7)]
    assert files.asked == [[("p", "s", f"b{i}") for i in range(3)]]


def test_it_stands_wherever_an_expression_does(engine: QueryEngine, tmp_path: Path) -> None:
    sql = f"""
        SELECT max(octet_length(get_payload(p, s, b))) AS size FROM {BLOCKS.format(rows=9)}
        WHERE get_payload(p, s, b) <> 'p/s/b1'::BLOB
    """

    assert rows(engine, sql, Files(tmp_path)) == [{"size": 6}]


def test_without_an_id_there_is_no_payload(engine: QueryEngine, tmp_path: Path) -> None:
    files = Files(tmp_path)

    assert rows(engine, "SELECT get_payload('p', NULL, 'b') AS x", files) == [{"x": None}]
    assert files.asked in ([], [[]])


def test_only_rows_that_are_computed_are_fetched(engine: QueryEngine, tmp_path: Path) -> None:
    files = Files(tmp_path)
    blocks = "(SELECT 'p' AS p, 's' AS s, 'b' || i AS b FROM range(100000) t(i))"

    assert len(rows(engine, f"SELECT get_payload(p, s, b) AS x FROM {blocks} LIMIT 10", files)) == 10

    assert sum(map(len, files.asked)) == 10


def test_nothing_is_fetched_before_a_statement_runs(engine: QueryEngine, tmp_path: Path) -> None:
    sql = "SELECT get_payload('p', 's', 'b') AS x WHERE octet_length(get_payload('p', 's', 'c')) > 1"

    schema = pa.ipc.read_schema(pa.py_buffer(engine.inspect(sql, [], CATALOG).schema))
    files = Files(tmp_path)
    plan = rows(engine, f"EXPLAIN {sql}", files)

    assert schema == pa.schema([("x", pa.binary())])
    assert plan and files.asked == []


@pytest.mark.parametrize("error", [UnknownViewError("block b not found"), QueryError("'b' is not a valid block id")])
def test_what_the_fetching_side_says_is_what_the_user_reads(engine: QueryEngine, error: Exception) -> None:
    def fail(_: Sequence[Any]) -> Sequence[str]:
        raise error

    with pytest.raises(type(error), match=str(error)):
        rows(engine, "SELECT get_payload('p', 's', 'b')", fail)
    assert rows(engine, "SELECT 1 AS x", fail) == [{"x": 1}]


def test_payloads_of_one_vector_have_a_limit(
    engine: QueryEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(payloads, "BYTES_AT_ONCE_MAX", 17)
    sql = f"SELECT get_payload(p, s, b) AS x FROM {BLOCKS.format(rows=3)}"

    with pytest.raises(LimitExceededError, match=r"3 blocks take 18 bytes, the limit at once is 17: .* add a LIMIT"):
        rows(engine, sql, Files(tmp_path))
    assert len(rows(engine, f"{sql} LIMIT 2", Files(tmp_path))) == 2
