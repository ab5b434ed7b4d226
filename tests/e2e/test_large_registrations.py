"""Whatever a program puts into its properties, it takes nobody's rows but its own."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

from lakeflight.connection import connect
from lakeflight.wire.envelope import decode_process, decode_stream, encode_process, encode_stream
from tests.support.programs import Program
from tests.support.serving import Server, serving

PROPERTY_CHARACTERS = 12 << 20  # one may be registered; with a process and a stream of these a block has too much


def register_with_a_large_property(server: Server, program: Program) -> None:
    dump = {"dump": "x" * PROPERTY_CHARACTERS}
    registration, *registrations = program.registration()
    process = decode_process(registration.body)
    process = replace(process, properties={**process.properties, **dump})
    server.replay([replace(registration, body=encode_process(process))])
    for registration in registrations:
        stream = decode_stream(registration.body)
        stream = replace(stream, properties={**stream.properties, **dump})
        server.replay([replace(registration, body=encode_stream(stream))])


def test_a_large_property_breaks_no_query_of_others(tmp_path: Path) -> None:
    modest, *excessive = (Program() for _ in range(3))
    with serving(tmp_path) as server:
        server.replay([*modest.registration(), modest.log_block()])
        for program in excessive:
            register_with_a_large_property(server, program)
            server.replay([program.log_block()])

        with connect(server.flight) as client, warnings.catch_warnings():
            warnings.simplefilter("ignore")

            def rows(sql: str) -> list[dict[str, Any]]:
                found: list[dict[str, Any]] = client.query(sql).to_pylist()
                return found

            logs = client.query_stream("SELECT process_id, msg FROM log_entries WHERE exe = 'made-up' ORDER BY msg")
            lines = [row for batch in logs for row in batch.to_pylist()]
            left_out = rows("SELECT process_id, error FROM quarantined_blocks")
            processes = rows("SELECT process_id, len(properties[2].value) AS n FROM processes WHERE exe = 'made-up'")
            (whole,) = rows(f"SELECT * FROM processes WHERE process_id = '{excessive[0].process_id}'")
            blocks = rows("SELECT block_id FROM blocks WHERE \"processes.exe\" = 'made-up'")

    assert [(row["process_id"], row["msg"]) for row in lines] == [(modest.process_id, f"line {i}") for i in range(3)]
    assert logs.missing_blocks == 2
    assert {row["process_id"] for row in left_out} == {program.process_id for program in excessive}
    assert all("send less with them" in row["error"] for row in left_out)
    assert {row["process_id"]: row["n"] for row in processes} == {
        modest.process_id: None,
        **{program.process_id: PROPERTY_CHARACTERS for program in excessive},
    }
    assert whole["properties"][1] == {"key": "dump", "value": "x" * PROPERTY_CHARACTERS}
    assert len(blocks) == 3
