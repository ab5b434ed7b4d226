"""Whatever DuckDB says about a damaged file, in words of its own or of its decoders, is told apart from a wrong statement."""

from __future__ import annotations

import random
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakehouse.engine.translate import translate
from lakehouse.errors import InternalError, LakeflightError, QueryError, UnreadableFileError
from tests.support.damage import DAMAGES

ROWS = 5_000


def write(path: Path, seed: int) -> None:
    chance = random.Random(seed)
    table = pa.table(
        {
            "time": pa.array([chance.getrandbits(60) for _ in range(ROWS)], pa.timestamp("ns")),
            "msg": [f"line {chance.getrandbits(64)}" for _ in range(ROWS)],
            "level": pa.array([row % 6 for row in range(ROWS)], pa.int32()),
        }
    )
    pq.write_table(
        table,
        path,
        compression="zstd",
        use_dictionary=["level"],
        column_encoding={"time": "DELTA_BINARY_PACKED", "msg": "PLAIN"},
    )


def error_of_reading(path: Path) -> LakeflightError | None:
    with duckdb.connect() as connection:
        try:
            connection.execute(
                f"SELECT count(*), min(time), count(DISTINCT msg), sum(level) FROM read_parquet('{path}')"
            ).fetchall()
        except (duckdb.Error, UnicodeDecodeError) as error:
            return translate(error, [str(path)])
    return None


@pytest.mark.parametrize("kind", [kind for kind in DAMAGES if "another partition" not in kind])
def test_a_damaged_file_is_unreadable_and_no_fault_of_the_statement(tmp_path: Path, kind: str) -> None:
    path, other = tmp_path / "file.parquet", tmp_path / "other.parquet"
    write(path, 1)
    write(other, 2)
    DAMAGES[kind](path, other)

    error = error_of_reading(path)

    assert isinstance(error, UnreadableFileError)
    assert str(tmp_path) not in str(error)


def test_what_was_overwritten_anywhere_is_unreadable_and_no_fault_of_the_statement(tmp_path: Path) -> None:
    whole, path = tmp_path / "whole.parquet", tmp_path / "file.parquet"
    write(whole, 1)
    content = whole.read_bytes()
    chance = random.Random(7)
    found = []
    for _ in range(150):
        damaged = bytearray(content)
        begin, length = chance.randrange(len(content)), chance.choice([1, 16, 512])
        damaged[begin : begin + length] = chance.choice([bytes(length), chance.randbytes(length)])
        path.write_bytes(damaged[: len(content)])
        error = error_of_reading(path)
        if error is not None:
            found.append(error)

    assert len(found) > 50
    assert [error for error in found if not isinstance(error, (UnreadableFileError, InternalError))] == []


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 'x'::INT",
        "SELECT error('No magic bytes found')",
        "SELECT 1 / 0",
        "SELECT nothing",
        "SELECT '2020'::DATE - 'x'",
    ],
)
def test_a_fault_of_the_statement_is_none_of_a_file(sql: str) -> None:
    with duckdb.connect() as connection, pytest.raises(duckdb.Error) as raised:
        connection.execute("SET ieee_floating_point_ops = false")
        connection.execute(sql).fetchall()

    assert type(translate(raised.value, ["/store/file.parquet"])) is QueryError
