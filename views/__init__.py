"""One file per view set: its schema, its version, and how blocks become rows.

Importing a view loads no kernel, because most processes only ask for its schema; building rows does.
"""

from __future__ import annotations

from lakehouse.sources import (
    BlocksSource,
    CatalogFunction,
    CatalogSource,
    MergedSource,
    ParsedBlockSource,
    ProcessSpansSource,
    RelationSource,
    SourceRegistry,
    TraceChunksSource,
    ViewSetsSource,
    administration_sources,
)
from views.async_events import AsyncEvents
from views.blocks import BLOCKS
from views.images import Images
from views.list_partitions import LIST_PARTITIONS
from views.log_entries import LogEntries
from views.log_stats import LOG_STATS
from views.measures import Measures
from views.net_spans import NetSpans
from views.original import ORIGINS
from views.otel_spans import OtelSpans
from views.parse_block import ParseBlock
from views.process_spans import ProcessSpans
from views.processes import PROCESSES
from views.quarantined_blocks import QUARANTINED_BLOCKS
from views.streams import STREAMS
from views.thread_spans import ThreadSpans

__all__ = ["default_registry", "warm_up"]


def default_registry() -> SourceRegistry:
    """Everything a server offers."""
    view_sets: list[RelationSource] = [
        CatalogSource(PROCESSES),
        CatalogSource(STREAMS),
        CatalogSource(BLOCKS),
        CatalogSource(QUARANTINED_BLOCKS),
        BlocksSource(LogEntries()),
        BlocksSource(Measures()),
        BlocksSource(ThreadSpans()),
        BlocksSource(AsyncEvents()),
        BlocksSource(NetSpans()),
        BlocksSource(Images()),
        BlocksSource(OtelSpans()),
        MergedSource(LOG_STATS),
    ]
    functions: list[RelationSource] = [
        ProcessSpansSource(ProcessSpans()),
        TraceChunksSource(ProcessSpans(), PROCESSES, STREAMS),
        ParsedBlockSource(ParseBlock()),
        CatalogFunction(LIST_PARTITIONS),
        ViewSetsSource(view_sets),
        *administration_sources(),
    ]
    return SourceRegistry([*view_sets, *functions], ORIGINS)


def warm_up() -> None:
    """Compile every kernel that building a view may need, or load it from numba's cache.

    Those of traces as well: query workers load them from there when somebody asks for one.
    """
    from lakeflight.wire.otlp import document_kernels
    from lakeflight.wire.otlp import kernels as otlp_kernels
    from lakeflight.wire.perfetto import trace
    from lakeflight.wire.transit import event_kernels, kernels, text_kernels
    from views import call_tree, net_tree

    for module in (kernels, text_kernels, event_kernels, otlp_kernels, document_kernels, call_tree, net_tree, trace):
        module.warm_up()
