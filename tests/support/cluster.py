"""Several real servers of one lake: one Postgres, one S3 server, and what the lake's tables say of them."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import asyncpg
import psutil

from lakeflight.wire.envelope import decode_block
from lakehouse.buckets.freshen import MaterializerLimits
from tests.support.fixtures import Request
from tests.support.s3 import Bucket, FaultyS3
from tests.support.serving import Server, serving

SMALL: Final = {  # there are several on one machine
    "LAKEFLIGHT_QUERY_WORKERS": "1",
    "LAKEFLIGHT_SHORT_QUERY_WORKERS": "0",
    "LAKEFLIGHT_BUILD_WORKERS": "1",
    "LAKEFLIGHT_QUERY_THREADS": "1",
}
WAIT_S_MAX: Final = MaterializerLimits().held_elsewhere_s_max  # that a query may wait for another server, as documented


@dataclass(frozen=True)
class Cluster:
    """A database and a store, for as many servers as a test starts."""

    postgres_url: str
    bucket: Bucket
    store: FaultyS3  # between the servers and the store: it knows what was asked for
    folder: Path

    @contextlib.contextmanager
    def server(
        self, name: str, *arguments: str, environment: Mapping[str, str] | None = None, **options: Any
    ) -> Iterator[Server]:
        """One server of it. Two with one name are a server and its restart."""
        with serving(
            self.folder / name,
            *("--postgres-url", self.postgres_url, "--store-url", self.bucket.url, *arguments),
            environment=SMALL | self.bucket.environment | dict(environment or {}),
            **options,
        ) as running:
            yield running

    @contextlib.contextmanager
    def servers(self, count: int, *arguments: str, **options: Any) -> Iterator[list[Server]]:
        """So many at once, which start side by side."""
        opened = [self.server(f"server-{number}", *arguments, **options) for number in range(count)]
        with contextlib.ExitStack() as closing:
            with ThreadPoolExecutor(count) as starting:
                entering = [starting.submit(server.__enter__) for server in opened]
            for server, entered in zip(opened, entering, strict=True):
                if entered.exception() is None:
                    closing.push(server.__exit__)
            yield [entered.result() for entered in entering]

    def fetch(self, sql: str, *values: Any) -> list[dict[str, Any]]:
        """Rows of the lake's own tables."""

        async def fetched() -> list[Any]:
            connection = await asyncpg.connect(self.postgres_url)
            try:
                return list(await connection.fetch(sql, *values))
            finally:
                await connection.close()

        return [dict(row) for row in asyncio.run(fetched())]

    def value(self, sql: str, *values: Any) -> Any:
        (row,) = self.fetch(sql, *values)
        (found,) = row.values()
        return found

    def wait_for(self, sql: str, *values: Any, limit_s: float = 90.0) -> None:
        """Return once a condition holds in the lake's tables."""
        until(lambda: bool(self.value(sql, *values)), sql, limit_s)

    def send_hours_apart(self, server: Server, blocks: Sequence[Request], first_age_h: int = 1) -> None:
        """Blocks of a registered program that came an hour apart, each in a bucket of its own; the last one is ``first_age_h`` old.

        Nobody may have looked at them meanwhile, so no server may be at maintenance.
        """
        server.replay(blocks)
        ids = [decode_block(block.body).block_id for block in blocks]
        self.fetch(
            "UPDATE blocks SET insert_time = insert_time - age * interval '1 h'"
            " FROM unnest($1::uuid[], $2::integer[]) AS aged (id, age) WHERE block_id = id",
            ids,
            [first_age_h + len(ids) - 1 - number for number in range(len(ids))],
        )

    def asked_for(self, method: str, prefix: str) -> list[str]:
        """Keys below a prefix of the lake that any server asked the store for."""
        begin = f"/{self.bucket.name}/lake/{prefix}"
        return [
            asked.path for asked in list(self.store.asked) if asked.method == method and asked.path.startswith(begin)
        ]

    def named_twice(self) -> list[dict[str, Any]]:
        """Blocks that are in more than one partition of one bucket, which no lake may have."""
        return self.fetch(
            "SELECT vid, bucket_begin, block FROM lakehouse_partitions, unnest(block_ids) AS block"
            " GROUP BY vid, bucket_begin, block HAVING count(*) > 1"
        )


def ask_all(servers: Sequence[Server], sql: str) -> list[list[Any]]:
    """What each answers when all are asked at once: the first column."""
    with ThreadPoolExecutor(len(servers)) as asking:
        return list(asking.map(lambda server: server.query(sql).column(0).to_pylist(), servers))


def until(condition: Callable[[], bool], what: str, limit_s: float = 90.0) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {limit_s:g} s: {what}"
        time.sleep(0.02)


@contextlib.contextmanager
def paused(server: Server) -> Iterator[None]:
    """All processes of a server stand still for the length of a block, as those of a machine that is suspended."""
    stopped = server.tree()
    for process in stopped:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for process in reversed(stopped):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGCONT)


def owner_of(server: Server) -> str:
    """How it signs what it holds: the end of it."""
    return f"%/{server.process.pid}"
