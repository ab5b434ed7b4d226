"""Paths that select among elements, with filters and ranges, which the engine's own paths have not.

A path is compiled to SQL over lists, once for all rows that ask for it, and run by an engine of its own, which knows no table and
opens no file. What stands in a path reaches its SQL as a literal. Refuses what it cannot read, and never answers with
nothing instead.
"""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.engine.sql_types import literal
from lakehouse.errors import LimitExceededError, QueryError

PATH_CHARS_MAX: Final = 4_000
STEPS_MAX: Final = 32  # of one path: each is a list inside of a list to the engine
TESTS_DEPTH_MAX: Final = 16  # of brackets in a filter
PATHS_MAX: Final = 64  # different ones in a column of 2,048 rows, and those that are kept prepared
MEMORY_BYTES_MAX: Final = 256 << 20  # of a batch of documents and what is found in them

_SETTINGS: Final = (
    "temp_directory = ''",
    f"memory_limit = '{MEMORY_BYTES_MAX}B'",
    "threads = 1",
    "python_enable_replacements = false",
    "enable_external_access = false",
)

_SPACE: Final = re.compile(r"\s*")
_MEMBER: Final = re.compile(r"\.([^\s.\[\]\"'?*()@$#,:&|!<>=\\]+)|\.\"([^\"\\]*)\"|\[\s*\"([^\"\\]*)\"\s*\]")
_STAR: Final = re.compile(r"\.\*|\[\s*\*\s*\]")
_PLACE: Final = r"([0-9]{1,9}|last(?:\s*-\s*[0-9]{1,9})?)"
_ELEMENT: Final = re.compile(rf"\[\s*{_PLACE}\s*\]")
_RANGE: Final = re.compile(rf"\[\s*{_PLACE}\s+to\s+{_PLACE}\s*\]")
_FILTER: Final = re.compile(r"\?\s*\(")
_SIGN: Final = re.compile(r"==|!=|<>|<=|>=|<|>")
_VALUE: Final = re.compile(
    r"\"(?:[^\"\\\x00-\x1f]|\\[\"\\/bfnrtu])*\"|-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|true|false|null"
)
_TESTS: Final = {"==": "= 0", "!=": "<> 0", "<>": "<> 0", "<": "< 0", "<=": "<= 0", ">": "> 0", ">=": ">= 0"}

_SQL_SIGNS: Final = {"==": "=", "!=": "<>"}

# How two values compare, -1, 0 or 1; NULL if they do not: numbers with numbers, texts with texts, nothing with what is missing.
_COMPARED: Final = """
CREATE MACRO compared(a, b) AS list_transform(
    [struct_pack(a := json_type(a), b := json_type(b), x := json_extract_string(a, '$'), y := json_extract_string(b, '$'))],
    lambda v: CASE
        WHEN v.a IN ('BIGINT', 'UBIGINT') AND v.b IN ('BIGINT', 'UBIGINT') THEN sign(CAST(v.x AS HUGEINT) - CAST(v.y AS HUGEINT))
        WHEN v.a IN ('BIGINT', 'UBIGINT', 'DOUBLE') AND v.b IN ('BIGINT', 'UBIGINT', 'DOUBLE') THEN
            CASE WHEN CAST(v.x AS DOUBLE) < CAST(v.y AS DOUBLE) THEN -1 WHEN CAST(v.x AS DOUBLE) > CAST(v.y AS DOUBLE) THEN 1 ELSE 0 END
        WHEN v.a = 'NULL' AND v.b = 'NULL' THEN 0
        WHEN v.a = v.b AND v.a IN ('VARCHAR', 'BOOLEAN') THEN CASE WHEN v.x < v.y THEN -1 WHEN v.x > v.y THEN 1 ELSE 0 END
    END
)[1]
"""


def select_paths(documents: Any, paths: Any) -> Any:
    """What each path finds in its document, as a JSON array.

    Args:
        documents: JSON texts.  paths: One for each.
    Raises:
        QueryError: A path is none that is understood.
        LimitExceededError: They are too many, or one is too long.
    """
    documents, coded = _one_array(documents), pc.dictionary_encode(_one_array(paths))
    asked = coded.dictionary.to_pylist()
    if len(asked) > PATHS_MAX:
        raise LimitExceededError(f"more than {PATHS_MAX} different paths with filters or ranges in a column")
    with _selector() as selector:
        if len(asked) == 1:
            return selector.select(documents, asked[0])
        which = coded.indices.to_numpy()
        rows = [np.flatnonzero(which == number) for number in range(len(asked))]
        found = [selector.select(documents.take(pa.array(part)), path) for path, part in zip(asked, rows, strict=True)]
    if not found:
        return pa.array([], pa.string())
    return pa.concat_arrays(found).take(pa.array(np.argsort(np.concatenate(rows))))


def _one_array(values: Any) -> Any:
    return values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values


class _Selector:
    """The engine that runs paths, each prepared once, over the documents that it is given."""

    def __init__(self) -> None:
        self._connection = duckdb.connect()
        for setting in _SETTINGS:
            self._connection.execute(f"SET {setting}")
        self._connection.execute(_COMPARED)
        self._connection.execute("SET lock_configuration = true")
        self._given = _Given()
        self._connection.register("given", self._given)
        self._prepared: OrderedDict[str, str] = OrderedDict()
        self._count = 0

    def select(self, documents: Any, path: str) -> Any:
        """What one path finds in each document."""
        self._given.rows = pa.table([documents.cast(pa.string())], schema=_Given.schema)
        try:
            return _one_array(self._connection.sql(f"EXECUTE {self._statement(path)}").to_arrow_table().column(0))
        finally:
            self._given.rows = _Given.schema.empty_table()

    def _statement(self, path: str) -> str:
        known = self._prepared.get(path)
        if known is not None:
            self._prepared.move_to_end(path)
            return known
        sql = compiled(path)
        self._count += 1
        name = f"path_{self._count}"
        self._connection.execute(f"PREPARE {name} AS SELECT CAST(to_json({sql}) AS VARCHAR) AS found FROM given")
        self._prepared[path] = name
        if len(self._prepared) > PATHS_MAX:
            self._connection.execute(f"DEALLOCATE {self._prepared.popitem(last=False)[1]}")
        return name


class _Given:
    """The documents of this moment, as a table that the engine scans anew each time."""

    schema: Final = pa.schema([("d", pa.string())])

    def __init__(self) -> None:
        self.rows = self.schema.empty_table()

    def __arrow_c_schema__(self) -> Any:
        return self.schema.__arrow_c_schema__()

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        return self.rows.__arrow_c_stream__()


_idle: Final[list[_Selector]] = []  # as many as threads of the engine have asked at once; taking from a list is atomic


@contextmanager
def _selector() -> Iterator[_Selector]:
    """One that nobody else uses: the engine asks from several of its threads, and a selector has one set of documents."""
    try:
        selector = _idle.pop()
    except IndexError:
        selector = _Selector()
    yield selector
    _idle.append(selector)  # unless it failed


def compiled(path: str) -> str:
    """A path as SQL: the list of what it finds in the document ``d``.

    Raises:
        QueryError: It is no path that is understood.
        LimitExceededError: It is too long, or nested too deep.
    """
    if len(path) > PATH_CHARS_MAX:
        raise LimitExceededError(f"a path has {len(path)} characters, the limit is {PATH_CHARS_MAX}")
    reader = _Reader(path)
    return reader.whole()


@dataclass
class _Reader:
    """Reads a path from left to right."""

    path: str
    at: int = 0
    names: int = 0

    def whole(self) -> str:
        if not self.path.startswith("$"):
            raise self.refused()
        self.at = 1
        found = "[CAST(d AS JSON)]"
        steps = 0
        while self.at < len(self.path):
            steps += 1
            if steps > STEPS_MAX:
                raise LimitExceededError(f"a path has more than {STEPS_MAX} filters, stars, ranges and members")
            self.take(_SPACE)
            if self.at < len(self.path):
                found = self.step(found)
        return found

    def step(self, found: str) -> str:
        """What a step finds of what was found so far."""
        e = self.name()
        plain = self.plain()
        if plain:
            each = f"list_transform({found}, lambda {e}: json_extract({e}, {literal('$' + plain)}))"
            return f"list_filter({each}, lambda {e}: {e} IS NOT NULL)"
        star = self.take(_STAR)
        if star:
            kind, all_of = ("OBJECT", "$.*") if star.group().startswith(".") else ("ARRAY", "$[*]")
            return _flattened(found, e, kind, f"json_extract({e}, '{all_of}')")
        places = self.take(_RANGE)
        if places:
            first, last = (_place(place, f"json_array_length({e})") for place in places.groups())
            sliced = f"list_slice(json_extract({e}, '$[*]'), greatest({first}, 1), greatest({last}, 0))"
            return _flattened(found, e, "ARRAY", sliced)
        if self.take(_FILTER):
            return f"list_filter({found}, lambda {e}: {self.either(e, 0)})"
        raise self.refused()

    def plain(self) -> str:
        """Members and elements as the engine spells them, as far as there are any."""
        spelled = ""
        while True:
            if member := self.take(_MEMBER):
                spelled += '."' + next(name for name in member.groups() if name is not None) + '"'
            elif element := self.take(_ELEMENT):
                place = element.group(1)
                if place.startswith("last"):
                    place = f"#-{int(place.partition('-')[2] or 0) + 1}"
                spelled += f"[{place}]"
            else:
                return spelled

    def either(self, e: str, depth: int) -> str:
        """Tests joined by ``||``, up to the bracket that closes them."""
        if depth > TESTS_DEPTH_MAX:
            raise LimitExceededError(f"the brackets of a filter are nested deeper than {TESTS_DEPTH_MAX}")
        ored = [self.both(e, depth)]
        while self.word("||"):
            ored.append(self.both(e, depth))
        if not self.word(")"):
            raise self.refused()
        return "(" + " OR ".join(ored) + ")"

    def both(self, e: str, depth: int) -> str:
        anded = [self.test(e, depth)]
        while self.word("&&"):
            anded.append(self.test(e, depth))
        return "(" + " AND ".join(anded) + ")"

    def test(self, e: str, depth: int) -> str:
        if self.word("!"):
            if not self.word("("):
                raise self.refused()
            return f"NOT {self.either(e, depth + 1)}"
        if self.word("("):
            return self.either(e, depth + 1)
        left, _ = self.operand(e)
        self.take(_SPACE)
        sign = self.take(_SIGN)
        if sign is None:
            raise self.refused()
        right, value = self.operand(e)
        if value is None:
            return f"coalesce(compared({left}, {right}) {_TESTS[sign.group()]}, false)"
        return f"coalesce({_compared_with(left, _SQL_SIGNS.get(sign.group(), sign.group()), value)}, false)"

    def operand(self, e: str) -> tuple[str, str | None]:
        """As SQL; and a value's text, if it is one."""
        self.take(_SPACE)
        if self.word("@"):
            plain = self.plain()
            return (f"json_extract({e}, {literal('$' + plain)})" if plain else e), None
        value = self.take(_VALUE)
        if value is None:
            raise self.refused()
        return f"CAST({literal(value.group())} AS JSON)", value.group()

    def word(self, word: str) -> bool:
        self.take(_SPACE)
        found = self.path.startswith(word, self.at)
        self.at += len(word) if found else 0
        return found

    def take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        match = pattern.match(self.path, self.at)
        if match is not None:
            self.at = match.end()
        return match

    def name(self) -> str:
        self.names += 1
        return f"e{self.names}"

    def refused(self) -> QueryError:
        where = f" at {self.path[self.at : self.at + 20]!r}" if 0 < self.at < len(self.path) else ""
        return QueryError(
            f'the path {self.path[:100]} is not understood{where}: it is made of $, .name, ["name"], [0], [last], [last - 1],'
            ' [0 to 2], [*], .* and ? (@.name == "value" && …)'
        )


def _compared_with(found: str, sign: str, value: str) -> str:
    """What is found against a value whose type is known: several times as fast as ``compared``, and the same."""
    kind, text = f"json_type({found})", f"json_extract_string({found}, '$')"
    if value.startswith('"'):
        try:
            wanted = json.loads(value)
            wanted.encode()
        except ValueError:  # half of a surrogate pair, or a code that is none
            raise QueryError(f"the text {value[:100]} of a path is no JSON") from None
        if "\0" in wanted:
            raise QueryError("a text of a path has a NUL")
        return f"CASE {kind} WHEN 'VARCHAR' THEN {text} {sign} {literal(wanted)} END"
    if value in ("true", "false"):
        return f"CASE {kind} WHEN 'BOOLEAN' THEN {text} {sign} '{value}' END"
    if value == "null":
        return f"CASE {kind} WHEN 'NULL' THEN 0 {sign} 0 END"
    as_double = f"CAST({text} AS DOUBLE) {sign} CAST('{value}' AS DOUBLE)"
    if re.fullmatch("-?[0-9]{1,38}", value):
        exact = f"CAST({text} AS HUGEINT) {sign} CAST('{value}' AS HUGEINT)"
        return f"CASE {kind} WHEN 'BIGINT' THEN {exact} WHEN 'UBIGINT' THEN {exact} WHEN 'DOUBLE' THEN {as_double} END"
    return f"CASE WHEN {kind} IN ('BIGINT', 'UBIGINT', 'DOUBLE') THEN {as_double} END"


def _flattened(found: str, e: str, kind: str, inside: str) -> str:
    """What is in each that is of a kind, one after the other."""
    return f"flatten(list_transform({found}, lambda {e}: CASE json_type({e}) WHEN '{kind}' THEN {inside} ELSE [] END))"


def _place(place: str, length: str) -> str:
    """A position from 1."""
    if place.startswith("last"):
        return f"{length} - {int(place.partition('-')[2] or 0)}"
    return str(int(place) + 1)
