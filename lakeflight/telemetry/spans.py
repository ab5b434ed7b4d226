"""Spans: how long something took, on which thread, inside of what.

``span`` and ``span_fn`` are for code that runs on one thread from begin to end; they nest as calls do, and become the
call tree of the thread. ``async_span`` is for what waits in between: such spans overlap on one thread, so they carry
ids and a parent instead. Without a recorder in use all of them do nothing.

A span that a coroutine or a generator holds open is an async one whichever was asked for: while it is suspended, others
begin and end spans on the same thread, and the call tree would show calls that never were. What a coroutine calls is part
of the tree as ever, and so is what a generator does between two items if ``span_fn`` decorates it. Whose span it is, is
read off the frames: an event loop need not be known.

Names given to ``span`` should be part of the program; those that are made at run time belong into ``named_span``.
There is room for a bounded number of either, after which spans share one name.
"""

from __future__ import annotations

import functools
import inspect
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import suppress
from contextvars import ContextVar, Token
from itertools import count
from struct import Struct
from time import perf_counter_ns
from types import FrameType, TracebackType
from typing import Any, Final, ParamSpec, TypeAlias, TypeVar, overload

import numpy as np

from lakeflight.telemetry import recorder as _recorder
from lakeflight.telemetry.recorder import Recorder, is_suppressed
from lakeflight.wire.transit.writer import BEGIN, END, NamedSpan, Scope, SpanLocation, SpanMetadata

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

# codes are positions in the table; it and what refers to it only grow, so a reader needs no lock
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


_ITERATED: Final = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR
_SUSPENDABLE: Final = inspect.CO_COROUTINE | _ITERATED
_ENTERING: Final = frozenset({"__enter__", "__aenter__", "enter_context", "enter_async_context"})


class _Places:
    """The codes of one kind of scope by name and place in the program; each is looked up once."""

    def __init__(self, describe: Callable[[str, FrameType], Scope]) -> None:
        self._describe = describe
        self._codes: dict[tuple[object, ...], int] = {}
        self.plain: Final[dict[tuple[object, ...], int]] = {}  # those where a span ends before the function does

    def code(self, name: str, frame: FrameType) -> int:
        at = frame.f_code
        place = (name, at.co_filename, at.co_firstlineno, frame.f_lasti)
        code = self._codes.get(place)
        if code is None:
            code = _code_of((*place, self._describe), self._describe(str(name), frame))
            if len(self._codes) >= SCOPES_MAX:
                return code
            self._codes[place] = code
            if not at.co_flags & _SUSPENDABLE and at.co_name not in _ENTERING:
                self.plain[place] = code
        return code


def _describe_static(name: str, frame: FrameType) -> Scope:
    module = str(frame.f_globals.get("__name__", ""))
    return SpanMetadata(name, module, module, frame.f_code.co_filename, frame.f_lineno or 0)


def _describe_named(name: str, frame: FrameType) -> Scope:
    module = str(frame.f_globals.get("__name__", ""))
    return NamedSpan(name, SpanLocation(module, module, frame.f_code.co_filename, frame.f_lineno or 0))


_static: Final = _Places(_describe_static)
_named: Final = _Places(_describe_named)
_plain_static: Final = _static.plain
_plain_named: Final = _named.plain


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
    """Knows of each time it is open where the end belongs: to the thread, to an async span, or nowhere if the begin was
    dropped."""

    __slots__ = ("_code", "_open", "_recorder")
    _open: tuple[Any, bytearray | _AsyncSpan | None] | None  # the innermost, behind what was open before it

    def __init__(self, recorder: Recorder, code: int) -> None:
        self._recorder = recorder
        self._code = code
        self._open = None

    def __enter__(self) -> None:
        at = sys._getframe(1).f_code
        if (at.co_flags & _SUSPENDABLE or at.co_name in _ENTERING) and self._enter_instead(sys._getframe(1)):
            return
        # as in _begin: a call less is worth it here
        recorder = self._recorder
        try:
            buffers = recorder.local.buffers
        except AttributeError:
            buffers = recorder.buffers()
        if buffers is not None:
            events = buffers.spans
            if len(events) < recorder.span_wake_bytes or recorder.admit_span(buffers, len(events)):
                self._open = self._open, events
                events += _pack(BEGIN, self._code, perf_counter_ns())
                return
        else:
            recorder.dropped_spans += 1
        self._open = self._open, None

    def _enter_instead(self, frame: FrameType) -> bool:
        """Made in one place, held open in another, that may wait: true if an async span stands for this one."""
        instead = _span_held_by(frame, self._recorder, self._code)
        if isinstance(instead, _ThreadSpan):
            return False
        self._open = self._open, instead
        instead.__enter__()
        return True

    def __exit__(self, *_: object) -> None:
        if self._open is None:  # never entered
            return
        self._open, at = self._open
        if isinstance(at, bytearray):
            at += _pack(END, self._code, perf_counter_ns())
        elif at is not None:
            at.__exit__(None, None, None)

    async def __aenter__(self) -> None:
        self.__enter__()

    async def __aexit__(self, *_: object) -> None:
        self.__exit__()


def _begin(recorder: Recorder, code: int) -> bytearray | None:
    """Record the begin of a span; where its end belongs, ``None`` if the begin was dropped."""
    buffers = recorder.buffers()
    if buffers is None:
        recorder.dropped_spans += 1
        return None
    events = buffers.spans
    if len(events) >= recorder.span_wake_bytes and not recorder.admit_span(buffers, len(events)):
        return None
    events += _pack(BEGIN, code, perf_counter_ns())
    return events


def span(name: str) -> _ThreadSpan | _AsyncSpan | _NullSpan:
    """``with span("load level"):`` a span of the thread, or an async span where a coroutine or generator holds it open."""
    recorder = _recorder.current
    if recorder is None or is_suppressed():
        return _NULL
    try:
        frame = sys._getframe(1)
        at = frame.f_code
        code = _plain_static.get((name, at.co_filename, at.co_firstlineno, frame.f_lasti))
        if code is not None:
            return _ThreadSpan(recorder, code)
        return _span_held_by(frame, recorder, _static.code(name, frame))
    except Exception:  # a name that is no text
        recorder.errors += 1
        return _NULL


def named_span(name: str) -> _ThreadSpan | _AsyncSpan | _NullSpan:
    """A span like those of ``span`` whose name is made at run time, from a bounded vocabulary."""
    recorder = _recorder.current
    if recorder is None or is_suppressed():
        return _NULL
    try:
        frame = sys._getframe(1)
        at = frame.f_code
        code = _plain_named.get((name, at.co_filename, at.co_firstlineno, frame.f_lasti))
        if code is not None:
            return _ThreadSpan(recorder, code)
        return _span_held_by(frame, recorder, _named.code(name, frame))
    except Exception:  # a name that is no text
        recorder.errors += 1
        return _NULL


def _span_held_by(frame: FrameType, recorder: Recorder, code: int) -> _ThreadSpan | _AsyncSpan:
    holder = _flags_of_holder(frame)
    if not holder & _SUSPENDABLE:
        return _ThreadSpan(recorder, code)
    return _async_span_held_by(holder, recorder, code)


def _async_span_held_by(holder: int, recorder: Recorder, code: int) -> _AsyncSpan:
    return (_LooseSpan if holder & _ITERATED else _AsyncSpan)(recorder, code)


def _flags_of_holder(frame: FrameType) -> int:
    """Of the code that a span of ``frame`` stays open in.

    That is its own, or the caller's where it only enters something for it, as the body of a context manager does.
    """
    at = frame
    while (back := at.f_back) is not None:
        if at.f_code.co_name not in _ENTERING:
            is_body = at.f_code.co_flags & _ITERATED and back.f_code.co_name in _ENTERING
            if not is_body:
                break
        at = back
    return at.f_code.co_flags


# --- async ----------------------------------------------------------------------------------------------------------

_span_ids = count(1)
_parent: Final[ContextVar[tuple[int, int]]] = ContextVar("lakeflight_async_span", default=(0, -1))  # span id, depth


# one time that an async span is open: its id, its parent's, the depth, whether the begin was recorded, how to step back
_Opened: TypeAlias = tuple[int, int, int, bool, Token[tuple[int, int]] | None]


class _AsyncSpan:
    __slots__ = ("_code", "_open", "_recorder")

    def __init__(self, recorder: Recorder, code: int) -> None:
        self._recorder = recorder
        self._code = code
        self._open: dict[int, _Opened] = {}  # by span id: it may be entered again inside itself, or by another task

    def __enter__(self) -> None:
        span_id = next(_span_ids)
        parent_id, depth = _parent.get()
        depth += 1
        is_begun = self._record_begin(span_id, parent_id, depth)
        self._open[span_id] = span_id, parent_id, depth, is_begun, self._become_parent(span_id, depth)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        opened = self._open.pop(_parent.get()[0], None)
        if opened is None:  # it is nobody's parent, or was opened in another context: the last one then
            try:
                _, opened = self._open.popitem()
            except KeyError:  # never entered
                return
        span_id, parent_id, depth, is_begun, token = opened
        if is_begun:
            self._record_end(span_id, parent_id, depth)
        if token is not None:
            with suppress(ValueError):  # closed in another context than it was opened in, as an abandoned generator is
                _parent.reset(token)

    async def __aenter__(self) -> None:
        self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, traceback)

    def _become_parent(self, span_id: int, depth: int) -> Token[tuple[int, int]] | None:
        return _parent.set((span_id, depth))

    def _record_begin(self, span_id: int, parent_id: int, depth: int) -> bool:
        recorder = self._recorder
        buffers = recorder.buffers()
        if buffers is None:
            recorder.dropped_spans += 1
            return False
        events = buffers.async_spans
        if len(events) >= recorder.span_wake_bytes and not recorder.admit_span(buffers, len(events)):
            return False
        events += _pack_async(BEGIN, self._code, perf_counter_ns(), span_id, parent_id, depth)
        return True

    def _record_end(self, span_id: int, parent_id: int, depth: int) -> None:
        """By the thread that is at it now."""
        buffers = self._recorder.buffers()
        if buffers is not None:
            events = buffers.async_spans
            events += _pack_async(END, self._code, perf_counter_ns(), span_id, parent_id, depth)


class _LooseSpan(_AsyncSpan):
    """One that is nobody's parent: a generator shares the context of whoever iterates it, and several may take turns."""

    __slots__ = ()

    def _become_parent(self, span_id: int, depth: int) -> None:
        return None


def async_span(name: str) -> _AsyncSpan | _NullSpan:
    """``with async_span("request"):`` (or ``async with``) a span that may wait, and end on another thread."""
    recorder = _recorder.current
    if recorder is None or is_suppressed():
        return _NULL
    try:
        frame = sys._getframe(1)
        return _async_span_held_by(_flags_of_holder(frame), recorder, _static.code(name, frame))
    except Exception:  # a name that is no text
        recorder.errors += 1
        return _NULL


def named_async_span(name: str) -> _AsyncSpan | _NullSpan:
    """An async span whose name is made at run time, from a bounded vocabulary."""
    recorder = _recorder.current
    if recorder is None or is_suppressed():
        return _NULL
    try:
        frame = sys._getframe(1)
        return _async_span_held_by(_flags_of_holder(frame), recorder, _named.code(name, frame))
    except Exception:  # a name that is no text
        recorder.errors += 1
        return _NULL


# --- functions ------------------------------------------------------------------------------------------------------


@overload
def span_fn(name: str | None = None, /) -> Callable[[Callable[P, R]], Callable[P, R]]: ...


@overload
def span_fn(*, name: str | None = None) -> Callable[[Callable[P, R]], Callable[P, R]]: ...


@overload
def span_fn(function: Callable[P, R], /) -> Callable[P, R]: ...


def span_fn(function: Callable[..., Any] | str | None = None, /, *, name: str | None = None) -> Callable[..., Any]:
    """Record every call of a function, under its qualified name or ``name``.

    A generator function gets a span for each step, without what its caller does in between; coroutine functions and
    async generator functions get one async span from begin to end.

    Raises:
        TypeError: What is decorated is no function: a class, or a ``staticmethod``, ``classmethod`` or ``property``.
    """
    if isinstance(function, str):
        function, name = None, function
    if function is None:
        return functools.partial(_decorate, name=name)
    return _decorate(function, name=name)


def _decorate(function: Callable[..., Any], *, name: str | None) -> Callable[..., Any]:
    if isinstance(function, type | staticmethod) or not callable(function):
        kind = "a class" if isinstance(function, type) else f"a {type(function).__name__}"
        raise TypeError(
            f"span_fn decorates a function, not {kind}; below staticmethod, classmethod and property it does"
        )
    label = str(name or getattr(function, "__qualname__", type(function).__name__))
    module = str(getattr(function, "__module__", None) or "")
    at = getattr(inspect.unwrap(function), "__code__", None)
    file, line = (at.co_filename, at.co_firstlineno) if at is not None else ("", 0)
    code = _code_of((label, module, file, line), SpanMetadata(label, module, module, file, line))
    for is_kind, decorate in (
        (inspect.iscoroutinefunction, _decorate_coroutines),
        (inspect.isasyncgenfunction, _decorate_async_generators),
        (inspect.isgeneratorfunction, _decorate_generators),
    ):
        if is_kind(function):
            return functools.wraps(function)(decorate(function, code))

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


def _decorate_coroutines(function: Callable[..., Any], code: int) -> Callable[..., Any]:
    async def call(*args: Any, **kwargs: Any) -> Any:
        recorder = _recorder.current
        if recorder is None or is_suppressed():
            return await function(*args, **kwargs)
        with _AsyncSpan(recorder, code):
            return await function(*args, **kwargs)

    return call


def _decorate_generators(function: Callable[..., Any], code: int) -> Callable[..., Any]:
    def iterate(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        inner = function(*args, **kwargs)
        recorder = _recorder.current
        if recorder is None or is_suppressed():
            return (yield from inner)
        resume, given = inner.send, None
        while True:
            events = _begin(recorder, code)
            try:
                item = resume(given)
            except StopIteration as end:
                return end.value
            finally:
                if events is not None:
                    events += _pack(END, code, perf_counter_ns())
            try:
                resume, given = inner.send, (yield item)
            except GeneratorExit:
                inner.close()
                raise
            except BaseException as error:
                resume, given = inner.throw, error

    return iterate


def _decorate_async_generators(function: Callable[..., Any], code: int) -> Callable[..., Any]:
    async def iterate(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        inner = function(*args, **kwargs)
        recorder = _recorder.current
        with _NULL if recorder is None or is_suppressed() else _LooseSpan(recorder, code):
            resume, given = inner.asend, None
            while True:
                try:
                    item = await resume(given)
                except StopAsyncIteration:
                    return
                try:
                    resume, given = inner.asend, (yield item)
                except GeneratorExit:
                    await inner.aclose()
                    raise
                except BaseException as error:
                    resume, given = inner.athrow, error

    return iterate
