"""Functions of the original's dialect, held against Python's own: formats of times, hashes, patterns, lists."""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from lakehouse.engine.engine import QueryEngine
from lakehouse.errors import LakeflightError, LimitExceededError
from tests.support.engine_lake import CATALOG, EngineLake


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineLake]:
    engine = QueryEngine()
    yield EngineLake(Path(tmp_path_factory.mktemp("lake")), engine)
    engine.close()


def values(lake: EngineLake, sql: str) -> list[Any]:
    return [next(iter(row.values())) for row in lake.rows(sql)]


def test_times_are_written_as_python_writes_them_and_nanoseconds_are_kept(lake: EngineLake) -> None:
    chance = random.Random(7)
    times = [chance.randrange(-(10**18), 4 * 10**18) for _ in range(200)] + [-1, 0, 999_999_999]
    rows = ", ".join(f"({time})" for time in times)
    said = values(
        lake,
        f"SELECT to_char(make_timestamp_ns(n), '%Y-%m-%d %T%.9f|%3f|%6f|%j %b %y %I %p') AS s FROM (VALUES {rows}) t(n)",
    )

    whole = values(lake, f"SELECT date_format(make_timestamp_ns(n), '%F %T') AS s FROM (VALUES {rows}) t(n)")
    assert whole == [one.partition(".")[0] for one in said]

    def expected(time: int) -> str:
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=time // 10**9)
        rest = time % 10**9
        return f"{moment:%Y-%m-%d %H:%M:%S}.{rest:09d}|{rest // 10**6:03d}|{rest // 10**3:06d}|{moment:%j %b %y %I %p}"

    assert said == [expected(time) for time in times]


@pytest.mark.parametrize("name", ["md5", "sha224", "sha256", "sha384", "sha512", "blake2b", "blake2s"])
def test_hashes_are_those_of_bytes_and_of_texts_in_utf8(lake: EngineLake, name: str) -> None:
    texts = ["", "abc", "ä\\x41", "🦆" * 50, "abc"]
    listed = ", ".join(f"('{text}')" for text in texts)

    said = values(lake, f"SELECT encode(digest(x, '{name}'), 'hex') AS h FROM (VALUES {listed}, (NULL)) t(x)")

    assert said == [hashlib.new(name, text.encode()).hexdigest() for text in texts] + [None]
    assert values(lake, f"SELECT encode(digest(unhex('00ff'), '{name}'), 'hex') AS h") == [
        hashlib.new(name, b"\x00\xff").hexdigest()
    ]
    if name in ("sha224", "sha384", "sha512"):
        assert values(lake, f"SELECT {name}(x) AS h FROM (VALUES {listed}) t(x)") == [
            hashlib.new(name, text.encode()).digest() for text in texts
        ]


def test_an_algorithm_may_be_a_column(lake: EngineLake) -> None:
    said = values(lake, "SELECT encode(digest('x', a), 'hex') AS h FROM (VALUES ('md5'), ('SHA512'), ('md5')) t(a)")

    assert said == [hashlib.new(name, b"x").hexdigest() for name in ("md5", "sha512", "md5")]


@pytest.mark.parametrize(
    ("pattern", "flags"),
    [
        (r"(\d+) (\w+)", ""),
        (r"[0-9]+", ""),
        (r"T(O)(?:o+)k", "i"),
        (r"[(|](.)", ""),
        (r"\((.)\|", ""),
        (r"(?P<word>[a-z]+)\s(?P<rest>.*)", ""),
        (r"((a)(b))", ""),
        (r"^b", "m"),
        (r"x.y", "s"),
    ],
)
def test_the_groups_of_a_first_match_are_those_of_python(lake: EngineLake, pattern: str, flags: str) -> None:
    texts = ["took 12 ms", "TOoOk 7 s", "(|", "(x|)", "ab ab", "a\nb", "x\ny", "", "none"]
    listed = ", ".join(f"('{text}')" for text in texts)
    call = f"regexp_match(x, '{pattern}', '{flags}')" if flags else f"regexp_match(x, '{pattern}')"

    said = values(lake, f"SELECT {call} AS m FROM (VALUES {listed}) t(x)")

    compiled = re.compile(pattern, sum(getattr(re, flag.upper()) for flag in flags))
    found = [compiled.search(text) for text in texts]
    assert said == [None if match is None else list(match.groups()) or [match.group()] for match in found]


def test_lists_are_sets_in_their_own_order(lake: EngineLake) -> None:
    chance = random.Random(11)
    pairs = [[[chance.choice([1, 2, 3, 4, None]) for _ in range(chance.randrange(6))] for _ in "ab"] for _ in range(60)]
    listed = ", ".join(
        "(" + ", ".join(f"[{', '.join('NULL' if x is None else str(x) for x in part)}]::INT[]" for part in pair) + ")"
        for pair in pairs
    )

    said = lake.rows(f"SELECT array_union(a, b) AS u, array_except(a, b) AS e FROM (VALUES {listed}) t(a, b)")

    assert said == [
        {"u": list(dict.fromkeys(a + b)), "e": [x for x in dict.fromkeys(a) if x not in b]} for a, b in pairs
    ]


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("SELECT to_char(now(), '%Q')", "to_char: there is no %Q here; there are %Y"),
        ("SELECT to_char(now(), x) FROM (SELECT '%Y' AS x)", "a format as a literal"),
        ("SELECT regexp_match('b', '(a)|b')", "may be left out"),
        ("SELECT regexp_match('b', '(a)?b')", "may be left out"),
        ("SELECT regexp_match('b', '(a){0,1}b')", "may be left out"),
        ("SELECT regexp_match('b', x) FROM (SELECT 'b' AS x)", "a pattern as a literal"),
        ("SELECT regexp_match('b', 'b', 'g')", "knows the flags i, m and s, not 'g'"),
        ("SELECT digest('b', 'crc32')", "digest knows md5, sha224"),
        ("SELECT arrow_try_cast('b', 'Nothing')", "arrow_try_cast: there is no type for 'Nothing'"),
    ],
)
def test_what_has_no_exact_answer_is_refused(lake: EngineLake, sql: str, reason: str) -> None:
    with pytest.raises(LakeflightError, match=re.escape(reason)):
        lake.rows(sql)


_PAIRS = "[{'key': 'a', 'value': 'x'}, {'key': 'B', 'value': 'y'}]"
_TEXT = '{"a":"x","B":"y"}'


@pytest.mark.parametrize("properties", [_PAIRS, f"'{_TEXT}'"], ids=["pairs", "text"])
@pytest.mark.parametrize("taken", ["first(p)", "any_value(p ORDER BY n)", "max(p)", "first(p) FILTER (WHERE n > 0)"])
def test_properties_may_be_those_that_an_aggregate_has_taken(lake: EngineLake, properties: str, taken: str) -> None:
    rows = lake.rows(
        f"SELECT property_get({taken}, 'b') AS one, property_get({taken}, max(k)) AS other, properties_length({taken}) AS n,"
        f" properties_to_jsonb({taken}) AS j, properties_to_array({taken}) AS l"
        f" FROM (SELECT {properties} AS p, n, 'a' AS k FROM range(3) t(n))"
    )

    listed = [{"key": "a", "value": "x"}, {"key": "B", "value": "y"}]
    assert [{**row, "l": sorted(row["l"], key=lambda e: e["value"])} for row in rows] == [
        {"one": "y", "other": "x", "n": 2, "j": rows[0]["j"], "l": listed}
    ]
    assert json.loads(rows[0]["j"]) == json.loads(_TEXT)


def test_so_may_what_is_hashed_and_encoded(lake: EngineLake) -> None:
    (row,) = lake.rows(
        "SELECT encode(max(x), 'hex') AS text, encode(max(b), 'hex') AS bytes, encode(sha224(max(x)), 'hex') AS hash"
        " FROM (SELECT 'ä' AS x, unhex('ff') AS b FROM range(2))"
    )

    assert row == {"text": "c3a4", "bytes": "ff", "hash": hashlib.sha224("ä".encode()).hexdigest()}


def test_a_constant_that_is_too_large_is_called_so(lake: EngineLake) -> None:
    with pytest.raises(LimitExceededError, match="the constants of this statement take more than 33554432 characters"):
        lake.rows("SELECT length(repeat('x', 40000000)) AS n FROM log_entries")


def test_a_bin_of_a_time_bounds_what_is_read() -> None:
    engine = QueryEngine()
    day = 86400 * 10**9
    nested = "date_bin('1 minute', " * 6 + "time" + ")" * 6
    try:
        for sql, begin, end in (
            ("date_bin('1 minute', time) >= TIMESTAMP '1970-01-01 00:10:00'", 600 * 10**9, None),
            ("date_bin(INTERVAL '1 hour', time) = TIMESTAMP '1970-01-01 01:00:00'", 3600 * 10**9, 7200 * 10**9 - 1),
            ("date_bin('1 month', time) = TIMESTAMP '1970-02-01'", 31 * day, 59 * day - 1),
            ("date_bin(INTERVAL '3 months', time) < TIMESTAMP '1970-04-01'", None, (90 + 92) * day - 1),
            ("date_trunc('months', time) = TIMESTAMP '1970-02-01'", 31 * day, 59 * day - 1),
            ("date_trunc('decade', time) = TIMESTAMP '1970-01-01'", 0, 3652 * day - 1),
            (
                "time_bucket(INTERVAL 1 HOUR, time, TIMESTAMP '1970-01-01 00:30:00') = TIMESTAMP '1970-01-01 00:30:00'",
                1800 * 10**9,
                5400 * 10**9 - 1,
            ),
            (f"{nested} >= TIMESTAMP '1970-01-01 00:10:00'", 600 * 10**9, None),
            (
                "date_bin('1 minute', time, TIMESTAMP '1970-01-01 00:00:07') < TIMESTAMP '1970-01-01'",
                None,
                60 * 10**9 - 1,
            ),
        ):
            (reference,) = engine.inspect(f"SELECT msg FROM log_entries WHERE {sql}", [], CATALOG).references
            got = reference.range
            # Never later than the first that may be meant, nor earlier than the last, and not further than the longest part is longer.
            assert (got.begin_ns is None) == (begin is None) and (got.end_ns is None) == (end is None), sql
            assert begin is None or got.begin_ns is None or begin - 60 * 10**9 <= got.begin_ns <= begin, sql
            assert end is None or got.end_ns is None or end <= got.end_ns <= end + 4 * day, sql
    finally:
        engine.close()


_TYPES = {
    "TIMESTAMP_NS": 1,
    "TIMESTAMP": 10**3,
    "TIMESTAMP_MS": 10**6,
    "TIMESTAMP_S": 10**9,
    "TIMESTAMPTZ": 10**3,
    "DATE": 86400 * 10**9,
}
_SPECIFIERS = (*"abcdfghjmpuwxyzABGHIMSTUVWXYZ%", "-d", "-j", "-m", "-y", "-H", "-I", "-M", "-S")


def _written(moment: datetime, rest: int, specifier: str, kind: str) -> str:
    """What a specifier of strftime means, by Python's own and by its documentation where Python has another."""
    other = {
        "f": f"{rest // 1000:06d}",
        "g": f"{rest // 10**6:03d}",
        "c": f"{moment:%Y-%m-%d %H:%M:%S}",
        "x": f"{moment:%Y-%m-%d}",
        "z": "+00",
        "Z": "UTC" if kind == "TIMESTAMPTZ" else "",
        "%": "%",
    }
    return other[specifier] if specifier in other else moment.strftime(f"%{specifier}")


@pytest.mark.parametrize("kind", _TYPES)
def test_formats_of_strftime_are_those_of_an_independent_writer_for_every_type_of_time(
    lake: EngineLake, kind: str
) -> None:
    chance = random.Random(23)
    step = _TYPES[kind]
    times = [chance.randrange(-(10**18), 4 * 10**18) // step * step for _ in range(40)] + [0, -step]
    form = "|".join(f"%{specifier}" for specifier in _SPECIFIERS)
    made = f"CAST({'CAST(make_timestamp_ns(n) AS TIMESTAMP)' if kind == 'TIMESTAMPTZ' else 'make_timestamp_ns(n)'} AS {kind})"
    constants = [
        f"{kind} '{datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time // 1000):%Y-%m-%d %H:%M:%S.%f}'"
        for time in times[:8]
    ]

    of_columns = values(
        lake, f"SELECT strftime({made}, '{form}') AS s FROM (VALUES {', '.join(f'({time})' for time in times)}) t(n)"
    )
    of_constants = [values(lake, f"SELECT strftime({one}, '{form}') AS s")[0] for one in constants]

    def expected(time: int) -> str:
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=time // 10**9)
        return "|".join(_written(moment, time % 10**9, specifier, kind) for specifier in _SPECIFIERS)

    assert of_columns == [expected(time) for time in times]
    assert of_constants == [expected(time // 1000 * 1000) for time in times[:8]]


@pytest.mark.parametrize("kind", _TYPES)
@pytest.mark.parametrize(
    "call", ["strftime({}, '%n')", "strftime('%H %n', {})", "({}).strftime('%%%n')", "strftime({}, '%' || 'n')"]
)
def test_a_format_that_would_write_other_memory_is_refused(lake: EngineLake, kind: str, call: str) -> None:
    with pytest.raises(LakeflightError, match=r"to_char|string literal or a parameter"):
        lake.rows("SELECT " + call.format(f"CAST(now() AS {kind})") + " AS s")


def test_so_is_one_that_is_bound(lake: EngineLake) -> None:
    assert lake.rows("SELECT strftime(DATE '2026-01-02', ?) AS s", parameters=("%Y %%n",)) == [{"s": "2026 %n"}]
    with pytest.raises(LakeflightError, match="strftime has no %n"):
        lake.rows("SELECT strftime(now(), ?) AS s", parameters=("%n",))


def test_bins_in_each_other_name_what_they_are_made_of_once(lake: EngineLake) -> None:
    """Each used to double what is planned: six of them took seconds."""
    nested = "date_bin('1 second', " * 8 + "make_timestamp_ns(1500000000)" + ")" * 8

    assert lake.rows(f"SELECT epoch_ns({nested}) AS n") == [{"n": 10**9}]
