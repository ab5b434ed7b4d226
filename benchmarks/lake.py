"""What a lake costs that has months of history: planning, narrow and wide queries, housekeeping, at sizes ten times apart.

One lake grows; at each size the same questions are asked about the same hours, so that what grows with history shows, and
nothing else. The rows of the past are written by ``benchmarks.history``.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final

import asyncpg

from benchmarks.clients import Raw
from benchmarks.figures import aligned, number, write_into
from benchmarks.history import History, pad, write
from benchmarks.measure import median
from benchmarks.serving import start
from lakehouse.buckets.freshen import MaterializerLimits
from lakehouse.buckets.materialize import Materializer
from lakehouse.catalog.connect import open_pool
from lakehouse.catalog.partitions import PartitionCatalog
from lakehouse.errors import InternalError
from lakehouse.jobs.build import BuildJob, BuildResult
from lakehouse.jobs.merge import MergeJob, MergeResult
from lakehouse.model import EVERYTHING, GLOBAL_INSTANCE, TimeRange
from lakehouse.sources import BlocksSource, SourceRegistry
from lakehouse.storage import LocalStore
from server.embedded_postgres import EmbeddedPostgres
from server.maintenance import Maintenance
from views.log_entries import LogEntries

_DOCUMENT: Final = Path(__file__).resolve().parents[1] / "docs" / "benchmarks.md"
_BEGINS: Final = "<!-- growth: written by benchmarks/growth --write-docs -->"
_ENDS: Final = "<!-- end of growth -->"
_DAYS: Final = 30
_STORE_NAME: Final = "embedded"  # what a server calls the store of its own folder
_VIEW: Final = LogEntries()


@dataclass(frozen=True, slots=True)
class Sizes:
    """``processes`` at each size; each logs a block every six minutes."""

    processes: tuple[int, ...]
    blocks: int  # of a process
    lines: int  # of a block
    days: int
    samples: int
    wide_max: int  # processes up to which all hours of all processes are made, and asked for


FULL: Final = Sizes((100, 1_000, 10_000), blocks=100, lines=10, days=30, samples=30, wide_max=10_000)
QUICK: Final = Sizes((2, 4), blocks=20, lines=3, days=1, samples=2, wide_max=2)


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked at each size, and what it may cost at the last: in milliseconds, and as a multiple of the first."""

    key: str
    what: str
    ms_max: float | None = None
    ratio_max: float | None = None
    is_wide: bool = False


QUESTIONS: Final = (
    Question("plan_ten", "planning: ten partitions of one process are found, nothing is new", 10.0),
    Question("plan_ten_global", "planning: ten hours of all processes are found, nothing is new", 10.0),
    Question("fresh_month", "an instance of 30 days, sealed and unchanged, is seen to be fresh", 5.0),
    Question("narrow_instance", "lines of one process in 5 minutes, from its own instance", 20.0, 1.3),
    Question("narrow_global", "lines of one process in 5 minutes, from all processes", 20.0, 1.3),
    Question("sparse_global", "lines of one process in 30 days, from all processes", is_wide=True),
    Question("wide_global", "lines of all processes in 30 days, by level", is_wide=True),
    Question("processes_one", "processes: one, by its id"),
    Question("processes_count", "processes: how many there are"),
    Question("streams_count", "streams: how many there are"),
    Question("blocks_process", "blocks: those of one process"),
    Question("blocks_window", "blocks: those of 5 minutes"),
    Question("blocks_count", "blocks: how many there are"),
    Question("maintenance", "a round of housekeeping that finds nothing to do", is_wide=True),
)


@dataclass(frozen=True, slots=True)
class Measured:
    """One size."""

    blocks: int
    partitions: int
    ms: Mapping[str, float]  # by question, the median; of those that were asked


class Lake:
    """A growing lake. Whom questions are about is in the middle of it, at every size."""

    def __init__(self, folder: Path, sizes: Sizes) -> None:
        self.data = folder / "data"
        self.sizes = sizes
        self.postgres = EmbeddedPostgres(folder / "postgres")
        self.ends = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=3)
        self.begins = self.ends - timedelta(days=sizes.days)
        every = timedelta(minutes=6), self.begins, self.ends, sizes.lines
        self.fleet = History("fleet", sizes.processes[-1], sizes.blocks, *every)
        hourly = timedelta(hours=1), self.begins, self.ends, sizes.lines
        self.month = History("month", 1, 24 * sizes.days - 1, *hourly)
        self._asked = self.fleet.processes // 2
        self.asked = self.fleet.process_id(self._asked)
        self.noon = self.fleet.started(self._asked) + self.fleet.lifetime / 2
        self._there: set[int] = set()

    async def grow(self, processes: int, client: Raw) -> None:
        """To so many processes of the fleet; every instance of a process is made, and that of all."""
        url, store = self.postgres.url, self.data / "store"
        wanted = range(0, self.fleet.processes, self.fleet.processes // processes)
        new = [number for number in wanted if number not in self._there]
        if not self._there:
            await write(self.month, url, store)
        await write(self.fleet, url, store, new)
        made = {0, self._asked}
        if not self._there:
            for instance in (self.month.process_id(0), *map(self.fleet.process_id, sorted(made))):
                await asyncio.to_thread(client.rows, f"SELECT count(*) FROM view_instance('log_entries', '{instance}')")
        await pad(self.fleet, _VIEW.view_set, url, [number for number in new if number not in made])
        days = [self.begins + timedelta(days=day) for day in range(self.sizes.days + 1)]
        if processes > self.sizes.wide_max:
            days = [self.noon - timedelta(hours=12)]
        for day in days:
            window = _between(day, day + timedelta(days=1))
            await asyncio.to_thread(client.rows, f"SELECT count(*) FROM log_entries WHERE {window}")
        self._there.update(new)

    async def count(self) -> tuple[int, int]:
        """Blocks and partitions."""
        connection = await asyncpg.connect(self.postgres.url)
        try:
            return tuple(await connection.fetchrow(_COUNT))
        finally:
            await connection.close()

    async def keep_hours(self) -> None:
        """Days are not merged, so that there are as many partitions as are to be measured."""
        connection = await asyncpg.connect(self.postgres.url)
        try:
            await connection.execute("UPDATE lakehouse_buckets SET settled = true WHERE NOT settled")
        finally:
            await connection.close()

    def statements(self) -> dict[str, str]:
        """The questions that are SQL, by key."""
        minutes = _between(self.noon, self.noon + timedelta(minutes=5))
        month = _between(self.begins, self.ends)
        one = f"process_id = '{self.asked}'"
        lines = "SELECT time, level, msg FROM"
        sent = _between(self.noon, self.noon + timedelta(minutes=5), "insert_time")
        return {
            "narrow_instance": f"{lines} view_instance('log_entries', '{self.asked}') WHERE {minutes}",
            "narrow_global": f"{lines} log_entries WHERE {one} AND {minutes}",
            "sparse_global": f"{lines} log_entries WHERE {one} AND {month}",
            "wide_global": f"SELECT level, count(*) FROM log_entries WHERE {month} GROUP BY level",
            "processes_one": f"SELECT * FROM processes WHERE {one}",
            "processes_count": "SELECT count(*) FROM processes",
            "streams_count": "SELECT count(*) FROM streams",
            "blocks_process": f"SELECT count(*), sum(payload_size) FROM blocks WHERE {one}",
            "blocks_window": f"SELECT count(*), sum(payload_size) FROM blocks WHERE {sent}",
            "blocks_count": "SELECT count(*) FROM blocks",
        }


_COUNT: Final = """
SELECT (SELECT count(*) FROM blocks), (SELECT count(*) FROM lakehouse_partitions WHERE num_rows > 0)
"""


class _NothingToBuild:
    """An executor for a planner that finds everything made."""

    async def build(self, job: BuildJob, output: Path, deadline_s: float) -> BuildResult:
        raise InternalError(f"a bucket of {job.view_set} was not made before it was measured")

    async def merge(self, job: MergeJob, output: Path, deadline_s: float) -> MergeResult:
        raise InternalError(f"days of {job.view_set} are not merged while they are measured")


@dataclass(frozen=True, slots=True)
class Planner:
    """What a server plans with, in this process, over the lake's own catalog."""

    lake: Lake
    materializer: Materializer
    maintenance: Maintenance

    def questions(self) -> dict[str, Callable[[], Awaitable[object]]]:
        ensure, lake = self.materializer.ensure, self.lake
        start = lake.noon.replace(minute=0)
        hours = TimeRange(*(time_ns(start + timedelta(hours=h, minutes=30)) for h in (-4, 5)))
        return {
            "plan_ten": partial(ensure, _VIEW, lake.asked, hours),
            "plan_ten_global": partial(ensure, _VIEW, GLOBAL_INSTANCE, hours),
            "fresh_month": partial(ensure, _VIEW, lake.month.process_id(0), EVERYTHING),
            "maintenance": self.maintenance.round,
        }


@asynccontextmanager
async def planner(lake: Lake, scratch: Path) -> AsyncIterator[Planner]:
    store = LocalStore(lake.data / "store", name=_STORE_NAME)
    pool = await open_pool(lake.postgres.url, connections_max=4, connections_min=1)
    try:
        catalog = PartitionCatalog(pool, store.name)
        materializer = Materializer(catalog, store, _NothingToBuild(), scratch, MaterializerLimits())
        maintenance = Maintenance(SourceRegistry([BlocksSource(_VIEW)]), catalog, materializer, store, 60.0, 7200.0)
        yield Planner(lake, materializer, maintenance)
    finally:
        await pool.close()
        await store.close()


async def measure(folder: Path, sizes: Sizes) -> list[Measured]:
    lake = Lake(folder, sizes)
    await lake.postgres.start()
    found = []
    try:
        environment = {
            "LAKEFLIGHT_POSTGRES_URL": lake.postgres.url,
            "LAKEFLIGHT_SELF_TELEMETRY": "false",
            "LAKEFLIGHT_MAINTENANCE_INTERVAL_S": "86400",
        }
        server = await asyncio.to_thread(start, lake.data, environment)
        try:
            client = Raw(server.flight)
            for processes in sizes.processes:
                note(f"{processes} processes: writing")
                await lake.grow(processes, client)
                async with planner(lake, folder) as plans:
                    note("settling")
                    await lake.keep_hours()
                    await plans.maintenance.round()  # seals
                    note("measuring")
                    is_wide = processes <= sizes.wide_max
                    found.append(Measured(*await lake.count(), await _ask_all(lake, plans, client, is_wide)))
            client.close()
        finally:
            server.kill()
    finally:
        await lake.postgres.stop()
    return found


async def _ask_all(lake: Lake, plans: Planner, client: Raw, is_wide: bool) -> dict[str, float]:
    def asks(sql: str) -> Callable[[], Awaitable[object]]:
        return lambda: asyncio.to_thread(client.rows, sql)

    questions = plans.questions() | {key: asks(sql) for key, sql in lake.statements().items()}
    found = {}
    for question in QUESTIONS:
        if question.is_wide and not is_wide:
            continue
        times: list[float] = []
        for _ in range(lake.sizes.samples + 1):
            begun = time.perf_counter()
            await questions[question.key]()
            times.append((time.perf_counter() - begun) * 1e3)
            if sum(times) > _MS_EACH_MAX:
                break
        found[question.key] = median(times[1:] or times)
        note(f"  {question.key}: {found[question.key]:.2f} ms, the first {times[0]:.1f} ms, {len(times)} times")
    return found


_MS_EACH_MAX: Final = 15_000.0
_STARTED: Final = time.perf_counter()


def note(what: str) -> None:
    print(f"{time.perf_counter() - _STARTED:6.1f} s  {what}", file=sys.stderr, flush=True)


def time_ns(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000


def _between(begin: datetime, end: datetime, column: str = "time") -> str:
    return f"{column} BETWEEN '{_text(begin)}' AND '{_text(end)}'"


def _text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S")


def table(found: Sequence[Measured]) -> str:
    headings = ["milliseconds, median", *(f"{size.blocks:,} blocks, {size.partitions:,} partitions" for size in found)]
    rows = [[*headings, "last / first", "target", "met"]]
    for question in QUESTIONS:
        asked = [size.ms[question.key] for size in found if question.key in size.ms]
        first, last = asked[0], asked[-1]
        targets, met = [], True
        if question.ms_max is not None:
            targets.append(f"≤ {question.ms_max:g} ms")
            met = met and last <= question.ms_max
        if question.ratio_max is not None:
            targets.append(f"≤ {question.ratio_max:g} × the first")
            met = met and last <= question.ratio_max * first
        measured = [number(size.ms[question.key]) if question.key in size.ms else "" for size in found]
        rows.append(
            [
                question.what,
                *measured,
                number(last / first),
                ", ".join(targets),
                "" if not targets else "yes" if met else "**no**",
            ]
        )
    return aligned(rows)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks/growth", description="Measure how cost grows with history.")
    parser.add_argument("--quick", action="store_true", help="the smallest sizes: shows that it works")
    parser.add_argument(
        "--processes", type=int, nargs="+", metavar="N", help="sizes, each a multiple of the one before"
    )
    parser.add_argument(
        "--wide-max", type=int, metavar="N", help="processes up to which the files of all of them are made"
    )
    parser.add_argument("--write-docs", action="store_true", help=f"put the table into docs/{_DOCUMENT.name}")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="where the lake is made")
    parser.add_argument("--keep", action="store_true", help="leave the lake there")
    given = parser.parse_args(arguments)
    sizes = QUICK if given.quick else FULL
    if given.processes:
        sizes = replace(sizes, processes=tuple(given.processes))
    if given.wide_max is not None:
        sizes = replace(sizes, wide_max=given.wide_max)
    folder = Path(tempfile.mkdtemp(prefix="lakeflight-growth-", dir=given.folder))
    try:
        found = asyncio.run(measure(folder, sizes))
    finally:
        if not given.keep:
            shutil.rmtree(folder, ignore_errors=True)
    text = table(found)
    print(text)
    if given.write_docs:
        write_into(_DOCUMENT, text, _BEGINS, _ENDS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
