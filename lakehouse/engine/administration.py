"""Where a statement may call what changes the lake: where it is plain how often, and for which rows, it is called.

Table functions of this kind are a statement of their own, ``SELECT … FROM retire_partitions(…)``: the server does the work
and streams its rows itself, the engine only binds them. Scalar ones are columns of the outermost SELECT, whose rows nothing
drops or repeats after they were called for.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import cache
from typing import Final

from lakehouse.engine.functions import ServerFunction, functions_in, own_functions, relation_functions
from lakehouse.engine.tree import Node, function_name, nodes
from lakehouse.errors import ForbiddenSqlError

_ADDED: Final = ("where_clause", "group_expressions", "having", "qualify", "sample", "modifiers")
_OF_PLAIN_STARS: Final = frozenset({"class", "type", "query_location", "query_location_length", "relation_name"})


@cache
def administering_functions() -> frozenset[str]:
    """The names of all of them."""
    tables = (function.name for function in relation_functions().values() if function.administers)
    scalars = (function.name for function in own_functions() if _asks_the_server(function.name))
    return frozenset(tables) | frozenset(scalars)


def _asks_the_server(name: str) -> bool:
    return any(isinstance(called, ServerFunction) for called in functions_in(name))


def refuse_misplaced(tree: Node, called: Collection[str], *, is_query: bool) -> None:
    """
    Args:
        tree: The query node at the top.  called: Those of the functions that the statement calls.
        is_query: It is neither explained nor described.
    Raises:
        ForbiddenSqlError: One of them is not called as a statement of its own, or is no column of the outermost SELECT.
    """
    for name in called:
        if name in relation_functions():
            if not (is_query and _is_whole(tree)):
                raise ForbiddenSqlError(
                    f"{name} is a statement of its own, for what it does is not undone: SELECT time, msg FROM {name}(…),"
                    " without anything else"
                )
        elif not (is_query and _is_column(tree, name)):
            raise ForbiddenSqlError(
                f"{name} may only be a column of the outermost SELECT, without ORDER BY, LIMIT, DISTINCT and GROUP BY there,"
                " for what it does is not undone: choose its rows in a subquery"
            )


def _is_whole(tree: Node) -> bool:
    source = tree.get("from_table") or {}
    return (
        tree.get("type") == "SELECT_NODE"
        and source.get("type") == "TABLE_FUNCTION"
        and not source.get("sample")
        and not any(tree.get(part) for part in _ADDED)
        and not (tree.get("cte_map") or {}).get("map")
        and all(_is_plain(item) for item in tree.get("select_list") or [])
    )


def _is_plain(item: Node) -> bool:
    if item.get("class") == "STAR":
        return item.keys() <= _OF_PLAIN_STARS
    return item.get("class") == "COLUMN_REF"


def _is_column(tree: Node, name: str) -> bool:
    if tree.get("type") != "SELECT_NODE" or any(tree.get(part) for part in _ADDED if part != "where_clause"):
        return False
    listed = sum(_calls(item, name) for item in tree.get("select_list") or [])
    return listed == sum(_calls(node, name) for node in nodes(tree))


def _calls(node: Node, name: str) -> bool:
    return node.get("class") == "FUNCTION" and function_name(node) == name
