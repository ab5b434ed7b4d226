"""A server as a user starts it, and one connection to send telemetry over."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from benchmarks.workload import Request

_ROOT: Final = Path(__file__).resolve().parents[1]
_START_S: Final = 300.0  # a first start compiles, and the machine may have other work
_STOP_S: Final = 60.0
_POLL_S: Final = 0.005


@dataclass(frozen=True, slots=True)
class Server:
    """A running server. ``start_s`` is from the command to the answer of both ports."""

    process: subprocess.Popen[bytes]
    flight: str
    http: str
    otlp_grpc: str
    data_dir: Path
    start_s: float

    @property
    def pid(self) -> int:
        return self.process.pid

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(_STOP_S)
        if code != 0:
            raise RuntimeError(f"the server ended with {code}:\n{_tail(self.data_dir)}")

    def kill(self) -> None:
        """The workers and the database die with it."""
        self.process.kill()
        self.process.wait()


def start(data_dir: Path, environment: Mapping[str, str]) -> Server:
    """Start a server with its default settings on free ports.

    Raises:
        RuntimeError: It does not come up.
    """
    data_dir.mkdir(parents=True, exist_ok=True)
    ready = data_dir / f"ready-{uuid.uuid4().hex}"
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("LAKEFLIGHT_")}
    command = [
        *(sys.executable, "-m", "server", "serve", "--data-dir", str(data_dir), "--ready-file", str(ready)),
        *("--flight-address", "127.0.0.1:0", "--http-address", "127.0.0.1:0"),
        *("--otlp-grpc-address", "127.0.0.1:0"),
    ]
    started = time.perf_counter()
    with (data_dir / "server.log").open("ab") as log:
        process = subprocess.Popen(
            command, cwd=_ROOT, env=inherited | dict(environment), stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    while not ready.exists():
        if process.poll() is not None or time.perf_counter() - started > _START_S:
            process.kill()
            raise RuntimeError(f"the server did not start:\n{_tail(data_dir)}")
        time.sleep(_POLL_S)
    start_s = time.perf_counter() - started
    told = json.loads(ready.read_text())
    return Server(process, told["flight"], told["http"], told["otlp_grpc"], data_dir, start_s)


class Sender:
    """Sends requests one after the other over one connection."""

    def __init__(self, server: Server) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(server.http).netloc, timeout=60)

    def send(self, *requests: Request) -> None:
        """Returns once all of them are acknowledged."""
        self.send_all(requests)

    def send_all(self, requests: Iterable[Request]) -> None:
        for request in requests:
            self._connection.request("POST", request.path, request.body)
            response = self._connection.getresponse()
            answer = response.read()
            if response.status != 200:
                raise RuntimeError(f"{request.path}: {response.status} {answer[:200]!r}")


def _tail(data_dir: Path) -> str:
    return (data_dir / "server.log").read_text(errors="replace")[-4000:]
