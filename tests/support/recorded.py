"""Asks a server what the recorded server was asked, and compares the answers."""

from __future__ import annotations

import json
from typing import Any

from tests.support.comparison import assert_same_rows
from tests.support.fixtures import Case, rows_of
from tests.support.serving import Renamed, Server

VIEW_SETS = (
    *("processes", "streams", "blocks", "log_entries", "log_entries_global", "measures"),
    *("async_events", "net_spans", "images", "process_spans_both"),
)
PARSED = "parse_block_"  # every object of a block, as JSON


def questions(case: Case) -> list[str]:
    """The recorded queries that are about view sets there are."""
    return [
        name for name in case.description["queries"] if name in VIEW_SETS or name.startswith(("thread_spans_", PARSED))
    ]


def assert_answers_as_recorded(server: Server, sent: Renamed) -> None:
    """Every question of the case, over the recorded range extended to now, answers the recorded rows."""
    begin = sent.case.description["query_range"][0]
    names = questions(sent.case)
    assert len(names) > len(VIEW_SETS)
    with server.connect({"query_range_begin": begin}) as connection, connection.cursor() as cursor:
        for name in names:
            sql = sent.text(sent.case.description["queries"][name]["sql"])
            expected = sent.expected(name)
            if name.startswith(PARSED):
                sql, expected = sql.replace("jsonb_format_json(value)", "value"), _parsed(expected)
            cursor.execute(sql)
            rows = rows_of(cursor.fetch_arrow_table())
            assert_same_rows(_parsed(rows) if name.startswith(PARSED) else rows, expected, f"{sent.case.name}: {name}")


def _parsed(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What documents mean, in one spelling."""
    return [{**row, "value": json.dumps(json.loads(row["value"]), sort_keys=True)} for row in rows]
