"""What a statement can read from. ``port`` says what a source is; every other file is one kind of them."""

from lakehouse.sources.administration import ADMINISTRATION_SCHEMA, administration_sources
from lakehouse.sources.blocks import BlocksSource
from lakehouse.sources.catalog_rows import CatalogFunction, CatalogSource
from lakehouse.sources.merged import MergedSource, MergedView
from lakehouse.sources.parsed_block import ParsedBlockSource
from lakehouse.sources.port import (
    Arguments,
    Freshening,
    PartitionMaker,
    Read,
    RelationSource,
    Rows,
    Use,
)
from lakehouse.sources.process_spans import ProcessSpansSource
from lakehouse.sources.registry import SourceRegistry
from lakehouse.sources.trace_chunks import TraceChunksSource
from lakehouse.sources.view_sets import ViewSetsSource

__all__ = [
    "ADMINISTRATION_SCHEMA",
    "Arguments",
    "BlocksSource",
    "CatalogFunction",
    "CatalogSource",
    "Freshening",
    "MergedSource",
    "MergedView",
    "ParsedBlockSource",
    "PartitionMaker",
    "ProcessSpansSource",
    "Read",
    "RelationSource",
    "Rows",
    "SourceRegistry",
    "TraceChunksSource",
    "Use",
    "ViewSetsSource",
    "administration_sources",
]
