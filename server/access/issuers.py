"""Issuers of tokens (OpenID Connect): which are believed, and the public keys that they publish.

An issuer's keys are fetched when they are first needed, and again when a token names one that is not among them, once a
minute at most: a stranger's tokens cause no more than that. Keys that were fetched stay good through an outage of the issuer.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

import structlog

from lakehouse.errors import BackendUnavailableError

log = structlog.get_logger(__name__)

REFRESHED_AFTER_S: Final = 3600.0  # so that keys which the issuer has taken back go
KEPT_S: Final = 86_400.0  # of an issuer that does not answer
ASKED_EVERY_S: Final = 60.0  # about keys that it has not
RETRIED_AFTER_S: Final = 5.0  # of an issuer that did not answer
FETCH_TIMEOUT_S: Final = 3.0
DOCUMENT_BYTES_MAX: Final = 1 << 20
KEYS_MAX: Final = 100
DISCOVERY: Final = "/.well-known/openid-configuration"


@dataclass(frozen=True, slots=True)
class Issuer:
    """Whose tokens are believed, if they are for this audience."""

    url: str
    audience: str


def issuers_of(text: str | None) -> tuple[Issuer, ...]:
    """``ISSUER=AUDIENCE`` entries with commas between them.

    Raises:
        ValueError: An entry is none.
    """
    found: list[Issuer] = []
    for number, entry in enumerate(re.split(r"[,\s]+", (text or "").strip()), 1):
        if not entry:
            continue
        url, _, audience = entry.partition("=")
        if not audience or not _is_trustworthy(url):
            raise ValueError(
                f"has no ISSUER=AUDIENCE as entry {number}: write https://login.example.org/realm=lakeflight; the issuer as"
                " tokens spell it, over https"
            )
        if any(url == issuer.url for issuer in found):
            raise ValueError(f"names {url} twice")
        found.append(Issuer(url, audience))
    return tuple(found)


def _is_trustworthy(url: str) -> bool:
    """Keys come over https alone, but for an issuer on this machine."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if not host or "@" in parts.netloc or parts.query or parts.fragment:
        return False
    try:
        is_here = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_here = False
    return parts.scheme == "https" or (parts.scheme == "http" and is_here)


@dataclass(slots=True)
class PublishedKeys:
    """The signing keys of one issuer, by their ids."""

    issuer: Issuer
    clock: Callable[[], float] = time.monotonic
    _keys: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    _fetched_at: float | None = None
    _asked_at: float | None = None
    _asking: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def key(self, key_id: str) -> Mapping[str, Any] | None:
        """The key as published; ``None`` if the issuer has none of that id.

        Raises:
            BackendUnavailableError: It does not answer, and what is known is not enough.
        """
        if key_id not in self._keys or self._age() > REFRESHED_AFTER_S:
            async with self._asking:  # who waited looks again at what the other has found
                if self._should_ask(key_id):
                    await self._ask()
        if self._age() > KEPT_S:
            raise BackendUnavailableError("the issuer of this token does not answer: try again")
        return self._keys.get(key_id)

    def _age(self) -> float:
        return float("inf") if self._fetched_at is None else self.clock() - self._fetched_at

    def _should_ask(self, key_id: str) -> bool:
        since = float("inf") if self._asked_at is None else self.clock() - self._asked_at
        has_answered = self._fetched_at is not None and self._fetched_at == self._asked_at
        if key_id in self._keys and self._age() <= REFRESHED_AFTER_S:
            return False
        return since > (ASKED_EVERY_S if has_answered else RETRIED_AFTER_S)

    async def _ask(self) -> None:
        self._asked_at = self.clock()
        try:
            self._keys = await asyncio.to_thread(_fetch_keys, self.issuer)
        except (OSError, ValueError) as error:
            log.warning("access.issuer_unavailable", issuer=self.issuer.url, reason=str(error)[:200])
            return
        self._fetched_at = self._asked_at


def _fetch_keys(issuer: Issuer) -> dict[str, Mapping[str, Any]]:
    """
    Raises:
        OSError, ValueError: There is no answer, or it is not what it should be.
    """
    about = _fetch(issuer.url.rstrip("/") + DISCOVERY)
    if about.get("issuer") != issuer.url:
        raise ValueError(f"it calls itself {str(about.get('issuer'))[:100]!r}")
    url = about.get("jwks_uri")
    if not isinstance(url, str) or not _is_trustworthy(url):
        raise ValueError("it does not say over https where its keys are")
    keys = _fetch(url).get("keys")
    if not isinstance(keys, list):
        raise ValueError("it publishes no keys")
    return {
        key["kid"]: key
        for key in keys[:KEYS_MAX]
        if isinstance(key, dict) and isinstance(key.get("kid"), str) and key.get("use", "sig") == "sig"
    }


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """An answer from elsewhere is none."""


def _fetch(url: str) -> dict[str, Any]:
    opener = urllib.request.build_opener(_NoRedirect)
    with opener.open(url, timeout=FETCH_TIMEOUT_S) as answer:
        body = answer.read(DOCUMENT_BYTES_MAX + 1)
    if len(body) > DOCUMENT_BYTES_MAX:
        raise ValueError(f"its answer has more than {DOCUMENT_BYTES_MAX} bytes")
    document = json.loads(body)
    if not isinstance(document, dict):
        raise ValueError("its answer is no JSON object")
    return document
