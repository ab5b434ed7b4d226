"""A statement as DuckDB's parser serializes it: what every reader of the tree needs, and no opinion about any part.

The tree is plain JSON. Its depth is the user's, so nothing here recurses.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

Node = dict[str, Any]
# What the engine writes of a constant that is no number. Within texts of its JSON the quotes have a backslash.
_NOT_A_NUMBER: Final = re.compile(r'(?<!\\)"value":-?NAN\b')


@dataclass(frozen=True, slots=True)
class Parsed:
    """A text that is one SELECT, or EXPLAIN of one."""

    text: str  # the user's text unless a repair was needed, without EXPLAIN
    node: Node  # the query node at the top
    parameters: int
    explain: bool
    analyze: bool  # EXPLAIN ANALYZE
    folded: frozenset[str] = frozenset()  # names with capitals that were written without quotes
    is_translated: bool = False  # and may call helpers of our own


def read_plan(text: str) -> Node:
    """A plan that the engine has written as JSON.

    Raises:
        ValueError: It is none.
    """
    answer: Node = json.loads(_NOT_A_NUMBER.sub('"value":NaN', text) if "NAN" in text else text)
    return answer


def nodes(part: Any, *, without: str | None = None) -> Iterator[Node]:
    """Every node of a part, itself first, in no promised order; nothing below the key ``without``."""
    todo = [part]
    while todo:
        node = todo.pop()
        if isinstance(node, dict):
            yield node
            values: Iterable[Any] = node.values() if without is None else (v for k, v in node.items() if k != without)
        elif isinstance(node, list):
            values = node
        else:
            continue
        todo += [value for value in values if value.__class__ is dict or value.__class__ is list]


def string_literal(node: Node) -> str | None:
    """The text of a literal; ``None`` for any other expression."""
    literal = node.get("literal") if node.get("class") == "CONSTANT" else None
    if isinstance(literal, dict) and literal.get("kind") == "STRING":
        return str(literal.get("text", ""))
    return None


def function_name(node: Node) -> str:
    """The lower-case name of a called function; empty for what is no call."""
    return str(node.get("function_name", "")).lower()


def cast_target(node: Node) -> str:
    """The lower-case name of the type that is cast to; empty for what is no cast."""
    return str((node.get("type_expr") or {}).get("type_name", "")).lower() if node.get("class") == "CAST" else ""


def may_widen(item: Node) -> bool:
    """Whether one item of a select list may be several columns: a star, ``COLUMNS(…)`` or ``unnest`` somewhere in it."""
    return any(
        node.get("class") == "STAR" or function_name(node) == "unnest" for node in nodes(item, without="subquery")
    )


def parameter_number(node: Any) -> int | None:
    """The number of a parameter, from 1; ``None`` for any other expression."""
    if isinstance(node, dict) and node.get("class") == "PARAMETER":
        return int(node["identifier"])
    return None


def bound_value(node: Node, parameters: Sequence[Any] | None) -> Any:
    """The value of a parameter; ``None`` where there is none."""
    index = (parameter_number(node) or 0) - 1
    return parameters[index] if parameters is not None and 0 <= index < len(parameters) else None


def call_of(name: str, *arguments: Node) -> Node:
    """A call of a function."""
    return {
        "class": "FUNCTION",
        "type": "FUNCTION",
        "function_name": name,
        "qualified_name": {"path": [name]},
        "order_bys": {"type": "ORDER_MODIFIER"},
        "arguments": [{"expression": argument} for argument in arguments],
    }


def rename(call: Node, name: str) -> None:
    """Have another function called, by its plain name."""
    for key in ("schema", "catalog", "is_operator"):
        call.pop(key, None)
    call["function_name"] = name
    call["qualified_name"] = {"path": [name]}


def arguments_of(call: Node) -> list[Node]:
    """The arguments of a call, without their names."""
    return [argument.get("expression") or {} for argument in call.get("arguments") or []]


def type_of(name: str) -> Node:
    """A type as it stands in a cast: ``BIGINT`` or ``DECIMAL(18,3)``."""
    base, _, inside = name.partition("(")
    node: Node = {"class": "TYPE", "type": "TYPE", "type_name": base, "qualified_name": {"path": [base]}}
    if inside:
        node["children"] = [
            {"class": "CONSTANT", "type": "VALUE_CONSTANT", "literal": {"kind": "INTEGER", "text": part}}
            for part in inside.rstrip(")").split(",")
        ]
    return node


def is_difference(node: Node) -> bool:
    """Whether an expression is ``a - b``."""
    return function_name(node) == "-" and bool(node.get("is_operator")) and len(node.get("arguments") or []) == 2
