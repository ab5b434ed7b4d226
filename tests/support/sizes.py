"""How much a randomised test does: a size for every run, and the full one of ``benchmarks/faults``."""

from __future__ import annotations

import os

FULL = os.environ.get("LAKEFLIGHT_TEST_SIZE") == "full"
SEED = int(os.environ.get("LAKEFLIGHT_TEST_SEED", "20240501"))


def size(every_run: int, full: int) -> int:
    """The number of tries."""
    return full if FULL else every_run
