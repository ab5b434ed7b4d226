"""How the blocks of a network trace become its spans.

Blocks are taken in the order of their events, and split into chains as those of a thread are (``views.span_rows``). What is
open at the end of a chain has no row. A block that cannot be decoded ends its chain too: what was open may have ended in
it, and pairing across it would make spans that never were.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import numpy as np
import pyarrow as pa

from lakeflight.wire.errors import CorruptPayloadError
from lakeflight.wire.ticks import TickClock
from lakeflight.wire.transit import kernels
from lakeflight.wire.transit.columns import Codes
from lakeflight.wire.transit.layout import StreamLayout
from lakeflight.wire.transit.net import CONNECTION_BEGIN, OBJECT_BEGIN, PROPERTY, RPC_BEGIN, read_net_events
from lakehouse.model import Block, StreamId
from lakehouse.ports import BucketSource
from views import net_tree
from views.columns import BlockReader, Column, Decode, RowCollector, clock_of
from views.net_tree import Int64s, NetTree
from views.span_rows import chains

NAMES_MAX: Final = 1 << 21
"""Distinct, over all blocks of a bucket."""

_KINDS: Final[Mapping[int, str]] = {
    CONNECTION_BEGIN: "connection",
    OBJECT_BEGIN: "object",
    RPC_BEGIN: "rpc",
    PROPERTY: "property",
}
_KIND_NAMES: Final = list(_KINDS.values())
_KIND_CODES: Final = np.zeros(max(_KINDS) + 1, np.int32)
_KIND_CODES[list(_KINDS)] = range(len(_KINDS))


def build_rows(source: BucketSource, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """One row per span of the bucket that ended, of one stream after the other."""
    if not source.blocks:
        return
    process = source.process_of(source.blocks[0])
    try:
        clock = clock_of(process, source.timing_of(process))
    except CorruptPayloadError as error:
        for block in source.blocks:
            source.quarantine(block, error)
        return
    streams: dict[StreamId, list[Block]] = {}
    for block in source.blocks:
        streams.setdefault(block.stream_id, []).append(block)
    names, reader, rows = _Names(), BlockReader(source), RowCollector(schema)
    for stream_id, blocks in streams.items():
        ids: dict[str, Column] = {"process_id": process.process_id, "stream_id": stream_id}
        for chain in chains(blocks):
            tree = NetTree()
            for block in chain:
                ended = reader.read(block, _grower(tree, block, clock, names))
                if ended is None:
                    tree = NetTree()
                else:
                    yield from rows.add(ended.shape[1], {**ids, **_columns(ended, names)})
    yield from rows.finish()


def _grower(tree: NetTree, block: Block, clock: TickClock, names: _Names) -> Decode[Int64s]:
    def grow(layout: StreamLayout, dependencies: bytes, objects: bytes) -> Int64s:
        events = read_net_events(layout, dependencies, objects)
        return tree.add(
            events.action,
            clock.absolute_ns(events.ticks),
            events.index + block.object_offset,
            names.numbers(events.names)[events.name],
            events.number,
        )

    return grow


class _Names:
    """Numbers for the names of a bucket. The first is the empty one, for what belongs to no connection."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {"": net_tree.NO_NAME}
        self.texts: Final[list[str]] = [""]

    def numbers(self, names: list[str]) -> Int64s:
        """The number of each; unknown ones get the next. Behind them stands that of no name, which index -1 means.

        Raises:
            CorruptPayloadError: There would be more than ``NAMES_MAX``.
        """
        for name in names:
            if name not in self._numbers:
                if len(self.texts) >= NAMES_MAX:
                    raise CorruptPayloadError(
                        f"a process has more than {NAMES_MAX} names in its network trace of one hour"
                    )
                self._numbers[name] = len(self.texts)
                self.texts.append(name)
        return np.array([*map(self._numbers.__getitem__, names), net_tree.NO_NAME], np.int64)

    def column(self, numbers: Int64s) -> Codes:
        used, codes = np.empty(len(self.texts), np.int32), np.empty(len(numbers), np.int32)
        count = kernels.renumber(numbers.astype(np.int32), np.empty_like(used), used, codes)
        return Codes(codes, [self.texts[number] for number in used[:count].tolist()])


def _columns(ended: Int64s, names: _Names) -> dict[str, Column]:
    begin_bits, bits = ended[net_tree.BEGIN_BITS], ended[net_tree.BITS]
    return {
        "span_id": ended[net_tree.ID],
        "parent_span_id": ended[net_tree.PARENT],
        "depth": ended[net_tree.DEPTH].astype(np.uint32),
        "kind": Codes(_KIND_CODES[ended[net_tree.KIND]], _KIND_NAMES),
        "name": names.column(ended[net_tree.NAME]),
        "connection_name": names.column(ended[net_tree.CONNECTION]),
        "is_outgoing": pa.array(ended[net_tree.OUTGOING].astype(np.bool_)),
        "begin_bits": begin_bits,
        "end_bits": begin_bits + bits,
        "bit_size": bits,
        "begin_time": ended[net_tree.BEGIN_TIME],
        "end_time": ended[net_tree.END_TIME],
    }
