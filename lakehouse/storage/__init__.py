"""Object stores: local files, S3, and whatever else fsspec reaches. ``open_store`` makes one from a URL."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from lakehouse.storage.blobs import BlobOutcome, BlobStore, StoredBlob
from lakehouse.storage.cache import CACHE_BYTES_MAX, CacheFigures
from lakehouse.storage.local import LocalStore
from lakehouse.storage.options import S3Options

__all__ = [
    "CACHE_BYTES_MAX",
    "BlobOutcome",
    "BlobStore",
    "CacheFigures",
    "LocalStore",
    "S3Options",
    "StoredBlob",
    "open_store",
]


def open_store(
    url: str,
    *,
    cache: Path,
    cache_bytes_max: int = CACHE_BYTES_MAX,
    name: str | None = None,
    s3: S3Options | None = None,
) -> BlobStore:
    """The store behind ``file:///folder``, ``s3://bucket/prefix``, or a URL of fsspec such as ``memory://bucket/prefix``.

    Args:
        cache: A folder for copies of remote objects, kept from one start to the next; local files need none. Several
            processes of this machine may share it.
        name: What the catalog calls the store; the URL without credentials unless given. The embedded store has a fixed
            one, so that a data folder may be moved.
        s3: How an S3 store is reached, where AWS tools would not find out by themselves.

    Raises:
        ValueError: No such kind of store, a URL that names none, or its libraries are not installed.
    """
    parts = urlsplit(url)
    if parts.scheme == "file":
        folder = Path(unquote(parts.path))
        if parts.netloc not in ("", "localhost") or not folder.is_absolute():
            raise ValueError(f"a file store needs an absolute path, as in file:///var/lib/lake: {url!r}")
        return LocalStore(folder, name=name)
    if not parts.scheme:
        raise ValueError(f"a store is named by a URL such as file:///var/lib/lake: {url!r}")
    if parts.scheme == "s3":
        try:
            from lakehouse.storage.s3 import S3Store
        except ImportError as error:
            raise ValueError("stores in S3 need s3fs: pip install 'lakeflight-server[s3]'") from error
        return S3Store(url, s3 or S3Options(), cache=cache, name=name, cache_bytes_max=cache_bytes_max)
    from lakehouse.storage.fsspec_store import FsspecStore  # its libraries: where files are local, nobody needs them

    return FsspecStore(url, cache=cache, name=name, cache_bytes_max=cache_bytes_max)
