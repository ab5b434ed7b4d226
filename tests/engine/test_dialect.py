"""What only the original's dialect says, in the engine: the same as the engine's own where that has an answer, exact where not."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from lakehouse.engine.engine import QueryEngine
from lakehouse.errors import LakeflightError
from tests.support.engine_lake import EngineLake

NS = 1_000_000_000
VALUES = (
    *("1::TINYINT", "2::SMALLINT", "3", "9223372036854775807", "4::HUGEINT", "5::UTINYINT", "6::USMALLINT", "7::UINTEGER"),
    *("8::UBIGINT", "2.5", "-2.5", "3.5::DOUBLE", "-0.5::FLOAT", "'77'", "true", "NULL", "NULL::VARCHAR", "'12'::JSON"),
)  # fmt: skip


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineLake]:
    engine = QueryEngine()
    yield EngineLake(Path(tmp_path_factory.mktemp("lake")), engine)
    engine.close()


@pytest.mark.parametrize("value", VALUES)
def test_a_cast_of_a_column_of_any_type_is_the_engines_own(lake: EngineLake, value: str) -> None:
    """Whatever is no time is cast as if nothing had been said in other words: in a row, and of an aggregate."""
    (row,) = lake.rows(
        f"SELECT CAST({value} AS BIGINT) AS own, CAST(x AS BIGINT) AS plain, CAST(any_value(x) AS BIGINT) AS counted,"
        f" TRY_CAST(x AS BIGINT) AS tried FROM (SELECT {value} AS x) GROUP BY x"
    )

    assert row["plain"] == row["counted"] == row["tried"] == row["own"]


@pytest.mark.parametrize("value", ["'x'", "1e30", "[1]"])
def test_what_the_engine_cannot_cast_stays_an_error(lake: EngineLake, value: str) -> None:
    with pytest.raises(LakeflightError):
        lake.rows(f"SELECT CAST(x AS BIGINT) FROM (SELECT {value} AS x)")


@pytest.mark.parametrize("kind", ["TIMESTAMP_NS", "TIMESTAMP", "TIMESTAMP_MS", "TIMESTAMP_S"])
def test_times_and_their_differences_are_nanoseconds(lake: EngineLake, kind: str) -> None:
    (row,) = lake.rows(
        "SELECT CAST(t AS BIGINT) AS t, CAST(t - b AS BIGINT) AS d, CAST(max(t) - min(b) AS BIGINT) AS m, arrow_cast(t - b, 'Int64') AS a"
        f" FROM (SELECT {kind} '2026-01-01 00:00:01' AS t, TIMESTAMP_NS '2025-12-31 23:59:59.000000001' AS b) GROUP BY t, b"
    )

    assert row == {"t": 1_767_225_601 * NS, "d": 2 * NS - 1, "m": 2 * NS - 1, "a": 2 * NS - 1}


def test_bins_are_those_of_a_slow_model_to_the_nanosecond(lake: EngineLake) -> None:
    chance = random.Random("bins")
    for _ in range(20):
        width = chance.choice((1_000, 250_000_000, NS, 10 * NS, 3_600 * NS, 7 * 86_400 * NS))
        origin = chance.choice((0, chance.randrange(-10 * NS, 10**18)))
        moments = [chance.randrange(-(2**62), 2**62) for _ in range(20)]
        listed = ", ".join(map(str, moments))

        rows = lake.rows(
            f"SELECT epoch_ns(date_bin(INTERVAL '{width // 1_000} microseconds', make_timestamp_ns(n), make_timestamp_ns({origin}))) AS bin"
            f" FROM (SELECT unnest([{listed}]) AS n)"
        )

        assert [row["bin"] for row in rows] == [n - (n - origin) % width for n in moments]


def test_bins_of_months_begin_with_a_month(lake: EngineLake) -> None:
    rows = lake.rows(
        "SELECT CAST(date_bin('3 months', t) AS VARCHAR) AS bin, CAST(date_bin('1 year', t) AS VARCHAR) AS y"
        " FROM (SELECT make_timestamp_ns(n) AS t FROM (SELECT unnest([-1, 0, 1767225599999999999, 1767225600000000000]) AS n))"
    )

    assert [row["bin"][:10] for row in rows] == ["1969-10-01", "1970-01-01", "2025-10-01", "2026-01-01"]
    assert [row["y"][:10] for row in rows] == ["1969-01-01", "1970-01-01", "2025-01-01", "2026-01-01"]


def test_an_ordered_percentile_is_found_outside_of_texts_and_comments(lake: EngineLake) -> None:
    (row,) = lake.rows(
        """
        SELECT 'é approx_percentile_cont(0.1) WITHIN GROUP (ORDER BY x)' AS text, -- approx_percentile_cont(1) WITHIN GROUP (
            approx_percentile_cont ( 0.5 ) /* ) */ within group (order by (x + length(')') - 1)) AS p
        FROM (VALUES (1), (2), (3)) t(x)
        """
    )

    assert row == {"text": "é approx_percentile_cont(0.1) WITHIN GROUP (ORDER BY x)", "p": 2}


@pytest.mark.parametrize(
    "opened", ["approx_percentile_cont(0.5) WITHIN GROUP (ORDER BY", "approx_percentile_cont(0.5) WITHIN GROUP ()"]
)
def test_an_ordered_percentile_that_is_not_closed_is_a_syntax_error(lake: EngineLake, opened: str) -> None:
    with pytest.raises(LakeflightError, match=r"syntax error|Unknown ordered aggregate"):
        lake.rows(f"SELECT {opened} FROM (SELECT 1 AS x)")


def test_documents_of_pairs_are_objects_to_every_function_of_documents(lake: EngineLake) -> None:
    pairs = "[{'key': 'b', 'value': '2'}, {'key': 'a', 'value': 'x'}]"
    (row,) = lake.rows(
        f"SELECT jsonb_format_json(p) AS f, jsonb_get(p, 'A') AS g, jsonb_object_keys(p) AS k, jsonb_path_query(p, '$.b') AS q,"
        f" jsonb_path_query_first(p, '$.b') AS q1, jsonb_format_json(any_value(p)) AS any FROM (SELECT {pairs} AS p) GROUP BY p"
    )

    assert row == {
        "f": '{"a":"x","b":"2"}',
        "g": '"x"',
        "k": ["a", "b"],
        "q": '["2"]',
        "q1": '"2"',
        "any": '{"a":"x","b":"2"}',
    }


def test_columns_keep_the_names_of_the_statement(lake: EngineLake) -> None:
    (row,) = lake.rows(
        "SELECT CAST(x AS BIGINT), arrow_cast(x, 'Utf8'), first_value(x) FROM (SELECT 1 AS x) GROUP BY x"
    )

    assert list(row) == ["CAST(x AS BIGINT)", "arrow_cast(x, 'Utf8')", "first_value(x)"]
