"""Arguments of relation functions that are moments: evaluated before the statement runs, by the engine, over no rows.

What they say is known when the statement's rows are made fresh: the first and the last of a call are the range of time that
it reads. An expression that depends on rows is refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

import duckdb

from lakehouse.engine.functions import RelationFunction, Seconds, reference_of, relation_functions
from lakehouse.engine.relations import Reference
from lakehouse.engine.tree import Node, function_name, nodes
from lakehouse.errors import UnsupportedError
from lakehouse.model import TimeRange

_PARSE: Final = "SELECT json_serialize_sql(?::VARCHAR, skip_null := true, skip_empty := true, skip_default := true)"
_WRITE: Final = "SELECT json_deserialize_sql(?::JSON)"


def has_moments(name: str) -> bool:
    """Whether a relation function takes moments."""
    return bool(relation_functions()[name].moments)


def references_with_moments(connection: Any, text: str) -> Iterator[Reference]:
    """The calls in a statement of functions that take moments, as whoever resolves relations is told of them.

    Args:
        text: As it runs, with the values of its parameters in it.
    Raises:
        ForbiddenSqlError: An argument is no moment, or not known before the statement runs.
    """
    answer = json.loads(connection.execute(_PARSE, [text]).fetchall()[0][0])
    if answer["error"]:
        raise UnsupportedError("the engine cannot read again what it has written of this statement")
    found = set()
    for node in nodes(answer["statements"][0]["node"]):
        call = node.get("function") if node.get("type") == "TABLE_FUNCTION" else None
        function = relation_functions().get(function_name(call)) if call else None
        if call is None or function is None or not function.moments:
            continue
        given = call.get("arguments") or []
        texts = function.call(given, None)
        first = len(function.texts)
        moments = tuple(
            _evaluated(connection, function, place, argument.get("expression") or {})
            for place, argument in enumerate(given[first:], first)
        )
        if (texts, moments) not in found:
            found.add((texts, moments))
            reference = reference_of(texts)
            yield replace(
                reference,
                arguments=(*reference.arguments[: -len(moments)], *map(str, moments)),
                range=_range_of(function, moments),
            )


def _range_of(function: RelationFunction, values: Sequence[int]) -> TimeRange:
    """From the first of the moments to the last."""
    times = [
        value for value, declared in zip(values, function.moments, strict=True) if not isinstance(declared, Seconds)
    ]
    return TimeRange(times[0], times[-1])


def _evaluated(connection: Any, function: RelationFunction, place: int, expression: Node) -> int:
    """Nanoseconds since 1970, as the function's own SQL has them."""
    cast = function.moments[place - len(function.texts)].canonical_sql
    try:
        rows = connection.execute(f"SELECT {cast.format(f'({_written(connection, expression)})')}").fetchall()
    except duckdb.InterruptException:
        raise
    except duckdb.Error as error:
        raise function.not_a_moment(place) from error
    if rows[0][0] is None:
        raise function.not_a_moment(place)
    return int(rows[0][0])


def _written(connection: Any, expression: Node) -> str:
    select = {
        "type": "SELECT_NODE",
        "cte_map": {},
        "select_list": [expression],
        "from_table": {"type": "EMPTY"},
        "aggregate_handling": "STANDARD_HANDLING",
    }
    tree = json.dumps({"error": False, "statements": [{"node": select}]})
    text: Sequence[tuple[str]] = connection.execute(_WRITE, [tree]).fetchall()
    return text[0][0].removeprefix("SELECT ")
