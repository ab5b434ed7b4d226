"""What is held for a limited time is renewed for as long as it is held, whatever becomes of a single renewal."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import pytest

from lakehouse.buckets.renewals import Renewals
from lakehouse.errors import BackendUnavailableError


class Database:
    """Notes what it is asked to renew; the first renewals go wrong."""

    def __init__(self, trouble: str = "", times: int = 0) -> None:
        self.trouble, self.times = trouble, times
        self.asked: asyncio.Queue[list[str]] = asyncio.Queue()

    async def renew(self, items: Sequence[str], lasts: timedelta) -> None:
        self.asked.put_nowait(sorted(items))
        if self.asked.qsize() <= self.times:
            if self.trouble == "refuses":
                raise BackendUnavailableError("the database is not available")
            await asyncio.Event().wait()


@pytest.mark.parametrize("trouble", ["refuses", "does not answer"])
async def test_a_renewal_that_comes_to_nothing_does_not_keep_the_next_from_being_tried(trouble: str) -> None:
    database = Database(trouble, times=3)
    held: Renewals[str] = Renewals(database.renew, lasts_s=0.2)

    held.add("a", "b")

    async with asyncio.timeout(20):
        while database.asked.qsize() < 5:  # noqa: ASYNC110 (nothing is said of one that was tried)
            await asyncio.sleep(0.01)
    held.discard("a", "b")
    assert await database.asked.get() == ["a", "b"]


async def test_what_is_given_up_is_not_renewed_and_the_rest_is() -> None:
    database = Database()
    held: Renewals[str] = Renewals(database.renew, lasts_s=0.2)
    held.add("a", "b")

    held.discard("a")

    async with asyncio.timeout(20):
        assert [await database.asked.get() for _ in range(2)] == [["b"], ["b"]]
    held.discard("b")
    await asyncio.sleep(0.3)
    assert database.asked.empty()
    held.add("c")
    async with asyncio.timeout(20):
        assert await database.asked.get() == ["c"]
    held.discard("c")
