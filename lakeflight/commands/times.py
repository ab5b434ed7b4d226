"""Times and spans of time as users write them. Refuses to guess the zone of a time."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

from lakeflight.commands.terminal import UsageError

_SPAN: Final = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|[smhdw]))+", re.ASCII)
_SPAN_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhdw])", re.ASCII)
_UNIT_NS: Final = {
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
    "d": 86_400_000_000_000,
    "w": 604_800_000_000_000,
}


def parse_span_ns(text: str) -> int:
    """``1h``, ``1d12h``, ``1.5h``, in nanoseconds.

    Raises:
        UsageError: The text is no span of time.
    """
    if not _SPAN.fullmatch(text):
        raise UsageError(f"not a span of time: {text!r} (for example 30s, 15m, 1h, 7d, 1d12h)")
    return sum(round(float(number) * _UNIT_NS[unit]) for number, unit in _SPAN_PART.findall(text))


def parse_time(text: str, now_ns: int) -> str:
    """A time as users write it, as RFC 3339 in UTC.

    Raises:
        UsageError: No time, or one without an offset.
    """
    from lakeflight.connection import TIME_RANGE, OutOfRangeError, instant_text

    stripped = text.strip()
    try:
        if stripped == "now":
            return instant_text(now_ns)
        if stripped.startswith("now-"):
            return instant_text(now_ns - parse_span_ns(stripped.removeprefix("now-")))
        if re.fullmatch(r"\d{4}-\d\d-\d\d", stripped, re.ASCII):
            return instant_text(datetime.fromisoformat(stripped).replace(tzinfo=UTC))
        return instant_text(stripped)
    except OutOfRangeError as error:
        raise UsageError(f"{text!r} is out of range: {TIME_RANGE}") from error
    except ValueError as error:
        if re.fullmatch(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?", stripped, re.ASCII):
            raise UsageError(f"a time needs its offset: {stripped}Z for UTC, {stripped}+02:00 for another") from error
        raise UsageError(f"not a time: {text!r} (for example 2026-01-31T12:00:00Z, 2026-01-31, now-2h)") from error
