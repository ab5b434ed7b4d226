"""One block is decoded for whoever asks, and nothing of it stays: no partition, no file, no object."""

from __future__ import annotations

import io
import json
import uuid

import pyarrow.parquet as pq
import pytest

from lakehouse.buckets import single_block
from lakehouse.buckets.sharing import Allowance, Progress
from lakehouse.errors import CorruptBlockError, LimitExceededError, QueryError, UnknownViewError
from lakehouse.model import EVERYTHING, TimeRange
from tests.support.materializer_lake import Lake
from tests.support.programs import START_NS, Program
from views.parse_block import ParseBlock

HOUR_NS = 3_600_000_000_000


def allowance(bytes_max: int = 1 << 20) -> Allowance:
    return Allowance(bytes_max, 1, Progress())


async def sent(lake: Lake) -> str:
    program = Program()
    (block_id,) = await lake.send([*program.registration(), program.log_block()])
    return block_id


async def test_a_block_is_a_file_of_its_objects_and_leaves_nothing(lake: Lake) -> None:
    block_id = await sent(lake)
    before = await lake.object_keys()

    file = await lake.materializer().decode_block(ParseBlock(), block_id, TimeRange(START_NS, None), allowance())

    assert file is not None
    rows = pq.read_table(io.BytesIO(file)).to_pylist()
    assert [row["object_index"] for row in rows] == list(range(len(rows)))
    assert [json.loads(row["value"])["msg"] for row in rows] == [f"line {number}" for number in range(len(rows))]
    assert (await lake.object_keys(), await lake.instances(), list(lake.scratch.iterdir())) == (before, 0, [])


async def test_what_is_not_there_or_not_in_the_range_is_not_found(lake: Lake) -> None:
    block_id, other = await sent(lake), str(uuid.uuid4())
    materializer = lake.materializer()

    with pytest.raises(UnknownViewError, match=f"block {other} not found$"):
        await materializer.decode_block(ParseBlock(), other, EVERYTHING, allowance())
    with pytest.raises(UnknownViewError, match=r"not found between … and 1970-.*ask for a wider time range"):
        await materializer.decode_block(ParseBlock(), block_id, TimeRange(None, HOUR_NS), allowance())
    assert lake.builder.sizes == []


async def test_a_format_without_a_decoder_is_named_with_those_that_have_one(lake: Lake) -> None:
    block_id, view = await sent(lake), ParseBlock()
    object.__setattr__(view, "formats", ("otlp/v1/logs", "otlp/v1/traces"))

    refused = "has the format 'micromegas-transit', which has no decoder; known formats: otlp/v1/logs, otlp/v1/traces"
    with pytest.raises(QueryError, match=refused):
        await lake.materializer().decode_block(view, block_id, EVERYTHING, allowance())


async def test_a_block_that_kills_its_decoder_is_named(lake: Lake) -> None:
    block_id = await sent(lake)
    lake.builder.hostile.add(block_id)

    with pytest.raises(CorruptBlockError, match=f"block {block_id} cannot be decoded: its decoder died"):
        await lake.materializer().decode_block(ParseBlock(), block_id, EVERYTHING, allowance())
    assert list(lake.scratch.iterdir()) == []


async def test_what_is_too_much_for_a_statement_is_refused(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    block_id = await sent(lake)
    materializer = lake.materializer()

    with pytest.raises(LimitExceededError, match="more than 10 bytes of blocks of parse_block"):
        await materializer.decode_block(ParseBlock(), block_id, EVERYTHING, allowance(10))
    monkeypatch.setattr(single_block, "FILE_BYTES_MAX", 100)
    with pytest.raises(LimitExceededError, match=f"the objects of block {block_id} take .* the limit is 100"):
        await materializer.decode_block(ParseBlock(), block_id, EVERYTHING, allowance())
    assert list(lake.scratch.iterdir()) == []
