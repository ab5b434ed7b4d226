"""Whose a credential is: keys from the environment and from the database, for how long they count, and who is refused."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio

from lakehouse.catalog.connect import open_pool
from lakehouse.catalog.keys import StoredKeys
from lakehouse.errors import BackendUnavailableError, UnauthenticatedError
from lakehouse.model import CallerKind, KeyUse
from server.access import Identities, Origin
from server.access.credentials import TOKEN_BYTES_MAX, token_of
from server.access.identities import KNOWN_S, REMEMBERED_MAX, UNKNOWN_S
from server.access.keys import digest_of, keyring, new_key
from server.settings import Settings

FROM_ENVIRONMENT = "0123456789abcdef0123456789abcdef"


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest_asyncio.fixture
async def pool(database_url: str) -> AsyncIterator[Any]:
    pool = await open_pool(database_url, connections_max=2)
    yield pool
    pool.terminate()


@pytest.fixture
def readers(pool: Any, clock: Clock) -> Identities:
    ring = keyring(f"grafana={FROM_ENVIRONMENT}")
    return Identities(KeyUse.READER, ring, StoredKeys(pool, KeyUse.READER), clock=clock)


async def stored(pool: Any, use: KeyUse, name: str, lasting: timedelta | None = None) -> tuple[str, int]:
    """A new key in the database, and its number."""
    key = new_key(use)
    made = await StoredKeys(pool, use).add(name, digest_of(key.encode()), key[:8], "tests", lasting)
    return key, made.key_id


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def basic(name: str, password: str, *, padded: bool = True) -> dict[str, str]:
    encoded = base64.b64encode(f"{name}:{password}".encode()).decode()
    return {"authorization": f"Basic {encoded if padded else encoded.rstrip('=')}"}


async def test_a_key_is_whose_it_was_made_for(readers: Identities, pool: Any) -> None:
    key, _ = await stored(pool, KeyUse.READER, "ann")

    of_environment = await readers(bearer(FROM_ENVIRONMENT))
    of_database = await readers(bearer(key))

    assert (of_environment.name, of_environment.kind) == ("key:grafana", CallerKind.KEY)
    assert (of_database.name, of_database.kind) == ("key:ann", CallerKind.KEY)
    assert not of_environment.is_admin and not of_database.is_admin


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": f"bearer {FROM_ENVIRONMENT}"},
        {"authorization": f"BEARER   {FROM_ENVIRONMENT} "},
        basic("anybody", FROM_ENVIRONMENT),
        basic("a", FROM_ENVIRONMENT, padded=False),
        basic("", FROM_ENVIRONMENT, padded=False),
        {"x-lakehouse-authorization": f"Bearer {FROM_ENVIRONMENT}"},
    ],
)
async def test_clients_may_spell_a_credential_as_they_do(readers: Identities, headers: dict[str, str]) -> None:
    """FS-51, and what ODBC drivers do."""
    assert (await readers(headers)).name == "key:grafana"


def test_a_password_may_have_colons_and_any_letters() -> None:
    assert token_of(basic("a", "b:c:ü")) == "b:c:ü".encode()


REFUSED: dict[str, dict[str, str]] = {
    "nothing": {},
    "an empty header": {"authorization": ""},
    "a scheme alone": bearer(""),
    "a wrong key": bearer("wrong" * 10),
    "what begins like a key": bearer(FROM_ENVIRONMENT[:-1]),
    "a key and more": bearer(FROM_ENVIRONMENT + "0"),
    "what looks like a key that was made here": bearer(new_key(KeyUse.READER)),
    "a writer's key": bearer(new_key(KeyUse.WRITER)),
    "a name as the password": basic(FROM_ENVIRONMENT, ""),
    "no base64": {"authorization": "Basic %%%"},
    "another scheme": {"authorization": f"Digest {FROM_ENVIRONMENT}"},
    "no scheme": {"authorization": FROM_ENVIRONMENT},
    "None, as one client sends it": {"authorization": "Bearer None"},
    "SQL": bearer("lfr_' OR 1=1 --"),
    "NUL": bearer("\0" * 40),
    "too long": bearer("a" * TOKEN_BYTES_MAX),
    "100 kB": bearer("eyJ" + "a" * 100_000),
}


@pytest.mark.parametrize("what", REFUSED)
async def test_who_is_not_known_is_refused_without_a_word_of_the_credential(readers: Identities, what: str) -> None:
    headers = REFUSED[what]

    with pytest.raises(UnauthenticatedError) as refused:
        await readers(headers)

    secret = headers.get("authorization", "").partition(" ")[2].strip()
    assert len(secret) < 4 or secret[:16] not in str(refused.value)


async def test_keys_of_readers_and_of_writers_are_never_found_for_each_other(pool: Any, clock: Clock) -> None:
    """Security check 6: an ingestion key on the query port, and the reverse."""
    readers, writers = (Identities(use, keyring(None), StoredKeys(pool, use), clock=clock) for use in KeyUse)
    of_reader, _ = await stored(pool, KeyUse.READER, "ann")
    of_writer, _ = await stored(pool, KeyUse.WRITER, "ann")

    assert (await readers(bearer(of_reader))).name == (await writers(bearer(of_writer))).name == "key:ann"
    with pytest.raises(UnauthenticatedError, match="this is a key of a writer: reading takes a reader's"):
        await readers(bearer(of_writer))
    with pytest.raises(UnauthenticatedError, match="this is a key of a reader: sending takes a writer's"):
        await writers(bearer(of_reader))


async def test_a_revoked_key_counts_no_longer_than_the_docs_say(readers: Identities, pool: Any, clock: Clock) -> None:
    key, key_id = await stored(pool, KeyUse.READER, "ann")
    await readers(bearer(key))

    assert await StoredKeys(pool, KeyUse.READER).revoke(key_id) == "ann"

    clock.now += KNOWN_S - 1
    assert (await readers(bearer(key))).name == "key:ann"
    clock.now += 2
    with pytest.raises(UnauthenticatedError, match="wrong, has expired or was revoked"):
        await readers(bearer(key))


async def test_a_key_expires_to_the_second_however_lately_it_was_looked_up(
    readers: Identities, pool: Any, clock: Clock
) -> None:
    key, _ = await stored(pool, KeyUse.READER, "ann", timedelta(seconds=1))
    await readers(bearer(key))

    await asyncio.sleep(1.1)
    clock.now += 1.1

    with pytest.raises(UnauthenticatedError, match="has expired"):
        await readers(bearer(key))


async def test_what_nobody_knew_is_asked_again_after_a_while(readers: Identities, pool: Any, clock: Clock) -> None:
    key = new_key(KeyUse.READER)
    with pytest.raises(UnauthenticatedError):
        await readers(bearer(key))

    await StoredKeys(pool, KeyUse.READER).add("late", digest_of(key.encode()), "", "tests", None)

    with pytest.raises(UnauthenticatedError):
        await readers(bearer(key))
    clock.now += UNKNOWN_S + 1
    assert (await readers(bearer(key))).name == "key:late"


async def test_a_database_that_does_not_answer_lets_nobody_in_and_says_so(
    readers: Identities, pool: Any, clock: Clock
) -> None:
    key, _ = await stored(pool, KeyUse.READER, "ann")
    await readers(bearer(key))
    pool.terminate()

    assert (await readers(bearer(key))).name == "key:ann", "what is remembered goes on"
    assert (await readers(bearer(FROM_ENVIRONMENT))).name == "key:grafana", "and what needs no database"
    clock.now += KNOWN_S + 1
    for unknown in (key, new_key(KeyUse.READER)):
        with pytest.raises(BackendUnavailableError):
            await readers(bearer(unknown))


async def test_a_flood_of_wrong_keys_neither_forgets_a_good_one_nor_grows_without_end(readers: Identities) -> None:
    await readers(bearer(FROM_ENVIRONMENT))

    for number in range(REMEMBERED_MAX + 500):
        with pytest.raises(UnauthenticatedError):
            await readers(bearer(f"wrong-{number}"))

    assert (await readers(bearer(FROM_ENVIRONMENT))).name == "key:grafana"


async def test_who_asks_at_once_is_looked_up_once_and_one_who_gives_up_takes_nobody_along(
    readers: Identities, pool: Any
) -> None:
    key, _ = await stored(pool, KeyUse.READER, "ann")

    calls = [asyncio.create_task(readers(bearer(key))) for _ in range(50)]
    await asyncio.sleep(0)
    calls[0].cancel()
    callers = await asyncio.gather(*calls[1:])

    assert {caller.name for caller in callers} == {"key:ann"}


async def test_the_latest_use_is_kept_but_not_by_the_call_itself(readers: Identities, pool: Any) -> None:
    key, _ = await stored(pool, KeyUse.READER, "ann")
    keys = StoredKeys(pool, KeyUse.READER)
    await readers(bearer(key))
    assert [listed.last_used_at for listed in await keys.list()] == [None]

    await readers.note_use()
    (first,) = [listed.last_used_at for listed in await keys.list()]
    await keys.note_use([1])
    (second,) = [listed.last_used_at for listed in await keys.list()]

    assert first is not None
    assert second == first, "a few minutes are near enough"


async def test_a_socket_of_the_servers_user_is_the_operator_and_a_certificate_is_its_name(pool: Any) -> None:
    readers = Identities(
        KeyUse.READER, keyring(None), StoredKeys(pool, KeyUse.READER), admins=frozenset({"certificate:ops"})
    )

    operator = await readers({}, Origin(is_own_socket=True))
    ops = await readers({}, Origin(certificate="ops"))
    other = await readers({}, Origin(certificate="other"))

    assert [caller.is_admin for caller in (operator, ops, other)] == [True, True, False]
    assert [caller.name for caller in (operator, ops, other)] == ["operator", "certificate:ops", "certificate:other"]


async def test_a_key_of_this_machine_is_no_admin(readers: Identities) -> None:
    """Security check 19: with identities, a proxy on loopback makes nobody an admin."""
    caller = await readers(bearer(FROM_ENVIRONMENT))

    assert not replace(caller, connection="ipv4:127.0.0.1:4711").is_admin


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("grafana", "has no NAME=KEY as entry 1"),
        (f"a={FROM_ENVIRONMENT},=secretsecretsecretsecret", "has no NAME=KEY as entry 2"),
        ("a=secret", "has a key of 6 characters for a: at least 24"),
        (f"a={FROM_ENVIRONMENT} b={FROM_ENVIRONMENT}", "has the same key for b and a"),
        (f"a b={FROM_ENVIRONMENT}", "has no NAME=KEY as entry 1"),
    ],
)
def test_keys_that_cannot_be_read_are_named_without_a_secret(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem) as wrong:
        keyring(text)

    assert "secret" not in str(wrong.value) and FROM_ENVIRONMENT[:8] not in str(wrong.value)


def test_no_secret_is_in_what_is_printed_of_keys_and_settings() -> None:
    ring = keyring(f"grafana={FROM_ENVIRONMENT}\nann={'x' * 30}")
    settings = Settings(reader_keys=f"grafana={FROM_ENVIRONMENT}", telemetry_key=FROM_ENVIRONMENT)

    assert repr(ring) == "Keyring(ann, grafana)"
    assert FROM_ENVIRONMENT not in repr(settings) + str(settings)
