"""What the edge remembers of statements is bounded in bytes, however few or large they are."""

from __future__ import annotations

import asyncio
import os

import pytest

from lakehouse.engine import DEFAULT_LIMITS, Inspection, Reference
from lakehouse.errors import BackendUnavailableError, LimitExceededError
from lakehouse.jobs.run import Frames, Planned, RunJob
from lakehouse.model import Caller, Spelling
from server.flight.streams import ReadyFrames
from server.query.inspections import REMEMBERED_BYTES_EACH_MAX, REMEMBERED_BYTES_MAX, Inspections
from server.query.running import RUNNING_BYTES_MAX, RunningStatements

ADA, BOB = Caller("ada"), Caller("bob")
MB = 1 << 20


class Engine:
    """Answers every statement with a schema of so many bytes."""

    def __init__(self, schema_bytes: int, *, volatile: bool = False) -> None:
        self.schema_bytes, self.volatile = schema_bytes, volatile
        self.asked = 0

    async def inspect(self, sql: str, values: bytes | None, caller: Caller, spelling: Spelling) -> Planned:
        self.asked += 1
        reference = Reference("t", "t", ("global",), columns=frozenset({"a", "b"}))
        schema = b"x" * self.schema_bytes
        return Planned(Inspection("query", (reference,), 0, self.volatile, schema, b"", 0, True), 0.0)

    async def run(self, job: RunJob) -> Frames:
        raise NotImplementedError
        yield b""


def resident_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize(("schema_bytes", "statements"), [(100, 1_024), (60_000, 1_024), (1 * MB, 150), (6 * MB, 50)])
async def test_remembered_statements_take_no_more_than_the_limit(schema_bytes: int, statements: int) -> None:
    inspections = Inspections(Engine(schema_bytes))
    before = resident_bytes()

    for number in range(statements):
        await inspections.inspect(f"SELECT {number} -- {'x' * 37_000}", None, ADA)
        assert inspections.remembered_bytes <= REMEMBERED_BYTES_MAX

    assert resident_bytes() - before < 2 * REMEMBERED_BYTES_MAX


async def test_what_is_asked_again_is_not_asked_of_the_engine() -> None:
    engine = Engine(100)
    inspections = Inspections(engine)
    for _ in range(3):
        await inspections.inspect("SELECT 1", None, ADA)
    assert engine.asked == 1

    await inspections.inspect("SELECT 1", None, BOB)
    assert engine.asked == 2  # nobody learns from the memory what another has asked


async def test_a_large_one_does_not_push_out_the_others() -> None:
    engine = Engine(100)
    inspections = Inspections(engine)
    await inspections.inspect("SELECT 1", None, ADA)
    engine.schema_bytes = REMEMBERED_BYTES_EACH_MAX + 1
    for _ in range(2):
        await inspections.inspect("SELECT large", None, ADA)
    assert engine.asked == 3

    await inspections.inspect("SELECT 1", None, ADA)
    assert engine.asked == 3


async def test_a_statement_asked_by_many_at_once_is_counted_once() -> None:
    inspections = Inspections(Engine(1_000))
    await inspections.inspect("SELECT 1", None, ADA)
    alone = inspections.remembered_bytes
    inspections = Inspections(Engine(1_000))

    await asyncio.gather(*(inspections.inspect("SELECT 1", None, ADA) for _ in range(10)))

    assert inspections.remembered_bytes == alone


async def test_what_follows_the_clock_is_not_remembered() -> None:
    inspections = Inspections(Engine(100, volatile=True))
    await inspections.inspect("SELECT now()", None, ADA)
    assert inspections.remembered_bytes == 0


async def test_a_text_that_is_too_long_waits_for_no_worker() -> None:
    engine = Engine(100)
    with pytest.raises(LimitExceededError, match=f"the limit is {DEFAULT_LIMITS.sql_bytes_max}"):
        await Inspections(engine).inspect("-" * (DEFAULT_LIMITS.sql_bytes_max + 1), None, ADA)
    assert engine.asked == 0


async def test_statements_that_run_or_wait_hold_no_more_than_the_limit() -> None:
    running = RunningStatements(per_identity_max=10_000, stall_limit_s=300, stall_limit_while_refused_s=30)
    handle = b"x" * MB
    entered = [running.enter(str(n), ADA, handle, ReadyFrames([])) for n in range(RUNNING_BYTES_MAX // MB)]
    assert running.held_bytes == RUNNING_BYTES_MAX

    with pytest.raises(BackendUnavailableError, match="the server is busy"):
        running.enter("one more", BOB, b"x", ReadyFrames([]))
    for statement in entered:
        running.leave(statement)

    assert running.held_bytes == 0
