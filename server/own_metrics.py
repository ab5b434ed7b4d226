"""What a server measures of itself, for its own lake. It records nothing while nobody asks it anything: that would be news of itself."""

from __future__ import annotations

import asyncio
from typing import Final

from lakeflight.telemetry import float_metric, integer_metric
from lakehouse.storage import BlobStore

PERIOD_S: Final = 5.0


async def record_cache(store: BlobStore) -> None:
    """How good the copies of objects are, after each period in which statements read any, until cancelled."""
    before = store.cache_figures()
    while before is not None:
        await asyncio.sleep(PERIOD_S)
        now = store.cache_figures()
        assert now is not None
        hits, misses = now.hits - before.hits, now.misses - before.misses
        if hits + misses:
            float_metric("object_cache_hit_ratio", 100 * hits / (hits + misses), unit="percent")
            integer_metric("object_cache_hits", hits)
            integer_metric("object_cache_misses", misses)
            integer_metric("object_cache_fetched", now.bytes_fetched - before.bytes_fetched, unit="bytes")
            integer_metric("object_cache_evicted", now.bytes_evicted - before.bytes_evicted, unit="bytes")
            integer_metric("object_cache_evicted_files", now.files_evicted - before.files_evicted)
            integer_metric("object_cache_kept", now.bytes_kept, unit="bytes")
            integer_metric("object_cache_limit", now.bytes_max, unit="bytes")
            before = now
