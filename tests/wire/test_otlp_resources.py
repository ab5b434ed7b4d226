"""What a resource of an OTLP request becomes: a process, a stream and a block, with the ids that the original gives them."""

from __future__ import annotations

import contextlib
import gzip
import json
import random
import tracemalloc

import pytest

from lakeflight.wire.envelope import ProcessRequest, decode_payload
from lakeflight.wire.errors import MalformedRequestError
from lakeflight.wire.otlp import identity, pieces
from lakeflight.wire.otlp.json_mapping import JSON_ARRAYS_MAX
from lakeflight.wire.otlp.messages import MESSAGES
from lakeflight.wire.otlp.resources import LOGS, METRICS, SIGNALS, TRACES, Signal, decode_request
from tests.support.corruption import damaged_bytes
from tests.support.fixtures import Case, otlp_cases
from tests.support.otlp import NOW_NS, random_request
from tests.support.sizes import SEED

BY_PATH = {"logs": LOGS, "metrics": METRICS, "traces": TRACES}


@pytest.mark.parametrize("case", otlp_cases(), ids=lambda case: case.name)
def test_ids_and_sizes_are_the_recorded_ones(case: Case) -> None:
    recorded = {row["block_id"]: row for row in case.expected("blocks")}
    found = {}
    for request in case.requests:
        body = gzip.decompress(request.body) if "Content-Encoding" in request.headers else request.body
        for resource in decode_request(BY_PATH[request.path.rsplit("/", 1)[1]], body, NOW_NS):
            block = resource.block
            assert block.process_id == resource.process.process_id == resource.stream.process_id
            found[block.block_id] = {
                "block_id": block.block_id,
                "stream_id": block.stream_id,
                "process_id": block.process_id,
                "nb_objects": block.nb_objects,
                "object_offset": block.object_offset,
                "payload_size": len(block.payload),
            }
    assert found == recorded


def test_a_process_is_who_its_resource_says_that_it_is() -> None:
    """The original's own vector."""
    attributes = {
        "host.name": "my-host", "service.name": "my-service", "os.type": "linux", "os.version": "5.15.0",
        "host.arch": "x86_64", "service.version": "2.3.1", "telemetry.sdk.name": "opentelemetry",
        "telemetry.sdk.language": "rust", "telemetry.sdk.version": "0.28.0", "process.runtime.name": "rustc",
        "process.runtime.version": "1.88.0",
    }  # fmt: skip

    assert identity.process_id(attributes) == "92267645-021b-5d0f-960b-c74719552658"
    assert identity.process_id({**attributes, "host.name": " MY-host "}) == identity.process_id(attributes)
    assert identity.process_id({**attributes, "process.pid": "7"}) != identity.process_id(attributes)
    assert identity.process_id({**attributes, "unlisted": "x"}) == identity.process_id(attributes)


def process_of(**attributes: object) -> ProcessRequest:
    request = LOGS.request()
    resource = request.resource_logs.add()
    for name, value in attributes.items():
        any_value = resource.resource.attributes.add(key=name.replace("__", ".")).value
        kind = {str: "string_value", bool: "bool_value", int: "int_value", float: "double_value", bytes: "bytes_value"}
        setattr(any_value, kind[type(value)], value)
    resource.scope_logs.add().log_records.add(time_unix_nano=NOW_NS)
    (decoded,) = decode_request(LOGS, request.SerializeToString(), 1)
    return decoded.process


def test_the_columns_of_a_process_come_from_its_resource() -> None:
    process = process_of(
        service__name="shop", service__namespace="eu", host__name="h", process__owner="", user__name="ann",
        os__description="Linux 6", host__cpu__model__name="cpu", process__creation__time="2026-01-02T03:04:05.678Z",
    )  # fmt: skip

    assert (process.exe, process.computer, process.username, process.realname) == ("eu/shop", "h", "ann", "ann")
    assert (process.distro, process.cpu_brand, process.tsc_frequency) == ("Linux 6", "cpu", 1_000_000_000)
    assert process.start_time_ns == process.start_ticks == 1_767_323_045_678_000_000
    assert process.properties["otel.resource.service.name"] == "shop"


def test_a_process_that_does_not_say_when_it_began_began_with_its_first_record() -> None:
    assert process_of(process__start_time="soon").start_time_ns == NOW_NS


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a\0b", "a\ufffdb"), (True, "true"), (-7, "-7"), (1.0, "1"), (0.5, "0.5"), (1e21, "1" + "0" * 21),
        (1e-7, "0.0000001"), (float("nan"), "NaN"), (float("-inf"), "-inf"), (b"\1\xff", "[1, 255]"),
    ],
)  # fmt: skip
def test_attributes_of_a_resource_are_text(value: object, text: str) -> None:
    assert process_of(k=value).properties == {"otel.resource.k": text}


def test_properties_that_only_servers_may_set_are_left_out() -> None:
    assert process_of(micromegas__audience="all", k="v").properties == {"otel.resource.k": "v"}


def test_a_block_counts_its_records_and_bounds_their_times() -> None:
    request = METRICS.request()
    scope = request.resource_metrics.add().scope_metrics.add()
    scope.metrics.add().gauge.data_points.add(time_unix_nano=50)
    scope.metrics.add().summary.data_points.add(time_unix_nano=70)
    scope.metrics.add().exponential_histogram.data_points.add(time_unix_nano=1 << 63)
    scope.metrics.add()

    (decoded,) = decode_request(METRICS, request.SerializeToString(), NOW_NS)

    assert decoded.block.nb_objects == 1 + 4 + 1
    assert (decoded.block.begin_time_ns, decoded.block.end_ticks) == (50, 70)


def test_records_without_a_time_are_from_when_they_came() -> None:
    request = TRACES.request()
    request.resource_spans.add().scope_spans.add().spans.add(name="s")

    (decoded,) = decode_request(TRACES, request.SerializeToString(), NOW_NS)

    assert (decoded.block.begin_time_ns, decoded.block.end_time_ns, decoded.block.nb_objects) == (NOW_NS, NOW_NS, 1)


def test_a_request_without_resources_has_no_blocks() -> None:
    assert decode_request(LOGS, b"", NOW_NS) == decode_request(LOGS, b"{}", NOW_NS, is_json=True) == []


@pytest.mark.parametrize("time", ['"1700000000000000000"', "1700000000000000000"])
def test_json_numbers_are_numbers_or_text(time: str) -> None:
    body = in_json('{"timeUnixNano":' + time + ',"unknown":[{}],"body":null}')

    (decoded,) = decode_request(LOGS, body, NOW_NS, is_json=True)

    assert decoded.block.begin_time_ns == 1_700_000_000_000_000_000


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ('{"timeUnixNano":-1}', "range"), ('{"timeUnixNano":1.5}', "expected a whole number"),
        ('{"timeUnixNano":true}', "expected a whole number"), ('{"traceId":"xy"}', "hexadecimal"),
        ('{"severityText":7}', "expected text"),
        ('{"attributes":{}}', "attributes is an array"), ('{"attributes":[7]}', "a KeyValue is an object"),
        ('{"body":{"doubleValue":NaN}}', "NaN is not JSON"), ('{"body":{"bytesValue":"*"}}', "base64|Only"),
        ('{"body":{"boolValue":1}}', "expected true or false"), ("[]", "a LogRecord is an object"),
    ],
)  # fmt: skip
def test_json_of_another_kind_is_refused(record: str, reason: str) -> None:
    with pytest.raises(MalformedRequestError, match=rf"parse error \(logs\): .*({reason})"):
        decode_request(LOGS, in_json(record), NOW_NS, is_json=True)


def test_half_of_a_pair_in_json_is_a_replacement_character_and_loses_no_request() -> None:
    body = in_json('{"severityText":"\\ud83d cut \\udc00","eventName":"\\ud83d\\ude00"}')

    (block,) = decode_request(LOGS, body, NOW_NS, is_json=True)

    record = LOGS.resource.FromString(decode_payload(block.block.payload)[1]).scope_logs[0].log_records[0]
    assert (record.severity_text, record.event_name) == ("\ufffd cut \ufffd", "\U0001f600")


def in_json(record: str) -> bytes:
    return b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[' + record.encode() + b"]}]}]}"


def test_a_message_is_written_in_one_way_whoever_wrote_it() -> None:
    """Fields in another order and defaults that are spelled out are the same data, and so the same block."""
    usual = MESSAGES["LogRecord"](time_unix_nano=7, severity_text="INFO").SerializeToString()
    odd = usual[9:] + b"\x10\x00" + usual[:9]
    blocks = []
    for record in (usual, odd):
        scope = b"\x12" + bytes([len(record)]) + record
        resource = b"\x12" + bytes([len(scope)]) + scope
        blocks += decode_request(LOGS, b"\x0a" + bytes([len(resource)]) + resource, NOW_NS)

    assert blocks[0] == blocks[1]


@pytest.mark.parametrize("signal", SIGNALS, ids=lambda signal: signal.name)
@pytest.mark.parametrize("round_", range(30))
def test_a_large_request_is_read_in_pieces_and_becomes_the_same(
    monkeypatch: pytest.MonkeyPatch, signal: Signal, round_: int
) -> None:
    chance = random.Random(f"{SEED}/pieces/{signal.name}/{round_}")
    body = b"".join(random_request(chance, signal).SerializeToString() for _ in range(3))
    body += b"\xfa\x7f\x03new"
    whole = decode_request(signal, body, NOW_NS)

    monkeypatch.setattr("lakeflight.wire.otlp.resources.WHOLE_BYTES_MAX", -1)
    monkeypatch.setattr("lakeflight.wire.otlp.pieces.PIECE_BYTES", chance.choice((1, 100, 300)))

    assert decode_request(signal, body, NOW_NS) == whole
    for _ in range(20):
        damaged = damaged_bytes(chance, body)
        with contextlib.suppress(MalformedRequestError):
            decode_request(signal, damaged, NOW_NS)


def test_a_record_that_cannot_be_taken_apart_has_a_limit() -> None:
    request = LOGS.request()
    record = request.resource_logs.add().scope_logs.add().log_records.add()
    record.body.string_value = "x" * (pieces.RECORD_BYTES_MAX - 100)
    assert len(decode_request(LOGS, request.SerializeToString(), NOW_NS)) == 1
    record.body.string_value = "x" * pieces.RECORD_BYTES_MAX

    with pytest.raises(MalformedRequestError, match=r"one record has .* bytes, the limit is 4194304"):
        decode_request(LOGS, request.SerializeToString(), NOW_NS)


# --- large bodies in JSON


def with_memory(body: bytes) -> int:
    """The most that was in memory at once while it was read."""
    tracemalloc.start()
    try:
        decode_request(LOGS, body, NOW_NS, is_json=True)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_million_empty_objects_are_no_million_objects() -> None:
    body = b'{"x":[' + b",".join([b"{}"] * 1_000_000) + b"]}"

    assert with_memory(body) < 8 * len(body)


def test_arrays_are_bounded_and_what_looks_like_one_in_a_text_is_none() -> None:
    text = json.dumps(r"\\[" * 1_000 + '"[[' * JSON_ARRAYS_MAX)
    (found,) = decode_request(LOGS, in_json('{"body":{"stringValue":' + text + "}}"), NOW_NS, is_json=True)
    assert found.block.nb_objects == 1

    for number in (JSON_ARRAYS_MAX - 1, JSON_ARRAYS_MAX):  # beside the one that they are in
        body = b'{"x":[' + b",".join([b"[]"] * number) + b"]}"
        if number < JSON_ARRAYS_MAX:
            assert decode_request(LOGS, body, NOW_NS, is_json=True) == []
        else:
            with pytest.raises(MalformedRequestError, match=f"more than {JSON_ARRAYS_MAX} arrays"):
                decode_request(LOGS, body, NOW_NS, is_json=True)
