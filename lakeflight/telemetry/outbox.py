"""Encoded requests on their way to the server, the most urgent first, and the count of those that never arrive."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from time import monotonic
from typing import Final

METADATA: Final = 0  # the order in which requests go out
LOGS: Final = 1
METRICS: Final = 2
SPANS: Final = 3
_CLASSES: Final = 4


@dataclass(slots=True)
class Statistics:
    """What became of the telemetry so far."""

    blocks_sent: int = 0
    bytes_sent: int = 0
    requests_retried: int = 0
    requests_refused: int = 0  # by the server, for good
    requests_dropped: int = 0  # given up: no room, too many tries, nobody to send them, or not to be encoded
    dropped_logs: int = 0  # lines that no server has: no room for them, or their block was dropped or refused
    dropped_metrics: int = 0
    dropped_spans: int = 0
    dropped_threads: int = 0  # of which nothing is recorded
    errors: int = 0  # events that could not be recorded, blocks that could not be encoded


@dataclass(frozen=True, slots=True)
class Losses:
    """Events that no server has, by kind."""

    logs: int = 0
    metrics: int = 0
    spans: int = 0

    def __str__(self) -> str:
        return f"{self.logs} log lines, {self.metrics} metrics, {self.spans} spans"


@dataclass(frozen=True, slots=True)
class Request:
    path: str
    body: bytes
    urgency: int
    events: int = 0  # of the program: lines, measurements, spans that begin


class Outbox:
    """Encoded requests that wait for the server; never more than a number of bytes of blocks."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._queues: tuple[deque[Request], ...] = tuple(deque() for _ in range(_CLASSES))
        self._changed = threading.Condition()
        self._in_flight = False
        self._closed = False

    def put(self, request: Request) -> bool:
        """Queue a request; false if there is no room. Metadata always has room."""
        share = self._bytes_max // 2 if request.urgency == SPANS else self._bytes_max
        with self._changed:
            if request.urgency != METADATA:
                if self._bytes + len(request.body) > share:
                    return False
                self._bytes += len(request.body)
            self._queues[request.urgency].append(request)
            self._changed.notify_all()
            return True

    def take(self) -> Request | None:
        """The most urgent request; waits for one. ``None`` once the box is closed and empty."""
        with self._changed:
            while True:
                for queue in self._queues:
                    if queue:
                        request = queue.popleft()
                        if request.urgency != METADATA:
                            self._bytes -= len(request.body)
                        self._in_flight = True
                        return request
                if self._closed:
                    return None
                self._changed.wait()

    def done(self) -> None:
        with self._changed:
            self._in_flight = False
            self._changed.notify_all()

    def close(self) -> None:
        """Nothing more will be put; whoever waits between two tries wakes up."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def discard(self) -> list[Request]:
        """Throw everything away, and say what that was."""
        with self._changed:
            thrown = [request for queue in self._queues for request in queue]
            for queue in self._queues:
                queue.clear()
            self._bytes = 0
            return thrown

    def pause(self, seconds: float) -> bool:
        """Wait between two tries; true if the box was closed meanwhile."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed, seconds)
            return self._closed

    @property
    def is_closed(self) -> bool:
        return self._closed

    def wait_empty(self, deadline: float) -> bool:
        with self._changed:
            return self._changed.wait_for(
                lambda: not self._in_flight and not any(self._queues), max(0.0, deadline - monotonic())
            )
