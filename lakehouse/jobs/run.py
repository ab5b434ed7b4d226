"""Statements as jobs: the seam at which an engine is plugged in. It judges statements, and runs jobs that say what they read.

A job holds keys of the store and conditions on the catalog's rows, never a path: whoever executes it fetches these where
it runs. ``server.workers.executor`` runs jobs in processes of this machine.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from lakehouse.catalog.tables import RowsNeed
from lakehouse.engine import Inspection
from lakehouse.model import EVERYTHING, Caller, Spelling, TimeRange


@dataclass(frozen=True, slots=True)
class Planned:
    """The engine's word about a statement, and the time that it took, in seconds."""

    inspection: Inspection
    engine_s: float


@dataclass(frozen=True, slots=True)
class JobRelation:
    """A relation of one job: which declaration it follows, and where its rows are. Without either: it has none."""

    name: str  # a table, or the engine's name of a source with arguments
    source: str
    keys: tuple[str, ...] = ()  # Parquet files whose rows are filtered by the range
    keys_inside: tuple[str, ...] = ()  # and those of which no row lies outside of it
    range: TimeRange = EVERYTHING
    from_catalog: bool = False  # its rows are among those that the job's ``needs`` choose
    table: bytes | None = None  # or are these, an Arrow IPC stream or a Parquet file with the declared columns
    arguments: tuple[str, ...] = ()  # of the source, for whoever makes its rows of what the files hold


@dataclass(frozen=True, slots=True)
class RunJob:
    """A statement that passed the gate, with everything it may read."""

    sql: str
    values: bytes | None  # bound values, as an Arrow IPC stream with one batch of one row
    caller: Caller
    relations: tuple[JobRelation, ...] = ()
    needs: tuple[RowsNeed, ...] = ()  # of the catalog; all in one snapshot, taken when the job runs
    row_limit: int | None = None
    now_ns: int | None = None  # what the clock says, where the inspection was told so
    timeout_s: float | None = None  # of engine time, if less than the executor's own limit
    spelling: Spelling = Spelling.PLAIN


# Serialized ``FlightData`` messages, the schema first. Nothing runs before the first is asked for; closing it stops the job.
Frames: TypeAlias = AsyncGenerator[bytes, None]


class QueryExecutor(Protocol):
    """Judges and runs statements. Errors are of the ``LakeflightError`` tree."""

    async def inspect(self, sql: str, values: bytes | None, caller: Caller, spelling: Spelling) -> Planned:
        """What a statement needs and yields, or why it is refused. Runs nothing."""
        ...

    def run(self, job: RunJob) -> Frames: ...
