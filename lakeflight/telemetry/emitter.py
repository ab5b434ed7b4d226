"""The telemetry of one process: what it recorded, encoded in blocks and brought to an ingestion server.

Two daemon threads do the work. One takes what the program's threads have recorded, every few seconds, and makes blocks
of it: one stream of logs, one of metrics, one of spans per thread. The other sends: process and streams before blocks,
then logs, metrics, spans. A server that is slow or away costs the program nothing but telemetry: every queue has a
limit, what is lost is counted in ``statistics``, and the lake is told in a log line of ``lakeflight.telemetry``.

After a fork the child is a process of its own, with the parent's id as its parent. The end of a program sends what is
left, and so does that of a child of ``multiprocessing``; one that ends by a signal or by ``os._exit`` must ``flush``
before. A ``Telemetry`` that was replaced and that nobody refers to any more sends what it has, and its threads end.
Refuses to raise into the program, to record what its own threads do, to outlive the program by more than a few
seconds, and to print more than one line an hour and one about what it could not record.
"""

from __future__ import annotations

import atexit
import os
import sys
import weakref
from collections.abc import Mapping
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Final, Literal

from lakeflight.telemetry import metrics as _metrics
from lakeflight.telemetry import recorder as _recorder
from lakeflight.telemetry import spans as _spans
from lakeflight.telemetry.host import parent_process_id
from lakeflight.telemetry.logging_handler import TelemetryHandler
from lakeflight.telemetry.outbox import Statistics
from lakeflight.telemetry.recorder import Limits, Recorder
from lakeflight.telemetry.run import Program, Run
from lakeflight.telemetry.sink import HttpSink, Sink

CLOSE_TIMEOUT_S: Final = 5.0
_AFTER_EVERYTHING: Final = -100  # a priority of multiprocessing's finalizers: others may still log


class Telemetry:
    """Logs, metrics and spans of this process, on their way to ``endpoint``.

    Used as a context manager, or with ``install`` and, at the end, ``close`` (which the end of the program calls too)::

        telemetry = Telemetry("http://127.0.0.1:9000", exe="billing", properties={"version": "1.2"})
        telemetry.install()
        logging.getLogger().addHandler(telemetry.logging_handler())
    """

    def __init__(
        self,
        endpoint: str,
        *,
        exe: str | None = None,
        properties: Mapping[str, str] | None = None,
        flush_interval_s: float = 5.0,
        limits: Limits | None = None,
        api_key: str | None = None,
        sink: Sink | None = None,
        after_fork: Literal["restart", "disable"] = "restart",
    ) -> None:
        """``ValueError`` if ``endpoint`` is no address of HTTP; nothing else here fails, and nothing is sent before an event.

        Args:
            endpoint: ``http://HOST:PORT`` of the ingestion server, without ``/ingestion``; ``http://`` may be left out.
            sink: Takes requests instead of ``endpoint``.
            exe: Name of the program, its file name if not given.  properties: Of the process, beside what is known.
            after_fork: Whether a forked child records under an id of its own, or not at all.
        """
        self.endpoint = endpoint
        self.exe = exe or Path(sys.argv[0] or sys.executable or "python").name or "python"
        self.properties = dict(properties or {})
        self.flush_interval_s = flush_interval_s
        self.limits = limits or Limits()
        self._api_key = api_key
        self._given_sink = sink
        self._after_fork = after_fork
        self._closes_with_children = False
        self.current_run = self._begin(parent_process_id())
        self._closed = False
        _instances.add(self)
        atexit.register(_close_at_exit, weakref.ref(self))
        _close_with_child(self)
        self._close_with_children()

    @property
    def process_id(self) -> str:
        return self.current_run.process_id

    @property
    def statistics(self) -> Statistics:
        """Counters since the start of this process."""
        return self.current_run.snapshot()

    def install(self) -> Telemetry:
        """Record what this process's spans, metrics and log handlers say from now on."""
        global _installed
        if not self._closed:
            _recorder.install(self.current_run.recorder)
            _installed = self
            _close_retired(only_ended=True)
        return self

    def logging_handler(self, level: int = 0) -> TelemetryHandler:
        """A handler to add to a logger. Its lines are recorded here, whoever is installed, until ``close``."""
        return TelemetryHandler(level, self._recorder_in_use)

    def _recorder_in_use(self) -> Recorder | None:
        return None if self._closed else self.current_run.recorder

    def flush(self, timeout_s: float = CLOSE_TIMEOUT_S) -> bool:
        """Send what has been recorded so far; true if the server has taken all of it in time."""
        return self.current_run.flush(timeout_s)

    def close(self, timeout_s: float = CLOSE_TIMEOUT_S) -> bool:
        """Send what is left, for at most ``timeout_s``, and stop; true if the server has taken all of it in time."""
        global _installed
        if _recorder.current is self.current_run.recorder:
            _recorder.install(None)
        if _installed is self:
            _installed = None
        if self._closed:
            return True
        self._closed = True
        return self.current_run.close(timeout_s)

    def __enter__(self) -> Telemetry:
        return self.install()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        """Nobody can close this any more; what it has recorded is sent all the same."""
        if not getattr(self, "_closed", True) and self.current_run.recorder.threads():
            self.current_run.retire(CLOSE_TIMEOUT_S)
            _retired.add(self.current_run)

    def _begin(self, parent_process_id: str | None) -> Run:
        program = Program(self.endpoint, self.exe, dict(self.properties), self.flush_interval_s, self.limits)
        sink = self._given_sink or HttpSink(self.endpoint, api_key=self._api_key)
        return Run(program, sink, parent_process_id)

    def continue_in_child(self) -> None:
        """In a forked child: nothing of the parent's run may be touched, its locks may be held for ever."""
        before = self.current_run
        was_current = _recorder.current is before.recorder
        if self._after_fork == "disable" or self._closed:
            self._closed = True
            if was_current:
                _recorder.install(None)
            return
        self.current_run = self._begin(before.process_id)
        self.current_run.next_complaint = before.next_complaint
        self._close_with_children()
        if was_current:
            _recorder.install(self.current_run.recorder)

    def _close_with_children(self) -> None:
        """Register once for what this process forks; a child inherits that, and that it was done.

        In a forked child once more, because ``multiprocessing`` may have been imported since: none of its children can
        begin before, and this may be one of them.
        """
        util = sys.modules.get("multiprocessing.util")
        if util is not None and not self._closes_with_children:
            self._closes_with_children = True
            util.register_after_fork(self, _close_with_child)


_instances: Final[weakref.WeakSet[Telemetry]] = weakref.WeakSet()
_installed: Telemetry | None = None  # kept, though the program may have kept no name for it
_retired: Final[set[Run]] = set()  # of those that are gone; kept until they have sent what they had


def _close_at_exit(reference: weakref.ref[Telemetry]) -> None:
    telemetry = reference()
    if telemetry is not None:
        telemetry.close()
    else:
        _close_retired()


def _close_retired(*, only_ended: bool = False) -> None:
    """Wait for them, all together no longer than for one; what they lost is said once for an endpoint."""
    deadline = monotonic() + CLOSE_TIMEOUT_S
    said: dict[str, float] = {}
    for run in list(_retired):
        if only_ended and not run.has_ended:
            continue
        _retired.discard(run)
        run.next_complaint = max(run.next_complaint, said.get(run.endpoint, 0.0))
        run.close(max(0.0, deadline - monotonic()))
        said[run.endpoint] = run.next_complaint


def _close_with_child(telemetry: Telemetry) -> None:
    """Send what is left at the end of a child of ``multiprocessing`` too: it ends by ``os._exit``, without ``atexit``.

    Such a child forgets its finalizers when it begins, and then runs what was registered for after the fork.
    """
    util = sys.modules.get("multiprocessing.util")
    if util is not None:  # else this is none of its children
        util.Finalize(None, _close_at_exit, (weakref.ref(telemetry),), exitpriority=_AFTER_EVERYTHING)


def _after_fork_in_child() -> None:
    _spans.renew_lock()
    _metrics.renew_lock()
    _retired.clear()  # they are the parent's to send
    for telemetry in list(_instances):
        telemetry.continue_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
