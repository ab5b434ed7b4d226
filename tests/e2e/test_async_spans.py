"""Async spans of a real program, from the emitter to rows: tasks keep their trees, and threads take no part in them."""

from __future__ import annotations

import subprocess
import sys
import uuid

import pytest

from tests.support.fixtures import ROOT
from tests.support.serving import Server

PROGRAM = """
import asyncio, sys, threading
from lakeflight.telemetry import Telemetry, async_span, named_async_span, span, span_fn

@span_fn
async def fetch(part):
    with named_async_span(f"part {part}"):
        await asyncio.sleep(0.001)

async def handle(number):
    with span("handle"):
        tasks = [asyncio.create_task(fetch(f"{number}.{part}")) for part in range(2)]
        await asyncio.sleep(0)
        await asyncio.gather(*tasks)

async def never():
    with span("never"):
        await asyncio.sleep(3600)

async def main():
    lost = asyncio.create_task(never())
    await asyncio.gather(*(handle(number) for number in range(3)))
    held = async_span("moved")
    held.__enter__()
    await asyncio.get_running_loop().run_in_executor(None, held.__exit__, None, None, None)

with Telemetry(sys.argv[1], exe=sys.argv[2]) as telemetry:
    loop = asyncio.new_event_loop()
    loop.run_until_complete(main())
"""


@pytest.fixture(scope="module")
def process_id(server: Server) -> str:
    exe = f"async-{uuid.uuid4()}"
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, server.http, exe], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 0, ran.stderr
    (row,) = server.query(f"SELECT process_id FROM processes WHERE exe = '{exe}'").to_pylist()
    return str(row["process_id"])


def test_every_span_has_its_begin_and_its_end(server: Server, process_id: str) -> None:
    counted = server.query(
        f"""
        SELECT split_part(name, ' ', 1) AS kind, event_type, count(*) AS n, count(DISTINCT span_id) AS spans
        FROM view_instance('async_events', '{process_id}') GROUP BY ALL ORDER BY ALL
        """
    ).to_pylist()

    assert [tuple(row.values()) for row in counted] == [
        ("fetch", "begin", 6, 6),
        ("fetch", "end", 6, 6),
        ("handle", "begin", 3, 3),
        ("handle", "end", 3, 3),
        ("moved", "begin", 1, 1),
        ("moved", "end", 1, 1),
        ("never", "begin", 1, 1),
        ("part", "begin", 6, 6),
        ("part", "end", 6, 6),
    ]


def test_tasks_keep_their_trees(server: Server, process_id: str) -> None:
    view = f"view_instance('async_events', '{process_id}')"

    trees = server.query(
        f"""
        WITH b AS (SELECT * FROM {view} WHERE event_type = 'begin')
        SELECT top.span_id, task.name, leaf.name AS part, top.depth AS d0, task.depth AS d1, leaf.depth AS d2
        FROM b AS leaf JOIN b AS task ON leaf.parent_span_id = task.span_id
        JOIN b AS top ON task.parent_span_id = top.span_id
        WHERE top.parent_span_id = 0
        """
    ).to_pylist()

    assert {(row["d0"], row["d1"], row["d2"], row["name"]) for row in trees} == {(0, 1, 2, "fetch")}
    parts = {span: {row["part"] for row in trees if row["span_id"] == span} for span in {r["span_id"] for r in trees}}
    assert sorted(map(sorted, parts.values())) == [[f"part {n}.0", f"part {n}.1"] for n in range(3)]


def test_a_span_lasts_from_its_begin_to_its_end_also_on_another_thread(server: Server, process_id: str) -> None:
    view = f"view_instance('async_events', '{process_id}')"

    pairs = server.query(
        f"""
        SELECT b.name, e.time >= b.time AS forward, b.stream_id <> e.stream_id AS moved,
               (b.depth, b.parent_span_id, b.hash) = (e.depth, e.parent_span_id, e.hash) AS same
        FROM {view} AS b JOIN {view} AS e USING (span_id)
        WHERE b.event_type = 'begin' AND e.event_type = 'end'
        """
    ).to_pylist()

    assert len(pairs) == 16
    assert all(row["forward"] and row["same"] for row in pairs)
    assert [row["name"] for row in pairs if row["moved"]] == ["moved"]
