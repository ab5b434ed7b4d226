"""Object stores: local files, and whatever fsspec reaches. ``open_store`` makes one from a URL."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from lakehouse.storage.blobs import BlobOutcome, BlobStore, StoredBlob
from lakehouse.storage.local import LocalStore

__all__ = ["BlobOutcome", "BlobStore", "LocalStore", "StoredBlob", "open_store"]


def open_store(url: str, *, cache: Path, name: str | None = None) -> BlobStore:
    """The store behind ``file:///folder`` or a URL of fsspec such as ``memory://bucket/prefix``.

    Args:
        cache: A folder for copies of remote objects, kept from one start to the next; local files need none.
        name: What the catalog calls the store; the URL without credentials unless given. The embedded store has a fixed
            one, so that a data folder may be moved.

    Raises:
        ValueError: No such kind of store, or a file URL without an absolute path.
    """
    parts = urlsplit(url)
    if parts.scheme == "file":
        folder = Path(unquote(parts.path))
        if parts.netloc not in ("", "localhost") or not folder.is_absolute():
            raise ValueError(f"a file store needs an absolute path, as in file:///var/lib/lake: {url!r}")
        return LocalStore(folder, name=name)
    if not parts.scheme:
        raise ValueError(f"a store is named by a URL such as file:///var/lib/lake: {url!r}")
    from lakehouse.storage.fsspec_store import FsspecStore  # its libraries: where files are local, nobody needs them

    return FsspecStore(url, cache=cache, name=name)
