"""HTTP as bytes on a socket, and a sender that keeps its connection."""

from __future__ import annotations

import http.client
import socket
from types import TracebackType
from urllib.parse import urlsplit

TIMEOUT_S = 30


class Sender:
    """Sends bodies over one connection, a new one where the server closed it."""

    def __init__(self, url: str) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=TIMEOUT_S)

    def request(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        self._connection.request(method, path, body)
        response = self._connection.getresponse()
        return response.status, response.read()

    def post(self, path: str, body: bytes) -> int:
        return self.request("POST", path, body)[0]

    def __enter__(self) -> Sender:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()


def status_of_bytes(url: str, *parts: bytes) -> int:
    """Send parts as they are, the head included; the status of the answer."""
    parsed = urlsplit(url)
    with socket.create_connection((parsed.hostname or "", parsed.port or 0), timeout=TIMEOUT_S) as connection:
        for part in parts:
            connection.sendall(part)
        answer = connection.recv(1 << 16)
    assert answer.startswith(b"HTTP/1.1 "), answer[:100]
    return int(answer[9:12])
