"""Rows of OTLP blocks, for every view that has some: many blocks are decoded at once, a damaged one is left out.

Knows no view set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakeflight.wire.compression import BLOCK_DECODED_BYTES_MAX
from lakeflight.wire.envelope import decode_payload
from lakeflight.wire.errors import CorruptPayloadError, MalformedRequestError
from lakehouse.model import Block
from lakehouse.ports import BucketSource
from views.columns import canonical_json, unreadable_format

if TYPE_CHECKING:
    from lakeflight.wire.otlp.records import Read, Rows

DECODED_BYTES: Final = 16 << 20
"""Payloads that are decoded together: enough that small blocks cost no more than large ones."""


def rows_by_format(
    source: BucketSource,
    schema: pa.Schema,
    otlp_format: str,
    read: Read,
    native: Callable[[Sequence[Block]], Iterator[pa.RecordBatch]] | None = None,
) -> Iterator[pa.RecordBatch]:
    """The rows of all blocks of a bucket: of those in one of OTLP's formats, behind those that ``native`` makes.

    Without ``native``, blocks of other formats are left out and said so.
    """
    of_otlp = [block for block in source.blocks if source.stream_of(block).format == otlp_format]
    if len(of_otlp) < len(source.blocks):
        others = [block for block in source.blocks if source.stream_of(block).format != otlp_format]
        if native is not None:
            yield from native(others)
        else:
            for block in others:
                source.quarantine(block, unreadable_format(source.stream_of(block)))
    if of_otlp:
        yield from otlp_rows(source, of_otlp, schema, read)


def otlp_rows(source: BucketSource, blocks: Sequence[Block], schema: pa.Schema, read: Read) -> Iterator[pa.RecordBatch]:
    """The rows of ``blocks``, whose records ``read`` makes, in their order.

    A time of a record that is not known is that of its block's begin.
    """
    for together, payloads in _groups(source, blocks):
        yield from _rows_of_group(source, together, payloads, schema, read)


def _groups(source: BucketSource, blocks: Sequence[Block]) -> Iterator[tuple[list[Block], list[bytes]]]:
    together: list[Block] = []
    payloads: list[bytes] = []
    size = 0
    for block in blocks:
        objects = payload_of(source, block)
        if objects is None:
            continue
        if together and size + len(objects) > DECODED_BYTES:
            yield together, payloads
            together, payloads, size = [], [], 0
        together.append(block)
        payloads.append(objects)
        size += len(objects)
    if together:
        yield together, payloads


def payload_of(source: BucketSource, block: Block) -> bytes | None:
    """The protobuf of a block, ``None`` if it is quarantined."""
    stored = source.payload(block)
    try:
        _, objects = decode_payload(stored)
        if len(objects) > BLOCK_DECODED_BYTES_MAX:
            raise CorruptPayloadError(f"the block has {len(objects)} bytes, the limit is {BLOCK_DECODED_BYTES_MAX}")
    except (CorruptPayloadError, MalformedRequestError) as error:
        source.quarantine(block, error)
        return None
    return objects


def _rows_of_group(
    source: BucketSource, blocks: list[Block], payloads: list[bytes], schema: pa.Schema, read: Read
) -> Iterator[pa.RecordBatch]:
    from lakeflight.wire.otlp.scan import DamagedBlocksError  # compiled kernels: only where blocks are decoded

    while blocks:
        try:
            records = read(payloads)
            of_blocks = _BlockColumns.of(source, blocks)
            for rows in records.rows:  # what is damaged is known before the first of them
                if rows.blocks.size:
                    yield _batch(rows, of_blocks, schema)
            if records.left_out:
                source.count_repaired(records.left_out)
            return
        except DamagedBlocksError as error:
            for ordinal, reason in error.reasons.items():
                source.quarantine(blocks[ordinal], reason)
            kept = [ordinal for ordinal in range(len(blocks)) if ordinal not in error.reasons]
            blocks, payloads = [blocks[ordinal] for ordinal in kept], [payloads[ordinal] for ordinal in kept]


@dataclass(frozen=True, slots=True)
class _BlockColumns:
    """What the records of a block have of it and of its process: a value for each block."""

    texts: dict[str, pa.DictionaryArray]
    insert_time: Any
    begin_time: Any

    @classmethod
    def of(cls, source: BucketSource, blocks: Sequence[Block]) -> _BlockColumns:
        processes = [source.process_of(block) for block in blocks]
        properties = {process.process_id: canonical_json(process.properties) for process in processes}
        texts = {
            "process_id": [process.process_id for process in processes],
            "stream_id": [block.stream_id for block in blocks],
            "block_id": [block.block_id for block in blocks],
            "exe": [process.exe for process in processes],
            "username": [process.username for process in processes],
            "computer": [process.computer for process in processes],
            "process_properties": [properties[process.process_id] for process in processes],
        }
        return cls(
            {name: pa.array(values, pa.string()).dictionary_encode() for name, values in texts.items()},
            np.array([block.insert_time_ns for block in blocks], np.int64),
            np.array([block.begin_ticks for block in blocks], np.int64),
        )


def _batch(rows: Rows, of_blocks: _BlockColumns, schema: pa.Schema) -> pa.RecordBatch:
    taken = pa.array(rows.blocks)
    arrays = []
    for declared in schema:
        if declared.name in of_blocks.texts:
            array = of_blocks.texts[declared.name].take(taken)
        elif declared.name == "insert_time":
            array = pa.array(of_blocks.insert_time[rows.blocks])
        else:
            array = rows.columns[declared.name]
        if declared.name == "time":
            array = pc.if_else(pc.equal(array, 0), pa.array(of_blocks.begin_time[rows.blocks]), array)
        if pa.types.is_timestamp(declared.type):
            array = array.view(declared.type)
        arrays.append(array)
    fields = [declared.with_type(array.type) for declared, array in zip(schema, arrays, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))
