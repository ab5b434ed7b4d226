"""Random statements about telemetry, most of them with something to say about time. Same seed, same statements."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from lakeflight.wire.times import format_time
from tests.support.history import DAY_NS, HOUR_NS, MINUTE_NS, SECOND_NS, LongProgram
from tests.support.random_statements import StatementMaker, base

_T = TypeVar("_T")


@dataclass(frozen=True)
class Source:
    """A relation that a statement may read."""

    text: str
    times: tuple[str, ...]
    others: tuple[str, ...]
    conditions: tuple[str, ...]
    key: str = "process_id"


@dataclass(frozen=True)
class Question:
    """A statement and the headers it goes with."""

    sql: str
    headers: dict[str, str]


def plain_predicates(column: str, operator: str, time_ns: int) -> list[str]:
    """Every way to compare a time column with a constant, each alone."""
    text = format_time(time_ns)
    spaced = text.replace("T", " ")
    ago_ns = time.time_ns() - time_ns
    return [
        f"{column} {operator} TIMESTAMP_NS '{spaced}'",
        f"{column} {operator} TIMESTAMP '{spaced[:26]}'",
        f"{column} {operator} '{text}Z'",
        f"{column} {operator} '{spaced[:19]}'::TIMESTAMP",
        f"{column} {operator} DATE '{text[:10]}'",
        f"'{text}' {operator} {column}",
        f"NOT {column} {operator} '{text}'",
        f"CAST({column} AS DATE) {operator} DATE '{text[:10]}'",
        f"CAST({column} AS TIMESTAMP) {operator} '{spaced[:26]}'",
        *(
            f"date_trunc('{unit}', {column}) {operator} '{text[:10]}'"
            for unit in ("hour", "day", "week", "month", "months", "quarter", "isoyear", "decade", "millennium")
        ),
        *(
            f"date_bin(INTERVAL '{width}', {column}) {operator} TIMESTAMP_NS '{spaced}'"
            for width in ("7 seconds", "1 hour", "1 month", "5 months", "2 years")
        ),
        f"date_bin('1 hour', {column}, TIMESTAMP_NS '1970-01-01 00:17:00.000000003') {operator} TIMESTAMP_NS '{spaced}'",
        f"time_bucket(INTERVAL 5 MONTH, {column}, DATE '2001-02-01') {operator} TIMESTAMP '{spaced[:19]}'",
        f"date_bin('1 month', date_bin('1 day', {column})) {operator} '{text[:10]}'",
        f"{column} - INTERVAL 90 MINUTE {operator} '{text}'",
        f"{column} {operator} TIMESTAMP '{spaced[:19]}' - INTERVAL 1 DAY",
        f"{column} {operator} now() - INTERVAL {ago_ns // SECOND_NS} SECOND",
        f"{column} {operator} now() - INTERVAL '{ago_ns // DAY_NS} days' AND {column} < now()",
        f"({column} {operator} '{text}' OR {column} > '{text}'::TIMESTAMP + INTERVAL 2 DAY)",
        f"{column} BETWEEN TIMESTAMP '{spaced[:19]}' - INTERVAL 1 DAY AND '{text}'",
        f"{column} NOT BETWEEN TIMESTAMP '{spaced[:19]}' - INTERVAL 1 DAY AND '{text}'",
        f"{column} IN ('{text}', '{text[:10]}')",
    ]


class QuestionMaker:
    """Makes statements over the view instances of some programs and over the global tables."""

    def __init__(self, chance: random.Random, programs: Sequence[LongProgram]) -> None:
        self._chance = chance
        self._programs = programs
        self._aliases = 0

    def question(self) -> Question:
        return Question(self._statement(), self._headers())

    # --- whole statements

    def _statement(self) -> str:
        make = self._chance.choice(
            (
                self._rows,
                self._rows,
                self._aggregate,
                self._with_cte,
                self._nested,
                self._join,
                self._join,
                self._union,
                self._exists,
                self._scalar,
                self._windowed,
                self._latest,
                self._composed,
                self._composed,
                self._composed,
            )
        )
        return make()

    def _composed(self) -> str:
        """Anything that SQL has, nested."""
        events = {"times": "time", "texts": "process_id stream_id exe"}
        bases = [base("log_entries", **events, numbers="level"), base("measures", **events)]
        for program in self._programs:
            bases.append(base(f"view_instance('log_entries', '{program.process_id}')", **events, numbers="level"))
            spans = f"view_instance('thread_spans', '{program.streams['cpu']}')"
            bases.append(base(spans, times='begin "end"', texts="name", numbers="depth duration"))
        bases += [
            base("processes", times="start_time insert_time last_update_time", texts="process_id exe"),
            base("blocks", times="begin_time insert_time end_time", texts="process_id stream_id", numbers="nb_objects"),
        ]
        texts = [text for program in self._programs for text in (program.process_id, program.exe)]
        moments = [time_ns for program in self._programs for time_ns in program.times_ns]
        return StatementMaker(self._chance, bases, moments, texts).statement()

    def _rows(self) -> str:
        source = self._source()
        return f"SELECT {self._columns(source)} FROM {source.text}{self._where(source)}"

    def _aggregate(self) -> str:
        source = self._source()
        at = self._pick(source.times)
        unit = self._pick(("minute", "hour", "day"))
        having = self._pick(("", " HAVING count(*) > 1"))
        return (
            f"SELECT date_trunc('{unit}', {at}) AS moment, count(*) AS n, min({at}) AS first, max({at}) AS last"
            f" FROM {source.text}{self._where(source)} GROUP BY 1{having}"
        )

    def _with_cte(self) -> str:
        source = self._source()
        outer = self._where(Source("c", source.times, (), ()))
        kind = self._pick(("", "", "MATERIALIZED ", "NOT MATERIALIZED "))
        cte = (
            f"WITH c AS {kind}(SELECT {self._columns(source, all_times=True)} FROM {source.text}{self._where(source)})"
        )
        if self._chance.random() < 0.3:
            at = self._pick(source.times)
            return f"{cte} SELECT count(*) AS n, (SELECT max({at}) FROM c) AS last FROM c{outer}"
        return f"{cte} SELECT * FROM c{outer}"

    def _nested(self) -> str:
        source = self._source()
        inner = f"SELECT {self._columns(source, all_times=True)} FROM {source.text}{self._where(source)}"
        if self._chance.random() < 0.3:
            inner += f" ORDER BY ALL LIMIT {self._chance.randrange(1, 20)}"
        return f"SELECT * FROM ({inner}) AS t{self._where(Source('t', source.times, (), ()))}"

    def _join(self) -> str:
        left, right = self._source("l"), self._source("r")
        kind = self._pick(("JOIN", "JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN", "SEMI JOIN", "ANTI JOIN"))
        on = f"l.{left.key} = r.{right.key}"
        if self._chance.random() < 0.4:
            on += f" AND {self._predicate(self._pick((left, right)))}"
        sides = [("l", left)] if kind in ("SEMI JOIN", "ANTI JOIN") else [("l", left), ("r", right)]
        tests = [self._predicate(source) for _, source in sides if self._chance.random() < 0.7]
        where = f" WHERE {self._pick((' AND ', ' OR ')).join(tests)}" if tests else ""
        counted = ", ".join(f"min({self._pick(source.times)}), max({self._pick(source.times)})" for _, source in sides)
        return f"SELECT count(*), {counted} FROM {left.text} {kind} {right.text} ON {on}{where}"

    def _union(self) -> str:
        parts = []
        for _ in range(self._chance.randint(2, 3)):
            source = self._source()
            parts.append(
                f"SELECT {self._pick(source.times)} AS moment, {source.key} AS id FROM {source.text}{self._where(source)}"
            )
        operator = self._pick((" UNION ALL ", " UNION ALL ", " UNION ", " EXCEPT ", " INTERSECT "))
        outer = self._where(Source("u", ("moment",), (), ()))
        return f"SELECT * FROM ({operator.join(parts)}) AS u{outer}"

    def _exists(self) -> str:
        outer, inner = self._source("o"), self._source("i")
        link = f"i.{inner.key} = o.{outer.key}"
        match self._chance.randrange(3):
            case 0:
                test = f"EXISTS (SELECT 1 FROM {inner.text} WHERE {link} AND {self._predicate(inner)})"
            case 1:
                test = f"NOT EXISTS (SELECT 1 FROM {inner.text} WHERE {link} AND {self._predicate(inner)})"
            case _:
                test = f"o.{outer.key} IN (SELECT i.{inner.key} FROM {inner.text} WHERE {self._predicate(inner)})"
        also = f" AND {self._predicate(outer)}" if self._chance.random() < 0.5 else ""
        return f"SELECT {self._columns(outer)} FROM {outer.text} WHERE {test}{also}"

    def _scalar(self) -> str:
        outer, inner = self._source("o"), self._source("i")
        bound = (
            f"(SELECT {self._pick(('min', 'max'))}({self._pick(inner.times)}) FROM {inner.text}{self._where(inner)})"
        )
        operator = self._pick(("<", ">=", "<=", ">"))
        return f"SELECT count(*) FROM {outer.text} WHERE {self._pick(outer.times)} {operator} {bound}"

    def _windowed(self) -> str:
        """A window looks at rows that an outer predicate drops: that predicate must not go inside."""
        source = self._source()
        at = self._pick(source.times)
        inner = (
            f"SELECT {at} AS moment, count(*) OVER () AS n, row_number() OVER (ORDER BY {at}, {source.key}) AS place"
        )
        outer = self._where(Source("w", ("moment",), (), ()))
        return f"SELECT moment, n, place FROM ({inner} FROM {source.text}{self._where(source)}) AS w{outer}"

    def _latest(self) -> str:
        source = self._source()
        at = self._pick(source.times)
        return (
            f"SELECT * FROM (SELECT {source.key} AS id, max({at}) AS last, count(*) AS n FROM {source.text} GROUP BY ALL)"
            f" AS g{self._where(Source('g', ('last',), (), ()))}"
        )

    # --- parts

    def _source(self, alias: str = "") -> Source:
        program = self._pick(self._programs)
        ids = (f"process_id = '{program.process_id}'", f"process_id IN ('{program.process_id}', 'x')")
        events = (*ids, "exe = 'b'", "stream_id <> 'x'")
        found = self._pick(
            (
                Source("log_entries", ("time",), ("msg", "level"), (*events, "level <= 4", "msg LIKE '%1%'")),
                Source(
                    f"view_instance('log_entries', '{program.process_id}')",
                    ("time",),
                    ("msg", "level"),
                    (*events, "level > 2"),
                ),
                Source("measures", ("time",), ("name", "value"), (*events, "value > 50", "name = 'fps'")),
                Source(f"view_instance('measures', '{program.process_id}')", ("time",), ("name", "value"), events),
                Source(
                    f"view_instance('thread_spans', '{program.streams['cpu']}')",
                    ("begin", '"end"'),
                    ("name", "depth"),
                    ("depth > 0", "name = 'Work'", "duration > 1000"),
                    "name",
                ),
                Source("processes", ("start_time", "insert_time", "last_update_time"), ("exe",), (*ids, "exe = 'a'")),
                Source("streams", ("insert_time", "last_update_time"), ("stream_id",), ids),
                Source("blocks", ("begin_time", "end_time", "insert_time"), ("block_id",), (*ids, "nb_objects > 3")),
            )
        )
        if not alias:
            return found
        return Source(
            f"{found.text} AS {alias}",
            tuple(f"{alias}.{name}" for name in found.times),
            tuple(f"{alias}.{name}" for name in found.others),
            tuple(f"{alias}.{condition}" for condition in found.conditions),
            found.key,
        )

    def _columns(self, source: Source, *, all_times: bool = False) -> str:
        times = source.times if all_times else source.times[: self._chance.randint(1, len(source.times))]
        return ", ".join((*times, *source.others))

    def _where(self, source: Source) -> str:
        tests = [self._predicate(source) for _ in range(self._chance.choice((0, 1, 1, 1, 1, 2)))]
        return f" WHERE {' AND '.join(tests)}" if tests else ""

    def _predicate(self, source: Source, depth: int = 0) -> str:
        draw = self._chance.random()
        if depth < 2 and draw < 0.12:
            return f"({self._predicate(source, depth + 1)} OR {self._predicate(source, depth + 1)})"
        if depth < 2 and draw < 0.18:
            return f"NOT ({self._predicate(source, depth + 1)})"
        if source.conditions and draw < 0.32:
            return self._pick(source.conditions)
        at = self._pick(source.times)
        operator = self._pick(("<", "<=", ">", ">=", "="))
        match self._chance.randrange(12):
            case 0:
                return f"{self._instant()} {operator} {at}"
            case 1 | 2:
                low, high = sorted((self._time_ns(), self._time_ns()))
                negated = self._pick(("", "", "NOT "))
                return f"{at} {negated}BETWEEN {self._literal(low)} AND {self._literal(high)}"
            case 3:
                return f"{at} IN ({self._instant()}, {self._instant()})"
            case 4:
                return f"date_trunc('{self._pick(('hour', 'day'))}', {at}) {operator} {self._instant()}"
            case 5:
                return f"CAST({at} AS DATE) {operator} DATE '{format_time(self._time_ns())[:10]}'"
            case 6:
                return f"{at} - INTERVAL 1 HOUR {operator} {self._instant()}"
            case 7:
                return f"{at} {operator} {self._since_now()}"
            case 8:
                return f"{at} >= {self._since_now()} AND {at} < {self._instant()}"
            case _:
                return f"{at} {operator} {self._instant()}"

    def _instant(self) -> str:
        return self._literal(self._time_ns())

    def _literal(self, time_ns: int) -> str:
        text = format_time(time_ns)
        match self._chance.randrange(6):
            case 0:
                return f"TIMESTAMP_NS '{text.replace('T', ' ')}'"
            case 1:
                return f"TIMESTAMP '{text[:26].replace('T', ' ')}'"
            case 2:
                return f"'{text}Z'"
            case 3:
                return f"'{text[:19].replace('T', ' ')}'"
            case 4:
                return f"'{text[:26]}+00:00'::TIMESTAMP"
            case _:
                return f"DATE '{text[:10]}'"

    def _since_now(self) -> str:
        ago_ns = time.time_ns() - self._time_ns()
        match self._chance.randrange(3):
            case 0:
                return f"now() - INTERVAL '{ago_ns // DAY_NS} days'"
            case 1:
                return f"now() - INTERVAL {ago_ns // HOUR_NS} HOUR"
            case _:
                return f"CAST(now() AS TIMESTAMP) - INTERVAL '{ago_ns // MINUTE_NS} minutes'"

    def _time_ns(self) -> int:
        """An instant that matters: of an event, close to one, of a day's begin, or outside of everything."""
        event = self._pick(self._pick(self._programs).times_ns)
        match self._chance.randrange(7):
            case 0 | 1:
                return event
            case 2:
                return event + self._pick((-1, 1, -1_000, 1_000))
            case 3:
                return event // SECOND_NS * SECOND_NS
            case 4:
                return event // DAY_NS * DAY_NS
            case 5:
                return event + self._chance.randrange(-DAY_NS, DAY_NS)
            case _:
                return event + self._pick((-1, 1)) * 400 * DAY_NS

    def _headers(self) -> dict[str, str]:
        low, high = sorted((self._time_ns(), self._time_ns()))
        begin, end = f"{format_time(low)}Z", f"{format_time(high)}Z"
        match self._chance.randrange(6):
            case 0:
                return {"query_range_begin": begin, "query_range_end": end}
            case 1:
                return {"query_range_begin": begin}
            case 2:
                return {"query_range_end": end}
            case _:
                return {}

    def _pick(self, choices: Sequence[_T]) -> _T:
        return self._chance.choice(choices)
