"""Jobs in worker processes of this machine: keys become local files and rows of the catalog a snapshot, here.

Implements ``lakehouse.jobs.run.QueryExecutor``.
"""

from __future__ import annotations

import asyncio
import shutil
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from lakehouse.catalog.metadata import MetadataExport
from lakehouse.catalog.tables import RowsNeed
from lakehouse.engine import DeclaredRelation
from lakehouse.engine.payloads import PAYLOADS
from lakehouse.jobs.run import Frames, JobRelation, Planned, RunJob
from lakehouse.model import Caller, Spelling
from lakehouse.ports import ObjectStore
from server.workers.engine_messages import catalog_message, inspection_of, relation_message
from server.workers.payloads import Payloads
from server.workers.pool import QueryWorkerPool, Statement
from server.workers.protocol import ProtocolError

ServerAnswer: TypeAlias = Callable[[Sequence[Any], Caller], Awaitable[Sequence[str]]]


class LocalQueryExecutor:
    """Every job in a worker of its own, over files that the store keeps on this machine meanwhile."""

    def __init__(
        self,
        pool: QueryWorkerPool,
        store: ObjectStore,
        catalog: MetadataExport,
        scratch: Path,
        *,
        tables: Mapping[str, DeclaredRelation],
        sources: Mapping[str, DeclaredRelation],
        answers: Mapping[str, ServerAnswer] | None = None,
    ) -> None:
        """
        Args:
            tables: The relations that can be named without arguments.  sources: All of them.
            answers: Who answers for functions that are the server's own, by name. The caller is told with each question:
                workers are not trusted.
        """
        self._answers = answers or {}
        self._pool, self._store, self._catalog, self._scratch = pool, store, catalog, scratch
        self._releasing: set[asyncio.Task[None]] = set()
        pool.describe(catalog_message(tables, sources))

    async def inspect(self, sql: str, values: bytes | None, caller: Caller, spelling: Spelling) -> Planned:
        planned = await self._pool.inspect(Statement(sql, values, {"spelling": int(spelling)}), caller)
        return Planned(inspection_of(planned.inspection), planned.engine_s)

    async def run(self, job: RunJob) -> Frames:
        """The job's frames; nothing is fetched before the first is asked for."""
        keys = sorted({key for relation in job.relations for key in (*relation.keys, *relation.keys_inside)})
        async with AsyncExitStack() as held:
            read = await held.enter_async_context(AsyncExitStack())
            paths = await read.enter_async_context(self._store.localize(keys)) if keys else []
            snapshot = await read.enter_async_context(self._snapshot(job.needs)) if job.needs else {}
            local = dict(zip(keys, map(str, paths), strict=True))
            stream = self._pool.run(
                Statement(
                    job.sql,
                    job.values,
                    {
                        "identity": job.caller.name,
                        "row_limit": job.row_limit,
                        "now_ns": job.now_ns,
                        "spelling": int(job.spelling),
                        "metadata": {
                            name: rows if isinstance(rows, bytes) else str(rows) for name, rows in snapshot.items()
                        },
                    },
                ),
                [_relation(relation, local) for relation in job.relations],
                caller=job.caller,
                affinity="\n".join([job.caller.name, *sorted(local.values())]),
                timeout_s=job.timeout_s,
            )
            held.push_async_callback(stream.aclose)
            payloads = Payloads(self._store, await read.enter_async_context(AsyncExitStack()))
            stream.on_fetch = partial(self._answer, payloads, job.caller)
            if keys or job.needs:
                stream.on_read = lambda: self._release(read)  # a reader may pause for long after that
            async for frame in stream:
                yield frame

    async def _answer(self, payloads: Payloads, caller: Caller, function: str, rows: Sequence[Any]) -> Sequence[str]:
        if function == PAYLOADS:
            return await payloads.fetch(rows)
        if (answer := self._answers.get(function)) is None:
            raise ProtocolError(f"nobody answers {function[:100]}")
        if not all(isinstance(row, list) and all(isinstance(text, str | None) for text in row) for row in rows):
            raise ProtocolError("arguments are texts")
        return await answer(rows, caller)

    def _release(self, read: AsyncExitStack) -> None:
        task = asyncio.ensure_future(read.aclose())
        self._releasing.add(task)
        task.add_done_callback(self._releasing.discard)

    @asynccontextmanager
    async def _snapshot(self, needs: Sequence[RowsNeed]) -> AsyncIterator[Mapping[str, Path | bytes]]:
        """The rows of the catalog that the needs choose, all of one moment."""
        folder = self._scratch / f"run-{uuid.uuid4().hex}"
        try:
            yield await self._catalog.write(needs, folder)
        finally:
            if folder.exists():  # a file per table, of up to some hundred megabytes
                await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


def _relation(relation: JobRelation, paths: Mapping[str, str]) -> dict[str, Any]:
    return relation_message(
        relation,
        files=[paths[key] for key in relation.keys],
        files_inside=[paths[key] for key in relation.keys_inside],
    )
