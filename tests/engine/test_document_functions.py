"""JSONB and property functions say of random documents what an obvious model says, and survive hostile ones."""

from __future__ import annotations

import json
import operator
import random
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from lakehouse.engine import DEFAULT_LIMITS
from lakehouse.engine.database import Database
from lakehouse.engine.engine import QueryEngine
from lakehouse.engine.functions import own_functions
from lakehouse.engine.json_paths import select_paths
from tests.support.engine_lake import EngineLake

TEXT = pa.string()
NAMES = ("name", "Name", "NAME", "0", "a.b", "a/b", "a~b", "", "ä", "Ä", "$x", 'q"q', "back\\slash", "*", "K")
WORDS = ("", "x", "null", "0", 'He said "hello"', "tab\there", "emoji 😀", "é", "[1]", " spaced ")


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    database = Database(DEFAULT_LIMITS)
    database.use_functions(" ".join(function.name for function in own_functions()))
    yield database
    database.close()


def answers(database: Database, call: str, rows: Sequence[tuple[Any, ...]], types: Any = TEXT) -> list[Any]:
    """What a call gives for each of the rows, whose columns are a, of a type, and b, of text."""
    columns = {name: [row[place] for row in rows] for place, name in enumerate("ab"[: len(rows[0])])}
    given = pa.table(
        {name: pa.array(column, types if name == "a" else pa.string()) for name, column in columns.items()}
    )
    database.connection.register("given", given)
    return [answer for (answer,) in database.connection.execute(f"SELECT {call} FROM given").fetchall()]


def document(chance: random.Random, depth: int = 3) -> Any:
    kind = chance.randrange(9 if depth else 7)
    if kind == 8:
        names = chance.sample(NAMES, chance.randrange(6))
        return {name: document(chance, depth - 1) for name in names}
    if kind == 7:
        return [document(chance, depth - 1) for _ in range(chance.randrange(4))]
    return (
        None,
        True,
        False,
        chance.choice(WORDS),
        chance.choice((0, 7, -1, 2**63 - 1, 2**63, 2**64 - 1, -(2**63))),
        chance.choice((2.5, 1000.0, -0.25, 1e300)),
        chance.choice(WORDS),
    )[kind]


def documents(seed: int, count: int = 400) -> list[Any]:
    chance = random.Random(seed)
    tops = [{name: document(chance) for name in chance.sample(NAMES, chance.randrange(8))} for _ in range(count // 2)]
    return tops + [document(chance) for _ in range(count - len(tops))]


def canonical(value: Any) -> str:
    """The model's own writer: compact, keys in the order of their bytes."""
    if isinstance(value, dict):
        members = sorted(value.items(), key=lambda member: member[0].encode())
        return "{" + ",".join(f"{canonical(key)}:{canonical(member)}" for key, member in members) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(canonical, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def lower(text: str) -> str:
    return "".join(chr(ord(letter) + 32) if "A" <= letter <= "Z" else letter for letter in text)


MISSING = object()


def member(value: Any, key: str) -> Any:
    if not isinstance(value, dict):
        return MISSING
    if key in value:
        return value[key]
    alike = sorted((name for name in value if lower(name) == lower(key)), key=str.encode)
    return value[alike[0]] if alike else MISSING


def as_json(value: Any) -> str | None:
    return None if value is MISSING else canonical(value)


def same_document(found: str | None, expected: str | None) -> bool:
    if found is None or expected is None:
        return found is expected
    return list(json.loads(f"[{found}]")) == list(json.loads(f"[{expected}]"))


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


MODEL: dict[str, Callable[[Any], Any]] = {
    "jsonb_as_string(a)": lambda value: value if isinstance(value, str) else None,
    "jsonb_as_f64(a)": lambda value: float(value) if is_number(value) else None,
    "jsonb_as_i64(a)": lambda value: (
        value if is_number(value) and isinstance(value, int) and -(2**63) <= value < 2**63 else None
    ),
    "jsonb_object_keys(a)": lambda value: sorted(value, key=str.encode) if isinstance(value, dict) else None,
    "jsonb_array_length(a)": lambda value: len(value) if isinstance(value, list) else None,
    "properties_length(a)": lambda value: len(value) if isinstance(value, dict) else 0,
}


@pytest.mark.parametrize("call", MODEL)
def test_accessors_agree_with_the_model_on_random_documents(database: Database, call: str) -> None:
    given = documents(seed=1)

    found = answers(database, call, [(canonical(value),) for value in given])

    assert found == [MODEL[call](value) for value in given]


def test_a_member_is_found_by_its_name_and_else_by_one_that_differs_in_capitals(database: Database) -> None:
    chance = random.Random(2)
    given = [(value, chance.choice((*NAMES, "nAmE", "k", "missing"))) for value in documents(seed=2)]
    rows = [(canonical(value), key) for value, key in given]

    found = answers(database, "jsonb_get(a, b)", rows)
    expected = [as_json(member(value, key)) for value, key in given]

    assert all(map(same_document, found, expected)), [
        case for case in zip(rows, found, expected, strict=True) if not same_document(*case[1:])
    ][:3]
    assert sum(answer is not None for answer in found) > 40


def test_a_property_is_text_whatever_it_holds(database: Database) -> None:
    chance = random.Random(3)
    given = [(value, chance.choice((*NAMES, "nAmE", "k", "missing"))) for value in documents(seed=3)]
    rows = [(canonical(value), key) for value, key in given]

    found = answers(database, "property_get(a, b)", rows)

    for (value, key), answer in zip(given, found, strict=True):
        expected = member(value, key)
        if isinstance(expected, str):
            assert answer == expected
        else:
            assert same_document(answer, as_json(expected)), (value, key)


def test_the_constant_key_of_a_statement_finds_what_a_column_of_keys_finds(database: Database) -> None:
    given = documents(seed=4, count=60)

    for key in (*NAMES, "nAmE", "missing"):
        rows = [(canonical(value), key) for value in given]
        written = "'" + key.replace("'", "''") + "'"
        for call in ("jsonb_get", "property_get"):
            by_column = answers(database, f"{call}(a, b)", rows)
            assert answers(database, f"{call}(a, {written})", rows) == by_column, (call, key)


def test_parsing_gives_every_document_its_one_spelling(database: Database) -> None:
    given = documents(seed=5)
    loose = [(json.dumps(value, indent=1, ensure_ascii=chance % 2 == 0),) for chance, value in enumerate(given)]

    once = answers(database, "jsonb_parse(a)", loose)

    assert all(map(same_document, once, map(canonical, given)))
    assert once == answers(database, "jsonb_format_json(jsonb_parse(jsonb_parse(a)))", loose)
    keys = [list(json.loads(text)) for text in once if text.startswith("{")]
    assert keys == [sorted(names, key=str.encode) for names in keys]


@pytest.mark.parametrize("text", ["{ not json... }", "{ test }", "", "[1", '{"a":}', "'x'", "[1] 2", "\x00"])
def test_what_is_no_json_is_null(database: Database, text: str) -> None:
    assert answers(database, "jsonb_parse(a)", [(text,)]) == [None]


def walked(value: Any, steps: list[int | str]) -> list[Any]:
    """All that a path finds; a step is a name, a place, or one of ``*`` and ``last``."""
    found = [value]
    for step in steps:
        nearer: list[Any] = []
        for part in found:
            if isinstance(part, list) and step == "[*]":
                nearer += part
            elif isinstance(step, int):
                nearer += part[step : step + 1 or None] if isinstance(part, list) else []
            elif isinstance(part, dict) and step in part:
                nearer.append(part[step])
        found = nearer
    return found


PATHS: dict[str, list[int | str]] = {
    "$": [],
    "$.items": ["items"],
    "$.items[1]": ["items", 1],
    "$.items[last]": ["items", -1],
    "$.items[*]": ["items", "[*]"],
    "$.items[*].name": ["items", "[*]", "name"],
    '$["a b"]': ["a b"],
    '$."a b"[0]': ["a b", 0],
    "$[*]": ["[*]"],
    "$[*][*]": ["[*]", "[*]"],
    "$.missing": ["missing"],
}


@pytest.mark.parametrize("path", PATHS)
def test_paths_find_what_walking_step_by_step_finds(database: Database, path: str) -> None:
    given = [
        {"items": [10, 20, 30], "a b": ["x"]},
        {"items": [{"name": "Alice"}, {"name": None}, {"v": 1}], "a b": None},
        {"items": []},
        [1, [2, 3], "x", {"name": 1}],
        5,
        None,
    ]
    rows = [(canonical(value),) for value in given]
    expected = [walked(value, PATHS[path]) for value in given]

    assert answers(database, f"jsonb_path_query(a, '{path}')", rows) == list(map(canonical, expected))
    assert answers(database, f"jsonb_path_query_first(a, '{path}')", rows) == [
        canonical(found[0]) if found else None for found in expected
    ]


@pytest.mark.parametrize(
    "path",
    [
        *(
            "a",
            "$..a",
            "$.a b",
            "",
            "$.a[2 to]",
            "$.a[-1]",
            "$.a ? (@.b = 1)",
            "$.a ? (@.b == 1",
            "$.a ? ()",
            "$.a ? (@.b)",
        ),
        *(
            "$.a ? (@[*] == 1)",
            "$.a ? (@.b == x)",
            "$.a ? (!@.b == 1)",
            "$.a[?(@.b == 1)]",
            "$.a ? (@ == 01)",
            "$ ? (@ == .5)",
        ),
    ],
)
def test_a_path_that_is_not_understood_is_refused_and_not_answered_with_nothing(database: Database, path: str) -> None:
    for call in ("jsonb_path_query", "jsonb_path_query_first"):
        with pytest.raises(Exception, match=r"the path .* is not understood.*: it is made of \$, \.name"):
            answers(database, f"{call}(a, '{path}')", [('{"a":[1]}',)])


ACTIVE = '{"items":[{"type":"active","id":1},{"type":"inactive","id":2},{"id":3,"type":"active"}]}'


@pytest.mark.parametrize(
    ("document", "path", "found"),
    [
        (ACTIVE, '$.items[*] ? (@.type == "active")', [{"type": "active", "id": 1}, {"id": 3, "type": "active"}]),
        (ACTIVE, '$.items[*]?(@.type=="inactive").id', [2]),
        (ACTIVE, '$.items[*] ? (@.type == "active" && @.id > 1).id', [3]),
        (ACTIVE, '$.items[*] ? (@.id == 1 || @.id == 2 && @.type == "active").id', [1]),
        (ACTIVE, '$.items[*] ? ((@.id == 1 || @.id == 2) && !(@.type == "active")).id', [2]),
        (ACTIVE, "$.items[*] ? (@.missing != 1)", []),  # what is missing compares with nothing
        (ACTIVE, '$.items[*] ? (@.id != "1")', []),  # nor does a number with a text
        (ACTIVE, "$.items[last - 1 to last].id", [2, 3]),
        (ACTIVE, "$.items[last-2].id", [1]),
        (ACTIVE, "$.items[last - 3].id", []),
        (ACTIVE, "$.items[1 to 99].id", [2, 3]),
        (ACTIVE, "$.items[2 to 1].id", []),
        (ACTIVE, '$.items[0 to 1] ? (@.type == "active") ? (@.id < 9).id', [1]),
        (
            '{"teams":[{"players":[{"k":1},{"k":2}]},{"players":[{"k":2}]}]}',
            "$.teams[*].players[*] ? (@.k == 2)",
            [{"k": 2}] * 2,
        ),
        ('{"a":{"x":1,"y":5}}', "$.a.* ? (@ > 1)", [5]),
        ('{"a":1}', "$.a[0 to 1]", []),
        ("[9007199254740993]", "$[*] ? (@ > 9007199254740992)", [9007199254740993]),  # exact beyond doubles
        ("[1, 1.0, 1e0, 2]", "$[*] ? (@ == 1)", [1, 1.0, 1.0]),
        ("[18446744073709551615, -1]", "$[*] ? (@ > 9223372036854775807)", [18446744073709551615]),
        ('[null, 0, false, ""]', "$[*] ? (@ == null)", [None]),
        ("[true, false, null]", "$[*] ? (@ == false)", [False]),
        ('["a)b", "a\\"?b", "\u00e9"]', '$[*] ? (@ == "a)b" || @ == "a\\"?b" || @ == "\\u00e9")', ["a)b", 'a"?b', "é"]),
        ('[{"a":1,"b":1},{"a":1,"b":2}]', "$[*] ? (@.a == @.b).b", [1]),
        ('[{"a b":1}]', '$[*] ? (@["a b"] == 1)."a b"', [1]),
        ("5", "$ ? (@ == 5)", [5]),
        (None, "$ ? (@ == 5)", None),
    ],
)
def test_paths_with_filters_and_ranges_find_what_they_say(
    database: Database, document: str | None, path: str, found: list[Any] | None
) -> None:
    text = path.replace("'", "''")

    (all_,) = answers(database, f"jsonb_path_query(a, '{text}')", [(document,)])
    (first,) = answers(database, f"jsonb_path_query_first(a, '{text}')", [(document,)])

    assert (None if all_ is None else json.loads(all_)) == found
    assert (None if first is None else [json.loads(first)]) == (found[:1] if found else None)


SIGNS: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


def kind_of(value: Any) -> str:
    return "number" if isinstance(value, (int, float)) and not isinstance(value, bool) else type(value).__name__


def test_filters_of_random_documents_are_those_of_a_plain_model_and_the_path_may_differ_by_row(
    database: Database,
) -> None:
    chance = random.Random(9)
    literals = [7, -1, 2**63, 2.5, 1000.0, "x", "", "é", "[1]", True, False, None]
    rows: list[tuple[str, str]] = []
    expected: list[list[Any]] = []
    path, sign, wanted = "", "", None
    for _ in range(400):
        elements = [document(chance, 1) for _ in range(chance.randrange(6))]
        if len(rows) % 8 == 0:  # a few paths with many documents each
            wanted = chance.choice([*literals, *(e for e in elements if not isinstance(e, (dict, list)))])
            sign = chance.choice([*SIGNS])
            path = f"$[*] ? (@ {sign} {json.dumps(wanted)})"
        rows.append((canonical(elements), path))
        expected.append([e for e in elements if kind_of(e) == kind_of(wanted) != "NoneType" and SIGNS[sign](e, wanted)])
        if wanted is None:
            expected[-1] = [e for e in elements if e is None] if sign in ("==", "<=", ">=") else []

    assert list(map(json.loads, answers(database, "jsonb_path_query(a, b)", rows))) == expected


def test_paths_have_limits_that_say_so(database: Database) -> None:
    for path, reason in (
        ("$" + ".a" * 2_000 + " ? (@ == 1)", "characters"),
        ("$" + "[*]" * 33 + " ? (@ == 1)", "more than 32 filters"),
        ("$ ? (" + "(" * 17 + "@ == 1" + ")" * 18, "deeper than 16"),
    ):
        with pytest.raises(Exception, match=reason):
            answers(database, "jsonb_path_query(a, b)", [("[]", path)])
    with pytest.raises(Exception, match="more than 64 different paths"):
        answers(database, "jsonb_path_query(a, b)", [("[]", f"$ ? (@ == {number})") for number in range(65)])


@pytest.mark.parametrize(
    "call",
    [
        *MODEL,
        "jsonb_parse(a)",
        "jsonb_format_json(a)",
        "jsonb_get(a, 'x')",
        "jsonb_get('{}', a)",
        "jsonb_path_query(a, '$.x')",
        "jsonb_path_query(a, '$[*]')",
        "jsonb_path_query_first(a, '$.x')",
        "jsonb_path_query('[]', a)",
        "property_get(a, 'x')",
        "property_get('{}', a)",
        "property_get(CAST(NULL AS STRUCT(key VARCHAR, value VARCHAR)[]), 'x')",
        "properties_length(CAST(NULL AS STRUCT(key VARCHAR, value VARCHAR)[]))",
        "properties_to_array(a)",
        "properties_to_jsonb(a)",
        "properties_to_jsonb(CAST(NULL AS STRUCT(key VARCHAR, value VARCHAR)[]))",
        "json_contains(a, '1')",
        "json_contains('[1]', a)",
    ],
)
def test_null_gives_null(database: Database, call: str) -> None:
    assert answers(database, call, [(None,)]) == [None]


PAIRS = pa.list_(pa.struct([("key", pa.string()), ("value", pa.string())]))


def test_properties_in_a_list_answer_as_the_same_properties_in_json(database: Database) -> None:
    chance = random.Random(6)
    sets = [
        {name: chance.choice(WORDS) for name in chance.sample(NAMES, chance.randrange(len(NAMES)))} for _ in range(200)
    ]
    keys = [chance.choice((*NAMES, "nAmE", "k", "missing")) for _ in sets]
    lists = [
        ([{"key": name, "value": value} for name, value in properties.items()], key)
        for properties, key in zip(sets, keys, strict=True)
    ]
    texts = [(canonical(properties), key) for properties, key in zip(sets, keys, strict=True)]

    assert answers(database, "property_get(a, b)", lists, PAIRS) == answers(database, "property_get(a, b)", texts)
    assert answers(database, "properties_length(a)", lists, PAIRS) == list(map(len, sets))
    assert list(map(json.loads, answers(database, "properties_to_jsonb(a)", lists, PAIRS))) == sets
    as_lists = answers(database, "properties_to_array(a)", texts)
    assert [{pair["key"]: pair["value"] for pair in pairs} for pairs in as_lists] == sets
    assert answers(database, "properties_to_dict(a)", lists, PAIRS) == [pairs for pairs, _ in lists]


def test_documents_of_a_statement_go_through_the_gate(tmp_path: Path) -> None:
    lake = EngineLake(tmp_path, QueryEngine())

    assert lake.rows(
        """SELECT jsonb_as_i64(jsonb_get(jsonb_parse('{"n": 3}'), 'N')) AS n, property_get('{"a":{}}', 'a') AS a"""
    ) == [{"n": 3, "a": "{}"}]


_HOSTILE = """
import json, sys
from pathlib import Path
from lakehouse.engine.engine import QueryEngine
from lakehouse.errors import LakeflightError
from tests.support.engine_lake import EngineLake
lake = EngineLake(Path(sys.argv[1]), QueryEngine())
told = open(Path(sys.argv[1]) / "told", "w")  # a slow statement draws its progress on the output
for sql in json.load(sys.stdin):
    try:
        print(json.dumps([sql, lake.rows(sql)[0]["x"]]), file=told, flush=True)
    except LakeflightError as error:
        assert "Traceback" not in str(error)
        print(json.dumps([sql, f"error: {error}"[:300]]), file=told, flush=True)
"""
MANY = 1_000_000
DEEP = f"repeat('[', {MANY}) || repeat(']', {MANY})"
DEEP_OBJECTS = f"repeat('{{\"a\":', {MANY}) || '1' || repeat('}}', {MANY})"
WIDE = f"'[' || repeat('7,', {MANY - 1}) || '7]'"
KEYS = f"'{{' || (SELECT string_agg('\"k' || i || '\":1', ',') FROM range({MANY}) t(i)) || '}}'"
ON_HOSTILE = (
    "length(jsonb_parse(d))",
    "length(jsonb_format_json(d))",
    "length(jsonb_get(d, 'a'))",
    "length(jsonb_get(d, 'K7'))",
    "jsonb_as_string(d)",
    "jsonb_as_f64(d)",
    "jsonb_as_i64(d)",
    "len(jsonb_object_keys(d))",
    "jsonb_array_length(d)",
    "length(jsonb_path_query(d, '$[*]'))",
    "length(jsonb_path_query_first(d, '$.a'))",
    "length(property_get(d, 'a'))",
    "properties_length(d)",
    "len(properties_to_array(d))",
    "length(properties_to_jsonb(d))",
)


def test_hostile_documents_get_an_answer_or_an_error_and_the_process_survives(tmp_path: Path) -> None:
    """In an engine process of its own: a stack that overflows would take the test run with it."""
    asked = {
        (text, call): f"SELECT {call} AS x FROM (SELECT {text} AS d)"
        for text in (DEEP, DEEP_OBJECTS, WIDE, KEYS)
        for call in (*ON_HOSTILE, "json_contains(d, '7')")
    }

    done = subprocess.run(
        [sys.executable, "-c", _HOSTILE, str(tmp_path)],
        input=json.dumps([*asked.values(), "SELECT 42 AS x"]),
        capture_output=True,
        text=True,
        timeout=240,
        cwd=Path(__file__).resolve().parents[2],
        check=False,
    )

    told = dict(json.loads(line) for line in (tmp_path / "told").read_text().splitlines())
    found = {case: told.get(sql) for case, sql in asked.items()}
    assert done.returncode == 0, done.stderr[-2_000:]
    assert told["SELECT 42 AS x"] == 42
    for text in (DEEP, DEEP_OBJECTS):
        refusal = str(found.pop((text, "json_contains(d, '7')")))
        assert "json_contains takes documents in which at most 5000 brackets open" in refusal
    assert not [case for case, answer in found.items() if str(answer).startswith("error")]
    assert found[WIDE, "json_contains(d, '7')"] is True
    assert found[KEYS, "json_contains(d, '7')"] is False
    assert found[DEEP, "length(jsonb_parse(d))"] == 2 * MANY
    assert found[DEEP_OBJECTS, "length(jsonb_get(d, 'a'))"] == 6 * (MANY - 1) + 1
    assert found[WIDE, "jsonb_array_length(d)"] == MANY
    assert found[KEYS, "len(jsonb_object_keys(d))"] == found[KEYS, "properties_length(d)"] == MANY
    assert found[KEYS, "len(properties_to_array(d))"] == MANY
    assert found[KEYS, "length(jsonb_get(d, 'K7'))"] == 1


def test_json_contains_answers_up_to_its_depth_and_refuses_beyond(tmp_path: Path) -> None:
    lake = EngineLake(tmp_path, QueryEngine())
    sql = "SELECT json_contains(repeat('[', {n}) || '7' || repeat(']', {n}), '7') AS x"

    assert lake.rows(sql.format(n=5_000)) == [{"x": True}]
    with pytest.raises(Exception, match="at most 5000 brackets"):
        lake.rows(sql.format(n=5_001))


def test_paths_with_filters_are_looked_for_by_several_threads_at_once() -> None:
    """As the engine does with a table of several row groups: each finds what is in its own documents."""

    def look(number: int) -> bool:
        documents = pa.array([f"[{number},{place}]" for place in range(2_000)])
        found = select_paths(documents, pa.array([f"$[*] ? (@ > {number - 1} && @ < {number + 1})"] * 2_000))
        expected = [f"[{number},{number}]" if place == number else f"[{number}]" for place in range(2_000)]
        return bool(found.to_pylist() == expected)

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(look, range(60)))
