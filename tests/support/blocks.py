"""Blocks of recorded cases and small type tables, for tests of the decoders."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cbor2

from lakeflight.wire.compression import BLOCK_DECODED_BYTES_MAX, decompress
from lakeflight.wire.envelope import (
    BlockRequest,
    ProcessRequest,
    StreamRequest,
    decode_block,
    decode_payload,
    decode_process,
    decode_stream,
)
from lakeflight.wire.transit.layout import StreamLayout, compile_layout
from tests.support.fixtures import Case


@dataclass(frozen=True)
class RecordedBlock:
    """One block with what it takes to decode it; buffers are decompressed."""

    stream: StreamRequest
    block: BlockRequest
    dependencies: bytes
    objects: bytes

    @property
    def layout(self) -> StreamLayout:
        return compile_layout(self.stream.dependencies_metadata, self.stream.objects_metadata)

    @property
    def metadata(self) -> tuple[bytes, bytes]:
        return self.stream.dependencies_metadata, self.stream.objects_metadata


def process_of(case: Case) -> ProcessRequest:
    return next(decode_process(r.body) for r in case.requests if r.path.endswith("insert_process"))


def recorded_blocks(case: Case, tag: str) -> Iterator[RecordedBlock]:
    """The blocks of one kind that have a stream."""
    streams = [decode_stream(r.body) for r in case.requests if r.path.endswith("insert_stream")]
    by_id = {stream.stream_id: stream for stream in streams if tag in stream.tags}
    for request in case.requests:
        if request.path.endswith("insert_block"):
            block = decode_block(request.body)
            if stream := by_id.get(block.stream_id):
                halves = (
                    decompress(half, limit_bytes=BLOCK_DECODED_BYTES_MAX) for half in decode_payload(block.payload)
                )
                dependencies, objects = halves
                yield RecordedBlock(stream, block, dependencies, objects)


def member(name: str, type_name: str, offset: int, size: int, is_reference: bool = False) -> dict[str, Any]:
    return {
        "name": name,
        "type_name": type_name,
        "offset": offset,
        "size": size,
        "is_reference": is_reference,
    }


def udt(name: str, size: int = 0, *members: dict[str, Any], is_reference: bool = False) -> dict[str, Any]:
    return {"name": name, "size": size, "members": list(members), "is_reference": is_reference}


def ref(name: str, offset: int, size: int = 8) -> dict[str, Any]:
    return member(name, "* const u8", offset, size, is_reference=True)


def table(*types: dict[str, Any]) -> bytes:
    return cbor2.dumps(list(types))


STATIC_STRING_REF = udt(
    "StaticStringRef", 16, ref("id", 0), member("len", "u32", 8, 4), member("codec", "u8", 12, 1), is_reference=True
)
STRING_ID = udt("StringId", 16, ref("id", 0), member("len", "u32", 8, 4), is_reference=True)
PROPERTY = udt("Property", 32, member("name", "StaticStringRef", 0, 16), member("value", "StaticStringRef", 16, 16))
LOG_DEPENDENCY_TYPES = (
    udt("StaticString"),
    udt("StaticStringDependency"),
    udt(
        "LogMetadataRecord",
        48,
        member("id", "u64", 0, 8),
        *(ref(name, 8 + 8 * index) for index, name in enumerate(("fmt_str", "target", "module_path", "file"))),
        member("line", "u32", 40, 4),
        member("level", "u32", 44, 4),
    ),
    udt("PropertySetDependency"),
    PROPERTY,
    STATIC_STRING_REF,
)
LOG_OBJECT_TYPES = (
    udt("LogStaticStrEvent", 16, ref("desc", 0), member("time", "i64", 8, 8)),
    udt("LogStringEventV2"),
    udt(
        "LogStaticStrInteropEvent",
        48,
        member("time", "i64", 32, 8),
        member("level", "u32", 40, 4),
        member("target", "StringId", 0, 16),
        member("msg", "StringId", 16, 16),
    ),
    udt("LogStringInteropEventV3"),
    udt("TaggedLogString"),
    STRING_ID,
    STATIC_STRING_REF,
    udt("LogStringEvent"),
    udt("LogStringInteropEventV2"),
    udt("TaggedLogInteropEvent"),
    udt("FutureEvent"),
)
_METRIC_TAGGED = [ref("desc", 0), ref("properties", 8), member("time", "i64", 24, 8)]
METRIC_DEPENDENCY_TYPES = (
    udt("StaticString"),
    udt("StaticStringDependency"),
    udt(
        "MetricMetadataDependency",
        48,
        member("id", "u64", 0, 8),
        *(ref(name, 8 + 8 * index) for index, name in enumerate(("name", "unit", "target", "file"))),
        member("line", "u32", 40, 4),
        member("lod", "u32", 44, 4),
    ),
    udt("PropertySetDependency"),
    PROPERTY,
    STATIC_STRING_REF,
)
METRIC_OBJECT_TYPES = (
    udt("IntegerMetricEvent", 24, ref("desc", 0), member("value", "u64", 8, 8), member("time", "i64", 16, 8)),
    udt("FloatMetricEvent", 24, ref("desc", 0), member("value", "f64", 8, 8), member("time", "i64", 16, 8)),
    udt("TaggedFloatMetricEvent", 32, *_METRIC_TAGGED, member("value", "f64", 16, 8)),
    udt("TaggedIntegerMetricEvent", 32, *_METRIC_TAGGED, member("value", "u64", 16, 8)),
)
_PLACE = ("module_path", "file")
SPAN_DEPENDENCY_TYPES = (
    udt(
        "SpanRecord",
        48,
        member("id", "u64", 0, 8),
        *(ref(name, 8 + 8 * index) for index, name in enumerate(("name", "target", *_PLACE))),
        member("line", "u32", 40, 4),
        member("lod", "u32", 44, 4),
    ),
    udt(
        "SpanLocationRecord",
        40,
        member("id", "u64", 0, 8),
        *(ref(name, 8 + 8 * index) for index, name in enumerate(("target", *_PLACE))),
        member("line", "u32", 32, 4),
        member("lod", "u32", 36, 4),
    ),
    udt("StaticString"),
)
_SPAN_SYNC = [ref("thread_span_desc", 0), member("time", "i64", 8, 8)]
_SPAN_NAMED = [ref("thread_span_location", 0), member("name", "StringId", 8, 16), member("time", "i64", 24, 8)]


def _span_async(place: str, shift: int, name: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        ref(place, 0),
        *name,
        member("span_id", "u64", 8 + shift, 8),
        member("parent_span_id", "u64", 16 + shift, 8),
        member("time", "i64", 24 + shift, 8),
        member("depth", "u32", 32 + shift, 4),
    ]


_ASYNC_NAMED = _span_async("span_location", 16, [member("name", "StringId", 8, 16)])
SPAN_OBJECT_TYPES = (
    udt("BeginThreadSpanEvent", 16, *_SPAN_SYNC),
    udt("EndThreadSpanEvent", 16, *_SPAN_SYNC),
    udt("BeginThreadNamedSpanEvent", 32, *_SPAN_NAMED),
    udt("EndThreadNamedSpanEvent", 32, *_SPAN_NAMED),
    udt("BeginAsyncSpanEvent", 40, *_span_async("span_desc", 0, [])),
    udt("EndAsyncSpanEvent", 40, *_span_async("span_desc", 0, [])),
    udt("BeginAsyncNamedSpanEvent", 56, *_ASYNC_NAMED),
    udt("EndAsyncNamedSpanEvent", 56, *_ASYNC_NAMED),
    STRING_ID,
)
LOG_TABLES = table(*LOG_DEPENDENCY_TYPES), table(*LOG_OBJECT_TYPES)
METRIC_TABLES = table(*METRIC_DEPENDENCY_TYPES), table(*METRIC_OBJECT_TYPES)
SPAN_TABLES = table(*SPAN_DEPENDENCY_TYPES), table(*SPAN_OBJECT_TYPES)

# --- three whole blocks as the original's own queues wrote them

LOG_DEPENDENCIES = bytes.fromhex(
    "00120000009079565555550000737461746963206d7367000b0000009a79565555550000746774000c000000446f565555550000"
    "6d6f6470000c0000009c6f565555550000662e727302381266555555000090795655555500009a79565555550000446f56555555"
    "00009c6f56555555000007000000040000000016000000b779565555550000696e7465726f705f7461726765740013000000c579"
    "565555550000696e7465726f70206d7367010f000000602d6655555500000202000000743301110000008c6f5655555500000204"
    "0000006e616d650117000000d479565555550000020a000000726f61645f77696474680113000000de7956555555000002060000"
    "00616e696d616c0114000000e4795655555500000207000000636869636b656e034c000000302e665555550000020000008c6f56"
    "55555500000400000002000000d4795655555500000a00000002000000de795655555500000600000002000000e4795655555500"
    "000700000002000000"
)
LOG_OBJECTS = bytes.fromhex(
    "003812665555550000e80300000000000001180000003812665555550000e903000000000000020300000064796e02b779565555"
    "5500000e00000000000000c5795655555500000b00000000000000ea0300000000000002000000000000000320000000eb030000"
    "0000000003602d665555550000020000000200000002020000006d3304230000003812665555550000302e665555550000ec0300"
    "00000000000206000000746167676564"
)
METRIC_DEPENDENCIES = bytes.fromhex(
    "000c0000008c6f5655555500006e616d65000e0000009d79565555550000637562697473000e000000a379565555550000746172"
    "676574000c000000a06f56555555000066696c650288756555555500008c6f5655555500009d79565555550000a3795655555500"
    "00a06f5655555500007b0000000200000001110000002c6f5655555500000204000000756e6974011a000000017a565555550000"
    "020d0000006f766572726964655f756e6974011a000000f479565555550000020d0000006f766572726964655f6e616d65034c00"
    "0000705b665555550000020000002c6f5655555500000400000002000000017a5655555500000d000000020000008c6f56555555"
    "00000400000002000000f4795655555500000d00000002000000"
)
METRIC_OBJECTS = bytes.fromhex(
    "008875655555550000030000000000000001000000000000000188756555555500000000000000000c4002000000000000000288"
    "75655555550000705b66555555000000000000000000400300000000000000038875655555550000705b66555555000002000000"
    "000000000400000000000000"
)
SPAN_DEPENDENCIES = bytes.fromhex(
    "020c0000007c6f565555550000666e5f61020e000000a3795655555500007461726765740213000000a9795655555500006d6f64"
    "756c655f70617468020c000000a06f56555555000066696c6500d0756555555500007c6f565555550000a379565555550000a979"
    "565555550000a06f5655555500007b00000003000000011876655555550000a379565555550000a979565555550000a06f565555"
    "550000c801000002000000020a000000157a5655555500006e6d020a000000177a565555550000616e"
)
SPAN_OBJECTS = bytes.fromhex(
    "00d0756555555500006400000000000000021876655555550000157a56555555000002000000000000006e000000000000000318"
    "76655555550000157a5655555500000200000000000000780000000000000001d075655555550000820000000000000004d07565"
    "5555550000010000000000000000000000000000008c000000000000000000000000000000061876655555550000177a56555555"
    "00000200000000000000020000000000000001000000000000009600000000000000010000000000000007187665555555000017"
    "7a565555550000020000000000000002000000000000000100000000000000a000000000000000010000000000000005d0756555"
    "55550000010000000000000000000000"
    "00000000aa000000000000000000000000000000"
)


def record(index: int, body: bytes, *, dynamic: bool = False) -> bytes:
    """One record of a buffer."""
    return bytes((index,)) + (struct.pack("<I", len(body)) if dynamic else b"") + body


def dyn_string(text: bytes, codec: int = 2) -> bytes:
    return struct.pack("<BI", codec, len(text)) + text


def static_string(address: int, text: str, index: int = 0) -> bytes:
    return record(index, struct.pack("<Q", address) + text.encode(), dynamic=True)
