"""What columns are to micromegas, by view: its clients are sent its types (``lakehouse.engine.origins``).

Documents are JSONB there, and texts that repeat are dictionaries. Columns that are not here are what they seem.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from lakehouse.engine import Origin


def _texts(names: str) -> Mapping[str, Origin]:
    return dict.fromkeys(names.split(), Origin.TEXT)


_SOURCE: Final = _texts("process_id stream_id block_id exe username computer")
_PROPERTIES: Final = dict.fromkeys(("properties", "process_properties"), Origin.DOCUMENT)
_SPAN: Final = _texts("name target filename")

ORIGINS: Final[Mapping[str, Mapping[str, Origin]]] = {
    "processes": {"properties": Origin.PAIRS},
    "streams": {"properties": Origin.PAIRS},
    "blocks": {"streams.properties": Origin.PAIRS, "processes.properties": Origin.PAIRS},
    "log_entries": {**_SOURCE, **_texts("target"), **_PROPERTIES},
    "log_stats": _texts("process_id target"),
    "measures": {**_SOURCE, **_texts("target name unit"), **_PROPERTIES},
    "thread_spans": _SPAN,
    "process_spans": {**_SPAN, "stream_id": Origin.FEW_TEXTS, "thread_name": Origin.FEW_TEXTS},
    "async_events": {**_SPAN, **_texts("stream_id block_id event_type")},
    "net_spans": _texts("process_id stream_id kind name connection_name"),
    "images": {**_SOURCE, **_texts("format")},
    "otel_spans": {
        **_texts("process_id stream_id block_id name kind status"),
        **_PROPERTIES,
        "events": Origin.PLAIN_DOCUMENT,
        "links": Origin.PLAIN_DOCUMENT,
    },
    "parse_block": {"value": Origin.PLAIN_DOCUMENT},
}
