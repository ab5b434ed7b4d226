"""``arrow_typeof``: what a value is to a client of the original; of property functions that follows from their names."""

from __future__ import annotations

import re
from typing import Final

from lakehouse.engine.functions.declare import Rewording
from lakehouse.engine.tree import Node, arguments_of, call_of, function_name
from lakehouse.errors import ForbiddenSqlError

_TEXTS: Final = "Dictionary(Int32, Utf8)"
_DOCUMENTS: Final = "Dictionary(Int32, Binary)"
_ARROW_RESULTS: Final = {
    **dict.fromkeys(("property_get", "jsonb_as_string", "jsonb_format_json"), _TEXTS),
    **dict.fromkeys(("jsonb_parse", "jsonb_get", "jsonb_path_query", "jsonb_path_query_first"), _DOCUMENTS),
    "properties_to_jsonb": _DOCUMENTS,
    "jsonb_object_keys": "Dictionary(Int32, List(Utf8))",
}
_PROPERTIES: Final = re.compile(r"(?:.*[._])?properties", re.IGNORECASE)


def translate(call: Node) -> Node:
    """A literal where the original has a dictionary, else a look at the engine's type."""
    given = arguments_of(call)
    if len(given) != 1:
        raise ForbiddenSqlError(f"arrow_typeof takes one value, not {len(given)}")
    (value,) = given
    known = _ARROW_RESULTS.get(function_name(value))
    names = value.get("column_names") or []
    if names and _PROPERTIES.fullmatch(str(names[-1])):
        known = _DOCUMENTS
    if known is None:
        return call_of("lakeflight_arrow_type", value)
    return {"class": "CONSTANT", "type": "VALUE_CONSTANT", "literal": {"kind": "STRING", "text": known}}


FUNCTION: Final = Rewording(
    signature="arrow_typeof(value ANY) -> VARCHAR",
    documentation="Arrow's name for the type of a value. Of the functions of JSON documents and properties, and of columns of"
    " properties, the dictionary that clients of the original get.",
    listing="system",
    examples=(
        ("arrow_typeof(5::BIGINT)", "Int64"),
        ("arrow_typeof(property_get('{}', 'a'))", "Dictionary(Int32, Utf8)"),
    ),
    translate=translate,
)
