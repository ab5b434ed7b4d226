"""What is acknowledged is there for the next question, however many servers and questions there are."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.support.postgres import PostgresServer
from tests.support.programs import Program
from tests.support.serving import Server, serving
from tests.support.sizes import size


def test_every_block_is_in_the_first_answer_after_its_acknowledgement(server: Server) -> None:
    program = Program()
    server.replay(program.registration())
    logs = f"SELECT count(*) FROM view_instance('log_entries', '{program.process_id}')"
    spans = f"SELECT count(*) FROM view_instance('thread_spans', '{program.thread_stream}') WHERE depth > 0"
    with server.connect() as connection, connection.cursor() as cursor:
        for _ in range(12):
            server.replay([program.log_block()])
            cursor.execute(logs)
            assert cursor.fetchone()[0] == program.logged
            server.replay([program.thread_block()])
            cursor.execute(spans)
            assert cursor.fetchone()[0] == program.spans
            cursor.execute(f"SELECT count(*) FROM log_entries WHERE process_id = '{program.process_id}'")
            assert cursor.fetchone()[0] == program.logged
            cursor.execute(f"SELECT count(*) FROM blocks WHERE process_id = '{program.process_id}'")
            assert cursor.fetchone()[0] == program.log_blocks + program.thread_blocks


def test_many_open_deltas_are_made_whole_again(server: Server) -> None:
    """More blocks, one by one, than a bucket keeps partitions for."""
    program = Program()
    server.replay(program.registration())
    with server.connect() as connection, connection.cursor() as cursor:
        for _ in range(20):
            server.replay([program.log_block(1)])
            cursor.execute(f"SELECT count(*) FROM view_instance('log_entries', '{program.process_id}')")
            assert cursor.fetchone()[0] == program.logged
        cursor.execute(f"SELECT msg FROM view_instance('log_entries', '{program.process_id}') ORDER BY time")
        assert [row[0] for row in cursor.fetchall()] == [f"line {index}" for index in range(20)]


def test_a_known_process_without_such_streams_has_no_rows(server: Server) -> None:
    program = Program()
    server.replay(program.registration())

    table = server.query(f"SELECT * FROM view_instance('measures', '{program.process_id}')")

    assert table.num_rows == 0
    assert table.column_names[7:12] == ["time", "target", "name", "unit", "value"]


@pytest.mark.parametrize("view_set", ["log_entries", "measures", "thread_spans"])
def test_an_unknown_instance_is_an_error_that_names_it(server: Server, view_set: str) -> None:
    unknown = "00000000-0000-4000-8000-00000000abcd"

    with pytest.raises(Exception, match=f"{unknown} not found"):
        server.query(f"SELECT * FROM view_instance('{view_set}', '{unknown}')")


def test_two_servers_that_freshen_the_same_bucket_leave_one_set_of_partitions(
    tmp_path: Path, postgres_server: PostgresServer
) -> None:
    url = asyncio.run(postgres_server.create(migrated=False))
    shared = ("--postgres-url", url, "--store-url", (tmp_path / "store").as_uri())
    tries = size(8, 100)
    with (
        serving(tmp_path / "a", *shared) as first,
        serving(tmp_path / "b", *shared) as second,
        first.connect() as one,
        second.connect() as other,
        ThreadPoolExecutor(2) as threads,
    ):
        for _ in range(tries):
            program = Program()
            first.replay([*program.registration(), *(program.log_block() for _ in range(3)), program.thread_block()])
            together = threading.Barrier(2)

            def ask(connection: Any, program: Program, together: threading.Barrier) -> list[int]:
                with connection.cursor() as cursor:
                    together.wait()
                    answers = []
                    for source in (
                        f"view_instance('log_entries', '{program.process_id}')",
                        f"view_instance('thread_spans', '{program.thread_stream}')",
                    ):
                        cursor.execute(f"SELECT count(*) FROM {source}")
                        answers.append(cursor.fetchone()[0])
                    return answers

            answers = [threads.submit(ask, connection, program, together) for connection in (one, other)]

            assert [answer.result() for answer in answers] == [[program.logged, program.spans + 1]] * 2
    sets = asyncio.run(
        _fetch(url, "SELECT vid, bucket_begin, count(*), sum(num_rows) FROM lakehouse_partitions GROUP BY 1, 2")
    )
    assert len(sets) == 2 * tries
    assert {(row[2], row[3]) for row in sets} == {(1, 9), (1, 11)}
    assert asyncio.run(_fetch(url, "SELECT count(*) FROM lake_objects"))[0][0] == 2 * tries, (
        "nobody's work was thrown away"
    )
    assert asyncio.run(_fetch(url, "SELECT count(*) FROM staged_writes"))[0][0] == 0
    asyncio.run(postgres_server.drop(url))


async def _fetch(url: str, sql: str) -> list[Any]:
    connection = await asyncpg.connect(url)
    try:
        rows: list[Any] = await connection.fetch(sql)
        return rows
    finally:
        await connection.close()
