"""A zygote: a process that has loaded what a worker needs and forks one in milliseconds.

``python -m server.workers.zygote <kind> <fd> <settings>`` is started by the pool with an environment of an explicit
list and one end of a packet socket. It imports, warms up, freezes the garbage collector so that its pages stay shared,
and then forks a worker for every ``Spawn``. The worker gets its end of a connection, perhaps a ring, and nothing else:
no other descriptor, no environment, a session of its own, limits on memory, files and core dumps. When the zygote dies
its workers die, and the zygote dies with the edge.

It never runs a statement, decodes a block or starts a thread: a fork copies the calling thread alone, and with it
every lock that another thread held.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import resource
import selectors
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from typing import Any, Final

from server.workers import spilling
from server.workers.protocol import (
    DETAIL_TEXT_MAX,
    Exited,
    Failed,
    ProtocolError,
    Spawn,
    Spawned,
    Warm,
    decode,
    encode,
    pack,
)

PACKET_BYTES_MAX: Final = 64 << 10  # of one message between edge and zygote
STACK_BYTES: Final = 8 << 20  # of every thread: the engine's parser recurses deeply
OPEN_FILES_MAX: Final = 4096  # the partitions of one query, and some
_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NO_NEW_PRIVS: Final = 38
_MADV_DONTNEED: Final = 4


def main(arguments: list[str]) -> None:
    kind, descriptor, settings = arguments[0], int(arguments[1]), json.loads(arguments[2])
    _die_with(settings["edge_pid"])
    edge = socket.socket(fileno=descriptor)
    if settings.get("spill_folder"):
        spilling.empty(settings["spill_folder"])
    try:
        work = _preload(kind, settings)
        problem = ""
    except Exception:
        problem = traceback.format_exc()[-DETAIL_TEXT_MAX:]
    edge.send(encode(Warm(len(os.listdir("/proc/self/task")), problem)))
    if not problem:
        with contextlib.suppress(ConnectionError):  # the edge is gone
            _serve(edge, work, settings)


def _preload(kind: str, settings: dict[str, Any]) -> Callable[[socket.socket, int | None], None]:
    """Import and warm up everything that a worker of this kind uses; returns what it does after the fork."""
    module: Any = importlib.import_module(f"server.workers.{kind}_worker")
    work: Callable[[socket.socket, int | None], None] = module.prepare(settings)
    _drop_clean_pages("llvmlite")
    gc.collect()
    gc.freeze()
    _LIBC.malloc_trim(0)
    return work


def _serve(edge: socket.socket, work: Callable[[socket.socket, int | None], None], settings: dict[str, Any]) -> None:
    """Fork on demand and report exits, until the edge closes its end."""
    zygote_pid = os.getpid()
    with selectors.DefaultSelector() as selector:
        selector.register(edge, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.data is not None:  # a worker's pidfd: it is gone
                    selector.unregister(key.fd)
                    os.close(key.fd)
                    _, status = os.waitpid(key.data, 0)
                    if settings.get("spill_folder"):
                        spilling.remove(settings["spill_folder"], key.data)
                    edge.send(encode(Exited(key.data, os.waitstatus_to_exitcode(status))))
                    continue
                packet, descriptors, _, _ = socket.recv_fds(edge, PACKET_BYTES_MAX, 2, socket.MSG_CMSG_CLOEXEC)
                if not packet:
                    return  # the edge is gone
                request = decode(packet, frozenset({Spawn}))
                if not 1 <= len(descriptors) <= 2:
                    raise ProtocolError(f"a worker needs one or two descriptors, not {len(descriptors)}")
                pid = os.fork()
                if pid == 0:
                    _become_worker(work, descriptors, settings, zygote_pid)
                for descriptor in descriptors:
                    os.close(descriptor)
                watch = os.pidfd_open(pid)
                selector.register(watch, selectors.EVENT_READ, data=pid)
                socket.send_fds(edge, [encode(Spawned(request.number, pid))], [watch])


def _become_worker(
    work: Callable[[socket.socket, int | None], None], descriptors: list[int], settings: dict[str, Any], zygote_pid: int
) -> None:
    """The child's whole life; never returns."""
    try:
        _die_with(zygote_pid)
        os.setsid()
        control, ring = _keep_only(descriptors)
        _limit(settings)
        os.environ.clear()
        sys.dont_write_bytecode = True  # a worker writes results and nothing else
        os.chdir("/")
        connection = socket.socket(fileno=control)
        try:
            work(connection, ring)
        except Exception:
            connection.sendall(pack(Failed(0, "InternalError", "", traceback.format_exc()[-DETAIL_TEXT_MAX:])))
            os._exit(1)
    except BaseException:
        os._exit(2)
    os._exit(0)


def _keep_only(descriptors: list[int]) -> tuple[int, int | None]:
    """Close every descriptor but the worker's own, which become 3 and 4; the standard three lead to the null device."""
    null = os.open(os.devnull, os.O_RDWR)
    high = [os.dup2(descriptor, 1000 + i) for i, descriptor in enumerate(descriptors)]
    for standard in range(3):
        os.dup2(null, standard)
    kept = [os.dup2(descriptor, 3 + i, inheritable=False) for i, descriptor in enumerate(high)]
    for name in os.listdir("/proc/self/fd"):
        if int(name) >= 3 + len(kept):
            try:
                os.close(int(name))
            except OSError:
                continue  # the one that listed the folder
    return kept[0], (kept[1] if len(kept) > 1 else None)


def _limit(settings: dict[str, Any]) -> None:
    """What the kernel holds this process to, whatever runs in it."""
    for kind, limit in (
        (resource.RLIMIT_AS, _address_space_bytes() + settings["address_space_bytes"]),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, min(OPEN_FILES_MAX, resource.getrlimit(resource.RLIMIT_NOFILE)[1])),
        (resource.RLIMIT_FSIZE, _at_most(resource.RLIMIT_FSIZE, settings["file_bytes_max"])),
    ):
        resource.setrlimit(kind, (limit, limit))
    _, stack_max = resource.getrlimit(resource.RLIMIT_STACK)
    if stack_max == resource.RLIM_INFINITY or stack_max >= STACK_BYTES:
        resource.setrlimit(resource.RLIMIT_STACK, (STACK_BYTES, stack_max))
    _set_thread_stack(STACK_BYTES)
    _LIBC.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if settings.get("spill_folder"):
        spilling.confine(settings["spill_folder"])


def _at_most(kind: int, limit: int) -> int:
    most = resource.getrlimit(kind)[1]
    return limit if most == resource.RLIM_INFINITY else min(limit, most)


def _address_space_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[0]) * resource.getpagesize()


def _set_thread_stack(size: int) -> None:
    """For threads that native libraries start."""
    attributes = ctypes.create_string_buffer(64)  # pthread_attr_t has 56 bytes on 64-bit Linux
    if _LIBC.pthread_attr_init(attributes) == 0 and hasattr(_LIBC, "pthread_setattr_default_np"):
        _LIBC.pthread_attr_setstacksize(attributes, ctypes.c_size_t(size))
        _LIBC.pthread_setattr_default_np(attributes)


def _die_with(parent: int) -> None:
    """Be killed when the parent dies, and do not outlive one that died before this took effect."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(0)


def _drop_clean_pages(library: str) -> None:
    """Unmap what was read of a library: the compiler, once the kernels have come from their cache.

    The pages stay in the page cache and come back on the next touch. A part with a page of its own (a relocation was
    written there) is left alone, for that page would be lost.
    """
    part: tuple[int, int] | None = None
    with open("/proc/self/smaps", encoding="utf-8") as maps:
        for line in maps.readlines():
            words = line.split()
            if not words[0].endswith(":"):
                begin, _, end = words[0].partition("-")
                clean = library in line and words[1] in ("r--p", "r-xp")
                part = (int(begin, 16), int(end, 16)) if clean else None
            elif words[0] == "Anonymous:" and part is not None and words[1] == "0":
                _LIBC.madvise(ctypes.c_void_p(part[0]), ctypes.c_size_t(part[1] - part[0]), _MADV_DONTNEED)


if __name__ == "__main__":
    main(sys.argv[1:])
