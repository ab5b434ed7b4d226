"""Statements that the catalog's own rows answer: how many processes there are, and the blocks of one."""

from __future__ import annotations

from functools import partial
from typing import Final

from benchmarks.clients import Raw
from benchmarks.figures import Figure, at_most
from benchmarks.measure import take_turns
from benchmarks.serving import Sender, Server
from benchmarks.sizes import Size
from benchmarks.workload import logs

_LINES: Final = 10
_TARGET_MS: Final = 15


def measure(server: Server, size: Size) -> list[Figure]:
    """Over so many processes as the size says, with a stream and a block each, beside what was sent before."""
    sender, client = Sender(server), Raw(server.flight)
    for _ in range(size.processes):
        telemetry = logs(1, _LINES)
        sender.send_all(telemetry.requests())
    statements = {
        "processes": "SELECT count(*) FROM processes",
        "blocks": f"SELECT count(*) FROM blocks WHERE process_id = '{telemetry.process.process_id}'",
    }
    if client.integer(statements["processes"]) < size.processes or client.integer(statements["blocks"]) != 1:
        raise RuntimeError("the catalog does not show what was sent")
    found = take_turns(
        size.rounds, {name: partial(client.rows, sql) for name, sql in statements.items()}, samples=size.samples
    )
    client.close()
    return [
        Figure(
            f"count_{name}_ms",
            what,
            found[name].p50 * 1e3,
            "ms",
            (found[name].spread[0] * 1e3, found[name].spread[1] * 1e3),
            targets=(at_most(found[name].p50 * 1e3, _TARGET_MS, f"{_TARGET_MS} ms"),),
        )
        for name, what in (
            ("processes", f"count(*) of processes, {size.processes} of them and more"),
            ("blocks", "count(*) of blocks of one process"),
        )
    ]
