"""The lake as servers have it, on Postgres and on S3 or a disk: whatever happens in whatever order, readers find what was sent.

What may happen to one in memory happens here as well, and beside it what only this one has: servers that start again, with copies
of objects and without, retention, and partitions that are taken away or made again by hand. The model is plain: lines and frames
are counted when they are sent.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import rule, run_state_machine_as_test

from lakehouse.buckets.model import PartitionFile, Retired
from lakehouse.errors import QueryError
from lakehouse.storage import open_store
from server.retention import Kept
from tests.lakehouse.test_merging_at_random import HOURS, LakeInAnyOrder
from tests.support.materializer_lake import Lake
from tests.support.postgres import PostgresServer
from tests.support.postgres_lake import PostgresLake
from tests.support.s3 import Bucket, new_bucket, s3_server
from tests.support.serving import wait_out_the_hour
from tests.support.sizes import size

LAST_HOUR = 4  # of HOURS
EXAMPLES, STEPS = size(4, 100), size(12, 30)
RUN_S = 120.0  # hours of a day that is over are counted from now, so no hour may end meanwhile


class ServedLake(LakeInAnyOrder):
    """Each example has a database and a store of its own."""

    lake: PostgresLake

    def __init__(self, server: PostgresServer, s3_endpoint: str | None) -> None:
        super().__init__()
        wait_out_the_hour(RUN_S)
        self.server, self.s3_endpoint = server, s3_endpoint
        self.bucket: Bucket | None = None
        self.kept_from = 0  # the hour before which blocks are gone

    async def new_lake(self) -> Lake:
        self.url = await self.server.create(migrated=True)
        self.bucket = new_bucket(self.s3_endpoint) if self.s3_endpoint else None
        return await self._opened()

    async def _opened(self) -> PostgresLake:
        folder = Path(self.folder.name)
        pool = await asyncpg.create_pool(self.url, min_size=0, max_size=8)
        url, options = (self.bucket.url, self.bucket.options) if self.bucket else ((folder / "store").as_uri(), None)
        store = open_store(url, cache=folder / "objects", s3=options)
        await store.prepare()
        return PostgresLake(pool, self.url, folder, store)

    async def _closed(self) -> None:
        await self.lake.rows.close()
        await self.lake.pool.close()
        await self.lake.store.close()

    async def close_lake(self) -> None:
        await self._closed()
        await self.server.drop(self.url)

    # No block comes in the past: once hours of the day expire, what there is of it is all that there will be.

    @rule(hours=st.lists(HOURS, min_size=1, max_size=3))
    def logs_come(self, hours: list[int]) -> None:
        if not self.kept_from:
            super().logs_come(hours)

    @rule(hours=st.lists(HOURS, min_size=1, max_size=3))
    def spans_come(self, hours: list[int]) -> None:
        if not self.kept_from:
            super().spans_come(hours)

    @property
    def retired_as(self) -> set[Retired]:
        return super().retired_as | ({Retired.KEPT} if self.kept_from else set())

    @rule(is_empty=st.booleans())
    def a_server_starts_again(self, is_empty: bool) -> None:
        async def again() -> PostgresLake:
            await self._closed()
            if is_empty:
                shutil.rmtree(Path(self.folder.name) / "objects", ignore_errors=True)
            return await self._opened()

        self.lake = self.do(again())

    @rule(hour=st.integers(0, LAST_HOUR - 1), by=st.integers(0, 2))
    def blocks_expire_whose_partitions_are_kept(self, hour: int, by: int) -> None:
        """Of what somebody has asked for no row goes: partitions are made of it before."""

        async def retained() -> None:
            for view, instance in self.instances:
                await self._answer_is_right(view, instance)
            age = timedelta(hours=48 + datetime.now(UTC).hour - hour - 1)
            assert await self.lake.maintenance(kept=Kept(age, None)).retain()
            assert await self.lake.pool.fetchval("SELECT lakehouse_kept_from() > '-infinity'")
            await self._answer_is_right(*self.instances[by])

        self.do(retained())
        self.kept_from = max(self.kept_from, hour + 1)

    @rule(which=st.integers(0, 2), place=st.integers(0, 100), is_made_again=st.booleans())
    def an_administrator_takes_away_or_makes_again(self, which: int, place: int, is_made_again: bool) -> None:
        async def done() -> None:
            if (key := await self._some_file(*self.instances[which], place)) is None:
                return
            if not is_made_again:
                assert await self.lake.catalog.retire([PartitionFile(key)]) in ([Retired.GONE], [Retired.KEPT])
                return
            row = await self.lake.pool.fetchrow(
                "SELECT bucket_begin FROM lakehouse_partitions WHERE file_path = $1", key
            )
            try:
                await self.lake.materializer().regenerate(*self.instances[which], row["bucket_begin"])
            except QueryError:
                assert self.kept_from, "only what is without its blocks is left as it is"

        self.do(done())

    @rule(
        which=st.integers(0, 2), place=st.integers(0, 100), how=st.sampled_from(["lost", "cut off", "changed inside"])
    )
    def a_file_is_damaged(self, which: int, place: int, how: str) -> None:
        """In the store; copies of it are gone as well."""
        if self.kept_from:
            return  # what is without its blocks comes from a backup

        async def damaged() -> None:
            if (key := await self._some_file(*self.instances[which], place)) is None:
                return
            if how == "lost" or self.bucket is None:
                await self.lake.store.delete([key])
            else:
                _damage(self.bucket, key, is_cut_off=how == "cut off")
            for copy in (Path(self.folder.name) / "objects").rglob("copies/*"):
                copy.unlink()

        self.do(damaged())

    async def _is_as_if_nothing_was_merged(self) -> None:
        if not self.kept_from:  # else there is nothing to make it of
            await super()._is_as_if_nothing_was_merged()


def _damage(bucket: Bucket, key: str, *, is_cut_off: bool) -> None:
    client: Any = bucket.client()
    place = {"Bucket": bucket.name, "Key": f"lake/{key}"}
    stored = client.get_object(**place)
    content = bytearray(stored["Body"].read())
    content[len(content) // 2] ^= 1
    client.put_object(**place, Body=bytes(content[:-1] if is_cut_off else content), Metadata=stored["Metadata"])


@pytest.fixture(scope="module")
def s3_endpoint() -> Iterator[str]:
    with s3_server() as endpoint:
        yield endpoint


@pytest.mark.parametrize("store", ["a disk", "S3"])
def test_readers_find_what_was_sent_whatever_happens_to_a_served_lake(
    store: str, postgres_server: PostgresServer, request: pytest.FixtureRequest
) -> None:
    endpoint = request.getfixturevalue("s3_endpoint") if store == "S3" else None

    class LakeHere(ServedLake):
        def __init__(self) -> None:
            super().__init__(postgres_server, endpoint)

    run_state_machine_as_test(
        LakeHere,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )
