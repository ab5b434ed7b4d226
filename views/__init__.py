"""One file per view set: its schema, its version, and how blocks become rows."""

from __future__ import annotations

from lakehouse.registry import ViewRegistry
from views import call_tree
from views.blocks import BLOCKS
from views.log_entries import LogEntries
from views.measures import Measures
from views.processes import PROCESSES
from views.streams import STREAMS
from views.thread_spans import ThreadSpans
from wire.transit import kernels

__all__ = ["default_registry", "warm_up"]


def default_registry() -> ViewRegistry:
    """Everything a server offers."""
    return ViewRegistry(
        [
            PROCESSES,
            STREAMS,
            BLOCKS,
            LogEntries(),
            Measures(),
            ThreadSpans(),
        ]
    )


def warm_up() -> None:
    """Compile every kernel that building a view may need, or load it from numba's cache."""
    kernels.warm_up()
    call_tree.warm_up()
