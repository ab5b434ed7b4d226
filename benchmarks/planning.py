"""What it costs to judge, bind and plan a statement that was never asked before, on one core and without any row."""

from __future__ import annotations

from itertools import count
from typing import Final

from benchmarks.figures import Figure, Limit, at_most
from benchmarks.measure import take_turns
from benchmarks.sizes import Size
from lakehouse.engine import DEFAULT_LIMITS, EngineCatalog
from lakehouse.engine.database import Database
from lakehouse.engine.engine import QueryEngine
from views import default_registry

_STATEMENTS: Final = 10  # in a row, because one takes too little time to be measured
_ID: Final = "6a1b2c3d-0000-4000-8000-000000000001"
_WINDOW: Final = (
    "SELECT time, level, msg FROM log_entries WHERE time >= '2024-01-01' AND time < '2024-01-02' AND level <= {number}"
)
_JOIN: Final = (
    "WITH latest AS (SELECT *, row_number() OVER (PARTITION BY process_id ORDER BY time DESC) AS place FROM log_entries"
    " WHERE time >= now() - INTERVAL '1 hour') SELECT l.time, l.msg, p.exe, s.name, s.duration FROM latest AS l"
    f" JOIN processes AS p USING (process_id) JOIN view_instance('thread_spans', '{_ID}') AS s"
    " ON l.time BETWEEN s.begin AND s.\"end\" WHERE l.place <= {number} AND p.exe = 'game' ORDER BY l.time"
)
# What it cost while time ranges were found by a reading of the tree; in milliseconds.
_WINDOW_MS_MAX: Final = 4.0
_JOIN_MS_MAX: Final = 10.0


def measure(size: Size) -> list[Figure]:
    declared = default_registry().declarations
    catalog = EngineCatalog(declared, declared)
    engine = QueryEngine()
    database = Database(DEFAULT_LIMITS)
    database.declare(catalog)
    database.set_now(0)
    numbers = count(1)

    def inspect(sql: str) -> None:
        for _ in range(_STATEMENTS):
            engine.inspect(sql.format(number=next(numbers)), None, catalog)

    def explain(sql: str) -> None:
        for _ in range(_STATEMENTS):
            database.connection.execute(f"EXPLAIN {sql.format(number=next(numbers))}").fetchall()

    try:
        found = take_turns(
            size.rounds,
            {
                "window": lambda: inspect(_WINDOW),
                "window, EXPLAIN": lambda: explain(_WINDOW),
                "join": lambda: inspect(_JOIN),
                "join, EXPLAIN": lambda: explain(_JOIN),
            },
        )
    finally:
        database.close()
        engine.close()
    figures = []
    for name, what, ms_max in (
        ("window", "a range of time of one table", _WINDOW_MS_MAX),
        ("join", "a window, three relations and the clock", _JOIN_MS_MAX),
    ):
        ms = found[name].p50 / _STATEMENTS * 1e3
        least, most = found[name].spread
        figures.append(
            Figure(
                f"plan_{name}_ms",
                f"judge, bind and plan a new statement: {what}",
                ms,
                "ms",
                (least / _STATEMENTS * 1e3, most / _STATEMENTS * 1e3),
                limit=Limit(found[f"{name}, EXPLAIN"].p50 / _STATEMENTS * 1e3, "its EXPLAIN alone"),
                targets=(at_most(ms, ms_max, f"{ms_max:g} ms"),),
            )
        )
    return figures
