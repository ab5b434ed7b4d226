"""A SQL function of our own is one file: everything that has to know it finds it there."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lakehouse.engine import DEFAULT_LIMITS
from lakehouse.engine.database import Database
from lakehouse.engine.functions import Rewording, Verdict, function_rules, own_functions, relation_functions
from lakehouse.engine.functions.declare import Argument, RelationFunction
from lakehouse.engine.functions.documentation import page
from lakehouse.engine.functions.registry import macro, reference_of
from lakehouse.engine.names import relation_name
from lakehouse.engine.relations import Call
from lakehouse.errors import ForbiddenSqlError

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = [
    (call, answer)
    for function in own_functions()
    if not isinstance(function, Rewording)  # they are said in other words before the engine sees them
    for call, answer in function.examples
]


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    database = Database(DEFAULT_LIMITS)
    database.set_now(1_700_000_000_123_456_789)
    database.use_functions(" ".join(function.name for function in own_functions()))
    yield database
    database.close()


def test_every_declared_function_is_there_and_allowed(database: Database) -> None:
    there = {
        name
        for (name,) in database.connection.execute("SELECT DISTINCT function_name FROM duckdb_functions()").fetchall()
    }

    for function in own_functions():
        assert function.name in there or isinstance(function, Rewording)
        rule = function_rules().get(function.name)
        if function.is_private:
            assert rule is None
        else:
            assert rule is not None and rule.verdict in (Verdict.ALLOW, Verdict.TABLE)


def test_documented_examples_give_the_documented_answers(database: Database) -> None:
    for call, answer in EXAMPLES:
        [(shown,)] = database.connection.execute(f"SELECT CAST({call} AS VARCHAR)").fetchall()
        assert shown == answer, call


def test_the_page_of_functions_is_what_they_declare() -> None:
    """After a change: python -m lakehouse.engine.functions.documentation > docs/functions.md"""
    assert (ROOT / "docs/functions.md").read_text(encoding="utf-8") == page()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("CREATE MACRO f(a) AS a;", "a signature looks like"),
        ("-- f(a INTEGER)\n-- Doc.\nCREATE MACRO f(a) AS a;", "a signature looks like"),
        ("-- f(a INTEGER) -> INTEGER\nCREATE MACRO f(a) AS a;", "f has no documentation"),
        ("-- g(a INTEGER) -> INTEGER\n-- Doc.\nCREATE MACRO g(a) AS a;", "f.sql must declare and create f"),
        ("-- f(a INTEGER) -> INTEGER\n-- Doc.\nDROP TABLE x;", "f.sql must declare and create f"),
        ("-- f(a INTEGER) -> INTEGER\n-- Doc.\n-- list: maths\nCREATE MACRO f(a) AS a;", "list is one of"),
        ("-- f(a INTEGER) -> INTEGER\n-- Doc.\n-- example: f(1)\nCREATE MACRO f(a) AS a;", "call = answer"),
    ],
)
def test_a_wrong_declaration_says_what_is_missing(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        macro("f", text)


def test_types_of_a_signature_may_hold_commas() -> None:
    found = macro(
        "f", "-- f(a DECIMAL(18, 3), b MAP(VARCHAR, INTEGER)[]) -> DOUBLE\n-- Doc.\nCREATE MACRO f(a, b) AS 1;"
    )

    assert found.parameters == ("a DECIMAL(18, 3)", "b MAP(VARCHAR, INTEGER)[]")
    assert found.result == "DOUBLE"


def argument(text: str) -> dict[str, object]:
    return {"expression": {"class": "CONSTANT", "literal": {"kind": "STRING", "text": text}}}


def test_a_relation_function_of_another_source_is_a_call_as_view_instance_is() -> None:
    function = RelationFunction(
        "process_spans", (Argument("process", "a process"), Argument("kinds", "kinds of spans")), "Spans.", "spans"
    )

    call = function.call([argument("p"), argument("thread")], None)
    open_call = function.call([argument("p"), {"expression": {"class": "PARAMETER", "identifier": "1"}}], None)

    assert call == Call("process_spans", ("p", "thread"))
    assert function.read_by(call) == ("spans", ("p", "thread"))
    assert open_call.literals == ("p", None)
    with pytest.raises(ForbiddenSqlError, match="process_spans takes a process and kinds of spans, not 1 arguments"):
        function.call([argument("p")], None)
    with pytest.raises(ForbiddenSqlError, match="the second argument of process_spans must be a string literal or"):
        function.call([argument("p"), {"expression": {"class": "COLUMN_REF"}}], None)
    with pytest.raises(ForbiddenSqlError, match="the kinds of spans of process_spans must be bound to a string"):
        function.call([argument("p"), {"expression": {"class": "PARAMETER", "identifier": "1"}}], [5])


def test_what_a_call_reads_is_bound_under_a_name_that_nobody_writes_by_accident() -> None:
    reference = reference_of(Call("view_instance", ("log_entries", "global")))

    assert (reference.relation, reference.view_set, reference.arguments) == (
        "view_instance",
        "log_entries",
        ("global",),
    )
    assert reference.bound_name == relation_name("log_entries", "global")
    assert {name for name, function in relation_functions().items() if not function.administers} == {
        *("view_instance", "process_spans", "perfetto_trace_chunks", "parse_block", "list_partitions", "list_view_sets")
    }


_IN_A_COPY = """
import json, sys
from lakehouse.engine.functions import function_rules, listed_functions
from tests.support.engine_lake import CATALOG, EngineLake
from lakehouse.engine.engine import QueryEngine
from lakehouse.engine.functions.documentation import page
from pathlib import Path
lake = EngineLake(Path(sys.argv[1]), QueryEngine())
answers = [lake.rows(sql) for sql in json.loads(sys.argv[2])]
print(json.dumps([answers, listed_functions("numeric"), listed_functions("string"), page()]))
"""


def test_a_stranger_adds_functions_by_the_guide_with_one_file_each(tmp_path: Path) -> None:
    """The files that CONTRIBUTING shows, dropped into a copy of the tree."""
    guide = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    shown = re.findall(r"`(lakehouse/engine/functions/[a-z_]+\.(?:sql|py))`:\n\n```[a-z]+\n(.*?)```", guide, re.DOTALL)
    shutil.copytree(ROOT / "lakehouse", tmp_path / "lakehouse", ignore=shutil.ignore_patterns("__pycache__"))
    for path, text in shown:
        (tmp_path / path).write_text(text, encoding="utf-8")
    statements = [
        "SELECT fahrenheit(level) AS f, title_case(msg) AS t FROM (VALUES (100, 'slow frame'), (NULL, NULL)) x(level, msg)",
        "SELECT count(*) AS n, min(letter) AS first FROM letters('frame')",
    ]

    done = subprocess.run(
        [sys.executable, "-c", _IN_A_COPY, str(tmp_path), json.dumps(statements)],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
        check=False,
    )

    assert len(shown) == 3
    assert done.returncode == 0, done.stderr[-2_000:]
    answers, numeric, string, documentation = json.loads(done.stdout)
    assert answers == [[{"f": 212.0, "t": "Slow Frame"}, {"f": None, "t": None}], [{"n": 5, "first": "a"}]]
    assert "fahrenheit" in numeric and "title_case" in string
    assert "`letters(text VARCHAR) -> TABLE(letter VARCHAR)`" in documentation
