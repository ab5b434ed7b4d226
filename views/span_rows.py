"""How the blocks of a thread become its spans.

Blocks are taken in the order of their events, and split into chains wherever events may be missing between two of
them. Every chain makes one tree (``views.call_tree``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
import pyarrow as pa

from lakeflight.wire.errors import CorruptPayloadError
from lakeflight.wire.ticks import TickClock
from lakeflight.wire.transit.layout import StreamLayout
from lakeflight.wire.transit.spans import Scope, read_spans, scope_hash
from lakehouse.model import Block, thread_name
from lakehouse.ports import BucketSource
from views.call_tree import CallTree, Int32s, Int64s, SpanRows, UInt32s, gather, used_scopes
from views.columns import BATCH_ROWS, BlockReader, Decode, array_of, clock_of, dictionary_of

CHAIN_OBJECTS_MAX: Final = 20 << 20
"""A chain is cut when it is longer, between two blocks: its tree is held in memory."""

CALL_SITES_MAX: Final = 1 << 21
"""Distinct places, over all blocks of a bucket. Spans may be named at run time, so a program can make any number."""


def build_rows(source: BucketSource, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """One row per span of the bucket, parents before their children, ``begin`` never going back."""
    if not source.blocks:
        return
    process = source.process_of(source.blocks[0])
    stream = source.stream_of(source.blocks[0])
    try:
        clock = clock_of(process, source.timing_of(process))
    except CorruptPayloadError as error:
        for block in source.blocks:
            source.quarantine(block, error)
        return
    sites = CallSites(thread_name(stream.stream_id, stream.properties))
    batches = _Batches(sites, schema)
    reader = BlockReader(source)
    for chain in chains(source.blocks):
        tree = CallTree(
            clock.relative_ns(chain[0].begin_ticks),
            clock.relative_ns(chain[-1].end_ticks),
            sites.root,
            sum(block.claimed_objects for block in chain),
        )
        for block in chain:
            reader.read(block, _grower(tree, block, clock, sites))
        source.count_repaired(tree.repaired_events)
        for rows in tree.read(BATCH_ROWS):
            yield from batches.add(rows)
    yield from batches.finish()


def chains(blocks: Sequence[Block]) -> Iterator[list[Block]]:
    """Runs of blocks between which no event is missing, by what they claim: each begins before all before it ended."""
    chain: list[Block] = []
    latest_end = objects = 0
    for block in sorted(blocks, key=lambda b: (b.begin_ticks, b.end_ticks, b.insert_time_ns, b.block_id)):
        if chain and (block.begin_ticks > latest_end or objects + block.claimed_objects > CHAIN_OBJECTS_MAX):
            yield chain
            chain = []
        if not chain:
            latest_end, objects = block.end_ticks, 0
        chain.append(block)
        latest_end = max(latest_end, block.end_ticks)
        objects += block.claimed_objects
    if chain:
        yield chain


class CallSites:
    """Numbers for the places that spans come from.

    A place is what is said of it, and never its hash alone: among a million names some have one that another has too.
    """

    def __init__(self, root_name: str) -> None:
        self._numbers: dict[Scope, int] = {}
        self._positions: dict[str, int] = {}
        self.strings: Final[list[str]] = []
        self._hashes: list[int] = []
        self._lines: list[int] = []
        self._names: list[int] = []
        self._targets: list[int] = []
        self._files: list[int] = []
        self._tables: tuple[UInt32s, UInt32s, Int32s, Int32s, Int32s] | None = None
        self.root: Final = self._number(Scope(root_name, "", "", 0, scope_hash(root_name, "", "", 0)))

    def numbers(self, scopes: Sequence[Scope]) -> Int32s:
        """The number of each; unknown ones get the next.

        Raises:
            CorruptPayloadError: There would be more than ``CALL_SITES_MAX``.
        """
        if len(self._numbers) + len(scopes) > CALL_SITES_MAX and any(scope not in self._numbers for scope in scopes):
            raise CorruptPayloadError(f"a thread has spans of more than {CALL_SITES_MAX} places in one hour")
        return np.fromiter(map(self._number, scopes), np.int32, len(scopes))

    def _number(self, scope: Scope) -> int:
        number = self._numbers.get(scope)
        if number is None:
            number = self._numbers[scope] = len(self._numbers)
            self._names.append(self._position(scope.name))
            self._targets.append(self._position(scope.target))
            self._files.append(self._position(scope.file))
            self._hashes.append(scope.hash)
            self._lines.append(scope.line)
            self._tables = None
        return number

    def _position(self, text: str) -> int:
        position = self._positions.setdefault(text, len(self.strings))
        if position == len(self.strings):
            self.strings.append(text)
        return position

    @property
    def tables(self) -> tuple[UInt32s, UInt32s, Int32s, Int32s, Int32s]:
        """By number: hash, line, and positions in ``strings`` of name, target and file."""
        if self._tables is None:
            self._tables = (
                np.array(self._hashes, np.uint32),
                np.array(self._lines, np.uint32),
                np.array(self._names, np.int32),
                np.array(self._targets, np.int32),
                np.array(self._files, np.int32),
            )
        return self._tables


def _grower(tree: CallTree, block: Block, clock: TickClock, sites: CallSites) -> Decode[bool]:
    def grow(layout: StreamLayout, dependencies: bytes, objects: bytes) -> bool:
        events = read_spans(layout, dependencies, objects)
        numbers = sites.numbers(events.scopes)
        times = clock.absolute_ns(events.ticks)
        tree.add(events.kind, times, events.index, events.scope, numbers, block.object_offset)
        return True

    return grow


class _Batches:
    """Rows of trees in, batches of a good size out."""

    def __init__(self, sites: CallSites, schema: pa.Schema) -> None:
        self._sites = sites
        self._schema = schema
        self._parts: list[SpanRows] = []
        self._rows = 0

    def add(self, rows: SpanRows) -> Iterator[pa.RecordBatch]:
        if self._rows + rows.id.size > BATCH_ROWS and self._rows >= BATCH_ROWS // 2:
            yield from self.finish()
        self._parts.append(rows)
        self._rows += rows.id.size
        if self._rows >= BATCH_ROWS:
            yield from self.finish()

    def finish(self) -> Iterator[pa.RecordBatch]:
        if self._rows == 0:
            return
        rows = self._parts[0] if len(self._parts) == 1 else SpanRows.concatenate(self._parts)
        self._parts, self._rows = [], 0
        hashes, lines, names, targets, files = self._sites.tables
        strings = self._sites.strings
        used = used_scopes(rows.scope, hashes.size)
        columns = {
            "id": rows.id,
            "parent": rows.parent,
            "depth": rows.depth,
            "hash": gather(hashes, rows.scope),
            "begin": rows.begin,
            "end": rows.end,
            "duration": rows.duration,
            "name": _texts(names, rows.scope, used, strings),
            "target": _texts(targets, rows.scope, used, strings),
            "filename": _texts(files, rows.scope, used, strings),
            "line": gather(lines, rows.scope),
        }
        arrays = [
            column if isinstance(column, pa.Array) else array_of(column, declared.type)
            for declared in self._schema
            for column in (columns[declared.name],)
        ]
        fields = [declared.with_type(array.type) for declared, array in zip(self._schema, arrays, strict=True)]
        yield pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))


def _texts(by_scope: Int32s, scopes: Int32s, used: Int64s, strings: Sequence[str]) -> pa.Array:
    """A string column whose dictionary holds only what its rows have."""
    used_strings, renumbered = np.unique(by_scope[used], return_inverse=True)
    codes = np.zeros(by_scope.size, np.int32)
    codes[used] = renumbered
    return dictionary_of(gather(codes, scopes), [strings[i] for i in used_strings.tolist()])
