"""A real ``lakeflight serve`` for tests: started as a user would, asked through ADBC, killed without mercy."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import adbc_driver_flightsql.dbapi as flight_sql
import psutil
import pyarrow as pa

from lakeflight.wire.envelope import (
    decode_block,
    decode_process,
    decode_stream,
    encode_block,
    encode_process,
    encode_stream,
)
from tests.support.fixtures import ROOT, Case, Request

START_S = 120.0  # the first start on a machine compiles


class ServerDiedError(AssertionError):
    """The server ended before it was ready."""


CONTENT_HEADERS: tuple[str, ...] = ("Content-Type", "Content-Encoding")  # not a length: ids may be renamed


@dataclass
class Server:
    """One server process tree."""

    process: subprocess.Popen[bytes]
    flight: str
    http: str
    data_dir: Path
    log: Path
    otlp_grpc: str

    def connect(self, headers: Mapping[str, str] | None = None) -> Any:
        """An ADBC connection; ``headers`` go with every call."""
        options = {f"adbc.flight.sql.rpc.call_header.{name}": value for name, value in (headers or {}).items()}
        return flight_sql.connect(self.flight, db_kwargs=options, autocommit=True)

    def query(self, sql: str, parameters: Sequence[Any] | None = None, **headers: str) -> pa.Table:
        """The rows of one statement over a connection of its own."""
        with self.connect(headers) as connection, connection.cursor() as cursor:
            cursor.execute(sql, parameters)
            return cursor.fetch_arrow_table()

    def post(self, path: str, body: bytes, headers: Mapping[str, str] | None = None) -> int:
        """The status of one request."""
        connection = http.client.HTTPConnection(urlsplit(self.http).netloc, timeout=30)
        with contextlib.closing(connection):
            connection.request("POST", path, body, dict(headers or {}))
            response = connection.getresponse()
            response.read()
            return response.status

    def replay(self, requests: Sequence[Request]) -> None:
        """Send recorded requests over one connection; each must be acknowledged."""
        connection = http.client.HTTPConnection(urlsplit(self.http).netloc, timeout=60)
        with contextlib.closing(connection):
            for request in requests:
                content = {name: request.headers[name] for name in CONTENT_HEADERS if name in request.headers}
                connection.request("POST", request.path, request.body, content)
                response = connection.getresponse()
                answer = response.read()
                assert response.status == 200, f"{request.path}: {response.status} {answer!r}"

    def tree(self) -> list[psutil.Process]:
        """The server and all of its descendants."""
        with contextlib.suppress(psutil.NoSuchProcess):
            root = psutil.Process(self.process.pid)
            return [root, *root.children(recursive=True)]
        return []

    def kill(self) -> None:
        """SIGKILL to everything at once, the database included."""
        for victim in self.tree():
            with contextlib.suppress(psutil.NoSuchProcess):
                victim.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM, as an operator does; the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.kill()
            raise


def start(
    data_dir: Path,
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    self_telemetry: bool = False,
    tree: Path = ROOT,
) -> Server:
    """Start the server of a source tree on free ports and wait until both answer."""
    data_dir.mkdir(parents=True, exist_ok=True)
    ready = data_dir / f"ready-{uuid.uuid4().hex}.json"
    log = data_dir / "server.log"
    command = [
        *(sys.executable, "-m", "server", "serve", "--data-dir", str(data_dir), "--ready-file", str(ready)),
        *("--flight-address", "127.0.0.1:0", "--http-address", "127.0.0.1:0", *arguments),
    ]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("LAKEFLIGHT_")}
    inherited.pop("PYTHONDONTWRITEBYTECODE", None)  # a user's server keeps its bytecode, and starts faster for it
    inherited["LAKEFLIGHT_SELF_TELEMETRY"] = "true" if self_telemetry else "false"
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, cwd=tree, env=inherited | dict(environment or {}), stdout=output, stderr=output
        )
    deadline = time.monotonic() + START_S
    while not ready.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise ServerDiedError(f"the server did not start:\n{log.read_text()[-4000:]}")
        time.sleep(0.02)
    addresses = json.loads(ready.read_text())
    flight, http, otlp_grpc = (str(addresses.get(name, "")) for name in ("flight", "http", "otlp_grpc"))  # by its roles
    return Server(process, flight, http, data_dir, log, otlp_grpc)


@contextlib.contextmanager
def serving(data_dir: Path, *arguments: str, **options: Any) -> Iterator[Server]:
    """A server for the length of a block; it must end with exit code 0 if it still runs."""
    server = start(data_dir, *arguments, **options)
    try:
        yield server
    except BaseException:
        server.kill()
        raise
    if server.process.poll() is None:
        assert server.stop() == 0, server.log.read_text()[-4000:]


def wait_out_the_hour(needed_s: float = 30.0) -> None:
    """Return when telemetry of the next seconds falls into one insert hour: call trees end where an hour ends."""
    left = 3600 - time.time() % 3600
    if left < needed_s:
        time.sleep(left + 0.1)


def ids_of(requests: Sequence[Request]) -> set[str]:
    """Every process, stream and block id that the requests name."""
    found: set[str] = set()
    for request in requests:
        match request.path.rsplit("/", 1)[-1]:
            case "insert_process":
                found.add(decode_process(request.body).process_id)
            case "insert_stream":
                stream = decode_stream(request.body)
                found |= {stream.process_id, stream.stream_id}
            case "insert_block":
                block = decode_block(request.body)
                found |= {block.process_id, block.stream_id, block.block_id}
    return found


@dataclass(frozen=True)
class Renamed:
    """A case under fresh ids, so that one lake can hold it more than once."""

    case: Case
    names: Mapping[str, str]

    @property
    def requests(self) -> list[Request]:
        return [replace(request, body=self._body(request)) for request in self.case.requests]

    def text(self, text: str) -> str:
        """A statement about the case, under the new ids."""
        for old, new in self.names.items():
            text = text.replace(old, new)
        return text

    def expected(self, query: str) -> list[dict[str, Any]]:
        return [
            {name: self.names.get(value, value) if isinstance(value, str) else value for name, value in row.items()}
            for row in self.case.expected(query)
        ]

    def _body(self, request: Request) -> bytes:
        """Only the envelope: what events say stays as it is."""
        names = self.names
        match request.path.rsplit("/", 1)[-1]:
            case "insert_process":
                process = decode_process(request.body)
                return encode_process(replace(process, process_id=names[process.process_id]))
            case "insert_stream":
                stream = decode_stream(request.body)
                stream = replace(stream, process_id=names[stream.process_id], stream_id=names[stream.stream_id])
                return encode_stream(stream)
            case _:
                block = decode_block(request.body)
                block = replace(block, process_id=names[block.process_id], stream_id=names[block.stream_id])
                return encode_block(replace(block, block_id=names[block.block_id]))


def renamed(case: Case) -> Renamed:
    """The same telemetry as if other processes had sent it."""
    return Renamed(case, {old: str(uuid.uuid4()) for old in ids_of(case.requests)})
