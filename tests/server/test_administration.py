"""What administrators have done: whole steps, told as they are done; a query is right before, after and in between."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from lakehouse.buckets.sharing import Progress
from lakehouse.errors import LakeflightError, PermissionDeniedError, QueryError
from lakehouse.jobs.build import BuildJob
from lakehouse.model import EVERYTHING, GLOBAL_INSTANCE, Caller
from server.administration import Administration
from tests.support.materializer_lake import MemoryLake, view_of
from tests.support.programs import Program
from views import default_registry

LOGS = view_of("log_entries")
ADMIN = Caller(connection="ipv4:127.0.0.1:50000")
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
NS = 1_000_000_000


class Administered:
    """Three hours of log lines, and who administers them."""

    def __init__(self, lake: MemoryLake, program: Program, blocks: list[str]) -> None:
        self.lake, self.program, self.blocks = lake, program, blocks
        self.catalog = lake.memory
        self.materializer = lake.materializer()
        self.administration = Administration(default_registry(), lake.catalog, self.materializer)
        self.end = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) + HOUR
        self.begin = self.end - 3 * HOUR

    async def run(
        self, function: str, *arguments: str, begin: datetime | None = None, step: int | None = 3600
    ) -> list[str]:
        window = [str(int(time.timestamp()) * NS) for time in (begin or self.begin, self.end)]
        steps = [] if step is None else [str(step)]
        async with aclosing(self.administration.run(function, [*arguments, *window, *steps], Progress())) as messages:
            return [message async for message in messages]

    async def rows(self) -> list[str]:
        return await self.lake.messages(await self.materializer.ensure(LOGS, GLOBAL_INSTANCE, EVERYTHING))

    @property
    def keys(self) -> list[str | None]:
        return [partition.key for partition in self.catalog.partitions]


@pytest_asyncio.fixture
async def administered(tmp_path: Path) -> AsyncIterator[Administered]:
    lake, program = MemoryLake(tmp_path), Program()
    blocks = await lake.send([*program.registration(), *(program.log_block() for _ in range(3))])
    await lake.spread(blocks)
    yield Administered(lake, program, blocks)
    await lake.store.close()


async def test_partitions_are_made_ahead_step_by_step(administered: Administered) -> None:
    planned = await administered.run("materialize_partitions_dry_run", "log_entries")
    assert [message[:6] for message in planned] == ["1 of 3", "2 of 3", "3 of 3"]
    assert all("1 bucket would be made" in message for message in planned)
    assert not administered.keys

    made = await administered.run("materialize_partitions", "log_entries")
    assert [message.replace("would be made", "made") for message in planned] == made
    assert len(administered.keys) == 3
    jobs = len(administered.lake.builder.jobs)
    assert len(await administered.rows()) == 9
    assert len(administered.lake.builder.jobs) == jobs  # the query found all of it
    assert "are fresh" in (await administered.run("materialize_partitions", "log_entries"))[0]


async def test_a_longer_step_is_one_message_for_all_of_its_hours(administered: Administered) -> None:
    (message,) = await administered.run("materialize_partitions", "log_entries", step=86400)

    assert message.startswith("1 of 1: log_entries from ") and message.endswith("3 buckets made")


async def test_only_what_came_in_the_window_is_made(administered: Administered) -> None:
    await administered.run("materialize_partitions", "log_entries", begin=administered.end - HOUR)

    assert len(administered.keys) == 1


@pytest.mark.parametrize(
    ("view_set", "told"),
    [
        ("nothing", "can't find view nothing"),
        ("list_partitions", "can't find view list_partitions"),
        ("blocks", "blocks has no partitions: its rows are read from the catalog"),
        ("thread_spans", "thread_spans has no global instance"),
    ],
)
async def test_what_is_not_made_ahead_is_told(administered: Administered, view_set: str, told: str) -> None:
    (message,) = await administered.run("materialize_partitions", view_set)

    assert message.startswith(told)


async def test_what_is_fresh_is_made_again_and_has_the_same_rows(administered: Administered) -> None:
    before, keys = await administered.rows(), administered.keys

    planned = await administered.run("regenerate_partitions_dry_run", "log_entries")
    assert administered.keys == keys
    made = await administered.run("regenerate_partitions", "log_entries")

    assert [message.replace("would be made again", "made again") for message in planned] == made
    assert len(made) == 3 and not set(administered.keys) & set(keys)
    assert await administered.rows() == before


async def test_a_window_that_cuts_a_partition_is_refused(administered: Administered) -> None:
    await administered.rows()

    with pytest.raises(QueryError, match=r"must align with the window: .* its begin is not one"):
        await administered.run("regenerate_partitions", "log_entries", begin=administered.begin + timedelta(minutes=1))
    with pytest.raises(QueryError, match="its step is not one"):
        await administered.run("regenerate_partitions", "log_entries", step=5400)
    with pytest.raises(QueryError, match="at least a second, not 0"):
        await administered.run("materialize_partitions", "log_entries", step=0)
    with pytest.raises(QueryError, match="must end after it begins"):
        await administered.run("materialize_partitions", "log_entries", begin=administered.end)
    with pytest.raises(QueryError, match="can't find view nothing"):
        await administered.run("regenerate_partitions", "nothing")


async def freeze_first(administered: Administered) -> list[str]:
    """The first hour is kept without its block; the rows that there are."""
    rows = await administered.rows()
    catalog = administered.catalog
    await catalog.seal_buckets()
    (instance,) = catalog.instances
    assert await catalog.freeze(instance, administered.begin)
    await administered.lake.remove_block(administered.blocks[0])
    return rows


async def test_what_is_kept_without_its_blocks_is_neither_made_again_nor_retired(administered: Administered) -> None:
    rows, keys = await freeze_first(administered), administered.keys

    for function in ("regenerate_partitions", "regenerate_partitions_dry_run"):
        with pytest.raises(QueryError, match=r"1 of 3 partitions of log_entries .* nothing was made; choose a window"):
            await administered.run(function, "log_entries")
    assert administered.keys == keys
    first, *others = await administered.run("retire_partitions", "log_entries", "global", step=None)
    assert first.endswith("kept: their blocks are gone, and nothing could make them again")
    assert all(message.endswith(" retired") for message in others) and len(others) == 2
    assert await administered.rows() == rows


async def test_blocks_that_are_gone_although_their_bucket_is_not_kept_stop_it_from_being_made_again(
    administered: Administered,
) -> None:
    rows = await administered.rows()
    await administered.lake.remove_block(administered.blocks[1])

    with pytest.raises(QueryError, match="stays as it is: 1 of the blocks that it was made from are not kept any more"):
        await administered.run("regenerate_partitions", "log_entries")
    assert await administered.rows() == rows


async def test_what_is_retired_is_made_again_by_the_next_query(administered: Administered) -> None:
    rows, keys = await administered.rows(), administered.keys

    planned = await administered.run("retire_partitions_dry_run", "log_entries", "global", step=None)
    assert administered.keys == keys
    done = await administered.run("retire_partitions", "log_entries", "global", step=None)

    assert [message.replace("would be retired", "retired") for message in planned] == done
    assert re.fullmatch(
        r"1 of 3: log_entries of global from \S+:00:00Z to \S+:00:00Z: 1 files, 3 rows, \d+ bytes retired", done[0]
    )
    assert not administered.keys
    assert await administered.rows() == rows
    assert "there are no partitions" in (await administered.run("retire_partitions", "log_entries", "p", step=None))[0]


async def test_who_stops_reading_stops_the_work_after_a_whole_step(administered: Administered) -> None:
    await administered.rows()
    arguments = [
        "log_entries",
        "global",
        *(str(int(t.timestamp()) * NS) for t in (administered.begin, administered.end)),
    ]

    messages = administered.administration.run("retire_partitions", arguments, Progress())
    await anext(messages)
    await messages.aclose()

    assert len(administered.keys) == 2


async def test_a_cancel_in_the_middle_of_a_step_leaves_it_undone(administered: Administered) -> None:
    rows, keys = await administered.rows(), administered.keys
    builder, begun = administered.lake.builder, asyncio.Event()
    usual = builder.pause

    async def never_done(_: BuildJob) -> None:
        begun.set()
        await asyncio.Event().wait()

    builder.pause = never_done
    working = asyncio.create_task(administered.run("regenerate_partitions", "log_entries"))
    await begun.wait()
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    builder.pause = usual

    assert administered.keys == keys
    assert await administered.rows() == rows
    assert not administered.catalog.leases


def ns(time: datetime) -> str:
    return str(int(time.timestamp()) * NS)


async def test_a_vector_of_rows_is_retired_whole_or_not_at_all(administered: Administered) -> None:
    rows = await administered.rows()
    begin, end = administered.begin, administered.end
    first, second = [["log_entries", "global", ns(begin + n * HOUR), ns(begin + (n + 1) * HOUR), ""] for n in (0, 1)]
    cut = ["log_entries", "global", str(int(ns(begin)) + 1), ns(end), ""]
    retire = administered.administration.retire_by_metadata

    undone = await retire([first, ["log_entries", "global", ns(begin), ns(end), ""], [None, *first[1:]], cut], ADMIN)
    assert undone[0] == "ROLLED_BACK: All 1 previous changes were reverted due to errors in batch"
    assert undone[1].startswith("ERROR: Partition not found: log_entries/global [")
    assert undone[2:] == [
        "ERROR: all arguments must be non-null",
        "ERROR: insert times of partitions are whole microseconds",
    ]
    assert len(administered.keys) == 3

    other = await retire([[*first[:4], "00"]], ADMIN)  # of another version there is nothing
    assert other[0].startswith("ERROR: Partition not found")
    done = await retire([first, second, first], ADMIN)
    assert [answer.startswith("SUCCESS: Retired partition log_entries/global [") for answer in done] == [True] * 3
    assert len(administered.keys) == 1
    assert await administered.rows() == rows


async def test_a_file_is_retired_by_its_name(administered: Administered) -> None:
    rows = await administered.rows()
    key = administered.keys[0]

    retire = administered.administration.retire_by_file
    assert await retire([[None]], ADMIN) == ["ERROR: file_path cannot be null"]
    assert await retire([[key]], ADMIN) == [f"SUCCESS: Retired partition {key}"]
    assert await retire([[key]], ADMIN) == [f"ERROR: Partition not found: {key}"]
    assert await administered.rows() == rows


@pytest.mark.parametrize(
    ("connection", "may"),
    [
        ("ipv4:127.0.0.1:4711", True),
        ("ipv6:%5B::1%5D:4711", True),
        ("ipv6:[::1]:4711", True),
        ("unix:", True),
        ("ipv4:192.168.0.7:4711", False),
        ("ipv6:%5B2001:db8::1%5D:1", False),
        ("", False),
    ],
)
async def test_only_callers_from_this_machine_administer(
    administered: Administered, connection: str, may: bool
) -> None:
    caller = Caller(connection=connection)
    try:
        answers = await administered.administration.retire_by_file([["x"]], caller)
    except LakeflightError as error:
        assert isinstance(error, PermissionDeniedError) and "retire_partition_by_file is for administrators" in str(
            error
        )
        assert not may
    else:
        assert answers and may


@pytest_asyncio.fixture
async def merged(tmp_path: Path) -> AsyncIterator[Administered]:
    """Three hours of a day that is over, which are one bucket."""
    lake, program = MemoryLake(tmp_path), Program()
    blocks = await lake.send([*program.registration(), *(program.log_block() for _ in range(3))])
    now = datetime.now(UTC)
    day = now.replace(hour=0, minute=0, second=0, microsecond=0) - 2 * DAY
    for number, block in enumerate(blocks):
        await lake.make_older([block], hours=(now - day) // HOUR - 5 - number)
    administered = Administered(lake, program, blocks)
    administered.begin, administered.end = day, day + DAY
    await administered.rows()
    await lake.catalog.seal_buckets()
    (instance,) = lake.memory.instances
    await administered.materializer.merge_day(LOGS, instance, day)
    yield administered
    await lake.store.close()


async def test_a_merged_day_is_made_again_and_retired_as_one(merged: Administered) -> None:
    rows, keys = await merged.rows(), merged.keys
    assert len(keys) == 1

    made = await merged.run("regenerate_partitions", "log_entries", step=86400)
    assert len(made) == 1 and made[0].endswith(": 1 bucket made again")
    assert merged.keys != keys and await merged.rows() == rows
    for cut in (merged.begin + HOUR, merged.begin + 5 * HOUR):
        with pytest.raises(
            QueryError, match=r"those from \S+T00:00:00Z to \S+T00:00:00Z are one, and the window .* cuts"
        ):
            await merged.run("regenerate_partitions", "log_entries", begin=cut, step=86400)
        assert (
            "no partitions" in (await merged.run("retire_partitions", "log_entries", "global", begin=cut, step=None))[0]
        )

    (retired,) = await merged.run("retire_partitions", "log_entries", "global", step=None)
    assert retired.endswith(" retired") and not merged.keys
    stale = await merged.run("materialize_partitions", "log_entries", begin=merged.begin + 5 * HOUR)
    assert len(stale) == 1 and stale[0].endswith(": 1 bucket made")
    assert await merged.rows() == rows
