"""OTLP for tests: random requests, their JSON, and a slow, obvious reading of their records."""

from __future__ import annotations

import base64
import json
import math
import random
from typing import Any

from lakeflight.wire.otlp.messages import MESSAGES
from lakeflight.wire.otlp.resources import LOGS, METRICS, TRACES, Signal

NOW_NS = 1_800_000_000_000_000_000
TEXTS = ("", "a", "shop.cart", "ü", '😀 and \u0001\n"\\', "\u2028", "x" * 70, "otel.scope.name", "k", "\0")
DOUBLES = (0.0, -0.0, 1.0, 0.1, -2.5e-300, 1e308, 1e16, 123456789.125, math.inf, -math.inf, math.nan, 5e-324)
INTEGERS = (0, 1, -1, 7, 10, 99, -100, (1 << 63) - 1, -(1 << 63), 1 << 40)
TIMES = (NOW_NS, NOW_NS + 999, 1, NOW_NS - 10**15, 0, 1 << 63)


# --- random requests --------------------------------------------------------------------------------------------------


def random_request(chance: random.Random, signal: Signal) -> Any:
    """A request of every shape that a sender may make, absent fields and odd lengths of ids included."""
    request = signal.request()
    for _ in range(chance.randrange(4)):
        resource = getattr(request, signal.resources).add()
        if chance.random() < 0.8:
            _attributes(chance, resource.resource.attributes, 4)
            if chance.random() < 0.5:
                resource.resource.attributes.add(key="service.name").value.string_value = chance.choice(TEXTS)
        scopes = {LOGS: "scope_logs", METRICS: "scope_metrics", TRACES: "scope_spans"}[signal]
        for _ in range(chance.randrange(3)):
            scope = getattr(resource, scopes).add()
            if chance.random() < 0.7:
                scope.scope.name, scope.scope.version = chance.choice(TEXTS), chance.choice(TEXTS)
                _attributes(chance, scope.scope.attributes, 3)
            scope.schema_url = chance.choice(TEXTS)
            for _ in range(chance.randrange(5)):
                _RECORDS[signal](chance, scope)
    return request


def _log(chance: random.Random, scope: Any) -> None:
    record = scope.log_records.add()
    record.time_unix_nano, record.observed_time_unix_nano = chance.choice(TIMES), chance.choice(TIMES)
    record.severity_number = chance.choice((*range(26), -1, 1 << 30))
    record.severity_text, record.event_name = chance.choice(TEXTS), chance.choice(TEXTS)
    record.trace_id, record.span_id = _id(chance, 16), _id(chance, 8)
    if chance.random() < 0.9:
        _value(chance, record.body, 3)
    _attributes(chance, record.attributes, 5)


def _span(chance: random.Random, scope: Any) -> None:
    span = scope.spans.add()
    span.trace_id, span.span_id, span.parent_span_id = _id(chance, 16), _id(chance, 8), _id(chance, 8)
    span.name, span.kind = chance.choice(TEXTS), chance.choice((*range(7), -1))
    span.start_time_unix_nano, span.end_time_unix_nano = chance.choice(TIMES), chance.choice(TIMES)
    _attributes(chance, span.attributes, 5)
    if chance.random() < 0.6:
        span.status.code, span.status.message = chance.randrange(4), chance.choice(TEXTS)
    for _ in range(chance.randrange(3)):
        event = span.events.add(time_unix_nano=chance.choice(TIMES[:4]), name=chance.choice(TEXTS))
        _attributes(chance, event.attributes, 3)
    for _ in range(chance.randrange(3)):
        link = span.links.add(trace_id=_id(chance, 16), span_id=_id(chance, 8))
        _attributes(chance, link.attributes, 3)


def _metric(chance: random.Random, scope: Any) -> None:
    metric = scope.metrics.add(name=chance.choice(TEXTS), unit=chance.choice(TEXTS), description="d")
    kind = chance.choice(("gauge", "sum", "histogram", "exponential_histogram", "summary", ""))
    if not kind:
        return
    data = getattr(metric, kind)
    data.SetInParent()
    if kind == "sum":
        data.aggregation_temporality, data.is_monotonic = chance.randrange(3), chance.random() < 0.5
    for _ in range(chance.randrange(4)):
        point = data.data_points.add(time_unix_nano=chance.choice(TIMES), flags=chance.choice((0, 0, 0, 1, 2)))
        _attributes(chance, point.attributes, 3)
        if kind in ("gauge", "sum"):
            if chance.random() < 0.5:
                point.as_double = chance.choice(DOUBLES)
            elif chance.random() < 0.9:
                point.as_int = chance.choice(INTEGERS)
        else:
            point.count = chance.choice((0, 5, (1 << 64) - 1))
            if kind != "summary" or chance.random() < 0.7:
                point.sum = chance.choice(DOUBLES[:8])
        if kind == "summary":
            for _ in range(chance.randrange(4)):
                point.quantile_values.add(quantile=chance.choice((0.0, 0.5, 1.0)), value=chance.choice(DOUBLES[1:]))
        elif chance.random() < 0.3:
            exemplar = point.exemplars.add(time_unix_nano=NOW_NS, trace_id=_id(chance, 16), span_id=_id(chance, 8))
            exemplar.as_int = chance.choice(INTEGERS)
        if kind == "histogram":
            point.bucket_counts.extend((1, 2, 3))
            point.explicit_bounds.extend((0.5, 1.5))
        if kind == "exponential_histogram":
            point.scale, point.zero_count = -3, 2
            point.positive.offset = -7
            point.positive.bucket_counts.extend((1, 0, 4))


_RECORDS = {LOGS: _log, METRICS: _metric, TRACES: _span}


def _id(chance: random.Random, size: int) -> bytes:
    return chance.randbytes(chance.choice((size, size, size, size, 0, size - 1, size + 1)))


def _attributes(chance: random.Random, into: Any, at_most: int) -> None:
    for _ in range(chance.randrange(at_most + 1)):
        pair = into.add(key=chance.choice((*TEXTS, "zz", "otel.metric.kind", "otel.trace_id")))
        if chance.random() < 0.9:
            _value(chance, pair.value, 3)


def _value(chance: random.Random, value: Any, depth: int) -> None:
    match chance.randrange(9 if depth else 6):
        case 0 | 1:
            value.string_value = chance.choice(TEXTS)
        case 2:
            value.bool_value = chance.random() < 0.5
        case 3:
            value.int_value = chance.choice(INTEGERS)
        case 4:
            value.double_value = chance.choice(DOUBLES)
        case 5:
            value.bytes_value = chance.randbytes(chance.randrange(6))
        case 6:
            value.array_value.SetInParent()
            for _ in range(chance.randrange(4)):
                _value(chance, value.array_value.values.add(), depth - 1)
        case 7:
            value.kvlist_value.SetInParent()
            for _ in range(chance.randrange(4)):
                pair = value.kvlist_value.values.add(key=chance.choice(TEXTS))
                if chance.random() < 0.9:
                    _value(chance, pair.value, depth - 1)


# --- JSON -------------------------------------------------------------------------------------------------------------

_HEXADECIMAL = {"trace_id", "span_id", "parent_span_id"}
_LONG = {3, 4, 6, 16}  # 64-bit numbers, which are text in protobuf's JSON


def as_json(message: Any) -> bytes:
    """The request as OTLP/JSON has it."""
    return json.dumps(_json_of(message)).encode()


def _json_of(message: Any) -> dict[str, Any]:
    written: dict[str, Any] = {}
    for field, value in message.ListFields():
        convert = _json_value(field)
        written[field.json_name] = [convert(one) for one in value] if field.is_repeated else convert(value)
    return written


def _json_value(field: Any) -> Any:
    if field.message_type is not None:
        return _json_of
    if field.name in _HEXADECIMAL:
        return lambda value: value.hex()
    if field.type == field.TYPE_BYTES:
        return lambda value: base64.b64encode(value).decode()
    if field.type == field.TYPE_DOUBLE:
        return lambda value: value if math.isfinite(value) else _special(value)
    return str if field.type in _LONG else (lambda value: value)


def _special(value: float) -> str:
    return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")


# --- the rows of records, one by one ----------------------------------------------------------------------------------


def rows_of(signal: Signal, resource: bytes) -> list[dict[str, Any]]:
    """What the records of an encoded resource are as rows, beside what they have of their block."""
    name = {LOGS: "ResourceLogs", METRICS: "ResourceMetrics", TRACES: "ResourceSpans"}[signal]
    message = MESSAGES[name].FromString(resource)
    return list({LOGS: _log_rows, METRICS: _metric_rows, TRACES: _span_rows}[signal](message))


def _plain(value: Any) -> Any:
    kind = value.WhichOneof("value")
    match kind:
        case None:
            return None
        case "array_value":
            return [_plain(one) for one in value.array_value.values]
        case "kvlist_value":
            return mapping(value.kvlist_value.values)
        case "bytes_value":
            return base64.b64encode(value.bytes_value).decode()
        case "double_value" if not math.isfinite(value.double_value):
            return _special(value.double_value)
    return getattr(value, kind)


def mapping(pairs: Any) -> dict[str, Any]:
    return {pair.key: _plain(pair.value) for pair in pairs}


def in_scope(scope: Any, attributes: Any) -> dict[str, Any]:
    found = mapping(attributes)
    found |= {f"otel.scope.attr.{pair.key}": _plain(pair.value) for pair in scope.scope.attributes}
    more = {
        "otel.scope.name": scope.scope.name,
        "otel.scope.version": scope.scope.version,
        "otel.scope.schema_url": scope.schema_url,
    }
    return found | {key: text for key, text in more.items() if text}


def _time(nanoseconds: int) -> int:
    return nanoseconds if nanoseconds < 1 << 63 else 0


def _log_rows(resource: Any) -> Any:
    levels = (6, 6, 6, 6, 5, 5, 5, 5, 4, 4, 4, 4, 3, 3, 3, 3, 2, 2, 2, 2, 1, 1, 1, 1)
    for scope in resource.scope_logs:
        for record in scope.log_records:
            properties = in_scope(scope, record.attributes)
            if len(record.trace_id) == 16:
                properties["otel.trace_id"] = record.trace_id.hex()
            if len(record.span_id) == 8:
                properties["otel.span_id"] = record.span_id.hex()
            if record.severity_text:
                properties["otel.severity_text"] = record.severity_text
            if record.event_name:
                properties["otel.event_name"] = record.event_name
            number = record.severity_number
            yield {
                "time": _time(record.time_unix_nano) or _time(record.observed_time_unix_nano),
                "target": scope.scope.name,
                "level": levels[number - 1] if 1 <= number <= 24 else 4,
                "msg": _body(record.body),
                "properties": properties,
            }


def _body(value: Any) -> Any:
    match value.WhichOneof("value"):
        case None:
            return ""
        case "string_value" | "bytes_value":
            return _plain(value)
        case "double_value" if math.isfinite(value.double_value):
            return value.double_value
        case "double_value":
            return _special(value.double_value)
    return _plain(value)


def _span_rows(resource: Any) -> Any:
    kinds = ("UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER")
    for scope in resource.scope_spans:
        for span in scope.spans:
            start, end = _time(span.start_time_unix_nano), _time(span.end_time_unix_nano)
            if not start or not end or len(span.trace_id) != 16 or len(span.span_id) != 8:
                continue
            yield {
                "trace_id": span.trace_id,
                "span_id": span.span_id,
                "parent_span_id": span.parent_span_id if len(span.parent_span_id) == 8 else None,
                "start_time": start,
                "end_time": end,
                "duration": end - start,
                "name": span.name,
                "kind": kinds[span.kind] if 0 <= span.kind < 6 else "UNSPECIFIED",
                "status": ("UNSET", "OK", "ERROR", "UNSET")[span.status.code],
                "status_message": span.status.message or None,
                "properties": in_scope(scope, span.attributes),
                "events": [
                    {"time": event.time_unix_nano, "name": event.name, "attributes": mapping(event.attributes)}
                    for event in span.events
                ],
                "links": [
                    {
                        "trace_id": link.trace_id.hex(),
                        "span_id": link.span_id.hex(),
                        "attributes": mapping(link.attributes),
                    }
                    for link in span.links
                ],
            }


def _metric_rows(resource: Any) -> Any:
    for scope in resource.scope_metrics:
        for metric in scope.metrics:
            kind = metric.WhichOneof("data")
            if kind not in ("gauge", "sum", "summary"):
                continue
            data = getattr(metric, kind)
            for point in data.data_points:
                if not _time(point.time_unix_nano) or point.flags & 1:
                    continue
                properties = mapping(point.attributes) | {"otel.metric.kind": kind}
                if kind == "sum":
                    properties["otel.metric.aggregation_temporality"] = data.aggregation_temporality
                    properties["otel.metric.is_monotonic"] = data.is_monotonic
                for suffix, value in _values(kind, point):
                    yield {
                        "time": point.time_unix_nano,
                        "target": scope.scope.name,
                        "name": metric.name + suffix,
                        "unit": "" if suffix == "_count" else metric.unit,
                        "value": float(value),
                        "properties": properties,
                    }


def _values(kind: str, point: Any) -> Any:
    if kind != "summary":
        alternative = point.WhichOneof("value")
        if alternative is not None:
            yield "", getattr(point, alternative)
        return
    yield "_count", point.count
    yield "_sum", point.sum
    for suffix, wanted in (("_min", 0.0), ("_max", 1.0)):
        found = [quantile.value for quantile in point.quantile_values if quantile.quantile == wanted]
        if found:
            yield suffix, found[0]
