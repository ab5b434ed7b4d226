"""The ingestion processes of a server: started on one shared socket, started again when they end, stopped with it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import structlog

from lakehouse.storage import S3Options
from server.access.tls import TlsFiles
from server.access.writers import WritersSpec
from server.python_programs import import_path, own_program
from server.settings import spelled
from server.surroundings import Problem

log = structlog.get_logger(__name__)

RESTART_PAUSE_S: Final = 0.5  # doubles with each restart in a row …
RESTART_PAUSE_MAX_S: Final = 10.0  # … up to this; a process that ran for longer begins anew
READY_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class IngestionSpec:
    """What every ingestion process is told."""

    database_url: str
    store_url: str
    store_name: str | None
    object_cache: Path
    log_level: str
    otlp_grpc_address: str | None = None
    s3: S3Options = field(default_factory=S3Options)
    writers: WritersSpec | None = None  # ``None``: senders need no key
    tls: TlsFiles | None = None


@dataclass
class IngestionProcesses:
    """As many processes as asked for, all accepting from one listening socket."""

    listener: socket.socket
    spec: IngestionSpec
    count: int
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _children: dict[int, asyncio.subprocess.Process] = field(default_factory=dict)
    _stopping: bool = False

    async def start(self) -> None:
        """Start all of them; returns when each accepts requests. From then on each is replaced for as long as it takes.

        Raises:
            Problem: One ended before it accepted requests, or is too slow.
            OSError: One could not be started.
        """
        ready = [asyncio.get_running_loop().create_future() for _ in range(self.count)]
        self.tasks = [asyncio.create_task(self.keep(index, future)) for index, future in enumerate(ready)]
        try:
            async with asyncio.timeout(READY_S):
                await asyncio.gather(*ready)
        except TimeoutError as error:
            raise Problem(
                f"an ingestion process did not accept requests within {READY_S:g} s: the machine is busy or short of"
                f" memory; start the server again, with fewer processes if {spelled('http_processes')} asks for many"
            ) from error

    async def stop(self, grace_s: float) -> None:
        """SIGTERM, then what is left is killed after ``grace_s``."""
        self._stopping = True
        children = list(self._children.values())
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                child.send_signal(signal.SIGTERM)
        if children:
            _, late = await asyncio.wait([asyncio.create_task(c.wait()) for c in children], timeout=grace_s)
            if late:
                for child in children:
                    with contextlib.suppress(ProcessLookupError):
                        child.kill()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def keep(self, index: int, ready: asyncio.Future[None]) -> None:
        pause_s = RESTART_PAUSE_S
        while not self._stopping:
            began = time.monotonic()
            try:
                child = await self._spawn(ready)
            except Exception as error:  # no descriptor, no memory, no process left: that passes
                if not ready.done():
                    ready.set_exception(error)
                    return
                log.error("ingestion.restart_failed", error=str(error), retry_s=pause_s)
            else:
                code = await self._exit_of(index, child)
                if self._stopping:
                    return
                log.error("ingestion.ended", exit_code=code)
                if not ready.done():
                    how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
                    ready.set_exception(
                        Problem(f"an ingestion process {how} before it accepted requests; what it said stands above")
                    )
                    return
                if time.monotonic() - began > RESTART_PAUSE_MAX_S:
                    pause_s = RESTART_PAUSE_S
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, RESTART_PAUSE_MAX_S)

    async def _exit_of(self, index: int, child: asyncio.subprocess.Process) -> int:
        """Its exit code. No child outlives whoever waits here, nor a ``stop`` that came before it was there."""
        self._children[index] = child
        try:
            if not self._stopping:
                await child.wait()
        finally:
            with contextlib.suppress(ProcessLookupError):
                child.kill()
        return await child.wait()

    async def _spawn(self, ready: asyncio.Future[None]) -> asyncio.subprocess.Process:
        read_fd, write_fd = os.pipe()
        try:
            child = await asyncio.create_subprocess_exec(
                *own_program("server.ingestion"),
                env=os.environ | import_path(os.environ),
                stdin=asyncio.subprocess.PIPE,
                pass_fds=(self.listener.fileno(), write_fd),
            )
        except BaseException:
            os.close(read_fd)
            raise
        finally:
            os.close(write_fd)
        given: dict[str, Any] = {
            "database_url": self.spec.database_url,
            "store_url": self.spec.store_url,
            "store_name": self.spec.store_name,
            "otlp_grpc_address": self.spec.otlp_grpc_address,
            "object_cache": str(self.spec.object_cache),
            "s3": asdict(self.spec.s3),
            "writers": None if self.spec.writers is None else self.spec.writers.as_json(),
            "tls": None if self.spec.tls is None else self.spec.tls.as_json(),
            "log_level": self.spec.log_level,
            "listener_fd": self.listener.fileno(),
            "ready_fd": write_fd,
            "parent_pid": os.getpid(),
        }
        if child.stdin is not None:
            child.stdin.write(json.dumps(given).encode())
            child.stdin.close()

        loop = asyncio.get_running_loop()

        def readable() -> None:
            loop.remove_reader(read_fd)
            told = os.read(read_fd, 1)
            os.close(read_fd)
            if told and not ready.done():
                ready.set_result(None)

        loop.add_reader(read_fd, readable)
        return child
