"""What the original has and lakeflight has not is refused with what there is instead."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lakehouse.engine.engine import QueryEngine
from lakehouse.errors import ForbiddenSqlError, SqlSyntaxError
from tests.support.engine_lake import CATALOG


@pytest.fixture(scope="module")
def engine() -> Iterator[QueryEngine]:
    made = QueryEngine()
    yield made
    made.close()


@pytest.mark.parametrize(
    ("sql", "instead"),
    [
        ("SELECT * FROM deny_queries('true', 'why')", "no deny list: the limits"),
        ("SELECT * FROM list_query_denials()", "no deny list: the limits"),
        ("SELECT remove_query_denial('x')", "no deny list: the limits"),
        ("SELECT * FROM list_audience_grants()", "no audiences"),
        ("SELECT view_set_name FROM list_view_set_definitions()", r"list_view_sets\(\) shows what there is"),
        ("-- a view\nCREATE MATERIALIZED VIEW v AS SELECT 1", r"statements cannot change views: .*views/"),
        ("create or replace  materialized view v as select 1;\n", "statements cannot change views"),
        (" /* gone */ DROP MATERIALIZED VIEW v", "statements cannot change views"),
    ],
)
def test_the_refusal_says_what_to_do(engine: QueryEngine, sql: str, instead: str) -> None:
    with pytest.raises(ForbiddenSqlError, match=instead):
        engine.inspect(sql, [], CATALOG)


def test_other_mistakes_keep_their_message(engine: QueryEngine) -> None:
    with pytest.raises(SqlSyntaxError, match="syntax error"):
        engine.inspect("CREATE MATERIALIZED COLUMN v", [], CATALOG)
    with pytest.raises(ForbiddenSqlError, match="unknown table function 'retire_all'"):
        engine.inspect("SELECT * FROM retire_all()", [], CATALOG)
