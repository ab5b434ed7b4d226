"""What micromegas has and lakeflight has not: by name, with what there is instead.

Its clients and its pages name these. An answer that says what to do is worth more than that the name is unknown.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

_DENIALS: Final = (
    "lakeflight has no deny list: the limits of each identity and of each statement bound what a query may cost, see"
    " docs/settings.md"
)
_VIEWS: Final = "views defined in SQL are files in views/ of the server, such as views/log_stats.py; list_view_sets() shows what there is"

_FUNCTIONS: Final[Mapping[str, str]] = {
    "deny_queries": _DENIALS,
    "list_query_denials": _DENIALS,
    "remove_query_denial": _DENIALS,
    "list_view_set_definitions": _VIEWS,
    "list_audience_grants": "lakeflight has no audiences: every caller reads everything that the server has",
}
_VIEW_STATEMENT: Final = re.compile(r"(?:CREATE(?:\s+OR\s+REPLACE)?|DROP)\s+MATERIALIZED\s+VIEW\b", re.IGNORECASE)


def function_elsewhere(name: str) -> str | None:
    """What there is instead of a function of the original's; ``None``: it is none of these."""
    return _FUNCTIONS.get(name.lower())


def statement_elsewhere(text: str) -> str | None:
    """The same of a statement that makes or drops views; the text begins with its first word."""
    return f"statements cannot change views: {_VIEWS}" if _VIEW_STATEMENT.match(text) else None
