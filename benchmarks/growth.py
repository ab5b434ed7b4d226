"""How cost grows with blocks, partitions, instances and clients; and whether what was acknowledged is there."""

from __future__ import annotations

import time

from benchmarks.clients import Raw, with_clients
from benchmarks.figures import Figure, Limit, at_most
from benchmarks.measure import median, percentile, seconds
from benchmarks.queries import Thread
from benchmarks.serving import Sender, Server
from benchmarks.sizes import GROWTH, Size
from benchmarks.workload import LOG_LINES, Telemetry, block_request, log_block, logs


def see_at_once(server: Server, size: Size) -> list[Figure]:
    """Send a block, have it acknowledged, ask: the first answer must hold it."""
    telemetry = logs(0)
    stream = telemetry.streams[0]
    sender, client = Sender(server), Raw(server.flight)
    sender.send_all(telemetry.requests())
    sql = _count_logs(telemetry)
    failures = 0
    latencies: list[float] = []
    unchanged: list[float] = []
    for number in range(size.new_blocks):
        sender.send(block_request(log_block(telemetry.process, stream, number)))
        started = time.perf_counter()
        rows = client.integer(sql)
        latencies.append(time.perf_counter() - started)
        failures += rows != (number + 1) * LOG_LINES
        unchanged.append(seconds(lambda: client.rows(sql)))
    client.close()
    p50 = median(latencies) * 1e3
    return [
        Figure(
            "invisible_blocks",
            f"acknowledged blocks that the next query did not see, of {size.new_blocks}",
            failures,
            "",
            targets=(at_most(failures, 0, "0"),),
        ),
        Figure(
            "visible_ms",
            "acknowledged to answered with the new block in it: p50",
            p50,
            "ms",
            (min(latencies) * 1e3, max(latencies) * 1e3),
            limit=Limit(median(unchanged) * 1e3, "the same query with nothing new"),
        ),
        Figure("visible_p95_ms", "the same: p95", percentile(latencies, 95) * 1e3, "ms"),
    ]


def grow(server: Server, thread: Thread, size: Size) -> list[Figure]:
    return [
        *_blocks(server, size),
        *_deltas(server, size),
        *_instances(server, size),
        *_clients(server, thread, size),
    ]


def _blocks(server: Server, size: Size) -> list[Figure]:
    """One process of logs, in one bucket, with more and more blocks."""
    sender, client = Sender(server), Raw(server.flight)
    cold: list[float] = []
    warm: list[float] = []
    for times in GROWTH:
        first: list[float] = []
        again: list[float] = []
        for _ in range(1 if size.rounds == 1 else 3):
            telemetry = logs(times * size.log_blocks)
            sender.send_all(telemetry.requests())
            sql = _count_logs(telemetry)
            first.append(seconds(lambda: client.rows(sql)) * 1e3)  # noqa: B023
            again += [seconds(lambda: client.rows(sql)) * 1e3 for _ in range(size.samples)]  # noqa: B023
        cold.append(median(first))
        warm.append(median(again))
    client.close()
    blocks = " → ".join(f"{times * size.log_blocks:,}" for times in GROWTH)
    return [
        _series("grow_blocks_cold_ms", f"first query over a process of {blocks} blocks of logs", cold, "ms"),
        _series("grow_blocks_warm_ms", "the same again", warm, "ms", linear=False),
    ]


def _deltas(server: Server, size: Size) -> list[Figure]:
    """One bucket in more and more partitions: a block, a query, and so on."""
    telemetry = logs(0)
    sender, client = Sender(server), Raw(server.flight)
    sender.send_all(telemetry.requests())
    sql = _count_logs(telemetry)
    warm: list[float] = []
    partitions = (1, 4, 15)  # one more, and the bucket is made whole
    for number in range(partitions[-1]):
        sender.send(block_request(log_block(telemetry.process, telemetry.streams[0], number)))
        client.rows(sql)
        if number + 1 in partitions:
            warm.append(median([seconds(lambda: client.rows(sql)) * 1e3 for _ in range(3 * size.samples)]))
    client.close()
    text = " → ".join(map(str, partitions))
    return [
        _series("grow_partitions_warm_ms", f"warm query over {text} partitions of a bucket", warm, "ms", linear=False)
    ]


def _instances(server: Server, size: Size) -> list[Figure]:
    """A lake of more and more processes, each asked once."""
    sender, client = Sender(server), Raw(server.flight)
    firsts: list[float] = []
    warms: list[float] = []
    there = 0
    for times in GROWTH:
        first: list[float] = []
        while there < times * size.instances:
            telemetry = logs(1)
            sender.send_all(telemetry.requests())
            sql = _count_logs(telemetry)
            first.append(seconds(lambda: client.rows(sql)) * 1e3)  # noqa: B023
            there += 1
        firsts.append(median(first[-size.instances :]))
        warms.append(median([seconds(lambda: client.rows(sql)) * 1e3 for _ in range(3 * size.samples)]))  # noqa: B023
    client.close()
    text = " → ".join(f"{times * size.instances:,}" for times in GROWTH)
    return [
        _series(
            "grow_instances_cold_ms", f"first query of one more process, {text} of them", firsts, "ms", linear=False
        ),
        _series("grow_instances_warm_ms", "the same again", warms, "ms", linear=False),
    ]


def _clients(server: Server, thread: Thread, size: Size) -> list[Figure]:
    """More and more clients at once."""
    figures: list[Figure] = []
    for key, what, sql in (
        ("select_1", "SELECT 1", "SELECT 1"),
        ("count", "warm count(*) of the thread", f"SELECT count(*) FROM {thread.relation}"),
    ):
        rates = [with_clients(lambda: Raw(server.flight), clients, sql, size.client_queries) for clients in GROWTH]
        text = " → ".join(map(str, GROWTH))
        figures.append(
            Figure(
                f"grow_clients_{key}_per_s",
                f"{what}, {text} raw Flight clients at once",
                rates[-1],
                "/s",
                series=tuple(rates),
                limit=Limit(rates[0], "one client"),
            )
        )
    return figures


def _series(key: str, what: str, values: list[float], unit: str, *, linear: bool = True) -> Figure:
    """Held against growth in proportion, or against none."""
    factor = GROWTH[-1] if linear else 1
    text = f"{factor} × the first" if linear else "the first"
    return Figure(key, what, values[-1], unit, series=tuple(values), limit=Limit(factor * values[0], text))


def _count_logs(telemetry: Telemetry) -> str:
    return f"SELECT count(*) FROM view_instance('log_entries', '{telemetry.process.process_id}')"
