"""Reads request bodies under limits: size, time, rate, and memory over all requests at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass
from typing import Any, Final

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
    """What a body may take."""

    body_bytes_max: int = 100 << 20
    body_timeout_s: float = 30.0
    rate_bytes_per_s_min: int = 1_000  # over the whole body so far …
    rate_grace_s: float = 5.0  # … once it has taken this long
    bodies_bytes_max: int = 512 << 20  # of all requests in the process at once


class ByteBudget:
    """Bytes of bodies in memory, over all requests. Taken as they arrive: a promise of bytes costs nobody anything."""

    def __init__(self, bytes_max: int) -> None:
        self._free = bytes_max

    def take(self, count: int) -> bool:
        if count > self._free:
            return False
        self._free -= count
        return True

    def give_back(self, count: int) -> None:
        self._free += count

    @property
    def free(self) -> int:
        return self._free


class Body:
    """One request's body in memory, and its share of the budget. Use as a context manager."""

    __slots__ = ("_budget", "_taken", "content")

    def __init__(self, budget: ByteBudget) -> None:
        self._budget = budget
        self._taken = 0
        self.content = b""

    def __enter__(self) -> Body:
        return self

    def __exit__(self, *_: object) -> None:
        self._budget.give_back(self._taken)
        self.content = b""

    async def read(self, headers: Headers, receive: Receive, limits: BodyLimits) -> bytes:
        """The whole body.

        Raises:
            RequestRefusedError: A limit; 503 where the sender should come again, because it drops what gets a 4xx.
            ClientGoneError: The connection ended before the body did.
        """
        declared = check_framing(headers)
        if declared is not None and declared > limits.body_bytes_max:
            raise RequestRefusedError(413, _too_large(limits))
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
                    self._take(len(part), limits)
                    parts.append(part)
                    if not message.get("more_body", False):
                        break
                    earned = max(limits.rate_grace_s, self._taken / limits.rate_bytes_per_s_min)
                    patience.reschedule(min(begin + earned, end))
        except TimeoutError:
            raise RequestRefusedError(503, "the body came too slowly") from None
        self.content = parts[0] if len(parts) == 1 else b"".join(parts)
        return self.content

    def _take(self, count: int, limits: BodyLimits) -> None:
        if self._taken + count > limits.body_bytes_max:
            raise RequestRefusedError(413, _too_large(limits))
        if not self._budget.take(count):
            raise RequestRefusedError(503, "too many bytes are on their way in")
        self._taken += count


def check_framing(headers: Headers) -> int | None:
    """The declared length, if there is one.

    Raises:
        RequestRefusedError: Two lengths, or a length beside a transfer encoding: proxies could disagree on where the
            body ends.
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
    return declared


def _too_large(limits: BodyLimits) -> str:
    return f"the body is larger than {limits.body_bytes_max} bytes"


RETRY_AFTER_S: Final = 1
