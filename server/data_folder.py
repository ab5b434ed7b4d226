"""The data folder: where things are below it, and that one server owns it.

A server that finds the folder owned refuses to start and names the owner. The lock is the kernel's: it ends with the
process, however that ends, so nothing stale can be left behind.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from pathlib import Path
from typing import Final

LOCK_FILE: Final = "lock"


class DataFolderInUseError(RuntimeError):
    """Another server owns the folder."""


class ForeignFolderError(RuntimeError):
    """The folder holds what lakeflight did not make."""


class DataFolder:
    """Paths below one data folder. Use ``acquire`` before touching anything in it."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self._lock_fd: int | None = None

    @property
    def postgres(self) -> Path:
        """The embedded database."""
        return self.root / "postgres"

    @property
    def store(self) -> Path:
        """The embedded object store."""
        return self.root / "store"

    @property
    def scratch(self) -> Path:
        """Files of the running server only; emptied at start."""
        return self.root / "scratch"

    @property
    def numba_cache(self) -> Path:
        """Compiled kernels; may be deleted at any time."""
        return self.root / "numba"

    def acquire(self, *, empty_scratch: bool = True) -> None:
        """Make the folder, take its lock, empty ``scratch``.

        Args:
            empty_scratch: False leaves it as it is: whoever only looks deletes nothing.

        Raises:
            DataFolderInUseError: Somebody else holds the lock; the message names the folder and the owner.
            ForeignFolderError: There is a ``scratch`` that no server made.
        """
        if self.scratch.exists() and not (self.root / LOCK_FILE).exists():
            raise ForeignFolderError(
                f"{self.root} is no data folder of lakeflight but has a folder {self.scratch.name}, which would be emptied:"
                " choose another folder with --data-dir or LAKEFLIGHT_DATA_DIR"
            )
        self.root.mkdir(parents=True, exist_ok=True)
        lock_fd = os.open(self.root / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = os.pread(lock_fd, 32, 0).decode("ascii", "replace").strip()
            os.close(lock_fd)
            who = f"process {owner}" if owner else "another process"
            raise DataFolderInUseError(
                f"the data folder {self.root} is in use by {who}: stop it, or choose another folder"
            ) from error
        except BaseException:
            os.close(lock_fd)
            raise
        os.ftruncate(lock_fd, 0)
        os.pwrite(lock_fd, f"{os.getpid()}\n".encode(), 0)
        self._lock_fd = lock_fd
        if empty_scratch:
            self._empty_scratch()
        self.scratch.mkdir(mode=0o700, exist_ok=True)

    def release(self) -> None:
        """Give the folder up; harmless if it was not held."""
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None

    def _empty_scratch(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self.scratch)
