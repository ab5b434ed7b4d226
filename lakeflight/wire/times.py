"""Text <-> nanoseconds since 1970, UTC: RFC 3339 as senders, headers and commands write it.

Reading is liberal where nothing can be misread (a space for the T, a comma for the point, an offset without its colon)
and refuses a time without an offset: whose clock it was is never guessed.
"""

from __future__ import annotations

import re
from datetime import date
from functools import lru_cache
from typing import Final

from lakeflight.wire.errors import MalformedRequestError

INT64_MIN: Final = -(1 << 63)
INT64_MAX: Final = (1 << 63) - 1

_NS_PER_S: Final = 1_000_000_000
_EPOCH_DAYS: Final = date(1970, 1, 1).toordinal()


def format_time(time_ns: int, *, trim: bool = False) -> str:
    """``2024-01-01T00:00:00.123456789``, UTC, without the zone; ``trim`` leaves groups of three zeros away."""
    seconds, fraction = divmod(time_ns, _NS_PER_S)
    days, second = divmod(seconds, 86_400)
    day = date.fromordinal(_EPOCH_DAYS + days).isoformat()
    text = f"{day}T{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}.{fraction:09}"
    if trim:
        digits = f"{fraction:09}"
        while digits.endswith("000"):
            digits = digits[:-3]
        text = text[:20] + digits if digits else text[:19]
    return text


_TIME: Final = re.compile(
    r"\+?(\d{4}-\d\d-\d\d)(?:[Tt]|\s+)(\d\d):(\d\d):(\d\d)(?:[.,](\d+))?\s*"
    r"(?:([Zz]|UTC|utc)|([+\-−])(\d\d):?(\d\d)?)",
    re.ASCII,
)
_USUAL_TIME: Final = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d):([0-5]\d)\.(\d{9})\+00:00", re.ASCII)
_match_time: Final = _TIME.fullmatch
_match_usual_time: Final = _USUAL_TIME.fullmatch


@lru_cache(maxsize=64)
def _days(text: str) -> int:
    return date.fromisoformat(text).toordinal() - _EPOCH_DAYS


@lru_cache(maxsize=64)
def _minute_ns(text: str) -> int:
    return parse_time_ns(text + ":59.999999999Z") - 59_999_999_999


def parse_time_ns(text: str) -> int:
    """RFC 3339 to nanoseconds since 1970, UTC. Digits beyond nanoseconds are dropped; a leap second is the next second.

    Raises:
        MalformedRequestError: Not a time with an offset, or outside what int64 nanoseconds hold (1677 to 2262).
    """
    usual = _match_usual_time(text)
    if usual is not None and "1678" < text < "2262":  # every block of the Rust sink; successive ones share minutes
        minute_text, second_text, digits = usual.groups()
        return _minute_ns(minute_text) + int(second_text + digits)
    time_ns = parse_instant_ns(text)
    if not INT64_MIN <= time_ns <= INT64_MAX:
        raise MalformedRequestError(f"time is outside of int64 nanoseconds: {text[:64]!r}")
    return time_ns


def parse_instant_ns(text: str) -> int:
    """The same for any year from 1 to 9999: the caller says what happens to a time that int64 cannot hold.

    Raises:
        MalformedRequestError: Not a time with an offset.
    """
    match = _match_time(text)
    if match is None:
        raise MalformedRequestError(f"not an RFC 3339 time: {text[:64]!r}")
    day, hour_text, minute_text, second_text, digits, zulu, sign, offset_hours, offset_minutes = match.groups()
    hour, minute, second = int(hour_text), int(minute_text), int(second_text)
    try:
        days = _days(day)
    except ValueError as error:
        raise MalformedRequestError(f"no such day: {text[:64]!r}") from error
    if hour > 23 or minute > 59 or second > 60:
        raise MalformedRequestError(f"no such time of day: {text[:64]!r}")
    seconds = days * 86_400 + hour * 3600 + minute * 60 + second
    if zulu is None:
        away = int(offset_hours) * 3600
        if offset_minutes is not None:
            if int(offset_minutes) > 59:
                raise MalformedRequestError(f"no such offset: {text[:64]!r}")
            away += int(offset_minutes) * 60
        if away >= 86_400:
            raise MalformedRequestError(f"no such offset: {text[:64]!r}")
        seconds += -away if sign == "+" else away
    time_ns = seconds * _NS_PER_S
    if digits is not None:
        time_ns += int(digits) if len(digits) == 9 else int(digits[:9].ljust(9, "0"))
    return time_ns
