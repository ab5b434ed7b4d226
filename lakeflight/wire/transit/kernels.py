"""Compiled loops over the records of a block: dependencies into a table, events into columns.

Each kernel takes a whole buffer and plain tables, checks every bound before it reads, and reports what is wrong through
``outcome`` (a ``Fault``, then numbers for the message) in place of raising. Nothing here knows an event by name: what
to read where stands in a *plan*, one row per type index, made by the module that knows the events. What texts say is
not looked at here (``text_kernels``).

Signatures are fixed, so no input can start a compilation; results are cached where ``NUMBA_CACHE_DIR`` says. Set
``NUMBA_BOUNDSCHECK=1`` together with a cache folder of its own to have numba check each index as well (the cache does
not tell the two kinds of code apart).
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Final

import numpy as np
from numba import njit, types

from lakeflight.wire.compiled import INLINED, KERNEL
from lakeflight.wire.words import load_half, load_word

# --- what a kernel found wrong ----------------------------------------------------------------------------------------


class Fault(IntEnum):
    """First number of ``outcome``."""

    NONE = 0
    UNKNOWN_TYPE = 1  # position of the record, type index
    NO_SIZE = 2  # position of the record
    BEYOND_BUFFER = 3  # position of the record, size
    TOO_MANY = 4  # position of the record
    UNKNOWN_DEPENDENCY = 5  # ordinal of the record, address
    SHORT_RECORD = 6  # ordinal of the record, size
    BAD_CODEC = 7  # ordinal of the record, codec
    STRING_BEYOND_RECORD = 8  # ordinal of the record, length
    ODD_WIDE_STRING = 9  # row, length
    NOT_UTF8 = 10  # row, length
    TOO_MANY_SCOPES = 11  # ordinal of the object
    TWICE = 12  # ordinal of the dependency, address
    REPEATED_ENTRY = 13  # ordinal of the dependency
    PROPERTIES_BEYOND_BUFFER = 14  # ordinal of the dependency, number of properties
    OVERLAP = 15  # ordinal of the dependency
    TOO_MANY_DEPENDENCIES = 16  # ordinal of the dependency, how many may be
    NOT_A_STRING = 17  # ordinal of the record, address
    NOT_A_PROPERTY_SET = 18  # ordinal of the object, address
    NOT_DESCRIBED = 19  # ordinal of the object, address, which part of the description is missing
    LONG_PROPERTIES = 20  # ordinal of the property set, how many bytes may be
    DATA_BEYOND_RECORD = 21  # ordinal of the record, length


# literals for the compiled code, which cannot read an enum cheaply
_UNKNOWN_TYPE: Final = 1
_NO_SIZE: Final = 2
_BEYOND_BUFFER: Final = 3
_TOO_MANY: Final = 4
_UNKNOWN_DEPENDENCY: Final = 5
_SHORT_RECORD: Final = 6
_BAD_CODEC: Final = 7
_STRING_BEYOND_RECORD: Final = 8
_TOO_MANY_SCOPES: Final = 11
_TWICE: Final = 12
_REPEATED_ENTRY: Final = 13
_PROPERTIES_BEYOND_BUFFER: Final = 14
_OVERLAP: Final = 15
_TOO_MANY_DEPENDENCIES: Final = 16
_NOT_A_STRING: Final = 17
_NOT_A_PROPERTY_SET: Final = 18
_NOT_DESCRIBED: Final = 19

# --- plans ------------------------------------------------------------------------------------------------------------

# what is known of a type before its records are read, as bits
MARK_NEW: Final = 1  # it has no plan yet
MARK_REFERENCES: Final = 2  # it has addresses that its plan does not name
MARK_PROPERTIES: Final = 4  # it is the type of property sets

# actions of a dependency plan
ENTRY_STRICT: Final = 0  # a string to the end of the record
ENTRY_INLINE: Final = 1  # a string that says its codec and length
ENTRY_PROPERTIES: Final = 2
ENTRY_DESCRIPTION: Final = 3
ENTRY_REFERENCE: Final = 4  # stands for an entry that is there already
# columns: action; fields, or bytes of a property; address, or that of a property's name, or what it stands for; address
# of a property's value; number and its bytes; addresses of texts
ENTRY_SIZE: Final = 1
ENTRY_ADDRESS: Final = 2
ENTRY_VALUE: Final = 3
ENTRY_NUMBER: Final = 4
ENTRY_NUMBER_BYTES: Final = 5
ENTRY_TEXTS: Final = 6
ENTRY_TEXTS_MAX: Final = 3
ENTRY_PLAN_COLUMNS: Final = ENTRY_TEXTS + ENTRY_TEXTS_MAX

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
# of a dependency that is no text; all texts are below
IS_DESCRIPTION: Final = 8
IS_PROPERTIES: Final = 9

_UTF8: Final = 2

_bytes = types.Array(types.uint8, 1, "C", readonly=True)
_u8 = types.uint8[::1]
_u32 = types.uint32[::1]
_i32 = types.int32[::1]
_i64 = types.int64[::1]
_plan = types.int32[:, ::1]
_int = types.int64


# --- reading ----------------------------------------------------------------------------------------------------------


@njit(types.int64(_bytes, _int, _i64, _u8, _u32, _u8, _i64), **KERNEL)
def scan(buffer: Any, records_max: Any, sizes: Any, marks: Any, starts: Any, kinds: Any, outcome: Any) -> Any:
    """Find the records: the start of each body and its type index. Returns how many there are.

    ``outcome[3]`` has the ``marks`` of all types that occur.
    """
    end = np.int64(len(buffer))
    count = 0
    marked = np.uint8(0)
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
            size = load_half(buffer, np.uint64(start))
            start += 4
        if size > end - start:
            outcome[0], outcome[1], outcome[2] = _BEYOND_BUFFER, at, size
            return count
        if count >= records_max:
            outcome[0], outcome[1] = _TOO_MANY, at
            return count
        starts[np.uint64(count)] = start
        kinds[np.uint64(count)] = kind
        marked |= marks[kind]
        count += 1
        at = start + size
    outcome[3] = marked
    return count


# --- addresses to ordinals --------------------------------------------------------------------------------------------


@njit(**INLINED)
def first_slot(key: Any, multiplier: Any, mask: Any) -> Any:
    """Where to look first. The upper bits of the product decide, which every bit of the key has a part in."""
    product = np.uint64(key) * np.uint64(multiplier)
    return (product >> np.uint64(32)) * (mask + np.uint64(1)) >> np.uint64(32)


@njit(**INLINED)
def find_ordinal(key: Any, multiplier: Any, slot_ids: Any, slot_ordinals: Any) -> Any:
    """The ordinal of an address, -1 if there is none."""
    mask = np.uint64(len(slot_ids) - 1)
    slot = first_slot(key, multiplier, mask)
    while slot_ordinals[slot] >= 0:
        if slot_ids[slot] == key:
            return np.int64(slot_ordinals[slot])
        slot = (slot + np.uint64(1)) & mask
    return np.int64(-1)


@njit(types.void(_bytes, _u8, _u32, _i32, _i32, _int, _i64, _i32, _i64), **KERNEL)
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
            address = np.int64(load_word(buffer, np.uint64(starts[index]) + np.uint64(offsets[which])))
            if find_ordinal(address, multiplier, slot_ids, slot_ordinals) < 0:
                outcome[0], outcome[1], outcome[2] = _UNKNOWN_DEPENDENCY, index, address
                return


@njit(types.int64(_i32, _i32, _i32, _i32), **KERNEL)
def renumber(ordinals: Any, numbers: Any, used: Any, out: Any) -> Any:
    """Number the ordinals that occur, by first sight; negative ones stay. Returns how many there are.

    ``used`` receives the ordinal of each number, ``out`` the number of each row. ``numbers`` is room to work in, one
    for each ordinal there is.
    """
    for which in range(len(numbers)):
        numbers[which] = -1
    count = 0
    for row in range(len(ordinals)):
        ordinal = np.int64(ordinals[row])
        if ordinal < 0:
            out[row] = -1
            continue
        number = numbers[np.uint64(ordinal)]
        if number < 0:
            number = np.int32(count)
            numbers[np.uint64(ordinal)] = number
            used[np.uint64(count)] = ordinal
            count += 1
        out[row] = number
    return count


# --- dependencies -----------------------------------------------------------------------------------------------------


@njit(
    types.int64(
        *(_bytes, _u8, _u32, _plan, _i32, _i32, _int, _int, _i64, _i32),
        *(_i64, _u8, _u8, _i64, _i64, _i64, _plan, _i32, _i64),
    ),
    **KERNEL,
)
def read_entries(
    buffer: Any,
    kinds: Any,
    starts: Any,
    plan: Any,
    first: Any,
    offsets: Any,
    budget: Any,
    multiplier: Any,
    slot_ids: Any,
    slot_ordinals: Any,
    out_ids: Any,
    out_sources: Any,
    out_kinds: Any,
    out_starts: Any,
    out_lengths: Any,
    out_numbers: Any,
    out_texts: Any,
    out_pairs: Any,
    outcome: Any,
) -> Any:
    """The table of dependencies, in the order of the buffer. Returns how many entries there are.

    An entry refers to earlier ones alone, so the index from address to ordinal grows as entries are read; its slots are
    a power of two, and at least twice as many as entries.

    Of a text, ``out_sources`` is where it comes from, ``out_starts`` and ``out_lengths`` say where it lies. Of a
    property set they are ``IS_PROPERTIES``, the first of its pairs in ``out_pairs`` (ordinals of name and value) and
    how many it has; ``outcome[3]`` is how many pairs there are. Of a description, ``out_numbers`` is its number and
    ``out_texts`` has the ordinals of its texts, each -1 if there is no such member. ``budget`` is what the reads that
    no record bounds may sum up to, so ``out_pairs`` has room for as many pairs as it pays for.
    """
    for index in range(len(slot_ordinals)):
        slot_ordinals[index] = -1
    mask = np.uint64(len(slot_ids) - 1)
    end = np.int64(len(buffer))
    count = np.int64(0)
    pairs = np.int64(0)
    for index in range(len(kinds)):
        kind = np.uint64(kinds[index])
        action = plan[kind, 0]
        start = np.int64(starts[index])
        body = np.uint64(start)
        left = end - start
        length = np.int64(0)
        if action == ENTRY_STRICT:
            size = load_half(buffer, np.uint64(start - 4))
            if size < 8:
                outcome[0], outcome[1], outcome[2] = _SHORT_RECORD, index, size
                return count
            source = np.uint8(TEXT_STRICT)
            address = np.int64(load_word(buffer, body))
            start += 8
            length = size - 8
        elif action == ENTRY_INLINE:  # bounded by the buffer and not by the record, as the original reads it
            if left < 13:
                outcome[0], outcome[1], outcome[2] = _SHORT_RECORD, index, left
                return count
            source = buffer[body + np.uint64(8)]
            if source > _UTF8:
                outcome[0], outcome[1], outcome[2] = _BAD_CODEC, index, source
                return count
            length = load_half(buffer, body + np.uint64(9))
            if length > left - 13:
                outcome[0], outcome[1], outcome[2] = _STRING_BEYOND_RECORD, index, length
                return count
            address = np.int64(load_word(buffer, body))
            start += 13
            budget -= length
        elif action == ENTRY_PROPERTIES:  # as well
            if left < 12:
                outcome[0], outcome[1], outcome[2] = _SHORT_RECORD, index, left
                return count
            source = np.uint8(IS_PROPERTIES)
            address = np.int64(load_word(buffer, body))
            length = load_half(buffer, body + np.uint64(8))
            step = np.int64(plan[kind, ENTRY_SIZE])
            if length > (left - 12) // step:
                outcome[0], outcome[1], outcome[2] = _PROPERTIES_BEYOND_BUFFER, index, length
                return count
            budget -= length * step
            if budget < 0:  # before anything is written
                outcome[0], outcome[1] = _OVERLAP, index
                return count
            start = pairs
            body += np.uint64(12)
            for _ in range(length):
                for which in range(first[kind], first[kind + np.uint64(1)]):
                    reference = np.int64(load_word(buffer, body + np.uint64(offsets[which])))
                    if find_ordinal(reference, multiplier, slot_ids, slot_ordinals) < 0:
                        outcome[0], outcome[1], outcome[2] = _UNKNOWN_DEPENDENCY, index, reference
                        return count
                for which in range(ENTRY_ADDRESS, ENTRY_VALUE + 1):
                    reference = np.int64(load_word(buffer, body + np.uint64(plan[kind, which])))
                    ordinal = find_ordinal(reference, multiplier, slot_ids, slot_ordinals)
                    if ordinal < 0:
                        outcome[0], outcome[1], outcome[2] = _UNKNOWN_DEPENDENCY, index, reference
                        return count
                    if out_sources[np.uint64(ordinal)] >= IS_DESCRIPTION:
                        outcome[0], outcome[1], outcome[2] = _NOT_A_STRING, index, reference
                        return count
                    out_pairs[np.uint64(2 * pairs + which - ENTRY_ADDRESS)] = ordinal
                pairs += 1
                body += np.uint64(step)
        else:
            source = np.uint8(IS_DESCRIPTION)
            budget -= plan[kind, ENTRY_SIZE]
            for which in range(first[kind], first[kind + np.uint64(1)]):
                reference = np.int64(load_word(buffer, body + np.uint64(offsets[which])))
                if find_ordinal(reference, multiplier, slot_ids, slot_ordinals) < 0:
                    outcome[0], outcome[1], outcome[2] = _UNKNOWN_DEPENDENCY, index, reference
                    return count
            address = np.int64(load_word(buffer, body + np.uint64(plan[kind, ENTRY_ADDRESS])))
            if action == ENTRY_REFERENCE:  # of a string it adds nothing, anything else would be added twice
                ordinal = find_ordinal(address, multiplier, slot_ids, slot_ordinals)
                if ordinal < 0:
                    outcome[0], outcome[1], outcome[2] = _UNKNOWN_DEPENDENCY, index, address
                    return count
                if out_sources[np.uint64(ordinal)] >= IS_DESCRIPTION:
                    outcome[0], outcome[1] = _REPEATED_ENTRY, index
                    return count
        if budget < 0:
            outcome[0], outcome[1] = _OVERLAP, index
            return count
        if action == ENTRY_REFERENCE:
            continue
        if count >= len(out_ids):
            outcome[0], outcome[1], outcome[2] = _TOO_MANY_DEPENDENCIES, index, count
            return count
        at = np.uint64(count)
        if action == ENTRY_DESCRIPTION:
            number = np.int64(-1)
            if plan[kind, ENTRY_NUMBER] >= 0:
                if plan[kind, ENTRY_NUMBER_BYTES] == 1:
                    number = np.int64(buffer[body + np.uint64(plan[kind, ENTRY_NUMBER])])
                else:
                    number = load_half(buffer, body + np.uint64(plan[kind, ENTRY_NUMBER]))
            out_numbers[at] = number
            for which in range(out_texts.shape[1]):
                text = np.int64(-1)
                if plan[kind, ENTRY_TEXTS + which] >= 0:
                    reference = np.int64(load_word(buffer, body + np.uint64(plan[kind, ENTRY_TEXTS + which])))
                    text = find_ordinal(reference, multiplier, slot_ids, slot_ordinals)
                    if text < 0:
                        outcome[0], outcome[1], outcome[2] = _UNKNOWN_DEPENDENCY, index, reference
                        return count
                    if out_sources[np.uint64(text)] >= IS_DESCRIPTION:
                        text = np.int64(-1)
                out_texts[at, which] = text
        slot = first_slot(address, multiplier, mask)
        while slot_ordinals[slot] >= 0:
            if slot_ids[slot] == address:
                outcome[0], outcome[1], outcome[2] = _TWICE, index, address
                return count
            slot = (slot + np.uint64(1)) & mask
        slot_ids[slot] = address
        slot_ordinals[slot] = count
        out_ids[at] = address
        out_sources[at] = source
        out_kinds[at] = kinds[index]
        out_starts[at] = start
        out_lengths[at] = length
        count += 1
    outcome[3] = pairs
    return count


# --- spans ------------------------------------------------------------------------------------------------------------


@njit(
    types.int64(_bytes, _u8, _u32, _plan, _int, _i64, _i32, _i32, _i64, _i32, _i64, _u8, _i64, _i64, _i32, _i64),
    **KERNEL,
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
        address = np.int64(load_word(buffer, body + np.uint64(plan[kind, 2])))
        description = find_ordinal(address, multiplier, slot_ids, slot_ordinals)
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
            address = np.int64(load_word(buffer, body + np.uint64(plan[kind, 3])))
            name = find_ordinal(address, multiplier, slot_ids, slot_ordinals)
            if name < 0:
                outcome[0], outcome[1], outcome[2] = _UNKNOWN_DEPENDENCY, index, address
                return rows
            pair = description << 32 | name
            slot = first_slot(pair + 1, multiplier, pair_mask)
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
        out_ticks[at] = np.int64(load_word(buffer, body + np.uint64(plan[kind, 1])))
        out_index[at] = index
        out_scope[at] = scope
        rows += 1
    outcome[3] = scopes
    return rows


@njit(types.void(_i64, _i64, _u8, _i64, _plan, _plan, _i64, _i64), **KERNEL)
def read_scopes(
    pairs: Any, ids: Any, sources: Any, numbers: Any, texts: Any, out_texts: Any, out_numbers: Any, outcome: Any
) -> None:
    """What the descriptions in pairs of scopes say; a pair's own name stands for the first text."""
    for row in range(len(pairs)):
        description = np.uint64(pairs[row] >> 32)
        own = pairs[row] & 0xFFFFFFFF
        if sources[description] != IS_DESCRIPTION or numbers[description] < 0:
            outcome[0], outcome[1], outcome[2], outcome[3] = _NOT_DESCRIBED, row, ids[description], -1
            return
        for which in range(out_texts.shape[0]):
            text = texts[description, which]
            if which == 0 and own != 0xFFFFFFFF:
                if sources[np.uint64(own)] >= IS_DESCRIPTION:
                    outcome[0], outcome[1], outcome[2] = _NOT_A_STRING, row, ids[np.uint64(own)]
                    return
                text = np.int32(own)
            if text < 0:
                outcome[0], outcome[1], outcome[2], outcome[3] = _NOT_DESCRIBED, row, ids[description], which
                return
            out_texts[which, row] = text
        out_numbers[row] = numbers[description]


# --- metrics ----------------------------------------------------------------------------------------------------------


@njit(
    types.int64(
        *(_bytes, _u8, _u32, _plan, _int, _i64, _i32, _u8, _plan, _plan),
        *(_u8, _i64, _i64, _i32, _i32, _i32, _i32, _i64),
    ),
    **KERNEL,
)
def read_metrics(
    buffer: Any,
    kinds: Any,
    starts: Any,
    plan: Any,
    multiplier: Any,
    slot_ids: Any,
    slot_ordinals: Any,
    sources: Any,
    texts: Any,
    overrides: Any,
    out_integer: Any,
    out_ticks: Any,
    out_bits: Any,
    out_name: Any,
    out_unit: Any,
    out_target: Any,
    out_properties: Any,
    outcome: Any,
) -> Any:
    """Rows of the events that the plan names: ordinals of the texts, and of the property set, or -1."""
    rows = 0
    for index in range(len(kinds)):
        kind = np.uint64(kinds[index])
        action = plan[kind, 0]
        if action == METRIC_SKIP:
            continue
        body = np.uint64(starts[index])
        at = np.uint64(rows)
        address = np.int64(load_word(buffer, body + np.uint64(plan[kind, 2])))
        ordinal = find_ordinal(address, multiplier, slot_ids, slot_ordinals)
        if ordinal < 0:
            outcome[0], outcome[1], outcome[2] = _UNKNOWN_DEPENDENCY, index, address
            return rows
        subject = np.uint64(ordinal)
        if sources[subject] != IS_DESCRIPTION:
            outcome[0], outcome[1], outcome[2] = _NOT_DESCRIBED, index, address
            return rows
        for which in range(3):
            if texts[subject, which] < 0:
                outcome[0], outcome[1], outcome[2], outcome[3] = _NOT_DESCRIBED, index, address, which
                return rows
        out_name[at] = texts[subject, 0]
        out_unit[at] = texts[subject, 1]
        out_target[at] = texts[subject, 2]
        out_properties[at] = -1
        if plan[kind, 3] >= 0:
            address = np.int64(load_word(buffer, body + np.uint64(plan[kind, 3])))
            ordinal = find_ordinal(address, multiplier, slot_ids, slot_ordinals)
            if ordinal < 0:
                outcome[0], outcome[1], outcome[2] = _UNKNOWN_DEPENDENCY, index, address
                return rows
            properties = np.uint64(ordinal)
            if sources[properties] != IS_PROPERTIES:
                outcome[0], outcome[1], outcome[2] = _NOT_A_PROPERTY_SET, index, address
                return rows
            out_properties[at] = ordinal
            if overrides[properties, 0] >= 0:
                out_name[at] = overrides[properties, 0]
            if overrides[properties, 1] >= 0:
                out_unit[at] = overrides[properties, 1]
            if overrides[properties, 2] >= 0:
                out_target[at] = overrides[properties, 2]
        out_integer[at] = action == METRIC_INTEGER
        out_ticks[at] = np.int64(load_word(buffer, body + np.uint64(plan[kind, 1])))
        out_bits[at] = np.int64(load_word(buffer, body + np.uint64(plan[kind, 4])))
        rows += 1
    return rows


# --- logs -------------------------------------------------------------------------------------------------------------


@njit(
    types.int64(
        *(_bytes, _u8, _u32, _plan, _int, _i64, _i32, _u8, _i64, _plan, _plan, _i32),
        *(_i64, _i32, _i32, _i32, _i64, _i64, _u8, _i64),
    ),
    **KERNEL,
)
def read_logs(
    buffer: Any,
    kinds: Any,
    starts: Any,
    plan: Any,
    multiplier: Any,
    slot_ids: Any,
    slot_ordinals: Any,
    sources: Any,
    numbers: Any,
    texts: Any,
    overrides: Any,
    words: Any,
    out_ticks: Any,
    out_level: Any,
    out_target: Any,
    out_properties: Any,
    out_text_start: Any,
    out_text_length: Any,
    out_text_source: Any,
    outcome: Any,
) -> Any:
    """Rows of the events that the plan names: ordinals of the target and of the property set, or -1.

    Properties override what a description says, and not what an event says itself: ``overrides`` are the target and the
    text of the level, and in ``words``, which has that text's level, two other words come before level 1. The message
    of a row is ``out_text_length`` bytes at ``out_text_start``, or a dependency whose ordinal stands there.
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
            size = load_half(buffer, np.uint64(start - 4))
            needed = text + 5 if source == TEXT_INLINE else text
            if size < needed:
                outcome[0], outcome[1], outcome[2] = _SHORT_RECORD, index, size
                return rows
        subject_address = np.int64(load_word(buffer, body + np.uint64(plan[kind, LOG_SUBJECT])))
        ordinal = find_ordinal(subject_address, multiplier, slot_ids, slot_ordinals)
        if ordinal < 0:
            outcome[0], outcome[1], outcome[2] = _UNKNOWN_DEPENDENCY, index, subject_address
            return rows
        subject = np.uint64(ordinal)
        at = np.uint64(rows)
        is_described = plan[kind, LOG_LEVEL] < 0
        if is_described:
            if sources[subject] != IS_DESCRIPTION or texts[subject, 0] < 0:
                outcome[0], outcome[1], outcome[2] = _NOT_DESCRIBED, index, subject_address
                return rows
            if numbers[subject] < 0:
                outcome[0], outcome[1], outcome[2], outcome[3] = _NOT_DESCRIBED, index, subject_address, -1
                return rows
            target = texts[subject, 0]
            level = numbers[subject]
        else:
            if sources[subject] >= IS_DESCRIPTION:
                outcome[0], outcome[1], outcome[2] = _NOT_A_STRING, index, subject_address
                return rows
            target = np.int32(ordinal)
            if plan[kind, LOG_LEVEL_BYTES] == 1:
                level = np.int64(buffer[body + np.uint64(plan[kind, LOG_LEVEL])])
            else:
                level = load_half(buffer, body + np.uint64(plan[kind, LOG_LEVEL]))
        out_properties[at] = -1
        if plan[kind, LOG_PROPERTIES] >= 0:
            address = np.int64(load_word(buffer, body + np.uint64(plan[kind, LOG_PROPERTIES])))
            ordinal = find_ordinal(address, multiplier, slot_ids, slot_ordinals)
            if ordinal < 0:
                outcome[0], outcome[1], outcome[2] = _UNKNOWN_DEPENDENCY, index, address
                return rows
            properties = np.uint64(ordinal)
            if sources[properties] != IS_PROPERTIES:
                outcome[0], outcome[1], outcome[2] = _NOT_A_PROPERTY_SET, index, address
                return rows
            out_properties[at] = ordinal
            if is_described:
                if overrides[properties, 0] >= 0:
                    target = overrides[properties, 0]
                if overrides[properties, 1] >= 0 and words[np.uint64(overrides[properties, 1])] >= 2:
                    level = np.int64(words[np.uint64(overrides[properties, 1])]) - 1
        out_ticks[at] = np.int64(load_word(buffer, body + np.uint64(plan[kind, LOG_TIME])))
        out_level[at] = np.int32(level)  # unsigned on the wire and signed in rows, with the same bits
        out_target[at] = target
        if source == TEXT_INLINE:
            codec = buffer[body + np.uint64(text)]
            length = load_half(buffer, body + np.uint64(text + 1))
            if codec > _UTF8:
                outcome[0], outcome[1], outcome[2] = _BAD_CODEC, index, codec
                return rows
            if length > size - text - 5:
                outcome[0], outcome[1], outcome[2] = _STRING_BEYOND_RECORD, index, length
                return rows
            out_text_source[at] = codec
            out_text_start[at] = start + text + 5
            out_text_length[at] = length
        elif source == TEXT_STRICT:
            out_text_source[at] = TEXT_STRICT
            out_text_start[at] = start + text
            out_text_length[at] = size - text
        else:
            message = np.int64(-1)
            if source == TEXT_REFERENCE:
                address = np.int64(load_word(buffer, body + np.uint64(text)))
                message = find_ordinal(address, multiplier, slot_ids, slot_ordinals)
                if message < 0:
                    outcome[0], outcome[1], outcome[2] = _UNKNOWN_DEPENDENCY, index, address
                    return rows
                if sources[np.uint64(message)] >= IS_DESCRIPTION:
                    outcome[0], outcome[1], outcome[2] = _NOT_A_STRING, index, address
                    return rows
            else:
                message = np.int64(texts[subject, 1])
                if message < 0:
                    outcome[0], outcome[1], outcome[2], outcome[3] = _NOT_DESCRIBED, index, subject_address, 1
                    return rows
            out_text_source[at] = TEXT_REFERENCE
            out_text_start[at] = message
            out_text_length[at] = 0
        rows += 1
    return rows


def warm_up() -> None:
    """Run every kernel once on next to nothing, so that their machine code is loaded before the first block."""
    buffer = np.zeros(17, np.uint8)
    buffer.flags.writeable = False
    sizes = np.full(256, -1, np.int64)
    sizes[0] = 16
    starts, kinds, marks = np.zeros(1, np.uint32), np.zeros(1, np.uint8), np.zeros(256, np.uint8)
    outcome = np.zeros(4, np.int64)
    multiplier = np.int64(1)
    scan(buffer, 1, sizes, marks, starts, kinds, outcome)
    records = (buffer, kinds, starts)
    index = (np.zeros(8, np.int64), np.full(8, -1, np.int32))
    i32, i64, u8, two = (
        np.zeros(257, np.int32),
        np.zeros(8, np.int64),
        np.zeros(8, np.uint8),
        np.zeros((8, 3), np.int32),
    )
    plan = np.array([[ENTRY_DESCRIPTION, 0, 0, 0, -1, 0, -1, -1, -1]], np.int32)
    entry = (np.zeros(1, np.int64), u8, u8, i64, i64, i64, two, i32)
    read_entries(*records, plan, i32, i32, 1, multiplier, *index, *entry, outcome)
    check_references(*records, i32, i32, multiplier, *index, outcome)
    renumber(i32, i32, i32, i32.copy())
    plan = np.array([[SPAN_BEGIN, 8, 0, -1]], np.int32)
    scopes = np.full(1, -1, np.int32)
    read_spans(*records, plan, multiplier, *index, scopes, i64.copy(), i32, i64, u8, i64, i64, i32, outcome)
    read_scopes(i64, i64, u8, i64, two, two.T.copy(), i64, outcome)
    plan = np.array([[METRIC_INTEGER, 8, 0, -1, 8]], np.int32)
    described = np.full(8, IS_DESCRIPTION, np.uint8)
    texts = (i32, i32, i32, i32)
    read_metrics(*records, plan, multiplier, *index, described, two, two, u8, i64, i64, *texts, outcome)
    plan = np.array([[LOG_ROW, 0, 8, 0, -1, 0, -1, 0, TEXT_SUBJECT]], np.int32)
    columns = (i64, i32, i32, i32, i64, i64, u8)
    read_logs(*records, plan, multiplier, *index, described, i64, two, two, i32, *columns, outcome)


__all__ = [
    "Fault",
    "check_references",
    "find_ordinal",
    "load_half",
    "load_word",
    "read_entries",
    "read_logs",
    "read_metrics",
    "read_scopes",
    "read_spans",
    "renumber",
    "scan",
    "warm_up",
]
