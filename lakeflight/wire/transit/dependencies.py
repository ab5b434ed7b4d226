"""The dependency table of a block: what its events refer to by address.

Read as the events are: one scan finds the entries, one pass resolves what they refer to, one decodes their texts, and
none of them makes a Python value of an entry. Events then refer to entries by ordinal. An address is opaque, and belongs
to one block.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from lakeflight.wire.errors import CorruptPayloadError
from lakeflight.wire.transit import kernels, text_kernels
from lakeflight.wire.transit.columns import Codes, Int32Array, Int64Array, UInt8Array
from lakeflight.wire.transit.kernels import (
    ENTRY_DESCRIPTION,
    ENTRY_INLINE,
    ENTRY_PLAN_COLUMNS,
    ENTRY_PROPERTIES,
    ENTRY_REFERENCE,
    ENTRY_STRICT,
    ENTRY_TEXTS_MAX,
    IS_DESCRIPTION,
    MARK_PROPERTIES,
    MARK_REFERENCES,
    Fault,
)
from lakeflight.wire.transit.layout import FixedType, Kind, TypeTable, count_fields
from lakeflight.wire.transit.records import (
    PLANNED_BYTES_MAX,
    Plan,
    Records,
    TypePlan,
    address_text,
    fixed_plan,
    new_outcome,
    raise_fault,
    scan_records,
)
from lakeflight.wire.transit.strings import Texts, read_texts

DEPENDENCIES_MAX: Final = 2 << 20  # of one block: each costs about 100 bytes of memory
PROPERTY_TEXT_BYTES_MAX: Final = 64 << 20  # of all property sets that the events of one block use

# what the inner reads of overlapping entries may sum up to; entries of sound senders never overlap
_READ_FACTOR: Final = 2
_READ_SLACK_BYTES: Final = 4096

_SLOTS_MIN: Final = 8
# drawn anew by each process, so that nobody can choose addresses that fall into one slot
_MULTIPLIER: Final = np.int64(secrets.randbits(62) << 1 | 1)

_NO_PROPERTIES: Final = "{}"


class Wanted(NamedTuple):
    """What events of one kind take from dependencies."""

    texts: tuple[str, ...]  # members of a description that refer to text
    number: str | None = None  # its one member that is a number
    properties: tuple[str, ...] = ()  # names of properties that override something
    words: tuple[str, ...] = ()  # texts that mean something as values of properties


class DependencyPlan(Plan):
    """How to read the dependencies of one kind of stream."""

    __slots__ = ("property_bytes", "wanted", "word_offsets", "words")

    def __init__(self, table: TypeTable, wanted: Wanted) -> None:
        super().__init__(table, ENTRY_PLAN_COLUMNS, self._entry)
        words = [word.encode() for word in (*wanted.properties, *wanted.words)]
        self.wanted: Final = wanted
        self.words: Final[UInt8Array] = np.array(list(b"".join(words)), np.uint8)
        self.word_offsets: Final[Int32Array] = np.cumsum([0, *map(len, words)]).astype(np.int32)
        self.property_bytes = 0  # known once a property set occurs

    def _entry(self, table: TypeTable, index: int) -> TypePlan:
        udt = table.types[index]
        if udt.size:
            return self._fixed(table.record_type(index))
        if udt.name == "StaticString":
            return TypePlan((ENTRY_STRICT,))
        if udt.name == "StaticStringDependency":
            return TypePlan((ENTRY_INLINE,))
        if udt.name == "PropertySetDependency":
            return self._properties(table.named("Property"))
        raise CorruptPayloadError(f"dependencies of the type {udt.name!r} have an unknown layout")

    def _fixed(self, fixed: FixedType) -> TypePlan:
        fields = count_fields(fixed.fields)
        if fixed.stands_for is not None:
            if fixed.stands_for.kind is not Kind.REFERENCE:
                raise CorruptPayloadError(f"dependency of reference type {fixed.name!r} repeats an entry")
            at = fixed.stands_for.offset
            return fixed_plan(fixed, (ENTRY_REFERENCE, fields, at), at)
        address = fixed.need("id", Kind.U64, Kind.I64).offset
        number, number_bytes = -1, 0
        found = fixed.find(self.wanted.number) if self.wanted.number else None
        if found is not None and found.kind in (Kind.U32, Kind.U8):
            number, number_bytes = found.offset, found.kind.width
        texts = [
            found.offset if (found := fixed.find(name)) and found.kind is Kind.REFERENCE else -1
            for name in self.wanted.texts
        ]
        texts += [-1] * (ENTRY_TEXTS_MAX - len(texts))
        row = (ENTRY_DESCRIPTION, fields, address, 0, number, number_bytes, *texts)
        return fixed_plan(fixed, row, *texts)

    def _properties(self, fixed: FixedType) -> TypePlan:
        if fixed.size == 0:
            raise CorruptPayloadError("type 'Property' has no size")
        if fixed.stands_for is not None:
            raise CorruptPayloadError("type 'Property' is a reference")
        name, value = fixed.need("name", Kind.REFERENCE), fixed.need("value", Kind.REFERENCE)
        self.property_bytes = min(fixed.size, PLANNED_BYTES_MAX)
        if fixed.size > PLANNED_BYTES_MAX:  # only sets without properties fit into a buffer
            return TypePlan((ENTRY_PROPERTIES, self.property_bytes), (), MARK_PROPERTIES)
        row = (ENTRY_PROPERTIES, self.property_bytes, name.offset, value.offset)
        return fixed_plan(fixed, row, name.offset, value.offset)._replace(mark=MARK_PROPERTIES)


@dataclass(slots=True)
class Dependencies:
    """Entries by ordinal, in the order of the buffer, and an index from address to ordinal for compiled code.

    Every array has a value for each entry. What it means depends on the entry's source: ``kernels.read_entries``.
    """

    plan: DependencyPlan
    ids: Int64Array
    sources: UInt8Array
    kinds: UInt8Array
    starts: Int64Array
    lengths: Int64Array
    numbers: Int64Array
    members: Int32Array  # ordinals of the texts of a description, in the order they are wanted
    pairs: Int32Array  # ordinals of name and value of each property
    slot_ids: Int64Array
    slot_ordinals: Int32Array
    texts: Texts  # empty for what is no text
    words: Int32Array  # which of the wanted words a text is, names of properties first, or -1
    overrides: Int32Array  # ordinals of the values of a property set, in the order their names are wanted
    _strings: list[str] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def index(self) -> tuple[np.int64, Int64Array, Int32Array]:
        """What a kernel needs to find an entry by its address."""
        return _MULTIPLIER, self.slot_ids, self.slot_ordinals

    def check_other_references(self, objects: Records) -> None:
        """Look up the addresses in objects that nothing else looks up.

        An address that no dependency has makes the block corrupt, also in a member that nobody reads.
        """
        if objects.marks & MARK_REFERENCES:
            plan, outcome = objects.plan, new_outcome()
            kernels.check_references(
                objects.buffer, objects.kinds, objects.starts, plan.first, plan.offsets, *self.index, outcome
            )
            raise_fault(outcome)

    def raise_fault(self, outcome: Int64Array, noun: str = "object") -> None:
        """Turn what a kernel found wrong with an object into an error; returns if it found nothing."""
        if outcome[0]:
            if int(outcome[0]) == Fault.NOT_DESCRIBED:
                self._raise_not_described(int(outcome[2]), int(outcome[3]))
            raise_fault(outcome, noun)

    def _raise_not_described(self, address: int, part: int) -> None:
        ordinal = int(np.flatnonzero(self.ids == address)[0])
        if self.sources[ordinal] != IS_DESCRIPTION:
            raise CorruptPayloadError(f"dependency {address_text(address)} is not a description")
        fixed = self.plan.table.record_type(int(self.kinds[ordinal]))
        if part < 0:
            fixed.need(str(self.plan.wanted.number), Kind.U32, Kind.U8)
        else:
            name = self.plan.wanted.texts[part]
            fixed.need(name, Kind.REFERENCE)
            raise CorruptPayloadError(f"member {name!r} of {fixed.name!r} refers to something else than a string")

    def used(self, ordinals: Int32Array) -> tuple[Int32Array, Int32Array]:
        """The distinct ordinals among these, by first sight, and which of them each row has; negative rows stay."""
        size = len(self.ids)
        used, numbers = np.empty(size, np.int32), np.empty(len(ordinals), np.int32)
        count = kernels.renumber(ordinals, np.empty(size, np.int32), used, numbers)
        return used[:count], numbers

    def text_column(self, ordinals: Int32Array) -> Codes:
        """The text of each row's ordinal, which every row has."""
        used, codes = self.used(ordinals)
        return Codes(codes, self.strings(used))

    def strings(self, ordinals: Int32Array) -> list[str]:
        """Their texts. All there are become Python's together, when first asked for: few cost as much."""
        if self._strings is None:
            self._strings = self.texts.to_strings()
        return list(map(self._strings.__getitem__, ordinals.tolist()))

    def json_column(self, ordinals: Int32Array) -> Codes:
        """Canonical JSON of each row's property set: sorted keys, no spaces, of a doubled name the last value.

        Raises:
            CorruptPayloadError: All together would be too long.
        """
        if len(self.pairs) == 0:
            return Codes(np.zeros(len(ordinals), np.int32), [_NO_PROPERTIES])
        sets, codes = self.used(ordinals)
        codes += np.int32(1)  # a row without a set has -1
        return Codes(codes, [_NO_PROPERTIES, *self._json(sets).to_strings()])

    def _json(self, sets: Int32Array) -> Texts:
        most = len(self.pairs) // 2
        order, spare, pairs = np.empty(most, np.int32), np.empty(most, np.int32), np.empty(2 * most, np.int32)
        counts, offsets, outcome = np.empty(len(sets), np.int32), np.empty(len(sets) + 1, np.int32), new_outcome()
        total = text_kernels.measure_json(
            *(sets, self.starts, self.lengths, self.pairs, *self.texts, PROPERTY_TEXT_BYTES_MAX),
            *(order, spare, pairs, counts, offsets, outcome),
        )
        raise_fault(outcome, "dependency")
        json = Texts(np.empty(total, np.uint8), offsets)
        text_kernels.write_json(pairs, counts, *self.texts, json.data)
        return json


def read_dependencies(plan: DependencyPlan, data: bytes) -> Dependencies:
    """Decode the dependencies buffer of one block.

    Raises:
        CorruptPayloadError: A record, a reference or a string does not fit, or an address occurs twice.
    """
    found = scan_records(plan, data, "dependency")
    room = min(len(found), DEPENDENCIES_MAX)
    slots = max(_SLOTS_MIN, 1 << (2 * room).bit_length())
    slot_ids, slot_ordinals = np.empty(slots, np.int64), np.empty(slots, np.int32)
    budget = _READ_FACTOR * len(data) + _READ_SLACK_BYTES
    has_properties = bool(found.marks & MARK_PROPERTIES)
    pairs = np.empty(2 * (budget // plan.property_bytes) if has_properties else 0, np.int32)
    ids, starts, lengths = np.empty(room, np.int64), np.empty(room, np.int64), np.empty(room, np.int64)
    sources, kinds, numbers = np.empty(room, np.uint8), np.empty(room, np.uint8), np.empty(room, np.int64)
    members = np.empty((room, len(plan.wanted.texts)), np.int32)
    outcome = new_outcome()
    count = kernels.read_entries(
        *(found.buffer, found.kinds, found.starts, plan.rows, plan.first, plan.offsets, budget),
        *(_MULTIPLIER, slot_ids, slot_ordinals),
        *(ids, sources, kinds, starts, lengths, numbers, members, pairs, outcome),
    )
    raise_fault(outcome, "dependency")
    pairs = pairs[: 2 * int(outcome[3])]
    if count < room:  # records that only repeat an entry
        ids, kinds, sources = ids[:count], kinds[:count], sources[:count]
        starts, lengths = starts[:count], lengths[:count]
    texts = read_texts(found.buffer, starts, lengths, sources, noun="dependency")
    words = np.empty(count if has_properties else 0, np.int32)
    overrides = np.empty((len(words), len(plan.wanted.properties)), np.int32)
    if has_properties:
        text_kernels.find_properties(
            *(*texts, plan.words, plan.word_offsets, sources, starts, lengths, pairs), *(words, overrides)
        )
    return Dependencies(
        *(plan, ids, sources, kinds, starts, lengths, numbers, members, pairs, slot_ids, slot_ordinals),
        *(texts, words, overrides),
    )


__all__ = ["Dependencies", "DependencyPlan", "Wanted", "read_dependencies"]
