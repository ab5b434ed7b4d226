"""Rows that are made of parts are looked for where the events of the parts are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from lakehouse.buckets.sharing import Allowance, Progress
from lakehouse.buckets.single_block import BlockView
from lakehouse.model import EVERYTHING, NEVER, Caller, TimeRange
from lakehouse.ports import View
from lakehouse.sources import Freshening, MergedSource, Read, Use
from lakehouse.sources.port import FreshPartitions
from views.log_stats import LOG_STATS

MINUTE = 60_000_000_000


@dataclass
class Nothing:
    """What a maker answers that has nothing."""

    partitions: tuple[()] = ()
    missing_blocks: int = 0


@dataclass
class Maker:
    """Remembers for which times it was asked."""

    asked: list[TimeRange] = field(default_factory=list)

    async def ensure_stored(
        self,
        view: View,
        instance: str,
        wanted: TimeRange,
        allowance: Allowance,
        values: Mapping[str, Sequence[str]] | None = None,
    ) -> FreshPartitions:
        assert not values  # a part of a row may lie in a file that has other values
        self.asked.append(wanted)
        return Nothing()

    async def decode_block(
        self, view: BlockView, block_id: str, wanted: TimeRange, allowance: Allowance
    ) -> bytes | None:
        raise NotImplementedError

    async def known_missing(self, uses: Sequence[tuple[View, str, TimeRange]]) -> int | None:
        self.asked += [wanted for _, _, wanted in uses]
        return 0


@pytest.mark.parametrize(
    ("reads", "asked"),
    [
        ((Read(TimeRange(5, 10)),), TimeRange(5, 10 + MINUTE)),  # lines of the minute that begins at 10 may come later
        ((Read(TimeRange(5, 10)), Read(TimeRange(7, 20))), TimeRange(5, 20 + MINUTE)),
        ((Read(TimeRange(5, None)),), TimeRange(5, None)),
        ((Read(EVERYTHING),), EVERYTHING),
        ((Read(NEVER),), TimeRange(1, 0)),
    ],
)
async def test_the_events_of_a_bin_are_looked_for_until_its_end(reads: tuple[Read, ...], asked: TimeRange) -> None:
    maker, source = Maker(), MergedSource(LOG_STATS)
    use = Use(("global",), reads)

    await source.freshen(use, Caller(), Freshening(maker, Allowance(1, 1, Progress())))
    await source.known_missing(use, Caller(), maker)

    assert maker.asked == [asked, asked]
