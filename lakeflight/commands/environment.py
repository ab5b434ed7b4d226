"""Whose environment a command runs in: its own. What users set for other programs reaches none of the libraries used here.

Libraries read variables by the dozen, some at their import, some with values that end the process. So what is kept is listed,
and the rest is taken away before any of them is loaded. What Python itself and the C library have read at their start cannot
be taken back: there the command starts over, in the same process. For the commands alone: a program that uses ``lakeflight``
as a library has an environment of its own, and its own reasons for it.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, MutableMapping
from typing import Final

# Our own, those of the operating system and of where things are, and those that say how to reach the world outside.
_KEPT: Final = (
    r"(?i:LAKEFLIGHT_\w+)|MICROMEGAS_TELEMETRY_PARENT_PROCESS",
    r"PATH|HOME|USER|LOGNAME|SHELL|PWD|HOSTNAME|TMPDIR|XDG_\w+|LANG|LANGUAGE|LC_\w+|TZ|TZDIR",
    r"TERM|COLUMNS|LINES|NO_COLOR|COLORTERM",
    r"LD_LIBRARY_PATH|LD_PRELOAD|VIRTUAL_ENV|PYTHON(PATH|HOME|UTF8|DONTWRITEBYTECODE|PYCACHEPREFIX)",
    r"PYTHON(UNBUFFERED|HASHSEED|FAULTHANDLER|NOUSERSITE|SAFEPATH)",
    r"NUMBA_CACHE_DIR",  # a setting, see docs/settings.md
    r"SSL_CERT_(FILE|DIR)|GRPC_(DEFAULT_SSL_ROOTS_FILE_PATH|VERBOSITY|TRACE)|(?i:(https?|all|no|grpc|no_grpc)_proxy)",
    r"COVERAGE_\w+|COV_CORE_\w+",  # of our own tests, which measure what the commands' processes run
)
OF_DATABASES: Final = (r"PG[A-Z]\w+|KRB5\w+",)
OF_STORES: Final = (r"(AWS|S3|MINIO|FSSPEC)_\w+|BOTO_CONFIG",)
OF_BACKENDS: Final = (*OF_DATABASES, *OF_STORES)  # for servers that are told to use some; of no use to any other
_RESTARTED: Final = "LAKEFLIGHT_RESTARTED"  # once is enough; gone before anybody else looks
_READ_AT_START: Final = re.compile(r"PYTHON\w+|MALLOC_\w+|GLIBC_TUNABLES")


def keep_own(environment: MutableMapping[str, str], also: Iterable[str] = ()) -> set[str]:
    """Take away what is on no list; the names that were.

    Args:
        also: Patterns of further names to keep.
    """
    kept = re.compile("|".join((*_KEPT, *also)))
    strangers = {name for name in environment if not kept.fullmatch(name)}
    for name in strangers:
        del environment[name]
    return strangers


def begin_in_own_environment() -> None:
    """To be called before anything else, by a process that is the command's alone."""
    is_restarted = os.environ.pop(_RESTARTED, None) is not None
    had_streams = _open_standard_streams()
    strangers = keep_own(os.environ, OF_BACKENDS)
    was_read = any(_READ_AT_START.fullmatch(name) for name in strangers)
    # With a locale that has no UTF-8, neither the statement of a user nor what is printed would be what was written.
    is_utf8 = sys.getfilesystemencoding() == "utf-8"
    needs_restart = (
        was_read or not is_utf8 or not had_streams
    ) and not is_restarted  # arguments may keep what they set
    if needs_restart and sys.executable and not sys.flags.ignore_environment:
        os.environ["PYTHONUTF8"] = "1"
        os.environ[_RESTARTED] = "1"
        os.execv(sys.executable, sys.orig_argv)


def _open_standard_streams() -> bool:
    """See that the standard three are open, or a file of ours would take their numbers; false if one was not.

    What was closed for output stays a place that nothing can be written to: rows for it are not lost in silence.
    """
    were_open = True
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            were_open = False
            opened = os.open(os.devnull, os.O_WRONLY if number == 2 else os.O_RDONLY)
            os.set_inheritable(opened, True)
    return were_open
