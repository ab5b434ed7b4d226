"""Months of telemetry, written as fast as the disk takes it: what the server's own path would have left, and when.

The server stamps what comes with its own clock, so a past cannot be sent. Here the rows are copied into the tables with the
times of that past, and a payload, which many processes have in common, is one file with many names. A test sends a small
history over the real path and finds the same rows and the same bytes. It refuses to write where somebody has looked already:
rows that come with old times are found by their transaction like any others, but a sealed bucket would get more.

Files of partitions are made by the server. Rows of the catalog that stand for more of them are ``padding``: copies of what
the server has made of one process, for others of the same history. Nothing may read their files, which are not there.
"""

from __future__ import annotations

import errno
import json
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import asyncpg
import numpy as np

from benchmarks.workload import Request, Telemetry, block_request
from lakeflight.wire.envelope import BlockRequest, ProcessRequest, StreamRequest, encode_process, encode_stream
from lakeflight.wire.transit.types import LOG_TYPES
from lakeflight.wire.transit.writer import LogBlockBuilder, LogMetadata, describe_stream
from lakehouse.catalog.telemetry import NATIVE_FORMAT
from lakehouse.model import BUCKET_SECONDS
from lakehouse.storage.paths import blob_key, partition_key

_FREQUENCY: Final = 1_000_000_000  # a tick is a nanosecond
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_HOUR: Final = timedelta(seconds=BUCKET_SECONDS)
_BEGINS: Final = timedelta(minutes=10)  # after a full hour: all processes lie alike in their buckets
_ARRIVES: Final = timedelta(seconds=1)  # after the last event of a block
_LEVELS: Final = (("net", 4), ("assets", 3), ("ai", 5))
_TARGETS: Final = 64  # programs of a fleet differ in what they log
_ROWS_AT_ONCE: Final = 20_000
_PROCESSES_AT_ONCE: Final = 200


@dataclass(frozen=True)
class History:
    """Processes of a fleet that log, a block every ``every``; each lives for ``blocks`` of them."""

    name: str  # two histories of one name have the same ids
    processes: int
    blocks: int
    every: timedelta
    begins: datetime  # the first process, a full hour …
    ends: datetime  # … and no process later than this
    lines: int = 10  # of a block
    _ids: uuid.UUID = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_ids", uuid.uuid5(uuid.NAMESPACE_OID, self.name))

    @property
    def lifetime(self) -> timedelta:
        return self.every * self.blocks

    @cached_property
    def payloads(self) -> Sequence[Mapping[int, BlockRequest]]:
        """Of each place in a life, by what is logged: a template, which has everything but its ids and its times."""
        return [
            {kind: self._template(place, kind) for kind in range(min(_TARGETS, self.processes))}
            for place in range(self.blocks)
        ]

    def process_id(self, number: int) -> str:
        return str(uuid.uuid5(self._ids, f"p{number}"))

    def stream_id(self, number: int) -> str:
        return str(uuid.uuid5(self._ids, f"s{number}"))

    def block_id(self, number: int, place: int) -> str:
        return str(uuid.uuid5(self._ids, f"b{number}/{place}"))

    def started(self, number: int) -> datetime:
        """Full hours from the first to the last, evenly."""
        hours = max(0, (self.ends - self.begins - self.lifetime) // _HOUR)
        return self.begins + number * hours // max(1, self.processes) * _HOUR + _BEGINS

    def inserted(self, number: int, place: int) -> datetime:
        return self.started(number) + self.every * (place + 1) + _ARRIVES

    def process(self, number: int) -> ProcessRequest:
        return ProcessRequest(
            process_id=self.process_id(number),
            exe=f"game{number % 7}",
            username="player",
            realname="Player",
            computer=f"console{number % 97}",
            distro="Linux",
            cpu_brand="CPU",
            tsc_frequency=_FREQUENCY,
            start_time_ns=_ns(self.started(number)),
            start_ticks=0,
            parent_process_id=None,
            properties={"version": f"1.{number % 10}", "place": str(number)},
        )

    def stream(self, number: int) -> StreamRequest:
        return describe_stream(LOG_TYPES, process_id=self.process_id(number), stream_id=self.stream_id(number))

    def block(self, number: int, place: int) -> BlockRequest:
        template = self.payloads[place][number % _TARGETS]
        start_ns = _ns(self.started(number))
        return BlockRequest(
            block_id=self.block_id(number, place),
            stream_id=self.stream_id(number),
            process_id=self.process_id(number),
            begin_time_ns=start_ns + template.begin_ticks,
            begin_ticks=template.begin_ticks,
            end_time_ns=start_ns + template.end_ticks,
            end_ticks=template.end_ticks,
            payload=template.payload,
            nb_objects=template.nb_objects,
            object_offset=template.object_offset,
        )

    def telemetry(self, number: int) -> Telemetry:
        """What one process sends over the real path."""
        blocks = tuple(self.block(number, place) for place in range(self.blocks))
        return Telemetry(self.process(number), (self.stream(number),), blocks)

    def requests(self) -> Iterator[Request]:
        for number in range(self.processes):
            telemetry = self.telemetry(number)
            yield Request("/ingestion/insert_process", encode_process(telemetry.process))
            yield from (Request("/ingestion/insert_stream", encode_stream(stream)) for stream in telemetry.streams)
            yield from map(block_request, telemetry.blocks)

    def _template(self, place: int, kind: int) -> BlockRequest:
        step = self.every // timedelta(microseconds=1) * 1000
        begin, end = place * step, (place + 1) * step - 1
        texts = [f"actor {place * self.lines + line} took {line * 37 % 1000} us".encode() for line in range(self.lines)]
        builder = LogBlockBuilder()
        builder.extend(
            [LogMetadata(f"game::{name}{kind}", level) for name, level in _LEVELS],
            np.arange(self.lines) % len(_LEVELS),
            np.linspace(begin, end, self.lines).astype(np.int64),
            b"".join(texts),
            np.cumsum([0, *map(len, texts)]),
        )
        return builder.finish().request(
            block_id="",
            stream_id="",
            process_id="",
            begin_time_ns=0,
            begin_ticks=begin,
            end_time_ns=0,
            end_ticks=end,
            object_offset=place * self.lines,
        )


async def write(history: History, url: str, store: Path, processes: Sequence[int] | None = None) -> None:
    """Processes of a history, by number, with their streams and blocks, and the payloads below the folder ``store``."""
    processes = range(history.processes) if processes is None else processes
    connection = await asyncpg.connect(url)
    names = _Names(store)
    try:
        for begin in range(0, len(processes), _PROCESSES_AT_ONCE):
            numbers = processes[begin : begin + _PROCESSES_AT_ONCE]
            for number in numbers:
                _write_payloads(history, number, names)
            async with connection.transaction():  # rows after payloads, as ever
                xid = await connection.fetchval("SELECT lakehouse_xid()")
                await _copy(connection, "processes", _PROCESS, (_process_row(history, n, xid) for n in numbers))
                await _copy(connection, "streams", _STREAM, (_stream_row(history, n, xid) for n in numbers))
                await _copy(
                    connection,
                    "blocks",
                    _BLOCK,
                    (_block_row(history, n, place, xid) for n in numbers for place in range(history.blocks)),
                )
        await connection.execute("VACUUM (ANALYZE) processes, streams, blocks")  # as a database of that age has been
    finally:
        await connection.close()


class _Names:
    """Files by content, given more names for as long as the file system allows."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._known: dict[bytes, str] = {}

    def put(self, key: str, data: bytes) -> None:
        path = f"{self.root}/{key}"
        known = self._known.get(data)
        if known is not None:
            try:
                os.link(known, path)
            except OSError as error:
                if error.errno != errno.EMLINK:
                    raise
            else:
                return
        with open(path, "xb") as file:
            file.write(data)
        self._known[data] = path


def _write_payloads(history: History, number: int, names: _Names) -> None:
    process_id, stream_id = history.process_id(number), history.stream_id(number)
    (names.root / blob_key(process_id, stream_id, "")).mkdir(parents=True, exist_ok=True)
    for place in range(history.blocks):
        payload = history.payloads[place][number % _TARGETS].payload
        names.put(blob_key(process_id, stream_id, history.block_id(number, place)), payload)


_PROCESS: Final = (
    *("process_id", "exe", "username", "realname", "computer", "distro", "cpu_brand", "tsc_frequency", "start_time"),
    *("start_ticks", "insert_time", "properties", "ingest_xid"),
)
_STREAM: Final = (
    *("stream_id", "process_id", "dependencies_metadata", "objects_metadata", "tags", "properties", "insert_time"),
    *("format", "ingest_xid"),
)
_BLOCK: Final = (
    *("block_id", "stream_id", "process_id", "begin_time", "begin_ticks", "end_time", "end_ticks", "nb_objects"),
    *("object_offset", "payload_size", "insert_time", "ingest_xid"),
)


async def _copy(connection: Any, table: str, columns: Sequence[str], rows: Iterator[tuple[Any, ...]]) -> None:
    await connection.copy_records_to_table(table, columns=list(columns), records=rows)


def _process_row(history: History, number: int, xid: int) -> tuple[Any, ...]:
    process = history.process(number)
    return (
        *(uuid.UUID(process.process_id), process.exe, process.username, process.realname, process.computer),
        *(process.distro, process.cpu_brand, process.tsc_frequency, _time(process.start_time_ns), process.start_ticks),
        *(history.started(number) + _ARRIVES, _json(process.properties), xid),
    )


def _stream_row(history: History, number: int, xid: int) -> tuple[Any, ...]:
    stream = history.stream(number)
    return (
        *(uuid.UUID(stream.stream_id), uuid.UUID(stream.process_id), stream.dependencies_metadata),
        *(stream.objects_metadata, list(stream.tags), _json(stream.properties), history.started(number) + _ARRIVES),
        *(NATIVE_FORMAT, xid),
    )


def _block_row(history: History, number: int, place: int, xid: int) -> tuple[Any, ...]:
    block = history.block(number, place)
    return (
        *(uuid.UUID(block.block_id), uuid.UUID(block.stream_id), uuid.UUID(block.process_id)),
        *(_time(block.begin_time_ns), block.begin_ticks, _time(block.end_time_ns), block.end_ticks),
        *(block.nb_objects, block.object_offset, len(block.payload), history.inserted(number, place), xid),
    )


def _ns(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1000


def _time(time_ns: int) -> datetime:
    return _EPOCH + timedelta(microseconds=time_ns // 1000)


def _json(properties: Mapping[str, str]) -> str:
    return json.dumps(properties, ensure_ascii=False, separators=(",", ":"))


# --- rows of the catalog ---------------------------------------------------------------------------------------------


async def pad(history: History, view_set: str, url: str, processes: Sequence[int]) -> int:
    """What the catalog would hold had somebody asked for ``view_set`` of these processes, too.

    Copied from process 0, which somebody has asked for; the number of partitions that came with it.
    """
    connection = await asyncpg.connect(url)
    made = 0
    try:
        for begin in range(0, len(processes), _PROCESSES_AT_ONCE):
            async with connection.transaction():
                for number in processes[begin : begin + _PROCESSES_AT_ONCE]:
                    made += await _pad_one(history, view_set, connection, number)
        await connection.execute(_SETTLE)
    finally:
        await connection.close()
    return made


async def _pad_one(history: History, view_set: str, connection: Any, number: int) -> int:
    instance = history.process_id(number)
    shift = history.started(number) - history.started(0)
    vid = await connection.fetchval(_INSTANCE, view_set, history.process_id(0), instance)
    await connection.execute(_BUCKETS, view_set, history.process_id(0), vid, shift)
    rows = await connection.fetch(_TEMPLATES, view_set, history.process_id(0))
    places = {uuid.UUID(history.block_id(0, place)): place for place in range(history.blocks)}
    keys = [partition_key(view_set, instance, _ns(row["bucket_begin"] + shift)) for row in rows]
    await connection.execute(
        _PARTITIONS,
        [row["partition_id"] for row in rows],
        keys,
        # arrays of arrays must all be as long
        [json.dumps([history.block_id(number, places[block]) for block in row["block_ids"]]) for row in rows],
        vid,
        instance,
        shift,
    )
    return len(rows)


_SETTLE: Final = "VACUUM (ANALYZE) view_instances, lakehouse_buckets, lakehouse_partitions, lake_objects"
_INSTANCE: Final = """
INSERT INTO view_instances (view_set, instance_id, schema_hash, writer_version, looked_before, looked_except, used)
SELECT view_set, $3, schema_hash, writer_version, looked_before, looked_except, used
FROM view_instances
WHERE view_set = $1 AND instance_id = $2
RETURNING vid
"""
_TEMPLATES: Final = """
SELECT p.partition_id, p.bucket_begin, p.block_ids
FROM lakehouse_partitions p
JOIN view_instances i USING (vid)
WHERE i.view_set = $1 AND i.instance_id = $2 AND p.num_rows > 0
"""
_BUCKETS: Final = """
INSERT INTO lakehouse_buckets
SELECT (jsonb_populate_record(b, jsonb_build_object(
    'vid', $3::bigint,
    'bucket_begin', b.bucket_begin + $4::interval,
    'bucket_end', b.bucket_end + $4::interval,
    'min_claimed', b.min_claimed + $4::interval,
    'max_claimed', b.max_claimed + $4::interval,
    'src_max_insert', b.src_max_insert + $4::interval,
    'incarnation', gen_random_uuid(),
    'src_digest', '\\x' || md5(random()::text)
))).*
FROM lakehouse_buckets b
JOIN view_instances i USING (vid)
WHERE i.view_set = $1 AND i.instance_id = $2
"""
_PARTITIONS: Final = """
WITH given AS (
    SELECT *
    FROM unnest($1::bigint[], $2::text[], $3::json[]) AS given (partition_id, key, block_ids)
),
object AS (
    INSERT INTO lake_objects (store, path, schema_name, addressing, is_prefix, state, size, sha256)
    SELECT o.store, g.key, o.schema_name, o.addressing, o.is_prefix, o.state, o.size, o.sha256
    FROM given g
    JOIN lakehouse_partitions p USING (partition_id)
    JOIN lake_objects o USING (object_id)
    RETURNING object_id, path
)
INSERT INTO lakehouse_partitions OVERRIDING SYSTEM VALUE
SELECT (jsonb_populate_record(p, jsonb_build_object(
    'partition_id', nextval(pg_get_serial_sequence('lakehouse_partitions', 'partition_id')),
    'vid', $4::bigint,
    'view_instance_id', $5::text,
    'bucket_begin', p.bucket_begin + $6::interval,
    'begin_insert_time', p.begin_insert_time + $6::interval,
    'end_insert_time', p.end_insert_time + $6::interval,
    'min_event_time', p.min_event_time + $6::interval,
    'max_event_time', p.max_event_time + $6::interval,
    'max_sort_key_time', p.max_sort_key_time + $6::interval,
    'min_event_ns', p.min_event_ns + 1000 * (1000000 * extract(EPOCH FROM $6::interval))::bigint,
    'max_event_ns', p.max_event_ns + 1000 * (1000000 * extract(EPOCH FROM $6::interval))::bigint,
    'file_path', g.key,
    'object_id', object.object_id,
    'block_ids', g.block_ids
))).*
FROM given g
JOIN lakehouse_partitions p USING (partition_id)
JOIN object ON object.path = g.key
"""
