"""How long a server takes to start, and what it holds before anybody has asked it anything."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

from benchmarks.figures import Figure, at_most
from benchmarks.measure import median
from benchmarks.memory import look
from benchmarks.serving import Server, start
from benchmarks.sizes import Size

KERNELS: Final = "NUMBA_CACHE_DIR"  # the folder of compiled kernels


def measure(folder: Path, size: Size) -> tuple[list[Figure], Server]:
    """Start times and the memory of a server that nobody has asked anything; the last server stays."""
    figures: list[Figure] = []
    environment = {KERNELS: os.environ[KERNELS]} if KERNELS in os.environ else {}
    data_dir = folder / "lake"
    if size.compiles:
        first = start(data_dir, environment)
        first.stop()
        figures.append(
            Figure(
                "first_start_s",
                "first start on a machine: database made, kernels compiled",
                first.start_s,
                "s",
                targets=(at_most(first.start_s, 30, "30 s"),),
            )
        )
    times: list[float] = []
    idle: list[float] = []
    server: Server | None = None
    for _ in range(1 + size.later_starts):
        if server is not None:
            server.stop()
        server = start(data_dir, environment)
        times.append(server.start_s)
        time.sleep(size.settle_s)
        idle.append(look(server.pid)[1])
    assert server is not None
    later = times[1:] or times
    figures += [
        Figure(
            "later_start_s",
            "second and later starts",
            median(later),
            "s",
            (min(later), max(later)),
            targets=(at_most(median(later), 2.5, "2.5 s"),),
        ),
        Figure(
            "idle_tree_mb",
            "memory of an idle server, database included",
            median(idle),
            "MB",
            (min(idle), max(idle)),
            targets=(at_most(median(idle), 400, "400 MB"),),
        ),
    ]
    return figures, server
