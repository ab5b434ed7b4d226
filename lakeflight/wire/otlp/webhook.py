"""A webhook -> one log record: its body is the message, three headers say who sends, and all of them tell deliveries apart.

The body is nobody's business here: no type is asked for and nothing of it is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeAlias

from lakeflight.wire.errors import MalformedRequestError
from lakeflight.wire.otlp.messages import MESSAGES

Headers: TypeAlias = Sequence[tuple[bytes, bytes]]  # as they came: one that came twice is there twice

_RESOURCE: Final = (
    (b"x-micromegas-service-name", "service.name"),
    (b"x-micromegas-service-namespace", "service.namespace"),
)
_TARGET: Final = b"x-micromegas-target"
_INFO: Final = 9  # a severity number


def message_of(body: bytes) -> str:
    """What a delivery says. Bytes that are no UTF-8 become U+FFFD.

    Raises:
        MalformedRequestError: Nothing.
    """
    if not body:
        raise MalformedRequestError("empty body")
    return body.decode("utf-8", "replace")


def resource_of(headers: Headers, message: str) -> Any:
    """The ``ResourceLogs`` of a delivery."""
    given = {name.lower(): value for name, value in reversed(headers)}  # of one that came twice the first
    resource = MESSAGES["ResourceLogs"]()
    resource.resource.SetInParent()
    for header, attribute in _RESOURCE:
        if header in given:
            resource.resource.attributes.add(key=attribute).value.string_value = _text(given[header])
    scope = resource.scope_logs.add()
    scope.scope.name = _text(given.get(_TARGET, b""))
    scope.scope.SetInParent()
    record = scope.log_records.add(severity_number=_INFO)
    record.body.string_value = message
    return resource


def seed_of(headers: Headers) -> bytes:
    """What of a block's id comes from the headers: a delivery that differs in none of them is the same one, sent again."""
    pairs = sorted((name.lower(), value) for name, value in headers)
    return b"".join(name + b"\0" + value + b"\0" for name, value in pairs)


def _text(value: bytes) -> str:
    """Headers have no encoding; what is no UTF-8 is one character for each byte, as HTTP once had it."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")
