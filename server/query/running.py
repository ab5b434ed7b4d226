"""The statements that run in this process: how many a caller has, how far each is, who may be cancelled, who stopped reading.

gRPC tells none of it: a reader that does not read only makes a write wait. One task looks at all streams now and then,
which costs a stream two assignments per frame, where a timer per write would cost more than the write itself.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from lakehouse.errors import BackendUnavailableError, LakeflightError, LimitExceededError, QueryCancelledError
from lakehouse.model import Caller
from server.query.ports import QueryStream

FINISHED_REMEMBERED_MAX: Final = 4_096  # of handles' beginnings: 2 MB at most
HANDLE_REMEMBERED_BYTES: Final = 256
RUNNING_BYTES_MAX: Final = 128 << 20  # of the handles of all that run or wait: texts, and values of up to 1 MiB


@dataclass(slots=True, eq=False)
class RunningStatement:
    """One result on its way. ``cut`` is set before its task is cancelled by us; a cancel without it came from the client."""

    query_id: str
    caller: Caller
    handle: bytes
    stream: QueryStream
    task: asyncio.Task[Any]
    counted: bool  # against what one identity may run at once
    blocked_since: float | None = None  # loop time at which the write that still waits was begun
    cut: LakeflightError | None = field(default=None)

    def stop(self, reason: LakeflightError) -> None:
        if self.cut is None:
            self.cut = reason
            self.task.cancel()


class RunningStatements:
    """Registry of running statements, and the watch over stalled readers."""

    def __init__(
        self,
        *,
        per_identity_max: int,
        stall_limit_s: float,
        stall_limit_while_refused_s: float,
    ) -> None:
        self._running: dict[str, RunningStatement] = {}
        self._bytes = 0
        self._of_identity: Counter[str] = Counter()
        self._refused_at: dict[str, float] = {}  # loop time of an identity's last refusal; of those that run something
        self._per_identity_max = per_identity_max
        self._finished: OrderedDict[tuple[str, bytes], None] = OrderedDict()
        self._stall_limit_s = stall_limit_s
        self._stall_limit_while_refused_s = min(stall_limit_s, stall_limit_while_refused_s)

    def __len__(self) -> int:
        return len(self._running)

    @property
    def held_bytes(self) -> int:
        """What the handles of all statements take: their texts, and the values that are bound to them."""
        return self._bytes

    def enter(
        self, query_id: str, caller: Caller, handle: bytes, stream: QueryStream, *, counted: bool = True
    ) -> RunningStatement:
        """Take note of a statement before it starts; the current task is the one that passes its frames on.

        Args:
            handle: What a client names it by when it cancels a FlightInfo.
            counted: Whether it takes one of the caller's places; answers that are made already take none.
        Raises:
            LimitExceededError: The caller has as many as one may have at once.
            BackendUnavailableError: All together hold as much as they may.
        """
        if self._bytes + len(handle) > RUNNING_BYTES_MAX:
            raise BackendUnavailableError(
                f"the server is busy: the statements that run or wait hold {self._bytes} bytes of text and bound values,"
                f" {RUNNING_BYTES_MAX} at most; try again in a moment"
            )
        if counted and self._of_identity[caller.name] >= self._per_identity_max:
            self._refused_at[caller.name] = asyncio.get_running_loop().time()
            raise LimitExceededError(
                f"{caller.name} runs {self._per_identity_max} statements already, as many as one identity may at once:"
                " let one end, or read its result to the end, and try again"
            )
        if counted:
            self._of_identity[caller.name] += 1
        self._bytes += len(handle)
        task = asyncio.current_task()
        assert task is not None
        statement = self._running[query_id] = RunningStatement(query_id, caller, handle, stream, task, counted)
        return statement

    def leave(self, statement: RunningStatement) -> None:
        del self._running[statement.query_id]
        self._bytes -= len(statement.handle)
        name = statement.caller.name
        if statement.counted:
            self._of_identity[name] -= 1
            if not self._of_identity[name]:  # the tables are as long as there are callers with a statement
                del self._of_identity[name]
                self._refused_at.pop(name, None)
        key = (statement.caller.name, statement.handle[:HANDLE_REMEMBERED_BYTES])
        self._finished[key] = None
        self._finished.move_to_end(key)
        if len(self._finished) > FINISHED_REMEMBERED_MAX:
            self._finished.popitem(last=False)

    def cancel(self, caller: Caller, handle: bytes) -> int:
        """Stop the caller's statements of this handle; how many there were. Their readers get CANCELLED."""
        found = [s for s in self._running.values() if s.handle == handle and s.caller == caller]
        for statement in found:
            statement.stop(QueryCancelledError("cancelled by the caller"))
        return len(found)

    def progress(self, caller: Caller, query_id: str) -> Mapping[str, object] | None:
        """What is known of a statement of this caller, as JSON values; ``None`` if it does not run."""
        statement = self._running.get(query_id)
        return None if statement is None or statement.caller != caller else statement.stream.progress

    def has_finished(self, caller: Caller, handle: bytes) -> bool:
        """Whether this caller ran the handle here lately; long handles are told apart by their beginning only."""
        return (caller.name, handle[:HANDLE_REMEMBERED_BYTES]) in self._finished

    async def watch(self) -> None:
        """Cut stalled readers until cancelled. They hold no worker, but a place of their identity, and what is kept for them."""
        clock = asyncio.get_running_loop().time
        pause_s = min(1.0, self._stall_limit_while_refused_s / 4)
        while True:
            await asyncio.sleep(pause_s)
            now = clock()
            # Who was refused stands in no queue: the refusal counts until all that stalled by then were looked at again.
            refused_after = now - self._stall_limit_while_refused_s - 2 * pause_s
            for statement in list(self._running.values()):
                place_awaited = self._refused_at.get(statement.caller.name, refused_after) > refused_after
                limit_s = self._stall_limit_while_refused_s if place_awaited else self._stall_limit_s
                blocked_since = statement.blocked_since
                if blocked_since is not None and now - blocked_since > limit_s:
                    statement.stop(
                        LimitExceededError(f"reader stalled: took no data for {limit_s:g} s; run the statement again")
                    )
