"""The Flight SQL edge: Arrow Flight on ``grpc.aio``. Decodes commands, passes frames on, and holds no engine."""

from __future__ import annotations

from server.flight.server import FlightLimits, FlightServer

__all__ = ["FlightLimits", "FlightServer"]
