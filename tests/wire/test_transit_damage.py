"""Damaged blocks: the verdict and the rows of the plain decoder, and never a crash.

Damage is seeded, so that a failure names the seed that shows it again.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import cbor2
import pytest

from lakeflight.wire.errors import CorruptPayloadError
from lakeflight.wire.transit.async_spans import read_async_spans
from lakeflight.wire.transit.columns import Codes
from lakeflight.wire.transit.images import read_images
from lakeflight.wire.transit.layout import compile_layout
from lakeflight.wire.transit.logs import read_logs
from lakeflight.wire.transit.metrics import read_metrics
from lakeflight.wire.transit.net import read_net_events
from lakeflight.wire.transit.spans import read_spans
from tests.support import reference_transit as reference
from tests.support.blocks import (
    LOG_DEPENDENCIES,
    LOG_OBJECTS,
    LOG_TABLES,
    METRIC_DEPENDENCIES,
    METRIC_OBJECTS,
    METRIC_TABLES,
    SPAN_DEPENDENCIES,
    SPAN_OBJECTS,
    SPAN_TABLES,
    recorded_blocks,
)
from tests.support.fixtures import ROOT, native_cases
from tests.support.rare_blocks import (
    CONNECTION,
    CONNECTION_END,
    IMAGE_TYPES,
    NET_TYPES,
    OBJECT,
    OBJECT_END,
    OTHER,
    PROPERTY,
    RPC,
    RPC_END,
    Image,
    NetEvent,
    image_block,
    net_block,
)

Parts = tuple[bytes, bytes, bytes, bytes]  # both type tables, both buffers
NET = net_block(
    [
        NetEvent(CONNECTION, 1, "127.0.0.1:7777", 1),
        NetEvent(OBJECT, 2, "Hero"),
        NetEvent(PROPERTY, 3, "Health", 8),
        NetEvent(OTHER, 3),
        NetEvent(OBJECT_END, 4, number=32),
        NetEvent(RPC, 5, "Jump"),
        NetEvent(RPC_END, 6, number=64),
        NetEvent(CONNECTION_END, 7, number=100),
    ]
)
IMAGES = image_block(
    [
        Image(42, b"heatmap", b"png", b"\x89PNG"),
        Image(43, "Größe".encode("utf-16-le"), "jpg".encode("utf-16-le"), b"", 1),
        Image(44, b"\xff?", b"png", b"12345"),
    ]
)
BLOCKS: dict[str, Parts] = {
    "log": (*LOG_TABLES, LOG_DEPENDENCIES, LOG_OBJECTS),
    "metrics": (*METRIC_TABLES, METRIC_DEPENDENCIES, METRIC_OBJECTS),
    "cpu": (*SPAN_TABLES, SPAN_DEPENDENCIES, SPAN_OBJECTS),
    "async": (*SPAN_TABLES, SPAN_DEPENDENCIES, SPAN_OBJECTS),
    "net": (NET_TYPES.dependencies_metadata, NET_TYPES.objects_metadata, NET.dependencies, NET.objects),
    "image": (IMAGE_TYPES.dependencies_metadata, IMAGE_TYPES.objects_metadata, NET.dependencies, IMAGES.objects),
}
NET_TYPE_OF = {action: NET_TYPES.objects[index].name for action, index in enumerate((0, 2, 5, 1, 3, 6, 4), 1)}
STREAM_OF = {"async": "cpu"}
every_kind = pytest.mark.parametrize("kind", BLOCKS)


def texts(column: Codes) -> list[str]:
    return [column.values[code] for code in column.codes.tolist()]


def net_rows(*parts: bytes) -> list[Any]:
    net = read_net_events(compile_layout(*parts[:2]), *parts[2:])
    names = [None if code < 0 else net.names[code] for code in net.name.tolist()]
    actions = [NET_TYPE_OF[action] for action in net.action.tolist()]
    return list(zip(actions, net.ticks.tolist(), net.index.tolist(), names, net.number.tolist(), strict=True))


def ours(kind: str, parts: Parts) -> list[Any] | None:
    """Rows in the form of the plain decoder; None for a block that is corrupt."""
    try:
        layout = compile_layout(*parts[:2])
        if kind == "log":
            log = read_logs(layout, *parts[2:])
            columns = (log.ticks.tolist(), log.level.tolist(), texts(log.target), log.msg.to_pylist())
            return list(zip(*columns, texts(log.properties), strict=True))
        if kind == "metrics":
            metric = read_metrics(layout, *parts[2:])
            names = (texts(metric.name), texts(metric.unit), texts(metric.target), texts(metric.properties))
            return list(zip(metric.ticks.tolist(), metric.integer.tolist(), metric.raw.tolist(), *names, strict=True))
        if kind == "net":
            return net_rows(*parts)
        if kind == "image":
            image = read_images(layout, *parts[2:])
            assert [len(data) for data in image.data.to_pylist()] == image.size.tolist()
            columns = (image.ticks.tolist(), image.name.to_pylist(), texts(image.format), image.data.to_pylist())
            return list(zip(*columns, strict=True))
        if kind == "async":
            event = read_async_spans(layout, *parts[2:])
            scopes = [(scope.name, scope.file, scope.target, scope.line) for scope in event.scopes]
            numbers = (event.kind, event.ticks, event.span_id, event.parent_span_id, event.depth)
            places = [scopes[code] for code in event.scope.tolist()]
            return list(zip(*(column.tolist() for column in numbers), places, strict=True))
        span = read_spans(layout, *parts[2:])
        scopes = [(scope.name, scope.file, scope.target, scope.line) for scope in span.scopes]
        places = [scopes[code] for code in span.scope.tolist()]
        return list(zip(span.kind.tolist(), span.ticks.tolist(), span.index.tolist(), places, strict=True))
    except CorruptPayloadError as corrupt:
        assert str(corrupt)
        return None


def theirs(kind: str, parts: Parts) -> list[Any] | None:
    try:
        objects = reference.decode(*parts)
        if kind == "log":
            return [(row[0], row[1] - (row[1] >> 31 << 32), *row[2:]) for row in reference.log_rows(objects)]
        if kind == "metrics":
            return [(*row[:2], reference.bits(row[2]), *row[3:]) for row in reference.metric_rows(objects)]
        if kind == "net":
            return list(reference.net_rows(objects))
        if kind == "image":
            return list(reference.image_rows(objects))
        if kind == "async":
            return list(reference.async_rows(objects))
        return list(reference.span_rows(objects))
    except reference.Corrupt:
        return None


def damaged(data: bytes, chance: random.Random) -> bytes:
    """A few bytes changed, or a piece cut out, doubled or moved."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 5))):
        if not changed:
            break
        at = chance.randrange(len(changed))
        match chance.randrange(6):
            case 0 | 1:
                changed[at] = chance.choice((0, 1, 2, 3, 4, 5, 7, 8, 0x7F, 0x80, 0xFF, chance.randrange(256)))
            case 2:
                changed[at] ^= 1 << chance.randrange(8)
            case 3:
                del changed[at : at + chance.randrange(1, 12)]
            case 4:
                changed[at:at] = changed[at : at + chance.randrange(1, 40)]
            case _:
                other = chance.randrange(len(changed))
                changed[at : at + 8] = changed[other : other + 8]
    return bytes(changed)


def damaged_table(metadata: bytes, chance: random.Random) -> bytes:
    """Sizes, offsets and flags changed, so that the table is still one."""
    types = cbor2.loads(metadata)
    for _ in range(chance.choice((1, 1, 2))):
        udt = chance.choice(types)
        numbers = (0, 1, 4, 7, 8, 9, 15, 16, 17, 24, 32, 40, 47, 48, 49, 1 << 20, 1 << 40, (1 << 64) - 1)
        if udt["members"] and chance.random() < 0.7:
            member = chance.choice(udt["members"])
            key = chance.choice(("offset", "offset", "size", "is_reference"))
            member[key] = not member[key] if key == "is_reference" else chance.choice(numbers)
        elif chance.random() < 0.2:
            udt["is_reference"] = not udt["is_reference"]
        else:
            udt["size"] = chance.choice(numbers)
    return cbor2.dumps(types)


@every_kind
def test_undamaged_blocks_are_read_alike(kind: str) -> None:
    assert ours(kind, BLOCKS[kind]) == theirs(kind, BLOCKS[kind]) != []


@every_kind
def test_every_cut_of_either_buffer_has_the_same_verdict(kind: str) -> None:
    tables, dependencies, objects = BLOCKS[kind][:2], BLOCKS[kind][2], BLOCKS[kind][3]
    cuts = [(dependencies[:length], objects) for length in range(len(dependencies))]
    cuts += [(dependencies, objects[:length]) for length in range(len(objects))]
    for cut in cuts:
        assert ours(kind, (*tables, *cut)) == theirs(kind, (*tables, *cut)), cut


@every_kind
@pytest.mark.parametrize("part", ["dependencies", "objects", "tables"])
def test_damage_has_the_same_verdict_and_rows(kind: str, part: str) -> None:
    survived = 0
    for seed in range(500):
        chance = random.Random(f"{kind} {part} {seed}")
        dependency_types, object_types, dependencies, objects = BLOCKS[kind]
        if part == "dependencies":
            dependencies = damaged(dependencies, chance)
        elif part == "objects":
            objects = damaged(objects, chance)
        elif chance.random() < 0.5:
            dependency_types = damaged_table(dependency_types, chance)
        else:
            object_types = damaged_table(object_types, chance)
        parts = dependency_types, object_types, dependencies, objects

        rows = ours(kind, parts)

        assert rows == theirs(kind, parts), f"seed {seed}"
        survived += rows is not None
    assert 20 < survived < 480, "damage should neither always be noticed nor never"


@every_kind
def test_damaged_recorded_blocks_have_the_same_verdict_and_rows(kind: str) -> None:
    blocks: list[Parts] = [
        (*block.metadata, block.dependencies, block.objects)
        for case in native_cases()
        if case.name.startswith("craft")
        for block in recorded_blocks(case, STREAM_OF.get(kind, kind))
        if 0 < len(block.objects) < 20_000
    ]
    if not blocks:
        pytest.skip("no recorded telemetry here")
    for seed in range(150):
        chance = random.Random(f"{kind} recorded {seed}")
        dependency_types, object_types, dependencies, objects = chance.choice(blocks)
        if chance.random() < 0.5:
            dependencies = damaged(dependencies, chance)
        else:
            objects = damaged(objects, chance)
        parts = dependency_types, object_types, dependencies, objects

        assert ours(kind, parts) == theirs(kind, parts), f"seed {seed}"


@every_kind
def test_random_bytes_are_read_alike(kind: str) -> None:
    chance = random.Random(f"{kind} random")
    for _ in range(200):
        noise = bytes(chance.choice((0, 0, 1, 2, 3, 8, chance.randrange(256))) for _ in range(chance.randrange(60)))
        tables, dependencies, objects = BLOCKS[kind][:2], BLOCKS[kind][2], BLOCKS[kind][3]
        assert ours(kind, (*tables, noise, objects)) == theirs(kind, (*tables, noise, objects)), noise
        assert ours(kind, (*tables, dependencies, noise)) == theirs(kind, (*tables, dependencies, noise)), noise


@pytest.mark.skipif(
    not os.environ.get("LAKEFLIGHT_SLOW_TESTS"), reason="compiles all kernels again (15 s): set LAKEFLIGHT_SLOW_TESTS"
)
def test_no_kernel_reads_or_writes_outside_of_its_arrays(tmp_path: Path) -> None:
    """The same damage once more with every index checked by numba, which raises IndexError."""
    environment = {
        **os.environ,
        "NUMBA_BOUNDSCHECK": "1",
        "NUMBA_CACHE_DIR": str(tmp_path),  # the cache does not tell checked code from unchecked
        "LAKEFLIGHT_SLOW_TESTS": "",
    }

    files = [str(Path(__file__).with_name(f"test_transit_{name}.py")) for name in ("damage", "events", "recorded")]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", *files], cwd=ROOT, env=environment, capture_output=True, text=True
    )

    assert done.returncode == 0, done.stdout[-3000:]
