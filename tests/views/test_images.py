"""Images: the bytes as they were sent, whatever they are, in rows of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakeflight.wire.transit.writer import EncodedBlock
from lakehouse.jobs.build import BuildResult
from tests.support.buckets import PROCESS_ID, START_TICKS, START_TIME_NS, Lake, add_block, add_stream, made_up_lake
from tests.support.rare_blocks import IMAGE_TYPES, Image, image_block
from tests.support.rows import read_files
from tests.support.sizes import size
from views.columns import BATCH_TEXT_BYTES_MAX
from views.images import SCHEMA, Images

STREAM = "dddddddd-0000-4000-8000-000000000001"
PNG = Image(START_TICKS + 5, b"heatmap", b"png", b"\x89PNG\r\n")


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    lake = made_up_lake(tmp_path)
    add_stream(lake, IMAGE_TYPES, STREAM)
    return lake


def build(lake: Lake) -> tuple[BuildResult, pa.Table]:
    result = lake.build(Images(), lake.job(Images(), PROCESS_ID))
    return result, read_files([file.path for file in result.files], SCHEMA)


def rows(table: pa.Table) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in table.select(["name", "format", "payload_size", "data"]).to_pylist()]


def test_an_image_is_a_row_with_where_it_came_from(lake: Lake) -> None:
    block = add_block(lake, STREAM, image_block([PNG]), begin_ticks=0, end_ticks=10)

    _, table = build(lake)

    assert rows(table) == [("heatmap", "png", 6, b"\x89PNG\r\n")]
    (row,) = table.select(["process_id", "stream_id", "block_id", "exe", "username", "computer"]).to_pylist()
    assert list(row.values()) == [PROCESS_ID, STREAM, block.block_id, "game.exe", "ann", "desk"]
    times = table.column("time").cast(pa.int64()).to_pylist(), table.column("insert_time").cast(pa.int64()).to_pylist()
    assert times == ([START_TIME_NS + 5], [block.insert_time_ns])


def test_names_may_be_in_any_codec_and_the_data_is_never_text(lake: Lake) -> None:
    wide = Image(START_TICKS, "Größe 🖼".encode("utf-16-le"), "jpg".encode("utf-16-le"), b"\xff\xfe\0", 1)
    broken = Image(START_TICKS, b"caf\xe9", b"", b"", 0)
    add_block(lake, STREAM, image_block([wide, broken, PNG, PNG]), begin_ticks=0, end_ticks=10)

    _, table = build(lake)

    assert rows(table) == [
        ("Größe 🖼", "jpg", 3, b"\xff\xfe\0"),
        ("caf\ufffd", "", 0, b""),
        ("heatmap", "png", 6, b"\x89PNG\r\n"),
        ("heatmap", "png", 6, b"\x89PNG\r\n"),
    ]


def test_large_images_share_no_more_than_a_batch(lake: Lake) -> None:
    large = Image(START_TICKS, b"map", b"raw", bytes(BATCH_TEXT_BYTES_MAX // 2))
    for _ in range(4):
        add_block(lake, STREAM, image_block([large]), begin_ticks=0, end_ticks=10)

    result, table = build(lake)

    assert table.num_rows == 4
    groups = [pq.ParquetFile(file.path).metadata.num_row_groups for file in result.files]
    assert sum(groups) == 2


def test_the_statistics_of_a_file_hold_no_image(lake: Lake) -> None:
    add_block(lake, STREAM, image_block([PNG._replace(data=bytes(100_000))]), begin_ticks=0, end_ticks=10)

    result, _ = build(lake)

    (file,) = result.files
    assert file.size_bytes < 10_000  # zeros, compressed; a footer with them in statistics would be as long as they are


def test_every_cut_of_a_block_is_decoded_or_quarantined(lake: Lake) -> None:
    sound = image_block([PNG])
    for length in range(len(sound.objects)):
        cut = EncodedBlock(b"", sound.objects[:length], 1)
        add_block(lake, STREAM, cut, begin_ticks=0, end_ticks=10)

    result, table = build(lake)

    assert len(result.quarantined) == len(sound.objects) - 1
    assert all("decoder failed" not in reason for _, reason in result.quarantined)
    assert table.num_rows == 0


@given(damage=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=4))
@settings(max_examples=size(60, 1000), deadline=None)
def test_damaged_bytes_give_rows_or_a_reason_and_nothing_else(
    damage: list[tuple[int, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    lake = made_up_lake(tmp_path_factory.mktemp("damage"))
    add_stream(lake, IMAGE_TYPES, STREAM)
    objects = bytearray(image_block([PNG, PNG]).objects)
    for position, value in damage:
        objects[position % len(objects)] = value
    add_block(lake, STREAM, EncodedBlock(b"", bytes(objects), 2), begin_ticks=0, end_ticks=100)

    result, table = build(lake)

    assert all("decoder failed" not in reason for _, reason in result.quarantined)
    assert table.num_rows in ((0,) if result.quarantined else (0, 1, 2))
