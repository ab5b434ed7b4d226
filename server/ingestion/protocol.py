"""uvicorn's HTTP/1.1 protocol with what it lacks: an end to what surrounds a body and never ends.

The body itself is bounded where it is read. Request lines, headers, trailers and the frames of chunks are bounded here.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_TIMEOUT_S: Final = 30.0
HEAD_BYTES_MAX: Final = 64 << 10
FRAMING_BYTES_PER_BODY_BYTE_MAX: Final = 8  # a chunk of one byte has a frame of five


class GuardedHttpProtocol(HttpToolsProtocol):
    """Closes a connection whose request is late or large anywhere but in its body."""

    _head_timer: asyncio.TimerHandle | None = None
    _in_head = True
    _received_bytes = 0  # of this request
    _body_bytes = 0

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._head_timer = self.loop.call_later(HEAD_TIMEOUT_S, self._give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        self._in_head = True
        self._received_bytes = 0
        self._body_bytes = 0
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # otherwise a trailer, which nobody reads
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        super().on_body(body)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._received_bytes += len(data)
        around = self._received_bytes - self._body_bytes
        if around > HEAD_BYTES_MAX + len(data) and around > FRAMING_BYTES_PER_BODY_BYTE_MAX * self._body_bytes:
            self._give_up()
        elif not self._in_head:
            if self._head_timer is not None:
                self._stop_timer()
        elif self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_TIMEOUT_S, self._give_up)

    def _give_up(self) -> None:
        self._stop_timer()
        if not self.transport.is_closing():
            self.transport.close()

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
