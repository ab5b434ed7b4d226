"""OTLP: a request's resources are registered and their blocks durable when it is answered. The same for HTTP and gRPC.

All or nothing, never a partial success: ids follow from the content, so whoever sends a request again after a failure
stores nothing twice.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Final, TypeVar

import asyncpg

from lakeflight.wire.otlp.messages import RpcStatus
from lakeflight.wire.otlp.resources import SIGNALS, ResourceBlock, Signal, decode_request
from lakehouse.catalog.telemetry import insert_process, insert_stream
from server.ingestion.content import Decompress, DecompressedTooLargeError, decompressor_of
from server.ingestion.decode_threads import DecodeThreads
from server.ingestion.exchange import Answer, Endpoint, Request, Route
from server.ingestion.group_commit import GroupCommit
from server.ingestion.limits import RequestRefusedError, Share
from server.ingestion.status import answer_to

RECEIVED_BYTES_MAX: Final = 20 << 20  # of a body as it comes; exporters send batches of some 100 KB
# Of a body when it is decompressed. In memory as messages it would take ten times as much, and if they are empty ninety
# times. Protobuf is read in pieces; so large ones take turns.
DECODED_BYTES_MAX: Final = 20 << 20
JSON_BYTES_MAX: Final = 4 << 20  # of a body in JSON, which is read at once: every other request waits for 0.1 s
LARGE_BYTES: Final = 2 << 20
DECODE_INLINE_BYTES_MAX: Final = 32 << 10  # above, decoding would hold up every other request
_EXPANSION: Final = 16  # of bodies that somebody has compressed well
REGISTERED_MAX: Final = 65_536  # streams that are known to be registered; 100 bytes each
REGISTERED_S: Final = 600.0  # then the rows are written again, in case somebody has removed them
RETRY_AFTER_S: Final = 30

PROTOBUF: Final = "application/x-protobuf"
JSON: Final = "application/json"
PREFIXES: Final = ("/v1", "/ingestion/otlp/v1")

# codes of google.rpc.Status
_INVALID_ARGUMENT: Final = 3
_PERMISSION_DENIED: Final = 7
_RESOURCE_EXHAUSTED: Final = 8
_UNAVAILABLE: Final = 14
_UNAUTHENTICATED: Final = 16
_CODES: Final = {
    400: _INVALID_ARGUMENT,
    401: _UNAUTHENTICATED,
    403: _PERMISSION_DENIED,
    413: _RESOURCE_EXHAUSTED,
    415: _INVALID_ARGUMENT,
    503: _UNAVAILABLE,
}

T = TypeVar("T")


class OtlpIngestion:
    """Decodes and stores. One per process; used from one event loop."""

    def __init__(self, pool: asyncpg.Pool, blocks: GroupCommit) -> None:
        self._pool = pool
        self._blocks = blocks
        self._registered = _Registered()
        self._threads = DecodeThreads("otlp")

    def routes(self) -> dict[str, Route]:
        """The paths of all signals."""
        return {
            f"{prefix}/{signal.name}": Route("POST", self._endpoint(signal), _refuse)
            for prefix in PREFIXES
            for signal in SIGNALS
        }

    async def store(
        self, signal: Signal, body: bytes, share: Share, *, decompress: Decompress | None = None, is_json: bool = False
    ) -> None:
        """Returns once all that the request has is durable.

        Args:
            share: Of the memory, which has the body.
            decompress: What undoes the body's encoding, if it has one.

        Raises:
            MalformedRequestError: It is no such request.
            BackendUnavailableError: Not known to be durable; some of it may be.
            RequestRefusedError: It is too large, or there is no memory for it.
        """
        bytes_max = JSON_BYTES_MAX if is_json else DECODED_BYTES_MAX
        now_ns = time.time_ns()

        def decode(content: bytes) -> list[ResourceBlock]:
            return decode_request(signal, content, now_ns, is_json=is_json)

        if decompress is None:
            if len(body) > bytes_max:
                raise RequestRefusedError(413, f"the body is larger than {bytes_max} bytes")
            resources = await self._decode(lambda: decode(body), len(body), share)
        else:

            def decompressed(limit_bytes: int) -> tuple[int, list[ResourceBlock]]:
                content = decompress(body, limit_bytes)
                return len(content), decode(content)

            resources = await self.decode_growing(decompressed, len(body), share, bytes_max)
        await self.store_resources(signal, resources)

    async def store_resources(self, signal: Signal, resources: Sequence[ResourceBlock]) -> None:
        """The same of what has been decoded.

        Raises:
            BackendUnavailableError: Not known to be durable; some of it may be.
        """
        for resource in resources:
            await self._register(signal, resource)
        puts = [asyncio.ensure_future(self._blocks.put(resource.block)) for resource in resources]
        try:
            await asyncio.gather(*puts)
        finally:
            await _settled(puts)

    def close(self) -> None:
        self._threads.close()

    async def _register(self, signal: Signal, resource: ResourceBlock) -> None:
        """Its process, then its stream: a block is never visible without them."""
        stream_id = resource.stream.stream_id
        if stream_id in self._registered:
            return
        await insert_process(self._pool, resource.process)
        await insert_stream(self._pool, resource.stream, stream_format=signal.format)
        self._registered.add(stream_id)

    async def _decode(self, decode: Callable[[], T], size_bytes: int, share: Share, *, more_bytes: int = 0) -> T:
        if size_bytes <= DECODE_INLINE_BYTES_MAX:
            return decode()
        return await self._threads.run(decode, share, more_bytes=more_bytes, is_large=size_bytes > LARGE_BYTES)

    async def decode_growing(
        self, work: Callable[[int], tuple[int, T]], size_bytes: int, share: Share, bytes_max: int
    ) -> T:
        """Tried as a small one first: nobody knows how large a body is before it is decompressed.

        The most that it may become is taken of the share beforehand, and what it has become is kept.

        Args:
            work: Under a limit of bytes, which it is given: how many it has made, and what.
            size_bytes: Of the body; what it becomes is hardly less.
            bytes_max: The last limit.

        Raises:
            DecompressedTooLargeError: It becomes more.
        """
        bounds = [LARGE_BYTES, bytes_max] if size_bytes <= LARGE_BYTES else [bytes_max]
        if size_bytes * _EXPANSION <= DECODE_INLINE_BYTES_MAX:
            bounds.insert(0, DECODE_INLINE_BYTES_MAX)
        for bound in bounds:
            more_bytes = bound if bound > DECODE_INLINE_BYTES_MAX else 0
            try:
                size, decoded = await self._decode(partial(work, bound), bound, share, more_bytes=more_bytes)
            except DecompressedTooLargeError:
                if bound == bytes_max:
                    raise
                share.give_back(more_bytes)
                continue
            share.give_back(max(more_bytes - size, 0))
            return decoded
        raise AssertionError("the last bound returns or raises")

    def _endpoint(self, signal: Signal) -> Endpoint:
        async def export(request: Request) -> Answer:
            is_json = _is_json(request)
            await self.store(signal, request.body, request.share, decompress=received(request), is_json=is_json)
            return _ACCEPTED_JSON if is_json else _ACCEPTED

        return export


def received(request: Request) -> Decompress | None:
    """What undoes the encoding of a body, which is not too large as it came.

    Raises:
        RequestRefusedError: It is, or it has another encoding.
    """
    if len(request.body) > RECEIVED_BYTES_MAX:
        raise RequestRefusedError(413, f"the body is larger than {RECEIVED_BYTES_MAX} bytes")
    return decompressor_of(request.headers.get("content-encoding", ""))


async def _settled(puts: Sequence[Awaitable[None]]) -> None:
    """Wait for all, whatever becomes of them: what fails together is reported once."""
    await asyncio.gather(*puts, return_exceptions=True)


class _Registered:
    """Streams whose rows are there, with those of their processes: senders send every few seconds."""

    def __init__(self) -> None:
        self._until: OrderedDict[str, float] = OrderedDict()

    def __contains__(self, stream_id: str) -> bool:
        return self._until.get(stream_id, 0.0) > time.monotonic()

    def add(self, stream_id: str) -> None:
        self._until[stream_id] = time.monotonic() + REGISTERED_S
        self._until.move_to_end(stream_id)
        if len(self._until) > REGISTERED_MAX:
            self._until.popitem(last=False)


def _content_type(headers: Mapping[str, str]) -> str:
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def _is_json(request: Request) -> bool:
    kind = _content_type(request.headers)
    if kind not in (PROTOBUF, JSON):
        raise RequestRefusedError(415, f"Content-Type must be {PROTOBUF} or {JSON}")
    return kind == JSON


def _refuse(asked: Mapping[str, str], error: Exception) -> Answer:
    """What any request would be answered, with a body that exporters read."""
    is_json = _content_type(asked) == JSON
    plain = answer_to(error)
    sentence = plain.body.decode().rstrip("\n")
    code = _CODES.get(plain.status, _UNAVAILABLE)
    headers = {name: value for name, value in plain.headers.items() if name != "content-type"}
    if plain.status == 503:
        headers["retry-after"] = str(RETRY_AFTER_S)
    if is_json:
        body = json.dumps({"code": code, "message": sentence}).encode()
    else:
        body = RpcStatus(code=code, message=sentence).SerializeToString()
    return Answer(plain.status, {"content-type": JSON if is_json else PROTOBUF, **headers}, body)


def grpc_code_of(error: Exception) -> tuple[int, str]:
    """The same for gRPC: the number of a status code, and a sentence."""
    plain = answer_to(error)
    return _CODES.get(plain.status, _UNAVAILABLE), plain.body.decode().rstrip("\n")


_ACCEPTED: Final = Answer(200, {"content-type": PROTOBUF})
_ACCEPTED_JSON: Final = Answer(200, {"content-type": JSON}, b"{}")
