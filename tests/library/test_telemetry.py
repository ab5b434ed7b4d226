"""The emitter: what a program says arrives as it was said, and nothing that goes wrong reaches the program."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lakeflight.telemetry import (
    Limits,
    Outcome,
    Telemetry,
    async_span,
    float_metric,
    integer_metric,
    log,
    named_span,
    run,
    span,
    span_fn,
    suppressed,
)
from lakeflight.telemetry import recorder as recorder_module
from lakeflight.telemetry.sink import HttpSink
from lakeflight.wire.envelope import decode_block, decode_stream
from tests.support.fake_ingestion import FakeIngestion, RecordingSink, fake_ingestion
from tests.support.ports import REFUSED


@pytest.fixture(autouse=True)
def nobody_records_afterwards() -> Iterator[None]:
    yield
    recorder_module.install(None)


@pytest.fixture
def sink() -> RecordingSink:
    return RecordingSink()


@pytest.fixture
def telemetry(sink: RecordingSink) -> Iterator[Telemetry]:
    with Telemetry("http://unused", exe="app", sink=sink, flush_interval_s=60) as running:
        yield running


@pytest.fixture
def logger(telemetry: Telemetry) -> Iterator[logging.Logger]:
    found = logging.Logger("app.db", logging.DEBUG)
    found.addHandler(telemetry.logging_handler())
    yield found


def lines_of_program(sink: RecordingSink) -> list[tuple[str, int, str, str]]:
    """Log lines without those that the telemetry adds about itself."""
    return [line for line in sink.received.log_lines() if line[0] != "lakeflight.telemetry"]


@contextmanager
def held_back(running: Telemetry) -> Iterator[None]:
    """Nothing is encoded inside, as if the encoder were slow."""
    lock = threading.Lock()
    original = running.current_run.encode

    def encode() -> None:
        with lock:
            original()

    running.current_run.encode = encode  # type: ignore[method-assign]
    with lock:
        yield


# --- logs ---


def test_log_lines_arrive_with_logger_level_and_text(
    telemetry: Telemetry, sink: RecordingSink, logger: logging.Logger
) -> None:
    logger.debug("plain")
    logger.info("%d rows of %s", 3, "t")
    logger.warning("Straße 🚀")
    logger.error("e")
    logger.critical("c")
    logger.log(5, "below debug")

    assert telemetry.flush()
    assert sink.received.log_lines() == [
        ("app.db", 5, "plain", "{}"),
        ("app.db", 4, "3 rows of t", "{}"),
        ("app.db", 3, "Straße 🚀", "{}"),
        ("app.db", 2, "e", "{}"),
        ("app.db", 1, "c", "{}"),
    ]


def test_a_level_below_debug_is_trace(telemetry: Telemetry, sink: RecordingSink, logger: logging.Logger) -> None:
    logger.setLevel(1)

    logger.log(5, "below debug")

    telemetry.flush()
    assert sink.received.log_lines() == [("app.db", 6, "below debug", "{}")]


def test_extra_becomes_properties(telemetry: Telemetry, sink: RecordingSink, logger: logging.Logger) -> None:
    logger.info("paid", extra={"order": 17, "ok": True, "user": "ann", "nothing": None})

    telemetry.flush()
    [(_, _, message, properties)] = sink.received.log_lines()
    assert message == "paid"
    assert json.loads(properties) == {"order": "17", "ok": "true", "user": "ann"}


def test_an_exception_becomes_properties(telemetry: Telemetry, sink: RecordingSink, logger: logging.Logger) -> None:
    try:
        raise KeyError("absent")
    except KeyError:
        logger.exception("lookup failed")

    telemetry.flush()
    [(_, level, message, text)] = sink.received.log_lines()
    properties = json.loads(text)
    assert (level, message) == (2, "lookup failed")
    assert properties["exception.type"] == "KeyError"
    assert properties["exception.message"] == "'absent'"
    assert 'raise KeyError("absent")' in properties["exception.stacktrace"]


def test_a_message_that_is_a_mapping_is_taken_apart(
    telemetry: Telemetry, sink: RecordingSink, logger: logging.Logger
) -> None:
    structured = {"event": "partition.committed", "rows": 41, "level": "info", "logger": "x", "_record": object()}

    logger.info(structured, extra={"_logger": object(), "_name": "info"})

    telemetry.flush()
    assert sink.received.log_lines() == [("app.db", 4, "partition.committed", '{"rows":"41"}')]


class Hostile:
    def __str__(self) -> str:
        raise RuntimeError("no text for you")

    __repr__ = __str__


def test_hostile_arguments_do_not_reach_the_program(
    telemetry: Telemetry, sink: RecordingSink, logger: logging.Logger
) -> None:
    logger.info("%d", "not a number")
    logger.info("%s", Hostile())
    logger.info("x", extra={"bad": Hostile()})
    logger.info("lone surrogate \ud800", extra={"k\udc80": "v\udc80"})
    integer_metric("m", "seven")  # type: ignore[arg-type]
    float_metric("m", Hostile())  # type: ignore[arg-type]
    with span(["unhashable"]):  # type: ignore[arg-type]
        pass
    log("t", 4, None)  # type: ignore[arg-type]

    telemetry.flush()
    assert [line[2] for line in sink.received.log_lines()] == ["%d", "%s", "lone surrogate ?", "None"]
    assert telemetry.statistics.errors == 4


def test_lines_of_several_threads_are_sorted_by_time(telemetry: Telemetry, sink: RecordingSink) -> None:
    turn = threading.Semaphore(0)

    def other() -> None:
        log("t", 4, "1")
        turn.release()

    log("t", 4, "0")
    threading.Thread(target=other).start()
    turn.acquire()
    log("t", 4, "2")

    telemetry.flush()
    assert [line[2] for line in sink.received.log_lines()] == ["0", "1", "2"]


# --- metrics ---


def test_metrics_arrive_with_unit_value_and_properties(telemetry: Telemetry, sink: RecordingSink) -> None:
    integer_metric("frames", 3)
    float_metric("load", 0.5, unit="ratio")
    integer_metric("queue", 7, unit="items", properties={"name": "in", "shard": 2})
    float_metric("load", 1.5, unit="ratio", properties={"core": 1})

    telemetry.flush()
    assert sink.received.measures() == [
        ("frames", "count", 3.0, True, "{}"),
        ("load", "ratio", 0.5, False, "{}"),
        ("in", "items", 7.0, True, '{"name":"in","shard":"2"}'),  # a property called name takes the place of it
        ("load", "ratio", 1.5, False, '{"core":"1"}'),
    ]


def test_whole_numbers_beyond_64_unsigned_bits_become_floats(telemetry: Telemetry, sink: RecordingSink) -> None:
    integer_metric("n", -5)
    integer_metric("n", 1 << 64)
    integer_metric("n", (1 << 64) - 1)

    telemetry.flush()
    assert [(value, integer) for _, _, value, integer, _ in sink.received.measures()] == [
        (-5.0, False),
        (float(1 << 64), False),
        (float((1 << 64) - 1), True),
    ]


def test_a_whole_number_is_an_integer_whatever_its_type(
    telemetry: Telemetry, sink: RecordingSink, capfd: pytest.CaptureFixture[str]
) -> None:
    for value in (2, 2.0, True, np.int8(2), np.float32(2), Decimal("2"), Fraction(4, 2), np.array(2), -2.0):
        integer_metric("n", value)

    telemetry.flush()
    assert [(value, integer) for _, _, value, integer, _ in sink.received.measures()] == [
        *((2.0, True), (2.0, True), (1.0, True), (2.0, True), (2.0, True), (2.0, True), (2.0, True), (2.0, True)),
        (-2.0, False),
    ]
    assert (telemetry.statistics.errors, capfd.readouterr().err) == (0, "")


@pytest.mark.parametrize("value", [2.9, float("nan"), float("inf"), Decimal("0.1"), "2", None, 1j, np.array([1, 2])])
def test_a_measurement_that_is_none_is_dropped_counted_and_said_once(
    telemetry: Telemetry, sink: RecordingSink, capfd: pytest.CaptureFixture[str], value: Any
) -> None:
    integer_metric("n", value)
    integer_metric("n", value)

    telemetry.flush()
    assert sink.received.measures() == []
    assert telemetry.statistics.errors == 2
    assert capfd.readouterr().err == (
        f"lakeflight telemetry: metric 'n': no whole number: {value!r}; dropped, and further ones in silence\n"
    )


def test_a_real_measurement_that_is_none_is_said_too(telemetry: Telemetry, capfd: pytest.CaptureFixture[str]) -> None:
    float_metric("\x1b[31m", "a" * 1000)  # type: ignore[arg-type]

    assert telemetry.statistics.errors == 1
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(r"lakeflight telemetry: metric '\x1b[31m': no number: 'aaa")
    assert len(line) < 250


# --- spans ---


@span_fn
def add(a: int, b: int) -> int:
    """Adds."""
    return a + b


@span_fn(name="renamed")
def fail() -> None:
    raise ValueError("on purpose")


def test_spans_nest_as_calls_do(telemetry: Telemetry, sink: RecordingSink) -> None:
    with span("outer"):
        with named_span("level-3"):
            assert add(1, b=2) == 3
        with pytest.raises(ValueError, match="on purpose"):
            fail()

    telemetry.flush()
    assert sink.received.thread_spans() == [
        ("begin", "outer"),
        ("begin", "level-3"),
        ("begin", "add"),
        ("end", "add"),
        ("end", "level-3"),
        ("begin", "renamed"),
        ("end", "renamed"),
        ("end", "outer"),
    ]
    assert (add.__name__, add.__doc__) == ("add", "Adds.")


def test_a_span_knows_its_place(telemetry: Telemetry, sink: RecordingSink) -> None:
    with span("here"):
        pass

    telemetry.flush()
    [scope] = sink.received.spans_of(sink.received.blocks("cpu")[0]).scopes
    assert scope.target == __name__
    assert scope.file == __file__
    assert scope.line == test_a_span_knows_its_place.__code__.co_firstlineno + 1


def test_a_span_open_at_a_flush_goes_on_in_the_next_block(telemetry: Telemetry, sink: RecordingSink) -> None:
    with span("long"):
        telemetry.flush()
        telemetry.flush()  # nothing new: no block
        with span("short"):
            pass
    telemetry.flush()

    first, second = sink.received.blocks("cpu")
    assert (first.nb_objects, first.object_offset) == (1, 0)
    assert (second.nb_objects, second.object_offset) == (3, 1)
    assert (second.begin_ticks, second.begin_time_ns) == (first.end_ticks, first.end_time_ns)
    assert len(sink.received.streams("cpu")) == 1


def test_events_lie_within_their_block(telemetry: Telemetry, sink: RecordingSink) -> None:
    with span("s"):
        time.sleep(0.002)
    float_metric("m", 1.0)

    telemetry.flush()
    [process] = sink.received.processes()
    for block, ticks in (
        (sink.received.blocks("cpu")[0], sink.received.spans_of(sink.received.blocks("cpu")[0]).ticks),
        (sink.received.blocks("metrics")[0], sink.received.metrics_of(sink.received.blocks("metrics")[0]).ticks),
    ):
        relative = ticks - process.start_ticks
        assert block.begin_ticks <= relative.min() <= relative.max() <= block.end_ticks
        elapsed_ns = block.end_time_ns - process.start_time_ns
        assert abs(elapsed_ns - block.end_ticks) < 50_000_000  # a tick is a nanosecond


def test_every_thread_has_a_stream_with_its_name(telemetry: Telemetry, sink: RecordingSink) -> None:
    def work() -> None:
        with span("work"):
            pass

    workers = [threading.Thread(target=work, name=f"worker-{i}") for i in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()

    telemetry.flush()
    streams = sink.received.streams("cpu")
    assert sorted(stream.properties["thread-name"] for stream in streams) == ["worker-0", "worker-1", "worker-2"]
    assert all(stream.properties["thread-id"].isdigit() for stream in streams)


def test_threads_that_ended_are_forgotten_once_their_spans_are_taken(telemetry: Telemetry, sink: RecordingSink) -> None:
    def work() -> None:
        with span("work"):
            pass

    for _ in range(20):
        worker = threading.Thread(target=work)
        worker.start()
        worker.join()
    telemetry.flush()
    telemetry.flush()

    assert len(sink.received.thread_spans()) == 40
    assert telemetry.current_run.recorder.threads() == []


def test_async_spans_carry_parent_and_depth(telemetry: Telemetry, sink: RecordingSink) -> None:
    @span_fn
    async def inner() -> None:
        await asyncio.sleep(0)

    async def main() -> None:
        async with async_span("outer"):
            await asyncio.gather(inner(), inner())

    asyncio.run(main())

    telemetry.flush()
    [block] = sink.received.blocks("cpu")
    assert block.nb_objects == 6
    assert sink.received.thread_spans() == []  # async spans are no part of the thread's call tree


# --- the process and the order of requests ---


def test_metadata_goes_first_and_only_streams_with_blocks_are_announced(
    telemetry: Telemetry, sink: RecordingSink
) -> None:
    log("t", 4, "x")
    with span("s"):
        pass
    telemetry.flush()
    log("t", 4, "y")
    telemetry.flush()

    assert sink.received.paths[0] == "insert_process"
    assert sorted(sink.received.paths[1:]) == ["insert_block"] * 3 + ["insert_stream"] * 2
    announced: set[str] = set()
    for path, body in sink.received.requests:
        if path.endswith("insert_stream"):
            announced.add(decode_stream(body).stream_id)
        elif path.endswith("insert_block"):
            assert decode_block(body).stream_id in announced
    assert {stream.tags for stream in sink.received.streams()} == {("log",), ("cpu",)}


def test_the_process_describes_itself(monkeypatch: pytest.MonkeyPatch, sink: RecordingSink) -> None:
    monkeypatch.setenv("MICROMEGAS_TELEMETRY_PARENT_PROCESS", "{AAAAAAAA-BBBB-4CCC-8DDD-EEEEEEEEEEEE}")
    before = time.time_ns()

    with Telemetry("http://unused", exe="game", properties={"version": "1.2", "bad": "\ud800"}, sink=sink) as running:
        log("t", 4, "x")

    [process] = sink.received.processes()
    assert process.process_id == running.process_id
    assert process.exe == "game"
    assert process.tsc_frequency == 1_000_000_000
    assert before <= process.start_time_ns <= time.time_ns()
    assert process.parent_process_id == "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee"
    assert process.properties["version"] == "1.2"
    assert process.properties["bad"] == "?"
    assert process.properties["pid"] == str(os.getpid())
    assert process.username and process.computer and process.distro and process.cpu_brand


def test_nothing_is_sent_for_a_program_that_says_nothing(sink: RecordingSink) -> None:
    threads = threading.active_count()

    with Telemetry("http://unused", sink=sink):
        assert threading.active_count() == threads

    assert sink.attempts == []


def test_events_without_a_telemetry_go_nowhere(sink: RecordingSink) -> None:
    log("t", 4, "x")
    float_metric("m", 1.0)
    with span("s"), named_span("n"), async_span("a"):
        assert add(1, 2) == 3

    assert recorder_module.current is None


def test_nothing_is_recorded_while_suppressed(telemetry: Telemetry, sink: RecordingSink) -> None:
    with suppressed():
        log("t", 4, "x")
        integer_metric("m", 1)
        with span("s"), async_span("a"):
            add(1, 2)
    log("t", 4, "y")

    telemetry.flush()
    assert sink.received.paths == ["insert_process", "insert_stream", "insert_block"]
    assert [line[2] for line in sink.received.log_lines()] == ["y"]


def test_what_the_telemetry_does_itself_is_not_recorded() -> None:
    logger = logging.Logger("app.db", logging.DEBUG)

    class LoggingSink(RecordingSink):
        def post(self, path: str, body: bytes, *, process_id: str, timeout_s: float) -> Outcome:
            logger.info("sending")
            with span("sending"):
                return super().post(path, body, process_id=process_id, timeout_s=timeout_s)

    own = LoggingSink()
    with Telemetry("http://unused", sink=own) as running:
        logger.addHandler(running.logging_handler())
        logger.info("x")

    assert [line[2] for line in own.received.log_lines()] == ["x"]
    assert own.received.thread_spans() == []


# --- what cannot be recorded, encoded or sent ---


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ((5, 4, "x"), ("5", 4, "x")),
        ((None, 4, "x"), ("None", 4, "x")),
        (("t", 4, b"x"), ("t", 4, "b'x'")),
        (("t", 4, 7), ("t", 4, "7")),
        (("t", "3", "x"), ("t", 3, "x")),
        (("t", "warning", "x"), ("t", 4, "x")),
        (("t", float("nan"), "x"), ("t", 4, "x")),
        (("t", -1, "x"), ("t", 1, "x")),
        (("t", 999, "x"), ("t", 6, "x")),
    ],
)
def test_a_line_of_the_wrong_types_arrives_as_text_at_the_nearest_level(
    telemetry: Telemetry, sink: RecordingSink, arguments: Any, line: tuple[str, int, str]
) -> None:
    log("t", 4, "sound")
    log(*arguments)
    integer_metric("m", 1)

    assert telemetry.flush()
    assert sink.received.log_lines() == [("t", 4, "sound", "{}"), (*line, "{}")]
    assert len(sink.received.measures()) == 1
    assert telemetry.statistics.errors == 0


def test_a_record_that_somebody_made_by_hand_breaks_nobodys_batch(
    telemetry: Telemetry, sink: RecordingSink, logger: logging.Logger
) -> None:
    by_hand = {"name": None, "module": None, "pathname": Path("a.py"), "lineno": None, "msg": "by hand"}
    logger.handle(logging.makeLogRecord({**by_hand, "levelno": logging.INFO}))
    logger.info("sound")

    assert telemetry.flush()
    assert sink.received.log_lines() == [("None", 4, "by hand", "{}"), ("app.db", 4, "sound", "{}")]


def test_code_without_line_numbers_is_recorded_at_line_0(telemetry: Telemetry, sink: RecordingSink) -> None:
    def generated() -> None:
        integer_metric("m", 1)
        with span("s"):
            pass

    generated.__code__ = generated.__code__.replace(co_linetable=b"")
    generated()

    assert telemetry.flush()
    assert [row[0] for row in sink.received.measures()] == ["m"]
    assert sink.received.thread_spans() == [("begin", "s"), ("end", "s")]


@pytest.mark.parametrize("kind", ["logs", "metrics", "spans"])
def test_what_cannot_be_encoded_is_lost_alone_and_counted(
    telemetry: Telemetry, sink: RecordingSink, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    def fail(*_: object) -> None:
        raise TypeError(kind)

    log("t", 4, "x")
    log("t", 4, "y")
    integer_metric("m", 1)
    float_metric("m", 1, properties={"a": "b"})
    for _ in range(2):
        with span("s"):
            pass
    with monkeypatch.context() as patched:
        patched.setattr(run, f"encode_{kind}", fail)
        assert not telemetry.flush()

    received = {
        "logs": len(lines_of_program(sink)),
        "metrics": len(sink.received.measures()),
        "spans": len(sink.received.thread_spans()) // 2,
    }
    lost = {name: 2 if name == kind else 0 for name in received}
    assert {name: 2 - events for name, events in received.items()} == lost
    statistics = telemetry.statistics
    counted = (statistics.dropped_logs, statistics.dropped_metrics, statistics.dropped_spans)
    assert counted == (lost["logs"], lost["metrics"], lost["spans"])
    assert (statistics.errors, statistics.requests_dropped) == (1, 1)


def refuse_threads(monkeypatch: pytest.MonkeyPatch, name: str = "") -> None:
    """As a system does that has no thread left; those of a telemetry whose names end in ``name``."""
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name.startswith("lakeflight-telemetry-") and thread.name.endswith(name):
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)


@pytest.mark.parametrize("refused", ["encode", "send"])
def test_without_a_thread_nothing_waits_or_raises_and_what_is_lost_is_counted(
    sink: RecordingSink, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], refused: str
) -> None:
    refuse_threads(monkeypatch, refused)
    running = Telemetry("http://unused", sink=sink, flush_interval_s=60).install()
    log("t", 4, "x")
    integer_metric("m", 1)
    with span("s"):
        pass

    begun = time.monotonic()
    assert not running.flush(30)
    assert not running.close(30)
    assert time.monotonic() - begun < 15
    statistics = running.statistics
    assert (statistics.dropped_logs, statistics.dropped_metrics, statistics.dropped_spans) == (1, 1, 1)
    assert capfd.readouterr().err == (
        "lakeflight telemetry: cannot send to http://unused: can't start new thread;"
        " it is tried again; what does not fit into memory meanwhile is lost\n"
    )


@pytest.mark.parametrize("refused", ["encode", "send"])
@pytest.mark.parametrize("by", ["a flush", "the end", "a line", "a metric", "a tagged metric", "a span"])
def test_a_thread_that_could_not_start_is_started_later(
    sink: RecordingSink, monkeypatch: pytest.MonkeyPatch, by: str, refused: str
) -> None:
    monkeypatch.setattr(run, "START_RETRY_INTERVAL_S", 0.0)
    running = Telemetry("http://unused", sink=sink, flush_interval_s=60).install()
    with monkeypatch.context() as patched:
        refuse_threads(patched, refused)
        log("t", 4, "x")
        integer_metric("m", 1)
        with span("s"):
            pass

    if by == "a line":
        log("t", 4, "y")
    elif by == "a metric":
        float_metric("m", 2)
    elif by == "a tagged metric":
        float_metric("m", 2, properties={"a": "b"})
    elif by == "a span":
        with span("s"):
            pass
    if by not in ("a flush", "the end"):
        names = {thread.name for thread in threading.enumerate()}
        assert {"lakeflight-telemetry-encode", "lakeflight-telemetry-send"} <= names
    if by != "the end":
        assert running.flush()
    assert running.close()
    assert lines_of_program(sink)[0] == ("t", 4, "x", "{}")
    assert sink.received.measures()[0][:3] == ("m", "count", 1.0)
    assert sink.received.thread_spans()[:2] == [("begin", "s"), ("end", "s")]
    assert running.current_run.recorder.span_wake_bytes == Limits().span_bytes_per_thread_max // 2


# --- limits ---


def test_what_is_beyond_the_limits_is_counted_and_dropped() -> None:
    blocked = threading.Event()
    sink = RecordingSink(lambda *_: Outcome.DELIVERED if blocked.wait(5) else Outcome.FAILED)
    limits = Limits(
        span_bytes_per_thread_max=170,
        metric_bytes_per_thread_max=250,
        tagged_metrics_per_thread_max=10,
        logs_per_thread_max=10,
        message_chars_max=5,
        properties_max=1,
        property_chars_max=3,
    )
    running = Telemetry("http://unused", sink=sink, flush_interval_s=60, limits=limits).install()
    with held_back(running):
        for i in range(30):
            log("t", 4, f"message {i}", {"a": "12345", "b": "2"})
            integer_metric("m", i)
            integer_metric("m", i, properties={"p": i})
            with span("s"):
                pass
    blocked.set()
    running.close()

    received = sink.received
    assert lines_of_program(sink) == [("t", 4, "mess…", '{"a":"12…","…":"1 properties left out"}')] * 10
    assert len(received.measures()) == 20
    kinds = [kind for kind, _ in received.thread_spans()]
    assert kinds == ["begin", "end"] * 5  # the end of what has begun is never dropped
    assert running.statistics.dropped_logs == 20
    assert running.statistics.dropped_metrics == 40
    assert running.statistics.dropped_spans == 25


def test_a_full_buffer_is_flushed_before_its_time(sink: RecordingSink) -> None:
    limits = Limits(span_bytes_per_thread_max=34 * 200)
    with Telemetry("http://unused", sink=sink, flush_interval_s=3600, limits=limits):
        for _ in range(150):
            with span("s"):
                pass
        deadline = time.monotonic() + 5
        while not sink.received.blocks("cpu") and time.monotonic() < deadline:
            time.sleep(0.01)

        assert sink.received.blocks("cpu")


def test_a_full_outbox_drops_spans_before_logs() -> None:
    blocked = threading.Event()
    sink = RecordingSink(lambda *_: Outcome.DELIVERED if blocked.wait(5) else Outcome.FAILED)
    running = Telemetry("http://unused", sink=sink, flush_interval_s=60, limits=Limits(outbox_bytes_max=6000)).install()
    for i in range(40):
        log("t", 4, f"{i}" * 30)
        with span("s"):
            pass
        encoded = threading.Event()
        running.current_run.wakes.put(encoded)
        assert encoded.wait(5)
    blocked.set()
    running.close()

    logs, spans = len(sink.received.blocks("log")), len(sink.received.blocks("cpu"))
    assert 0 < spans < logs <= 40
    statistics = running.statistics
    assert statistics.requests_dropped == statistics.dropped_logs + statistics.dropped_spans
    assert statistics.dropped_spans == 40 - spans
    assert statistics.dropped_logs == 40 - len(lines_of_program(sink))


def test_too_many_threads_are_not_recorded(sink: RecordingSink) -> None:
    with Telemetry("http://unused", sink=sink, limits=Limits(threads_max=2), flush_interval_s=60) as running:
        stop = threading.Event()

        def work() -> None:
            log("t", 4, "x")
            with span("s"):
                integer_metric("m", 1)
                stop.wait(5)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        stop.set()
        for thread in threads:
            thread.join()

    assert len(lines_of_program(sink)) == 2
    statistics = running.statistics
    assert statistics.dropped_threads == 2
    assert (statistics.dropped_logs, statistics.dropped_metrics, statistics.dropped_spans) == (2, 2, 2)


# --- sending ---


def test_requests_reach_a_server_over_one_connection() -> None:
    with fake_ingestion() as server:
        with Telemetry(server.endpoint + "/", api_key="secret", flush_interval_s=60) as running:
            for i in range(3):
                log("t", 4, str(i))
                assert running.flush()

        assert server.received.paths == ["insert_process", "insert_stream", *["insert_block"] * 3]
        assert server.received.requests[0][0] == "/ingestion/insert_process"
        assert server.connections == 1
        assert {headers["Authorization"] for headers in server.received.headers} == {"Bearer secret"}
        assert {headers["x-telemetry-process"] for headers in server.received.headers} == {running.process_id}
        assert running.statistics.blocks_sent == 3


def test_a_connection_the_server_closed_is_opened_again_without_a_retry() -> None:
    with fake_ingestion(keep_alive=False) as server:
        with Telemetry(server.endpoint, flush_interval_s=60) as running:
            log("t", 4, "x")

        assert server.received.paths == ["insert_process", "insert_stream", "insert_block"]
        assert running.statistics.requests_retried == 0


def test_5xx_is_tried_again_and_4xx_is_final() -> None:
    with fake_ingestion([200, 200, 503, 500, 200]) as server:
        with Telemetry(server.endpoint, flush_interval_s=60) as running:
            log("t", 4, "x")
            assert running.flush()
            server.statuses.append(429)
            log("t", 4, "y")
            assert not running.flush()
            log("t", 4, "z")
            assert running.flush()

        assert [line[2] for line in server.received.log_lines()][:2] == ["x", "z"]
        assert running.statistics.requests_retried == 2
        assert running.statistics.requests_refused == 1


def test_classes_are_tried_as_often_as_the_original_tries_them() -> None:
    def answer(path: str, _: int) -> Outcome:
        return Outcome.FAILED if path.endswith("insert_block") else Outcome.DELIVERED

    sink = RecordingSink(answer)
    running = Telemetry("http://unused", sink=sink, flush_interval_s=60).install()
    with span("s"):
        integer_metric("m", 1)

    assert not running.flush()
    running.close()

    blocks = [when for path, when in sink.attempts if path.endswith("insert_block")]
    blocks = blocks[: 3 + 2]  # metrics have two more tries, spans one; then comes the line that says so
    assert 0.01 <= blocks[1] - blocks[0] < 0.1 <= blocks[2] - blocks[1]
    assert (running.statistics.dropped_metrics, running.statistics.dropped_spans) == (1, 1)


def test_a_server_that_comes_late_gets_everything() -> None:
    up = threading.Event()
    sink = RecordingSink(lambda *_: Outcome.DELIVERED if up.is_set() else Outcome.FAILED)
    with Telemetry("http://unused", sink=sink, flush_interval_s=60) as running:
        log("t", 4, "early")
        assert not running.flush(0.3)
        up.set()
        assert running.flush(5)

    assert [line[2] for line in sink.received.log_lines()] == ["early"]


def test_close_gives_up_on_a_server_that_is_away() -> None:
    sink = HttpSink(f"http://{REFUSED}")
    running = Telemetry("http://unused", sink=sink, flush_interval_s=60).install()
    log("t", 4, "x")
    begun = time.monotonic()

    assert not running.close()

    assert time.monotonic() - begun < 2
    assert running.statistics.requests_dropped == 3
    assert running.statistics.dropped_logs == 1


def test_close_does_not_wait_for_a_server_that_hangs() -> None:
    with fake_ingestion() as server:
        server.delay_s = 3
        running = Telemetry(server.endpoint, flush_interval_s=60).install()
        log("t", 4, "x")
        begun = time.monotonic()

        assert not running.close(timeout_s=0.5)

        assert time.monotonic() - begun < 2


@pytest.mark.parametrize(
    "endpoint",
    [
        *("ftp://host", "", "http://", "http:/host", "//host:9000", "a host:9000", "http://host:"),
        *("http://host:port", "http://host:99999", "http://host:0", "http://[::1", "http://user:secret@host"),
        *("http://host/?tenant=1", "http://host/#there", "http://host/a b", "http://host\r\nEvil: 1", None),
    ],
)
def test_an_endpoint_that_is_none_is_refused_whatever_is_wrong_with_it(endpoint: str) -> None:
    with pytest.raises(ValueError, match=r"^not an http endpoint: .*; say http://HOST:PORT"):
        Telemetry(endpoint)


@pytest.mark.parametrize(
    "endpoint", ["http://host", "host:9000", "https://lake.example.org/base/", "http://[::1]:9000", "HTTP://host_1:80"]
)
def test_an_endpoint_needs_no_more_than_a_host(endpoint: str) -> None:
    assert Telemetry(endpoint).endpoint == endpoint


def test_an_address_without_a_scheme_is_one_of_http() -> None:
    with fake_ingestion() as server:
        running = Telemetry(server.endpoint.removeprefix("http://"), flush_interval_s=60).install()
        log("t", 4, "x")

        assert running.close()
        assert [line[2] for line in server.received.log_lines()] == ["x"]


# --- end and fork ---


def test_what_is_installed_stays_though_nobody_has_a_name_for_it(sink: RecordingSink) -> None:
    Telemetry("http://unused", sink=sink, flush_interval_s=0.01).install()
    gc.collect()
    log("t", 4, "x")

    deadline = time.monotonic() + 5
    while not sink.received.log_lines() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert sink.received.log_lines() == [("t", 4, "x", "{}")]


def _run_program(source: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", source, *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def test_the_end_of_a_program_sends_what_is_left() -> None:
    source = """
import logging, sys
from lakeflight.telemetry import Telemetry
telemetry = Telemetry(sys.argv[1]).install()
logging.getLogger().addHandler(telemetry.logging_handler())
logging.warning("last words")
"""
    with fake_ingestion() as server:
        finished = _run_program(source, server.endpoint)

        assert (finished.returncode, finished.stdout, finished.stderr) == (0, "", "")
        assert [line[2] for line in server.received.log_lines()] == ["last words"]


_ONE_AFTER_ANOTHER = """
import sys
from lakeflight.telemetry import Telemetry, integer_metric, log, span

def work(n):
    telemetry = Telemetry(sys.argv[1], flush_interval_s=60).install()
    log("t", 4, f"line {n}")
    integer_metric("n", n)
    with span("s"):
        pass
"""


@pytest.mark.parametrize(
    "program",
    [
        "for n in range(3): work(n)",
        "import os\nfor n in range(3):\n  work(n)\n  child = os.fork()\n  if not child: os._exit(0)\n  os.waitpid(child, 0)",
        "from multiprocessing import get_context\nfrom concurrent.futures import ProcessPoolExecutor\n"
        'with ProcessPoolExecutor(1, mp_context=get_context("fork")) as pool: list(pool.map(work, range(3)))',
    ],
    ids=["a loop", "with forks between", "a worker of a pool"],
)
def test_one_that_is_replaced_and_forgotten_sends_what_it_recorded(program: str) -> None:
    with fake_ingestion() as server:
        finished = _run_program(_ONE_AFTER_ANOTHER + program, server.endpoint)

        assert (finished.returncode, finished.stderr) == (0, "")
        assert _texts(server) == ["line 0", "line 1", "line 2"]
        assert sorted(row[2] for row in server.received.measures()) == [0.0, 1.0, 2.0]
        assert server.received.thread_spans() == [("begin", "s"), ("end", "s")] * 3
        assert len({process.process_id for process in server.received.processes()}) == 3


def test_one_that_is_replaced_and_forgotten_leaves_no_thread_behind(sink: RecordingSink) -> None:
    threads = threading.active_count()
    for n in range(5):
        Telemetry("http://unused", sink=sink, flush_interval_s=60).install()
        log("t", 4, f"{n}")

    deadline = time.monotonic() + 20
    while threading.active_count() > threads + 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= threads + 2  # of the one that is installed
    assert sorted(line[2] for line in sink.received.log_lines()) == ["0", "1", "2", "3"]


def test_those_that_are_replaced_complain_of_a_server_that_is_away_with_one_line() -> None:
    finished = _run_program(_ONE_AFTER_ANOTHER + "for n in range(3): work(n)\nlog('t', 4, 'x')", f"http://{REFUSED}")

    assert finished.returncode == 0
    complaints = finished.stderr.splitlines()
    assert 1 <= len(complaints) <= 3  # at most one each of the installed, those that ended before it, and after
    assert all(line.startswith(f"lakeflight telemetry: cannot send to http://{REFUSED}: ") for line in complaints)


def test_a_handler_records_into_the_telemetry_that_made_it() -> None:
    one, other = RecordingSink(), RecordingSink()
    logger = logging.Logger("app", logging.DEBUG)
    handed_out = Telemetry("http://unused", sink=one, flush_interval_s=60)  # never installed
    logger.addHandler(handed_out.logging_handler())
    logger.warning("before")
    with Telemetry("http://unused", sink=other, flush_interval_s=60):
        logger.warning("while another is installed")
        log("app", 4, "of the program")
    assert handed_out.flush()
    assert handed_out.close()
    logger.warning("after the end")

    assert [line[2] for line in one.received.log_lines()] == ["before", "while another is installed"]
    assert [line[2] for line in other.received.log_lines()] == ["of the program"]


def test_a_handler_keeps_its_telemetry(sink: RecordingSink) -> None:
    source = """
import logging, sys
from lakeflight.telemetry import Telemetry
logging.getLogger().addHandler(Telemetry(sys.argv[1]).logging_handler())
logging.warning("last words")
"""
    with fake_ingestion() as server:
        finished = _run_program(source, server.endpoint)

        assert (finished.returncode, finished.stderr) == (0, "")
        assert _texts(server) == ["last words"]


def test_a_program_without_a_server_ends_soon_and_with_one_line() -> None:
    source = """
import sys, time
from lakeflight.telemetry import Telemetry, log
Telemetry(sys.argv[1]).install()
log("t", 4, "into the void")
"""
    begun = time.monotonic()
    finished = _run_program(source, f"http://{REFUSED}")

    assert (finished.returncode, finished.stdout) == (0, "")
    assert finished.stderr == (
        f"lakeflight telemetry: cannot send to http://{REFUSED}: connection refused;"
        " 1 log lines, 0 metrics, 0 spans lost\n"
    )
    assert time.monotonic() - begun < 5


def test_a_forked_child_is_a_process_of_its_own() -> None:
    source = """
import os, sys
from lakeflight.telemetry import Telemetry, log, span
telemetry = Telemetry(sys.argv[1], exe="forking").install()
with span("around the fork"):
    log("t", 4, "parent before")
    child = os.fork()
    if child == 0:
        log("t", 4, "child")
if child == 0:
    with span("child span"):
        pass
    assert telemetry.flush()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
log("t", 4, "parent after")
"""
    with fake_ingestion() as server:
        finished = _run_program(source, server.endpoint)

        assert (finished.returncode, finished.stderr) == (0, "")
        by_parent = {process.parent_process_id: process.process_id for process in server.received.processes()}
        parent = by_parent[None]
        child = by_parent[parent]
        lines = [(block.process_id, server.received.logs_of(block)) for block in server.received.blocks("log")]
        texts: dict[str, list[Any]] = {parent: [], child: []}
        for process_id, events in lines:
            texts[process_id] += events.msg.to_pylist()
        assert texts == {parent: ["parent before", "parent after"], child: ["child"]}
        spans = {block.process_id: server.received.spans_of(block) for block in server.received.blocks("cpu")}
        names = {
            process_id: [events.scopes[code].name for code in events.scope] for process_id, events in spans.items()
        }
        assert names == {parent: ["around the fork"] * 2, child: ["child span"] * 2}


def test_a_forked_child_may_be_told_to_keep_silent() -> None:
    source = """
import os, sys
from lakeflight.telemetry import Telemetry, log
telemetry = Telemetry(sys.argv[1], after_fork="disable").install()
log("t", 4, "parent")
child = os.fork()
if child == 0:
    log("t", 4, "child")
    sys.exit(0)
os.waitpid(child, 0)
"""
    with fake_ingestion() as server:
        finished = _run_program(source, server.endpoint)

        assert (finished.returncode, finished.stderr) == (0, "")
        assert [line[2] for line in server.received.log_lines()] == ["parent"]


_CHILD = """
import multiprocessing, os, sys
from lakeflight.telemetry import Telemetry, integer_metric, log, span, span_fn

@span_fn
def work(n):
    log("t", 4, f"child {n}")
    integer_metric("n", n)

if __name__ == "__main__":
    telemetry = Telemetry(sys.argv[1], flush_interval_s=60).install()
    context = multiprocessing.get_context(sys.argv[2])
    log("t", 4, "parent")
"""


def _texts(server: FakeIngestion) -> list[str]:
    return sorted(line[2] for line in server.received.log_lines())


def test_a_child_of_multiprocessing_sends_what_is_left_at_its_end() -> None:
    source = (
        _CHILD
        + """
    children = [context.Process(target=work, args=(n,)) for n in range(2)]
    for child in children: child.start()
    for child in children: child.join()
"""
    )
    with fake_ingestion() as server:
        finished = _run_program(source, server.endpoint, "fork")

        assert (finished.returncode, finished.stderr) == (0, "")
        assert _texts(server) == ["child 0", "child 1", "parent"]
        assert sorted(row[2] for row in server.received.measures()) == [0.0, 1.0]
        assert server.received.thread_spans() == [("begin", "work"), ("end", "work")] * 2


def test_so_do_the_workers_of_a_pool() -> None:
    source = (
        _CHILD
        + """
    from concurrent.futures import ProcessPoolExecutor
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        list(pool.map(work, range(4)))
    pool = context.Pool(2)
    pool.map(work, range(4, 8))
    pool.close()
    pool.join()
"""
    )
    with fake_ingestion() as server:
        finished = _run_program(source, server.endpoint, "fork")

        assert (finished.returncode, finished.stderr) == (0, "")
        assert _texts(server) == [*(f"child {n}" for n in range(8)), "parent"]


@pytest.mark.parametrize("imported", ["before", "after"])
def test_children_of_children_send_too_and_each_is_registered_once(imported: str) -> None:
    source = """
import sys
if sys.argv[2] == "before":
    import multiprocessing.util
from lakeflight.telemetry import Telemetry, log
Telemetry(sys.argv[1], flush_interval_s=60).install()
import multiprocessing, multiprocessing.util

def work(depth):
    log("t", 4, f"child {depth}")
    print(len(multiprocessing.util._afterfork_registry), len(multiprocessing.util._finalizer_registry), flush=True)
    if depth < 4:
        child = multiprocessing.get_context("fork").Process(target=work, args=(depth + 1,))
        child.start()
        child.join()

child = multiprocessing.get_context("fork").Process(target=work, args=(1,))
child.start()
child.join()
"""
    with fake_ingestion() as server:
        finished = _run_program(source, server.endpoint, imported)

        assert (finished.returncode, finished.stderr) == (0, "")
        assert finished.stdout.splitlines() == ["1 1"] * 4
        assert _texts(server) == [f"child {depth}" for depth in (1, 2, 3, 4)]


def test_a_span_that_is_open_at_a_fork_does_not_lock_up_the_child() -> None:
    source = """
import os, sys, threading
from lakeflight.telemetry import Telemetry, async_span, log, span
telemetry = Telemetry(sys.argv[1], flush_interval_s=60).install()
begun, made, made_async = async_span("begun"), span("made"), async_span("made")
begun.__enter__()

def end():
    begun.__exit__(None, None, None)
    for late in made, made_async:
        with late:
            pass
    log("t", 4, "child")

def fork():
    global status
    child = os.fork()
    if child == 0:
        ending = threading.Thread(target=end, daemon=True)
        ending.start()
        ending.join(5)
        os._exit(1 if ending.is_alive() or not telemetry.flush() else 0)
    status = os.waitpid(child, 0)[1]

with telemetry.current_run.recorder._lock, telemetry.current_run._start_lock:
    forking = threading.Thread(target=fork)
    forking.start()
    forking.join()
begun.__exit__(None, None, None)
sys.exit(status)
"""
    with fake_ingestion() as server:
        finished = _run_program(source, server.endpoint)

        assert (finished.returncode, finished.stderr) == (0, "")
        assert _texts(server) == ["child"]
        assert len(server.received.blocks("cpu")) == 1  # of the parent


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_child_that_begins_anew_may_have_a_telemetry_of_its_own(tmp_path: Path, method: str) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        """
import multiprocessing, sys
from lakeflight.telemetry import Telemetry, log

def work(endpoint):
    Telemetry(endpoint, flush_interval_s=60).install()
    log("t", 4, "child")

if __name__ == "__main__":
    child = multiprocessing.get_context(sys.argv[2]).Process(target=work, args=(sys.argv[1],))
    child.start()
    child.join()
"""
    )
    with fake_ingestion() as server:
        finished = subprocess.run(
            [sys.executable, str(program), server.endpoint, method],
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )

        assert (finished.returncode, finished.stderr) == (0, "")
        assert _texts(server) == ["child"]


def test_sigterm_can_be_made_an_orderly_end() -> None:
    source = """
import os, signal, sys
from lakeflight.telemetry import Telemetry, log
Telemetry(sys.argv[1], flush_interval_s=60).install()
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
log("t", 4, "last words")
os.kill(os.getpid(), signal.SIGTERM)
"""
    with fake_ingestion() as server:
        finished = _run_program(source, server.endpoint)

        assert (finished.returncode, finished.stderr) == (0, "")
        assert _texts(server) == ["last words"]


# --- what is lost is said ---


def test_what_was_lost_is_a_line_in_the_lake(sink: RecordingSink) -> None:
    limits = Limits(logs_per_thread_max=3, tagged_metrics_per_thread_max=1, span_bytes_per_thread_max=34)
    running = Telemetry("http://unused", sink=sink, flush_interval_s=60, limits=limits).install()
    with held_back(running):
        for i in range(5):
            log("t", 4, f"{i}")
            integer_metric("m", i, properties={"p": i})
            with span("s"):
                pass
    running.close()

    [(target, level, message, properties)] = [line for line in sink.received.log_lines() if line[0] != "t"]
    assert (target, level) == ("lakeflight.telemetry", 3)
    assert message == "telemetry lost since the start: 2 log lines, 4 metrics, 4 spans"
    assert json.loads(properties) == {"logs": "2", "metrics": "4", "spans": "4"}


def test_a_server_that_is_away_is_complained_of_once(capfd: pytest.CaptureFixture[str]) -> None:
    running = Telemetry(f"http://{REFUSED}", flush_interval_s=60).install()
    for _ in range(3):
        log("t", 4, "x")
        assert not running.flush(0.5)
    running.close()

    assert capfd.readouterr().err == (
        f"lakeflight telemetry: cannot send to http://{REFUSED}: connection refused;"
        " it is tried again; what does not fit into memory meanwhile is lost\n"
    )


def test_a_refusal_is_complained_of_once(capfd: pytest.CaptureFixture[str]) -> None:
    with fake_ingestion([401] * 20) as server, Telemetry(server.endpoint, flush_interval_s=60) as running:
        for _ in range(2):
            log("t", 4, "x")
            assert not running.flush()
        assert running.statistics.dropped_logs == 2

    assert capfd.readouterr().err == (
        f"lakeflight telemetry: cannot send to {server.endpoint}: the answer was 401 Unauthorized;"
        " this will not be tried again\n"
    )


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"\x00\x00\x18\x04\x00\x1b[31m" * 9, "this is not the ingestion port: what answers there is no HTTP/1.1"),
        (
            b"HTTP/1.1 404 No\x1b[31m\r\ncontent-length: 0\r\n\r\n",
            r"the answer was 404 No\x1b[31m: is this the ingestion port?",
        ),
        (b"HTTP/1.1 400 " + b"x" * 60000 + b"\r\ncontent-length: 0\r\n\r\n", "the answer was 400 " + "x" * 200),
    ],
)
def test_what_a_stranger_answers_is_said_short_and_printable(
    answer: bytes, said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.1)
        done = threading.Event()

        def serve() -> None:
            while not done.is_set():
                with suppress(OSError), listener.accept()[0] as peer:
                    peer.settimeout(5)
                    peer.recv(1 << 20)
                    peer.sendall(answer)

        stranger = threading.Thread(target=serve)
        stranger.start()
        try:
            running = Telemetry(f"http://127.0.0.1:{listener.getsockname()[1]}", flush_interval_s=60).install()
            log("t", 4, "x")
            running.flush(0.5)
            running.close(5)
        finally:
            done.set()
            stranger.join()

    (line,) = capfd.readouterr().err.splitlines()
    assert f": {said}; " in line


@pytest.mark.parametrize("broken", [None, "a word"])
def test_a_program_whose_standard_error_is_gone_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, broken: str | None
) -> None:
    running = Telemetry(f"http://{REFUSED}", flush_interval_s=60).install()
    monkeypatch.setattr(sys, "stderr", broken)
    log("t", 4, "x")

    assert not running.close()


def test_a_text_that_is_cut_says_so(telemetry: Telemetry, sink: RecordingSink, logger: logging.Logger) -> None:
    logger.info("m" * 262_145, extra={"long": "v" * 70_000, "just": "w" * 65_536})
    logger.info("n" * 262_144)

    telemetry.flush()
    (_, _, cut, text), (_, _, whole, _) = sink.received.log_lines()
    properties = json.loads(text)
    assert 262_100 < len(cut) <= 262_144
    assert cut.endswith(f"m… ({262_145 - cut.count('m')} characters left out)")
    assert whole == "n" * 262_144
    assert 65_500 < len(properties["long"]) <= 65_536
    assert properties["long"].endswith(f"v… ({70_000 - properties['long'].count('v')} characters left out)")
    assert properties["just"] == "w" * 65_536
