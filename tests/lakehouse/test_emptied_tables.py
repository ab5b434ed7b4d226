"""Partitions are a cache: whatever an operator removes of their tables is made again, by a server that goes on running."""

from __future__ import annotations

import pytest

from lakehouse.model import EVERYTHING, GLOBAL_INSTANCE
from tests.support.materializer_lake import Lake, view_of
from tests.support.programs import Program

LOGS = view_of("log_entries")
LINES = sorted(f"line {number}" for number in range(6))


@pytest.mark.parametrize(
    "removal",
    [
        ["TRUNCATE lakehouse_partitions"],
        ["DELETE FROM lakehouse_partitions"],
        ["TRUNCATE lakehouse_buckets CASCADE"],
        ["DELETE FROM lakehouse_buckets"],
        ["TRUNCATE view_instances CASCADE"],
        ["TRUNCATE view_instances RESTART IDENTITY CASCADE"],
        ["DELETE FROM view_instances"],
        ["TRUNCATE lakehouse_partitions, lakehouse_buckets, view_instances, lake_objects CASCADE"],
        [
            f"DELETE FROM {table}"
            for table in ("lakehouse_partitions", "lakehouse_buckets", "view_instances", "lake_objects")
        ],
        [f"DELETE FROM {table}" for table in ("view_instances", "lake_objects")],
    ],
    ids=lambda statements: "; ".join(statements),
)
@pytest.mark.parametrize("scope", ["global", "process"])
async def test_a_server_that_runs_makes_again_what_an_operator_removed(
    lake: Lake, removal: list[str], scope: str
) -> None:
    program, other = Program(), Program()
    await lake.send([*program.registration(), program.log_block(), program.log_block()])
    instance = GLOBAL_INSTANCE if scope == "global" else program.process_id
    materializer = lake.materializer()
    assert await lake.messages(await materializer.ensure(LOGS, instance, EVERYTHING)) == LINES

    for statement in removal:
        await lake.pool.execute(statement)
    await lake.send(other.registration())
    await materializer.ensure(LOGS, other.process_id, EVERYTHING)  # takes the number that was given before, if it can

    for _ in range(2):
        assert await lake.messages(await materializer.ensure(LOGS, instance, EVERYTHING)) == LINES
    assert lake.builder.sizes == [2, 2]
