"""Sends one of everything with the published SDK of OpenTelemetry, and prints as JSON what it sent.

Usage: send.py http|grpc ENDPOINT SERVICE. Runs in an environment of its own, which has the SDK and nothing of lakeflight.
"""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Link, SpanKind, Status, StatusCode

SPANS = 300
LINES = 200


def main() -> None:
    protocol, endpoint, service = sys.argv[1:]
    if protocol == "http":
        from opentelemetry.exporter.otlp.proto.http import Compression
        from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        spans = OTLPSpanExporter(f"{endpoint}/v1/traces", compression=Compression.Gzip)
        metrics = OTLPMetricExporter(f"{endpoint}/v1/metrics", compression=Compression.Deflate)
        logs = OTLPLogExporter(f"{endpoint}/v1/logs")
    else:
        import grpc
        from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
        from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

        spans = OTLPSpanExporter(endpoint, insecure=True, compression=grpc.Compression.Gzip)
        metrics = OTLPMetricExporter(endpoint, insecure=True)
        logs = OTLPLogExporter(endpoint, insecure=True)

    resource = Resource.create({"service.name": service, "host.name": "h", "ratio": 0.5, "tags": ["a", "b"]})
    print(
        json.dumps(
            {"spans": send_spans(resource, spans), "logs": send_logs(resource, logs), **send_metrics(resource, metrics)}
        )
    )


def send_spans(resource: Resource, exporter: Any) -> list[dict[str, Any]]:
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(exporter, max_export_batch_size=64))
    tracer = provider.get_tracer("shop", "0.9", attributes={"team": "blue"})
    made = []
    with tracer.start_as_current_span("root", kind=SpanKind.SERVER) as root:
        made.append(root)
        for number in range(SPANS):
            links = [Link(root.get_span_context(), {"why": number})] if number % 3 == 0 else []
            attributes = {"i": number, "f": number / 2, "b": True, "s": "ü", "list": [1, 2]}
            with tracer.start_as_current_span(
                "child", kind=SpanKind.CLIENT, links=links, attributes=attributes
            ) as span:
                span.add_event("begun", {"k": number})
                if number % 5 == 0:
                    span.set_status(Status(StatusCode.ERROR, "boom"))
                made.append(span)
    provider.shutdown()
    return [described(span) for span in made]


def described(span: Any) -> dict[str, Any]:
    return {
        "trace_id": f"{span.context.trace_id:032x}",
        "span_id": f"{span.context.span_id:016x}",
        "parent_span_id": None if span.parent is None else f"{span.parent.span_id:016x}",
        "start_time": span.start_time,
        "end_time": span.end_time,
        "duration": span.end_time - span.start_time,
        "name": span.name,
        "kind": span.kind.name,
        "status": span.status.status_code.name,
        "status_message": span.status.description,
        "properties": {
            **{key: list(value) if isinstance(value, tuple) else value for key, value in span.attributes.items()},
            "otel.scope.name": "shop",
            "otel.scope.version": "0.9",
            "otel.scope.attr.team": "blue",
        },
        "events": [{"time": e.timestamp, "name": e.name, "attributes": dict(e.attributes)} for e in span.events],
        "links": [
            {
                "trace_id": f"{link.context.trace_id:032x}",
                "span_id": f"{link.context.span_id:016x}",
                "attributes": dict(link.attributes),
            }
            for link in span.links
        ],
    }


def send_logs(resource: Resource, exporter: Any) -> list[dict[str, Any]]:
    provider = LoggerProvider(resource=resource)
    provider.add_log_record_processor(BatchLogRecordProcessor(exporter, max_export_batch_size=64))
    logger = logging.getLogger("shop.cart")
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    logger.addHandler(LoggingHandler(logger_provider=provider))
    levels = ((logging.DEBUG, 5), (logging.INFO, 4), (logging.WARNING, 3), (logging.ERROR, 2), (logging.CRITICAL, 1))
    made = []
    for number in range(LINES):
        level, expected = levels[number % len(levels)]
        logger.log(level, "line %d 😀", number, extra={"order": number, "vip": number % 2 == 0})
        made.append(
            {
                "target": "shop.cart",
                "level": expected,
                "msg": f"line {number} 😀",
                "order": number,
                "vip": number % 2 == 0,
            }
        )
    provider.shutdown()
    return made


def send_metrics(resource: Resource, exporter: Any) -> dict[str, Any]:
    exponential = View(instrument_name="wide", aggregation=ExponentialBucketHistogramAggregation())
    reader = PeriodicExportingMetricReader(exporter, export_interval_millis=3_600_000)
    provider = MeterProvider(resource=resource, metric_readers=[reader], views=[exponential])
    meter = provider.get_meter("shop.meter")
    orders = meter.create_counter("orders", unit="1")
    orders.add(7, {"country": "ca"})
    orders.add(5, {"country": "fr"})
    meter.create_up_down_counter("queue", unit="items").add(-3)
    meter.create_gauge("temperature", unit="Cel").set(21.5, {"room": "é"})
    narrow, wide = meter.create_histogram("narrow"), meter.create_histogram("wide")
    for value in (1, 20, 300, 0.001):
        narrow.record(value)
        wide.record(value)
    provider.shutdown()

    def sum_of(name: str, unit: str, value: float, monotonic: bool, **attributes: Any) -> dict[str, Any]:
        kinds = {"kind": "sum", "aggregation_temporality": 2, "is_monotonic": monotonic}
        properties = {f"otel.metric.{key}": value for key, value in kinds.items()} | attributes
        return {"target": "shop.meter", "name": name, "unit": unit, "value": value, "properties": properties}

    gauge = {"otel.metric.kind": "gauge", "room": "é"}
    return {
        "metrics": [
            sum_of("orders", "1", 7.0, True, country="ca"),
            sum_of("orders", "1", 5.0, True, country="fr"),
            sum_of("queue", "items", -3.0, False),
            {"target": "shop.meter", "name": "temperature", "unit": "Cel", "value": 21.5, "properties": gauge},
        ],
        "points": 6,
    }


if __name__ == "__main__":
    main()
