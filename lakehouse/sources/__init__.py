"""What a statement can read from. ``port`` says what a source is; every other file is one kind of them."""

from lakehouse.sources.blocks import BlocksSource
from lakehouse.sources.catalog_rows import CatalogSource
from lakehouse.sources.merged import MergedSource, MergedView
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

__all__ = [
    "Arguments",
    "BlocksSource",
    "CatalogSource",
    "Freshening",
    "MergedSource",
    "MergedView",
    "PartitionMaker",
    "ProcessSpansSource",
    "Read",
    "RelationSource",
    "Rows",
    "SourceRegistry",
    "Use",
]
