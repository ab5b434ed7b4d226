"""The body of ``quantile_from_histogram``: the first bin that reaches a rank needs running sums within lists, which SQL has not."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.engine.functions.declare import ArrowFunction

_HISTOGRAM: Final = (
    'STRUCT("start" DOUBLE, "end" DOUBLE, "min" DOUBLE, "max" DOUBLE, "sum" DOUBLE, "sum_sq" DOUBLE, "count" UBIGINT,'
    ' "bins" UBIGINT[])'
)


def quantiles(histograms: Any, ranks: Any) -> Any:
    """Interpolated within the first bin that is not empty and with which ``count * rank`` values are reached; else the end."""
    histograms = _one_array(histograms)
    start, end, count, bins = (pc.struct_field(histograms, name) for name in ("start", "end", "count", "bins"))
    sizes = _numbers(pc.list_value_length(bins), np.int64)
    counts = _numbers(pc.list_flatten(bins), np.float64)
    begins, ends = _numbers(start, np.float64), _numbers(end, np.float64)
    wanted = _numbers(count, np.float64) * _numbers(_one_array(ranks), np.float64)

    rows = np.repeat(np.arange(len(sizes)), sizes)
    firsts = np.cumsum(sizes) - sizes
    reached = np.cumsum(counts)  # whole numbers: a difference of two is exact below 2**53
    before = reached - counts - np.repeat(np.concatenate(([0.0], reached))[firsts], sizes)
    hits = np.flatnonzero((counts > 0) & (before + counts >= wanted[rows]))
    answers = ends.copy()
    hit_rows, which = np.unique(rows[hits], return_index=True)
    chosen = hits[which]
    with np.errstate(all="ignore"):  # bounds may be as far apart as doubles reach
        widths = (ends - begins)[hit_rows] / sizes[hit_rows]
        parts = (wanted[hit_rows] - before[chosen]) / counts[chosen]
        answers[hit_rows] = begins[hit_rows] + (chosen - firsts[hit_rows] + parts) * widths
    absent = pc.or_(pc.or_(pc.is_null(start), pc.is_null(end)), pc.or_(pc.is_null(count), pc.is_null(bins)))
    return pa.array(answers, pa.float64(), mask=np.asarray(absent))


def _one_array(values: Any) -> Any:
    return values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values


def _numbers(values: Any, kind: Any) -> Any:
    return np.asarray(pc.fill_null(values, 0), dtype=kind)


FUNCTION: Final = ArrowFunction(
    signature=f"lakeflight_quantile(histogram {_HISTOGRAM}, quantile DOUBLE) -> DOUBLE",
    documentation="The value below which this part of a histogram's values lies, interpolated within its bin.",
    examples=(
        ("(SELECT lakeflight_quantile(make_histogram(0, 50, 5, v), 0.5) FROM (VALUES (5), (15), (45)) t(v))", "15.0"),
    ),
    function=quantiles,
)
