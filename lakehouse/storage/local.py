"""Objects as files below one folder, durable to power loss. Plain system calls: no layer that stages or guesses.

Groups of blobs share one ``syncfs`` (``local_blobs.py``); a single file is synced by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import os
import shutil
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

from lakehouse.errors import BackendUnavailableError
from lakehouse.storage.blobs import BlobOutcome, sizes_of
from lakehouse.storage.local_blobs import FOLDER_MODE, create_group, unavailable
from lakehouse.storage.paths import checked_key, checked_prefix

BLOB_THREADS: Final = 2  # as many as groups in flight
FILE_THREADS: Final = 8
SYNC_THREADS: Final = 8
COPY_CHUNK_BYTES: Final = 1 << 20
ADOPT_ATTEMPTS_MAX: Final = 10  # while files are deleted that were alone in the same folder
DURABLE_FOLDERS_MAX: Final = 4096  # remembered; forgetting one costs a sync
LOCALIZE_INLINE_MAX: Final = 64  # so many stat calls are cheaper than a change of threads
LISTED_AT_ONCE: Final = 1_000  # keys of a listing, as S3 gives them
STAGING_FOLDER: Final = ".staging"  # never a key: those of the program do not begin with a dot

T = TypeVar("T")
Keys = list[str]  # inside the class, "list" is a method


class LocalStore:
    """An ``ObjectStore`` over a folder.

    Args:
        root: Made if it is not there.
        name: What the catalog calls it; ``file://`` and the path unless given.
    """

    def __init__(self, root: Path, *, name: str | None = None) -> None:
        self._root = str(root.absolute())
        self._name = name or root.absolute().as_uri()
        self._durable_folders: dict[str, int] = {}  # path to inode, which tells whether the folder was made again
        with _store_errors():
            _make_root(Path(self._root))
            os.makedirs(f"{self._root}/{STAGING_FOLDER}", mode=FOLDER_MODE, exist_ok=True)
        self._blob_threads = ThreadPoolExecutor(BLOB_THREADS, thread_name_prefix="store-blobs")
        self._file_threads = ThreadPoolExecutor(FILE_THREADS, thread_name_prefix="store-files")
        self._sync_threads = ThreadPoolExecutor(
            SYNC_THREADS, thread_name_prefix="store-syncs"
        )  # they wait for no other

    @property
    def name(self) -> str:
        return self._name

    async def put_blobs(self, objects: Sequence[tuple[str, bytes]]) -> list[int]:
        return sizes_of(await self.create_blobs(objects))

    async def create_blobs(self, objects: Sequence[tuple[str, bytes]]) -> list[BlobOutcome]:
        """Create what is not there; durable when this returns, but for the objects that have an error in their place.

        Raises:
            BackendUnavailableError: None of the group may be taken as stored.
        """
        checked = [(checked_key(key), data) for key, data in objects]
        return await self._run(self._blob_threads, lambda: create_group(self._root, checked))

    async def put_file(self, key: str, source: Path) -> None:
        checked_key(key)
        await self._run(self._file_threads, lambda: self._adopt(self._path(key), str(source)))

    @contextlib.asynccontextmanager
    async def localize(self, keys: Sequence[str]) -> AsyncIterator[list[Path]]:
        """The files themselves: nothing makes room for others here, and what is deleted was released long before."""
        paths = [Path(self._path(checked_key(key))) for key in keys]
        if len(paths) <= LOCALIZE_INLINE_MAX:
            with _store_errors():
                _require_files(paths)
        else:
            await self._run(self._file_threads, lambda: _require_files(paths))
        yield paths

    def discard_copies(self, keys: Sequence[str]) -> bool:
        """There are none."""
        return False

    async def prepare(self) -> None:
        """Nothing differs between file systems that is not found out on the way."""

    def cache_figures(self) -> None:
        """No copies, no figures."""

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
        await self._run(self._file_threads, lambda: self.delete_now(paths))

    async def list(self, prefix: str) -> list[str]:
        return sorted([key async for page in self.pages(prefix) for key in page])

    async def pages(self, prefix: str) -> AsyncIterator[Keys]:
        found = self._walk(checked_prefix(prefix))
        while page := await self._run(self._file_threads, lambda: [*itertools.islice(found, LISTED_AT_ONCE)]):
            yield page

    async def is_empty(self, prefix: str) -> bool:
        folder = checked_prefix(prefix)
        return await self._run(self._file_threads, lambda: next(self._walk(folder), None) is None)

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
        for threads in (self._blob_threads, self._file_threads, self._sync_threads):
            await asyncio.to_thread(threads.shutdown)

    # --- blocking calls, in threads of the two pools ---------------------------------------------------------------

    def _path(self, key: str) -> str:
        return f"{self._root}/{key}"

    async def _run(self, threads: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        with _store_errors():
            return await asyncio.get_running_loop().run_in_executor(threads, work)

    def _adopt(self, target: str, source: str) -> None:
        for attempts_left in reversed(range(ADOPT_ATTEMPTS_MAX)):
            try:
                self._link(target, source)
                break
            except FileNotFoundError:  # a delete of its last file took the folder with it
                if not attempts_left:
                    raise
        os.unlink(source)

    def _link(self, target: str, source: str) -> None:
        """Durable when this returns: the content, its name, and the names of all folders of its path.

        Everything is made before anything is synced, and all is synced at once, so that one commit of the file system's
        journal holds all of it. A name whose content is not durable yet is nobody's: no row names it.
        """
        folder = os.path.dirname(target)
        made = self.make_folders(folder)
        try:
            os.link(source, target)
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK):
                raise
            self._copy(source, target)
        try:
            changed = (folder, *(os.path.dirname(path) for path in made))
            syncs = [self._sync_threads.submit(fsync, path, os.O_RDONLY | os.O_DIRECTORY) for path in changed]
            fsync(target, os.O_RDWR)
            for sync in syncs:
                sync.result()
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(target)
            raise
        if len(self._durable_folders) >= DURABLE_FOLDERS_MAX:
            self._durable_folders.clear()
        self._durable_folders |= made

    def make_folders(self, folder: str) -> dict[str, int]:
        """Make ``folder`` with its parents; returns those whose entries have to be synced, deepest first, with their inodes.

        That a folder is there does not mean that a power loss leaves it there: whoever made it may not have come to its
        sync. So a folder that this store has not synced itself is synced.
        """
        missing: list[str] = []
        while folder != self._root:
            with contextlib.suppress(FileNotFoundError):
                if self._durable_folders.get(folder) == os.stat(folder).st_ino:
                    break
            missing.append(folder)
            folder = os.path.dirname(folder)
        for path in reversed(missing):
            with contextlib.suppress(FileExistsError):
                os.mkdir(path, FOLDER_MODE)
        return {path: os.stat(path).st_ino for path in missing}

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

    def delete_now(self, paths: Sequence[str]) -> None:
        for path in paths:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        for folder in sorted({os.path.dirname(path) for path in paths}):
            while len(folder) > len(self._root):
                try:
                    os.rmdir(folder)
                except OSError:  # not empty, or gone
                    break
                self._durable_folders.pop(folder, None)
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
        raise unavailable(error) from error


def _require_files(paths: Sequence[Path]) -> None:
    for path in paths:
        os.stat(path)


def fsync(path: str, flags: int) -> None:
    fd = os.open(path, flags | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _make_root(root: Path) -> None:
    """Make the store's folder. Its own entry is synced even if it was there: somebody may have made it just now."""
    if not root.parent.is_dir():
        _make_root(root.parent)
    with contextlib.suppress(FileExistsError):
        os.mkdir(root, FOLDER_MODE)
    with contextlib.suppress(PermissionError):  # where we may not look, we have not made anything
        fsync(str(root.parent), os.O_RDONLY | os.O_DIRECTORY)


def _raise_unless_absent(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error
