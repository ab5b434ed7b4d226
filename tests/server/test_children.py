"""The ingestion processes of a server are replaced for as long as it runs."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from server import children
from server.children import IngestionProcesses, IngestionSpec


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


class Processes(IngestionProcesses):
    """Starts what the test gives, in order."""

    planned: list[Child | Exception]
    all_begun: asyncio.Event

    async def _spawn(self, ready: asyncio.Future[None]) -> Any:
        child = self.planned.pop(0)
        if isinstance(child, Exception):
            raise child
        if not self.planned:
            self.all_begun.set()
        if not ready.done():
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
