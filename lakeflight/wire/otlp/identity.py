"""Who sent OTLP: ids that follow from the content, so that whoever sends the same twice stores it once.

The namespaces, the list of attributes and their order are those of the original: a lake that both have written to has
one process for one sender.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import uuid
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any, Final

PROCESS_NAMESPACE: Final = uuid.UUID("80a447b8-fcdd-42a6-a613-f6c8719cd5fe")
STREAM_NAMESPACE: Final = uuid.UUID("fe93bacf-e851-4cf6-8526-05f8454b3488")
BLOCK_NAMESPACE: Final = uuid.UUID("5829a6f7-0577-4c8c-862f-cf4fdab445cc")

OWNERS: Final = ("process.owner", "process.user.name", "process.real_user.name", "user.name")
START_TIMES: Final = ("process.creation.time", "process.start_time")

_VERBATIM: Final = frozenset({"process.pid", *START_TIMES})
_PROCESS_KEY: Final[tuple[tuple[str, ...], ...]] = (  # of each, the first attribute that is there and says something
    ("host.id",),
    ("host.name",),
    ("process.pid",),
    START_TIMES,
    ("service.namespace",),
    ("service.name",),
    ("service.instance.id",),
    OWNERS,
    ("os.type",),
    ("os.version",),
    ("os.name",),
    ("os.description",),
    ("os.build_id",),
    ("host.arch",),
    ("host.type",),
    ("host.image.id",),
    ("host.image.name",),
    ("host.image.version",),
    ("host.cpu.model.id",),
    ("host.cpu.model.name",),
    ("host.cpu.family",),
    ("host.cpu.vendor.id",),
    ("host.cpu.stepping",),
    ("host.cpu.cache.l2.size",),
    ("service.version",),
    ("telemetry.sdk.name",),
    ("telemetry.sdk.language",),
    ("telemetry.sdk.version",),
    ("process.runtime.name",),
    ("process.runtime.version",),
    ("process.runtime.description",),
)
_SEPARATOR: Final = "\x1f"
ASCII_LOWER: Final = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}


def uuid5(namespace: uuid.UUID, name: bytes) -> str:
    """Like ``uuid.uuid5``, of bytes."""
    digest = hashlib.sha1(namespace.bytes + name, usedforsecurity=False).digest()
    return str(uuid.UUID(bytes=digest[:16], version=5))


def process_id(attributes: Mapping[str, str]) -> str:
    """The id of whoever describes itself with these attributes of its resource."""
    fields = []
    for names in _PROCESS_KEY:
        name, text = first_of(attributes, names)
        fields.append(text if name in _VERBATIM else text.strip().translate(ASCII_LOWER))
    return uuid5(PROCESS_NAMESPACE, _SEPARATOR.join(fields).encode())


def stream_id(of_process: str, signal: str) -> str:
    """The id of a process's one stream of a signal: ``logs``, ``metrics`` or ``traces``."""
    return uuid5(STREAM_NAMESPACE, f"{of_process}{_SEPARATOR}{signal}".encode())


def block_id(resource: bytes) -> str:
    """The id of one encoded ``ResourceLogs``, ``ResourceMetrics`` or ``ResourceSpans``, behind what else tells it apart."""
    return uuid5(BLOCK_NAMESPACE, resource)


def first_of(attributes: Mapping[str, str], names: Iterable[str]) -> tuple[str, str]:
    """The first of these attributes that is not empty: its name and its text."""
    for name in names:
        if text := attributes.get(name, ""):
            return name, text
    return "", ""


def text_of(value: Any) -> str:
    """An ``AnyValue`` as text: of arrays and maps JSON, of bytes their numbers."""
    match value.WhichOneof("value"):
        case None:
            return ""
        case "string_value":
            text: str = value.string_value
            return text
        case "bool_value":
            return "true" if value.bool_value else "false"
        case "int_value":
            return str(value.int_value)
        case "double_value":
            return _decimal(value.double_value)
        case "bytes_value":
            return str(list(value.bytes_value))
        case _:
            return json.dumps(_plain(value), ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def _decimal(number: float) -> str:
    """The shortest text that is this number, without an exponent."""
    if not math.isfinite(number):
        return "NaN" if math.isnan(number) else ("inf" if number > 0 else "-inf")
    text = format(Decimal(repr(number)), "f")
    return text.removesuffix(".0")


def _plain(value: Any) -> Any:
    kind = value.WhichOneof("value")
    return None if kind is None else _PLAIN[kind](getattr(value, kind))


_PLAIN: Final[Mapping[str, Callable[[Any], Any]]] = {
    "string_value": str,
    "bool_value": bool,
    "int_value": int,
    "double_value": lambda number: number if math.isfinite(number) else str(number),
    "bytes_value": lambda data: base64.b64encode(data).decode(),
    "array_value": lambda array: [_plain(value) for value in array.values],
    "kvlist_value": lambda pairs: {pair.key: _plain(pair.value) for pair in pairs.values},
}
