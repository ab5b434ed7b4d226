"""Telemetry, queries, housekeeping, administrators, damage and crashes in any order: readers always find the rows that were sent,
once each. The model is no more than what was sent."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import Coroutine
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from lakehouse import failpoints
from lakehouse.buckets.model import PartitionFile, Retired
from lakehouse.buckets.planning import version_of
from lakehouse.errors import BackendUnavailableError
from lakehouse.failpoints import FailpointError
from lakehouse.model import EVERYTHING, GLOBAL_INSTANCE
from lakehouse.ports import View
from tests.lakehouse.test_merging import LOGS, SPANS, merge, sent_at
from tests.support.lake_rows import rows_of
from tests.support.materializer_lake import Lake, MemoryLake
from tests.support.programs import Program
from tests.support.sizes import SEED, size

HOURS = st.integers(0, 4)
FRAMES, LINES = 3, 2


@seed(SEED)
class LakeInAnyOrder(RuleBasedStateMachine):
    """A process with logs and a thread, all of whose blocks come in hours of a day that is over."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        self.lines = self.frames = 0

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(work)

    async def new_lake(self) -> Lake:
        return MemoryLake(Path(self.folder.name))

    async def close_lake(self) -> None:
        await self.lake.store.close()

    @initialize()
    def begin(self) -> None:
        print(f"seed {SEED}")
        self.lake: Lake = self.do(self.new_lake())
        self.program = Program()
        self.do(self.lake.send(self.program.registration()))
        self.instances: list[tuple[View, str]] = [
            (LOGS, self.program.process_id),
            (LOGS, GLOBAL_INSTANCE),
            (SPANS, self.program.thread_stream),
        ]
        self.logs_come([0, 1, 2])
        self.spans_come([0, 1])

    @rule(hours=st.lists(HOURS, min_size=1, max_size=3))
    def logs_come(self, hours: list[int]) -> None:
        for hour in hours:
            self.do(sent_at(self.lake, hour, self.program.log_block(lines=LINES)))
            self.lines += LINES

    @rule(hours=st.lists(HOURS, min_size=1, max_size=3))
    def spans_come(self, hours: list[int]) -> None:
        for hour in hours:
            self.do(sent_at(self.lake, hour, self.program.thread_block(frames=FRAMES)))
            self.frames += FRAMES

    @rule(which=st.integers(0, 2))
    def somebody_asks(self, which: int) -> None:
        self.do(self._answer_is_right(*self.instances[which]))

    @rule(servers=st.integers(1, 2), files_max=st.integers(1, 3))
    def housekeeping(self, servers: int, files_max: int) -> None:
        async def kept() -> None:
            await asyncio.gather(*(self._round(files_max) for _ in range(servers)))

        self.do(kept())

    @rule(
        name=st.sampled_from(["reserve", "write", "seal", "commit"]),
        chance=st.floats(0.2, 1),
        files_max=st.integers(1, 3),
    )
    def a_server_crashes_at_housekeeping(self, name: str, chance: float, files_max: int) -> None:
        failpoints.arm(f"{name}:raise:{chance}")

        async def crashed() -> None:
            with suppress(FailpointError):
                await self._round(files_max)
            others = asyncio.all_tasks() - {asyncio.current_task()}  # nothing of it goes on
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        try:
            self.do(crashed())
        finally:
            failpoints.arm("")
        self.do(self.lake.expire_intents())  # and as much later the leases of whoever is gone

    @property
    def retired_as(self) -> set[Retired]:
        """What becomes of files that an administrator takes away."""
        return {Retired.GONE, Retired.NOT_FOUND}

    @rule(which=st.integers(0, 2), places=st.lists(st.integers(0, 100), min_size=1, max_size=2))
    def an_administrator_retires_files(self, which: int, places: list[int]) -> None:
        async def retired() -> None:
            keys = [partition.key for partition in (await self._fresh(*self.instances[which])).partitions]
            if keys:
                chosen = dict.fromkeys(PartitionFile(keys[place % len(keys)]) for place in places)
                assert set(await self.lake.catalog.retire(list(chosen))) <= self.retired_as

        self.do(retired())

    @rule(which=st.integers(0, 2), place=st.integers(0, 100), how=st.sampled_from(["lost", "zeroed", "changed inside"]))
    def a_file_is_damaged(self, which: int, place: int, how: str) -> None:
        async def damaged() -> None:
            view, instance = self.instances[which]
            if (key := await self._some_file(view, instance, place)) is None:
                return
            if how == "lost":
                await self.lake.store.delete([key])
                return
            async with self.lake.store.localize([key]) as (path,):
                content = bytearray(path.read_bytes())
                content[:] = bytes(len(content)) if how == "zeroed" else content[:6] + b"?" + content[7:]
                path.write_bytes(content)
            if how == "changed inside":  # which the engine stumbles over, and has them compared
                await self.lake.local(materializer := self.lake.materializer(), view, instance)
                assert await materializer.find_damaged([key]) == [key]
                await self.lake.local(materializer, view, instance)

        self.do(damaged())

    @rule()
    def what_nobody_needs_goes(self) -> None:
        self.do(self._collect())

    async def _fresh(self, view: View, instance: str) -> Any:
        return (await self.lake.local(self.lake.materializer(), view, instance)).fresh

    async def _some_file(self, view: View, instance: str, place: int) -> str | None:
        keys = [partition.key for partition in (await self._fresh(view, instance)).partitions]
        return keys[place % len(keys)] if keys else None

    async def _answer_is_right(self, view: View, instance: str) -> None:
        fresh = await self._fresh(view, instance)
        async with self.lake.store.localize([partition.key for partition in fresh.partitions]) as paths:
            tables = [pq.read_table(path) for path in paths]
        found = Counter(
            name for table in tables for name in table.column("msg" if view is LOGS else "name").to_pylist()
        )
        expected = (
            Counter(f"line {number}" for number in range(self.lines))
            if view is LOGS
            else Counter({"Frame": self.frames, "Work": self.frames})
        )
        assert Counter({name: count for name, count in found.items() if view is LOGS or name in expected}) == expected

    async def _round(self, files_max: int) -> None:
        """Of one server: what ``server.maintenance`` does."""
        materializer = self.lake.materializer()
        views = {version_of(view): view for view, _ in self.instances}
        for view, name in self.instances:  # of all of them, as of global ones: only what is made can be merged
            await materializer.ensure(view, name, EVERYTHING)
        await self.lake.catalog.seal_buckets()
        for instance, begin in await self.lake.catalog.fragmented_buckets(list(views), files_max, 100):
            await _unless_lost(materializer.compact(views[instance.version], instance, begin))
        await _unless_lost(merge(self.lake, materializer, *views.values()))

    async def _collect(self) -> None:
        await self.lake.expire_intents()
        reaped = await self.lake.catalog.claim_expired_intents(1000)
        await self.lake.store.delete([key for _, key in reaped])
        await self.lake.catalog.finish_reaped([intent for intent, _ in reaped])
        condemned = await self.lake.catalog.condemn_unreferenced(timedelta(seconds=-1), 1000)
        await self.lake.store.delete([key for _, key in condemned])
        await self.lake.catalog.forget_objects([object_id for object_id, _ in condemned])

    def teardown(self) -> None:
        async def ended() -> None:
            for view, instance in self.instances:
                await self._answer_is_right(view, instance)
            await self._round(1)
            await self._collect()
            left = await self.lake.object_keys()
            assert set(await self.lake.store.list("_schema")) <= left, "what no partition names is gone"
            await self._is_as_if_nothing_was_merged()

        try:
            if hasattr(self, "lake"):
                try:
                    self.do(ended())
                finally:
                    self.do(self.close_lake())
        finally:
            self.runner.close()
            self.folder.cleanup()

    async def _is_as_if_nothing_was_merged(self) -> None:
        found = [await rows_of(self.lake, *instance) for instance in self.instances]
        await self.lake.empty_buckets()
        assert found == [await rows_of(self.lake, *instance) for instance in self.instances]


async def _unless_lost(work: Coroutine[Any, Any, Any]) -> None:
    """A file that the store has lost is made again by who asks for it; housekeeping goes on."""
    with suppress(BackendUnavailableError):
        await work


TestLakeInAnyOrder = LakeInAnyOrder.TestCase
TestLakeInAnyOrder.settings = settings(
    max_examples=size(70, 700), stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck)
)
