"""``processes``, ``streams`` and ``blocks``: three raw tables out of Postgres become the views that users know.

The rows come as CSV files that Postgres' COPY wrote from one snapshot: times as integer microseconds, bytes as
hexadecimal text, tags and properties as JSON text, NULL as an unquoted empty field. The columns of each file are
listed here, and the COPY statements must match them. Conversions are part of the views, so that a statement pays only
for the columns it reads.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.csv

from lakehouse.engine.sql_types import quoted
from lakehouse.errors import InternalError

_TEXT: Final = pa.string()
_INTEGER: Final = pa.int64()

# Aggregates over all blocks of a process or stream; NULL where it has none, and then it is not shown.
PROCESSES_CSV: Final[tuple[tuple[str, Any], ...]] = (
    ("process_id", _TEXT),
    ("exe", _TEXT),
    ("username", _TEXT),
    ("realname", _TEXT),
    ("computer", _TEXT),
    ("distro", _TEXT),
    ("cpu_brand", _TEXT),
    ("tsc_frequency", _INTEGER),
    ("start_time_us", _INTEGER),
    ("start_ticks", _INTEGER),
    ("insert_time_us", _INTEGER),
    ("parent_process_id", _TEXT),
    ("properties_json", _TEXT),  # {"key": "value"}
    ("last_update_time_us", _INTEGER),  # largest insert time of its blocks
    ("last_block_end_ticks", _INTEGER),
    ("last_block_end_time_us", _INTEGER),
)
STREAMS_CSV: Final[tuple[tuple[str, Any], ...]] = (
    ("stream_id", _TEXT),
    ("process_id", _TEXT),
    ("dependencies_metadata_hex", _TEXT),
    ("objects_metadata_hex", _TEXT),
    ("tags_json", _TEXT),  # ["tag"]
    ("properties_json", _TEXT),
    ("insert_time_us", _INTEGER),
    ("format", _TEXT),
    ("last_update_time_us", _INTEGER),
)
BLOCKS_CSV: Final[tuple[tuple[str, Any], ...]] = (
    ("block_id", _TEXT),
    ("stream_id", _TEXT),
    ("process_id", _TEXT),
    ("begin_time_us", _INTEGER),
    ("begin_ticks", _INTEGER),
    ("end_time_us", _INTEGER),
    ("end_ticks", _INTEGER),
    ("nb_objects", _INTEGER),
    ("object_offset", _INTEGER),
    ("payload_size", _INTEGER),
    ("insert_time_us", _INTEGER),
)
_US_MAX: Final = 9_223_372_036_854_775  # microseconds whose nanoseconds are an int64
_CSV_ROW_BYTES_MAX: Final = 16 << 20  # a stream's two type tables as hexadecimal text fit well

_PROPERTIES: Final = pa.list_(pa.struct([("key", pa.string()), ("value", pa.string())]))
_TAGS: Final = pa.list_(pa.string())
_TIME: Final = pa.timestamp("ns")

PROCESSES_SCHEMA: Final = pa.schema(
    [
        ("process_id", pa.string()),
        ("exe", pa.string()),
        ("username", pa.string()),
        ("realname", pa.string()),
        ("computer", pa.string()),
        ("distro", pa.string()),
        ("cpu_brand", pa.string()),
        ("tsc_frequency", pa.int64()),
        ("start_time", _TIME),
        ("start_ticks", pa.int64()),
        ("insert_time", _TIME),
        ("parent_process_id", pa.string()),
        ("properties", _PROPERTIES),
        ("last_update_time", _TIME),
        ("last_block_end_ticks", pa.int64()),
        ("last_block_end_time", _TIME),
    ]
)
STREAMS_SCHEMA: Final = pa.schema(
    [
        ("stream_id", pa.string()),
        ("process_id", pa.string()),
        ("dependencies_metadata", pa.binary()),
        ("objects_metadata", pa.binary()),
        ("tags", _TAGS),
        ("properties", _PROPERTIES),
        ("insert_time", _TIME),
        ("format", pa.string()),
        ("last_update_time", _TIME),
    ]
)
BLOCKS_SCHEMA: Final = pa.schema(
    [
        ("block_id", pa.string()),
        ("stream_id", pa.string()),
        ("process_id", pa.string()),
        ("begin_time", _TIME),
        ("begin_ticks", pa.int64()),
        ("end_time", _TIME),
        ("end_ticks", pa.int64()),
        ("nb_objects", pa.int32()),
        ("object_offset", pa.int64()),
        ("payload_size", pa.int64()),
        ("insert_time", _TIME),
        ("streams.dependencies_metadata", pa.binary()),
        ("streams.objects_metadata", pa.binary()),
        ("streams.tags", _TAGS),
        ("streams.properties", _PROPERTIES),
        ("streams.insert_time", _TIME),
        ("streams.format", pa.string()),
        ("processes.start_time", _TIME),
        ("processes.start_ticks", pa.int64()),
        ("processes.tsc_frequency", pa.int64()),
        ("processes.exe", pa.string()),
        ("processes.username", pa.string()),
        ("processes.realname", pa.string()),
        ("processes.computer", pa.string()),
        ("processes.distro", pa.string()),
        ("processes.cpu_brand", pa.string()),
        ("processes.insert_time", _TIME),
        ("processes.parent_process_id", pa.string()),
        ("processes.properties", _PROPERTIES),
    ]
)
METADATA_SCHEMAS: Final = {"processes": PROCESSES_SCHEMA, "streams": STREAMS_SCHEMA, "blocks": BLOCKS_SCHEMA}
# name -> the column at or before a range's end, and the one at or after its begin
METADATA_TIMES: Final = {
    "processes": ("insert_time", "last_update_time"),
    "streams": ("insert_time", "last_update_time"),
    "blocks": ("begin_time", "insert_time"),
}


@dataclass(frozen=True, slots=True)
class MetadataFiles:
    """The CSV files of one snapshot. A file that no relation of the statement needs may be left out."""

    processes: Path | None = None
    streams: Path | None = None
    blocks: Path | None = None


# which raw tables each view is made of
METADATA_NEEDS: Final = {
    "processes": ("processes",),
    "streams": ("streams",),
    "blocks": ("blocks", "streams", "processes"),
}
_CSV_COLUMNS: Final = {"processes": PROCESSES_CSV, "streams": STREAMS_CSV, "blocks": BLOCKS_CSV}


def read_csv(name: str, path: Path) -> Any:
    """One raw table as Arrow. ``name`` is ``processes``, ``streams`` or ``blocks``."""
    columns = _CSV_COLUMNS[name]
    if path.stat().st_size == 0:
        return pa.schema(list(columns)).empty_table()
    try:
        return pa.csv.read_csv(
            path,
            read_options=pa.csv.ReadOptions(
                column_names=[column for column, _ in columns], block_size=_CSV_ROW_BYTES_MAX
            ),
            parse_options=pa.csv.ParseOptions(newlines_in_values=True),
            convert_options=pa.csv.ConvertOptions(
                column_types=dict(columns), null_values=[""], strings_can_be_null=True, quoted_strings_can_be_null=False
            ),
        )
    except pa.ArrowInvalid as error:
        raise InternalError(f"the snapshot of {name} is not as expected: {error}") from error


def raw_table(name: str) -> str:
    """Where the rows of one file are kept in the database; no user's text can name it."""
    return f"lakeflight_raw_{name}"


def _time(column: str) -> str:
    """Clamped to what fits: ingestion refuses times beyond, and one row of a foreign hand must not fail every query."""
    return f"make_timestamp_ns(greatest(least({column}, {_US_MAX}), -{_US_MAX}) * 1000)"


def _properties(column: str) -> str:
    return f"CAST(map_entries(CAST(CAST({column} AS JSON) AS MAP(VARCHAR, VARCHAR))) AS STRUCT(key VARCHAR, value VARCHAR)[])"


def _tags(column: str) -> str:
    return f"CAST(CAST({column} AS JSON) AS VARCHAR[])"


def _expression(column: str, table: str) -> str:
    """How a column of a view is made from the raw column that carries it."""
    source = f"{table}.{column}"
    match column:
        case "properties":
            return _properties(f"{source}_json")
        case "tags":
            return _tags(f"{source}_json")
        case "dependencies_metadata" | "objects_metadata":
            return f"unhex({source}_hex)"
        case "parent_process_id":
            return f"coalesce({source}, '')"
        case "nb_objects":
            return f"CAST({source} AS INTEGER)"
        case _ if column.endswith("_time"):
            return _time(f"{source}_us")
    return source


def select_of(name: str) -> str:
    """The SELECT of one view over the raw tables, columns in the declared order."""
    columns = []
    for column in METADATA_SCHEMAS[name].names:
        table, _, plain = column.rpartition(".")
        columns.append(f"{_expression(plain, table or 'own')} AS {quoted(column)}")
    source = f"{raw_table(name)} AS own"
    if name == "blocks":
        source += f" JOIN {raw_table('streams')} AS streams ON own.stream_id = streams.stream_id"
        source += f" JOIN {raw_table('processes')} AS processes ON own.process_id = processes.process_id"
        return f"SELECT {', '.join(columns)} FROM {source}"
    return f"SELECT {', '.join(columns)} FROM {source} WHERE own.last_update_time_us IS NOT NULL"
