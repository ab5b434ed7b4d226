"""What is pushed here by services that know no OTLP: webhooks, and Amazon's Firehose with metrics and logs of CloudWatch.

Each becomes OTLP first, and is stored like that: ids follow from the content, everything is durable when it is answered, and
nothing is written before all of a delivery has been read.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from lakeflight.wire.errors import MalformedRequestError
from lakeflight.wire.otlp import cloudwatch, firehose, webhook
from lakeflight.wire.otlp.resources import LOGS, METRICS, ResourceBlock, Signal, block_of, check_number
from server.ingestion.content import DecompressedTooLargeError, gunzip
from server.ingestion.exchange import Answer, Endpoint, Request, Route
from server.ingestion.limits import RequestRefusedError
from server.ingestion.otlp import DECODED_BYTES_MAX, JSON, OtlpIngestion, received
from server.ingestion.status import answer_to, is_foreseen

UNPACKED_BYTES_MAX: Final = 64 << 20  # all that one delivery becomes: decompressed, out of its envelope, as blocks
WEBHOOK_BYTES_MAX: Final = 8 << 20  # one value of one row, and clients take answers of 16 MiB unless told otherwise
METRICS_RECORD_BYTES_MAX: Final = 1 << 20  # Firehose takes no larger ones; as messages they take ninety times as much
LOGS_RECORD_BYTES_MAX: Final = 8 << 20  # when it is decompressed; as objects it may take thirty times as much

_ACCESS_KEY: Final = "x-amz-firehose-access-key"
_REQUEST_ID: Final = "x-amz-firehose-request-id"

Unpack = Callable[[bytes, "_Room"], Iterator[Any]]


class _Room:
    """What is left of a limit."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = self.left_bytes = limit_bytes

    def take(self, count: int) -> None:
        """
        Raises:
            DecompressedTooLargeError: There is no such room.
        """
        self.left_bytes -= count
        if self.left_bytes < 0:
            raise DecompressedTooLargeError(413, f"a delivery becomes more than {self.limit_bytes} bytes")


def delivery_routes(otlp: OtlpIngestion) -> dict[str, Route]:
    """The paths of those that deliver."""

    def from_firehose(signal: Signal, unpack: Unpack) -> Route:
        return Route("POST", _firehose(otlp, signal, unpack), _refuse_firehose, _firehose_credentials)

    return {
        "/ingestion/webhook": Route("POST", _webhook(otlp), _refuse_webhook),
        "/ingestion/otlp/v1/metrics/firehose": from_firehose(METRICS, _metric_resources),
        "/ingestion/cloudwatch/v1/logs/firehose": from_firehose(LOGS, _log_resources),
    }


async def _store(otlp: OtlpIngestion, signal: Signal, request: Request, resources: Unpack, seed: bytes = b"") -> None:
    """Returns once all that was delivered is durable."""
    decompress = received(request)
    now_ns = time.time_ns()

    def unpack(limit_bytes: int) -> tuple[int, list[ResourceBlock]]:
        room = _Room(limit_bytes)
        body = request.body
        if decompress is not None:
            body = decompress(body, min(DECODED_BYTES_MAX, limit_bytes))
            room.take(len(body))
        blocks: list[ResourceBlock] = []
        for resource in resources(body, room):
            blocks.append(block_of(signal, resource, now_ns, seed=seed))
            check_number(len(blocks))
            room.take(len(blocks[-1].block.payload))
        return limit_bytes - room.left_bytes, blocks

    blocks = await otlp.decode_growing(unpack, len(request.body), request.share, UNPACKED_BYTES_MAX)
    await otlp.store_resources(signal, blocks)


def _webhook(otlp: OtlpIngestion) -> Endpoint:
    async def deliver(request: Request) -> Answer:
        def resources(body: bytes, room: _Room) -> Iterator[Any]:
            message = webhook.message_of(body)
            if len(message.encode()) > WEBHOOK_BYTES_MAX:
                raise RequestRefusedError(413, f"the body has more than {WEBHOOK_BYTES_MAX} bytes as text")
            yield webhook.resource_of(request.raw_headers, message)

        await _store(otlp, LOGS, request, resources, webhook.seed_of(request.raw_headers))
        return Answer()

    return deliver


def _refuse_webhook(headers: Mapping[str, str], error: Exception) -> Answer:
    plain = answer_to(error)
    return Answer(plain.status, plain.headers, plain.body.rstrip(b"\n"))


# --- Firehose


def _firehose(otlp: OtlpIngestion, signal: Signal, unpack: Unpack) -> Endpoint:
    async def deliver(request: Request) -> Answer:
        request_id = request.headers.get(_REQUEST_ID, "")

        def resources(body: bytes, room: _Room) -> Iterator[Any]:
            nonlocal request_id
            try:
                envelope = firehose.decode_envelope(body)
                request_id = request_id or envelope.request_id
                for number, record in enumerate(envelope.records):
                    room.take(len(record))
                    try:
                        yield from unpack(record, room)
                    except MalformedRequestError as error:
                        raise MalformedRequestError(f"records[{number}]: {error}") from error
            except MalformedRequestError as error:
                raise MalformedRequestError(f"parse error ({signal.name}): {error}") from error

        try:
            await _store(otlp, signal, request, resources)
        except Exception as error:
            if not is_foreseen(error):
                raise
            return _firehose_answer(answer_to(error), request_id)
        return _firehose_answer(Answer(), request_id)

    return deliver


def _refuse_firehose(headers: Mapping[str, str], error: Exception) -> Answer:
    return _firehose_answer(answer_to(error), headers.get(_REQUEST_ID, ""))


def _firehose_answer(plain: Answer, request_id: str) -> Answer:
    """The same in the one shape that Firehose reads; it sends again whatever is not 200 and said like this."""
    reason = None if plain.status == 200 else plain.body.decode().rstrip("\n")
    body = firehose.encode_answer(request_id, time.time_ns() // 1_000_000, reason)
    return Answer(plain.status, {**plain.headers, "content-type": JSON}, body)


def _firehose_credentials(headers: Mapping[str, str]) -> Mapping[str, str]:
    """Its access key is what others send as a bearer token."""
    key = headers.get(_ACCESS_KEY)
    return headers if key is None else {**headers, "authorization": f"Bearer {key}"}


def _metric_resources(record: bytes, room: _Room) -> Iterator[Any]:
    if len(record) > METRICS_RECORD_BYTES_MAX:
        raise MalformedRequestError(f"it has {len(record)} bytes, the limit is {METRICS_RECORD_BYTES_MAX}")
    yield from cloudwatch.metric_resources(record)


def _log_resources(record: bytes, room: _Room) -> Iterator[Any]:
    document = gunzip(record, min(LOGS_RECORD_BYTES_MAX, room.left_bytes))
    room.take(len(document))
    resource = cloudwatch.log_resource(document)
    if resource is not None:
        yield resource
