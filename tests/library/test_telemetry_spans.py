"""Spans of code that is suspended: the call tree of a thread shows only calls that were."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import ExitStack, aclosing, asynccontextmanager, contextmanager
from functools import partial
from typing import Any

import numpy as np
import pytest

from lakeflight.telemetry import Limits, Telemetry, async_span, named_span, span, span_fn
from lakeflight.telemetry import recorder as recorder_module
from lakeflight.telemetry.spans import ASYNC_SPAN_RECORD, SPAN_RECORD, scopes
from tests.support.fake_ingestion import RecordingSink


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    with Telemetry("http://unused", sink=RecordingSink(), flush_interval_s=60) as running:
        yield running
    recorder_module.install(None)


def thread_events(telemetry: Telemetry) -> list[str]:
    """Names of this thread's spans, ``<name`` as they begin and ``name>`` as they end."""
    buffers = telemetry.current_run.recorder.buffers()
    assert buffers is not None
    records = np.frombuffer(bytes(buffers.spans), SPAN_RECORD)
    names = [scopes[code].name for code in records["code"]]
    return [f"{name}>" if kind else f"<{name}" for kind, name in zip(records["kind"], names, strict=True)]


def async_spans(telemetry: Telemetry) -> dict[str, str]:
    """Of every async span the name of its parent, empty if it has none; each must have ended."""
    buffers = telemetry.current_run.recorder.buffers()
    assert buffers is not None
    records = np.frombuffer(bytes(buffers.async_spans), ASYNC_SPAN_RECORD)
    begun = records[records["kind"] == 0]
    assert sorted(begun["span_id"]) == sorted(records[records["kind"] == 1]["span_id"])
    names = {0: ""} | {event["span_id"]: scopes[event["code"]].name for event in begun}
    return {names[event["span_id"]]: names[event["parent_span_id"]] for event in begun}


def async_events(telemetry: Telemetry) -> list[tuple[int, int, int]]:
    """Of every event whether it is an end, its span and the parent, by numbers in the order that spans began."""
    buffers = telemetry.current_run.recorder.buffers()
    assert buffers is not None
    records = np.frombuffer(bytes(buffers.async_spans), ASYNC_SPAN_RECORD)
    numbers = {0: 0}
    for span_id in records["span_id"].tolist():
        numbers.setdefault(span_id, len(numbers))
    ids = zip(records["span_id"].tolist(), records["parent_span_id"].tolist(), strict=True)
    return [
        (kind, numbers[own], numbers[parent]) for kind, (own, parent) in zip(records["kind"].tolist(), ids, strict=True)
    ]


def is_nested(events: list[str]) -> bool:
    """Whether every end is that of the innermost open span."""
    open_spans: list[str] = []
    for event in events:
        if event.startswith("<"):
            open_spans.append(event[1:])
        elif not open_spans or open_spans.pop() != event[:-1]:
            return False
    return not open_spans


@span_fn
def parse() -> None:
    pass


# --- coroutines ---


def test_tasks_that_take_turns_do_not_appear_in_each_others_calls(telemetry: Telemetry) -> None:
    async def handle(name: str) -> None:
        with named_span(name):
            await asyncio.sleep(0)
            parse()
            await asyncio.sleep(0)

    async def main() -> None:
        await asyncio.gather(handle("a"), handle("b"))

    with span("program"):
        asyncio.run(main())

    assert thread_events(telemetry) == ["<program", "<parse", "parse>", "<parse", "parse>", "program>"]
    assert async_spans(telemetry) == {"a": "", "b": ""}


def test_a_span_of_a_coroutine_is_the_parent_of_those_that_begin_in_it(telemetry: Telemetry) -> None:
    @span_fn("step")
    async def step() -> None:
        await asyncio.sleep(0)

    async def main() -> None:
        with span("request"):
            await asyncio.create_task(step())

    asyncio.run(main())

    assert async_spans(telemetry) == {"request": "", "step": "request"}


def test_a_function_that_a_coroutine_calls_has_its_spans_in_the_tree(telemetry: Telemetry) -> None:
    def compute() -> None:
        with span("compute"):
            parse()

    async def main() -> None:
        compute()

    asyncio.run(main())

    assert thread_events(telemetry) == ["<compute", "<parse", "parse>", "compute>"]


@contextmanager
def phase(name: str) -> Iterator[None]:
    with named_span(name):
        yield


class Timed:
    def __init__(self, name: str) -> None:
        self._span = named_span(name)

    def __enter__(self) -> None:
        self._span.__enter__()

    def __exit__(self, *_: object) -> None:
        self._span.__exit__(None, None, None)


class TimedLate:
    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        self._span = named_span(self._name)
        self._span.__enter__()

    def __exit__(self, *_: object) -> None:
        self._span.__exit__(None, None, None)


@contextmanager
def stacked(name: str) -> Iterator[None]:
    with ExitStack() as stack:
        stack.enter_context(named_span(name))
        yield


@pytest.mark.parametrize("within", [phase, Timed, TimedLate, stacked])
def test_a_context_manager_of_ones_own_counts_for_whoever_enters_it(
    telemetry: Telemetry, within: Callable[[str], Any]
) -> None:
    async def main() -> None:
        with within("in a coroutine"):
            await asyncio.sleep(0)

    with within("in a function"):
        parse()
    asyncio.run(main())

    assert thread_events(telemetry) == ["<in a function", "<parse", "parse>", "in a function>"]
    assert async_spans(telemetry) == {"in a coroutine": ""}


def test_an_async_context_manager_counts_for_the_coroutine_that_enters_it(telemetry: Telemetry) -> None:
    @asynccontextmanager
    async def transaction() -> AsyncIterator[None]:
        with span("transaction"):
            yield

    async def main() -> None:
        async with transaction():
            with span("statement"):
                await asyncio.sleep(0)

    asyncio.run(main())

    assert thread_events(telemetry) == []
    assert async_spans(telemetry) == {"transaction": "", "statement": "transaction"}


# --- generators ---


def test_generators_that_take_turns_do_not_appear_in_each_others_calls(telemetry: Telemetry) -> None:
    def rows(name: str) -> Iterator[int]:
        with named_span(name):
            yield 1
            yield 2

    for _ in zip(rows("left"), rows("right"), strict=True):
        parse()

    assert thread_events(telemetry) == ["<parse", "parse>"] * 2
    assert async_spans(telemetry) == {"left": "", "right": ""}


def test_a_decorated_generator_has_a_span_for_each_step(telemetry: Telemetry) -> None:
    @span_fn
    def rows() -> Generator[int, str, str]:
        parse()
        given = yield 1
        try:
            yield len(given)
        except KeyError:
            return "the end"
        return "never"

    iterator = rows()
    assert next(iterator) == 1
    with span("consumer"):
        pass
    assert iterator.send("four") == 4
    with pytest.raises(StopIteration) as end:
        iterator.throw(KeyError())

    assert end.value.value == "the end"
    step = rows.__qualname__
    assert thread_events(telemetry) == [
        *(f"<{step}", "<parse", "parse>", f"{step}>"),
        *("<consumer", "consumer>"),
        *(f"<{step}", f"{step}>") * 2,
    ]


def test_a_decorated_generator_that_is_left_early_is_closed(telemetry: Telemetry) -> None:
    closed = []

    @span_fn
    def rows() -> Iterator[int]:
        try:
            yield 1
            yield 2
        finally:
            closed.append(True)

    for _ in rows():
        break

    assert closed == [True]
    assert is_nested(thread_events(telemetry))


def test_a_decorated_async_generator_is_one_async_span_and_nobodys_parent(telemetry: Telemetry) -> None:
    @span_fn("pages")
    async def pages() -> AsyncIterator[int]:
        for number in range(3):
            await asyncio.sleep(0)
            yield number

    async def main() -> list[int]:
        found = []
        async with aclosing(pages()) as numbers:  # type: ignore[type-var]
            async for number in numbers:
                with span("consumer"):
                    found.append(number)
        return found

    assert asyncio.run(main()) == [0, 1, 2]
    assert thread_events(telemetry) == []
    assert async_spans(telemetry) == {"pages": "", "consumer": ""}


def test_an_async_span_that_a_generator_holds_open_is_nobodys_parent(telemetry: Telemetry) -> None:
    async def pages() -> AsyncIterator[int]:
        async with async_span("page"):
            yield 1

    async def main() -> None:
        async for _ in pages():
            with span("consumer"):
                pass
        with span("later"):
            pass

    asyncio.run(main())

    assert async_spans(telemetry) == {"page": "", "consumer": "", "later": ""}


# --- entered again ---


def made_elsewhere(name: str) -> Any:
    return span(name)


@pytest.mark.parametrize("make", [span, named_span, async_span, made_elsewhere])
def test_a_span_may_be_entered_inside_itself_by_a_coroutine(telemetry: Telemetry, make: Callable[[str], Any]) -> None:
    async def main() -> None:
        again = make("again")
        with again:
            with again, span("inner"):
                await asyncio.sleep(0)
            with span("outer"):
                pass

    asyncio.run(main())

    assert async_events(telemetry) == [
        (0, 1, 0),
        (0, 2, 1),
        (0, 3, 2),
        (1, 3, 2),
        (1, 2, 1),
        (0, 4, 1),
        (1, 4, 1),
        (1, 1, 0),
    ]


def test_a_span_may_be_entered_inside_itself_by_a_generator(telemetry: Telemetry) -> None:
    def numbers() -> Iterator[int]:
        again = span("again")
        with again:
            with again:
                yield 1

    assert list(numbers()) == [1]
    assert async_events(telemetry) == [(0, 1, 0), (0, 2, 0), (1, 2, 0), (1, 1, 0)]


def test_tasks_that_share_a_span_each_end_their_own(telemetry: Telemetry) -> None:
    async def main() -> None:
        shared = async_span("shared")
        first_is_done = asyncio.Event()

        async def first() -> None:
            with shared:
                await asyncio.sleep(0)
            first_is_done.set()

        async def second() -> None:
            with shared:
                await first_is_done.wait()

        await asyncio.gather(first(), second())

    asyncio.run(main())

    assert async_events(telemetry) == [(0, 1, 0), (0, 2, 0), (1, 1, 0), (1, 2, 0)]


def test_a_span_of_the_tree_that_a_coroutine_enters_again_ends_where_it_began(telemetry: Telemetry) -> None:
    again = span("again")

    async def main() -> None:
        with again:
            enter()

    def enter() -> None:
        with again:
            pass

    with again:
        asyncio.run(main())
    assert thread_events(telemetry) == ["<again", "<again", "again>", "again>"]
    assert async_spans(telemetry) == {"again": ""}


def test_only_what_was_begun_is_ended_when_there_is_no_room_for_the_rest() -> None:
    limits = Limits(span_bytes_per_thread_max=SPAN_RECORD.itemsize)
    with Telemetry("http://unused", sink=RecordingSink(), flush_interval_s=60, limits=limits) as telemetry:
        telemetry.current_run.encode = lambda: None  # type: ignore[method-assign]
        again = span("again")
        with again, again, again:
            pass

        assert thread_events(telemetry) == ["<again", "again>"]


@pytest.mark.parametrize("make", [span, async_span])
def test_a_span_that_was_never_entered_may_be_left(telemetry: Telemetry, make: Callable[[str], Any]) -> None:
    with ExitStack() as stack:
        stack.push(make("never"))

    assert thread_events(telemetry) == []
    assert async_spans(telemetry) == {}


def test_a_span_made_elsewhere_may_be_entered_by_async_with(telemetry: Telemetry) -> None:
    async def main() -> None:
        async with made_elsewhere("request"):
            with span("inner"):
                pass

    asyncio.run(main())

    assert async_spans(telemetry) == {"request": "", "inner": "request"}


# --- what may be decorated ---


class Account:
    @span_fn("balance")
    def balance(self) -> int:
        return 1

    @classmethod
    @span_fn
    def open(cls) -> type[Account]:
        return cls

    @staticmethod
    @span_fn()
    def rate() -> float:
        return 0.5

    @property
    @span_fn(name="owner")
    def owner(self) -> str:
        return "ann"


def test_methods_are_decorated_below_what_binds_them(telemetry: Telemetry) -> None:
    account = Account()

    assert (account.balance(), account.open(), account.rate(), account.owner) == (1, Account, 0.5, "ann")

    begun = [event for event in thread_events(telemetry) if event.startswith("<")]
    assert begun == ["<balance", "<Account.open", "<Account.rate", "<owner"]


def test_a_callable_that_is_no_function_is_called_by_its_type(telemetry: Telemetry) -> None:
    assert span_fn(partial(int, base=2))("101") == 5

    assert thread_events(telemetry) == ["<partial", "partial>"]


@pytest.mark.parametrize(
    ("decorated", "named"),
    [
        (classmethod(lambda cls: None), "a classmethod"),
        (staticmethod(lambda: None), "a staticmethod"),
        (property(lambda self: None), "a property"),
        (Account, "a class"),
        (42, "a int"),
    ],
)
def test_what_is_no_function_is_refused_when_it_is_decorated(decorated: Any, named: str) -> None:
    with pytest.raises(TypeError, match=f"^span_fn decorates a function, not {named}; below staticmethod"):
        span_fn(decorated)
    with pytest.raises(TypeError, match=f"^span_fn decorates a function, not {named}; below staticmethod"):
        span_fn("a name")(decorated)
