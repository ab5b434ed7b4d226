"""What can happen to a partition file on a disk: by name, as functions over its path."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from lakehouse.storage.digests import TAIL_BYTES

Damage = Callable[[Path, Path], None]  # of a file, with another partition's beside it


def _footer_bytes(content: bytes | bytearray) -> int:
    return int.from_bytes(content[-8:-4], "little")


def _absent(path: Path, other: Path) -> None:
    path.unlink()


def _truncated(path: Path, other: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _emptied(path: Path, other: Path) -> None:
    os.truncate(path, 0)


def _longer(path: Path, other: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def _zeroed(path: Path, other: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def _footer(path: Path, other: Path) -> None:
    content = bytearray(path.read_bytes())
    begin = len(content) - 8 - _footer_bytes(content)
    content[begin : begin + 20] = bytes(b ^ 0xFF for b in content[begin : begin + 20])
    path.write_bytes(content)


def _footer_length(path: Path, other: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-8:-4] = b"\xff\xff\xff\x7f"
    path.write_bytes(content)


def _magic(path: Path, other: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-4:] = b"\0\0\0\0"
    path.write_bytes(content)


def _others(path: Path, other: Path) -> None:
    """Sized right, with a footer that is whole."""
    size = path.stat().st_size
    path.write_bytes(other.read_bytes().rjust(size, b"\0")[-size:])


def _others_whole(path: Path, other: Path) -> None:
    path.write_bytes(other.read_bytes())


DAMAGES: Final[dict[str, Damage]] = {
    "absent": _absent,
    "truncated": _truncated,
    "emptied": _emptied,
    "longer": _longer,
    "zeroed": _zeroed,
    "a damaged footer": _footer,
    "a footer of another length": _footer_length,
    "no magic at its end": _magic,
    "another partition's bytes, sized right": _others,
    "another partition's bytes": _others_whole,
}


def damage_inside(path: Path) -> None:
    """Zeros in place of its rows; its length, and all of its end, are as they were."""
    content = bytearray(path.read_bytes())
    kept = max(TAIL_BYTES, 8 + _footer_bytes(content))
    assert len(content) > kept + 1024, f"a file of {len(content)} bytes has no inside"
    content[4 : len(content) - kept] = bytes(len(content) - kept - 4)
    path.write_bytes(content)
