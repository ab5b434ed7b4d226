"""Kill −9 between any two steps of housekeeping: no row that is kept is lost or doubled, and one pass later the store holds what
the catalog names, and nothing else."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest

from lakehouse import failpoints
from lakehouse.model import EVERYTHING, GLOBAL_INSTANCE
from lakehouse.storage.paths import BLOBS, PARTITIONS, blob_key, partition_key
from tests.support.fixtures import ROOT
from tests.support.housekeeping import KEPT, LOGS, OLD_H, SPANS, all_runs_out, housekeeping
from tests.support.lake_rows import rows_of
from tests.support.postgres_lake import PostgresLake, postgres_lake_at
from tests.support.programs import Program
from tests.support.sizes import SEED, size

RUNS = size(1, 13)  # of each point: more than a hundred of all of them
KILLS_MAX = 3  # of a run: each costs a start
PATIENCE_S = 120.0


async def _much_to_do(lake: PostgresLake, chance: random.Random) -> Program:
    """Closed days in hours and in deltas, blocks and partitions that expire, and what faults have left behind."""
    program = Program()
    await lake.send(program.registration())
    ages = [OLD_H + 1, OLD_H, 30, 31, 32, 3, *chance.choices([OLD_H, 30, 31, 54, 55], k=4)]
    chance.shuffle(ages)
    for age in ages:
        await lake.make_older(await lake.send([program.log_block(), program.thread_block()]), age)
        if chance.random() < 0.5:
            await lake.materializer().ensure(LOGS, chance.choice([program.process_id, GLOBAL_INSTANCE]), EVERYTHING)
    for view, instance in ((LOGS, program.process_id), (LOGS, GLOBAL_INSTANCE), (SPANS, program.thread_stream)):
        await lake.materializer().ensure(view, instance, EVERYTHING)
    await lake.catalog.seal_buckets()
    keys = [partition_key("log_entries", GLOBAL_INSTANCE, number) for number in range(2)]
    for key in keys:
        source = lake.scratch / "left"
        source.write_bytes(b"left")
        await lake.store.put_file(key, source)
    await lake.catalog.reserve(keys[:1], timedelta(minutes=1), "one that died")
    await lake.expire_intents()
    await lake.pool.execute(
        "UPDATE lakehouse_buckets SET src_blocks = src_blocks + 1 WHERE sealed AND bucket_begin >"
        " clock_timestamp() - interval '5 days'"
    )
    return program


async def _killed(url: str, folder: Path, failpoint: str) -> bool:
    """Whether housekeeping was killed, and did not come to its end before."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.support.housekeeping", url, str(folder)),
        cwd=ROOT,
        env=os.environ | {failpoints.VARIABLE: failpoint},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    assert process.returncode in (0, -signal.SIGKILL), output.decode()[-3000:]
    return process.returncode != 0


@pytest.mark.parametrize("run", range(RUNS))
@pytest.mark.parametrize("point", [*failpoints.WRITING, *failpoints.HOUSEKEEPING])
async def test_a_kill_at_any_step_of_housekeeping_loses_nothing_and_leaves_nothing(
    database_url: str, tmp_path: Path, point: str, run: int
) -> None:
    seed = f"{SEED}-{point}-{run}"
    print(f"seed {seed}")
    chance = random.Random(seed)
    kills = 0
    async with postgres_lake_at(database_url, tmp_path) as lake:
        program = await _much_to_do(lake, chance)
        expected = await rows_of(lake, LOGS, GLOBAL_INSTANCE)
        for probability in (1.0, 0.5, 0.2)[:KILLS_MAX]:
            kills += await _killed(database_url, tmp_path, f"{point}:kill:{probability}:{chance.randrange(1 << 30)}")
            await all_runs_out(lake)

        await housekeeping(lake, KEPT).round()

        assert kills, "it came to the point"
        named = await lake.pool.fetch("SELECT DISTINCT file_path FROM lakehouse_partitions WHERE file_path IS NOT NULL")
        assert set(await lake.store.list(PARTITIONS)) == {row["file_path"] for row in named}
        blocks = await lake.pool.fetch("SELECT process_id, stream_id, block_id FROM blocks")
        assert set(await lake.store.list(BLOBS)) == {blob_key(*map(str, row.values())) for row in blocks}
        assert await rows_of(lake, LOGS, GLOBAL_INSTANCE) == expected
        assert await _lines(lake, program.process_id) == Counter(f"line {number}" for number in range(program.logged))
        assert await lake.held() == 0


async def _lines(lake: PostgresLake, instance: str) -> Counter[str]:
    return Counter(await lake.messages(await lake.materializer().ensure(LOGS, instance, EVERYTHING)))
