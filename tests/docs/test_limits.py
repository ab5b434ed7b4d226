"""Every limit that a user can meet stands in the pages once, with the number that the code has."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from lakeflight.wire import cbor
from lakeflight.wire.otlp import firehose
from lakeflight.wire.otlp.json_mapping import JSON_ARRAYS_MAX
from lakeflight.wire.otlp.resources import RESOURCES_MAX
from lakehouse.buckets.decoding import JobLimits
from lakehouse.buckets.freshen import MaterializerLimits
from lakehouse.engine import output
from lakehouse.engine.limits import EngineLimits
from server.flight import handles
from server.flight.server import FlightLimits
from server.ingestion import content, deliveries, otlp, otlp_grpc, protocol
from server.ingestion.limits import BodyLimits
from server.workers.pool import QueryPoolLimits
from server.workers.protocol import WIDE_FRAME_BYTES_MAX

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = {path.name: path.read_text() for path in DOCS.glob("*.md")}

SETTINGS = {  # of which the page has the variable
    *("memory_bytes_max", "threads", "memory_bytes", "slots", "short_slots", "statement_timeout_s"),
    *("stall_max_s", "stalled_reader_s", "statements_per_identity_max", "spool", "calls_max"),
    *("calls_per_connection_max", "silent_call_s", "idle_connection_s"),
    *("freshen_bytes_max", "freshen_s_max", "margin_s", "spill_folder", "spill_bytes_max"),
}
IN_PROSE = {  # where the sentence that explains it has the number, and a table would say it twice
    "queue_wait_max_s": ("querying.md", "A statement waits for its turn for {}"),
    "long_queue_wait_max_s": ("querying.md", "a long one for {}"),
    "queued_per_slot_max": ("querying.md", "{} for each\nplace may wait"),
    "stall_contended_max_s": ("querying.md", "loses it after {} in which the reader takes"),
    "stalled_reader_while_refused_s": ("querying.md", "that take nothing for {} lose their places"),
    "RECEIVED_BYTES_MAX": ("sending.md", "413 over {}, or over"),
    "DECODED_BYTES_MAX": ("sending.md", "or over {} when decompressed"),
    "JSON_BYTES_MAX": ("sending.md", "or over {} of JSON"),
    "RESOURCES_MAX": ("sending.md", "A request may have {} resources"),
    "WEBHOOK_BYTES_MAX": ("sending.md", "413 over {} of text"),
    "LOGS_RECORD_BYTES_MAX": ("sending.md", "a record of logs over {} when decompressed"),
    "METRICS_RECORD_BYTES_MAX": ("sending.md", "A record of metrics may have {}"),
    "UNPACKED_BYTES_MAX": ("sending.md", "all of it over {} when it is unpacked"),
    "block_metadata_bytes_max": ("sending.md", "so this may take {}:"),
    "lease_s": ("operating.md", "cut off for {} loses it to the next"),
    "held_elsewhere_s_max": ("operating.md", "A query that waits for {} for a server"),
    "WIDE_FRAME_BYTES_MAX": ("querying.md", "A row of a result is sent whole, and may take {}"),
}
NOT_MET = {  # by any user: what is remembered, how results are cut, how workers are kept, what only makes planning bound less
    *("async_threads", "batch_rows_max", "batch_bytes_max", "repairs_max", "plan_chars_max", "inspect_timeout_s"),
    *("statements_remembered_max", "text_remembered_max", "bound_text_remembered_max", "kill_grace_s"),
    *("address_space_extra_bytes", "jobs_per_worker_max", "REMEMBERED_HANDLES_MAX", "REMEMBERED_BYTES_MAX"),
    *(
        "KEY_BYTES_MIN",
        "FRAMING_BYTES_PER_BODY_BYTE_MAX",
        "DECODE_INLINE_BYTES_MAX",
        "ERROR_CHARS_MAX",
        "REGISTERED_MAX",
        "REGISTERED_S",
    ),
    *(
        "RETRY_AFTER_S",
        "CONNECTION_AGE_S",
        "CONNECTION_AGE_GRACE_S",
        "CALLER_TIMEOUT_S",
    ),  # the last is caller_timeout_s
    *("buckets_at_once", "abandoned_s_max", "deltas_max", "intent_s", "jobs"),
}


def of_class(limits: Any) -> Iterator[tuple[str, Any]]:
    for field in fields(limits):
        yield field.name, getattr(limits, field.name)


def of_module(module: ModuleType) -> Iterator[tuple[str, Any]]:
    for name, value in vars(module).items():
        if re.fullmatch(r"[A-Z][A-Z_]+(_MAX|_MIN|_S)", name) and isinstance(value, (int, float)):
            yield name, value


def all_limits() -> Mapping[str, Any]:
    found: dict[str, Any] = {"WIDE_FRAME_BYTES_MAX": WIDE_FRAME_BYTES_MAX, "NESTING_MAX": output.NESTING_MAX}
    for limits in (EngineLimits(), FlightLimits(), QueryPoolLimits(), BodyLimits(), MaterializerLimits()):
        for name, value in of_class(limits):
            assert found.setdefault(name, value) == value, f"two limits are called {name}"
    found["block_metadata_bytes_max"] = JobLimits().block_metadata_bytes_max
    found |= {"JSON_ARRAYS_MAX": JSON_ARRAYS_MAX, "RESOURCES_MAX": RESOURCES_MAX}
    for module in (cbor, handles, protocol, content, otlp, otlp_grpc, firehose, deliveries):
        found |= of_module(module)
    return found


LIMITS = all_limits()
MET = sorted(set(LIMITS) - SETTINGS - NOT_MET)


def spelled(name: str, value: float) -> str:
    """As a person writes it: bytes in the largest unit that leaves no rest, seconds as minutes from one on."""
    if "bytes_per_s" in name.lower():
        return f"{value:,} bytes"
    if "bytes" in name.lower():
        unit, size = next((unit, size) for unit, size in (("GiB", 30), ("MiB", 20), ("KiB", 10)) if value >= 1 << size)
        assert value % (1 << size) == 0
        return f"{int(value) >> size} {unit}"
    if name.lower().endswith("_s") or "_s_" in name.lower():
        return f"{value / 60:g} min" if value >= 60 and value % 60 == 0 else f"{value:g} s"
    return f"{value:,}"


@pytest.mark.parametrize("name", MET)
def test_a_limit_stands_in_the_pages_once_with_its_number(name: str) -> None:
    page, sentence = IN_PROSE.get(name, ("settings.md", f"| `{name}` | {{}} |"))
    expected = sentence.format(spelled(name, LIMITS[name]))

    assert PAGES[page].count(expected) == 1, f"{page} should say once: {expected}"
    mentions = [line for text in PAGES.values() for line in text.splitlines() if line.startswith(f"| `{name}` |")]
    assert len(mentions) == (name not in IN_PROSE)


def test_the_table_has_no_limit_that_the_code_has_not() -> None:
    _, _, section = PAGES["settings.md"].partition("## Limits without a setting")

    documented = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)

    assert sorted(documented) == sorted(set(MET) - set(IN_PROSE))


def test_what_no_user_meets_is_still_there() -> None:
    assert SETTINGS | NOT_MET | set(IN_PROSE) <= set(LIMITS)
