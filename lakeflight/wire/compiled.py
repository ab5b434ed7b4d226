"""How loops are compiled. None of them makes an array: what they work in is given to them.

So they need none of numba's counting of who holds an array, which costs more than a loop over a short text: a locked
instruction wherever one is handed on. Callers hold the arrays for as long as a loop runs.
"""

from __future__ import annotations

from typing import Any, Final

HELPER: Final[dict[str, Any]] = {"nogil": True, "_nrt": False}
"""Called by other loops alone, and compiled with them. One with a signature would be compiled whenever it is imported:
such a loop is a ``KERNEL``."""

INLINED: Final[dict[str, Any]] = HELPER | {"forceinline": True}
"""A helper so short, or called so often, that its call would be most of it."""

KERNEL: Final[dict[str, Any]] = HELPER | {"cache": True}
"""Called from Python, or with a signature of its own: kept from one start to the next."""
