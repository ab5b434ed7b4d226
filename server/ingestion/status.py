"""Errors to HTTP status. A sender drops what gets a 4xx, so only what can never work gets one."""

from __future__ import annotations

from typing import Final

from lakeflight.wire.errors import MalformedRequestError
from lakehouse.errors import BackendUnavailableError, LakeflightError, LimitExceededError
from server.ingestion.limits import RequestRefusedError

STATUS: Final[dict[type[Exception], int]] = {
    MalformedRequestError: 400,
    BackendUnavailableError: 503,
    LimitExceededError: 503,
    LakeflightError: 500,
}


def status_of(error: Exception) -> tuple[int, str]:
    """Status and one sentence. Of what nobody foresaw, the sender hears only that it happened."""
    if isinstance(error, RequestRefusedError):
        return error.status, error.reason
    for kind, status in STATUS.items():
        if isinstance(error, kind):
            return status, str(error)
    return 500, "internal error"
