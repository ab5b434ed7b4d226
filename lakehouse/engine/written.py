"""Trees as text: the engine writes what of a statement was changed, and columns keep the names that the user's text gives them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, Final

import duckdb

from lakehouse.engine.tree import Node, may_widen, nodes
from lakehouse.errors import UnsupportedError

_WRITE: Final = "SELECT json_deserialize_sql(tree::JSON) FROM (SELECT unnest(?::VARCHAR[]) AS tree)"
_NAMES_CHARS_MAX: Final = 4 << 20  # of columns without a name; four times what a statement has, so that they are nested
_NAMED_BY_THEMSELVES: Final = frozenset({"COLUMN_REF", "STAR"})


def written(connection: Any, trees: Sequence[Node]) -> list[str]:
    """The text of each.

    Raises:
        UnsupportedError: The engine cannot write what it has parsed.
    """
    if not trees:
        return []
    serialized = [json.dumps({"error": False, "statements": [{"node": tree}]}) for tree in trees]
    try:
        return [str(text) for (text,) in connection.execute(_WRITE, [serialized]).fetchall()]
    except duckdb.InterruptException:
        raise
    except (duckdb.Error, RecursionError) as error:
        raise UnsupportedError("the engine cannot write this statement with its values and times made exact") from error


def name_items(connection: Any, tree: Node, concerns: Callable[[Node], bool]) -> None:
    """Columns without a name get the one that the user's text gives them, before the text is another.

    That of a subquery in an expression is seen by nobody, and each would repeat all that is nested in it. Nor does one need
    a name in which nothing will be changed.
    """
    unseen = {id((node.get("subquery") or {}).get("node")) for node in nodes(tree) if node.get("class") == "SUBQUERY"}
    items = [
        item
        for node in nodes(tree)
        if node.get("type") == "SELECT_NODE" and id(node) not in unseen
        for item in node.get("select_list") or []
        if not item.get("alias")
        and item.get("class") not in _NAMED_BY_THEMSELVES
        and not may_widen(item)
        and concerns(item)
    ]
    texts = written(connection, [_select(item) for item in items])
    if sum(map(len, texts)) > _NAMES_CHARS_MAX:
        raise UnsupportedError("columns of nested queries would be called by all of their text: name them with AS")
    for item, text in zip(items, texts, strict=True):
        item["alias"] = text.removeprefix("SELECT ")


def _select(item: Node) -> Node:
    return {
        "type": "SELECT_NODE",
        "cte_map": {},
        "select_list": [item],
        "from_table": {"type": "EMPTY"},
        "aggregate_handling": "STANDARD_HANDLING",
    }
