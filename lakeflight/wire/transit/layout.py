"""A stream's two type tables, compiled once: how long each record is, and where its members lie.

The tables come from the sender. Nothing in them is believed before use, and nothing is refused before use either:
a type with a member outside of its body, of an unknown kind or nested without end is only *marked*, and reported when a
record of that type occurs. Refuses tables that are no CBOR arrays of types at all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Any, Final, TypeVar

import numpy as np

from lakeflight.wire.envelope import decode_types
from lakeflight.wire.errors import CorruptPayloadError, MalformedRequestError
from lakeflight.wire.transit.columns import Int64Array

RECORD_TYPES_MAX: Final = 256  # a record names its type by one byte; entries past it can only be nested
FIELDS_MAX: Final = 4096  # of one type with all it nests: nesting multiplies, real types have fewer than ten
NESTING_MAX: Final = 16
OVERLAP_MAX: Final = 4  # times a body may be covered by its members; sound types cover it once
_OVERLAP_SLACK_BYTES: Final = 64
_SIZE_MAX: Final = 1 << 40  # larger than any buffer: such a record never fits
_SMALLEST_DYNAMIC_BYTES: Final = 5  # type index and size

T = TypeVar("T")


class Kind(Enum):
    """What a member holds. A reference is the address of a dependency."""

    U8 = ("u8", 1)
    U32 = ("u32", 4)
    U64 = ("u64", 8)
    I64 = ("i64", 8)
    F64 = ("f64", 8)
    REFERENCE = ("reference", 8)
    OBJECT = ("object", 0)

    def __init__(self, label: str, width: int) -> None:
        self.label = label
        self.width = width


_PRIMITIVES: Final[Mapping[str, Kind]] = {
    "u8": Kind.U8,
    "uint8": Kind.U8,
    "u32": Kind.U32,
    "uint32": Kind.U32,
    "u64": Kind.U64,
    "uint64": Kind.U64,
    "i64": Kind.I64,
    "int64": Kind.I64,
    "f64": Kind.F64,
}


@dataclass(frozen=True, slots=True)
class Member:
    """One member as the table describes it."""

    name: str
    type_name: str
    offset: int
    size: int
    is_reference: bool


@dataclass(frozen=True, slots=True)
class UserType:
    """One entry of a type table. ``size`` 0 means that every record says its own length."""

    name: str
    size: int
    members: tuple[Member, ...]
    is_reference: bool


@dataclass(frozen=True, slots=True)
class Field:
    """A member that can be read: ``offset`` counts from the start of the record's body."""

    name: str
    kind: Kind
    offset: int
    fields: tuple[Field, ...] = ()  # of an OBJECT
    type_name: str = ""  # of an OBJECT

    def moved(self, distance: int, name: str) -> Field:
        inner = tuple(field.moved(distance, field.name) for field in self.fields)
        return Field(name, self.kind, self.offset + distance, inner, self.type_name)


@dataclass(frozen=True, slots=True)
class FixedType:
    """A type of fixed size whose members are all readable.

    Types that only stand for a dependency (``StringId`` and the like) are resolved: a member of such a type is a plain
    reference. ``references`` has the offset of every address in the body, of unused members too, because a body with an
    address that nobody announced is corrupt as a whole.
    """

    name: str
    size: int
    fields: tuple[Field, ...]
    references: tuple[int, ...]
    stands_for: Field | None  # the resolved ``id``, if records of this type are themselves references

    def find(self, name: str) -> Field | None:
        """The first member of this name."""
        return next((field for field in self.fields if field.name == name), None)

    def need(self, name: str, *kinds: Kind) -> Field:
        """The first member of this name, which must be of one of these kinds."""
        field = self.find(name)
        if field is None:
            raise CorruptPayloadError(f"type {self.name!r} has no member {name!r}")
        if field.kind not in kinds:
            wanted = " or ".join(kind.label for kind in kinds)
            raise CorruptPayloadError(f"member {name!r} of {self.name!r} must be {wanted}, not {field.kind.label}")
        return field


class TypeTable:
    """One of the two tables. Types are compiled when first asked for, and kept."""

    def __init__(self, types: tuple[UserType, ...]) -> None:
        self.types = types
        self.by_name: dict[str, UserType] = {}
        for udt in reversed(types):
            self.by_name[udt.name] = udt  # the first of a name wins
        self.sizes: Int64Array = np.full(RECORD_TYPES_MAX, -1, np.int64)  # -1: no such type, 0: the record says
        for index, udt in enumerate(types[:RECORD_TYPES_MAX]):
            self.sizes[index] = min(udt.size, _SIZE_MAX)
        sizes = self.sizes[: len(types)].tolist()
        self.record_bytes_min: int = min((size + 1 if size else _SMALLEST_DYNAMIC_BYTES for size in sizes), default=2)
        self._compiled: dict[str | int, FixedType | str] = {}
        self._derived: dict[Callable[[TypeTable], Any], Any] = {}

    def record_type(self, index: int) -> FixedType:
        """The type of records that start with this byte; it must have a fixed size.

        Raises:
            CorruptPayloadError: The type cannot be read.
        """
        return self._cached(index, self.types[index])

    def named(self, name: str) -> FixedType:
        """The first type of this name.

        Raises:
            CorruptPayloadError: There is none, or it cannot be read.
        """
        udt = self.by_name.get(name)
        if udt is None:
            raise CorruptPayloadError(f"the type table has no type {name!r}")
        return self._cached(name, udt)

    def derived(self, make: Callable[[TypeTable], T]) -> T:
        """What ``make`` works out from this table, kept with it; ``make`` must be a function of a module."""
        found: T | None = self._derived.get(make)
        if found is None:
            found = self._derived[make] = make(self)
        return found

    def _cached(self, key: str | int, udt: UserType) -> FixedType:
        compiled = self._compiled.get(key)
        if compiled is None:
            try:
                compiled = _Compiler(self.by_name).compile(udt)
            except CorruptPayloadError as error:
                compiled = str(error)  # an exception that is kept would keep its frames, and grow with every raise
            self._compiled[key] = compiled
        if isinstance(compiled, str):
            raise CorruptPayloadError(compiled)
        return compiled


@dataclass(frozen=True, slots=True)
class StreamLayout:
    """How to read the blocks of one stream."""

    dependencies: TypeTable
    objects: TypeTable


@lru_cache(maxsize=64)
def compile_layout(dependencies_metadata: bytes, objects_metadata: bytes) -> StreamLayout:
    """Read both type tables of a stream. The result is kept: all streams of one kind of program share it.

    Raises:
        CorruptPayloadError: One is not an array of types.
    """
    return StreamLayout(_table(dependencies_metadata, "dependencies"), _table(objects_metadata, "objects"))


def _table(metadata: bytes, what: str) -> TypeTable:
    try:
        types = decode_types(metadata)
    except MalformedRequestError as error:
        raise CorruptPayloadError(f"type table of {what}: {error}") from error
    return TypeTable(tuple(_user_type(udt) for udt in types))


def _user_type(udt: Mapping[str, Any]) -> UserType:
    members = tuple(
        Member(m["name"], m["type_name"], m["offset"], m["size"], m["is_reference"]) for m in udt["members"]
    )
    return UserType(udt["name"], udt["size"], members, udt["is_reference"])


class _Compiler:
    """Lays one type out flat. Counts what it makes: types that nest each other can describe more fields than atoms."""

    def __init__(self, by_name: Mapping[str, UserType]) -> None:
        self._by_name = by_name
        self._made = 0
        self._done: dict[str, tuple[FixedType, int]] = {}

    def compile(self, udt: UserType) -> FixedType:
        fixed, covered = self._lay_out(udt, 0)
        if covered > OVERLAP_MAX * udt.size + _OVERLAP_SLACK_BYTES:
            raise CorruptPayloadError(f"members of {udt.name!r} cover its {udt.size} bytes {OVERLAP_MAX} times over")
        return fixed

    def _lay_out(self, udt: UserType, depth: int) -> tuple[FixedType, int]:
        """The type, and how many bytes its members cover, shared ones counted again."""
        if depth > NESTING_MAX:
            raise CorruptPayloadError(f"type {udt.name!r} is nested more than {NESTING_MAX} deep")
        fields: list[Field] = []
        references: list[int] = []
        covered = 0
        for member in udt.members:
            self._count(1, udt)
            field, width = self._field(udt, member, references, depth)
            fields.append(field)
            covered += width
        stands_for = None
        if udt.is_reference:
            stands_for = next((field for field in fields if field.name == "id"), None)
            if stands_for is None:
                raise CorruptPayloadError(f"reference type {udt.name!r} has no member 'id'")
        return FixedType(udt.name, udt.size, tuple(fields), tuple(references), stands_for), max(1, covered)

    def _field(self, udt: UserType, member: Member, references: list[int], depth: int) -> tuple[Field, int]:
        where = f"member {member.name!r} of {udt.name!r}"
        if member.offset + member.size > udt.size:
            raise CorruptPayloadError(
                f"{where} at {member.offset} with {member.size} bytes lies beyond its {udt.size} bytes"
            )
        if member.is_reference:
            if member.size < Kind.REFERENCE.width:
                raise CorruptPayloadError(f"{where} is a reference of {member.size} bytes")
            references.append(member.offset)
            return Field(member.name, Kind.REFERENCE, member.offset), Kind.REFERENCE.width
        kind = _PRIMITIVES.get(member.type_name)
        if kind is not None:
            if member.size != kind.width:
                raise CorruptPayloadError(f"{where} is a {member.type_name} of {member.size} bytes")
            return Field(member.name, kind, member.offset), kind.width
        nested_udt = self._by_name.get(member.type_name)
        if nested_udt is None:
            raise CorruptPayloadError(f"{where} has the unknown type {member.type_name!r}")
        if member.offset + nested_udt.size > udt.size:
            raise CorruptPayloadError(
                f"{where} at {member.offset} nests {nested_udt.size} bytes, beyond its {udt.size} bytes"
            )
        done = self._done.get(nested_udt.name)
        if done is None:
            done = self._done[nested_udt.name] = self._lay_out(nested_udt, depth + 1)
        nested, covered = done
        self._count(len(nested.references) + count_fields(nested.fields), udt)
        references.extend(offset + member.offset for offset in nested.references)
        if nested.stands_for is not None:
            return nested.stands_for.moved(member.offset, member.name), covered
        inner = tuple(field.moved(member.offset, field.name) for field in nested.fields)
        return Field(member.name, Kind.OBJECT, member.offset, inner, nested.name), covered

    def _count(self, made: int, udt: UserType) -> None:
        self._made += made
        if self._made > FIELDS_MAX:
            raise CorruptPayloadError(f"type {udt.name!r} has more than {FIELDS_MAX} fields with what it nests")


def count_fields(fields: tuple[Field, ...]) -> int:
    """Of all nested ones too."""
    return sum(1 + count_fields(field.fields) for field in fields)


__all__ = [
    "Field",
    "FixedType",
    "Kind",
    "Member",
    "StreamLayout",
    "TypeTable",
    "UserType",
    "compile_layout",
    "count_fields",
]
