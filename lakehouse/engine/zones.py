"""Texts that say a time with an offset or in a zone, which the engine drops where it reads them as a time without one."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

from lakehouse.engine.functions import words
from lakehouse.errors import ForbiddenSqlError

_OFFSET: Final = re.compile(
    r"(\d{4,6}[-/]\d\d?[-/]\d\d?)(?:[T ]\s*(\d\d?:\d\d(?::\d\d(?:\.\d*)?)?))?\s*([+-])(\d\d?)(?::?(\d\d))?(?::\d\d)?\s*\Z"
)
# A zone by its name, as Europe/Berlin or CET, after a time; names of UTC lose nothing.
_ZONE: Final = re.compile(
    r"(\d{4,6}[-/]\d\d?[-/]\d\d?(?:[T ]\s*\d\d?:\d\d(?::\d\d(?:\.\d*)?)?)?)\s*([A-Za-z][A-Za-z0-9_+-]*(?:/[A-Za-z0-9_+-]+)*)\s*\Z"
)
UTC_NAMES: Final = words("z utc gmt zulu uct universal etc/utc etc/gmt etc/uct etc/zulu etc/universal")
_HARMLESS: Final = UTC_NAMES | {"bc"}
_BETWEEN_ELEMENTS: Final = re.compile(r"[\[\]{}()'\",=]")


def refuse_zone(text: str) -> None:
    """Raises:
    ForbiddenSqlError: The text is a time with an offset from UTC, or in a named zone.
    """
    text = text.strip()
    zone = _ZONE.match(text)
    if zone is not None and zone.group(2).lower() not in _HARMLESS:
        raise ForbiddenSqlError(
            f"the timestamp {text!r} has a time zone: write it in UTC, or as TIMESTAMPTZ '{text}' AT TIME ZONE 'UTC'"
        )
    match = _OFFSET.match(text)
    if match is None or (int(match.group(4)) == 0 and int(match.group(5) or 0) == 0):
        return
    raise ForbiddenSqlError(f"the timestamp {text!r} has an offset: write it in UTC{_hint(match)}")


def has_zone(text: str) -> bool:
    """Whether ``refuse_zone`` would."""
    try:
        refuse_zone(text)
    except ForbiddenSqlError:
        return True
    return False


def elements(text: str) -> list[str]:
    """What stands in a list or a struct that is written as text."""
    return _BETWEEN_ELEMENTS.split(text)


def _hint(match: re.Match[str]) -> str:
    date, time, sign, hours, minutes = match.groups()
    try:
        offset = f"{sign}{int(hours):02d}:{int(minutes or 0):02d}"
        moment = datetime.fromisoformat(f"{date}T{time or '00:00:00'}{offset}").astimezone(UTC)
    except (ValueError, OverflowError):
        return ""
    return f", as '{moment.replace(tzinfo=None).isoformat()}Z'"
