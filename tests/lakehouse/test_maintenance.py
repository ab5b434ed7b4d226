"""A round of housekeeping: what it does, and that no failure of one thing keeps another from being done."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from lakehouse.buckets.materialize import Materializer
from lakehouse.buckets.model import InstanceId
from lakehouse.buckets.planning import version_of
from lakehouse.errors import BackendUnavailableError
from lakehouse.model import EVERYTHING, GLOBAL_INSTANCE, ViewKey
from server import maintenance
from server.maintenance import FILES_PER_BUCKET_MAX, VERSION_UNUSED_MAX, Maintenance
from tests.support.materializer_lake import view_of
from tests.support.postgres_lake import PostgresLake, postgres_lake_at
from tests.support.programs import Program
from views import default_registry


@pytest_asyncio.fixture
async def lake(database_url: str, tmp_path: Path) -> AsyncIterator[PostgresLake]:
    async with postgres_lake_at(database_url, tmp_path) as lake:
        yield lake


LOGS = view_of("log_entries")
DELTAS = FILES_PER_BUCKET_MAX + 1


def _maintenance(lake: PostgresLake, materializer: Materializer | None = None) -> Maintenance:
    return lake.maintenance(materializer=materializer or lake.materializer())


async def _closed_bucket_of_deltas(lake: PostgresLake) -> str:
    """A process whose blocks came in one hour of yesterday and were asked for one by one."""
    program = Program()
    await lake.send(program.registration())
    materializer = lake.materializer()
    for _ in range(DELTAS):
        (block,) = await lake.send([program.log_block()])
        await lake.pool.execute(
            "UPDATE blocks SET insert_time = date_trunc('hour', insert_time) - interval '1 day'"
            " + (insert_time - date_trunc('hour', insert_time)) WHERE block_id = $1::uuid",
            block,
        )
        fresh = await materializer.ensure(LOGS, program.process_id, EVERYTHING)
    assert len(fresh.partitions) == DELTAS
    return program.process_id


class FailingMaterializer:
    """Fails for some instances and for global views, as one would whose blocks are lost."""

    def __init__(self, inner: Materializer, failing: Collection[str], error: Exception) -> None:
        self._inner, self._failing, self._error = inner, failing, error
        self.compacted: list[str] = []

    async def ensure(self, view: Any, instance: str, wanted: Any) -> Any:
        if view.view_set in self._failing:
            raise self._error
        return await self._inner.ensure(view, instance, wanted)

    async def compact(self, view: Any, instance: InstanceId, begin: Any) -> None:
        self.compacted.append(instance.key.instance)
        if instance.key.instance in self._failing:
            raise self._error
        await self._inner.compact(view, instance, begin)


def _failing(lake: PostgresLake, *failing: str, error: Exception | None = None) -> Any:
    return FailingMaterializer(lake.materializer(), failing, error or BackendUnavailableError("a payload is lost"))


async def test_a_round_makes_global_views_fresh_and_closed_hours_whole(lake: PostgresLake) -> None:
    process = await _closed_bucket_of_deltas(lake)

    await _maintenance(lake).round()

    built = len(lake.builder.sizes)
    assert len((await lake.materializer().ensure(LOGS, process, EVERYTHING)).partitions) == 1
    assert len(await lake.messages(await lake.materializer().ensure(LOGS, GLOBAL_INSTANCE, EVERYTHING))) == 3 * DELTAS
    assert len(lake.builder.sizes) == built


@pytest.mark.parametrize("error", [BackendUnavailableError("a payload is lost"), RuntimeError("a defect")])
async def test_a_bucket_that_cannot_be_made_whole_does_not_keep_the_next_from_it(
    lake: PostgresLake, error: Exception
) -> None:
    lost, sound = [await _closed_bucket_of_deltas(lake) for _ in range(2)]

    with capture_logs() as logs:
        await _maintenance(lake, _failing(lake, lost, error=error)).round()

    files = [len((await lake.materializer().ensure(LOGS, process, EVERYTHING)).partitions) for process in (lost, sound)]
    assert files == [DELTAS, 1]
    (failure,) = [line for line in logs if line["event"] == "maintenance.failed"]
    assert (failure["step"], failure["view_set"], failure["instance"]) == ("compact", "log_entries", lost)
    assert "bucket" in failure


async def test_buckets_that_cannot_be_made_whole_take_turns_with_the_rest(
    lake: PostgresLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many of them there are: a round that has no time for more tries a batch, and the next goes on behind it."""
    monkeypatch.setattr(maintenance, "BATCH", 1)
    monkeypatch.setattr(maintenance, "STEP_S_MAX", 0.0)
    lost, sound = [await _closed_bucket_of_deltas(lake) for _ in range(2)]
    housekeeping = _maintenance(lake, _failing(lake, lost))

    for _ in range(3):
        await housekeeping.round()

    assert len((await lake.materializer().ensure(LOGS, sound, EVERYTHING)).partitions) == 1


async def test_a_bucket_that_fails_every_time_is_tried_less_and_less_often_and_says_so(lake: PostgresLake) -> None:
    lost = await _closed_bucket_of_deltas(lake)
    now_s = 0.0
    failing = _failing(lake, lost)
    housekeeping = lake.maintenance(materializer=failing, clock=lambda: now_s)
    tried_at_s: list[float] = []

    with capture_logs() as logs:
        for minute in range(6 * 60):
            now_s = 60.0 * minute
            failing.compacted.clear()
            await housekeeping.compact_closed_buckets()
            tried_at_s += [now_s] * len(failing.compacted)

    pauses_min = [(after - before) / 60 for before, after in itertools.pairwise(tried_at_s)]
    assert pauses_min == [1, 2, 4, 8, 16, 32, 60, 60, 60, 60]
    postponed = [line for line in logs if line["event"] == "maintenance.postponed"]
    assert [line["failures"] for line in postponed] == list(range(1, len(tried_at_s) + 1))
    assert [line["seconds"] for line in postponed][:2] == [60, 120]
    assert postponed[0]["instance"] == lost


async def test_a_global_view_that_fails_does_not_keep_the_next_from_being_fresh(lake: PostgresLake) -> None:
    program = Program()
    await lake.send([*program.registration(), program.log_block()])
    views = [view for view in default_registry().views if view.has_global]
    assert len(views) > 1

    with capture_logs() as logs:
        await _maintenance(lake, _failing(lake, views[0].view_set)).round()

    (failure,) = [line for line in logs if line["event"] == "maintenance.failed"]
    assert (failure["step"], failure["view_set"]) == ("freshen", views[0].view_set)
    found = await lake.pool.fetch("SELECT view_set FROM view_instances WHERE looked_before IS NOT NULL")
    assert {row["view_set"] for row in found} == {view.view_set for view in views[1:]}


async def test_a_step_that_fails_does_not_keep_the_next_from_being_taken(
    lake: PostgresLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unavailable() -> None:
        raise BackendUnavailableError("the database is not available")

    monkeypatch.setattr(lake.catalog, "seal_buckets", unavailable)
    await lake.catalog.reserve(["abandoned"], timedelta(seconds=-1), "crashed")

    with capture_logs() as logs:
        await _maintenance(lake).round()

    assert [line["step"] for line in logs if line["event"] == "maintenance.failed"] == ["compact_closed_buckets"]
    assert await lake.pool.fetchval("SELECT state FROM staged_writes") == "reaped"


async def test_a_round_does_all_that_there_is_however_many_batches_it_takes(
    lake: PostgresLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files are replaced at any rate, and deleting them keeps pace: of crashes, of partitions and of versions."""
    monkeypatch.setattr(maintenance, "BATCH", 2)
    processes = [await _closed_bucket_of_deltas(lake) for _ in range(5)]
    await _maintenance(lake).round()
    assert await lake.object_keys() == await _named_files(lake), "made whole, and their deltas deleted"
    await _become_another_version(lake)
    await lake.pool.execute("UPDATE view_instances SET used = used - 2 * $1::interval", VERSION_UNUSED_MAX)
    await lake.catalog.reserve([f"abandoned-{number}" for number in range(5)], timedelta(seconds=-1), "crashed")

    await _maintenance(lake).round()

    assert [await _files_of_other_versions(lake, process) for process in processes] == [0] * 5
    assert await lake.object_keys() == await _named_files(lake)
    assert await lake.held() == 0


async def test_an_object_that_cannot_be_deleted_does_not_keep_the_others(
    lake: PostgresLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that somebody has put under a hold: it is tried again in every round."""
    monkeypatch.setattr(maintenance, "BATCH", 2)
    process = await _closed_bucket_of_deltas(lake)
    deltas = (await lake.materializer().ensure(LOGS, process, EVERYTHING)).partitions
    abandoned = [f"abandoned-{number}" for number in range(5)]
    for key in abandoned:  # the first one is claimed first
        await lake.catalog.reserve([key], timedelta(seconds=-1), "crashed")
    held = {deltas[0].key, abandoned[0]}
    delete = lake.store.delete

    async def delete_others(keys: Sequence[str]) -> None:
        if held & set(keys):
            raise BackendUnavailableError("the object store failed")
        await delete(keys)

    monkeypatch.setattr(lake.store, "delete", delete_others)

    with capture_logs() as logs:
        await _maintenance(lake).round()

    assert await lake.object_keys() - await _named_files(lake) == {deltas[0].key}
    left = await lake.pool.fetch("SELECT path FROM staged_writes WHERE state <> 'reaped'")
    assert [row["path"] for row in left] == [abandoned[0]]
    assert {line["object"] for line in logs if line["event"] == "maintenance.failed"} == held


@pytest.mark.parametrize("batch", [1, 2])
async def test_what_cannot_be_retired_does_not_make_a_round_endless(
    lake: PostgresLake, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    monkeypatch.setattr(maintenance, "BATCH", batch)
    program = Program()
    await lake.send([*program.registration(), program.log_block()])
    await lake.materializer().ensure(LOGS, program.process_id, EVERYTHING)
    await _become_another_version(lake)
    await lake.pool.execute("UPDATE view_instances SET used = used - 2 * $1::interval", VERSION_UNUSED_MAX)

    async def refuse(instance: InstanceId, unused: timedelta) -> bool:
        raise BackendUnavailableError("a lock was not granted in time")

    monkeypatch.setattr(lake.catalog, "retire_instance", refuse)

    async with asyncio.timeout(60):
        await _maintenance(lake).round()


async def test_no_step_waits_for_another(lake: PostgresLake) -> None:
    """Making a global view fresh takes minutes where much was sent, and files that were replaced go meanwhile."""
    began = asyncio.Event()

    class SlowMaterializer:
        async def ensure(self, view: Any, instance: str, wanted: Any) -> Any:
            began.set()
            await asyncio.Event().wait()

    slow: Any = SlowMaterializer()
    running = asyncio.create_task(replace(_maintenance(lake, slow), interval_s=0.01).run())
    async with asyncio.timeout(60):
        await began.wait()

        await lake.catalog.reserve(["abandoned"], timedelta(seconds=-1), "crashed")

        while await lake.held():  # noqa: ASYNC110 (a table)
            await asyncio.sleep(0.01)
        assert not running.done()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_round_leaves_buckets_of_another_version_alone(lake: PostgresLake) -> None:
    """Made whole by this version's view, their files would have another schema than their catalog row says."""
    process = await _closed_bucket_of_deltas(lake)
    await _become_another_version(lake)

    await _maintenance(lake).round()

    assert await _files_of_other_versions(lake, process) == DELTAS


async def test_versions_that_no_server_uses_any_more_go_after_a_while_and_their_files_with_them(
    lake: PostgresLake,
) -> None:
    process = await _closed_bucket_of_deltas(lake)
    await _become_another_version(lake)
    new = await lake.materializer().ensure(LOGS, process, EVERYTHING)
    for age, kept in ((VERSION_UNUSED_MAX - timedelta(hours=1), DELTAS), (VERSION_UNUSED_MAX + timedelta(hours=1), 0)):
        await lake.pool.execute(
            "UPDATE view_instances SET used = clock_timestamp() - $1::interval WHERE writer_version < 0", age
        )

        for _ in range(2):  # what one retires the next deletes
            await _maintenance(lake).round()

        assert await _files_of_other_versions(lake, process) == kept
    assert await lake.messages(await lake.materializer().ensure(LOGS, process, EVERYTHING))
    kept_keys = {row["path"] for row in await lake.pool.fetch("SELECT path FROM lake_objects")}
    assert {partition.key for partition in new.partitions} <= kept_keys
    assert len(kept_keys) == await lake.pool.fetchval("SELECT count(*) FROM lakehouse_partitions WHERE num_rows > 0")


async def _named_files(lake: PostgresLake) -> set[str]:
    return {row["file_path"] for row in await lake.pool.fetch("SELECT file_path FROM lakehouse_partitions") if row[0]}


async def _become_another_version(lake: PostgresLake) -> None:
    """As if an older server had made what there is."""
    await lake.pool.execute("UPDATE view_instances SET writer_version = -1")


async def _files_of_other_versions(lake: PostgresLake, process: str) -> int:
    found = await lake.catalog.find_instance(
        ViewKey("log_entries", process), replace(version_of(LOGS), writer_version=-1)
    )
    return 0 if found is None else len(await lake.catalog.all_partitions(found))
