"""Compiled loops over the records of a block. The only code that touches every event.

Each kernel takes a whole buffer and plain tables, checks every bound before it reads, and reports what is wrong through
``outcome`` (a ``Fault``, then two numbers for the message) in place of raising. Nothing here knows an event by name:
what to read where stands in a *plan*, one row per type index, made by the module that knows the events.

Signatures are fixed, so no input can start a compilation; results are cached where ``NUMBA_CACHE_DIR`` says. Set
``NUMBA_BOUNDSCHECK=1`` together with a cache folder of its own to have numba check each index as well (the cache does
not tell the two kinds of code apart).
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Final

import numpy as np
from numba import njit, types

# --- what a kernel found wrong ----------------------------------------------------------------------------------------


class Fault(IntEnum):
    """First number of ``outcome``."""

    NONE = 0
    UNKNOWN_TYPE = 1  # position of the record, type index
    NO_SIZE = 2  # position of the record
    BEYOND_BUFFER = 3  # position of the record, size
    TOO_MANY = 4  # position of the record
    UNKNOWN_DEPENDENCY = 5  # ordinal of the object, address
    SHORT_OBJECT = 6  # ordinal of the object, size
    BAD_CODEC = 7  # ordinal of the object, codec
    STRING_BEYOND_OBJECT = 8  # ordinal of the object, length
    ODD_WIDE_STRING = 9  # row, length
    NOT_UTF8 = 10  # row, length
    TOO_MANY_SCOPES = 11  # ordinal of the object


# literals for the compiled code, which cannot read an enum cheaply
_UNKNOWN_TYPE: Final = 1
_NO_SIZE: Final = 2
_BEYOND_BUFFER: Final = 3
_TOO_MANY: Final = 4
_UNKNOWN_DEPENDENCY: Final = 5
_SHORT_OBJECT: Final = 6
_BAD_CODEC: Final = 7
_STRING_BEYOND_OBJECT: Final = 8
_ODD_WIDE_STRING: Final = 9
_NOT_UTF8: Final = 10
_TOO_MANY_SCOPES: Final = 11

# --- plans ------------------------------------------------------------------------------------------------------------

# columns of a span plan: what to do, then offsets (-1: none)
SPAN_SKIP: Final = 0
SPAN_BEGIN: Final = 1
SPAN_END: Final = 2
SPAN_PLAN_COLUMNS: Final = 4  # action, time, description, name

METRIC_SKIP: Final = 0
METRIC_INTEGER: Final = 1
METRIC_FLOAT: Final = 2
METRIC_PLAN_COLUMNS: Final = 5  # action, time, description, properties, value

LOG_SKIP: Final = 0
LOG_ROW: Final = 1
LOG_PLAN_COLUMNS: Final = 9
LOG_DYNAMIC: Final = 1  # columns: action first
LOG_TIME: Final = 2
LOG_SUBJECT: Final = 3  # address of the description or of the target
LOG_LEVEL: Final = 4  # -1: the description has it
LOG_LEVEL_BYTES: Final = 5
LOG_PROPERTIES: Final = 6
LOG_TEXT: Final = 7
LOG_TEXT_SOURCE: Final = 8

# where a text comes from: a codec of the wire, or
TEXT_STRICT: Final = 3  # bytes of the record that must be UTF-8
TEXT_REFERENCE: Final = 4  # a dependency, by ordinal
TEXT_SUBJECT: Final = 5  # the description's own text
TEXT_INLINE: Final = 6  # only in plans: a string that says its codec
TEXT_REPAIR: Final = 7  # only between the two text kernels: UTF-8 with ill-formed parts

_UTF8: Final = 2
_WIDE: Final = 1

_bytes = types.Array(types.uint8, 1, "C", readonly=True)
_u8 = types.uint8[::1]
_u32 = types.uint32[::1]
_i32 = types.int32[::1]
_i64 = types.int64[::1]
_plan = types.int32[:, ::1]
_int = types.int64
_OPTIONS: Final[dict[str, Any]] = {"nogil": True, "cache": True}


# --- reading ----------------------------------------------------------------------------------------------------------


@njit(inline="always")
def _word(buffer: Any, at: Any) -> Any:
    """8 bytes, little endian; positions are unsigned, or each index would be tested for being negative."""
    one = np.uint64(1)
    word = np.uint64(buffer[at])
    at += one
    word |= np.uint64(buffer[at]) << np.uint64(8)
    at += one
    word |= np.uint64(buffer[at]) << np.uint64(16)
    at += one
    word |= np.uint64(buffer[at]) << np.uint64(24)
    at += one
    word |= np.uint64(buffer[at]) << np.uint64(32)
    at += one
    word |= np.uint64(buffer[at]) << np.uint64(40)
    at += one
    word |= np.uint64(buffer[at]) << np.uint64(48)
    at += one
    word |= np.uint64(buffer[at]) << np.uint64(56)
    return word


@njit(inline="always")
def _half(buffer: Any, at: Any) -> Any:
    one = np.uint64(1)
    half = np.uint64(buffer[at])
    at += one
    half |= np.uint64(buffer[at]) << np.uint64(8)
    at += one
    half |= np.uint64(buffer[at]) << np.uint64(16)
    at += one
    half |= np.uint64(buffer[at]) << np.uint64(24)
    return np.int64(half)


@njit(types.int64(_bytes, _int, _i64, _u32, _u8, _u8, _i64), **_OPTIONS)
def scan(buffer: Any, objects_max: Any, sizes: Any, starts: Any, kinds: Any, present: Any, outcome: Any) -> Any:
    """Find the records: the start of each body, its type index, and which types occur. Returns how many there are."""
    end = np.int64(len(buffer))
    count = 0
    at = np.int64(0)
    while at < end:
        kind = buffer[np.uint64(at)]
        size = sizes[kind]
        start = at + 1
        if size <= 0:
            if size < 0:
                outcome[0], outcome[1], outcome[2] = _UNKNOWN_TYPE, at, kind
                return count
            if end - start < 4:
                outcome[0], outcome[1] = _NO_SIZE, at
                return count
            size = _half(buffer, np.uint64(start))
            start += 4
        if size > end - start:
            outcome[0], outcome[1], outcome[2] = _BEYOND_BUFFER, at, size
            return count
        if count >= objects_max:
            outcome[0], outcome[1] = _TOO_MANY, at
            return count
        starts[np.uint64(count)] = start
        kinds[np.uint64(count)] = kind
        present[kind] = 1
        count += 1
        at = start + size
    return count


# --- addresses to ordinals --------------------------------------------------------------------------------------------


@njit(inline="always")
def _slot(key: Any, multiplier: Any, mask: Any) -> Any:
    product = np.uint64(key) * np.uint64(multiplier)
    return (product >> np.uint64(32)) & mask


@njit(types.void(_i64, _int, _i64, _i32), **_OPTIONS)
def index_ids(ids: Any, multiplier: Any, slot_ids: Any, slot_ordinals: Any) -> None:
    """Fill an open-addressing table; ids are distinct, slots a power of two and at least twice as many."""
    mask = np.uint64(len(slot_ids) - 1)
    for ordinal in range(len(ids)):
        slot = _slot(ids[ordinal], multiplier, mask)
        while slot_ordinals[slot] >= 0:
            slot = (slot + np.uint64(1)) & mask
        slot_ids[slot] = ids[ordinal]
        slot_ordinals[slot] = ordinal


@njit(inline="always")
def _ordinal(key: Any, multiplier: Any, slot_ids: Any, slot_ordinals: Any) -> Any:
    """The ordinal of an address, -1 if there is none."""
    mask = np.uint64(len(slot_ids) - 1)
    slot = _slot(key, multiplier, mask)
    while slot_ordinals[slot] >= 0:
        if slot_ids[slot] == key:
            return np.int64(slot_ordinals[slot])
        slot = (slot + np.uint64(1)) & mask
    return np.int64(-1)


@njit(types.void(_bytes, _u8, _u32, _i32, _i32, _int, _i64, _i32, _i64), **_OPTIONS)
def check_references(
    buffer: Any,
    kinds: Any,
    starts: Any,
    first: Any,
    offsets: Any,
    multiplier: Any,
    slot_ids: Any,
    slot_ordinals: Any,
    outcome: Any,
) -> None:
    """Look up the addresses that nothing else looks up: of type ``t`` those at ``offsets[first[t]:first[t + 1]]``."""
    for index in range(len(kinds)):
        kind = np.int64(kinds[index])
        for which in range(first[kind], first[kind + 1]):
            address = np.int64(_word(buffer, np.uint64(starts[index]) + np.uint64(offsets[which])))
            if _ordinal(address, multiplier, slot_ids, slot_ordinals) < 0:
                outcome[0], outcome[1], outcome[2] = _UNKNOWN_DEPENDENCY, index, address
                return


@njit(types.void(_i32, _u8), **_OPTIONS)
def mark(ordinals: Any, seen: Any) -> None:
    """Set ``seen`` for each ordinal that is not negative."""
    for row in range(len(ordinals)):
        if ordinals[row] >= 0:
            seen[np.uint64(ordinals[row])] = 1


@njit(types.void(_i32, _i32, _i32), **_OPTIONS)
def look_up(by_ordinal: Any, ordinals: Any, out: Any) -> None:
    """``by_ordinal`` of each ordinal; a negative one has the last entry. Half the time of numpy's indexing by int32."""
    none = len(by_ordinal) - 1
    for row in range(len(ordinals)):
        ordinal = np.int64(ordinals[row])
        out[row] = by_ordinal[np.uint64(ordinal if ordinal >= 0 else none)]


# --- spans ------------------------------------------------------------------------------------------------------------


@njit(
    types.int64(_bytes, _u8, _u32, _plan, _int, _i64, _i32, _i32, _i64, _i32, _i64, _u8, _i64, _i64, _i32, _i64),
    **_OPTIONS,
)
def read_spans(
    buffer: Any,
    kinds: Any,
    starts: Any,
    plan: Any,
    multiplier: Any,
    slot_ids: Any,
    slot_ordinals: Any,
    scope_of_description: Any,
    pair_slots: Any,
    pair_scopes: Any,
    pairs: Any,
    out_kind: Any,
    out_ticks: Any,
    out_index: Any,
    out_scope: Any,
    outcome: Any,
) -> Any:
    """Rows of the events that the plan names, and a number for each distinct (description, name) they have.

    ``pairs`` receives the ordinals of both, description in the upper half; a description that names itself has all ones
    in the lower. ``outcome[3]`` is how many there are. ``scope_of_description`` starts as -1, ``pair_slots`` as 0.
    """
    pair_mask = np.uint64(len(pair_slots) - 1)
    rows = 0
    scopes = 0
    for index in range(len(kinds)):
        kind = np.uint64(kinds[index])
        action = plan[kind, 0]
        if action == SPAN_SKIP:
            continue
        body = np.uint64(starts[index])
        address = np.int64(_word(buffer, body + np.uint64(plan[kind, 2])))
        description = _ordinal(address, multiplier, slot_ids, slot_ordinals)
        if description < 0:
            outcome[0], outcome[1], outcome[2] = _UNKNOWN_DEPENDENCY, index, address
            return rows
        if plan[kind, 3] < 0:
            scope = scope_of_description[description]
            if scope < 0:
                if scopes >= len(pairs):
                    outcome[0], outcome[1] = _TOO_MANY_SCOPES, index
                    return rows
                scope = np.int32(scopes)
                scope_of_description[description] = scope
                pairs[scopes] = description << 32 | 0xFFFFFFFF
                scopes += 1
        else:
            address = np.int64(_word(buffer, body + np.uint64(plan[kind, 3])))
            name = _ordinal(address, multiplier, slot_ids, slot_ordinals)
            if name < 0:
                outcome[0], outcome[1], outcome[2] = _UNKNOWN_DEPENDENCY, index, address
                return rows
            pair = description << 32 | name
            slot = _slot(pair + 1, multiplier, pair_mask)
            while pair_slots[slot] != 0 and pair_slots[slot] != pair + 1:
                slot = (slot + np.uint64(1)) & pair_mask
            if pair_slots[slot] == 0:
                if scopes >= len(pairs):
                    outcome[0], outcome[1] = _TOO_MANY_SCOPES, index
                    return rows
                pair_slots[slot] = pair + 1
                pair_scopes[slot] = scopes
                pairs[scopes] = pair
                scopes += 1
            scope = pair_scopes[slot]
        at = np.uint64(rows)
        out_kind[at] = action - SPAN_BEGIN
        out_ticks[at] = np.int64(_word(buffer, body + np.uint64(plan[kind, 1])))
        out_index[at] = index
        out_scope[at] = scope
        rows += 1
    outcome[3] = scopes
    return rows


# --- metrics ----------------------------------------------------------------------------------------------------------


@njit(types.int64(_bytes, _u8, _u32, _plan, _int, _i64, _i32, _u8, _i64, _i64, _i32, _i32, _i64), **_OPTIONS)
def read_metrics(
    buffer: Any,
    kinds: Any,
    starts: Any,
    plan: Any,
    multiplier: Any,
    slot_ids: Any,
    slot_ordinals: Any,
    out_integer: Any,
    out_ticks: Any,
    out_bits: Any,
    out_subject: Any,
    out_properties: Any,
    outcome: Any,
) -> Any:
    """Rows of the events that the plan names; ``out_properties`` is the ordinal of the property set, or -1."""
    rows = 0
    for index in range(len(kinds)):
        kind = np.uint64(kinds[index])
        action = plan[kind, 0]
        if action == METRIC_SKIP:
            continue
        body = np.uint64(starts[index])
        at = np.uint64(rows)
        address = np.int64(_word(buffer, body + np.uint64(plan[kind, 2])))
        subject = _ordinal(address, multiplier, slot_ids, slot_ordinals)
        if subject < 0:
            outcome[0], outcome[1], outcome[2] = _UNKNOWN_DEPENDENCY, index, address
            return rows
        out_subject[at] = subject
        out_properties[at] = -1
        if plan[kind, 3] >= 0:
            address = np.int64(_word(buffer, body + np.uint64(plan[kind, 3])))
            properties = _ordinal(address, multiplier, slot_ids, slot_ordinals)
            if properties < 0:
                outcome[0], outcome[1], outcome[2] = _UNKNOWN_DEPENDENCY, index, address
                return rows
            out_properties[at] = properties
        out_integer[at] = action == METRIC_INTEGER
        out_ticks[at] = np.int64(_word(buffer, body + np.uint64(plan[kind, 1])))
        out_bits[at] = np.int64(_word(buffer, body + np.uint64(plan[kind, 4])))
        rows += 1
    return rows


# --- logs -------------------------------------------------------------------------------------------------------------


@njit(
    types.int64(_bytes, _u8, _u32, _plan, _int, _i64, _i32, _i64, _i64, _i32, _i32, _u8, _i64, _i64, _u8, _i64),
    **_OPTIONS,
)
def read_logs(
    buffer: Any,
    kinds: Any,
    starts: Any,
    plan: Any,
    multiplier: Any,
    slot_ids: Any,
    slot_ordinals: Any,
    out_ticks: Any,
    out_level: Any,
    out_subject: Any,
    out_properties: Any,
    out_described: Any,
    out_text_start: Any,
    out_text_length: Any,
    out_text_source: Any,
    outcome: Any,
) -> Any:
    """Rows of the events that the plan names. ``out_described``: subject and level are those of a description.

    The text of a row is ``out_text_length`` bytes at ``out_text_start``, or a dependency whose ordinal stands there.
    """
    rows = 0
    for index in range(len(kinds)):
        kind = np.uint64(kinds[index])
        if plan[kind, 0] == LOG_SKIP:
            continue
        start = np.int64(starts[index])
        body = np.uint64(start)
        text = np.int64(plan[kind, LOG_TEXT])
        source = plan[kind, LOG_TEXT_SOURCE]
        size = np.int64(0)
        if plan[kind, LOG_DYNAMIC] != 0:  # members of fixed types were checked against the type's size
            size = _half(buffer, np.uint64(start - 4))
            needed = text + 5 if source == TEXT_INLINE else text
            if size < needed:
                outcome[0], outcome[1], outcome[2] = _SHORT_OBJECT, index, size
                return rows
        address = np.int64(_word(buffer, body + np.uint64(plan[kind, LOG_SUBJECT])))
        subject = _ordinal(address, multiplier, slot_ids, slot_ordinals)
        if subject < 0:
            outcome[0], outcome[1], outcome[2] = _UNKNOWN_DEPENDENCY, index, address
            return rows
        at = np.uint64(rows)
        out_subject[at] = subject
        out_properties[at] = -1
        if plan[kind, LOG_PROPERTIES] >= 0:
            address = np.int64(_word(buffer, body + np.uint64(plan[kind, LOG_PROPERTIES])))
            properties = _ordinal(address, multiplier, slot_ids, slot_ordinals)
            if properties < 0:
                outcome[0], outcome[1], outcome[2] = _UNKNOWN_DEPENDENCY, index, address
                return rows
            out_properties[at] = properties
        out_ticks[at] = np.int64(_word(buffer, body + np.uint64(plan[kind, LOG_TIME])))
        if plan[kind, LOG_LEVEL] < 0:
            out_described[at] = 1
            out_level[at] = 0
        else:
            out_described[at] = 0
            if plan[kind, LOG_LEVEL_BYTES] == 1:
                out_level[at] = np.int64(buffer[body + np.uint64(plan[kind, LOG_LEVEL])])
            else:
                out_level[at] = _half(buffer, body + np.uint64(plan[kind, LOG_LEVEL]))
        if source == TEXT_INLINE:
            codec = buffer[body + np.uint64(text)]
            length = _half(buffer, body + np.uint64(text + 1))
            if codec > _UTF8:
                outcome[0], outcome[1], outcome[2] = _BAD_CODEC, index, codec
                return rows
            if length > size - text - 5:
                outcome[0], outcome[1], outcome[2] = _STRING_BEYOND_OBJECT, index, length
                return rows
            out_text_source[at] = codec
            out_text_start[at] = start + text + 5
            out_text_length[at] = length
        elif source == TEXT_STRICT:
            out_text_source[at] = TEXT_STRICT
            out_text_start[at] = start + text
            out_text_length[at] = size - text
        elif source == TEXT_REFERENCE:
            address = np.int64(_word(buffer, body + np.uint64(text)))
            message = _ordinal(address, multiplier, slot_ids, slot_ordinals)
            if message < 0:
                outcome[0], outcome[1], outcome[2] = _UNKNOWN_DEPENDENCY, index, address
                return rows
            out_text_source[at] = TEXT_REFERENCE
            out_text_start[at] = message
            out_text_length[at] = 0
        else:
            out_text_source[at] = TEXT_SUBJECT
            out_text_start[at] = subject
            out_text_length[at] = 0
        rows += 1
    return rows


# --- text -------------------------------------------------------------------------------------------------------------


@njit(nogil=True)
def _utf8_part(buffer: Any, at: Any, end: Any) -> Any:
    """Length of the character at ``at``; negative: length of a maximal ill-formed part, which one U+FFFD replaces."""
    lead = buffer[at]
    if lead < 0x80:
        return np.int64(1)
    low = 0x80
    high = 0xBF
    if 0xC2 <= lead <= 0xDF:
        more = 1
    elif 0xE0 <= lead <= 0xEF:
        more = 2
        if lead == 0xE0:
            low = 0xA0
        elif lead == 0xED:
            high = 0x9F
    elif 0xF0 <= lead <= 0xF4:
        more = 3
        if lead == 0xF0:
            low = 0x90
        elif lead == 0xF4:
            high = 0x8F
    else:
        return np.int64(-1)
    for step in range(1, more + 1):
        if at + step >= end or buffer[at + step] < low or buffer[at + step] > high:
            return np.int64(-step)
        low = 0x80
        high = 0xBF
    return np.int64(more + 1)


@njit(nogil=True)
def _wide_unit(buffer: Any, at: Any, end: Any) -> Any:
    """The code point at ``at`` of UTF-16; an unpaired surrogate is U+FFFD. Two units lie above 0xFFFF."""
    unit = np.int64(buffer[at]) | np.int64(buffer[at + 1]) << 8
    if unit < 0xD800 or unit > 0xDFFF:
        return unit
    if unit < 0xDC00 and at + 4 <= end:
        low = np.int64(buffer[at + 2]) | np.int64(buffer[at + 3]) << 8
        if 0xDC00 <= low <= 0xDFFF:
            return 0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00)
    return np.int64(0xFFFD)


@njit(types.int64(_bytes, _i64, _i64, _u8, _i64, _i64, _i64), **_OPTIONS)
def measure_text(
    buffer: Any, starts: Any, lengths: Any, sources: Any, reference_lengths: Any, out_lengths: Any, outcome: Any
) -> Any:
    """Bytes of each row's text in UTF-8. Returns the sum; rows that need repair are marked in ``sources``."""
    total = np.int64(0)
    for row in range(len(starts)):
        source = sources[row]
        if source == TEXT_REFERENCE:
            out_lengths[row] = reference_lengths[starts[row]]
            total += out_lengths[row]
            continue
        at = starts[row]
        end = at + lengths[row]
        size = np.int64(0)
        if source == _WIDE:
            if lengths[row] & 1:
                outcome[0], outcome[1], outcome[2] = _ODD_WIDE_STRING, row, lengths[row]
                return total
            while at < end:
                point = _wide_unit(buffer, at, end)
                at += 2
                if point < 0x80:
                    size += 1
                elif point < 0x800:
                    size += 2
                elif point < 0x10000:
                    size += 3
                else:
                    size += 4
                    at += 2
        else:
            sound = True
            high = np.uint8(0)
            for where in range(at, end):
                high |= buffer[np.uint64(where)]
            if high < 0x80:
                size = lengths[row]
            else:
                while at < end:
                    part = _utf8_part(buffer, at, end)
                    if part > 0:
                        at += part
                        size += part
                    else:
                        at -= part
                        size += 3
                        sound = False
            if not sound:
                if source == TEXT_STRICT:
                    outcome[0], outcome[1], outcome[2] = _NOT_UTF8, row, lengths[row]
                    return total
                sources[row] = TEXT_REPAIR
        out_lengths[row] = size
        total += size
    return total


@njit(types.void(_bytes, _i64, _i64, _u8, _i64, _bytes, _i64, _i32, _u8), **_OPTIONS)
def write_text(
    buffer: Any,
    starts: Any,
    lengths: Any,
    sources: Any,
    out_lengths: Any,
    reference_bytes: Any,
    reference_starts: Any,
    out_offsets: Any,
    out: Any,
) -> None:
    """Write the texts that were measured, one behind the other, and where each starts."""
    to = np.int64(0)
    out_offsets[0] = 0
    for row in range(len(starts)):
        source = sources[row]
        if source == TEXT_REFERENCE:
            at = reference_starts[starts[row]]
            for step in range(out_lengths[row]):
                out[np.uint64(to + step)] = reference_bytes[np.uint64(at + step)]
            to += out_lengths[row]
        elif source == _WIDE:
            at = starts[row]
            end = at + lengths[row]
            while at < end:
                point = _wide_unit(buffer, at, end)
                at += 2
                if point < 0x80:
                    out[to] = point
                    to += 1
                elif point < 0x800:
                    out[to] = 0xC0 | point >> 6
                    out[to + 1] = 0x80 | point & 0x3F
                    to += 2
                elif point < 0x10000:
                    out[to] = 0xE0 | point >> 12
                    out[to + 1] = 0x80 | point >> 6 & 0x3F
                    out[to + 2] = 0x80 | point & 0x3F
                    to += 3
                else:
                    out[to] = 0xF0 | point >> 18
                    out[to + 1] = 0x80 | point >> 12 & 0x3F
                    out[to + 2] = 0x80 | point >> 6 & 0x3F
                    out[to + 3] = 0x80 | point & 0x3F
                    to += 4
                    at += 2
        elif source == TEXT_REPAIR:
            at = starts[row]
            end = at + lengths[row]
            while at < end:
                part = _utf8_part(buffer, at, end)
                if part > 0:
                    for step in range(part):
                        out[to + step] = buffer[at + step]
                    at += part
                    to += part
                else:
                    at -= part
                    out[to] = 0xEF
                    out[to + 1] = 0xBF
                    out[to + 2] = 0xBD
                    to += 3
        else:
            at = starts[row]
            for step in range(lengths[row]):
                out[np.uint64(to + step)] = buffer[np.uint64(at + step)]
            to += lengths[row]
        out_offsets[row + 1] = to


def warm_up() -> None:
    """Run every kernel once on next to nothing, so that their machine code is loaded before the first block."""
    buffer = np.zeros(17, np.uint8)
    buffer.flags.writeable = False
    sizes = np.full(256, -1, np.int64)
    sizes[0] = 16
    starts, kinds, present = np.zeros(1, np.uint32), np.zeros(1, np.uint8), np.zeros(256, np.uint8)
    outcome = np.zeros(4, np.int64)
    multiplier = np.int64(1)
    scan(buffer, 1, sizes, starts, kinds, present, outcome)
    slot_ids, slot_ordinals = np.zeros(8, np.int64), np.full(8, -1, np.int32)
    index_ids(np.zeros(1, np.int64), multiplier, slot_ids, slot_ordinals)
    i32, i64, u8 = np.zeros(257, np.int32), np.zeros(8, np.int64), np.zeros(8, np.uint8)
    check_references(buffer, kinds, starts, i32, i32, multiplier, slot_ids, slot_ordinals, outcome)
    mark(i32, u8)
    look_up(i32, i32, i32.copy())
    index = (slot_ids, slot_ordinals)
    plan = np.array([[SPAN_BEGIN, 8, 0, -1]], np.int32)
    scopes = np.full(1, -1, np.int32)
    read_spans(
        buffer, kinds, starts, plan, multiplier, *index, scopes, i64.copy(), i32, i64, u8, i64, i64, i32, outcome
    )
    plan = np.array([[METRIC_INTEGER, 8, 0, -1, 8]], np.int32)
    read_metrics(buffer, kinds, starts, plan, multiplier, *index, u8, i64, i64, i32, i32, outcome)
    plan = np.array([[LOG_ROW, 0, 8, 0, -1, 0, -1, 0, TEXT_SUBJECT]], np.int32)
    read_logs(buffer, kinds, starts, plan, multiplier, *index, i64, i64, i32, i32, u8, i64, i64, u8, outcome)
    texts = (np.zeros(1, np.int64), np.ones(1, np.int64), np.full(1, _UTF8, np.uint8))
    measure_text(buffer, *texts, i64, i64, outcome)
    write_text(buffer, *texts, i64, buffer, i64, i32, u8)


__all__ = [
    "Fault",
    "check_references",
    "index_ids",
    "look_up",
    "mark",
    "measure_text",
    "read_logs",
    "read_metrics",
    "read_spans",
    "scan",
    "warm_up",
    "write_text",
]
