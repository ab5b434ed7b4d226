"""A sender that is not Python: what it was told is acknowledged is in the lake, row by row."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import foreign_sender, workload
from tests.support.fixtures import Request
from tests.support.serving import Server


@pytest.mark.needs("go")
@pytest.mark.parametrize("connections", [1, 7])
def test_blocks_of_a_go_program_are_there_once_they_are_acknowledged(
    server: Server, tmp_path: Path, connections: int
) -> None:
    program = foreign_sender.build(tmp_path)
    assert program is not None
    telemetry = workload.logs(40)
    registered: list[workload.Request] = []
    blocks: list[workload.Request] = []
    for request in telemetry.requests():
        (blocks if request.path.endswith("insert_block") else registered).append(request)
    server.replay([Request(request.path, {}, request.body) for request in registered])

    sent = foreign_sender.send(
        program, server.http, connections, "/ingestion/insert_block", [block.body for block in blocks], tmp_path
    )

    process_id = telemetry.process.process_id
    rows = server.query(f"SELECT msg FROM view_instance('log_entries', '{process_id}')").column("msg").to_pylist()
    assert sent.statuses == {"200": 40}
    assert len(sent.milliseconds) == 40
    assert sorted(rows) == sorted(
        f"actor {number} took {number % workload.LOG_LINES * 37 % 1000} us" for number in range(40 * workload.LOG_LINES)
    )
