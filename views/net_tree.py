"""Pairs begin and end events of a network trace into nested spans: a stack machine over arrays, compiled.

Knows neither blocks' bytes nor views. Takes events as arrays, one block after the other, and gives back the spans that
ended, in the order in which they did. A span's place among the bits of its parent is what earlier children took.

An end with nothing open, or with a span of another kind on top, is ignored, and what never ends is never a row. A
property may stand alone. A connection begins a tree of its own wherever it begins, but the bits that it took count for
what it stands on, and whose connection something belongs to is what lies at the bottom.

Source: the span tree of Micromegas, `rust/analytics/src/net_span_tree.rs`.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
from numba import njit, types

from lakeflight.wire.compiled import KERNEL
from lakeflight.wire.errors import CorruptPayloadError
from lakeflight.wire.transit.net import BEGIN_TO_END, CONNECTION_BEGIN, PROPERTY, RPC_BEGIN

OPEN_SPANS_MAX: Final = 1 << 20
"""Begun and not ended, in one chain of blocks. Programs nest a handful, but whatever they never end stays open."""

NO_NAME: Final = 0  # the number of the empty name
NO_PARENT: Final = -1

Int64s = npt.NDArray[np.int64]
UInt8s = npt.NDArray[np.uint8]

# columns of the stack
_ID, _PARENT, _DEPTH, _KIND, _NAME, _CONNECTION, _OUTGOING, _CONSUMED, _BEGIN = range(9)
_STACK_COLUMNS: Final = 9
# columns of the rows
ID, PARENT, DEPTH, KIND, NAME, CONNECTION, OUTGOING, BEGIN_BITS, BITS, BEGIN_TIME, END_TIME = range(11)
_ROW_COLUMNS: Final = 11
# registers
_OPEN, _ROWS = range(2)

_STACK_ROOM: Final = 64  # at first; a power of two, as is the most

_u8 = types.uint8[::1]
_i64 = types.int64[::1]
_table = types.int64[:, ::1]


@njit(types.int64(_u8, _i64, _i64, _i64, _i64, types.int64, _i64, _table, _table), **KERNEL)
def _advance(
    actions: Any, times: Any, ids: Any, names: Any, numbers: Any, first: Any, registers: Any, stack: Any, out: Any
) -> Any:
    """Run the machine from event ``first``; returns the event to go on with when the stack has more room.

    ``registers`` are how many spans are open and how many rows there are. ``out`` has a row for each column, and room for
    every event.
    """
    top = registers[_OPEN] - 1
    rows = registers[_ROWS]
    i = first
    while i < len(actions):
        action = np.int64(actions[i])
        if action <= RPC_BEGIN:
            if top + 1 >= len(stack):
                break
            connection = np.int64(NO_NAME)
            outgoing = np.int64(0)
            parent = np.int64(NO_PARENT)
            depth = np.int64(0)
            if action == CONNECTION_BEGIN:
                connection = names[i]
                outgoing = np.int64(numbers[i] != 0)
            elif top >= 0:
                connection = stack[0, _CONNECTION]
                outgoing = stack[0, _OUTGOING]
                parent = stack[top, _ID]
                depth = stack[top, _DEPTH] + 1
            top += 1
            stack[top, _ID] = ids[i]
            stack[top, _PARENT] = parent
            stack[top, _DEPTH] = depth
            stack[top, _KIND] = action
            stack[top, _NAME] = names[i]
            stack[top, _CONNECTION] = connection
            stack[top, _OUTGOING] = outgoing
            stack[top, _CONSUMED] = 0
            stack[top, _BEGIN] = times[i]
            i += 1
            continue
        if action == PROPERTY:
            out[ID, rows] = ids[i]
            out[PARENT, rows] = stack[top, _ID] if top >= 0 else NO_PARENT
            out[DEPTH, rows] = stack[top, _DEPTH] + 1 if top >= 0 else 0
            out[KIND, rows] = PROPERTY
            out[NAME, rows] = names[i]
            out[CONNECTION, rows] = stack[0, _CONNECTION] if top >= 0 else NO_NAME
            out[OUTGOING, rows] = stack[0, _OUTGOING] if top >= 0 else 0
            out[BEGIN_TIME, rows] = times[i]
        else:
            if top < 0 or stack[top, _KIND] != action - BEGIN_TO_END:
                i += 1
                continue
            out[ID, rows] = stack[top, _ID]
            out[PARENT, rows] = stack[top, _PARENT]
            out[DEPTH, rows] = stack[top, _DEPTH]
            out[KIND, rows] = stack[top, _KIND]
            out[NAME, rows] = stack[top, _NAME]
            out[CONNECTION, rows] = stack[0, _CONNECTION]  # its own, if it lies at the bottom
            out[OUTGOING, rows] = stack[0, _OUTGOING]
            out[BEGIN_TIME, rows] = stack[top, _BEGIN]
            top -= 1
        out[BEGIN_BITS, rows] = stack[top, _CONSUMED] if top >= 0 else 0
        out[BITS, rows] = numbers[i]
        out[END_TIME, rows] = times[i]
        if top >= 0:
            stack[top, _CONSUMED] += numbers[i]
        rows += 1
        i += 1
    registers[_OPEN] = top + 1
    registers[_ROWS] = rows
    return i


class NetTree:
    """The spans of one chain of blocks."""

    def __init__(self) -> None:
        self._stack: Int64s = np.zeros((_STACK_ROOM, _STACK_COLUMNS), np.int64)
        self._registers: Int64s = np.zeros(2, np.int64)

    def add(self, actions: UInt8s, times: Int64s, ids: Int64s, names: Int64s, numbers: Int64s) -> Int64s:
        """Take the events of a block, in order; gives back the spans that ended in it, a row of numbers for each column.

        Args:
            names: Numbers, the same for all blocks.  numbers: Bits, or of a connection whether it is outgoing.

        Raises:
            CorruptPayloadError: More than ``OPEN_SPANS_MAX`` are open. The tree is of no use then.
        """
        out = np.empty((_ROW_COLUMNS, len(actions)), np.int64)
        self._registers[_ROWS] = 0
        at = 0
        while (at := _advance(actions, times, ids, names, numbers, at, self._registers, self._stack, out)) < len(
            actions
        ):
            if len(self._stack) >= OPEN_SPANS_MAX:
                raise CorruptPayloadError(f"more than {OPEN_SPANS_MAX} spans are open at once, and none of them ends")
            self._stack = np.concatenate([self._stack, np.zeros_like(self._stack)])
        return out[:, : int(self._registers[_ROWS])]


def warm_up() -> None:
    """Load the machine's code before the first block."""
    NetTree().add(np.ones(1, np.uint8), *(np.zeros(1, np.int64) for _ in range(4)))
