"""uvicorn's HTTP/1.1 protocol with what it lacks: an end to every silence, and a share of the connections for each peer.

A body is bounded where it is read. Bounded here: request lines, headers, trailers, the frames of chunks; a head that does
not come, an answer that is not read, a rest between two requests; and how many connections there are, of one peer before of
all. A new connection beyond a limit takes the place of the one that has been quiet for longest: silence locks nobody out. Only
where every connection has a request in progress is a new one answered with 503, but for its health checks.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from server.access.tls import common_name

HEAD_TIMEOUT_S: Final = 30.0  # from the first byte of a request, or from the connection on, to the end of its headers
KEEP_ALIVE_S: Final = 65  # longer than exporters pause between two batches
UNREAD_ANSWER_TIMEOUT_S: Final = 30.0  # a peer that reads nothing of what is said to it
HEAD_BYTES_MAX: Final = 64 << 10
HEADERS_MAX: Final = 128  # each takes some 150 bytes, however short it is
PIPELINED_MAX: Final = 16  # requests that come before the answer to an earlier one; each takes some 2 KB
FRAMING_BYTES_PER_BODY_BYTE_MAX: Final = 8  # a chunk of one byte has a frame of five
CONNECTIONS_MAX: Final = 1024
CONNECTIONS_PER_PEER_MAX: Final = 768
CONNECTIONS_OVER_LIMIT_MAX: Final = (
    64  # where all have requests in progress: so many more hear 503, or that all is well
)

CERTIFICATE: Final = "lakeflight.certificate"  # in the scope: whose certificate the connection has proved
OVER_LIMIT: Final = "lakeflight.over_limit"  # in the scope of a request that is to hear 503

Admission = Literal["served", "told", "cut"]


class Connection(Protocol):
    """What is known of one, to choose who has to go."""

    @property
    def is_busy(self) -> bool:
        """Whether a request is in progress: its head has come, and its answer has not gone."""
        ...

    @property
    def quiet_since(self) -> float: ...

    def give_up(self) -> None:
        """Close it; what was said before is still delivered, to a peer that reads."""
        ...


@dataclass(slots=True)
class Connections:
    """The open connections of a process."""

    connections_max: int = CONNECTIONS_MAX
    per_peer_max: int = CONNECTIONS_PER_PEER_MAX
    _open: dict[Connection, str] = field(default_factory=dict)
    _peers: Counter[str] = field(default_factory=Counter)

    def admit(self, connection: Connection, peer: str) -> Admission:
        """Whether there is room for its requests; a quiet one may have to make it."""
        has_room = self._make_room(peer)
        self._open[connection] = peer
        self._peers[peer] += 1
        if has_room:
            return "served"
        return "told" if len(self._open) <= self.connections_max + CONNECTIONS_OVER_LIMIT_MAX else "cut"

    def _make_room(self, peer: str) -> bool:
        if self._peers[peer] >= self.per_peer_max:
            return self._close_quiet(peer)
        if len(self._open) >= self.connections_max:
            return self._close_quiet(max(self._peers, key=self._peers.__getitem__)) or self._close_quiet(None)
        return True

    def _close_quiet(self, peer: str | None) -> bool:
        """Close the connection without a request in progress that has been quiet for longest, if there is one."""
        quiet = [c for c, its_peer in self._open.items() if not c.is_busy and peer in (None, its_peer)]
        if not quiet:
            return False
        oldest = min(quiet, key=lambda connection: connection.quiet_since)
        self.forget(oldest)
        oldest.give_up()
        return True

    def forget(self, connection: Connection) -> None:
        peer = self._open.pop(connection, None)
        if peer is not None:
            self._peers[peer] -= 1
            if not self._peers[peer]:
                del self._peers[peer]


class GuardedHttpProtocol(HttpToolsProtocol):
    """Closes a connection whose request is late or large anywhere but in its body."""

    known: Connections  # of the process; see ``guarded_by``
    quiet_since = 0.0
    _certificate: str | None = None
    _admission: Admission = "served"
    _is_refused = False
    _timer: asyncio.TimerHandle | None = None  # of what is waited for: a head, or that an answer is read
    _in_head = True
    _received_bytes = 0  # of this request
    _body_bytes = 0

    @property
    def is_busy(self) -> bool:
        return not getattr(self.cycle, "response_complete", True)  # there is no cycle before the first request

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._certificate = common_name(transport.get_extra_info("peercert"))
        self.quiet_since = self.loop.time()
        self._admission = self.known.admit(self, self.client[0] if self.client else "")
        if self._admission == "cut":
            self.give_up()
        else:
            self._timer = self.loop.call_later(HEAD_TIMEOUT_S, self.give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        self.known.forget(self)
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        self._in_head = True
        self._received_bytes = 0
        self._body_bytes = 0
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # otherwise a trailer, which nobody reads
            if len(self.headers) >= HEADERS_MAX:
                self._refuse()
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        if len(self.pipeline) >= PIPELINED_MAX:
            self._refuse()
        if self._admission == "told":
            self.scope[OVER_LIMIT] = True  # type: ignore[typeddict-unknown-key]
        if self._certificate is not None:
            self.scope[CERTIFICATE] = self._certificate  # type: ignore[typeddict-unknown-key]
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        super().on_body(body)

    def on_response_complete(self) -> None:
        self.quiet_since = self.loop.time()
        super().on_response_complete()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.transport.is_closing():
            return  # and what ends that, if nobody reads, is at work
        self.quiet_since = self.loop.time()
        self._received_bytes += len(data)
        around = self._received_bytes - self._body_bytes
        if around > HEAD_BYTES_MAX + len(data) and around > FRAMING_BYTES_PER_BODY_BYTE_MAX * self._body_bytes:
            self.give_up()
        elif self._in_head:
            if self._timer is None:
                self._timer = self.loop.call_later(HEAD_TIMEOUT_S, self.give_up)
        elif self.is_busy:
            self._stop_timer()
        elif self._timer is None:
            # Bytes between two requests that begin none: uvicorn ends its own patience at any byte.
            self._timer = self.loop.call_later(KEEP_ALIVE_S, self.give_up)

    def send_400_response(self, msg: str) -> None:
        """Of what cannot be read. With a request in progress it would pass for the answer to that one, and lose its data."""
        if self.is_busy or self._is_refused:
            self.give_up()
        else:
            super().send_400_response(msg)

    def _refuse(self) -> None:
        """Read no further: called by the parser, which stops at any exception."""
        self._is_refused = True
        raise ValueError("too much at once")

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stop_timer()
        self._timer = self.loop.call_later(UNREAD_ANSWER_TIMEOUT_S, self._abort)

    def resume_writing(self) -> None:
        self._stop_timer()
        super().resume_writing()

    def give_up(self) -> None:
        self._stop_timer()
        if not self.transport.is_closing():
            self.transport.close()
            self._timer = self.loop.call_later(UNREAD_ANSWER_TIMEOUT_S, self._abort)

    def _abort(self) -> None:
        self._stop_timer()
        self.transport.abort()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def guarded_by(connections: Connections) -> type[GuardedHttpProtocol]:
    """The protocol of one process's connections; uvicorn makes one of it for each."""

    class OfThisProcess(GuardedHttpProtocol):
        known = connections

    return OfThisProcess
