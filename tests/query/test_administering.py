"""A statement that changes the lake is for administrators, and runs once, here: the engine only binds it."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from lakehouse.engine import Inspection, Reference
from lakehouse.errors import InternalError, PermissionDeniedError
from lakehouse.jobs.run import Frames, Planned, RunJob
from lakehouse.model import Caller, QueryOptions, Spelling
from lakehouse.sources import ADMINISTRATION_SCHEMA
from server.administration import Administration
from server.query.service import LakeQueryService
from tests.support.materializer_lake import MemoryLake
from views import default_registry

ADMIN, OTHER = Caller(connection="ipv4:127.0.0.1:4711"), Caller(connection="ipv4:10.1.2.3:4711")
SQL = "SELECT time, msg FROM retire_partitions('log_entries', 'global', '1970-01-01', '1970-01-02')"
OPTIONS = QueryOptions("q")


class Engine:
    """Binds every text as the same statement, and runs none."""

    async def inspect(self, sql: str, values: bytes | None, caller: Caller, spelling: Spelling) -> Planned:
        arguments = ("log_entries", "global", "0", "86400000000000")
        call = Reference("retire_partitions", "retire_partitions", arguments, is_call=True)
        schema = ADMINISTRATION_SCHEMA.serialize().to_pybytes()
        nothing = pa.schema([]).serialize().to_pybytes()
        return Planned(
            Inspection("query", (call,), 0, False, schema, nothing, 0, True, administers=("retire_partitions",)), 0.0
        )

    def run(self, job: RunJob) -> Frames:
        raise InternalError("the engine was asked to run it")


@pytest.fixture
def service(tmp_path: Path) -> LakeQueryService:
    lake, registry = MemoryLake(tmp_path), default_registry()
    materializer = lake.materializer()
    administration = Administration(registry, lake.catalog, materializer)
    return LakeQueryService(registry, materializer, Engine(), administration=administration, statement_timeout_s=60.0)


async def test_nobody_else_may_even_prepare_it(service: LakeQueryService) -> None:
    with pytest.raises(PermissionDeniedError, match=r"retire_partitions is for administrators: .* loopback address"):
        await service.prepare(SQL, OTHER, OPTIONS)
    with pytest.raises(PermissionDeniedError):
        [frame async for frame in service.execute(SQL, OTHER, OPTIONS)]


async def test_an_administrator_gets_a_row_for_each_step_without_the_engine(service: LakeQueryService) -> None:
    assert (await service.prepare(SQL, ADMIN, OPTIONS)).schema == ADMINISTRATION_SCHEMA.serialize().to_pybytes()

    declared, *rows = [frame async for frame in service.execute(SQL, ADMIN, OPTIONS)]

    assert b"time" in declared
    assert len(rows) == 1 and b"there are no partitions of log_entries of global" in rows[0]
