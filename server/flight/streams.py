"""Result streams made at the edge: frames that exist already, and one query run once per row of bound values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from lakehouse.errors import LakeflightError, QueryError
from server.query.ports import QueryStream
from server.query.statement import BoundValues


class ReadyFrames:
    """A stream whose frames are known: metadata, and results without rows."""

    def __init__(self, frames: Iterable[bytes]) -> None:
        self._frames = iter(frames)
        self.missing_blocks = 0

    def __aiter__(self) -> ReadyFrames:
        return self

    async def __anext__(self) -> bytes:
        for frame in self._frames:
            return frame
        raise StopAsyncIteration

    @property
    def progress(self) -> Mapping[str, object]:
        return {"stage": "running"}

    def refuse(self, error: LakeflightError) -> None:
        """Nothing runs here that could be refused."""

    async def aclose(self) -> None:
        self._frames = iter(())


class RepeatedQuery:
    """The results of one statement for several rows of values, one after the other, as one stream.

    The statement's row limit and deadline hold for each run. Types that depend on the values fail the stream.
    """

    def __init__(self, execute: Callable[[BoundValues], QueryStream], values: BoundValues) -> None:
        self._execute = execute
        self._values = values
        self._left = iter(values)
        self._next_row = 0
        self._schema: bytes | None = None
        self._current: QueryStream | None = None
        self.missing_blocks = 0  # runs may read the same partitions, so the most that one of them missed

    def __aiter__(self) -> RepeatedQuery:
        return self

    async def __anext__(self) -> bytes:
        while True:
            if self._current is None:
                row = next(self._left, None)
                if row is None:
                    raise StopAsyncIteration
                self._current = self._execute(row)
                self._next_row += 1
                schema = await anext(self._current)
                if self._schema is None:
                    self._schema = schema
                    return schema
                if schema != self._schema:
                    raise QueryError(
                        f"the values of row {self._next_row} give the result other types than those of row 1"
                    )
            try:
                return await anext(self._current)
            except StopAsyncIteration:
                self.missing_blocks = max(self.missing_blocks, self._current.missing_blocks)
                await self._current.aclose()
                self._current = None

    @property
    def progress(self) -> Mapping[str, object]:
        """That of the row of values whose turn it is."""
        return {"row": self._next_row, **(self._current.progress if self._current is not None else {})}

    def refuse(self, error: LakeflightError) -> None:
        if (first := self._values.first) is not None:
            self._execute(first).refuse(error)

    async def aclose(self) -> None:
        self._left = iter(())
        if self._current is not None:
            await self._current.aclose()
