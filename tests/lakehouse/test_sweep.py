"""After faults anywhere, one pass of maintenance leaves the files in the store that the catalog names, and no others."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from lakehouse import failpoints
from lakehouse.errors import BackendUnavailableError
from lakehouse.failpoints import FailpointError
from lakehouse.model import EVERYTHING, GLOBAL_INSTANCE
from lakehouse.storage.paths import BLOBS, LAKE_ID, blob_key, partition_key
from server.maintenance import Maintenance
from server.retention import Kept
from tests.support.materializer_lake import view_of
from tests.support.postgres_lake import PostgresLake, postgres_lake_at
from tests.support.programs import Program
from tests.support.sizes import SEED, size

LOGS = view_of("log_entries")
POINTS = ("reserve", "write", "seal", "commit", "release", *failpoints.RETENTION)
RUNS = size(2, 100)
OLD_H = 24 * 30


@pytest_asyncio.fixture
async def lake(database_url: str, tmp_path: Path) -> AsyncIterator[PostgresLake]:
    async with postgres_lake_at(database_url, tmp_path) as lake:
        yield lake


@pytest.fixture(autouse=True)
def _disarmed() -> Iterator[None]:
    yield
    failpoints.arm("")


def _maintenance(lake: PostgresLake, *, kept: Kept | None = None, orphan_grace_s: float = 0.0) -> Maintenance:
    kept = kept or Kept(timedelta(days=7), timedelta(days=14), {"log_entries": None})
    return lake.maintenance(kept=kept, orphan_grace_s=orphan_grace_s)


async def _orphan(lake: PostgresLake, folder: Path) -> str:
    """A file as one leaves it whose upload ended after its write was given up."""
    key = partition_key("log_entries", GLOBAL_INSTANCE, 0)
    source = folder / "late"
    source.write_bytes(b"late")
    await lake.store.put_file(key, source)
    return key


async def test_a_file_that_nothing_names_is_deleted_when_it_was_seen_for_long(
    lake: PostgresLake, tmp_path: Path
) -> None:
    program = Program()
    await lake.send([*program.registration(), program.log_block()])
    fresh = await lake.materializer().ensure(LOGS, program.process_id, EVERYTHING)
    orphan = await _orphan(lake, tmp_path)

    await _maintenance(lake, orphan_grace_s=3600).round()
    assert orphan in await lake.store.list("_schema")
    await lake.pool.execute("UPDATE lakehouse_orphans SET seen_at = seen_at - interval '2 hours'")
    await _maintenance(lake, orphan_grace_s=3600).round()

    assert orphan not in await lake.store.list("_schema")
    assert {partition.key for partition in fresh.partitions} <= set(await lake.store.list("_schema"))
    assert await lake.pool.fetchval("SELECT count(*) FROM lakehouse_orphans") == 0


async def test_a_store_that_another_lake_uses_is_not_swept(lake: PostgresLake, tmp_path: Path) -> None:
    await lake.store.put_blobs([(LAKE_ID, b"3f2504e0-4f89-41d3-9a0c-0305e82c3301")])
    others = await _orphan(lake, tmp_path)

    with capture_logs() as logs:
        for _ in range(2):
            await _maintenance(lake).round()

    assert await lake.store.list("_schema") == [others]
    assert [line["reason"] for line in logs if line["event"] == "sweep.refused"] == [
        "the store is another lake's, too"
    ] * 2


async def test_a_file_that_is_being_written_is_no_orphan(lake: PostgresLake, tmp_path: Path) -> None:
    orphan = await _orphan(lake, tmp_path)
    await lake.catalog.reserve([orphan], timedelta(minutes=5), "a builder")

    await _maintenance(lake).round()

    assert await lake.store.list("_schema") == [orphan]


@pytest.mark.parametrize("run", range(RUNS))
async def test_one_pass_after_any_faults_leaves_what_the_catalog_names(
    lake: PostgresLake, tmp_path: Path, run: int
) -> None:
    seed = f"{SEED}-{run}"
    print(f"seed {seed}")
    chance = random.Random(seed)
    program = Program()
    await lake.send(program.registration())
    ages: list[int] = []
    possible = [2, 3, 30, OLD_H, OLD_H + 1]
    for _ in range(12):
        point, action = chance.choice(POINTS), chance.random()
        failpoints.arm(f"{point}:raise:0.5:{chance.randrange(1 << 30)}")
        with suppress(FailpointError, BackendUnavailableError):
            if action < 0.4:
                age = chance.choice(possible)
                blocks = await lake.send([program.log_block()])
                await lake.make_older(blocks, age)
                ages.append(age)
            elif action < 0.8:
                instance = chance.choice((program.process_id, GLOBAL_INSTANCE))
                await lake.materializer().ensure(LOGS, instance, EVERYTHING)
            else:
                possible = [2, 3, 30]  # nothing comes from before what went
                await _maintenance(lake).round()
    failpoints.arm("")
    await _orphan(lake, tmp_path)
    await lake.expire_intents()

    await _maintenance(lake).round()

    named = await lake.pool.fetch("SELECT DISTINCT file_path FROM lakehouse_partitions WHERE file_path IS NOT NULL")
    assert set(await lake.store.list("_schema")) == {row["file_path"] for row in named}
    blocks_left = await lake.pool.fetch("SELECT process_id, stream_id, block_id FROM blocks")
    assert set(await lake.store.list(BLOBS)) == {blob_key(*map(str, row.values())) for row in blocks_left}
    assert len(blocks_left) == sum(age < OLD_H for age in ages)
    lines = await lake.messages(await lake.materializer().ensure(LOGS, GLOBAL_INSTANCE, EVERYTHING))
    assert lines == sorted(f"line {number}" for number in range(program.logged)), "log_entries keeps all of its rows"
