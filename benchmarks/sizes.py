"""How much of everything a run does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Size:
    """``rounds`` is how often configurations take turns; ``samples`` how often a short statement is asked in a round."""

    rounds: int
    samples: int
    recorded: bool  # the recorded game, if there is one; else a made-up one of ``events``
    events: int
    event_blocks: int
    ingest_blocks: int
    ingest_rounds: int
    later_starts: int  # beside the one that makes the database
    compiles: bool  # whether the start with an empty cache of kernels is measured
    new_blocks: int  # acknowledged one by one, each looked for at once
    log_blocks: int  # the smallest of three sizes: 1, 4, 16 times
    instances: int
    processes: int  # that the catalog is asked about
    client_queries: int  # of each of the clients at work together
    heavy_loops: int
    paused_readers: int
    crowd_s: float  # how long somebody asks for little beside each of them
    settle_s: float
    merged_rows: int  # of each file
    merged_deltas: int
    function_rows: int
    s3_rounds: int
    s3_partitions: int
    s3_partition_bytes: int
    s3_blocks: int


GROWTH: Final = (1, 4, 16)

FULL: Final = Size(
    rounds=7,
    samples=12,
    recorded=True,
    events=3_000_000,
    event_blocks=9,
    ingest_blocks=3_000,
    ingest_rounds=3,
    later_starts=3,
    compiles=True,
    new_blocks=60,
    log_blocks=100,
    instances=8,
    processes=400,
    client_queries=30,
    heavy_loops=8,
    paused_readers=100,
    crowd_s=30.0,
    settle_s=3.0,
    merged_rows=400_000,
    merged_deltas=120,
    function_rows=2_000_000,
    s3_rounds=5,
    s3_partitions=100,
    s3_partition_bytes=1_000_000,
    s3_blocks=1_500,
)
QUICK: Final = Size(
    rounds=1,
    samples=3,
    recorded=False,
    events=60_000,
    event_blocks=3,
    ingest_blocks=64,
    ingest_rounds=1,
    later_starts=0,
    compiles=False,
    new_blocks=3,
    log_blocks=2,
    instances=1,
    processes=5,
    client_queries=3,
    heavy_loops=3,
    paused_readers=4,
    crowd_s=1.0,
    settle_s=0.2,
    merged_rows=20_000,
    merged_deltas=4,
    function_rows=20_000,
    s3_rounds=1,
    s3_partitions=3,
    s3_partition_bytes=50_000,
    s3_blocks=32,
)
