"""Buckets that nothing is added to any more become few and long, and no row of any view changes by it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from lakehouse.buckets.materialize import Materializer
from lakehouse.buckets.merging import MERGED_BYTES_MAX
from lakehouse.buckets.planning import version_of
from lakehouse.model import EVERYTHING, GLOBAL_INSTANCE
from lakehouse.ports import View
from tests.support.lake_rows import rows_of
from tests.support.materializer_lake import Lake, view_of
from tests.support.programs import Program
from views import default_registry

LOGS, SPANS = view_of("log_entries"), view_of("thread_spans")
HOURS = 4


async def sent_at(lake: Lake, hour: int, *requests: object) -> list[str]:
    """Blocks that came in an hour of a day that is closed."""
    age = timedelta(days=2, hours=datetime.now(UTC).hour - hour)
    blocks = await lake.send(requests)  # type: ignore[arg-type]
    await lake.make_older(blocks, hours=age // timedelta(hours=1))
    return blocks


async def closed_day(lake: Lake, view: View, instance: str) -> Materializer:
    """All that there is of it is made, and sealed."""
    materializer = lake.materializer()
    await materializer.ensure(view, instance, EVERYTHING)
    await lake.catalog.seal_buckets()
    return materializer


async def merge(lake: Lake, materializer: Materializer, *views: View) -> int:
    """What maintenance does; how many days it found worth it."""
    by_version = {version_of(view): view for view in views or default_registry().views}
    days = await lake.catalog.mergeable_days(list(by_version), MERGED_BYTES_MAX, 100)
    for instance, day in days:
        await materializer.merge_day(by_version[instance.version], instance, day)
    return len(days)


async def buckets_of(lake: Lake, view: View, instance: str) -> Sequence[int]:
    """The files of each bucket."""
    materializer = lake.materializer()
    fresh = await materializer.ensure(view, instance, EVERYTHING)
    return [len(fresh.partitions)]


@pytest.mark.parametrize("instance", ["process", "global"])
async def test_the_hours_of_a_closed_day_become_one_file_with_the_same_rows(lake: Lake, instance: str) -> None:
    program = Program()
    await lake.send(program.registration())
    for hour in range(HOURS):
        await sent_at(lake, hour, program.log_block(lines=5 + hour))
    name = program.process_id if instance == "process" else GLOBAL_INSTANCE
    materializer = await closed_day(lake, LOGS, name)
    before = await rows_of(lake, LOGS, name)
    built = len(lake.builder.jobs)

    assert await merge(lake, materializer, LOGS) == 1

    fresh = await lake.materializer().ensure(LOGS, name, EVERYTHING)
    assert len(fresh.partitions) == 1
    assert await rows_of(lake, LOGS, name) == before
    assert len(lake.builder.jobs) == built, "no block is decoded for it"
    assert await merge(lake, materializer, LOGS) == 0
    assert await lake.held() == 0
