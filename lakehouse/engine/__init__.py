"""DuckDB behind a gate: SQL that nobody trusts, over files that were chosen for it.

``QueryEngine`` lives in a worker process. It knows no view by name, no socket and no store.
"""

from lakehouse.engine.engine import QueryEngine, ResultReader
from lakehouse.engine.gate import relation_name
from lakehouse.engine.limits import DEFAULT_LIMITS, EngineLimits
from lakehouse.engine.metadata_relations import (
    BLOCKS_CSV,
    METADATA_SCHEMAS,
    METADATA_TIMES,
    PROCESSES_CSV,
    STREAMS_CSV,
    MetadataFiles,
)
from lakehouse.engine.relations import DeclaredRelation, EngineCatalog, Inspection, Reference, Relation

__all__ = [
    "BLOCKS_CSV",
    "DEFAULT_LIMITS",
    "METADATA_SCHEMAS",
    "METADATA_TIMES",
    "PROCESSES_CSV",
    "STREAMS_CSV",
    "DeclaredRelation",
    "EngineCatalog",
    "EngineLimits",
    "Inspection",
    "MetadataFiles",
    "QueryEngine",
    "Reference",
    "Relation",
    "ResultReader",
    "relation_name",
]
