"""What the engine and the original read differently, and both accept: refused, with what says either of the two.

A statement that could be meant in two ways gets no answer that would be right for one of them only. What differs in a
function is settled in that function (``functions/``); here are operators.
"""

from __future__ import annotations

from typing import Final

from lakehouse.engine.functions import words
from lakehouse.engine.tree import Node, arguments_of, string_literal
from lakehouse.errors import ForbiddenSqlError

_LIKE: Final = words("~~ !~~ ~~* !~~*")


def refuse_ambiguous(name: str, node: Node) -> None:
    """
    Args:
        name: Of the function or the operator that the node calls, in small letters.
    Raises:
        ForbiddenSqlError: It is one of those.
    """
    if name == "^" and node.get("is_operator"):
        raise ForbiddenSqlError("the operator ^ is a power to some and XOR to others: write power(a, b) or xor(a, b)")
    if name in _LIKE:
        pattern = string_literal(arguments_of(node)[-1])
        if pattern is not None and "\\" in pattern:
            raise ForbiddenSqlError(
                "a backslash in the pattern of LIKE may be itself or an escape: write ESCAPE '' or ESCAPE '\\' after the pattern"
            )
    if name == "regexp_full_match" and _stands_between(node):
        raise ForbiddenSqlError(
            "SIMILAR TO may mean all of a text or a part of it: write regexp_full_match(text, pattern) or regexp_like(text, pattern)"
        )


def _stands_between(node: Node) -> bool:
    """Whether a call is written as an operator: what it is called stands after its first argument."""
    first = (arguments_of(node) or [{}])[0].get("query_location")
    place = node.get("query_location")
    return isinstance(first, int) and isinstance(place, int) and first < place


__all__ = ["refuse_ambiguous"]
