"""Reads request bodies under limits: size, time, rate, and memory over all requests at once and over those of one peer."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass
from typing import Any

from server.access import CALLER_TIMEOUT_S

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Headers = Iterable[tuple[bytes, bytes]]


class RequestRefusedError(Exception):
    """The request ends here with this status; what is left of its body is not read."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class ClientGoneError(Exception):
    """Nobody is there to answer to."""


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """What a request may take: of memory, and of the time until it is answered."""

    body_bytes_max: int = 100 << 20
    body_timeout_s: float = 30.0
    rate_bytes_per_s_min: int = 1_000  # over the whole body so far …
    rate_grace_s: float = 5.0  # … once it has taken this long
    # Of all requests in a process at once, decompressed ones in addition; one body is in memory up to three times: as it
    # came, decoded, to be stored.
    bodies_bytes_max: int = 256 << 20
    bodies_bytes_per_peer_max: int = 192 << 20  # of one address: it cannot keep the others out
    caller_timeout_s: float = CALLER_TIMEOUT_S
    answer_timeout_s: float = 60.0  # to store what was read; longer than the database and the store have for it


class ByteBudget:
    """Bytes of bodies in memory, over all requests. Taken as they arrive: a promise of bytes costs nobody anything."""

    def __init__(self, bytes_max: int, bytes_per_peer_max: int = sys.maxsize) -> None:
        self._free = bytes_max
        self._per_peer_max = bytes_per_peer_max
        self._peers: dict[str, int] = {}  # those that hold something

    def take(self, peer: str, count: int) -> str | None:
        """Take some, or say why there is none: the peer's share comes before what all have."""
        held = self._peers.get(peer, 0) + count
        if held > self._per_peer_max:
            return "too many bytes are on their way in from this address"
        if count > self._free:
            return "too many bytes are on their way in"
        self._free -= count
        self._peers[peer] = held
        return None

    def give_back(self, peer: str, count: int) -> None:
        self._free += count
        left = self._peers.get(peer, 0) - count
        if left > 0:
            self._peers[peer] = left
        else:
            self._peers.pop(peer, None)


class Share:
    """One request's part of the budget: its body, and what is made of it. Use as a context manager.

    Work that goes on in a thread when the context ends, because nobody waits for it any more, keeps the bytes until it is over.
    """

    __slots__ = ("_budget", "_has_ended", "_peer", "_taken", "_under_way")

    def __init__(self, budget: ByteBudget, peer: str) -> None:
        self._budget = budget
        self._peer = peer
        self._taken = 0
        self._under_way = 0
        self._has_ended = False

    def __enter__(self) -> Share:
        return self

    def __exit__(self, *_: object) -> None:
        self._has_ended = True
        self._settle()

    def take(self, count: int) -> None:
        """Count bytes before they are in memory.

        Raises:
            RequestRefusedError: 503, too many are.
        """
        refusal = self._budget.take(self._peer, count)
        if refusal is not None:
            raise RequestRefusedError(503, refusal)
        self._taken += count

    def give_back(self, count: int) -> None:
        self._budget.give_back(self._peer, count)
        self._taken -= count

    def keep_for(self, work: asyncio.Future[Any]) -> None:
        """Until this is over, the bytes are in use."""
        self._under_way += 1
        work.add_done_callback(self._over)

    def _over(self, _: asyncio.Future[Any]) -> None:
        self._under_way -= 1
        self._settle()

    def _settle(self) -> None:
        if self._has_ended and not self._under_way and self._taken:
            self.give_back(self._taken)

    async def read(self, receive: Receive, limits: BodyLimits) -> bytes:
        """The whole body.

        Raises:
            RequestRefusedError: A limit; 503 where the sender should come again, because it drops what gets a 4xx.
            ClientGoneError: The connection ended before the body did.
        """
        loop = asyncio.get_running_loop()
        begin = loop.time()
        end = begin + limits.body_timeout_s
        parts: list[bytes] = []
        try:
            async with asyncio.timeout_at(min(begin + limits.rate_grace_s, end)) as patience:
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ClientGoneError
                    part: bytes = message.get("body", b"")
                    if self._taken + len(part) > limits.body_bytes_max:
                        raise RequestRefusedError(413, _too_large(limits))
                    self.take(len(part))
                    parts.append(part)
                    if not message.get("more_body", False):
                        break
                    earned = max(limits.rate_grace_s, self._taken / limits.rate_bytes_per_s_min)
                    patience.reschedule(min(begin + earned, end))
        except TimeoutError:
            raise RequestRefusedError(503, "the body came too slowly") from None
        return parts[0] if len(parts) == 1 else b"".join(parts)


def unshared() -> Share:
    """For a request that is the only one."""
    return Share(ByteBudget(sys.maxsize), "")


def check_framing(headers: Headers, limits: BodyLimits) -> None:
    """See that the body has one end, and not too far away if its length is declared.

    Raises:
        RequestRefusedError: Two lengths, or a length beside a transfer encoding: proxies could disagree on where the
            body ends. Or a length over the limit.
    """
    declared: int | None = None
    encoded = False
    for name, value in headers:
        if name == b"content-length":
            if declared is not None or not value.isdigit():
                raise RequestRefusedError(400, "the content-length header is not one number")
            declared = int(value)
        elif name == b"transfer-encoding":
            encoded = True
    if encoded and declared is not None:
        raise RequestRefusedError(400, "content-length and transfer-encoding exclude each other")
    if declared is not None and declared > limits.body_bytes_max:
        raise RequestRefusedError(413, _too_large(limits))


def _too_large(limits: BodyLimits) -> str:
    return f"the body is larger than {limits.body_bytes_max} bytes"
