"""Servers whose clocks disagree, whose leader stands still, and that let old telemetry go while others are asked for it."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lakeflight.wire.envelope import decode_block
from server.maintenance import SILENT_S_MAX
from tests.support.cluster import WAIT_S_MAX, Cluster, ask_all, owner_of, paused, until
from tests.support.programs import Program
from tests.support.serving import Server
from tests.support.versions import version

ROLES = ("--roles", "flight,ingestion")
OFTEN = {"LAKEFLIGHT_MAINTENANCE_INTERVAL_S": "0.2"}
HOUR_S = 3600
SLOW_LINES = 60_000  # of a block that takes a while to decode


def _lines(numbers: range) -> Counter[str]:
    return Counter(f"line {number}" for number in numbers)


def _logs_of(program: Program) -> str:
    return f"SELECT msg FROM view_instance('log_entries', '{program.process_id}')"


def test_servers_whose_clocks_are_an_hour_apart_agree_since_the_database_says_what_time_it_is(
    cluster: Cluster, tmp_path: Path
) -> None:
    """A lease that one of them holds is not over for the other, and both put a block into the same hour."""
    ahead_tree = version(tmp_path / "ahead-tree", ahead_s=HOUR_S)
    program = Program()
    with cluster.server("before", "--roles", "ingestion", tree=ahead_tree) as before:
        before.replay(program.registration())
        cluster.send_hours_apart(before, [program.log_block(SLOW_LINES), *(program.log_block() for _ in range(5))])
    with (
        cluster.server("right", environment=OFTEN) as right,
        cluster.server("ahead", environment=OFTEN, tree=ahead_tree) as ahead,
    ):
        clocks = [server.query("SELECT epoch(now()) AS s")["s"][0].as_py() for server in (right, ahead)]
        assert clocks[1] - clocks[0] == pytest.approx(HOUR_S, abs=60)
        answers = ask_all([ahead, right], _logs_of(program))
        for server in (right, ahead):
            server.replay([program.log_block()])
            answers += ask_all([right, ahead], _logs_of(program))

        assert [len(rows) for rows in answers] == [program.logged - 6] * 2 + [program.logged - 3] * 2 + [
            program.logged
        ] * 2
        assert all(max(Counter(rows).values()) == 1 for rows in answers)
        newest = "SELECT count(*) FROM blocks WHERE insert_time > clock_timestamp() - interval '30 min'"
        assert cluster.value(newest) == 2, "neither came in another hour"
        assert "lease_lost" not in right.log.read_text() + ahead.log.read_text()
    assert cluster.named_twice() == []


def test_what_a_suspended_leader_should_do_is_done_by_another_and_the_leader_goes_on_without_harm(
    cluster: Cluster,
) -> None:
    program = Program()
    with (
        cluster.server("front", *ROLES) as front,
        cluster.server("one", "--roles", "maintenance", environment=OFTEN) as one,
        cluster.server("two", "--roles", "maintenance", environment=OFTEN) as two,
    ):
        front.replay(program.registration())
        task = "SELECT count(*) = 1 FROM lakehouse_tasks WHERE task = 'freshen_global_views' AND owner LIKE $1"
        until(lambda: any(cluster.value(task, owner_of(server)) for server in (one, two)), "one of them leads")
        leader, other = (one, two) if cluster.value(task, owner_of(one)) else (two, one)

        with paused(leader):
            front.replay([program.log_block()])
            cluster.fetch("UPDATE lakehouse_tasks SET done_at = done_at - $1 * interval '1 s'", SILENT_S_MAX + 60)
            cluster.wait_for(task, owner_of(other))
            cluster.wait_for(
                "SELECT sum(num_rows) = $1 FROM lakehouse_partitions WHERE view_set_name = 'log_entries'",
                program.logged,
            )
            assert "maintenance.leader_silent" in other.log.read_text()
        front.replay([program.log_block()])
        cluster.wait_for(
            "SELECT sum(num_rows) = $1 FROM lakehouse_partitions WHERE view_set_name = 'log_entries'", program.logged
        )
        cluster.wait_for(task, owner_of(leader))  # it has its session still

        assert Counter(front.query("SELECT msg FROM log_entries")["msg"].to_pylist()) == _lines(range(program.logged))
    assert cluster.named_twice() == []


def test_a_day_that_queries_are_reading_expires_without_a_query_that_fails_or_lacks_a_row_that_is_kept(
    cluster: Cluster,
) -> None:
    """Two servers are asked all the time for two days of one hour each, and the older one goes."""
    keep_a_day = OFTEN | {
        "LAKEFLIGHT_BLOCK_RETENTION_DAYS": "1.5",
        "LAKEFLIGHT_PARTITION_RETENTION_DAYS": "1.5",
        "LAKEFLIGHT_RETIRED_GRACE_S": "5",
    }
    program, begun, gone = Program(), threading.Barrier(3), threading.Event()

    def ask(server: Server) -> list[Counter[str]]:
        answers: list[Counter[str]] = []
        while not gone.is_set() or len(answers) < 3:
            answers.append(Counter(server.query(_logs_of(program))["msg"].to_pylist()))
            answers.append(Counter(server.query("SELECT msg FROM log_entries")["msg"].to_pylist()))
            if len(answers) == 2:
                begun.wait(WAIT_S_MAX)
        return answers

    with (
        cluster.server("one", *ROLES) as one,
        cluster.server("two", *ROLES) as two,
        ThreadPoolExecutor(2) as asking,
    ):
        one.replay(program.registration())
        old = [program.log_block(200) for _ in range(6)]
        cluster.send_hours_apart(one, old, first_age_h=48)
        old_lines = program.logged
        cluster.send_hours_apart(one, [program.log_block(200) for _ in range(6)])
        readers = [asking.submit(ask, server) for server in (one, two)]
        begun.wait(WAIT_S_MAX)
        with cluster.server("keeper", "--roles", "maintenance", environment=keep_a_day):
            cluster.wait_for("SELECT count(*) = 6 FROM blocks")
            until(
                lambda: not set(_payloads(cluster)) & {decode_block(block.body).block_id for block in old},
                "their payloads go",
            )
            cluster.wait_for(
                "SELECT coalesce(sum(num_rows), 0) <= 2 * $1 FROM lakehouse_partitions WHERE view_set_name = 'log_entries'",
                program.logged - old_lines,
            )
        gone.set()
        answers = [answer for reader in readers for answer in reader.result(WAIT_S_MAX)]

    kept, all_of_it = _lines(range(old_lines, program.logged)), _lines(range(program.logged))
    assert all(answer <= all_of_it and kept <= answer for answer in answers)
    assert answers[0] == all_of_it
    assert answers[-1] == kept


def _payloads(cluster: Cluster) -> list[str]:
    client = cluster.bucket.client()
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=cluster.bucket.name, Prefix="lake/blobs/")
    return [entry["Key"].rsplit("/", 1)[-1] for page in pages for entry in page.get("Contents", ())]
