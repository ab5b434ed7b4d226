"""Expressions that the engine of the original takes too: the same answer, a refusal, or a difference that is written down.

``expressions.json`` has what DataFusion 55 (from PyPI) answers: times in nanoseconds since 1970, bytes in hex.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pytest

from lakehouse.engine.engine import QueryEngine
from lakehouse.errors import LakeflightError
from tests.support.engine_lake import EngineLake

THERE: Final[dict[str, Any]] = json.loads(Path(__file__).with_name("expressions.json").read_text(encoding="utf-8"))
# What docs/compatibility.md says is another value here, and the value.
DIFFERENT: Final[dict[str, Any]] = {
    "trunc(7) / 2": 3,
    "CAST(TIMESTAMP '2024-01-07T01:02:03.456789123' AS VARCHAR)": "2024-01-07 01:02:03.456789123",
    "CAST(1e20 AS VARCHAR)": "1e+20",
    "CAST(CAST(1e-7 AS DOUBLE) AS VARCHAR)": "1e-07",
    "CAST(CAST('nan' AS DOUBLE) AS VARCHAR)": "nan",
    "CAST(2.6 AS BIGINT)": 3,
    "CAST(CAST(2.6 AS DOUBLE) AS BIGINT)": 3,
    "upper('straße')": "STRAẞE",
    "arrow_typeof(now())": 'Timestamp(Nanosecond, Some("UTC"))',
    "arrow_typeof(1)": "Int32",
    "(SELECT corr(x, y) FROM (VALUES (1.0,2.0),(1.0,2.5)) t(x, y))": math.nan,
}
# Of these the refusal says what to write.
REFUSED: Final = {
    "substr('alphabet', -3)": "right(text, n) is its end",
    "substr('alphabet', -3, 5)": "right(text, n) is its end",
    "substring('alphabet' from -1 for 3)": "right(text, n) is its end",
    "'an error here' similar to 'error'": "regexp_like(text, pattern)",
    "5 ^ 3": "write power(a, b) or xor(a, b)",
    "'100%' like '100\\%'": "write ESCAPE '' or ESCAPE '\\\\'",
    "'100x' like '100\\%'": "write ESCAPE '' or ESCAPE '\\\\'",
    "'C:\\dir' like 'C:\\dir'": "write ESCAPE '' or ESCAPE '\\\\'",
    "'a_b' like 'a\\_b'": "write ESCAPE '' or ESCAPE '\\\\'",
    "'a\\b' like 'a\\\\b'": "write ESCAPE '' or ESCAPE '\\\\'",
    "'a%' ilike 'A\\%'": "write ESCAPE '' or ESCAPE '\\\\'",
}
NOT_THERE: Final = frozenset(
    {
        "regexp_count('aBab', 'AB', 1, 'i')",
        "levenshtein('é', 'e')",
        "levenshtein('kitten', 'sitting')",
        "array_to_string(make_array(1, NULL, 2), ',', '*')",
        "array_positions(make_array(1, 2, 1), 1)",
        "array_remove_all(make_array(1,2,1), 1)",
        "array_replace(make_array(1,2,1), 1, 5)",
        "array_ndims(make_array(1))",
        "empty(make_array(1))",
        "string_to_array('a,*,b', ',', '*')",
        "date_part('nanosecond', TIMESTAMP '2024-01-07T01:02:03.456789123')",
        "to_timestamp_millis('2024-01-07T01:02:03.456789123')",
        "to_date('2024-01-07')",
        "octet_length('é')",
        "lpad('x', 3)",
        "lpad('x', 3, 'ab')",
        "rpad('xyz', 2, 'ab')",
        "1 / 0.0",
        "2147483647 + 1",
        "(SELECT nth_value(x, 2) FROM (VALUES (1),(2)) t(x))",
    }
)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineLake]:
    engine = QueryEngine()
    yield EngineLake(Path(tmp_path_factory.mktemp("lake")), engine)
    engine.close()


def answers(lake: EngineLake, *expressions: str) -> list[Any]:
    listed = ", ".join(f"{expression} AS v{place}" for place, expression in enumerate(expressions))
    return [_plain(column) for column in lake.table(f"SELECT {listed}").columns]


def answer(lake: EngineLake, expression: str) -> Any:
    return answers(lake, expression)[0]


def _plain(column: Any) -> Any:
    if pa.types.is_timestamp(column.type):
        return [str(column.cast(pa.int64())[0].as_py())]
    value = column[0].as_py()
    if isinstance(value, bytes):
        return value.hex()
    return float(value) if isinstance(value, Decimal) else json.loads(json.dumps(value, default=str))


def batched(items: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for begin in range(0, len(items), size):
        yield items[begin : begin + size]


def is_same(one: Any, other: Any) -> bool:
    if isinstance(one, (int, float)) and isinstance(other, (int, float)):
        return math.isclose(one, other) or (math.isnan(one) and math.isnan(other))
    return bool(one == other)


def test_an_expression_of_the_original_is_what_it_is_there_or_is_refused(lake: EngineLake) -> None:
    answered = [expression for expression in THERE if expression not in NOT_THERE | REFUSED.keys()]
    here = [one for batch in batched(answered, 40) for one in answers(lake, *batch)]

    assert [
        (expression, THERE[expression], one)
        for expression, one in zip(answered, here, strict=True)
        if not is_same(one, DIFFERENT.get(expression, THERE[expression]))
    ] == []


@pytest.mark.parametrize("expression", sorted(NOT_THERE))
def test_what_is_not_there_is_refused(lake: EngineLake, expression: str) -> None:
    with pytest.raises(LakeflightError):
        answer(lake, expression)


def test_a_difference_that_is_written_down_is_one() -> None:
    assert all(not is_same(THERE[expression], here) for expression, here in DIFFERENT.items())


@pytest.mark.parametrize(("expression", "hint"), REFUSED.items())
def test_what_could_be_meant_in_two_ways_is_refused_with_what_to_write(
    lake: EngineLake, expression: str, hint: str
) -> None:
    with pytest.raises(LakeflightError) as refusal:
        answer(lake, expression)

    assert hint.replace("\\\\", "\\") in str(refusal.value)


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("'100%' LIKE '100\\%' ESCAPE '\\'", True),
        ("'1\\' LIKE '1\\' ESCAPE ''", True),
        ("power(5, 3)", 125),
        ("xor(5, 3)", 6),
        ("regexp_full_match('an error', 'error')", False),
        ("regexp_like('an error', 'error')", True),
    ],
)
def test_what_the_hints_say_is_taken(lake: EngineLake, expression: str, value: Any) -> None:
    assert answer(lake, expression) == value


def test_groups_and_flags_of_a_replacement_may_come_from_rows(lake: EngineLake) -> None:
    rows = lake.rows(
        "SELECT regexp_replace(t, p, r, 'gi') AS v FROM (VALUES ('abAB', '(b)', '<$1>'), ('x', 'X', '$$')) v(t, p, r)"
    )

    assert [row["v"] for row in rows] == ["a<b>A<B>", "$"]


@pytest.mark.parametrize("replacement", ["$name", "$1x", "${name}"])
def test_a_group_by_a_name_is_refused(lake: EngineLake, replacement: str) -> None:
    with pytest.raises(LakeflightError, match=r"groups are called by number here: \\1, \$1 or \$\{1\}"):
        answer(lake, f"regexp_replace('a', '(a)', '{replacement}')")


def test_what_is_no_number_is_a_constant_like_others(lake: EngineLake) -> None:
    assert answer(lake, "isnan(CAST('nan' AS DOUBLE))") is True
    assert answer(lake, "CAST('nan' AS DOUBLE) > date_part('year', now())") is True
    assert answer(lake, "length('\"value\":NAN ' || CAST(-CAST('nan' AS DOUBLE) AS VARCHAR))") in (15, 16)


@pytest.mark.parametrize("kind", ["TIMESTAMP", "DATETIME", "TIMESTAMPTZ", "TIMESTAMP WITH TIME ZONE", "TIMESTAMP_NS"])
@pytest.mark.parametrize("form", ["{0} '{1}'", "CAST('{1}' AS {0})", "'{1}'::{0}"])
def test_a_literal_time_keeps_its_nanoseconds(lake: EngineLake, kind: str, form: str) -> None:
    if form.startswith("{0}") and kind == "DATETIME":
        kind = "TIMESTAMP"
    literal = form.format(kind, "2024-01-07 01:02:03.456789123")

    assert answer(lake, literal) == ["1704589323456789123"]
    assert answer(lake, f"CAST({literal} AS VARCHAR)")[:29] == "2024-01-07 01:02:03.456789123"


def test_a_time_is_found_by_a_literal_to_the_nanosecond(lake: EngineLake) -> None:
    rows = "(SELECT make_timestamp_ns(1704589323456789123) AS t)"

    found = [
        lake.rows(f"SELECT count(*) AS n FROM {rows} WHERE t {sign} TIMESTAMP '2024-01-07T01:02:03.456789{digits}'")
        for sign, digits in [("=", "123"), ("<", "123"), (">=", "123"), (">", "122")]
    ]

    assert [n for (row,) in found for n in row.values()] == [1, 0, 1, 1]
