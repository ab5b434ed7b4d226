"""A server whose database was away when it gave a bucket back."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from lakehouse.buckets.leases import Leases
from lakehouse.buckets.model import InstanceId
from lakehouse.buckets.planning import version_of
from lakehouse.catalog.memory import MemoryCatalog
from lakehouse.errors import BackendUnavailableError
from lakehouse.model import GLOBAL_INSTANCE, ViewKey
from tests.support.materializer_lake import view_of

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
LEASE_S = 3600.0


class AwayCatalog:
    """One that does not answer who gives a lease back, while it is away."""

    def __init__(self, inner: MemoryCatalog) -> None:
        self._inner = inner
        self.is_away = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def drop_lease(self, lease: Any) -> None:
        if self.is_away:
            raise BackendUnavailableError("the database is not available: no connection")
        await self._inner.drop_lease(lease)


async def _holds(leases: Leases, instance: InstanceId) -> bool:
    async with leases.holding(instance, BEGIN) as lease:
        return lease is not None


async def test_it_does_not_wait_for_itself_and_no_other_is_robbed() -> None:
    catalog: Any = AwayCatalog(MemoryCatalog(lambda: datetime.now(UTC)))
    view = view_of("log_entries")
    instance = await catalog.add_instance(ViewKey(view.view_set, GLOBAL_INSTANCE), version_of(view))
    ours, theirs = (Leases(catalog, owner, LEASE_S) for owner in ("ours", "theirs"))

    catalog.is_away = True
    assert await _holds(ours, instance)
    catalog.is_away = False

    assert not await _holds(theirs, instance), "they cannot know that nobody is at it"
    assert await _holds(ours, instance)
    async with theirs.holding(instance, BEGIN) as lease:
        assert lease is not None
        assert not await _holds(ours, instance), "what was left has been given back, and only that"
