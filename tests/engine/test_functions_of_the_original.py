"""Functions of the original's dialect, held against Python's own: formats of times, hashes, patterns, lists."""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from lakehouse.engine.engine import QueryEngine
from lakehouse.errors import LakeflightError
from tests.support.engine_lake import EngineLake


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
