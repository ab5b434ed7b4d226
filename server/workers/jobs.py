"""What a worker can be busy with beside a result: one question with one answer, or a job that nobody wants any more.

``result_stream`` has the third.
"""

from __future__ import annotations

import asyncio
from typing import Any

from server.workers.errors import error_of
from server.workers.processes import WorkerLostError
from server.workers.protocol import (
    Built,
    Done,
    Failed,
    Inspected,
    ProtocolError,
)


class OutgrownError(Exception):
    """The exchange needs another place, and has to begin anew there."""


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
                self.answer.set_exception(error_of(message.error, message.message))
            else:
                self.answer.set_result(message)
        return True

    def lost(self, error: WorkerLostError) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)

    def start_over(self) -> None:
        if not self.answer.done():
            self.answer.set_exception(OutgrownError())


class Abandoned:
    """A job that begins anew elsewhere: nobody takes what its first worker still says of it."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.kill_at: float | None = None

    def answered(self, message: Any) -> bool:
        return isinstance(message, Inspected | Done | Failed)

    def lost(self, error: WorkerLostError) -> None:
        """So much the better."""
