"""The records of OTLP blocks are the rows that a slow, obvious reading gives, whatever the sender wrote."""

from __future__ import annotations

import contextlib
import json
import math
import random
import struct
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pytest

from lakeflight.wire.envelope import decode_payload
from lakeflight.wire.errors import MalformedRequestError
from lakeflight.wire.otlp.messages import MESSAGES
from lakeflight.wire.otlp.records import Read, read_logs, read_points, read_spans
from lakeflight.wire.otlp.resources import LOGS, METRICS, SIGNALS, TRACES, Signal, decode_request
from lakeflight.wire.otlp.scan import DamagedBlocksError
from tests.support import otlp
from tests.support.corruption import damaged_bytes
from tests.support.sizes import SEED, size

READ: dict[Signal, Read] = {LOGS: read_logs, METRICS: read_points, TRACES: read_spans}
JSON_COLUMNS = ("properties", "events", "links")
EVERY_SIGNAL = pytest.mark.parametrize("signal", SIGNALS, ids=lambda signal: signal.name)


def payloads_of(signal: Signal, body: bytes, *, is_json: bool = False) -> list[bytes]:
    blocks = decode_request(signal, body, otlp.NOW_NS, is_json=is_json)
    return [decode_payload(resource.block.payload)[1] for resource in blocks]


def rows_of(signal: Signal, payloads: Sequence[bytes]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for part in READ[signal](payloads).rows:
        rows += pa.table(part.columns).to_pylist()
    return rows


def comparable(row: dict[str, Any]) -> str:
    """JSON by what it means (sorted, and every double by its bits), bodies by their number where they are one."""
    made = {
        name: json.loads(value) if name in JSON_COLUMNS and isinstance(value, str) else value
        for name, value in row.items()
    }
    if "msg" in made and isinstance(made["msg"], str):
        with contextlib.suppress(ValueError):
            made["msg"] = json.loads(made["msg"])
    return repr(sorted((name, exact(value)) for name, value in made.items()))


def exact(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: exact(value[key]) for key in sorted(value)}
    if isinstance(value, list):
        return [exact(one) for one in value]
    if isinstance(value, float) and not isinstance(value, bool):
        return "nan" if math.isnan(value) else struct.pack("<d", value).hex()
    return value


def body_number(row: dict[str, Any]) -> dict[str, Any]:
    """A body that is a number as the text of one, which has no ``.0``."""
    message = row.get("msg")
    if isinstance(message, float):
        return {**row, "msg": json.loads(repr(message).removesuffix(".0"))}
    if isinstance(message, str):
        try:
            return {**row, "msg": json.loads(message)}
        except ValueError:
            return row
    return row


@EVERY_SIGNAL
@pytest.mark.parametrize("round_", range(40))
def test_rows_are_those_of_a_slow_reading(signal: Signal, round_: int) -> None:
    chance = random.Random(f"{SEED}/{signal.name}/{round_}")
    payloads: list[bytes] = []
    while len(payloads) < 8:
        payloads += payloads_of(signal, otlp.random_request(chance, signal).SerializeToString())

    rows = rows_of(signal, payloads)

    expected = [body_number(row) for payload in payloads for row in otlp.rows_of(signal, payload)]
    assert sorted(map(comparable, map(body_number, rows))) == sorted(map(comparable, expected))


@EVERY_SIGNAL
@pytest.mark.parametrize("round_", range(40))
def test_json_and_protobuf_of_the_same_data_are_the_same_blocks(signal: Signal, round_: int) -> None:
    request = otlp.random_request(random.Random(f"{SEED}/json/{signal.name}/{round_}"), signal)

    from_protobuf = decode_request(signal, request.SerializeToString(), otlp.NOW_NS)

    assert decode_request(signal, otlp.as_json(request), otlp.NOW_NS, is_json=True) == from_protobuf


@EVERY_SIGNAL
def test_what_a_newer_sender_adds_changes_no_id(signal: Signal) -> None:
    request = otlp.random_request(random.Random(f"{SEED}/newer"), signal)
    getattr(request, signal.resources).add().resource.attributes.add(key="a")
    body = request.SerializeToString()
    unknown = b"\xfa\x7f\x03new"

    assert decode_request(signal, body + unknown, otlp.NOW_NS) == decode_request(signal, body, otlp.NOW_NS)


@EVERY_SIGNAL
def test_every_strict_prefix_is_refused_or_decoded(signal: Signal) -> None:
    chance = random.Random(f"{SEED}/prefix/{signal.name}")
    body = max((otlp.random_request(chance, signal).SerializeToString() for _ in range(5)), key=len)
    for end in range(len(body)):
        assert_refused_or_read(signal, body[:end], is_json=False)
    text = otlp.as_json(signal.request.FromString(body))
    for end in range(0, len(text), 7):
        with pytest.raises(MalformedRequestError):
            decode_request(signal, text[:end], otlp.NOW_NS, is_json=True)


@EVERY_SIGNAL
def test_damaged_bodies_are_refused_or_decoded(signal: Signal) -> None:
    chance = random.Random(f"{SEED}/damage/{signal.name}")
    bodies = [otlp.random_request(chance, signal) for _ in range(20)]
    for number in range(size(250, 2_000)):
        request = bodies[number % len(bodies)]
        is_json = number % 3 == 0
        body = otlp.as_json(request) if is_json else request.SerializeToString()
        assert_refused_or_read(signal, damaged_bytes(chance, body), is_json=is_json)


@EVERY_SIGNAL
def test_damaged_blocks_are_told_apart_from_sound_ones(signal: Signal) -> None:
    """What is stored may be damaged too, or of a sender that nobody checked."""
    chance = random.Random(f"{SEED}/stored/{signal.name}")
    sound = [
        payload
        for _ in range(20)
        for payload in payloads_of(signal, otlp.random_request(chance, signal).SerializeToString())
    ]
    expected = rows_of(signal, sound)
    found_damage = 0
    for number in range(400):
        damaged = damaged_bytes(chance, sound[number % len(sound)] or b"\x0a\x00")
        try:
            rows_of(signal, [*sound[:3], damaged])
        except DamagedBlocksError as error:
            assert list(error.reasons) == [min(3, len(sound))]
            found_damage += 1
    assert found_damage > 20
    assert list(map(comparable, rows_of(signal, sound))) == list(map(comparable, expected))


def assert_refused_or_read(signal: Signal, body: bytes, *, is_json: bool) -> None:
    try:
        payloads = payloads_of(signal, body, is_json=is_json)
    except MalformedRequestError as error:
        assert str(error).startswith(f"parse error ({signal.name}): ")
    else:
        rows_of(signal, payloads)


@pytest.mark.parametrize("depth", [10, 45, 200, 100_000])
def test_values_in_values_end_somewhere(depth: int) -> None:
    nested = b""
    for _ in range(min(depth, 3_000)):
        value = b"\x0a" + _varint(len(nested)) + nested
        nested = b"\x2a" + _varint(len(value)) + value
    pair = b"\x0a\x01k\x12" + _varint(len(nested)) + nested
    log = b"\x32" + _varint(len(pair)) + pair
    scope = b"\x12" + _varint(len(log)) + log
    resource = b"\x12" + _varint(len(scope)) + scope
    body = b"\x0a" + _varint(len(resource)) + resource
    as_json = b'{"resourceLogs":' + b"[" * depth

    with pytest.raises(MalformedRequestError):
        decode_request(LOGS, as_json, otlp.NOW_NS, is_json=True)
    if depth > 45:
        with pytest.raises(MalformedRequestError):
            decode_request(LOGS, body, otlp.NOW_NS)
        with pytest.raises(DamagedBlocksError) as refused:
            rows_of(LOGS, [resource])
        assert "nested more than 100 deep" in str(refused.value.reasons[0])
    else:
        (row,) = rows_of(LOGS, payloads_of(LOGS, body))
        assert row["properties"] == '{"k":' + "[" * depth + "null" + "]" * depth + "}"


def test_text_that_is_not_utf8_is_repaired_in_what_others_have_stored() -> None:
    log = b"\x1a\x02\xff!" + b"\x2a\x04\x0a\x02\xc3\x28"
    scope = b"\x12" + _varint(len(log)) + log

    (row,) = rows_of(LOGS, [b"\x12" + _varint(len(scope)) + scope])

    assert row["msg"] == "\ufffd("
    assert json.loads(row["properties"]) == {"otel.severity_text": "\ufffd!"}


def test_attributes_of_a_scope_cannot_make_a_block_endless() -> None:
    resource = MESSAGES["ResourceLogs"]()
    scope = resource.scope_logs.add()
    scope.scope.attributes.add(key="k").value.string_value = "x" * (1 << 20)
    for _ in range(1_000):
        scope.log_records.add()

    with pytest.raises(DamagedBlocksError) as refused:
        rows_of(LOGS, [resource.SerializeToString()])

    assert "too long as text" in str(refused.value.reasons[0])


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*encoded, number))
