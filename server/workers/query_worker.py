"""What runs in a query worker: one statement at a time, behind the engine's gate.

The main thread inspects and runs; a control thread reads the connection, so that a credit frees a slot and a cancel
interrupts the engine while the main thread is inside it. Small results go back whole in one message; larger ones
through the ring, at most ``SLOTS`` frames ahead of the reader. The worker opens partition files and nothing else: it
has no catalog, no store, no secret, and decides nothing about who may read what.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import queue
import select
import socket
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Protocol

import pyarrow as pa

from lakehouse.errors import InternalError, LakeflightError, LimitExceededError, QueryCancelledError
from server.workers.errors import error_of
from server.workers.frames import FrameEncoder
from server.workers.protocol import (
    DETAIL_TEXT_MAX,
    ERROR_TEXT_MAX,
    INLINE_BYTES_MAX,
    REQUEST_BYTES_MAX,
    SLOTS,
    Cancel,
    Credit,
    Describe,
    Done,
    Failed,
    Fetch,
    Fetched,
    Frames,
    InRing,
    Inspect,
    Inspected,
    Message,
    Ready,
    Run,
    Splitter,
    decode,
    pack,
)
from server.workers.ring import RingWriter

INTERRUPT_EVERY_S: Final = 0.05  # an interrupt that comes just before the engine starts is lost, so it is repeated
IDLE_BEFORE_PREMAKE_S: Final = 0.02  # a client's next statement often comes at once, and should not wait for this
IDLE_BEFORE_TRIM_S: Final = 5.0  # after this long without a job, memory goes back to the system
RECEIVE_BYTES: Final = 64 << 10
_LIBC: Final = ctypes.CDLL(None)
_EXPECTED: Final = frozenset({Describe, Inspect, Run, Credit, Cancel, Fetched})


class Reader(Protocol):
    """An Arrow record batch reader, computed as it is pulled."""

    schema: pa.Schema

    def read_next_batch(self) -> pa.RecordBatch: ...

    def close(self) -> None: ...


class Engine(Protocol):
    """What a worker asks of an engine. One thread calls it, but for ``interrupt``, which any thread may call."""

    def describe(self, catalog: dict[str, Any]) -> None:
        """Take note of the relations that statements may name."""

    def inspect(self, sql: str, parameters: pa.RecordBatch | None, options: dict[str, Any]) -> dict[str, Any]:
        """What the statement needs and yields, in plain values."""

    def run(
        self,
        sql: str,
        parameters: pa.RecordBatch | None,
        relations: list[Any],
        options: dict[str, Any],
        fetch: Callable[[str, Sequence[Any]], Sequence[str]],
    ) -> Reader:
        """``fetch`` has the server's answers to functions, and may be called from any thread, one at a time."""
        ...

    def interrupt(self) -> None:
        """Stop what runs now; nothing to stop is no error."""

    def premake(self) -> None:
        """Do ahead of time what the next statement will need."""


def prepare(settings: dict[str, Any]) -> Callable[[socket.socket, int | None], None]:
    """In the zygote: load the engine's code and start nothing."""
    module, _, name = settings["engine"].partition(":")
    make: Callable[[dict[str, Any]], Engine] = getattr(importlib.import_module(module), name)

    def work(connection: socket.socket, ring: int | None) -> None:
        if ring is None:
            raise ValueError("a query worker needs a ring")
        QueryWorker(connection, ring, make(settings["engine_options"])).serve()

    return work


class QueryWorker:
    """One worker's state: the connection, the ring, the engine and the job in hand."""

    def __init__(self, connection: socket.socket, ring: int, engine: Engine) -> None:
        self._connection, self._ring, self._engine = connection, RingWriter(ring), engine
        self._requests: queue.SimpleQueue[Describe | Inspect | Run] = queue.SimpleQueue()
        self._credits: queue.SimpleQueue[tuple[int, int]] = queue.SimpleQueue()  # (job, slot); slot -1 is a cancel
        self._fetched: queue.SimpleQueue[tuple[int, Fetched | None]] = queue.SimpleQueue()  # by job; None is a cancel
        self._sending = threading.Lock()
        self._lock = threading.Lock()  # guards the three below
        self._job = 0  # the one in hand, 0 between jobs
        self._finished = 0  # the last one answered; a cancel may come too late
        self._cancelled: set[int] = set()

    def serve(self) -> None:
        """Answer requests until the edge is gone."""
        self._engine.premake()
        threading.Thread(target=self._control, name="control", daemon=True).start()
        self._send(Ready(os.getpid()))
        idle: Iterator[tuple[float | None, Callable[[], None] | None]] = iter(
            ()
        )  # what is left to do before the worker may sleep
        while True:
            pause_s, chore = next(idle, (None, None))
            try:
                request = self._requests.get(timeout=pause_s)
            except queue.Empty:
                if chore is not None:
                    chore()
                continue
            self._answer(request)
            idle = iter(self._chores)

    @property
    def _chores(self) -> list[tuple[float, Callable[[], None]]]:
        """After a job, each once the worker has had nothing to do for so long."""
        return [(IDLE_BEFORE_PREMAKE_S, self._engine.premake), (IDLE_BEFORE_TRIM_S, self._give_back)]

    def _give_back(self) -> None:
        self._ring.forget_pages()
        pa.default_memory_pool().release_unused()
        _LIBC.malloc_trim(0)

    def _answer(self, request: Describe | Inspect | Run) -> None:
        if isinstance(request, Describe):
            self._engine.describe(request.catalog)
            return
        with self._lock:
            self._job = request.job
        try:
            self._check_cancelled(request.job)
            if isinstance(request, Inspect):
                parameters = _parameters(request.parameters)
                answer: Message = Inspected(request.job, self._engine.inspect(request.sql, parameters, request.options))
            else:
                answer = self._run(request)
        except Exception as error:
            answer = _failure(request.job, error)
        with self._lock:
            if request.job in self._cancelled:  # whatever the interrupt made of it
                answer = Failed(request.job, QueryCancelledError.__name__, "the statement was cancelled", "")
            self._job, self._finished = 0, request.job
            self._cancelled.clear()
        self._send(answer)

    def _run(self, request: Run) -> Done:
        job = request.job
        reader = self._engine.run(
            request.sql,
            _parameters(request.parameters),
            request.relations,
            request.options,
            lambda function, rows: self._fetch(job, function, rows),
        )
        try:
            free = list(range(SLOTS))

            def take() -> int:
                """A free slot. Waits for the reader if it holds them all."""
                while not free or not self._credits.empty():
                    owner, slot = self._credits.get()
                    self._check_cancelled(job)
                    if owner == job and slot >= 0:
                        free.append(slot)
                return free.pop()

            def emit(slot: int, offset: int, length: int, more: bool) -> None:
                self._send(InRing(job, slot, offset, length, more))

            encoder = FrameEncoder(reader.schema, self._ring, take, emit)
            held: list[bytes] | None = [
                encoder.schema_frame()
            ]  # small frames, kept back until it is known what follows
            rows = 0
            while True:
                self._check_cancelled(job)
                try:
                    batch = reader.read_next_batch()
                except StopIteration:
                    return Done(job, held or [], rows)
                if not batch.num_rows:
                    continue
                rows += batch.num_rows
                if held is not None:
                    small = encoder.small_frames(batch)
                    if small is not None and sum(map(len, held)) + sum(map(len, small)) <= INLINE_BYTES_MAX:
                        held += small
                        continue
                    self._send(Frames(job, held + (small or [])))
                    held = None
                    if small is not None:
                        continue
                encoder.write(batch)
        finally:
            reader.close()

    def _fetch(self, job: int, function: str, rows: Sequence[Any]) -> Sequence[str]:
        """The edge's answers to a function."""
        self._send(Fetch(job, function, [list(row) for row in rows]))
        while True:
            owner, answer = self._fetched.get()
            self._check_cancelled(job)
            if owner == job and answer is not None:
                if answer.error:
                    raise error_of(answer.error, answer.message)
                return answer.answers

    def _check_cancelled(self, job: int) -> None:
        with self._lock:
            if job in self._cancelled:
                raise QueryCancelledError("the statement was cancelled")

    def _control(self) -> None:
        """Read the connection for ever. The edge's end closing ends the process, whatever the main thread does."""
        try:
            splitter = Splitter(REQUEST_BYTES_MAX)
            arrivals = select.poll()  # the socket itself has no timeout: the main thread sends on it
            arrivals.register(self._connection, select.POLLIN)
            while True:
                if not arrivals.poll(INTERRUPT_EVERY_S * 1e3 if self._interrupting() else None):
                    continue
                data = self._connection.recv(RECEIVE_BYTES)
                if not data:
                    os._exit(0)
                for packet in splitter.feed(data):
                    self._take_note(decode(packet, _EXPECTED))
        finally:
            os._exit(3)

    def _interrupting(self) -> bool:
        with self._lock:
            pending = self._job in self._cancelled
            if pending:
                self._engine.interrupt()
            return pending

    def _take_note(self, message: Any) -> None:
        if isinstance(message, Credit):
            self._credits.put((message.job, message.slot))
        elif isinstance(message, Fetched):
            self._fetched.put((message.job, message))
        elif isinstance(message, Cancel):
            with self._lock:
                if message.job > self._finished:
                    self._cancelled.add(message.job)
            self._credits.put((message.job, -1))
            self._fetched.put((message.job, None))
        else:
            self._requests.put(message)

    def _send(self, message: Message) -> None:
        with self._sending:  # payloads are asked for from the engine's threads
            self._connection.sendall(pack(message))


def _parameters(data: bytes | None) -> pa.RecordBatch | None:
    return None if data is None else pa.ipc.open_stream(data).read_next_batch()


def _failure(job: int, error: Exception) -> Failed:
    """Errors of the tree keep their name and sentence; any other says nothing to the caller, and all to the log."""
    if isinstance(error, MemoryError):
        error = LimitExceededError("the statement needs more memory than a statement may have")
    if isinstance(error, LakeflightError) and not isinstance(error, InternalError):
        return Failed(job, type(error).__name__, str(error)[:ERROR_TEXT_MAX], "")
    detail = "".join(traceback.format_exception(error))[-DETAIL_TEXT_MAX:]
    return Failed(job, "InternalError", "the engine failed", detail)
