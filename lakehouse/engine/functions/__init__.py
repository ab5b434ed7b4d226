"""SQL functions: which of DuckDB's may be called, and our own, a file each.

Importing this loads no DuckDB: the Flight edge lists functions and has no engine.
"""

from lakehouse.engine.functions.declare import (
    Argument,
    ArrowFunction,
    Macro,
    MadeRows,
    Moment,
    OwnFunction,
    PayloadFunction,
    RelationFunction,
    Rewording,
    Seconds,
    ServerFunction,
    StoredRows,
)
from lakehouse.engine.functions.registry import (
    functions_in,
    listed_functions,
    outlined,
    outlines,
    own_functions,
    read_by,
    reference_of,
    relation_functions,
)
from lakehouse.engine.functions.verdicts import (
    CALLS_BY_NAME,
    CALLS_BY_STRUCTURE,
    CLOCK_FUNCTIONS,
    CLOCK_KEYWORDS,
    PLAIN_NAME,
    FunctionRule,
    Verdict,
    engine_rules,
    function_rules,
    words,
)

__all__ = [
    "CALLS_BY_NAME",
    "CALLS_BY_STRUCTURE",
    "CLOCK_FUNCTIONS",
    "CLOCK_KEYWORDS",
    "PLAIN_NAME",
    "Argument",
    "ArrowFunction",
    "FunctionRule",
    "Macro",
    "MadeRows",
    "Moment",
    "OwnFunction",
    "PayloadFunction",
    "RelationFunction",
    "Rewording",
    "Seconds",
    "ServerFunction",
    "StoredRows",
    "Verdict",
    "engine_rules",
    "function_rules",
    "functions_in",
    "listed_functions",
    "outlined",
    "outlines",
    "own_functions",
    "read_by",
    "reference_of",
    "relation_functions",
    "words",
]
