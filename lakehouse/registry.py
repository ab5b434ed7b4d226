"""Which views there are: by name, as global tables, and as instances of a process or a stream.

Knows no view by name; whoever starts the server says which there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import pyarrow as pa

from lakeflight.wire.errors import MalformedRequestError
from lakeflight.wire.identifiers import canonical_uuid
from lakehouse.engine import DeclaredRelation
from lakehouse.errors import UnknownViewError
from lakehouse.model import GLOBAL_INSTANCE, InstanceKind, ViewKey
from lakehouse.ports import View


@dataclass(frozen=True, slots=True)
class MetadataView:
    """A view set that answers from the catalog's own rows, so it has no blocks, no files and one instance.

    ``lakehouse/catalog/sql/metadata.sql`` has a SELECT of its name, with the columns of the schema. Only a column called
    ``other.column`` is not in it: that is a column of the view that one of the ids is joined with.

    A row is in a range of time if ``begin_column`` is at or before its end and ``end_column`` at or after its begin.
    """

    view_set: str
    schema: pa.Schema
    ids: tuple[str, ...]  # columns of UUIDs: rows are chosen by them before they leave the catalog
    begin_column: str
    end_column: str
    joins: Mapping[str, MetadataView] = field(default_factory=dict)  # id column -> the view that describes it


AnyView: TypeAlias = View | MetadataView


class ViewRegistry:
    """The offer of one server, in the order it was given."""

    def __init__(self, views: Iterable[AnyView]) -> None:
        self._views: dict[str, AnyView] = {}
        for view in views:
            if view.view_set in self._views:
                raise ValueError(f"two views are called {view.view_set}")
            names = set(view.schema.names)
            missing = {view.begin_column, view.end_column} - names
            if isinstance(view, MetadataView):
                missing |= {*view.ids, *view.joins} - names
                self._check_joins(view)
            if missing:
                raise ValueError(f"{view.view_set} has no column {', '.join(sorted(missing))}")
            self._views[view.view_set] = view

    def _check_joins(self, view: MetadataView) -> None:
        joined = [other for other in view.joins.values() if other.view_set in self._views]
        known = {f"{other.view_set}.{name}" for other in joined for name in other.schema.names}
        unknown = {name for name in view.schema.names if "." in name} - known
        if unknown:
            raise ValueError(f"{view.view_set} joins no view before it that has {', '.join(sorted(unknown))}")

    @property
    def views(self) -> tuple[AnyView, ...]:
        return tuple(self._views.values())

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._views)

    @property
    def global_tables(self) -> tuple[AnyView, ...]:
        """Views that can be named in a FROM clause without more."""
        return tuple(view for view in self._views.values() if has_global(view))

    def find(self, view_set: str) -> AnyView:
        """Raises ``UnknownViewError`` if there is none."""
        view = self._views.get(view_set)
        if view is None:
            raise UnknownViewError(f"view set {view_set} not found: there are {', '.join(self._views)}")
        return view

    def global_table(self, name: str) -> AnyView | None:
        """The view behind an unqualified table name, ``None`` if the name is not one of ours."""
        view = self._views.get(name)
        return view if view is not None and has_global(view) else None

    def view_instance(self, view_set: str, instance: str) -> tuple[AnyView, ViewKey]:
        """What ``view_instance('view_set', 'instance')`` means. Whether the process or stream exists is not asked here.

        Raises:
            UnknownViewError: No such view set, or it has no such kind of instance.
        """
        view = self.find(view_set)
        if instance == GLOBAL_INSTANCE:
            if isinstance(view, MetadataView) or view.has_global:
                return view, ViewKey(view_set, GLOBAL_INSTANCE)
            raise UnknownViewError(
                f"the global view is not implemented for {view_set}: give the id of {_article(view.instance_kind)}"
            )
        if isinstance(view, MetadataView):
            raise UnknownViewError(
                f"{view_set} has no instances: its only one is '{GLOBAL_INSTANCE}', not '{instance}'"
            )
        try:
            return view, ViewKey(view_set, canonical_uuid(instance))
        except MalformedRequestError as error:
            wanted = f"the id of {_article(view.instance_kind)}"
            if view.has_global:
                wanted = f"'{GLOBAL_INSTANCE}' or {wanted}"
            raise UnknownViewError(f"an instance of {view_set} is {wanted}, not '{instance}'") from error


def has_global(view: AnyView) -> bool:
    return isinstance(view, MetadataView) or view.has_global


def declaration(view: AnyView) -> DeclaredRelation:
    """What the engine is told about a view."""
    if isinstance(view, MetadataView):
        joins = {column: other.view_set for column, other in view.joins.items()}
        return DeclaredRelation(view.schema, view.begin_column, view.end_column, joins=joins)
    return DeclaredRelation(view.schema, view.begin_column, view.end_column, ordered=True)


def _article(kind: InstanceKind) -> str:
    return f"a {kind.value}"
