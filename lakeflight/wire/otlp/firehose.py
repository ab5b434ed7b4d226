"""What a Firehose of Amazon delivers to an HTTP endpoint: a JSON envelope around records, and the answer that it reads.

What a record is depends on who filled the stream; ``cloudwatch`` knows two of them.
"""

from __future__ import annotations

import binascii
import json
from typing import Any, Final, NamedTuple

from lakeflight.wire.errors import MalformedRequestError

JSON_ITEMS_MAX: Final = 131_072  # of an envelope, which has two for each record
REQUEST_ID_CHARS_MAX: Final = 1_024  # it is said again in the answer; Firehose sends a UUID
ERROR_CHARS_MAX: Final = 8_192  # what Firehose takes of a reason


class Envelope(NamedTuple):
    request_id: str
    records: list[bytes]


def decode_envelope(body: bytes) -> Envelope:
    """
    Raises:
        MalformedRequestError: It is no such envelope, or a record in it is not base64.
    """
    if sum(map(body.count, (b"{", b"[", b","))) > JSON_ITEMS_MAX:  # none of them can stand in base64
        raise MalformedRequestError(f"the envelope has more than {JSON_ITEMS_MAX} objects and members")
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise MalformedRequestError(f"the envelope is not sound JSON: {str(error)[:200]}") from error
    if type(document) is not dict:
        raise MalformedRequestError("the envelope is not a JSON object")
    request_id = document.get("requestId", "")
    if type(request_id) is not str or len(request_id) > REQUEST_ID_CHARS_MAX:
        raise MalformedRequestError(f"the requestId is not a text of at most {REQUEST_ID_CHARS_MAX} characters")
    records = document.get("records", [])
    if type(records) is not list:
        raise MalformedRequestError("the records are not an array")
    return Envelope(request_id, [_data(number, record) for number, record in enumerate(records)])


def _data(number: int, record: Any) -> bytes:
    data = record.get("data") if type(record) is dict else None
    if type(data) is not str:
        raise MalformedRequestError(f"records[{number}] has no text in its data")
    try:
        return binascii.a2b_base64(data, strict_mode=True)
    except ValueError as error:  # of the decoder, or of a character beyond ASCII
        raise MalformedRequestError(f"records[{number}] is not base64: {str(error)[:200]}") from error


def encode_answer(request_id: str, time_ms: int, error: str | None = None) -> bytes:
    """``error``: nothing was stored, send it again."""
    answer: dict[str, Any] = {"requestId": request_id, "timestamp": time_ms}
    if error is not None:
        answer["errorMessage"] = error[:ERROR_CHARS_MAX]
    return json.dumps(answer, separators=(",", ":")).encode()
