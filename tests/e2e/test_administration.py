"""Partitions administered in SQL on a real server: retired, made again, made ahead, and what the rows say of it."""

from __future__ import annotations

import pytest

from tests.support.programs import Program
from tests.support.serving import Server

DAYS = "'2000-01-01T00:00:00Z', '2100-01-01T00:00:00Z'"


@pytest.fixture
def program(server: Server) -> Program:
    """A program whose lines were read, so that they are in a file."""
    sent = Program()
    server.replay([*sent.registration(), sent.log_block()])
    assert lines(server, sent) == 3
    return sent


def lines(server: Server, program: Program) -> int:
    return int(
        server.query(f"SELECT count(*) AS n FROM view_instance('log_entries', '{program.process_id}')")["n"][0].as_py()
    )


def files(server: Server, program: Program) -> list[str]:
    found = server.query(f"SELECT file_path FROM list_partitions() WHERE view_instance_id = '{program.process_id}'")
    return [str(path) for path in found["file_path"].to_pylist()]


def test_retired_partitions_are_gone_and_the_next_query_makes_them_again(server: Server, program: Program) -> None:
    before = files(server, program)
    call = f"('log_entries', '{program.process_id}', {DAYS})"

    planned = server.query(f"SELECT * FROM retire_partitions_dry_run{call}")
    assert files(server, program) == before
    done = server.query(f"SELECT msg, time FROM retire_partitions{call}")

    assert planned.schema.names == ["time", "msg"]
    assert planned["msg"][0].as_py().endswith("would be retired") and done["msg"][0].as_py().endswith("bytes retired")
    assert files(server, program) == []
    assert lines(server, program) == 3
    assert len(files(server, program)) == 1 and files(server, program) != before


def test_partitions_are_retired_by_rows_of_list_partitions(server: Server, program: Program) -> None:
    chosen = f"FROM list_partitions() WHERE view_instance_id = '{program.process_id}'"

    answer = server.query(
        "SELECT retire_partition_by_metadata(view_set_name, view_instance_id, begin_insert_time, end_insert_time) AS said"
        f" {chosen}"
    )
    assert answer["said"][0].as_py().startswith(f"SUCCESS: Retired partition log_entries/{program.process_id} [")
    assert files(server, program) == [] and lines(server, program) == 3

    answer = server.query(f"SELECT file_path, retire_partition_by_file(file_path) AS said {chosen}")
    assert answer["said"][0].as_py() == f"SUCCESS: Retired partition {answer['file_path'][0].as_py()}"
    assert files(server, program) == [] and lines(server, program) == 3
    again = server.query("SELECT retire_partition_by_file(?) AS said", (answer["file_path"][0].as_py(),))
    assert again["said"][0].as_py().startswith("ERROR: Partition not found")


def test_global_partitions_are_made_ahead_and_made_again(server: Server, program: Program) -> None:
    window = "date_trunc('hour', now()) - INTERVAL '1 hour', date_trunc('hour', now()) + INTERVAL '1 hour', 3600"
    told = server.query(f"SELECT msg FROM materialize_partitions('log_entries', {window})")["msg"].to_pylist()
    assert told[-1].endswith(("made", "fresh"))
    count = server.query("SELECT count(*) AS n FROM log_entries")["n"].to_pylist()

    told = server.query(f"SELECT msg FROM regenerate_partitions('log_entries', {window})")["msg"].to_pylist()

    assert told[-1].endswith("made again")
    assert server.query("SELECT count(*) AS n FROM log_entries")["n"].to_pylist() == count


def test_preparing_such_a_statement_does_nothing(server: Server, program: Program) -> None:
    before = files(server, program)
    with server.connect() as connection, connection.cursor() as cursor:
        schema = cursor.adbc_execute_schema(
            f"SELECT * FROM retire_partitions('log_entries', '{program.process_id}', {DAYS})"
        )
        other = cursor.adbc_execute_schema(f"SELECT retire_partition_by_file('{before[0]}') AS said")

    assert (schema.names, other.names) == (["time", "msg"], ["said"])
    assert files(server, program) == before
