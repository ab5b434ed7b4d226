"""Small blocks with known bytes: every event, every string codec, every way to go wrong."""

from __future__ import annotations

import contextlib
import json
import struct
import time
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakeflight.wire.errors import CorruptPayloadError
from lakeflight.wire.transit import dependencies as dependencies_module
from lakeflight.wire.transit import event_kernels, kernels, text_kernels
from lakeflight.wire.transit import logs as logs_module
from lakeflight.wire.transit import spans as spans_module
from lakeflight.wire.transit.async_spans import read_async_spans
from lakeflight.wire.transit.columns import Codes
from lakeflight.wire.transit.kernels import Fault
from lakeflight.wire.transit.layout import compile_layout
from lakeflight.wire.transit.logs import LEVELS, LogEvents, read_logs
from lakeflight.wire.transit.metrics import read_metrics
from lakeflight.wire.transit.records import raise_fault
from lakeflight.wire.transit.spans import Scope, read_spans, scope_hash
from tests.support import reference_transit as reference
from tests.support.blocks import (
    LOG_DEPENDENCIES,
    LOG_DEPENDENCY_TYPES,
    LOG_OBJECT_TYPES,
    LOG_OBJECTS,
    LOG_TABLES,
    METRIC_DEPENDENCIES,
    METRIC_OBJECTS,
    METRIC_TABLES,
    PROPERTY,
    SPAN_DEPENDENCIES,
    SPAN_DEPENDENCY_TYPES,
    SPAN_OBJECTS,
    SPAN_TABLES,
    STATIC_STRING_REF,
    dyn_string,
    member,
    record,
    ref,
    static_string,
    table,
    udt,
)

DESC, PROPS, T3 = 0x555555661238, 0x555555662E30, 0x555555662D60  # addresses in LOG_DEPENDENCIES


def texts(column: Codes) -> list[str]:
    return [column.values[code] for code in column.codes.tolist()]


def logs(dependencies: bytes, objects: bytes, tables: tuple[bytes, bytes] = LOG_TABLES) -> LogEvents:
    return read_logs(compile_layout(*tables), dependencies, objects)


def messages(objects: bytes, dependencies: bytes = LOG_DEPENDENCIES) -> list[str]:
    found: list[str] = logs(dependencies, objects).msg.to_pylist()
    return found


def log_v2(text: bytes, codec: int = 2, ticks: int = 0) -> bytes:
    return record(1, struct.pack("<Qq", DESC, ticks) + dyn_string(text, codec), dynamic=True)


# --- the known blocks


def test_the_known_log_block() -> None:
    events = logs(LOG_DEPENDENCIES, LOG_OBJECTS)

    assert events.ticks.tolist() == [1000, 1001, 1002, 1003, 1004]
    assert events.level.tolist() == [4, 4, 2, 3, 4]
    assert events.level.dtype == np.int32
    assert texts(events.target) == ["tgt", "tgt", "interop_target", "t3", "tgt"]
    assert events.msg.to_pylist() == ["static msg", "dyn", "interop msg", "m3", "tagged"]
    assert texts(events.properties) == ["{}"] * 4 + ['{"animal":"chicken","name":"road_width"}']
    assert events.skipped == 0


def test_the_known_metrics_block() -> None:
    events = read_metrics(compile_layout(*METRIC_TABLES), METRIC_DEPENDENCIES, METRIC_OBJECTS)

    assert events.ticks.tolist() == [1, 2, 3, 4]
    assert events.value.tolist() == [3.0, 3.5, 2.0, 2.0]
    assert events.integer.tolist() == [True, False, False, True]
    assert events.raw[events.integer].tolist() == [3, 2]
    assert texts(events.name) == ["name", "name", "override_name", "override_name"]
    assert texts(events.unit) == ["cubits", "cubits", "override_unit", "override_unit"]
    assert texts(events.target) == ["target"] * 4
    assert texts(events.properties) == ["{}"] * 2 + ['{"name":"override_name","unit":"override_unit"}'] * 2


def test_the_known_spans_block() -> None:
    events = read_spans(compile_layout(*SPAN_TABLES), SPAN_DEPENDENCIES, SPAN_OBJECTS)

    assert events.kind.tolist() == [0, 0, 1, 1]
    assert events.ticks.tolist() == [100, 110, 120, 130]
    assert events.index.tolist() == [0, 1, 2, 3]
    assert events.objects == 8
    assert events.scope.tolist() == [0, 1, 1, 0]
    assert events.scopes == [
        Scope("fn_a", "file", "target", 123, scope_hash("fn_a", "file", "target", 123)),
        Scope("nm", "file", "target", 456, scope_hash("nm", "file", "target", 456)),
    ]


@pytest.mark.parametrize(
    ("scope", "digest"),
    [
        (("", "", "", 0), 0x9E6F8194),
        (("A", "", "", 0), 0x5119C605),
        (("test_function", "test.rs", "test_target", 42), 0xD2E25545),
        (("my_function", "file", "target", 123), 0x51ECC521),
        (("a_rather_long_function_name", "src/lib/some/file.rs", "crate::module", 7), 0xA9757C3F),
    ],
)
def test_scopes_hash_as_the_original_hashes_them(scope: tuple[str, str, str, int], digest: int) -> None:
    assert scope_hash(*scope) == digest


def test_spans_with_names_of_run_time_and_ends_with_properties_are_read() -> None:
    """As micromegas writes them from 0.33 on: eight more events of the same two kinds."""
    description, location = (struct.unpack_from("<Q", SPAN_OBJECTS, at)[0] for at in (1, 18))
    name, address = 0x77, 1 << 20
    dyn = udt("DynStringId", 8, ref("id", 0), is_reference=True)
    named = [ref("thread_span_location", 0), member("name", "DynStringId", 8, 8)]
    async_named = [ref("span_location", 0), member("name", "DynStringId", 8, 8)]

    def ids(at: int) -> list[dict[str, Any]]:
        return [
            member("span_id", "u64", at, 8),
            member("parent_span_id", "u64", at + 8, 8),
            member("depth", "u32", at + 24, 4),
            member("time", "i64", at + 16, 8),
        ]

    def time(at: int) -> dict[str, Any]:
        return member("time", "i64", at, 8)

    objects = table(
        udt("BeginThreadDynNamedSpanEvent", 24, *named, time(16)),
        udt("EndThreadDynNamedSpanEvent", 24, *named, time(16)),
        udt("TaggedEndThreadSpanEvent", 24, ref("thread_span_desc", 0), ref("properties", 8), time(16)),
        udt("TaggedEndThreadNamedSpanEvent", 32, *named, ref("properties", 16), time(24)),
        udt("BeginAsyncDynNamedSpanEvent", 44, *async_named, *ids(16)),
        udt("EndAsyncDynNamedSpanEvent", 44, *async_named, *ids(16)),
        udt("TaggedEndAsyncSpanEvent", 44, ref("span_desc", 0), ref("properties", 8), *ids(16)),
        udt("TaggedEndAsyncNamedSpanEvent", 52, *async_named, ref("properties", 16), *ids(24)),
        dyn,
    )
    more = udt("StaticStringDependency"), udt("PropertySetDependency"), PROPERTY, STATIC_STRING_REF
    dependencies = table(*SPAN_DEPENDENCY_TYPES, *more)
    layout = compile_layout(dependencies, objects)
    known = (
        SPAN_DEPENDENCIES
        + record(3, struct.pack("<Q", name) + dyn_string(b"at run time"), dynamic=True)
        + record(4, struct.pack("<QI", address, 0), dynamic=True)
    )
    bodies = [
        (0, location, name, 100),
        (1, location, name, 101),
        (2, description, address, 102),
        (3, location, name, address, 103),
        (4, location, name, 7, 1, 104, 2),
        (5, location, name, 7, 1, 105, 2),
        (6, description, address, 8, 1, 106, 2),
        (7, location, name, address, 9, 1, 107, 2),
    ]
    data = b"".join(
        record(kind, struct.pack(f"<{len(values) - (kind > 3)}Q{'I' if kind > 3 else ''}", *values))
        for kind, *values in bodies
    )

    spans, asyncs = read_spans(layout, known, data), read_async_spans(layout, known, data)

    assert (spans.kind.tolist(), spans.ticks.tolist()) == ([0, 1, 1, 1], [100, 101, 102, 103])
    dynamic, static = ("at run time", "file", "target", 456), ("fn_a", "file", "target", 123)
    assert [spans.scopes[number][:4] for number in spans.scope.tolist()] == [dynamic, dynamic, static, dynamic]
    assert (asyncs.kind.tolist(), asyncs.ticks.tolist()) == ([0, 1, 1, 1], [104, 105, 106, 107])
    assert [asyncs.scopes[number][:4] for number in asyncs.scope.tolist()] == [dynamic, dynamic, static, dynamic]
    assert asyncs.span_id.tolist() == [7, 7, 8, 9]
    assert (set(asyncs.parent_span_id.tolist()), set(asyncs.depth.tolist())) == ({1}, {2})


def test_ids_count_skipped_objects_too() -> None:
    layout = compile_layout(*SPAN_TABLES)

    events = read_spans(layout, SPAN_DEPENDENCIES, SPAN_OBJECTS[-41:] + SPAN_OBJECTS[:17])

    assert (events.index.tolist(), events.objects) == ([1], 2)


@pytest.mark.parametrize("read", [read_logs, read_metrics, read_spans])
def test_a_block_without_objects_has_no_rows(read: Any) -> None:
    events = read(compile_layout(b"\x80", b"\x80"), b"", b"")

    assert events.ticks.tolist() == []


# --- kinds of log events


def test_legacy_log_events_are_read() -> None:
    target = 0x5555555679B7
    objects = record(7, struct.pack("<Qq", DESC, 1000) + "legacy µ".encode(), dynamic=True)
    objects += record(8, struct.pack("<qIQII", 1001, 3, target, 14, 0) + b"v2 msg", dynamic=True)

    events = logs(LOG_DEPENDENCIES, objects)

    assert events.ticks.tolist() == [1000, 1001]
    assert events.level.tolist() == [4, 3]
    assert texts(events.target) == ["tgt", "interop_target"]
    assert events.msg.to_pylist() == ["legacy µ", "v2 msg"]


def test_tagged_interop_events_keep_their_own_target_and_level() -> None:
    level_tag = static_string(1, "level") + static_string(2, "fatal") + static_string(3, "target")
    pairs = struct.pack("<QIIQII", 1, 0, 0, 2, 0, 0) + struct.pack("<QIIQII", 3, 0, 0, 2, 0, 0)
    properties = record(3, struct.pack("<QI", 9, 2) + pairs, dynamic=True)
    body = struct.pack("<qBQIBxxxQ", 5, 6, T3, 2, 2, 9) + dyn_string(b"hello")

    events = logs(LOG_DEPENDENCIES + level_tag + properties, record(9, body, dynamic=True))

    assert (events.level.tolist(), texts(events.target)) == ([6], ["t3"])
    assert texts(events.properties) == ['{"level":"fatal","target":"fatal"}']
    assert events.msg.to_pylist() == ["hello"]


def tagged(properties: dict[str, str]) -> LogEvents:
    return tagged_with_pairs(list(properties.items()))


def tagged_with_pairs(pairs: list[tuple[str, str]]) -> LogEvents:
    dependencies, body = b"", b""
    for number, text in enumerate([text for pair in pairs for text in pair]):
        dependencies += static_string(100 + number, text)
        body += struct.pack("<QII", 100 + number, 0, 0)
    dependencies += record(3, struct.pack("<QI", 99, len(pairs)) + body, dynamic=True)
    event = record(4, struct.pack("<QQq", DESC, 99, 7) + dyn_string(b"m"), dynamic=True)
    return logs(LOG_DEPENDENCIES + dependencies, event)


@pytest.mark.parametrize(("text", "level"), [("fatal", 1), ("error", 2), ("warning", 3), ("debug", 5), ("trace", 6)])
def test_a_property_overrides_the_level(text: str, level: int) -> None:
    assert tagged({"level": text}).level.tolist() == [level]


@pytest.mark.parametrize("text", ["warn", "WARNING", "", "7", "9000"])
def test_a_property_that_is_no_level_leaves_the_events_own(text: str) -> None:
    """The original loses the whole block; a game whose players have a level loses its log."""
    events = tagged({"level": text, "target": "other"})

    assert events.level.tolist() == [4]
    assert texts(events.target) == ["other"]
    assert texts(events.properties)[0].startswith('{"level":')


def test_property_sets_are_canonical_json() -> None:
    events = tagged({"z": 'quote " and \\', "é": "ü\n", "": "", "a": "0"})

    assert texts(events.properties) == ['{"":"","a":"0","z":"quote \\" and \\\\","é":"ü\\n"}']


@settings(max_examples=200)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["target", "level", "", "a", "b", "ab"]) | st.text(max_size=3),
            st.sampled_from([*LEVELS, "warn"]) | st.text(max_size=5),
        ),
        max_size=40,
    )
)
def test_property_sets_agree_with_python(pairs: list[tuple[str, str]]) -> None:
    """Of a doubled name the last value counts, in the text as in what it overrides."""
    last = dict(pairs)

    events = tagged_with_pairs(pairs)

    assert texts(events.properties) == [json.dumps(last, ensure_ascii=False, sort_keys=True, separators=(",", ":"))]
    assert texts(events.target) == [last.get("target", "tgt")]
    assert events.level.tolist() == [LEVELS.get(last.get("level", ""), 4)]


def test_an_empty_property_set_is_no_property_set() -> None:
    assert texts(tagged({}).properties) == ["{}"]


def test_unknown_events_are_counted_and_skipped() -> None:
    objects = log_v2(b"a") + record(10, b"whatever", dynamic=True) + record(10, b"", dynamic=True) + log_v2(b"b")

    events = logs(LOG_DEPENDENCIES, objects)

    assert (events.msg.to_pylist(), events.skipped) == (["a", "b"], 2)


def test_bytes_after_a_message_are_ignored() -> None:
    body = struct.pack("<Qq", DESC, 0) + dyn_string(b"kept") + b"left over"

    assert messages(record(1, body, dynamic=True)) == ["kept"]


def test_levels_of_32_bits_keep_their_bits() -> None:
    objects = record(8, struct.pack("<qIQII", 0, 0xFFFFFFFF, T3, 0, 0), dynamic=True)

    assert logs(LOG_DEPENDENCIES, objects).level.tolist() == [-1]


# --- text


@pytest.mark.parametrize(
    ("codec", "raw", "text"),
    [
        (2, b"", ""),
        (0, b"plain", "plain"),
        (0, b"a\xe9z", "a\ufffdz"),
        (2, "grün 😀".encode(), "grün 😀"),
        (2, b"\xf0\x9f\x98", "\ufffd"),
        (2, b"\xed\xa0\x80", "\ufffd" * 3),
        (2, b"\xc0\x80\x80", "\ufffd" * 3),
        (1, b"A\x00\x00\xd8", "A\ufffd"),
        (1, "wide é 😀".encode("utf-16-le"), "wide é 😀"),
        (1, b"\x00\xdcA\x00", "\ufffdA"),
        (1, b"\x00\xd8\x00\xd8\x00\xdc", "\ufffd\U00010000"),
    ],
)
def test_every_codec_gives_its_text(codec: int, raw: bytes, text: str) -> None:
    dependency = record(1, struct.pack("<Q", 5) + dyn_string(raw, codec), dynamic=True)
    interop = record(3, struct.pack("<qBQII", 0, 1, 5, 0, 0) + dyn_string(raw, codec), dynamic=True)

    events = logs(dependency, interop)

    assert events.msg.to_pylist() == texts(events.target) == [text]


@settings(max_examples=200)
@given(st.lists(st.tuples(st.sampled_from([0, 1, 2]), st.binary(max_size=12)), max_size=6))
def test_columns_of_text_agree_with_python(rows: list[tuple[int, bytes]]) -> None:
    rows = [(codec, raw[: len(raw) // 2 * 2] if codec == 1 else raw) for codec, raw in rows]
    expected = [raw.decode("utf-16-le" if codec == 1 else "utf-8", "replace") for codec, raw in rows]

    assert messages(b"".join(log_v2(raw, codec) for codec, raw in rows)) == expected


@settings(max_examples=100)
@given(st.lists(st.text(max_size=8), max_size=8))
def test_valid_text_comes_back(rows: list[str]) -> None:
    rows = [row.encode("utf-8", "replace").decode() for row in rows]

    assert messages(b"".join(log_v2(row.encode()) for row in rows)) == rows


@settings(max_examples=200)
@given(
    st.lists(st.tuples(st.sampled_from([0, 1, 2]), st.binary(max_size=12)), min_size=1, max_size=12),
    st.lists(st.integers(0, 11), max_size=12),
)
def test_texts_of_dependencies_agree_with_python(rows: list[tuple[int, bytes]], chosen: list[int]) -> None:
    rows = [(codec, raw[: len(raw) // 2 * 2] if codec == 1 else raw) for codec, raw in rows]
    dependencies = b"".join(
        record(1, struct.pack("<Q", number) + dyn_string(raw, codec), dynamic=True)
        for number, (codec, raw) in enumerate(rows)
    )
    chosen = [number % len(rows) for number in chosen]
    expected = [
        rows[number][1].decode("utf-16-le" if rows[number][0] == 1 else "utf-8", "replace") for number in chosen
    ]
    objects = b"".join(record(2, struct.pack("<QQQQqII", n, 0, n, 0, 0, 0, 0)) for n in chosen)

    events = logs(dependencies, objects)

    assert texts(events.target) == expected
    assert events.msg.to_pylist() == expected
    events.msg.validate(full=True)


@settings(max_examples=200)
@given(st.lists(st.sampled_from([0, 1, 2**63, 2**64 - 1]) | st.integers(0, 2**64 - 1), unique=True, max_size=60))
def test_any_addresses_are_told_apart(addresses: list[int]) -> None:
    """They come from the sender, and none of them may stand for an empty slot or meet another one."""
    dependencies = b"".join(static_string(address, f"{address:x}") for address in addresses)
    objects = b"".join(record(2, struct.pack("<QQQQqII", a, 0, a, 0, 0, 0, 0)) for a in addresses)

    assert messages(objects, dependencies) == [f"{address:x}" for address in addresses]


@pytest.mark.parametrize("shift", [32, 40, 49])
def test_no_choice_of_addresses_makes_a_block_slow(shift: int) -> None:
    """They are hashed by all of their bits, so that those that share the lower ones do not share a slot."""

    def seconds(addresses: list[int]) -> float:
        dependencies = b"".join(static_string(address, "") for address in addresses)
        started = time.process_time()
        logs(dependencies, b"")
        return time.process_time() - started

    numbers = range(1, 1 << 15)
    assert seconds([n << shift for n in numbers]) < 10 * min(seconds(list(numbers)) for _ in range(3)) + 0.05


def test_a_message_column_is_a_valid_arrow_array() -> None:
    column = logs(LOG_DEPENDENCIES, log_v2(b"\xff\xfe") + log_v2(b"ok") + LOG_OBJECTS).msg

    column.validate(full=True)
    assert column.to_pylist()[:3] == ["\ufffd\ufffd", "ok", "static msg"]


# --- metrics


def test_integers_are_unsigned_and_their_bits_are_kept() -> None:
    address = 0x555555657588
    objects = b"".join(record(0, struct.pack("<QQq", address, value, 1)) for value in (2**64 - 1, 2**63, 0, 2**53 + 1))

    events = read_metrics(compile_layout(*METRIC_TABLES), METRIC_DEPENDENCIES, objects)

    assert events.value.tolist() == [float(2**64 - 1), float(2**63), 0.0, float(2**53 + 1)]
    assert events.raw.tolist() == [-1, -(2**63), 0, 2**53 + 1]


def test_floats_keep_their_bits() -> None:
    address = 0x555555657588
    patterns = [0x7FF8000000000001, 0x8000000000000000, 0x7FF0000000000000, 1]
    objects = b"".join(record(1, struct.pack("<QQq", address, bits, 1)) for bits in patterns)

    events = read_metrics(compile_layout(*METRIC_TABLES), METRIC_DEPENDENCIES, objects)

    assert events.value.view(np.uint64).tolist() == patterns


# --- type tables


def test_offsets_come_from_the_table() -> None:
    moved = udt("LogStaticStrEvent", 21, member("time", "int64", 12, 8), ref("desc", 1, 11))
    tables = LOG_TABLES[0], table(moved, *LOG_OBJECT_TYPES[1:])
    body = b"\xaa" + struct.pack("<Q", DESC) + b"\xbb" * 3 + struct.pack("<q", -3) + b"\xcc"

    events = logs(LOG_DEPENDENCIES, record(0, body), tables)

    assert (events.ticks.tolist(), events.msg.to_pylist()) == ([-3], ["static msg"])


def test_unreal_tables_are_read() -> None:
    """Reference members where Rust nests, small levels, other orders."""
    dependencies = table(
        udt("StaticStringDependency"),
        udt(
            "LogMetadataDependency",
            40,
            member("id", "uint64", 0, 8),
            *(ref(name, 8 * index) for index, name in enumerate(("target", "fmt_str", "file"), 1)),
            member("line", "uint32", 32, 4),
            member("level", "uint8", 36, 1),
        ),
        udt("PropertySetDependency"),
        udt("Property", 32, ref("name", 0, 16), ref("value", 16, 16)),
    )
    objects = table(udt("TaggedLogInteropEvent"), udt("TaggedLogString"), STATIC_STRING_REF)
    body = b"".join(
        record(0, struct.pack("<Q", address) + dyn_string(text.encode("utf-16-le"), 1), dynamic=True)
        for address, text in ((1, "LogNet"), (2, "fmt"), (3, "Käfer"))
    )
    body += record(1, struct.pack("<QQQQIB3x", 10, 1, 2, 3, 7, 5))
    body += record(2, struct.pack("<QI", 11, 1) + struct.pack("<QQQQ", 2, 0xDEAD, 3, 0xBEEF), dynamic=True)
    events = logs(
        body,
        record(0, struct.pack("<qBQQQ", 1, 2, 1, 0, 11) + dyn_string(b"one", 0), dynamic=True)
        + record(1, struct.pack("<QQq", 10, 11, 2) + dyn_string(b"two", 0), dynamic=True),
        (dependencies, objects),
    )

    assert events.level.tolist() == [2, 5]
    assert texts(events.target) == ["LogNet", "LogNet"]
    assert events.msg.to_pylist() == ["one", "two"]
    assert texts(events.properties) == ['{"fmt":"Käfer"}'] * 2


def test_a_type_that_cannot_be_read_matters_only_if_it_occurs() -> None:
    bad = udt("Bad", 8, member("x", "i32", 0, 4))
    tables = LOG_TABLES[0], table(*LOG_OBJECT_TYPES, bad)

    assert logs(LOG_DEPENDENCIES, LOG_OBJECTS, tables).skipped == 0
    with pytest.raises(CorruptPayloadError, match="unknown type 'i32'"):
        logs(LOG_DEPENDENCIES, LOG_OBJECTS + record(len(LOG_OBJECT_TYPES), bytes(8)), tables)


def test_unknown_fixed_types_are_skipped_but_their_references_are_checked() -> None:
    future = udt("Future", 12, ref("what", 4), member("x", "u32", 0, 4))
    tables = LOG_TABLES[0], table(*LOG_OBJECT_TYPES, future)
    index = len(LOG_OBJECT_TYPES)

    assert logs(LOG_DEPENDENCIES, record(index, struct.pack("<IQ", 1, DESC)), tables).skipped == 1
    with pytest.raises(CorruptPayloadError, match="unknown dependency 0x7"):
        logs(LOG_DEPENDENCIES, record(index, struct.pack("<IQ", 1, 7)), tables)


@pytest.mark.parametrize("part", ["dependencies", "objects"])
def test_a_type_met_first_beside_a_broken_one_is_read_as_ever_in_the_next_block(part: str) -> None:
    """The plans of a type table outlive the block that they were made for, and that block may be corrupt."""
    future = udt("Future", 16, ref("what", 8), member("id", "u64", 0, 8))
    broken = udt("Broken", 8, member("x", "i32", 0, 4))
    types = table(*LOG_DEPENDENCY_TYPES, future, broken)
    tables = (types, b"\x80") if part == "dependencies" else (LOG_TABLES[0], types)
    index = len(LOG_DEPENDENCY_TYPES)
    fine, lost = record(index, struct.pack("<QQ", 9, 5)), record(index, struct.pack("<QQ", 9, 7))

    def read(data: bytes) -> LogEvents:
        text = static_string(5, "s")
        return logs(text + data, b"", tables) if part == "dependencies" else logs(text, data, tables)

    with pytest.raises(CorruptPayloadError, match="unknown type 'i32'"):
        read(fine + record(index + 1, bytes(8)))

    assert read(fine).ticks.tolist() == []
    with pytest.raises(CorruptPayloadError, match="unknown dependency 0x7"):
        read(lost)


@pytest.mark.parametrize(
    ("types", "message"),
    [
        ([udt("T", 8, member("x", "u32", 0, 8))], "u32 of 8 bytes"),
        ([udt("T", 8, member("x", "u64", 1, 8))], "beyond its 8 bytes"),
        ([udt("T", 8, member("x", "u64", 2**64 - 1, 8))], "beyond its 8 bytes"),
        ([udt("T", 8, ref("x", 0, 4))], "reference of 4 bytes"),
        ([udt("T", 8, member("x", "bool", 0, 1))], "unknown type 'bool'"),
        ([udt("T", 8, member("x", "N", 0, 8)), udt("N", 16)], "beyond its 8 bytes"),
        ([udt("T", 8, member("x", "N", 4, 4)), udt("N", 8)], "beyond its 8 bytes"),
        ([udt("T", 8, member("x", "u64", 0, 8), is_reference=True)], "no member 'id'"),
        ([udt("T", 8, member("x", "T", 0, 8))], "nested more than 16 deep"),
        ([udt("T", 8, member("x", "N", 0, 8)), udt("N", 8, member("x", "T", 0, 8))], "nested more than 16 deep"),
        ([udt("T", 8, *[member("x", "u64", 0, 8)] * 40)], "times over"),
        ([udt("T", 4096, *[member("x", "u8", 0, 1)] * 4097)], "more than 4096 fields"),
        (
            [udt("T", 4096, *[member("x", "N1", 0, 1)] * 70)]
            + [udt(f"N{n}", 64, *[member("x", f"N{n + 1}", 0, 1)] * 60) for n in range(1, 15)]
            + [udt("N15", 1, member("x", "u8", 0, 1))],
            "more than 4096 fields",
        ),
    ],
)
def test_bad_types_are_named_when_they_occur(types: list[dict[str, Any]], message: str) -> None:
    body = record(0, bytes(types[0]["size"]))

    with pytest.raises(CorruptPayloadError, match=message):
        logs(b"", body, (b"\x80", table(*types)))
    with pytest.raises(CorruptPayloadError, match=message):
        logs(body, b"", (table(*types), b"\x80"))


@pytest.mark.parametrize(
    ("name", "size"),
    [("LogStaticStrEvent", 0), ("LogStringEventV2", 8), ("LogStaticStrInteropEvent", 0), ("TaggedLogString", 64)],
)
def test_known_events_of_the_wrong_sort_are_corrupt(name: str, size: int) -> None:
    with pytest.raises(CorruptPayloadError, match=name):
        logs(b"", record(0, bytes(size), dynamic=size == 0), (b"\x80", table(udt(name, size))))


@pytest.mark.parametrize("name", ["LogStringInteropEventV3", "LogStringInteropEventV2", "TaggedLogInteropEvent"])
def test_interop_events_need_the_type_of_their_target(name: str) -> None:
    with pytest.raises(CorruptPayloadError, match="no type"):
        logs(b"", record(0, bytes(64), dynamic=True), (b"\x80", table(udt(name))))


@pytest.mark.parametrize("metadata", [b"", b"\xa0", b"\x81\x00", b"\x81\xa0", b"\xff"])
def test_what_is_no_type_table_is_corrupt(metadata: bytes) -> None:
    with pytest.raises(CorruptPayloadError, match="type table of objects"):
        compile_layout(b"\x80", metadata)


# --- malformed buffers

_ROOM = bytes(64)


@pytest.mark.parametrize(
    "dependencies",
    [
        b"\x63",  # no such type
        b"\x00",  # no size
        b"\x00\x08\x00\x00",  # half a size
        record(0, b"\x01" * 7, dynamic=True),  # no room for an address
        b"\x00\xff\xff\xff\xff" + _ROOM,  # size beyond the buffer
        record(2, bytes(47)),  # fixed size beyond the buffer
        record(0, bytes(8) + b"\xff", dynamic=True),  # not UTF-8
        static_string(1, "a") * 2,
        record(1, struct.pack("<Q", 1) + dyn_string(b""), dynamic=True) * 2,
        record(3, struct.pack("<QI", 1, 0), dynamic=True) * 2,
        static_string(7, "s") + record(2, struct.pack("<QQQQQII", 9, 7, 7, 7, 7, 0, 0)) * 2,
        static_string(7, "s") + record(3, struct.pack("<QI", 7, 0), dynamic=True),  # one namespace
        record(2, struct.pack("<QQQQQII", 9, 7, 7, 7, 7, 0, 0)),  # unknown strings
        record(1, struct.pack("<Q", 1) + dyn_string(b"", 9), dynamic=True),  # codec
        record(1, struct.pack("<Q", 1) + dyn_string(b"abc", 1), dynamic=True),  # odd wide string
        record(1, struct.pack("<QBI", 1, 2, 100) + b"abcde", dynamic=True),  # length
        record(1, b"", dynamic=True),  # declared size 0 at the end
        record(1, bytes(8), dynamic=True),
        b"\x01\x08\x00\x00\x00" + struct.pack("<Q", 1) + dyn_string(b"\x63" * 4),  # cursor lands in the string
        record(3, struct.pack("<QI", 1, 1), dynamic=True),  # count beyond the buffer
        record(3, struct.pack("<QI", 1, 0xFFFFFFFF) + _ROOM, dynamic=True),
        record(3, struct.pack("<QI", 1, 1) + struct.pack("<QQQQ", 5, 0, 5, 0), dynamic=True),  # unknown strings
        record(4, bytes(32)),  # Property: a reference without its string
        static_string(0, "s") + record(4, bytes(32)),  # and with it: no id
        record(5, bytes(16)),
    ],
)
def test_malformed_dependencies_are_corrupt(dependencies: bytes) -> None:
    with pytest.raises(CorruptPayloadError):
        logs(dependencies, b"")
    with pytest.raises(reference.Corrupt):
        reference.decode(*LOG_TABLES, dependencies, b"")


def test_a_reference_entry_that_names_a_string_adds_nothing() -> None:
    dependencies = static_string(5, "s") + record(5, struct.pack("<QQ", 5, 0)) * 2

    assert logs(dependencies, b"").skipped == 0


def test_a_reference_entry_that_names_anything_else_is_a_duplicate() -> None:
    with pytest.raises(CorruptPayloadError, match="repeats an entry"):
        logs(LOG_DEPENDENCIES + record(5, struct.pack("<QQ", DESC, 0)), b"")


def test_events_among_dependencies_are_corrupt() -> None:
    with pytest.raises(CorruptPayloadError, match="unknown layout"):
        logs(record(0, bytes(64), dynamic=True), b"", (table(udt("LogStringEventV2")), b"\x80"))


@pytest.mark.parametrize("types", [LOG_DEPENDENCY_TYPES[:4], (*LOG_DEPENDENCY_TYPES[:4], udt("Property"))])
def test_property_sets_need_the_property_type(types: tuple[dict[str, Any], ...]) -> None:
    with pytest.raises(CorruptPayloadError, match="'Property'"):
        logs(record(3, struct.pack("<QI", 1, 0), dynamic=True), b"", (table(*types), b"\x80"))


@pytest.mark.parametrize(
    "objects",
    [
        b"\xff",
        b"\x01",
        b"\x01\x00\x00\x00",
        b"\x00" + bytes(15),
        b"\x01\xff\xff\xff\xff" + _ROOM,
        record(1, struct.pack("<Qq", DESC, 0)[:-1], dynamic=True),
        record(1, struct.pack("<Qq", DESC, 0) + b"\x02\x00\x00\x00", dynamic=True),
        record(1, struct.pack("<QqBI", DESC, 0, 2, 1), dynamic=True),
        record(1, struct.pack("<QqBI", DESC, 0, 2, 100) + b"abcde", dynamic=True) + _ROOM * 2,
        record(1, struct.pack("<QqBI", DESC, 0, 2, 0xFFFFFFFF), dynamic=True),
        log_v2(b"", 3),
        log_v2(b"", 9),
        log_v2(b"abc", 1),
        record(1, struct.pack("<Qq", 1234, 0) + dyn_string(b""), dynamic=True),
        record(1, struct.pack("<Qq", T3, 0) + dyn_string(b""), dynamic=True),  # a string for a description
        record(0, struct.pack("<Qq", T3, 0)),
        record(2, struct.pack("<QQQQqII", DESC, 0, T3, 0, 0, 0, 0)),  # a description for a string
        record(2, struct.pack("<QQQQqII", T3, 0, PROPS, 0, 0, 0, 0)),
        record(4, struct.pack("<QQq", DESC, DESC, 0) + dyn_string(b""), dynamic=True),
        record(4, struct.pack("<QQq", DESC, T3, 0) + dyn_string(b""), dynamic=True),
        record(4, struct.pack("<QQq", DESC, 0, 0) + dyn_string(b""), dynamic=True),
        record(7, struct.pack("<Qq", DESC, 0) + b"\xff", dynamic=True),
        record(7, struct.pack("<Qq", DESC, 0)[:-1], dynamic=True),
        record(8, struct.pack("<qIQII", 0, 3, T3, 0, 0) + b"\x80", dynamic=True),
        record(3, struct.pack("<qBQII", 0, 1, DESC, 0, 0) + dyn_string(b""), dynamic=True),
        record(9, struct.pack("<qBQIIQ", 0, 1, T3, 0, 0, T3) + dyn_string(b""), dynamic=True),
        record(9, struct.pack("<qBQII", 0, 1, T3, 0, 0) + dyn_string(b""), dynamic=True),
    ],
)
def test_malformed_objects_are_corrupt(objects: bytes) -> None:
    with pytest.raises(CorruptPayloadError):
        logs(LOG_DEPENDENCIES, objects)
    with pytest.raises(reference.Corrupt):
        reference.log_rows(reference.decode(*LOG_TABLES, LOG_DEPENDENCIES, objects))


def test_every_fault_of_a_kernel_has_a_message() -> None:
    for fault in Fault:
        outcome = np.array([fault, 7, 8, 0], np.int64)
        if fault is Fault.NONE:
            raise_fault(outcome)
        else:
            with pytest.raises(CorruptPayloadError, match=r"^(?!fault)[a-z].*7"):
                raise_fault(outcome)


# --- limits


def test_overlapping_dependencies_are_refused() -> None:
    """Each record is 13 bytes long, and each string claims all the rest of the buffer."""
    count = 500
    dependencies = b"".join(
        record(1, struct.pack("<QBI", number, 2, (count - number - 1) * 18), dynamic=True) for number in range(count)
    )

    with pytest.raises(CorruptPayloadError, match="overlap"):
        logs(dependencies, b"")


def test_dependencies_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dependencies_module, "DEPENDENCIES_MAX", 9)
    strings = [static_string(number, "") for number in range(10)]

    assert logs(b"".join(strings[:9]), b"").skipped == 0
    with pytest.raises(CorruptPayloadError, match="more than 9 dependencies"):
        logs(b"".join(strings), b"")


def test_the_text_of_properties_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dependencies_module, "PROPERTY_TEXT_BYTES_MAX", 9)

    assert texts(tagged({"name": "value"}).properties) == ['{"name":"value"}']
    with pytest.raises(CorruptPayloadError, match="more than 9 bytes"):
        tagged({"name": "values"})


def test_a_small_block_takes_little_memory() -> None:
    """What a record claims to hold is not believed before it was seen to be there."""
    claims = [
        record(3, struct.pack("<QI", 1, 0xFFFFFFFF), dynamic=True),
        record(3, struct.pack("<QI", 1, 0), dynamic=True),
        record(1, struct.pack("<QBI", 1, 2, 0xFFFFFFFF), dynamic=True),
        record(0, struct.pack("<Q", 1), dynamic=True)[:1] + b"\xff\xff\xff\xff" + bytes(8),
    ]
    for claim in claims:
        with contextlib.suppress(CorruptPayloadError):
            logs(claim, b"")  # the plans of the table are kept, and no block's own
        tracemalloc.start()
        with contextlib.suppress(CorruptPayloadError):
            logs(claim, b"")
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()

        assert peak_bytes < 100_000


def test_a_long_text_that_every_event_shares_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs_module, "MESSAGE_BYTES_MAX", 99)

    assert len(messages(record(0, struct.pack("<Qq", DESC, 0)) * 9)) == 9
    with pytest.raises(CorruptPayloadError, match="100 bytes, more than 99"):
        messages(record(0, struct.pack("<Qq", DESC, 0)) * 10)


def test_distinct_scopes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spans_module, "SCOPES_MAX", 1 << 12)
    monkeypatch.setattr(spans_module, "_SCOPES_USUAL_MAX", 1 << 4)
    layout = compile_layout(*SPAN_TABLES)

    def block(count: int) -> tuple[bytes, bytes]:
        names = b"".join(static_string(number, f"frame {number}", index=2) for number in range(count))
        events = b"".join(record(2, struct.pack("<QQQq", 0x555555657618, n, 0, n)) for n in range(count))
        return SPAN_DEPENDENCIES + names, events

    events = read_spans(layout, *block(1 << 12))

    assert [events.scopes[code].name for code in events.scope.tolist()] == [f"frame {n}" for n in range(1 << 12)]
    with pytest.raises(CorruptPayloadError, match=r"more than \d+ distinct scopes, the next in object"):
        read_spans(layout, *block((1 << 12) + 1))


def test_kernels_can_be_warmed_up() -> None:
    for module in (kernels, text_kernels, event_kernels):
        module.warm_up()
