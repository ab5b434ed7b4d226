"""Which relations there are: by name, as tables, and as functions of their arguments.

Knows none by name and asks none of what kind it is; whoever starts the server says which there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from lakehouse.engine import DeclaredRelation
from lakehouse.errors import UnknownViewError, UnsupportedError
from lakehouse.ports import View
from lakehouse.sources.port import RelationSource


class SourceRegistry:
    """The offer of one server, in the order it was given."""

    def __init__(
        self, sources: Iterable[RelationSource], origins: Mapping[str, Mapping[str, str]] | None = None
    ) -> None:
        """``origins``: what columns are to the original, by source."""
        self._sources: dict[str, RelationSource] = {}
        for source in sources:
            if source.name in self._sources:
                raise ValueError(f"two views are called {source.name}")
            self._check(source)
            self._sources[source.name] = source
        self._declarations = {
            name: replace(source.declaration, origins=(origins or {}).get(name, {}))
            for name, source in self._sources.items()
        }

    def _check(self, source: RelationSource) -> None:
        declared = source.declaration
        missing = {declared.begin_column, declared.end_column} - {None, *declared.schema.names}
        if missing:
            raise ValueError(f"{source.name} has no column {', '.join(sorted(map(str, missing)))}")
        joined = [name for name in declared.joins.values() if name in self._sources]
        known = {f"{name}.{column}" for name in joined for column in self._sources[name].declaration.schema.names}
        unknown = {name for name in declared.schema.names if "." in name} - known
        if unknown:
            raise ValueError(f"{source.name} joins no view before it that has {', '.join(sorted(unknown))}")

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._sources)

    @property
    def tables(self) -> tuple[str, ...]:
        """Names that can stand in a FROM clause without more."""
        return tuple(name for name, source in self._sources.items() if source.is_table)

    @property
    def declarations(self) -> Mapping[str, DeclaredRelation]:
        """What the engine is told, by name."""
        return self._declarations

    @property
    def views(self) -> tuple[View, ...]:
        """Everything that partitions are built with from blocks."""
        return tuple(source.view for source in self._sources.values() if source.view is not None)

    def find(self, name: str) -> RelationSource:
        """Raises ``UnknownViewError`` if there is none."""
        source = self._sources.get(name)
        if source is None:
            raise UnknownViewError(f"view set {name} not found: there are {', '.join(self._sources)}")
        return source

    def view(self, name: str) -> View:
        """What the partitions of a view set are built with.

        Raises:
            UnknownViewError: There is no such view set.
            UnsupportedError: It keeps no partitions of blocks.
        """
        view = self.find(name).view
        if view is None:
            raise UnsupportedError(f"{name} is not made from blocks")
        return view
