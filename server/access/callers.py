"""Who calls: the credential among a request's headers -> ``Caller``. The same for Flight and for HTTP.

Awaited, because identities may come from a database or a key server. What goes wrong there is told apart: a credential that
nobody knows is ``UnauthenticatedError``, an authority that does not answer is ``BackendUnavailableError``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from lakehouse.model import Caller


@dataclass(frozen=True, slots=True)
class Origin:
    """What is known of a call from its connection, whatever its headers say."""

    is_own_socket: bool = False  # a socket of the server's own user, which the kernel lets nobody else open
    certificate: str | None = None  # the subject's common name, of a certificate that the connection has proved


Authenticate: TypeAlias = Callable[[Mapping[str, str], Origin], Awaitable[Caller]]  # of headers, names in lower case

CALLER_TIMEOUT_S: Final = 5.0  # to find out who calls; past it the backend of identities counts as not available
ELSEWHERE: Final = Origin()  # over a network, without a certificate

_ANONYMOUS: Final = Caller()


async def anonymous(headers: Mapping[str, str], origin: Origin = ELSEWHERE) -> Caller:
    """Everybody is the same caller where identities are not required, whatever credentials a client brings along."""
    return _ANONYMOUS
