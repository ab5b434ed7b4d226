"""Traces for Perfetto are read back by its own messages: the same trees, whatever the batches they were written in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakeflight.wire.perfetto import Spans, TraceWriter, track_uuid
from lakeflight.wire.perfetto import trace as trace_module
from lakeflight.wire.perfetto.trace import TooManyLanesError
from tests.support.perfetto_traces import DecodedTrace, Slice, decode

PROCESS = "de5ba7b0-54da-579e-80bc-2e8e527c44d0"
START = 1_714_557_600_000_000_000


class Span(NamedTuple):
    track: str
    depth: int
    begin: int
    end: int
    name: str
    category: str
    file: str
    line: int


def columns(spans: Sequence[Span]) -> Spans:
    def text(values: Iterator[str]) -> pa.Array:
        return pa.array(list(values), pa.string())

    return Spans(
        np.array([START + span.begin for span in spans], np.int64),
        np.array([START + span.end for span in spans], np.int64),
        text(span.name for span in spans),
        text(span.category for span in spans),
        text(span.file for span in spans),
        np.array([span.line for span in spans], np.int64),
    )


def batches(spans: Sequence[Span], size: int) -> Iterator[Sequence[Span]]:
    for start in range(0, len(spans), size):
        yield spans[start : start + size]


def written(threads: Sequence[Span], others: Sequence[Span] = (), size: int = 1_000) -> DecodedTrace:
    writer = TraceWriter()
    pieces = [writer.process(PROCESS, "game")]
    for number, stream in enumerate(sorted({span.track for span in threads})):
        pieces.append(writer.thread(stream, f"thread {stream}", number))
    pieces.append(writer.lanes("Async Operations", "async_track"))
    for part in batches(threads, size):
        tracks = np.array([track_uuid(span.track) for span in part], np.uint64)
        pieces += writer.nested(columns(part), tracks, np.array([span.depth for span in part], np.int64))
    for part in batches(others, size):
        pieces += writer.overlapping(columns(part))
    pieces += writer.finish()
    return decode(b"".join(pieces))


def expected(spans: Sequence[Span]) -> list[Slice]:
    return sorted(
        Slice(
            track_uuid(span.track), span.name, span.category, span.file, span.line if span.file else 0,
            START + span.begin, START + span.end, span.depth,
        )
        for span in spans
    )  # fmt: skip


texts = st.sampled_from(["", "frame", "wörk", "\U0001f680 go", "x" * 300])
places = st.tuples(texts, texts, texts, st.sampled_from([0, 1, 127, 128, (1 << 32) - 1]))


@st.composite
def trees(draw: st.DrawFn, track: str) -> list[Span]:
    """Spans of one thread, parents first; some take no time, some share their bounds with what they lie in."""
    spans: list[Span] = []

    def grow(depth: int, begin: int, end: int) -> None:
        for _ in range(draw(st.integers(0, 3 if depth < 4 else 0))):
            if begin > end:
                return
            low = draw(st.integers(begin, end))
            high = draw(st.integers(low, end))
            spans.append(Span(track, depth, low, high, *draw(places)))
            grow(depth + 1, low, high)
            begin = high

    grow(0, 0, draw(st.sampled_from([0, 5, 1_000_000_000])))
    return spans


@given(st.data(), st.integers(1, 7))
@settings(max_examples=60, deadline=None)
def test_random_trees_come_back_the_same(data: st.DataObject, size: int) -> None:
    spans = [span for track in ("a", "b", "c") for span in data.draw(trees(track))]

    found = written(spans, size=size)

    assert sorted(found.slices) == expected(spans)
    assert found.times_cleared == 1


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 40), places), max_size=60), st.integers(1, 9))
@settings(max_examples=60, deadline=None)
def test_spans_of_no_thread_keep_their_times_however_they_overlap(
    drawn: list[tuple[int, int, tuple[str, str, str, int]]], size: int
) -> None:
    spans = sorted(
        (Span("", 0, begin, begin + lasts, *place) for begin, lasts, place in drawn), key=lambda s: (s.begin, -s.end)
    )

    found = written([], spans, size=size)

    assert sorted(slice_[1:-1] for slice_ in found.slices) == sorted(slice_[1:-1] for slice_ in expected(spans))
    lanes = {slice_.track for slice_ in found.slices}
    first = track_uuid("async_track", track_uuid(PROCESS))
    assert not spans or first in lanes
    assert all(found.tracks[lane].name == "Async Operations" for lane in {*lanes, first})
    assert all(found.tracks[lane].parent_uuid == track_uuid(PROCESS) for lane in {*lanes, first})
    for slice_ in found.slices:  # a picture shows what lies in what
        around = [
            o for o in found.slices if o.track == slice_.track and o.begin <= slice_.begin and slice_.end <= o.end
        ]
        assert len(around) - 1 >= slice_.depth


def test_spans_that_do_not_overlap_are_all_on_the_first_track() -> None:
    spans = [Span("", 0, 10 * n, 10 * n + 10, "request", "web", "", 0) for n in range(100)]

    assert {slice_.track for slice_ in written([], spans).slices} == {track_uuid("async_track", track_uuid(PROCESS))}


def test_deep_trees_and_many_side_by_side_take_the_room_they_need() -> None:
    deep = [Span("a", depth, depth, 20_000 - depth, "down", "t", "f", depth) for depth in range(5_000)]
    wide = [Span("", 0, n, n + 1_000, "wide", "t", "f", n) for n in range(600)]

    found = written(deep, wide)

    assert max(slice_.depth for slice_ in found.slices) == 4_999
    assert len({slice_.track for slice_ in found.slices if slice_.name == "wide"}) == 600


def test_more_side_by_side_than_a_picture_shows_are_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace_module, "LANES_MAX", 20)
    wide = [Span("", 0, n, n + 1_000, "wide", "t", "f", n) for n in range(21)]

    with pytest.raises(TooManyLanesError, match="more than 20 async spans overlap"):
        written([], wide)


def test_a_million_names_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace_module, "INTERNED_MAX", 50)
    spans = [Span("a", 0, 0, 10_000, "outer", "outer category", "outer.c", 1)]
    spans += [Span("a", 1, n, n + 1, f"name {n}", f"category {n}", f"{n}.c", n) for n in range(1, 400)]
    others = [Span("", 0, 0, 10_000, "all the time", "open", "", 0)]
    others += [Span("", 0, n, n + 1, f"other {n}", "o", "", 0) for n in range(1, 400)]

    found = written(spans, others, size=20)

    assert sorted(s for s in found.slices if s.track == track_uuid("a")) == expected(spans)
    assert len(found.slices) == len(spans) + len(others)
    assert found.times_cleared > 10


def test_numbers_of_tracks_follow_from_the_ids_of_process_and_stream() -> None:
    found = written([Span("a", 0, 0, 1, "n", "c", "f", 1)])

    process = found.tracks[track_uuid(PROCESS)]
    thread = found.tracks[track_uuid("a")]
    assert process.process.process_name == "game"
    assert process.process.pid & 0xFFFFFFFF == track_uuid(PROCESS) & 0xFFFFFFFF
    assert (thread.parent_uuid, thread.thread.pid, thread.thread.tid) == (track_uuid(PROCESS), process.process.pid, 0)
    assert (thread.name, thread.thread.thread_name) == ("thread a", "thread a")


def test_the_numbers_are_those_of_other_tools() -> None:
    assert track_uuid("") == 0xEF46DB3751D8E999  # the published value of XXH64 of nothing


def test_times_from_the_first_to_the_last_are_kept() -> None:
    spans = [Span("a", 0, begin - START, begin - START + 1, "n", "", "", 0) for begin in (0, (1 << 63) - 2)]

    assert [slice_.begin for slice_ in written(spans).slices] == [0, (1 << 63) - 2]
