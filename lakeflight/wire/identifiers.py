"""One spelling for every id: lower-case hyphenated UUID text.

Senders write UUIDs in four ways, and ids become object keys and SQL values, so nothing else may pass. Refuses to make
ids.
"""

from __future__ import annotations

import re
from typing import Final

from lakeflight.wire.errors import MalformedRequestError

_CANONICAL: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_HYPHENATED: Final = r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"
_LIBERAL: Final = re.compile(rf"{_HYPHENATED}|\{{{_HYPHENATED}\}}|urn:uuid:{_HYPHENATED}|[0-9a-fA-F]{{32}}")
_SHOWN_CHARS_MAX: Final = 64  # of a refused id, in the message

_is_canonical: Final = _CANONICAL.fullmatch


def canonical_uuid(text: str) -> str:
    """Bring hyphenated, plain, ``{braced}`` and ``urn:uuid:`` forms, in any case, to lower-case hyphenated text.

    Raises:
        MalformedRequestError: The text is none of them.
    """
    if _is_canonical(text):  # what every known sender writes; uuid.UUID() would cost ten times as much
        return text
    if not _LIBERAL.fullmatch(text):
        raise MalformedRequestError(f"not a UUID: {text[:_SHOWN_CHARS_MAX]!r}")
    digits = text.removeprefix("urn:uuid:").strip("{}").replace("-", "").lower()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
