"""Workers of one kind, the queue before them, and a clock over them: what both pools have in common.

Whose turn it is says ``scheduling``; here workers are started, handed out, taken back, worn out and replaced. A worker
that is gone gives its place back at once, and its successor takes its time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import structlog

from lakehouse.errors import BackendUnavailableError, InternalError, LakeflightError, LimitExceededError
from server.workers.processes import Job, WorkerProcess, Zygote
from server.workers.scheduling import Claim, Schedule

log = structlog.get_logger(__name__)

TICK_S: Final = 0.05  # how often running jobs are looked at
START_TRIES: Final = 5  # of a worker that is to be there for the first time
RESPAWN_PAUSE_MAX_S: Final = 5.0  # between attempts to replace a worker that does not start
WARM_CAP_BYTES: Final = 256 << 20  # below this, twice the memory at birth is not worth a new process
JOBS_PER_LOOK: Final = 8  # a worker's memory is looked at after so many jobs, not after each
REST_LOOK_S: Final = 10.0  # how often workers that rest are looked at: after they have given back what they can
REST_GROWTH_MAX_BYTES: Final = 32 << 20  # a worker that rests and keeps more than this of its past is replaced


class Workforce:
    """Workers of one kind, a queue before them, and a clock over them."""

    def __init__(
        self, zygote: Zygote, kinds: frozenset[type[Any]], schedule: Schedule, jobs_max: int, *, ring: bool
    ) -> None:
        self._zygote, self._kinds, self._schedule, self._jobs_max, self._ring = zygote, kinds, schedule, jobs_max, ring
        self._workers: set[WorkerProcess] = set()
        self._idle: list[WorkerProcess] = []  # the one used last comes last
        self._waiting: dict[Claim, _Waiter] = {}
        self._work: dict[WorkerProcess, Work] = {}  # of the workers that have a place
        self._tasks: set[asyncio.Task[None]] = set()
        self._up = asyncio.Event()  # every slot has had its worker, or none will
        self._start_trouble: Exception | None = None
        self._ticking = False
        self._rested: dict[WorkerProcess, int] = {}  # how many jobs each idle worker had done at the last look
        self._rest_timer: asyncio.TimerHandle | None = None
        self._closed = False
        self._numbers = 0

    async def start(self) -> None:
        """Start the processes. They warm up by themselves; requests that come before they are ready wait."""
        self._zygote.start()
        for _ in range(self._schedule.places):
            self._replace()
        self._look_at_rest()

    async def ready(self) -> None:
        """Wait until every slot has its worker.

        Raises:
            InternalError: The workers' code cannot be loaded, or no worker starts.
        """
        await self._zygote.warm()
        await self._up.wait()
        if self._start_trouble is not None:
            raise InternalError(
                f"{self._start_trouble}: it was refused memory, processes or open files; the log has more"
            ) from self._start_trouble

    async def close(self) -> None:
        """End every process. Jobs under way fail."""
        self._closed = True
        if self._rest_timer is not None:
            self._rest_timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for worker in list(self._workers):
            worker.kill("the server is stopping")
        for waiter in self._waiting.values():
            waiter.refuse(BackendUnavailableError("the server is stopping"))
        await self._zygote.close()

    @property
    def pids(self) -> list[int]:
        """The zygote and its workers."""
        zygote = self._zygote.pid
        return ([zygote] if zygote is not None else []) + [worker.pid for worker in self._workers]

    @property
    def waiting(self) -> int:
        """Requests that wait for a worker."""
        return self._schedule.waiting

    @property
    def somebody_waits(self) -> bool:
        return self._schedule.waiting > 0

    @property
    def busy_pids(self) -> list[int]:
        """Workers that have a job."""
        return [worker.pid for worker in self._workers if worker.job is not None]

    @property
    def busy(self) -> int:
        return len(self.busy_pids)

    async def _acquire(self, claim: Claim, affinity: str | None = None) -> WorkerProcess:
        """A worker without a job; it is the caller's, who gives it a job before the next await.

        Raises:
            LimitExceededError: The queue is full.
            BackendUnavailableError: It was our turn too late.
        """
        if self._closed:
            raise BackendUnavailableError("the server is stopping")
        loop = asyncio.get_running_loop()
        leaves = self._schedule.wait(claim, time.monotonic())
        if leaves is not None:
            self._waiting[leaves].refuse(
                LimitExceededError("the server is busy, and this connection has the most requests waiting: try again")
            )
        waiter = self._waiting[claim] = _Waiter(loop.create_future(), affinity)
        self._assign()
        if not waiter.future.done():
            self._somebody_queues()
        wait_max_s = self._wait_max_s(claim)
        timer = loop.call_later(wait_max_s, waiter.refuse, _too_late(wait_max_s))
        try:
            return await waiter.future
        except BaseException:
            future = waiter.future
            if future.done() and not future.cancelled() and future.exception() is None:
                self._offer(future.result())  # it came just when we were cancelled
            raise
        finally:
            timer.cancel()
            self._schedule.withdraw(claim)
            del self._waiting[claim]

    def _assign(self) -> None:
        """Free workers go to those whose turn it is."""
        while self._idle and (claim := self._schedule.next(time.monotonic())) is not None:
            waiter = self._waiting[claim]
            worker = self._pick(waiter.affinity)
            self._work[worker] = Work(claim)
            if waiter.future.done():  # refused, or gone, in this very moment
                self._offer(worker)
            else:
                waiter.future.set_result(worker)

    def _pick(self, affinity: str | None) -> WorkerProcess:
        """A worker whose database can serve again; else the one whose database is least likely to be wanted."""
        match = (i for i, worker in enumerate(self._idle) if affinity is not None and worker.affinity == affinity)
        return self._idle.pop(next(match, -1 if affinity is None else 0))

    def _wait_max_s(self, claim: Claim) -> float:
        """How long it may wait for its turn."""
        raise NotImplementedError

    def _somebody_queues(self) -> None:
        """There was no worker for a request."""

    def _offer(self, worker: WorkerProcess) -> None:
        """A worker is free, or at least its place is."""
        self._vacate(worker)
        if worker.gone:
            return
        if self._worn(worker):
            worker.kill("it has done its share")
        elif worker.yielding and not worker.regain():
            worker.kill("the system does not let it have the processors like others again")
        else:
            self._idle.append(worker)
            self._assign()

    def _vacate(self, worker: WorkerProcess) -> None:
        self._charge(worker)
        if (work := self._work.pop(worker, None)) is not None:
            self._schedule.end(work.claim)

    def _charge(self, worker: WorkerProcess) -> None:
        """What the worker's job has used of it so far."""
        work = self._work.get(worker)
        if work is not None and work.used_s is not None:
            self._schedule.charge(work.claim, work.used_s(), time.monotonic())

    def _worn(self, worker: WorkerProcess) -> bool:
        if worker.jobs_done >= self._jobs_max:
            return True
        if worker.jobs_done % JOBS_PER_LOOK:
            return False
        return worker.resident_bytes() > max(2 * worker.birth_bytes, WARM_CAP_BYTES)

    def _look_at_rest(self) -> None:
        """Replace workers that have done nothing since the last look and keep much: code that one kind of statement loads."""
        for worker in list(self._idle):
            if (
                self._rested.get(worker) == worker.jobs_done
                and worker.resident_bytes() > worker.birth_bytes + REST_GROWTH_MAX_BYTES
            ):
                worker.kill("it rests, and keeps much memory")
        self._rested = {worker: worker.jobs_done for worker in self._idle}
        self._rest_timer = asyncio.get_running_loop().call_later(REST_LOOK_S, self._look_at_rest)

    def _lost(self, worker: WorkerProcess) -> None:
        self._workers.discard(worker)
        self._vacate(worker)
        if worker in self._idle:
            self._idle.remove(worker)
        if not self._closed:
            self._replace()

    def _replace(self) -> None:
        task = asyncio.get_running_loop().create_task(self._spawn())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _spawn(self) -> None:
        pause_s = 0.1
        failures = 0
        while True:
            try:
                worker = await self._zygote.spawn(self._kinds, with_ring=self._ring)
                break
            except Exception as error:
                log.error("worker.spawn_failed", error=str(error), retry_s=pause_s)
                failures += 1
                if failures == START_TRIES and not self._up.is_set():  # whoever waits for the start is told, not kept
                    self._start_trouble = error
                    self._up.set()
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, RESPAWN_PAUSE_MAX_S)
        self._workers.add(worker)
        if len(self._workers) >= self._schedule.places:
            self._up.set()
        worker.on_idle, worker.on_lost = self._offer, self._lost
        if worker.gone:
            self._lost(worker)
        else:
            self._offer(worker)

    def _start_job(self, worker: WorkerProcess, job: Job, used_s: Callable[[], float], *packets: bytes) -> None:
        try:
            worker.start_job(job, *packets)
        except LimitExceededError:
            self._offer(worker)
            raise
        if worker.gone:
            raise InternalError("a worker ended before it had its job")
        self._work[worker].used_s = used_s
        if not self._ticking:
            self._ticking = True
            asyncio.get_running_loop().call_later(TICK_S, self._tick)

    def _next_number(self) -> int:
        self._numbers += 1
        return self._numbers

    def _tick(self) -> None:
        now = time.monotonic()
        self._ticking = False
        for worker in list(self._workers):
            job = worker.job
            if job is not None:
                self._ticking = True
                self._charge(worker)
                self._look(worker, job, now)
        if self._ticking:
            asyncio.get_running_loop().call_later(TICK_S, self._tick)

    def _look(self, worker: WorkerProcess, job: Job, now: float) -> None:
        raise NotImplementedError


@dataclass(slots=True)
class Work:
    """What a worker was given away for."""

    claim: Claim
    used_s: Callable[[], float] | None = None  # how much of the engine its job has used
    processor_s: float | None = None  # the worker's time on the processors when its job was first looked at


@dataclass(slots=True)
class _Waiter:
    """Who waits for a worker, and what it should have at hand."""

    future: asyncio.Future[WorkerProcess]
    affinity: str | None

    def refuse(self, error: LakeflightError) -> None:
        if not self.future.done():
            self.future.set_exception(error)


def _too_late(wait_max_s: float) -> BackendUnavailableError:
    return BackendUnavailableError(f"the server is busy: no worker was free within {wait_max_s:g} s; try again")
