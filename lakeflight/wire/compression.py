"""LZ4 frames, the only compression inside a block's payload, with a cap on what one may grow to.

Refuses to guess: bare LZ4 blocks, truncated frames and wrong checksums are errors. Sizes that a frame claims are never
trusted for an allocation.
"""

from __future__ import annotations

from typing import Final

import lz4.frame

from lakeflight.wire.errors import CorruptPayloadError

BLOCK_DECODED_BYTES_MAX: Final = 256 << 20  # of half a payload; senders flush at 10 MiB, one huge event may exceed it
_STEP_BYTES: Final = 4 << 20


def compress(data: bytes) -> bytes:
    """One LZ4 frame in the shape of the original's sink: 64 KiB linked blocks, checksums, no content size.

    Level 0 instead of its level 10: emitting must not cost the program it watches.
    """
    compressor = lz4.frame.LZ4FrameCompressor(  # the one-shot function would unlink the blocks of short inputs
        compression_level=0,
        block_size=lz4.frame.BLOCKSIZE_MAX64KB,
        block_linked=True,
        content_checksum=True,
        block_checksum=True,
    )
    frame: bytes = compressor.begin() + compressor.compress(data) + compressor.flush()
    return frame


def decompress(frame: bytes, *, limit_bytes: int) -> bytes:
    """Decode the first LZ4 frame; bytes after its end mark are ignored.

    Raises:
        CorruptPayloadError: No frame, cut short, checksum mismatch, or more than ``limit_bytes`` when decoded.
    """
    if not frame:
        raise CorruptPayloadError("LZ4 frame is empty")
    decompressor = lz4.frame.LZ4FrameDecompressor()
    try:
        step = min(limit_bytes + 1, max(_STEP_BYTES, 4 * len(frame)))
        first: bytes = decompressor.decompress(frame, max_length=step)
        if decompressor.eof and len(first) <= limit_bytes:
            return first
        parts = [first]
        total = len(first)
        while not decompressor.eof:
            if total > limit_bytes:
                raise CorruptPayloadError(f"LZ4 frame decodes to more than {limit_bytes} bytes")
            if decompressor.needs_input:
                raise CorruptPayloadError(f"LZ4 frame of {len(frame)} bytes is cut short after {total} decoded bytes")
            part: bytes = decompressor.decompress(b"", max_length=min(limit_bytes + 1 - total, _STEP_BYTES))
            parts.append(part)
            total += len(part)
    except (RuntimeError, EOFError, ValueError, MemoryError) as error:
        if isinstance(error, CorruptPayloadError):
            raise
        raise CorruptPayloadError(f"LZ4 frame of {len(frame)} bytes is damaged: {error}") from error
    if total > limit_bytes:
        raise CorruptPayloadError(f"LZ4 frame decodes to more than {limit_bytes} bytes")
    return b"".join(parts)
