"""What is not read because of a time range cannot change an answer: a server that reads everything answers the same.

Two servers share one lake; the second one does not choose partitions or rows by what statements and headers say, and so
rests on filters alone. Random statements must have equal rows from both.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from lakeflight.wire.times import format_time
from tests.support.fixtures import Request, rows_of
from tests.support.flight_calls import RawFlight
from tests.support.history import DAY_NS, HOUR_NS, MINUTE_NS, LongProgram
from tests.support.postgres import PostgresServer
from tests.support.random_queries import Question, QuestionMaker, plain_predicates
from tests.support.serving import Server, serving
from tests.support.sizes import SEED, size

QUESTIONS = size(100, 600)
START_NS = 1_714_557_600_000_000_000
DAYS = 6


@dataclass
class History:
    """A lake of several days and buckets, and the two servers that read it."""

    pruned: Server
    whole: Server
    database_url: str
    chance: random.Random
    programs: list[LongProgram]
    clients: tuple[RawFlight, RawFlight] = field(init=False)

    def __post_init__(self) -> None:
        self.clients = (RawFlight(self.pruned.flight), RawFlight(self.whole.flight))

    def a_day_of(self, program: LongProgram, day: int) -> list[Request]:
        begin = program.start_ns + day * DAY_NS
        made = []
        for make in (program.logs, program.metrics, program.spans):
            at = begin + self.chance.randrange(20 * HOUR_NS)
            made.append(make(at, self.chance.randrange(MINUTE_NS, HOUR_NS)))
        return made

    def came_earlier(self, days: int) -> None:
        """Move all that nobody has asked for yet into buckets of the past."""
        asyncio.run(
            _execute(
                self.database_url,
                *(
                    f"UPDATE {table} SET insert_time = insert_time - interval '{days} days'"
                    " WHERE insert_time > now() - interval '1 hour'"
                    for table in ("processes", "streams", "blocks")
                ),
            )
        )

    def touch(self) -> None:
        """Make partitions of what is there, so that what comes later adds others."""
        for program in self.programs:
            for source in (
                *(f"view_instance('{view_set}', '{program.process_id}')" for view_set in ("log_entries", "measures")),
                f"view_instance('thread_spans', '{program.streams['cpu']}')",
            ):
                self.clients[0].get(f"SELECT count(*) FROM {source}")
        for table in ("log_entries", "measures"):
            self.clients[0].get(f"SELECT count(*) FROM {table}")


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory, postgres_server: PostgresServer) -> Iterator[History]:
    folder: Path = tmp_path_factory.mktemp("history")
    url = asyncio.run(postgres_server.create(migrated=False))
    shared = ("--postgres-url", url, "--store-url", (folder / "store").as_uri())
    chance = random.Random(SEED)
    with (
        serving(folder / "pruned", *shared) as pruned,
        serving(folder / "whole", *shared, environment={"LAKEFLIGHT_TEST_UNPRUNED": "1"}) as whole,
    ):
        programs = [LongProgram(START_NS + number * 3 * HOUR_NS, exe, chance) for number, exe in enumerate("abc")]
        made = History(pruned, whole, url, chance, programs)
        for program in programs:
            pruned.replay(program.registration())
        for day in range(DAYS):
            for program in programs:
                if chance.random() < 0.8:
                    pruned.replay(made.a_day_of(program, day))
            if day < DAYS // 2:
                made.came_earlier(30 - day)  # buckets of their own
            else:
                made.touch()  # partitions of the open bucket
        yield made
        for client in made.clients:
            client.close()
    asyncio.run(postgres_server.drop(url))


def test_the_lake_has_many_partitions_to_choose_from(history: History) -> None:
    sets = asyncio.run(
        _fetch(
            history.database_url,
            "SELECT vid, count(DISTINCT bucket_begin), count(*) FROM lakehouse_partitions"
            " WHERE view_set_name IN ('log_entries', 'measures', 'thread_spans') GROUP BY 1",
        )
    )

    assert len(sets) == 3 * len(history.programs) + 2
    assert max(row[1] for row in sets) >= DAYS // 2
    assert max(row[2] for row in sets) > DAYS // 2


def test_random_statements_answer_the_same_without_pruning(history: History) -> None:
    print(f"seed {SEED}")
    questions = QuestionMaker(random.Random(SEED), history.programs)
    answered, with_rows = 0, 0
    for number in range(QUESTIONS):
        question = questions.question()
        if number % 12 == 11:  # telemetry goes on coming in
            program = history.chance.choice(history.programs)
            history.pruned.replay(history.a_day_of(program, history.chance.randrange(DAYS))[:2])

        pruned, whole = (_answer(client, question) for client in history.clients)

        assert pruned == whole, f"question {number} of seed {SEED}: {question}"
        answered += not isinstance(pruned, str)
        with_rows += isinstance(pruned, list) and bool(pruned)
    assert answered >= 0.9 * QUESTIONS, "most of the statements must be statements"
    assert with_rows >= 0.4 * QUESTIONS


@pytest.mark.parametrize("operator", ["<", "<=", ">", ">=", "="])
def test_every_kind_of_predicate_alone_answers_the_same_without_pruning(history: History, operator: str) -> None:
    print(f"seed {SEED}")
    chance = random.Random(f"{SEED}/{operator}")
    for _ in range(size(3, 12)):
        program = chance.choice(history.programs)
        moment = chance.choice(program.times_ns)
        for predicate in plain_predicates("time", operator, moment):
            source = chance.choice(("log_entries", f"view_instance('log_entries', '{program.process_id}')"))
            question = Question(f"SELECT time, msg FROM {source} WHERE {predicate}", {})

            pruned, whole = (_answer(client, question) for client in history.clients)

            assert pruned == whole, question
            assert isinstance(pruned, list), (question, pruned)


def test_spans_that_reach_over_a_moment_are_found_whichever_way_it_is_asked(history: History) -> None:
    """What begins before a moment and ends after it does both outside of the range between 'after' and 'before'."""
    source = f"view_instance('thread_spans', '{history.programs[0].streams['cpu']}')"
    span = rows_of(history.clients[1].get(f"SELECT begin, duration FROM {source} ORDER BY duration DESC LIMIT 1"))[0]
    begin_ns, last_ns = int(span["begin"]), int(span["begin"]) + int(span["duration"])
    early, late = (format_time(begin_ns + part * (last_ns - begin_ns) // 4) for part in (1, 3))
    for where, headers in (
        (f"begin < '{early}' AND \"end\" > '{late}'", {}),
        (f"begin < '{early}' AND \"end\" > '{early}'", {}),
        (f"\"end\" > '{late}'", {"query_range_end": f"{early}Z"}),
        (f"begin < '{early}'", {"query_range_begin": f"{late}Z"}),
    ):
        question = Question(f"SELECT begin, name FROM {source} WHERE {where}", headers)

        pruned, whole = (_answer(client, question) for client in history.clients)

        assert pruned == whole, question
        assert whole, question


def _answer(client: RawFlight, question: Question) -> list[Any] | str:
    """The rows in some order of their own, or the sentence that came instead."""
    try:
        table = client.get(question.sql, question.headers)
    except Exception as error:
        return str(error).partition(" (query_id=")[0]
    return sorted(repr(sorted(row.items())) for row in rows_of(table))


async def _execute(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


async def _fetch(url: str, sql: str) -> list[Any]:
    connection = await asyncpg.connect(url)
    try:
        rows: list[Any] = await connection.fetch(sql)
        return rows
    finally:
        await connection.close()
