"""One process as the server sees it, with the two threads that serve it: one encodes, one sends.

Refuses to raise into the program, and to outlive it by more than a few seconds.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from operator import attrgetter
from queue import Empty, SimpleQueue
from time import monotonic, perf_counter_ns, sleep
from typing import Final
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from lakeflight.telemetry import metrics as _metrics
from lakeflight.telemetry import recorder as _recorder
from lakeflight.telemetry import spans as _spans
from lakeflight.telemetry.encoding import (
    encode_logs,
    encode_metrics,
    encode_spans,
    take_logs,
    take_records,
    take_tagged,
)
from lakeflight.telemetry.host import describe_process, encodable
from lakeflight.telemetry.logging_handler import WARN
from lakeflight.telemetry.outbox import LOGS, METADATA, METRICS, SPANS, Losses, Outbox, Request, Statistics
from lakeflight.telemetry.recorder import Limits, LogEvent, Recorder, Stamp, TaggedMetric, ThreadBuffers, stamp
from lakeflight.telemetry.sink import ATTEMPT_TIMEOUT_S, Outcome, Sink
from lakeflight.wire.envelope import encode_block, encode_process, encode_stream
from lakeflight.wire.transit.types import LOG_TYPES, METRIC_TYPES, SPAN_TYPES, StreamTypes
from lakeflight.wire.transit.writer import BEGIN, EncodedBlock, describe_stream

RETRIES: Final = (0, 5, 2, 1)  # metadata is never given up while the program runs: without it nothing can be seen
_RETRY_DELAY_FIRST_S: Final = 0.01
_RETRY_DELAY_FACTOR: Final = 10
_RETRY_DELAY_MAX_S: Final = 10.0
_RETRIES_AT_EXIT: Final = 2

OWN_TARGET: Final = "lakeflight.telemetry"
LOSS_REPORT_INTERVAL_S: Final = 10.0  # a log line about losses comes no more often
COMPLAINT_INTERVAL_S: Final = 3600.0  # nor a line on standard error
START_RETRY_INTERVAL_S: Final = 1.0  # nor a try to start a thread where the system had none, except to flush and close
_TRIES_BEFORE_COMPLAINT: Final = 3
_TRIED_AGAIN: Final = "it is tried again; what does not fit into memory meanwhile is lost"


class _StreamState:
    """Where the next block of a stream begins."""

    __slots__ = ("announced", "begin", "objects", "stream_id")

    def __init__(self, begin: Stamp, stream_id: str | None = None) -> None:
        self.stream_id = stream_id or str(uuid4())
        self.begin = begin
        self.objects = 0
        self.announced = False


@dataclass(frozen=True, slots=True)
class Program:
    """What a ``Telemetry`` was told about its program."""

    endpoint: str
    exe: str
    properties: Mapping[str, str]
    flush_interval_s: float
    limits: Limits


class Run:
    """One process as the server sees it, with the two threads that serve it. A fork starts another."""

    def __init__(self, program: Program, sink: Sink, parent_process_id: str | None) -> None:
        self.process_id = str(uuid4())
        self.statistics = Statistics()
        self._parent_process_id = parent_process_id
        self._program = program
        self._sink = sink
        self._failing = False
        self._loss_lock = threading.Lock()  # both threads lose things
        self._reported = Losses()
        self._next_report = 0.0
        self.next_complaint = 0.0
        self.wakes: SimpleQueue[threading.Event | None] = SimpleQueue()
        self._wake_pending = False
        self._stopping = False
        self._lost_before_the_end = 0
        self._deadline = float("inf")
        self._start_lock = threading.RLock()
        self._starting = False
        self._start_trouble = ""
        self._next_start = float("inf")  # of a try after one that failed
        self._loops = (("encode", self._encode_loop), ("send", self._send_loop))
        self._threads: list[threading.Thread] = []  # those that were started, in the order of the loops
        self._outbox = Outbox(program.limits.outbox_bytes_max)
        self.recorder = Recorder(program.limits, self.start, self.wake)
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
            self.wakes.put(None)
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
            self.wakes.put(encoded)
            if not encoded.wait(timeout_s):
                return False
        return self._outbox.wait_empty(deadline) and self._requests_lost == lost_before

    def retire(self, timeout_s: float) -> None:
        """Begin to end. Waits for nothing and starts nothing: a finalizer calls this, whatever its thread was about."""
        self._lost_before_the_end = self._requests_lost
        self._deadline = monotonic() + timeout_s
        self._stopping = True
        self.wakes.put(None)

    @property
    def has_ended(self) -> bool:
        return self._is_running and not any(thread.is_alive() for thread in self._threads)

    @property
    def endpoint(self) -> str:
        return self._program.endpoint

    def close(self, timeout_s: float) -> bool:
        can_send = self._start_if_needed()
        if not self._stopping:
            self.retire(timeout_s)
        self._deadline = monotonic() + timeout_s
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(max(0.0, self._deadline - monotonic()))
        in_time = not any(thread.is_alive() for thread in self._threads)
        if in_time and not can_send:
            self._lose_the_rest()
        if in_time and self._requests_lost == self._lost_before_the_end:
            return True
        if self._failing or not in_time or not can_send:
            # said by this thread: no other may print while the interpreter ends
            self._complain(f"{self._losses()} lost" if in_time else "what is left is lost")
        return False

    def _lose_the_rest(self) -> None:
        """There is no thread to send it; encoded, it is counted as what is lost elsewhere."""
        if not self._threads:
            with self._lost_on_error(Losses()):
                self.encode()
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
        _recorder.complain(f"cannot send to {self._program.endpoint}: {trouble}; {consequence}")

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
                asked = self.wakes.get(timeout=self._program.flush_interval_s)
            self._wake_pending = False
            stopping = self._stopping  # read first: what was recorded before the end is in this round
            try:
                self.encode()
            except Exception:
                self.statistics.errors += 1
            if asked is not None:
                asked.set()
            if stopping:
                self._outbox.close()
                return

    def encode(self) -> None:
        recorder = self.recorder
        threads = recorder.threads()
        # a thread that is gone now adds nothing more: what it left is taken below
        gone = [buffers for buffers in threads if buffers.pulse() is None]
        logs: list[LogEvent] = []
        tagged: list[TaggedMetric] = []
        metrics: list[NDArray[np.void]] = []
        for buffers in threads:
            logs += take_logs(buffers)
            tagged += take_tagged(buffers.tagged_metrics)
            metrics.append(take_records(buffers.metrics, _metrics.METRIC_RECORD))
        with self._lost_on_error(Losses(logs=len(logs))):
            self._queue_logs(logs)
        measured = len(tagged) + sum(map(len, metrics))
        if measured:
            with self._lost_on_error(Losses(metrics=measured)):
                tagged.sort(key=attrgetter("ticks"))
                block = encode_metrics(np.concatenate(metrics), tagged)
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
            queued = self._queue(self._logs, LOG_TYPES, encode_logs([*logs, *own_line]), {}, LOGS, len(logs))
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
        sync = take_records(buffers.spans, _spans.SPAN_RECORD)
        asynchronous = take_records(buffers.async_spans, _spans.ASYNC_SPAN_RECORD)
        if not len(sync) and not len(asynchronous):
            return
        stream = self._spans.get(buffers.stream_id)
        if stream is None:
            stream = self._spans[buffers.stream_id] = _StreamState(buffers.block_begin, buffers.stream_id)
        properties = {"thread-id": str(buffers.thread_id), "thread-name": encodable(buffers.thread_name)}
        begun = sum(int(np.count_nonzero(events["kind"] == BEGIN)) for events in (sync, asynchronous))
        with self._lost_on_error(Losses(spans=begun)):
            self._queue(stream, SPAN_TYPES, encode_spans(sync, asynchronous), properties, SPANS, begun)

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
            described = describe_process(
                self.process_id,
                self._parent_process_id,
                self._program.exe,
                self._program.properties,
                self._start,
            )
            self._outbox.put(Request("/ingestion/insert_process", encode_process(described), METADATA))
            self._process_announced = True
        if not stream.announced:
            registration = describe_stream(
                types, process_id=self.process_id, stream_id=stream.stream_id, properties=properties
            )
            self._outbox.put(Request("/ingestion/insert_stream", encode_stream(registration), METADATA))
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
        request = Request("/ingestion/insert_block", body, urgency, events)
        queued = self._outbox.put(request)
        if not queued and events:
            self._lose(request)
        stream.begin = end
        stream.objects += block.nb_objects
        return queued

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

    def _lose(self, request: Request, *, refused: bool = False) -> None:
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

    def _deliver(self, request: Request) -> bool:
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
            given_up = tries > RETRIES[request.urgency] and request.urgency != METADATA
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
