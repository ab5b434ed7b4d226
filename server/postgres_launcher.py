"""Become the user that a database server may run as, then become that server. A script, not a module to import.

Postgres refuses to run as root. Started by root, this script gives up root for an unprivileged user; where that user
could not even reach the data folder or the program (a folder below a private home), it keeps the capability to pass,
and nothing else. It also ties the child's life to its parent's. Standard library alone: it starts without
site-packages, in some 20 ms.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import stat
import sys
from typing import Final

PR_SET_PDEATHSIG: Final = 1
PR_SET_KEEPCAPS: Final = 8
PR_SET_SECUREBITS: Final = 28
SECBIT_NO_SETUID_FIXUP: Final = 1 << 2
PR_CAP_AMBIENT: Final = 47
PR_CAP_AMBIENT_RAISE: Final = 2
CAP_DAC_OVERRIDE: Final = 1
CAP_DAC_READ_SEARCH: Final = 2
CAP_SETPCAP: Final = 8
CAPABILITY_VERSION_3: Final = 0x20080522

LAUNCH_FAILED: Final = 71  # the exit code that says: this script failed, not the program


class _Header(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class _Data(ctypes.Structure):
    _fields_ = [("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32)]


_libc = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, *arguments: int) -> None:
    padded = [ctypes.c_ulong(value) for value in (*arguments, 0, 0, 0, 0)[:4]]
    if _libc.prctl(option, *padded):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _set_capabilities(capabilities: tuple[int, ...]) -> None:
    mask = sum(1 << capability for capability in capabilities)
    header = _Header(CAPABILITY_VERSION_3, 0)
    data = (_Data * 2)(_Data(mask, mask, mask), _Data(0, 0, 0))
    if _libc.capset(ctypes.byref(header), data):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _needed_capabilities(folder: str, program: str) -> tuple[int, ...]:
    """What the unprivileged user lacks to work in ``folder`` and to run ``program``; asked as that user."""
    if not stat.S_IMODE(os.stat(program).st_mode) & stat.S_IXOTH:
        return CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH  # only this one lets it execute a private file
    libraries = os.path.join(os.path.dirname(os.path.dirname(program)), "lib")
    reachable = (
        os.access(folder, os.R_OK | os.W_OK | os.X_OK)
        and os.access(program, os.X_OK)
        and os.access(libraries, os.R_OK | os.X_OK)
    )
    return () if reachable else (CAP_DAC_READ_SEARCH,)


def _drop_root(uid: int, gid: int, folder: str, program: str) -> None:
    _prctl(PR_SET_KEEPCAPS, 1)
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    _set_capabilities((CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_SETPCAP))
    needed = _needed_capabilities(folder, program)
    if needed:  # else access() would ignore them, by which these programs find each other
        _prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP)
    _set_capabilities(needed)
    for capability in needed:
        _prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability)


def main(arguments: list[str]) -> None:
    """``uid gid parent folder program argument…``; a uid of -1 stays who we are, a parent of 0 is not watched."""
    uid, gid, parent = (int(text) for text in arguments[:3])
    folder, program = arguments[3:5]
    if uid >= 0:
        try:
            _drop_root(uid, gid, folder, program)
        except OSError as error:
            reason = error.strerror
            sys.stderr.write(f"cannot start as uid {uid}: {reason}; run lakeflight as an ordinary user instead\n")
            sys.exit(LAUNCH_FAILED)
    if parent:
        _prctl(PR_SET_PDEATHSIG, signal.SIGINT)  # after the change of user, which clears it
        if os.getppid() != parent:
            sys.exit(LAUNCH_FAILED)  # the parent died before we asked to be told
    os.umask(0o077)
    try:
        os.chdir(folder)
        os.execv(program, [program, *arguments[5:]])
    except OSError as error:  # a folder that others may not enter, a limit of processes, a program for another machine
        reason = (error.strerror or str(error)).lower()
        if error.errno == errno.EAGAIN:
            reason = (
                "its user may have no more processes; raise the limit (ulimit -u, or LimitNPROC= of a systemd unit)"
            )
        sys.stderr.write(f"cannot run {program}: {reason}\n")
        sys.exit(LAUNCH_FAILED)


if __name__ == "__main__":
    main(sys.argv[1:])
