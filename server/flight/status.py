"""Every error -> one gRPC status and one sentence. Nothing else about an error reaches a client."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import Any, Final

import grpc
import structlog

from lakeflight.wire.errors import CorruptPayloadError, MalformedRequestError, WireError
from lakehouse.errors import (
    AccessError,
    BackendUnavailableError,
    CorruptBlockError,
    ForbiddenSqlError,
    IncompleteDataError,
    InternalError,
    LakeflightError,
    LimitExceededError,
    NotFoundError,
    PermissionDeniedError,
    QueryCancelledError,
    QueryError,
    QueryTimeoutError,
    SqlSyntaxError,
    UnauthenticatedError,
    UnknownViewError,
    UnreadableFileError,
    UnsupportedError,
)

_log = structlog.get_logger(__name__)

MESSAGE_BYTES_MAX: Final = 2048  # it travels percent-encoded in a header, and clients limit those
STATUS_WAIT_S: Final = 2.0

# FAILED_PRECONDITION, ABORTED, OUT_OF_RANGE and UNKNOWN are avoided: ADBC folds all four into one unspecific error.
STATUS: Final[Mapping[type[Exception], Any]] = {
    QueryError: grpc.StatusCode.INVALID_ARGUMENT,
    SqlSyntaxError: grpc.StatusCode.INVALID_ARGUMENT,
    ForbiddenSqlError: grpc.StatusCode.INVALID_ARGUMENT,  # the statement is at fault; another caller's would be too
    UnknownViewError: grpc.StatusCode.INVALID_ARGUMENT,
    AccessError: grpc.StatusCode.PERMISSION_DENIED,
    UnauthenticatedError: grpc.StatusCode.UNAUTHENTICATED,
    PermissionDeniedError: grpc.StatusCode.PERMISSION_DENIED,
    UnsupportedError: grpc.StatusCode.UNIMPLEMENTED,
    NotFoundError: grpc.StatusCode.NOT_FOUND,
    LimitExceededError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    QueryTimeoutError: grpc.StatusCode.DEADLINE_EXCEEDED,
    QueryCancelledError: grpc.StatusCode.CANCELLED,
    BackendUnavailableError: grpc.StatusCode.UNAVAILABLE,
    UnreadableFileError: grpc.StatusCode.UNAVAILABLE,
    CorruptBlockError: grpc.StatusCode.DATA_LOSS,
    IncompleteDataError: grpc.StatusCode.DATA_LOSS,
    InternalError: grpc.StatusCode.INTERNAL,
    WireError: grpc.StatusCode.INVALID_ARGUMENT,
    MalformedRequestError: grpc.StatusCode.INVALID_ARGUMENT,
    CorruptPayloadError: grpc.StatusCode.DATA_LOSS,
}


def status_of(error: BaseException, query_id: str = "") -> tuple[Any, str]:
    """Code and message for the client. What is not in the tree is a fault of ours, and its text stays here."""
    code = next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), grpc.StatusCode.INTERNAL)
    sentence = "internal error" if code is grpc.StatusCode.INTERNAL else str(error)
    suffix = f" (query_id={query_id})" if query_id else ""  # a call that was refused at the door has none
    return code, _one_line(sentence, MESSAGE_BYTES_MAX - len(suffix)) + suffix


async def refuse(context: Any, error: Exception, query_id: str) -> None:
    """End the call with the error's status; a fault of ours is logged here, once.

    Raises:
        grpc.aio.AbortError: Always, but when nobody reads: the status then lies behind data in the peer's window, and
            is delivered if it ever goes on reading, while the call no longer counts here.
    """
    code, message = status_of(error, query_id)
    if code is grpc.StatusCode.INTERNAL or not isinstance(error, (LakeflightError, WireError)):
        _log.error("flight.internal_error", query_id=query_id, exc_info=error)
    try:
        await asyncio.wait_for(context.abort(code, message), STATUS_WAIT_S)
    except TimeoutError:
        return


def _one_line(text: str, bytes_max: int) -> str:
    line = re.sub(r"\s*[\r\n]+\s*", " ", text).strip()
    encoded = line.encode()
    if len(encoded) <= bytes_max:
        return line
    return encoded[: bytes_max - 3].decode(errors="ignore") + "…"
