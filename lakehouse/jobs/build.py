"""The job of building one bucket, or a part of it, and what comes of it: plain values that go to where it runs and back.

A job names objects of the store by their keys: no path, no secret, no address. Whoever runs it has the objects where it
runs (``lakehouse.jobs.executor``). The job comes from the server and is believed. The result comes from a process that has
read hostile bytes, so ``BuildResult.from_message`` believes nothing.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from operator import attrgetter
from pathlib import Path
from typing import Any, Final, TypeVar

from lakehouse.errors import InternalError
from lakehouse.filters import BITS_BYTES_MAX, COLUMNS, ValueFilter
from lakehouse.model import Block, BlockId, JsonProperties, LastTiming, Process, ProcessId, Stream
from lakehouse.storage.digests import SHA256_BYTES, TAIL_DIGEST_BYTES

ROWS_PER_FILE_MAX: Final = 1 << 19  # so that a large bucket is written by several threads, and read by several
WRITERS_MAX: Final = 2  # files written at once; each holds its rows in memory
ERROR_CHARACTERS_MAX: Final = 500
FILES_MAX: Final = 10_000  # a result with more is not believed
_INT64_MAX: Final = (1 << 63) - 1
_UUID_CHARACTERS: Final = 36


@dataclass(frozen=True, slots=True)
class BuildJob:
    """What is to be built.

    ``payload_keys`` are the objects of ``blocks``, in their order. ``timings`` holds the estimate of every process whose
    clock is unknown; others need none.
    """

    view_set: str
    instance: str
    processes: tuple[Process, ...]
    streams: tuple[Stream, ...]
    blocks: tuple[Block, ...]
    payload_keys: tuple[str, ...]
    timings: Mapping[ProcessId, LastTiming]
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
            "payload_keys": list(self.payload_keys),
            "timings": {key: [t.end_ticks, t.end_time_ns] for key, t in self.timings.items()},
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
            payload_keys=tuple(message["payload_keys"]),
            timings={key: LastTiming(*values) for key, values in message["timings"].items()},
            rows_per_file_max=message["rows_per_file_max"],
            writers_max=message["writers_max"],
        )


@dataclass(frozen=True, slots=True)
class LocalBuild:
    """A job where it runs: the payloads as files, and a folder for what comes of it."""

    job: BuildJob
    payloads: Mapping[BlockId, Path]
    output: Path

    def to_message(self) -> dict[str, Any]:
        return self.job.to_message() | {
            "paths": [str(self.payloads[block.block_id]) for block in self.job.blocks],
            "output": str(self.output),
        }

    @classmethod
    def from_message(cls, message: Mapping[str, Any]) -> LocalBuild:
        job = BuildJob.from_message(message)
        paths = {block.block_id: Path(path) for block, path in zip(job.blocks, message["paths"], strict=True)}
        return cls(job, paths, Path(message["output"]))


@dataclass(frozen=True, slots=True)
class BuiltFile:
    """One Parquet file: a run of the bucket's rows."""

    path: Path
    rows: int
    size_bytes: int
    min_event_ns: int
    max_event_ns: int
    max_sort_key_ns: int
    sha256: bytes
    tail_digest: bytes
    filter: ValueFilter | None = None


@dataclass(frozen=True, slots=True)
class BuildResult:
    """What came out. Files are in the order of their rows; there is none if there are no rows."""

    files: tuple[BuiltFile, ...]
    quarantined: tuple[tuple[str, str], ...]  # block id, why
    repaired_events: int

    def to_message(self) -> dict[str, Any]:
        return {
            "files": [
                {"name": file.path.name, "filter": file.filter and [list(file.filter.columns), file.filter.bits]}
                | {name: getattr(file, name) for name in (*_FILE_NUMBERS, *_FILE_DIGESTS)}
                for file in self.files
            ],
            "quarantined": [list(pair) for pair in self.quarantined],
            "repaired_events": self.repaired_events,
        }

    @classmethod
    def from_message(cls, message: Any, output: Path, block_ids: frozenset[str] | None = None) -> BuildResult:
        """A result that can be acted on: its files exist in ``output`` as they are described.

        Args:
            block_ids: If given, only these may be quarantined.
        Raises:
            InternalError: The worker sent anything else.
        """
        files = _list(_take(message, "files"), FILES_MAX)
        quarantined = _list(_take(message, "quarantined"), len(block_ids) if block_ids is not None else 1 << 24)
        result = cls(
            files=tuple(_believed_file(file, output) for file in files),
            quarantined=tuple(_believed_pair(pair, block_ids) for pair in quarantined),
            repaired_events=_integer(_take(message, "repaired_events"), 0),
        )
        if len({file.path for file in result.files}) < len(result.files):
            raise InternalError("a build worker named a file twice")
        if len({block_id for block_id, _ in result.quarantined}) < len(result.quarantined):
            raise InternalError("a build worker named a block twice")
        return result


_T = TypeVar("_T", Process, Stream, Block)
_GETTERS: Final = {kind: attrgetter(*(f.name for f in fields(kind))) for kind in (Process, Stream, Block)}
_DECODERS: Final[Mapping[str, Callable[[Any], Any]]] = {"tags": tuple, "properties": JsonProperties}
_FILE_DIGESTS: Final = {"sha256": SHA256_BYTES, "tail_digest": TAIL_DIGEST_BYTES}
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


def _believed_file(message: Any, output: Path) -> BuiltFile:
    name = _text(_take(message, "name"), 255)
    if not name or name in (".", "..") or any(c in name for c in "/\\\0"):
        raise InternalError("a build worker named a file outside its folder")
    path = output / name
    rows = _integer(_take(message, "rows"), 1)
    size_bytes = _integer(_take(message, "size_bytes"), 1)
    earliest, latest, sort_key = (_integer(_take(message, key), -_INT64_MAX - 1) for key in _FILE_NUMBERS[2:])
    if earliest > latest:
        raise InternalError("a build worker sent bounds that are reversed")
    try:
        found = path.lstat()
    except OSError as error:
        raise InternalError("a build worker named a file that is not there") from error
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1 or found.st_size != size_bytes:
        raise InternalError("a build worker named a file that is not as it says")
    sha256, tail_digest = (_digest(_take(message, key), size) for key, size in _FILE_DIGESTS.items())
    return BuiltFile(
        path, rows, size_bytes, earliest, latest, sort_key, sha256, tail_digest, _filter(_take(message, "filter"))
    )


def _filter(value: Any) -> ValueFilter | None:
    if value is None:
        return None
    pair = _list(value, 2)
    bits = pair[-1] if len(pair) == 2 else None
    if not isinstance(bits, bytes) or len(bits) > BITS_BYTES_MAX:
        raise InternalError("a build worker sent a filter without its bits")
    columns = tuple(_text(column, _UUID_CHARACTERS) for column in _list(pair[0], len(COLUMNS)))
    try:
        return ValueFilter(columns, bits)
    except ValueError as error:
        raise InternalError(f"a build worker sent {error}") from error


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


def _digest(value: Any, size: int) -> bytes:
    if not isinstance(value, bytes) or len(value) != size:
        raise InternalError(f"a build worker sent {type(value).__name__} where a digest was expected")
    return value


def _integer(value: Any, at_least: int) -> int:
    if type(value) is not int or not at_least <= value <= _INT64_MAX:
        raise InternalError(f"a build worker sent {type(value).__name__} where a whole number was expected")
    return value
