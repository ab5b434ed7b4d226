"""What the command ``lakeflight`` asks of an installed server."""

from __future__ import annotations

from server.commands import complete

__all__ = ["complete"]
