"""Recorded telemetry: real requests and the rows that the original server answered for them.

The whole collection lies beside a developer's checkout (``shared/fixtures``, or where ``LAKEFLIGHT_SHARED`` says); three small cases
are part of the project (``tests/data/native``), so every test run has real input.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("LAKEFLIGHT_SHARED", ROOT.parent / "shared"))
OWN_CASES = ROOT / "tests" / "data" / "native"
OTLP_CASES = ROOT / "tests" / "data" / "otlp"


@dataclass(frozen=True)
class Request:
    """One recorded HTTP request."""

    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Case:
    """One recorded process: what it sent, what was asked, what came back."""

    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def process_id(self) -> str:
        return (self.folder / "process_id").read_text().strip()

    @property
    def description(self) -> dict[str, Any]:
        loaded: dict[str, Any] = json.loads((self.folder / "case.json").read_text())
        return loaded

    @property
    def requests(self) -> list[Request]:
        return list(self._requests())

    def _requests(self) -> Iterator[Request]:
        for meta in sorted((self.folder / "requests").glob("*.json")):
            described = json.loads(meta.read_text())
            yield Request(described["path"], described["headers"], meta.with_suffix(".body").read_bytes())

    def expected(self, query: str) -> list[dict[str, Any]]:
        """The recorded answer, times as nanoseconds; a query without rows has no file."""
        path = self.folder / "expected" / f"{query}.parquet"
        if not path.exists():
            assert self.description["queries"][query]["rows"] == 0, f"{path} is missing"
            return []
        return rows_of(pq.read_table(path))


def rows_of(table: pa.Table) -> list[dict[str, Any]]:
    """Rows as dictionaries; times are integers, because Python's own drop the last three digits."""
    columns = [
        column.cast(pa.timestamp("ns")).cast(pa.int64()) if pa.types.is_timestamp(column.type) else column
        for column in table.columns
    ]
    rows: list[dict[str, Any]] = pa.table(columns, names=table.column_names).to_pylist()
    return rows


def shared_folder(relative: str) -> Path:
    """A folder of the shared collection; skips the test where it is absent."""
    folder = SHARED / relative
    if not folder.is_dir():
        pytest.skip(f"the recorded telemetry is not here ({relative}): this test needs the developers' collection")
    return folder


def otlp_cases() -> list[Case]:
    """What OpenTelemetry SDKs sent; their ids follow from their content, so no lake can hold one twice."""
    return [Case(path) for path in sorted(OTLP_CASES.iterdir())]


def native_cases() -> list[Case]:
    """Every native case there is: all of the shared collection, else the three of the project."""
    for folder in (SHARED / "fixtures" / "native", OWN_CASES):
        if folder.is_dir():
            return [Case(path) for path in sorted(folder.iterdir()) if path.is_dir()]
    return []
