"""The first view that is defined in SQL, on a real server: exact for every block that was acknowledged."""

from __future__ import annotations

import pytest
from adbc_driver_manager import ProgrammingError

from tests.support.fixtures import native_cases
from tests.support.programs import SECOND_NS, START_NS, Program
from tests.support.serving import Server, renamed

STATS = "SELECT * FROM log_stats WHERE process_id = '{}' ORDER BY ALL"
COUNTED = """
    SELECT date_trunc('minute', time) AS time_bin, process_id, level, target, count(*) AS "count"
    FROM view_instance('log_entries', '{}') GROUP BY ALL ORDER BY ALL
"""


def test_it_counts_what_the_log_has_after_every_block(server: Server) -> None:
    program = Program()
    server.replay(program.registration())
    for lines in (1, 5, 200, 3):
        server.replay([program.log_block(lines)])

        stats = server.query(STATS.format(program.process_id)).to_pylist()

        assert [(row["level"], row["target"]) for row in stats] == [(4, "test")]  # a row of parts in many files
        assert stats[0]["count"] == program.logged


def test_rows_of_recorded_programs_are_those_of_a_statement_over_their_lines(server: Server) -> None:
    for case in native_cases():
        sent = renamed(case)
        server.replay(sent.requests)
        process_id = sent.names[case.process_id]

        assert (
            server.query(STATS.format(process_id)).to_pylist() == server.query(COUNTED.format(process_id)).to_pylist()
        )


def test_a_bin_is_found_by_its_begin_although_its_lines_came_later(server: Server) -> None:
    program = Program(start_ns=START_NS + 59 * SECOND_NS)  # of a minute
    server.replay([*program.registration(), program.log_block(2)])

    found = server.query(
        f"SELECT \"count\" FROM log_stats WHERE process_id = '{program.process_id}' AND time_bin = make_timestamp_ns({START_NS})"
    ).to_pylist()

    assert found == [{"count": 2}]


@pytest.mark.parametrize("condition", ["no_such = 1", "time_bin >= 'invalid-timestamp'"])
def test_a_condition_that_means_nothing_is_refused(server: Server, condition: str) -> None:
    with pytest.raises(ProgrammingError, match="INVALID_ARGUMENT"):
        server.query(f"SELECT * FROM log_stats WHERE {condition}")


def test_columns_are_declared_as_they_come(server: Server) -> None:
    table = server.query("SELECT * FROM view_instance('log_stats', 'global') LIMIT 0")

    assert [f"{field.name} {field.type}" for field in table.schema] == [
        "time_bin timestamp[ns, tz=UTC]", "process_id string", "level int32", "target string", "count int64",
    ]  # fmt: skip
