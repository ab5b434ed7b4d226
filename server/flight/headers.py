"""Request metadata -> ``QueryOptions``: time range, row limit, strictness, deadline, output profile, who says to ask.

Headers are hostile text. What changes a result must parse or the request is refused; what only describes the client is
cut short and passed on. Nothing here gives authority to anybody.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from lakeflight.wire.errors import MalformedRequestError
from lakeflight.wire.times import INT64_MAX, INT64_MIN, parse_instant_ns
from lakehouse.errors import QueryError
from lakehouse.model import EVERYTHING, QueryOptions, Spelling, TimeRange

RANGE_BEGIN: Final = "query_range_begin"
RANGE_END: Final = "query_range_end"
LIMIT: Final = "limit"
STRICT: Final = "x-lakeflight-strict"
OUTPUT_PROFILE: Final = "x-output-profile"
CLIENT_TYPE: Final = "x-client-type"
PRESERVE_DICTIONARY: Final = "preserve_dictionary"
USER_AGENT: Final = "user-agent"
# The JDBC driver has no name of its own. It cannot read times with a zone, and writes milliseconds whatever is declared.
JAVA_USER_AGENT: Final = "grpc-java"
PROFILES: Final[Mapping[str, Spelling]] = {
    "default": Spelling.PLAIN,
    "grafana": Spelling.DOUBLES | Spelling.SHOWN,
    "jdbc": Spelling.UNZONED | Spelling.MILLISECONDS,
    "micromegas": Spelling.JSONB | Spelling.DOUBLES | Spelling.OFFSETS,
}

DESCRIPTION_CHARS_MAX: Final = 256  # of each header that only describes the client
_DESCRIPTIONS: Final = (
    USER_AGENT,
    CLIENT_TYPE,
    "x-client-agent",
    "x-client-entrypoint",
    "x-client-session",
    "x-client-notebook",
    "x-client-cell",
    "x-request-id",
    "x-user-id",
    "x-user-email",
    "x-user-name",
    "x-org-id",
)


def time_range(begin: str | None, end: str | None) -> TimeRange:
    """The range two headers name; an absent or empty half is open."""
    if not begin and not end:
        return EVERYTHING
    return TimeRange(_instant(RANGE_BEGIN, begin), _instant(RANGE_END, end))


def _instant(name: str, text: str | None) -> int | None:
    """A bound beyond what int64 nanoseconds hold bounds nothing that is stored: it is the last time there is."""
    if not text:
        return None
    try:
        return max(INT64_MIN, min(INT64_MAX, parse_instant_ns(text)))
    except MalformedRequestError as error:
        raise QueryError(f"{name} must be an RFC 3339 time such as 2024-01-31T12:00:00Z, not {text[:64]!r}") from error


def row_limit(text: str | None) -> int | None:
    """The row limit a header names, ``None`` if it is absent or empty."""
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 19 and int(text) <= INT64_MAX):
        raise QueryError(f"{LIMIT} must be a whole number of rows, not {text[:64]!r}")
    return int(text)


def _flag(name: str, text: str | None) -> bool:
    match (text or "").lower():
        case "true" | "1":
            return True
        case "" | "false" | "0":
            return False
        case _:
            raise QueryError(f"{name} must be true or false, not {(text or '')[:64]!r}")


def output_profile(metadata: Mapping[str, str]) -> str:
    """How results are spelled for this client: as it asks, or as its kind is known to need."""
    asked = metadata.get(OUTPUT_PROFILE, "").lower()
    if asked:
        if asked not in PROFILES:
            raise QueryError(f"{OUTPUT_PROFILE} must be one of {', '.join(PROFILES)}, not {asked[:64]!r}")
        return asked
    match metadata.get(CLIENT_TYPE, "").lower():
        case "grafana":
            return "grafana"
        case "python" | "web":
            return "micromegas"
        case _:
            return "jdbc" if metadata.get(USER_AGENT, "").startswith(JAVA_USER_AGENT) else "default"


def query_options(metadata: Mapping[str, str], query_id: str, deadline_s: float | None) -> QueryOptions:
    """Bind one request's options. ``client`` has ``profile``, ``preserve_dictionary`` and the describing headers.

    Raises:
        QueryError: A header that changes results does not parse.
    """
    client = {name: metadata[name][:DESCRIPTION_CHARS_MAX] for name in _DESCRIPTIONS if metadata.get(name)}
    client["profile"] = output_profile(metadata)
    spelling = PROFILES[client["profile"]]
    # The micromegas server reads anything but "true" as false, and its clients rely on that.
    client[PRESERVE_DICTIONARY] = "true" if metadata.get(PRESERVE_DICTIONARY, "").lower() == "true" else "false"
    if client[PRESERVE_DICTIONARY] == "true":
        spelling |= Spelling.DICTIONARIES
    return QueryOptions(
        query_id=query_id,
        time_range=time_range(metadata.get(RANGE_BEGIN), metadata.get(RANGE_END)),
        row_limit=row_limit(metadata.get(LIMIT)),
        strict=_flag(STRICT, metadata.get(STRICT)),
        deadline_s=deadline_s,
        spelling=spelling,
        client=client,
    )
