"""Session options, kept by the client: the cookie holds the options themselves.

Any replica understands it, nothing expires here, and nothing can leak between clients. The options carry no authority
(a header says the same), so the cookie needs no seal; one that does not parse is an empty session.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any, Final

from lakeflight.wire.flight_sql import FLIGHT
from lakehouse.errors import QueryError
from server.flight import headers

COOKIE: Final = "arrow_flight_session_id"
COOKIE_BYTES_MAX: Final = 4096
CATALOG: Final = "lakeflight"
SCHEMA: Final = "main"

DEFAULTS: Final[Mapping[str, str]] = {"catalog": CATALOG, "schema": SCHEMA, "timezone": "UTC"}
_UTC_NAMES: Final = frozenset({"utc", "etc/utc", "z", "zulu", "gmt", "+00:00"})
_HEADER_OPTIONS: Final = (headers.RANGE_BEGIN, headers.RANGE_END, headers.LIMIT)

INVALID_NAME: Final = 1
INVALID_VALUE: Final = 2


def read_session(metadata: Mapping[str, str]) -> dict[str, str]:
    """Options of the request's cookie; only those that could have been set."""
    cookies = metadata.get("cookie", "")
    if COOKIE not in cookies:
        return {}
    for part in cookies.split(";"):
        name, _, value = part.strip().partition("=")
        if name == COOKIE and len(value) <= COOKIE_BYTES_MAX:
            return {k: v for k, v in _decode(value.strip('"')).items() if _checked(k, v) == v}
    return {}


def session_cookie(options: Mapping[str, str]) -> str:
    """Value of the ``set-cookie`` header that carries the options."""
    encoded = base64.urlsafe_b64encode(json.dumps(options, separators=(",", ":")).encode()).rstrip(b"=").decode()
    return f"{COOKIE}={encoded}; Path=/; HttpOnly"


def set_options(session: dict[str, str], request: Any) -> Any:
    """Apply a ``SetSessionOptionsRequest`` to ``session``; the result says what was refused and why."""
    result = FLIGHT["SetSessionOptionsResult"]()
    for name, value in request.session_options.items():
        if name not in DEFAULTS and name not in _HEADER_OPTIONS:
            result.errors[name[:100]].value = INVALID_NAME
            continue
        member = value.WhichOneof("option_value")
        if member is None:
            session.pop(name, None)
            continue
        text = str(getattr(value, member)) if member in ("string_value", "int64_value") else ""
        checked = _checked(name, text)
        if checked is None:
            result.errors[name].value = INVALID_VALUE
        else:
            session[name] = checked
    return result


def get_options(session: Mapping[str, str]) -> Any:
    """``GetSessionOptionsResult``: what is set, over the defaults."""
    result = FLIGHT["GetSessionOptionsResult"]()
    for name, value in {**DEFAULTS, **session}.items():
        result.session_options[name].string_value = value
    return result


def _decode(value: str) -> dict[str, str]:
    try:
        decoded = json.loads(base64.urlsafe_b64decode(value + "=" * (-len(value) % 4)))
    except (binascii.Error, ValueError, RecursionError):
        return {}
    if not isinstance(decoded, dict):
        return {}
    return {k: v for k, v in decoded.items() if isinstance(v, str)}


def _checked(name: str, text: str) -> str | None:
    """The value as it is kept, or ``None``: there is one catalog with one schema, and all times are UTC."""
    if name in ("catalog", "schema"):
        return DEFAULTS[name] if text == DEFAULTS[name] else None
    if name == "timezone":
        return "UTC" if text.lower() in _UTC_NAMES else None
    try:
        if name == headers.LIMIT:
            headers.row_limit(text)
        elif name in _HEADER_OPTIONS:
            headers.time_range(text, None)
        else:
            return None
    except QueryError:
        return None
    return text
