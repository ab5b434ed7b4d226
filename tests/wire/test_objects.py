"""Every object of a block as JSON: as the original wrote it, exact, and bounded."""

from __future__ import annotations

import json
import math
import random
import struct
from typing import Any

import pyarrow as pa
import pytest

from lakeflight.wire.compression import BLOCK_DECODED_BYTES_MAX, decompress
from lakeflight.wire.envelope import decode_block, decode_payload, decode_stream
from lakeflight.wire.errors import CorruptPayloadError
from lakeflight.wire.transit import objects as objects_module
from lakeflight.wire.transit.layout import StreamLayout, compile_layout
from lakeflight.wire.transit.objects import read_objects
from lakeflight.wire.transit.writer import (
    EncodedBlock,
    LogBlockBuilder,
    LogMetadata,
    MetricBlockBuilder,
    MetricMetadata,
)
from tests.support.blocks import (
    LOG_DEPENDENCIES,
    LOG_OBJECTS,
    LOG_TABLES,
    METRIC_DEPENDENCIES,
    METRIC_OBJECTS,
    METRIC_TABLES,
    SPAN_DEPENDENCIES,
    SPAN_OBJECTS,
    SPAN_TABLES,
    member,
    ref,
    table,
    udt,
)
from tests.support.corruption import damaged_bytes
from tests.support.fixtures import Case, native_cases
from tests.support.sizes import SEED

QUESTION = "parse_block_"


def decoded(case: Case) -> dict[str, list[tuple[int, str, Any]]]:
    """The objects of each block that was sent."""
    streams, found = {}, {}
    for request in sorted(case.requests, key=lambda request: request.path, reverse=True):  # streams before blocks
        if request.path.endswith("insert_stream"):
            stream = decode_stream(request.body)
            streams[stream.stream_id] = compile_layout(stream.dependencies_metadata, stream.objects_metadata)
        if request.path.endswith("insert_block"):
            block = decode_block(request.body)
            dependencies, objects = (
                decompress(half, limit_bytes=BLOCK_DECODED_BYTES_MAX) for half in decode_payload(block.payload)
            )
            read = read_objects(streams[block.stream_id], dependencies, objects)
            assert len(read.value) == block.nb_objects
            names = read.type_name.cast(pa.string()).to_pylist()
            values = [json.loads(value) for value in read.value.to_pylist()]
            assert [value["__type"] for value in values] == names
            found[block.block_id] = [
                (block.object_offset + at, name, value)
                for at, (name, value) in enumerate(zip(names, values, strict=True))
            ]
    return found


@pytest.mark.parametrize("case", native_cases(), ids=lambda case: case.name)
def test_every_object_is_as_the_original_wrote_it(case: Case) -> None:
    sent = decoded(case)
    names = [name for name in case.description["queries"] if name.startswith(QUESTION)]
    assert names

    for name in names:
        block_id = case.description["queries"][name]["sql"].partition("parse_block('")[2].partition("'")[0]
        expected = [(row["object_index"], row["type_name"], json.loads(row["value"])) for row in case.expected(name)]
        assert _spelled(sent[block_id][: len(expected)]) == _spelled(expected)
        assert len(expected) in (200, len(sent[block_id]))


def _spelled(rows: list[tuple[int, str, Any]]) -> str:
    """-0.0 is not 0, nor 1 the same as 1.0."""
    return json.dumps(rows, sort_keys=True, ensure_ascii=False, indent=0)


LOG = LogMetadata(fmt_str="x", target="here", module_path="m", file="f", line=1, level=3)
METRIC = MetricMetadata(name="n", unit="u", target="t", file="f", line=1, lod=0)


def values(builder: LogBlockBuilder | MetricBlockBuilder) -> list[str]:
    block: EncodedBlock = builder.finish()
    layout = compile_layout(builder.types.dependencies_metadata, builder.types.objects_metadata)
    texts: list[str] = read_objects(layout, block.dependencies, block.objects).value.to_pylist()
    return texts


def test_every_text_comes_back_as_it_was() -> None:
    texts = ["", '"', "\\", '\\"', "".join(map(chr, range(0x20))), "\x7f\u2028\uffff", "déjà 😀", "{}", "x" * 70_000]
    builder = LogBlockBuilder()
    for text in texts:
        builder.message(LOG, 1, text)
        builder.tagged(LOG._replace(target=text), 2, text, {"key " + text: text})

    found = [json.loads(value) for value in values(builder)]

    assert [value["msg"] for value in found] == [text for text in texts for _ in range(2)]
    assert [value["desc"]["target"] for value in found[1::2]] == texts
    assert [value["properties"] for value in found[1::2]] == [
        {"__type": "property_set", "key " + text: text} for text in texts
    ]


def test_numbers_are_exact_and_what_json_cannot_say_is_null() -> None:
    floats = [0.0, -0.0, 1.0, 0.1, -2.25, 1e300, 5e-324, 1e15, 1e16, 123456789.125, 1e21, math.nan, math.inf, -math.inf]
    whole = [0, 1, 2**53 + 1, 2**63, 2**64 - 1]
    builder = MetricBlockBuilder()
    for number in floats:
        builder.add_float(METRIC, -5, number)
    for number in whole:
        builder.add_integer(METRIC, 2**63 - 1, number)

    found = [json.loads(value) for value in values(builder)]

    told = [value["value"] for value in found[: len(floats)]]
    assert [repr(value) for value in told] == [repr(n) if math.isfinite(n) else "None" for n in floats]
    assert [value["value"] for value in found[len(floats) :]] == whole
    assert (found[0]["time"], found[-1]["time"]) == (-5, 2**63 - 1)


POINT = udt("Point", 8, member("y", "u32", 4, 4), member("x", "u32", 0, 4))
NODE = udt("Node", 16, member("id", "u64", 0, 8), ref("next", 8))
NESTED = (
    table(udt("StaticString"), NODE),
    table(udt("Moved", 16, ref("by", 8), member("to", "Point", 0, 8)), udt("Unheard"), POINT),
)
NAME = struct.pack("<BIQ", 0, 11, 1) + b"Ada"  # the dependency 1


def chain(length: int) -> bytes:
    return NAME + b"".join(struct.pack("<BQQ", 1, place, place - 1) for place in range(2, length + 2))


def test_what_is_nested_and_what_refers_to_what_refers() -> None:
    objects = struct.pack("<BIIQ", 0, 7, 8, 3) + struct.pack("<BI", 1, 3) + b"abc"

    found = read_objects(compile_layout(*NESTED), chain(2), objects)

    assert found.type_name.to_pylist() == ["Moved", "Unheard"]
    assert found.value.to_pylist() == [
        '{"__type":"Moved","by":{"__type":"Node","id":3,"next":{"__type":"Node","id":2,"next":"Ada"}},'
        '"to":{"__type":"Point","x":7,"y":8}}',
        '{"__type":"Unheard"}',
    ]


def test_references_without_end_and_text_without_end_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    layout = compile_layout(*NESTED)
    with pytest.raises(CorruptPayloadError, match="refer to each other more than 16 deep"):
        read_objects(layout, chain(17), b"")

    doubled = compile_layout(table(udt("StaticString"), udt("Node", 24, *NODE["members"], ref("too", 16))), NESTED[1])
    growing = NAME + b"".join(struct.pack("<BQQQ", 1, place, place - 1, place - 1) for place in range(2, 14))
    monkeypatch.setattr(objects_module, "OBJECTS_TEXT_BYTES_MAX", 50_000)
    with pytest.raises(CorruptPayloadError, match=r"bytes as JSON or more, the limit is 50000"):
        read_objects(doubled, growing, b"")
    with pytest.raises(CorruptPayloadError, match=r"bytes as JSON or more, the limit is 50000"):
        read_objects(layout, chain(2), struct.pack("<BIIQ", 0, 7, 8, 3) * 1_000)


BLOCKS = {
    "logs": (LOG_TABLES, LOG_DEPENDENCIES, LOG_OBJECTS),
    "metrics": (METRIC_TABLES, METRIC_DEPENDENCIES, METRIC_OBJECTS),
    "spans": (SPAN_TABLES, SPAN_DEPENDENCIES, SPAN_OBJECTS),
}


@pytest.mark.parametrize("kind", BLOCKS)
def test_damage_is_refused_or_decoded_to_documents(kind: str) -> None:
    tables, *halves = BLOCKS[kind]
    layout: StreamLayout = compile_layout(*tables)
    chance = random.Random(f"{SEED}/{kind}")
    for turn in range(600):
        damaged = list(halves)
        which = turn % 2
        cut = turn // 2 < len(halves[which]) and turn < 300
        damaged[which] = halves[which][: turn // 2] if cut else damaged_bytes(chance, halves[which])
        try:
            found = read_objects(layout, *damaged)
        except CorruptPayloadError:
            continue
        for value in found.value.to_pylist():
            json.loads(value)
