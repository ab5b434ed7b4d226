"""Errors of the tree as they cross the connection between edge and worker: a name and a sentence."""

from __future__ import annotations

from typing import Final

from lakehouse import errors
from lakehouse.errors import InternalError, LakeflightError
from server.workers.protocol import ERROR_TEXT_MAX

_ERRORS: Final[dict[str, type[LakeflightError]]] = {
    name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, LakeflightError)
}


def error_of(name: str, message: str) -> LakeflightError:
    """The other side's failure as an error of ours. Only the tree's own names count; no detail is in it."""
    kind = _ERRORS.get(name, InternalError)
    if kind is LakeflightError:
        kind = InternalError
    return kind(message[:ERROR_TEXT_MAX])
