"""What the program's threads recorded -> blocks. Takes from their buffers while they go on adding; sends nothing."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lakeflight.telemetry import metrics, spans
from lakeflight.telemetry.recorder import LogEvent, TaggedMetric, ThreadBuffers
from lakeflight.wire.transit.writer import (
    EncodedBlock,
    LogBlockBuilder,
    LogMetadata,
    MetricBlockBuilder,
    SpanBlockBuilder,
)


def take_records(buffer: bytearray, dtype: np.dtype[np.void]) -> NDArray[np.void]:
    """Take whole records off the front; the thread may go on adding at the end. Each step is one atomic call."""
    length = len(buffer) // dtype.itemsize * dtype.itemsize
    taken = buffer[:length]
    del buffer[:length]
    return np.frombuffer(taken, dtype)


def take_tagged(events: list[TaggedMetric]) -> list[TaggedMetric]:
    count = len(events)
    taken = events[:count]
    del events[:count]
    return taken


def take_logs(buffers: ThreadBuffers) -> list[LogEvent]:
    count = len(buffers.logs)
    taken = buffers.logs[:count]
    del buffers.logs[:count]
    buffers.log_chars_taken += sum(len(event.message) for event in taken)
    return taken


def encode_logs(events: list[LogEvent]) -> EncodedBlock:
    builder = LogBlockBuilder()
    for event in events:
        statement = LogMetadata(event.target, event.level, event.template, event.module, event.file, event.line)
        if event.properties:
            builder.tagged(statement, event.ticks, event.message, event.properties)
        else:
            builder.message(statement, event.ticks, event.message)
    return builder.finish()


def encode_metrics(records: NDArray[np.void], tagged: list[TaggedMetric]) -> EncodedBlock:
    builder = MetricBlockBuilder()
    records = records[np.argsort(records["ticks"], kind="stable")]
    builder.extend(
        metrics.metrics,
        records["code"],
        records["ticks"],
        records["value"],
        integer=records["kind"] == metrics.INTEGER,
    )
    for event in tagged:
        metric = metrics.metrics[event.code]
        if isinstance(event.value, int):
            builder.add_integer(metric, event.ticks, event.value, event.properties)
        else:
            builder.add_float(metric, event.ticks, event.value, event.properties)
    return builder.finish()


def encode_spans(sync: NDArray[np.void], asynchronous: NDArray[np.void]) -> EncodedBlock:
    builder = SpanBlockBuilder()
    builder.extend(spans.scopes, sync["kind"], sync["code"], sync["ticks"])
    builder.extend_async(
        spans.scopes,
        *(asynchronous[name] for name in ("kind", "code", "ticks", "span_id", "parent_span_id", "depth")),
    )
    return builder.finish()
