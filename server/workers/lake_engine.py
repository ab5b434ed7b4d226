"""The lake's engine as a worker sees it: plain values of the protocol in, calls of ``QueryEngine`` out.

Both directions of the translation stand here, so that edge and worker cannot disagree about a field's name. What comes
from a worker is checked field by field: it has read hostile SQL.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, get_args

import pyarrow as pa

from lakehouse.engine import (
    DeclaredRelation,
    EngineCatalog,
    EngineLimits,
    Inspection,
    MetadataFiles,
    QueryEngine,
    Reference,
    Relation,
    ResultReader,
)
from lakehouse.engine.relations import StatementKind
from lakehouse.errors import InternalError
from lakehouse.model import EVERYTHING, NS_PER_US, TimeRange

NS_PER_S: Final = 1_000_000_000
_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 the engine's times have no zone and mean UTC


@dataclass(frozen=True, slots=True)
class RelationFiles:
    """A relation of one run: which declaration it follows, and the files that hold its rows."""

    name: str  # a global table, or the engine's name of a view instance
    view_set: str
    files: tuple[str, ...] = ()  # rows are filtered by the range
    files_inside: tuple[str, ...] = ()  # no row lies outside of it
    range: TimeRange = EVERYTHING
    metadata: bool = False


def make_engine(options: Mapping[str, Any]) -> LakeEngine:
    """What a query worker calls once it is forked."""
    return LakeEngine(EngineLimits(memory_bytes_max=options["memory_bytes"], threads=options["threads"]))


class LakeEngine:
    """One worker's engine. Implements ``server.workers.query_worker.Engine``."""

    def __init__(self, limits: EngineLimits) -> None:
        self._engine = QueryEngine(limits)
        self._catalog = EngineCatalog({}, {})

    def describe(self, catalog: Mapping[str, Any]) -> None:
        self._catalog = EngineCatalog(*(_declarations(catalog[part]) for part in ("tables", "view_sets")))

    def inspect(self, sql: str, parameters: pa.RecordBatch | None, options: Mapping[str, Any]) -> dict[str, Any]:
        values = None if parameters is None else _values(parameters)
        return inspection_message(self._engine.inspect(sql, values, self._catalog))

    def run(
        self, sql: str, parameters: pa.RecordBatch | None, relations: Sequence[Any], options: Mapping[str, Any]
    ) -> BatchReader:
        metadata = {name: Path(path) for name, path in options["metadata"].items()}
        reader = self._engine.run(
            sql,
            () if parameters is None else _values(parameters),
            [self._relation(message) for message in relations],
            catalog=self._catalog,
            identity=options["identity"],
            row_limit=options["row_limit"],
            now_ns=options["now_ns"],
            metadata=MetadataFiles(**metadata) if metadata else None,
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
            metadata=message["metadata"],
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


def catalog_message(
    tables: Mapping[str, DeclaredRelation], view_sets: Mapping[str, DeclaredRelation]
) -> dict[str, Any]:
    """What workers are told about the relations that statements may name."""
    return {
        part: {
            name: [
                relation.schema.serialize().to_pybytes(),
                relation.begin_column,
                relation.end_column,
                relation.ordered,
            ]
            for name, relation in declared.items()
        }
        for part, declared in (("tables", tables), ("view_sets", view_sets))
    }


def _declarations(message: Mapping[str, Any]) -> dict[str, DeclaredRelation]:
    return {
        name: DeclaredRelation(pa.ipc.read_schema(pa.py_buffer(schema)), begin, end, ordered)
        for name, (schema, begin, end, ordered) in message.items()
    }


def relation_message(relation: RelationFiles) -> dict[str, Any]:
    """One relation as it goes to a worker."""
    return {
        "name": relation.name,
        "view_set": relation.view_set,
        "files": list(relation.files),
        "files_inside": list(relation.files_inside),
        "begin_ns": relation.range.begin_ns,
        "end_ns": relation.range.end_ns,
        "metadata": relation.metadata,
    }


def inspection_message(inspection: Inspection) -> dict[str, Any]:
    """What a worker answers."""
    return {
        "kind": inspection.kind,
        "references": [
            {
                "relation": reference.relation,
                "view_set": reference.view_set,
                "instance": reference.instance,
                "begin_ns": reference.range.begin_ns,
                "end_ns": reference.range.end_ns,
                "equals": {name: list(values) for name, values in reference.equals.items()},
            }
            for reference in inspection.references
        ],
        "parameters": inspection.parameters,
        "volatile": inspection.volatile,
        "schema": inspection.schema,
        "parameter_schema": inspection.parameter_schema,
        "now_ns": inspection.now_ns,
        "needs_relations": inspection.needs_relations,
    }


def inspection_of(message: Mapping[str, Any]) -> Inspection:
    """The answer of a worker, believed only in its form.

    Raises:
        InternalError: It has another form.
    """
    try:
        kind = message["kind"]
        if kind not in get_args(StatementKind):
            raise TypeError(kind)
        return Inspection(
            kind=kind,
            references=tuple(_reference(reference) for reference in message["references"]),
            parameters=_typed(message["parameters"], int),
            volatile=_typed(message["volatile"], bool),
            schema=_typed(message["schema"], bytes),
            parameter_schema=_typed(message["parameter_schema"], bytes),
            now_ns=_typed(message["now_ns"], int),
            needs_relations=_typed(message["needs_relations"], bool),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise InternalError("a query worker answered something else") from error


def _reference(message: Mapping[str, Any]) -> Reference:
    return Reference(
        relation=_typed(message["relation"], str),
        view_set=_typed(message["view_set"], str),
        instance=_typed(message["instance"], str | None),
        range=TimeRange(_typed(message["begin_ns"], int | None), _typed(message["end_ns"], int | None)),
        equals={
            _typed(name, str): tuple(_typed(value, str) for value in values)
            for name, values in message["equals"].items()
        },
    )


def _typed(value: Any, kind: Any) -> Any:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise TypeError(type(value).__name__)
    return value


def _values(parameters: pa.RecordBatch) -> list[Any]:
    return [_value(column) for column in parameters.columns]


def _value(column: pa.Array) -> Any:
    """A bound value as the engine takes it. Times are UTC without a zone, as the columns are that they meet."""
    if not pa.types.is_timestamp(column.type) or column.null_count:
        return column[0].as_py()
    time_ns = column.cast(pa.timestamp("ns", column.type.tz)).cast(pa.int64())[0].as_py()
    if time_ns % NS_PER_US == 0:
        return _EPOCH + timedelta(microseconds=time_ns // NS_PER_US)
    whole = _EPOCH + timedelta(seconds=time_ns // NS_PER_S)
    return f"{whole:%Y-%m-%d %H:%M:%S}.{time_ns % NS_PER_S:09}"  # Python's own times would drop the last digits
