"""The calls that are open at this edge: how many a connection may have, and which of them wait for their client.

A call waits for its client while it reads a message or writes an answer; a client that neither sends nor takes costs a
place for as long as it likes, unless somebody looks at the clock. One task looks at all calls now and then, which costs
a call two assignments per message, where a timer each would cost more than the message.

Limits hold for a connection before they hold for all. Where one is reached, the call that has waited longest for its
client makes room for the new one; only where all of them are at work is the new one refused. Results that are read are
not watched here: their clock is that of the running statements.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from lakehouse.errors import BackendUnavailableError, LakeflightError, LimitExceededError, QueryTimeoutError

YIELDS_AFTER_S: Final = 1.0  # a call that has waited this long for its client makes room for another
WAITS_IN_ALL_MAX: Final = 10  # times the limit of one wait: what a client may spend on sending little by little
LOOKS_PER_LIMIT: Final = 4  # how often the clock is looked at within the limit of one wait
PAUSE_MAX_S: Final = 1.0


@dataclass(slots=True, eq=False)
class OpenCall:
    """One call. ``cut`` is set before its task is cancelled by us; a cancel without it came from the client."""

    peer: str
    task: asyncio.Task[Any]
    waited_s: float = 0.0  # for its client, in waits that are over
    waits_since: float | None = None  # loop time from which on it is the client's turn
    cut: LakeflightError | None = field(default=None)

    def end(self, reason: LakeflightError) -> None:
        if self.cut is None:
            self.cut = reason
            self.task.cancel()

    def wait_begins(self, now: float) -> None:
        self.waits_since = now

    def wait_ends(self, now: float) -> None:
        if self.waits_since is not None:
            self.waited_s += now - self.waits_since
            self.waits_since = None


class OpenCalls:
    """Registry of open calls, and the watch over those that wait for their clients."""

    def __init__(
        self,
        *,
        per_peer_max: int,
        all_max: int,
        silence_s: float,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._per_peer_max, self._all_max, self._silence_s = per_peer_max, all_max, silence_s
        self._clock = clock
        self._of_peer: dict[str, dict[OpenCall, None]] = {}
        self._open = 0

    def __len__(self) -> int:
        return self._open

    def now(self) -> float:
        return self._clock() if self._clock is not None else asyncio.get_running_loop().time()

    def enter(self, peer: str) -> OpenCall:
        """Take note of a call, before anything of it is read.

        Raises:
            LimitExceededError: The connection has as many as one may have.
            BackendUnavailableError: The server has.
        """
        of_peer = self._of_peer.get(peer, {})
        if len(of_peer) >= self._per_peer_max and not self._make_room(of_peer):
            raise LimitExceededError(
                f"this connection has {len(of_peer)} calls open, as many as one may have at once:"
                " end some, or read their results to the end, and try again"
            )
        if self._open >= self._all_max and not self._make_room(self._largest()):
            raise BackendUnavailableError(
                f"the server is busy: {self._open} calls are open, as many as it takes at once; try again in a moment"
            )
        task = asyncio.current_task()
        assert task is not None
        call = OpenCall(peer, task)
        self._of_peer.setdefault(peer, {})[call] = None
        self._open += 1
        return call

    def leave(self, call: OpenCall) -> None:
        """May be called twice: one that made room for another has left already."""
        of_peer = self._of_peer.get(call.peer, {})
        if call in of_peer:
            del of_peer[call]
            self._open -= 1
            if not of_peer:
                del self._of_peer[call.peer]

    async def watch(self) -> None:
        """End calls whose clients are silent, until cancelled."""
        pause_s = min(PAUSE_MAX_S, self._silence_s / LOOKS_PER_LIMIT)
        while True:
            await asyncio.sleep(pause_s)
            self.look()

    def look(self) -> None:
        """End those whose client has been silent for too long."""
        now = self.now()
        for call in [call for of_peer in self._of_peer.values() for call in of_peer]:
            if call.waits_since is None:
                continue
            wait_s = now - call.waits_since
            if wait_s > self._silence_s:
                call.end(
                    QueryTimeoutError(
                        f"the client neither sent nor took anything for {self._silence_s:g} s: send the whole request"
                        " at once, read the answer, and end the call"
                    )
                )
            elif call.waited_s + wait_s > WAITS_IN_ALL_MAX * self._silence_s:
                call.end(
                    QueryTimeoutError(
                        f"the client took more than {WAITS_IN_ALL_MAX * self._silence_s:g} s for its messages:"
                        " send the whole request at once"
                    )
                )

    def _largest(self) -> Iterable[OpenCall]:
        """The calls of the connection that keeps the most calls waiting for it."""
        return max(self._of_peer.values(), key=_waiting, default=())

    def _make_room(self, calls: Iterable[OpenCall]) -> bool:
        """End the one of these that has waited longest for its client, if it is long enough."""
        waiting = [call for call in calls if call.waits_since is not None and call.cut is None]
        longest = min(waiting, key=lambda call: call.waits_since or 0.0, default=None)
        if longest is None or self.now() - (longest.waits_since or 0.0) < YIELDS_AFTER_S:
            return False
        longest.end(
            LimitExceededError("the client was silent while others waited for a place: send the whole request at once")
        )
        self.leave(longest)
        return True


def _waiting(calls: Iterable[OpenCall]) -> int:
    return sum(call.waits_since is not None for call in calls)
