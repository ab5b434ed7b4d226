"""A result on its way from a worker to its reader: frames out of the ring, and out of a spool where the reader pauses.

Engine time is measured here, from the frames that come and go, so the worker has no say in it: while the ring is full,
the clock stands still. Who gets a worker, and what happens to one that does not stop, is for ``pool``.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias

import structlog

from lakehouse.errors import (
    BackendUnavailableError,
    InternalError,
    LakeflightError,
    LimitExceededError,
    QueryCancelledError,
    QueryTimeoutError,
)
from server.workers.errors import error_of
from server.workers.processes import WorkerLostError, WorkerProcess
from server.workers.protocol import (
    INLINE_BYTES_MAX,
    SLOTS,
    WIDE_FRAME_BYTES_MAX,
    Credit,
    Done,
    Failed,
    Fetch,
    Fetched,
    Frames,
    InRing,
    ProtocolError,
    Run,
)
from server.workers.ring import RingReader
from server.workers.scheduling import Claim
from server.workers.spool import Spool, SpoolBudget

log = structlog.get_logger(__name__)

PAUSE_S: Final = 0.25  # a reader that takes nothing for so long pauses; one that is only slow is left to the ring
PAUSE_WHILE_AWAITED_S: Final = 0.02  # the same, while somebody waits for its worker
NO_SPOOL_RETRY_S: Final = 1.0  # how often it is tried again to put frames into a spool that may not grow
_SMALL_FRAMES_BYTES_MAX: Final = 2 * INLINE_BYTES_MAX + (1 << 20)  # and the schema, which may be larger than they are

Answer: TypeAlias = Callable[[str, Sequence[Any]], Awaitable[Sequence[str]]]  # to a function, for rows of arguments


class StreamKeeper(Protocol):
    """What a stream needs of its pool."""

    spools: SpoolBudget

    @property
    def somebody_waits(self) -> bool: ...

    async def begin(self, stream: WorkerStream) -> WorkerProcess: ...

    def outgrown(self, worker: WorkerProcess, job: WorkerStream) -> None: ...

    def interrupt(self, worker: WorkerProcess, job: WorkerStream) -> None: ...


@dataclass(slots=True, eq=False)
class _Frame:
    """A frame or a piece of one, until the reader takes it: in the ring, in memory, or in the spool."""

    length: int
    more: bool
    place: InRing | None = None
    data: bytes | None = None
    offset: int | None = None  # in the spool
    counted: bool = False  # among the bytes that paused readers keep
    taken: bool = False


class WorkerStream:
    """The frames of one statement, each a serialized ``FlightData`` of its own ``bytes``; the first is the schema.

    Close it, or read it to its end. A reader that pauses keeps its frames and not its worker: they are put into a spool,
    and the worker goes on to the end. Where the spool may not grow, the worker waits with its ring full, and its clock
    stands still; whoever holds a worker like that while somebody waits for it has a deadline.

    In a place for short statements nothing is handed out before all of the result is there, so that it may begin anew
    in another place if it is not as short as that (``withheld``).
    """

    def __init__(
        self,
        pool: StreamKeeper,
        request: Callable[[int], Run],
        *,
        claim: Claim,
        affinity: str | None,
        timeout_s: float,
        result_bytes_max: int,
    ) -> None:
        self.number = 0
        self.request = request
        self.claim = claim
        self.affinity = affinity
        self.withheld = False
        self.kill_at: float | None = None
        self.rows = 0  # known at the end
        self.bytes_read = 0
        self.on_read: Callable[[], None] | None = None  # called when no worker needs what the statement reads any more
        self.on_fetch: Answer | None = None
        self._fetching: asyncio.Task[None] | None = None
        self._pool, self._timeout_s, self._result_bytes_max = pool, timeout_s, result_bytes_max
        self._loop = asyncio.get_running_loop()
        self._worker: WorkerProcess | None = None
        self._frames: deque[_Frame] = deque()  # in order, what the reader has not taken
        self._unspooled: deque[_Frame] = deque()  # those of them that are in the ring or in memory
        self._parts: list[bytes] = []  # of a frame that comes in pieces
        self._held: set[int] = set()  # slots of the ring that are ours
        self._inline_bytes = self._part_bytes = self._received_bytes = 0
        self._spool: Spool | None = None
        self._spooling: asyncio.Task[None] | None = None
        self._in_spool = self._kept_bytes = 0
        self._no_spool = ""  # why the spool may not grow, if so
        self._pause_timer: asyncio.TimerHandle | None = None
        self._error: LakeflightError | None = None
        self._all_there = False  # the worker has said its last word, and only its ring is needed
        self._ended = False
        self._waker: asyncio.Future[None] | None = None
        self._engine_s = 0.0
        self._engine_since: float | None = None  # the engine's clock runs since then; None: it stands still
        self._asked_at = 0.0  # since then the reader could have taken a frame

    @property
    def engine_s(self) -> float:
        """Engine time so far."""
        running = 0.0 if self._engine_since is None else time.monotonic() - self._engine_since
        return self._engine_s + running

    @property
    def kept_bytes(self) -> int:
        """What it keeps for its reader outside of the ring, on disk or in memory."""
        return self._kept_bytes

    def __aiter__(self) -> WorkerStream:
        return self

    async def __anext__(self) -> bytes:
        try:
            while True:
                if self._worker is None and not self._ended:
                    self._worker = await self._pool.begin(self)
                    if self._engine_since is None and not self._ended:
                        self._engine_since = time.monotonic()
                self._asked_at = time.monotonic()
                if self._error is not None:
                    error, self._error = self._error, None
                    raise error
                if self._frames and not self.withheld:
                    frame = await self._take()
                    if frame is not None:
                        return frame
                    continue
                if self._ended:
                    self._drop()
                    raise StopAsyncIteration
                self._waker = self._loop.create_future()
                await self._waker
        except asyncio.CancelledError:
            self._give_up()
            raise
        except LakeflightError:
            self.release_worker()
            self._ended = True
            self._drop()
            raise

    async def aclose(self) -> None:
        """Stop; the worker is told at once, and nothing here waits for it."""
        self._give_up()

    def cancel(self) -> None:
        """Somebody else stops this statement; its reader gets an error."""
        if not self._ended:
            self.release_worker()
            self.fail(QueryCancelledError("the statement was cancelled"))

    # a job, for the worker's handle and the pool

    def answered(self, message: Any) -> bool:
        now = time.monotonic()
        if self._all_there:
            raise ProtocolError(f"{type(message).__name__} after the end")
        if isinstance(message, InRing):
            self._note_place(message, now)
            return False
        if isinstance(message, Frames):
            self._note_small(message.frames)
            return False
        if isinstance(message, Fetch):
            self._start_fetching(message)
            return False
        self._stop_clock(now)
        self.withheld = False
        if isinstance(message, Failed):
            self._drop()
            self._end(error_of(message.error, message.message))
        elif isinstance(message, Done):
            if message.rows < 0:
                raise ProtocolError("a negative number of rows")
            self._note_small(message.frames)
            self.rows = message.rows
            if not self._empty_ring():
                self._all_there = True
                self._let_go()
                self._wake()
                self._watch_pause()
                return False
            self._end(None)
            self._watch_pause()
        else:
            raise ProtocolError(f"{type(message).__name__} is no part of a stream")
        return True

    def lost(self, error: WorkerLostError) -> None:
        self._stop_clock(time.monotonic())
        if not self._ended:
            log.error("query.worker_lost", reason=str(error))
            self.fail(InternalError("the statement's worker failed"))

    def start_over(self) -> None:
        """Forget all that came from the first worker, of which nothing was handed out, and ask for another."""
        self._stop_clock(time.monotonic())
        self._stop_fetching()
        self._frames.clear()
        self._unspooled.clear()
        self._held.clear()
        self._inline_bytes = self._received_bytes = 0
        self._engine_s = 0.0
        self._worker, self.withheld = None, False
        self._wake()

    def hand_out(self) -> None:
        """The place is its own: what has come is the reader's."""
        self.withheld = False
        self._wake()
        if len(self._held) == SLOTS:
            self._wait_for_reader()

    def hurry(self) -> None:
        """Somebody waits for the worker: if it stands still because of the reader, the rest goes into the spool."""
        if len(self._held) == SLOTS and not self.withheld:
            self._watch_pause()

    def overdue(self, now: float, stall_max_s: float) -> LakeflightError | None:
        """Why this stream may not go on, if so."""
        engine_s = self._engine_s + (0.0 if self._engine_since is None else now - self._engine_since)
        if engine_s > self._timeout_s:
            return QueryTimeoutError(f"the statement took more than {self._timeout_s:g} s of engine time")
        if self._received_bytes > self._result_bytes_max:
            return LimitExceededError(
                f"the result is larger than {self._result_bytes_max} bytes: add a LIMIT or select fewer columns"
            )
        if self._frames and not self.withheld and now - self._asked_at > stall_max_s:
            why = f", and {self._no_spool}" if self._no_spool else ""
            return LimitExceededError(
                f"the reader took nothing for {stall_max_s:g} s{why}: read results to the end, or select less"
            )
        return None

    def release_worker(self) -> None:
        """It needs its worker no longer: that is told to stop, unless it has come to its end already."""
        worker = self._worker
        if worker is None or worker.job is not self or self.kill_at is not None:
            return
        if self._all_there:
            worker.finish(self)
        else:
            self._pool.interrupt(worker, self)

    def fail(self, error: LakeflightError) -> None:
        """End it with an error; its worker is not told."""
        self._drop()
        self.withheld = False
        self._end(error)

    def _start_fetching(self, message: Fetch) -> None:
        if self.on_fetch is None or self._worker is None or (self._fetching and not self._fetching.done()):
            raise ProtocolError("payloads are asked for out of turn")
        if not self._ended and self.kill_at is None:
            self._fetching = self._loop.create_task(self._fetch(message, self.on_fetch, self._worker))

    async def _fetch(self, message: Fetch, fetch: Answer, worker: WorkerProcess) -> None:
        try:
            answer = Fetched(message.job, list(await fetch(message.function, message.rows)), "", "")
        except LakeflightError as error:
            answer = Fetched(message.job, [], type(error).__name__, str(error))
        except Exception as error:
            log.error("query.fetch_failed", exc_info=error)
            answer = Fetched(message.job, [], InternalError.__name__, "what the statement asked of the server failed")
        if worker.job is self and self.kill_at is None:
            worker.send(answer)

    def _stop_fetching(self) -> None:
        if self._fetching is not None:
            self._fetching.cancel()
            self._fetching = None

    def _note_small(self, frames: list[Any]) -> None:
        for frame in frames:
            if not isinstance(frame, bytes) or not frame:
                raise ProtocolError("a frame that is no bytes")
            self._inline_bytes += len(frame)
            self._received_bytes += len(frame)
        if self._inline_bytes > _SMALL_FRAMES_BYTES_MAX:
            raise ProtocolError(f"{self._inline_bytes} bytes of small frames")
        self._append(*(_Frame(len(frame), False, data=frame) for frame in frames))

    def _note_place(self, place: InRing, now: float) -> None:
        RingReader.check(place.slot, place.offset, place.length)
        if place.slot in self._held:
            raise ProtocolError(f"slot {place.slot} is not the worker's")
        self._held.add(place.slot)
        self._received_bytes += place.length
        self._append(_Frame(place.length, place.more, place=place))
        if len(self._held) < SLOTS:
            if self._in_spool:  # the reader is behind already
                self._start_spooling()
            return
        self._stop_clock(now)  # it cannot go on before somebody takes a frame
        self.claim.large = True
        if self.withheld and self._worker is not None:
            self._pool.outgrown(self._worker, self)
        else:
            self._wait_for_reader()

    def _wait_for_reader(self) -> None:
        """The worker stands still; for how long, depends on who else waits for it."""
        if self._in_spool:
            self._start_spooling()
        else:
            self._watch_pause()

    def _append(self, *frames: _Frame) -> None:
        if self._ended or not frames:  # nobody reads it
            return
        if not self._frames:
            self._asked_at = time.monotonic()  # while there was nothing to take, nobody stalled
        self._frames.extend(frames)
        self._unspooled.extend(frames)
        self._wake()

    async def _take(self) -> bytes | None:
        """The next frame, ``None`` if what came next was only a piece of one."""
        frame = self._frames.popleft()
        frame.taken = True
        while self._unspooled and self._unspooled[0].taken:
            self._unspooled.popleft()
        self._uncount(frame)
        if frame.offset is not None and frame.data is None and self._spool is not None:
            self._in_spool -= 1
            try:
                data = await self._spool.read(frame.offset, frame.length)
            except OSError as error:
                log.error("spool.read_failed", error=str(error))
                self.release_worker()
                raise BackendUnavailableError(
                    "the rest of the result could not be read back from the server's disk: run the statement again"
                ) from error
        else:
            data = self._data(frame)
        self.bytes_read += len(data)
        if not frame.more and not self._parts:
            return data
        self._parts.append(data)
        self._part_bytes += len(data)
        if self._part_bytes > WIDE_FRAME_BYTES_MAX + (1 << 20):
            self.release_worker()
            self.fail(InternalError("the statement's worker failed"))
            return None
        if frame.more:
            return None
        whole = b"".join(self._parts)
        self._parts, self._part_bytes = [], 0
        return whole

    def _data(self, frame: _Frame) -> bytes:
        """The bytes of a frame that is not in the spool; if it is in the ring, its slot is the worker's again."""
        if frame.data is not None:
            return frame.data
        place, worker = frame.place, self._worker
        if place is None or worker is None or worker.ring is None or worker.job is not self:
            raise InternalError("a frame without its ring")
        frame.data, frame.place = worker.ring.copy(place.offset, place.length), None
        self._held.discard(place.slot)
        if self._all_there:
            if not self._held:
                self._end(None)
                worker.finish(self)
        elif self.kill_at is None:
            worker.send(Credit(self.number, place.slot))
            if self._engine_since is None:
                self._engine_since = time.monotonic()
        return frame.data

    def _empty_ring(self) -> bool:
        """Take what is left in the ring out of it, as the worker's next job needs it; unless that may not be kept."""
        left = [frame for frame in self._unspooled if frame.place is not None]
        if not all(map(self._count, left)):
            return False
        self._all_there = True  # no slot is given back
        for frame in left:
            worker, place = self._worker, frame.place
            if worker is None or worker.ring is None or place is None:
                raise InternalError("a frame without its ring")
            frame.data, frame.place = worker.ring.copy(place.offset, place.length), None
        self._held.clear()
        return True

    # the spool

    def _watch_pause(self) -> None:
        """Frames wait in memory: if the reader takes none for a while, they go into the spool."""
        if self._unspooled and self._spooling is None:
            self._look_again_in(self._pause_s)

    @property
    def _pause_s(self) -> float:
        awaited = self._pool.somebody_waits and not self._ended
        return PAUSE_WHILE_AWAITED_S if awaited else PAUSE_S

    def _look_again_in(self, seconds: float) -> None:
        if self._pause_timer is not None:
            self._pause_timer.cancel()
        self._pause_timer = self._loop.call_later(seconds, self._maybe_paused)

    def _maybe_paused(self) -> None:
        self._pause_timer = None
        if not self._frames or self._error is not None:
            return
        left_s = self._asked_at + self._pause_s - time.monotonic()
        if left_s > 0:
            self._look_again_in(left_s)
        else:
            self._start_spooling()

    def _start_spooling(self) -> None:
        if self._spooling is None and self._unspooled:
            self._spooling = self._loop.create_task(self._fill_spool())

    async def _fill_spool(self) -> None:
        """Move what waits in the ring or in memory into the spool, in order, until nothing does."""
        try:
            while self._unspooled:
                frame = self._unspooled[0]
                if not self._count(frame):
                    self._look_again_in(NO_SPOOL_RETRY_S)
                    return
                await self._put_into_spool(frame, self._data(frame))
                if self._unspooled and self._unspooled[0] is frame:  # the reader did not take it meanwhile
                    self._unspooled.popleft()
        except OSError as error:
            log.warning("spool.write_failed", error=str(error))
            self._no_spool = "the server's disk has no room for half-read results"
            if self._frames:
                self._look_again_in(NO_SPOOL_RETRY_S)
        except LakeflightError as error:
            self.release_worker()
            self.fail(error)
        finally:
            self._spooling = None

    async def _put_into_spool(self, frame: _Frame, data: bytes) -> None:
        if self._spool is None:
            self._spool = self._pool.spools.open_spool()
        spool = self._spool
        offset = await spool.write(data)
        if self._spool is not spool:
            return  # it was closed meanwhile
        if frame.taken:
            await spool.forget(offset, frame.length)
        else:
            frame.offset, frame.data = offset, None
            self._in_spool += 1

    def _count(self, frame: _Frame) -> bool:
        """Count it among the bytes that paused readers keep, if it may be."""
        if not frame.counted:
            self._no_spool = self._pool.spools.take(self.claim.caller.name, frame.length) or ""
            if self._no_spool:
                return False
            frame.counted = True
            self._kept_bytes += frame.length
        return True

    def _uncount(self, frame: _Frame) -> None:
        if frame.counted:
            frame.counted = False
            self._kept_bytes -= frame.length
            self._pool.spools.give(self.claim.caller.name, frame.length)

    def _drop(self) -> None:
        """Nobody reads the rest: the spool is closed, and nothing is kept any more."""
        for frame in self._frames:
            self._uncount(frame)
        self._frames.clear()
        self._unspooled.clear()
        self._in_spool = 0
        if self._pause_timer is not None:
            self._pause_timer.cancel()
            self._pause_timer = None
        if self._spool is not None:
            self._spool.close()
            self._spool = None

    # its end

    def _give_up(self) -> None:
        """The reader wants no more. Synchronous, because its task may be being cancelled."""
        if not self._ended:
            self.release_worker()
        self._drop()
        self._end(None)

    def _stop_clock(self, now: float) -> None:
        if self._engine_since is not None:
            self._engine_s += now - self._engine_since
            self._engine_since = None

    def _end(self, error: LakeflightError | None) -> None:
        if not self._ended:
            self._ended, self._error = True, error
            self._let_go()
        self._wake()

    def _let_go(self) -> None:
        """What the statement reads may go, though its reader may take long yet."""
        self._stop_fetching()
        if self.on_read is not None:
            self.on_read()
            self.on_read = None

    def _wake(self) -> None:
        if self._waker is not None and not self._waker.done():
            self._waker.set_result(None)
