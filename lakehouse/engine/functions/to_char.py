"""``to_char``: its format is chrono's, which a literal says in the engine's words, or not at all."""

from __future__ import annotations

import re
from typing import Final

from lakehouse.engine.functions.declare import Rewording
from lakehouse.engine.tree import Node, arguments_of, call_of, string_literal
from lakehouse.errors import ForbiddenSqlError, UnsupportedError

_MARK: Final = "\x01"  # what lakeflight_to_char takes for parts of a second
_SAME: Final = "YymdbBaAjHIpMSuwUW%"
_SPELLED: Final = {
    "F": "%Y-%m-%d",
    "T": "%H:%M:%S",
    "R": "%H:%M",
    "D": "%m/%d/%y",
    "h": "%b",
    "f": f"{_MARK}9",
    ".f": f".{_MARK}9",
    "n": "\n",
    "t": "\t",
    **{f"{dot}{digits}f": f"{dot}{_MARK}{digits}" for dot in ("", ".") for digits in "369"},
}
_SPECIFIER: Final = re.compile(r"%(\.?[369]?f|-?.|$)", re.DOTALL)


def translate(call: Node) -> Node:
    """A call of its body, whose format is the engine's."""
    given = arguments_of(call)
    text = string_literal(given[1]) if len(given) == 2 else None
    if text is None or _MARK in text:
        raise ForbiddenSqlError("to_char takes a time and a format as a literal: to_char(time, '%Y-%m-%d %H:%M:%S')")
    spelled = _SPECIFIER.sub(_spelled, text)
    literal: Node = {"class": "CONSTANT", "type": "VALUE_CONSTANT", "literal": {"kind": "STRING", "text": spelled}}
    return call_of("lakeflight_to_char" if _MARK in spelled else "lakeflight_to_char_whole", given[0], literal)


def _spelled(match: re.Match[str]) -> str:
    specifier = match.group(1)
    if specifier in _SAME and len(specifier) == 1:
        return f"%{specifier}"
    if specifier in _SPELLED:
        return _SPELLED[specifier]
    if specifier.removeprefix("-") in ("d", "m", "H", "I", "M", "S", "j", "y") and specifier.startswith("-"):
        return f"%{specifier}"
    known = " ".join(f"%{name}" for name in (*_SAME, *(name for name in _SPELLED if name not in "nt")))
    raise UnsupportedError(f"to_char: there is no %{specifier} here; there are {known}")


FUNCTION: Final = Rewording(
    signature="to_char(time TIMESTAMP_NS, format VARCHAR) -> VARCHAR",
    documentation="A time as text, by a format that is a literal: %Y %m %d %H %M %S, %F %T, %.3f %.6f %.9f for parts of a second, names"
    " %a %A %b %B, and others of strftime. date_format is the same.",
    listing="datetime",
    examples=(
        ("to_char(TIMESTAMP_NS '2026-01-02 03:04:05.123456789', '%Y/%m/%d %T%.9f')", "2026/01/02 03:04:05.123456789"),
        ("to_char(DATE '2026-01-02', '%d %b %Y')", "02 Jan 2026"),
    ),
    translate=translate,
)
