"""What edge and worker tell each other about relations and statements, as plain values of the protocol.

Both directions of the translation stand here, so that the two cannot disagree about a field's name. What comes from a
worker is checked field by field: it has read hostile SQL.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args

import pyarrow as pa

from lakehouse.engine import DeclaredRelation, Inspection, Reference, StatementKind
from lakehouse.errors import InternalError
from lakehouse.jobs.run import JobRelation
from lakehouse.model import TimeRange


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
                dict(relation.joins),
                relation.merge,
                relation.made_by,
                dict(relation.origins),
            ]
            for name, relation in declared.items()
        }
        for part, declared in (("tables", tables), ("view_sets", view_sets))
    }


def declarations_of(message: Mapping[str, Any]) -> dict[str, DeclaredRelation]:
    """What a worker makes of one part of ``catalog_message``."""
    return {
        name: DeclaredRelation(pa.ipc.read_schema(pa.py_buffer(schema)), *rest)
        for name, (schema, *rest) in message.items()
    }


def relation_message(relation: JobRelation, files: Sequence[str], files_inside: Sequence[str]) -> dict[str, Any]:
    """One relation as it goes to a worker, with the local files of its keys."""
    return {
        "name": relation.name,
        "view_set": relation.source,
        "files": list(files),
        "files_inside": list(files_inside),
        "begin_ns": relation.range.begin_ns,
        "end_ns": relation.range.end_ns,
        "metadata": relation.from_catalog,
        "table": relation.table,
        "arguments": list(relation.arguments),
    }


def inspection_message(inspection: Inspection) -> dict[str, Any]:
    """What a worker answers."""
    return {
        "kind": inspection.kind,
        "references": [
            {
                "relation": reference.relation,
                "view_set": reference.view_set,
                "arguments": list(reference.arguments),
                "is_call": reference.is_call,
                "begin_ns": reference.range.begin_ns,
                "end_ns": reference.range.end_ns,
                "equals": {name: list(values) for name, values in reference.equals.items()},
                "columns": None if reference.columns is None else sorted(reference.columns),
                "ended_by_ns": reference.ended_by_ns,
            }
            for reference in inspection.references
        ],
        "parameters": inspection.parameters,
        "volatile": inspection.volatile,
        "schema": inspection.schema,
        "parameter_schema": inspection.parameter_schema,
        "now_ns": inspection.now_ns,
        "needs_relations": inspection.needs_relations,
        "administers": list(inspection.administers),
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
            administers=tuple(_typed(name, str) for name in message["administers"]),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise InternalError("a query worker answered something else") from error


def _reference(message: Mapping[str, Any]) -> Reference:
    return Reference(
        relation=_typed(message["relation"], str),
        view_set=_typed(message["view_set"], str),
        arguments=tuple(_typed(argument, str | None) for argument in message["arguments"]),
        is_call=_typed(message["is_call"], bool),
        range=TimeRange(_typed(message["begin_ns"], int | None), _typed(message["end_ns"], int | None)),
        equals={
            _typed(name, str): tuple(_typed(value, str) for value in values)
            for name, values in message["equals"].items()
        },
        columns=None if message["columns"] is None else frozenset(_typed(name, str) for name in message["columns"]),
        ended_by_ns=_typed(message["ended_by_ns"], int | None),
    )


def _typed(value: Any, kind: Any) -> Any:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise TypeError(type(value).__name__)
    return value
