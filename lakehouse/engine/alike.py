"""Expressions of one SELECT that say the same, so that what is changed in one can be changed in the others.

The engine knows what is grouped by its text: ``SELECT hour(time) … GROUP BY hour(time)`` binds as long as both are written
alike, and its plan has the one of them alone. Places and aliases do not matter, nor whether a column is qualified where
its bare name is good enough as well. What only *means* the same is not alike, as it is not to the engine.
"""

from __future__ import annotations

from typing import Any, Final

from lakehouse.engine.tree import Node

_UNSEEN: Final = frozenset({"query_location", "query_location_length", "alias"})
_NAMES: Final = frozenset({"function_name", "path", "type_name"})


class Alike:
    """The expressions of a tree by what they say. It holds as long as the tree is not changed."""

    def __init__(self, tree: Node) -> None:
        self._scopes: dict[int, tuple[int, ...]] = {}  # by expression: its SELECT, and the UNION … that this is part of
        self._shapes: dict[int, int] = {}
        self._found: dict[tuple[int, int], list[Node]] = {}
        order: list[tuple[Any, tuple[int, ...]]] = []
        bare: set[tuple[int, str]] = set()
        todo: list[tuple[Any, tuple[int, ...], bool]] = [(tree, (), False)]
        while todo:
            part, scopes, is_operand = todo.pop()
            is_set_operation = False
            if isinstance(part, dict):
                if str(part.get("type")).endswith("_NODE") and "class" not in part:
                    scopes = (id(part), *scopes) if is_operand else (id(part),)
                    is_set_operation = part["type"] == "SET_OPERATION_NODE"
                names = part.get("column_names") or []
                if len(names) == 1 and scopes:
                    bare.add((scopes[0], str(names[0]).lower()))
            order.append((part, scopes))
            for key, value in part.items() if isinstance(part, dict) else enumerate(part):
                if isinstance(value, (dict, list)):
                    is_inside = is_operand if isinstance(part, list) else is_set_operation and key != "modifiers"
                    todo.append((value, scopes, is_inside and key != "cte_map"))
        numbers: dict[Any, int] = {}
        for part, scopes in reversed(order):  # what is inside comes first
            shape = numbers.setdefault(self._shape(part, scopes, bare), len(numbers))
            self._shapes[id(part)] = shape
            if isinstance(part, dict) and "class" in part and scopes:
                self._scopes[id(part)] = scopes
                self._found.setdefault((scopes[0], shape), []).append(part)

    def to(self, expression: Node) -> list[Node]:
        """The expressions that say the same in the same SELECT, itself among them; also in the ORDER BY of a UNION of it."""
        shape = self._shapes.get(id(expression))
        found = [
            node
            for scope in self._scopes.get(id(expression), ())
            for node in self._found.get((scope, -1 if shape is None else shape), [])
        ]
        return found or [expression]

    def _shape(self, part: Any, scopes: tuple[int, ...], bare: set[tuple[int, str]]) -> Any:
        if isinstance(part, list):
            return tuple(self._said(value) for value in part)
        names = [str(name).lower() for name in part.get("column_names") or []]
        if names and scopes and (scopes[0], names[-1]) in bare:
            return ("column", names[-1])
        if len(names) > 1:
            return ("column", *names[-2:])  # main.log_entries.time is log_entries.time
        return tuple(
            (key, self._said(value, fold=key in _NAMES or key == "column_names"))
            for key, value in sorted(part.items())
            if key not in _UNSEEN
        )

    def _said(self, value: Any, *, fold: bool = False) -> Any:
        if fold and isinstance(value, list):
            return tuple(str(name).lower() for name in value)
        if isinstance(value, (dict, list)):
            return ("shape", self._shapes[id(value)])
        return value.lower() if fold and isinstance(value, str) else (type(value).__name__, value)
