"""The edge's pools: which worker gets which job, how long a job may take, and what happens when a worker fails.

Requests beyond the places wait their turn (``scheduling``), up to a bound in number and time. A job that overruns is
interrupted, given a moment, and then its worker is killed; a lost worker is replaced and costs its one caller an error.
What has run long lets others have the processors first, and holds no place that is kept for short statements. Engine
time is measured here, from the frames that come and go, so a worker has no say in it: while the reader holds every slot
of the ring, the clock stands still. Nothing here parses SQL or knows a view.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import structlog

from lakehouse.errors import (
    BackendUnavailableError,
    InternalError,
    QueryTimeoutError,
)
from lakehouse.jobs.executor import WorkerCrashedError
from lakehouse.model import Caller
from server.workers import spilling
from server.workers.jobs import Abandoned, Exchange, OutgrownError
from server.workers.processes import BUILDING_HEAP, Job, WorkerLostError, WorkerProcess, Zygote, worker_environment
from server.workers.protocol import (
    Build,
    Built,
    Cancel,
    Describe,
    Done,
    Fetch,
    Frames,
    InRing,
    Inspect,
    Inspected,
    Run,
    pack,
)
from server.workers.result_stream import WorkerStream
from server.workers.scheduling import OUTGROWN_AFTER_CPU_S, OUTGROWN_AFTER_S, Claim, Schedule, text_key
from server.workers.spool import SpoolBudget, SpoolLimits
from server.workers.workforce import Workforce

log = structlog.get_logger(__name__)

_NOBODY: Final = Caller()


@dataclass(frozen=True, slots=True)
class QueryPoolLimits:
    """What statements may cost the machine."""

    slots: int = 2  # statements at once: the number of cores
    short_slots: int = 0  # beside them, for short ones alone
    queued_per_slot_max: int = 64
    queue_wait_max_s: float = 30.0
    long_queue_wait_max_s: float = 300.0  # of what is known to take long: it waits for others of its kind
    statement_timeout_s: float = 60.0  # of engine time; a reader's pauses do not count
    inspect_timeout_s: float = 10.0
    kill_grace_s: float = 1.5  # between interrupt and SIGKILL: with the replacement's start, two seconds
    stall_max_s: float = 1_800.0  # a reader that takes nothing of what the spool may not keep, and so holds a worker …
    stall_contended_max_s: float = 30.0  # … while somebody waits for one
    spool: SpoolLimits = field(default_factory=SpoolLimits)
    result_bytes_max: int = 4 << 30
    memory_bytes: int = 1 << 30  # the engine's own limit; the address space has room for what it does not count
    spill_folder: str = ""  # for what does not fit in that, a folder for each worker; none: it fails
    spill_bytes_max: int = 0  # of one statement
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


def _spill_of(limits: QueryPoolLimits) -> dict[str, Any] | None:
    """Where workers may spill, and how much; nowhere, unless the kernel keeps them from writing anything else."""
    if not limits.spill_folder or not limits.spill_bytes_max:
        return None
    if not spilling.can_confine():
        log.warning("queries.no_spill", reason="the kernel has no Landlock, so workers may not write at all")
        return None
    return {"folder": os.path.abspath(limits.spill_folder), "bytes_max": limits.spill_bytes_max}


class QueryWorkerPool(Workforce):
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
        spill = _spill_of(limits)
        settings = {
            "engine": engine,
            "engine_options": {"memory_bytes": limits.memory_bytes, "spill": spill, **(engine_options or {})},
            "address_space_bytes": limits.memory_bytes + limits.address_space_extra_bytes,
            # it writes no file, whatever the statement says, or none but those that it spills into
            "file_bytes_max": 0 if spill is None else spill["bytes_max"],
            "spill_folder": None if spill is None else spill["folder"],
        }
        zygote = Zygote("query", settings, worker_environment(environment))
        kinds: frozenset[type[Any]] = frozenset({Inspected, Frames, InRing, Fetch, Done})
        schedule = Schedule(limits.slots, limits.short_slots, limits.queued_per_slot_max * limits.slots)
        super().__init__(zygote, kinds, schedule, limits.jobs_per_worker_max, ring=True)
        self.spools = SpoolBudget(limits.spool)
        self._catalog: dict[str, Any] | None = None

    def describe(self, catalog: Mapping[str, Any]) -> None:
        """What workers are told about the catalog, each before its next job."""
        self._catalog = dict(catalog)

    async def close(self) -> None:
        await super().close()
        self.spools.close()

    async def inspect(self, statement: Statement, caller: Caller = _NOBODY) -> Planned:
        """What the statement needs and yields, as the engine says it; the caller checks the values.

        Raises:
            QueryError: The statement cannot run.
            QueryTimeoutError: It is too hard to plan.
        """
        claim = Claim(caller, text_key(caller, "inspect", statement.sql))
        while True:
            try:
                return await self._inspect(statement, claim)
            except OutgrownError:
                claim = self._schedule.anew(claim)

    async def _inspect(self, statement: Statement, claim: Claim) -> Planned:
        worker = await self._acquire(claim)
        began = time.monotonic()  # waiting for the worker is no engine time
        job = Exchange(self._next_number(), began + self._limits.inspect_timeout_s)
        options = dict(statement.options or {})
        request = Inspect(job.number, statement.sql, statement.parameters, options)
        self._start(worker, job, lambda: time.monotonic() - began, request)
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
        caller: Caller = _NOBODY,
        affinity: str | None = None,
        timeout_s: float | None = None,
    ) -> WorkerStream:
        """The statement's frames; it waits for a slot and starts when the first one is asked for.

        Args:
            relations: What the statement may read, in plain values.
            caller: Who asks: callers and their connections take turns.
            affinity: Names the database that could serve this statement: statements with equal values may share one.
            timeout_s: Engine time, if less than the usual.
        """
        limit_s = self._limits.statement_timeout_s
        return WorkerStream(
            self,
            lambda number: Run(
                number, statement.sql, statement.parameters, list(relations), dict(statement.options or {})
            ),
            claim=Claim(caller, text_key(caller, "run", statement.sql)),
            affinity=affinity,
            timeout_s=limit_s if timeout_s is None else min(timeout_s, limit_s),
            result_bytes_max=self._limits.result_bytes_max,
        )

    def _start(
        self, worker: WorkerProcess, job: Exchange | WorkerStream, used_s: Callable[[], float], request: Inspect | Run
    ) -> None:
        """Hand over a job, and before it what the worker must know: the catalog, if it was not told this one."""
        packets = [pack(request)]
        if self._catalog is not None and worker.catalog is not self._catalog:
            packets.insert(0, pack(Describe(self._catalog)))
        self._start_job(worker, job, used_s, *packets)
        worker.catalog = self._catalog  # not before: of what is too large to be sent, nothing is

    async def begin(self, stream: WorkerStream) -> WorkerProcess:
        worker = await self._acquire(stream.claim, stream.affinity)
        stream.number = self._next_number()
        stream.withheld = stream.claim.place == "short"
        self._start(worker, stream, lambda: stream.engine_s, stream.request(stream.number))
        worker.affinity = stream.affinity
        return worker

    def outgrown(self, worker: WorkerProcess, job: Exchange | WorkerStream) -> None:
        """A job is too long for its short place: it goes on in a long one, or begins anew when there is one."""
        claim = self._work[worker].claim
        if self._schedule.outgrows(claim):
            if isinstance(job, WorkerStream):
                job.hand_out()
            return
        self._charge(worker)
        self._work[worker].used_s = None  # charged, and what follows is its worker's time to stop
        worker.job = abandoned = Abandoned(job.number)
        self.interrupt(worker, abandoned)
        if isinstance(job, WorkerStream):
            job.claim = self._schedule.anew(claim)
        job.start_over()

    def interrupt(self, worker: WorkerProcess, job: Exchange | WorkerStream | Abandoned) -> None:
        """Ask the worker to stop; if it does not, the clock will kill it."""
        job.kill_at = time.monotonic() + self._limits.kill_grace_s
        worker.send(Cancel(job.number))

    def _wait_max_s(self, claim: Claim) -> float:
        return self._limits.long_queue_wait_max_s if claim.long else self._limits.queue_wait_max_s

    def _somebody_queues(self) -> None:
        for worker in self._workers:
            if isinstance(worker.job, WorkerStream):
                worker.job.hurry()

    def _look(self, worker: WorkerProcess, job: Job, now: float) -> None:
        if not isinstance(job, Exchange | WorkerStream | Abandoned):
            raise TypeError(f"not a query worker's job: {job}")
        if job.kill_at is not None:
            if now >= job.kill_at:
                worker.kill("it did not stop when it was asked to")
        elif isinstance(job, Exchange) and now >= job.deadline:
            self.interrupt(worker, job)
            if not job.answer.done():
                limit_s = self._limits.inspect_timeout_s
                job.answer.set_exception(QueryTimeoutError(f"planning the statement took more than {limit_s:g} s"))
        elif isinstance(job, WorkerStream) and (error := job.overdue(now, self._stall_max_s)):
            job.release_worker()
            job.fail(error)
        elif isinstance(job, Exchange | WorkerStream) and self._is_long(worker):
            if self._work[worker].claim.place == "short":
                self.outgrown(worker, job)
            elif not worker.yielding:
                worker.yield_to_others()

    @property
    def _stall_max_s(self) -> float:
        return self._limits.stall_contended_max_s if self.somebody_waits else self._limits.stall_max_s

    def _is_long(self, worker: WorkerProcess) -> bool:
        """By the processors, for on a busy machine the clock says little; by the clock in the end."""
        work = self._work[worker]
        if work.processor_s is None:
            work.processor_s = worker.processor_s()
        used_s = work.claim.used_s
        return used_s > OUTGROWN_AFTER_S or (
            used_s > OUTGROWN_AFTER_CPU_S and worker.processor_s() - work.processor_s > OUTGROWN_AFTER_CPU_S
        )


class BuildWorkerPool(Workforce):
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
        schedule = Schedule(limits.slots, waiting_max=limits.queued_max)
        super().__init__(zygote, frozenset({Built}), schedule, limits.jobs_per_worker_max, ring=False)

    async def build(self, job: dict[str, Any], deadline_s: float) -> dict[str, Any]:
        """Run one job; waiting for a worker does not count towards ``deadline_s``. The answer is not to be believed.

        Raises:
            WorkerCrashedError: The job killed its worker, or overran: halve it to find the block that did.
        """
        number = self._next_number()
        packet = await asyncio.to_thread(pack, Build(number, job))  # of megabytes, which takes as many milliseconds
        worker = await self._acquire(Claim(_NOBODY))
        began = time.monotonic()
        exchange = Exchange(number, began + deadline_s)
        self._start_job(worker, exchange, lambda: time.monotonic() - began, packet)
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

    def _wait_max_s(self, claim: Claim) -> float:
        return self._limits.queue_wait_max_s

    def _look(self, worker: WorkerProcess, job: Job, now: float) -> None:
        if isinstance(job, Exchange) and now >= job.deadline:
            worker.kill("it took too long")
