"""``process_spans(process, types)``: a table function over one view, whose files keep async spans in halves."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from lakehouse.errors import UnknownViewError
from lakehouse.model import EVERYTHING, Caller
from lakehouse.sources.merged import MergedSource, MergedView
from lakehouse.sources.port import Arguments, Freshening, PartitionMaker, Rows, Use

THREAD_ONLY: Final = "thread"  # the type whose rows are whole in their files


class ProcessSpansSource(MergedSource):
    """A statement's own bounds choose among the spans of threads; an async span may reach out of any range."""

    def __init__(self, view: MergedView) -> None:
        super().__init__(view)
        self.is_table = False

    def resolve(self, arguments: Arguments) -> Arguments:
        if len(arguments) != 2:
            raise UnknownViewError(
                f"{self.name} is a function: {self.name}('<process id>', 'thread', 'async' or 'both')"
            )
        process_id, types = arguments
        return (*super().resolve((process_id,)), types)

    async def freshen(self, use: Use, caller: Caller, freshening: Freshening) -> Rows:
        return await super().freshen(_of_process(use), caller, freshening)

    async def known_missing(self, use: Use, caller: Caller, maker: PartitionMaker) -> int | None:
        return await super().known_missing(_of_process(use), caller, maker)


def _of_process(use: Use) -> Use:
    process_id, types = use.arguments
    reads = use.reads
    if types != THREAD_ONLY:
        reads = tuple(read if read.range.is_empty else replace(read, range=EVERYTHING) for read in reads)
    return Use((process_id,), reads)
