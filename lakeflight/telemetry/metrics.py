"""Measurements: a number with a name and a unit, at a time.

Names and units are meant to be part of the program; what varies goes into ``properties``. Without a recorder in use
these functions do nothing, and they never raise: a value that is no number is counted, dropped, and said once.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping
from struct import Struct
from time import perf_counter_ns
from types import FrameType
from typing import Final, SupportsFloat, SupportsIndex, SupportsInt

import numpy as np

from lakeflight.telemetry import recorder as _recorder
from lakeflight.telemetry.recorder import Recorder, TaggedMetric, clean_properties, is_suppressed
from lakeflight.wire.transit.writer import MetricMetadata

METRICS_MAX: Final = 65_536  # names times places; more are dropped, because each is kept as long as the process runs

INTEGER: Final = 0
FLOAT: Final = 1
METRIC_RECORD: Final = np.dtype([("kind", "u1"), ("code", "<i8"), ("value", "<u8"), ("ticks", "<i8")])
_pack_integer: Final = Struct("<BqQq").pack
_pack_float: Final = Struct("<Bqdq").pack
_U64_MAX: Final = (1 << 64) - 1

# codes are positions in the table; both only grow, so a reader needs no lock
metrics: Final[list[MetricMetadata]] = []
_codes: Final[dict[tuple[object, ...], int]] = {}
_lock = threading.RLock()
_NO_ROOM: Final = -1


def _code_of_call(name: str, unit: str, frame: FrameType) -> int:
    """The metric at a place in the program; the place is looked up once."""
    code = frame.f_code
    key = (name, unit, code.co_filename, code.co_firstlineno, frame.f_lasti)
    known = _codes.get(key)
    if known is not None:
        return known
    with _lock:
        if len(metrics) >= METRICS_MAX:
            return _NO_ROOM
        target = str(frame.f_globals.get("__name__", ""))
        metrics.append(MetricMetadata(str(name), str(unit), target, code.co_filename, frame.f_lineno or 0))
        _codes[key] = len(metrics) - 1
        return _codes[key]


def renew_lock() -> None:
    """After a fork: another thread may have held the lock, and that thread is not here."""
    global _lock
    _lock = threading.RLock()


def integer_metric(
    name: str,
    value: SupportsIndex | SupportsInt,
    *,
    unit: str = "count",
    properties: Mapping[str, object] | None = None,
) -> None:
    """Record a whole number, of whatever type: ``2.0`` is one.

    One that 64 unsigned bits cannot hold, as every negative one, is recorded as a float. ``2.9`` is dropped as no number.
    """
    recorder = _recorder.current
    if recorder is None or is_suppressed():
        return
    try:
        number = value if type(value) is int else _whole(value)
        if not 0 <= number <= _U64_MAX:
            _record_float(recorder, name, float(number), unit, properties, sys._getframe(1))
            return
        buffers = recorder.buffers()
        code = _code_of_call(name, unit, sys._getframe(1))
        if buffers is None:
            recorder.dropped_metrics += 1
            return
        if code == _NO_ROOM:
            buffers.dropped_metrics += 1
        elif properties:
            cleaned = clean_properties(properties, recorder.limits)
            recorder.add_tagged_metric(buffers, TaggedMetric(perf_counter_ns(), code, number, cleaned))
        else:
            events = buffers.metrics
            if len(events) < recorder.metric_wake_bytes or recorder.admit_metric(buffers, len(events)):
                events += _pack_integer(INTEGER, code, number, perf_counter_ns())
    except Exception:
        recorder.drop_measurement(name, value, "whole number")


def _whole(value: SupportsIndex | SupportsInt) -> int:
    if isinstance(value, SupportsIndex):
        return value.__index__()
    number = int(value)
    if number != value:
        raise ValueError(value)
    return number


def float_metric(
    name: str, value: SupportsFloat, *, unit: str = "none", properties: Mapping[str, object] | None = None
) -> None:
    """Record a real number."""
    recorder = _recorder.current
    if recorder is None or is_suppressed():
        return
    try:
        _record_float(recorder, name, value, unit, properties, sys._getframe(1))
    except Exception:
        recorder.drop_measurement(name, value, "number")


def _record_float(
    recorder: Recorder,
    name: str,
    value: SupportsFloat,
    unit: str,
    properties: Mapping[str, object] | None,
    frame: FrameType,
) -> None:
    buffers = recorder.buffers()
    code = _code_of_call(name, unit, frame)
    if buffers is None:
        recorder.dropped_metrics += 1
        return
    if code == _NO_ROOM:
        buffers.dropped_metrics += 1
    elif properties:
        cleaned = clean_properties(properties, recorder.limits)
        recorder.add_tagged_metric(buffers, TaggedMetric(perf_counter_ns(), code, float(value), cleaned))
    else:
        events = buffers.metrics
        if len(events) < recorder.metric_wake_bytes or recorder.admit_metric(buffers, len(events)):
            events += _pack_float(FLOAT, code, value, perf_counter_ns())
