"""What the engine said about statements, remembered: a driver asks for a FlightInfo before it has the statement run."""

from __future__ import annotations

import sys
from collections import OrderedDict
from typing import Final, TypeAlias

from lakehouse.engine import DEFAULT_LIMITS, Inspection
from lakehouse.errors import LimitExceededError
from lakehouse.jobs.run import QueryExecutor
from lakehouse.model import Caller, Spelling
from server.query.statement import BoundValues

REMEMBERED_BYTES_MAX: Final = 32 << 20  # of texts, values and schemas: a text of 37 KB may have a schema of 6 MB
REMEMBERED_BYTES_EACH_MAX: Final = 2 << 20  # a few large ones must not push out all that are asked every second
VALUES_REMEMBERED_BYTES_MAX: Final = 4 << 10  # of bound values; more are inspected again
_OVERHEAD_BYTES: Final = 1_000  # of an entry, and of each reference in it: objects, dictionaries, short strings

_Key: TypeAlias = tuple[str, str, bytes | None, Spelling]  # caller, text, values, how its result is spelled


class Inspections:
    """The gate's verdicts by caller, text and values. Those that follow the clock are not remembered."""

    def __init__(self, executor: QueryExecutor) -> None:
        self._executor = executor
        self._known: OrderedDict[_Key, tuple[Inspection, int]] = OrderedDict()
        self._bytes = 0

    @property
    def remembered_bytes(self) -> int:
        """What the memory takes."""
        return self._bytes

    async def inspect(
        self, sql: str, values: BoundValues | None, caller: Caller, spelling: Spelling = Spelling.PLAIN
    ) -> tuple[Inspection, float]:
        """The gate's verdict on a text and its values, and the engine time it took just now, in seconds.

        Raises:
            LakeflightError: The statement is refused, or does not bind.
        """
        key = (caller.name, sql, None if values is None else values.encoded, spelling)
        if (known := self._known.get(key)) is not None:
            self._known.move_to_end(key)
            return known[0], 0.0
        _refuse_long(sql)
        planned = await self._executor.inspect(sql, key[2], caller, spelling)
        if not planned.inspection.volatile and len(key[2] or b"") <= VALUES_REMEMBERED_BYTES_MAX:
            self._remember(key, planned.inspection)
        return planned.inspection, planned.engine_s

    def _remember(self, key: _Key, inspection: Inspection) -> None:
        size = _size_of(key, inspection)
        if size > REMEMBERED_BYTES_EACH_MAX:
            return
        _, replaced = self._known.pop(key, (inspection, 0))  # asked twice at once
        self._known[key] = (inspection, size)
        self._bytes += size - replaced
        while self._bytes > REMEMBERED_BYTES_MAX:
            _, (_, oldest) = self._known.popitem(last=False)
            self._bytes -= oldest


def _size_of(key: _Key, inspection: Inspection) -> int:
    """Bytes of memory, rather too many than too few."""
    parts: list[str | bytes] = [key[1], key[2] or b"", inspection.schema, inspection.parameter_schema]
    columns = {id(reference.columns): reference.columns or () for reference in inspection.references}
    for reference in inspection.references:
        parts += [text for argument in reference.arguments if (text := argument)]
        parts += [text for texts in reference.equals.values() for text in texts]
    for names in columns.values():
        parts += names
    return _OVERHEAD_BYTES * (1 + len(inspection.references)) + sum(map(sys.getsizeof, parts))


def _refuse_long(sql: str) -> None:
    """Before it waits for a worker, which would say the same."""
    if len(sql) > DEFAULT_LIMITS.sql_bytes_max:
        size = len(sql.encode())
        raise LimitExceededError(f"the statement has {size} bytes, the limit is {DEFAULT_LIMITS.sql_bytes_max}")
