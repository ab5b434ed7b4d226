"""The records of OTLP blocks as columns: log records, points of metrics, spans. Nothing loops over records in Python.

Which records are rows is settled here: spans need both times and both ids, points a time and a value. A time that int64
nanoseconds cannot hold is none. What is left out for it is counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakeflight.wire.otlp import kernels
from lakeflight.wire.otlp.json_text import Arrays, Entries, JsonText, Objects, Option, Values, chunks
from lakeflight.wire.otlp.scan import (
    FIXED64,
    LENGTH_DELIMITED,
    REPEATED,
    VARINT,
    Bools,
    Field,
    Int64s,
    Messages,
    Scan,
)
from lakeflight.wire.otlp.scopes import AT, LITERALS, Scopes, literal, option, ranges_of

TRACE_ID_BYTES: Final = 16
SPAN_ID_BYTES: Final = 8

SPAN_KINDS: Final = ("UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER")
SPAN_STATUSES: Final = ("UNSET", "OK", "ERROR")
_LEVELS: Final = np.array([4] + [6] * 4 + [5] * 4 + [4] * 4 + [3] * 4 + [2] * 4 + [1] * 4, np.int32)  # by severity
_NO_RECORDED_VALUE: Final = 1  # a flag of points
_EMPTY: Final = pa.scalar("", pa.string())
_NO_TEXT: Final = pa.scalar(None, pa.string())

Columns = dict[str, pa.Array]


class Rows(NamedTuple):
    """Some rows: the ordinal of the block that each is from, and their columns."""

    blocks: Int64s
    columns: Columns


@dataclass(frozen=True, slots=True)
class Records:
    """The rows of some blocks, made as they are taken."""

    rows: Iterator[Rows]
    left_out: int  # records that are no rows because their times make no sense


Read = Callable[[Sequence[bytes]], Records]


def read_logs(payloads: Sequence[bytes]) -> Records:
    """Columns ``time`` (0: not known), ``target``, ``level``, ``msg``, ``properties``.

    Raises:
        DamagedBlocksError: Some of the blocks cannot be decoded.
    """
    scan = Scan(payloads, LITERALS)
    scopes = Scopes.read(scan)
    records, scope_of = scopes.records
    time, observed, severity, severity_text, body, trace_id, span_id, event_name, pairs = scan.fields(
        records,
        (
            (1, FIXED64),
            (11, FIXED64),
            (2, VARINT),
            (3, LENGTH_DELIMITED),
            (5, LENGTH_DELIMITED),
            (9, LENGTH_DELIMITED),
            (10, LENGTH_DELIMITED),
            (12, LENGTH_DELIMITED),
            (6, REPEATED),
        ),
    )
    scan.check()

    entries = Entries(scan)
    of_scopes = scopes.ranges(entries)
    attributes = entries.add_pairs(records, 6, pairs)
    own = entries.add_options(
        (
            option("otel.trace_id", kernels.ENTRY_HEX, trace_id, trace_id.lengths == TRACE_ID_BYTES),
            option("otel.span_id", kernels.ENTRY_HEX, span_id, span_id.lengths == SPAN_ID_BYTES),
            option("otel.severity_text", kernels.ENTRY_TEXT, severity_text),
            option("otel.event_name", kernels.ENTRY_TEXT, event_name),
        ),
        records.blocks,
    )
    bodies = entries.add(0, 0, kernels.ENTRY_ANY, body.values, body.sizes, records.blocks)
    json = entries.seal()

    properties = json.objects(ranges_of(attributes, of_scopes[scope_of], own))
    messages = json.values(bodies, len(records))
    known = np.where(time.values > 0, time.values, np.maximum(observed.values, 0))
    in_range = (severity.values >= 0) & (severity.values < _LEVELS.size)
    level = _LEVELS[np.where(in_range, severity.values, 0)]
    target = pc.take(scopes.names(), pa.array(scope_of))

    def rows() -> Iterator[Rows]:
        for begin, end in chunks(scan, records.blocks, (properties, messages)):
            yield Rows(
                records.blocks[begin:end],
                {
                    "time": _numbers(known[begin:end]),
                    "target": target[begin:end],
                    "level": _numbers(level[begin:end]),
                    "msg": messages.write(begin, end),
                    "properties": properties.write(begin, end).dictionary_encode(),
                },
            )

    return Records(rows(), 0)


def read_spans(payloads: Sequence[bytes]) -> Records:
    """Columns of ``otel_spans`` from ``trace_id`` on.

    Raises:
        DamagedBlocksError: Some of the blocks cannot be decoded.
    """
    scan = Scan(payloads, LITERALS)
    scopes = Scopes.read(scan)
    spans, scope_of = scopes.records
    trace_id, span_id, parent, name, kind, start, end, status, pairs, with_events, with_links = scan.fields(
        spans,
        (
            (1, LENGTH_DELIMITED),
            (2, LENGTH_DELIMITED),
            (4, LENGTH_DELIMITED),
            (5, LENGTH_DELIMITED),
            (6, VARINT),
            (7, FIXED64),
            (8, FIXED64),
            (15, LENGTH_DELIMITED),
            (9, REPEATED),
            (11, REPEATED),
            (13, REPEATED),
        ),
    )
    message, code = scan.fields(scan.submessages(spans, status), ((2, LENGTH_DELIMITED), (3, VARINT)))
    events, event_firsts = scan.children(spans, 11, with_events)
    event_time, event_name, event_pairs = scan.fields(events, ((1, FIXED64), (2, LENGTH_DELIMITED), (3, REPEATED)))
    links, link_firsts = scan.children(spans, 13, with_links)
    link_trace, link_span, link_pairs = scan.fields(
        links, ((1, LENGTH_DELIMITED), (2, LENGTH_DELIMITED), (4, REPEATED))
    )
    scan.check()

    entries = Entries(scan)
    of_scopes = scopes.ranges(entries)
    attributes = entries.add_pairs(spans, 9, pairs)
    event_attributes = entries.add_pairs(events, 3, event_pairs)
    link_attributes = entries.add_pairs(links, 4, link_pairs)
    event_elements = _elements(
        entries,
        events,
        (
            ("attributes", kernels.ENTRY_OBJECT, None),
            ("name", kernels.ENTRY_TEXT, event_name),
            ("time", kernels.ENTRY_NUMBER, event_time),
        ),
    )
    link_elements = _elements(
        entries,
        links,
        (
            ("attributes", kernels.ENTRY_OBJECT, None),
            ("span_id", kernels.ENTRY_HEX, link_span),
            ("trace_id", kernels.ENTRY_HEX, link_trace),
        ),
    )
    json = entries.seal()

    has_ids = (trace_id.lengths == TRACE_ID_BYTES) & (span_id.lengths == SPAN_ID_BYTES)
    has_times = (start.values > 0) & (end.values > 0)
    kept = np.flatnonzero(has_ids & has_times)
    properties = json.objects(ranges_of(attributes, of_scopes[scope_of]))
    event_texts = json.arrays(ranges_of(event_attributes), event_elements, event_firsts)
    link_texts = json.arrays(ranges_of(link_attributes), link_elements, link_firsts)

    def rows() -> Iterator[Rows]:
        for begin, stop in chunks(scan, spans.blocks, (properties, event_texts, link_texts)):
            which = kept[np.searchsorted(kept, begin) : np.searchsorted(kept, stop)]
            taken = None if which.size == stop - begin else pa.array(which - begin)  # mostly all are kept
            status_message = scan.texts(message[which])
            yield Rows(
                spans.blocks[which],
                {
                    "trace_id": scan.binaries(trace_id[which], TRACE_ID_BYTES),
                    "span_id": scan.binaries(span_id[which], SPAN_ID_BYTES),
                    "parent_span_id": scan.binaries(parent[which], SPAN_ID_BYTES),
                    "start_time": _numbers(start.values[which]),
                    "end_time": _numbers(end.values[which]),
                    "duration": _numbers(end.values[which] - start.values[which]),
                    "name": scan.texts(name[which]).dictionary_encode(),
                    "kind": _named(SPAN_KINDS, kind.values[which]),
                    "status": _named(SPAN_STATUSES, code.values[which]),
                    "status_message": pc.if_else(pc.equal(status_message, _EMPTY), _NO_TEXT, status_message),
                    "properties": _taken(properties.write(begin, stop), taken),
                    "events": _taken(event_texts.write(begin, stop), taken),
                    "links": _taken(link_texts.write(begin, stop), taken),
                },
            )

    return Records(rows(), int(np.count_nonzero(has_ids & ((start.values < 0) | (end.values < 0)))))


def read_points(payloads: Sequence[bytes]) -> Records:
    """Columns ``time``, ``target``, ``name``, ``unit``, ``value``, ``properties``; of points of sums, gauges, summaries.

    Raises:
        DamagedBlocksError: Some of the blocks cannot be decoded.
    """
    scan = Scan(payloads, LITERALS)
    scopes = Scopes.read(scan)
    metrics, scope_of = scopes.records
    name, unit, gauge, total, summary = scan.fields(
        metrics,
        (
            (1, LENGTH_DELIMITED),
            (3, LENGTH_DELIMITED),
            (5, LENGTH_DELIMITED),
            (7, LENGTH_DELIMITED),
            (11, LENGTH_DELIMITED),
        ),
    )
    numbers = _Points.of_numbers(scan, metrics, gauge, total)
    summaries = _Points.of_summaries(scan, metrics, summary)
    scan.check()

    entries = Entries(scan)
    parts = [points for points in (numbers, summaries) if len(points.time)]
    if not parts:
        return Records(iter(()), 0)
    ranges = [points.add_to(entries) for points in parts]
    json = entries.seal()
    metric_of = np.concatenate([points.metric_of for points in parts])
    blocks = np.concatenate([points.messages.blocks for points in parts])
    rows_of = np.concatenate([points.rows() + before for points, before in zip(parts, _before(parts), strict=True)])
    properties = json.objects(np.concatenate(ranges))
    columns = {
        "time": np.concatenate([points.time for points in parts])[rows_of],
        "value": np.concatenate([points.values() for points in parts]),
    }
    suffixes = np.concatenate([points.suffixes() for points in parts])
    of_rows = metric_of[rows_of]
    plain = scan.texts(name)
    names = plain.take(pa.array(of_rows))
    if suffixes.any():
        names = pc.binary_join_element_wise(names, pa.array(_SUFFIXES).take(pa.array(suffixes)), "")
    unit_texts = scan.texts(unit).take(pa.array(of_rows))
    if (suffixes == _COUNT).any():
        unit_texts = pc.if_else(pa.array(suffixes == _COUNT), "", unit_texts)
    targets = pc.take(scopes.names(), pa.array(scope_of)).take(pa.array(of_rows))
    names, unit_texts = names.dictionary_encode(), unit_texts.dictionary_encode()

    def made() -> Iterator[Rows]:
        for begin, end in chunks(scan, blocks, (properties,)):
            # several rows have the text of one point, and the rows of a point may lie apart
            which = np.flatnonzero((rows_of >= begin) & (rows_of < end))
            texts = properties.write(begin, end)
            taken = pa.array(which)
            yield Rows(
                blocks[rows_of[which]],
                {
                    "time": _numbers(columns["time"][which]),
                    "target": targets.take(taken),
                    "name": names.take(taken),
                    "unit": unit_texts.take(taken),
                    "value": _numbers(columns["value"][which]),
                    "properties": texts.take(pa.array(rows_of[which] - begin)).dictionary_encode(),
                },
            )

    return Records(made(), sum(points.left_out for points in parts))


# --- points of metrics ------------------------------------------------------------------------------------------------

_PLAIN: Final = 0
_COUNT: Final = 1
_SUM: Final = 2
_LEAST: Final = 3
_GREATEST: Final = 4
_SUFFIXES: Final = ("", "_count", "_sum", "_min", "_max")


class _Value(NamedTuple):
    """A value that some points have; each is a row."""

    suffix: int
    values: Any  # float64
    present: Bools


@dataclass(frozen=True, slots=True)
class _Points:
    """Points that may be rows, each with the ordinal of its metric."""

    messages: Messages
    metric_of: Int64s
    time: Int64s
    flags: Int64s
    pairs: Field
    options: Sequence[Option]
    parts: Sequence[_Value]

    @classmethod
    def of_numbers(cls, scan: Scan, metrics: Messages, gauge: Field, total: Field) -> _Points:
        is_sum = total.present
        data = scan.submessages(
            metrics,
            Field(np.where(is_sum, total.values, gauge.values), np.where(is_sum, total.lengths, gauge.lengths)),
        )
        counts, temporality, is_monotonic = scan.fields(data, ((1, REPEATED), (2, VARINT), (3, VARINT)))
        points, _ = scan.children(data, 1, counts)
        metric_of = np.repeat(np.arange(len(metrics)), counts.values)
        time, as_double, as_int, flags, pairs = scan.fields(
            points, ((3, FIXED64), (4, FIXED64), (6, FIXED64), (8, VARINT), (7, REPEATED))
        )
        of_sum = is_sum[metric_of]
        monotonic = is_monotonic.values[metric_of] != 0
        every = np.ones(len(points), np.bool_)
        options = (
            literal("otel.metric.kind", np.where(of_sum[:, None], AT['"sum"'], AT['"gauge"']), every),
            Option(
                AT["otel.metric.aggregation_temporality"],
                kernels.ENTRY_NUMBER,
                temporality.values[metric_of],
                np.zeros(len(points), np.int64),
                of_sum,
            ),
            literal("otel.metric.is_monotonic", np.where(monotonic[:, None], AT["true"], AT["false"]), of_sum),
        )
        value = np.where(as_double.present, as_double.values.view(np.float64), as_int.values.astype(np.float64))
        parts = (_Value(_PLAIN, value, as_double.present | as_int.present),)
        return cls(points, metric_of, time.values, flags.values, pairs, options, parts)

    @classmethod
    def of_summaries(cls, scan: Scan, metrics: Messages, summary: Field) -> _Points:
        data = scan.submessages(metrics, summary)
        (counts,) = scan.fields(data, ((1, REPEATED),))
        points, _ = scan.children(data, 1, counts)
        metric_of = np.repeat(np.arange(len(metrics)), counts.values)
        time, count, total, flags, with_quantiles, pairs = scan.fields(
            points, ((3, FIXED64), (4, FIXED64), (5, FIXED64), (8, VARINT), (6, REPEATED), (7, REPEATED))
        )
        quantiles, _ = scan.children(points, 6, with_quantiles)
        quantile, value = scan.fields(quantiles, ((1, FIXED64), (2, FIXED64)))
        point_of = np.repeat(np.arange(len(points)), with_quantiles.values)
        at, values = quantile.values.view(np.float64), value.values.view(np.float64)
        every = np.ones(len(points), np.bool_)
        parts = (
            _Value(_COUNT, count.values.view(np.uint64).astype(np.float64), every),
            _Value(_SUM, total.values.view(np.float64), every),
            _Value(_LEAST, *_first_of(len(points), point_of[at == 0.0], values[at == 0.0])),
            _Value(_GREATEST, *_first_of(len(points), point_of[at == 1.0], values[at == 1.0])),
        )
        kind = np.broadcast_to(np.array(AT['"summary"'], np.int64), (len(points), 2))
        options = (literal("otel.metric.kind", kind, every),)
        return cls(points, metric_of, time.values, flags.values, pairs, options, parts)

    @property
    def kept(self) -> Bools:
        kept: Bools = (self.time > 0) & (self.flags & _NO_RECORDED_VALUE == 0)
        return kept

    @property
    def left_out(self) -> int:
        return int(np.count_nonzero(self.time < 0))

    def add_to(self, entries: Entries) -> Any:
        """The ranges of entries of each point."""
        attributes = entries.add_pairs(self.messages, 7, self.pairs)
        return ranges_of(attributes, entries.add_options(self.options, self.messages.blocks))

    def rows(self) -> Int64s:
        """The point of each row, in the order of the values."""
        return np.concatenate([np.flatnonzero(self.kept & part.present) for part in self.parts])

    def values(self) -> Any:
        return np.concatenate([part.values[self.kept & part.present] for part in self.parts])

    def suffixes(self) -> Any:
        counts = [int(np.count_nonzero(self.kept & part.present)) for part in self.parts]
        return np.repeat(np.array([part.suffix for part in self.parts]), counts)


def _first_of(points: int, point_of: Int64s, values: Any) -> tuple[Any, Bools]:
    """For each point the first of its values, and whether it has one."""
    found, present = np.zeros(points), np.zeros(points, np.bool_)
    found[point_of[::-1]] = values[::-1]
    present[point_of] = True
    return found, present


def _before(parts: Sequence[_Points]) -> list[int]:
    return [sum(len(points.messages) for points in parts[:number]) for number in range(len(parts))]


# --- entries and columns ----------------------------------------------------------------------------------------------


def _elements(entries: Entries, messages: Messages, members: Sequence[tuple[str, int, Field | None]]) -> Int64s:
    """Entries of messages that all have the same ones. Returns where those of each begin."""
    rows = len(messages)
    itself = Field(np.arange(rows), np.zeros(rows, np.int64))
    every = np.ones(rows, np.bool_)
    options = [option(key, kind, itself if value is None else value, every) for key, kind, value in members]
    return entries.add_options(options, messages.blocks)


def _named(names: Sequence[str], numbers: Int64s) -> pa.Array:
    """A column of a few names; a number that has none is the first."""
    codes = np.where((numbers >= 0) & (numbers < len(names)), numbers, 0).astype(np.int32)
    return pa.DictionaryArray.from_arrays(pa.array(codes), pa.array(names, pa.string()))


def _taken(array: pa.Array, which: pa.Array | None) -> pa.Array:
    """Some of the rows, or all of them."""
    return array if which is None else array.take(which)


def _numbers(values: Any) -> pa.Array:
    return pa.array(np.ascontiguousarray(values))


__all__ = [
    "Arrays",
    "JsonText",
    "Objects",
    "Read",
    "Records",
    "Rows",
    "Values",
    "read_logs",
    "read_points",
    "read_spans",
]
