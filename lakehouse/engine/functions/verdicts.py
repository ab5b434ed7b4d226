"""Which of DuckDB's functions a statement may call: one reviewed verdict for every name of the pinned version.

The verdicts are data (``function_verdicts.csv``). A name without a verdict is refused, and a test fails when the
engine has one, so that a new version cannot add a function unseen. Our own functions are allowed by being there.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cache
from importlib.resources import files
from typing import Final

from lakehouse.engine.functions.declare import Kind
from lakehouse.engine.functions.registry import own_functions


def words(text: str) -> frozenset[str]:
    """A set of names, written as prose."""
    return frozenset(text.split())


PLAIN_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]*\Z")

# The parser knows these, the engine's function list does not.
_SYNTAX_FUNCTIONS: Final = ("grouping", "grouping_id", "unnest")
# Their second argument is the name of an aggregate: it must be a literal, and allowed itself.
CALLS_BY_NAME: Final = frozenset({"list_aggregate", "list_aggr", "array_aggregate", "array_aggr", "aggregate"})
# Their second argument is a structure in JSON, over which the engine recurses: it must be known before it is bound.
CALLS_BY_STRUCTURE: Final = frozenset({"json_transform", "json_transform_strict", "from_json", "from_json_strict"})
# Answers that follow the clock of the statement, also as keywords without parentheses.
CLOCK_FUNCTIONS: Final = words(
    """
    now today ago current_date current_timestamp localtimestamp get_current_timestamp transaction_timestamp
    current_localtimestamp get_current_time current_localtime
    """
)
CLOCK_KEYWORDS: Final = frozenset({"current_timestamp", "current_date", "localtimestamp", "current_time", "localtime"})


class Verdict(Enum):
    ALLOW = "allow"
    TABLE = "table"  # in FROM as well
    OPERATOR = "operator"  # as an operator only, never by its name
    REFUSE = "refuse"


_OWN_RULES: Final[Mapping[Kind, tuple[str, Verdict]]] = {
    "scalar": ("macro", Verdict.ALLOW),
    "aggregate": ("aggregate", Verdict.ALLOW),
    "table": ("table_macro", Verdict.TABLE),
}


@dataclass(frozen=True, slots=True)
class FunctionRule:
    """The verdict on one name, and the reason where it is a refusal."""

    name: str
    kinds: frozenset[str]  # scalar, aggregate, window, macro, table, table_macro, pragma
    verdict: Verdict
    reason: str


@cache
def engine_rules() -> Mapping[str, FunctionRule]:
    """Rules for the engine's functions, by lower-case name."""
    text = files("lakehouse.engine").joinpath("function_verdicts.csv").read_text(encoding="utf-8")
    rules = {
        row["name"].lower(): FunctionRule(
            row["name"], frozenset(row["kinds"].split("+")), Verdict(row["verdict"]), row["reason"]
        )
        for row in csv.DictReader(text.splitlines())
    }
    for name in _SYNTAX_FUNCTIONS:
        known = rules.get(name)
        rules[name] = FunctionRule(name, frozenset({"syntax"}), known.verdict if known else Verdict.ALLOW, "")
    return rules


@cache
def function_rules() -> Mapping[str, FunctionRule]:
    """Rules by lower-case name, with our own functions."""
    rules = dict(engine_rules())
    for function in own_functions():
        if not function.is_private:
            kind, verdict = _OWN_RULES[function.kind]
            rules[function.name] = FunctionRule(function.name, frozenset({kind}), verdict, "")
    return rules
