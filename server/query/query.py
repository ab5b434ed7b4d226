"""The life of one query, start to finish.

    inspect    the engine judges and binds the text; the answer is remembered for texts that are not about "now"
    resolve    names and their arguments become sources
    freshen    the partitions it may read are made, each range as narrow as headers and the SQL's own predicates allow
    administer what changes the lake is done here, by those who may, and is all of a statement; or
    run        an executor runs the unchanged text over what the sources named, and nothing else; its frames pass through;
               if it stumbles over a file that turns out damaged, freshen and run once more
    audit      one log line, however it ended

Runs no SQL of a user and opens no file.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping
from dataclasses import dataclass

import structlog

from lakeflight.wire.flight_data import schema_frame
from lakehouse.buckets.materialize import Materializer
from lakehouse.buckets.sharing import Progress
from lakehouse.engine import Inspection, Reference
from lakehouse.errors import (
    BackendUnavailableError,
    IncompleteDataError,
    InternalError,
    LakeflightError,
    QueryTimeoutError,
    UnreadableFileError,
)
from lakehouse.jobs.run import Frames, QueryExecutor, RunJob
from server.administration import Administration, require_admin
from server.query.administering import administering_call, administering_frames
from server.query.inspections import Inspections
from server.query.relations import Readable, Relations
from server.query.statement import Statement

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Means:
    """What queries are made with, the same for all of them."""

    inspections: Inspections
    relations: Relations
    materializer: Materializer
    executor: QueryExecutor
    administration: Administration
    statement_timeout_s: float


class Query:
    """One execution of a statement: frames as they come. Nothing runs before the first is asked for."""

    def __init__(self, statement: Statement, means: Means) -> None:
        self.statement = statement
        self.stage = "waiting"
        self.missing_blocks = 0
        self._progress = Progress()
        self._means = means
        self._frames = self._run()
        self._running: Frames | None = None
        self._first: asyncio.Future[bytes | None] | None = None

    def __aiter__(self) -> Query:
        return self

    async def __anext__(self) -> bytes:
        return await anext(self._frames)

    @property
    def progress(self) -> Mapping[str, object]:
        return {"stage": self.stage, **self._progress.as_dict()}

    def refuse(self, error: LakeflightError) -> None:
        """It never starts; all that is left of it is its log line."""
        self._audit(type(error).__name__, 0.0, 0)

    async def aclose(self) -> None:
        """Stop the statement if it still runs; may be called at any time, and twice."""
        await self._frames.aclose()

    async def _run(self) -> AsyncGenerator[bytes, None]:
        started = time.monotonic()
        outcome, sent = "incomplete", 0
        try:
            self.stage = "inspecting"
            statement, means = self.statement, self._means
            inspection, planned_s = await means.inspections.inspect(
                statement.sql, statement.values, statement.caller, statement.options.spelling
            )
            require_admin(statement.caller, inspection.administers)
            declared = schema_frame(inspection.schema)
            if (call := administering_call(inspection)) is not None:
                yield declared
                async for frame in self._administer(call, inspection):
                    sent += len(frame)
                    yield frame
                outcome = "ok"
                return
            if inspection.needs_relations:
                yield declared  # before the partitions are made: a client that has the schema can watch the progress
            may_repeat = not inspection.administers
            while True:
                readable = await self._freshen(inspection) if inspection.needs_relations else Readable()
                running = self._running = self._start(inspection, readable, planned_s)
                self._first = asyncio.ensure_future(anext(running, None))
                if not inspection.needs_relations:
                    yield declared  # the engine works while it is on its way
                try:
                    if await self._first != declared:
                        raise InternalError("the engine's schema is not the one that was declared")
                    async for frame in running:
                        sent += len(frame)
                        yield frame
                    break
                except (UnreadableFileError, InternalError) as error:
                    await self._stop()
                    if not (may_repeat and readable.keys and await self._find_damaged(readable.keys, error)):
                        raise
                    if sent:
                        raise BackendUnavailableError(
                            "a partition file that this statement reads is damaged and is made again: ask again"
                        ) from error
                    may_repeat = False
            outcome = "ok"
        except QueryTimeoutError as error:
            outcome = type(error).__name__
            if self._running is None:
                raise
            # The executor knows what planning had left of the time; the user knows the setting.
            limit_s = self._means.statement_timeout_s
            raise QueryTimeoutError(f"the statement took more than {limit_s:g} s of engine time") from error
        except LakeflightError as error:
            outcome = type(error).__name__
            raise
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            await self._stop()
            # The reader need not wait for it to be written.
            asyncio.get_running_loop().call_soon(self._audit, outcome, time.monotonic() - started, sent)

    def _administer(self, call: Reference, inspection: Inspection) -> AsyncIterator[bytes]:
        """The rows of a statement that the server itself does, each as soon as its step is done."""
        self.stage = "administering"
        means = self._means
        messages = means.administration.run(call.relation, means.relations.arguments_of(call), self._progress)
        return administering_frames(inspection.schema, messages, time.time_ns)

    async def _stop(self) -> None:
        if self._first is not None and not self._first.done():
            self._first.cancel()
            await asyncio.wait({self._first})
        if self._first is not None and not self._first.cancelled():
            self._first.exception()  # raised already, or of no interest any more
        if self._running is not None:
            await self._running.aclose()

    async def _find_damaged(self, keys: Collection[str], error: LakeflightError) -> list[str]:
        """All of the files are compared only if the engine says that it could not read one: that takes a while."""
        if isinstance(error, UnreadableFileError):
            return await self._means.materializer.find_damaged(keys)
        return await self._means.materializer.find_damaged_ends(keys)

    async def _freshen(self, inspection: Inspection) -> Readable:
        self.stage = "materializing"
        statement, means = self.statement, self._means
        readable = await means.relations.freshen(
            inspection, statement.caller, statement.options, means.materializer.allowance(self._progress)
        )
        self.missing_blocks = readable.missing_blocks
        if self.missing_blocks and statement.options.strict:
            raise IncompleteDataError(
                f"{self.missing_blocks} blocks that this statement reads could not be decoded;"
                " quarantined blocks keep their bytes and are tried again by newer versions"
            )
        return readable

    def _start(self, inspection: Inspection, readable: Readable, planned_s: float) -> Frames:
        self.stage = "running"
        statement, limit_s = self.statement, self._means.statement_timeout_s
        return self._means.executor.run(
            RunJob(
                statement.sql,
                None if statement.values is None else statement.values.encoded,
                statement.caller,
                readable.relations,
                readable.needs,
                statement.options.row_limit,
                inspection.now_ns if inspection.volatile else None,
                # What planning took of the engine is part of its time, of which half stays in any case.
                max(limit_s / 2, limit_s - planned_s),
                statement.options.spelling,
            )
        )

    def _audit(self, outcome: str, elapsed_s: float, sent_bytes: int) -> None:
        statement = self.statement
        log.info(
            "query.done",
            query_id=statement.options.query_id,
            caller=statement.caller.name,
            outcome=outcome,
            elapsed_ms=round(elapsed_s * 1e3, 1),
            sent_bytes=sent_bytes,
            buckets_made=self._progress.buckets_done,
            missing_blocks=self.missing_blocks,
            sql=statement.sql[:200],
        )
