"""The text that runs, where it is not the user's own: bound values get their types, and times are repaired.

What is changed is the tree, and the engine writes the text of it. Columns keep the names that the user's text gives them.
A statement with nothing to change is left alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from lakehouse.engine.gate import Checked
from lakehouse.engine.names import INFORMATION_SCHEMA, INFORMATION_STAND_IN
from lakehouse.engine.times import Repaired, Repairs, as_plain_calls, may_concern
from lakehouse.engine.tree import Node
from lakehouse.engine.written import name_items, written
from lakehouse.errors import UnsupportedError

_PARSE: Final = "SELECT json_serialize_sql(?::VARCHAR, skip_null := true, skip_empty := true, skip_default := true)"
_EXPRESSIONS_MAX: Final = 256

Substitute = Callable[[Node], Node]  # a parameter's node -> what stands in its place

_expressions: dict[str, str] = {}


def rewritten(
    connection: Any, checked: Checked, substitute: Substitute | None = None, *, repair: bool = True
) -> Repaired | None:
    """A statement with its times repaired, and with each parameter substituted; ``None``: nothing to do.

    Args:
        substitute: Called once for each place of a parameter, in no promised order. It leaves none open.
        repair: Whether times are repaired; without it the text is good for telling types alone.
    Raises:
        UnsupportedError: The engine cannot write what it has parsed, or a time would lose its nanoseconds.
    """

    def parse(text: str) -> Node:
        return _parse(connection, text)

    def write(tree: Node) -> str:
        return _write(connection, tree)

    repairs = Repairs(connection, parse, write) if repair and may_concern(checked.tree) else None
    is_new = substitute is not None or checked.reads_information
    if not is_new and repairs is None:
        return None
    prefix, text, tree = "", checked.text, checked.tree
    if checked.kind == "describe":  # its plan tells nothing of what is described
        prefix, text = "DESCRIBE ", write(tree["from_table"]["query"])
        tree = parse(text)
    if not is_new and repairs is not None and not repairs.needed(text, tree):
        return None
    holder: Node = {"tree": json.loads(json.dumps(tree))}
    all_of_them = checked.reads_information
    name_items(connection, holder["tree"], lambda item: all_of_them or may_concern(item))
    _prepare(holder, substitute)
    if repairs is None:
        return Repaired(prefix + write(holder["tree"]))
    if as_plain_calls(holder["tree"]) or is_new:
        text = write(holder["tree"])
        holder = {"tree": parse(text)}
    made = repairs.made(text, holder["tree"])
    return replace(made, text=prefix + made.text)


def expression(connection: Any, text: str) -> Node:
    """A fresh tree of an expression of ours."""
    if text not in _expressions:
        if len(_expressions) >= _EXPRESSIONS_MAX:
            _expressions.clear()
        answer = json.loads(connection.execute(_PARSE, [f"SELECT {text}"]).fetchall()[0][0])
        _expressions[text] = json.dumps(answer["statements"][0]["node"]["select_list"][0])
    found: Node = json.loads(_expressions[text])
    return found


def replaced(tree: Node, substitute: Substitute) -> Node:
    """A tree with its parameters substituted, and nothing else."""
    holder: Node = {"tree": tree}
    _prepare(holder, substitute)
    found: Node = holder["tree"]
    return found


def _prepare(holder: Node, substitute: Substitute | None) -> None:
    """Substitute parameters in place, and use the stand-in of ``information_schema``. Depth is the user's: no recursion."""
    todo: list[Any] = [holder]
    while todo:
        part = todo.pop()
        if isinstance(part, dict) and part.get("type") == "BASE_TABLE":
            path = (part.get("qualified_name") or {}).get("path") or []
            if [str(name).lower() for name in path[-2:-1]] == [INFORMATION_SCHEMA]:
                part["qualified_name"] = {"path": [INFORMATION_STAND_IN, path[-1]]}
        for key, value in list(part.items() if isinstance(part, dict) else enumerate(part)):
            if substitute is not None and isinstance(value, dict) and value.get("class") == "PARAMETER":
                alias = value.get("alias")
                part[key] = {**substitute(value), "alias": alias} if alias else substitute(value)
            elif isinstance(value, (dict, list)):
                todo.append(value)


def _parse(connection: Any, text: str) -> Node:
    answer = json.loads(connection.execute(_PARSE, [text]).fetchall()[0][0])
    if answer["error"]:
        raise UnsupportedError("the engine cannot read again what it has written of this statement")
    found: Node = answer["statements"][0]["node"]
    return found


def _write(connection: Any, tree: Node) -> str:
    return written(connection, [tree])[0]
