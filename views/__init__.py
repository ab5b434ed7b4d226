"""One file per view set: its schema, its version, and how blocks become rows.

Importing a view loads no kernel, because most processes only ask for its schema; building rows does.
"""

from __future__ import annotations

from lakehouse.registry import ViewRegistry
from views.blocks import BLOCKS
from views.log_entries import LogEntries
from views.measures import Measures
from views.processes import PROCESSES
from views.quarantined_blocks import QUARANTINED_BLOCKS
from views.streams import STREAMS
from views.thread_spans import ThreadSpans

__all__ = ["default_registry", "warm_up"]


def default_registry() -> ViewRegistry:
    """Everything a server offers."""
    return ViewRegistry(
        [
            PROCESSES,
            STREAMS,
            BLOCKS,
            QUARANTINED_BLOCKS,
            LogEntries(),
            Measures(),
            ThreadSpans(),
        ]
    )


def warm_up() -> None:
    """Compile every kernel that building a view may need, or load it from numba's cache."""
    from lakeflight.wire.transit import kernels
    from views import call_tree

    kernels.warm_up()
    call_tree.warm_up()
