"""From text to one parsed SELECT, by DuckDB's own parser. Refuses what is no single statement, and judges nothing else.

The text that will run is the user's own; only text that the parser itself refuses is repaired, and only by the repairs
listed here. Positions in messages are those of the user's text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import duckdb

from lakehouse.engine.dialect import translated
from lakehouse.engine.elsewhere import statement_elsewhere
from lakehouse.engine.limits import DEFAULT_LIMITS, EngineLimits
from lakehouse.engine.of_tools import as_select
from lakehouse.engine.translate import without_settings_advice
from lakehouse.engine.tree import Node, Parsed, nodes
from lakehouse.errors import ForbiddenSqlError, LimitExceededError, QueryError, SqlSyntaxError, UnsupportedError

_PARSE: Final = "SELECT json_serialize_sql(?::VARCHAR, skip_null := true, skip_empty := true, skip_default := true)"
_LEADING_NOISE: Final = re.compile(r"(?:\s+|--[^\n]*(?:\n|\Z)|/\*(?:[^*/]|\*(?!/)|/(?!\*))*\*/)*")
_EXPLAIN: Final = re.compile(r"EXPLAIN\b(?:\s+(ANALYZE)\b)?(?:\s+VERBOSE\b)?", re.IGNORECASE)
_QUERY_WORDS: Final = frozenset({"SELECT", "WITH", "FROM", "PIVOT", "PIVOT_WIDER", "VALUES"})
_UNKNOWN_ORDERED: Final = 'Unknown ordered aggregate "approx_percentile_cont"'
_SERIALIZED_ONLY: Final = "Only SELECT statements can be serialized"


class Parser:
    """Parses with the connection it is given, which must be locked and hold nothing of anybody."""

    def __init__(self, connection: Any, limits: EngineLimits = DEFAULT_LIMITS) -> None:
        self._connection = connection
        self._limits = limits

    def parse(self, sql: str) -> Parsed:
        """The tree of ``sql``.

        Raises:
            SqlSyntaxError: It does not parse.  ForbiddenSqlError: It is no SELECT, or several.
            LimitExceededError: It is too long, or nested too deep for the parser.
        """
        text, explain, analyze = self._strip_explain(self._accept_text(sql))
        if not explain and (meant := as_select(_LEADING_NOISE.sub("", text, count=1))) is not None:
            text = meant
        text, statement = self._parse_or_repair(text)
        node = statement.get("node")
        if not isinstance(node, dict):
            raise ForbiddenSqlError("only SELECT statements are allowed")
        folded = _names_without_quotes(text, node)
        return Parsed(text, node, self._count_parameters(statement), explain, analyze, folded)

    def translate(self, parsed: Parsed) -> Parsed | None:
        """A statement that the gate has let pass in the engine's words; ``None``: it is in them."""
        text = translated(self._connection, parsed.node)
        if text is None:
            return None
        text, statement = self._parse_or_repair(text)
        return replace(parsed, text=text, node=statement["node"], is_translated=True)

    def _accept_text(self, sql: str) -> str:
        try:
            size = len(sql.encode("utf-8"))
        except UnicodeEncodeError:
            raise SqlSyntaxError("the statement is not valid UTF-8") from None
        if size > self._limits.sql_bytes_max:
            raise LimitExceededError(f"the statement has {size} bytes, the limit is {self._limits.sql_bytes_max}")
        if "\0" in sql:
            raise SqlSyntaxError("the statement contains a NUL character")
        if size > self._limits.tokens_max and (tokens := len(duckdb.tokenize(sql))) > self._limits.tokens_max:
            raise LimitExceededError(
                f"the statement has {tokens} words and signs, the limit is {self._limits.tokens_max}:"
                " bind long lists as one list, and test with list_contains(?, …)"
            )
        return sql

    @staticmethod
    def _strip_explain(sql: str) -> tuple[str, bool, bool]:
        noise = _LEADING_NOISE.match(sql)
        start = noise.end() if noise else 0
        match = _EXPLAIN.match(sql, start)
        if match is None:
            return sql, False, False
        blank = re.sub(r"[^\n]", " ", match.group(0))  # positions in messages stay those of the user's text
        return sql[:start] + blank + sql[match.end() :], True, match.group(1) is not None

    def _parse_or_repair(self, text: str) -> tuple[str, Node]:
        answer = self._serialize(text)
        for _ in range(self._limits.repairs_max):
            if not answer["error"]:
                break
            position = int(answer["position"]) if str(answer.get("position", "")).isdigit() else None
            is_ordered = _UNKNOWN_ORDERED in str(answer.get("error_message"))
            repaired = _order_within(text) if is_ordered else repair(text, position)
            if repaired is None:
                break
            text = repaired
            answer = self._serialize(text)
        if answer["error"]:
            noise = _LEADING_NOISE.match(text)
            instead = statement_elsewhere(text[noise.end() :] if noise else text)
            raise ForbiddenSqlError(instead) if instead else _parse_error(text, answer)
        statements = answer.get("statements") or []
        if not statements:
            raise SqlSyntaxError("the statement is empty")
        if len(statements) > 1:
            raise ForbiddenSqlError(f"one statement at a time: the text has {len(statements)}")
        return _without_terminator(text), statements[0]

    def _serialize(self, text: str) -> Node:
        try:
            row = self._connection.execute(_PARSE, [text]).fetchall()[0]
            answer: Node = json.loads(row[0])
        except RecursionError:
            raise LimitExceededError("the statement is nested too deep") from None
        except duckdb.InterruptException:
            raise
        except (duckdb.Error, UnicodeError, ValueError) as error:
            first = without_settings_advice(str(error).partition("\n")[0])[:300]
            raise SqlSyntaxError(f"the statement cannot be parsed: {first}") from None
        return answer

    def _count_parameters(self, statement: Node) -> int:
        names = [str(entry["key"]) for entry in statement.get("named_param_map", [])]
        if any(not name.isdigit() for name in names):
            raise UnsupportedError("named parameters are not supported: write ? or $1, $2")
        numbers = {int(name) for name in names}
        if numbers != set(range(1, len(numbers) + 1)):
            raise QueryError(f"parameters must be numbered from $1 without gaps, not {sorted(numbers)}")
        if len(numbers) > self._limits.parameters_max:
            raise LimitExceededError(
                f"the statement has {len(numbers)} parameters, the limit is {self._limits.parameters_max}"
            )
        return len(numbers)


def _without_terminator(text: str) -> str:
    """The statement without closing semicolons and what follows them, so that it can stand inside another."""
    if ";" not in text:
        return text
    data = text.encode()
    end = len(data)
    for offset, kind in reversed(duckdb.tokenize(text)):
        if kind == duckdb.token_type.comment:
            continue
        if kind != duckdb.token_type.operator or data[offset : offset + 1] != b";":
            break
        end = offset
    return data[:end].decode()


def _parse_error(text: str, answer: Node) -> Exception:
    message = without_settings_advice(
        str(answer.get("error_message", "the statement cannot be parsed")).partition("\n")[0]
    )
    if _SERIALIZED_ONLY in message:
        word = re.search(r"[A-Za-z]+", _LEADING_NOISE.sub("", text, count=1))
        what = word.group(0).upper() if word else "this"
        if what in _QUERY_WORDS and re.search(r"\bPIVOT", text, re.IGNORECASE):
            # without them the engine would run a statement of its own first, to find them out
            return ForbiddenSqlError(
                "PIVOT needs its values: list them, as in PIVOT t ON name IN ('a', 'b') USING count(*)"
            )
        return ForbiddenSqlError(f"only SELECT statements are allowed, not {what}")
    position = str(answer.get("position", ""))
    if position.isdigit():
        before = text.encode()[: int(position)].decode("utf-8", "replace")
        line, column = before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
        return SqlSyntaxError(f"{message} (line {line}, column {column})")
    return SqlSyntaxError(message)


def _names_without_quotes(text: str, tree: Node) -> frozenset[str]:
    """Aliases with capitals that are nowhere in quotes: results have them in small letters, as those of the original do."""
    aliases = {str(node["alias"]) for node in nodes(tree) if node.get("alias")}
    aliases |= {str(name) for node in nodes(tree) for name in node.get("column_name_alias") or []}
    return frozenset(name for name in aliases if name != name.lower() and f'"{name}"' not in text)


# --- dialect repairs: tried one by one, only where the parser stumbled ------------------------------------------------


def _quote_bare_end(text: str, before: bytes, after: bytes) -> str | None:
    """``end`` is a column of span views and a keyword of DuckDB."""
    match = re.match(rb"end\b", after, re.IGNORECASE)
    if match is None:
        return None
    return (before + b'"' + match.group(0).lower() + b'"' + after[match.end() :]).decode()


def _join_unsigned(text: str, before: bytes, after: bytes) -> str | None:
    """``INT UNSIGNED`` is spelled ``UINTEGER``."""
    word = re.search(rb"\b(TINYINT|SMALLINT|INT|INTEGER|BIGINT)\s+\Z", before, re.IGNORECASE)
    unsigned = re.match(rb"UNSIGNED\b", after, re.IGNORECASE)
    if word is None or unsigned is None:
        return None
    name = word.group(1).upper()
    return (before[: word.start()] + b"U" + (b"INTEGER" if name == b"INT" else name) + after[unsigned.end() :]).decode()


_ORDERED: Final = re.compile(r"\bapprox_percentile_cont\s*(?=\()", re.IGNORECASE)
_WITHIN: Final = re.compile(r"\s*WITHIN\s+GROUP\s*(?=\()", re.IGNORECASE)
_ORDER_BY: Final = re.compile(r"\(\s*ORDER\s+BY\s+(.*?)(\s+(?:ASC|DESC))?\s*\)\Z", re.IGNORECASE | re.DOTALL)


def _order_within(text: str) -> str | None:
    """``approx_percentile_cont(p) WITHIN GROUP (ORDER BY x)`` is ``approx_percentile_cont(x, p)``; the first that there is.

    The engine does not say where it stumbled, so the text is looked through, outside of strings and comments.
    """
    data = text.encode()
    plain = _without_literals(data)
    for call in _ORDERED.finditer(plain):
        share = _in_parentheses(plain, call.end())
        within = _WITHIN.match(plain, share) if share is not None else None
        order = _in_parentheses(plain, within.end()) if within is not None else None
        if share is None or within is None or order is None:
            continue
        match = _ORDER_BY.match(data[within.end() : order].decode())
        if match is None:
            continue
        ranks = data[call.end() + 1 : share - 1].decode()
        ranks = f"1 - ({ranks})" if (match.group(2) or "").strip().upper() == "DESC" else ranks
        made = f"{call.group(0)}(({match.group(1)}), {ranks})"
        return data[: call.start()].decode() + made + data[order:].decode()
    return None


def _without_literals(data: bytes) -> str:
    """As many characters as there are bytes: those of strings, quoted names and comments are blank."""
    plain = bytearray(data)
    tokens = duckdb.tokenize(data.decode())
    for (begin, kind), end in zip(tokens, [*(offset for offset, _ in tokens[1:]), len(data)], strict=True):
        is_text = kind in (duckdb.token_type.string_const, duckdb.token_type.comment) or data[begin : begin + 1] == b'"'
        if is_text:
            plain[begin:end] = b" " * (end - begin)
    return plain.decode("latin-1")


def _in_parentheses(plain: str, begin: int) -> int | None:
    """Where the parentheses that open here are closed."""
    depth = 0
    for place in range(begin, len(plain)):
        depth += (plain[place] == "(") - (plain[place] == ")")
        if depth == 0:
            return place + 1
    return None


REPAIRS: Final[tuple[Callable[[str, bytes, bytes], str | None], ...]] = (_quote_bare_end, _join_unsigned)


def repair(text: str, position: int | None) -> str | None:
    """The text with the word at byte ``position`` mended, or ``None`` if no repair knows it."""
    if position is None:
        return None
    data = text.encode()
    for attempt in REPAIRS:
        mended = attempt(text, data[:position], data[position:])
        if mended is not None:
            return mended
    return None
