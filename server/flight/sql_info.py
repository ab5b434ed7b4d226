"""GetSqlInfo: what this server is and can do, each answer in the union member that drivers cast it from.

With an empty list of codes exactly the standard ones are sent: the JDBC driver loses all metadata over a code that its
enum lacks. The engine's functions are written out, because the edge has no engine to ask; a test compares them with
DuckDB. Our own come from their registry.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from lakehouse.engine.functions import listed_functions
from server.flight.handles import HANDLE_LIFETIME_S

_UNION_FIELDS: Final = (
    pa.field("string_value", pa.string()),
    pa.field("bool_value", pa.bool_()),
    pa.field("bigint_value", pa.int64()),
    pa.field("int32_bitmask", pa.int32()),
    pa.field("string_list", pa.list_(pa.string())),
    pa.field("int32_to_int32_list_map", pa.map_(pa.int32(), pa.list_(pa.int32()))),
)
SQL_INFO_SCHEMA: Final = pa.schema(
    [
        pa.field("info_name", pa.uint32(), nullable=False),
        pa.field("value", pa.dense_union(_UNION_FIELDS), nullable=False),
    ]
)


@dataclass(frozen=True, slots=True)
class Bits:
    """A number that drivers read from ``int32_bitmask``; plain ``int`` goes to ``bigint_value``."""

    value: int


Answer = str | bool | int | Bits | tuple[str, ...] | Mapping[int, tuple[int, ...]]


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


KEYWORDS: Final = _words(
    """ALL ANALYSE ANALYZE AND ANY ARRAY AS ASC ASYMMETRIC BOTH CASE CAST CHECK COLLATE COLUMN CONSTRAINT CREATE DEFAULT
    DEFERRABLE DESC DESCRIBE DISTINCT DO ELSE END EXCEPT FALSE FETCH FOR FOREIGN FROM GROUP HAVING IN INITIALLY
    INTERSECT INTO LAMBDA LATERAL LEADING LIMIT NOT NULL OFFSET ON ONLY OR ORDER PIVOT PIVOT_LONGER PIVOT_WIDER PLACING
    PRIMARY QUALIFY REFERENCES RETURNING SELECT SHOW SOME SUMMARIZE SYMMETRIC TABLE THEN TO TRAILING TRUE UNION UNIQUE
    UNPIVOT USING VARIADIC WHEN WHERE WINDOW WITH"""
)
# JDBC escape names first, in capitals; the rest are the engine's own.
NUMERIC_FUNCTIONS: Final = _words(
    """ABS ACOS ASIN ATAN ATAN2 CEILING COS COT DEGREES EXP FLOOR LOG LOG10 MOD PI POWER RADIANS ROUND SIGN SIN SQRT TAN
    random cbrt ceil even gcd greatest isfinite isinf isnan lcm least ln log2 pow trunc"""
)
STRING_FUNCTIONS: Final = _words(
    """ASCII CHAR_LENGTH CHARACTER_LENGTH CONCAT LCASE LEFT LENGTH LTRIM OCTET_LENGTH POSITION REPEAT REPLACE RIGHT
    RTRIM SUBSTRING UCASE chr concat_ws contains ends_with format levenshtein lower lpad md5 printf regexp_extract
    regexp_matches regexp_replace reverse rpad sha256 split_part starts_with string_split strip_accents substr
    translate trim unicode upper"""
)
SYSTEM_FUNCTIONS: Final = ("current_database", "current_schema", "nullif", "typeof", "version")
DATETIME_FUNCTIONS: Final = _words(
    """CURRENT_DATE DAYNAME DAYOFMONTH DAYOFWEEK DAYOFYEAR HOUR MINUTE MONTH MONTHNAME NOW QUARTER SECOND WEEK YEAR age
    date_diff date_part date_sub date_trunc day epoch epoch_ms epoch_ns epoch_us last_day make_date make_timestamp
    strftime strptime time_bucket to_days to_hours to_milliseconds to_minutes to_seconds to_timestamp today"""
)

_BIGINT, _DATE, _DECIMAL, _FLOAT, _INTEGER, _NUMERIC, _REAL = 0, 4, 5, 6, 7, 12, 13  # SqlSupportsConvert
_SMALLINT, _TIME, _TIMESTAMP, _TINYINT, _VARCHAR = 14, 15, 16, 17, 19
_NUMBERS: Final = (_BIGINT, _DECIMAL, _FLOAT, _INTEGER, _NUMERIC, _REAL, _SMALLINT, _TINYINT)
_CONVERSIONS: Final[Mapping[int, tuple[int, ...]]] = {
    **dict.fromkeys(_NUMBERS, (*_NUMBERS, _VARCHAR)),
    _DATE: (_TIMESTAMP, _VARCHAR),
    _TIME: (_VARCHAR,),
    _TIMESTAMP: (_DATE, _TIME, _VARCHAR),
    _VARCHAR: (*_NUMBERS, _DATE, _TIME, _TIMESTAMP, _VARCHAR),
}


def sql_info(product_version: str) -> dict[int, Answer]:
    """Answers by code, ascending."""
    answers: dict[int, Answer] = {
        0: "lakeflight",
        1: product_version,
        2: pa.__version__,
        3: True,  # read only
        4: True,  # SQL
        5: False,  # Substrait
        6: "",
        7: "",
        8: Bits(0),  # no transactions: ADBC begins one on every connection that it finds able
        9: True,  # cancel
        10: False,  # bulk ingestion
        11: False,
        100: Bits(HANDLE_LIFETIME_S * 1000),
        101: Bits(0),
        503: Bits(1),  # unquoted identifiers are case-insensitive
        504: '"',
        505: Bits(1),
        506: True,  # all listed tables may be read
        507: Bits(3),  # nulls at the end
        508: KEYWORDS,
        509: (*NUMERIC_FUNCTIONS, *listed_functions("numeric")),
        510: (*STRING_FUNCTIONS, *listed_functions("string")),
        511: (*SYSTEM_FUNCTIONS, *listed_functions("system")),
        512: (*DATETIME_FUNCTIONS, *listed_functions("datetime")),
        513: "\\",
        514: "",
        517: _CONVERSIONS,
        522: Bits(3),  # GROUP BY anything
        525: Bits(7),  # minimum, core and extended grammar
        526: Bits(1),  # SQL-92 entry level
        527: False,
        528: Bits(6),  # outer joins, full too
        529: "schema",
        530: "procedure",
        531: "catalog",
        532: True,  # catalog first in a qualified name
        533: Bits(7),
        534: Bits(7),
        535: Bits(0),  # no positioned commands
        538: Bits(15),  # subqueries everywhere
        540: Bits(3),  # UNION and UNION ALL
        556: True,
        562: 0,  # isolation level, which JDBC casts from a long
        563: False,
        564: Bits(1),
        567: Bits(2),  # forward-only results
    }
    answers |= dict.fromkeys((500, 501, 502), False)  # no DDL
    answers |= dict.fromkeys((515, 516, 518, 519, 520, 521, 523, 524, 539), True)
    answers |= dict.fromkeys((536, 537, 565, 566, 572, 573, 574, 575, 576), False)
    answers |= dict.fromkeys((*range(541, 556), *range(557, 562)), 0)  # limits: none
    answers |= dict.fromkeys(range(568, 572), Bits(2))
    return dict(sorted(answers.items()))


def sql_info_batch(answers: Mapping[int, Answer], codes: Iterable[int]) -> pa.RecordBatch:
    """Rows for the codes, in the order asked, all for none; unknown ones are absent."""
    asked = [code for code in dict.fromkeys(codes) if code in answers] if (codes := tuple(codes)) else list(answers)
    members: list[list[object]] = [[] for _ in _UNION_FIELDS]
    type_ids, offsets = [], []
    for code in asked:
        member, value = _member(answers[code])
        type_ids.append(member)
        offsets.append(len(members[member]))
        members[member].append(value)
    values = pa.UnionArray.from_dense(
        pa.array(type_ids, pa.int8()),
        pa.array(offsets, pa.int32()),
        [pa.array(column, field.type) for column, field in zip(members, _UNION_FIELDS, strict=True)],
        [field.name for field in _UNION_FIELDS],
    )
    return pa.RecordBatch.from_arrays([pa.array(asked, pa.uint32()), values], schema=SQL_INFO_SCHEMA)


def _member(answer: Answer) -> tuple[int, object]:
    match answer:
        case str():
            return 0, answer
        case bool():
            return 1, answer
        case int():
            return 2, answer
        case Bits():
            return 3, answer.value
        case tuple():
            return 4, list(answer)
        case _:
            return 5, [(code, list(targets)) for code, targets in answer.items()]
