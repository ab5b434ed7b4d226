"""Headers -> the secret that a client sends: ``Bearer TOKEN``, or ``Basic`` with the token as the password.

Clients differ in how they spell it, and none of that is a reason to refuse: schemes in any case, Basic with its padding or
without, and a header of its own for ODBC builds that drop ``authorization``. Which name comes with a password is not looked
at: the token says whose it is.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Final

from lakehouse.errors import UnauthenticatedError

TOKEN_BYTES_MAX: Final = 32 << 10  # an OIDC token with many groups has 20 KiB; what is longer is not even hashed
AUTHORIZATION: Final = "authorization"
ALIAS: Final = "x-lakehouse-authorization"  # some ODBC drivers drop the header above


def token_of(headers: Mapping[str, str]) -> bytes | None:
    """The secret, ``None`` if the client sends none.

    Raises:
        UnauthenticatedError: It sends what cannot be one. The message has nothing of it.
    """
    given = headers.get(AUTHORIZATION) or headers.get(ALIAS)
    if not given:
        return None
    if len(given) > TOKEN_BYTES_MAX:
        raise UnauthenticatedError(f"the credential is longer than {TOKEN_BYTES_MAX} bytes, which none is")
    scheme, _, rest = given.partition(" ")
    match scheme.lower():
        case "bearer":
            token = rest.strip().encode("utf-8", "surrogateescape")
        case "basic":
            token = _password_of(rest.strip())
        case _:
            raise UnauthenticatedError("the credential is neither Bearer nor Basic: send `authorization: Bearer KEY`")
    return token or None


def is_basic(headers: Mapping[str, str]) -> bool:
    """Whether the client logs in with a name and a password, and expects a token for its further calls."""
    return (headers.get(AUTHORIZATION) or headers.get(ALIAS) or "")[:6].lower() == "basic "


def _password_of(encoded: str) -> bytes:
    try:
        pair = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise UnauthenticatedError("the name and password are not base64, as Basic has them") from None
    return pair.partition(b":")[2]  # a password may have colons, a name has none
