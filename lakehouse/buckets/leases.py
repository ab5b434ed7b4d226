"""Holds buckets while this server makes them: only one builder at a time among all servers, and none for longer than it lives.

A lease is renewed at a steady pace for as long as its builder is at it. A server that is stopped or cut off renews nothing, so
that another takes over after ``lasts_s``; when it goes on, its swap finds that the lease is another's.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from typing import Final

import structlog

from lakehouse.buckets.catalog import BucketCatalog
from lakehouse.buckets.model import InstanceId, Lease
from lakehouse.errors import BackendUnavailableError

log = structlog.get_logger(__name__)

RENEWALS_PER_LEASE: Final = 4  # so that a pause of the event loop, or of the database, is survived


class Leases:
    """Those of one server."""

    def __init__(self, catalog: BucketCatalog, owner: str, lasts_s: float) -> None:
        self._catalog = catalog
        self._owner = owner
        self._lasts = timedelta(seconds=lasts_s)
        self._pause_s = lasts_s / RENEWALS_PER_LEASE
        self._held: set[Lease] = set()
        self._renewing: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def holding(self, instance: InstanceId, bucket_begin: datetime) -> AsyncIterator[Lease | None]:
        """Hold a bucket for the length of a block; ``None`` if another builder has it. Waits for nobody."""
        lease = Lease(instance, bucket_begin, uuid.uuid4())
        try:
            taken = await self._catalog.take_lease(lease, self._owner, self._lasts)
        except BaseException:  # it may be ours, and nobody would be there to hold it: only the answer did not come
            await self._drop(lease)
            raise
        if not taken:
            yield None
            return
        self._held.add(lease)
        if self._renewing is None:
            self._renewing = asyncio.create_task(self._renew())
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
        with suppress(BackendUnavailableError):  # it runs out by itself
            await asyncio.shield(self._catalog.drop_lease(lease))

    async def _renew(self) -> None:
        try:
            while self._held:
                await asyncio.sleep(self._pause_s)
                if self._held:
                    try:
                        await self._catalog.renew_leases(list(self._held), self._lasts)
                    except BackendUnavailableError as error:
                        log.warning("leases.not_renewed", buckets=len(self._held), reason=str(error))
        finally:
            self._renewing = None
