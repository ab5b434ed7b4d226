"""How a command speaks to its user: exit codes, complaints on standard error, and the end by a signal."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Final, TextIO

from lakeflight.printable import printable

OK: Final = 0
USAGE: Final = 2
FAILED: Final = 3
DENIED: Final = 4
UNAVAILABLE: Final = 5
INTERRUPTED: Final = 130


_ENDS: Final = (signal.SIGTERM, signal.SIGHUP)
_WORDS: Final[Mapping[int, str]] = {
    signal.SIGINT: "interrupted",
    signal.SIGTERM: "terminated",
    signal.SIGHUP: "the terminal is gone",
}


class UsageError(Exception):
    """What was asked for makes no sense; the message is for the user."""


def say(text: str) -> None:
    with suppress(OSError):
        sys.stderr.write(text + "\n")
        sys.stderr.flush()


def complain(text: str, code: int, program: str = "lakeflight query") -> int:
    say(f"{program}: {printable(text)}")
    return code


def silence(stream: TextIO) -> None:
    """After a reader has gone: what is still buffered goes nowhere, and the interpreter's last flush does not complain."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    except (OSError, ValueError):
        return


class Ended(BaseException):
    """The process was asked to end, by a signal; what is half done is to be taken away."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.code = 128 + number
        self.word = _WORDS[number]


@contextmanager
def ended_by_interrupts(program: str) -> Iterator[None]:
    """While libraries load, a signal ends the process with one line: an exception would turn up in the middle of an import."""

    def end(number: int, _: object) -> None:
        with suppress(OSError):
            os.write(2, f"{program}: {_WORDS[number]}\n".encode())
        os._exit(128 + number)

    with _handled(end, (signal.SIGINT, *_ENDS)):
        yield


@contextmanager
def ends_raised() -> Iterator[None]:
    """As Ctrl-C is a ``KeyboardInterrupt``, other signals to end are an ``Ended``. The first counts: it may come to a whole group twice.

    Raises:
        Ended: One came.
    """

    def end(number: int, _: object) -> None:
        for other in _ENDS:
            signal.signal(other, signal.SIG_IGN)
        raise Ended(number)

    with _handled(end, _ENDS):
        yield


@contextmanager
def _handled(handler: Callable[[int, object], None], numbers: Iterable[int]) -> Iterator[None]:
    """Where nobody else has decided: a signal may be ignored, as under ``nohup``, or be somebody else's."""
    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.getsignal(number) for number in numbers}
    ours = {number: old for number, old in before.items() if old in (signal.SIG_DFL, signal.default_int_handler)}
    for number in ours:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, old in ours.items():
            signal.signal(number, old)
