"""Requests to an ingestion server, and what its answers mean for them.

2xx is done. 4xx, and whatever a server should not answer, is final: the request would fail again. 5xx and trouble of
the connection are worth another try, so a server sheds load with 503. Refuses to retry by itself, and to raise.
"""

from __future__ import annotations

import http.client
import re
import socket
import ssl
from collections.abc import Callable
from enum import Enum
from typing import Final, Protocol
from urllib.parse import urlsplit

ATTEMPT_TIMEOUT_S: Final = 10.0
PROCESS_HEADER: Final = "x-telemetry-process"  # lets a server know its own telemetry before it reads the body
_TROUBLE_CHARS_MAX: Final = 200
_NO_SUCH_ROUTE: Final = (404, 405, 501)
_HOST: Final = re.compile(r"[\w.:%-]+")
_PATH: Final = re.compile(r"[!-~]*", re.ASCII)
_ANSWER_BYTES_MAX: Final = 64 << 10  # read so that the connection can be used again; a longer one is closed


class Outcome(Enum):
    """What became of a request."""

    DELIVERED = "delivered"
    REFUSED = "refused"
    FAILED = "failed"


class Sink(Protocol):
    """Where requests go."""

    def post(self, path: str, body: bytes, *, process_id: str, timeout_s: float) -> Outcome:
        """Send one request. Never raises."""
        ...

    def close(self) -> None: ...


class HttpSink:
    """One kept-alive connection to ``http://host:port[/base]``; used by one thread."""

    def __init__(
        self, endpoint: str, *, api_key: str | None = None, context: Callable[[], ssl.SSLContext] | None = None
    ) -> None:
        """``ValueError`` if the endpoint is none, whatever is wrong with it.

        Args:
            context: Makes the TLS settings of each connection; without it, the machine's authorities are trusted.
        """
        self.endpoint = endpoint
        self._context = context
        self._secure, self._host, self._port, self._base = _parse_endpoint(endpoint)
        self._headers = {"Content-Type": "application/cbor", "User-Agent": "lakeflight-telemetry"}
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"
        self._connection: http.client.HTTPConnection | None = None
        self.trouble = ""  # what was wrong with the latest request that was not delivered

    def post(self, path: str, body: bytes, *, process_id: str, timeout_s: float) -> Outcome:
        reused = self._connection is not None
        try:
            return self._attempt(path, body, process_id, timeout_s)
        except (http.client.RemoteDisconnected, ConnectionError, http.client.CannotSendRequest) as error:
            if not reused:
                return self._fail(error)
            self.close()
        except Exception as error:
            return self._fail(error)
        try:  # the server had closed an idle connection: that says nothing about this request
            return self._attempt(path, body, process_id, timeout_s)
        except Exception as error:
            return self._fail(error)

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.close()
            except Exception:  # the socket is gone either way
                return

    def _new_connection(self, timeout_s: float) -> http.client.HTTPConnection:
        if not self._secure:
            return http.client.HTTPConnection(self._host, self._port, timeout=timeout_s)
        context = None if self._context is None else self._context()
        return http.client.HTTPSConnection(self._host, self._port, timeout=timeout_s, context=context)

    def _fail(self, error: Exception) -> Outcome:
        self.close()
        if isinstance(error, TimeoutError):
            self.trouble = "no answer in time"
        elif isinstance(error, socket.gaierror):
            self.trouble = "no such host"
        elif isinstance(error, http.client.HTTPException) and not isinstance(error, ConnectionError):
            self.trouble = "this is not the ingestion port: what answers there is no HTTP/1.1"
        else:
            text = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
            self.trouble = text[:_TROUBLE_CHARS_MAX].lower()
        return Outcome.FAILED

    def _attempt(self, path: str, body: bytes, process_id: str, timeout_s: float) -> Outcome:
        connection = self._connection
        if connection is None:
            connection = self._connection = self._new_connection(timeout_s)
        connection.timeout = timeout_s
        if connection.sock is not None:
            connection.sock.settimeout(timeout_s)
        connection.request("POST", self._base + path, body, {**self._headers, PROCESS_HEADER: process_id})
        response = connection.getresponse()
        response.read(_ANSWER_BYTES_MAX)
        if not response.isclosed():
            self.close()
        if 200 <= response.status < 300:
            return Outcome.DELIVERED
        self.trouble = f"the answer was {response.status} {response.reason[:_TROUBLE_CHARS_MAX]}".rstrip()
        if response.status in _NO_SUCH_ROUTE:
            self.trouble += ": is this the ingestion port?"
        return Outcome.FAILED if response.status >= 500 else Outcome.REFUSED


def _parse_endpoint(endpoint: str) -> tuple[bool, str, int | None, str]:
    """Whether it is HTTPS, the host, the port if one is named, and the path before that of a request."""
    try:
        parts = urlsplit(endpoint if "://" in endpoint else f"http://{endpoint}")
        port = parts.port
    except (ValueError, TypeError):  # a port that is no number, a bracket that is not closed, no text at all
        parts, port = urlsplit(""), None
    host = parts.hostname or ""
    is_sound = _HOST.fullmatch(host) and _PATH.fullmatch(parts.path) and parts.scheme in ("http", "https") and port != 0
    if not is_sound or parts.netloc.endswith(":") or parts.query or parts.fragment or "@" in parts.netloc:
        raise ValueError(f"not an http endpoint: {endpoint!r}; say http://HOST:PORT, with a path if the server has one")
    return parts.scheme == "https", host, port, parts.path.rstrip("/")
