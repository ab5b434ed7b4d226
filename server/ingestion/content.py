"""Content encodings of request bodies, undone under a limit: what a body says of its own size is never trusted.

Refuses what is cut short, and what comes behind the end other than a further member of the same encoding.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from lakeflight.wire.errors import MalformedRequestError
from server.ingestion.limits import RequestRefusedError

Decompress: TypeAlias = Callable[[bytes, int], bytes]

MEMBERS_MAX: Final = 1_024  # of one body; tools that write many put at least some 16 KB into each
_FEED_BYTES: Final = 64 << 10

_GZIP: Final = 16 + zlib.MAX_WBITS
_ZLIB: Final = zlib.MAX_WBITS
_RAW: Final = -zlib.MAX_WBITS


class DecompressedTooLargeError(RequestRefusedError):
    """There is more than the limit."""


def decompressor_of(encoding: str) -> Decompress | None:
    """What undoes a ``Content-Encoding``; ``None``: nothing has to be.

    Raises:
        RequestRefusedError: 415, it is not one of ours.
    """
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return None
    decompress = _DECOMPRESSORS.get(name)
    if decompress is None:
        raise RequestRefusedError(415, f"Content-Encoding must be {', '.join(_DECOMPRESSORS)} or identity")
    return decompress


def _inflate(data: bytes, limit_bytes: int, window: int) -> bytes:
    """One member after the other, as gzip has it. Fed in parts: at each member's end zlib copies what it has not read."""
    parts: list[bytes] = []
    total = members = position = 0
    view = memoryview(data)
    while position < len(view):
        members += 1
        if members > MEMBERS_MAX:
            raise MalformedRequestError(f"the compressed body has more than {MEMBERS_MAX} members; send it as one")
        inflater = zlib.decompressobj(window)
        while not inflater.eof:
            if position >= len(view):
                raise MalformedRequestError("the compressed body is cut short")
            feed = view[position : position + _FEED_BYTES]
            try:
                part = inflater.decompress(feed, limit_bytes + 1 - total)
            except zlib.error as error:
                raise MalformedRequestError(f"the body cannot be decompressed: {error}") from error
            total += len(part)
            if total > limit_bytes:
                raise _too_large(limit_bytes)
            parts.append(part)
            position += len(feed) - len(inflater.unused_data)
    return b"".join(parts)


def gunzip(data: bytes, limit_bytes: int) -> bytes:
    """What a gzip file has.

    Raises:
        MalformedRequestError: It is none, or cut short.
        DecompressedTooLargeError: There is more than the limit.
    """
    return _inflate(data, limit_bytes, _GZIP)


def _deflate(data: bytes, limit_bytes: int) -> bytes:
    """With zlib's head, as the standard has it, or without, as some senders do."""
    has_head = len(data) >= 2 and data[0] & 0x0F == 8 and (data[0] << 8 | data[1]) % 31 == 0
    return _inflate(data, limit_bytes, _ZLIB if has_head else _RAW)


def _unzstd(data: bytes, limit_bytes: int) -> bytes:
    import pyarrow as pa  # has the codec; not loaded before somebody sends it

    try:
        with pa.CompressedInputStream(pa.BufferReader(data), "zstd") as stream:
            decoded: bytes = stream.read(limit_bytes + 1)
    except (OSError, pa.ArrowException) as error:
        raise MalformedRequestError(f"the body cannot be decompressed: {str(error)[:200]}") from error
    if len(decoded) > limit_bytes:
        raise _too_large(limit_bytes)
    return decoded


def _too_large(limit_bytes: int) -> DecompressedTooLargeError:
    return DecompressedTooLargeError(413, f"the body has more than {limit_bytes} bytes when it is decompressed")


_DECOMPRESSORS: Final[Mapping[str, Decompress]] = {"gzip": gunzip, "deflate": _deflate, "zstd": _unzstd}
