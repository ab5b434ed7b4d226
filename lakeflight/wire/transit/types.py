"""The type tables that the original's Rust producer announces for its streams, member by member.

A stream carries these tables as CBOR, and a reader follows the table, never this file: offsets and order are the
producer's choice. Here they are what our own writer lays its records out by.

``size == 0`` is a type of dynamic length, whose layout is fixed by its name. A member that is a reference holds the id
of a dependency, and its type name means nothing.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Final

from lakeflight.wire.envelope import encode_types


@dataclass(frozen=True, slots=True)
class Member:
    """One field of a fixed-size record."""

    name: str
    type_name: str
    offset: int
    size: int
    is_reference: bool = False


@dataclass(frozen=True, slots=True)
class UserDefinedType:
    """One entry of a stream's type table; its position in the table is the type index of a record."""

    name: str
    size: int = 0
    members: tuple[Member, ...] = ()
    is_reference: bool = False


@dataclass(frozen=True, slots=True)
class StreamTypes:
    """The two tables of one kind of stream and the tag that names the kind."""

    tag: str
    dependencies: tuple[UserDefinedType, ...]
    objects: tuple[UserDefinedType, ...]
    dependencies_metadata: bytes = field(init=False, repr=False)
    objects_metadata: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "dependencies_metadata", encode_types(map(asdict, self.dependencies)))
        object.__setattr__(self, "objects_metadata", encode_types(map(asdict, self.objects)))

    def dependency_index(self, name: str) -> int:
        return [udt.name for udt in self.dependencies].index(name)

    def object_index(self, name: str) -> int:
        return [udt.name for udt in self.objects].index(name)


def _u32(name: str, offset: int) -> Member:
    return Member(name, "u32", offset, 4)


def _u64(name: str, offset: int) -> Member:
    return Member(name, "u64", offset, 8)


def _i64(name: str, offset: int) -> Member:
    return Member(name, "i64", offset, 8)


def _f64(name: str, offset: int) -> Member:
    return Member(name, "f64", offset, 8)


def _reference(name: str, offset: int, type_name: str = "* const u8") -> Member:
    return Member(name, type_name, offset, 8, is_reference=True)


def _string_id(name: str, offset: int) -> Member:
    return Member(name, "StringId", offset, 16)


_REFERENCED_ID: Final = Member("id", "usize", 0, 8, is_reference=True)
_STRING_ID: Final = UserDefinedType("StringId", 16, (_REFERENCED_ID,), is_reference=True)
_STATIC_STRING_REF: Final = UserDefinedType("StaticStringRef", 16, (_REFERENCED_ID,), is_reference=True)
_PROPERTY: Final = UserDefinedType(
    "Property", 32, (Member("name", "StaticStringRef", 0, 16), Member("value", "StaticStringRef", 16, 16))
)

_LOG_DESC: Final = "& 'static LogMetadata < 'static >"
LOG_TYPES: Final = StreamTypes(
    tag="log",
    dependencies=(
        UserDefinedType("StaticString"),
        UserDefinedType("StaticStringDependency"),
        UserDefinedType(
            "LogMetadataRecord",
            48,
            (
                _u64("id", 0),
                _reference("fmt_str", 8),
                _reference("target", 16),
                _reference("module_path", 24),
                _reference("file", 32),
                _u32("line", 40),
                _u32("level", 44),
            ),
        ),
        UserDefinedType("PropertySetDependency"),
        _STATIC_STRING_REF,
        _PROPERTY,
    ),
    objects=(
        UserDefinedType("LogStaticStrEvent", 16, (_reference("desc", 0, _LOG_DESC), _i64("time", 8))),
        UserDefinedType("LogStringEventV2"),
        UserDefinedType(
            "LogStaticStrInteropEvent",
            48,
            (_i64("time", 32), _u32("level", 40), _string_id("target", 0), _string_id("msg", 16)),
        ),
        UserDefinedType("LogStringInteropEventV3"),
        UserDefinedType("TaggedLogString"),
        _STATIC_STRING_REF,
        _STRING_ID,
    ),
)

_METRIC_DESC: Final = "& 'static StaticMetricMetadata"
_PROPERTY_SET: Final = "& 'static PropertySet"
METRIC_TYPES: Final = StreamTypes(
    tag="metrics",
    dependencies=(
        UserDefinedType("StaticString"),
        UserDefinedType("StaticStringDependency"),
        UserDefinedType(
            "MetricMetadataDependency",
            48,
            (
                _u64("id", 0),
                _reference("name", 8),
                _reference("unit", 16),
                _reference("target", 24),
                _reference("file", 32),
                _u32("line", 40),
                _u32("lod", 44),
            ),
        ),
        UserDefinedType("PropertySetDependency"),
        _PROPERTY,
        _STATIC_STRING_REF,
    ),
    objects=(
        UserDefinedType(
            "IntegerMetricEvent", 24, (_reference("desc", 0, _METRIC_DESC), _u64("value", 8), _i64("time", 16))
        ),
        UserDefinedType(
            "FloatMetricEvent", 24, (_reference("desc", 0, _METRIC_DESC), _f64("value", 8), _i64("time", 16))
        ),
        UserDefinedType(
            "TaggedFloatMetricEvent",
            32,
            (
                _reference("desc", 0, _METRIC_DESC),
                _reference("properties", 8, _PROPERTY_SET),
                _f64("value", 16),
                _i64("time", 24),
            ),
        ),
        UserDefinedType(
            "TaggedIntegerMetricEvent",
            32,
            (
                _reference("desc", 0, _METRIC_DESC),
                _reference("properties", 8, _PROPERTY_SET),
                _u64("value", 16),
                _i64("time", 24),
            ),
        ),
    ),
)

_SPAN_DESC: Final = "& 'static SpanMetadata"
_SPAN_LOCATION: Final = "& 'static SpanLocation"


def _thread_span(name: str) -> UserDefinedType:
    return UserDefinedType(name, 16, (_reference("thread_span_desc", 0, _SPAN_DESC), _i64("time", 8)))


def _thread_named_span(name: str) -> UserDefinedType:
    return UserDefinedType(
        name, 32, (_reference("thread_span_location", 0, _SPAN_LOCATION), _string_id("name", 8), _i64("time", 24))
    )


def _async_span(name: str) -> UserDefinedType:
    return UserDefinedType(
        name,
        40,
        (
            _reference("span_desc", 0, _SPAN_DESC),
            _u64("span_id", 8),
            _u64("parent_span_id", 16),
            _u32("depth", 32),
            _i64("time", 24),
        ),
    )


def _async_named_span(name: str) -> UserDefinedType:
    return UserDefinedType(
        name,
        56,
        (
            _reference("span_location", 0, _SPAN_LOCATION),
            _string_id("name", 8),
            _u64("span_id", 24),
            _u64("parent_span_id", 32),
            _u32("depth", 48),
            _i64("time", 40),
        ),
    )


SPAN_TYPES: Final = StreamTypes(
    tag="cpu",
    dependencies=(
        UserDefinedType(
            "SpanRecord",
            48,
            (
                _u64("id", 0),
                _reference("name", 8),
                _reference("target", 16),
                _reference("module_path", 24),
                _reference("file", 32),
                _u32("line", 40),
                _u32("lod", 44),
            ),
        ),
        UserDefinedType(
            "SpanLocationRecord",
            40,
            (
                _u64("id", 0),
                _reference("target", 8),
                _reference("module_path", 16),
                _reference("file", 24),
                _u32("line", 32),
                _u32("lod", 36),
            ),
        ),
        UserDefinedType("StaticString"),
    ),
    objects=(
        _thread_span("BeginThreadSpanEvent"),
        _thread_span("EndThreadSpanEvent"),
        _thread_named_span("BeginThreadNamedSpanEvent"),
        _thread_named_span("EndThreadNamedSpanEvent"),
        _async_span("BeginAsyncSpanEvent"),
        _async_span("EndAsyncSpanEvent"),
        _async_named_span("BeginAsyncNamedSpanEvent"),
        _async_named_span("EndAsyncNamedSpanEvent"),
        _STRING_ID,
    ),
)
