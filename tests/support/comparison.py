"""Recorded rows against ours: as sorted multisets of whole rows, over what can be compared.

What the server makes itself (insert times and what follows from them) differs from run to run and is left out. JSON is
compared by meaning, floats by their bits.
"""

from __future__ import annotations

import json
import struct
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

MADE_BY_THE_SERVER = {"insert_time", "streams.insert_time", "processes.insert_time", "last_update_time"}
JSON_COLUMNS = {"properties", "process_properties", "streams.properties", "processes.properties"}


def comparable(row: Mapping[str, Any], columns: Iterable[str]) -> tuple[tuple[str, Any], ...]:
    """One row, hashable, so that equal means equal to the bit."""
    return tuple((name, _value(name, row[name])) for name in columns)


def _value(name: str, value: Any) -> Any:
    if isinstance(value, float):
        return "nan" if value != value else struct.pack("<d", value)
    if name in JSON_COLUMNS and isinstance(value, str):
        return json.dumps(json.loads(value), sort_keys=True)
    if name in JSON_COLUMNS and isinstance(value, list):
        return json.dumps({pair["key"]: pair["value"] for pair in value}, sort_keys=True)
    if isinstance(value, list):
        return tuple(value)
    return value


def assert_same_rows(ours: list[dict[str, Any]], recorded: list[dict[str, Any]], what: str) -> None:
    """Every column of the recorded rows that can be compared exists in ours, and the multisets are equal."""
    if recorded:
        columns = sorted(recorded[0].keys() - MADE_BY_THE_SERVER)
        if ours:
            missing = set(columns) - ours[0].keys()
            assert not missing, f"{what}: no column {missing}"
    else:
        columns = []
    assert len(ours) == len(recorded), f"{what}: {len(ours)} rows, recorded were {len(recorded)}"
    left = Counter(comparable(row, columns) for row in ours)
    right = Counter(comparable(row, columns) for row in recorded)
    if left != right:
        extra, lacking = list((left - right).elements())[:3], list((right - left).elements())[:3]
        raise AssertionError(f"{what}: rows differ\nours:     {extra}\nrecorded: {lacking}")
