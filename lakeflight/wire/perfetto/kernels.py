"""Compiled loops that write the packets of spans: begins and ends in the order in which a track nests them.

A packet of a span is never longer than ``PACKET_BYTES_MAX``, so its lengths take a byte each. Whoever calls gives room; where
it runs out, a loop says how far it came, and goes on from there.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import njit, types

PACKET_BYTES_MAX: Final = 64

# columns of what is open
OPEN_END: Final = 0
OPEN_NAME: Final = 1
OPEN_CATEGORY: Final = 2
OPEN_BELOW: Final = 3  # of a lane the span that it is in, of a thread its depth
OPEN_COLUMNS: Final = 4

# registers of a writer
WRITTEN: Final = 0
TOP: Final = 1  # of the one stack, or of spans that are free to be used, -1: none
LANES: Final = 2
TRACK: Final = 3  # of the one stack
REGISTERS: Final = 4

_SLICE_BEGIN: Final = 1
_SLICE_END: Final = 2

_u8 = types.uint8[::1]
_u64 = types.uint64[::1]
_i64 = types.int64[::1]
_rows = types.int64[:, ::1]
_int = types.int64
_OPTIONS: Final[dict[str, Any]] = {"nogil": True, "cache": True}


@njit(_int(_u8, _int, types.uint64), **_OPTIONS)
def _varint(out, at, value):  # type: ignore[no-untyped-def]
    while value >= np.uint64(128):
        out[at] = np.uint8(value & np.uint64(127)) | np.uint8(128)
        value >>= np.uint64(7)
        at += 1
    out[at] = np.uint8(value)
    return at + 1


@njit(_int(_u8, _int, _int, types.uint64, _int, _int, _int, _int), **_OPTIONS)
def _packet(out, at, time, track, kind, name, category, location):  # type: ignore[no-untyped-def]
    """Trace.packet with a TrackEvent. A name, category or location of 0 is left out."""
    out[at] = 0x0A
    begin = at + 2
    at = begin
    out[at] = 0x40  # timestamp
    at = _varint(out, at + 1, np.uint64(time))
    out[at] = 0x50  # trusted_packet_sequence_id
    out[at + 1] = 1
    out[at + 2] = 0x68  # sequence_flags: needs incremental state
    out[at + 3] = 2
    out[at + 4] = 0x5A  # track_event
    event = at + 6
    at = event
    if category:
        out[at] = 0x18
        at = _varint(out, at + 1, np.uint64(category))
    out[at] = 0x48
    out[at + 1] = kind
    at += 2
    if name:
        out[at] = 0x50
        at = _varint(out, at + 1, np.uint64(name))
    out[at] = 0x58
    at = _varint(out, at + 1, track)
    if location:
        out[at] = 0x90
        out[at + 1] = 0x02
        at = _varint(out, at + 2, np.uint64(location))
    out[event - 1] = at - event
    out[begin - 1] = at - begin
    return at


@njit(_int(_i64, _i64, _i64, _u64, _i64, _i64, _i64, _int, _i64, _rows, _u8), **_OPTIONS)
def write_nested(  # type: ignore[no-untyped-def]
    begins, ends, depths, tracks, names, categories, locations, at, registers, stack, out
):
    """Spans whose depths say what is in what, parents first, those of a track together. Returns how far it came."""
    written, top = registers[WRITTEN], registers[TOP]
    room = len(out) - PACKET_BYTES_MAX
    while at < len(begins):
        track = np.int64(tracks[at])
        while top >= 0 and (registers[TRACK] != track or stack[top, OPEN_BELOW] >= depths[at]) and written <= room:
            written = _packet(
                out, written, stack[top, OPEN_END], np.uint64(registers[TRACK]), _SLICE_END,
                stack[top, OPEN_NAME], stack[top, OPEN_CATEGORY], 0,
            )  # fmt: skip
            top -= 1
        if written > room or top + 1 >= len(stack):
            break
        registers[TRACK] = track
        written = _packet(out, written, begins[at], tracks[at], _SLICE_BEGIN, names[at], categories[at], locations[at])
        top += 1
        stack[top, OPEN_END] = ends[at]
        stack[top, OPEN_NAME] = names[at]
        stack[top, OPEN_CATEGORY] = categories[at]
        stack[top, OPEN_BELOW] = depths[at]
        at += 1
    registers[WRITTEN], registers[TOP] = written, top
    return at


@njit(types.boolean(_i64, _rows, _u8), **_OPTIONS)
def end_nested(registers, stack, out):  # type: ignore[no-untyped-def]
    """The ends of what is open; false: there was not room for all."""
    written, top = registers[WRITTEN], registers[TOP]
    while top >= 0 and written <= len(out) - PACKET_BYTES_MAX:
        written = _packet(
            out, written, stack[top, OPEN_END], np.uint64(registers[TRACK]), _SLICE_END,
            stack[top, OPEN_NAME], stack[top, OPEN_CATEGORY], 0,
        )  # fmt: skip
        top -= 1
    registers[WRITTEN], registers[TOP] = written, top
    return top < 0


@njit(_int(_i64, _i64, _u64, _i64, _i64, _i64, _int, _i64, _i64, _rows, _u8), **_OPTIONS)
def write_lanes(  # type: ignore[no-untyped-def]
    begins, ends, lanes, names, categories, locations, at, registers, tops, spans, out
):
    """Spans by their begins, the longer of two first, each on the first lane whose open spans it lies in.

    Returns how far it came: where room of any kind ran out, which is for the caller to see.

    Args:
        lanes: The track of each lane.  tops: Its innermost open span, -1: none.  spans: What is open, and what is free.
    """
    written, free = registers[WRITTEN], registers[TOP]
    room = len(out) - PACKET_BYTES_MAX
    while at < len(begins):
        lane = 0
        found = False
        while lane < registers[LANES]:
            top = tops[lane]
            while top >= 0 and spans[top, OPEN_END] <= begins[at] and written <= room:
                written = _packet(
                    out, written, spans[top, OPEN_END], lanes[lane], _SLICE_END,
                    spans[top, OPEN_NAME], spans[top, OPEN_CATEGORY], 0,
                )  # fmt: skip
                below = spans[top, OPEN_BELOW]
                spans[top, OPEN_BELOW] = free
                free = top
                top = below
            tops[lane] = top
            if written > room or top < 0 or spans[top, OPEN_END] >= ends[at]:
                found = True
                break
            lane += 1
        if written > room or free < 0 or lane >= len(lanes):
            break
        if not found:
            registers[LANES] = lane + 1
        written = _packet(out, written, begins[at], lanes[lane], _SLICE_BEGIN, names[at], categories[at], locations[at])
        taken = free
        free = spans[taken, OPEN_BELOW]
        spans[taken, OPEN_END] = ends[at]
        spans[taken, OPEN_NAME] = names[at]
        spans[taken, OPEN_CATEGORY] = categories[at]
        spans[taken, OPEN_BELOW] = tops[lane]
        tops[lane] = taken
        at += 1
    registers[WRITTEN], registers[TOP] = written, free
    return at


@njit(types.boolean(_u64, _i64, _i64, _rows, _u8), **_OPTIONS)
def end_lanes(lanes, registers, tops, spans, out):  # type: ignore[no-untyped-def]
    """The ends of what is open on all lanes; false: there was not room for all."""
    written = registers[WRITTEN]
    for lane in range(registers[LANES]):
        while tops[lane] >= 0:
            if written > len(out) - PACKET_BYTES_MAX:
                registers[WRITTEN] = written
                return False
            top = tops[lane]
            written = _packet(
                out, written, spans[top, OPEN_END], lanes[lane], _SLICE_END,
                spans[top, OPEN_NAME], spans[top, OPEN_CATEGORY], 0,
            )  # fmt: skip
            tops[lane] = spans[top, OPEN_BELOW]
            spans[top, OPEN_BELOW] = registers[TOP]
            registers[TOP] = top
    registers[WRITTEN] = written
    return True
