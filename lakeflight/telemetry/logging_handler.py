"""Log lines from the standard ``logging`` module.

The message is the line's text; what was passed as ``extra`` becomes properties, and an exception becomes the
properties ``exception.type``, ``exception.message`` and ``exception.stacktrace``. A message that is a mapping, as
``structlog`` hands it on, is taken apart: its ``event`` is the text, the rest are properties. Readers let properties
named ``target`` and ``level`` override the event's own, as the original does.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Mapping
from itertools import islice
from time import perf_counter_ns
from typing import Final

from lakeflight.telemetry import recorder as _recorder
from lakeflight.telemetry.recorder import LogEvent, Recorder, clean_properties, is_suppressed, property_text, shortened

FATAL: Final = 1
ERROR: Final = 2
WARN: Final = 3
INFO: Final = 4
DEBUG: Final = 5
TRACE: Final = 6

_OWN_FIELDS: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_OWN_FIELDS_COUNT: Final = len(vars(logging.makeLogRecord({})))


# what the record itself says already, and what is no value but machinery
_STRUCTLOG_FIELDS: Final = frozenset(
    {"event", "level", "logger", "logger_name", "timestamp", "exc_info", "stack_info"}
    | {"_record", "_from_structlog", "_logger", "_name"}
)


def level_of(levelno: int) -> int:
    """The lake's level of a level of ``logging``."""
    if levelno >= logging.CRITICAL:
        return FATAL
    if levelno >= logging.ERROR:
        return ERROR
    if levelno >= logging.WARNING:
        return WARN
    if levelno >= logging.INFO:
        return INFO
    return DEBUG if levelno >= logging.DEBUG else TRACE


def _lake_level(level: object) -> int:
    """The nearest level there is; a line is worth more than its level, so what is no number counts as information."""
    try:
        return min(max(int(level), FATAL), TRACE)  # type: ignore[call-overload, no-any-return]
    except Exception:
        return INFO


def log(target: str, level: int, message: str, properties: Mapping[str, object] | None = None) -> None:
    """Record one line directly; ``level`` is 1 (fatal) to 6 (trace)."""
    recorder = _recorder.current
    if recorder is None or is_suppressed():
        return
    try:
        cleaned = clean_properties(properties, recorder.limits) if properties else None
        text = shortened(property_text(message), recorder.limits.message_chars_max)
        where = property_text(target)
        recorder.add_log(LogEvent(perf_counter_ns(), where, _lake_level(level), "", "", "", 0, text, cleaned))
    except Exception:
        recorder.errors += 1


class TelemetryHandler(logging.Handler):
    """Hands log records to a recorder. Holds no lock: each thread has buffers of its own."""

    def __init__(self, level: int = 0, recorder: Callable[[], Recorder | None] | None = None) -> None:
        """``recorder`` says whose; without one, that of the ``Telemetry`` that is installed."""
        super().__init__(level)
        self._recorder = recorder

    def createLock(self) -> None:
        self.lock = None

    def handle(self, record: logging.LogRecord) -> bool:
        verdict = self.filter(record)
        if isinstance(verdict, logging.LogRecord):
            record = verdict
        if verdict:
            self.emit(record)
        return bool(verdict)

    def emit(self, record: logging.LogRecord) -> None:
        recorder = self._recorder() if self._recorder is not None else _recorder.current
        if recorder is None or is_suppressed():
            return
        try:
            recorder.add_log(_event_of(record, recorder))
        except Exception:
            recorder.errors += 1


def _event_of(record: logging.LogRecord, recorder: Recorder) -> LogEvent:
    ticks = perf_counter_ns()
    fields: Mapping[str, object] = record.msg if isinstance(record.msg, dict) else {}
    try:
        message = property_text(fields.get("event", "")) if fields else property_text(record.getMessage())
    except Exception:  # arguments that do not fit the format: the line is worth more than they are
        message = str(record.msg)
    message = shortened(message, recorder.limits.message_chars_max)
    properties: dict[str, str] | None = None
    if fields or len(record.__dict__) > _OWN_FIELDS_COUNT or record.exc_info or record.exc_text or record.stack_info:
        properties = _properties_of(record, fields, recorder)
    return LogEvent(
        ticks,
        property_text(record.name),
        level_of(record.levelno),
        shortened(record.msg, recorder.limits.message_chars_max) if record.args and type(record.msg) is str else "",
        property_text(record.module),
        property_text(record.pathname),
        record.lineno if type(record.lineno) is int else 0,
        message,
        properties or None,
    )


def _properties_of(record: logging.LogRecord, fields: Mapping[str, object], recorder: Recorder) -> dict[str, str]:
    # what a record is born with comes first
    later = islice(record.__dict__.items(), _OWN_FIELDS_COUNT, None)
    found: dict[str, object] = {key: value for key, value in later if key not in _OWN_FIELDS}
    if fields:
        found = {key: value for key, value in {**found, **fields}.items() if key not in _STRUCTLOG_FIELDS}
    if record.exc_info:
        kind, error, _ = record.exc_info
        if kind is not None:
            found["exception.type"] = f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")
            found["exception.message"] = _text_of(error)
            found["exception.stacktrace"] = "".join(traceback.format_exception(*record.exc_info))
    elif record.exc_text:
        found["exception.stacktrace"] = record.exc_text
    if record.stack_info:
        found["stack"] = record.stack_info
    return clean_properties(found, recorder.limits)


def _text_of(error: BaseException | None) -> str:
    try:
        return str(error)
    except Exception:
        return "(an exception without a text)"
