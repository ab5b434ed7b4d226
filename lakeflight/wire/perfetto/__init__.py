"""Traces for Perfetto: spans to packets, a batch at a time. The other direction is Perfetto's."""

from lakeflight.wire.perfetto.trace import Spans, TraceWriter, track_uuid

__all__ = ["Spans", "TraceWriter", "track_uuid"]
