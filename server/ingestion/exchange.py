"""Request in, answer out: what an endpoint is, whatever it is asked and whoever asks.

Knows no server: an endpoint is tested by calling it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from lakehouse.model import Caller
from server.ingestion.limits import Share, unshared


@dataclass(frozen=True, slots=True)
class Request:
    """One request, whole: the body has been read within the limits, the caller is known."""

    method: str
    path: str
    headers: Mapping[str, str]  # names in lower case; of a name that came twice the values, joined by commas
    body: bytes
    caller: Caller
    share: Share = field(default_factory=unshared)  # of the memory for all requests: the body, and what is made of it
    raw_headers: Sequence[tuple[bytes, bytes]] = ()  # as they came, names in lower case


@dataclass(frozen=True, slots=True)
class Answer:
    """Exactly what the sender gets, beside the length of the body."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


def text_answer(status: int, sentence: str, headers: Mapping[str, str] | None = None) -> Answer:
    """One sentence for the sender's log."""
    body = f"{sentence}\n".encode("utf-8", "replace")
    return Answer(status, {"content-type": "text/plain; charset=utf-8", **(headers or {})}, body)


Endpoint: TypeAlias = Callable[[Request], Awaitable[Answer]]
Headers: TypeAlias = Mapping[str, str]  # as ``Request`` has them


def _unchanged(headers: Headers) -> Headers:
    return headers


@dataclass(frozen=True, slots=True)
class Route:
    """What a path takes. One that takes GET takes HEAD as well, reads no body and asks nobody who they are."""

    method: str
    endpoint: Endpoint
    refuse: Callable[[Headers, Exception], Answer] | None = None  # how it says what went wrong; ``None``: as all do
    credentials: Callable[[Headers], Headers] = (
        _unchanged  # headers of senders that have a place of their own for a key
    )

    @property
    def methods(self) -> tuple[str, ...]:
        return ("GET", "HEAD") if self.method == "GET" else (self.method,)
