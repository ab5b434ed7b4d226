"""What edge, zygote and workers say to each other: message kinds, their encoding, and the limits of both sides.

Between edge and worker runs a stream of messages: four bytes of length, little endian, then a CBOR array
``[kind, *fields]``. Between edge and zygote the same arrays are packets, beside which file descriptors travel. Every
message about a job carries the job's number; numbers are the edge's and never used twice on one connection.

The edge trusts no worker: ``decode`` accepts only the kinds the caller names, checks every field's type, refuses CBOR
tags and deep nesting. Whether a slot or an offset makes sense is for ``ring`` and ``jobs`` to say. No transport, no
clock and no policy here: another executor would speak these messages over something else.

    edge → query worker    Describe · Inspect · Run · Credit · Fetched · Cancel
    query worker → edge    Ready · Inspected · Frames · InRing · Fetch · Done · Failed
    edge → build worker    Build
    build worker → edge    Ready · Built · Failed
    edge → zygote          Spawn
    zygote → edge          Warm · Spawned · Exited
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, Final, NoReturn, get_type_hints

import cbor2

from lakeflight.wire.cbor import tags_refused_by

FRAME_BYTES_MAX: Final = 2 << 20  # of one FlightData: clients' receive limits start at 4 MiB
SLOT_BYTES: Final = 3 << 20  # a frame, its schema written before it, and room for the field headers
SLOTS: Final = 4  # two would do; more let the worker run ahead of a reader that hiccups
SLOT_HEADROOM: Final = 64  # free bytes before a message, where the FlightData field headers go
INLINE_BYTES_MAX: Final = 64 << 10  # a result up to this size travels in the messages themselves: one round trip
WIDE_FRAME_BYTES_MAX: Final = 64 << 20  # one row that is larger than a frame goes alone, in pieces, up to this
REQUEST_BYTES_MAX: Final = 128 << 20  # edge → worker: a bucket's blocks and the type tables of their streams
ANSWER_BYTES_MAX: Final = 8 << 20  # worker → edge: the schema of a wide table, or the result of a bucket
ERROR_TEXT_MAX: Final = 2_000  # characters of an error's sentence: it must fit into response headers
DETAIL_TEXT_MAX: Final = 8_000  # characters of a traceback for the log
NESTING_MAX: Final = 12  # a message is a list of fields, of which the deepest is a list of maps of lists

LENGTH: Final = struct.Struct("<I")


class ProtocolError(Exception):
    """The other side said something that this protocol does not have."""


@dataclass(frozen=True, slots=True)
class Describe:
    """What the catalog offers; sent before the first ``Inspect`` and whenever it changes."""

    catalog: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Inspect:
    """Parse, check and bind a statement; run nothing."""

    job: int
    sql: str
    parameters: bytes | None  # Arrow IPC stream with one batch of one row
    options: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Run:
    """Run a statement over the given relations and stream its frames."""

    job: int
    sql: str
    parameters: bytes | None
    relations: list[Any]
    options: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Credit:
    """A slot of the ring is the worker's again."""

    job: int
    slot: int


@dataclass(frozen=True, slots=True)
class Cancel:
    """Stop this job; the worker still answers it, with ``Done`` or ``Failed``."""

    job: int


@dataclass(frozen=True, slots=True)
class Build:
    """Materialize one bucket: localised payloads in, Parquet files in a scratch directory out."""

    job: int
    request: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Ready:
    """The worker's first words."""

    pid: int


@dataclass(frozen=True, slots=True)
class Inspected:
    job: int
    inspection: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Frames:
    """Small frames, whole; they come before any frame in the ring."""

    job: int
    frames: list[Any]


@dataclass(frozen=True, slots=True)
class InRing:
    """A frame, or a piece of one (``more``), at ``offset`` of the ring. The slot is the edge's until its ``Credit``."""

    job: int
    slot: int
    offset: int
    length: int
    more: bool


@dataclass(frozen=True, slots=True)
class Done:
    """The end of a stream, with the last small frames."""

    job: int
    frames: list[Any]
    rows: int


@dataclass(frozen=True, slots=True)
class Built:
    job: int
    result: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Failed:
    """``error`` names a class of ``lakehouse.errors``; ``detail`` is for the log alone."""

    job: int
    error: str
    message: str
    detail: str


@dataclass(frozen=True, slots=True)
class Fetch:
    """The statement needs the server's answers to a function for some rows of its arguments. One answer at a time."""

    job: int
    function: str
    rows: list[Any]


@dataclass(frozen=True, slots=True)
class Fetched:
    """Them, in order; files stay until the next ``Fetch``. Or an error, as of ``Failed``."""

    job: int
    answers: list[Any]
    error: str
    message: str


@dataclass(frozen=True, slots=True)
class Warm:
    """The zygote can fork. More than one thread would make that unsafe; an empty ``problem`` means all is well."""

    threads: int
    problem: str


@dataclass(frozen=True, slots=True)
class Spawn:
    """Fork a worker around the descriptors that come along: its end of the connection and, if it has one, its ring."""

    number: int


@dataclass(frozen=True, slots=True)
class Spawned:
    """A pidfd comes along: it cannot name another process later, as a pid can."""

    number: int
    pid: int


@dataclass(frozen=True, slots=True)
class Exited:
    """A worker is gone: its exit code, or minus the signal that killed it."""

    pid: int
    code: int


Message = (
    Describe | Inspect | Run | Credit | Cancel | Build | Ready | Inspected | Frames | InRing | Done | Built | Failed
    | Fetch | Fetched | Warm | Spawn | Spawned | Exited
)  # fmt: skip
_KINDS: Final[tuple[type[Any], ...]] = Message.__args__
_CODES: Final = {kind: code for code, kind in enumerate(_KINDS)}
_PLAIN: Final[dict[Any, Any]] = {
    int: int,
    str: str,
    bool: bool,
    bytes | None: bytes | None,
    list[Any]: list,
    dict[str, Any]: dict,
}
_FIELDS: Final = {kind: tuple((name, _PLAIN[hint]) for name, hint in get_type_hints(kind).items()) for kind in _KINDS}


def encode(message: Message) -> bytes:
    """The CBOR array of one message, without the length."""
    kind = type(message)
    return cbor2.dumps([_CODES[kind], *(getattr(message, field.name) for field in fields(kind))])


def pack(message: Message) -> bytes:
    """One message as it goes over a stream: length, then the array."""
    data = encode(message)
    return LENGTH.pack(len(data)) + data


def decode(data: bytes, expected: frozenset[type[Any]]) -> Any:
    """One message of the ``expected`` kinds, every field of the declared type.

    Raises:
        ProtocolError: Anything else.
    """
    try:
        items = cbor2.loads(
            data,
            **_TAGS_REFUSED,
            max_depth=NESTING_MAX,
            allow_indefinite=False,
            allow_duplicate_keys=False,
            strict_hashable_types=True,
        )
    except Exception as error:  # the decoder's own errors are many; all mean the same here
        raise ProtocolError(f"not a message: {error}") from error
    if type(items) is not list or not items or type(items[0]) is not int or not 0 <= items[0] < len(_KINDS):
        raise ProtocolError("not a message: no kind")
    kind = _KINDS[items[0]]
    if kind not in expected:
        raise ProtocolError(f"unexpected message {kind.__name__}")
    declared = _FIELDS[kind]
    if len(items) != len(declared) + 1:
        raise ProtocolError(f"{kind.__name__} has {len(items) - 1} fields, not {len(declared)}")
    for value, (name, type_) in zip(items[1:], declared, strict=True):
        if not isinstance(value, type_) or (isinstance(value, bool) and type_ is int):
            raise ProtocolError(f"{kind.__name__}.{name} is {type(value).__name__}")
    return kind(*items[1:])


class Splitter:
    """Cuts a byte stream into messages; refuses a length over ``limit_bytes`` before it waits for the bytes."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Add what has arrived; yields each message that is now whole, without its length."""
        buffer = self._buffer
        buffer += data
        start = 0
        while len(buffer) - start >= LENGTH.size:
            (length,) = LENGTH.unpack_from(buffer, start)
            if length > self._limit_bytes:
                raise ProtocolError(f"message of {length} bytes, the limit is {self._limit_bytes}")
            end = start + LENGTH.size + length
            if end > len(buffer):
                break
            message = bytes(memoryview(buffer)[start + LENGTH.size : end])
            start = end
            yield message
        if start:
            del buffer[:start]


def _refuse_tag(*_: object) -> NoReturn:
    raise ProtocolError("CBOR tags are not part of this protocol")


_TAGS_REFUSED: Final = tags_refused_by(_refuse_tag)
