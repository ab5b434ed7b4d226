"""S3 servers for tests, over HTTP on a free port, and a proxy before them that misbehaves.

moto's is always there. versitygw is of other blood, a Go program over files, which ``scripts/toolchains`` builds for
``scripts/test --all``. ``LAKEFLIGHT_TEST_S3`` names any other server to run the same tests against in moto's place, as
``http://host:port``, and ``LAKEFLIGHT_TEST_S3_KEY`` and ``LAKEFLIGHT_TEST_S3_SECRET`` who asks it. Each test makes a bucket
there, ``lake-…``, and leaves it.

moto looks whether a key is taken and completes an upload in two steps, with nothing between that holds others back: of two
completions at the same moment it may tell both that they created the object. No test asks it for more.
"""

from __future__ import annotations

import contextlib
import http.client
import logging
import os
import shutil
import socket
import struct
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import unquote, urlsplit

import boto3
from moto.server import ThreadedMotoServer

from lakehouse.storage import S3Options

REGION = "us-east-1"
START_S = 60.0
KEY = os.environ.get("LAKEFLIGHT_TEST_S3_KEY", "test-key")
SECRET = os.environ.get("LAKEFLIGHT_TEST_S3_SECRET", "test-secret")


@dataclass(frozen=True)
class Bucket:
    """One bucket of a server, and how it is reached."""

    name: str
    options: S3Options

    @property
    def url(self) -> str:
        return f"s3://{self.name}/lake"

    def client(self) -> Any:
        """A client of another make, to look at what is there."""
        return _client_of(self.options.endpoint)

    @property
    def environment(self) -> dict[str, str]:
        """The settings of a server that uses it."""
        return {
            "LAKEFLIGHT_STORE_ENDPOINT": str(self.options.endpoint),
            "LAKEFLIGHT_STORE_PATH_STYLE": "true",
            "LAKEFLIGHT_STORE_REGION": str(self.options.region),
            "LAKEFLIGHT_STORE_ACCESS_KEY_ID": str(self.options.access_key_id),
            "LAKEFLIGHT_STORE_SECRET_ACCESS_KEY": str(self.options.secret_access_key),
        }

    def at(self, endpoint: str) -> Bucket:
        return replace(self, options=replace(self.options, endpoint=endpoint))


def _client_of(endpoint: str | None) -> Any:
    return boto3.client(
        "s3", endpoint_url=endpoint, region_name=REGION, aws_access_key_id=KEY, aws_secret_access_key=SECRET
    )


@contextlib.contextmanager
def s3_server() -> Iterator[str]:
    """Its endpoint, or that of the server which is named."""
    if named := os.environ.get("LAKEFLIGHT_TEST_S3"):
        yield named
        return
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def versitygw_program() -> str | None:
    """Where ``scripts/toolchains`` has put it."""
    kept = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lakeflight-toolchains" / "bin"
    return shutil.which("versitygw", path=f"{os.environ.get('PATH', '')}:{kept}")


@contextlib.contextmanager
def versitygw(program: str, folder: Path) -> Iterator[str]:
    """Its endpoint; the buckets are folders of ``folder``."""
    for part in ("data", "sidecar"):
        (folder / part).mkdir(parents=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [program, "--access", KEY, "--secret", SECRET, "--region", REGION, "--keep-alive", "--quiet"]
    with subprocess.Popen(
        [*command, "--port", f"127.0.0.1:{port}", "posix", "--sidecar", str(folder / "sidecar"), str(folder / "data")],
        stdout=subprocess.DEVNULL,
    ) as process:
        try:
            deadline = time.monotonic() + START_S
            while True:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                    break
                assert process.poll() is None and time.monotonic() < deadline, "versitygw does not start"
                time.sleep(0.02)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()


def new_bucket(endpoint: str) -> Bucket:
    options = S3Options(endpoint, REGION, True, access_key_id=KEY, secret_access_key=SECRET)
    bucket = Bucket(f"lake-{uuid.uuid4().hex}", options)
    bucket.client().create_bucket(Bucket=bucket.name)
    return bucket


Fault = Literal["503", "403", "501", "reset", "lose answer", "cut off", "damage", "stall", "unconditional"]
CONDITION: Final = "if-none-match"
_CONNECTION_HEADERS: Final = (
    "connection",
    "keep-alive",
    "transfer-encoding",
    "expect",
    "content-length",
    "server",
    "date",
)
STALL_S: Final = 60.0


@dataclass(frozen=True)
class Asked:
    """A request, as a rule sees it."""

    method: str
    path: str
    headers: dict[str, str]

    @property
    def is_part(self) -> bool:
        return self.method == "PUT" and "partNumber=" in self.path

    @property
    def is_completion(self) -> bool:
        return self.method == "POST" and "uploadId=" in self.path


@dataclass
class FaultyS3:
    """Passes requests on to ``upstream``, but for those that ``rule`` has a fault for."""

    endpoint: str
    upstream: str
    rule: Callable[[Asked], Fault | None] = lambda _: None
    asked: list[Asked] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)

    def fail(self, fault: Fault, times: int, which: Callable[[Asked], bool] = lambda _: True) -> None:
        """The next ``times`` requests of a kind fail."""
        left = [times]
        lock = threading.Lock()

        def rule(asked: Asked) -> Fault | None:
            with lock:
                if left[0] > 0 and which(asked):
                    left[0] -= 1
                    return fault
            return None

        self.rule = rule

    def wait_for(self, which: Callable[[Asked], bool], limit_s: float = 30.0) -> None:
        """Return once such a request has come."""
        deadline = time.monotonic() + limit_s
        while not any(map(which, list(self.asked))):
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def heal(self) -> None:
        self.rule = lambda _: None


@contextlib.contextmanager
def faulty_s3(upstream: str) -> Iterator[FaultyS3]:
    """A proxy on a free port of loopback."""
    proxy = FaultyS3("", upstream)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: Any) -> None:
            pass

        def _pass_on(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            body = self.rfile.read(int(headers.get("content-length", 0)))
            asked = Asked(self.command, self.path, headers)
            proxy.asked.append(asked)
            fault = proxy.rule(asked)
            match fault:
                case "reset":
                    self._reset()
                    return
                case "503" | "403" | "501":
                    code = {"503": "SlowDown", "403": "AccessDenied", "501": "NotImplemented"}[fault]
                    self._answer(int(fault), {}, f"<Error><Code>{code}</Code></Error>".encode())
                    return
                case "stall":
                    proxy.stopped.wait(STALL_S)
                    self._reset()
                    return
            sent = {name: value for name, value in headers.items() if name not in _CONNECTION_HEADERS}
            if fault == "unconditional":
                # The header is signed, so it stays: what it would meet goes before.
                _, name, key = unquote(urlsplit(self.path).path).split("/", 2)
                _client_of(proxy.upstream).delete_object(Bucket=name, Key=key)
            connection = http.client.HTTPConnection(urlsplit(proxy.upstream).netloc, timeout=30)
            with contextlib.closing(connection):
                connection.request(self.command, self.path, body, sent)
                answer = connection.getresponse()
                content = answer.read()
            if fault == "lose answer":
                self._reset()
                return
            if fault == "damage" and content:
                content = content[:-1] + bytes([content[-1] ^ 1])
            found = {n.lower(): v for n, v in answer.getheaders() if n.lower() not in _CONNECTION_HEADERS}
            if self.command == "HEAD":
                found["content-length"] = answer.getheader("Content-Length") or "0"
            self._answer(answer.status, found, content, is_cut_off=fault == "cut off")

        do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _pass_on

        def _answer(self, status: int, headers: dict[str, str], content: bytes, *, is_cut_off: bool = False) -> None:
            self.send_response(status)
            for name, value in {"content-length": str(len(content)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content[: len(content) // 2] if is_cut_off else content)
            self.wfile.flush()
            if is_cut_off:
                self._reset()

        def _reset(self) -> None:
            self.close_connection = True
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass  # a client that went away

    server = Server(("127.0.0.1", 0), Handler)
    proxy.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.stopped.set()
        server.shutdown()
        server.server_close()
        thread.join()
