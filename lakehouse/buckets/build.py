"""Builds the Parquet files of one bucket, in a worker: what to build, how, and what came out.

Knows no catalog and no store: payloads are files that somebody put there, results are files that somebody takes away.
The job comes from the server and is believed. The result comes from a process that has read hostile bytes, so
``BuildResult.from_message`` believes nothing.
"""

from __future__ import annotations

import json
import stat
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import pyarrow as pa

from lakeflight.wire.errors import WireError
from lakehouse.errors import BackendUnavailableError, InternalError
from lakehouse.model import Block, JsonProperties, LastTiming, Process, ProcessId, Stream, StreamId
from lakehouse.ports import View

if TYPE_CHECKING:
    from lakehouse.parquet import FileSummary

ROWS_PER_FILE_MAX: Final = 1 << 19  # so that a large bucket is written by several threads, and read by several
BYTES_PER_FILE_MAX: Final = 128 << 20  # of rows in memory: long messages make a file full before its rows do
WRITERS_MAX: Final = 2  # files written at once; each holds its rows in memory
ERROR_CHARACTERS_MAX: Final = 500
FILES_MAX: Final = 10_000  # a result with more is not believed
_INT64_MAX: Final = (1 << 63) - 1
_UUID_CHARACTERS: Final = 36


@dataclass(frozen=True, slots=True)
class BuildJob:
    """What a worker needs to build one bucket, or a part of it: no secret, no address.

    ``timings`` holds the estimate of every process whose clock is unknown; others need none.
    """

    view_set: str
    instance: str
    processes: tuple[Process, ...]
    streams: tuple[Stream, ...]
    blocks: tuple[Block, ...]
    timings: Mapping[ProcessId, LastTiming]
    output_dir: Path
    rows_per_file_max: int = ROWS_PER_FILE_MAX
    writers_max: int = WRITERS_MAX

    def to_message(self) -> dict[str, Any]:
        """Plain values, for any codec. Properties stay the text that Postgres keeps."""
        return {
            "view_set": self.view_set,
            "instance": self.instance,
            "processes": [_values(process) for process in self.processes],
            "streams": [_values(stream) for stream in self.streams],
            "blocks": [_values(block) for block in self.blocks],
            "timings": {key: [t.end_ticks, t.end_time_ns] for key, t in self.timings.items()},
            "output_dir": str(self.output_dir),
            "rows_per_file_max": self.rows_per_file_max,
            "writers_max": self.writers_max,
        }

    @classmethod
    def from_message(cls, message: Mapping[str, Any]) -> BuildJob:
        """The reverse; other keys are somebody else's."""
        return cls(
            view_set=message["view_set"],
            instance=message["instance"],
            processes=tuple(_record(Process, values) for values in message["processes"]),
            streams=tuple(_record(Stream, values) for values in message["streams"]),
            blocks=tuple(Block(*values) for values in message["blocks"]),
            timings={key: LastTiming(*values) for key, values in message["timings"].items()},
            output_dir=Path(message["output_dir"]),
            rows_per_file_max=message["rows_per_file_max"],
            writers_max=message["writers_max"],
        )


@dataclass(frozen=True, slots=True)
class BuiltFile:
    """One Parquet file: a run of the bucket's rows."""

    path: Path
    rows: int
    size_bytes: int
    min_event_ns: int
    max_event_ns: int
    max_sort_key_ns: int


@dataclass(frozen=True, slots=True)
class BuildResult:
    """What came out. Files are in the order of their rows; there is none if there are no rows."""

    files: tuple[BuiltFile, ...]
    quarantined: tuple[tuple[str, str], ...]  # block id, why
    repaired_events: int

    def to_message(self) -> dict[str, Any]:
        return {
            "files": [
                {"name": file.path.name} | {name: getattr(file, name) for name in _FILE_NUMBERS} for file in self.files
            ],
            "quarantined": [list(pair) for pair in self.quarantined],
            "repaired_events": self.repaired_events,
        }

    @classmethod
    def from_message(cls, message: Any, output_dir: Path, block_ids: frozenset[str] | None = None) -> BuildResult:
        """A result that can be acted on: its files exist in ``output_dir`` as they are described.

        Args:
            block_ids: If given, only these may be quarantined.
        Raises:
            InternalError: The worker sent anything else.
        """
        files = _list(_take(message, "files"), FILES_MAX)
        quarantined = _list(_take(message, "quarantined"), len(block_ids) if block_ids is not None else 1 << 24)
        result = cls(
            files=tuple(_believed_file(file, output_dir) for file in files),
            quarantined=tuple(_believed_pair(pair, block_ids) for pair in quarantined),
            repaired_events=_integer(_take(message, "repaired_events"), 0),
        )
        if len({file.path for file in result.files}) < len(result.files):
            raise InternalError("a build worker named a file twice")
        if len({block_id for block_id, _ in result.quarantined}) < len(result.quarantined):
            raise InternalError("a build worker named a block twice")
        return result


def build_bucket(view: View, job: BuildJob, payload_path: Callable[[Block], Path]) -> BuildResult:
    """Turn the blocks of ``job`` into Parquet files in its output folder.

    Rows are made by this thread and written by a few others. Memory: what the view holds, and the rows of
    ``writers_max`` files.

    Raises:
        BackendUnavailableError: A payload is not there or not as long as it should be.
    """
    source = _JobSource(job, payload_path)
    written: list[Future[tuple[Path, FileSummary]]] = []
    with ThreadPoolExecutor(max(1, job.writers_max), thread_name_prefix="parquet") as writers:
        running: deque[Future[tuple[Path, FileSummary]]] = deque()
        try:
            for batches in _files_worth(view.build(source), job.rows_per_file_max):
                path = job.output_dir / f"{len(written):05}.parquet"
                future = writers.submit(_write, path, view, batches)
                del batches
                written.append(future)
                running.append(future)
                if len(running) >= job.writers_max:  # before the next file's rows are made, not after
                    running.popleft().result()
        except BaseException:
            writers.shutdown(cancel_futures=True)
            raise
        done = [future.result() for future in written]
    return BuildResult(
        files=tuple(
            BuiltFile(path, s.rows, s.size_bytes, s.min_event_ns, s.max_event_ns, s.max_sort_key_ns) for path, s in done
        ),
        quarantined=tuple(source.quarantined.items()),
        repaired_events=source.repaired_events,
    )


def _write(path: Path, view: View, batches: list[pa.RecordBatch]) -> tuple[Path, FileSummary]:
    from lakehouse.parquet import write_file  # the edge reads this module's values, and writes no file

    return path, write_file(path, view.schema, batches, view.begin_column, view.end_column)


def _files_worth(batches: Iterator[pa.RecordBatch], rows_max: int) -> Iterator[list[pa.RecordBatch]]:
    """Runs of batches that make a file; a batch is never torn unless it alone is too long."""
    run: list[pa.RecordBatch] = []
    rows = size = 0
    for whole in batches:
        for start in range(0, whole.num_rows, rows_max):
            batch = whole.slice(start, rows_max)
            if run and (rows + batch.num_rows > rows_max or size + batch.nbytes > BYTES_PER_FILE_MAX):
                yield run
                run, rows, size = [], 0, 0
            run.append(batch)
            rows += batch.num_rows
            size += batch.nbytes
    if run:
        yield run


@dataclass(slots=True)
class _JobSource:
    """A job as a view sees it. Implements ``BucketSource``."""

    job: BuildJob
    payload_path: Callable[[Block], Path]
    quarantined: dict[str, str] = field(default_factory=dict)
    repaired_events: int = 0
    _processes: dict[ProcessId, Process] = field(init=False)
    _streams: dict[StreamId, Stream] = field(init=False)

    def __post_init__(self) -> None:
        self._processes = {process.process_id: process for process in self.job.processes}
        self._streams = {stream.stream_id: stream for stream in self.job.streams}

    @property
    def instance(self) -> str:
        return self.job.instance

    @property
    def blocks(self) -> Sequence[Block]:
        return self.job.blocks

    def process_of(self, block: Block) -> Process:
        return self._processes[block.process_id]

    def stream_of(self, block: Block) -> Stream:
        return self._streams[block.stream_id]

    def timing_of(self, process: Process) -> LastTiming:
        # A known clock needs no estimate, and a job carries none for it.
        return self.job.timings.get(process.process_id, LastTiming(0, process.start_time_ns))

    def payload(self, block: Block) -> bytes:
        try:
            stored = self.payload_path(block).read_bytes()
        except OSError as error:
            raise BackendUnavailableError(f"the payload of block {block.block_id} cannot be read") from error
        if len(stored) != block.payload_size:
            raise BackendUnavailableError(
                f"the payload of block {block.block_id} has {len(stored)} bytes, not {block.payload_size}"
            )
        return stored

    def quarantine(self, block: Block, error: Exception) -> None:
        # Only the wire's own errors were written for others to read.
        reason = str(error) if isinstance(error, WireError) else f"its decoder failed: {type(error).__name__}"
        self.quarantined[block.block_id] = reason[:ERROR_CHARACTERS_MAX]

    def count_repaired(self, events: int) -> None:
        self.repaired_events += events


_T = TypeVar("_T", Process, Stream, Block)
_GETTERS: Final = {kind: attrgetter(*(f.name for f in fields(kind))) for kind in (Process, Stream, Block)}
_DECODERS: Final[Mapping[str, Callable[[Any], Any]]] = {"tags": tuple, "properties": JsonProperties}
_FILE_NUMBERS: Final = ("rows", "size_bytes", "min_event_ns", "max_event_ns", "max_sort_key_ns")


def _values(record: Process | Stream | Block) -> list[Any]:
    values = _GETTERS[type(record)](record)
    return [
        _json_text(value) if isinstance(value, Mapping) else list(value) if isinstance(value, tuple) else value
        for value in values
    ]


def _json_text(properties: Mapping[str, str]) -> str:
    return properties.text if isinstance(properties, JsonProperties) else json.dumps(dict(properties))


def _record(kind: type[_T], values: list[Any]) -> _T:
    """The reverse of ``_values``."""
    named = {f.name: value for f, value in zip(fields(kind), values, strict=True)}
    return kind(**{name: _DECODERS[name](value) if name in _DECODERS else value for name, value in named.items()})


def _believed_file(message: Any, output_dir: Path) -> BuiltFile:
    name = _text(_take(message, "name"), 255)
    if not name or name in (".", "..") or any(c in name for c in "/\\\0"):
        raise InternalError("a build worker named a file outside its folder")
    path = output_dir / name
    rows = _integer(_take(message, "rows"), 1)
    size_bytes = _integer(_take(message, "size_bytes"), 1)
    times = [_integer(_take(message, key), -_INT64_MAX - 1) for key in _FILE_NUMBERS[2:]]
    if times[0] > times[1]:
        raise InternalError("a build worker sent bounds that are reversed")
    try:
        found = path.lstat()
    except OSError as error:
        raise InternalError("a build worker named a file that is not there") from error
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1 or found.st_size != size_bytes:
        raise InternalError("a build worker named a file that is not as it says")
    return BuiltFile(path, rows, size_bytes, *times)


def _believed_pair(message: Any, block_ids: frozenset[str] | None) -> tuple[str, str]:
    pair = _list(message, 2)
    if len(pair) != 2:
        raise InternalError("a build worker sent a quarantined block without its reason")
    block_id = _text(pair[0], _UUID_CHARACTERS)
    if block_ids is not None and block_id not in block_ids:
        raise InternalError("a build worker quarantined a block that it was not given")
    return block_id, _text(pair[1], ERROR_CHARACTERS_MAX).replace("\0", "\ufffd")


def _take(message: Any, key: str) -> Any:
    if not isinstance(message, dict) or key not in message:
        raise InternalError(f"a build worker sent no {key}")
    return message[key]


def _list(value: Any, length_max: int) -> list[Any]:
    if not isinstance(value, list | tuple) or len(value) > length_max:
        raise InternalError(f"a build worker sent {type(value).__name__} where a short list was expected")
    return list(value)


def _text(value: Any, length_max: int) -> str:
    if not isinstance(value, str) or len(value) > length_max:
        raise InternalError(f"a build worker sent {type(value).__name__} where a short text was expected")
    return value


def _integer(value: Any, at_least: int) -> int:
    if type(value) is not int or not at_least <= value <= _INT64_MAX:
        raise InternalError(f"a build worker sent {type(value).__name__} where a whole number was expected")
    return value
