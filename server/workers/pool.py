"""The edge's pools: which worker gets which job, how long a job may take, and what happens when a worker fails.

A query slot is one worker. Requests beyond the slots queue, first come first served, up to a bound in number and time.
A job that overruns is interrupted, given a moment, and then its worker is killed; a lost worker is replaced and costs
its one caller an error. Engine time is measured here, from the frames that come and go, so a worker has no say in it:
while the reader holds every slot of the ring, the clock stands still. Nothing here parses SQL or knows a view.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import structlog

from lakehouse.errors import (
    BackendUnavailableError,
    InternalError,
    LimitExceededError,
    QueryTimeoutError,
)
from lakehouse.jobs.executor import WorkerCrashedError
from server.workers.jobs import Exchange, WorkerStream
from server.workers.processes import BUILDING_HEAP, Job, WorkerLostError, WorkerProcess, Zygote, worker_environment
from server.workers.protocol import (
    Build,
    Built,
    Cancel,
    Describe,
    Done,
    Frames,
    InRing,
    Inspect,
    Inspected,
    Run,
    pack,
)

log = structlog.get_logger(__name__)

TICK_S: Final = 0.05  # how often running jobs are looked at
RESPAWN_PAUSE_MAX_S: Final = 5.0  # between attempts to replace a worker that does not start
WARM_CAP_BYTES: Final = 256 << 20  # below this, twice the memory at birth is not worth a new process
JOBS_PER_LOOK: Final = 8  # a worker's memory is looked at after so many jobs, not after each


@dataclass(frozen=True, slots=True)
class QueryPoolLimits:
    """What statements may cost the machine."""

    slots: int = 2  # statements at once: the number of cores
    queued_per_slot_max: int = 8
    queue_wait_max_s: float = 30.0
    statement_timeout_s: float = 60.0  # of engine time; a reader's pauses do not count
    inspect_timeout_s: float = 10.0
    kill_grace_s: float = 1.5  # between interrupt and SIGKILL: with the replacement's start, two seconds
    stall_max_s: float = 300.0  # a reader that takes nothing …
    stall_contended_max_s: float = 30.0  # … while somebody waits for its slot
    result_bytes_max: int = 4 << 30
    memory_bytes: int = 1 << 30  # the engine's own limit; the address space has room for what it does not count
    address_space_extra_bytes: int = 3 << 30
    jobs_per_worker_max: int = 2_000  # an inspection and a run each, of a thousand queries


@dataclass(frozen=True, slots=True)
class BuildPoolLimits:
    """What materializing may cost the machine."""

    slots: int = 2
    queued_max: int = 1_024  # buckets of all queries; each of them is bounded by its own limits
    queue_wait_max_s: float = 600.0
    memory_bytes: int = 4 << 30  # address space beyond what the process is born with
    file_bytes_max: int = 8 << 30  # of one Parquet file
    jobs_per_worker_max: int = 500


class _Pool:
    """Workers of one kind, a queue before them, and a clock over them."""

    def __init__(self, zygote: Zygote, kinds: frozenset[type[Any]], slots: int, jobs_max: int, *, ring: bool) -> None:
        self._zygote, self._kinds, self._slots, self._jobs_max, self._ring = zygote, kinds, slots, jobs_max, ring
        self._workers: set[WorkerProcess] = set()
        self._idle: list[WorkerProcess] = []  # the one used last comes last
        self._waiting: deque[asyncio.Future[WorkerProcess]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._up = asyncio.Event()  # every slot has had its worker
        self._ticking = False
        self._closed = False
        self._numbers = 0

    async def start(self) -> None:
        """Start the processes. They warm up by themselves; requests that come before they are ready wait."""
        self._zygote.start()
        for _ in range(self._slots):
            self._replace()

    async def ready(self) -> None:
        """Wait until every slot has its worker.

        Raises:
            InternalError: The workers' code cannot be loaded.
        """
        await self._zygote.warm()
        await self._up.wait()

    async def close(self) -> None:
        """End every process. Jobs under way fail."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for worker in list(self._workers):
            worker.kill("the server is stopping")
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_exception(BackendUnavailableError("the server is stopping"))
        await self._zygote.close()

    @property
    def pids(self) -> list[int]:
        """The zygote and its workers."""
        zygote = self._zygote.pid
        return ([zygote] if zygote is not None else []) + [worker.pid for worker in self._workers]

    @property
    def waiting(self) -> int:
        """Requests that wait for a worker."""
        return len(self._waiting)

    @property
    def busy(self) -> int:
        return sum(worker.job is not None for worker in self._workers)

    async def _acquire(self, queued_max: int, wait_max_s: float, affinity: str | None = None) -> WorkerProcess:
        """A worker without a job; it is the caller's, who gives it a job before the next await.

        Raises:
            LimitExceededError: The queue is full.
            BackendUnavailableError: It was our turn too late.
        """
        if self._closed:
            raise BackendUnavailableError("the server is stopping")
        if self._idle and not self._waiting:
            match = (i for i, worker in enumerate(self._idle) if affinity is not None and worker.affinity == affinity)
            # a worker whose database can serve again; else the one whose database is least likely to be wanted
            return self._idle.pop(next(match, -1 if affinity is None else 0))
        if len(self._waiting) >= queued_max:
            raise LimitExceededError(f"the server is busy: {len(self._waiting)} requests wait already; try again")
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[WorkerProcess] = loop.create_future()
        self._waiting.append(waiter)
        timer = loop.call_later(wait_max_s, _too_late, waiter, wait_max_s)
        try:
            return await waiter
        except BaseException:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self._offer(waiter.result())  # it came just when we were cancelled
            raise
        finally:
            timer.cancel()
            if waiter in self._waiting:
                self._waiting.remove(waiter)

    def _offer(self, worker: WorkerProcess) -> None:
        """A worker is free: the first in the queue gets it."""
        if worker.gone:
            return
        if self._worn(worker):
            worker.kill("it has done its share")
            return
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(worker)
                return
        self._idle.append(worker)

    def _worn(self, worker: WorkerProcess) -> bool:
        if worker.jobs_done >= self._jobs_max:
            return True
        if worker.jobs_done % JOBS_PER_LOOK:
            return False
        return worker.resident_bytes() > max(2 * worker.birth_bytes, WARM_CAP_BYTES)

    def _lost(self, worker: WorkerProcess) -> None:
        self._workers.discard(worker)
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
        while True:
            try:
                worker = await self._zygote.spawn(self._kinds, with_ring=self._ring)
                break
            except Exception as error:
                log.error("worker.spawn_failed", error=str(error), retry_s=pause_s)
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, RESPAWN_PAUSE_MAX_S)
        self._workers.add(worker)
        if len(self._workers) >= self._slots:
            self._up.set()
        worker.on_idle, worker.on_lost = self._offer, self._lost
        if worker.gone:
            self._lost(worker)
        else:
            self._offer(worker)

    def _start_job(self, worker: WorkerProcess, job: Job, *packets: bytes) -> None:
        try:
            worker.start_job(job, *packets)
        except LimitExceededError:
            self._offer(worker)
            raise
        if worker.gone:
            raise InternalError("a worker ended before it had its job")
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
                self._look(worker, job, now)
        if self._ticking:
            asyncio.get_running_loop().call_later(TICK_S, self._tick)

    def _look(self, worker: WorkerProcess, job: Job, now: float) -> None:
        raise NotImplementedError


def _too_late(waiter: asyncio.Future[WorkerProcess], wait_max_s: float) -> None:
    if not waiter.done():
        waiter.set_exception(
            BackendUnavailableError(f"the server is busy: no worker was free within {wait_max_s:g} s; try again")
        )


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement as it goes to a worker. ``options`` are the engine's, in plain values."""

    sql: str
    parameters: bytes | None = None  # Arrow IPC stream with one batch of one row
    options: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Planned:
    """The engine's word about a statement, and the time that it took a worker."""

    inspection: dict[str, Any]
    engine_s: float


class QueryWorkerPool(_Pool):
    """Inspects and runs statements, each in a worker of its own."""

    def __init__(
        self,
        limits: QueryPoolLimits,
        *,
        engine: str = "server.workers.lake_engine:make_engine",
        engine_options: Mapping[str, Any] | None = None,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        """``engine`` names the factory, ``module:function``, that a worker calls with ``engine_options``."""
        self._limits = limits
        settings = {
            "engine": engine,
            "engine_options": {"memory_bytes": limits.memory_bytes, **(engine_options or {})},
            "address_space_bytes": limits.memory_bytes + limits.address_space_extra_bytes,
            "file_bytes_max": 0,  # it writes no file, whatever the statement says
        }
        zygote = Zygote("query", settings, worker_environment(environment))
        kinds: frozenset[type[Any]] = frozenset({Inspected, Frames, InRing, Done})
        super().__init__(zygote, kinds, limits.slots, limits.jobs_per_worker_max, ring=True)
        self._catalog: dict[str, Any] | None = None

    def describe(self, catalog: Mapping[str, Any]) -> None:
        """What workers are told about the catalog, each before its next job."""
        self._catalog = dict(catalog)

    async def inspect(self, statement: Statement) -> Planned:
        """What the statement needs and yields, as the engine says it; the caller checks the values.

        Raises:
            QueryError: The statement cannot run.
            QueryTimeoutError: It is too hard to plan.
        """
        worker = await self._acquire_slot(None)
        began = time.monotonic()  # waiting for the worker is no engine time
        job = Exchange(self._next_number(), began + self._limits.inspect_timeout_s)
        options = dict(statement.options or {})
        request = Inspect(job.number, statement.sql, statement.parameters, options)
        self._start_job(worker, job, *self._introduction(worker), pack(request))
        try:
            answer: Inspected = await job.answer
            return Planned(answer.inspection, time.monotonic() - began)
        except WorkerLostError as error:
            raise InternalError("the statement's worker failed") from error
        finally:
            job.answer.cancel()
            if worker.job is job and job.kill_at is None:  # the caller has gone
                self.interrupt(worker, job)

    def run(
        self,
        statement: Statement,
        relations: Sequence[Any] = (),
        *,
        affinity: str | None = None,
        timeout_s: float | None = None,
    ) -> WorkerStream:
        """The statement's frames; it waits for a slot and starts when the first one is asked for.

        Args:
            relations: What the statement may read, in plain values.
            affinity: Names the database that could serve this statement: statements with equal values may share one.
            timeout_s: Engine time, if less than the usual.
        """
        limit_s = self._limits.statement_timeout_s
        return WorkerStream(
            self,
            lambda number: Run(
                number, statement.sql, statement.parameters, list(relations), dict(statement.options or {})
            ),
            affinity=affinity,
            timeout_s=limit_s if timeout_s is None else min(timeout_s, limit_s),
            result_bytes_max=self._limits.result_bytes_max,
        )

    def _introduction(self, worker: WorkerProcess) -> list[bytes]:
        """What a worker must know before its next job: the catalog, if it was not told this one."""
        if self._catalog is None or worker.catalog is self._catalog:
            return []
        worker.catalog = self._catalog
        return [pack(Describe(self._catalog))]

    async def _acquire_slot(self, affinity: str | None) -> WorkerProcess:
        limits = self._limits
        return await self._acquire(limits.queued_per_slot_max * limits.slots, limits.queue_wait_max_s, affinity)

    async def begin(self, stream: WorkerStream) -> WorkerProcess:
        worker = await self._acquire_slot(stream.affinity)
        stream.number = self._next_number()
        self._start_job(worker, stream, *self._introduction(worker), pack(stream.request(stream.number)))
        worker.affinity = stream.affinity
        return worker

    def interrupt(self, worker: WorkerProcess, job: Exchange | WorkerStream) -> None:
        """Ask the worker to stop; if it does not, the clock will kill it."""
        job.kill_at = time.monotonic() + self._limits.kill_grace_s
        worker.send(Cancel(job.number))

    def _look(self, worker: WorkerProcess, job: Job, now: float) -> None:
        if isinstance(job, Exchange):
            if job.kill_at is None and now >= job.deadline:
                self.interrupt(worker, job)
                if not job.answer.done():
                    limit_s = self._limits.inspect_timeout_s
                    job.answer.set_exception(QueryTimeoutError(f"planning the statement took more than {limit_s:g} s"))
        elif isinstance(job, WorkerStream):
            stall_max_s = self._limits.stall_contended_max_s if self._waiting else self._limits.stall_max_s
            if job.kill_at is None and (error := job.overdue(now, stall_max_s)):
                job.fail(error)
                self.interrupt(worker, job)
        else:
            raise TypeError(f"not a query worker's job: {job}")
        if job.kill_at is not None and now >= job.kill_at:
            worker.kill("it did not stop when it was asked to")


class BuildWorkerPool(_Pool):
    """Materializes buckets, each in a worker of its own. Implements ``lakehouse.jobs.executor.BuildWorkers``."""

    def __init__(
        self,
        limits: BuildPoolLimits,
        *,
        builder: str = "server.workers.build_worker:bucket_builder",
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        """``builder`` names the factory, ``module:function``, that the zygote calls once."""
        self._limits = limits
        settings = {
            "builder": builder,
            "address_space_bytes": limits.memory_bytes,
            "file_bytes_max": limits.file_bytes_max,
        }
        zygote = Zygote("build", settings, worker_environment(environment, BUILDING_HEAP))
        super().__init__(zygote, frozenset({Built}), limits.slots, limits.jobs_per_worker_max, ring=False)

    async def build(self, job: dict[str, Any], deadline_s: float) -> dict[str, Any]:
        """Run one job; waiting for a worker does not count towards ``deadline_s``. The answer is not to be believed.

        Raises:
            WorkerCrashedError: The job killed its worker, or overran: halve it to find the block that did.
        """
        limits = self._limits
        number = self._next_number()
        packet = await asyncio.to_thread(pack, Build(number, job))  # of megabytes, which takes as many milliseconds
        worker = await self._acquire(limits.queued_max, limits.queue_wait_max_s)
        exchange = Exchange(number, time.monotonic() + deadline_s)
        self._start_job(worker, exchange, packet)
        try:
            answer: Built = await exchange.answer
            return answer.result
        except WorkerLostError as error:
            if self._closed or not await self._zygote.has_outlived(worker):
                raise BackendUnavailableError("the build workers are being restarted; try again") from error
            raise WorkerCrashedError(str(error)) from error
        finally:
            exchange.answer.cancel()
            if worker.job is exchange:  # the caller has gone; nothing else stops a decoder
                worker.kill("nobody wants its result any more")

    def _look(self, worker: WorkerProcess, job: Job, now: float) -> None:
        if isinstance(job, Exchange) and now >= job.deadline:
            worker.kill("it took too long")
