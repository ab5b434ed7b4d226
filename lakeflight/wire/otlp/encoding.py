"""The one encoding of a resource's message, from which its block's id follows.

Fields in the order of their numbers, as protobuf's compiled code writes them; only that the original puts a value of which
there are alternatives where the first alternative would be. That differs for whole numbers beside exemplars alone.
"""

from __future__ import annotations

from typing import Any, Final

_ABOVE_EXEMPLARS: Final = frozenset(
    {
        "ScopeMetrics",
        "Metric",
        "Gauge",
        "Sum",
        "Histogram",
        "ExponentialHistogram",
        "NumberDataPoint",
        "HistogramDataPoint",
        "ExponentialHistogramDataPoint",
        "Exemplar",
    }
)
_LENGTH_DELIMITED: Final = 2


def encode(resource: Any, *, has_exemplars: bool) -> bytes:
    """The bytes of a ``ResourceLogs``, ``ResourceMetrics`` or ``ResourceSpans``."""
    encoded: bytes = _with_alternatives_first(resource) if has_exemplars else resource.SerializeToString()
    return encoded


def _with_alternatives_first(message: Any) -> bytes:
    parts: list[bytes] = []
    for field, value in sorted(message.ListFields(), key=lambda present: _position(present[0])):
        if field.message_type is not None and field.message_type.name in _ABOVE_EXEMPLARS:
            for member in value if field.is_repeated else (value,):
                encoded = _with_alternatives_first(member)
                parts += (_varint(field.number << 3 | _LENGTH_DELIMITED), _varint(len(encoded)), encoded)
            continue
        alone = type(message)()
        if field.is_repeated:
            getattr(alone, field.name).extend(value)
        elif field.message_type is not None:
            getattr(alone, field.name).CopyFrom(value)
        else:
            setattr(alone, field.name, value)
        parts.append(alone.SerializeToString())
    return b"".join(parts)


def _position(field: Any) -> int:
    alternatives = field.containing_oneof
    return int(field.number if alternatives is None else min(other.number for other in alternatives.fields))


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
