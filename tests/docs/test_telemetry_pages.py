"""The pages about sending and querying say what the code has: limits, levels, columns."""

from __future__ import annotations

import re
from pathlib import Path

from lakeflight.telemetry import Limits, logging_handler
from lakeflight.telemetry.emitter import CLOSE_TIMEOUT_S
from lakeflight.telemetry.metrics import METRICS_MAX
from lakeflight.telemetry.outbox import LOGS, METRICS, SPANS
from lakeflight.telemetry.run import LOSS_REPORT_INTERVAL_S, OWN_TARGET, RETRIES
from lakeflight.telemetry.spans import SCOPES_MAX
from views.thread_spans import SCHEMA

DOCS = Path(__file__).resolve().parents[2] / "docs"
SENDING = (DOCS / "sending.md").read_text()
QUERYING = (DOCS / "querying.md").read_text()


def row(page: str, first_cell: str) -> list[str]:
    """The other cells of the table row that begins with this one."""
    (line,) = [line for line in page.splitlines() if line.startswith(f"| {first_cell} |")]
    return [cell.strip() for cell in line.strip("|").split("|")[1:]]


def test_the_limits_of_the_page_are_those_of_the_emitter() -> None:
    limits = Limits()

    assert row(SENDING, "spans of a thread")[0].startswith(f"{limits.span_bytes_per_thread_max >> 20} MiB")
    metrics = row(SENDING, "metrics of a thread")[0]
    assert metrics.startswith(f"{limits.metric_bytes_per_thread_max >> 20} MiB")
    assert metrics.endswith(f"with properties {limits.tagged_metrics_per_thread_max:,}")
    logs = f"{limits.logs_per_thread_max:,}, or {limits.log_chars_per_thread_max >> 20} Mi characters"
    assert row(SENDING, "log lines of a thread")[0] == logs
    assert row(SENDING, "threads at once")[0] == f"{limits.threads_max:,}"
    assert row(SENDING, "a log message")[0] == f"{limits.message_chars_max:,} characters"
    assert row(SENDING, "a name or value of a property")[0] == f"{limits.property_chars_max:,} characters"
    assert row(SENDING, "properties of an event")[0] == f"{limits.properties_max}"
    assert row(SENDING, "places in the program with a span, or with a metric")[0] == f"{SCOPES_MAX:,} each"
    assert METRICS_MAX == SCOPES_MAX
    assert f"encoded blocks wait in {limits.outbox_bytes_max >> 20} MiB" in SENDING


def test_the_patience_of_the_page_is_that_of_the_emitter() -> None:
    assert (RETRIES[LOGS], RETRIES[METRICS], RETRIES[SPANS]) == (5, 2, 1)
    assert "blocks of logs are tried 6 times, of metrics 3 times, of spans twice" in SENDING
    assert f"for at most {CLOSE_TIMEOUT_S:.0f} s" in SENDING
    assert f"at most every {LOSS_REPORT_INTERVAL_S:.0f} s" in SENDING
    assert f"target = '{OWN_TARGET}'" in SENDING


def test_the_levels_of_the_page_are_those_that_are_sent() -> None:
    numbers = [int(cell) for cell in row(QUERYING, "`level`")]
    names = [name.replace("WARNING", "WARN") for name in map(str.upper, row(QUERYING, "means"))]

    assert {name: getattr(logging_handler, name) for name in names} == dict(zip(names, numbers, strict=True))


def test_the_page_explains_every_column_of_thread_spans_in_order() -> None:
    table = QUERYING[QUERYING.index("| column of `thread_spans`") :].split("\n\n")[0]

    explained = [name for line in table.splitlines()[2:] for name in re.findall(r"`(\w+)`", line.split("|")[1])]

    assert explained == SCHEMA.names
