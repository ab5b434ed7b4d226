"""Every record of an OTLP block as JSON: what protobuf's own JSON says of it, whatever the sender wrote."""

from __future__ import annotations

import base64
import json
import math
import random
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pytest
from google.protobuf.json_format import MessageToDict

from lakeflight.wire.envelope import decode_payload
from lakeflight.wire.errors import CorruptPayloadError
from lakeflight.wire.otlp.messages import MESSAGES
from lakeflight.wire.otlp.objects import read_objects
from lakeflight.wire.otlp.resources import LOGS, METRICS, SIGNALS, TRACES, Signal, decode_request
from lakeflight.wire.otlp.scan import DamagedBlocksError
from lakeflight.wire.transit import objects as transit_objects
from tests.support import otlp
from tests.support.corruption import damaged_bytes
from tests.support.sizes import SEED, size

EVERY_SIGNAL = pytest.mark.parametrize("signal", SIGNALS, ids=lambda signal: signal.name)
POINTS = {
    "gauge": "otlp.NumberDataPoint",
    "sum": "otlp.NumberDataPoint",
    "histogram": "otlp.HistogramDataPoint",
    "exponential_histogram": "otlp.ExponentialHistogramDataPoint",
    "summary": "otlp.SummaryDataPoint",
}
IDS = {"traceId", "spanId", "parentSpanId"}


def read(signal: Signal, payload: bytes, members: Any = None) -> list[tuple[str, Any]]:
    """Types and documents; in these a member that comes twice, or is not in order, would be a fault."""
    found: list[tuple[str, Any]] = []
    for part in read_objects(signal.format, payload):
        values = [json.loads(value, object_pairs_hook=members or once) for value in part.value.to_pylist()]
        found += zip(part.type_name.to_pylist(), values, strict=True)
    return found


def once(members: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in members]
    assert names == sorted(set(names)), names
    return dict(members)


# --- what is expected: by protobuf's own JSON -------------------------------------------------------------------------


def expected(signal: Signal, payload: bytes) -> list[tuple[str, Any]]:
    resource = signal.resource.FromString(payload)
    found = []
    for scope in getattr(resource, signal.scopes):
        common = {"__resource": otlp.mapping(resource.resource.attributes), "__scope": otlp.in_scope(scope, ())}
        for name, record, metric in records(signal, scope):
            own = {"__type": name, "__attributes": otlp.mapping(record.attributes), **common}
            found.append((name, exact(document(MessageToDict(record)) | own | metric)))
    return found


def records(signal: Signal, scope: Any) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    if signal is LOGS:
        yield from (("otlp.LogRecord", record, {}) for record in scope.log_records)
    elif signal is TRACES:
        yield from (("otlp.Span", span, {}) for span in scope.spans)
    else:
        for metric in scope.metrics:
            kind = metric.WhichOneof("data")
            if kind is None:
                continue
            data = getattr(metric, kind)
            about = {"name": metric.name, "description": metric.description, "unit": metric.unit}
            about["otel.metric.kind"] = kind
            if kind not in ("gauge", "summary"):
                about["otel.metric.aggregation_temporality"] = data.aggregation_temporality
            if kind == "sum":
                about["otel.metric.is_monotonic"] = data.is_monotonic
            if metric.metadata:
                about["otel.metric.metadata"] = otlp.mapping(metric.metadata)
            yield from ((POINTS[kind], point, {"__metric": about}) for point in data.data_points)


def document(value: Any, name: str = "") -> Any:
    """Protobuf's JSON as OTLP has it."""
    if isinstance(value, dict):
        return {key: document(inner, key) for key, inner in value.items()}
    if isinstance(value, list):
        return [document(inner, name) for inner in value]
    if name in IDS:
        return base64.b64decode(value).hex()
    if name == "asInt":
        return int(value)
    if isinstance(value, str) and value in ("NaN", "Infinity", "-Infinity") and name in DOUBLES:
        return None
    return value


DOUBLES = {
    field.json_name
    for message in MESSAGES.values()
    for field in message.DESCRIPTOR.fields
    if field.type == field.TYPE_DOUBLE
}


def exact(value: Any) -> Any:
    """Comparable, and every double by its text."""
    if isinstance(value, dict):
        return {key: exact(value[key]) for key in sorted(value)}
    if isinstance(value, list):
        return [exact(one) for one in value]
    if isinstance(value, float):
        return "nan" if math.isnan(value) else value.hex()
    return value


def payloads_of(signal: Signal, request: Any) -> list[bytes]:
    blocks = decode_request(signal, request.SerializeToString(), otlp.NOW_NS)
    return [decode_payload(block.block.payload)[1] for block in blocks]


def some_payloads(signal: Signal, seed: str, count: int) -> list[bytes]:
    chance = random.Random(f"{SEED}/{signal.name}/{seed}")
    payloads: list[bytes] = []
    while len(payloads) < count:
        payloads += payloads_of(signal, otlp.random_request(chance, signal))
    return payloads


# --- sound blocks -----------------------------------------------------------------------------------------------------


@EVERY_SIGNAL
@pytest.mark.parametrize("round_", range(size(15, 150)))
def test_records_are_what_protobuf_says_of_them(signal: Signal, round_: int) -> None:
    for payload in some_payloads(signal, str(round_), 8):
        found = [(name, exact(value)) for name, value in read(signal, payload)]

        assert found == expected(signal, payload)


def test_every_field_of_every_message_is_written() -> None:
    """By a message that has all there are, so that a field that is added is not forgotten."""
    for signal, name in ((LOGS, "LogRecord"), (TRACES, "Span"), *((METRICS, kind) for kind in POINTS)):
        resource = signal.resource()
        scope = getattr(resource, signal.scopes).add()
        if signal is METRICS:
            data = getattr(scope.metrics.add(name="m"), name)
            data.SetInParent()
            record = data.data_points.add()
        else:
            record = (scope.log_records if signal is LOGS else scope.spans).add()
        fill(record)

        ((_, found),) = read(signal, resource.SerializeToString())

        assert found.items() >= document(MessageToDict(record)).items()
        named = {field.json_name for field, _ in record.ListFields()}
        assert named <= found.keys() and len(named) >= len(record.DESCRIPTOR.fields) - 1  # of two alternatives one


def fill(message: Any, depth: int = 4) -> None:
    for field in message.DESCRIPTOR.fields:
        if field.message_type is not None and depth:
            target = getattr(message, field.name)
            if field.is_repeated:
                fill(target.add(), depth - 1)
                fill(target.add(), depth - 1)
            else:
                target.SetInParent()
                fill(target, depth - 1)
        elif field.message_type is None:
            value = {field.TYPE_STRING: 'text "ü"', field.TYPE_BYTES: b"\x00\xffbytes", field.TYPE_BOOL: True}.get(
                field.type, -3 if field.type in (field.TYPE_INT32, field.TYPE_SINT32) else 7
            )
            if field.is_repeated:
                getattr(message, field.name).extend((value, value))
            else:
                setattr(message, field.name, value)


def test_numbers_of_64_bits_are_exact() -> None:
    resource = METRICS.resource()
    points = resource.scope_metrics.add().metrics.add().histogram.data_points
    greatest = (1 << 64) - 1
    points.add(time_unix_nano=greatest, count=greatest, bucket_counts=[0, greatest, 1 << 63])
    resource.scope_metrics[0].metrics.add().sum.data_points.add(as_int=-(1 << 63))

    (_, histogram), (_, total) = read(METRICS, resource.SerializeToString())

    assert histogram["timeUnixNano"] == histogram["count"] == str(greatest)
    assert histogram["bucketCounts"] == ["0", str(greatest), str(1 << 63)]
    assert total["asInt"] == -(1 << 63)


def test_what_was_not_sent_is_not_there_and_what_was_sent_as_nothing_is() -> None:
    resource = METRICS.resource()
    metrics = resource.scope_metrics.add().metrics
    metrics.add(name="no points").gauge.SetInParent()
    metrics.add(name="no data")
    metrics.add(name="empty").gauge.data_points.add()
    metrics.add(name="zero").gauge.data_points.add(as_double=0.0)
    metrics.add(name="histogram").histogram.data_points.add(sum=0.0)

    found = [value for _, value in read(METRICS, resource.SerializeToString())]

    assert [value["__metric"]["name"] for value in found] == ["empty", "zero", "histogram"]
    assert [{name for name in value if not name.startswith("__")} for value in found] == [set(), {"asDouble"}, {"sum"}]


# --- blocks of nobody's making ----------------------------------------------------------------------------------------


@EVERY_SIGNAL
def test_what_the_table_does_not_know_changes_nothing(signal: Signal) -> None:
    """Fields of the future, and known ones with a wire type that they have not: in every message, before and behind."""
    for payload in some_payloads(signal, "unknown", 20):
        resource = signal.resource.FromString(payload)

        assert read(signal, with_strangers(resource)) == read(signal, payload)


def with_strangers(message: Any) -> bytes:
    own: Any = type(message)()
    own.CopyFrom(message)
    inner = b""
    for field, value in message.ListFields():
        if field.message_type is not None:
            own.ClearField(field.name)
            for one in value if field.is_repeated else (value,):
                inside = with_strangers(one)
                inner += varint(field.number << 3 | 2) + varint(len(inside)) + inside
    stranger = varint(2_000 << 3 | 2) + b"\x03new" + varint(30 << 3) + b"\x05"
    wrong = b"".join(
        varint(field.number << 3 | 5) + b"abcd" for field in message.DESCRIPTOR.fields if not fixed32(field)
    )
    encoded: bytes = own.SerializeToString()
    return stranger + wrong + encoded + inner + wrong + stranger


def fixed32(field: Any) -> bool:
    return bool(field.type == field.TYPE_FIXED32)


def varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*encoded, number))


def test_numbers_may_come_packed_or_one_by_one() -> None:
    resource = METRICS.resource()
    point = resource.scope_metrics.add().metrics.add().exponential_histogram.data_points.add()
    point.positive.bucket_counts.extend((1, 300))
    payload = resource.SerializeToString()
    packed = b"\x12\x03\x01\xac\x02"
    assert packed in payload
    apart = payload.replace(
        packed, b"\x10\x01\x12\x00\x10\x02"[:5]
    )  # 1, nothing, then a number that is cut into the next

    ((_, found),) = read(METRICS, payload)
    assert found["positive"] == {"bucketCounts": ["1", "300"]}
    ((_, mixed),) = read(METRICS, payload.replace(packed, b"\x10\x01\x12\x01\x07"))
    assert mixed["positive"] == {"bucketCounts": ["1", "7"]}
    with pytest.raises(DamagedBlocksError):
        read(METRICS, apart)


def test_of_alternatives_the_last_one_stands() -> None:
    both = b"\x21" + b"\0" * 8 + b"\x31" + (5).to_bytes(8, "little")
    other = b"\x31" + (5).to_bytes(8, "little") + b"\x21" + b"\0" * 8

    assert point_of(both)["asInt"] == 5 and "asDouble" not in point_of(both)
    assert point_of(other)["asDouble"] == 0.0 and "asInt" not in point_of(other)


def point_of(point: bytes) -> Any:
    encoded = point
    for number in (1, 5, 2, 2):
        encoded = varint(number << 3 | 2) + varint(len(encoded)) + encoded
    ((_, found),) = read(METRICS, encoded)
    return found


def test_text_that_is_not_utf8_is_repaired() -> None:
    log = b"\x1a\x02\xff!" + b"\x2a\x04\x0a\x02\xc3\x28" + b"\x4a\x03abc"
    scope = b"\x12" + varint(len(log)) + log

    ((_, found),) = read(LOGS, b"\x12" + varint(len(scope)) + scope)

    assert found["severityText"] == "\ufffd!" and found["body"] == {"stringValue": "\ufffd("}
    assert found["traceId"] == b"abc".hex()


@EVERY_SIGNAL
def test_every_cut_and_every_damage_is_refused_or_records(signal: Signal) -> None:
    chance = random.Random(f"{SEED}/objects/{signal.name}")
    sound = some_payloads(signal, "damage", 20)
    whole = max(sound, key=len)
    damaged = [whole[:end] for end in range(len(whole))]
    damaged += [damaged_bytes(chance, sound[number % len(sound)] or b"\x0a\0") for number in range(size(300, 2_000))]
    refused = 0
    for payload in damaged:
        try:
            found = read(signal, payload, dict)  # names that are repaired are in the order of what they were
        except DamagedBlocksError as error:
            assert list(error.reasons) == [0]
            refused += 1
        else:
            assert all(name == value["__type"] for name, value in found)
    assert refused > 50


@pytest.mark.parametrize(
    ("kind", "depth"), [("arrayValue", 100), ("kvlistValue", 100), ("arrayValue", 101), ("arrayValue", 50_000)]
)
def test_values_in_values_end_somewhere(kind: str, depth: int) -> None:
    body = b""
    for _ in range(depth):
        if kind == "kvlistValue":
            body = b"\x12" + varint(len(body)) + body
        inner = b"\x0a" + varint(len(body)) + body
        body = (b"\x2a" if kind == "arrayValue" else b"\x32") + varint(len(inner)) + inner
    log = b"\x2a" + varint(len(body)) + body
    scope = b"\x12" + varint(len(log)) + log
    payload = b"\x12" + varint(len(scope)) + scope
    if depth > 200:
        with pytest.raises(DamagedBlocksError) as refused:
            read(LOGS, payload)
        assert "nested more than 100 deep" in str(refused.value.reasons[0])
        return

    (part,) = read_objects(LOGS.format, payload)

    assert part.value.to_pylist()[0].count(f'"{kind}"') == depth


def test_text_has_a_limit_however_little_was_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transit_objects, "OBJECTS_TEXT_BYTES_MAX", 1 << 20)
    resource = LOGS.resource()
    resource.resource.attributes.add(key="k").value.string_value = "x" * 2_000
    records = resource.scope_logs.add().log_records
    for _ in range(1_000):
        records.add()

    with pytest.raises(
        CorruptPayloadError, match=r"the objects of the block have \d+ bytes as JSON or more, the limit is 1048576"
    ):
        read(LOGS, resource.SerializeToString())
    del records[200:]
    assert len(read(LOGS, resource.SerializeToString())) == 200


def test_many_records_come_a_part_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lakeflight.wire.otlp.json_text.CHUNK_BYTES", 4_000)
    parts = []
    for payload in some_payloads(METRICS, "parts", 30):
        parts.append(len(list(read_objects(METRICS.format, payload))))
        assert [(name, exact(value)) for name, value in read(METRICS, payload)] == expected(METRICS, payload)
    assert max(parts) > 2


def test_columns_are_arrow() -> None:
    (part,) = read_objects(LOGS.format, bytes.fromhex("12021200"))
    assert part.value.to_pylist() == ['{"__attributes":{},"__resource":{},"__scope":{},"__type":"otlp.LogRecord"}']
    assert part.type_name.type == pa.dictionary(pa.int32(), pa.string())


def test_json_and_protobuf_of_the_same_records_are_the_same_objects() -> None:
    for signal in SIGNALS:
        request = otlp.random_request(random.Random(f"{SEED}/encodings/{signal.name}"), signal)
        blocks = decode_request(signal, otlp.as_json(request), otlp.NOW_NS, is_json=True)
        from_json = [decode_payload(block.block.payload)[1] for block in blocks]

        assert [read(signal, payload) for payload in from_json] == [
            read(signal, payload) for payload in payloads_of(signal, request)
        ]
