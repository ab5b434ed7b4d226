"""Telemetry of a Python program: logs, metrics and spans, batched in the background and sent to an ingestion server.

from lakeflight.telemetry import Telemetry, float_metric, span

with Telemetry("http://127.0.0.1:9000"):
    with span("load level"):
        float_metric("load time", 12.5, unit="ms")
"""

from lakeflight.telemetry.emitter import Telemetry
from lakeflight.telemetry.logging_handler import TelemetryHandler, log
from lakeflight.telemetry.metrics import float_metric, integer_metric
from lakeflight.telemetry.outbox import Statistics
from lakeflight.telemetry.recorder import Limits, suppressed
from lakeflight.telemetry.sink import HttpSink, Outcome, Sink
from lakeflight.telemetry.spans import async_span, named_async_span, named_span, span, span_fn

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
