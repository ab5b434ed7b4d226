"""The ingestion processes of a server are replaced for as long as it runs."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

from server import children
from server.children import IngestionProcesses, IngestionSpec
from server.surroundings import Problem


class Child:
    """Stands in for a process."""

    def __init__(self) -> None:
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def wait(self) -> int:
        return await asyncio.shield(self.ended)

    def send_signal(self, number: int) -> None:
        if self.ended.done():
            raise ProcessLookupError
        self.ended.set_result(-number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Processes(IngestionProcesses):
    """Starts what the test gives, in order."""

    planned: list[Child | Exception]
    all_begun: asyncio.Event
    slowly: asyncio.Event | None = None  # a start waits for it
    answering: bool = True

    async def _spawn(self, ready: asyncio.Future[None]) -> Any:
        child = self.planned.pop(0)
        if isinstance(child, Exception):
            raise child
        if not self.planned:
            self.all_begun.set()
        if self.slowly is not None:
            await asyncio.shield(self.slowly.wait())
        if self.answering and not ready.done():
            ready.set_result(None)
        return child


def no_memory() -> OSError:
    return OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))


def processes(folder: Path, planned: list[Child | Exception]) -> Processes:
    made = Processes(socket.socket(), IngestionSpec("postgresql://x", "file:///x", None, folder, "info"), 1)
    made.planned = planned
    made.all_begun = asyncio.Event()
    return made


async def test_a_process_that_cannot_be_started_again_is_tried_until_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(children, "RESTART_PAUSE_S", 0.01)
    first, second = Child(), Child()
    running = processes(tmp_path, [first, no_memory(), no_memory(), second])
    await running.start()

    first.ended.set_result(-9)

    await asyncio.wait_for(running.all_begun.wait(), 5)
    assert not second.ended.done()
    await running.stop(1)
    assert second.ended.done()
    running.listener.close()


async def test_a_server_whose_first_process_cannot_be_started_does_not_start(tmp_path: Path) -> None:
    running = processes(tmp_path, [no_memory()])

    with pytest.raises(OSError, match="Cannot allocate memory"):
        await running.start()

    await running.stop(1)
    running.listener.close()


async def test_a_process_that_is_too_slow_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "READY_S", 0.05)
    child = Child()
    running = processes(tmp_path, [child])
    running.answering = False

    with pytest.raises(Problem, match=r"did not accept requests within 0\.05 s: .* --http-processes or LAKEFLIGHT_"):
        await running.start()

    await running.stop(1)
    assert child.ended.done()
    running.listener.close()


@pytest.mark.parametrize(("code", "how"), [(1, "ended with exit code 1"), (-9, "was killed by signal 9")])
async def test_a_process_that_ends_before_it_is_ready_is_one_sentence(tmp_path: Path, code: int, how: str) -> None:
    child = Child()
    running = processes(tmp_path, [child])
    running.answering = False
    child.ended.set_result(code)

    with pytest.raises(Problem, match=f"an ingestion process {how} before it accepted requests"):
        await running.start()

    await running.stop(1)
    running.listener.close()


async def test_a_process_that_comes_while_the_server_stops_is_killed(tmp_path: Path) -> None:
    early, late = Child(), Child()
    running = processes(tmp_path, [early])
    await running.start()
    running.planned, running.slowly = [late], asyncio.Event()
    again = asyncio.create_task(running.keep(0, asyncio.get_running_loop().create_future()))
    await asyncio.sleep(0.01)
    stopping = asyncio.create_task(running.stop(1))
    await asyncio.sleep(0)

    running.slowly.set()
    await asyncio.gather(again, stopping)

    assert (early.ended.result(), late.ended.result()) == (-signal.SIGTERM, -signal.SIGKILL)
    running.listener.close()


async def test_a_process_does_not_outlive_whoever_keeps_it(tmp_path: Path) -> None:
    child = Child()
    running = processes(tmp_path, [child])
    await running.start()

    for task in running.tasks:
        task.cancel()
    await asyncio.gather(*running.tasks, return_exceptions=True)

    assert child.ended.result() == -signal.SIGKILL
    running.listener.close()
