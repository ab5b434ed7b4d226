"""Who calls: the credential among a request's headers -> ``Caller``. The same for Flight and for HTTP.

Awaited, because identities may come from a database or a key server. What goes wrong there is told apart: a credential that
nobody knows is ``UnauthenticatedError``, an authority that does not answer is ``BackendUnavailableError``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final, TypeAlias

from lakehouse.model import Caller

Authenticate: TypeAlias = Callable[[Mapping[str, str]], Awaitable[Caller]]  # of headers, their names in lower case

CALLER_TIMEOUT_S: Final = 5.0  # to find out who calls; past it the backend of identities counts as not available

_ANONYMOUS: Final = Caller()


async def anonymous(headers: Mapping[str, str]) -> Caller:
    """Everybody is the same caller until identities exist, whatever credentials a client brings along."""
    return _ANONYMOUS
