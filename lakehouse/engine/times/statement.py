"""The times of one statement: whether they need repairs, and its text with all of them made."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from lakehouse.engine.functions import CLOCK_FUNCTIONS, words
from lakehouse.engine.names import CATALOG_NAME, SCHEMA_NAME
from lakehouse.engine.times.findings import Found, bound_plans, findings
from lakehouse.engine.times.repairs import Outcome, cannot_be_kept, repair
from lakehouse.engine.times.syntax import (
    CASTS,
    around,
    depends_on_rows,
    is_far,
    is_plain_moment,
    is_zoning,
    where,
)
from lakehouse.engine.tree import Node, cast_target, function_name, nodes, rename, string_literal
from lakehouse.engine.zones import elements, has_zone
from lakehouse.errors import UnsupportedError

# They take and give no times, or times as they are: a statement that calls no others needs no plan.
_HARMLESS: Final = words("count count_star min max sum any_value list array_agg string_agg lower upper length concat")
_SCHEMAS: Final = ([SCHEMA_NAME], [CATALOG_NAME], [CATALOG_NAME, SCHEMA_NAME], ["system"], ["system", "main"])
_ROUNDS_MAX: Final = 16  # a repaired sum of a sum of a sum … has nanoseconds that the one around it would lose
Parse = Callable[[str], Node]
Write = Callable[[Node], str]


@dataclass(frozen=True, slots=True)
class Repaired:
    """A text that loses nothing of its times."""

    text: str
    function: str | None = (
        None  # the first whose times were repaired, empty for a cast; ``None``: there was nothing to do
    )


def may_concern(tree: Node) -> bool:
    """Whether a statement could lose something of a time: it calls or casts, or compares with a far constant."""
    for node in nodes(tree):
        text = string_literal(node)
        if text is not None and any(map(has_zone, elements(text))):
            return True
        match node.get("class"):
            case "FUNCTION" | "WINDOW":
                if function_name(node) not in _HARMLESS or node.get("class") == "WINDOW":
                    return True
            case "CAST":
                if cast_target(node) in CASTS and not is_plain_moment(node):
                    return True
            case "COMPARISON" | "BETWEEN":
                if any(is_far(node.get(key)) for key in ("left", "right", "lower", "upper", "input")):
                    return True
            case "PARAMETER":
                return True
            case "OPERATOR":
                if any(is_far(child) for child in (node.get("children") or [])[1:]):
                    return True
    return False


class Repairs:
    """Makes the text of one statement lose nothing of its times, over the connection that binds it."""

    def __init__(self, connection: Any, parse: Parse, write: Write) -> None:
        self._connection = connection
        self._parse = parse
        self._write = write
        self._looked_at: tuple[str, list[Found] | None] | None = None  # the last text, and what was found in it

    def needed(self, text: str, tree: Node) -> bool:
        """Whether the engine would lose something of a time in a text without open parameters."""
        found = self._findings(text)
        if found is None:  # it might bind once AT TIME ZONE answers in times that the engine has functions for
            return any(map(is_zoning, nodes(tree)))
        return bool(found) or self._repair_folded({"": tree}, try_only=True)

    def made(self, text: str, tree: Node) -> Repaired:
        """The same one if there is nothing to repair.

        Args:
            text: Without open parameters.  tree: With the places of this text. It is changed.
        Raises:
            UnsupportedError: It would lose nanoseconds, in a way that there is no repair for.
            ForbiddenSqlError: A literal time is moved to a zone: it is not clear which way.
        """
        if any(map(is_zoning, nodes(tree))) and self._findings(text) is None:
            text, tree = self._with_zones_turned(tree)
        reason = Found("lost", None)
        for repairs in range(_ROUNDS_MAX):
            found = self._findings(text)
            if found is None:
                if repairs:
                    raise cannot_be_kept(reason.function)
                return Repaired(text)  # whoever runs it will say so
            reason = found[0] if found else reason
            # What is found has its place in this text, so it comes first.
            outcome = repair(tree, found) if found else Outcome.NOTHING
            is_open = outcome is Outcome.OPEN or self._repair_folded({"": tree})
            if outcome is Outcome.NOTHING and not is_open:
                return Repaired(text, reason.function if repairs else None)
            text = self._write(tree)
            if not is_open:
                return Repaired(text, reason.function)
            tree = self._parse(text)
        raise UnsupportedError("times are added up too deep in each other to keep their nanoseconds: use subqueries")

    def _findings(self, text: str) -> list[Found] | None:
        """``None``: it does not bind."""
        if self._looked_at is None or self._looked_at[0] != text:
            plans = bound_plans(self._connection, text)
            self._looked_at = text, None if plans is None else [*findings(plans)]
        return self._looked_at[1]

    def _repair_folded(self, holder: Node, *, try_only: bool = False) -> bool:
        """Repair constant arguments of calls, which the engine has worked out before it tells its plan; whether there are any.

        Each is looked at as a column of its own. What is inside of another is repaired first, and that one the next time.
        """
        folded = {id(node) for node in _constant_arguments(holder)}
        places = where(holder, lambda node: id(node) in folded) if folded else []
        if not places:
            return False
        select = {"type": "SELECT_NODE", "cte_map": {}, "from_table": {"type": "EMPTY"}}
        written = self._write(
            {**select, "select_list": [at[key] for at, key in places], "aggregate_handling": "STANDARD_HANDLING"}
        )
        found = self._findings(written)
        if not found or try_only:
            return bool(found)
        tree = self._parse(written)
        before = [json.dumps(item) for item in tree["select_list"]]
        if repair(tree, found) is Outcome.NOTHING:
            return False
        changed: set[int] = set()
        for (at, key), old, new in zip(places, before, tree["select_list"], strict=True):
            if json.dumps(new) != old and changed.isdisjoint(map(id, nodes(at[key]))):
                at[key] = new
                changed.add(id(new))
        return True

    def _with_zones_turned(self, tree: Node) -> tuple[str, Node]:
        """The engine has few functions for what its AT TIME ZONE makes of nanoseconds: turned our way, they bind."""
        original = tree
        holder = {"": json.loads(json.dumps(tree))}
        for at, key in where(holder, is_zoning):
            at[key] = around(at[key], "lakeflight_zoned")
        text = self._write(holder[""])
        holder = {"": self._parse(text)}
        found = self._findings(text)
        if found is None:
            return self._write(original), original
        repair(holder[""], [one for one in found if one.what == "zone"])
        for at, key in where(holder, lambda node: function_name(node) == "lakeflight_zoned"):
            inner: Node = at[key]["arguments"][0]["expression"]
            at[key] = {**inner, "alias": at[key]["alias"]} if "alias" in at[key] else inner
        text = self._write(holder[""])
        return text, self._parse(text)


def as_plain_calls(tree: Node) -> bool:
    """``time.year()`` is parsed as a function ``year`` of a schema ``time``, and bound without a place."""
    changed = False
    for node in nodes(tree):
        path = [str(part) for part in (node.get("qualified_name") or {}).get("path") or []]
        if node.get("class") != "FUNCTION" or len(path) < 2 or [part.lower() for part in path[:-1]] in _SCHEMAS:
            continue
        column = {"class": "COLUMN_REF", "type": "COLUMN_REF", "column_names": path[:-1]}
        node["arguments"] = [{"expression": column}, *(node.get("arguments") or [])]
        rename(node, path[-1])
        changed = True
    return changed


def _constant_arguments(tree: Node) -> Iterator[Node]:
    for call in nodes(tree):
        if call.get("class") == "FUNCTION":
            arguments = [argument.get("expression") or {} for argument in call.get("arguments") or []]
        elif call.get("class") == "OPERATOR" and str(call.get("type")).endswith("_EXTRACT"):
            arguments = call.get("children") or []
        else:
            continue
        for node in arguments:
            is_plain = (node.get("class") == "CAST" and is_plain_moment(node)) or _is_clock(node)
            if not is_plain and not depends_on_rows(node) and any(map(_makes_a_time, nodes(node))):
                yield node


def _is_clock(node: Node) -> bool:
    """``now()``, or CURRENT_TIMESTAMP, which is a column to the parser: another one would depend on rows."""
    return node.get("class") == "COLUMN_REF" or (function_name(node) in CLOCK_FUNCTIONS and not node.get("arguments"))


def _makes_a_time(node: Node) -> bool:
    if function_name(node) in (*CLOCK_FUNCTIONS, "make_timestamp_ns", "strptime", "try_strptime") or _is_clock(node):
        return True
    return cast_target(node) == "timestamp_ns" or (cast_target(node) in CASTS and not is_plain_moment(node))
