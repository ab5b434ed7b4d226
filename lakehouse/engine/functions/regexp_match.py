"""``regexp_match``: what the groups of a pattern found first. The pattern is a literal, so that its groups can be counted."""

from __future__ import annotations

import re
from typing import Final

from lakehouse.engine.functions.declare import Rewording
from lakehouse.engine.tree import Node, arguments_of, call_of, string_literal
from lakehouse.errors import ForbiddenSqlError, UnsupportedError

_FLAGS: Final = frozenset("ims")
# Escapes, classes and quoted text have parentheses that group nothing.
_PARTS: Final = re.compile(
    r"\\Q.*?(?:\\E|$)|\\.|\[\^?\]?(?:\\.|\[:\w+:\]|[^\]\\])*\]|(?P<named>\(\?P?<[^>]*>)|(?P<other>\(\?)|(?P<plain>\()"
    r"|(?P<either>\|)|(?P<closed>\)(?:[?*]|\{0))",
    re.DOTALL,
)


def translate(call: Node) -> Node:
    """The groups one by one, or the whole, where the pattern is found."""
    given = arguments_of(call)
    texts = [string_literal(argument) for argument in given[1:]]
    if not 2 <= len(given) <= 3 or None in texts:
        raise ForbiddenSqlError(
            "regexp_match takes a text, a pattern as a literal and, if any, flags: regexp_match(msg, '(\\d+) ms', 'i')"
        )
    pattern, flags = str(texts[0]), "" if len(texts) < 2 else str(texts[1])
    if set(flags) - _FLAGS:
        raise UnsupportedError(f"regexp_match knows the flags i, m and s, not {flags[:20]!r}")
    groups = _groups(pattern)
    if flags:
        pattern = f"(?{flags}){pattern}"
    found = [call_of("lakeflight_regexp_part", given[0], _text(pattern), _number(group)) for group in groups]
    return call_of("lakeflight_regexp_match", given[0], _text(pattern), call_of("list_value", *found))


def _groups(pattern: str) -> list[int]:
    """The numbers of the groups that a match has; 0 is the whole."""
    count, may_be_absent = 0, False
    for part in _PARTS.finditer(pattern):
        count += bool(part.group("named") or part.group("plain"))
        may_be_absent |= bool(part.group("either") or part.group("closed"))
    if count and may_be_absent:
        raise UnsupportedError(
            "regexp_match: a group that stands in an alternative (|) or may be left out (?, *, {0}) is told from an empty one by"
            " nobody here: use regexp_extract(text, pattern, group), or regexp_matches"
        )
    return list(range(1, count + 1)) or [0]


def _text(text: str) -> Node:
    return {"class": "CONSTANT", "type": "VALUE_CONSTANT", "literal": {"kind": "STRING", "text": text}}


def _number(number: int) -> Node:
    return {"class": "CONSTANT", "type": "VALUE_CONSTANT", "literal": {"kind": "INTEGER", "text": str(number)}}


FUNCTION: Final = Rewording(
    signature="regexp_match(text VARCHAR, pattern VARCHAR) -> VARCHAR[]",
    documentation="What the groups of a regular expression have in its first match, or the match where it has no groups; NULL where there"
    " is none. The pattern is a literal; a third argument may be flags, of i, m and s.",
    listing="string",
    examples=(
        ("regexp_match('took 12 ms', '(\\d+) (\\w+)')", "[12, ms]"),
        ("regexp_match('took 12 ms', '[0-9]+')", "[12]"),
        ("regexp_match('Took', 't', 'i')", "[T]"),
        ("regexp_match('took', 'x') IS NULL", "true"),
    ),
    translate=translate,
)
