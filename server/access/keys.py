"""API keys: how they look, how they are made, and those that the environment brings.

A key has 256 random bits, so its plain SHA-256 is as good as any slow hash: nobody can try them out. Only that digest is
kept, by the server as by the database. Readers' and writers' keys look different (for scanners that search for lost
secrets, and for people), and are looked for in different places, so that a stolen writer's key reads nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from typing import Final

from lakehouse.model import KeyUse

PREFIXES: Final[Mapping[KeyUse, str]] = {KeyUse.READER: "lfr_", KeyUse.WRITER: "lfw_"}
HINT_CHARS: Final = 8  # of a key, to tell it from others in a list: the prefix and four more, of 43
KEY_CHARS_MIN: Final = 24  # of a key from the environment, which may be somebody else's kind of key
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}", re.ASCII)
_ISSUED: Final = re.compile(rb"lf[rw]_[A-Za-z0-9_-]{43}")


def new_key(use: KeyUse) -> str:
    """A key that nobody has had."""
    return PREFIXES[use] + secrets.token_urlsafe(32)


def digest_of(token: bytes) -> bytes:
    """What is kept of a token."""
    return hashlib.sha256(token).digest()


def is_issued(token: bytes) -> bool:
    """Whether ``lakeflight keys`` may have made it: nothing else is worth a question to the database."""
    return _ISSUED.fullmatch(token) is not None


def is_for(token: bytes, use: KeyUse) -> bool:
    """Whether it looks like a key of this use."""
    return token.startswith(PREFIXES[use].encode())


class Keyring:
    """Names by the digests of their keys; small, and compared without a word about how far two agree."""

    def __init__(self, digests: Mapping[bytes, str]) -> None:
        self._digests = dict(digests)

    def __bool__(self) -> bool:
        return bool(self._digests)

    def __or__(self, other: Keyring) -> Keyring:
        return Keyring(self._digests | other._digests)

    def __repr__(self) -> str:
        return f"Keyring({', '.join(sorted(self._digests.values()))})"

    def items(self) -> list[tuple[bytes, str]]:
        """Digests and names."""
        return list(self._digests.items())

    def name_of(self, digest: bytes) -> str | None:
        """Whose key has this digest; all are compared, whichever it is."""
        found = None
        for known, name in self._digests.items():
            if hmac.compare_digest(known, digest):
                found = name
        return found


def keyring(text: str | None) -> Keyring:
    """``NAME=KEY`` entries, with commas, blanks or line ends between them.

    Raises:
        ValueError: An entry is none. The message has nothing of a key.
    """
    digests: dict[bytes, str] = {}
    for number, entry in enumerate(re.split(r"[,\s]+", (text or "").strip()), 1):
        if not entry:
            continue
        name, equals, key = entry.partition("=")
        if not equals or not NAME.fullmatch(name):
            raise ValueError(f"has no NAME=KEY as entry {number}: write grafana=KEY, others after a comma")
        if len(key) < KEY_CHARS_MIN:
            raise ValueError(
                f"has a key of {len(key)} characters for {name}: at least {KEY_CHARS_MIN}, as random as can be"
                " (openssl rand -hex 32)"
            )
        if digest_of(key.encode()) in digests:
            raise ValueError(f"has the same key for {name} and {digests[digest_of(key.encode())]}")
        digests[digest_of(key.encode())] = name
    return Keyring(digests)
