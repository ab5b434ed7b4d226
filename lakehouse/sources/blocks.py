"""Relations made from blocks: a view set, of one process or stream, or of all."""

from __future__ import annotations

from lakeflight.wire.errors import MalformedRequestError
from lakeflight.wire.identifiers import canonical_uuid
from lakehouse.engine import DeclaredRelation
from lakehouse.errors import UnknownViewError
from lakehouse.model import GLOBAL_INSTANCE, Caller
from lakehouse.ports import View
from lakehouse.sources.port import Arguments, Freshening, PartitionMaker, Rows, Use


class BlocksSource:
    """``FROM log_entries``, and ``view_instance('log_entries', id)``: the instance is the only argument."""

    def __init__(self, view: View) -> None:
        self.view = view
        self.name = view.view_set
        self.is_table = view.has_global
        self.declaration = DeclaredRelation(view.schema, view.begin_column, view.end_column, ordered=view.is_ordered)

    def resolve(self, arguments: Arguments) -> Arguments:
        (instance,) = arguments or (GLOBAL_INSTANCE,)
        wanted = f"the id of a {self.view.instance_kind.value}"
        if instance == GLOBAL_INSTANCE:
            if self.view.has_global:
                return (GLOBAL_INSTANCE,)
            raise UnknownViewError(f"the global view is not implemented for {self.name}: give {wanted}")
        try:
            return (canonical_uuid(instance),)
        except MalformedRequestError as error:
            if self.view.has_global:
                wanted = f"'{GLOBAL_INSTANCE}' or {wanted}"
            raise UnknownViewError(f"an instance of {self.name} is {wanted}, not '{instance}'") from error

    async def freshen(self, use: Use, caller: Caller, freshening: Freshening) -> Rows:
        (instance,) = use.arguments
        values = {} if self.declaration.merge else use.equals  # a part of a row may have other values than the row
        fresh = await freshening.maker.ensure_stored(self.view, instance, use.range, freshening.allowance, values)
        return Rows(fresh.partitions, missing_blocks=fresh.missing_blocks)

    async def known_missing(self, use: Use, caller: Caller, maker: PartitionMaker) -> int | None:
        (instance,) = use.arguments
        return await maker.known_missing([(self.view, instance, use.range)])
