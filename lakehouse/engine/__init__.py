"""DuckDB behind a gate: SQL that nobody trusts, over files that were chosen for it.

The engine itself is ``lakehouse.engine.engine``; it lives in a worker process and knows no view by name, no socket and no
store. What stands here is what both sides of a worker talk about, and importing it loads no DuckDB.
"""

from lakehouse.engine.limits import DEFAULT_LIMITS, EngineLimits
from lakehouse.engine.names import relation_name
from lakehouse.engine.relations import (
    DeclaredRelation,
    EngineCatalog,
    Inspection,
    Origin,
    Reference,
    Relation,
    StatementKind,
)

__all__ = [
    "DEFAULT_LIMITS",
    "DeclaredRelation",
    "EngineCatalog",
    "EngineLimits",
    "Inspection",
    "Origin",
    "Reference",
    "Relation",
    "StatementKind",
    "relation_name",
]
