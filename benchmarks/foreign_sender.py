"""Ingestion by a sender that is not Python: a small Go program that costs next to nothing beside the server.

Where there is no Go there are no such lines.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from benchmarks.figures import Figure
from benchmarks.measure import median, percentile
from benchmarks.serving import Sender, Server
from benchmarks.sizes import Size
from benchmarks.workload import block_of, block_request, thread_of_nothing

SOURCE: Final = Path(__file__).resolve().parents[1] / "tests" / "clients" / "sender"
CONNECTIONS: Final = (4, 16, 64)
BLOCK_BYTES: Final = 20_000
LARGE_BLOCK_BYTES: Final = 2_000_000
LARGE_CONNECTIONS: Final = 4
_BUILD_S: Final = 300


@dataclass(frozen=True, slots=True)
class Sent:
    """What the program said of one run."""

    seconds: float
    milliseconds: tuple[float, ...]
    statuses: dict[str, int]


def build(folder: Path) -> Path | None:
    """The compiled program; ``None`` where there is no Go."""
    if shutil.which("go") is None:
        return None
    program = folder / "sender"
    subprocess.run(["go", "build", "-o", program, "."], cwd=SOURCE, check=True, timeout=_BUILD_S)
    return program


def send(program: Path, http: str, connections: int, path: str, bodies: Iterable[bytes], folder: Path) -> Sent:
    """Have ``bodies`` sent, each once.

    Raises:
        RuntimeError: A connection broke.
    """
    file = folder / f"bodies-{uuid.uuid4().hex}"
    with file.open("wb") as output:
        for body in bodies:
            output.write(len(body).to_bytes(4, "little") + body)
    address = urlsplit(http).netloc
    try:
        ran = subprocess.run(
            [program, address, path, str(connections), file], capture_output=True, text=True, timeout=_BUILD_S
        )
    finally:
        file.unlink()
    if ran.returncode:
        raise RuntimeError(ran.stderr)
    told = json.loads(ran.stdout)
    return Sent(told["seconds"], tuple(told["milliseconds"]), told["statuses"])


def measure(server: Server, size: Size, folder: Path) -> list[Figure]:
    """Acknowledged blocks at several numbers of connections, and megabytes of large blocks."""
    program = build(folder)
    if program is None:
        return []
    telemetry = thread_of_nothing()
    Sender(server).send_all(telemetry.requests())

    def run(payload_bytes: int, blocks: int, connections: int) -> Sent:
        template = block_of(telemetry.process, telemetry.streams[0], payload_bytes)
        requests = [block_request(replace(template, block_id=str(uuid.uuid4()))) for _ in range(blocks)]
        sent = send(program, server.http, connections, requests[0].path, (body for _, body in requests), folder)
        if sent.statuses != {"200": blocks}:
            raise RuntimeError(f"{blocks} blocks were sent, the answers are {sent.statuses}")
        return sent

    rates: dict[int, list[float]] = {connections: [] for connections in CONNECTIONS}
    p99s: dict[int, list[float]] = {connections: [] for connections in CONNECTIONS}
    large: list[float] = []
    large_bytes = len(block_of(telemetry.process, telemetry.streams[0], LARGE_BLOCK_BYTES).payload)
    for number in range(size.ingest_rounds):
        for connections in sorted(CONNECTIONS, reverse=bool(number % 2)):
            sent = run(BLOCK_BYTES, size.ingest_blocks, connections)
            rates[connections].append(size.ingest_blocks / sent.seconds)
            p99s[connections].append(percentile(sent.milliseconds, 99))
        blocks = max(LARGE_CONNECTIONS, size.ingest_blocks // 50)
        large.append(blocks * large_bytes / 1e6 / run(LARGE_BLOCK_BYTES, blocks, LARGE_CONNECTIONS).seconds)
    series = tuple(median(rates[connections]) for connections in CONNECTIONS)
    latencies = tuple(median(p99s[connections]) for connections in CONNECTIONS)
    named = " → ".join(map(str, CONNECTIONS))
    return [
        Figure(
            "ingest_go_blocks_per_s",
            f"blocks of {BLOCK_BYTES // 1000} kB from a Go program, {named} connections",
            series[-1],
            "/s",
            series=series,
        ),
        Figure("ingest_go_p99_ms", "the same, 99th percentile of latency", latencies[-1], "ms", series=latencies),
        Figure(
            "ingest_go_large_mb_per_s",
            f"blocks of {large_bytes / 1e6:.1f} MB from it, {LARGE_CONNECTIONS} connections",
            median(large),
            "MB/s",
            (min(large), max(large)),
        ),
    ]
