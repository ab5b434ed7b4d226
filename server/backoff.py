"""When what failed is tried again: after a pause that doubles with each failure in a row, up to a longest one.

It remembers a bounded number of things, and forgets those first that failed longest ago: they are tried once too often.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Final, NamedTuple

REMEMBERED_MAX: Final = 10_000  # things that fail at the same time; a few hundred bytes each


class _Failing(NamedTuple):
    times: int
    due_s: float


class Backoff:
    """Of one server; what it knows ends with it."""

    def __init__(self, first_s: float, longest_s: float, clock: Callable[[], float]) -> None:
        self._first_s, self._longest_s, self._clock = first_s, longest_s, clock
        self._failing: dict[Hashable, _Failing] = {}

    def is_due(self, thing: Hashable) -> bool:
        failing = self._failing.get(thing)
        return failing is None or self._clock() >= failing.due_s

    def failed(self, thing: Hashable) -> tuple[int, float]:
        """How often it has failed in a row, and how many seconds it is left alone now."""
        before = self._failing.pop(thing, None)
        times = 1 if before is None else before.times + 1
        pause_s = min(self._first_s * 2.0 ** min(times - 1, 64), self._longest_s)
        self._failing[thing] = _Failing(times, self._clock() + pause_s)
        if len(self._failing) > REMEMBERED_MAX:
            del self._failing[next(iter(self._failing))]
        return times, pause_s

    def succeeded(self, thing: Hashable) -> None:
        self._failing.pop(thing, None)
