"""Real requests in, the recorded rows out: through HTTP, the object store, Parquet, DuckDB and ADBC."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.support.fixtures import Case, native_cases
from tests.support.recorded import assert_answers_as_recorded
from tests.support.serving import Server, renamed, start
from tests.support.sizes import SEED

CASES = pytest.mark.parametrize("case", native_cases(), ids=lambda case: case.name)


@CASES
def test_a_recorded_program_answers_the_recorded_rows(server: Server, case: Case) -> None:
    sent = renamed(case)

    server.replay(sent.requests)

    assert_answers_as_recorded(server, sent)


@CASES
def test_sending_everything_twice_changes_nothing(server: Server, case: Case) -> None:
    sent = renamed(case)
    server.replay(sent.requests)
    assert_answers_as_recorded(server, sent)

    server.replay(sent.requests)

    assert_answers_as_recorded(server, sent)


@CASES
def test_the_order_of_arrival_does_not_matter(server: Server, case: Case) -> None:
    sent = renamed(case)
    requests = sent.requests
    random.Random(f"{SEED}/{case.name}").shuffle(requests)

    server.replay(requests)

    assert_answers_as_recorded(server, sent)


def test_questions_while_telemetry_comes_in_do_not_change_the_last_answer(server: Server) -> None:
    """Every partition of an open bucket is made in steps; the steps must add up to the whole."""
    for case in native_cases()[:3]:
        sent = renamed(case)
        queries = [sent.text(case.description["queries"][name]["sql"]) for name in ("log_entries", "measures")]
        with server.connect() as connection, connection.cursor() as cursor:
            for request in sent.requests:
                server.replay([request])
                for sql in queries if request.path.endswith("insert_block") else ():
                    cursor.execute(sql)
                    cursor.fetch_arrow_table()

        assert_answers_as_recorded(server, sent)


def test_a_kill_of_everything_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    sent = [renamed(case) for case in native_cases()]
    server = start(tmp_path)
    for renamed_case in sent:
        half = len(renamed_case.requests) // 2
        server.replay(renamed_case.requests[:half])
    server.query(
        f"SELECT count(*) FROM view_instance('log_entries', '{next(iter(sent)).names[sent[0].case.process_id]}')"
    )
    server.kill()

    server = start(tmp_path)
    try:
        for renamed_case in sent:
            half = len(renamed_case.requests) // 2
            server.replay(renamed_case.requests[half:])
        for renamed_case in sent[: len(sent) // 2]:
            assert_answers_as_recorded(server, renamed_case)
        server.kill()
        server = start(tmp_path)
        for renamed_case in sent:
            assert_answers_as_recorded(server, renamed_case)
    finally:
        server.kill()
