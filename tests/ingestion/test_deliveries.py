"""Webhooks and Firehoses: what is stored and answered, and that whatever cannot be read is refused whole."""

from __future__ import annotations

import base64
import gzip
import json
import random
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import pytest

import lakehouse.errors as errors
from lakeflight.wire.envelope import decode_payload
from lakeflight.wire.errors import MalformedRequestError
from lakeflight.wire.otlp import cloudwatch, identity, webhook
from lakeflight.wire.otlp.cloudwatch import log_resource
from lakeflight.wire.otlp.firehose import JSON_ITEMS_MAX, REQUEST_ID_CHARS_MAX
from lakeflight.wire.otlp.messages import MESSAGES
from lakeflight.wire.otlp.resources import LOGS, METRICS, RESOURCES_MAX, decode_request
from lakehouse.model import Caller
from server.access import Origin
from server.ingestion.app import application
from server.ingestion.deliveries import (
    LOGS_RECORD_BYTES_MAX,
    METRICS_RECORD_BYTES_MAX,
    WEBHOOK_BYTES_MAX,
    delivery_routes,
)
from server.ingestion.limits import BodyLimits
from server.ingestion.otlp import RECEIVED_BYTES_MAX
from tests.support.corruption import damaged_bytes
from tests.support.deliveries import (
    EXPORTER,
    LOGS_FIREHOSE,
    METRICS_FIREHOSE,
    WEBHOOK,
    delimited,
    envelope,
    metric_stream,
    subscription,
)
from tests.support.ingestion import Answer, Connection, RunningIngestion
from tests.support.otlp import NOW_NS
from tests.support.sizes import SEED, size

ID = "x-amz-firehose-request-id"


def stored(server: RunningIngestion) -> list[Path]:
    return sorted(path for path in (server.store_folder / "blobs").rglob("*") if path.is_file())


def said(answer: Answer) -> dict[str, Any]:
    """The answer in Firehose's shape."""
    assert answer.headers["content-type"] == "application/json"
    content: dict[str, Any] = json.loads(answer.body)
    assert content.keys() == {"requestId", "timestamp"} | ({"errorMessage"} if answer.status != 200 else set())
    assert abs(content["timestamp"] / 1000 - time.time()) < 60
    return content


def deliveries() -> dict[str, bytes]:
    """A sound one for each path."""
    return {
        WEBHOOK: b'{"action":"opened"}',
        METRICS_FIREHOSE: envelope([delimited(metric_stream("AWS/RDS", "AWS/S3").SerializeToString())]),
        LOGS_FIREHOSE: envelope([subscription("one", "two"), subscription("three", logStream="b")]),
    }


# --- webhooks


async def test_a_webhook_is_one_line_of_the_sender_that_its_headers_name(
    server: RunningIngestion, database: Any
) -> None:
    headers = {
        "X-Micromegas-Service-Name": "gitlab",
        "X-Micromegas-Service-Namespace": "ci",
        "X-Micromegas-Target": "push",
        "X-Delivery": "1",
    }

    answer = await server.post(WEBHOOK, b'{"a":1}', headers)

    assert (answer.status, answer.body) == (200, b"")
    (blob,) = stored(server)
    resource = MESSAGES["ResourceLogs"].FromString(decode_payload(blob.read_bytes())[1])
    (record,) = resource.scope_logs[0].log_records
    assert (resource.scope_logs[0].scope.name, record.severity_number, record.body.string_value) == (
        "push",
        9,
        '{"a":1}',
    )
    assert (record.time_unix_nano, record.observed_time_unix_nano) == (0, 0)
    row = await database.fetchrow("SELECT * FROM blocks WHERE block_id = $1", blob.name)
    assert row["nb_objects"] == 1 and abs(row["begin_ticks"] / 1e9 - time.time()) < 60
    process = await database.fetchrow("SELECT * FROM processes WHERE process_id = $1", row["process_id"])
    assert process["exe"] == "ci/gitlab"
    assert str(process["process_id"]) == identity.process_id({"service.name": "gitlab", "service.namespace": "ci"})


async def test_the_same_delivery_is_stored_once_and_another_is_another(server: RunningIngestion) -> None:
    first = {"x-micromegas-service-name": "hooks", "x-delivery": "1"}
    for headers, body, expected in (
        (first, b"{}", 1),
        (first, b"{}", 1),
        ({"X-DELIVERY": "1", "X-Micromegas-Service-Name": "hooks"}, b"{}", 1),  # in another order
        (first | {"x-delivery": "2"}, b"{}", 2),
        (first, b"{ }", 3),
    ):
        assert (await server.post(WEBHOOK, body, headers)).status == 200
        assert len(stored(server)) == expected


def test_the_seed_of_an_id_is_every_header_in_order() -> None:
    headers = [(b"B", b"2"), (b"a", b"9"), (b"b", b"1")]

    assert webhook.seed_of(headers) == b"a\0009\0b\0001\0b\0002\0"


async def test_bodies_are_text_whatever_they_are_and_compressed_ones_what_is_in_them(server: RunningIngestion) -> None:
    for body, headers, expected in (
        (b"\xff\xfe\0x", {}, "\ufffd\ufffd\0x"),
        (gzip.compress("naïve".encode()), {"content-encoding": "gzip"}, "naïve"),
        ("𝄞".encode() * 300_000, {}, "𝄞" * 300_000),
    ):
        before = stored(server)
        assert (await server.post(WEBHOOK, body, headers)).status == 200
        (blob,) = set(stored(server)) - set(before)
        resource = MESSAGES["ResourceLogs"].FromString(decode_payload(blob.read_bytes())[1])
        assert resource.scope_logs[0].log_records[0].body.string_value == expected


async def test_names_in_headers_are_utf8_or_a_character_for_each_byte(server: RunningIngestion, database: Any) -> None:
    connection = await Connection.open(server.port)
    for name in ("Möbel".encode(), "Möbel".encode("latin-1")):
        await connection.send(
            b"POST /ingestion/webhook HTTP/1.1\r\nhost: a\r\nx-micromegas-service-name: " + name
            + b"\r\ncontent-length: 1\r\n\r\nx"
        )  # fmt: skip
        assert (await connection.answer()).status == 200
    await connection.close()

    assert await database.fetchval("SELECT count(*) FROM processes WHERE exe = 'Möbel'") == 1
    assert len(stored(server)) == 2


async def test_what_a_webhook_may_not_send_is_refused_in_a_sentence(server: RunningIngestion) -> None:
    for body, headers, status, sentence in (
        (b"", {}, 400, b"empty body"),
        (gzip.compress(b""), {"content-encoding": "gzip"}, 400, b"empty body"),
        (b"not gzip at all", {"content-encoding": "gzip"}, 400, b"the body cannot be decompressed: "),
        (b"x", {"content-encoding": "br"}, 415, b"Content-Encoding must be gzip, deflate, zstd or identity"),
        (bytes(RECEIVED_BYTES_MAX + 1), {}, 413, b"the body is larger than 20971520 bytes"),
        (gzip.compress(bytes(RECEIVED_BYTES_MAX + 1)), {"content-encoding": "gzip"}, 413, b"the body has more than "),
        (b"x" * (WEBHOOK_BYTES_MAX + 1), {}, 413, b"the body has more than 8388608 bytes as text"),
        (b"\xff" * (WEBHOOK_BYTES_MAX // 2), {}, 413, b"the body has more than 8388608 bytes as text"),
    ):
        answer = await server.post(WEBHOOK, body, headers)
        assert (answer.status, answer.headers["content-type"]) == (status, "text/plain; charset=utf-8")
        assert answer.body.startswith(sentence)
    assert stored(server) == []


# --- metrics


async def test_metrics_of_a_stream_are_processes_by_their_namespace(server: RunningIngestion, database: Any) -> None:
    request = metric_stream("AWS/RDS", "aws/rds ", None, "AWS/ECS", exporter=EXPORTER + "/by-namespace")
    record = delimited(request.SerializeToString())

    answer = await server.post(METRICS_FIREHOSE, envelope([record]), {ID: "of-the-header"})

    assert (answer.status, said(answer)["requestId"]) == (200, "of-the-header")
    rows = await database.fetch(
        """
        SELECT exe, nb_objects, processes.properties ->> 'otel.resource.service.instance.id' AS instance
        FROM blocks JOIN processes USING (process_id) WHERE block_id = ANY($1) ORDER BY exe
        """,
        [blob.name for blob in stored(server)],
    )
    assert [(row["exe"], row["nb_objects"]) for row in rows] == [("AWS/ECS", 4), ("AWS/RDS", 8), ("AWS/Unknown", 4)]
    assert {row["instance"] for row in rows} == {EXPORTER + "/by-namespace"}


@pytest.mark.parametrize(
    "resource",
    [
        {"service__name": "shop"}, {"service__namespace": "eu"}, {"host__name": "h"}, {"host__id": "i"},
        {"process__pid": "7"}, {"service__instance__id": "i"}, {"aws__exporter__arn": "  "},
    ],
    ids=lambda resource: next(iter(resource)),
)  # fmt: skip
async def test_metrics_of_somebody_are_what_the_same_request_of_otlp_is(
    server: RunningIngestion, resource: dict[str, str]
) -> None:
    request = metric_stream("AWS/RDS", "AWS/S3", **resource)
    if "aws__exporter__arn" in resource:
        del request.resource_metrics[0].resource.attributes[1]
    body = request.SerializeToString()

    assert (await server.post(METRICS_FIREHOSE, envelope([delimited(body)]))).status == 200

    (expected,) = decode_request(METRICS, body, NOW_NS)
    assert [blob.name for blob in stored(server)] == [expected.block.block_id]
    assert server.blob(expected.block).read_bytes() == expected.block.payload


def test_a_namespace_keeps_its_scopes_and_the_order_of_its_metrics() -> None:
    request = metric_stream("B", "a", "b", service__namespace=" ")
    resource = request.resource_metrics[0]
    resource.scope_metrics[0].scope.name = "first"
    resource.scope_metrics.add(schema_url="second").metrics.add().CopyFrom(resource.scope_metrics[0].metrics[0])

    made = list(cloudwatch.metric_resources(delimited(request.SerializeToString())))

    assert [[(s.scope.name, s.schema_url, [m.name for m in s.metrics]) for s in r.scope_metrics] for r in made] == [
        [("first", "", ["amazonaws.com/a/CPU"])],
        [("first", "", ["amazonaws.com/B/CPU", "amazonaws.com/b/CPU"]), ("", "second", ["amazonaws.com/B/CPU"])],
    ]
    assert [{p.key: p.value.string_value for p in r.resource.attributes}["service.name"] for r in made] == ["a", "B"]
    assert {p.value.string_value for r in made for p in r.resource.attributes if p.key == "service.namespace"} == {""}


async def test_records_have_any_number_of_messages(server: RunningIngestion) -> None:
    bodies = [metric_stream(f"AWS/{n}").SerializeToString() for n in range(5)]
    body = envelope([delimited(*bodies[:2]), b"", delimited(*bodies[2:])])

    for encoding, content in (("", body), ("gzip", gzip.compress(body))):
        answer = await server.post(METRICS_FIREHOSE, content, {"content-encoding": encoding})
        assert (answer.status, said(answer)["requestId"]) == (200, "of-the-body")

    assert len(stored(server)) == 5


# --- logs


async def test_events_of_a_log_group_are_lines_of_its_log_stream(server: RunningIngestion, database: Any) -> None:
    body = envelope([
        subscription("one", "two"),
        subscription("alive", messageType="CONTROL_MESSAGE", owner="CloudwatchLogs", logGroup="", logStream=""),
        subscription(),
        subscription("three", logStream="other", logEvents=[{"id": "e", "timestamp": 0, "message": "", "x": None}]),
        subscription(logEvents=...),
    ])  # fmt: skip

    answer = await server.post(LOGS_FIREHOSE, body)

    assert (answer.status, said(answer)["requestId"]) == (200, "of-the-body")
    found = {}
    for blob in stored(server):
        resource = MESSAGES["ResourceLogs"].FromString(decode_payload(blob.read_bytes())[1])
        attributes = {pair.key: pair.value.string_value for pair in resource.resource.attributes}
        found[attributes["aws.log.stream.name"]] = [
            (record.time_unix_nano, record.body.string_value, record.attributes[0].value.string_value)
            for record in resource.scope_logs[0].log_records
        ]
        assert attributes["service.name"] == attributes["aws.log.group.name"] == "/aws/lambda/shop"
        assert attributes["cloud.account.id"] == "123456789012"
        assert await database.fetchval("SELECT count(*) FROM blocks WHERE block_id = $1", blob.name) == 1
    at = NOW_NS // 1_000_000 * 1_000_000
    assert found == {
        "2026/01/02/[$LATEST]a": [(at, "one", "event-0"), (at + 1_000_000, "two", "event-1")],
        "other": [(0, "", "e")],
    }


# --- what cannot be read

SOUND_METRICS = delimited(metric_stream("AWS/RDS").SerializeToString())


def large_metrics() -> bytes:
    request = metric_stream("AWS/RDS")
    request.resource_metrics[0].schema_url = "x" * METRICS_RECORD_BYTES_MAX
    return delimited(request.SerializeToString())


def of_many_namespaces() -> list[bytes]:
    """A resource is repeated with each of its namespaces."""
    return [delimited(metric_stream(*map(str, range(1_000)), padding="x" * 900_000).SerializeToString())]


Bad: TypeAlias = tuple[bytes, int, str]  # a body, the status of its answer, and what this says


def bad_envelopes() -> dict[str, Bad]:
    return {
        "nothing": (b"", 400, "not sound JSON"),
        "no JSON": (b"not json", 400, "not sound JSON"),
        "no UTF-8": (b'{"requestId":"\xff"}', 400, "not sound JSON"),
        "no object": (b"[]", 400, "not a JSON object"),
        "nested": (b'{"records":' + b"[" * 100_000, 400, "nested|not sound JSON|recursion"),
        "no records": (b'{"records":{}}', 400, "the records are not an array"),
        "another record": (b'{"records":[7]}', 400, r"records\[0\] has no text"),
        "no data": (b'{"records":[{"data":"AA=="},{}]}', 400, r"records\[1\] has no text"),
        "data of numbers": (b'{"records":[{"data":[1]}]}', 400, r"records\[0\] has no text"),
        "no base64": (b'{"records":[{"data":"not-base64!!!"}]}', 400, r"records\[0\] is not base64"),
        "no padding": (b'{"records":[{"data":"AAA"}]}', 400, r"records\[0\] is not base64"),
        "other letters": ('{"records":[{"data":"ÄÄ=="}]}'.encode(), 400, r"records\[0\] is not base64"),
        "an id of another kind": (b'{"requestId":7}', 400, "requestId is not a text"),
        "a long id": (b'{"requestId":"%s"}' % (b"x" * (REQUEST_ID_CHARS_MAX + 1)), 400, "requestId is not a text"),
        "too many": (b'{"records":[%s]}' % (b",".join([b"{}"] * JSON_ITEMS_MAX)), 400, "more than 131072 objects"),
        "too large": (bytes(RECEIVED_BYTES_MAX + 1), 413, "larger than 20971520 bytes"),
    }  # fmt: skip


def bad_metrics() -> dict[str, Bad]:
    records: dict[str, tuple[list[bytes], int, str]] = {
        "cut off": ([SOUND_METRICS, SOUND_METRICS + b"\x32"], 400, r"records\[1\]: a message of 50 bytes, and 0 are left"),
        "no length": ([b"\xff" * 20], 400, "a number does not end"),
        "no message": ([delimited(b"\xff\xff")], 400, "not a ExportMetricsServiceRequest message"),
        "not delimited": ([metric_stream("AWS/RDS").SerializeToString()], 400, r"records\[0\]: "),
        "large": ([large_metrics()], 400, "the limit is 1048576"),
        "many resources": ([delimited(b"\x0a\x00" * (RESOURCES_MAX + 1))], 400, "more than 16384 resources"),
        "many namespaces": (of_many_namespaces(), 413, "becomes more than 67108864 bytes"),
    }  # fmt: skip
    return {name: (envelope(given), *expected) for name, (given, *expected) in records.items()}  # type: ignore[misc]


def bad_logs() -> dict[str, Bad]:
    records: dict[str, tuple[list[bytes], int, str]] = {
        "nothing": ([b""], 400, r"records\[0\]: not sound JSON"),
        "no gzip": ([subscription("a"), b"{}"], 400, r"records\[1\]: the body cannot be decompressed"),
        "cut off": ([subscription("a")[:-9]], 400, "cut short"),
        "no JSON": ([gzip.compress(b"{")], 400, "not sound JSON"),
        "no object": ([gzip.compress(b"[]")], 400, "not a JSON object"),
        "nested": ([gzip.compress(b"[" * 100_000)], 400, "not sound JSON"),
        "before 1970": ([subscription("a", time_ms=-1)], 400, "the timestamp of a log event is -1 ms"),
        "after 2262": ([subscription("a", time_ms=1 << 62)], 400, "the timestamp of a log event is 4611686018427387904 ms"),
        "no time": ([subscription(logEvents=[{"id": "a", "message": "a"}])], 400, "timestamp is not a whole number"),
        "a time of text": ([subscription(logEvents=[{"id": "a", "timestamp": "1", "message": "a"}])], 400, "timestamp is"),
        "true is no time": ([subscription(logEvents=[{"id": "a", "timestamp": True, "message": ""}])], 400, "timestamp is"),
        "no message": ([subscription(logEvents=[{"id": "a", "timestamp": 1}])], 400, "message is not text"),
        "no id": ([subscription(logEvents=[{"timestamp": 1, "message": "a"}])], 400, "id is not text"),
        "no event": ([subscription(logEvents=[7])], 400, "a log event is not an object"),
        "no array": ([subscription(logEvents={})], 400, "logEvents is not an array"),
        "no owner": ([subscription("a", owner=...)], 400, "owner is not text"),
        "no group": ([subscription("a", logGroup=None)], 400, "logGroup is not text"),
        "a bomb": ([gzip.compress(bytes(LOGS_RECORD_BYTES_MAX + 1))], 413, "more than 8388608 bytes"),
        "many arrays": ([gzip.compress(b"[" + b"[]," * 200_000)], 400, "more than 131072 arrays"),
        "bombs": ([subscription("x" * 7_000_000)] * 10, 413, "more than"),
    }  # fmt: skip
    return {name: (envelope(given), *expected) for name, (given, *expected) in records.items()}  # type: ignore[misc]


def test_half_of_a_surrogate_pair_loses_no_event() -> None:
    event = gzip.decompress(subscription("a")).replace(b'"a"', b'"cut \\ud83d"')

    resource = log_resource(event)

    assert resource is not None
    assert resource.scope_logs[0].log_records[0].body.string_value == "cut \ufffd"


@pytest.mark.parametrize(
    ("path", "bad"),
    [
        (METRICS_FIREHOSE, bad_envelopes), (LOGS_FIREHOSE, bad_envelopes), (METRICS_FIREHOSE, bad_metrics),
        (LOGS_FIREHOSE, bad_logs),
    ],
)  # fmt: skip
async def test_what_cannot_be_read_is_refused_whole_in_firehoses_shape(
    server: RunningIngestion, path: str, bad: Callable[[], dict[str, Bad]]
) -> None:
    for name, (body, status, reason) in bad().items():
        answer = await server.post(path, body, {ID: "r"})

        content = said(answer)
        assert (answer.status, content["requestId"]) == (status, "r"), name
        assert re.search(reason, content["errorMessage"]), (name, content["errorMessage"])
    assert stored(server) == []


@pytest.mark.parametrize("path", [METRICS_FIREHOSE, LOGS_FIREHOSE])
async def test_every_cut_and_damage_of_a_delivery_is_refused_or_stored(
    server: RunningIngestion, database: Any, path: str
) -> None:
    body = deliveries()[path]
    records = [base64.b64decode(record["data"]) for record in json.loads(body)["records"]]
    if path == LOGS_FIREHOSE:
        records = [gzip.decompress(record) for record in records]
    chance = random.Random(f"{SEED}{path}")
    connection = await Connection.open(server.port)
    for end in range(len(body)):
        answer = await connection.post(path, body[:end])
        assert answer.status == 400, end
        assert said(answer)["errorMessage"].startswith("parse error")
    assert stored(server) == []
    seen = set()
    for number in range(size(200, 2_000)):
        if number % 2:
            broken = damaged_bytes(chance, body)
        else:
            inner = [damaged_bytes(chance, record) for record in records]
            broken = envelope([gzip.compress(part, 1) for part in inner] if path == LOGS_FIREHOSE else inner)
        before = len(stored(server)) if number % 20 == 0 else None
        answer = await connection.post(path, broken)
        assert answer.status in (200, 400), broken
        said(answer)
        if before is not None and answer.status == 400:
            assert len(stored(server)) == before
        seen.add(answer.status)
    assert seen == {200, 400}
    assert await database.fetchval("SELECT count(*) FROM blocks WHERE block_id = ANY($1)", [
        blob.name for blob in stored(server)
    ]) == len(stored(server))  # fmt: skip
    await connection.close()


# --- who delivers, and trouble


async def test_the_access_key_of_a_firehose_is_the_bearer_token_of_others(server: RunningIngestion) -> None:
    """The routes as the server has them, behind somebody who asks for a key."""
    asked: list[str | None] = []

    async def by_token(headers: Mapping[str, str], origin: Origin) -> Caller:
        asked.append(headers.get("authorization"))
        if asked[-1] != "Bearer good":
            raise errors.UnauthenticatedError("no credential that is known")
        return Caller("aws")

    routes = delivery_routes(_Nothing())  # type: ignore[arg-type]
    app = application(routes, BodyLimits(), by_token)
    for path, headers, status in (
        (METRICS_FIREHOSE, {"x-amz-firehose-access-key": "good"}, 200),
        (METRICS_FIREHOSE, {"x-amz-firehose-access-key": "bad", "authorization": "Bearer good"}, 401),
        (LOGS_FIREHOSE, {}, 401),
        (LOGS_FIREHOSE, {"x-amz-firehose-access-key": "good", "content-length": "2000000000"}, 413),
        (WEBHOOK, {"x-amz-firehose-access-key": "good"}, 401),
        (WEBHOOK, {"authorization": "Bearer good"}, 200),
    ):
        answer = await _call(app, path, headers | {ID: "r"})
        assert answer.status == status, (path, headers)
        if path != WEBHOOK:
            assert said(answer)["requestId"] == "r"
        elif status == 401:
            assert answer.body == b"no credential that is known"


class _Nothing:
    async def decode_growing(self, *_: Any) -> list[Any]:
        return []

    async def store_resources(self, *_: Any) -> None:
        pass


async def _call(app: Any, path: str, headers: Mapping[str, str]) -> Answer:
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"{}"}

    async def send(message: Any) -> None:
        sent.append(message)

    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    await app({"type": "http", "method": "POST", "path": path, "headers": raw}, receive, send)
    head = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return Answer(sent[0]["status"], head, sent[1]["body"])


@pytest.mark.parametrize("path", [WEBHOOK, METRICS_FIREHOSE, LOGS_FIREHOSE])
async def test_a_store_that_fails_is_503_and_the_same_delivery_works_later(server: RunningIngestion, path: str) -> None:
    body = deliveries()[path]
    blobs = server.store_folder / "blobs"
    blobs.rmdir() if blobs.is_dir() else None
    blobs.write_bytes(b"")

    answer = await server.post(path, body, {ID: "r"})

    assert answer.status == 503 and "retry-after" in answer.headers
    if path != WEBHOOK:
        assert said(answer)["requestId"] == "r"
    blobs.unlink()
    assert (await server.post(path, body, {ID: "r"})).status == 200
    assert stored(server)


def test_otlp_takes_no_more_resources_than_it_can_store() -> None:
    for body in (b"\x0a\x00" * (RESOURCES_MAX + 1), b"\x0a\x00" * (1 << 20)):
        with pytest.raises(MalformedRequestError, match="more than 16384 resources"):
            decode_request(LOGS, body, NOW_NS)
    assert len(decode_request(LOGS, b"\x0a\x00" * 100, NOW_NS)) == 100
