"""The telemetry of one process: what it recorded, encoded in blocks and brought to an ingestion server.

Two daemon threads do the work. One takes what the program's threads have recorded, every few seconds, and makes blocks
of it: one stream of logs, one of metrics, one of spans per thread. The other sends: process and streams before blocks,
then logs, metrics, spans. A server that is slow or away costs the program nothing but telemetry: every queue has a
limit, what is lost is counted in ``statistics``, and the lake is told in a log line of ``lakeflight.telemetry``.

After a fork the child is a process of its own, with the parent's id as its parent. The end of a program sends what is
left, and so does that of a child of ``multiprocessing``; one that ends by a signal or by ``os._exit`` must ``flush``
before. Refuses to raise into the program, to record what its own threads do, to outlive the program by more than a few
seconds, and to print more than one line an hour.
"""

from __future__ import annotations

import atexit
import getpass
import os
import platform
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path
from queue import Empty, SimpleQueue
from time import monotonic, perf_counter_ns, sleep
from types import TracebackType
from typing import Final, Literal
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from lakeflight.telemetry import metrics as _metrics
from lakeflight.telemetry import recorder as _recorder
from lakeflight.telemetry import spans as _spans
from lakeflight.telemetry.logging_handler import WARN, TelemetryHandler
from lakeflight.telemetry.recorder import (
    TICKS_PER_SECOND,
    Limits,
    LogEvent,
    Recorder,
    Stamp,
    TaggedMetric,
    ThreadBuffers,
    stamp,
)
from lakeflight.telemetry.sink import ATTEMPT_TIMEOUT_S, HttpSink, Outcome, Sink
from lakeflight.wire.envelope import ProcessRequest, encode_block, encode_process, encode_stream
from lakeflight.wire.identifiers import canonical_uuid
from lakeflight.wire.transit.types import LOG_TYPES, METRIC_TYPES, SPAN_TYPES, StreamTypes
from lakeflight.wire.transit.writer import (
    BEGIN,
    EncodedBlock,
    LogBlockBuilder,
    LogMetadata,
    MetricBlockBuilder,
    SpanBlockBuilder,
    describe_stream,
)

PARENT_VARIABLE: Final = "MICROMEGAS_TELEMETRY_PARENT_PROCESS"  # set by programs on any sink, ours included

# the order in which requests go out, and how often each is tried again
METADATA: Final = 0
LOGS: Final = 1
METRICS: Final = 2
SPANS: Final = 3
_CLASSES: Final = 4
_RETRIES: Final = (0, 5, 2, 1)  # metadata is never given up while the program runs: without it nothing can be seen
_RETRY_DELAY_FIRST_S: Final = 0.01
_RETRY_DELAY_FACTOR: Final = 10
_RETRY_DELAY_MAX_S: Final = 10.0
_RETRIES_AT_EXIT: Final = 2
CLOSE_TIMEOUT_S: Final = 5.0

OWN_TARGET: Final = "lakeflight.telemetry"
LOSS_REPORT_INTERVAL_S: Final = 10.0  # a log line about losses comes no more often
COMPLAINT_INTERVAL_S: Final = 3600.0  # nor a line on standard error
START_RETRY_INTERVAL_S: Final = 1.0  # nor a try to start a thread where the system had none, except to flush and close
_TRIES_BEFORE_COMPLAINT: Final = 3
_TRIED_AGAIN: Final = "it is tried again; what does not fit into memory meanwhile is lost"
_AFTER_EVERYTHING: Final = -100  # a priority of multiprocessing's finalizers: others may still log


@dataclass(slots=True)
class Statistics:
    """What became of the telemetry so far."""

    blocks_sent: int = 0
    bytes_sent: int = 0
    requests_retried: int = 0
    requests_refused: int = 0  # by the server, for good
    requests_dropped: int = 0  # given up: no room, too many tries, nobody to send them, or not to be encoded
    dropped_logs: int = 0  # lines that no server has: no room for them, or their block was dropped or refused
    dropped_metrics: int = 0
    dropped_spans: int = 0
    dropped_threads: int = 0  # of which nothing is recorded
    errors: int = 0  # events that could not be recorded, blocks that could not be encoded


@dataclass(frozen=True, slots=True)
class _Request:
    path: str
    body: bytes
    urgency: int
    events: int = 0  # of the program: lines, measurements, spans that begin


@dataclass(frozen=True, slots=True)
class Losses:
    """Events that no server has, by kind."""

    logs: int = 0
    metrics: int = 0
    spans: int = 0

    def __str__(self) -> str:
        return f"{self.logs} log lines, {self.metrics} metrics, {self.spans} spans"


class _Outbox:
    """Encoded requests that wait for the server; never more than a number of bytes of blocks."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._queues: tuple[deque[_Request], ...] = tuple(deque() for _ in range(_CLASSES))
        self._changed = threading.Condition()
        self._in_flight = False
        self._closed = False

    def put(self, request: _Request) -> bool:
        """Queue a request; false if there is no room. Metadata always has room."""
        share = self._bytes_max // 2 if request.urgency == SPANS else self._bytes_max
        with self._changed:
            if request.urgency != METADATA:
                if self._bytes + len(request.body) > share:
                    return False
                self._bytes += len(request.body)
            self._queues[request.urgency].append(request)
            self._changed.notify_all()
            return True

    def take(self) -> _Request | None:
        """The most urgent request; waits for one. ``None`` once the box is closed and empty."""
        with self._changed:
            while True:
                for queue in self._queues:
                    if queue:
                        request = queue.popleft()
                        if request.urgency != METADATA:
                            self._bytes -= len(request.body)
                        self._in_flight = True
                        return request
                if self._closed:
                    return None
                self._changed.wait()

    def done(self) -> None:
        with self._changed:
            self._in_flight = False
            self._changed.notify_all()

    def close(self) -> None:
        """Nothing more will be put; whoever waits between two tries wakes up."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def discard(self) -> list[_Request]:
        """Throw everything away, and say what that was."""
        with self._changed:
            thrown = [request for queue in self._queues for request in queue]
            for queue in self._queues:
                queue.clear()
            self._bytes = 0
            return thrown

    def pause(self, seconds: float) -> bool:
        """Wait between two tries; true if the box was closed meanwhile."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed, seconds)
            return self._closed

    @property
    def is_closed(self) -> bool:
        return self._closed

    def wait_empty(self, deadline: float) -> bool:
        with self._changed:
            return self._changed.wait_for(
                lambda: not self._in_flight and not any(self._queues), max(0.0, deadline - monotonic())
            )


class _StreamState:
    """Where the next block of a stream begins."""

    __slots__ = ("announced", "begin", "objects", "stream_id")

    def __init__(self, begin: Stamp, stream_id: str | None = None) -> None:
        self.stream_id = stream_id or str(uuid4())
        self.begin = begin
        self.objects = 0
        self.announced = False


class _Run:
    """One process as the server sees it, with the two threads that serve it. A fork starts another."""

    def __init__(self, telemetry: Telemetry, parent_process_id: str | None) -> None:
        self.process_id = str(uuid4())
        self.statistics = Statistics()
        self._parent_process_id = parent_process_id
        self._exe = telemetry.exe
        self._properties = dict(telemetry.properties)
        self._interval_s = telemetry.flush_interval_s
        self._endpoint = telemetry.endpoint
        self._sink = telemetry.make_sink()
        self._failing = False
        self._loss_lock = threading.Lock()  # both threads lose things
        self._reported = Losses()
        self._next_report = 0.0
        self.next_complaint = 0.0
        self._wakes: SimpleQueue[threading.Event | None] = SimpleQueue()
        self._wake_pending = False
        self._stopping = False
        self._deadline = float("inf")
        self._start_lock = threading.RLock()
        self._starting = False
        self._start_trouble = ""
        self._next_start = float("inf")  # of a try after one that failed
        self._loops = (("encode", self._encode_loop), ("send", self._send_loop))
        self._threads: list[threading.Thread] = []  # those that were started, in the order of the loops
        self._outbox = _Outbox(telemetry.limits.outbox_bytes_max)
        self.recorder = Recorder(telemetry.limits, self.start, self.wake)
        self._start = stamp()
        self._process_announced = False
        self._logs = _StreamState(self._start)
        self._metrics = _StreamState(self._start)
        self._spans: dict[str, _StreamState] = {}

    # --- called by the program's threads ---

    def wake(self) -> None:
        """Ask for an early flush. ``SimpleQueue.put`` may be called from a signal handler."""
        if not self._wake_pending:
            self._wake_pending = True
            self._wakes.put(None)
        if monotonic() >= self._next_start:
            self.start()

    def start(self) -> None:
        """Start the two threads unless they run: with the first event, so that an idle program has none.

        Where the system has no thread for them, or the interpreter is ending, a later event tries again.
        """
        with self._start_lock:
            if self._is_running or self._stopping or self._starting:
                return
            self._starting = True  # a signal handler may come here in the midst of it
            try:
                for name, loop in self._loops[len(self._threads) :]:
                    self._start_thread(name, loop)
            except Exception as error:
                self._start_trouble = str(error)
                self._next_start = monotonic() + START_RETRY_INTERVAL_S
                self.recorder.wake_at_every_event()
            else:
                if self._start_trouble:
                    self._start_trouble = ""
                    self._next_start = float("inf")
                    self.recorder.wake_when_half_full()
            finally:
                self._starting = False
        if self._start_trouble:
            self._complain(_TRIED_AGAIN)

    def _start_thread(self, name: str, loop: Callable[[], None]) -> None:
        thread = threading.Thread(target=loop, name=f"lakeflight-telemetry-{name}", daemon=True)
        try:
            thread.start()
        finally:
            if thread.ident is not None:  # it runs, also if a signal handler raised meanwhile
                self._threads.append(thread)

    @property
    def _is_running(self) -> bool:
        return len(self._threads) == len(self._loops)

    def _start_if_needed(self) -> bool:
        """Try once more where something was recorded; false if there is something and nobody to send it."""
        if self._is_running or not self.recorder.threads():
            return True
        self.start()
        return self._is_running

    def flush(self, timeout_s: float) -> bool:
        deadline = monotonic() + timeout_s
        lost_before = self._requests_lost
        if not self._start_if_needed():
            return False
        if self._threads and not self._stopping:
            encoded = threading.Event()
            self._wakes.put(encoded)
            if not encoded.wait(timeout_s):
                return False
        return self._outbox.wait_empty(deadline) and self._requests_lost == lost_before

    def close(self, timeout_s: float) -> bool:
        lost_before = self._requests_lost
        can_send = self._start_if_needed()
        self._deadline = monotonic() + timeout_s
        self._stopping = True
        self._wakes.put(None)
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(max(0.0, self._deadline - monotonic()))
        in_time = not any(thread.is_alive() for thread in self._threads)
        if in_time and not can_send:
            self._lose_the_rest()
        if in_time and self._requests_lost == lost_before:
            return True
        if self._failing or not in_time or not can_send:
            # said by this thread: no other may print while the interpreter ends
            self._complain(f"{self._losses()} lost" if in_time else "what is left is lost")
        return False

    def _lose_the_rest(self) -> None:
        """There is no thread to send it; encoded, it is counted as what is lost elsewhere."""
        if not self._threads:
            with self._lost_on_error(Losses()):
                self._encode()
        self._outbox.close()
        for thrown in self._outbox.discard():
            self._lose(thrown)
        with suppress(Exception):
            self._sink.close()

    @property
    def _requests_lost(self) -> int:
        return self.statistics.requests_dropped + self.statistics.requests_refused

    def _losses(self) -> Losses:
        total = self.snapshot()
        return Losses(total.dropped_logs, total.dropped_metrics, total.dropped_spans)

    def _complain(self, consequence: str) -> None:
        """Say on standard error that the server cannot be reached, once in a long while."""
        now = monotonic()
        if now < self.next_complaint:
            return
        self.next_complaint = now + COMPLAINT_INTERVAL_S
        trouble = self._start_trouble or getattr(self._sink, "trouble", "") or "no answer"
        with suppress(Exception):  # it may be closed, or whatever the program put there
            if sys.stderr is not None:
                sys.stderr.write(f"lakeflight telemetry: cannot send to {self._endpoint}: {trouble}; {consequence}\n")

    def snapshot(self) -> Statistics:
        recorder = self.recorder
        threads = recorder.threads()
        total = replace(self.statistics)
        counters: list[Recorder | ThreadBuffers] = [recorder, *threads]
        for counted in counters:
            total.dropped_logs += counted.dropped_logs
            total.dropped_metrics += counted.dropped_metrics
            total.dropped_spans += counted.dropped_spans
        total.dropped_threads += recorder.dropped_threads
        total.errors += recorder.errors
        return total

    # --- encoding ---

    def _encode_loop(self) -> None:
        _recorder.suppress_for_good()
        while True:
            asked: threading.Event | None = None
            with suppress(Empty):
                asked = self._wakes.get(timeout=self._interval_s)
            self._wake_pending = False
            stopping = self._stopping  # read first: what was recorded before the end is in this round
            try:
                self._encode()
            except Exception:
                self.statistics.errors += 1
            if asked is not None:
                asked.set()
            if stopping:
                self._outbox.close()
                return

    def _encode(self) -> None:
        recorder = self.recorder
        threads = recorder.threads()
        # a thread that is gone now adds nothing more: what it left is taken below
        gone = [buffers for buffers in threads if buffers.pulse() is None]
        logs: list[LogEvent] = []
        tagged: list[TaggedMetric] = []
        metrics: list[NDArray[np.void]] = []
        for buffers in threads:
            logs += _take_logs(buffers)
            tagged += _take(buffers.tagged_metrics)
            metrics.append(_take_records(buffers.metrics, _metrics.METRIC_RECORD))
        with self._lost_on_error(Losses(logs=len(logs))):
            self._queue_logs(logs)
        measured = len(tagged) + sum(map(len, metrics))
        if measured:
            with self._lost_on_error(Losses(metrics=measured)):
                tagged.sort(key=attrgetter("ticks"))
                block = _encode_metrics(np.concatenate(metrics), tagged)
                self._queue(self._metrics, METRIC_TYPES, block, {}, METRICS, measured)
        for buffers in threads:
            self._encode_spans(buffers)
        if gone:
            for buffers in gone:
                self._spans.pop(buffers.stream_id, None)
                self._count_lost(Losses(buffers.dropped_logs, buffers.dropped_metrics, buffers.dropped_spans))
            recorder.forget(gone)

    @contextmanager
    def _lost_on_error(self, events: Losses) -> Iterator[None]:
        """What cannot be encoded is lost alone: other kinds of events, and other threads' spans, are not."""
        try:
            yield
        except Exception:
            self.statistics.errors += 1
            with self._loss_lock:
                self.statistics.requests_dropped += 1
            self._count_lost(events)

    def _queue_logs(self, logs: list[LogEvent]) -> None:
        losses = self._losses()
        own_line = self._line_about_losses(losses)
        if logs or own_line:
            logs.sort(key=attrgetter("ticks"))
            queued = self._queue(self._logs, LOG_TYPES, _encode_logs([*logs, *own_line]), {}, LOGS, len(logs))
            if queued and own_line:
                self._reported, self._next_report = losses, monotonic() + LOSS_REPORT_INTERVAL_S

    def _line_about_losses(self, losses: Losses) -> list[LogEvent]:
        """What was lost since the start, if there is news, and not too often; at the end in any case."""
        if losses == (Losses() if self._stopping else self._reported):
            return []
        if monotonic() < self._next_report and not self._stopping:
            return []
        text = f"telemetry lost since the start: {losses}"
        properties = {"logs": str(losses.logs), "metrics": str(losses.metrics), "spans": str(losses.spans)}
        return [LogEvent(perf_counter_ns(), OWN_TARGET, WARN, "", "", "", 0, text, properties)]

    def _encode_spans(self, buffers: ThreadBuffers) -> None:
        sync = _take_records(buffers.spans, _spans.SPAN_RECORD)
        asynchronous = _take_records(buffers.async_spans, _spans.ASYNC_SPAN_RECORD)
        if not len(sync) and not len(asynchronous):
            return
        stream = self._spans.get(buffers.stream_id)
        if stream is None:
            stream = self._spans[buffers.stream_id] = _StreamState(buffers.block_begin, buffers.stream_id)
        properties = {"thread-id": str(buffers.thread_id), "thread-name": _encodable(buffers.thread_name)}
        begun = sum(int(np.count_nonzero(events["kind"] == BEGIN)) for events in (sync, asynchronous))
        with self._lost_on_error(Losses(spans=begun)):
            self._queue(stream, SPAN_TYPES, _encode_spans(sync, asynchronous), properties, SPANS, begun)

    def _queue(
        self,
        stream: _StreamState,
        types: StreamTypes,
        block: EncodedBlock,
        properties: Mapping[str, str],
        urgency: int,
        events: int,
    ) -> bool:
        """Put a block into the outbox, after its process and stream. It begins where the one before it ended.

        False if there was no room for it, which is counted if it holds ``events`` of the program.
        """
        if not self._process_announced:
            self._outbox.put(_Request("/ingestion/insert_process", encode_process(self._describe()), METADATA))
            self._process_announced = True
        if not stream.announced:
            described = describe_stream(
                types, process_id=self.process_id, stream_id=stream.stream_id, properties=properties
            )
            self._outbox.put(_Request("/ingestion/insert_stream", encode_stream(described), METADATA))
            stream.announced = True
        end = stamp()
        body = encode_block(
            block.request(
                block_id=str(uuid4()),
                stream_id=stream.stream_id,
                process_id=self.process_id,
                begin_time_ns=stream.begin.time_ns,
                begin_ticks=stream.begin.ticks - self._start.ticks,
                end_time_ns=end.time_ns,
                end_ticks=end.ticks - self._start.ticks,
                object_offset=stream.objects,
            )
        )
        request = _Request("/ingestion/insert_block", body, urgency, events)
        queued = self._outbox.put(request)
        if not queued and events:
            self._lose(request)
        stream.begin = end
        stream.objects += block.nb_objects
        return queued

    def _describe(self) -> ProcessRequest:
        host = {
            "exe": self._exe,
            "username": _username(),
            "realname": _real_name(),
            "computer": platform.node() or "unknown",
            "distro": _distribution(),
            "cpu_brand": _cpu_brand(),
        }
        host = {key: _encodable(text) for key, text in host.items()}
        properties = {
            **host,
            "logical_cpu_count": str(os.cpu_count() or 0),
            "pid": str(os.getpid()),
            "python_version": platform.python_version(),
            **{_encodable(key): _encodable(text) for key, text in self._properties.items()},
        }
        return ProcessRequest(
            process_id=self.process_id,
            **host,
            tsc_frequency=TICKS_PER_SECOND,
            start_time_ns=self._start.time_ns,
            start_ticks=self._start.ticks,
            parent_process_id=self._parent_process_id,
            properties=properties,
        )

    # --- sending ---

    def _send_loop(self) -> None:
        _recorder.suppress_for_good()
        while (request := self._outbox.take()) is not None:
            try:
                delivered = self._deliver(request)
            except Exception:
                self.statistics.errors += 1
                delivered = False
            finally:
                self._outbox.done()
            if not delivered and self._outbox.is_closed:  # the program waits for us: one lost try is all of them
                for thrown in self._outbox.discard():
                    self._lose(thrown)
        self._sink.close()

    def _lose(self, request: _Request, *, refused: bool = False) -> None:
        """Count a request that no server has, and what is in it."""
        with self._loss_lock:
            if refused:
                self.statistics.requests_refused += 1
            else:
                self.statistics.requests_dropped += 1
        by_kind = [request.events if request.urgency == urgency else 0 for urgency in (LOGS, METRICS, SPANS)]
        self._count_lost(Losses(*by_kind))

    def _count_lost(self, losses: Losses) -> None:
        with self._loss_lock:
            self.statistics.dropped_logs += losses.logs
            self.statistics.dropped_metrics += losses.metrics
            self.statistics.dropped_spans += losses.spans

    def _deliver(self, request: _Request) -> bool:
        tries = 0
        while True:
            time_left = self._deadline - monotonic()
            if time_left <= 0:
                self._lose(request)
                return False
            outcome = self._sink.post(
                request.path,
                request.body,
                process_id=self.process_id,
                timeout_s=min(ATTEMPT_TIMEOUT_S, time_left),
            )
            self._failing = outcome is not Outcome.DELIVERED
            if outcome is Outcome.DELIVERED:
                self.statistics.blocks_sent += request.urgency != METADATA
                self.statistics.bytes_sent += len(request.body)
                return True
            if outcome is Outcome.REFUSED:
                self._lose(request, refused=True)
                if not self._stopping:
                    self._complain("this will not be tried again")
                return True
            tries += 1
            closed = self._outbox.is_closed
            given_up = tries > _RETRIES[request.urgency] and request.urgency != METADATA
            if (given_up or tries >= _TRIES_BEFORE_COMPLAINT) and not self._stopping:
                self._complain(_TRIED_AGAIN)
            if given_up or (closed and tries > _RETRIES_AT_EXIT):
                self._lose(request)
                return False
            self.statistics.requests_retried += 1
            delay = min(_RETRY_DELAY_FIRST_S * _RETRY_DELAY_FACTOR ** min(tries - 1, 4), _RETRY_DELAY_MAX_S)
            if closed:
                sleep(min(delay, max(0.0, self._deadline - monotonic())))
            elif self._outbox.pause(delay):
                tries = min(tries, 1)  # the end came while waiting: a last try or two, at once


class Telemetry:
    """Logs, metrics and spans of this process, on their way to ``endpoint``.

    Used as a context manager, or with ``install`` and, at the end, ``close`` (which the end of the program calls too)::

        telemetry = Telemetry("http://127.0.0.1:9000", exe="billing", properties={"version": "1.2"})
        telemetry.install()
        logging.getLogger().addHandler(telemetry.logging_handler())
    """

    def __init__(
        self,
        endpoint: str,
        *,
        exe: str | None = None,
        properties: Mapping[str, str] | None = None,
        flush_interval_s: float = 5.0,
        limits: Limits | None = None,
        api_key: str | None = None,
        sink: Sink | None = None,
        after_fork: Literal["restart", "disable"] = "restart",
    ) -> None:
        """``ValueError`` if ``endpoint`` is no HTTP URL; nothing else here fails, and nothing is sent before an event.

        Args:
            endpoint: Of the ingestion server, without ``/ingestion``.  sink: Takes requests instead of ``endpoint``.
            exe: Name of the program, its file name if not given.  properties: Of the process, beside what is known.
            after_fork: Whether a forked child records under an id of its own, or not at all.
        """
        self.endpoint = endpoint
        self.exe = exe or Path(sys.argv[0] or sys.executable or "python").name or "python"
        self.properties = dict(properties or {})
        self.flush_interval_s = flush_interval_s
        self.limits = limits or Limits()
        self._api_key = api_key
        self._given_sink = sink
        self._after_fork = after_fork
        self._closed = False
        self._closes_with_children = False
        self._run = _Run(self, _parent_process_id())
        _instances.add(self)
        atexit.register(_close_at_exit, weakref.ref(self))
        _close_with_child(self)
        self._close_with_children()

    @property
    def process_id(self) -> str:
        return self._run.process_id

    @property
    def statistics(self) -> Statistics:
        """Counters since the start of this process."""
        return self._run.snapshot()

    def install(self) -> Telemetry:
        """Record what this process's spans, metrics and log handlers say from now on."""
        global _installed
        if not self._closed:
            _recorder.install(self._run.recorder)
            _installed = self
        return self

    def logging_handler(self, level: int = 0) -> TelemetryHandler:
        """A handler to add to a logger."""
        return TelemetryHandler(level)

    def flush(self, timeout_s: float = CLOSE_TIMEOUT_S) -> bool:
        """Send what has been recorded so far; true if the server has taken all of it in time."""
        return self._run.flush(timeout_s)

    def close(self, timeout_s: float = CLOSE_TIMEOUT_S) -> bool:
        """Send what is left, for at most ``timeout_s``, and stop; true if the server has taken all of it in time."""
        global _installed
        if _recorder.current is self._run.recorder:
            _recorder.install(None)
        if _installed is self:
            _installed = None
        if self._closed:
            return True
        self._closed = True
        return self._run.close(timeout_s)

    def __enter__(self) -> Telemetry:
        return self.install()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def make_sink(self) -> Sink:
        return self._given_sink or HttpSink(self.endpoint, api_key=self._api_key)

    def _continue_in_child(self) -> None:
        """In a forked child: nothing of the parent's run may be touched, its locks may be held for ever."""
        before = self._run
        was_current = _recorder.current is before.recorder
        if self._after_fork == "disable" or self._closed:
            self._closed = True
            if was_current:
                _recorder.install(None)
            return
        self._run = _Run(self, before.process_id)
        self._run.next_complaint = before.next_complaint
        self._close_with_children()
        if was_current:
            _recorder.install(self._run.recorder)

    def _close_with_children(self) -> None:
        """Register once for what this process forks; a child inherits that, and that it was done.

        In a forked child once more, because ``multiprocessing`` may have been imported since: none of its children can
        begin before, and this may be one of them.
        """
        util = sys.modules.get("multiprocessing.util")
        if util is not None and not self._closes_with_children:
            self._closes_with_children = True
            util.register_after_fork(self, _close_with_child)


_instances: Final[weakref.WeakSet[Telemetry]] = weakref.WeakSet()
_installed: Telemetry | None = None  # kept, though the program may have kept no name for it


def _close_at_exit(reference: weakref.ref[Telemetry]) -> None:
    telemetry = reference()
    if telemetry is not None:
        telemetry.close()


def _close_with_child(telemetry: Telemetry) -> None:
    """Send what is left at the end of a child of ``multiprocessing`` too: it ends by ``os._exit``, without ``atexit``.

    Such a child forgets its finalizers when it begins, and then runs what was registered for after the fork.
    """
    util = sys.modules.get("multiprocessing.util")
    if util is not None:  # else this is none of its children
        util.Finalize(None, _close_at_exit, (weakref.ref(telemetry),), exitpriority=_AFTER_EVERYTHING)


def _after_fork_in_child() -> None:
    _spans.renew_lock()
    _metrics.renew_lock()
    for telemetry in list(_instances):
        telemetry._continue_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


# --- taking and encoding --------------------------------------------------------------------------------------------


def _take_records(buffer: bytearray, dtype: np.dtype[np.void]) -> NDArray[np.void]:
    """Take whole records off the front; the thread may go on adding at the end. Each step is one atomic call."""
    length = len(buffer) // dtype.itemsize * dtype.itemsize
    taken = buffer[:length]
    del buffer[:length]
    return np.frombuffer(taken, dtype)


def _take(events: list[TaggedMetric]) -> list[TaggedMetric]:
    count = len(events)
    taken = events[:count]
    del events[:count]
    return taken


def _take_logs(buffers: ThreadBuffers) -> list[LogEvent]:
    count = len(buffers.logs)
    taken = buffers.logs[:count]
    del buffers.logs[:count]
    buffers.log_chars_taken += sum(len(event.message) for event in taken)
    return taken


def _encode_logs(events: list[LogEvent]) -> EncodedBlock:
    builder = LogBlockBuilder()
    for event in events:
        statement = LogMetadata(event.target, event.level, event.template, event.module, event.file, event.line)
        if event.properties:
            builder.tagged(statement, event.ticks, event.message, event.properties)
        else:
            builder.message(statement, event.ticks, event.message)
    return builder.finish()


def _encode_metrics(records: NDArray[np.void], tagged: list[TaggedMetric]) -> EncodedBlock:
    builder = MetricBlockBuilder()
    records = records[np.argsort(records["ticks"], kind="stable")]
    builder.extend(
        _metrics.metrics,
        records["code"],
        records["ticks"],
        records["value"],
        integer=records["kind"] == _metrics.INTEGER,
    )
    for event in tagged:
        metric = _metrics.metrics[event.code]
        if isinstance(event.value, int):
            builder.add_integer(metric, event.ticks, event.value, event.properties)
        else:
            builder.add_float(metric, event.ticks, event.value, event.properties)
    return builder.finish()


def _encode_spans(sync: NDArray[np.void], asynchronous: NDArray[np.void]) -> EncodedBlock:
    builder = SpanBlockBuilder()
    builder.extend(_spans.scopes, sync["kind"], sync["code"], sync["ticks"])
    builder.extend_async(
        _spans.scopes,
        *(asynchronous[name] for name in ("kind", "code", "ticks", "span_id", "parent_span_id", "depth")),
    )
    return builder.finish()


# --- the process ----------------------------------------------------------------------------------------------------


def _encodable(text: object) -> str:
    """Text that CBOR can hold: without lone surrogates, which file names and arguments may have."""
    return str(text).encode("utf-8", "replace").decode()


def _parent_process_id() -> str | None:
    try:
        return canonical_uuid(os.environ[PARENT_VARIABLE])
    except (KeyError, ValueError):
        return None


def _username() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return "unknown"


def _real_name() -> str:
    try:
        import pwd

        return pwd.getpwuid(os.getuid()).pw_gecos.split(",")[0] or _username()
    except (ImportError, KeyError, AttributeError):
        return _username()


def _distribution() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError, AttributeError):
        return platform.platform()


def _cpu_brand() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine() or "unknown"
