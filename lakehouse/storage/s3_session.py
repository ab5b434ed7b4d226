"""Requests to an S3 store: each with a deadline, tried again within bounds, gone when its caller is.

s3fs finds credentials and endpoint and opens the client. The requests are made with that client, on an event loop in a
thread of its own: signing, TLS and digests of megabytes hold up nobody else, and a request that is given up is broken off
rather than left to a thread. s3fs and botocore try nothing again here: their tries would multiply with ours.
"""

from __future__ import annotations

import asyncio
import random
import re
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, TypeVar

import aiohttp
import s3fs
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
)

from lakehouse.errors import BackendUnavailableError
from lakehouse.storage.options import S3Options
from lakehouse.storage.s3_direct import DirectRequests, LeftToTheClientError


class ArrivedDamagedError(Exception):
    """Not the bytes that were stored."""


REQUESTS_MAX: Final = 32  # at once, of one process; others wait
CONNECT_S: Final = 5.0
SILENCE_S: Final = 15.0  # without a byte, and the try is given up
REQUEST_S: Final = 30.0  # for all tries of one request; transfers have more, by their size
TRIES_MAX: Final = 5
PAUSE_S: Final = 0.1  # before the second try; twice as long before each further one …
PAUSE_MAX_S: Final = 5.0  # … up to this, and always a random part of it
CLOSE_S: Final = 10.0
# besides every 5xx: what another try may not meet again
_PASSING_CODES: Final = frozenset({"ConditionalRequestConflict", "OperationAborted", "RequestTimeout", "SlowDown"})
_PASSING_ERRORS: Final = (
    HTTPClientError,
    IncompleteReadError,
    aiohttp.ClientError,
    ArrivedDamagedError,
    ConnectionError,
    TimeoutError,
)
_PASSING_STATUS: Final = (408, 409, 429)
_NO_ACCESS: Final = (401, 403)

T = TypeVar("T")


class S3Session:
    """The client of one store, and the loop that its requests run on."""

    def __init__(self, options: S3Options) -> None:
        style = {"s3": {"addressing_style": "path"}} if options.path_style else {}
        self._files: Any = s3fs.S3FileSystem(
            asynchronous=True,
            skip_instance_cache=True,
            use_listings_cache=False,
            key=options.access_key_id,
            secret=options.secret_access_key,
            token=options.session_token,
            endpoint_url=options.endpoint,
            client_kwargs={"region_name": options.region} if options.region else {},
            config_kwargs={
                "connect_timeout": CONNECT_S,
                "read_timeout": SILENCE_S,
                "retries": {"total_max_attempts": 1},
                "max_pool_connections": REQUESTS_MAX,
                # Checksums in a trailer are what many stores do not know. We keep digests of our own.
                "request_checksum_calculation": "when_required",
                "response_checksum_validation": "when_required",
                **style,
            },
        )
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="s3", daemon=True)
        self._slots = asyncio.Semaphore(REQUESTS_MAX)
        self._left_behind: set[asyncio.Task[Any]] = set()
        self._client: Any = None
        self._options = options
        self._direct: DirectRequests | None = None
        self._is_direct_known = False
        self._finding_out = asyncio.Lock()

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run ``work`` on the session's loop; it is cancelled with the caller."""
        if not self._thread.is_alive():
            self._thread.start()
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    # --- on the session's loop ---

    async def client(self) -> Any:
        if self._client is None:
            self._client = await self._files.set_session()
        return self._client

    async def direct(self, bucket: str) -> DirectRequests:
        """Requests that need no client. Each session is asked for one bucket.

        Raises:
            LeftToTheClientError: There can be none.
        """
        if not self._is_direct_known:
            async with self._finding_out:
                if not self._is_direct_known:
                    self._direct = await DirectRequests.of(
                        await self.client(),
                        self._files.session,
                        bucket,
                        self._options,
                        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=SILENCE_S),
                        limit=REQUESTS_MAX,
                    )
                    self._is_direct_known = True
        if self._direct is None:
            raise LeftToTheClientError
        return self._direct

    async def request(self, once: Callable[[Any, asyncio.Timeout], Awaitable[T]], limit_s: float = REQUEST_S) -> T:
        """The result of ``once(client, deadline)``, which is called again after trouble that passes.

        Raises:
            ClientError: What the store answered, where the caller may know what it means (404, 412 and the like).
            BackendUnavailableError: It does not answer, or refuses.
        """
        async with self._slots:
            try:
                async with asyncio.timeout(limit_s) as deadline:
                    return await self._tries(once, deadline)
            except TimeoutError as error:
                raise BackendUnavailableError(f"the object store did not answer within {limit_s:.0f} s") from error
            except ClientError as error:
                if _may_pass(error) or _status_of(error) in _NO_ACCESS:
                    raise BackendUnavailableError(words_of(error)) from error
                raise
            except (BotoCoreError, aiohttp.ClientError, ArrivedDamagedError, OSError) as error:
                raise BackendUnavailableError(words_of(error)) from error

    async def _tries(self, once: Callable[[Any, asyncio.Timeout], Awaitable[T]], deadline: asyncio.Timeout) -> T:
        pause_s = PAUSE_S
        for left in reversed(range(TRIES_MAX)):
            try:
                return await once(await self.client(), deadline)
            except Exception as error:
                if not left or not _may_pass(error):
                    raise
            await asyncio.sleep(random.uniform(0, pause_s))
            pause_s = min(2 * pause_s, PAUSE_MAX_S)
        raise AssertionError("the last try returns or raises")

    def leave_behind(self, work: Coroutine[Any, Any, Any]) -> None:
        """Have something tidied up that nobody waits for, whoever is cancelled meanwhile."""
        task = asyncio.ensure_future(work)
        self._left_behind.add(task)
        task.add_done_callback(self._left_behind.discard)

    # --- on the caller's ---

    async def close(self) -> None:
        if not self._thread.is_alive():
            self._loop.close()
            return
        await self.run(self._finish())
        self._loop.call_soon_threadsafe(self._loop.stop)
        await asyncio.to_thread(self._thread.join)
        self._loop.close()

    async def _finish(self) -> None:
        if self._left_behind:
            await asyncio.wait(self._left_behind, timeout=CLOSE_S)
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        if self._direct is not None:
            await self._direct.close()
        if self._client is not None:
            await self._client.close()
        await self._loop.shutdown_default_executor()


def code_of(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def is_absent(error: ClientError) -> bool:
    return code_of(error) in ("404", "NoSuchKey", "NotFound") or (
        _status_of(error) == 404 and code_of(error) not in ("NoSuchBucket", "NoSuchUpload")
    )


def is_taken(error: ClientError) -> bool:
    return code_of(error) in ("412", "PreconditionFailed") or _status_of(error) == 412


def is_unknown(error: ClientError) -> bool:
    """Whether the store does not know what it was asked for."""
    return code_of(error) == "NotImplemented" or _status_of(error) == 501


def words_of(error: Exception) -> str:
    """What is said of it: nothing that the store or a library wrote, since that may name a key."""
    if isinstance(error, ClientError):
        code, status = code_of(error), _status_of(error)
        if code == "NoSuchBucket":
            return "the object store has no bucket of that name"
        named = f" {code}" if re.fullmatch(r"[A-Za-z]{1,64}", code) else ""
        return f"the object store {'refuses' if status in _NO_ACCESS else 'failed'}: {status}{named}"
    if isinstance(error, NoCredentialsError | PartialCredentialsError):
        return "no credentials for the object store were found"
    if isinstance(error, ArrivedDamagedError):
        return "an object did not arrive as it was stored"
    return "the object store does not answer"


def _status_of(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _may_pass(error: Exception) -> bool:
    if isinstance(error, ClientError):
        code, status = code_of(error), _status_of(error)
        if status >= 500:
            return not is_unknown(error)
        return status in _PASSING_STATUS or code in _PASSING_CODES
    return isinstance(error, _PASSING_ERRORS)
