"""Where objects lie below a store's root. Pure: makes and checks keys, touches nothing."""

from __future__ import annotations

import hashlib
import re
import secrets
from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import quote

KEY_BYTES_MAX: Final = 1024  # what S3 allows
SEGMENT_BYTES_MAX: Final = 255  # what file systems allow
VALUE_CHARACTERS_MAX: Final = 100
BLOBS: Final = "blobs"
PARTITIONS: Final = "_schema/lake/partitions"
LAKE_ID: Final = "_lake/id"  # an object that says whose store this is
TOKEN_BYTES: Final = 12  # 16 characters of A-Za-z0-9-_
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SAFE_KEY: Final = re.compile(r"[A-Za-z0-9_.=%-]+(?:/[A-Za-z0-9_.=%-]+)*", re.ASCII)


def checked_key(key: str) -> str:
    """``key`` itself, if no adapter can be led astray by it.

    Raises:
        ValueError: Absolute, empty, too long, or with a segment that is empty, ``.``, ``..`` or has a character outside
            of ``[A-Za-z0-9_.=%-]``.
    """
    if not _SAFE_KEY.fullmatch(key) or len(key) > KEY_BYTES_MAX:
        raise ValueError(f"not a key of the store: {key[:80]!r}")
    if "/." in key or key[0] == "." or len(key) > SEGMENT_BYTES_MAX:
        for segment in key.split("/"):
            if segment in (".", "..") or len(segment) > SEGMENT_BYTES_MAX:
                raise ValueError(f"not a key of the store: {key[:80]!r}")
    return key


def checked_prefix(prefix: str) -> str:
    """A folder of keys: empty, or a key with or without a slash at its end."""
    return checked_key(prefix.rstrip("/")) if prefix else ""


def is_blob(key: str) -> bool:
    return key.startswith(f"{BLOBS}/")


def blob_key(process_id: str, stream_id: str, block_id: str) -> str:
    """A block's payload; the layout that other tools of the ecosystem know."""
    return f"{BLOBS}/{process_id}/{stream_id}/{block_id}"


def partition_key(view_set: str, instance: str, bucket_begin_ns: int) -> str:
    """A fresh key for one Parquet file of a bucket; never the same twice."""
    begin = (_EPOCH + timedelta(microseconds=bucket_begin_ns // 1000)).strftime("%Y-%m-%dT%H-%M-%S.%fZ")
    token = secrets.token_urlsafe(TOKEN_BYTES)
    folders = f"view_set={path_value(view_set)}/view_instance={path_value(instance)}/begin={begin}"
    return f"{PARTITIONS}/{folders}/data_{token}.parquet"


def path_value(text: str) -> str:
    """Text as part of a segment: two texts never give the same."""
    encoded = quote(text, safe="")
    encoded = encoded.replace("~", "%7E")
    if len(encoded) > VALUE_CHARACTERS_MAX:
        return f"{encoded[:40]}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    return encoded
