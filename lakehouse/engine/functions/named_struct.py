"""``named_struct``: names and values in turn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from lakehouse.engine.functions.declare import Rewording
from lakehouse.engine.tree import Node, arguments_of, call_of, string_literal
from lakehouse.errors import ForbiddenSqlError


def translate(call: Node) -> Node:
    """A struct whose names are known before anything runs."""
    given = arguments_of(call)
    names = [string_literal(name) for name in given[::2]]
    if len(given) % 2 or not given or None in names:
        raise ForbiddenSqlError("named_struct takes names as string literals, each with a value: named_struct('a', 1)")
    return packed([(str(name), value) for name, value in zip(names, given[1::2], strict=True)])


def packed(members: Sequence[tuple[str, Node]]) -> Node:
    """The call that makes a struct of these."""
    call = call_of("struct_pack")
    call["arguments"] = [{"name": name, "expression": {**value, "alias": name}} for name, value in members]
    return call


FUNCTION: Final = Rewording(
    signature="named_struct(name VARCHAR, value ANY, …) -> STRUCT",
    documentation="A struct of these values under these names, which are literals.",
    examples=(("named_struct('a', 1, 'b', 'x')", "{'a': 1, 'b': x}"),),
    translate=translate,
)
