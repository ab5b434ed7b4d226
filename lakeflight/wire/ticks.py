"""Tick counters to nanoseconds since 1970, to the bit as the original computes them.

A process samples a counter and the wall clock once, at its start; every event carries the counter alone. The arithmetic
is float64 with one multiplication by a rounded inverse and rounding half away from zero: dividing, or numpy's rounding
half to even, moves some events by a nanosecond, and the rows would no longer compare equal.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt

from lakeflight.wire.errors import CorruptPayloadError

Int64Array = npt.NDArray[np.int64]
Float64Array = npt.NDArray[np.float64]

_INT64_MIN: Final = -(1 << 63)
_INT64_MAX: Final = (1 << 63) - 1
_NS_PER_S: Final = 1e9


def frequency(tsc_frequency: int, start_time_ns: int, last_end_ticks: int, last_end_time_ns: int) -> int:
    """Ticks per second: what the process says; if it says 0, an estimate from the last (relative) ticks and their time.

    Raises:
        CorruptPayloadError: Neither gives a positive number.
    """
    if tsc_frequency > 0:
        return tsc_frequency
    elapsed_s = float(last_end_time_ns - start_time_ns) / _NS_PER_S
    ticks = float(last_end_ticks)
    with np.errstate(divide="ignore", invalid="ignore"):  # ticks in no time at all: infinitely fast
        result = _round_scalar(float(np.float64(ticks) / elapsed_s))
    if result <= 0:
        raise CorruptPayloadError(f"invalid frequency: {last_end_ticks} ticks in {elapsed_s} s")
    return result


class TickClock:
    """Converts the ticks of one process. Results that leave int64 saturate in the float part and wrap in the sum."""

    __slots__ = ("_inverse_ms", "_inverse_ns", "frequency", "start_ticks", "start_time_ns")

    def __init__(self, start_ticks: int, start_time_ns: int, frequency: int) -> None:
        if frequency <= 0:
            raise CorruptPayloadError(f"invalid frequency: {frequency}")
        self.start_ticks = start_ticks
        self.start_time_ns = start_time_ns
        self.frequency = frequency
        self._inverse_ns = _NS_PER_S / float(frequency)
        self._inverse_ms = 1000.0 / float(frequency)

    def absolute_ns(self, ticks: Int64Array) -> Int64Array:
        """Times of counter values as events carry them."""
        return self._since_start_ns(ticks - np.int64(self.start_ticks))

    def relative_ns(self, rel_ticks: int) -> int:
        """Time of a counter value less ``start_ticks``, as block headers carry it."""
        return _wrap(self.start_time_ns + _round_scalar(float(rel_ticks) * self._inverse_ns))

    def milliseconds(self, ticks: Int64Array) -> Float64Array:
        """Durations, not times."""
        return ticks.astype(np.float64) * self._inverse_ms

    def _since_start_ns(self, relative: Int64Array) -> Int64Array:
        nanoseconds = relative.astype(np.float64)
        nanoseconds *= self._inverse_ns
        rounded = _round_array(nanoseconds)
        rounded += np.int64(self.start_time_ns)
        return rounded


def _round_scalar(value: float) -> int:
    """Half away from zero; NaN is 0, and what int64 cannot hold is its nearest bound."""
    if value != value:
        return 0
    if math.isinf(value):
        return _INT64_MAX if value > 0 else _INT64_MIN
    whole = math.trunc(value)
    if abs(value - whole) >= 0.5:
        whole += 1 if value > 0 else -1
    return min(max(whole, _INT64_MIN), _INT64_MAX)


def _round_array(values: Float64Array) -> Int64Array:
    """The same for an array; ``values`` is used up."""
    whole = np.trunc(values)
    with np.errstate(invalid="ignore"):  # infinities
        values -= whole
    np.abs(values, out=values)
    up = values >= 0.5
    whole += np.copysign(up, whole, dtype=np.float64)
    # a whole of zero has the sign of its value, so copysign still rounds -0.5 to -1
    if not whole.size or (whole.min() >= -(2.0**63) and whole.max() < 2.0**63):
        return whole.astype(np.int64)
    with np.errstate(invalid="ignore"):
        result: Int64Array = np.nan_to_num(whole, nan=0.0).astype(np.int64)
    result[whole >= 2.0**63] = _INT64_MAX
    result[whole < -(2.0**63)] = _INT64_MIN
    return result


def _wrap(value: int) -> int:
    return (value - _INT64_MIN) % (1 << 64) + _INT64_MIN
