"""Whose turn it is, decided without a process and without waiting."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.errors import LimitExceededError
from lakehouse.model import Caller
from server.workers.scheduling import KNOWN_GO_AHEAD_S, USE_HALVES_IN_S, Claim, Schedule, text_key


def ask(
    schedule: Schedule, connection: str, sql: str = "", name: str = "anonymous", now: float = 0.0, **options: Any
) -> Claim:
    caller = Caller(name, connection)
    claim = Claim(caller, text_key(caller, "run", sql) if sql else b"", **options)
    schedule.wait(claim, now)
    return claim


def take_turns(schedule: Schedule, now: float, count: int, *, used_s: float) -> str:
    """The connections of the next turns, each of which takes its place for a moment."""
    order = []
    for _ in range(count):
        claim = schedule.next(now)
        assert claim is not None
        order.append(claim.caller.connection)
        schedule.charge(claim, used_s, now)
        schedule.end(claim)
    return "".join(order)


def test_who_came_first_goes_first() -> None:
    schedule = Schedule(2)
    first, second, third = (ask(schedule, "a") for _ in range(3))

    assert [schedule.next(0), schedule.next(0), schedule.next(0)] == [first, second, None]
    schedule.end(first)
    assert schedule.next(0) is third


def test_connections_take_turns_however_many_requests_one_of_them_has() -> None:
    schedule = Schedule(1)
    for _ in range(6):
        ask(schedule, "a")
    for connection in "bcbc":
        ask(schedule, connection)

    assert take_turns(schedule, 0.0, 10, used_s=1.0) == "abcabcaaaa"


def test_identities_take_turns_before_their_connections_do() -> None:
    schedule = Schedule(1)
    for connection in "1234":
        ask(schedule, connection, name="ada")
    for _ in range(2):
        ask(schedule, "5", name="bob")

    assert take_turns(schedule, 0.0, 6, used_s=1.0) == "152534"


def test_those_who_used_little_stand_in_one_line() -> None:
    schedule = Schedule(1)
    for connection in "aabbca":
        ask(schedule, connection)

    assert take_turns(schedule, 0.0, 6, used_s=0.01) == "aabbca"


def test_whoever_used_little_lately_goes_before_those_who_used_much() -> None:
    schedule = Schedule(1)
    heavy = ask(schedule, "a")
    schedule.next(0.0)
    for tick in range(1, 100):
        schedule.charge(heavy, tick * 0.05, tick * 0.05)
    ask(schedule, "a")
    good = ask(schedule, "b")
    schedule.end(heavy)

    assert schedule.next(5.0) is good


def test_what_was_used_long_ago_is_forgotten() -> None:
    schedule = Schedule(1)
    for connection, used_s in (("a", 8.0), ("b", 0.3)):
        claim = ask(schedule, connection)
        schedule.next(0.0)
        schedule.charge(claim, used_s, 0.0)
        schedule.end(claim)
    first, second = ask(schedule, "a"), ask(schedule, "b")

    assert schedule.next(20 * USE_HALVES_IN_S) is first
    schedule.end(first)
    assert schedule.next(20 * USE_HALVES_IN_S) is second


def test_long_statements_never_hold_the_last_place() -> None:
    schedule = Schedule(2, short_places=1)
    running = [ask(schedule, str(i)) for i in range(8)]
    long = [schedule.next(0.0), schedule.next(0.0)]
    assert [claim.place for claim in long if claim is not None] == ["long", "long"]

    for _ in running[2:]:  # each of the others is tried in the short place, and has to leave it
        claim = schedule.next(0.0)
        assert claim is not None
        assert claim.place == "short"
        assert not schedule.outgrows(claim)
        again = schedule.anew(claim)
        schedule.end(claim)
        schedule.wait(again, 0.0)

    assert schedule.next(0.0) is None  # six wait, for places of their kind
    good = ask(schedule, "good")
    assert schedule.next(0.0) is good
    assert good.place == "short"


def test_what_outgrows_a_short_place_keeps_what_it_has_done_where_a_long_one_is_free() -> None:
    schedule = Schedule(1, short_places=1)
    first, second = ask(schedule, "a"), ask(schedule, "b")
    schedule.next(0.0)
    schedule.next(0.0)
    assert (first.place, second.place) == ("long", "short")
    schedule.end(first)

    assert schedule.outgrows(second)

    assert second.place == "long"
    third = ask(schedule, "c")
    assert schedule.next(0.0) is third
    assert third.place == "short"


def test_what_begins_anew_keeps_its_turn() -> None:
    schedule = Schedule(1, short_places=1)
    first, second = ask(schedule, "a"), ask(schedule, "a")
    schedule.next(0.0)
    schedule.next(0.0)
    later = ask(schedule, "a", long=True)
    again = schedule.anew(second)
    schedule.end(second)
    schedule.wait(again, 0.0)

    schedule.end(first)

    assert schedule.next(0.0) is again
    assert later.place == "none"


@pytest.mark.parametrize(
    ("used_s", "large", "place"), [(0.01, False, "short"), (5.0, False, "none"), (0.1, True, "none")]
)
def test_what_took_long_once_is_not_tried_in_a_short_place_again(used_s: float, large: bool, place: str) -> None:
    schedule = Schedule(1, short_places=1)
    once = ask(schedule, "a", "SELECT 1")
    schedule.next(0.0)
    once.large = large
    schedule.charge(once, used_s, 0.0)
    schedule.end(once)

    ask(schedule, "b", "SELECT another")
    schedule.next(0.0)
    again = ask(schedule, "c", "SELECT 1")
    schedule.next(0.0)

    assert again.place == place


def test_a_short_place_takes_texts_first_that_were_short_before() -> None:
    schedule = Schedule(1, short_places=1)
    once = ask(schedule, "good", "SELECT 1")
    schedule.next(0.0)
    schedule.charge(once, 0.01, 0.0)
    schedule.end(once)
    unknown = [ask(schedule, connection, f"SELECT {connection}") for connection in "abcd"]
    assert schedule.next(0.0) is unknown[0]

    again = ask(schedule, "good", "SELECT 1")

    assert schedule.next(0.0) is again
    schedule.end(again)
    assert schedule.next(0.0) is unknown[1]


def make_known(schedule: Schedule, sql: str) -> None:
    """As a short text, by a connection that has gone."""
    claim = ask(schedule, "gone", sql)
    assert schedule.next(0.0) is claim
    schedule.charge(claim, 0.01, 0.0)
    schedule.end(claim)


@pytest.mark.parametrize("short_places", [1, 2])
@pytest.mark.parametrize(("clients", "used_s"), [(1, 0.1), (2, 0.1), (4, 0.02), (40, 0.002)])
def test_a_new_text_waits_for_those_that_are_known_only_for_a_moment(
    short_places: int, clients: int, used_s: float
) -> None:
    schedule = Schedule(2, short_places)
    make_known(schedule, "SELECT 1")
    for connection in ("x", "y"):  # hold the long places
        ask(schedule, connection)
        schedule.next(0.0)
    for client in range(clients + short_places):
        ask(schedule, f"known {client % clients}", "SELECT 1")
    new = ask(schedule, "new", "SELECT count(*)")
    now = 0.0
    while new.place == "none" and now < 60:
        running = [claim for _ in range(short_places) if (claim := schedule.next(now)) is not None]
        now += used_s
        for claim in running:
            if claim is not new:
                schedule.charge(claim, used_s, now)
                schedule.end(claim)
                ask(schedule, str(claim.caller.connection), "SELECT 1", now=now)  # again, as soon as it is answered

    assert new.place == "short"
    assert now < KNOWN_GO_AHEAD_S + 2 * used_s * (clients + short_places)


def test_those_with_new_texts_take_turns_by_use_once_they_have_waited_for_a_moment() -> None:
    schedule = Schedule(1, short_places=1)
    make_known(schedule, "SELECT 1")
    ask(schedule, "x")
    schedule.next(0.0)
    heavy = ask(schedule, "heavy", "SELECT 1")
    schedule.next(0.0)
    schedule.charge(heavy, 5.0, 0.0)
    schedule.end(heavy)
    make_known(schedule, "SELECT ab")
    new = ask(schedule, "new", "SELECT abc")
    ask(schedule, "heavy", "SELECT ab")

    assert schedule.next(KNOWN_GO_AHEAD_S) is new


def test_what_was_slow_once_and_is_quick_now_is_short_again() -> None:
    schedule = Schedule(1, short_places=1)
    for used_s in (5.0, 0.01):
        claim = ask(schedule, "a", "SELECT 1")
        schedule.next(0.0)
        schedule.charge(claim, used_s, 0.0)
        schedule.end(claim)
    ask(schedule, "b")
    schedule.next(0.0)

    claim = ask(schedule, "a", "SELECT 1")

    assert schedule.next(0.0) is claim


def test_one_identity_s_experience_with_a_text_is_not_another_s() -> None:
    assert text_key(Caller("ada"), "run", "SELECT 1") != text_key(Caller("bob"), "run", "SELECT 1")
    assert text_key(Caller("ada", "1"), "run", "SELECT 1") == text_key(Caller("ada", "2"), "run", "SELECT 1")
    assert text_key(Caller("ada"), "run", "SELECT 1") != text_key(Caller("ada"), "inspect", "SELECT 1")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (
            "SELECT * FROM logs WHERE time > '2026-11-30 18:00:01' LIMIT 10",
            "SELECT * FROM logs WHERE time > '2026-12-01 09:10:11' LIMIT 25",
        ),
        ("SELECT 'it''s' AS a", "SELECT '' AS a"),
        ("SELECT 1700000000000 + 5", "SELECT 1799999999999 + 7"),
        ("SELECT 1 /* trace 1f's */ AS n -- don't\n, 'a'", "SELECT 2 /* trace 2e */ AS n -- do\n, 'b'"),
    ],
)
def test_a_text_is_known_whatever_its_literals_are(one: str, other: str) -> None:
    assert text_key(Caller("ada"), "run", one) == text_key(Caller("ada"), "run", other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("SELECT a", "SELECT b"),
        ('SELECT "a"', 'SELECT "b"'),
        ("""SELECT "it's" AS a, 'x'""", """SELECT "it's" AS b, 'x'"""),
        ("SELECT sum(i) FROM range(10) t(i)", "SELECT sum(i) FROM range(1000000000) t(i)"),
        ("SELECT " + "a, " * 10_000 + "b", "SELECT " + "a, " * 10_000 + "c"),
    ],
)
def test_texts_that_differ_in_more_than_literals_are_known_apart(one: str, other: str) -> None:
    assert text_key(Caller("ada"), "run", one) != text_key(Caller("ada"), "run", other)


def test_a_full_queue_loses_the_last_of_the_connection_that_has_most_in_it() -> None:
    schedule = Schedule(1, waiting_max=4)
    many = [ask(schedule, "a") for _ in range(4)]
    newcomer = Claim(Caller(connection="b"))

    assert schedule.wait(newcomer, 0.0) is many[-1]

    assert schedule.waiting == 4
    with pytest.raises(LimitExceededError, match="4 requests wait already"):
        ask(schedule, "a")


def test_a_full_queue_of_many_who_want_little_takes_no_more() -> None:
    schedule = Schedule(1, waiting_max=4)
    for connection in "abcd":
        ask(schedule, connection)

    with pytest.raises(LimitExceededError, match="the server is busy: 4 requests wait already; try again"):
        ask(schedule, "e")


def test_who_withdraws_waits_no_longer() -> None:
    schedule = Schedule(1)
    first, second = ask(schedule, "a"), ask(schedule, "b")

    schedule.withdraw(first)
    schedule.withdraw(first)

    assert schedule.next(0.0) is second


STEPS = st.lists(
    st.tuples(st.sampled_from(["ask", "next", "end", "outgrow", "withdraw"]), st.integers(0, 7)), max_size=200
)


@settings(max_examples=200, deadline=None)
@given(steps=STEPS, long_places=st.integers(1, 3), short_places=st.integers(0, 2))
def test_places_are_never_given_twice_and_everybody_has_a_turn(
    steps: list[tuple[str, int]], long_places: int, short_places: int
) -> None:
    schedule = Schedule(long_places, short_places, waiting_max=1_000)
    waiting: list[Claim] = []
    placed: list[Claim] = []
    for now, (step, which) in enumerate(steps):
        if step == "ask":
            waiting.append(ask(schedule, str(which), sql="abc"[which % 3], now=float(now)))
        elif step == "next" and (claim := schedule.next(float(now))) is not None:
            waiting.remove(claim)
            placed.append(claim)
        elif step == "withdraw" and waiting:
            schedule.withdraw(waiting.pop(which % len(waiting)))
        elif step == "end" and placed:
            claim = placed.pop(which % len(placed))
            schedule.charge(claim, which / 2, float(now))
            schedule.end(claim)
        elif step == "outgrow" and placed:
            claim = placed[which % len(placed)]
            if not schedule.outgrows(claim):
                placed.remove(claim)
                again = schedule.anew(claim)
                schedule.end(claim)
                schedule.wait(again, 0.0)
                waiting.append(again)
        assert sum(claim.place == "long" for claim in placed) <= long_places
        assert sum(claim.place == "short" for claim in placed) <= short_places
        assert not any(claim.long and claim.place == "short" for claim in placed)
        assert schedule.waiting == len(waiting)

    for claim in placed:
        schedule.end(claim)
    while waiting:  # with all places free, every turn is somebody's
        claim = schedule.next(1e6)
        assert claim is not None
        waiting.remove(claim)
        schedule.end(claim)
