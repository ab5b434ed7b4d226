"""Times keep their nanoseconds and their zone: the places of a statement where the engine would lose either, repaired.

DuckDB has most of its functions of time for microseconds, and a ``TIMESTAMP_NS`` that meets one is *rounded*: a moment just
before a border is in the next hour, day or year. Which expressions are concerned only the binder knows, so its plan is
read (``findings.py``), and the expressions that it names are changed (``repairs.py``), until it names none
(``statement.py``).
"""

from lakehouse.engine.times.findings import BOUND_PLAN
from lakehouse.engine.times.repairs import BY_MICROSECOND, OWN, WHOLE_MICROSECONDS, cannot_be_kept
from lakehouse.engine.times.statement import Repaired, Repairs, as_plain_calls, may_concern

__all__ = [
    "BOUND_PLAN",
    "BY_MICROSECOND",
    "OWN",
    "WHOLE_MICROSECONDS",
    "Repaired",
    "Repairs",
    "as_plain_calls",
    "cannot_be_kept",
    "may_concern",
]
