"""The lake's engine as a worker sees it: plain values of the protocol in, calls of ``QueryEngine`` out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from lakehouse.engine import EngineCatalog, EngineLimits, Relation
from lakehouse.engine.engine import QueryEngine, ResultReader
from lakehouse.engine.payloads import Fetch
from lakehouse.model import Spelling, TimeRange
from server.workers.engine_messages import declarations_of, inspection_message
from server.workers.spilling import folder_of

NS_PER_S: Final = 1_000_000_000
_KERNELS: Final = "NUMBA_CACHE_DIR"  # where compiled code is kept: asked of numba when it is loaded …
_KEPT: Final = os.environ.get(_KERNELS)  # … which is after the worker has given its environment up
_READ_BY: Final = {"NUMBA_CACHE_LOCATOR_CLASSES": "server.workers.kept_kernels.KeptKernels"}
_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 the engine's times have no zone and mean UTC


def make_engine(options: Mapping[str, Any]) -> LakeEngine:
    """What a query worker calls once it is forked."""
    spill = options["spill"]
    folder = (
        "" if spill is None else str(folder_of(spill["folder"], os.getpid()) / "files")
    )  # made and removed by the engine
    return LakeEngine(
        EngineLimits(
            memory_bytes_max=options["memory_bytes"],
            spill_folder=folder,
            spill_bytes_max=0 if spill is None else spill["bytes_max"],
            threads=options["threads"],
        )
    )


class LakeEngine:
    """One worker's engine. Implements ``server.workers.query_worker.Engine``."""

    def __init__(self, limits: EngineLimits) -> None:
        self._engine = QueryEngine(limits)
        self._catalog = EngineCatalog({}, {})

    def describe(self, catalog: Mapping[str, Any]) -> None:
        self._catalog = EngineCatalog(*(declarations_of(catalog[part]) for part in ("tables", "view_sets")))

    def inspect(self, sql: str, parameters: pa.RecordBatch | None, options: Mapping[str, Any]) -> dict[str, Any]:
        spelling = Spelling(options.get("spelling", 0))
        return inspection_message(self._engine.inspect(sql, parameters, self._catalog, spelling=spelling))

    def run(
        self,
        sql: str,
        parameters: pa.RecordBatch | None,
        relations: Sequence[Any],
        options: Mapping[str, Any],
        fetch: Fetch,
    ) -> BatchReader:
        read = [self._relation(message) for message in relations]
        if _KEPT is not None and any(relation.made_by for relation in read):
            os.environ.update({_KERNELS: _KEPT, **_READ_BY})
        reader = self._engine.run(
            sql,
            () if parameters is None else parameters,
            read,
            catalog=self._catalog,
            identity=options["identity"],
            row_limit=options["row_limit"],
            fetch=fetch,
            now_ns=options["now_ns"],
            spelling=Spelling(options.get("spelling", 0)),
            metadata={
                name: rows if isinstance(rows, bytes) else Path(rows) for name, rows in options["metadata"].items()
            },
        )
        return BatchReader(reader)

    def interrupt(self) -> None:
        self._engine.interrupt()

    def premake(self) -> None:
        self._engine.premake()

    def _relation(self, message: Mapping[str, Any]) -> Relation:
        declared = self._catalog.view_sets[message["view_set"]]
        return Relation(
            name=message["name"],
            schema=declared.schema,
            files=tuple(message["files"]),
            files_inside=tuple(message["files_inside"]),
            begin_column=declared.begin_column,
            end_column=declared.end_column,
            range=TimeRange(message["begin_ns"], message["end_ns"]),
            metadata=message["view_set"] if message["metadata"] and not declared.made_by else None,
            merge=declared.merge,
            table=message["table"],
            made_by=declared.made_by,
            arguments=tuple(message["arguments"]),
        )


class BatchReader:
    """A result as the worker pulls it."""

    def __init__(self, reader: ResultReader) -> None:
        self._reader = reader
        self.schema: pa.Schema = reader.schema

    def read_next_batch(self) -> pa.RecordBatch:
        return next(self._reader)

    def close(self) -> None:
        self._reader.close()
