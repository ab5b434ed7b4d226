"""Bodies that nobody should send: refused, or kept and said to be missing; never a failure of the server's own.

A server of its own, whose lake fills with damage, and a good program in it whose answers must stay as they are.
"""

from __future__ import annotations

import asyncio
import random
import uuid
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import asyncpg
import psutil
import pytest

from lakeflight.connection import IncompleteResultError, connect
from lakeflight.wire.envelope import (
    decode_block,
    decode_process,
    decode_stream,
    encode_block,
    encode_process,
    encode_stream,
)
from tests.support.corruption import INT64_MAX, damaged_block, damaged_bytes, damaged_types
from tests.support.fixtures import Request, native_cases
from tests.support.postgres import PostgresServer
from tests.support.programs import Program
from tests.support.raw_http import Sender, status_of_bytes
from tests.support.recorded import assert_answers_as_recorded
from tests.support.serving import Renamed, Server, renamed, serving
from tests.support.sizes import SEED, size

CORRUPTIONS = size(300, 2_000)
BLOCK, STREAM, PROCESS = (f"/ingestion/insert_{kind}" for kind in ("block", "stream", "process"))


@dataclass
class Lake:
    """A server, what of it must not be restarted, and good telemetry in it."""

    server: Server
    database_url: str
    good: Program
    recorded: Renamed
    pids: frozenset[tuple[int, float]] = frozenset()
    answers: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def lasting(self) -> frozenset[tuple[int, float]]:
        """The server and its children, without workers: those come and go."""
        root = psutil.Process(self.server.process.pid)
        return frozenset((process.pid, process.create_time()) for process in [root, *root.children()])

    def ask_all(self) -> dict[str, list[dict[str, Any]]]:
        logs, spans = self.good.process_id, self.good.thread_stream
        questions = [
            f"SELECT * FROM view_instance('log_entries', '{logs}') ORDER BY time, msg",
            f"SELECT * FROM view_instance('thread_spans', '{spans}') ORDER BY begin, id",
            f"SELECT time, msg FROM log_entries WHERE process_id = '{logs}' ORDER BY time, msg",
            f"SELECT * FROM processes WHERE process_id = '{logs}'",
            f"SELECT stream_id, tags, properties FROM streams WHERE process_id = '{logs}' ORDER BY stream_id",
            f"SELECT block_id, payload_size FROM blocks WHERE process_id = '{logs}' ORDER BY block_id",
        ]
        return {question: self.server.query(question).to_pylist() for question in questions}


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory, postgres_server: PostgresServer) -> Iterator[Lake]:
    url = asyncio.run(postgres_server.create(migrated=False))
    with serving(tmp_path_factory.mktemp("damaged"), "--postgres-url", url) as server:
        found = Lake(server, url, Program(), renamed(native_cases()[0]))
        server.replay([*found.good.registration(), *(found.good.log_block() for _ in range(3))])
        server.replay([found.good.thread_block(), found.good.thread_block(), *found.recorded.requests])
        found.answers = found.ask_all()
        assert_answers_as_recorded(server, found.recorded)
        found.pids = found.lasting()
        yield found
    asyncio.run(postgres_server.drop(url))


@pytest.fixture(autouse=True)
def others_are_not_touched(lake: Lake) -> Iterator[None]:
    yield
    assert lake.ask_all() == lake.answers
    assert_answers_as_recorded(lake.server, lake.recorded)
    assert lake.lasting() == lake.pids


@pytest.mark.parametrize("path", [PROCESS, STREAM, BLOCK])
def test_every_strict_prefix_of_a_recorded_body_is_refused(lake: Lake, path: str) -> None:
    body = min((request.body for request in native_cases()[0].requests if request.path == path), key=len)
    with Sender(lake.server.http) as sender:
        statuses = {sender.post(path, body[:length]) for length in range(len(body))}

    assert statuses == {400}


def test_damaged_blocks_are_refused_or_decoded_or_said_to_be_missing(lake: Lake) -> None:
    print(f"seed {SEED}")
    chance = random.Random(SEED)
    victim = Program()
    requests = [*victim.registration(), victim.log_block(), victim.thread_block()]
    anchors = f"SELECT msg FROM view_instance('log_entries', '{victim.process_id}') WHERE block_id = '%s'"
    anchor = decode_block(requests[-2].body).block_id
    lake.server.replay(requests)
    accepted: set[str] = set()
    statuses = set()
    with Sender(lake.server.http) as sender:
        for number in range(CORRUPTIONS):
            body = damaged_block(chance, decode_block(_block_of(victim, number).body))
            status = sender.post(BLOCK, body)
            assert status in (200, 400), f"corruption {number} of seed {SEED}: {status}"
            statuses.add(status)
            if status == 200:
                accepted.add(decode_block(body).block_id)
    assert statuses == {200, 400}

    missing = {
        "log_entries": _missing(lake, f"view_instance('log_entries', '{victim.process_id}')"),
        "thread_spans": _missing(lake, f"view_instance('thread_spans', '{victim.thread_stream}')"),
    }

    for view_set, blocks in missing.items():
        assert blocks == len(_quarantined(lake, view_set, victim.process_id) & accepted), view_set
        assert blocks > 0
    assert lake.server.query(anchors % anchor).column("msg").to_pylist() == ["line 0", "line 1", "line 2"]
    everything = lake.server.query("SELECT block_id FROM blocks").column("block_id").to_pylist()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert _missing(lake, "log_entries") >= missing["log_entries"]
        assert len(everything) == len(set(everything))


def test_damaged_type_tables_and_processes_do_no_more_harm(lake: Lake) -> None:
    print(f"seed {SEED}")
    chance = random.Random(SEED + 1)
    with Sender(lake.server.http) as sender:
        for number in range(CORRUPTIONS // 3):
            victim = Program()
            process, stream, *_ = victim.registration()
            for request in (process, stream):
                body = damaged_bytes(chance, request.body) if chance.random() < 0.6 else request.body
                status = sender.post(request.path, body)
                assert status in (200, 400), f"corruption {number} of seed {SEED}: {status}"
            assert sender.post(BLOCK, victim.log_block().body) == 200
            if number % 10 == 0:
                _ask_about(lake, victim)
    for table in ("processes", "streams", "blocks", "log_entries"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            lake.server.query(f"SELECT * FROM {table}")


@pytest.mark.parametrize("member", ["dependencies_metadata", "objects_metadata"])
def test_sound_cbor_that_describes_no_types_only_costs_its_own_blocks(lake: Lake, member: str) -> None:
    """Layouts are judged when blocks are decoded: what says nonsense is taken, and its blocks are missing."""
    print(f"seed {SEED}")
    chance = random.Random(f"{SEED}/{member}")
    program = Program()
    process, stream, *_ = program.registration()
    lake.server.replay([process])
    kept = 0
    with Sender(lake.server.http) as sender:
        for _ in range(CORRUPTIONS // 10):
            announced = replace(decode_stream(stream.body), stream_id=str(uuid.uuid4()))
            damaged = damaged_types(chance, getattr(announced, member))
            changes: dict[str, Any] = {member: damaged}
            if sender.post(STREAM, encode_stream(replace(announced, **changes))) == 200:
                block = replace(decode_block(program.log_block().body), stream_id=announced.stream_id)
                assert sender.post(BLOCK, encode_block(block)) == 200
                kept += 1
    assert kept > 0

    source = f"view_instance('log_entries', '{program.process_id}')"
    missing = _missing(lake, source)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        seen = lake.server.query(f"SELECT count(DISTINCT block_id) AS n FROM {source}").to_pylist()[0]["n"]
    assert missing > 0
    assert missing + seen <= kept


def test_a_time_that_no_column_could_hold_is_refused(lake: Lake) -> None:
    """Rounded down to microseconds it would be outside of int64 nanoseconds, and break every reader of the table."""
    program = Program()
    process = decode_process(program.registration()[0].body)
    block = decode_block(program.log_block().body)
    with Sender(lake.server.http) as sender:
        for time_ns, status in ((-INT64_MAX - 1, 400), (-INT64_MAX // 1_000 * 1_000 + 1_000, 200), (INT64_MAX, 200)):
            hurt = replace(block, begin_time_ns=time_ns, end_time_ns=time_ns, block_id=str(uuid.uuid4()))
            assert sender.post(PROCESS, encode_process(replace(process, start_time_ns=time_ns))) == status
            assert sender.post(STREAM, program.registration()[1].body) == 200
            assert sender.post(BLOCK, encode_block(hurt)) == status
    for table in ("processes", "blocks"):
        lake.server.query(f"SELECT * FROM {table}")


def test_requests_with_a_wrong_shape(lake: Lake) -> None:
    url = lake.server.http
    with Sender(url) as sender:
        assert sender.request("GET", BLOCK)[0] == 405
        assert sender.request("PUT", STREAM, b"x")[0] == 405
        assert sender.request("POST", "/ingestion/insert_blocks", b"x")[0] == 404
        assert sender.request("POST", "/../../etc/passwd", b"x")[0] == 404
        assert sender.request("POST", BLOCK, b"")[0] == 400
    head = f"POST {BLOCK} HTTP/1.1\r\nhost: a\r\n".encode()
    for header in (
        b"content-length: 4\r\ntransfer-encoding: chunked\r\n",
        b"transfer-encoding: chunked\r\ncontent-length: 4\r\n",
        b"content-length: 4\r\ncontent-length: 5\r\n",
        b"content-length: -1\r\n",
    ):
        assert status_of_bytes(url, head + header + b"\r\n0\r\n\r\n") == 400, header
    for length in ((100 << 20) + 1, 10**14):
        assert status_of_bytes(url, head + f"content-length: {length}\r\n\r\n".encode()) == 413


def test_a_body_that_hardly_comes_is_given_up_in_time(lake: Lake) -> None:
    head = f"POST {BLOCK} HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n".encode()

    assert status_of_bytes(lake.server.http, head, b"a") == 503  # comes again: a sender drops what gets a 4xx


def _block_of(program: Program, number: int) -> Request:
    return program.log_block() if number % 3 else program.thread_block()


def _missing(lake: Lake, source: str) -> int:
    """Missing blocks as the end of the stream says; a strict caller gets an error instead if there are any."""
    with connect(lake.server.flight) as client, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sql = f"SELECT * FROM {source}"
        stream = client.query_stream(sql)
        for _ in stream:
            pass
        missing = stream.missing_blocks
        if missing:
            with pytest.raises(IncompleteResultError, match=f"{missing} blocks? "):
                client.query(sql, strict=True)
        else:
            client.query(sql, strict=True)
    return missing


def _ask_about(lake: Lake, program: Program) -> None:
    """Answers or says that there is no such process; whatever else is a fault."""
    try:
        _missing(lake, f"view_instance('log_entries', '{program.process_id}')")
    except Exception as error:
        assert f"{program.process_id} not found" in str(error)


def _quarantined(lake: Lake, view_set: str, process_id: str) -> set[str]:
    async def fetch() -> list[Any]:
        connection = await asyncpg.connect(lake.database_url)
        try:
            rows: list[Any] = await connection.fetch(
                "SELECT block_id FROM quarantined_blocks WHERE view_set = $1 AND process_id = $2",
                view_set,
                uuid.UUID(process_id),
            )
            return rows
        finally:
            await connection.close()

    return {str(row["block_id"]) for row in asyncio.run(fetch())}
