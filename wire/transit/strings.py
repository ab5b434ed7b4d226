"""Text inside records: the inline string with its codec, as Python reads it one at a time.

Whole columns of messages go through ``kernels`` instead; both give the same text. Bytes that are no UTF-8 (or UTF-16)
become U+FFFD, one for each maximal ill-formed part, except where the format demands valid UTF-8.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from wire.errors import CorruptPayloadError

CODEC_ANSI: Final = 0  # written by senders for ASCII text, and read as UTF-8
CODEC_WIDE: Final = 1  # UTF-16, little endian
CODEC_UTF8: Final = 2

DYN_STRING_HEAD: Final = Struct("<BI")  # codec, length in bytes


def read_dyn_string(data: bytes, start: int, end: int) -> str:
    """The inline string at ``start``, which must fit before ``end``.

    Raises:
        CorruptPayloadError: Unknown codec, odd length of a wide string, or a length beyond ``end``.
    """
    if end - start < DYN_STRING_HEAD.size:
        raise CorruptPayloadError(f"string at {start} has no room for its head")
    codec, length = DYN_STRING_HEAD.unpack_from(data, start)
    start += DYN_STRING_HEAD.size
    if length > end - start:
        raise CorruptPayloadError(f"string at {start} of {length} bytes has {end - start} left")
    raw = data[start : start + length]
    if codec in (CODEC_UTF8, CODEC_ANSI):
        return raw.decode("utf-8", "replace")
    if codec == CODEC_WIDE:
        if length % 2:
            raise CorruptPayloadError(f"wide string at {start} has an odd length of {length} bytes")
        return raw.decode("utf-16-le", "replace")
    raise CorruptPayloadError(f"string at {start} has the unknown codec {codec}")


def read_strict(data: bytes, start: int, end: int) -> str:
    """All bytes from ``start`` to ``end``, which must be valid UTF-8."""
    try:
        return data[start:end].decode()
    except UnicodeDecodeError as error:
        raise CorruptPayloadError(f"string at {start} of {end - start} bytes is not UTF-8") from error
