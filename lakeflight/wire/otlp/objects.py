"""Every record of an OTLP block as JSON text, rows or not: what was sent, and what its scope and resource say beside it.

A record is its own OTLP/JSON, and members of our making: ``__type``, ``__attributes``, ``__resource``, ``__scope``, of a
point ``__metric``. Those four are as views have properties: an object by the names of the attributes. A metric without
points has no record.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakeflight.wire.otlp import LOGS_FORMAT, METRICS_FORMAT, TRACES_FORMAT, kernels
from lakeflight.wire.otlp.documents import ROOTS, Documents
from lakeflight.wire.otlp.json_text import Arrays, Entries, JsonText, Objects, Option, chunks, runs
from lakeflight.wire.otlp.scan import LENGTH_DELIMITED, REPEATED, VARINT, Field, Int64s, Messages, Scan
from lakeflight.wire.otlp.scopes import AT, LITERALS, Scopes, literal, option, ranges_of
from lakeflight.wire.transit.objects import BlockObjects, check_text_bytes

_NUMBERS: Final = {name: number for number, name in enumerate(ROOTS)}
_ATTRIBUTES: Final = (6, 9, 7, 9, 1, 7)  # the numbers of the field, by those of the messages
_RECORD_BYTES_MIN: Final = len('{"__attributes":{},"__resource":{},"__scope":{},"__type":"otlp.Span"}')
_TYPES: Final = pa.array([f"otlp.{name}" for name in ROOTS])

# of a metric, by the numbers of their fields: what its points are, and what it is called
_POINTS: Final = (
    (5, "NumberDataPoint", '"gauge"'),
    (7, "NumberDataPoint", '"sum"'),
    (9, "HistogramDataPoint", '"histogram"'),
    (10, "ExponentialHistogramDataPoint", '"exponential_histogram"'),
    (11, "SummaryDataPoint", '"summary"'),
)
_GAUGE, _SUM, _SUMMARY = 0, 1, 4


def read_objects(otlp_format: str, payload: bytes) -> Iterator[BlockObjects]:
    """The records of one block, in their order, some at a time.

    Raises:
        DamagedBlocksError: The block cannot be decoded. Nothing has been given out then.
        CorruptPayloadError: The text would be too long.
    """
    scan = Scan([payload], LITERALS)
    scopes = Scopes.read(scan)
    yield from _texts(scan, scopes, *_READ[otlp_format](scan, scopes))


@dataclass(frozen=True, slots=True)
class _Records:
    messages: Messages
    kinds: Int64s
    scope_of: Int64s


def _texts(scan: Scan, scopes: Scopes, records: _Records, metrics: _Metrics | None) -> Iterator[BlockObjects]:
    (resource,) = scan.fields(scan.roots, ((1, LENGTH_DELIMITED),))
    resources = scan.submessages(scan.roots, resource)
    (resource_pairs,) = scan.fields(resources, ((1, REPEATED),))
    scan.check()
    check_text_bytes(len(records.messages) * _RECORD_BYTES_MIN)

    entries = Entries(scan)
    of_scopes = scopes.ranges(entries)
    of_resources = ranges_of(entries.add_pairs(resources, 1, resource_pairs))
    attributes = _attributes(entries, records)
    of_metrics = None if metrics is None else metrics.add_to(entries)
    sealed = entries.seal()
    documents = Documents.of(scan, records.messages, records.kinds)
    of_records = sealed.objects(attributes)

    common: list[tuple[str, Any, Int64s]] = []  # a member, its texts, and which of them each record has
    if metrics is not None and of_metrics is not None:
        common.append(("__metric", metrics.write(sealed, of_metrics), metrics.metric_of))
    common.append(("__resource", _whole(sealed.objects(of_resources)), records.messages.blocks))
    common.append(("__scope", _whole(sealed.objects(of_scopes)), records.scope_of))
    sizes = sum(pc.binary_length(texts).to_numpy().astype(np.int64)[which] for _, texts, which in common)
    written = 0
    for begin, end in chunks(scan, records.messages.blocks, (of_records, documents)):
        names = _TYPES.take(pa.array(records.kinds[begin:end]))
        pieces = ['{"__attributes":', of_records.write(begin, end)]
        members = documents.write(begin, end)
        written += int(np.sum(sizes[begin:end])) + sum(map(_bytes_of, (pieces[1], names, members)))
        check_text_bytes(written)
        for name, texts, which in common:
            pieces += [f',"{name}":', texts.take(pa.array(which[begin:end]))]
        values = pc.binary_join_element_wise(*pieces, ',"__type":"', names, '"', members, "}", "")
        yield BlockObjects(names.dictionary_encode(), values)


def _attributes(entries: Entries, records: _Records) -> Any:
    """The range of entries that each record has."""
    ranges = np.zeros((len(records.messages), 1, 2), np.int64)
    for kind in np.unique(records.kinds).tolist():
        rows = np.flatnonzero(records.kinds == kind)
        number = _ATTRIBUTES[kind]
        (counts,) = entries.scan.fields(records.messages[rows], ((number, REPEATED),))
        ranges[rows] = ranges_of(entries.add_pairs(records.messages[rows], number, counts))
    return ranges


def _whole(column: Objects | Arrays) -> Any:
    """All texts of a column, which are no more than a block may have."""
    parts, written = [pa.array([], pa.string())], 0
    for begin, end in runs(column.sizes):
        parts.append(column.write(begin, end))
        written += _bytes_of(parts[-1])
        check_text_bytes(written)
    return pa.concat_arrays(parts)


def _bytes_of(texts: Any) -> int:
    return int(pc.sum(pc.binary_length(texts)).as_py() or 0)


# --- what the records of a signal are ---------------------------------------------------------------------------------


def _read_logs(scan: Scan, scopes: Scopes) -> tuple[_Records, None]:
    return _alike(scopes, "LogRecord"), None


def _read_spans(scan: Scan, scopes: Scopes) -> tuple[_Records, None]:
    return _alike(scopes, "Span"), None


def _alike(scopes: Scopes, name: str) -> _Records:
    messages, scope_of = scopes.records
    return _Records(messages, np.full(len(messages), _NUMBERS[name], np.int64), scope_of)


@dataclass(frozen=True, slots=True)
class _Metrics:
    """Metrics, and which of them each point is of."""

    messages: Messages
    metric_of: Int64s
    options: Sequence[Option]
    metadata: Field

    def add_to(self, entries: Entries) -> tuple[Any, Int64s]:
        """The ranges of what each metric is described by, and where the entries of each begin."""
        metadata = entries.add_pairs(self.messages, 12, self.metadata)
        return ranges_of(metadata), entries.add_options(self.options, self.messages.blocks)

    def write(self, sealed: JsonText, added: tuple[Any, Int64s]) -> Any:
        """An object for each: what is written is an array that has it alone."""
        ranges, elements = added
        arrays = sealed.arrays(ranges, elements, np.arange(len(self.messages) + 1))
        return pc.utf8_slice_codeunits(_whole(arrays), 1, -1)


def _read_points(scan: Scan, scopes: Scopes) -> tuple[_Records, _Metrics]:
    metrics, scope_of = scopes.records
    name, description, unit, metadata, *data = scan.fields(
        metrics,
        (
            *((number, LENGTH_DELIMITED) for number in (1, 2, 3)),
            (12, REPEATED),
            *((number, LENGTH_DELIMITED) for number, _, _ in _POINTS),
        ),
    )
    # of alternatives the last one that was sent: it starts last
    starts = np.stack([np.where(one.present, one.values, -1) for one in data])
    kinds = starts.argmax(axis=0)
    lengths = np.stack([one.lengths for one in data])
    each = np.arange(len(metrics))
    held = scan.submessages(metrics, Field(np.maximum(starts[kinds, each], 0), lengths[kinds, each]))
    counts, temporality, is_monotonic = scan.fields(held, ((1, REPEATED), (2, VARINT), (3, VARINT)))
    points, _ = scan.children(held, 1, counts)
    used = np.flatnonzero(counts.values)
    metrics, scope_of, kinds, counts = metrics[used], scope_of[used], kinds[used], counts[used]
    name, description, unit, metadata = (one[used] for one in (name, description, unit, metadata))
    temporality, is_monotonic = temporality[used], is_monotonic[used]
    metric_of = np.repeat(np.arange(len(metrics)), counts.values)

    monotonic = is_monotonic.values != 0
    every = np.ones(len(metrics), np.bool_)
    itself = Field(np.arange(len(metrics)), np.zeros(len(metrics), np.int64))
    labels = np.array([AT[label] for _, _, label in _POINTS], np.int64)
    options = (  # in the order of their names
        option("description", kernels.ENTRY_TEXT, description, every),
        option("name", kernels.ENTRY_TEXT, name, every),
        Option(
            *(AT["otel.metric.aggregation_temporality"], kernels.ENTRY_NUMBER, temporality.values),
            *(np.zeros(len(metrics), np.int64), (kinds != _GAUGE) & (kinds != _SUMMARY)),
        ),
        literal("otel.metric.is_monotonic", np.where(monotonic[:, None], AT["true"], AT["false"]), kinds == _SUM),
        literal("otel.metric.kind", labels[kinds], every),
        option("otel.metric.metadata", kernels.ENTRY_OBJECT, itself, metadata.values > 0),
        option("unit", kernels.ENTRY_TEXT, unit, every),
    )
    roots = np.array([_NUMBERS[message] for _, message, _ in _POINTS], np.int64)
    records = _Records(points, roots[kinds][metric_of], scope_of[metric_of])
    return records, _Metrics(metrics, metric_of, options, metadata)


_READ: Final[Mapping[str, Callable[[Scan, Scopes], tuple[_Records, _Metrics | None]]]] = {
    LOGS_FORMAT: _read_logs,
    METRICS_FORMAT: _read_points,
    TRACES_FORMAT: _read_spans,
}

__all__ = ["read_objects"]
