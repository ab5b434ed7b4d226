"""Which columns a statement can read, by their names in its text: what is not there need not be fetched.

Names too many are no harm, so nothing is resolved: every string of the tree may be the name of a column. Where columns are
meant without being named, by a star, by position or by a whole row, the answer is that any may be read.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

from lakehouse.engine.tree import Node, nodes

_UNNAMED: Final = frozenset({"STAR", "POSITIONAL_REFERENCE"})
_OF_ALL_COLUMNS: Final = frozenset({"PIVOT", "SHOW_REF"})
_BY_COMMON_NAMES: Final = frozenset({"NATURAL", "POSITIONAL"})


def columns_read(tree: Any, tables: Collection[str]) -> frozenset[str] | None:
    """Lower-case names, among which are those of all columns that the statement can read; ``None``: it may read any.

    Args:
        tables: Names of the relations that are read, as far as they have names of their own.
    """
    strings: set[str] = set()
    relations = {table.lower() for table in tables}
    last_parts: set[str] = set()
    for node in nodes(tree):
        if _means_unnamed(node):
            return None
        for value in node.values():
            for part in value if isinstance(value, list) else (value,):
                if isinstance(part, str):
                    strings.add(part.lower())
        if node.get("class") == "COLUMN_REF":
            last_parts.add(str(node["column_names"][-1]).lower())
        elif node.get("alias"):
            relations.add(str(node["alias"]).lower())
    return None if relations & last_parts else frozenset(strings)  # a relation's name as a value is a row of it


def _means_unnamed(node: Node) -> bool:
    kind = node.get("class")
    if kind in _UNNAMED or str(node.get("type")) in _OF_ALL_COLUMNS or node.get("ref_type") in _BY_COMMON_NAMES:
        return True
    if kind == "FUNCTION" and (node.get("schema") or node.get("catalog")):
        return True  # what is called as a method stands where a schema would, and may be a row
    return bool(node.get("column_name_alias"))  # columns under other names, by position
