"""Tokens that people bring from an issuer: signature, issuer, audience and times are checked by PyJWT.

What is decided here is only what may be asked of it: which issuers, three algorithms of public keys, and a key of that issuer.
What the token says of itself chooses among these and adds nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

import jwt

from lakehouse.errors import UnauthenticatedError
from server.access.issuers import Issuer, PublishedKeys

KEY_TYPES: Final = {"RS256": "RSA", "PS256": "RSA", "ES256": "EC"}  # by algorithm; never one with a shared secret
LEEWAY_S: Final = 60  # between the issuer's clock and ours
SUBJECT_CHARS_MAX: Final = 256
_TOKEN: Final = re.compile(rb"eyJ[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*")
_REQUIRED: Final = ["exp", "iat", "sub", "iss", "aud"]
_REFUSED: Final = "the token is not accepted here: it is wrong, has expired, or is not for this server"


class IssuedTokens:
    """Who brings a token of one of these issuers."""

    def __init__(self, issuers: Sequence[Issuer]) -> None:
        self._published = {issuer.url: PublishedKeys(issuer) for issuer in issuers}

    def may_know(self, token: bytes) -> bool:
        """Whether it looks like one."""
        return _TOKEN.fullmatch(token) is not None

    async def identify(self, token: bytes) -> tuple[str, frozenset[str], float]:
        """The subject, as ``ISSUER#SUBJECT``; the address it has verified; when the token expires.

        Raises:
            UnauthenticatedError: The token is nobody's.
            BackendUnavailableError: The issuer does not answer.
        """
        try:
            header = jwt.get_unverified_header(token)
            says = jwt.decode(token, options={"verify_signature": False})
            algorithm, key_id, issuer = header.get("alg"), header.get("kid"), says.get("iss")
        except (jwt.PyJWTError, ValueError, RecursionError):
            raise UnauthenticatedError(_REFUSED) from None
        published = self._published.get(issuer) if isinstance(issuer, str) else None
        if published is None or algorithm not in KEY_TYPES or not isinstance(key_id, str):
            raise UnauthenticatedError(_REFUSED)
        key = await published.key(key_id)
        if key is None or key.get("kty") != KEY_TYPES[algorithm] or key.get("alg", algorithm) != algorithm:
            raise UnauthenticatedError(_REFUSED)
        try:
            claims = jwt.decode(
                token,
                jwt.PyJWK(dict(key), algorithm),
                algorithms=[algorithm],
                audience=published.issuer.audience,
                issuer=published.issuer.url,
                leeway=LEEWAY_S,
                options={"require": _REQUIRED},
            )
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError):
            raise UnauthenticatedError(_REFUSED) from None
        return _subject(claims), _addresses(claims), float(claims["exp"])


def _subject(claims: dict[str, Any]) -> str:
    subject = claims["sub"]
    if not isinstance(subject, str) or not 0 < len(subject) <= SUBJECT_CHARS_MAX:
        raise UnauthenticatedError(_REFUSED)
    return f"{claims['iss']}#{subject}"


def _addresses(claims: dict[str, Any]) -> frozenset[str]:
    """An address that the subject only claims to have is none."""
    address = claims.get("email")
    return frozenset({address} if isinstance(address, str) and claims.get("email_verified") is True else ())
