"""Servers of one lake that are asked for the same cold buckets at once: what they do together, beside one that is asked alone.

    python -m benchmarks.servers [--quick] [--folder DIR]

Work is processor time of all of the servers' processes, and the payloads and files that pass between them and the store,
which a relay counts. Each of the servers answers a statement, so each reads all of the partitions that one of them made.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import asyncpg
import numpy as np
import psutil
import uvloop

from benchmarks.clients import Raw
from benchmarks.figures import Figure, Limit, at_most, table
from benchmarks.serving import Sender, Server, start
from benchmarks.workload import Telemetry, logs, random_log_block
from server.embedded_postgres import EmbeddedPostgres
from tests.support.s3 import Bucket, FaultyS3, faulty_s3, new_bucket, s3_server, versitygw, versitygw_program

SERVERS: Final = (1, 2, 4)
BUCKETS, BUCKETS_QUICK = 100, 5
LINES: Final = 5_000  # of a block
LINE_BYTES: Final = 200
WORK_RATIO: Final = 1.1
SPREAD: Final = "UPDATE blocks SET insert_time = insert_time - object_offset * interval '1 hour' WHERE process_id = $1"


@dataclass(frozen=True, slots=True)
class Work:
    """What servers did for one question to each."""

    payloads: int
    files: int
    processor_s: float
    elapsed_s: float


def measure(folder: Path, buckets: int) -> list[Figure]:
    return uvloop.run(_measure(folder, buckets))


async def _measure(folder: Path, buckets: int) -> list[Figure]:
    database = folder / "database"
    database.mkdir()
    postgres = EmbeddedPostgres(database / "postgres")
    await postgres.start()
    try:
        with _store(folder / "s3") as endpoint, faulty_s3(endpoint) as relay:
            bucket = new_bucket(endpoint).at(relay.endpoint)
            done = {count: await _ask_at_once(folder, postgres.url, bucket, relay, count, buckets) for count in SERVERS}
    finally:
        await postgres.stop()
    return [figure for count in SERVERS[1:] for figure in _figures(count, buckets, done[count], done[1])]


def _figures(count: int, buckets: int, work: Work, alone: Work) -> Iterator[Figure]:
    what = f"{count} servers asked for the same {buckets} cold buckets at once"
    made, limit = work.payloads + work.files, alone.payloads + alone.files
    yield Figure(
        f"servers_{count}_made",
        f"{what}: payloads decoded and files written",
        made,
        "",
        limit=Limit(limit, "one server"),
        targets=(at_most(made, WORK_RATIO * limit, f"{WORK_RATIO:g} × one"),),
    )
    yield Figure(
        f"servers_{count}_processor_s",
        f"{what}: processor time, with the answers of all",
        work.processor_s,
        "s",
        limit=Limit(alone.processor_s, "one server, one answer"),
    )
    yield Figure(
        f"servers_{count}_elapsed_s",
        f"{what}: until the last has answered",
        work.elapsed_s,
        "s",
        limit=Limit(alone.elapsed_s, "one server"),
    )


@contextlib.contextmanager
def _store(folder: Path) -> Iterator[str]:
    program = versitygw_program()
    with s3_server() if program is None else versitygw(program, folder) as endpoint:
        yield endpoint


async def _ask_at_once(
    folder: Path, postgres_url: str, bucket: Bucket, relay: FaultyS3, count: int, buckets: int
) -> Work:
    telemetry = logs(0)  # a process of its own, which has said nothing yet
    environment = {
        "LAKEFLIGHT_POSTGRES_URL": postgres_url,
        "LAKEFLIGHT_STORE_URL": bucket.url,
        **bucket.environment,
        "LAKEFLIGHT_MAINTENANCE_INTERVAL_S": "3600",
        "LAKEFLIGHT_SELF_TELEMETRY": "false",
    }
    with contextlib.ExitStack() as running:
        servers = []
        for number in range(count):
            servers.append(start(folder / f"of-{count}-{number}", environment))
            running.callback(servers[-1].stop)
        await asyncio.to_thread(_fill, servers[0], telemetry, buckets)
        connection = await asyncpg.connect(postgres_url)
        await connection.execute(SPREAD, telemetry.process.process_id)
        await connection.close()

        asked, used_s, began = len(relay.asked), sum(map(_processor_s, servers)), time.perf_counter()
        with ThreadPoolExecutor(count) as asking:
            await asyncio.gather(
                *(
                    asyncio.get_running_loop().run_in_executor(asking, _ask, server, telemetry, buckets * LINES)
                    for server in servers
                )
            )
        elapsed_s = time.perf_counter() - began
        requests = relay.asked[asked:]
        return Work(
            sum(request.method == "GET" and "/blobs/" in request.path for request in requests),
            sum(request.method == "PUT" and "/_schema/" in request.path for request in requests),
            sum(map(_processor_s, servers)) - used_s,
            elapsed_s,
        )


def _fill(server: Server, telemetry: Telemetry, buckets: int) -> None:
    chance = np.random.default_rng(1)
    sender = Sender(server)
    sender.send_all(telemetry.requests())
    for hour in range(buckets):
        sender.send(random_log_block(telemetry.process, telemetry.streams[0], hour, LINES, LINE_BYTES, chance))


def _ask(server: Server, telemetry: Telemetry, rows: int) -> None:
    client = Raw(server.flight)
    found = client.table(
        f"SELECT count(*) AS lines FROM view_instance('log_entries', '{telemetry.process.process_id}')"
    ).to_pylist()
    client.close()
    if found != [{"lines": rows}]:
        raise RuntimeError(f"a wrong answer: {found}")


def _processor_s(server: Server) -> float:
    """Of all of its processes, those that have ended included."""
    root = psutil.Process(server.pid)
    total = 0.0
    for process in (root, *root.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.servers", description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few buckets: shows that it works, measures nothing")
    parser.add_argument("--folder", metavar="DIR", type=Path, help="where the lake is made; must be on a real disk")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lakeflight-benchmarks-", dir=given.folder) as folder:
        print(table(measure(Path(folder), BUCKETS_QUICK if given.quick else BUCKETS)))


if __name__ == "__main__":
    main()
