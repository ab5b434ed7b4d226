"""Text of others, for a terminal: nothing in it moves a cursor, colours, or turns the direction of writing."""

from __future__ import annotations

from typing import Final

_ESCAPES: Final = {
    **{code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))},
    **{code: f"\\u{code:04x}" for code in (0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A), 0xFEFF)},
    ord("\n"): "\\n",
    ord("\r"): "\\r",
    ord("\t"): "\\t",
}


def printable(text: str) -> str:
    """Text without anything that moves a cursor, colours, or turns the direction of writing."""
    return text if text.isascii() and text.isprintable() else text.translate(_ESCAPES)
