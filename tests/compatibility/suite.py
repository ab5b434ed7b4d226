"""Reads ``statements.sql``, puts values in place of placeholders, and says how an answer must look."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from tests.compatibility.telemetry import CRAFTED, GENERATOR, Telemetry

FILE: Final = Path(__file__).with_name("statements.sql")
_HEAD: Final = re.compile(r"-- (\d+) ([NMTRPX+]+) \((.*)\)")
_KEY: Final = re.compile(r"-- (note|with|rows|columns|model|empty|count|near|error|gap): (.*)")
_PAIR: Final = (
    "FROM (SELECT * FROM view_instance('async_events', '<id>') WHERE event_type = 'begin'{}) begin_events "
    "LEFT JOIN (SELECT * FROM view_instance('async_events', '<id>') WHERE event_type = 'end') end_events "
    "ON begin_events.span_id = end_events.span_id WHERE end_events.span_id IS NOT NULL"
)
_ABBREVIATIONS: Final = {
    "⟨PAIR0⟩": _PAIR.format(" AND depth = 0"),
    "⟨PAIR⟩": _PAIR.format(""),
    "⟨DUR⟩": "CAST((end_events.time - begin_events.time) AS BIGINT) / 1000000",
}
_VARIABLES: Final = {  # what clients put in before they send
    "$search_filter": "AND (exe LIKE '%s%' OR username LIKE '%query%')",
    "$__timeFilter(time)": "time >= cast('{begin}' as timestamp) AND time <= cast('{end}' as timestamp)",
    "$__timeFrom()": "cast('{begin}' as timestamp)",
    "$bin_interval": "1 minute",
    "$measure_name": "cpu_usage",
    "$metric.name": "cpu_usage",
    "$metric": "cpu_usage",
    "$max_level": "4",
    "$order_by": "start_time DESC",
    "$limit": "100",
    "$budget_us": "16000",
    "'$process'": "'my-service.exe'",
    "$processes": "'my-service.exe', 'craft3'",
}


@dataclass(frozen=True)
class Statement:
    """One documented statement, and what is expected of it."""

    number: int
    kind: str
    source: str
    sql: str
    told: Mapping[str, str] = field(default_factory=dict)

    @property
    def must_fail(self) -> bool:
        return "X" in self.kind


@dataclass(frozen=True)
class Suite:
    """The whole file."""

    statements: tuple[Statement, ...]
    tables: Mapping[str, str]


def read_suite() -> Suite:
    """The statements by number, and the tables of the documents' own making."""
    statements: list[Statement] = []
    tables: dict[str, str] = {}
    for paragraph in re.split(r"\n\s*\n", FILE.read_text(encoding="utf-8")):
        lines = paragraph.strip().splitlines()
        head = _HEAD.fullmatch(lines[0])
        if head is not None:
            keyed = [match for line in lines[1:] if (match := _KEY.fullmatch(line))]
            told = {match.group(1): match.group(2) for match in keyed}
            sql = "\n".join(line for line in lines if not line.startswith("-- "))
            statements.append(Statement(int(head.group(1)), head.group(2), head.group(3), sql, told))
        elif lines[0].startswith("-- table "):
            tables[lines[0].removeprefix("-- table ")] = "\n".join(lines[1:])
    return Suite(tuple(statements), tables)


class Placeholders:
    """What stands for the names, ids and variables of the documents."""

    def __init__(self, telemetry: Telemetry) -> None:
        service, crafted = telemetry.service.process_id, telemetry.process_of(CRAFTED)
        self._service = service
        self._instances = {
            "log_entries": service,
            "measures": service,
            "async_events": crafted,
            "net_spans": crafted,
            "images": crafted,
            "otel_spans": telemetry.otlp[0].case.process_id,
            "thread_spans": telemetry.thread_of(GENERATOR),
        }
        self._spans = telemetry.process_of(GENERATOR)
        self._names = {
            "{service}": service,
            "{service_thread}": telemetry.service.thread_stream,
            "{generator}": self._spans,
            "{generator_thread}": telemetry.thread_of(GENERATOR),
            "{crafted}": crafted,
            "{log_block}": telemetry.service.block_of(telemetry.service.log_stream),
            "{thread_block}": telemetry.service.block_of(telemetry.service.thread_stream),
            "{otlp}": telemetry.otlp[0].case.process_id,
            "{net_block}": "9642478f-5275-4dfc-96b4-7ed60a119194",  # of the crafted process
            "{recent}": f"make_timestamp_ns({telemetry.service.start_ns})",
            "{begin}": "2020-01-01T00:00:00Z",
            "{end}": "2100-01-01T00:00:00Z",
        }

    def filled(self, sql: str, replacements: str = "") -> str:
        """A statement as a client would send it."""
        for pair in filter(None, replacements.split(" ;; ")):
            old, _, new = pair.partition(" => ")
            assert old in sql, f"{old!r} is not in {sql!r}"
            sql = sql.replace(old, new)
        for short, long in (*_ABBREVIATIONS.items(), *_VARIABLES.items(), *self._names.items()):
            sql = sql.replace(short, long)
        sql = re.sub(r"view_instance\('(\w+)', '(?!global|[0-9a-f]{8}-)[^']*'\)", self._instance, sql)
        sql = re.sub(r"process_spans\('(?![0-9a-f]{8}-)[^']*'", f"process_spans('{self._spans}'", sql)
        sql = re.sub(
            r"parse_block\('(?![0-9a-f]{8}-(?!e29b))[^']*'", f"parse_block('{self._names['{log_block}']}'", sql
        )
        return re.sub(r"(process_id ?= ?)'(?![0-9a-f]{8}-)[^']*'", rf"\1'{self._service}'", sql)

    def _instance(self, match: re.Match[str]) -> str:
        view_set = match.group(1)
        return f"view_instance('{view_set}', '{self._instances[view_set]}')"


def with_tables(sql: str, tables: Mapping[str, str]) -> str:
    """A statement with the tables that it names and nobody has."""
    defined = set(re.findall(r"(\w+) AS \(", sql))
    used = [n for n in tables if n not in defined and re.search(rf"(?i)\b(?:FROM|JOIN)\s+{n}\b", sql)]
    if not used:
        return sql
    made = ", ".join(f"{name} AS ({tables[name]})" for name in used)
    return f"WITH {made}, {sql[5:]}" if sql[:5].upper() == "WITH " else f"WITH {made} {sql}"


_FOR_THE_MODEL: Final = (
    (r"CAST\(\(([\w.]+) - ([\w.]+)\) AS BIGINT\)", r"(epoch_ns(\1) - epoch_ns(\2))"),
    (r"\bfirst_value\(", "first("),
    (r"\bINT UNSIGNED\b", "UINTEGER"),
    (r"\bFLOAT64\b", "DOUBLE"),
    (r"(?<=[ ,(])end(?=,| FROM| >=| <=)", '"end"'),
    (
        r"process_spans\('([^']*)', '(\w+)'\)",
        r"(SELECT * EXCLUDE (instance) FROM all_process_spans WHERE instance = '\1'"
        r" AND ('\2' = 'both' OR ('\2' = 'async') = (thread_name = 'async')))",
    ),
    (r"view_instance\('(\w+)', '([^']*)'\)", r"(SELECT * EXCLUDE (instance) FROM all_\1 WHERE instance = '\2')"),
)


def for_the_model(sql: str) -> str:
    """A statement in the spelling of a plain DuckDB over the model's tables."""
    for pattern, new in _FOR_THE_MODEL:
        sql = re.sub(pattern, new, sql)
    return sql


# --- answers


_LIMIT: Final = re.compile(r"\s+LIMIT (\d+)\s*$", re.IGNORECASE)
_ORDER: Final = re.compile(r"ORDER by ((?:[^()]|\([^()]*\))*)$", re.IGNORECASE)
_MADE_BY_THE_SERVER: Final = frozenset({"insert_time", "last_update_time"})


def assert_answers(statement: str, ours: pa.Table, model: Any, near: frozenset[str] = frozenset()) -> None:
    """Same columns, kinds of values and rows as the model; with a LIMIT some of its rows; in the order that is asked for."""
    limit = _LIMIT.search(statement)
    unlimited = _LIMIT.sub("", statement)
    theirs = model.sql(unlimited).to_arrow_table()
    theirs = theirs.rename_columns([name.lower().replace("count_star()", "count(*)") for name in theirs.column_names])
    if "*" not in statement.partition(" FROM ")[0].replace("count(*)", "").replace("COUNT(*)", ""):
        assert ours.column_names == theirs.column_names
    ours, theirs = (table.rename_columns(_told_apart(table.column_names)) for table in (ours, theirs))
    missing = set(theirs.column_names) - set(ours.column_names)
    assert not missing, f"there is no column {', '.join(sorted(missing))}"
    unknown = {*_MADE_BY_THE_SERVER, *(f.name for f in theirs.schema if pa.types.is_null(f.type))}
    kept = [name for name in theirs.column_names if name not in unknown | near]
    for name in kept:
        mine, other = ours.schema.field(name).type, theirs.schema.field(name).type
        assert _kind(mine) == _kind(other), f"column {name} has {mine}, expected {_kind(other)}: {other}"
    left, right = _rows(ours, kept), _rows(theirs, kept)
    total = len(right) if limit is None else min(int(limit.group(1)), len(right))
    assert len(left) == total, f"{len(left)} rows, expected {total}"
    lacking = Counter(left) - Counter(right)
    assert not lacking, f"rows that should not be: {list(lacking)[:2]}, expected some of {right[:2]}"
    keys = _sort_keys(unlimited, [name for name in ours.column_names if name in kept])
    assert _rows(ours, keys) == _rows(theirs, keys)[:total], f"not in the order of {keys}"
    _assert_near(_by(ours, kept, near), _by(theirs, kept, near))


def _told_apart(names: list[str]) -> list[str]:
    """Two columns may have one name."""
    return [name if names.index(name) == place else f"{name} {place}" for place, name in enumerate(names)]


def _by(table: pa.Table, kept: list[str], near: frozenset[str]) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    return dict(zip(_rows(table, kept), _rows(table, sorted(near)), strict=True)) if near else {}


def _assert_near(ours: Mapping[Any, tuple[Any, ...]], theirs: Mapping[Any, tuple[Any, ...]]) -> None:
    for row, values in ours.items():
        for mine, other in zip(values, theirs[row], strict=True):
            assert mine == other or math.isclose(mine, other, rel_tol=0.2, abs_tol=1), f"{mine} is not near {other}"


def _sort_keys(statement: str, names: list[str]) -> list[str]:
    """The columns of the answer by which it is in order, as far as they are in it."""
    order = _ORDER.search(statement)
    keys = []
    for part in order.group(1).split(",") if order else []:
        name = re.sub(r"(?i)\s+(asc|desc)$", "", part.strip()).strip('"')
        name = names[int(name) - 1] if name.isdigit() else name.rpartition(".")[2]
        if name not in names:
            break
        keys.append(name)
    return keys


def _rows(table: pa.Table, names: list[str]) -> list[tuple[Any, ...]]:
    columns = [list(map(_value, _plain(table.column(name)))) for name in names]
    return list(zip(*columns, strict=True)) if columns else [()] * table.num_rows


def _plain(column: Any) -> list[Any]:
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("ns", column.type.tz)).cast(pa.int64())
    elif pa.types.is_duration(column.type):
        column = column.cast(pa.int64())
    elif pa.types.is_decimal(column.type):
        column = column.cast(pa.float64() if column.type.scale else pa.int64())
    values: list[Any] = column.to_pylist()
    return values


def _kind(kind: Any) -> str:
    for name, test in (
        ("null", pa.types.is_null),
        ("integer", lambda k: pa.types.is_integer(k) or (pa.types.is_decimal(k) and k.scale == 0)),
        ("number", lambda k: pa.types.is_floating(k) or pa.types.is_decimal(k)),
        ("time", pa.types.is_timestamp),
        ("text", lambda k: pa.types.is_string(k) or pa.types.is_large_string(k)),
        ("bytes", lambda k: pa.types.is_binary(k) or pa.types.is_fixed_size_binary(k)),
        ("list", lambda k: pa.types.is_list(k) or pa.types.is_large_list(k)),
    ):
        if test(kind):
            return "text" if name == "list" and pa.types.is_struct(kind.value_type) else name
    return str(kind) if not pa.types.is_struct(kind) else "struct"


def _value(value: Any) -> Any:
    """What a value means: properties are the same as a document and as pairs, floats are compared to 12 digits."""
    if isinstance(value, float):
        return "nan" if math.isnan(value) else float(f"{value:.12g}")
    if isinstance(value, list):
        if value and all(isinstance(one, dict) and one.keys() == {"key", "value"} for one in value):
            return json.dumps({one["key"]: one["value"] for one in value}, sort_keys=True, ensure_ascii=False)
        return tuple(map(_value, value)) if value else "{}"
    if isinstance(value, dict):
        return tuple((name, _value(inner)) for name, inner in value.items())
    if isinstance(value, str) and value[:1] in ("{", "["):
        try:
            return json.dumps(json.loads(value), sort_keys=True, ensure_ascii=False)
        except ValueError:
            return value
    return value


def meaning(table: pa.Table) -> list[tuple[Any, ...]]:
    """The rows of an answer, as they would be written down; in no order."""
    columns = [[tuple(v) if isinstance(v, list) else v for v in _plain(column)] for column in table.columns]
    return sorted(zip(*columns, strict=True), key=repr)
