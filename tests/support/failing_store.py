"""A store one of whose calls fails: before anything has happened, or after all of it has."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from lakehouse.errors import BackendUnavailableError
from lakehouse.storage import BlobStore
from tests.support.postgres_proxy import Moment

_AWAITED = ("put_blobs", "create_blobs", "put_file", "get", "size", "delete", "is_empty", "probe")


class FailingStore:
    """Another store, but for one call. A listing counts a call for each page."""

    def __init__(self, store: BlobStore) -> None:
        self._store = store
        self.calls_left = 0
        self._moment: Moment = "before"
        self.failed = 0

    def arm_call(self, number: int, moment: Moment) -> None:
        """Have the call of this number from now on fail; 0 disarms."""
        self.calls_left, self._moment = number, moment

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        return self._failing(found) if name in _AWAITED else found

    def _failing(self, call: Callable[..., Any]) -> Callable[..., Any]:
        async def called(*arguments: Any) -> Any:
            is_due = self._is_due()
            if is_due and self._moment == "before":
                raise self._error()
            answer = await call(*arguments)
            if is_due:
                raise self._error()
            return answer

        return called

    @asynccontextmanager
    async def localize(self, keys: Sequence[str]) -> AsyncIterator[list[Path]]:
        if self._is_due():
            raise self._error()
        async with self._store.localize(keys) as paths:
            yield paths

    async def pages(self, prefix: str) -> AsyncIterator[list[str]]:
        async for page in self._store.pages(prefix):
            if self._is_due():
                raise self._error()
            yield page

    def _is_due(self) -> bool:
        if not self.calls_left:
            return False
        self.calls_left -= 1
        return not self.calls_left

    def _error(self) -> BackendUnavailableError:
        self.failed += 1
        return BackendUnavailableError("the object store failed: made to by a test")
