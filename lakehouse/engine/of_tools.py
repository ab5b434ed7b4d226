"""Statements that are no SELECT and that tools send all the same: what each asks for, as a SELECT.

Consoles and drivers browse with ``SHOW …`` and ``PRAGMA …``, begin and end transactions, and set what is so already. Nothing
here has an effect, so a statement that would change what later ones answer is refused, with what to do instead. Statements
that are not listed are nobody's business here: the gate says what it thinks of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from lakehouse.engine.names import CATALOG_NAME, SCHEMA_NAME
from lakehouse.engine.sql_types import literal
from lakehouse.engine.zones import UTC_NAMES
from lakehouse.errors import ForbiddenSqlError

_FIRST_WORDS: Final = re.compile(
    r"(?:SHOW|PRAGMA|SET|RESET|USE|BEGIN|START|COMMIT|END|ROLLBACK|ABORT)\b", re.IGNORECASE
)
_STATEMENT_CHARS_MAX: Final = 300  # a longer one is none of these
_NAME: Final = r"""(?:[A-Za-z_][A-Za-z_0-9]*|"[^"]+")"""
_DONE: Final = 'SELECT CAST(NULL AS BOOLEAN) AS "Success" WHERE false'
_DATABASES: Final = f"SELECT {literal(CATALOG_NAME)} AS database_name"
_SCHEMAS: Final = "SELECT catalog_name AS database_name, schema_name FROM information_schema.schemata ORDER BY database_name, schema_name"
_ALL_TABLES: Final = (
    'SELECT table_catalog AS "database", table_schema AS "schema", table_name AS name,'
    " list(column_name ORDER BY ordinal_position) AS column_names,"
    ' list(data_type ORDER BY ordinal_position) AS column_types, false AS "temporary"'
    " FROM information_schema.columns GROUP BY ALL ORDER BY name"
)
_SHOWN_TABLES: Final = "SELECT table_name AS name FROM information_schema.tables ORDER BY name"
_DATABASE_LIST: Final = (
    f"SELECT CAST(0 AS BIGINT) AS seq, {literal(CATALOG_NAME)} AS name, CAST(NULL AS VARCHAR) AS file"
)


def as_select(text: str) -> str | None:
    """The SELECT that answers a statement; the text begins with its first word. ``None``: it is none of these.

    Raises:
        ForbiddenSqlError: It would change what later statements answer.
    """
    if _FIRST_WORDS.match(text) is None or len(text) > _STATEMENT_CHARS_MAX:
        return None
    statement = text.strip().rstrip(";").rstrip()
    for pattern, answer in _ANSWERS:
        match = pattern.fullmatch(statement)
        if match is not None:
            return answer(match)
    return None


def _always(select: str) -> Callable[[re.Match[str]], str]:
    return lambda _: select


def _table_info(match: re.Match[str]) -> str:
    """From the declarations: a DESCRIBE inside of a SELECT would have the table's rows made."""
    *place, name = (match["text"] or match["name"].strip('"')).split(".")
    if any(part.lower() not in (CATALOG_NAME, SCHEMA_NAME) for part in place):
        raise ForbiddenSqlError(f"unknown table {'.'.join([*place, name])!r}")
    # As a boolean it fails, and the engine's message has the text.
    unknown = literal(f"unknown table '{name}': SHOW TABLES lists what there is")
    return (
        "SELECT CAST(ordinal_position - 1 AS INTEGER) AS cid, column_name AS name, data_type AS type,"
        ' false AS "notnull", CAST(NULL AS VARCHAR) AS dflt_value, false AS pk FROM information_schema.columns'
        f" WHERE CASE WHEN EXISTS (FROM information_schema.tables WHERE table_name = lower({literal(name)}))"
        f" THEN table_name = lower({literal(name)}) ELSE CAST({unknown} AS BOOLEAN) END ORDER BY cid"
    )


def _zone(match: re.Match[str]) -> str:
    zone = match["value"].strip("'\"")
    if zone.lower() not in UTC_NAMES:
        raise ForbiddenSqlError(
            f"times are UTC, the time zone cannot be {zone[:64]!r}: convert where you need it,"
            " as in time AT TIME ZONE 'UTC' AT TIME ZONE 'Europe/Berlin'"
        )
    return _DONE


def _place(match: re.Match[str]) -> str:
    names = [part.strip().strip("'\"").lower() for part in re.split(r"[.,]", match["value"])]
    if any(name not in (CATALOG_NAME, SCHEMA_NAME) for name in names):
        raise ForbiddenSqlError(
            f"there is no {match['value'][:64]}: the only catalog is {CATALOG_NAME}, with the schema {SCHEMA_NAME}"
        )
    return _DONE


def _transaction(match: re.Match[str]) -> str:
    modes = (match.groupdict().get("modes") or "").lower()
    if re.search(r"repeatable|serializable|write", modes):
        raise ForbiddenSqlError(
            "each statement reads what is there when it runs, and changes nothing: a transaction can be"
            " READ ONLY and READ COMMITTED, nothing else"
        )
    return _DONE


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text.replace(" ", r"\s+"), re.IGNORECASE)


_MODES: Final = (
    r"(?P<modes>(?:[\s,]+(?:READ|ONLY|WRITE|ISOLATION|LEVEL|COMMITTED|UNCOMMITTED|REPEATABLE|SERIALIZABLE))*)"
)
_VALUE: Final = r"(?P<value>'[^']*'|\"[^\"]*\"|[A-Za-z_/]+(?:\.[A-Za-z_]+)?)"
_ANSWERS: Final[tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], str]], ...]] = (
    (_pattern("SHOW (?:DATABASES|CATALOGS)"), _always(_DATABASES)),
    (_pattern("SHOW SCHEMAS"), _always(_SCHEMAS)),
    (_pattern("SHOW ALL TABLES"), _always(_ALL_TABLES)),
    (_pattern("PRAGMA show_tables"), _always(_SHOWN_TABLES)),
    (_pattern("PRAGMA database_list"), _always(_DATABASE_LIST)),
    (_pattern(rf"PRAGMA table_info\s*\(\s*(?:'(?P<text>[^']+)'|(?P<name>{_NAME}))\s*\)"), _table_info),
    (_pattern(rf"SET (?:(?:SESSION|LOCAL|GLOBAL) )?TIMEZONE\s*(?:=|TO\b)\s*{_VALUE}"), _zone),
    (_pattern(rf"SET (?:(?:SESSION|LOCAL) )?TIME ZONE {_VALUE}"), _zone),
    (_pattern(rf"SET (?:SESSION )?(?:SCHEMA|SEARCH_PATH)\s*(?:=|TO\b|\s)\s*{_VALUE}"), _place),
    (_pattern(rf"USE (?P<value>{_NAME}(?:\.{_NAME})?)"), _place),
    (_pattern(rf"BEGIN(?: (?:TRANSACTION|WORK))?{_MODES}"), _transaction),
    (_pattern(rf"START TRANSACTION{_MODES}"), _transaction),
    (_pattern(rf"SET (?:SESSION CHARACTERISTICS AS )?TRANSACTION{_MODES}"), _transaction),
    (_pattern("(?:COMMIT|END|ROLLBACK|ABORT)(?: (?:TRANSACTION|WORK))?"), _always(_DONE)),
)


__all__ = ["as_select"]
