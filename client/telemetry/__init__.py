"""Telemetry of a Python program: logs, metrics and spans, batched in the background and sent to an ingestion server.

from client.telemetry import Telemetry, float_metric, span

with Telemetry("http://127.0.0.1:9000"):
    with span("load level"):
        float_metric("load time", 12.5, unit="ms")
"""

from client.telemetry.emitter import Statistics, Telemetry
from client.telemetry.logging_handler import TelemetryHandler, log
from client.telemetry.metrics import float_metric, integer_metric
from client.telemetry.recorder import Limits, suppressed
from client.telemetry.sink import HttpSink, Outcome, Sink
from client.telemetry.spans import async_span, named_async_span, named_span, span, span_fn

__all__ = [
    "HttpSink",
    "Limits",
    "Outcome",
    "Sink",
    "Statistics",
    "Telemetry",
    "TelemetryHandler",
    "async_span",
    "float_metric",
    "integer_metric",
    "log",
    "named_async_span",
    "named_span",
    "span",
    "span_fn",
    "suppressed",
]
