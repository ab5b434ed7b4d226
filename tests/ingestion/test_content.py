"""Compressed bodies are read whole, and only as far as they are honest."""

from __future__ import annotations

import gzip
import os
import random

import pytest

from lakeflight.wire.errors import MalformedRequestError
from server.ingestion.content import MEMBERS_MAX, decompressor_of
from server.ingestion.limits import RequestRefusedError

LIMIT_BYTES = 20 << 20


def gunzip(data: bytes, limit_bytes: int = LIMIT_BYTES) -> bytes:
    decompress = decompressor_of("gzip")
    assert decompress is not None
    return decompress(data, limit_bytes)


def test_members_of_any_size_are_read_as_one_wherever_they_end() -> None:
    choose = random.Random(7)
    members = [os.urandom(choose.choice((0, 1, 100, 65_517, 65_536, 200_000))) for _ in range(60)]

    assert gunzip(b"".join(map(gzip.compress, members))) == b"".join(members)


def test_a_body_has_so_many_members_and_no_more() -> None:
    assert gunzip(gzip.compress(b"x") * MEMBERS_MAX) == b"x" * MEMBERS_MAX
    for member in (b"", b"x"):
        with pytest.raises(MalformedRequestError, match=f"more than {MEMBERS_MAX} members"):
            gunzip(gzip.compress(member) * (MEMBERS_MAX + 1))


@pytest.mark.parametrize("size", [0, 1, 65_536, 300_000])
def test_every_cut_and_everything_behind_the_end_is_refused(size: int) -> None:
    body = gzip.compress(os.urandom(size))
    for cut in (1, 9, len(body) // 2, len(body) - 1):
        with pytest.raises(MalformedRequestError, match="cut short"):
            gunzip(body[:cut])
    with pytest.raises(MalformedRequestError, match="cannot be decompressed"):
        gunzip(body + b"something else")


def test_the_limit_is_exact() -> None:
    body = gzip.compress(bytes(70_000)) + gzip.compress(bytes(30_000))

    assert len(gunzip(body, 100_000)) == 100_000
    with pytest.raises(RequestRefusedError) as refused:
        gunzip(body, 99_999)
    assert refused.value.status == 413
