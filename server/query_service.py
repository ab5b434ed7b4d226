"""The life of one query, start to finish.

    inspect    a worker judges and binds the text; the answer is remembered for texts that are not about "now"
    resolve    names and instance ids become views
    freshen    the partitions it may read are made, each range as narrow as headers and the SQL's own predicates allow
    localize   partition files become local files; rows of metadata views are copied out of Postgres
    run        a worker runs the unchanged text over these files and nothing else; its frames pass through
    audit      one log line, however it ended

Implements ``server.flight.ports.QueryService``. Runs no SQL of a user and opens no file.
"""

from __future__ import annotations

import asyncio
import shutil
import time
import uuid
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import asyncpg
import pyarrow as pa
import structlog

from lakeflight.wire.flight_data import schema_frame
from lakehouse.buckets.materialize import Freshened, LocalPartitions, Materializer
from lakehouse.buckets.sharing import Allowance, Progress, together
from lakehouse.catalog.metadata import MetadataExport, MetadataNeed
from lakehouse.engine import Inspection, Reference, relation_name
from lakehouse.errors import IncompleteDataError, InternalError, LakeflightError, QueryError, QueryTimeoutError
from lakehouse.model import EVERYTHING, GLOBAL_INSTANCE, Caller, QueryOptions, TimeRange, ViewKey
from lakehouse.registry import AnyView, MetadataView, ViewRegistry, declaration
from server.workers.engine_messages import RelationFiles, catalog_message, inspection_of, relation_message
from server.workers.jobs import WorkerStream
from server.workers.pool import QueryWorkerPool, Statement

log = structlog.get_logger(__name__)

INSPECTIONS_REMEMBERED_MAX: Final = 1_024
NONE_MISSING_REMEMBERED_S: Final = 1.0  # other servers may set a block aside meanwhile: the trailer will tell
VALUES_REMEMBERED_BYTES_MAX: Final = 4 << 10  # of bound values; more are inspected again
EMPTY_RANGE: Final = TimeRange(1, 0)


@dataclass(frozen=True, slots=True)
class Prepared:
    """What can be said of a statement without running it."""

    schema: bytes
    parameter_schema: bytes
    _missing_blocks: Callable[[], Awaitable[int]]

    async def missing_blocks(self) -> int:
        """What the catalog knows; the stream's trailer says what is so once everything is made fresh."""
        return await self._missing_blocks()


@dataclass(frozen=True, slots=True)
class Table:
    """A table as users see it."""

    name: str
    kind: Literal["TABLE", "VIEW"]
    schema: pa.Schema


@dataclass(slots=True)
class _Uses:
    """All references of a statement to one view instance, taken together."""

    view: AnyView
    key: ViewKey
    names: set[str] = field(default_factory=set)
    range: TimeRange = EMPTY_RANGE
    needs: list[MetadataNeed] = field(default_factory=list)


class LakeQueryService:
    """Prepares and runs statements for the Flight edge."""

    def __init__(
        self,
        registry: ViewRegistry,
        materializer: Materializer,
        connections: asyncpg.Pool,
        workers: QueryWorkerPool,
        scratch: Path,
        *,
        metadata_bytes_max: int,
        statement_timeout_s: float,
        prune: bool = True,
    ) -> None:
        self._registry = registry
        self._materializer = materializer
        self._workers = workers
        self._scratch = scratch
        self._statement_timeout_s = statement_timeout_s
        self._metadata = MetadataExport(connections, metadata_bytes_max)
        self._prune = prune  # a switch for tests: what a statement's predicates say must never change a result
        self._inspections: OrderedDict[tuple[str, bytes | None], Inspection] = OrderedDict()
        self._running: dict[str, LakeQueryStream] = {}
        self._none_missing_until = 0.0  # until then it is taken for granted that no block of the lake is missing
        declared = {view.view_set: declaration(view) for view in registry.views}
        global_names = {view.view_set for view in registry.global_tables}
        workers.describe(catalog_message({name: declared[name] for name in sorted(global_names)}, declared))

    async def prepare(
        self, sql: str, caller: Caller, options: QueryOptions, parameters: pa.RecordBatch | None = None
    ) -> Prepared:
        """Bind without running."""
        inspection, _ = await self.inspect(sql, parameters)
        for reference in inspection.references:
            if reference.instance is not None:
                self._resolve(reference)
        return Prepared(
            inspection.schema, inspection.parameter_schema, lambda: self._known_missing(inspection, options)
        )

    def execute(
        self, sql: str, caller: Caller, options: QueryOptions, parameters: pa.RecordBatch | None = None
    ) -> LakeQueryStream:
        """A statement that starts when its first frame is asked for."""
        return LakeQueryStream(self, sql, caller, options, parameters)

    async def tables(self, caller: Caller) -> Sequence[Table]:
        """Global tables; view instances are functions, not tables."""
        names = [view.view_set for view in self._registry.global_tables]
        inspected = await asyncio.gather(*(self.inspect(f"SELECT * FROM {name}", None) for name in names))
        return [
            Table(name, "TABLE", pa.ipc.read_schema(pa.py_buffer(inspection.schema)))
            for name, (inspection, _) in zip(names, inspected, strict=True)
        ]

    def cancel(self, caller: Caller, sql_or_query_id: str) -> int:
        """Stop the caller's statements of this id or text."""
        found = [
            stream
            for stream in self._running.values()
            if stream.caller == caller and sql_or_query_id in (stream.options.query_id, stream.sql)
        ]
        for stream in found:
            stream.cancel()
        return len(found)

    def progress(self, query_id: str) -> Mapping[str, object] | None:
        stream = self._running.get(query_id)
        return None if stream is None else {"stage": stream.stage, **stream.progress.as_dict()}

    async def inspect(self, sql: str, parameters: pa.RecordBatch | None) -> tuple[Inspection, float]:
        """The gate's verdict on a text and its values, and the engine time it took, in seconds.

        Remembered unless it follows the clock, since a driver asks for a FlightInfo before it has the statement run.
        """
        key = (sql, _ipc(parameters))
        if (known := self._inspections.get(key)) is not None:
            self._inspections.move_to_end(key)
            return known, 0.0
        planned = await self._workers.inspect(Statement(*key))
        inspection = inspection_of(planned.inspection)
        if not inspection.volatile and len(key[1] or b"") <= VALUES_REMEMBERED_BYTES_MAX:
            self._inspections[key] = inspection
            if len(self._inspections) > INSPECTIONS_REMEMBERED_MAX:
                self._inspections.popitem(last=False)
        return inspection, planned.engine_s

    async def relations(
        self, inspection: Inspection, options: QueryOptions, progress: Progress, folder: Path, pins: AsyncExitStack
    ) -> tuple[list[RelationFiles], dict[str, Path], int]:
        """Everything the statement may read, as local files that ``pins`` keeps; and how many blocks are missing in it."""
        uses = self._uses(inspection, options)
        views = [use for use in uses if not isinstance(use.view, MetadataView)]
        needs = [need for use in uses for need in use.needs]
        allowance = self._materializer.allowance(progress)
        made = await together(self._freshen(use, allowance, pins) for use in views)
        metadata = await self._export(needs, folder)  # a later snapshot: it has every block that was read, or set aside
        relations = [
            _relation(name, use, local.fresh, local.paths, options.time_range)
            for use, local in zip(views, made, strict=True)
            for name in sorted(use.names)
        ]
        relations += [
            RelationFiles(name, use.key.view_set, range=options.time_range, metadata=True)
            for use in uses
            if isinstance(use.view, MetadataView)
            for name in sorted(use.names)
        ]
        missing_blocks = sum(local.fresh.missing_blocks for local in made)
        if missing_blocks:
            self._none_missing_until = 0.0
        return relations, metadata, missing_blocks

    def run(
        self,
        stream: LakeQueryStream,
        inspection: Inspection,
        relations: Sequence[RelationFiles],
        metadata: Mapping[str, Path],
        planned_s: float,
    ) -> WorkerStream:
        """Start the statement. What planning it took of a worker is part of its time, of which half stays in any case."""
        options = stream.options
        files = "\n".join(sorted({path for r in relations for path in (*r.files, *r.files_inside)}))
        return self._workers.run(
            Statement(
                stream.sql,
                _ipc(stream.parameters),
                {
                    "identity": stream.caller.name,
                    "row_limit": options.row_limit,
                    "now_ns": inspection.now_ns if inspection.volatile else None,
                    "metadata": {name: str(path) for name, path in metadata.items()},
                },
            ),
            [relation_message(relation) for relation in relations],
            affinity=f"{stream.caller.name}\n{files}",
            timeout_s=max(self._statement_timeout_s / 2, self._statement_timeout_s - planned_s),
        )

    def enter(self, stream: LakeQueryStream) -> None:
        self._running[stream.options.query_id] = stream

    def leave(self, stream: LakeQueryStream) -> None:
        self._running.pop(stream.options.query_id, None)

    @property
    def scratch(self) -> Path:
        return self._scratch

    @property
    def statement_timeout_s(self) -> float:
        return self._statement_timeout_s

    def _resolve(self, reference: Reference) -> tuple[AnyView, ViewKey]:
        if reference.instance is None:
            raise QueryError("the instance of view_instance is a parameter without a value")
        return self._registry.view_instance(reference.view_set, reference.instance)

    def _uses(self, inspection: Inspection, options: QueryOptions) -> list[_Uses]:
        found: dict[ViewKey, _Uses] = {}
        for reference in inspection.references:
            view, key = self._resolve(reference)
            use = found.setdefault(key, _Uses(view, key))
            use.names.add(
                relation_name(reference.view_set, reference.instance or GLOBAL_INSTANCE)
                if reference.relation == "view_instance"
                else reference.relation
            )
            wanted = reference.range.intersect(options.time_range)
            if isinstance(view, MetadataView):
                use.needs.append(MetadataNeed(view, wanted, reference.equals) if self._prune else MetadataNeed(view))
            elif not wanted.is_empty:
                use.range = wanted if use.range.is_empty else use.range.union(wanted)
        return list(found.values())

    async def _freshen(self, use: _Uses, allowance: Allowance, pins: AsyncExitStack) -> LocalPartitions:
        view = use.view
        if isinstance(view, MetadataView):
            raise TypeError(f"{view.view_set} has no partitions")
        local = self._materializer.ensure_local(view, use.key.instance, use.range, allowance)
        return await pins.enter_async_context(local)

    async def _known_missing(self, inspection: Inspection, options: QueryOptions) -> int:
        if any(reference.instance is None for reference in inspection.references):
            return 0
        uses = self._uses(inspection, options)
        read = [(use.view, use.key.instance, use.range) for use in uses if not isinstance(use.view, MetadataView)]
        if not read or time.monotonic() < self._none_missing_until:
            return 0
        known = await self._materializer.known_missing(read)
        if known is None:
            self._none_missing_until = time.monotonic() + NONE_MISSING_REMEMBERED_S
        return known or 0

    async def _export(self, needs: Sequence[MetadataNeed], folder: Path) -> dict[str, Path]:
        if not needs:
            return {}
        folder.mkdir(parents=True)
        return await self._metadata.write(needs, folder)


class LakeQueryStream:
    """One running statement: frames as they come, and whatever has to be cleaned up."""

    def __init__(
        self,
        service: LakeQueryService,
        sql: str,
        caller: Caller,
        options: QueryOptions,
        parameters: pa.RecordBatch | None,
    ) -> None:
        self.sql, self.caller, self.options, self.parameters = sql, caller, options, parameters
        self.stage = "waiting"
        self.progress = Progress()
        self.missing_blocks = 0
        self._service = service
        self._frames: AsyncIterator[bytes] = self._run()
        self._worker: WorkerStream | None = None
        self._task: asyncio.Task[Any] | None = None

    def __aiter__(self) -> LakeQueryStream:
        return self

    async def __anext__(self) -> bytes:
        return await anext(self._frames)

    def refuse(self, error: LakeflightError) -> None:
        """It never starts; all that is left of it is its log line."""
        self._log_done(type(error).__name__, 0.0, 0)

    async def aclose(self) -> None:
        """Stop the statement if it still runs; may be called at any time, and twice."""
        await self._frames.aclose()  # type: ignore[attr-defined]

    def cancel(self) -> None:
        """Stop it from outside: its task ends as if its client had gone."""
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> AsyncIterator[bytes]:
        started = time.monotonic()
        folder = self._service.scratch / f"query-{uuid.uuid4().hex}"
        outcome, sent, used_folder = "incomplete", 0, False
        pins = AsyncExitStack()
        self._task = asyncio.current_task()
        self._service.enter(self)
        try:
            self.stage = "inspecting"
            inspection, planned_s = await self._service.inspect(self.sql, self.parameters)
            relations: list[RelationFiles] = []
            metadata: dict[str, Path] = {}
            declared = schema_frame(inspection.schema)
            if inspection.needs_relations:
                yield declared  # before the partitions are made: a client that has the schema can watch the progress
                self.stage, used_folder = "materializing", True
                relations, metadata, self.missing_blocks = await self._service.relations(
                    inspection, self.options, self.progress, folder, pins
                )
                if self.missing_blocks and self.options.strict:
                    raise IncompleteDataError(
                        f"{self.missing_blocks} blocks that this statement reads could not be decoded;"
                        " quarantined blocks keep their bytes and are tried again by newer versions"
                    )
            self.stage = "running"
            self._worker = self._service.run(self, inspection, relations, metadata, planned_s)
            if await anext(self._worker, None) != declared:
                raise InternalError("the engine's schema is not the one that was declared")
            if not inspection.needs_relations:
                yield declared
            async for frame in self._worker:
                sent += len(frame)
                yield frame
            outcome = "ok"
        except QueryTimeoutError as error:
            outcome = type(error).__name__
            if self._worker is None:
                raise
            # The worker knows what planning had left of the time; the user knows the setting.
            limit_s = self._service.statement_timeout_s
            raise QueryTimeoutError(f"the statement took more than {limit_s:g} s of engine time") from error
        except LakeflightError as error:
            outcome = type(error).__name__
            raise
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            self._service.leave(self)
            if self._worker is not None:
                await self._worker.aclose()
            await pins.aclose()
            if used_folder:
                with suppress(OSError):  # it is there only for rows of metadata views
                    shutil.rmtree(folder)
            self._log_done(outcome, time.monotonic() - started, sent)

    def _log_done(self, outcome: str, elapsed_s: float, sent_bytes: int) -> None:
        log.info(
            "query.done",
            query_id=self.options.query_id,
            caller=self.caller.name,
            outcome=outcome,
            elapsed_ms=round(elapsed_s * 1e3, 1),
            sent_bytes=sent_bytes,
            buckets_made=self.progress.buckets_done,
            missing_blocks=self.missing_blocks,
            sql=self.sql[:200],
        )


def _relation(name: str, use: _Uses, fresh: Freshened, paths: Mapping[str, Path], headers: TimeRange) -> RelationFiles:
    """Files that the header range covers whole need no filter of their own."""
    inside: list[str] = []
    crossing: list[str] = []
    for partition in fresh.partitions:
        covered = (headers.begin_ns is None or headers.begin_ns <= partition.min_event_ns) and (
            headers.end_ns is None or partition.max_event_ns <= headers.end_ns
        )
        (inside if covered else crossing).append(str(paths[partition.key]))
    if headers == EVERYTHING:
        return RelationFiles(name, use.key.view_set, files=tuple(inside))
    return RelationFiles(name, use.key.view_set, files=tuple(crossing), files_inside=tuple(inside), range=headers)


def _ipc(parameters: pa.RecordBatch | None) -> bytes | None:
    if parameters is None:
        return None
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, parameters.schema) as writer:
        writer.write_batch(parameters)
    return bytes(sink.getvalue())
