"""Objects as files below one folder, durable to power loss. Plain system calls: no layer that stages or guesses.

Groups of blobs share one ``syncfs``; a single file is synced by itself. After a kill or a power loss a name may hold the
beginning of its content: nobody was told that it is stored, so the sender comes back and the remainder is replaced.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import fcntl
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

from lakehouse.errors import BackendUnavailableError
from lakehouse.storage.blobs import StoredBlob
from lakehouse.storage.paths import checked_key, checked_prefix

BLOB_THREADS: Final = 2  # as many as groups in flight
FILE_THREADS: Final = 8
COPY_CHUNK_BYTES: Final = 1 << 20
LOCK_WAIT_S: Final = 5.0
LOCK_POLL_S: Final = 0.002
LOCALIZE_INLINE_MAX: Final = 64  # so many stat calls are cheaper than a change of threads
FILE_MODE: Final = 0o640
FOLDER_MODE: Final = 0o750
STAGING_FOLDER: Final = ".staging"  # never a key: those of the program do not begin with a dot

T = TypeVar("T")
StoredBlobs = list[StoredBlob]  # inside the class, "list" is a method
Keys = list[str]
_libc = ctypes.CDLL(None, use_errno=True)


class LocalStore:
    """An ``ObjectStore`` over a folder.

    Args:
        root: Made if it is not there.
        name: What the catalog calls it; ``file://`` and the path unless given.
    """

    def __init__(self, root: Path, *, name: str | None = None) -> None:
        self._root = str(root.absolute())
        self._name = name or root.absolute().as_uri()
        with _store_errors():
            _make_folders(Path(self._root))
            os.makedirs(f"{self._root}/{STAGING_FOLDER}", mode=FOLDER_MODE, exist_ok=True)
        self._blob_threads = ThreadPoolExecutor(BLOB_THREADS, thread_name_prefix="store-blobs")
        self._file_threads = ThreadPoolExecutor(FILE_THREADS, thread_name_prefix="store-files")

    @property
    def name(self) -> str:
        return self._name

    async def put_blobs(self, objects: Sequence[tuple[str, bytes]]) -> list[int]:
        return [stored.size for stored in await self.create_blobs(objects)]

    async def create_blobs(self, objects: Sequence[tuple[str, bytes]]) -> list[StoredBlob]:
        """Create what is not there; durable, as a whole, when this returns.

        Raises:
            BackendUnavailableError: None of the group may be taken as stored.
        """
        checked = [(checked_key(key), data) for key, data in objects]
        return await self._run(self._blob_threads, lambda: self._create_group(checked))

    async def put_file(self, key: str, source: Path) -> None:
        checked_key(key)
        await self._run(self._file_threads, lambda: self._adopt(self._path(key), str(source)))

    async def localize(self, keys: Sequence[str]) -> list[Path]:
        paths = [Path(self._path(checked_key(key))) for key in keys]
        if len(paths) <= LOCALIZE_INLINE_MAX:
            with _store_errors():
                _require_files(paths)
        else:
            await self._run(self._file_threads, lambda: _require_files(paths))
        return paths

    async def get(self, key: str) -> bytes:
        path = Path(self._path(checked_key(key)))
        return await self._run(self._file_threads, path.read_bytes)

    async def size(self, key: str) -> int | None:
        path = self._path(checked_key(key))

        def look() -> int | None:
            try:
                return os.stat(path).st_size
            except FileNotFoundError:
                return None

        return await self._run(self._file_threads, look)

    async def delete(self, keys: Sequence[str]) -> None:
        paths = [self._path(checked_key(key)) for key in keys]
        await self._run(self._file_threads, lambda: self._delete(paths))

    async def list(self, prefix: str) -> list[str]:
        folder = checked_prefix(prefix)
        return await self._run(self._file_threads, lambda: sorted(self._walk(folder)))

    async def probe(self) -> None:
        def look() -> None:
            os.stat(self._root)
            space = os.statvfs(self._root)
            if space.f_bavail == 0 or (space.f_files and space.f_favail == 0):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if not os.access(self._root, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

        await self._run(self._file_threads, look)

    async def close(self) -> None:
        for threads in (self._blob_threads, self._file_threads):
            await asyncio.to_thread(threads.shutdown)

    # --- blocking calls, in threads of the two pools ---------------------------------------------------------------

    def _path(self, key: str) -> str:
        return f"{self._root}/{key}"

    async def _run(self, threads: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        with _store_errors():
            return await asyncio.get_running_loop().run_in_executor(threads, work)

    def _create_group(self, objects: Sequence[tuple[str, bytes]]) -> StoredBlobs:
        stored: StoredBlobs = []
        created: Keys = []
        # Opened before the first write: a failed write-back is reported once to each handle, and this one is ours.
        disk = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for key, data in objects:
                path = self._path(key)
                size, is_new = self._create(path, data)
                stored.append(StoredBlob(size, is_new))
                if is_new:
                    created.append(path)
            # Also when everything was there: another group may have created it and not be done. One call takes new
            # folders and names along with the content.
            if _libc.syncfs(disk):
                code = ctypes.get_errno()
                raise OSError(code, os.strerror(code))
        except BaseException:
            # After a failed sync the kernel may call lost pages clean. A name that stays would pass for durable on the
            # sender's next try.
            for path in created:
                with contextlib.suppress(OSError):
                    os.unlink(path)
            raise
        finally:
            os.close(disk)
        return stored

    def _create(self, path: str, data: bytes) -> tuple[int, bool]:
        while True:
            try:
                self._create_new(path, data)
                return len(data), True
            except FileNotFoundError:
                os.makedirs(os.path.dirname(path), mode=FOLDER_MODE, exist_ok=True)
            except FileExistsError:
                found = self._look_or_repair(path, data)
                if found is not None:
                    return found

    def _create_new(self, path: str, data: bytes) -> None:
        """Raises ``FileExistsError`` if the name is there. The lock tells a writer at work from a dead one's remainder."""
        fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, FILE_MODE)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            if os.fstat(fd).st_nlink == 0:  # between these two calls somebody took us for dead and replaced the name
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
            try:
                _write_all(fd, data)
            except BaseException:
                os.unlink(path)
                raise
        finally:
            os.close(fd)

    @contextlib.contextmanager
    def _staged(self, data: bytes) -> Iterator[str]:
        staged = f"{self._root}/{STAGING_FOLDER}/{uuid.uuid4().hex}"
        fd = os.open(staged, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, FILE_MODE)
        try:
            try:
                _write_all(fd, data)
            finally:
                os.close(fd)
            yield staged
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(staged)

    def _look_or_repair(self, path: str, data: bytes) -> tuple[int, bool] | None:
        """Size of what was there; ``None`` if it went away meanwhile. The remainder of a crash is created again."""
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            _lock_patiently(fd)  # waits for a writer at work; nobody holds the lock of a remainder
            status = os.fstat(fd)
            if status.st_nlink == 0:
                return None
            size = status.st_size
            if size >= len(data) or os.pread(fd, size, 0) != data[:size]:
                return size, False
            with self._staged(data) as staged:
                _fsync(staged, os.O_RDONLY)
                os.rename(staged, path)
            return len(data), True
        finally:
            os.close(fd)

    def _adopt(self, target: str, source: str) -> None:
        _fsync(source, os.O_RDWR)
        _make_folders(Path(os.path.dirname(target)))
        try:
            os.link(source, target)
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK):
                raise
            self._copy(source, target)
        _fsync(os.path.dirname(target), os.O_RDONLY | os.O_DIRECTORY)
        os.unlink(source)

    def _copy(self, source: str, target: str) -> None:
        staged = f"{self._root}/{STAGING_FOLDER}/{uuid.uuid4().hex}"
        try:
            with open(source, "rb") as reader, open(staged, "xb") as writer:
                shutil.copyfileobj(reader, writer, COPY_CHUNK_BYTES)
                writer.flush()
                os.fsync(writer.fileno())
            os.link(staged, target)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(staged)

    def _delete(self, paths: Sequence[str]) -> None:
        for path in paths:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        for folder in sorted({os.path.dirname(path) for path in paths}):
            while len(folder) > len(self._root):
                try:
                    os.rmdir(folder)
                except OSError:  # not empty, or gone
                    break
                folder = os.path.dirname(folder)

    def _walk(self, folder: str) -> Iterator[str]:
        start = f"{self._root}/{folder}" if folder else self._root
        if folder and os.path.isfile(start):
            yield folder
            return
        for here, folders, files in os.walk(start, onerror=_raise_unless_absent):
            if here == self._root and STAGING_FOLDER in folders:
                folders.remove(STAGING_FOLDER)
            below = here[len(self._root) + 1 :]
            for file in files:
                yield f"{below}/{file}" if below else file


@contextlib.contextmanager
def _store_errors() -> Iterator[None]:
    """``OSError`` becomes the lake's own; its text must not show a path of the server."""
    try:
        yield
    except FileExistsError as error:
        raise FileExistsError("the key is taken") from error
    except FileNotFoundError as error:
        raise BackendUnavailableError("an object is missing in the store") from error
    except OSError as error:
        reason = os.strerror(error.errno).lower() if error.errno else "unknown trouble"
        raise BackendUnavailableError(f"the object store failed: {reason}") from error


def _require_files(paths: Sequence[Path]) -> None:
    for path in paths:
        os.stat(path)


def _write_all(fd: int, data: bytes) -> None:
    written = os.write(fd, data)
    view = memoryview(data)
    while written < len(data):  # at most 2 GiB at once, and less when a disk fills up
        written += os.write(fd, view[written:])


def _fsync(path: str, flags: int) -> None:
    fd = os.open(path, flags | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _make_folders(folder: Path) -> None:
    """Make ``folder`` and sync every folder that got a new entry, so that a power loss takes no part of the path."""
    if folder.is_dir():
        return
    _make_folders(folder.parent)
    with contextlib.suppress(FileExistsError):
        os.mkdir(folder, FOLDER_MODE)
    _fsync(str(folder.parent), os.O_RDONLY | os.O_DIRECTORY)


def _lock_patiently(fd: int) -> None:
    """The exclusive lock, or ``TimeoutError``: a writer may be stopped for good, and this thread has other work."""
    deadline = time.monotonic() + LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)) from None
            time.sleep(LOCK_POLL_S)


def _raise_unless_absent(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error
