"""FS-11: under each output profile and each header that changes results, what is promised is what comes. ADBC compares."""

from __future__ import annotations

import pyarrow as pa
import pytest

from tests.support.serving import Server

HEADERS = [
    {},
    {"preserve_dictionary": "true"},
    {"x-output-profile": "grafana"},
    {"x-output-profile": "jdbc"},
    {"x-output-profile": "micromegas", "preserve_dictionary": "true"},
    {"limit": "3"},
    {"query_range_begin": "2020-01-01T00:00:00Z", "query_range_end": "2100-01-01T00:00:00Z"},
]


@pytest.mark.parametrize("headers", HEADERS, ids=lambda headers: "+".join(headers.values()) or "none")
def test_every_table_is_what_was_promised_for_it(server: Server, headers: dict[str, str]) -> None:
    names = server.query("SHOW TABLES").column("table_name").to_pylist()

    assert "log_entries" in names
    for name in names:
        described = server.query(f"DESCRIBE {name}").column("column_name").to_pylist()
        assert server.query(f"SELECT * FROM {name} LIMIT 5", **headers).column_names == described


# What Grafana's two plugins make of their macros, for a panel of ten minutes; of a line every 0.7 s.
LINES = "(SELECT make_timestamp_ns(1790000000000000000 + n * 700000001) AS time, n AS value FROM range(1000) t(n))"
BEGIN, END = "2026-09-21T14:15:00Z", "2026-09-21T14:20:00Z"
BINNED = "SELECT date_bin(interval '{}', time, timestamp '1970-01-01T00:00:00Z') AS time, count(*) AS n FROM {} GROUP BY 1 ORDER BY time"
MACROS = [
    ("select 1", 1),
    (f"SELECT time, value FROM {LINES} WHERE time >= '{BEGIN}' AND time <= '{END}' ORDER BY time", 429),
    (
        f"SELECT time FROM {LINES} WHERE time >= cast('{BEGIN}' as timestamp) AND time <= cast('{END}' as timestamp)",
        429,
    ),
    (BINNED.format("10 second", LINES), 70),
    (BINNED.format("0 second", LINES), 1000),
    (f"SELECT datepart('minute', time) AS minute, avg(value) AS v FROM {LINES} GROUP BY 1", 12),
    (
        f"SELECT datepart('year', time), datepart('month', time), datepart('hour', time), count(*) FROM {LINES} GROUP BY ALL",
        1,
    ),
]


@pytest.mark.parametrize(("sql", "rows"), MACROS)
def test_what_macros_of_grafana_become_is_answered(server: Server, sql: str, rows: int) -> None:
    """FS-65."""
    table = server.query(sql, **{"x-client-type": "grafana", "limit": "1000"})

    assert table.num_rows == rows
    assert all(pa.types.is_string(kind) or pa.types.is_primitive(kind) for kind in table.schema.types)
    if "time" in table.column_names:
        assert table.schema.field("time").type == pa.timestamp("ns", "UTC")
        times = table.column("time").cast(pa.int64()).to_pylist()
        assert times == sorted(times)
