"""Partition files that are lost or damaged are noticed before they are used, or when the engine stumbles, and made again."""

from __future__ import annotations

import asyncio
import hashlib
import os
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from lakehouse.buckets.materialize import Freshened
from lakehouse.errors import BackendUnavailableError
from lakehouse.model import EVERYTHING
from tests.support.damage import DAMAGES, damage_inside
from tests.support.materializer_lake import Lake, view_of
from tests.support.programs import Program

LOGS, SPANS = view_of("log_entries"), view_of("thread_spans")
KINDS = pytest.mark.parametrize("kind", DAMAGES)


def noise(number: int) -> str:
    """Text that does not compress: so that a file is longer than what is looked at of every file."""
    return hashlib.sha256(str(number).encode()).hexdigest()


def files_of(tmp_path: Path, fresh: Freshened) -> list[Path]:
    return [tmp_path / "store" / partition.key for partition in fresh.partitions]


@KINDS
@pytest.mark.parametrize("bucket", ["open", "sealed"])
async def test_a_damaged_file_is_made_again_and_the_answer_is_right(
    lake: Lake, tmp_path: Path, kind: str, bucket: str
) -> None:
    program, other = Program(), Program()
    materializer = lake.materializer()
    blocks = await lake.send([*program.registration(), program.log_block()])
    await materializer.ensure(LOGS, program.process_id, EVERYTHING)
    blocks += await lake.send([program.log_block(5)])
    await lake.send([*other.registration(), *other.registration(), other.log_block(5)])
    if bucket == "sealed":
        await lake.age(blocks)
    before = (await lake.local(materializer, LOGS, program.process_id)).fresh
    strange = (await lake.local(materializer, LOGS, other.process_id)).fresh
    await lake.catalog.seal_buckets()

    DAMAGES[kind](files_of(tmp_path, before)[-1], files_of(tmp_path, strange)[0])
    with capture_logs() as logs:
        after = (await lake.local(materializer, LOGS, program.process_id)).fresh

    assert await lake.messages(after) == sorted(f"line {number}" for number in range(8))
    assert not {partition.key for partition in after.partitions} & {partition.key for partition in before.partitions}
    assert [entry["keys"] for entry in logs if entry["event"] == "partition.lost"] == [[before.partitions[-1].key]]
    again = (await lake.local(lake.materializer(), LOGS, program.process_id)).fresh
    assert again == after


@KINDS
async def test_a_damaged_file_of_chains_is_made_again(lake: Lake, tmp_path: Path, kind: str) -> None:
    program, other = Program(), Program()
    for each, blocks in ((program, 1), (other, 2)):
        await lake.send([*each.registration(), *(each.thread_block() for _ in range(blocks))])
    before, strange = [
        (await lake.local(lake.materializer(), SPANS, each.thread_stream)).fresh for each in (program, other)
    ]

    DAMAGES[kind](files_of(tmp_path, before)[0], files_of(tmp_path, strange)[0])
    after = (await lake.local(lake.materializer(), SPANS, program.thread_stream)).fresh

    assert [partition.rows for partition in after.partitions] == [partition.rows for partition in before.partitions]
    assert [file.read_bytes() for file in files_of(tmp_path, after)] != []
    assert after.partitions[0].tail_digest == before.partitions[0].tail_digest


async def test_damage_inside_a_file_is_found_by_comparing_all_of_it(lake: Lake, tmp_path: Path) -> None:
    program = Program()
    materializer = lake.materializer()
    await lake.send([*program.registration(), program.log_block(4000, noise)])
    await materializer.ensure(LOGS, program.process_id, EVERYTHING)
    await lake.send([program.log_block(4000, noise)])
    before = (await lake.local(materializer, LOGS, program.process_id)).fresh
    keys = [partition.key for partition in before.partitions]
    assert await materializer.find_damaged(keys) == []
    damage_inside(files_of(tmp_path, before)[1])

    assert await materializer.find_damaged([*keys, "unknown"]) == [keys[1]]
    after = (await lake.local(materializer, LOGS, program.process_id)).fresh

    assert await lake.messages(after) == sorted(map(noise, range(8000)))
    assert await materializer.find_damaged([partition.key for partition in after.partitions]) == []


@pytest.mark.parametrize("blocks", ["there", "gone"])
async def test_a_sound_file_of_which_no_digest_was_kept_is_used_on_when_the_engine_stumbles(
    lake: Lake, blocks: str
) -> None:
    """It was written by an older version; to make it again may lose rows, and to blame it loses its use."""
    program = Program()
    materializer = lake.materializer()
    (block,) = await lake.send([*program.registration(), program.log_block()])
    await lake.local(materializer, LOGS, program.process_id)
    await lake.forget_digests()
    before = (await lake.local(materializer, LOGS, program.process_id)).fresh
    if blocks == "gone":
        await lake.remove_block(block)

    assert await materializer.find_damaged([before.partitions[0].key]) == []
    assert await materializer.find_damaged_ends([before.partitions[0].key]) == []

    assert (await lake.local(materializer, LOGS, program.process_id)).fresh == before


async def test_a_file_of_which_no_digest_was_kept_is_made_again_if_its_footer_cannot_be_read(
    lake: Lake, tmp_path: Path
) -> None:
    program = Program()
    materializer = lake.materializer()
    await lake.send([*program.registration(), program.log_block()])
    await lake.local(materializer, LOGS, program.process_id)
    await lake.forget_digests()
    before = (await lake.local(materializer, LOGS, program.process_id)).fresh
    (file,) = files_of(tmp_path, before)
    DAMAGES["a damaged footer"](file, file)

    assert await materializer.find_damaged([before.partitions[0].key]) == [before.partitions[0].key]
    after = (await lake.local(materializer, LOGS, program.process_id)).fresh

    assert after.partitions[0].key != before.partitions[0].key
    assert await materializer.find_damaged([after.partitions[0].key]) == []


async def test_a_file_that_an_operator_restores_is_used_again(lake: Lake, tmp_path: Path) -> None:
    program = Program()
    materializer = lake.materializer()
    (block,) = await lake.send([*program.registration(), program.log_block(4000, noise)])
    before = (await lake.local(materializer, LOGS, program.process_id)).fresh
    (file,) = files_of(tmp_path, before)
    backup = file.read_bytes()
    await lake.remove_block(block)
    damage_inside(file)
    assert await materializer.find_damaged([before.partitions[0].key])
    with pytest.raises(BackendUnavailableError, match="restore the files from a backup"):
        await lake.local(materializer, LOGS, program.process_id)

    file.write_bytes(backup)
    os.utime(file)
    after = (await lake.local(materializer, LOGS, program.process_id)).fresh

    assert after == before


async def test_many_who_stumble_at_once_make_it_again_once(lake: Lake, tmp_path: Path) -> None:
    program = Program()
    materializers = [lake.materializer(), lake.materializer()]
    await lake.send([*program.registration(), program.log_block(4000, noise)])
    before = (await lake.local(materializers[0], LOGS, program.process_id)).fresh
    damage_inside(files_of(tmp_path, before)[0])
    keys = [partition.key for partition in before.partitions]

    async def stumble(number: int) -> Freshened:
        materializer = materializers[number % 2]
        assert await materializer.find_damaged(keys) == keys
        return (await lake.local(materializer, LOGS, program.process_id)).fresh

    answers = await asyncio.gather(*(stumble(number) for number in range(6)))

    assert len(set(answers)) == 1
    assert lake.builder.sizes == [1, 1]
