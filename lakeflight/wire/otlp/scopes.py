"""What all records of a scope have in common, and the entries of objects that are made of it.

Keys and values that no sender wrote lie before the payloads, as literals: what is compared and copied has to lie somewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakeflight.wire.otlp import kernels
from lakeflight.wire.otlp.json_text import Entries, Option
from lakeflight.wire.otlp.scan import LENGTH_DELIMITED, REPEATED, Bools, Field, Int64s, Messages, Scan

SCOPE_ATTRIBUTE_PREFIX: Final = "otel.scope.attr."
_KEYS: Final = (
    "otel.scope.name",
    "otel.scope.version",
    "otel.scope.schema_url",
    "otel.trace_id",
    "otel.span_id",
    "otel.severity_text",
    "otel.event_name",
    "otel.metric.kind",
    "otel.metric.aggregation_temporality",
    "otel.metric.is_monotonic",
    "attributes",
    "name",
    "time",
    "trace_id",
    "span_id",
    "true",
    "false",
    '"sum"',
    '"gauge"',
    '"summary"',
    "description",
    "unit",
    "otel.metric.metadata",
    '"histogram"',
    '"exponential_histogram"',
)
LITERALS: Final = "".join(_KEYS).encode()
AT: Final[Mapping[str, tuple[int, int]]] = {
    key: (len("".join(_KEYS[:number])), len(key)) for number, key in enumerate(_KEYS)
}


@dataclass(frozen=True, slots=True)
class Scopes:
    """``ScopeLogs``, ``ScopeMetrics`` or ``ScopeSpans``: what is said of the scope, and the messages in it."""

    scan: Scan
    messages: Messages
    name: Field
    version: Field
    schema_url: Field
    attributes: Messages
    attribute_firsts: Int64s
    inside: Messages
    inside_firsts: Int64s

    @classmethod
    def read(cls, scan: Scan) -> Scopes:
        (counts,) = scan.fields(scan.roots, ((2, REPEATED),))
        messages, _ = scan.children(scan.roots, 2, counts)
        scope, schema_url, inside_counts = scan.fields(
            messages, ((1, LENGTH_DELIMITED), (3, LENGTH_DELIMITED), (2, REPEATED))
        )
        described = scan.submessages(messages, scope)
        name, version, pairs = scan.fields(described, ((1, LENGTH_DELIMITED), (2, LENGTH_DELIMITED), (3, REPEATED)))
        attributes, attribute_firsts = scan.children(described, 3, pairs)
        inside, inside_firsts = scan.children(messages, 2, inside_counts)
        return cls(scan, messages, name, version, schema_url, attributes, attribute_firsts, inside, inside_firsts)

    @property
    def records(self) -> tuple[Messages, Int64s]:
        """What is inside, and the ordinal of the scope that each is in."""
        return self.inside, np.repeat(np.arange(len(self.messages)), np.diff(self.inside_firsts))

    def names(self) -> pa.Array:
        return self.scan.texts(self.name).dictionary_encode()

    def ranges(self, entries: Entries) -> Any:
        """The two ranges of entries that every record of a scope has."""
        scan = self.scan
        key, value = scan.fields(self.attributes, ((1, LENGTH_DELIMITED), (2, LENGTH_DELIMITED)))
        # a key that is to be compared and written has to lie somewhere in one piece
        keys = pc.binary_join_element_wise(SCOPE_ATTRIBUTE_PREFIX, scan.texts(key), "")
        _, offsets, text = keys.buffers()
        starts = np.frombuffer(offsets, np.int32, len(keys) + 1).astype(np.int64)
        base = scan.extend(b"" if text is None else text.to_pybytes()) if len(keys) else 0
        first = entries.add(
            starts[:-1] + base,
            np.diff(starts),
            kernels.ENTRY_ANY,
            value.values,
            value.sizes,
            self.attributes.blocks,
        )
        own = entries.add_options(
            (
                option("otel.scope.name", kernels.ENTRY_TEXT, self.name),
                option("otel.scope.version", kernels.ENTRY_TEXT, self.version),
                option("otel.scope.schema_url", kernels.ENTRY_TEXT, self.schema_url),
            ),
            self.messages.blocks,
        )
        return ranges_of(self.attribute_firsts + first, own)


def option(key: str, kind: int, value: Field, present: Bools | None = None) -> Option:
    """By default what is not empty is there."""
    return Option(AT[key], kind, value.values, value.sizes, value.lengths > 0 if present is None else present)


def literal(key: str, at: Any, present: Bools) -> Option:
    return Option(AT[key], kernels.ENTRY_LITERAL, at[:, 0], at[:, 1], present)


def ranges_of(*runs: Any) -> Any:
    """Ranges of entries for each row: of where those of the rows begin, or of ranges that rows have already."""
    return np.concatenate(
        [np.stack((run[:-1], run[1:]), axis=1)[:, None, :] if run.ndim == 1 else run for run in runs], axis=1
    )


__all__ = ["AT", "LITERALS", "Scopes", "literal", "option", "ranges_of"]
