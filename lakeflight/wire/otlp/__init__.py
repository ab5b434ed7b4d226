"""OTLP: requests -> blocks with stable ids (``resources``), and the records of blocks as columns (``records``)."""

from __future__ import annotations

from typing import Final

LOGS_FORMAT: Final = "otlp/v1/logs"  # of streams, and with it of their blocks
METRICS_FORMAT: Final = "otlp/v1/metrics"
TRACES_FORMAT: Final = "otlp/v1/traces"
