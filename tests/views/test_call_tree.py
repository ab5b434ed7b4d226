"""Spans out of begin and end events: the recorded examples, repairs, and every sequence against a plain rendering."""

from __future__ import annotations

import re
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.call_tree import ROOT, Event, ReferenceTree, Row
from views.call_tree import CallTree

SCOPES = {"T-1": ROOT, "A": 1, "A1": 2, "B": 3, "C": 4, "X": 5, "Y": 6, "pre": 7, "in": 8, "post": 9}
MAP = np.arange(len(SCOPES), dtype=np.int32)


def add(tree: CallTree, events: list[Event], scope_map: np.ndarray = MAP, object_offset: int = 0) -> None:
    tree.add(
        np.array([e[0] for e in events], np.uint8),
        np.array([e[2] for e in events], np.int64),
        np.array([e[3] for e in events], np.int64),
        np.array([e[1] for e in events], np.int32),
        scope_map,
        object_offset,
    )


def rows_of(tree: CallTree, rows_each: int = 1000) -> list[Row]:
    found: list[Row] = []
    for rows in tree.read(rows_each):
        assert (rows.duration == rows.end - rows.begin).all()
        columns = (rows.id, rows.parent, rows.depth, rows.begin, rows.end, rows.scope)
        found += zip(*(column.tolist() for column in columns), strict=True)
    return found


def parse(text: str) -> list[Event]:
    """``B A 100, E A 200``: begins and ends of scopes at times; positions are the ids."""
    return [
        (0 if kind == "B" else 1, SCOPES[scope], int(t), i)
        for i, (kind, scope, t) in enumerate(re.findall(r"([BE]) (\S+) (-?\d+)", text))
    ]


def parse_rows(text: str) -> list[Row]:
    """``3,-1,1,[0,400],Y``: id, parent, depth, begin and end, scope."""
    found: list[Row] = []
    for row in text.replace("root", "-1,0,0,[0,1000],T-1").split(";"):
        match = re.fullmatch(r"\s*(-?\d+),(-?\d+),(\d+),\[(\d+),(\d+)\],(\S+)", row)
        assert match is not None, row
        numbers = [int(n) for n in match.groups()[:5]]
        found.append((numbers[0], numbers[1], numbers[2], numbers[3], numbers[4], SCOPES[match.group(6)]))
    return found


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        (
            "B A 100, B A1 150, E A1 200, E A 500, B B 600, E B 700",
            "root; 0,-1,1,[100,500],A; 1,0,2,[150,200],A1; 4,-1,1,[600,700],B",
        ),
        ("E X 50, B A 100, E A 200", "root; 0,-1,1,[0,50],X; 1,-1,1,[100,200],A"),
        (
            "B A 100, E A 200, E X 300, E Y 400",
            "root; 3,-1,1,[0,400],Y; 2,3,2,[0,300],X; 0,2,3,[100,200],A",
        ),
        ("B A 100, B B 150", "0,0,0,[100,1000],A; 1,0,1,[150,1000],B"),
        ("B A 100, B B 150, E B 160", "0,0,0,[100,1000],A; 1,0,1,[150,160],B"),
        (
            "B A 100, E A 200, B B 300, B C 350",
            "root; 0,-1,1,[100,200],A; 2,-1,1,[300,1000],B; 3,2,2,[350,1000],C",
        ),
        ("B pre -5, E pre -1, B in 10, E in 20, B post 1001", "root; 2,-1,1,[10,20],in"),
        ("B A -10, E A 20", "root; 1,-1,1,[0,20],A"),
        ("B A 10, E A 1500", "0,0,0,[10,1000],A"),
    ],
)
def test_recorded_examples(events: str, expected: str) -> None:
    tree = CallTree(0, 1000, ROOT)

    add(tree, parse(events))

    assert rows_of(tree) == parse_rows(expected)
    assert tree.repaired_events == 0


def test_no_events_make_no_rows() -> None:
    tree = CallTree(0, 1000, ROOT)

    add(tree, [])

    assert rows_of(tree) == []
    assert tree.rows == 0


@pytest.mark.parametrize(
    ("events", "expected", "repaired"),
    [
        ("B A 100, B B 200, E A 300", "root; 0,-1,1,[100,300],A; 1,0,2,[200,300],B", 1),
        ("B A 100, B B 200, E X 300, E B 400", "0,0,0,[100,1000],A; 1,0,1,[200,400],B", 1),
        (
            "B A 100, B A 150, B B 200, B C 250, E A 300, E A 400",
            "root; 0,-1,1,[100,400],A; 1,0,2,[150,300],A; 2,1,3,[200,300],B; 3,2,4,[250,300],C",
            1,
        ),
        ("B A 1, E A 2, B B 10, E T-1 20, E B 30", "root; 0,-1,1,[1,2],A; 2,-1,1,[10,30],B", 1),
    ],
)
def test_an_end_that_crosses_closes_down_to_its_span_or_is_ignored(events: str, expected: str, repaired: int) -> None:
    """The synthetic root is nobody's span: the last example has an end that only it would match."""
    tree = CallTree(0, 1000, ROOT)

    add(tree, parse(events))

    assert rows_of(tree) == parse_rows(expected)
    assert tree.repaired_events == repaired


def test_a_span_reaches_across_blocks_and_ids_count_on() -> None:
    tree = CallTree(0, 1000, ROOT)

    add(tree, [(0, 0, 100, 0)], np.array([1], np.int32), object_offset=40)
    add(tree, [(1, 1, 300, 2)], np.array([3, 1], np.int32), object_offset=41)

    assert rows_of(tree) == [(-1, 0, 0, 0, 1000, ROOT), (40, -1, 1, 100, 300, 1)]


def test_events_outside_the_range_vanish_and_those_inside_are_not_clamped() -> None:
    tree = CallTree(1000, 2000, ROOT)

    add(tree, parse("B A 100, E A 200, B B 1500, E B 1800, B C 2500, E C 2600"))

    assert rows_of(tree) == [(-1, 0, 0, 1000, 2000, ROOT), (2, -1, 1, 1500, 1800, 3)]


def test_rows_are_in_order_of_begin_even_if_the_clock_was_not() -> None:
    tree = CallTree(0, 1000, ROOT)

    add(tree, parse("B A 500, E A 600, B B 100, E B 700, E X 800, B C 50, E C 60"))
    found = rows_of(tree, rows_each=2)

    assert [row[3] for row in found] == [0, 0, 50, 100, 500]
    assert found[2:] == [(5, -1, 1, 50, 60, 4), (2, 4, 2, 100, 700, 3), (0, 4, 2, 500, 600, 1)]


def test_arrays_that_do_not_belong_together_are_refused_and_change_nothing() -> None:
    tree = CallTree(0, 1000, ROOT)
    add(tree, parse("B A 1"))

    for bad_scope in (-1, len(SCOPES), 1 << 30):
        with pytest.raises(ValueError, match="scope"):
            add(tree, [(0, bad_scope, 5, 5)])
    with pytest.raises(ValueError, match="length"):
        tree.add(np.zeros(2, np.uint8), np.zeros(1, np.int64), np.zeros(2, np.int64), np.zeros(2, np.int32), MAP, 0)

    assert rows_of(tree) == [(0, 0, 0, 1, 1000, 1)]


@pytest.mark.parametrize(
    ("kinds", "scopes"),
    [
        ([0] * 300_000 + [1] * 300_000, [1] * 300_000 + [2] * 300_000),  # deep, and ends that match nothing
        ([0] * 300_000 + [1] * 300_000, list(range(10)) * 60_000),  # deep, and ends that cross
        ([1] * 600_000, list(range(10)) * 60_000),  # a new root for every event
    ],
)
def test_hostile_sequences_take_linear_time(kinds: list[int], scopes: list[int]) -> None:
    tree = CallTree(0, 1000, ROOT)
    n = len(kinds)
    backwards = np.linspace(900, 100, n).astype(np.int64)
    started = time.process_time()

    tree.add(np.array(kinds, np.uint8), backwards, np.arange(n), np.array(scopes, np.int32), MAP, 0)
    rows = sum(part.id.size for part in tree.read())

    assert rows == tree.rows >= 300_000
    assert time.process_time() - started < 5


events = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 4), st.integers(-3, 30)), max_size=40)


@given(blocks=st.lists(events, max_size=3), in_order=st.booleans(), rows_each=st.integers(1, 7))
@settings(max_examples=250, deadline=None)
def test_every_sequence_gives_the_rows_of_the_plain_rendering(
    blocks: list[list[tuple[int, int, int]]], in_order: bool, rows_each: int
) -> None:
    tree = CallTree(0, 25, ROOT)
    reference = ReferenceTree(0, 25)
    times = iter(sorted(t for block in blocks for _, _, t in block))
    number = 0
    for block in blocks:
        taken: list[Event] = []
        for kind, scope, t in block:
            taken.append((kind, scope, next(times) if in_order else t, number))
            number += 1
        add(tree, taken)
        reference.add_block(taken)

    expected = reference.rows()

    assert rows_of(tree, rows_each) == sorted(expected, key=lambda row: row[3])
    assert tree.repaired_events == reference.repaired
    assert tree.rows == len(expected)
