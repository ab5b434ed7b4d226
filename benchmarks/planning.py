"""What it costs to judge, bind and plan a statement that was never asked before, on one core and without any row."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
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
_RECENT: Final = "SELECT time, level, msg FROM log_entries WHERE time >= now() - INTERVAL '1 hour' AND level <= {number} ORDER BY time"
_BUCKETS: Final = (
    "SELECT time_bucket(INTERVAL '10 seconds', time) AS bucket, count(*) AS lines FROM log_entries WHERE level <= {number}"
    " AND time >= TIMESTAMP '2024-01-01 00:00:00' AND time < TIMESTAMP '2024-01-02 00:00:00' GROUP BY bucket ORDER BY bucket"
)


@dataclass(frozen=True, slots=True)
class _Statement:
    name: str
    what: str
    sql: str
    ms_max: (
        float  # what it cost while time ranges were found by a reading of the tree, and times lost their nanoseconds
    )


_ASKED: Final = (
    _Statement("window", "a range of time of one table", _WINDOW, 4.0),
    _Statement("join", "a window, three relations and the clock", _JOIN, 10.0),
    _Statement("recent", "the last hour of one table", _RECENT, 4.0),
    _Statement("buckets", "lines by ten seconds, as dashboards ask", _BUCKETS, 4.0),
)


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
            {asked.name: partial(inspect, asked.sql) for asked in _ASKED}
            | {f"{asked.name}, EXPLAIN": partial(explain, asked.sql) for asked in _ASKED},
        )
    finally:
        database.close()
        engine.close()
    figures = []
    for asked in _ASKED:
        ms = found[asked.name].p50 / _STATEMENTS * 1e3
        least, most = found[asked.name].spread
        figures.append(
            Figure(
                f"plan_{asked.name}_ms",
                f"judge, bind and plan a new statement: {asked.what}",
                ms,
                "ms",
                (least / _STATEMENTS * 1e3, most / _STATEMENTS * 1e3),
                limit=Limit(found[f"{asked.name}, EXPLAIN"].p50 / _STATEMENTS * 1e3, "its EXPLAIN alone"),
                targets=(at_most(ms, asked.ms_max, f"{asked.ms_max:g} ms"),),
            )
        )
    return figures
