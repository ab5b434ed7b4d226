"""Where events wait between the program that makes them and the thread that encodes them.

Each thread appends to buffers of its own, without a lock: a span or a measurement is one packed record added by one
call, which no other thread, signal handler or finalizer can cut in two; the encoding thread takes whole records off
the front. Every buffer has a limit; beyond it events are counted and dropped, and the program goes on.

Refuses to encode, to send, and to raise: telemetry never breaks the program it watches.
"""

from __future__ import annotations

import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from time import perf_counter_ns, time_ns
from typing import Final, NamedTuple
from uuid import uuid4

from lakeflight.printable import printable


@dataclass(frozen=True, slots=True)
class Limits:
    """Everything here that can grow, and how far."""

    span_bytes_per_thread_max: int = 8 << 20  # 17 bytes an event: about 500,000 between two flushes
    metric_bytes_per_thread_max: int = 4 << 20  # 25 bytes each
    tagged_metrics_per_thread_max: int = 50_000
    logs_per_thread_max: int = 50_000
    log_chars_per_thread_max: int = 8 << 20
    threads_max: int = 1024  # at once; what more of them record is dropped
    message_chars_max: int = 1 << 18  # a longer log message is cut, and says so
    properties_max: int = 64  # of one event; one more says how many were left out
    property_chars_max: int = 1 << 16  # a longer name or value is cut, and says so
    outbox_bytes_max: int = 64 << 20  # encoded and waiting for the server; spans may fill half of it


class LogEvent(NamedTuple):
    """One log line as its thread left it; ``ticks`` first, so that lines of several threads sort by time."""

    ticks: int
    target: str
    level: int
    template: str  # the format string, if the message was made from one
    module: str
    file: str
    line: int
    message: str
    properties: dict[str, str] | None


class TaggedMetric(NamedTuple):
    """One measurement with properties."""

    ticks: int
    code: int
    value: int | float
    properties: dict[str, str]


class Stamp(NamedTuple):
    """One instant on both clocks."""

    ticks: int
    time_ns: int


TICKS_PER_SECOND: Final = 1_000_000_000
ELLIPSIS: Final = "\u2026"
_SAMPLES: Final = 5
_SHOWN_CHARS_MAX: Final = 80  # of what a complaint quotes


def stamp() -> Stamp:
    """Read both clocks together: of a few tries the one with the least time between the readings."""
    best: tuple[int, Stamp] | None = None
    for _ in range(_SAMPLES):
        before = perf_counter_ns()
        now = time_ns()
        after = perf_counter_ns()
        if best is None or after - before < best[0]:
            best = after - before, Stamp((before + after) // 2, now)
    assert best is not None
    return best[1]


class _Pulse:
    """Lives as long as its thread, because only the thread's own storage refers to it."""

    __slots__ = ("__weakref__",)


class ThreadBuffers:
    """What one thread has recorded and nobody has taken yet. Written by its thread, taken from by one other."""

    __slots__ = (
        "async_spans",
        "block_begin",
        "dropped_logs",
        "dropped_metrics",
        "dropped_spans",
        "log_chars_added",
        "log_chars_taken",
        "logs",
        "metrics",
        "pulse",
        "span_count",
        "spans",
        "stream_id",
        "tagged_metrics",
        "thread_id",
        "thread_name",
    )

    def __init__(self, pulse: _Pulse) -> None:
        self.spans = bytearray()
        self.async_spans = bytearray()
        self.metrics = bytearray()
        self.tagged_metrics: list[TaggedMetric] = []
        self.logs: list[LogEvent] = []
        self.log_chars_added = 0  # by the thread; the taker has a counter of its own, so that neither loses an update
        self.log_chars_taken = 0
        self.dropped_logs = 0
        self.dropped_metrics = 0
        self.dropped_spans = 0
        self.thread_id = threading.get_native_id()
        self.thread_name = threading.current_thread().name
        self.pulse = weakref.ref(pulse)
        self.stream_id = str(uuid4())
        self.span_count = 0  # objects in earlier blocks
        self.block_begin = stamp()  # before the thread's first event

    @property
    def is_empty(self) -> bool:
        return not (self.spans or self.async_spans or self.metrics or self.tagged_metrics or self.logs)


class Recorder:
    """The buffers of all threads of one process."""

    def __init__(self, limits: Limits, start: Callable[[], None], wake: Callable[[], None]) -> None:
        """``start`` is called when a thread records for the first time, ``wake`` to ask for an early flush."""
        self.limits = limits
        self._pid = os.getpid()
        self.wake_when_half_full()
        self.dropped_threads = 0
        self.dropped_logs = 0  # of these threads; where there are buffers, they count
        self.dropped_metrics = 0
        self.dropped_spans = 0
        self.errors = 0  # events that could not be recorded, of any kind
        self._has_complained = False
        self._start = start
        self._wake = wake
        self.local = threading.local()
        self._lock = threading.RLock()  # a signal handler may make the first event of a thread that is making it
        self._threads: list[ThreadBuffers] = []

    def wake_when_half_full(self) -> None:
        limits = self.limits
        self.span_wake_bytes = limits.span_bytes_per_thread_max // 2
        self.metric_wake_bytes = limits.metric_bytes_per_thread_max // 2
        self._tagged_wake = limits.tagged_metrics_per_thread_max // 2
        self._log_wake = limits.logs_per_thread_max // 2
        self._log_chars_wake = limits.log_chars_per_thread_max // 2

    def wake_at_every_event(self) -> None:
        """While there is nobody who encodes."""
        self.span_wake_bytes = self.metric_wake_bytes = self._tagged_wake = self._log_wake = self._log_chars_wake = 0

    def buffers(self) -> ThreadBuffers | None:
        """This thread's buffers; ``None`` where there are too many threads."""
        try:
            known: ThreadBuffers | None = self.local.buffers
        except AttributeError:
            return self._enter_thread()
        return known

    def threads(self) -> list[ThreadBuffers]:
        with self._lock:
            return list(self._threads)

    def forget(self, gone: list[ThreadBuffers]) -> None:
        with self._lock:
            self._threads = [buffers for buffers in self._threads if buffers not in gone]

    def admit_span(self, buffers: ThreadBuffers, pending_bytes: int) -> bool:
        """Decide about one more span, past the mark where the encoder must hurry."""
        self._wake()
        if pending_bytes < self.limits.span_bytes_per_thread_max:
            return True
        buffers.dropped_spans += 1
        return False

    def admit_metric(self, buffers: ThreadBuffers, pending_bytes: int) -> bool:
        self._wake()
        if pending_bytes < self.limits.metric_bytes_per_thread_max:
            return True
        buffers.dropped_metrics += 1
        return False

    def add_tagged_metric(self, buffers: ThreadBuffers, metric: TaggedMetric) -> None:
        pending = len(buffers.tagged_metrics)
        if pending >= self._tagged_wake:
            self._wake()
            if pending >= self.limits.tagged_metrics_per_thread_max:
                buffers.dropped_metrics += 1
                return
        buffers.tagged_metrics.append(metric)

    def drop_measurement(self, name: object, value: object, wanted: str) -> None:
        """Count one that cannot be recorded; the first is said on standard error."""
        self.errors += 1
        if self._has_complained:
            return
        self._has_complained = True
        with suppress(Exception):  # of a value that cannot be shown
            shown = f"{value!r:.{_SHOWN_CHARS_MAX}}"
            complain(f"metric {name!r:.{_SHOWN_CHARS_MAX}}: no {wanted}: {shown}; dropped, and further ones in silence")

    def add_log(self, event: LogEvent) -> None:
        buffers = self.buffers()
        if buffers is None:
            self.dropped_logs += 1
            return
        limits = self.limits
        pending = len(buffers.logs)
        chars = buffers.log_chars_added - buffers.log_chars_taken
        if pending >= self._log_wake or chars >= self._log_chars_wake:
            self._wake()
            if pending >= limits.logs_per_thread_max or chars >= limits.log_chars_per_thread_max:
                buffers.dropped_logs += 1
                return
        buffers.log_chars_added += len(event.message)
        buffers.logs.append(event)

    def _enter_thread(self) -> ThreadBuffers | None:
        if os.getpid() != self._pid:  # of a span that was open at a fork: the lock may be held for ever, nobody encodes
            return None
        with self._lock:
            pulse = _Pulse()
            buffers: ThreadBuffers | None = None
            if len(self._threads) < self.limits.threads_max:
                buffers = ThreadBuffers(pulse)
                self._threads.append(buffers)
            else:
                self.dropped_threads += 1
            self.local.pulse = pulse
            self.local.buffers = buffers
        self._start()
        return buffers


def complain(text: str) -> None:
    """One line on standard error, whatever the program has put there; nothing of a peer's text moves its cursor."""
    with suppress(Exception):  # it may be closed, or no stream at all
        if sys.stderr is not None:
            sys.stderr.write(f"lakeflight telemetry: {printable(text)}\n")


def property_text(value: object) -> str:
    """The text of a property: as it is, ``true`` and ``false``, else what ``str`` makes of it."""
    if type(value) is str:
        return value
    if value is True or value is False:
        return "true" if value else "false"
    return str(value)


def shortened(text: str, chars_max: int) -> str:
    """The text, or its first characters and how many are missing, ``chars_max`` in all."""
    if len(text) <= chars_max:
        return text
    room = len(_left_out(len(text)))
    if room >= chars_max:  # no place for a number
        return text[: chars_max - 1] + ELLIPSIS
    kept = chars_max - room
    return text[:kept] + _left_out(len(text) - kept)


def _left_out(chars: int) -> str:
    return f"{ELLIPSIS} ({chars} characters left out)"


def clean_properties(properties: Mapping[str, object], limits: Limits) -> dict[str, str]:
    """Text keys and values within the limits; what has no value is left out."""
    cleaned: dict[str, str] = {}
    left_out = 0
    for key, value in properties.items():
        if value is None:
            continue
        if len(cleaned) == limits.properties_max:
            left_out += 1
            continue
        name = shortened(property_text(key), limits.property_chars_max)
        cleaned[name] = shortened(property_text(value), limits.property_chars_max)
    if left_out:
        cleaned[ELLIPSIS] = f"{left_out} properties left out"
    return cleaned


# --- the recorder in use --------------------------------------------------------------------------------------------

current: Recorder | None = None  # read on every event, so it is a plain name

_suppressed: Final[ContextVar[bool]] = ContextVar("lakeflight_telemetry_suppressed", default=False)
is_suppressed: Final = _suppressed.get


def install(recorder: Recorder | None) -> None:
    """Send the events of this process to ``recorder``; ``None`` to nobody."""
    global current
    current = recorder


def suppress_for_good() -> None:
    """For threads of the telemetry itself: nothing they do is telemetry."""
    _suppressed.set(True)


@contextmanager
def suppressed() -> Iterator[None]:
    """Record nothing inside: for a server that is handling its own telemetry, which would never come to an end."""
    token = _suppressed.set(True)
    try:
        yield
    finally:
        _suppressed.reset(token)
