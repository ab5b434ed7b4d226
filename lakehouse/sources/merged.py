"""Relations whose partitions hold parts of rows, which are merged by SQL when somebody asks."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from lakehouse.model import Caller, TimeRange
from lakehouse.ports import View
from lakehouse.sources.blocks import BlocksSource
from lakehouse.sources.port import Freshening, PartitionMaker, Rows, Use


class MergedView(View, Protocol):
    """A view whose files hold parts."""

    @property
    def merged(self) -> str:
        """SQL that makes rows of the parts in ``{rows}``, with the columns of the schema in its types."""
        ...

    @property
    def reach_ns(self) -> int:
        """How far a row may lie before the events that it is made of."""
        ...


class MergedSource(BlocksSource):
    """``FROM log_stats``. A row may be made of parts in many partitions, all of which have the time of the row."""

    def __init__(self, view: MergedView) -> None:
        super().__init__(view)
        self._reach_ns = view.reach_ns
        self.declaration = replace(self.declaration, merge=view.merged)

    async def freshen(self, use: Use, caller: Caller, freshening: Freshening) -> Rows:
        return await super().freshen(self._reaching(use), caller, freshening)

    async def known_missing(self, use: Use, caller: Caller, maker: PartitionMaker) -> int | None:
        return await super().known_missing(self._reaching(use), caller, maker)

    def _reaching(self, use: Use) -> Use:
        """Blocks are found by the times of their events, and may be parts of rows that lie before these."""
        return replace(use, reads=tuple(replace(read, range=self._later(read.range)) for read in use.reads))

    def _later(self, wanted: TimeRange) -> TimeRange:
        if wanted.is_empty or wanted.end_ns is None:
            return wanted
        return TimeRange(wanted.begin_ns, wanted.end_ns + self._reach_ns)
