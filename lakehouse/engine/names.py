"""Names that the engine's databases give to things, and those that a user may write for them.

Whatever begins with one of our prefixes is ours alone: the gate refuses it as the name of a common table expression, and
messages leave it out.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

CATALOG_NAME: Final = "lakeflight"
SCHEMA_NAME: Final = "main"
INFORMATION_SCHEMA: Final = "information_schema"
INFORMATION_TABLES: Final = frozenset({"tables", "columns", "schemata"})
NIL_INSTANCE: Final = "00000000-0000-0000-0000-000000000000"  # of a call whose instance is not bound yet

_OURS: Final = "lakeflight_"
INFORMATION_STAND_IN: Final = f"{_OURS}information"  # our tables; DuckDB's own would show more than ours
NOW_VARIABLE: Final = f"{_OURS}now"  # what the clock of a statement shows: macros.sql reads it
BOUND_VARIABLE: Final = f"{_OURS}bound"  # values of the statement that is being planned
_BOUND_MARK: Final = re.compile(rf"getvariable\('{BOUND_VARIABLE}_\d+'\)")
INCOMING: Final = f"{_OURS}incoming"
_VIEW_SET: Final = f"{_OURS}set_"
_RAW: Final = f"{_OURS}raw_"
_INSTANCE: Final = "vi_"

_FOREIGN: Final = re.compile(rf"(duckdb_|pg_|pragma_|sqlite_|{_INSTANCE}|__|{_OURS})|[/\\*?.:]", re.IGNORECASE)
_IN_MESSAGES: Final = re.compile(rf"\b{_INSTANCE}[0-9a-f]{{64}}\b|\b{_OURS}(?:raw_|set_(?:[0-9]+_)?)?(?=[a-z])")
_INFORMATION: Final = re.compile(rb'("?lakeflight"?\s*\.\s*)?("?information_schema"?)(?=\s*\.)', re.IGNORECASE)


def relation_name(source: str, *arguments: str) -> str:
    """The name under which the rows of a source with arguments are looked for. Nobody can write it by accident."""
    return _INSTANCE + hashlib.sha256("/".join((source, *arguments)).encode()).hexdigest()


def relation_name_sql(source: str, *arguments: str) -> str:
    """The same as a SQL expression over SQL expressions."""
    joined = " || '/' || ".join((source, *arguments))
    return f"'{_INSTANCE}' || system.main.sha256({joined})"


def view_set_table(view_set: str, place: int = 1) -> str:
    """What stands for an instance of a view set while a statement is inspected: the ``place``-th that it names."""
    return f"{_VIEW_SET}{view_set}" if place == 1 else f"{_VIEW_SET}{place}_{view_set}"


def bound_mark(number: int) -> str:
    """What stands for a bound value, as the engine writes it. No statement can: the gate refuses the function."""
    return f"getvariable('{BOUND_VARIABLE}_{number}')"


def bound_marks_as(text: str, shown: str) -> str:
    """A text with other words of the same length where values are to be bound."""
    return _BOUND_MARK.sub(lambda mark: shown.ljust(len(mark.group(0))), text)


def raw_table(view_set: str) -> str:
    """Where the rows of one of the catalog's files are kept."""
    return _RAW + view_set


def is_foreign(name: str) -> bool:
    """Whether a name could be taken for something of the engine's, or of ours, or for a file."""
    return _FOREIGN.search(name) is not None or name.lower() == INFORMATION_SCHEMA


def find_information_schema(text: bytes) -> tuple[int, int] | None:
    """Where the schema stands in a qualified name at the start of the text."""
    match = _INFORMATION.match(text)
    return match.span(2) if match is not None else None


def without_our_names(line: str) -> str:
    """A message in the user's own words."""
    return _IN_MESSAGES.sub(lambda match: "view_instance" if match.group(0).startswith(_INSTANCE) else "", line)
