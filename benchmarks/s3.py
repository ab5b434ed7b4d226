"""The lake on S3, at several distances: what a query and a sender wait for beside what the store itself makes them wait.

The store is versitygw where ``scripts/toolchains`` has built it, else moto's server, which says nothing about speed: a quick
run shows on it that everything works. A relay before it holds requests back.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import asyncpg
import numpy as np
import s3fs
import uvloop

from benchmarks.clients import Raw
from benchmarks.delaying import delayed
from benchmarks.figures import Figure, Limit, at_least, at_most, table, write_into
from benchmarks.ingestion import (
    BLOCK_BYTES,
    CONNECTIONS,
    GROUP_BLOCKS,
    GROUPS_IN_FLIGHT,
    INSERT_BLOCKS,
    block_columns,
    fresh_id,
    http_request,
    send_all,
)
from benchmarks.measure import median, seconds
from benchmarks.serving import Sender, Server, start
from benchmarks.sizes import FULL, QUICK, Size
from benchmarks.workload import Telemetry, block_of, logs, random_log_block, thread_of_nothing
from lakeflight.wire.envelope import BlockRequest
from lakehouse.catalog.migrate import migrate
from lakehouse.storage.s3_session import REQUESTS_MAX
from server.embedded_postgres import EmbeddedPostgres
from tests.support.s3 import Bucket, new_bucket, s3_server, versitygw, versitygw_program

LATENCIES_MS: Final = (0, 20, 100)
TARGET_MS: Final = 20  # at which the target of queries is promised
QUERY_RATIO: Final = 1.5
INGESTION_RATIO: Final = 0.7
LINE_BYTES: Final = 200  # of random letters, which take half of that in Parquet
SPREAD: Final = "UPDATE blocks SET insert_time = insert_time - object_offset * interval '1 hour' WHERE process_id = $1"


_DOCUMENT: Final = Path(__file__).resolve().parents[1] / "docs" / "benchmarks.md"
BEGINS: Final = "<!-- s3: written by benchmarks/s3 --write-docs -->"
ENDS: Final = "<!-- end of s3 -->"


def measure(folder: Path, size: Size) -> list[Figure]:
    return uvloop.run(_measure(folder, size))


async def _measure(folder: Path, size: Size) -> list[Figure]:
    postgres = EmbeddedPostgres(_made(folder / "lake") / "postgres")
    await postgres.start()
    try:
        with _store(folder / "s3") as (bucket, kind):
            telemetry = logs(0)
            with _lakeflight(folder / "near", bucket, postgres.url) as server:
                await _fill(server, postgres.url, telemetry, size)
                figures = [await _ingestion(server, bucket, size, folder)]
            for latency_ms in LATENCIES_MS:
                with (
                    delayed(str(bucket.options.endpoint), latency_ms) as away,
                    _lakeflight(folder / f"away-{latency_ms}", bucket.at(away), postgres.url) as server,
                ):
                    figures.append(await _query(server, bucket.at(away), telemetry, latency_ms, size, kind))
            return figures
    finally:
        await postgres.stop()


def _made(folder: Path) -> Path:
    """A folder of its own: the socket of a database lies beside its files."""
    folder.mkdir()
    return folder


@contextmanager
def _store(folder: Path) -> Iterator[tuple[Bucket, str]]:
    """A bucket, and what it is a bucket of."""
    program = versitygw_program()
    with s3_server() if program is None else versitygw(program, folder) as endpoint:
        yield new_bucket(endpoint), "moto" if program is None else "versitygw"


@contextmanager
def _lakeflight(data_dir: Path, bucket: Bucket, postgres_url: str) -> Iterator[Server]:
    server = start(
        data_dir,
        {
            "LAKEFLIGHT_POSTGRES_URL": postgres_url,
            "LAKEFLIGHT_STORE_URL": bucket.url,
            **bucket.environment,
            "LAKEFLIGHT_MAINTENANCE_INTERVAL_S": "3600",
            "LAKEFLIGHT_SELF_TELEMETRY": "false",
        },
    )
    try:
        yield server
    except BaseException:
        server.kill()
        raise
    server.stop()


@asynccontextmanager
async def _client(bucket: Bucket) -> AsyncIterator[Any]:
    """The client that lakeflight uses as well, with nothing around it."""
    files = s3fs.S3FileSystem(
        asynchronous=True,
        skip_instance_cache=True,
        key=bucket.options.access_key_id,
        secret=bucket.options.secret_access_key,
        endpoint_url=bucket.options.endpoint,
        client_kwargs={"region_name": bucket.options.region},
        config_kwargs={
            "max_pool_connections": REQUESTS_MAX,
            "request_checksum_calculation": "when_required",
            "response_checksum_validation": "when_required",
            "s3": {"addressing_style": "path"},
        },
    )
    client = await files.set_session()
    try:
        yield client
    finally:
        await client.close()


# --- queries --------------------------------------------------------------------------------------------------------


def _lines(size: Size) -> int:
    return size.s3_partition_bytes // (LINE_BYTES // 2)


async def _fill(server: Server, postgres_url: str, telemetry: Telemetry, size: Size) -> None:
    """A process that logged for as many hours as there are to be partitions, each made from one block."""
    chance = np.random.default_rng(1)
    sender = Sender(server)
    sender.send_all(telemetry.requests())
    for hour in range(size.s3_partitions):
        block = random_log_block(telemetry.process, telemetry.streams[0], hour, _lines(size), LINE_BYTES, chance)
        sender.send(block)
    connection = await asyncpg.connect(postgres_url)
    await connection.execute(SPREAD, telemetry.process.process_id)  # as if it had been sent in these hours
    await connection.close()
    await asyncio.to_thread(_ask, server, telemetry, size.s3_partitions * _lines(size))


def _ask(server: Server, telemetry: Telemetry, rows: int) -> None:
    client = Raw(server.flight)
    found = client.table(
        "SELECT count(*) AS lines, sum(length(msg)) AS letters"
        f" FROM view_instance('log_entries', '{telemetry.process.process_id}')"
    ).to_pylist()
    client.close()
    if found != [{"lines": rows, "letters": rows * LINE_BYTES}]:
        raise RuntimeError(f"a wrong answer: {found}")


async def _query(
    server: Server, bucket: Bucket, telemetry: Telemetry, latency_ms: int, size: Size, kind: str
) -> Figure:
    rows = size.s3_partitions * _lines(size)
    await asyncio.to_thread(_ask, server, telemetry, rows)
    asked, fetched = [], []
    async with _client(bucket) as client:
        listed = await client.list_objects_v2(Bucket=bucket.name, Prefix="lake/_schema/lake/partitions/")
        keys = [e["Key"] for e in listed["Contents"] if telemetry.process.process_id in e["Key"]]
        total_bytes = sum(e["Size"] for e in listed["Contents"] if e["Key"] in set(keys))
        for number in range(size.s3_rounds + 1):
            for copy in (server.data_dir / "objects" / "copies").iterdir():
                copy.unlink()
            asked.append(await asyncio.to_thread(seconds, lambda: _ask(server, telemetry, rows)))
            fetched.append(await _fetch(client, bucket, keys))
            if not number:  # the first meets connections that are not open yet
                asked.clear()
                fetched.clear()
    value = median(asked)
    limit = Limit(median(fetched), f"the same {total_bytes / 1e6:.0f} MB by the client alone, {REQUESTS_MAX} at once")
    bound = QUERY_RATIO * limit.value
    return Figure(
        f"s3_query_{latency_ms}_ms_s",
        f"query over {len(keys)} partitions on {kind}, {latency_ms} ms a request, no copies",
        value,
        "s",
        (min(asked), max(asked)),
        limit=limit,
        targets=(at_most(value, bound, f"{QUERY_RATIO:g} × fetching"),) if latency_ms == TARGET_MS else (),
    )


async def _fetch(client: Any, bucket: Bucket, keys: Sequence[str]) -> float:
    left = iter(keys)

    async def fetch_some() -> None:
        for key in left:
            answer = await client.get_object(Bucket=bucket.name, Key=key)
            async with answer["Body"] as body:
                await body.read()

    started = time.perf_counter()
    await asyncio.gather(*(fetch_some() for _ in range(REQUESTS_MAX)))
    return time.perf_counter() - started


# --- ingestion ------------------------------------------------------------------------------------------------------


async def _ingestion(server: Server, bucket: Bucket, size: Size, folder: Path) -> Figure:
    telemetry = thread_of_nothing()
    await asyncio.to_thread(Sender(server).send_all, telemetry.requests())
    template = block_of(telemetry.process, telemetry.streams[0], BLOCK_BYTES)
    postgres = EmbeddedPostgres(_made(folder / "by-hand") / "postgres")
    await postgres.start()
    try:
        await migrate(postgres.url)
        pool = await asyncpg.create_pool(postgres.url, min_size=GROUPS_IN_FLIGHT, max_size=GROUPS_IN_FLIGHT)
        rates, limits = [], []
        async with pool, _client(bucket) as client:
            for _ in range(size.s3_rounds):
                requests = [http_request(replace(template, block_id=fresh_id())) for _ in range(size.s3_blocks)]
                elapsed_s, _ = await send_all(server, requests)
                rates.append(size.s3_blocks / elapsed_s)
                limits.append(size.s3_blocks / await _by_hand(client, bucket, pool, template, size.s3_blocks))
    finally:
        await postgres.stop()
    rate, limit = median(rates), median(limits)
    return Figure(
        "s3_ingest_blocks_per_s",
        f"blocks of {BLOCK_BYTES // 1000} kB acknowledged on S3, {CONNECTIONS} connections",
        rate,
        "/s",
        (min(rates), max(rates)),
        limit=Limit(limit, f"{CONNECTIONS} PUTs at once by the client alone, and an INSERT for each {GROUP_BLOCKS}"),
        targets=(at_least(rate, INGESTION_RATIO * limit, f"{INGESTION_RATIO:g} × PUTs"),),
    )


async def _by_hand(client: Any, bucket: Bucket, pool: Any, template: BlockRequest, blocks: int) -> float:
    left = iter([[fresh_id() for _ in range(min(GROUP_BLOCKS, blocks - i))] for i in range(0, blocks, GROUP_BLOCKS)])

    async def put(name: str) -> None:
        await client.put_object(Bucket=bucket.name, Key=f"by-hand/{name}", Body=template.payload, IfNoneMatch="*")

    async def work() -> None:
        async with pool.acquire() as connection:
            insert = await connection.prepare(INSERT_BLOCKS)
            for group in left:
                await asyncio.gather(*map(put, group))
                await insert.fetch(*block_columns(group, template))

    started = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(GROUPS_IN_FLIGHT)))
    return time.perf_counter() - started


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks/s3", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--quick", action="store_true", help="the smallest sizes: shows that it works, measures nothing"
    )
    parser.add_argument("--write-docs", action="store_true", help=f"put the table into docs/{_DOCUMENT.name}")
    parser.add_argument("--folder", metavar="DIR", type=Path, help="where the lake is made; must be on a real disk")
    given = parser.parse_args(arguments)
    if given.folder is not None and not given.folder.is_dir():
        parser.error(f"--folder: there is no folder {given.folder}")
    if not given.quick and versitygw_program() is None:
        parser.error(
            "this measures over versitygw, which is not there: scripts/toolchains builds it, where there is Go"
        )
    with tempfile.TemporaryDirectory(prefix="lakeflight-s3-", dir=given.folder) as folder:
        text = table(measure(Path(folder), QUICK if given.quick else FULL))
    print(text)
    if given.write_docs:
        write_into(_DOCUMENT, text, BEGINS, ENDS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
