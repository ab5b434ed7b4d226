"""What a worker can be busy with, as the edge sees it: one question with one answer, or a stream of frames.

A stream takes frames out of the ring as they are asked for, and measures engine time from the frames that come and go,
so the worker has no say in it: while the reader holds every slot, the clock stands still. Who gets a worker, and what
happens to one that does not stop, is for ``pool``.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol

import structlog

from lakehouse.errors import (
    InternalError,
    LakeflightError,
    LimitExceededError,
    QueryCancelledError,
    QueryTimeoutError,
)
from server.workers.processes import WorkerLostError, WorkerProcess, error_of
from server.workers.protocol import (
    INLINE_BYTES_MAX,
    SLOTS,
    WIDE_FRAME_BYTES_MAX,
    Built,
    Credit,
    Done,
    Failed,
    Frames,
    InRing,
    Inspected,
    ProtocolError,
    Run,
)
from server.workers.ring import RingReader

log = structlog.get_logger(__name__)

_SMALL_FRAMES_BYTES_MAX: Final = 2 * INLINE_BYTES_MAX + (1 << 20)  # and the schema, which may be larger than they are


class StreamStarter(Protocol):
    """What a stream needs of its pool."""

    async def begin(self, stream: WorkerStream) -> WorkerProcess: ...

    def interrupt(self, worker: WorkerProcess, job: WorkerStream) -> None: ...


class Exchange:
    """A job with one answer."""

    def __init__(self, number: int, deadline: float) -> None:
        self.number = number
        self.deadline = deadline
        self.kill_at: float | None = None
        self.answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def answered(self, message: Any) -> bool:
        if not isinstance(message, Inspected | Built | Failed):
            raise ProtocolError(f"{type(message).__name__} is no answer")
        if not self.answer.done():
            if isinstance(message, Failed):
                self.answer.set_exception(error_of(message))
            else:
                self.answer.set_result(message)
        return True

    def lost(self, error: WorkerLostError) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)


class WorkerStream:
    """The frames of one statement, each a serialized ``FlightData`` of its own ``bytes``; the first is the schema.

    Close it, or read it to its end. ``on_abort`` is called when the stream ends for a reason that the reader would not
    notice while it is stuck in a write: an overrun, a stall, a worker's death.
    """

    def __init__(
        self,
        pool: StreamStarter,
        request: Callable[[int], Run],
        *,
        affinity: str | None,
        timeout_s: float,
        result_bytes_max: int,
    ) -> None:
        self.number = 0
        self.request = request
        self.affinity = affinity
        self.kill_at: float | None = None
        self.rows = 0  # known at the end
        self.bytes_read = 0
        self.on_abort: Callable[[LakeflightError], None] | None = None
        self._pool, self._timeout_s, self._result_bytes_max = pool, timeout_s, result_bytes_max
        self._worker: WorkerProcess | None = None
        self._items: deque[InRing | tuple[bytes, bool]] = deque()  # (bytes, more) once it is out of the ring
        self._parts: list[bytes] = []  # of a frame that comes in pieces
        self._held: set[int] = set()  # slots of the ring that are ours
        self._inline_bytes = self._part_bytes = 0
        self._error: LakeflightError | None = None
        self._started = self._ended = False
        self._waker: asyncio.Future[None] | None = None
        self._engine_s = 0.0
        self._engine_since: float | None = None  # the engine's clock runs since then; None: it stands still
        self._asked_at = 0.0  # since then the reader could have taken a frame

    @property
    def engine_s(self) -> float:
        """Engine time so far."""
        running = 0.0 if self._engine_since is None else time.monotonic() - self._engine_since
        return self._engine_s + running

    def __aiter__(self) -> WorkerStream:
        return self

    async def __anext__(self) -> bytes:
        try:
            if not self._started:
                self._started = True
                self._worker = await self._pool.begin(self)
                self._engine_since = time.monotonic()
            while True:
                self._asked_at = time.monotonic()
                if self._error is not None:
                    error, self._error = self._error, None
                    raise error
                if self._items:
                    frame = self._take()
                    if frame is not None:
                        return frame
                    continue
                if self._ended:
                    raise StopAsyncIteration
                self._waker = asyncio.get_running_loop().create_future()
                await self._waker
        except asyncio.CancelledError:
            self._give_up()
            raise
        except LakeflightError:
            self._ended = True
            raise

    async def aclose(self) -> None:
        """Stop; the worker is told at once, and nothing here waits for it."""
        self._give_up()

    def cancel(self) -> None:
        """Somebody else stops this statement; its reader gets an error."""
        if not self._ended:
            self._stop_worker()
            self.fail(QueryCancelledError("the statement was cancelled"))

    # a job, for the worker's handle and the pool

    def answered(self, message: Any) -> bool:
        now = time.monotonic()
        if isinstance(message, InRing):
            self._note_place(message, now)
            return False
        if isinstance(message, Frames):
            self._note_small(message.frames)
            return False
        self._stop_clock(now)
        if isinstance(message, Failed):
            self._end(error_of(message))
        elif isinstance(message, Done):
            if message.rows < 0:
                raise ProtocolError("a negative number of rows")
            self._note_small(message.frames)
            # the worker's next job needs the ring
            self._items = deque(item if isinstance(item, tuple) else self._out_of_ring(item) for item in self._items)
            self.rows = message.rows
            self._end(None)
        else:
            raise ProtocolError(f"{type(message).__name__} is no part of a stream")
        return True

    def lost(self, error: WorkerLostError) -> None:
        self._stop_clock(time.monotonic())
        if not self._ended:
            log.error("query.worker_lost", reason=str(error))
            self.fail(InternalError("the statement's worker failed"))
        self._items = deque(item for item in self._items if isinstance(item, tuple))

    def overdue(self, now: float, stall_max_s: float) -> LakeflightError | None:
        """Why this stream may not go on, if so."""
        engine_s = self._engine_s + (0.0 if self._engine_since is None else now - self._engine_since)
        if engine_s > self._timeout_s:
            return QueryTimeoutError(f"the statement took more than {self._timeout_s:g} s of engine time")
        if self.bytes_read > self._result_bytes_max:
            return LimitExceededError(
                f"the result is larger than {self._result_bytes_max} bytes: add a LIMIT or select fewer columns"
            )
        if self._items and now - self._asked_at > stall_max_s:
            return LimitExceededError(f"the reader took nothing for {stall_max_s:g} s")
        return None

    def fail(self, error: LakeflightError) -> None:
        """End it with an error; the worker is the pool's to stop."""
        self._items.clear()
        self._end(error)
        if self.on_abort is not None:
            self.on_abort(error)

    def _note_small(self, frames: list[Any]) -> None:
        for frame in frames:
            if not isinstance(frame, bytes) or not frame:
                raise ProtocolError("a frame that is no bytes")
            self._inline_bytes += len(frame)
        if self._inline_bytes > _SMALL_FRAMES_BYTES_MAX:
            raise ProtocolError(f"{self._inline_bytes} bytes of small frames")
        if frames:
            self._append(*((frame, False) for frame in frames))

    def _note_place(self, place: InRing, now: float) -> None:
        RingReader.check(place.slot, place.offset, place.length)
        if place.slot in self._held:
            raise ProtocolError(f"slot {place.slot} is not the worker's")
        self._held.add(place.slot)
        if len(self._held) == SLOTS:
            self._stop_clock(now)  # it cannot go on before the reader does
        self._append(place)

    def _append(self, *items: InRing | tuple[bytes, bool]) -> None:
        if self._ended:  # nobody reads it
            return
        if not self._items:
            self._asked_at = time.monotonic()  # while there was nothing to take, nobody stalled
        self._items.extend(items)
        self._wake()

    def _take(self) -> bytes | None:
        """The next frame, ``None`` if what came next was only a piece of one."""
        item = self._items.popleft()
        data, more = item if isinstance(item, tuple) else self._out_of_ring(item)
        if isinstance(item, InRing) and self._worker is not None and self.kill_at is None:
            self._held.discard(item.slot)
            self._worker.send(Credit(self.number, item.slot))
            if self._engine_since is None:
                self._engine_since = time.monotonic()
        self.bytes_read += len(data)
        if not more and not self._parts:
            return data
        self._parts.append(data)
        self._part_bytes += len(data)
        if self._part_bytes > WIDE_FRAME_BYTES_MAX + (1 << 20):
            self._stop_worker()
            self.fail(InternalError("the statement's worker failed"))
            return None
        if more:
            return None
        frame = b"".join(self._parts)
        self._parts, self._part_bytes = [], 0
        return frame

    def _out_of_ring(self, place: InRing) -> tuple[bytes, bool]:
        if self._worker is None or self._worker.ring is None:
            raise InternalError("a frame without its ring")
        return self._worker.ring.copy(place.offset, place.length), place.more

    def _give_up(self) -> None:
        """The reader wants no more. Synchronous, because its task may be being cancelled."""
        if not self._ended:
            self._stop_worker()
        self._items.clear()
        self._end(None)

    def _stop_worker(self) -> None:
        if self._worker is not None and self._worker.job is self and self.kill_at is None:
            self._pool.interrupt(self._worker, self)

    def _stop_clock(self, now: float) -> None:
        if self._engine_since is not None:
            self._engine_s += now - self._engine_since
            self._engine_since = None

    def _end(self, error: LakeflightError | None) -> None:
        if not self._ended:
            self._ended, self._error = True, error
        self._wake()

    def _wake(self) -> None:
        if self._waker is not None and not self._waker.done():
            self._waker.set_result(None)
