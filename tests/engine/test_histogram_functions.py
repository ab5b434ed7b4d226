"""Histograms against numpy, in parts and in any order; colours and bins against the rules that they are declared by."""

from __future__ import annotations

import math
import random
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from lakehouse.engine import DEFAULT_LIMITS
from lakehouse.engine.database import Database
from lakehouse.engine.functions import own_functions

BIG = 1.7976931348623157e308


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    database = Database(DEFAULT_LIMITS)
    database.use_functions(" ".join(function.name for function in own_functions()))
    yield database
    database.close()


def one(database: Database, sql: str, **columns: Any) -> Any:
    """The only value of a statement over ``given``."""
    if columns:
        database.connection.register("given", pa.table(columns))
    [(answer,)] = database.connection.execute(sql).fetchall()
    return answer


def values_of(chance: np.random.Generator, start: float, end: float) -> Any:
    """Inside, on the bounds, and far outside."""
    width = max(end - start, 1.0)
    drawn = chance.uniform(start - width / 4, end + width / 4, 300)
    return np.concatenate((drawn, [start, end], np.round(drawn[:50])))


def counted(values: Any, start: float, end: float, bins: int) -> list[int]:
    """What numpy counts, once what lies outside is drawn to the nearest bound."""
    if start == end:
        return [len(values)] + [0] * (bins - 1)
    places = np.clip(np.floor((values - start) / ((end - start) / bins)), 0, bins - 1)
    return [int(count) for count in np.bincount(places.astype(np.int64), minlength=bins)]


@pytest.mark.parametrize(
    ("start", "end", "bins"),
    [(0.0, 50.0, 5), (-1.0, 1.0, 7), (0.0, 100.0, 1_000), (3.0, 3.0, 4), (0.0, 1.0, 1), (0.1, 0.7, 6)],
)
def test_a_histogram_counts_as_numpy_does(database: Database, start: float, end: float, bins: int) -> None:
    values = values_of(np.random.default_rng(bins), start, end)

    found = one(database, f"SELECT make_histogram({start!r}, {end!r}, {bins}, v) FROM given", v=values)

    assert found["bins"] == counted(values, start, end, bins)
    assert (found["start"], found["end"], found["count"]) == (start, end, len(values))
    assert (found["min"], found["max"]) == (values.min(), values.max())
    assert found["sum"] == pytest.approx(values.sum())
    assert found["sum_sq"] == pytest.approx((values**2).sum())
    assert one(
        database, f"SELECT variance_from_histogram(make_histogram({start!r}, {end!r}, {bins}, v)) FROM given", v=values
    ) == pytest.approx(values.var(ddof=1))
    if start < end:
        inside = np.clip(values, start, np.nextafter(end, start))
        edges = np.linspace(start, end, bins + 1)
        whole = np.histogram(inside, edges)[0].tolist()
        assert sum(abs(a - b) for a, b in zip(found["bins"], whole, strict=True)) <= 2 * 4, "but for values on an edge"


def test_histograms_of_parts_add_up_to_the_histogram_of_all_in_any_order(database: Database) -> None:
    chance = np.random.default_rng(8)
    values = np.round(chance.uniform(-20, 120, 3_000))  # whole, so that sums do not depend on the order
    parts = chance.integers(0, 40, len(values))
    given = {"v": values, "part": parts, "half": parts % 3}
    histogram = "make_histogram(0, 100, 25, v)"
    whole = one(database, f"SELECT {histogram} FROM given", **given)
    orders = ("part", "-part", "hash(part)")
    of_parts = f"SELECT {histogram} AS h, part, any_value(half) AS half FROM given GROUP BY part"

    for order in orders:
        merged = one(database, f"SELECT sum_histograms(h) FROM (FROM ({of_parts}) ORDER BY {order})")
        of_sums = f"SELECT sum_histograms(h) AS h FROM (FROM ({of_parts}) ORDER BY {order}) GROUP BY half"
        assert merged == whole
        assert one(database, f"SELECT sum_histograms(h) FROM ({of_sums})") == whole


def test_what_is_null_is_not_counted_and_a_histogram_of_it_changes_no_sum(database: Database) -> None:
    histogram = one(database, "SELECT make_histogram(0, 10, 2, v) FROM given", v=pa.array([None, None], pa.float64()))
    empty = {"start": 0.0, "end": 10.0, "min": BIG, "max": -BIG, "sum": 0.0, "sum_sq": 0.0, "count": 0, "bins": [0, 0]}

    assert histogram == empty
    assert one(database, "SELECT make_histogram(0, 10, 2, v) FROM given WHERE false") is None
    assert one(database, "SELECT sum_histograms(h) FROM given", h=pa.array([None, empty, None]))["bins"] == [0, 0]
    assert one(database, "SELECT sum_histograms(h) FROM given WHERE false") is None
    some = "SELECT make_histogram(0, 10, 2, v) AS h FROM (VALUES (1), (NULL), (9)) t(v)"
    nothing = "SELECT make_histogram(0, 10, 2, CAST(NULL AS DOUBLE)) AS h"
    merged = one(database, f"SELECT sum_histograms(h) FROM ({some} UNION ALL {nothing} UNION ALL SELECT NULL)")
    assert (merged["bins"], merged["min"], merged["max"], merged["count"]) == ([1, 1], 1.0, 9.0, 2)


def test_values_that_are_no_numbers_lie_in_a_bin_as_well(database: Database) -> None:
    values = [math.nan, math.inf, -math.inf, 5.0]

    found = one(database, "SELECT make_histogram(0, 10, 3, v) FROM given", v=values)

    assert (found["bins"], found["count"]) == ([2, 1, 1], 4)
    assert (found["min"], found["max"]) == (-math.inf, math.inf)
    assert math.isnan(found["sum"])


@pytest.mark.parametrize(
    ("sql", "complaint"),
    [
        ("SELECT make_histogram(0, 10, 0, 1)", "1 to 65536 bins"),
        ("SELECT make_histogram(0, 10, 65537, 1)", "1 to 65536 bins"),
        ("SELECT make_histogram(0, 10, 9223372036854775807, 1)", "1 to 65536 bins"),
        ("SELECT make_histogram(0, 'inf', 3, 1)", "must be finite"),
        ("SELECT make_histogram('nan', 1, 3, 1)", "must be finite"),
        ("SELECT make_histogram(5, 0, 3, 1)", "must not lie after its end"),
        ("SELECT make_histogram(NULL, 0, 3, 1)", "must not be NULL"),
        ("SELECT make_histogram(x, 10, 3, x) FROM range(3) t(x)", "must be the same in all rows"),
        ("SELECT make_histogram(0, 10, x + 1, x) FROM range(3) t(x)", "must be the same in all rows"),
        (
            "SELECT sum_histograms(h) FROM (SELECT make_histogram(0, 10, 3, 1) AS h UNION ALL SELECT make_histogram(0, 11, 3, 1))",
            "other bounds or bins",
        ),
        (
            "SELECT sum_histograms(h) FROM (SELECT make_histogram(0, 10, 3, 1) AS h UNION ALL SELECT make_histogram(0, 10, 4, 1))",
            "other bounds or bins",
        ),
    ],
)
def test_what_makes_no_histogram_is_refused(database: Database, sql: str, complaint: str) -> None:
    with pytest.raises(Exception, match=complaint):
        one(database, sql)


def quantile(histogram: dict[str, Any], rank: float) -> float:
    """Bin by bin, as it is defined."""
    reached, width = 0, (histogram["end"] - histogram["start"]) / len(histogram["bins"])
    for place, count in enumerate(histogram["bins"]):
        if count and reached + count >= histogram["count"] * rank:
            part = (histogram["count"] * rank - reached) / count
            return float(histogram["start"] + (place + part) * width)
        reached += count
    return float(histogram["end"])


def test_quantiles_of_many_histograms_are_those_found_bin_by_bin(database: Database) -> None:
    chance = random.Random(9)
    histograms: list[Any] = [None]
    for _ in range(300):
        bins = [chance.choice((0, 0, 1, 2, 50)) for _ in range(chance.randrange(1, 12))]
        start = chance.uniform(-5, 5)
        numbers = {"start": start, "end": start + 10, "min": 0.0, "max": 0.0, "sum": 0.0, "sum_sq": 0.0}
        histograms.append({**numbers, "count": sum(bins), "bins": bins})
    ranks = [chance.choice((0.0, 0.25, 0.5, 0.95, 1.0, chance.random(), 1.5, None)) for _ in histograms]
    numbers_type = [(name, pa.float64()) for name in ("start", "end", "min", "max", "sum", "sum_sq")]
    kind = pa.struct([*numbers_type, ("count", pa.uint64()), ("bins", pa.list_(pa.uint64()))])
    database.connection.register("given", pa.table({"h": pa.array(histograms, kind), "q": ranks}))

    found = database.connection.execute("SELECT quantile_from_histogram(h, q) FROM given").fetchall()

    for histogram, rank, (answer,) in zip(histograms, ranks, found, strict=True):
        if histogram is None or rank is None:
            assert answer is None
        else:
            assert answer == pytest.approx(quantile(histogram, rank)), (histogram, rank)


def test_documented_quantiles_and_the_median_of_a_spread_are_near_numpys(database: Database) -> None:
    two = (
        "{'start': 0.0, 'end': 20.0, 'min': 1.0, 'max': 12.0, 'sum': 29.0, 'sum_sq': 279.0, 'count': 5, 'bins': [3, 2]}"
    )
    values = np.random.default_rng(1).normal(50, 10, 20_000)

    assert one(database, f"SELECT quantile_from_histogram({two}, 0.5)") == pytest.approx(25 / 3)
    assert one(database, f"SELECT count_from_histogram({two})") == 5
    assert one(database, f"SELECT sum_from_histogram({two})") == 29.0
    assert one(
        database, "SELECT quantile_from_histogram(make_histogram(0, 100, 1000, v), 0.95) FROM given", v=values
    ) == (pytest.approx(np.quantile(values, 0.95), abs=0.2))


def channel(part: float) -> int:
    return 0 if math.isnan(part) else math.floor(min(255.0, max(0.0, part * 255 + 0.5)))


def test_colours_are_made_and_mixed_channel_by_channel(database: Database) -> None:
    chance = random.Random(10)
    parts = [
        [chance.choice((0.0, 1.0, 0.5, -1.0, 2.0, math.nan, chance.random())) for _ in range(4)] for _ in range(300)
    ]
    colours = [[chance.randrange(1 << 32) for _ in range(2)] for _ in parts]
    ways = [chance.choice((0.0, 1.0, 0.5, -3.0, 4.0, chance.random())) for _ in parts]
    red, green, blue, alpha = zip(*parts, strict=True)
    first, second = (pa.array(side, pa.uint32()) for side in zip(*colours, strict=True))
    database.connection.register(
        "given", pa.table({"r": red, "g": green, "b": blue, "a": alpha, "first": first, "second": second, "t": ways})
    )

    found = database.connection.execute("SELECT rgba(r, g, b, a), lerp_color(first, second, t) FROM given").fetchall()

    for own, pair, way, (made, mixed) in zip(parts, colours, ways, found, strict=True):
        assert struct.pack(">I", made) == bytes(map(channel, own))
        drawn = min(1.0, max(0.0, way))
        sides = zip(*(struct.pack(">I", colour) for colour in pair), strict=True)
        assert struct.pack(">I", mixed) == bytes(math.floor(a + (b - a) * drawn + 0.5) for a, b in sides)


@pytest.mark.parametrize(
    ("call", "answer"),
    [
        ("rgba(0.5, 0.5, 0.5, 1)", 0x808080FF),
        ("lerp_color(4278190335::UINTEGER, 65535::UINTEGER, 0.5)", 0x800080FF),
        ("bin_center(3, 10)", 0.0),
        ("bin_center(5, 10)", 10.0),
        ("bin_center(-5, 10)", 0.0),
        ("bin_center(-5.0001, 10)", -10.0),
        ("lerp(10, 20, 2)", 30.0),
        ("unlerp(10, 20, 12.5)", 0.25),
        ("unlerp(1, 1, 2)", math.inf),
        ("unlerp(1, 1, 0)", -math.inf),
        ("nanvl(unlerp(1, 1, 1), 7)", 7.0),
        ("nanvl(3, 7)", 3.0),
    ],
)
def test_numbers_on_the_way_between_two(database: Database, call: str, answer: float) -> None:
    assert one(database, f"SELECT {call}") == answer


@pytest.mark.parametrize(
    "call",
    [
        "rgba(NULL, 0, 0, 0)",
        "lerp_color(NULL, 0::UINTEGER, 0.5)",
        "lerp_color(0::UINTEGER, 0::UINTEGER, NULL)",
        "bin_center(NULL, 1)",
        "bin_center(1, NULL)",
        "lerp(NULL, 1, 1)",
        "unlerp(NULL, 1, 1)",
        "unlerp(1, 1, NULL)",
        "unlerp(1, NULL, 1)",
        "nanvl(NULL, 1)",
        "sum_histograms(NULL)",
        "quantile_from_histogram(NULL, 0.5)",
        "variance_from_histogram(NULL)",
        "count_from_histogram(NULL)",
        "sum_from_histogram(NULL)",
    ],
)
def test_null_gives_null(database: Database, call: str) -> None:
    assert one(database, f"SELECT {call}") is None


@pytest.mark.parametrize(
    "call",
    [
        "nanvl({}, 1)",
        "lerp({}, 2, 0.5)",
        "unlerp({}, 2, 0.5)",
        "rgba({}, 0, 0, 0)",
        "lerp_color(CAST({} AS UINTEGER), 7::UINTEGER, 0.5)",
        "jsonb_get({}, 'a')",
        "jsonb_path_query({}, '$.a')",
        "jsonb_path_query_first({}, '$.a')",
        "jsonb_parse({})",
    ],
)
def test_calls_in_calls_do_not_multiply(database: Database, call: str) -> None:
    """A macro that names its argument twice stands for ever more copies of it: planning took minutes."""
    nested = "v"
    for _ in range(8):
        nested = call.format(nested)

    assert len(database.connection.execute(f"SELECT {nested} FROM (SELECT '1' AS v)").fetchall()) == 1
