"""Times, percentiles, and rounds in which configurations take turns. Knows nothing of what it measures."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

median = statistics.median


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that ``percent`` of all do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100).__int__() - 1)]


def seconds(action: Callable[[], object]) -> float:
    """How long one call takes."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


@dataclass(slots=True)
class Samples:
    """Times of one configuration, round by round."""

    rounds: list[list[float]] = field(default_factory=list)

    @property
    def all(self) -> list[float]:
        return [value for values in self.rounds for value in values]

    @property
    def p50(self) -> float:
        """Median of the rounds' medians: one disturbed round does not move it."""
        return median([median(values) for values in self.rounds])

    @property
    def p95(self) -> float:
        return percentile(self.all, 95)

    @property
    def spread(self) -> tuple[float, float]:
        """Least and greatest median of a round."""
        medians = [median(values) for values in self.rounds]
        return min(medians), max(medians)


def take_turns(
    rounds: int, actions: Mapping[str, Callable[[], object]], *, samples: int = 1, warm_up: bool = True
) -> dict[str, Samples]:
    """Time every action ``samples`` times a round. Each round begins with another, so that none is always the first."""
    names = list(actions)
    found = {name: Samples() for name in names}
    if warm_up:
        for action in actions.values():
            action()
    for number in range(rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            found[name].rounds.append([seconds(actions[name]) for _ in range(samples)])
    return found
