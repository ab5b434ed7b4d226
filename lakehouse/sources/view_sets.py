"""``list_view_sets()``: what there is to read, made of what the server offers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import pyarrow as pa

from lakehouse.buckets.planning import schema_hash
from lakehouse.engine import DeclaredRelation
from lakehouse.errors import UnknownViewError
from lakehouse.model import Caller
from lakehouse.ports import View
from lakehouse.sources.port import Arguments, Freshening, PartitionMaker, RelationSource, Rows, Use

_SCHEMA: Final = pa.schema(
    [
        pa.field("view_set_name", pa.string(), nullable=False),
        pa.field("current_schema_hash", pa.binary(), nullable=False),
        pa.field("schema", pa.string(), nullable=False),
        pa.field("has_view_maker", pa.bool_(), nullable=False),
        pa.field("global_instance_available", pa.bool_(), nullable=False),
    ]
)
_SOME_ID: Final = "00000000-0000-4000-8000-000000000000"  # whether it exists is not asked


class ViewSetsSource:
    """A row for each view set; those that can be read without an instance come first."""

    name = "list_view_sets"
    is_table = False
    view: View | None = None
    declaration = DeclaredRelation(_SCHEMA)

    def __init__(self, view_sets: Iterable[RelationSource]) -> None:
        self._table = _stream_of(sorted(view_sets, key=lambda source: not source.is_table))

    def resolve(self, arguments: Arguments) -> Arguments:
        if arguments:
            raise UnknownViewError(f"{self.name} is a function: {self.name}()")
        return ()

    async def freshen(self, use: Use, caller: Caller, freshening: Freshening) -> Rows:
        return Rows(table=self._table)

    async def known_missing(self, use: Use, caller: Caller, maker: PartitionMaker) -> int | None:
        return 0


def _stream_of(sources: Sequence[RelationSource]) -> bytes:
    rows = []
    for source in sources:
        schema = source.declaration.schema if source.view is None else source.view.schema
        rows.append(
            {
                "view_set_name": source.name,
                "current_schema_hash": schema_hash(schema),
                "schema": "\n".join(map(_field_text, source.declaration.schema)),
                "has_view_maker": _has_instances(source),
                "global_instance_available": source.is_table,
            }
        )
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, _SCHEMA) as writer:
        writer.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA))
    content: bytes = sink.getvalue().to_pybytes()
    return content


def _field_text(field: Any) -> str:
    return f'Field {{ name: "{field.name}", type: {field.type}, nullable: {str(field.nullable).lower()} }}'


def _has_instances(source: RelationSource) -> bool:
    try:
        source.resolve((_SOME_ID,))
    except UnknownViewError:
        return False
    return True
