"""Network spans as the rules say them, one event at a time: slow and plain, to compare the compiled machine with."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tests.support.rare_blocks import (
    CONNECTION,
    CONNECTION_END,
    OBJECT,
    OBJECT_END,
    PROPERTY,
    RPC,
    RPC_END,
    NetEvent,
)

COLUMNS = (
    *("span_id", "parent_span_id", "depth", "kind", "name", "connection_name", "is_outgoing"),
    *("begin_bits", "end_bits", "bit_size", "begin_time", "end_time"),
)
_BEGINS = {CONNECTION: "connection", OBJECT: "object", RPC: "rpc"}
_ENDS = {CONNECTION_END: "connection", OBJECT_END: "object", RPC_END: "rpc"}


@dataclass
class _Open:
    span_id: int
    parent: int
    depth: int
    kind: str
    name: str
    connection: tuple[str, bool]
    begin: int
    consumed: int = 0


def net_spans(events: Iterable[tuple[int, NetEvent]]) -> list[tuple[Any, ...]]:
    """The rows of one chain, from its events with their positions; times are ticks."""
    stack: list[_Open] = []
    rows: list[tuple[Any, ...]] = []

    def emit(span: _Open, bits: int, end: int) -> None:
        begin_bits = stack[-1].consumed if stack else 0
        name, outgoing = stack[0].connection if stack else span.connection
        rows.append(
            (
                *(span.span_id, span.parent, span.depth, span.kind, span.name, name, outgoing),
                *(begin_bits, begin_bits + bits, bits, span.begin, end),
            )
        )
        if stack:
            stack[-1].consumed += bits

    for position, event in events:
        parent, depth = (stack[-1].span_id, stack[-1].depth + 1) if stack else (-1, 0)
        around = stack[0].connection if stack else ("", False)
        if event.type == CONNECTION:
            own = (event.name, event.number != 0)
            stack.append(_Open(position, -1, 0, "connection", event.name, own, event.ticks))
        elif event.type in _BEGINS:
            stack.append(_Open(position, parent, depth, _BEGINS[event.type], event.name, around, event.ticks))
        elif event.type == PROPERTY:
            emit(_Open(position, parent, depth, "property", event.name, around, event.ticks), event.number, event.ticks)
        elif event.type in _ENDS and stack and stack[-1].kind == _ENDS[event.type]:
            emit(stack.pop(), event.number, event.ticks)
    return rows
