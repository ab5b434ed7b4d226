"""What the builders write, the readers of the lake read: every event type, value by value."""

from __future__ import annotations

import json

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lakeflight.wire.transit.columns import Codes
from lakeflight.wire.transit.layout import StreamLayout, compile_layout
from lakeflight.wire.transit.logs import read_logs
from lakeflight.wire.transit.metrics import read_metrics
from lakeflight.wire.transit.spans import read_spans, scope_hash
from lakeflight.wire.transit.types import LOG_TYPES, METRIC_TYPES, SPAN_TYPES, StreamTypes
from lakeflight.wire.transit.writer import (
    LogBlockBuilder,
    LogMetadata,
    MetricBlockBuilder,
    MetricMetadata,
    NamedSpan,
    Scope,
    SpanBlockBuilder,
    SpanLocation,
    SpanMetadata,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
TICKS = st.integers(-(1 << 62), 1 << 62)
PROPERTIES = st.dictionaries(TEXT.filter(lambda key: key not in ("target", "level", "name", "unit")), TEXT, max_size=4)


def layout_of(types: StreamTypes) -> StreamLayout:
    return compile_layout(types.dependencies_metadata, types.objects_metadata)


def texts(column: Codes) -> list[str]:
    return [column.values[code] for code in column.codes]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["static", "message", "tagged", "static_interop", "interop"]), TICKS, TEXT, TEXT,
                  st.integers(1, 6), PROPERTIES),
        max_size=20,
    )
)  # fmt: skip
def test_logs(events: list[tuple[str, int, str, str, int, dict[str, str]]]) -> None:
    builder = LogBlockBuilder()
    expected = []
    for kind, ticks, target, message, level, properties in events:
        statement = LogMetadata(target, level, message, "module", "file", 1)
        match kind:
            case "static":
                builder.static(statement, ticks)
            case "message":
                builder.message(statement._replace(fmt_str=""), ticks, message)
            case "tagged":
                builder.tagged(statement, ticks, message, properties)
            case "static_interop":
                builder.static_interop(target, level, ticks, message)
            case _:
                builder.interop(target, level, ticks, message)
        expected.append((ticks, target, level, message, properties if kind == "tagged" else {}))

    block = builder.finish()
    read = read_logs(layout_of(LOG_TYPES), block.dependencies, block.objects)

    properties_read = [json.loads(text) for text in texts(read.properties)]
    assert list(
        zip(
            read.ticks.tolist(), texts(read.target), read.level.tolist(), read.msg.to_pylist(), properties_read,
            strict=True,
        )
    ) == expected  # fmt: skip
    assert (read.skipped, block.nb_objects) == (0, len(events))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.one_of(st.integers(0, (1 << 64) - 1), st.floats(allow_nan=False)),
            TICKS,
            TEXT,
            TEXT,
            st.none() | PROPERTIES,
        ),
        max_size=20,
    )
)
def test_metrics(events: list[tuple[int | float, int, str, str, dict[str, str] | None]]) -> None:
    builder = MetricBlockBuilder()
    for value, ticks, name, unit, properties in events:
        metric = MetricMetadata(name, unit, "target", "file", 3)
        if isinstance(value, int):
            builder.add_integer(metric, ticks, value, properties)
        else:
            builder.add_float(metric, ticks, value, properties)

    block = builder.finish()
    read = read_metrics(layout_of(METRIC_TYPES), block.dependencies, block.objects)

    assert read.ticks.tolist() == [event[1] for event in events]
    assert read.value.tolist() == [float(event[0]) for event in events]
    assert read.integer.tolist() == [isinstance(event[0], int) for event in events]
    assert texts(read.name) == [event[2] for event in events]
    assert texts(read.unit) == [event[3] for event in events]
    assert texts(read.target) == ["target"] * len(events)
    assert [json.loads(text) for text in texts(read.properties)] == [event[4] or {} for event in events]


SCOPES: list[Scope] = [
    SpanMetadata("static", "target", "module", "file", 3),
    NamedSpan("named", SpanLocation("target", "module", "file", 4)),
    SpanMetadata("", "", "", "", 0),
    NamedSpan("", SpanLocation()),
]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 3), TICKS), max_size=30), st.booleans())
def test_spans(events: list[tuple[int, int, int]], with_async: bool) -> None:
    builder = SpanBlockBuilder()
    kinds = np.array([event[0] for event in events], np.uint8)
    codes = np.array([event[1] for event in events], np.int32)
    ticks = np.array([event[2] for event in events], np.int64)
    if with_async:
        ones = np.ones(len(events), np.uint64)
        builder.extend_async(SCOPES, kinds, codes, ticks, ones, ones, ones)
    builder.extend(SCOPES, kinds, codes, ticks)

    block = builder.finish()
    read = read_spans(layout_of(SPAN_TYPES), block.dependencies, block.objects)

    first = len(events) if with_async else 0
    assert read.kind.tolist() == kinds.tolist()
    assert read.ticks.tolist() == ticks.tolist()
    assert read.index.tolist() == list(range(first, first + len(events)))
    assert read.objects == block.nb_objects == first + len(events)
    for code, written in zip(read.scope, codes, strict=True):
        scope, asked = read.scopes[code], SCOPES[written]
        place = asked.location if isinstance(asked, NamedSpan) else asked
        assert (scope.name, scope.file, scope.target, scope.line) == (asked.name, place.file, place.target, place.line)
        assert scope.hash == scope_hash(scope.name, scope.file, scope.target, scope.line)
