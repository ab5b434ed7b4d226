"""A running ingestion server for tests and measurements, a small HTTP client, and bodies to send."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from lakeflight.wire.envelope import (
    BlockRequest,
    ProcessRequest,
    StreamRequest,
    encode_block,
    encode_payload,
    encode_process,
    encode_stream,
    encode_types,
)
from server.access import Authenticate, anonymous
from server.ingestion.app import application
from server.ingestion.exchange import Endpoint, Route
from server.ingestion.limits import BodyLimits
from server.ingestion.listener import listen, reserve
from server.ingestion.process import IngestionSettings, serve_application, serve_ingestion

START_NS = 1_704_067_200_123_456_789  # 2024-01-01


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes


class Connection:
    """One keep-alive connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, port: int, peer: str = "127.0.0.1") -> Connection:
        """Connect from an address of loopback."""
        return cls(*await asyncio.open_connection("127.0.0.1", port, local_addr=(peer, 0)))

    async def post(self, path: str, body: bytes, headers: Mapping[str, str] | None = None) -> Answer:
        return await self.request("POST", path, body, headers)

    async def request(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Answer:
        fields = {"host": "test", "content-length": str(len(body)), **(headers or {})}
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        self.writer.write(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body)
        return await self.answer(has_body=method != "HEAD")

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, *, has_body: bool = True) -> Answer:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.rstrip("\r\n").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        length = int(headers.get("content-length", 0)) if has_body else 0
        return Answer(int(first.split(" ")[1]), headers, await self.reader.readexactly(length))

    async def is_closed(self) -> bool:
        """Whether the server has nothing more to say (waits for it)."""
        try:
            return await self.reader.read(1) == b""
        except ConnectionResetError:
            return True

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()


@dataclass(frozen=True)
class RunningIngestion:
    port: int
    store: Path | None
    otlp_grpc: str = ""

    async def post(self, path: str, body: bytes, headers: Mapping[str, str] | None = None) -> Answer:
        connection = await Connection.open(self.port)
        try:
            return await connection.post(path, body, headers)
        finally:
            await connection.close()

    async def get(self, path: str) -> Answer:
        connection = await Connection.open(self.port)
        try:
            return await connection.request("GET", path)
        finally:
            await connection.close()

    @property
    def store_folder(self) -> Path:
        assert self.store is not None
        return self.store

    def blob(self, block: BlockRequest) -> Path:
        return self.store_folder / "blobs" / block.process_id / block.stream_id / block.block_id


@contextlib.asynccontextmanager
async def running_ingestion(
    database_url: str,
    folder: Path,
    limits: BodyLimits | None = None,
    connections_max: int = 1024,
    connections_per_peer_max: int = 1024,
    otlp_grpc: bool = False,
) -> AsyncIterator[RunningIngestion]:
    """Serve on a free port of loopback until the block ends."""
    listener = listen("127.0.0.1", 0)
    port = listener.getsockname()[1]
    reserved = reserve("127.0.0.1", 0)
    otlp_grpc_address = f"127.0.0.1:{reserved.getsockname()[1]}"
    settings = IngestionSettings(
        database_url=database_url,
        store_url=(folder / "store").as_uri(),
        object_cache=folder / "objects",
        limits=limits or BodyLimits(),
        connections_max=connections_max,
        connections_per_peer_max=connections_per_peer_max,
        otlp_grpc_address=otlp_grpc_address if otlp_grpc else None,
    )
    stop = asyncio.Event()
    ready = asyncio.Event()
    serving = asyncio.create_task(serve_ingestion(listener, settings, stop=stop, on_ready=ready.set))
    waiting = asyncio.create_task(ready.wait())
    await asyncio.wait((serving, waiting), return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if serving.done():
        await serving
    try:
        yield RunningIngestion(port, folder / "store", otlp_grpc_address)
    finally:
        stop.set()
        await serving
        reserved.close()


@contextlib.asynccontextmanager
async def running_endpoint(
    endpoint: Endpoint, authenticate: Authenticate = anonymous, limits: BodyLimits | None = None
) -> AsyncIterator[RunningIngestion]:
    """A server with one path of its own, ``/echo``, and no store."""
    listener = listen("127.0.0.1", 0)
    port = listener.getsockname()[1]
    app = application({"/echo": Route("POST", endpoint)}, limits or BodyLimits(), authenticate)
    stop, ready = asyncio.Event(), asyncio.Event()
    server = asyncio.create_task(serve_application(listener, app, stop=stop, on_ready=ready.set, drain_s=0.2))
    await ready.wait()
    try:
        yield RunningIngestion(port, None)
    finally:
        stop.set()
        await server


def new_id() -> str:
    return str(uuid.uuid4())


def process_request(**changes: object) -> ProcessRequest:
    fields: dict[str, object] = {
        "process_id": new_id(),
        "exe": "game",
        "username": "user",
        "realname": "A User",
        "computer": "box",
        "distro": "linux",
        "cpu_brand": "cpu",
        "tsc_frequency": 1_000_000_000,
        "start_time_ns": START_NS,
        "start_ticks": 1000,
        "parent_process_id": None,
        "properties": {"version": "1", "branch": "main"},
        **changes,
    }
    return ProcessRequest(**fields)  # type: ignore[arg-type]


def stream_request(process_id: str, **changes: object) -> StreamRequest:
    fields: dict[str, object] = {
        "process_id": process_id,
        "stream_id": new_id(),
        "dependencies_metadata": encode_types([]),
        "objects_metadata": encode_types([]),
        "tags": ("log",),
        "properties": {"thread-name": "main"},
        **changes,
    }
    return StreamRequest(**fields)  # type: ignore[arg-type]


def block_request(process_id: str | None = None, stream_id: str | None = None, **changes: object) -> BlockRequest:
    fields: dict[str, object] = {
        "block_id": new_id(),
        "stream_id": stream_id or new_id(),
        "process_id": process_id or new_id(),
        "begin_time_ns": START_NS,
        "begin_ticks": 0,
        "end_time_ns": START_NS + 1_000_000_000,
        "end_ticks": 1_000_000_000,
        "payload": encode_payload(b"dependencies", b"objects"),
        "object_offset": 0,
        "nb_objects": 3,
        **changes,
    }
    return BlockRequest(**fields)  # type: ignore[arg-type]


def body_of(request: ProcessRequest | StreamRequest | BlockRequest) -> bytes:
    if isinstance(request, ProcessRequest):
        return encode_process(request)
    if isinstance(request, StreamRequest):
        return encode_stream(request)
    return encode_block(request)


async def load(port: int, bodies: list[bytes], connections: int) -> list[float]:
    """Send block bodies over keep-alive connections, each as fast as answers come; returns the latencies in seconds."""
    latencies: list[float] = []
    waiting = iter(bodies)

    async def send() -> None:
        connection = await Connection.open(port)
        for body in waiting:
            begin = time.perf_counter()
            answer = await connection.post("/ingestion/insert_block", body)
            latencies.append(time.perf_counter() - begin)
            assert answer.status == 200, answer
        await connection.close()

    await asyncio.gather(*(send() for _ in range(connections)))
    return latencies
