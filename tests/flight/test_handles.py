"""Statement handles: text for most, sealed where values or parameters matter."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.errors import LimitExceededError, NotFoundError, QueryError
from lakehouse.model import Caller
from server.flight.handles import BOUND_ROWS_MAX, HANDLE_LIFETIME_S, REMEMBERED_BYTES_MAX, HandleSealer, Statement

ALICE, BOB = Caller("alice"), Caller("bob")
KEY = b"k" * 32


def values_of(statement: Statement) -> dict[str, list[object]]:
    assert statement.values is not None
    values: dict[str, list[object]] = statement.values.batch.to_pydict()
    return values


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sealer(clock: Clock) -> HandleSealer:
    return HandleSealer(KEY, clock=clock)


VALUES = pa.table({"a": [1, 2], "b": ["x", None]})


def test_a_statement_without_parameters_is_its_own_handle(sealer: HandleSealer) -> None:
    assert sealer.prepare(ALICE, "SELECT 'ü'", 0) == "SELECT 'ü'".encode()
    assert sealer.open(BOB, "SELECT 'ü'".encode()).sql == "SELECT 'ü'"


def test_bound_values_travel_in_the_handle(sealer: HandleSealer) -> None:
    bound = sealer.bind(ALICE, sealer.prepare(ALICE, "SELECT ?, ?", 2), VALUES)

    statement = HandleSealer(KEY, clock=Clock()).open(ALICE, bound)  # another replica

    assert statement.sql == "SELECT ?, ?"
    assert values_of(statement) == VALUES.to_pydict()
    assert bound.isascii()


def test_the_handle_of_the_preparation_stands_for_the_values_bound_last(sealer: HandleSealer) -> None:
    prepared = sealer.prepare(ALICE, "SELECT ?", 1)
    sealer.bind(ALICE, prepared, pa.table({"a": [1]}))
    last = sealer.bind(ALICE, prepared, pa.table({"a": [2]}))

    assert sealer.latest(ALICE, prepared) == last
    sealer.forget(ALICE, prepared)
    assert sealer.latest(ALICE, prepared) == prepared
    assert values_of(sealer.open(ALICE, last)) == {"a": [2]}


def test_nobody_meets_or_forgets_the_values_of_another_caller(sealer: HandleSealer) -> None:
    prepared = sealer.prepare(ALICE, "SELECT ?", 1)
    last = sealer.bind(ALICE, prepared, pa.table({"a": [1]}))

    assert sealer.latest(BOB, prepared) == prepared
    sealer.forget(BOB, prepared)
    assert sealer.latest(ALICE, prepared) == last


def test_values_are_encoded_once_for_all_who_hand_them_on(sealer: HandleSealer) -> None:
    one = sealer.open(ALICE, sealer.bind(ALICE, sealer.prepare(ALICE, "SELECT ?, ?", 2), VALUES.slice(0, 1))).values
    both = sealer.open(ALICE, sealer.bind(ALICE, sealer.prepare(ALICE, "SELECT ?, ?", 2), VALUES)).values
    assert one is not None and both is not None

    assert one.first is one
    assert [row.batch.to_pylist() for row in both] == [[row] for row in VALUES.to_pylist()]


def test_two_preparations_of_one_text_are_apart(sealer: HandleSealer) -> None:
    one, other = sealer.prepare(ALICE, "SELECT ?", 1), sealer.prepare(ALICE, "SELECT ?", 1)
    sealer.bind(ALICE, one, pa.table({"a": [1]}))

    assert one != other
    assert sealer.latest(ALICE, other) == other


def test_another_callers_handle_is_not_found(sealer: HandleSealer) -> None:
    prepared = sealer.prepare(ALICE, "SELECT ?", 1)

    for use in (lambda: sealer.open(BOB, prepared), lambda: sealer.bind(BOB, prepared, pa.table({"a": [1]}))):
        with pytest.raises(NotFoundError):
            use()


def test_a_handle_expires(sealer: HandleSealer, clock: Clock) -> None:
    prepared = sealer.prepare(ALICE, "SELECT ?", 1)
    clock.now += HANDLE_LIFETIME_S - 1
    bound = sealer.bind(ALICE, prepared, pa.table({"a": [1]}))
    clock.now += 1

    with pytest.raises(NotFoundError, match="expired"):
        sealer.open(ALICE, prepared)
    assert sealer.open(ALICE, bound).sql == "SELECT ?"


@settings(max_examples=200)
@given(position=st.integers(0, 10_000), byte=st.integers(0, 255))
def test_a_changed_handle_is_not_found(position: int, byte: int) -> None:
    sealer = HandleSealer(KEY)
    handle = bytearray(sealer.bind(ALICE, sealer.prepare(ALICE, "SELECT ?, ?", 2), VALUES))
    marker = handle.index(b":") + 1
    handle[marker + position % (len(handle) - marker)] = byte
    try:
        statement = sealer.open(ALICE, bytes(handle))
    except NotFoundError:
        return

    assert statement.sql == "SELECT ?, ?"  # the byte did not change what the text decodes to
    assert values_of(statement) == VALUES.to_pydict()


def test_keys_of_other_installations_open_nothing(sealer: HandleSealer) -> None:
    with pytest.raises(NotFoundError):
        HandleSealer(b"z" * 32).open(ALICE, sealer.prepare(ALICE, "SELECT ?", 1))


def test_a_short_key_is_refused() -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        HandleSealer(b"k" * 16)


def test_bytes_that_are_no_text_are_no_handle(sealer: HandleSealer) -> None:
    with pytest.raises(QueryError):
        sealer.open(ALICE, b"\xff\xfe")


def test_the_number_of_values_must_be_right(sealer: HandleSealer) -> None:
    with pytest.raises(QueryError, match="2 values were bound to 1 parameters"):
        sealer.bind(ALICE, sealer.prepare(ALICE, "SELECT ?", 1), VALUES)
    with pytest.raises(QueryError, match="bound to 0"):
        sealer.bind(ALICE, b"SELECT 1", VALUES)
    assert sealer.bind(ALICE, b"SELECT 1", pa.table({})) == b"SELECT 1"


def test_values_are_limited_in_rows_bytes_and_kind(sealer: HandleSealer) -> None:
    prepared = sealer.prepare(ALICE, "SELECT ?", 1)

    with pytest.raises(LimitExceededError, match="rows"):
        sealer.bind(ALICE, prepared, pa.table({"a": range(BOUND_ROWS_MAX + 1)}))
    with pytest.raises(LimitExceededError, match="bytes"):
        sealer.bind(ALICE, prepared, pa.table({"a": ["x" * (1 << 20)]}))
    union = pa.UnionArray.from_dense(pa.array([0], pa.int8()), pa.array([0], pa.int32()), [pa.array([1])])
    with pytest.raises(QueryError, match=r"parameter 1 has the Arrow type dense_union.*cannot be bound"):
        sealer.bind(ALICE, prepared, pa.table({"a": union}))
    sealer.bind(ALICE, prepared, pa.table({"a": [{"x": 1}]}))


def test_what_is_remembered_is_bounded(sealer: HandleSealer) -> None:
    big = pa.table({"a": ["x" * 900_000]})
    handles = [sealer.prepare(ALICE, "SELECT ?", 1) for _ in range(60)]
    for handle in handles:
        sealer.bind(ALICE, handle, big)

    assert sealer.latest(ALICE, handles[0]) == handles[0]
    assert sealer.latest(ALICE, handles[-1]) != handles[-1]
    assert sealer.remembered_bytes <= REMEMBERED_BYTES_MAX
