"""The functions of the documents in slow, obvious Python, for the model: nothing here is shared with what is tested."""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Callable
from functools import wraps
from typing import Any

HISTOGRAM = (
    'STRUCT("start" DOUBLE, "end" DOUBLE, "min" DOUBLE, "max" DOUBLE, "sum" DOUBLE, "sum_sq" DOUBLE, "count" UBIGINT,'
    ' "bins" UBIGINT[])'
)


def _load(text: str | None) -> Any:
    return json.loads(text) if text is not None else None


def _dump(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def jsonb_parse(text: str) -> str | None:
    try:
        return _dump(json.loads(text))
    except ValueError:
        return None


def jsonb_get(document: str, key: str) -> str | None:
    value = _load(document)
    if not isinstance(value, dict):
        return None
    for name in (key, *(name for name in value if name.lower() == key.lower())):
        if name in value:
            return _dump(value[name])
    return None


def jsonb_as_string(document: str) -> str | None:
    value = _load(document)
    return value if isinstance(value, str) else None


def jsonb_as_f64(document: str) -> float | None:
    value = _load(document)
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def jsonb_as_i64(document: str) -> int | None:
    value = _load(document)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def jsonb_object_keys(document: str) -> list[str] | None:
    value = _load(document)
    return sorted(value) if isinstance(value, dict) else None


def jsonb_array_length(document: str) -> int | None:
    value = _load(document)
    return len(value) if isinstance(value, list) else None


_STEP = re.compile(r"\.(\w+)|\[(\d+)\]|(\[\*\])")
_FILTER = re.compile(r'\s*\?\s*\(@\.(\w+) (==|>) ("[^"]*"|\d+)\)')


def _matches(document: str, path: str) -> list[Any]:
    found, rest = [_load(document)], path[1:]
    while rest:
        if wanted := _FILTER.match(rest):
            name, sign, value = wanted.group(1), wanted.group(2), json.loads(wanted.group(3))
            found = [
                item
                for item in found
                if isinstance(item, dict)
                and name in item
                and (item[name] == value if sign == "==" else item[name] > value)
            ]
            rest = rest[wanted.end() :]
            continue
        step = _STEP.match(rest)
        assert step is not None, rest
        member, index, star = step.groups()
        if member is not None:
            found = [item[member] for item in found if isinstance(item, dict) and member in item]
        elif star is not None:
            found = [inner for item in found if isinstance(item, list) for inner in item]
        else:
            found = [item[int(index)] for item in found if isinstance(item, list) and int(index) < len(item)]
        rest = rest[step.end() :]
    return found


def jsonb_path_query(document: str, path: str) -> str:
    return _dump(_matches(document, path))


def jsonb_path_query_first(document: str, path: str) -> str | None:
    found = _matches(document, path)
    return _dump(found[0]) if found else None


def property_get(document: str, key: str) -> str | None:
    found = jsonb_get(document, key)
    value = _load(found)
    return value if isinstance(value, str) else found


def properties_length(document: str) -> int:
    value = _load(document)
    return len(value) if isinstance(value, dict) else 0


def each(document: str) -> list[dict[str, str]]:
    value = _load(document)
    pairs = sorted(value.items()) if isinstance(value, dict) else enumerate(value)
    return [{"key": str(key), "value": _dump(inner)} for key, inner in pairs]


def text_values(document: str) -> list[dict[str, str]]:
    return [
        {"key": pair["key"], "value": v if isinstance(v := json.loads(pair["value"]), str) else pair["value"]}
        for pair in each(document)
    ]


def histogram(start: float, end: float, bins: int, values: list[float | None]) -> dict[str, Any] | None:
    if not values:
        return None
    numbers = [value for value in values if value is not None]
    counts = [0] * bins
    for value in numbers:
        counts[min(max(math.floor((value - start) / ((end - start) / bins)), 0), bins - 1)] += 1
    return {
        "start": start,
        "end": end,
        "min": min(numbers, default=1.7976931348623157e308),
        "max": max(numbers, default=-1.7976931348623157e308),
        "sum": float(sum(numbers)),
        "sum_sq": float(sum(value * value for value in numbers)),
        "count": len(numbers),
        "bins": counts,
    }


def added(histograms: list[dict[str, Any]]) -> dict[str, Any] | None:
    total: dict[str, Any] | None = None
    for one in histograms:
        if total is None:
            total = {**one, "bins": list(one["bins"])}
            continue
        total["min"], total["max"] = min(total["min"], one["min"]), max(total["max"], one["max"])
        for name in ("sum", "sum_sq", "count"):
            total[name] += one[name]
        total["bins"] = [a + b for a, b in zip(total["bins"], one["bins"], strict=True)]
    return total


def quantile(one: dict[str, Any], ratio: float) -> float:
    width = (one["end"] - one["start"]) / len(one["bins"])
    wanted, before = one["count"] * ratio, 0
    for index, count in enumerate(one["bins"]):
        if count and before + count >= wanted:
            return float(one["start"] + (index + (wanted - before) / count) * width)
        before += count
    return float(one["end"])


def variance(one: dict[str, Any]) -> float:
    n = one["count"]
    return float((one["sum_sq"] / n - (one["sum"] / n) ** 2) * n / (n - 1))


def bins_of(one: dict[str, Any]) -> list[dict[str, Any]]:
    width = (one["end"] - one["start"]) / len(one["bins"])
    return [{"bin_center": one["start"] + (i + 0.5) * width, "count": n} for i, n in enumerate(one["bins"])]


def rgba(red: float, green: float, blue: float, alpha: float) -> int:
    color = 0
    for part in (red, green, blue, alpha):
        color = color << 8 | math.floor(min(max(part * 255 + 0.5, 0), 255))
    return color


def lerp_color(first: int, second: int, t: float) -> int:
    t, color = min(max(t, 0.0), 1.0), 0
    for shift in (24, 16, 8, 0):
        a, b = first >> shift & 255, second >> shift & 255
        color = color << 8 | math.floor(a + (b - a) * t + 0.5)
    return color


def encoded(data: bytes, form: str) -> str:
    return data.hex() if form == "hex" else base64.b64encode(data).decode().rstrip("=")


def decoded(text: str, form: str) -> bytes:
    return bytes.fromhex(text) if form == "hex" else base64.b64decode(text + "=" * (-len(text) % 4))


def _strict(function: Callable[..., Any]) -> Callable[..., Any]:
    """NULL for what has a NULL among its arguments."""

    @wraps(function)
    def strict(*arguments: Any) -> Any:
        return None if any(argument is None for argument in arguments) else function(*arguments)

    return strict


def teach(connection: Any) -> None:
    """Give a plain DuckDB the functions of the documents."""
    number, text, document = "DOUBLE", "VARCHAR", "VARCHAR"
    pairs = "STRUCT(key VARCHAR, value VARCHAR)[]"
    for function, parameters, result in (
        (jsonb_parse, [text], document),
        (jsonb_get, [document, text], document),
        (jsonb_as_string, [document], text),
        (jsonb_as_f64, [document], number),
        (jsonb_as_i64, [document], "BIGINT"),
        (jsonb_object_keys, [document], "VARCHAR[]"),
        (jsonb_array_length, [document], "BIGINT"),
        (jsonb_path_query, [document, text], document),
        (jsonb_path_query_first, [document, text], document),
        (property_get, [document, text], text),
        (properties_length, [document], "INTEGER"),
        (each, [document], pairs),
        (text_values, [document], pairs),
        (histogram, [number, number, "BIGINT", "DOUBLE[]"], HISTOGRAM),
        (added, [f"{HISTOGRAM}[]"], HISTOGRAM),
        (quantile, [HISTOGRAM, number], number),
        (variance, [HISTOGRAM], number),
        (bins_of, [HISTOGRAM], "STRUCT(bin_center DOUBLE, count UBIGINT)[]"),
        (rgba, [number] * 4, "UINTEGER"),
        (lerp_color, ["UINTEGER", "UINTEGER", number], "UINTEGER"),
        (encoded, ["BLOB", text], text),
        (decoded, [text, text], "BLOB"),
    ):
        connection.create_function(
            f"slow_{function.__name__}", _strict(function), parameters, result, null_handling="special"
        )
    for macro in (
        "jsonb_parse(j) AS slow_jsonb_parse(j)",
        "jsonb_get(j, k) AS slow_jsonb_get(j, k)",
        "jsonb_as_string(j) AS slow_jsonb_as_string(j)",
        "jsonb_as_f64(j) AS slow_jsonb_as_f64(j)",
        "jsonb_as_i64(j) AS slow_jsonb_as_i64(j)",
        "jsonb_object_keys(j) AS slow_jsonb_object_keys(j)",
        "jsonb_array_length(j) AS slow_jsonb_array_length(j)",
        "jsonb_path_query(j, p) AS slow_jsonb_path_query(j, p)",
        "jsonb_path_query_first(j, p) AS slow_jsonb_path_query_first(j, p)",
        "property_get(p, k) AS slow_property_get(p, k)",
        "properties_length(p) AS slow_properties_length(p)",
        "rgba(r, g, b, a) AS slow_rgba(r, g, b, a)",
        "lerp_color(a, b, t) AS slow_lerp_color(a, b, t)",
        "jsonb_format_json(j) AS slow_jsonb_parse(j)",
        "properties_to_jsonb(p) AS slow_jsonb_parse(p)",
        "properties_to_dict(p) AS p",
        "properties_to_array(p) AS slow_text_values(p)",
        "jsonb_each(j) AS TABLE SELECT unnest(slow_each(j), recursive := true)",
        "jsonb_array_elements(j) AS TABLE SELECT value FROM (SELECT unnest(slow_each(j), recursive := true))",
        "make_histogram(a, b, n, v) AS slow_histogram(a, b, n, list(CAST(v AS DOUBLE)))",
        "sum_histograms(h) AS slow_added(list(h) FILTER (WHERE h IS NOT NULL))",
        "quantile_from_histogram(h, q) AS slow_quantile(h, q)",
        "variance_from_histogram(h) AS slow_variance(h)",
        "count_from_histogram(h) AS h.count",
        "sum_from_histogram(h) AS h.sum",
        "expand_histogram(h) AS TABLE SELECT unnest(slow_bins_of(h), recursive := true)",
        "bin_center(c, size) AS floor((c + size / 2) / size) * size",
        "lerp(a, b, t) AS a + (b - a) * t",
        "unlerp(a, b, x) AS (x - a)::DOUBLE / (b - a)",
        "encode(x, form) AS slow_encoded(x, form)",
        "decode(x, form) AS slow_decoded(x, form)",
        "binned(width, t) AS make_timestamp_ns(epoch_ns(t) // epoch_ns(CAST(width AS INTERVAL))"
        " * epoch_ns(CAST(width AS INTERVAL)))",
        "date_bin(width, t) AS binned(width, t), (width, t, origin) AS binned(width, t)",
        "approx_percentile_cont(x, p) AS quantile_cont(x, p)",
    ):
        connection.execute(f"CREATE MACRO {macro}")
