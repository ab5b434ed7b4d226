"""The lake's values: frozen, checked where they are made, free of I/O.

Times are integers: nanoseconds since 1970, UTC (``_ns``), or microseconds where Postgres keeps them (``_us``).
Ids are lower-case hyphenated UUID text; ``lakeflight.wire.identifiers.canonical_uuid`` makes them so at the rim.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum, IntFlag
from typing import Final, NewType

ProcessId = NewType("ProcessId", str)
StreamId = NewType("StreamId", str)
BlockId = NewType("BlockId", str)
ViewSetName = NewType("ViewSetName", str)

GLOBAL_INSTANCE: Final = "global"
BUCKET_SECONDS: Final = 3600  # the insert-time hour: chains of thread spans end at its edges, so it can never change
DAY_SECONDS: Final = 24 * BUCKET_SECONDS  # the longest bucket: the hours of a closed day are merged into it
NS_PER_US: Final = 1_000
_ON_THIS_MACHINE: Final = ("ipv4:127.", "ipv6:[::1]:", "ipv6:%5B::1%5D:", "unix:")  # peers, as gRPC spells them


class JsonProperties(Mapping[str, str]):
    """Properties as Postgres keeps them and as they travel to a worker: JSON text, parsed when somebody looks.

    A sender may put 100 MiB into them, which parse for seconds. The event loop hands them on and never looks.
    """

    __slots__ = ("_parsed", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self._parsed: dict[str, str] | None = None

    @property
    def parsed(self) -> dict[str, str]:
        if self._parsed is None:
            self._parsed = json.loads(self.text)
        return self._parsed

    def __getitem__(self, name: str) -> str:
        return self.parsed[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.parsed)

    def __len__(self) -> int:
        return len(self.parsed)


@dataclass(frozen=True, slots=True)
class Process:
    """One run of an instrumented program, as its first registration described it."""

    process_id: ProcessId
    exe: str
    username: str
    realname: str
    computer: str
    distro: str
    cpu_brand: str
    tsc_frequency: int  # ticks per second; 0 = unknown
    start_time_ns: int  # whole microseconds, because Postgres keeps no more
    start_ticks: int
    insert_time_ns: int
    parent_process_id: ProcessId | None
    properties: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Stream:
    """An ordered sequence of blocks of one kind, with the type tables that decode them."""

    stream_id: StreamId
    process_id: ProcessId
    dependencies_metadata: bytes  # CBOR array of user-defined types
    objects_metadata: bytes
    tags: tuple[str, ...]
    properties: Mapping[str, str]
    format: str
    insert_time_ns: int


def thread_name(stream_id: str, properties: Mapping[str, str]) -> str:
    """What a thread is called, by its stream: its name, and what tells it from others of that name."""
    thread_id = properties.get("thread-id", stream_id)
    name = properties.get("thread-name")
    return thread_id if name is None else f"{name}-{thread_id}"


@dataclass(frozen=True, slots=True)
class Block:
    """The envelope of one payload. Native ticks are relative to the process's ``start_ticks``."""

    block_id: BlockId
    stream_id: StreamId
    process_id: ProcessId
    begin_time_ns: int
    begin_ticks: int
    end_time_ns: int
    end_ticks: int
    nb_objects: int
    object_offset: int
    payload_size: int
    insert_time_ns: int

    @property
    def claimed_objects(self) -> int:
        """How many objects it says it has, for counting and reserving. A sender may say anything; none is the least."""
        return max(self.nb_objects, 0)


@dataclass(frozen=True, slots=True)
class LastTiming:
    """The largest ``end_ticks`` and ``end_time`` of all blocks of one process: the estimate of an unknown clock."""

    end_ticks: int
    end_time_ns: int


@dataclass(frozen=True, slots=True, order=True)
class TimeRange:
    """Closed range of event time in nanoseconds; ``None`` is open on that side."""

    begin_ns: int | None = None
    end_ns: int | None = None

    def intersect(self, other: TimeRange) -> TimeRange:
        begins = [t for t in (self.begin_ns, other.begin_ns) if t is not None]
        ends = [t for t in (self.end_ns, other.end_ns) if t is not None]
        return TimeRange(max(begins, default=None), min(ends, default=None))

    def union(self, other: TimeRange) -> TimeRange:
        """The smallest range that covers both."""
        begin = None if self.begin_ns is None or other.begin_ns is None else min(self.begin_ns, other.begin_ns)
        end = None if self.end_ns is None or other.end_ns is None else max(self.end_ns, other.end_ns)
        return TimeRange(begin, end)

    @property
    def is_empty(self) -> bool:
        return self.begin_ns is not None and self.end_ns is not None and self.begin_ns > self.end_ns

    def spanned(self) -> TimeRange:
        """For rows that last: one that begins by ``end_ns`` and ends no sooner than ``begin_ns`` may do so although the
        range is empty. It then covers all that lies between the two."""
        return TimeRange(self.end_ns, self.begin_ns) if self.is_empty else self


EVERYTHING: Final = TimeRange()
NEVER: Final = TimeRange(1, 0)


@dataclass(frozen=True, slots=True, order=True)
class ViewKey:
    """One view instance: ``log_entries`` of ``global``, ``thread_spans`` of one stream."""

    view_set: str
    instance: str  # ``global`` or a UUID


class InstanceKind(Enum):
    """What an instance id names, other than ``global``."""

    PROCESS = "process"
    STREAM = "stream"


class BlockOrder(Enum):
    """How blocks must be taken, and what tells the time of their events."""

    INSERT_TIME = "insert_time"  # each stands alone, with a clock of its own: a bucket grows by deltas
    ONE_CLOCK = "one_clock"  # each stands alone, but an unknown clock is estimated from all blocks of the process
    EVENT_TIME = "event_time"  # in chains, one for each stream, by one clock

    @property
    def stands_alone(self) -> bool:
        return self is not BlockOrder.EVENT_TIME

    @property
    def shares_clock(self) -> bool:
        return self is not BlockOrder.INSERT_TIME


class KeyUse(Enum):
    """What an API key is for. No key is for both."""

    READER = "reader"  # asks, over Flight
    WRITER = "writer"  # sends, over HTTP and OTLP


class CallerKind(Enum):
    """How a caller was made out."""

    ANONYMOUS = "anonymous"  # everybody, where identities are not required
    KEY = "key"  # by an API key
    PERSON = "person"  # by a token of an issuer
    CERTIFICATE = "certificate"  # by the certificate of the connection
    OPERATOR = "operator"  # over a socket of the server's own user


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. Everybody is the same where identities are not required.

    ``name`` is the identity: whoever has the same name is the same caller, over all of their connections and to all servers;
    what belongs to one is never shown to another. ``connection`` is the one that it asks over: those of one identity take turns.
    """

    name: str = "anonymous"
    connection: str = field(default="", compare=False)
    kind: CallerKind = CallerKind.ANONYMOUS
    admin: bool = False  # said of this identity by whoever runs the server

    @property
    def is_admin(self) -> bool:
        """Whether they may administer the lake: who was said to, or without identities whoever calls from this machine."""
        return self.admin or (self.kind is CallerKind.ANONYMOUS and self.connection.startswith(_ON_THIS_MACHINE))


class Spelling(IntFlag):
    """How results differ from the engine's own types, for clients that ask for it or are known to need it."""

    PLAIN = 0
    JSONB = 1  # documents are JSONB bytes, and so are the properties of processes, streams and blocks
    DICTIONARIES = 2  # columns that the original keeps as dictionaries are such
    DOUBLES = 4  # decimals are doubles
    OFFSETS = 8  # the zone of times is called +00:00
    UNZONED = 16  # times have no zone, and are UTC all the same
    SHOWN = 64  # only types that dashboards have room for: the rest is text, days are times
    MILLISECONDS = 32  # parameters that are times are declared in milliseconds


@dataclass(frozen=True, slots=True)
class QueryOptions:
    """What a request's headers say beside its SQL."""

    query_id: str
    time_range: TimeRange = EVERYTHING
    row_limit: int | None = None
    strict: bool = False
    deadline_s: float | None = None
    spelling: Spelling = Spelling.PLAIN
    client: Mapping[str, str] = field(default_factory=dict)
