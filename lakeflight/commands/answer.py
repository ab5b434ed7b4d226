"""The answer to a statement, read on a thread of its own, so that progress can be drawn and Ctrl-C is heard meanwhile."""

from __future__ import annotations

import queue
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeAlias

if TYPE_CHECKING:
    import pyarrow as pa

    from lakeflight.connection import QueryStream

Told: TypeAlias = "Callable[[Mapping[str, Any] | None, float], str]"
_PROGRESS_AFTER_S: Final = 0.5
_PROGRESS_EVERY_S: Final = 0.2
_BATCHES_AHEAD: Final = 4


class Answer:
    """One statement at a time: ``stream`` first, then ``next_batch`` until it is ``None``."""

    def __init__(self, start: Callable[[], QueryStream], told: Told | None = None) -> None:
        """``told``: what its progress is as text, from what the server knows and the seconds since the start."""
        self._start = start
        self._items: queue.Queue[Any] = queue.Queue(_BATCHES_AHEAD)
        self._stopped = threading.Event()
        self._stream: QueryStream | None = None
        self._progress = _ProgressLine(told or progress_text) if sys.stderr.isatty() else None
        self._thread = threading.Thread(target=self._read, name="lakeflight-answer", daemon=True)

    def __enter__(self) -> Answer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._clear_progress()
        if self._thread.is_alive() and self._stream is not None:
            with suppress(Exception):
                self._stream.cancel()

    def stream(self) -> QueryStream:
        """Waits until the server has bound the statement."""
        opened: QueryStream = self._next()
        return opened

    def next_batch(self) -> pa.RecordBatch | None:
        return self._next()

    def _next(self) -> Any:
        begun = time.monotonic()
        while True:
            try:
                item = self._items.get(timeout=_PROGRESS_EVERY_S)
            except queue.Empty:
                if self._progress is not None and time.monotonic() - begun > _PROGRESS_AFTER_S:
                    self._progress.draw(self._stream)
                continue
            self._clear_progress()
            if isinstance(item, BaseException):
                raise item
            return item

    def _clear_progress(self) -> None:
        if self._progress is not None:
            self._progress.clear()

    def _read(self) -> None:
        try:
            stream = self._stream = self._start()
            self._put(stream)
            for batch in stream:
                if not self._put(batch):
                    stream.close()
                    return
            self._put(None)
        except BaseException as error:
            self._put(error)

    def _put(self, item: Any) -> bool:
        while not self._stopped.is_set():
            with suppress(queue.Full):
                self._items.put(item, timeout=0.1)
                return True
        return False


class _ProgressLine:
    """One line on a terminal that is drawn again and again while the server makes what the statement reads."""

    def __init__(self, told: Told) -> None:
        self._told = told
        self._begun = time.monotonic()
        self._drawn = False
        self._mute = False

    def draw(self, stream: QueryStream | None) -> None:
        known: Mapping[str, Any] | None = None
        if stream is not None and not self._mute:
            try:
                known = stream.progress()
            except Exception:  # progress is a courtesy
                self._mute = True
        elapsed = time.monotonic() - self._begun
        sys.stderr.write(f"\r\x1b[K{self._told(known, elapsed)}")
        sys.stderr.flush()
        self._drawn = True

    def clear(self) -> None:
        if self._drawn:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._drawn = False


def progress_text(known: Mapping[str, Any] | None, elapsed_s: float) -> str:
    """``making partitions 3/12 · 40 blocks · 18.2 MB · 2.1 s``, as much of it as is known."""
    parts = []
    numbers = {name: value for name, value in (known or {}).items() if isinstance(value, int) and value > 0}
    if "buckets" in numbers:
        parts.append(f"making partitions {numbers.get('buckets_done', 0)}/{numbers['buckets']}")
    else:
        parts.append("running")
    if "blocks" in numbers:
        parts.append(f"{numbers['blocks']:,} blocks")
    if "payload_bytes" in numbers:
        parts.append(f"{numbers['payload_bytes'] / 1e6:,.1f} MB")
    return " · ".join([*parts, f"{elapsed_s:.1f} s"])
