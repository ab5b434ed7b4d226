"""The edge's handles: on a zygote, and on each worker that it forked.

A worker is named by a pidfd, so a signal never reaches another process that got its number. A worker that says
something the protocol does not have is killed. Which job goes to which worker, and how long it may take, is for
``pool``.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

import structlog

from lakehouse.errors import InternalError, LimitExceededError
from server.python_programs import import_path, own_program
from server.workers.protocol import (
    ANSWER_BYTES_MAX,
    REQUEST_BYTES_MAX,
    Exited,
    Failed,
    Message,
    ProtocolError,
    Ready,
    Spawn,
    Spawned,
    Splitter,
    Warm,
    decode,
    encode,
    pack,
)
from server.workers.ring import RingReader

log = structlog.get_logger(__name__)

WARM_UP_MAX_S: Final = 180.0  # the first start of a new version compiles every kernel
SPAWN_MAX_S: Final = 10.0  # a fork and the engine's first database; more means that something is wrong
DEATH_NOTICE_S: Final = 0.1  # a zygote's workers die just after it
PACKET_BYTES_MAX: Final = 64 << 10
PACKETS_PER_WAKE_MAX: Final = 64
YIELDING_NICENESS: Final = 5  # steps behind the others: a third of their weight, and it still comes to its end in time
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
# what a zygote may see of the server's environment: where libraries and caches are, and nothing that could be a secret
_INHERITED: Final = (
    *("LD_LIBRARY_PATH", "LANG", "LC_ALL", "PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX"),
    *("NUMBA_CACHE_DIR", "NUMBA_BOUNDSCHECK", "NUMBA_DISABLE_JIT"),
)
# one thread before the fork, and a heap that neither shrinks nor grows in small steps while frames of 2 MiB come and go
_FIXED: Final = {
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
    "MALLOC_ARENA_MAX": "2",
    "NUMBA_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "PYTHONUTF8": "1",
    "TZ": "UTC",
}
_STREAMING_HEAP: Final = {
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TOP_PAD_": str(16 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(256 << 20),
}
# arrays of tens of megabytes come and go by the dozen: giving them back each time costs more than filling them
BUILDING_HEAP: Final = {
    "MALLOC_MMAP_THRESHOLD_": str(4 << 30),
    "MALLOC_TOP_PAD_": str(64 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(4 << 30),
}


class WorkerLostError(Exception):
    """The worker's process ended, or was ended, before it answered."""


class Job(Protocol):
    """What a worker is busy with."""

    number: int

    def answered(self, message: Any) -> bool:
        """Take one message about this job; true if it was the last."""
        ...

    def lost(self, error: WorkerLostError) -> None: ...


def worker_environment(environment: Mapping[str, str], heap: Mapping[str, str] = _STREAMING_HEAP) -> dict[str, str]:
    """The whole environment of a zygote, and with it what ``/proc`` shows of its workers."""
    inherited = {name: environment[name] for name in _INHERITED if name in environment}
    return {**import_path(environment), **inherited, **_FIXED, **heap}


class WorkerProcess(asyncio.Protocol):
    """One worker: its connection, its pidfd, perhaps its ring, and the job in hand."""

    def __init__(self, kinds: frozenset[type[Any]], *, with_ring: bool) -> None:
        self.pid = 0
        self.zygote_pid: int | None = None
        self.ring = RingReader() if with_ring else None
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.on_idle: Callable[[WorkerProcess], None] = lambda _: None
        self.on_lost: Callable[[WorkerProcess], None] = lambda _: None
        self.job: Job | None = None
        self.jobs_done = 0
        self.affinity: str | None = None  # what its reusable database was made for
        self.catalog: object = None  # what it was told about the catalog
        self.birth_bytes = 0
        self.gone = False
        self.yielding = False  # it has run long, and lets others go first
        self._kinds = kinds | {Ready, Failed}
        self._splitter = Splitter(ANSWER_BYTES_MAX)
        self._transport: asyncio.Transport | None = None
        self._pidfd = -1
        self._reason = "it ended by itself"

    def adopt(self, pid: int, pidfd: int) -> None:
        self.pid, self._pidfd = pid, pidfd
        if self.gone:
            self._close_pidfd()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        try:
            for packet in self._splitter.feed(data):
                self._dispatch(decode(packet, self._kinds))
                if self.gone:
                    return
        except ProtocolError as error:
            log.error("worker.protocol", pid=self.pid, error=str(error))
            self.kill(f"it broke the protocol: {error}")

    def connection_lost(self, _: Exception | None) -> None:
        self._lose()

    # the pool's side

    def start_job(self, job: Job, *packets: bytes) -> None:
        """Hand over a job, its messages packed. The caller has checked that there is none."""
        size = sum(map(len, packets))
        if size > REQUEST_BYTES_MAX:
            raise LimitExceededError(f"a request to a worker takes {size} bytes, the limit is {REQUEST_BYTES_MAX}")
        self.job = job
        self._write(b"".join(packets))

    def send(self, message: Message) -> None:
        self._write(pack(message))

    def kill(self, reason: str) -> None:
        """SIGKILL, and treat it as gone at once: nothing that it may still have said is read."""
        self._reason = reason
        if self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        self._lose()

    def yield_to_others(self) -> None:
        """Let everybody else have the processors first, from now on."""
        self.yielding = True
        self._step_back(YIELDING_NICENESS)

    def regain(self) -> bool:
        """Ask for the processors like everybody else again; whether the system lets us."""
        self.yielding = not self._step_back(0)
        return not self.yielding

    def _step_back(self, by: int) -> bool:
        """By so many steps of niceness behind this process, whatever its own is.

        All its threads: it leads a session and a group of its own. The kernel may weigh sessions first (autogroup).
        """
        try:
            if self.gone:
                return False
            signal.pidfd_send_signal(self._pidfd, 0)  # it still has its number
            os.setpriority(os.PRIO_PGRP, self.pid, os.getpriority(os.PRIO_PROCESS, 0) + by)
        except OSError:
            return False
        with contextlib.suppress(FileNotFoundError):
            try:
                Path(f"/proc/{self.pid}/autogroup").write_text(str(by))
            except OSError:
                return False
        return True

    def processor_s(self) -> float:
        """Time that it has had on the processors, all threads together, since it was born."""
        try:
            words = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(words[11]) + int(words[12])) / _TICKS_PER_S

    def resident_bytes(self) -> int:
        """Memory that is this worker's alone, roughly: resident without files and shared pages."""
        try:
            with open(f"/proc/{self.pid}/statm", encoding="ascii") as statm:
                _, resident, shared, *_ = statm.read().split()
        except (OSError, ValueError):
            return 0
        return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE")

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self.gone:
            self._transport.write(data)

    def _dispatch(self, message: Any) -> None:
        if isinstance(message, Ready):
            if self.ready.done() or self.job is not None:
                raise ProtocolError("Ready twice")
            self.birth_bytes = self.resident_bytes()
            self.ready.set_result(None)
            return
        if isinstance(message, Failed):
            if message.detail:
                log.error("worker.failed", pid=self.pid, detail=message.detail)
            if message.job == 0:
                self.kill("it could not start")
                return
        job = self.job
        if job is None or message.job != job.number:
            raise ProtocolError(f"{type(message).__name__} about job {message.job}, which it does not have")
        if job.answered(message):
            self.finish(job)

    def finish(self, job: Job) -> None:
        """The job needs this worker no longer; nothing if it is another's by now."""
        if self.job is job:
            self.job = None
            self.jobs_done += 1
            self.on_idle(self)

    def _lose(self) -> None:
        if self.gone:
            return
        self.gone = True
        if self._transport is not None:
            self._transport.abort()
        self._close_pidfd()
        error = WorkerLostError(self._reason)
        if not self.ready.done():
            self.ready.set_exception(error)
            self.ready.exception()  # whoever waits gets it; nobody waiting is no error
        job, self.job = self.job, None
        if job is not None:
            job.lost(error)
        if self.ring is not None:
            self.ring.close()
        self.on_lost(self)

    def _close_pidfd(self) -> None:
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1


class Zygote:
    """The edge's handle on a fork server; starts it again when it is gone."""

    def __init__(self, kind: str, settings: Mapping[str, Any], environment: Mapping[str, str]) -> None:
        self._kind = kind
        self._settings = dict(settings)
        self._environment = dict(environment)
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._warm: asyncio.Future[None] | None = None
        self._spawning: dict[int, asyncio.Future[tuple[int, int]]] = {}
        self._numbers = 0

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    def start(self) -> None:
        """Start the process; it warms up while the caller does other things.

        The calling thread must live as long as the server: the kernel ties the zygote's life to it.
        """
        if self._socket is not None:
            return
        if self._process is not None:
            self._process.wait()  # it has closed its socket, or was killed
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            ours.setblocking(False)
            settings = json.dumps(self._settings | {"edge_pid": os.getpid()})
            self._process = subprocess.Popen(
                own_program("server.workers.zygote", self._kind, str(theirs.fileno()), settings),
                env=self._environment,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,  # an interrupt from the terminal is the edge's to handle
            )
        self._socket = ours
        loop = asyncio.get_running_loop()
        self._warm = loop.create_future()
        loop.add_reader(ours.fileno(), self._readable)

    async def warm(self) -> None:
        """Wait until it can fork."""
        self.start()
        if self._warm is None:
            raise InternalError("the worker processes could not be started")
        try:
            async with asyncio.timeout(WARM_UP_MAX_S):  # wait_for would swallow a cancel that comes with the answer
                await asyncio.shield(self._warm)
        except TimeoutError:
            raise InternalError(f"{self._kind} workers were not ready within {WARM_UP_MAX_S:g} s") from None
        except ConnectionResetError as error:
            raise InternalError(f"{self._kind} workers could not be started") from error

    async def has_outlived(self, worker: WorkerProcess) -> bool:
        """Whether a worker that is gone died alone; its death may be the first that is seen of its zygote's."""
        await asyncio.sleep(DEATH_NOTICE_S)
        return self._socket is not None and self.pid == worker.zygote_pid

    async def spawn(self, kinds: frozenset[type[Any]], *, with_ring: bool) -> WorkerProcess:
        """Fork a worker and wait for its first words."""
        await self.warm()
        worker = WorkerProcess(kinds, with_ring=with_ring)
        worker.zygote_pid = self.pid
        try:
            async with asyncio.timeout(SPAWN_MAX_S):
                await self._fork(worker)
                await worker.ready
        except (TimeoutError, OSError, WorkerLostError) as error:
            worker.kill("it did not start")
            raise InternalError(f"a {self._kind} worker could not be started") from error
        except BaseException:
            worker.kill("nobody wants it any more")
            raise
        return worker

    async def _fork(self, worker: WorkerProcess) -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs:
            self._numbers += 1
            number = self._numbers
            answer = self._spawning[number] = loop.create_future()
            descriptors = [theirs.fileno()] + ([worker.ring.fd] if worker.ring else [])
            try:
                if self._socket is None:
                    raise ConnectionResetError("the zygote is gone")
                socket.send_fds(self._socket, [encode(Spawn(number))], descriptors)
                ours.setblocking(False)
                await loop.create_unix_connection(lambda: worker, sock=ours)
                worker.adopt(*await answer)
            finally:
                del self._spawning[number]
                if answer.done() and not answer.cancelled() and answer.exception() is None and not worker.pid:
                    os.close(answer.result()[1])
        if worker.ring is not None:
            worker.ring.close_fd()

    async def close(self) -> None:
        """End the zygote and with it every worker."""
        self._lose()
        process = self._process
        if process is not None:
            process.kill()
            await asyncio.get_running_loop().run_in_executor(None, process.wait)

    def _readable(self) -> None:
        for _ in range(PACKETS_PER_WAKE_MAX):
            if self._socket is None:
                return
            try:
                packet, descriptors, _, _ = socket.recv_fds(self._socket, PACKET_BYTES_MAX, 1, socket.MSG_CMSG_CLOEXEC)
            except BlockingIOError:
                return
            except OSError:
                packet, descriptors = b"", []
            if not packet:
                self._lose()
                return
            self._take_note(packet, descriptors)

    def _take_note(self, packet: bytes, descriptors: list[int]) -> None:
        try:
            message = decode(packet, frozenset({Warm, Spawned, Exited}))
        except ProtocolError as error:
            log.error("zygote.protocol", kind=self._kind, error=str(error))
            self._lose()
            return
        if isinstance(message, Warm) and self._warm is not None and not self._warm.done():
            if message.threads != 1:
                log.warning("zygote.threads", kind=self._kind, threads=message.threads)
            if message.problem:
                log.error("zygote.failed", kind=self._kind, detail=message.problem)
                self._warm.set_exception(InternalError(f"{self._kind} workers could not load their code"))
                self._warm.exception()
            else:
                self._warm.set_result(None)
            return
        if isinstance(message, Spawned) and len(descriptors) == 1:
            answer = self._spawning.get(message.number)
            if answer is not None and not answer.done():
                answer.set_result((message.pid, descriptors[0]))
                return
        if isinstance(message, Exited) and message.code:
            log.info("worker.exited", kind=self._kind, pid=message.pid, code=message.code)
        for descriptor in descriptors:
            os.close(descriptor)

    def _lose(self) -> None:
        if self._socket is None:
            return
        asyncio.get_running_loop().remove_reader(self._socket.fileno())
        self._socket.close()
        self._socket = None
        if self._process is not None:
            self._process.kill()  # no process without its handle
        error = ConnectionResetError("the zygote is gone")
        waiting: list[asyncio.Future[Any]] = [*self._spawning.values()]
        if self._warm is not None:
            waiting.append(self._warm)
        for future in waiting:
            if not future.done():
                future.set_exception(error)
                future.exception()
