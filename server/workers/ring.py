"""The ring: shared memory through which a worker's large frames reach the edge, both sides of it.

A sealed memfd of ``SLOTS`` slots. The edge makes it and maps it read-only; the seals keep the worker from shrinking it,
which would kill the edge with SIGBUS on its next read. The worker writes a frame into a free slot and says where it is;
the edge copies it at once into ``bytes`` of its own (the worker could change shared memory at any time, so nothing
is read in place) and gives the slot back. Pages exist once they are written, so an idle worker's ring costs nothing.
No messages here: who may use which slot is settled over the connection.
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
from collections.abc import Callable
from typing import Final

from server.workers.protocol import SLOT_BYTES, SLOTS, ProtocolError

RING_BYTES: Final = SLOTS * SLOT_BYTES
_FALLOC_FL_KEEP_SIZE: Final = 0x01
_FALLOC_FL_PUNCH_HOLE: Final = 0x02


class RingReader:
    """The edge's side: makes the ring and takes frames out of it."""

    def __init__(self) -> None:
        self.fd = os.memfd_create("frames", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(self.fd, RING_BYTES)
            fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
            self._map = mmap.mmap(self.fd, RING_BYTES, mmap.MAP_SHARED, mmap.PROT_READ)
        except BaseException:
            os.close(self.fd)
            raise
        self._view = memoryview(self._map)

    @staticmethod
    def check(slot: int, offset: int, length: int) -> None:
        """Refuse a place that does not lie within its slot."""
        if not 0 <= slot < SLOTS or length < 1 or not slot * SLOT_BYTES <= offset <= (slot + 1) * SLOT_BYTES - length:
            raise ProtocolError(f"no such place in the ring: slot {slot}, offset {offset}, length {length}")

    def copy(self, offset: int, length: int) -> bytes:
        """The bytes at a checked place, from now on out of the worker's reach."""
        return bytes(self._view[offset : offset + length])

    def close_fd(self) -> None:
        """The mapping stays; the descriptor is only needed until the worker has its own."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def close(self) -> None:
        self.close_fd()
        self._view.release()
        self._map.close()


class RingWriter:
    """The worker's side: plain writable memory, slot by slot."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._map = mmap.mmap(fd, RING_BYTES, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        self.view = memoryview(self._map)

    def slot(self, slot: int) -> memoryview:
        return self.view[slot * SLOT_BYTES : (slot + 1) * SLOT_BYTES]

    def forget_pages(self) -> None:
        """Give the memory back. Only while no frame is under way; the next write gets fresh pages."""
        give_back(self._fd, 0, RING_BYTES)


def give_back(fd: int, offset: int, length: int) -> None:
    """Give the pages or blocks of a part of a file back; its bytes read as zeros. Nothing, where there is no such call."""
    _punch_hole(fd, _FALLOC_FL_PUNCH_HOLE | _FALLOC_FL_KEEP_SIZE, offset, length)


def _fallocate() -> Callable[[int, int, int, int], int]:
    function = ctypes.CDLL(None, use_errno=True).fallocate
    function.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    function.restype = ctypes.c_int
    return function


_punch_hole: Final = _fallocate()
