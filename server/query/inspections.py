"""What the engine said about statements, remembered: a driver asks for a FlightInfo before it has the statement run."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, TypeAlias

from lakehouse.engine import Inspection
from lakehouse.jobs.run import QueryExecutor
from lakehouse.model import Caller

REMEMBERED_MAX: Final = 1_024
VALUES_REMEMBERED_BYTES_MAX: Final = 4 << 10  # of bound values; more are inspected again

_Key: TypeAlias = tuple[str, str, bytes | None]  # caller, text, values


class Inspections:
    """The gate's verdicts by caller, text and values. Those that follow the clock are not remembered."""

    def __init__(self, executor: QueryExecutor) -> None:
        self._executor = executor
        self._known: OrderedDict[_Key, Inspection] = OrderedDict()

    async def inspect(self, sql: str, values: bytes | None, caller: Caller) -> tuple[Inspection, float]:
        """The gate's verdict on a text and its values, and the engine time it took just now, in seconds.

        Raises:
            LakeflightError: The statement is refused, or does not bind.
        """
        key = (caller.name, sql, values)
        if (known := self._known.get(key)) is not None:
            self._known.move_to_end(key)
            return known, 0.0
        planned = await self._executor.inspect(sql, values, caller)
        inspection = planned.inspection
        if not inspection.volatile and len(values or b"") <= VALUES_REMEMBERED_BYTES_MAX:
            self._known[key] = inspection
            if len(self._known) > REMEMBERED_MAX:
                self._known.popitem(last=False)
        return inspection, planned.engine_s
