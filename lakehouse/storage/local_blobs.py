"""Creates groups of blobs below a folder: many small files under one ``syncfs``, none of them ever lost once acknowledged.

After a kill or a power loss a name may hold the beginning of its content, or zeros in its place: nobody was told that it
is stored, so the sender comes back and the remainder is made whole.

Who creates a blob holds the lock of its file until the sync has ended, well or not. So whoever finds the lock free knows
that the name stays: its creator has succeeded, or died and can't take it back any more. Locks are those of ``flock``: they
end with their holder, and count between threads as between processes.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import time
from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

from lakehouse.errors import BackendUnavailableError
from lakehouse.storage.blobs import BlobOutcome, StoredBlob

FILE_MODE: Final = 0o640
FOLDER_MODE: Final = 0o750
COMPARE_CHUNK_BYTES: Final = 1 << 20
DISK_BLOCK_BYTES: Final = 512  # no file system has smaller ones: what a crash leaves unwritten is zeros of whole blocks
LOCKS_HELD_MAX: Final = 64  # each is an open file
LOCK_WAIT_S: Final = 5.0  # for all of a group together: a writer may be stopped for good, and the thread has other work
LOCK_POLL_S: Final = 0.002

_Likeness = Literal["same", "remainder", "other"]
libc = ctypes.CDLL(None, use_errno=True)


class _Held(NamedTuple):
    """A file that this thread has written and whose lock it holds until the sync."""

    fd: int
    path: str


def create_group(root: str, objects: Sequence[tuple[str, bytes]]) -> list[BlobOutcome]:
    """Create what is not there below the folder ``root``; durable on return, but for what has an error in its place.

    It goes in rounds. In a round nobody is waited for, and after it this thread holds no lock: whoever waits holds nothing,
    so no two groups can wait for each other, whatever keys they share.

    Raises:
        OSError: None of the group may be taken as stored.
    """
    outcomes: dict[int, BlobOutcome] = {}
    waiting = list(range(len(objects)))
    deadline: float | None = None
    while waiting:
        busy: list[int] = []
        for first in range(0, len(waiting), LOCKS_HELD_MAX):
            busy += _create_round(root, objects, waiting[first : first + LOCKS_HELD_MAX], outcomes)
        waiting = busy
        if not waiting:
            break
        now = time.monotonic()
        if deadline is None:
            deadline = now + LOCK_WAIT_S
        elif now > deadline:
            late = unavailable(TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)))
            outcomes |= dict.fromkeys(waiting, late)
            break
        time.sleep(LOCK_POLL_S)
    return [outcomes[place] for place in range(len(objects))]


def _create_round(
    root: str, objects: Sequence[tuple[str, bytes]], places: Sequence[int], outcomes: dict[int, BlobOutcome]
) -> list[int]:
    """Create or find each object and make it durable; returns the places of those that somebody is at work on."""
    busy: list[int] = []
    held: list[_Held] = []
    # Opened before the first write: a failed write-back is reported once to each handle, and this one is ours.
    disk = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        is_found = False
        for place in places:
            key, data = objects[place]
            try:
                stored = _create_or_look(f"{root}/{key}", data, held)
            except OSError as error:  # of this object; what concerns the disk shows in the sync as well
                outcomes[place] = unavailable(error)
                continue
            if stored is None:
                busy.append(place)
            else:
                outcomes[place] = stored
                is_found = True
        # Also when everything was there: its creator may have died before its own sync. One call takes new folders
        # and names along with the content.
        if is_found and libc.syncfs(disk):
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
    except BaseException:
        # After a failed sync the kernel may call lost pages clean. A name that stays would pass for durable on the
        # sender's next try. The locks are still ours, so nobody has been told yet that these names are there.
        for fd, path in held:
            with contextlib.suppress(OSError):
                if _is_at(fd, path):
                    os.unlink(path)
        raise
    finally:
        for fd, _ in held:
            os.close(fd)
        os.close(disk)
    return busy


def _create_or_look(path: str, data: bytes, held: list[_Held]) -> StoredBlob | None:
    """What is at ``path`` now; ``None`` while somebody is at work on it. What was written here is in ``held``."""
    while True:
        try:
            held.append(_Held(_create_new(path, data), path))
            return StoredBlob(len(data), True)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(path), mode=FOLDER_MODE, exist_ok=True)
        except FileExistsError:
            return _look_or_repair(path, data, held)


def _create_new(path: str, data: bytes) -> int:
    """Write a file that was not there; returns its descriptor, which holds the lock.

    Raises:
        FileExistsError: The name is there, or somebody took the new file for a remainder before its lock was ours.
    """
    fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, FILE_MODE)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from None
        status = os.fstat(fd)
        if status.st_nlink == 0 or status.st_size:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        try:
            write_all(fd, data)
        except BaseException:
            os.unlink(path)
            raise
    except BaseException:
        os.close(fd)
        raise
    return fd


def _look_or_repair(path: str, data: bytes, held: list[_Held]) -> StoredBlob | None:
    """What is at ``path``, the remainder of a crash made whole; ``None`` if somebody is at work on it or it went away."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    is_held = False
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return None
        if not _is_at(fd, path):
            return None
        size = os.fstat(fd).st_size
        likeness = _compare(fd, size, data)
        if likeness != "remainder":
            return StoredBlob(size, False, differs=likeness == "other")  # the first one stands, whatever comes later
        write_all(fd, data)  # in place: what is there has these bytes already, and a kill leaves a remainder again
        held.append(_Held(fd, path))
        is_held = True
        return StoredBlob(len(data), True)
    finally:
        if not is_held:
            os.close(fd)


def _compare(fd: int, size: int, data: bytes) -> _Likeness:
    """What a file of ``size`` is, beside ``data``: the same, what a crash left of it, or something else.

    A crash leaves the beginning, and on file systems that order data and names less strictly also zeros in the place of
    blocks that were not written. A payload has no such blocks of its own: it is compressed.
    """
    if size > len(data):
        return "other"
    is_torn = size < len(data)
    for begin in range(0, size, COMPARE_CHUNK_BYTES):
        found = os.pread(fd, min(COMPARE_CHUNK_BYTES, size - begin), begin)
        wanted = data[begin : begin + len(found)]
        if found == wanted:
            continue
        for at in range(0, len(found), DISK_BLOCK_BYTES):
            block = found[at : at + DISK_BLOCK_BYTES]
            if block != wanted[at : at + DISK_BLOCK_BYTES]:
                if block.strip(b"\0"):
                    return "other"
                is_torn = True
    return "remainder" if is_torn else "same"


def _is_at(fd: int, path: str) -> bool:
    """Whether ``path`` still names this very file."""
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except FileNotFoundError:
        return False


def write_all(fd: int, data: bytes) -> None:
    written = os.write(fd, data)
    view = memoryview(data)
    while written < len(data):  # at most 2 GiB at once, and less when a disk fills up
        written += os.write(fd, view[written:])


def unavailable(error: OSError) -> BackendUnavailableError:
    """The lake's own error; its text shows no path of the server."""
    reason = os.strerror(error.errno).lower() if error.errno else "unknown trouble"
    return BackendUnavailableError(f"the object store failed: {reason}")
