"""What it costs to find out who calls: a key that is remembered, among as many as a server remembers.

In this process, without a server: a call there costs a hundred times as much, and its noise would be larger than the figure.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Collection
from typing import Final

from benchmarks.figures import Figure, Limit, at_most
from benchmarks.measure import percentile
from benchmarks.sizes import Size
from lakehouse.catalog.keys import StoredKey
from lakehouse.model import KeyUse
from server.access import ELSEWHERE, Authenticate, Identities, anonymous
from server.access.identities import REMEMBERED_MAX
from server.access.keys import Keyring, digest_of, new_key

MICROSECONDS_MAX: Final = 100.0
CALLS: Final = 20_000
ROUNDS: Final = 5


def measure(size: Size) -> list[Figure]:
    """The median of the rounds, beside the same call where nobody is asked."""
    del size  # less says nothing, more takes a second
    by_key, by_nobody = asyncio.run(_measure())
    value = percentile(by_key, 50)
    limit = Limit(percentile(by_nobody, 50), "the same call where identities are not required")
    what = f"who calls, by one of {REMEMBERED_MAX:,} remembered keys"
    target = at_most(value, MICROSECONDS_MAX, f"{MICROSECONDS_MAX:g} µs")
    return [
        Figure("access_key_us", what, value, "µs", (min(by_key), max(by_key)), limit=limit, targets=(target,)),
    ]


async def _measure() -> tuple[list[float], list[float]]:
    """Microseconds of a call, by key and without; round by round."""
    keys = [new_key(KeyUse.READER) for _ in range(64)]
    identities = Identities(
        KeyUse.READER, Keyring({digest_of(key.encode()): f"key-{number}" for number, key in enumerate(keys)}), _Stored()
    )
    for _ in range(REMEMBERED_MAX - len(keys)):
        await identities({"authorization": f"Bearer {new_key(KeyUse.READER)}"})
    by_key, by_nobody = [], []
    for _ in range(ROUNDS):
        by_nobody.append(await _per_call(anonymous, keys))
        by_key.append(await _per_call(identities, keys))
    return by_key, by_nobody


async def _per_call(authenticate: Authenticate, keys: list[str]) -> float:
    headers = [{"user-agent": "benchmark", "authorization": f"Bearer {secrets.choice(keys)}"} for _ in range(CALLS)]
    started = time.perf_counter()
    for each in headers:
        await authenticate(each, ELSEWHERE)
    return (time.perf_counter() - started) / CALLS * 1e6


class _Stored:
    """Keys of a database, each of which is known."""

    async def find(self, digest: bytes) -> StoredKey:
        return StoredKey(1, "stored", digest, None)

    async def note_use(self, key_ids: Collection[int]) -> None: ...
