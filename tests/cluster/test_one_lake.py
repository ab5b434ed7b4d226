"""Servers that share a lake: each partition is made once, whoever asks, dies or stands still, and every answer is whole."""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from lakehouse.buckets.freshen import MaterializerLimits
from tests.support.cluster import WAIT_S_MAX, Cluster, ask_all, owner_of, paused, until
from tests.support.programs import Program

HOURS = 25
WORK_RATIO_MAX = 1.1  # of four servers, to that of one
SLOW_LINES = 60_000  # of a block that takes a while to decode
LEASE_S = MaterializerLimits().lease_s


def _lines(program: Program) -> Counter[str]:
    return Counter(f"line {number}" for number in range(program.logged))


def _logs_of(program: Program) -> str:
    return f"SELECT msg FROM view_instance('log_entries', '{program.process_id}')"


@pytest.mark.parametrize("count", [2, 4])
def test_servers_that_are_asked_for_the_same_cold_buckets_at_once_make_each_of_them_once(
    cluster: Cluster, count: int
) -> None:
    program = Program()
    with cluster.servers(count, "--roles", "flight,ingestion") as servers:
        servers[0].replay(program.registration())
        blocks = [program.log_block() for _ in range(HOURS)]
        cluster.send_hours_apart(servers[0], blocks)

        answers = ask_all(servers, _logs_of(program))

    assert [Counter(answer) for answer in answers] == [_lines(program)] * count
    payloads, files = cluster.asked_for("GET", "blobs/"), cluster.asked_for("PUT", "_schema/")
    assert set(Counter(payloads)) == {path for path in payloads if program.process_id in path}
    assert HOURS <= len(payloads) <= WORK_RATIO_MAX * HOURS, "payloads that were fetched to be decoded"
    assert HOURS <= len(files) <= WORK_RATIO_MAX * HOURS, "files that were written"
    assert cluster.value("SELECT count(*) FROM lakehouse_partitions WHERE num_rows > 0") == HOURS
    assert cluster.named_twice() == []


def test_what_a_killed_server_was_making_is_made_by_another_without_a_row_lost_or_doubled(cluster: Cluster) -> None:
    program = Program()
    with (
        cluster.server("killed", "--roles", "flight,ingestion") as killed,
        cluster.server("other", "--roles", "flight,ingestion") as other,
        ThreadPoolExecutor(2) as asking,
    ):
        killed.replay(program.registration())
        cluster.send_hours_apart(killed, [program.log_block(SLOW_LINES), *(program.log_block() for _ in range(5))])
        lost = asking.submit(killed.query, _logs_of(program))
        cluster.wait_for("SELECT count(*) > 0 FROM lakehouse_leases WHERE owner LIKE $1", owner_of(killed))
        killed.kill()
        began = time.monotonic()
        answer = other.query(_logs_of(program))["msg"].to_pylist()
        took_s = time.monotonic() - began
        assert lost.exception() is not None

        with cluster.server("killed", "--roles", "flight,ingestion") as again:
            again.replay([program.log_block()])
            answers = ask_all([again, other], _logs_of(program))

    assert len(answer) == program.logged - 3
    assert set(answer) == {f"line {number}" for number in range(program.logged - 3)}
    assert took_s < WAIT_S_MAX
    assert [Counter(rows) for rows in answers] == [_lines(program)] * 2
    assert cluster.named_twice() == []


def test_a_server_that_was_suspended_for_longer_than_its_lease_goes_on_without_harm(cluster: Cluster) -> None:
    program = Program()
    with (
        cluster.server("suspended", "--roles", "flight,ingestion") as suspended,
        cluster.server("other", "--roles", "flight,ingestion") as other,
        ThreadPoolExecutor(1) as asking,
    ):
        suspended.replay(program.registration())
        cluster.send_hours_apart(suspended, [program.log_block(SLOW_LINES), program.log_block(), program.log_block()])
        waiting = asking.submit(suspended.query, _logs_of(program))
        held = "SELECT count(*) > 0 FROM lakehouse_leases WHERE owner LIKE $1"
        cluster.wait_for(held, owner_of(suspended))
        with paused(suspended):
            began = time.monotonic()
            answer = other.query(_logs_of(program))["msg"].to_pylist()
            took_s = time.monotonic() - began
        waited_for = waiting.exception(WAIT_S_MAX)
        resumed = suspended.query(_logs_of(program))["msg"].to_pylist()
        other.replay([program.log_block()])
        answers = ask_all([suspended, other], _logs_of(program))
        until(lambda: not cluster.value("SELECT count(*) FROM lakehouse_leases"), "leases are given up")

    # A statement of the database that was under way for longer than it may take is given up, and its caller told so.
    assert waited_for is None or "Unavailable" in str(waited_for)
    if waited_for is None:
        assert Counter(waiting.result()["msg"].to_pylist()) == Counter(answer)
    of_before = Counter(f"line {number}" for number in range(program.logged - 3))
    assert Counter(answer) == Counter(resumed) == of_before
    assert took_s < WAIT_S_MAX
    assert [Counter(rows) for rows in answers] == [_lines(program)] * 2
    assert cluster.named_twice() == []
