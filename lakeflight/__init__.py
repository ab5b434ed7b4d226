"""For programs that send telemetry to a lake or ask it questions. Knows the wire formats, and nothing of the server.

``lakeflight.telemetry`` sends and ``lakeflight.connect`` asks. A program that only sends never loads what asking needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lakeflight.connection import Connection, connect

__all__ = ["Connection", "connect"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from lakeflight import connection

        return getattr(connection, name)
    raise AttributeError(f"module 'lakeflight' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
