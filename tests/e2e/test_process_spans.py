"""``process_spans``: all threads of a process and its async spans, in any statement, with any arguments."""

from __future__ import annotations

import random
from typing import Any

import pytest
from adbc_driver_manager import ProgrammingError

from lakeflight.wire.transit.types import SPAN_TYPES
from lakeflight.wire.transit.writer import SpanBlockBuilder, SpanMetadata
from tests.support.programs import START_NS, Program
from tests.support.serving import Server
from tests.support.sizes import SEED


@pytest.fixture(scope="module")
def program(server: Server) -> Program:
    sent = Program()
    server.replay([*sent.registration(), sent.thread_block(frames=2), *sent.async_requests()])
    return sent


def rows(server: Server, program: Program, types: str, columns: str = "thread_name, name, depth, duration") -> Any:
    sql = f"SELECT {columns} FROM process_spans('{program.process_id}', '{types}') ORDER BY stream_id, begin, id"
    return [tuple(row.values()) for row in server.query(sql).to_pylist()]


ASYNC = [("async", "request", 0, 8_000), ("async", "query", 1, 5_000)]
THREAD = [
    ("Main-1", "Main-1", 0, 1_000_000_000),
    *(("Main-1", "Frame", 1, 8_000), ("Main-1", "Work", 2, 3_000)),
    *(("Main-1", "Frame", 1, 8_000), ("Main-1", "Work", 2, 3_000)),
]


@pytest.mark.parametrize(("types", "expected"), [("async", ASYNC), ("thread", THREAD), ("both", ASYNC + THREAD)])
def test_spans_of_each_type(server: Server, program: Program, types: str, expected: list[Any]) -> None:
    assert rows(server, program, types) == expected


def test_spans_of_a_thread_are_those_of_its_view(server: Server, program: Program) -> None:
    ours = server.query(
        f"SELECT * EXCLUDE (stream_id, thread_name) FROM process_spans('{program.process_id}', 'thread') ORDER BY begin, id"
    )
    view = server.query(f"SELECT * FROM view_instance('thread_spans', '{program.thread_stream}') ORDER BY begin, id")

    assert ours.equals(view)


def test_arguments_may_be_bound_and_the_function_stands_wherever_a_table_does(server: Server, program: Program) -> None:
    joined = server.query(
        """
        WITH spans AS (SELECT * FROM process_spans(?, ?))
        SELECT inside.name FROM spans AS inside JOIN spans AS outside ON inside.parent = outside.id
        WHERE outside.name = 'request' AND inside.thread_name = 'async'
        """,
        (program.process_id.upper(), "both"),
    ).to_pylist()

    assert joined == [{"name": "query"}]


@pytest.mark.parametrize(
    ("condition", "names"),
    [
        ("begin <= make_timestamp_ns({0})", ["request"]),  # it ends later
        ('"end" >= make_timestamp_ns({1})', ["request"]),  # it begins earlier
        ("begin > make_timestamp_ns({0})", ["query"]),
    ],
)
def test_what_a_statement_bounds_never_tears_a_pair(
    server: Server, program: Program, condition: str, names: list[str]
) -> None:
    bound = condition.format(START_NS + 1_500, START_NS + 8_000)
    found = server.query(f"SELECT name FROM process_spans('{program.process_id}', 'async') WHERE {bound}").to_pylist()

    assert [row["name"] for row in found] == names


def test_pairs_are_those_of_a_plain_model_whatever_block_each_half_came_in(server: Server) -> None:
    chance, program = random.Random(SEED), Program()
    server.replay(program.registration())
    spans = {span_id: sorted(chance.sample(range(1_000), 2)) for span_id in range(1, 60)}
    ended = {span_id for span_id in spans if chance.random() < 0.8}
    events = [(tick, span_id, True) for span_id, (tick, _) in spans.items()]
    events += [(tick, span_id, False) for span_id, (_, tick) in spans.items() if span_id in ended]
    chance.shuffle(events)
    for start in range(0, len(events), 10):
        builder = SpanBlockBuilder()
        for tick, span_id, begins in events[start : start + 10]:
            (builder.begin_async if begins else builder.end_async)(SpanMetadata("s", "t"), tick, span_id=span_id)
        server.replay(program.stream_of_one_block(SPAN_TYPES, builder.finish()))
        if start == 30:
            rows(server, program, "both")  # what is made now has halves only

    found = rows(server, program, "async", f'id, epoch_ns(begin) - {START_NS}, epoch_ns("end") - {START_NS}')

    assert sorted(found) == [(span_id, *spans[span_id]) for span_id in sorted(ended)]


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        ("process_spans('{0}', 'all')", "span_types must be 'thread', 'async', or 'both', given: all"),
        ("process_spans('x', 'both')", "must be a valid UUID, given: x"),
        ("process_spans('{0}')", "takes a process id and a type of spans, not 1 arguments"),
        ("process_spans(1, 'both')", "the first argument of process_spans must be a string literal"),
        ("view_instance('process_spans', '{0}')", "process_spans is a function"),
        ("process_spans", r"it is a function, process_spans\(process_id, span_types\)"),
        ("proces_spans", r"did you mean process_spans\(…\)"),
    ],
)
def test_what_means_nothing_is_refused_in_words(server: Server, program: Program, call: str, reason: str) -> None:
    with pytest.raises(ProgrammingError, match=reason):
        server.query(f"SELECT * FROM {call.format(program.process_id)}")


def test_a_range_of_the_headers_takes_pairs_that_lie_in_it_whole(server: Server, program: Program) -> None:
    headers = {"query_range_begin": "2024-05-01T10:00:00.0000015Z", "query_range_end": "2024-05-01T10:00:00.000008Z"}
    with server.connect(headers) as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT name FROM process_spans('{program.process_id}', 'async')")
        found = cursor.fetch_arrow_table().to_pylist()

    assert found == [{"name": "query"}]  # the request begins before it and ends behind it


def test_several_calls_in_a_statement_have_each_its_own_rows(server: Server, program: Program) -> None:
    counts = ", ".join(
        f"(SELECT count(*) FROM process_spans('{program.process_id}', '{types}')) AS {types}_spans"
        for types in ("thread", "async", "both")
    )

    assert server.query(f"SELECT {counts}").to_pylist() == [{"thread_spans": 5, "async_spans": 2, "both_spans": 7}]


def test_a_process_that_is_not_there_is_named(server: Server) -> None:
    with pytest.raises(Exception, match="process 00000000-0000-4000-8000-00000000dead not found"):
        server.query("SELECT * FROM process_spans('00000000-0000-4000-8000-00000000dead', 'both')")
