"""Where a query worker puts what does not fit in its memory: a folder of its own, beside which it can write nothing.

SQL is hostile, so a worker has always been one that cannot write a byte. One that spills must be able to write files, and it
must be these alone, whatever runs in it: Landlock, a wall of the kernel's (Linux 5.13), lets it change what is below its folder
and nothing else. Where the kernel has no such wall workers write nothing, and what does not fit in memory fails.

The folder of a worker is named by its process. Its zygote, which knows for certain that it is gone, removes it, and empties the
folder of all of them when it starts: so nothing is left after any kill.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import struct
from pathlib import Path
from typing import Final

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on every architecture
_ASK_VERSION: Final = 1
_PATH_BENEATH: Final = 1
# Of landlock(7), by the version of the interface that knows them: what changes something.
_FILES: Final = 1 << 1 | 1 << 4 | 1 << 5 | 1 << 7 | 1 << 8  # write, remove folder, remove file, make folder, make file
_OTHERS: Final = 1 << 6 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 12  # devices, sockets, pipes, links
_REFER: Final = 1 << 13
_TRUNCATE: Final = 1 << 14


def can_confine() -> bool:
    """Whether the kernel can keep a process to one folder."""
    return _version() > 0


def folder_of(root: str, pid: int) -> Path:
    """Of one worker."""
    return Path(root) / str(pid)


def empty(root: str) -> None:
    """Nobody uses what is there any more."""
    shutil.rmtree(root, ignore_errors=True)
    Path(root).mkdir(mode=0o700, parents=True)


def remove(root: str, pid: int) -> None:
    """The worker is gone."""
    shutil.rmtree(folder_of(root, pid), ignore_errors=True)


def confine(root: str) -> None:
    """Make the folder of this process and give up for ever to change anything else. Before it starts threads.

    Raises:
        OSError: It could not be done: such a process must not go on.
    """
    folder = folder_of(root, os.getpid())
    folder.mkdir(mode=0o700)
    version = _version()
    inside = _FILES | (_TRUNCATE if version >= 3 else 0)
    handled = inside | _OTHERS | (_REFER if version >= 2 else 0)
    attributes = struct.pack("=Q", handled)
    ruleset = _call(_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0)
    place = os.open(folder, os.O_PATH | os.O_CLOEXEC)
    try:
        _call(_ADD_RULE, ruleset, _PATH_BENEATH, struct.pack("=Qi", inside, place), 0)
        _call(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(place)
        os.close(ruleset)


def _version() -> int:
    return int(_LIBC.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _ASK_VERSION))


def _call(number: int, *arguments: object) -> int:
    result = int(_LIBC.syscall(number, *arguments))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result
