"""Holds buckets while this server makes them: only one builder at a time among all servers, and none for longer than it lives.

A lease is renewed for as long as its builder is at it. A server that is stopped or cut off renews nothing, so that another
takes over after ``lasts_s``; when it goes on, its swap finds that the lease is another's. What a server could not give back,
because the database was away, it gives back when it wants the bucket again: it does not wait for itself.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from typing import Final

from lakehouse.buckets.catalog import BucketCatalog
from lakehouse.buckets.model import InstanceId, Lease
from lakehouse.buckets.renewals import Renewals
from lakehouse.errors import BackendUnavailableError

LEFT_MAX: Final = 1_000  # leases that could not be given back and are remembered; others run out by themselves


class Leases:
    """Those of one server."""

    def __init__(self, catalog: BucketCatalog, owner: str, lasts_s: float) -> None:
        self._catalog = catalog
        self._owner = owner
        self._held = Renewals(catalog.renew_leases, lasts_s)
        self._left: dict[tuple[InstanceId, datetime], Lease] = {}

    @asynccontextmanager
    async def holding(self, instance: InstanceId, bucket_begin: datetime) -> AsyncIterator[Lease | None]:
        """Hold a bucket for the length of a block; ``None`` if another builder has it. Waits for nobody."""
        lease = Lease(instance, bucket_begin, uuid.uuid4())
        if left := self._left.get((instance, bucket_begin)):
            await self._drop(left)
        try:
            taken = await self._catalog.take_lease(lease, self._owner, self._held.lasts)
        except BaseException:  # it may be ours, and nobody would be there to hold it: only the answer did not come
            await self._drop(lease)
            raise
        if not taken:
            yield None
            return
        self._held.add(lease)
        try:
            yield lease
        finally:
            if lease in self._held:
                self._held.discard(lease)
                await self._drop(lease)

    def ended(self, lease: Lease) -> None:
        """Its swap is committed, and it went with it."""
        self._held.discard(lease)

    async def _drop(self, lease: Lease) -> None:
        bucket = (lease.instance, lease.bucket_begin)
        self._left[bucket] = lease
        if len(self._left) > LEFT_MAX:
            del self._left[next(iter(self._left))]
        with suppress(BackendUnavailableError):
            await asyncio.shield(self._catalog.drop_lease(lease))
            if self._left.get(bucket) is lease:
                del self._left[bucket]
