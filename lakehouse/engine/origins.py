"""What the columns of a result are to the original: documents, dictionaries, or plain values.

Clients of the original are sent its types. Which column of a result is a document does not show in its type, which is
text, but in where it comes from. So a statement is bound once more, over stand-ins whose columns have an ENUM of their own
for each origin: the engine's own rules carry it through subqueries, joins, grouping and windows to the result, and whatever
makes another text of it makes a VARCHAR. Nothing is ever run here. A statement that the stand-ins do not suit (an ENUM has
no ``text[1:3]``) has plain values where the origin is not known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import duckdb
import pyarrow as pa

from lakehouse.engine.database import Database
from lakehouse.engine.functions import OwnFunction, own_functions
from lakehouse.engine.limits import EngineLimits
from lakehouse.engine.relations import EngineCatalog, Origin
from lakehouse.engine.sql_types import literal, sql_type
from lakehouse.model import Spelling

_DOCUMENTS: Final = frozenset({Origin.DOCUMENT, Origin.PAIRS, Origin.PLAIN_DOCUMENT})
_OF_FUNCTIONS: Final[Mapping[str, Origin]] = {
    "jsonb_parse": Origin.DOCUMENT,
    "jsonb_get": Origin.DOCUMENT,
    "jsonb_path_query": Origin.DOCUMENT,
    "jsonb_path_query_first": Origin.DOCUMENT,
    "properties_to_jsonb": Origin.DOCUMENT,
    "jsonb_each": Origin.PLAIN_DOCUMENT,
    "jsonb_array_elements": Origin.PLAIN_DOCUMENT,
    "lakeflight_each_of": Origin.PLAIN_DOCUMENT,
    "lakeflight_elements_of": Origin.PLAIN_DOCUMENT,
    "jsonb_format_json": Origin.TEXT,
    "jsonb_as_string": Origin.TEXT,
    "property_get": Origin.TEXT,
}
_MARK: Final = "lakeflight: "  # before the name of an origin, in its ENUM

Bind = Callable[[Database], Any]  # of a statement, over a database that declares what it names


class Origins:
    """The stand-ins of one catalog, made when they are asked for."""

    def __init__(self, limits: EngineLimits, catalog: EngineCatalog) -> None:
        self._limits, self._catalog = limits, catalog
        self._databases: dict[bool, Database] = {}

    def find(self, bind: Bind, spelling: Spelling) -> Sequence[Origin | None]:
        """The origin of each column of a statement that ``bind`` binds; empty: none is known."""
        kinds = [True, False] if Spelling.DICTIONARIES in spelling else [False]
        for with_texts in kinds if Spelling.JSONB in spelling else kinds[:1]:
            try:
                relation = bind(self._database(with_texts))
            except (duckdb.InterruptException, duckdb.OutOfMemoryException):
                raise
            except duckdb.Error:
                continue
            return [_origin_of(kind) for kind in relation.types]
        return ()

    def close(self) -> None:
        for database in self._databases.values():
            database.close()

    def _database(self, with_texts: bool) -> Database:
        known = self._databases.get(with_texts)
        if known is None:
            origins = frozenset(Origin) if with_texts else _DOCUMENTS
            stand_ins = {
                function.name: _stand_in(function, _OF_FUNCTIONS[function.name])
                for function in own_functions()
                if _OF_FUNCTIONS.get(function.name) in origins
            }
            known = self._databases[with_texts] = Database(self._limits, stand_ins=stand_ins)
            known.declare(self._catalog, lambda kind, origin: _marked_type(kind, origin if origin in origins else None))
            known.lock([])
        return known


def _marked_type(kind: Any, origin: str | None) -> str:
    if origin is None:
        return sql_type(kind)
    if origin == Origin.PAIRS and pa.types.is_list(kind):
        return f'STRUCT("key" VARCHAR, "value" {_enum(Origin.PAIRS)})[]'
    return _enum(Origin(origin))


def _enum(origin: Origin) -> str:
    return f"ENUM({literal(_MARK + origin)})"


def _stand_in(function: OwnFunction, origin: Origin) -> str:
    names = ", ".join(f"a{place}" for place in range(len(function.parameters)))
    marked = f"CAST(NULL AS {_enum(origin)})"
    if function.kind == "table":
        others = "CAST(NULL AS VARCHAR) AS key, " if "key VARCHAR" in function.result else ""
        return f"CREATE MACRO {function.name}({names}) AS TABLE SELECT {others}{marked} AS value FROM (SELECT {names})"
    return f"CREATE MACRO {function.name}({names}) AS CASE WHEN hash({names}) IS NOT NULL THEN {marked} END"


def _origin_of(kind: Any) -> Origin | None:
    """Of a value as it is; in lists and structs of the user's there are none."""
    name = str(kind.id)
    if name == "enum":
        origin = _named_by(kind)
        return None if origin == Origin.PAIRS else origin  # the value of one pair
    if name == "list":
        (_, child), *_ = kind.children
        members = dict(child.children) if str(child.id) == "struct" else {}
        if list(members) == ["key", "value"]:
            value: Any = members["value"]
            if str(value.id) == "enum" and _named_by(value) == Origin.PAIRS:
                return Origin.PAIRS
    return None


def _named_by(kind: Any) -> Origin | None:
    ((_, values),) = kind.children
    text = values[0] if len(values) == 1 else ""
    return Origin(text.removeprefix(_MARK)) if text.startswith(_MARK) else None
