"""Servers of two versions on one lake: an upgrade goes server by server, or is refused in a sentence, and rows are right throughout."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import adbc_driver_manager
import pytest

from lakehouse.catalog.schema import known_version
from tests.support.cluster import Cluster, ask_all, until
from tests.support.fixtures import ROOT
from tests.support.programs import Program
from tests.support.serving import ServerDiedError
from tests.support.versions import version

ROLES = ("--roles", "flight,ingestion")
OFTEN = {"LAKEFLIGHT_MAINTENANCE_INTERVAL_S": "0.2"}
# What a later version may well do: a column more, and a table; and take away what this version writes.
SURVIVED = f"-- serves: {known_version()}\nALTER TABLE blocks ADD COLUMN note text;\nCREATE TABLE notes (note text);\n"
BREAKING = "ALTER TABLE blocks DROP COLUMN object_offset CASCADE;\n"


def _lines(program: Program) -> Counter[str]:
    return Counter(f"line {number}" for number in range(program.logged))


def _logs_of(program: Program) -> str:
    return f"SELECT msg FROM view_instance('log_entries', '{program.process_id}')"


def test_servers_go_on_while_a_newer_one_changes_the_schema_for_which_they_are_not_too_old(
    cluster: Cluster, tmp_path: Path
) -> None:
    newer_tree = version(tmp_path / "newer-tree", steps={"notes": SURVIVED})
    program = Program()
    with cluster.server("older", environment=OFTEN) as older:
        older.replay([*program.registration(), program.log_block()])
        assert Counter(older.query(_logs_of(program))["msg"].to_pylist()) == _lines(program)

        with cluster.server("newer", environment=OFTEN, tree=newer_tree) as newer:
            assert cluster.value("SELECT max(version) FROM schema_migrations") == known_version() + 1
            for server in (older, newer, older):
                server.replay([program.log_block()])
                answers = ask_all([older, newer], _logs_of(program))
                assert [Counter(rows) for rows in answers] == [_lines(program)] * 2
            everything = ask_all([older, newer], "SELECT msg FROM log_entries")
            assert [Counter(rows) for rows in everything] == [_lines(program)] * 2

            with cluster.server("another-older", *ROLES) as started_since:
                assert Counter(started_since.query(_logs_of(program))["msg"].to_pylist()) == _lines(program)

        assert "error" not in _errors(older.log), "the older one noticed nothing"
    assert cluster.named_twice() == []


def test_a_schema_for_which_running_servers_are_too_old_waits_for_them_and_refuses_them_from_then_on(
    cluster: Cluster, tmp_path: Path
) -> None:
    newer_tree = version(tmp_path / "newer-tree", steps={"without_offsets": BREAKING})
    program = Program()
    with cluster.server("older", *ROLES) as older:
        older.replay([*program.registration(), program.log_block()])

        with pytest.raises(ServerDiedError) as refused, cluster.server("newer", *ROLES, tree=newer_tree):
            pass

        older.replay([program.log_block()])
        assert Counter(older.query(_logs_of(program))["msg"].to_pylist()) == _lines(program)
    with cluster.server("newer", "--roles", "maintenance", tree=newer_tree):
        pass
    with pytest.raises(ServerDiedError) as too_old, cluster.server("older", *ROLES):
        pass

    assert _last_sentence(refused.value) == (
        f"lakeflight: step {known_version() + 1} (without_offsets) of the database's schema is not for the servers of an older"
        " version that still run, on the host of the database: stop them all, then start this one"
    )
    assert _last_sentence(too_old.value) == (
        f"lakeflight: the database has schema version {known_version() + 1} and this program knows {known_version()}: it was used"
        " by a newer lakeflight, upgrade this one"
    )


def test_a_server_that_was_cut_off_during_an_upgrade_says_that_it_is_too_old(cluster: Cluster) -> None:
    """All of its connections were gone when the step was made: it finds out at the next."""
    program = Program()
    with cluster.server("older", *ROLES) as older:
        older.replay([*program.registration(), program.log_block()])
        assert older.query(_logs_of(program)).num_rows == program.logged
        late = program.log_block()
        cluster.fetch(
            "INSERT INTO schema_migrations (version, name, digest) VALUES ($1, 'later', '\\x00')", known_version() + 1
        )
        cluster.fetch(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = 'lakeflight'"
        )

        with pytest.raises(adbc_driver_manager.Error, match="a newer version of lakeflight has changed the database"):
            until(lambda: not older.query(_logs_of(program)), "the query is refused")
        assert older.post(late.path, late.body) == 503, "its sender keeps it"
        assert cluster.value("SELECT count(*) FROM blocks") == 1


def test_servers_of_two_writer_versions_each_make_their_own_partitions_and_both_answer_right(
    cluster: Cluster, tmp_path: Path
) -> None:
    (now,) = re.findall(r"writer_version: Final = (\d+)", (ROOT / "views" / "log_entries.py").read_text())
    newer_tree = version(tmp_path / "newer-tree", writer_versions={"log_entries": int(now) + 1})
    program = Program()
    with cluster.server("before", "--roles", "ingestion") as before:
        before.replay(program.registration())
        cluster.send_hours_apart(before, [program.log_block() for _ in range(6)], first_age_h=48)
    with (
        cluster.server("older", environment=OFTEN) as older,
        cluster.server("newer", environment=OFTEN, tree=newer_tree) as newer,
    ):
        for server in (newer, older):
            assert [Counter(rows) for rows in ask_all([older, newer], _logs_of(program))] == [_lines(program)] * 2
            server.replay([program.log_block()])
        # The leader merges what is of its own version.
        cluster.wait_for(
            "SELECT EXISTS (SELECT FROM lakehouse_buckets WHERE bucket_end - bucket_begin > interval '1 h')"
        )
        for sql in (_logs_of(program), "SELECT msg FROM log_entries"):
            assert [Counter(rows) for rows in ask_all([older, newer], sql)] == [_lines(program)] * 2

    assert cluster.named_twice() == []
    assert (
        cluster.value("SELECT count(DISTINCT writer_version) FROM view_instances WHERE view_set = 'log_entries'") == 2
    )
    assert cluster.value(
        "SELECT bool_and(p.writer_version = v.writer_version) FROM lakehouse_partitions p JOIN view_instances v USING (vid)"
    ), "none rewrites the other's"


def _errors(log: Path) -> str:
    return "\n".join(line for line in log.read_text().splitlines() if "[error" in line or "maintenance.failed" in line)


def _last_sentence(died: ServerDiedError) -> str:
    return next(line for line in reversed(str(died).splitlines()) if line.startswith("lakeflight: "))
