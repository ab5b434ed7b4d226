"""How a command speaks to its user: exit codes, complaints on standard error, and the end by Ctrl-C."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final, TextIO

from lakeflight.printable import printable

OK: Final = 0
USAGE: Final = 2
FAILED: Final = 3
DENIED: Final = 4
UNAVAILABLE: Final = 5
INTERRUPTED: Final = 130


class UsageError(Exception):
    """What was asked for makes no sense; the message is for the user."""


def say(text: str) -> None:
    with suppress(OSError):
        sys.stderr.write(text + "\n")
        sys.stderr.flush()


def complain(text: str, code: int) -> int:
    say(f"lakeflight query: {printable(text)}")
    return code


def silence(stream: TextIO) -> None:
    """After a reader has gone: what is still buffered goes nowhere, and the interpreter's last flush does not complain."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    except (OSError, ValueError):
        return


@contextmanager
def ended_by_interrupts(program: str) -> Iterator[None]:
    """While libraries load, Ctrl-C ends the process with one line: an exception would turn up in the middle of an import."""
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield  # ignored, as for a background job, or somebody else's
        return

    def end(*_: object) -> None:
        with suppress(OSError):
            os.write(2, f"{program}: interrupted\n".encode())
        os._exit(INTERRUPTED)

    signal.signal(signal.SIGINT, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
