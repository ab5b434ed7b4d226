"""Tokens of an issuer: who is believed, who is not, and what becomes of it when the issuer does not answer.

Security check 7 of the list of what must hold: each way to forge a token is tried against real keys of a real issuer.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Collection, Iterator
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization

from lakehouse.errors import BackendUnavailableError, UnauthenticatedError
from lakehouse.model import CallerKind, KeyUse
from server.access import Identities
from server.access import issuers as issuers_module
from server.access.issuers import ASKED_EVERY_S, KEPT_S, Issuer, PublishedKeys, issuers_of
from server.access.keys import keyring
from server.access.tokens import IssuedTokens
from tests.support.issuer import AUDIENCE, TokenIssuer, token_issuer


@pytest.fixture
def issuer() -> Iterator[TokenIssuer]:
    with token_issuer() as issuer:
        yield issuer


class _NoKeys:
    """A database that must not be asked: tokens are none of its business."""

    async def find(self, digest: bytes) -> Any:
        raise AssertionError("asked")

    async def note_use(self, key_ids: Collection[int]) -> None:
        raise AssertionError("told")


def readers_of(*issuers: TokenIssuer, admins: frozenset[str] = frozenset()) -> Identities:
    tokens = IssuedTokens([Issuer(issuer.url, AUDIENCE) for issuer in issuers])
    return Identities(KeyUse.READER, keyring(None), _NoKeys(), tokens=tokens, admins=admins)


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "PS256"])
async def test_a_token_is_its_subject(issuer: TokenIssuer, algorithm: str) -> None:
    issuer.add("key", algorithm)

    caller = await readers_of(issuer)(bearer(issuer.token("key", aud=["other", AUDIENCE])))

    assert (caller.name, caller.kind, caller.is_admin) == (f"{issuer.url}#ann", CallerKind.PERSON, False)


async def test_a_token_may_be_a_password_and_as_large_as_they_get(issuer: TokenIssuer) -> None:
    """FS-53: many groups make 20 KB."""
    token = issuer.token(groups=[f"group-{number}" for number in range(1_300)])
    assert len(token) > 20_000

    encoded = base64.b64encode(f"ann:{token}".encode()).decode()

    assert (await readers_of(issuer)({"authorization": f"Basic {encoded}"})).name.endswith("#ann")


async def test_admins_are_named_by_subject_or_by_an_address_that_was_verified(issuer: TokenIssuer) -> None:
    readers = readers_of(issuer, admins=frozenset({f"{issuer.url}#root", "ops@example.org"}))

    async def is_admin(**claims: Any) -> bool:
        return (await readers(bearer(issuer.token(**claims)))).is_admin

    assert await is_admin(sub="root")
    assert await is_admin(sub="bob", email="ops@example.org", email_verified=True)
    assert not await is_admin(sub="eve", email="ops@example.org")
    assert not await is_admin(sub="eve", email="ops@example.org", email_verified="true")
    assert not await is_admin(sub="ops@example.org")


async def test_subjects_of_two_issuers_are_two_identities(issuer: TokenIssuer) -> None:
    with token_issuer() as other:
        readers = readers_of(issuer, other)

        names = {(await readers(bearer(one.token()))).name for one in (issuer, other)}

    assert names == {f"{issuer.url}#ann", f"{other.url}#ann"}


def encoded(part: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()


def without_signature(issuer: TokenIssuer, algorithm: str) -> str:
    return f"{encoded({'alg': algorithm, 'kid': 'first'})}.{encoded(issuer.claims())}."


def signed_with_the_public_key(issuer: TokenIssuer) -> str:
    """HS256, where the secret is what everybody can fetch."""
    public = issuer.private["first"][1].public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    content = f"{encoded({'alg': 'HS256', 'kid': 'first'})}.{encoded(issuer.claims())}"
    signature = hmac.new(pem, content.encode(), hashlib.sha256).digest()
    return f"{content}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def of_a_strangers_key(issuer: TokenIssuer) -> str:
    stranger = TokenIssuer(issuer.url)
    return stranger.token()


def with_a_key_of_its_own(issuer: TokenIssuer) -> str:
    stranger = TokenIssuer(issuer.url)
    headers = {"kid": "first", "jwk": stranger.published()[0], "jku": f"{issuer.url}/other"}
    return jwt.encode(issuer.claims(), stranger.private["first"][1], "RS256", headers=headers)


def changed(issuer: TokenIssuer) -> str:
    header, _, signature = issuer.token().split(".")
    return f"{header}.{encoded(issuer.claims(sub='root'))}.{signature}"


def a_list_as_issuer(issuer: TokenIssuer) -> str:
    content = json.dumps(issuer.claims(iss=[issuer.url])).encode()
    return jwt.api_jws.encode(content, issuer.private["first"][1], "RS256", headers={"kid": "first"})


NOW = time.time
FORGED: dict[str, Callable[[TokenIssuer], str]] = {
    "alg none": lambda issuer: without_signature(issuer, "none"),
    "alg NONE": lambda issuer: without_signature(issuer, "None"),
    "no signature": lambda issuer: without_signature(issuer, "RS256"),
    "HS256 with the public key": signed_with_the_public_key,
    "a stranger's key": of_a_strangers_key,
    "a key of its own": with_a_key_of_its_own,
    "changed claims": changed,
    "another algorithm of the same key": lambda issuer: jwt.encode(
        issuer.claims(), issuer.private["first"][1], "PS256", headers={"kid": "first"}
    ),
    "a longer algorithm": lambda issuer: jwt.encode(
        issuer.claims(), issuer.private["first"][1], "RS512", headers={"kid": "first"}
    ),
    "no kid": lambda issuer: jwt.encode(issuer.claims(), issuer.private["first"][1], "RS256"),
    "another audience": lambda issuer: issuer.token(aud="other"),
    "no audience": lambda issuer: issuer.token(aud=None),
    "another issuer": lambda issuer: issuer.token(iss="https://example.org"),
    "the issuer with a slash": lambda issuer: issuer.token(iss=issuer.url + "/"),
    "no issuer": lambda issuer: issuer.token(iss=None),
    "expired": lambda issuer: issuer.token(exp=int(NOW()) - 61),
    "no expiry": lambda issuer: issuer.token(exp=None),
    "expiry that is no time": lambda issuer: issuer.token(exp="tomorrow"),
    "not yet": lambda issuer: issuer.token(nbf=int(NOW()) + 120),
    "issued in the future": lambda issuer: issuer.token(iat=int(NOW()) + 120),
    "no subject": lambda issuer: issuer.token(sub=None),
    "an empty subject": lambda issuer: issuer.token(sub=""),
    "an endless subject": lambda issuer: issuer.token(sub="a" * 300),
    "a list as issuer": a_list_as_issuer,
    "no JSON": lambda issuer: "eyJhbGciOi.eyJ.abc",
    "100 kB": lambda issuer: issuer.token(pad="a" * 100_000),
}


@pytest.mark.parametrize("how", FORGED)
async def test_a_token_that_is_not_good_is_nobodys(issuer: TokenIssuer, how: str) -> None:
    """Security check 7."""
    readers = readers_of(issuer)
    token = FORGED[how](issuer)

    with pytest.raises(UnauthenticatedError) as refused:
        await readers(bearer(token))

    assert token[:12] not in str(refused.value)
    assert (await readers(bearer(issuer.token()))).name == f"{issuer.url}#ann"


@pytest.mark.parametrize("claims", [{"exp": -30}, {"nbf": 30}, {"iat": 30}])
async def test_clocks_may_differ_a_little(issuer: TokenIssuer, claims: dict[str, int]) -> None:
    times: dict[str, Any] = {name: int(NOW()) + seconds for name, seconds in claims.items()}
    token = issuer.token(**times)

    assert (await readers_of(issuer)(bearer(token))).name == f"{issuer.url}#ann"


async def test_a_new_key_is_fetched_and_unknown_ones_cause_one_question_a_minute(issuer: TokenIssuer) -> None:
    now = 0.0
    keys = PublishedKeys(Issuer(issuer.url, AUDIENCE), lambda: now)
    assert await keys.key("first") is not None
    assert issuer.asked == 1

    issuer.add("second", "ES256")
    for number in range(20):
        assert await keys.key(f"unknown-{number}") is None
    assert issuer.asked == 1, "asked a moment ago"
    now += ASKED_EVERY_S + 1
    found = await asyncio.gather(*(keys.key("second") for _ in range(10)), *(keys.key(f"x{n}") for n in range(10)))

    assert [key is not None for key in found] == [True] * 10 + [False] * 10
    assert issuer.asked == 2


async def test_keys_outlive_an_outage_of_the_issuer_and_without_any_the_answer_is_to_try_again(
    issuer: TokenIssuer,
) -> None:
    now = 0.0
    keys = PublishedKeys(Issuer(issuer.url, AUDIENCE), lambda: now)
    issuer.is_down = True
    with pytest.raises(BackendUnavailableError):
        await keys.key("first")
    issuer.is_down = False
    now += 6
    assert await keys.key("first") is not None

    issuer.is_down = True
    now += KEPT_S - 10
    assert await keys.key("first") is not None
    now += 20
    with pytest.raises(BackendUnavailableError):
        await keys.key("first")


async def test_a_key_that_the_issuer_took_back_goes(issuer: TokenIssuer) -> None:
    now = 0.0
    keys = PublishedKeys(Issuer(issuer.url, AUDIENCE), lambda: now)
    assert await keys.key("first") is not None
    del issuer.private["first"]
    issuer.add("second", "RS256")

    now += issuers_module.REFRESHED_AFTER_S + 1

    assert await keys.key("first") is None


@pytest.mark.parametrize(
    "text",
    [
        "https://login.example.org",
        "http://login.example.org=a",
        "login.example.org=a",
        "https://user@login.example.org=a",
        "https://a.example.org=a,https://a.example.org=b",
        "file:///etc/passwd=a",
    ],
)
def test_an_issuer_that_could_be_anybody_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"has no ISSUER=AUDIENCE as entry 1|names .* twice"):
        issuers_of(text)
