"""Messages of OTLP as JSON documents, a whole column at once: all that was sent, as OTLP/JSON has it.

That is protobuf's own mapping with the exceptions that OTLP makes: ids are hexadecimal, enums are numbers. Two are the
original's: a number that JSON has not is null, and ``asInt`` is a number. What was not sent is not there.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import numpy as np
import pyarrow as pa

from lakeflight.wire.otlp import document_kernels as kernels
from lakeflight.wire.otlp.json_mapping import HEXADECIMAL
from lakeflight.wire.otlp.json_text import room_for, texts_of
from lakeflight.wire.otlp.messages import MESSAGES
from lakeflight.wire.otlp.scan import Int64s, Messages, Scan, strings_of

ROOTS: Final = (
    "LogRecord",
    "Span",
    "NumberDataPoint",
    "HistogramDataPoint",
    "ExponentialHistogramDataPoint",
    "SummaryDataPoint",
)
"""Messages that can be written, by their numbers."""

_KINDS: Final = {  # by the numbers of descriptor.proto
    1: kernels.AS_DOUBLE,
    3: kernels.AS_SIGNED_TEXT,
    4: kernels.AS_UNSIGNED_TEXT,
    5: kernels.AS_INT32,
    6: kernels.AS_UNSIGNED_TEXT,
    7: kernels.AS_UINT32,
    8: kernels.AS_BOOL,
    9: kernels.AS_TEXT,
    11: kernels.AS_MESSAGE,
    12: kernels.AS_BASE64,
    13: kernels.AS_UINT32,
    16: kernels.AS_SIGNED,
    17: kernels.AS_ZIGZAG32,
}
_WIRES: Final = {1: 1, 3: 0, 4: 0, 5: 0, 6: 1, 7: 5, 8: 0, 9: 2, 11: 2, 12: 2, 13: 0, 16: 1, 17: 0}
_DOUBLE_BYTES: Final = 8
_NO_NUMBER: Final = ("null", "null", "null")


@dataclass(slots=True)
class Documents:
    """The members of some messages, ready to be written; ``sizes`` bounds the bytes of each."""

    _scan: Scan
    _messages: Messages
    _kinds: Int64s
    _doubles: tuple[Any, Any, Any]
    sizes: Int64s

    @classmethod
    def of(cls, scan: Scan, messages: Messages, kinds: Int64s) -> Documents:
        """``kinds`` has the number of each message among ``ROOTS``.

        Raises:
            DamagedBlocksError: Some blocks have messages that are damaged.
        """
        sizes = np.zeros(len(messages), np.int64)
        nothing, offsets = np.zeros(1, np.uint8), np.zeros(2, np.int32)
        work = kernels.room(int(np.sum(messages.ends - messages.starts)) // _DOUBLE_BYTES + 1)
        kernels.bound_documents(
            *(scan.buffer, messages.starts, messages.ends, messages.blocks, kinds, _schema(), work),
            *((np.zeros(0, np.int64), nothing, offsets), nothing.copy(), sizes, scan.faults),
        )
        scan.check()
        _, found, count = work
        known = np.unique(found[: count[0]])
        return cls(scan, messages, kinds, (known, *texts_of(known, _NO_NUMBER)), sizes)

    def write(self, first: int, last: int) -> pa.Array:
        """The members of some messages as text, each behind a comma: what stands around them is the caller's."""
        out, offsets = room_for(self.sizes[first:last])
        kernels.write_documents(
            *(self._scan.buffer, self._messages.starts, self._messages.ends, self._kinds, _schema()),
            *(kernels.room(), self._doubles, first, last, out, offsets),
        )
        return strings_of(offsets, out[: offsets[-1]])


@cache
def _schema() -> tuple[Any, ...]:
    """What the messages have, as tables: fields in the order of their names, their ranges, their numbers, their names."""
    messages = [MESSAGES[name].DESCRIPTOR for name in ROOTS]
    for message in messages:  # grows
        inner = [field.message_type for field in message.fields if field.message_type is not None]
        messages += [found for found in dict.fromkeys(inner) if found not in messages]
    ordinals = {message.full_name: ordinal for ordinal, message in enumerate(messages)}
    rows: list[Sequence[int]] = []
    ranges: list[Sequence[int]] = []
    numbers = np.full((len(messages), kernels.NUMBER_MAX + 1), -1, np.int64)
    names = b""
    for ordinal, message in enumerate(messages):
        first = len(rows)
        for field in sorted(message.fields, key=lambda field: field.json_name):
            numbers[ordinal, field.number] = len(rows)
            name = json.dumps(field.json_name).encode() + b":"
            kind = kernels.AS_HEX if field.name in HEXADECIMAL else _KINDS[field.type]
            within = -1 if field.message_type is None else ordinals[field.message_type.full_name]
            alternatives = field.containing_oneof
            group = 0 if alternatives is None else alternatives.index + 1
            rows.append(
                (field.number, _WIRES[field.type], kind, within, group, len(names), len(name), field.is_repeated,
                 not (field.is_repeated or field.has_presence))
            )  # fmt: skip
            names += name
        ranges.append((first, len(rows)))
    text = np.frombuffer(names, np.uint8)  # read-only, as the kernels have it
    return np.array(rows, np.int64), np.array(ranges, np.int64), numbers, text


__all__ = ["ROOTS", "Documents"]
