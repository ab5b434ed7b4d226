"""What functions of our own cost: each against the nearest expression of the engine's own, over the same rows.

In one database, without a server; the engine's own expression is asked in turn with ours, so that a busy machine slows both.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Final

from benchmarks.figures import Figure, Limit, at_most
from benchmarks.measure import take_turns
from benchmarks.sizes import Size
from lakehouse.engine import DEFAULT_LIMITS
from lakehouse.engine.database import Database

RATIO_MAX: Final = 3.0
_DOCUMENT: Final = (
    """'{"env":"prod","build-version":"1.2.' || i % 7 || '","n":' || i % 2000 || ',"items":[1,2,' || i % 9 || ']}'"""
)
_RGBA: Final = " + ".join(f"CAST(round(x / 150 * 255) AS UBIGINT) * {256**place}" for place in range(4))
_TABLE: Final = f"""
    CREATE TABLE rows AS SELECT
        make_timestamp_ns(1700000000000000000 + i * 1000003) AS time,
        i % 1000 / 7.0 AS x,
        {_DOCUMENT} AS doc,
        'request ' || i % 5000 || ' took ' || i % 977 || ' ms' AS msg,
        [i % 7, i % 5, i % 3] AS list
    FROM range({{rows}}) r(i)
"""


@dataclass(frozen=True, slots=True)
class _Pair:
    name: str
    ours: str
    nearest: str
    reason: str = ""  # why it may cost more than the bound


_PAIRS: Final = (
    _Pair("date_bin", "max(date_bin(INTERVAL '1 minute', time))", "max(time_bucket(INTERVAL '1 minute', CAST(time AS TIMESTAMP)))"),
    _Pair("to_char", "max(lakeflight_to_char_whole(time, '%Y-%m-%d %H:%M:%S'))", "max(strftime(time, '%Y-%m-%d %H:%M:%S'))"),
    _Pair("property_get", "max(property_get(doc, 'env'))", "max(json_extract_string(doc, '$.env'))"),
    _Pair("jsonb_get", "max(jsonb_get(doc, 'items'))", "max(json_extract(doc, '$.items'))"),
    _Pair("jsonb_as_i64", "max(jsonb_as_i64(jsonb_get(doc, 'n')))", "max(CAST(json_extract(doc, '$.n') AS BIGINT))"),
    _Pair("jsonb_format_json", "max(jsonb_format_json(doc))", "max(json_normalize(doc))"),
    _Pair("jsonb_object_keys", "max(len(jsonb_object_keys(doc)))", "max(len(list_sort(json_keys(doc))))"),
    _Pair("jsonb_path", "max(jsonb_path_query_first(doc, '$.items[1]'))", "max(json_extract(doc, '$.items[1]'))"),
    _Pair(
        "jsonb_path_filter",
        "max(jsonb_path_query(doc, '$.items[*] ? (@ > 1)'))",
        "max(to_json(list_filter(CAST(json_extract(doc, '$.items') AS INTEGER[]), lambda e: e > 1)))",
        "a filter is a statement of its own over the members of each document",
    ),
    _Pair(
        "bin_center",
        "max(bin_center(x, 10))",
        "max(floor((x + 5) / 10) * 10)",
    ),
    _Pair(
        "rgba",
        "max(rgba(x, x, x, x))",
        f"max({_RGBA})",
        "channels are clamped, and NaN is 0",
    ),
    _Pair("make_histogram", "make_histogram(0.0, 150.0, 100, x)", "histogram(CAST(floor(x / 1.5) AS BIGINT))"),
    _Pair("array_union", "max(len(array_union(list, list)))", "max(len(list_distinct(list_concat(list, list))))"),
    _Pair("array_except", "max(len(array_except(list, [1])))", "max(len(list_filter(list_distinct(list), lambda e: e <> 1)))"),
    _Pair("encode", "max(encode(msg, 'hex'))", "max(lower(hex(msg)))"),
    _Pair(
        "sha512",
        "max(sha512(msg))",
        "max(sha256(msg))",
        "hashlib makes them, a value at a time and each value once",
    ),
    _Pair(
        "regexp_instr",
        "max(regexp_instr(msg, '[0-9]+ ms'))",
        "max(length(regexp_extract(msg, '[0-9]+ ms')))",
        "what stands before the match is matched as well, because only texts come out of the engine's patterns",
    ),
    _Pair("substr_index", "max(substr_index(msg, ' ', 2))", "max(array_to_string(string_split(msg, ' ')[:2], ' '))"),
)  # fmt: skip


NAMES: Final = tuple(pair.name for pair in _PAIRS)


def measure(size: Size) -> list[Figure]:
    """A figure for each: how many times what the nearest expression of the engine takes."""
    database = Database(DEFAULT_LIMITS)
    database.use_functions(" ".join(pair.ours for pair in _PAIRS))
    database.connection.execute(_TABLE.replace("{rows}", str(size.function_rows)))
    try:
        return [_figure(database, pair, size) for pair in _PAIRS]
    finally:
        database.close()


def _figure(database: Database, pair: _Pair, size: Size) -> Figure:
    def ask(expression: str) -> None:
        database.connection.execute(f"SELECT {expression} FROM rows").fetchall()

    taken = take_turns(
        min(size.rounds, 3), {name: partial(ask, getattr(pair, name)) for name in ("ours", "nearest")}, warm_up=False
    )
    ratio = taken["ours"].p50 / taken["nearest"].p50
    why = f" ({pair.reason})" if pair.reason else ""
    return Figure(
        f"function_{pair.name}_ratio",
        f"{pair.name} over {size.function_rows / 1e6:g} M rows, in times of the nearest of the engine's{why}",
        ratio,
        "×",
        limit=Limit(1.0, "the nearest expression of the engine"),
        targets=(at_most(ratio, RATIO_MAX, f"{RATIO_MAX:g} ×"),),
    )
