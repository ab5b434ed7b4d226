"""OTLP requests: what is taken, in which encodings and how large; what is answered; and that it is durable by then."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pyarrow as pa
import pytest
import pytest_asyncio

from lakeflight.wire.otlp.messages import RpcStatus
from lakeflight.wire.otlp.resources import LOGS, SIGNALS, decode_request
from server.ingestion.otlp import DECODED_BYTES_MAX, RECEIVED_BYTES_MAX
from tests.support.ingestion import Answer, RunningIngestion, running_ingestion
from tests.support.otlp import NOW_NS

PROTOBUF = "application/x-protobuf"
JSON = "application/json"


@pytest_asyncio.fixture
async def server(database_url: str, tmp_path: Path) -> AsyncIterator[RunningIngestion]:
    async with running_ingestion(database_url, tmp_path, otlp_grpc=True) as running:
        yield running


def logs(lines: int = 3, *, resources: int = 1, service: str = "shop") -> bytes:
    request = LOGS.request()
    for number in range(resources):
        resource = request.resource_logs.add()
        resource.resource.attributes.add(key="service.name").value.string_value = f"{service}-{number}"
        for line in range(lines):
            record = resource.scope_logs.add().log_records.add(time_unix_nano=NOW_NS + line)
            record.body.string_value = f"line {line}"
    encoded: bytes = request.SerializeToString()
    return encoded


async def post(
    server: RunningIngestion, body: bytes, kind: str = PROTOBUF, encoding: str = "", path: str = "/v1/logs"
) -> Answer:
    headers = {"content-type": kind} if kind else {}
    return await server.post(path, body, headers | ({"content-encoding": encoding} if encoding else {}))


@pytest.mark.parametrize("prefix", ["/v1", "/ingestion/otlp/v1"])
@pytest.mark.parametrize("signal", SIGNALS, ids=lambda signal: signal.name)
async def test_every_signal_has_two_paths_and_two_encodings(server: RunningIngestion, prefix: str, signal: Any) -> None:
    for kind, body, expected in (
        (PROTOBUF, b"", b""),
        (JSON, b"{}", b"{}"),
        ("Application/JSON; charset=utf-8", b"{}", b"{}"),
    ):
        answer = await post(server, body, kind, path=f"{prefix}/{signal.name}")
        assert (answer.status, answer.body) == (200, expected)
        assert answer.headers["content-type"] == (JSON if expected else PROTOBUF)


async def test_what_is_acknowledged_is_on_the_disk_and_in_the_database(server: RunningIngestion, database: Any) -> None:
    body = logs(5, resources=3)

    answer = await post(server, body)

    assert (answer.status, answer.body) == (200, b"")
    stored = decode_request(LOGS, body, NOW_NS)
    for resource in stored:
        assert server.blob(resource.block).read_bytes() == resource.block.payload
        row = await database.fetchrow("SELECT * FROM blocks WHERE block_id = $1", resource.block.block_id)
        assert (row["nb_objects"], row["begin_ticks"], row["end_ticks"]) == (5, NOW_NS, NOW_NS + 4)
        stream = await database.fetchrow("SELECT * FROM streams WHERE stream_id = $1", resource.stream.stream_id)
        assert (stream["tags"], stream["format"]) == (["log"], "otlp/v1/logs")
        process = await database.fetchrow("SELECT * FROM processes WHERE process_id = $1", resource.block.process_id)
        assert process["exe"].startswith("shop-")
        assert json.loads(process["properties"]) == {"otel.resource.service.name": process["exe"]}


async def test_the_same_request_in_every_encoding_is_stored_once(server: RunningIngestion, database: Any) -> None:
    body = logs(service="once")
    raw = zlib.compressobj(wbits=-15)
    encoded = {
        "": body,
        "identity": body,
        "gzip": gzip.compress(body[:50]) + gzip.compress(body[50:]),
        "GZIP": gzip.compress(body),
        "zstd": pa.Codec("zstd").compress(body).to_pybytes(),
        "deflate": zlib.compress(body),
    }
    for encoding, content in encoded.items():
        assert (await post(server, content, encoding=encoding)).status == 200, encoding
    assert (await post(server, raw.compress(body) + raw.flush(), encoding="deflate")).status == 200

    process_id = decode_request(LOGS, body, NOW_NS)[0].process.process_id
    assert await database.fetchval("SELECT count(*) FROM blocks WHERE process_id = $1", process_id) == 1


@pytest.mark.parametrize("kind", ["", "text/plain", "application/grpc", "application/x-protobuff"])
async def test_other_content_types_are_415_in_protobuf(server: RunningIngestion, kind: str) -> None:
    answer = await post(server, b"{}", kind)

    assert (answer.status, answer.headers["content-type"]) == (415, PROTOBUF)
    status = RpcStatus.FromString(answer.body)
    assert (status.code, status.message) == (3, f"Content-Type must be {PROTOBUF} or {JSON}")


async def test_other_content_encodings_are_415(server: RunningIngestion) -> None:
    answer = await post(server, b"{}", JSON, "br")

    assert answer.status == 415
    assert json.loads(answer.body) == {"code": 3, "message": "Content-Encoding must be gzip, deflate, zstd or identity"}


@pytest.mark.parametrize("kind", [PROTOBUF, JSON])
async def test_what_cannot_be_read_is_400_with_a_status_in_the_encoding_of_the_request(
    server: RunningIngestion, kind: str
) -> None:
    answer = await post(server, b"\xff{", kind)

    assert (answer.status, answer.headers["content-type"]) == (400, kind)
    if kind == JSON:
        status = json.loads(answer.body)
        code, message = status["code"], status["message"]
    else:
        parsed = RpcStatus.FromString(answer.body)
        code, message = parsed.code, parsed.message
    assert code == 3
    assert message.startswith("parse error (logs): ")


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd"])
async def test_what_is_cut_short_or_no_such_encoding_is_400(server: RunningIngestion, encoding: str) -> None:
    body = logs()
    whole = {
        "gzip": gzip.compress(body), "deflate": zlib.compress(body), "zstd": pa.Codec("zstd").compress(body).to_pybytes(),
    }[encoding]  # fmt: skip

    for damaged in (whole[:-5], body, whole[:3]):
        assert (await post(server, damaged, encoding=encoding)).status == 400


async def test_bodies_have_limits_as_they_come_and_as_they_grow(server: RunningIngestion) -> None:
    grown = gzip.compress(bytes(DECODED_BYTES_MAX + 1), 9)

    for answer in (await post(server, bytes(RECEIVED_BYTES_MAX + 1)), await post(server, grown, encoding="gzip")):
        assert answer.status == 413
        assert RpcStatus.FromString(answer.body).code == 8


async def test_grpc_stores_the_same(server: RunningIngestion, database: Any) -> None:
    body = logs(service="grpc")
    async with grpc.aio.insecure_channel(server.otlp_grpc) as channel:
        for name, content in (("logs.v1.Logs", body), ("metrics.v1.Metrics", b""), ("trace.v1.Trace", b"")):
            export = channel.unary_unary(f"/opentelemetry.proto.collector.{name}Service/Export")
            assert await export(content, compression=grpc.Compression.Gzip, timeout=20) == b""
    assert (await post(server, body)).status == 200

    (stored,) = decode_request(LOGS, body, NOW_NS)
    assert server.blob(stored.block).read_bytes() == stored.block.payload
    assert await database.fetchval("SELECT count(*) FROM blocks WHERE process_id = $1", stored.process.process_id) == 1


async def test_grpc_says_what_http_says(server: RunningIngestion) -> None:
    async with grpc.aio.insecure_channel(server.otlp_grpc) as channel:
        export = channel.unary_unary("/opentelemetry.proto.collector.logs.v1.LogsService/Export")
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await export(b"\xff", timeout=20)
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert refused.value.details().startswith("parse error (logs): ")
        with pytest.raises(grpc.aio.AioRpcError) as too_large:
            await export(bytes(RECEIVED_BYTES_MAX + 1), timeout=20)
        assert too_large.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        unknown = channel.unary_unary("/opentelemetry.proto.collector.logs.v1.LogsService/Import")
        with pytest.raises(grpc.aio.AioRpcError) as unimplemented:
            await unknown(b"", timeout=20)
        assert unimplemented.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_store_that_fails_is_503_and_the_same_request_works_later(
    server: RunningIngestion, database: Any
) -> None:
    body = logs(service="later")
    blobs = server.store_folder / "blobs"
    (stored,) = decode_request(LOGS, body, NOW_NS)
    blobs.mkdir(parents=True, exist_ok=True)
    in_the_way = blobs / stored.process.process_id
    in_the_way.write_bytes(b"")

    answer = await post(server, body)
    async with grpc.aio.insecure_channel(server.otlp_grpc) as channel:
        export = channel.unary_unary("/opentelemetry.proto.collector.logs.v1.LogsService/Export")
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await export(body, timeout=20)

    assert (answer.status, answer.headers["retry-after"]) == (503, "30")
    assert RpcStatus.FromString(answer.body).code == 14
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    assert await database.fetchval("SELECT count(*) FROM blocks WHERE block_id = $1", stored.block.block_id) == 0
    in_the_way.unlink()
    assert (await post(server, body)).status == 200
    assert server.blob(stored.block).read_bytes() == stored.block.payload
