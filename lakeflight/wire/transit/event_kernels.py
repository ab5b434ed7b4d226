"""Compiled loops over the records of the rarer kinds of streams: async spans, network traces, images.

The same rules hold as in ``kernels``, which these are built upon: plans say what to read where, every bound is checked, and
what is wrong is reported in place of raised.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import njit, types

from lakeflight.wire.compiled import KERNEL
from lakeflight.wire.transit.kernels import IS_DESCRIPTION, find_ordinal
from lakeflight.wire.words import load_half, load_word

_UNKNOWN_DEPENDENCY: Final = 5
_SHORT_RECORD: Final = 6
_BAD_CODEC: Final = 7
_STRING_BEYOND_RECORD: Final = 8
_NOT_A_STRING: Final = 17
_DATA_BEYOND_RECORD: Final = 21

_UTF8: Final = 2

# columns of a plan for async spans, behind those of any span plan
ASYNC_ID: Final = 4
ASYNC_PARENT: Final = 5
ASYNC_DEPTH: Final = 6
ASYNC_DEPTH_BYTES: Final = 7
ASYNC_PLAN_COLUMNS: Final = 8

# columns of a plan for network events: what to do, then offsets (-1: none)
NET_TIME: Final = 1
NET_NAME: Final = 2
NET_NUMBER: Final = 3  # a size in bits, or a flag
NET_NUMBER_BYTES: Final = 4
NET_PLAN_COLUMNS: Final = 5
NET_SKIP: Final = 0

IMAGE_SKIP: Final = 0
IMAGE_ROW: Final = 1
IMAGE_PLAN_COLUMNS: Final = 1

_bytes = types.Array(types.uint8, 1, "C", readonly=True)
_u8 = types.uint8[::1]
_u32 = types.uint32[::1]
_i32 = types.int32[::1]
_i64 = types.int64[::1]
_plan = types.int32[:, ::1]
_pairs = types.int64[:, ::1]
_sources = types.uint8[:, ::1]
_int = types.int64


# --- async spans ------------------------------------------------------------------------------------------------------


@njit(types.void(_bytes, _u8, _u32, _plan, _i64, _i64, _i64, _u32), **KERNEL)
def read_async_members(
    buffer: Any, kinds: Any, starts: Any, plan: Any, index: Any, out_id: Any, out_parent: Any, out_depth: Any
) -> None:
    """What an async event has beside a time and a scope; ``index`` says which objects are rows."""
    for row in range(len(index)):
        at = np.uint64(row)
        which = np.uint64(index[at])
        kind = np.uint64(kinds[which])
        body = np.uint64(starts[which])
        out_id[at] = np.int64(load_word(buffer, body + np.uint64(plan[kind, ASYNC_ID])))
        out_parent[at] = np.int64(load_word(buffer, body + np.uint64(plan[kind, ASYNC_PARENT])))
        if plan[kind, ASYNC_DEPTH_BYTES] == 1:
            out_depth[at] = np.uint32(buffer[body + np.uint64(plan[kind, ASYNC_DEPTH])])
        else:
            out_depth[at] = np.uint32(load_half(buffer, body + np.uint64(plan[kind, ASYNC_DEPTH])))


# --- network traces ---------------------------------------------------------------------------------------------------


@njit(types.int64(_bytes, _u8, _u32, _plan, _int, _i64, _i32, _u8, _u8, _i64, _i64, _i32, _i64, _i64), **KERNEL)
def read_net_events(
    buffer: Any,
    kinds: Any,
    starts: Any,
    plan: Any,
    multiplier: Any,
    slot_ids: Any,
    slot_ordinals: Any,
    sources: Any,
    out_action: Any,
    out_ticks: Any,
    out_index: Any,
    out_name: Any,
    out_number: Any,
    outcome: Any,
) -> Any:
    """Rows of the events that the plan names: the ordinal of the name, or -1, and the number, or 0."""
    rows = 0
    for index in range(len(kinds)):
        kind = np.uint64(kinds[index])
        if plan[kind, 0] == NET_SKIP:
            continue
        body = np.uint64(starts[index])
        at = np.uint64(rows)
        out_name[at] = -1
        if plan[kind, NET_NAME] >= 0:
            address = np.int64(load_word(buffer, body + np.uint64(plan[kind, NET_NAME])))
            ordinal = find_ordinal(address, multiplier, slot_ids, slot_ordinals)
            if ordinal < 0:
                outcome[0], outcome[1], outcome[2] = _UNKNOWN_DEPENDENCY, index, address
                return rows
            if sources[np.uint64(ordinal)] >= IS_DESCRIPTION:
                outcome[0], outcome[1], outcome[2] = _NOT_A_STRING, index, address
                return rows
            out_name[at] = ordinal
        out_number[at] = 0
        if plan[kind, NET_NUMBER] >= 0:
            if plan[kind, NET_NUMBER_BYTES] == 1:
                out_number[at] = np.int64(buffer[body + np.uint64(plan[kind, NET_NUMBER])])
            else:
                out_number[at] = load_half(buffer, body + np.uint64(plan[kind, NET_NUMBER]))
        out_action[at] = plan[kind, 0]
        out_ticks[at] = np.int64(load_word(buffer, body + np.uint64(plan[kind, NET_TIME])))
        out_index[at] = index
        rows += 1
    return rows


# --- images -----------------------------------------------------------------------------------------------------------


@njit(types.int64(_bytes, _u8, _u32, _plan, _i64, _pairs, _pairs, _sources, _i64), **KERNEL)
def read_images(
    buffer: Any,
    kinds: Any,
    starts: Any,
    plan: Any,
    out_ticks: Any,
    out_starts: Any,
    out_lengths: Any,
    out_sources: Any,
    outcome: Any,
) -> Any:
    """Rows of the events that the plan names. Of each, the name, the format and the data, one after the other.

    ``out_starts`` and ``out_lengths`` have three rows, ``out_sources`` the codecs of the two texts.
    """
    rows = 0
    for index in range(len(kinds)):
        if plan[np.uint64(kinds[index]), 0] == IMAGE_SKIP:
            continue
        at = np.int64(starts[index])
        size = load_half(buffer, np.uint64(at - 4))
        end = at + size
        if size < 8:
            outcome[0], outcome[1], outcome[2] = _SHORT_RECORD, index, size
            return rows
        out_ticks[rows] = np.int64(load_word(buffer, np.uint64(at)))
        at += 8
        for which in range(2):
            if end - at < 5:
                outcome[0], outcome[1], outcome[2] = _SHORT_RECORD, index, size
                return rows
            codec = buffer[np.uint64(at)]
            if codec > _UTF8:
                outcome[0], outcome[1], outcome[2] = _BAD_CODEC, index, codec
                return rows
            length = load_half(buffer, np.uint64(at + 1))
            at += 5
            if length > end - at:
                outcome[0], outcome[1], outcome[2] = _STRING_BEYOND_RECORD, index, length
                return rows
            out_sources[which, rows] = codec
            out_starts[which, rows] = at
            out_lengths[which, rows] = length
            at += length
        if end - at < 4:
            outcome[0], outcome[1], outcome[2] = _SHORT_RECORD, index, size
            return rows
        length = load_half(buffer, np.uint64(at))
        at += 4
        if length > end - at:
            outcome[0], outcome[1], outcome[2] = _DATA_BEYOND_RECORD, index, length
            return rows
        out_starts[2, rows] = at
        out_lengths[2, rows] = length
        rows += 1
    return rows


@njit(types.void(_bytes, _i64, _i64, _i32, _u8), **KERNEL)
def gather_bytes(buffer: Any, starts: Any, lengths: Any, out_offsets: Any, out: Any) -> None:
    """Copy pieces of the buffer one behind the other."""
    to = np.int64(0)
    out_offsets[0] = 0
    for row in range(len(starts)):
        at = starts[row]
        for step in range(lengths[row]):
            out[np.uint64(to + step)] = buffer[np.uint64(at + step)]
        to += lengths[row]
        out_offsets[row + 1] = to


def warm_up() -> None:
    """Run every kernel once on next to nothing."""
    buffer = np.zeros(32, np.uint8)
    buffer.flags.writeable = False
    kinds, starts, outcome = np.zeros(1, np.uint8), np.full(1, 4, np.uint32), np.zeros(4, np.int64)
    i64, i32, u8 = np.zeros(8, np.int64), np.zeros(8, np.int32), np.zeros(8, np.uint8)
    plan = np.zeros((1, ASYNC_PLAN_COLUMNS), np.int32)
    read_async_members(buffer, kinds, starts, plan, i64[:1].copy(), i64, i64, np.zeros(8, np.uint32))
    slots = (np.int64(1), i64, np.full(8, -1, np.int32))
    plan = np.array([[1, 0, -1, -1, 0]], np.int32)
    read_net_events(buffer, kinds, starts, plan, *slots, u8, u8, i64, i64, i32, i64, outcome)
    plan = np.array([[IMAGE_ROW]], np.int32)
    wide = np.zeros((3, 1), np.int64)
    read_images(buffer, kinds, starts, plan, i64, wide, wide, np.zeros((2, 1), np.uint8), outcome)
    gather_bytes(buffer, i64, i64, np.zeros(9, np.int32), u8)


__all__ = ["gather_bytes", "read_async_members", "read_images", "read_net_events", "warm_up"]
