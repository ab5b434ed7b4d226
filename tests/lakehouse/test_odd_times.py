"""Clocks that step, and blocks that claim times of 1970 or of the future: every row is found, and every bucket comes to an end."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest

from lakehouse.model import EVERYTHING, GLOBAL_INSTANCE
from tests.lakehouse.test_merging import closed, merge, sent_at
from tests.support.materializer_lake import view_of
from tests.support.postgres_lake import PostgresLake, postgres_lake_at
from tests.support.programs import START_NS, Program

LOGS = view_of("log_entries")
HOUR_NS = 3_600_000_000_000
STARTS = {
    "1970": 1_000_000_000,
    "an hour behind": START_NS - HOUR_NS,
    "an hour ahead": START_NS + HOUR_NS,
    "2100": 4_102_444_800_000_000_000,
}


@pytest.mark.parametrize("start", STARTS)
async def test_what_a_program_with_another_clock_sends_is_found_and_merged_like_all_else(
    database_url: str, tmp_path: Path, start: str
) -> None:
    async with postgres_lake_at(database_url, tmp_path) as lake:
        odd, sound = Program(start_ns=STARTS[start]), Program()
        for program in (odd, sound):
            await lake.send(program.registration())
            for hour in range(3):
                await sent_at(lake, hour, program.log_block())
        expected = Counter({f"line {number}": 2 for number in range(odd.logged)})

        materializer = await closed(lake, LOGS, GLOBAL_INSTANCE)
        before = await _lines(lake)
        merged = await merge(lake, materializer, LOGS)

        assert (before, merged, await _lines(lake)) == (expected, 1, expected)
        lengths = await lake.pool.fetch("SELECT bucket_end - bucket_begin AS length FROM lakehouse_buckets")
        assert [row["length"] for row in lengths] == [timedelta(days=1)]


@pytest.mark.parametrize("step_h", [-1, 1])
async def test_a_step_of_the_clock_of_the_database_loses_no_block(
    database_url: str, tmp_path: Path, step_h: int
) -> None:
    """Blocks that came before the step seem to have come an hour later, or earlier, than those that came after it."""
    async with postgres_lake_at(database_url, tmp_path) as lake:
        program = Program()
        await lake.send(program.registration())
        for number in range(6):
            blocks = await lake.send([program.log_block()])
            if number < 3:
                await lake.make_older(blocks, step_h)
            assert len(await _lines(lake)) == program.logged, "each is found as soon as it has come"

        await lake.catalog.seal_buckets()

        assert await _lines(lake) == Counter(f"line {number}" for number in range(program.logged))
        ahead = await lake.pool.fetchval(
            "SELECT count(*) FROM lakehouse_buckets WHERE sealed AND bucket_end > clock_timestamp()"
        )
        assert ahead == 0, "what may get further blocks is not closed"


async def _lines(lake: PostgresLake) -> Counter[str]:
    return Counter(await lake.messages(await lake.materializer().ensure(LOGS, GLOBAL_INSTANCE, EVERYTHING)))
