from __future__ import annotations

import lz4.frame
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakeflight.wire.compression import BLOCK_DECODED_BYTES_MAX, compress, decompress
from lakeflight.wire.errors import CorruptPayloadError

EMPTY_FROM_RUST = bytes.fromhex("04224d185440ae00000000055dcc02")
ABC_FROM_RUST = bytes.fromhex("04224d185440ae03000080616263ff53d13200000000ff53d132")
EMPTY_FROM_UNREAL = bytes.fromhex("04224d1860408200000000")


def test_frames_of_both_known_senders_are_read() -> None:
    assert decompress(EMPTY_FROM_RUST, limit_bytes=0) == b""
    assert decompress(EMPTY_FROM_UNREAL, limit_bytes=0) == b""
    assert decompress(ABC_FROM_RUST, limit_bytes=3) == b"abc"


def test_small_frames_are_those_of_the_rust_sink() -> None:
    assert compress(b"") == EMPTY_FROM_RUST
    assert compress(b"abc") == ABC_FROM_RUST


@settings(max_examples=50)
@given(st.binary(max_size=2000), st.integers(1, 200))
def test_what_was_compressed_comes_back(piece: bytes, times: int) -> None:
    data = piece * times

    assert decompress(compress(data), limit_bytes=len(data)) == data


def test_bytes_after_the_first_frame_are_ignored() -> None:
    assert decompress(ABC_FROM_RUST + b"more" + ABC_FROM_RUST, limit_bytes=100) == b"abc"


@pytest.mark.parametrize("length", range(len(ABC_FROM_RUST)))
def test_every_cut_frame_is_refused(length: int) -> None:
    with pytest.raises(CorruptPayloadError):
        decompress(ABC_FROM_RUST[:length], limit_bytes=100)


@pytest.mark.parametrize("position", [4, 5, 6, 11, 12, 14, 15, 22, 25])
def test_a_flipped_byte_is_noticed(position: int) -> None:
    frame = bytearray(ABC_FROM_RUST)
    frame[position] ^= 0x55

    with pytest.raises(CorruptPayloadError):
        decompress(bytes(frame), limit_bytes=100)


def test_a_bare_block_is_no_frame() -> None:
    with pytest.raises(CorruptPayloadError, match="damaged"):
        decompress(b"\xc0abcdefghijkl", limit_bytes=100)


def test_the_limit_is_exact() -> None:
    frame = compress(bytes(100_000))

    assert len(decompress(frame, limit_bytes=100_000)) == 100_000
    with pytest.raises(CorruptPayloadError, match="more than 99999 bytes"):
        decompress(frame, limit_bytes=99_999)


def test_a_bomb_stops_at_the_limit() -> None:
    frame = lz4.frame.compress(bytes(64 << 20))

    with pytest.raises(CorruptPayloadError, match="more than 1048576 bytes"):
        decompress(frame, limit_bytes=1 << 20)


def test_a_claimed_size_is_not_believed() -> None:
    frame = bytearray(lz4.frame.compress(b"abc", store_size=True))
    honest = bytes(frame)

    assert decompress(honest, limit_bytes=3) == b"abc"
    assert BLOCK_DECODED_BYTES_MAX == 256 << 20
    frame[6:14] = (1 << 40).to_bytes(8, "little")  # the header checksum no longer fits, and nothing was allocated
    with pytest.raises(CorruptPayloadError):
        decompress(bytes(frame), limit_bytes=BLOCK_DECODED_BYTES_MAX)
