"""Spans: how long something took, on which thread, inside of what.

``span`` and ``span_fn`` are for code that runs on one thread from begin to end; they nest as calls do, and become the
call tree of the thread. ``async_span`` is for what waits in between: such spans overlap on one thread, so they carry
ids and a parent instead. Without a recorder in use all of them do nothing.

Names given to ``span`` should be part of the program; those that are made at run time belong into ``named_span``.
There is room for a bounded number of either, after which spans share one name.
"""

from __future__ import annotations

import functools
import inspect
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar, Token
from itertools import count
from struct import Struct
from time import perf_counter_ns
from types import FrameType, TracebackType
from typing import Any, Final, ParamSpec, TypeVar, overload

import numpy as np

from client.telemetry import recorder as _recorder
from client.telemetry.recorder import Recorder, is_suppressed
from wire.transit.writer import BEGIN, END, NamedSpan, Scope, SpanLocation, SpanMetadata

P = ParamSpec("P")
R = TypeVar("R")

SCOPES_MAX: Final = 65_536  # names times places; each is described once and kept as long as the process runs
_SHARED_NAME: Final = "(too many names)"

SPAN_RECORD: Final = np.dtype([("kind", "u1"), ("code", "<i8"), ("ticks", "<i8")])
ASYNC_SPAN_RECORD: Final = np.dtype(
    [
        ("kind", "u1"),
        ("code", "<i8"),
        ("ticks", "<i8"),
        ("span_id", "<u8"),
        ("parent_span_id", "<u8"),
        ("depth", "<u4"),
    ]
)
_pack: Final = Struct("<Bqq").pack
_pack_async: Final = Struct("<BqqQQI").pack

# codes are positions in the table; both only grow, so a reader needs no lock
scopes: Final[list[Scope]] = []
_codes: Final[dict[tuple[object, ...], int]] = {}
_lock = threading.RLock()


def _code_of(key: tuple[object, ...], scope: Scope) -> int:
    with _lock:
        known = _codes.get(key)
        if known is not None:
            return known
        if len(scopes) >= SCOPES_MAX:
            key = (_SHARED_NAME,)
            if key in _codes:
                return _codes[key]
            scope = SpanMetadata(_SHARED_NAME)
        scopes.append(scope)
        code = _codes[key] = len(scopes) - 1
        return code


def renew_lock() -> None:
    """After a fork: another thread may have held the lock, and that thread is not here."""
    global _lock
    _lock = threading.RLock()


def _code_of_call(name: str, frame: FrameType) -> int:
    """The scope of a static name at a place in the program; the place is looked up once."""
    code = frame.f_code
    key = (name, code.co_filename, code.co_firstlineno, frame.f_lasti)
    known = _codes.get(key)
    if known is not None:
        return known
    module = str(frame.f_globals.get("__name__", ""))
    return _code_of(key, SpanMetadata(str(name), module, module, code.co_filename, frame.f_lineno))


def _code_of_named_call(name: str, frame: FrameType) -> int:
    code = frame.f_code
    key = (name, code.co_filename, code.co_firstlineno, frame.f_lasti, "named")
    known = _codes.get(key)
    if known is not None:
        return known
    module = str(frame.f_globals.get("__name__", ""))
    return _code_of(key, NamedSpan(str(name), SpanLocation(module, module, code.co_filename, frame.f_lineno)))


class _NullSpan:
    """Stands where nothing is recorded."""

    __slots__ = ()

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None

    async def __aenter__(self) -> None:
        return None

    async def __aexit__(self, *_: object) -> None:
        return None


_NULL: Final = _NullSpan()


class _ThreadSpan:
    __slots__ = ("_code", "_events", "_recorder")

    def __init__(self, recorder: Recorder, code: int) -> None:
        self._recorder = recorder
        self._code = code

    def __enter__(self) -> None:
        self._events = _begin(self._recorder, self._code)

    def __exit__(self, *_: object) -> None:
        events = self._events
        if events is not None:
            events += _pack(END, self._code, perf_counter_ns())


def _begin(recorder: Recorder, code: int) -> bytearray | None:
    """Record the begin of a span; where its end belongs, ``None`` if the begin was dropped."""
    buffers = recorder.buffers()
    if buffers is None:
        return None
    events = buffers.spans
    if len(events) >= recorder.span_wake_bytes and not recorder.admit_span(buffers, len(events)):
        return None
    events += _pack(BEGIN, code, perf_counter_ns())
    return events


def span(name: str) -> _ThreadSpan | _NullSpan:
    """``with span("load level"):`` a span of the calling thread. For code that does not await."""
    recorder = _recorder.current
    if recorder is None or is_suppressed():
        return _NULL
    try:
        return _ThreadSpan(recorder, _code_of_call(name, sys._getframe(1)))
    except Exception:  # a name that is no text
        recorder.errors += 1
        return _NULL


def named_span(name: str) -> _ThreadSpan | _NullSpan:
    """A span of the calling thread whose name is made at run time, from a bounded vocabulary."""
    recorder = _recorder.current
    if recorder is None or is_suppressed():
        return _NULL
    try:
        return _ThreadSpan(recorder, _code_of_named_call(name, sys._getframe(1)))
    except Exception:  # a name that is no text
        recorder.errors += 1
        return _NULL


# --- async ----------------------------------------------------------------------------------------------------------

_span_ids = count(1)
_parent: Final[ContextVar[tuple[int, int]]] = ContextVar("lakeflight_async_span", default=(0, -1))  # span id, depth


class _AsyncSpan:
    __slots__ = ("_code", "_depth", "_parent_id", "_recorder", "_span_id", "_token")

    def __init__(self, recorder: Recorder, code: int) -> None:
        self._recorder = recorder
        self._code = code

    def __enter__(self) -> None:
        self._span_id = next(_span_ids)
        self._parent_id, depth = _parent.get()
        self._depth = depth + 1
        self._token: Token[tuple[int, int]] = _parent.set((self._span_id, self._depth))
        self._record(BEGIN)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._record(END)
        with suppress(ValueError):  # closed in another context than it was opened in, as an abandoned generator is
            _parent.reset(self._token)

    async def __aenter__(self) -> None:
        self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, traceback)

    def _record(self, kind: int) -> None:
        buffers = self._recorder.buffers()
        if buffers is None:
            return
        events = buffers.async_spans
        if len(events) >= self._recorder.span_wake_bytes and not self._recorder.admit_span(buffers, len(events)):
            return
        events += _pack_async(kind, self._code, perf_counter_ns(), self._span_id, self._parent_id, self._depth)


def async_span(name: str) -> _AsyncSpan | _NullSpan:
    """``with async_span("request"):`` (or ``async with``) a span that may wait, and end on another thread."""
    recorder = _recorder.current
    if recorder is None or is_suppressed():
        return _NULL
    try:
        return _AsyncSpan(recorder, _code_of_call(name, sys._getframe(1)))
    except Exception:  # a name that is no text
        recorder.errors += 1
        return _NULL


def named_async_span(name: str) -> _AsyncSpan | _NullSpan:
    """An async span whose name is made at run time, from a bounded vocabulary."""
    recorder = _recorder.current
    if recorder is None or is_suppressed():
        return _NULL
    try:
        return _AsyncSpan(recorder, _code_of_named_call(name, sys._getframe(1)))
    except Exception:  # a name that is no text
        recorder.errors += 1
        return _NULL


# --- functions ------------------------------------------------------------------------------------------------------


@overload
def span_fn(function: Callable[P, R], /) -> Callable[P, R]: ...


@overload
def span_fn(*, name: str | None = None) -> Callable[[Callable[P, R]], Callable[P, R]]: ...


def span_fn(function: Callable[..., Any] | None = None, /, *, name: str | None = None) -> Callable[..., Any]:
    """Record every call of a function, under its qualified name or ``name``. Coroutine functions get async spans."""
    if function is None:
        return functools.partial(_decorate, name=name)
    return _decorate(function, name=name)


def _decorate(function: Callable[..., Any], *, name: str | None) -> Callable[..., Any]:
    label = str(name or getattr(function, "__qualname__", type(function).__name__))
    module = str(getattr(function, "__module__", None) or "")
    at = getattr(inspect.unwrap(function), "__code__", None)
    file, line = (at.co_filename, at.co_firstlineno) if at is not None else ("", 0)
    code = _code_of((label, module, file, line), SpanMetadata(label, module, module, file, line))

    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def call_async(*args: Any, **kwargs: Any) -> Any:
            recorder = _recorder.current
            if recorder is None or is_suppressed():
                return await function(*args, **kwargs)
            with _AsyncSpan(recorder, code):
                return await function(*args, **kwargs)

        return call_async

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        recorder = _recorder.current
        if recorder is None or is_suppressed():
            return function(*args, **kwargs)
        events = _begin(recorder, code)
        try:
            return function(*args, **kwargs)
        finally:
            if events is not None:
                events += _pack(END, code, perf_counter_ns())

    return call
