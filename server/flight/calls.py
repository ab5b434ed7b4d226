"""One RPC in progress: who calls, under which id, with which options.

Every message from and to the client passes here, so that the time it takes the client is known: see ``open_calls``.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from typing import Any, Final

import grpc.aio

from lakehouse.errors import BackendUnavailableError
from lakehouse.model import Caller, QueryOptions
from server.access import CALLER_TIMEOUT_S, Authenticate, Origin
from server.flight.headers import query_options
from server.flight.open_calls import OpenCall, OpenCalls
from server.flight.sessions import read_session

OWN_SOCKET: Final = "unix:"  # a peer as gRPC spells it; the socket is open to its owner alone, see ``server``


class ReaderGoneError(Exception):
    """The peer is gone; there is nobody to tell."""


class Call:
    """Made at the beginning of every RPC; cheap, because options are bound only when asked for.

    ``caller`` is nobody until ``identify`` has been awaited.
    """

    __slots__ = ("_calls", "_place", "caller", "context", "metadata", "query_id")

    caller: Caller

    def __init__(self, context: Any, calls: OpenCalls, place: OpenCall) -> None:
        self.context = context
        self._calls, self._place = calls, place
        self.metadata: dict[str, str] = dict(context.invocation_metadata())
        self.query_id = os.urandom(16).hex()

    async def identify(self, authenticate: Authenticate) -> None:
        """Find out who calls.

        Raises:
            AccessError: Nobody who may.
            BackendUnavailableError: Whoever knows the callers does not answer in time.
        """
        try:
            async with asyncio.timeout(CALLER_TIMEOUT_S):
                caller = await authenticate(self.metadata, self._origin())
        except TimeoutError as error:
            raise BackendUnavailableError("who calls could not be found out in time") from error
        self.caller = replace(caller, connection=self._place.peer)

    def _origin(self) -> Origin:
        names = self.context.auth_context().get("x509_common_name")  # of a certificate that the handshake has checked
        certificate = names[0].decode("utf-8", "replace") if names else None
        return Origin(self._place.peer.startswith(OWN_SOCKET), certificate)

    def options(self) -> QueryOptions:
        """Headers over the session's options.

        Raises:
            QueryError: A header that changes results does not parse.
        """
        session = read_session(self.metadata)
        metadata = {**session, **self.metadata} if session else self.metadata
        return query_options(metadata, self.query_id, self.context.time_remaining())

    # grpc raises an unpublished class when the peer is gone, and nothing else can fail in these three.

    async def send_initial_metadata(self, name: str, value: str) -> None:
        try:
            await self.context.send_initial_metadata(((name, value),))
        except Exception as error:
            raise ReaderGoneError from error

    async def read(self) -> bytes | None:
        """The next message, ``None`` at the end."""
        self._place.wait_begins(self._calls.now())
        try:
            message = await self.context.read()
        except Exception as error:
            raise ReaderGoneError from error
        self._place.wait_ends(self._calls.now())
        return None if message is grpc.aio.EOF else message

    async def write(self, message: bytes) -> None:
        self._place.wait_begins(self._calls.now())
        try:
            await self.context.write(message)
        except Exception as error:
            raise ReaderGoneError from error
        self._place.wait_ends(self._calls.now())
