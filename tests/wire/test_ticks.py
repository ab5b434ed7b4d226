from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakeflight.wire.errors import CorruptPayloadError
from lakeflight.wire.ticks import TickClock, frequency

INT64 = st.integers(-(1 << 63), (1 << 63) - 1)


def ns(clock: TickClock, *ticks: int) -> list[int]:
    times: list[int] = clock.absolute_ns(np.array(ticks, np.int64)).tolist()
    return times


def test_half_nanoseconds_round_away_from_zero() -> None:
    clock = TickClock(1000, 0, 2_000_000_000)

    assert ns(clock, 1001, 1003, 1005, 999) == [1, 2, 3, -1]
    assert [clock.relative_ns(ticks) for ticks in (1, 3, 5, -1)] == [1, 2, 3, -1]


def test_real_clocks_give_the_known_times() -> None:
    assert ns(TickClock(4991360000000000, 1700000000000000000, 2400000000), 5000000000000123) == [1700003600000000051]
    assert ns(TickClock(1, 1700000000123456000, 2994374000), 29943740001) == [1700000010123456000]


def test_no_ticks_give_no_times() -> None:
    assert ns(TickClock(0, 5, 1)) == []


def test_what_int64_cannot_hold_saturates_without_a_warning() -> None:
    assert ns(TickClock(0, 0, 1), 1 << 62, -(1 << 62), 1) == [(1 << 63) - 1, -(1 << 63), 1_000_000_000]
    assert TickClock(0, 0, 1).relative_ns(1 << 62) == (1 << 63) - 1


def test_a_known_frequency_needs_no_block() -> None:
    assert frequency(1_000_000, 0, 5, 0) == 1_000_000


def test_an_unknown_frequency_is_estimated_from_the_last_block() -> None:
    estimate = frequency(0, 0, 1_000_000, 1_000_000_000)

    assert estimate == 1_000_000
    assert ns(TickClock(0, 0, estimate), 500_000) == [500_000_000]


def test_ticks_in_no_time_collapse_to_the_start() -> None:
    estimate = frequency(0, 7, 1_000_000, 7)

    assert estimate == (1 << 63) - 1
    assert ns(TickClock(0, 7, estimate), 500_000) == [7]


@pytest.mark.parametrize("last", [(0, 7), (-5, 7), (5, 6), (0, 100)])
def test_a_clock_that_stands_or_runs_backwards_is_corrupt(last: tuple[int, int]) -> None:
    with pytest.raises(CorruptPayloadError, match="invalid frequency"):
        frequency(0, 7, *last)


def test_a_clock_without_frequency_cannot_be_made() -> None:
    with pytest.raises(CorruptPayloadError, match="invalid frequency: 0"):
        TickClock(0, 0, 0)


def test_durations_are_milliseconds() -> None:
    clock = TickClock(123, 456, 3_000_000_000)

    assert clock.milliseconds(np.array([3_000_000, -1], np.int64)).tolist() == [1.0, -1 * (1000.0 / 3e9)]


@settings(max_examples=200)
@given(INT64, st.integers(1, 1 << 40), st.integers(0, 1 << 61))
def test_arrays_and_single_ticks_agree_with_exact_rounding(relative: int, ticks_per_s: int, start_ns: int) -> None:
    product = float(relative) * (1e9 / float(ticks_per_s))  # float64, as the original; only the rounding is exact
    exact = Fraction(product)
    whole = math.floor(abs(exact) + Fraction(1, 2)) * (1 if exact >= 0 else -1)
    expected = start_ns + min(max(whole, -(1 << 63)), (1 << 63) - 1)
    expected = (expected + (1 << 63)) % (1 << 64) - (1 << 63)
    clock = TickClock(0, start_ns, ticks_per_s)

    assert clock.relative_ns(relative) == expected
    assert ns(clock, relative) == [expected]
