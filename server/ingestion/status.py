"""Errors to HTTP answers. A sender drops what gets a 4xx, so only what can never work gets one.

There is no 500: some senders take it for the end of their data. Whatever happens to a sound request is 503, and nothing of
it is acknowledged.
"""

from __future__ import annotations

from typing import Final

from lakeflight.wire.errors import MalformedRequestError
from lakehouse.errors import (
    BackendUnavailableError,
    LimitExceededError,
    PermissionDeniedError,
    UnauthenticatedError,
)
from server.ingestion.exchange import Answer, text_answer
from server.ingestion.limits import RequestRefusedError

RETRY_AFTER_S: Final = 1
STATUS: Final[dict[type[Exception], int]] = {
    MalformedRequestError: 400,
    UnauthenticatedError: 401,
    PermissionDeniedError: 403,
    BackendUnavailableError: 503,
    LimitExceededError: 503,
}
UNFORESEEN: Final = "the server failed at this request; send it again"


def is_foreseen(error: BaseException) -> bool:
    """Whether the error says something to the sender; any other is the server's own, and belongs into its log."""
    return isinstance(error, (RequestRefusedError, *STATUS))


def answer_to(error: BaseException) -> Answer:
    """Status and one sentence. Of what nobody foresaw, the sender hears only that it happened."""
    status, sentence = _status_of(error)
    headers = {}
    if status == 503:
        headers["retry-after"] = str(RETRY_AFTER_S)
    elif status == 401:
        headers["www-authenticate"] = "Bearer"
    return text_answer(status, sentence, headers)


def _status_of(error: BaseException) -> tuple[int, str]:
    if isinstance(error, RequestRefusedError):
        return error.status, error.reason
    for kind, status in STATUS.items():
        if isinstance(error, kind):
            return status, str(error)
    return 503, UNFORESEEN
