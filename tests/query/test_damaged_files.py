"""A statement that stumbles over a damaged file runs once more, or says to ask again, and blames nothing else for it."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path

import pyarrow as pa
import pytest
import pytest_asyncio

from lakeflight.wire.flight_data import schema_frame
from lakehouse.buckets.materialize import Materializer
from lakehouse.catalog.memory import MemoryCatalog
from lakehouse.engine import Inspection, Reference
from lakehouse.errors import BackendUnavailableError, InternalError, LakeflightError, UnreadableFileError
from lakehouse.jobs.run import Frames, Planned, RunJob
from lakehouse.model import Caller, QueryOptions, Spelling
from server.administration import Administration
from server.query.inspections import Inspections
from server.query.query import Means, Query
from server.query.relations import Relations
from server.query.statement import Statement
from tests.lakehouse.test_damaged_files import noise
from tests.support.damage import DAMAGES, damage_inside
from tests.support.materializer_lake import MemoryLake
from tests.support.programs import Program
from views import default_registry

SCHEMA = pa.schema([("msg", pa.string())]).serialize().to_pybytes()


class Executor:
    """Reads nothing. Its first runs send so many frames of rows and then fail."""

    def __init__(self, process_id: str, error: LakeflightError, frames_before: int = 0, failures: int = 1) -> None:
        self.process_id, self.error = process_id, error
        self.frames_before, self.failures = frames_before, failures
        self.jobs: list[RunJob] = []

    async def inspect(self, sql: str, values: bytes | None, caller: Caller, spelling: Spelling) -> Planned:
        reference = Reference("view_instance", "log_entries", (self.process_id,), is_call=True)
        return Planned(Inspection("query", (reference,), 0, False, SCHEMA, SCHEMA, 0, True), 0.0)

    def run(self, job: RunJob) -> Frames:
        return self._run(job)

    async def _run(self, job: RunJob) -> AsyncGenerator[bytes, None]:
        self.jobs.append(job)
        yield schema_frame(SCHEMA)
        fails = len(self.jobs) <= self.failures
        for number in range(self.frames_before if fails else 3):
            yield f"rows {number}".encode()
        if fails:
            raise self.error


class Asked:
    """A lake with one file of rows, and a query over it."""

    def __init__(self, materializer: Materializer, program: Program, file: Path) -> None:
        self.materializer, self.program, self.file = materializer, program, file

    async def ask(self, executor: Executor) -> list[bytes]:
        materializer = self.materializer
        relations = Relations(default_registry(), materializer)
        administration = Administration(default_registry(), MemoryCatalog(), materializer)
        means = Means(Inspections(executor), relations, materializer, executor, administration, 60.0)
        query = Query(Statement("SELECT msg", None, Caller(), QueryOptions("q")), means)
        return [frame async for frame in query][1:]


@pytest_asyncio.fixture
async def asked(tmp_path: Path) -> AsyncIterator[Asked]:
    lake, program = MemoryLake(tmp_path), Program()
    await lake.send([*program.registration(), program.log_block(4000, noise)])
    (source,) = [source for source in default_registry().views if source.view_set == "log_entries"]
    materializer = lake.materializer()
    fresh = (await lake.local(materializer, source, program.process_id)).fresh
    yield Asked(materializer, program, tmp_path / "store" / fresh.partitions[0].key)
    await lake.store.close()


UNREADABLE, FAILED = UnreadableFileError("unreadable"), InternalError("the engine failed")


def damage(file: Path, error: LakeflightError) -> None:
    """What is looked for after an error: anything, or what a file ends with. Its status says nothing of it."""
    status = file.stat()
    if error is UNREADABLE:
        damage_inside(file)
    else:
        DAMAGES["a damaged footer"](file, file)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


ERRORS = pytest.mark.parametrize("error", [UNREADABLE, FAILED])


@ERRORS
async def test_before_the_first_row_it_runs_once_more_over_files_that_are_made_again(
    asked: Asked, error: LakeflightError
) -> None:
    damage(asked.file, error)
    executor = Executor(asked.program.process_id, error)

    assert await asked.ask(executor) == [b"rows 0", b"rows 1", b"rows 2"]

    before, after = (job.relations[0].keys + job.relations[0].keys_inside for job in executor.jobs)
    assert len(before) == len(after) == 1
    assert before != after


@ERRORS
async def test_after_the_first_row_it_says_to_ask_again_and_the_next_one_is_right(
    asked: Asked, error: LakeflightError
) -> None:
    damage(asked.file, error)
    executor = Executor(asked.program.process_id, error, frames_before=1)

    with pytest.raises(BackendUnavailableError, match="is damaged and is made again: ask again"):
        await asked.ask(executor)

    assert len(executor.jobs) == 1


async def test_a_fault_of_the_engine_has_no_file_read_whole(asked: Asked) -> None:
    damage_inside(asked.file)
    executor = Executor(asked.program.process_id, FAILED)

    with pytest.raises(InternalError, match="the engine failed"):
        await asked.ask(executor)

    assert len(executor.jobs) == 1


@ERRORS
async def test_an_error_over_files_that_are_sound_is_its_own(asked: Asked, error: LakeflightError) -> None:
    executor = Executor(asked.program.process_id, error)

    with pytest.raises(type(error), match=str(error)):
        await asked.ask(executor)

    assert len(executor.jobs) == 1


@ERRORS
async def test_it_runs_no_third_time(asked: Asked, error: LakeflightError) -> None:
    damage(asked.file, error)
    executor = Executor(asked.program.process_id, error, failures=5)

    with pytest.raises(type(error), match=str(error)):
        await asked.ask(executor)

    assert len(executor.jobs) == 2
