"""Who a credential belongs to: asked of the environment's keys, of the database and of issuers, and remembered for a while.

A call with a credential that is remembered costs a hash and a look into a table; nothing is written on its way. So a key that is
revoked works for ``KNOWN_S`` more at most, and one that was just made is known at once, unless it was tried before
(``UNKNOWN_S``). Whom nobody knows is refused; where nobody can be asked, the call may be tried again: never let in.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

import structlog

from lakehouse.catalog.keys import StoredKey
from lakehouse.errors import BackendUnavailableError, LakeflightError, UnauthenticatedError
from lakehouse.model import Caller, CallerKind, KeyUse
from server.access.callers import ELSEWHERE, Origin
from server.access.credentials import token_of
from server.access.keys import Keyring, digest_of, is_for, is_issued

log = structlog.get_logger(__name__)

_T = TypeVar("_T")

KNOWN_S: Final = 60.0  # a credential that was good counts for so long: the delay of a revocation
UNKNOWN_S: Final = 10.0  # one that was not
REMEMBERED_MAX: Final = 10_000  # of either; some 300 bytes each
LOOK_UPS_MAX: Final = 256  # of credentials that were not known before, at once; those that were are always looked up
USE_NOTED_EVERY_S: Final = 60.0

NO_CREDENTIAL: Final = "no credential"  # how the answer to who sends none begins
OPERATOR: Final = Caller("operator", kind=CallerKind.OPERATOR, admin=True)
_OTHER_USE: Final = {
    KeyUse.READER: "this is a key of a writer: reading takes a reader's",
    KeyUse.WRITER: "this is a key of a reader: sending takes a writer's",
}


@dataclass(frozen=True, slots=True)
class Known:
    """Whose a credential is, and for how long that may be believed."""

    caller: Caller
    until: float  # of ``time.time``


class Keys(Protocol):
    """Who knows the keys of one use: ``lakehouse.catalog.keys.StoredKeys``."""

    async def find(self, digest: bytes) -> StoredKey | None:
        """
        Raises:
            BackendUnavailableError: The database does not answer.
        """
        ...

    async def note_use(self, key_ids: Collection[int]) -> None: ...


class Tokens(Protocol):
    """Who knows tokens that people bring: see ``server.access.issuers``."""

    def may_know(self, token: bytes) -> bool:
        """Whether it looks like one of theirs."""
        ...

    async def identify(self, token: bytes) -> tuple[str, frozenset[str], float]:
        """The subject's name, the other names it may be listed under, and when the token expires.

        Raises:
            UnauthenticatedError: Nobody's.
            BackendUnavailableError: The issuer does not answer.
        """
        ...


class Identities:
    """Callers of one use, by their credentials. An ``Authenticate``, for the length of ``noting_use``."""

    def __init__(
        self,
        use: KeyUse,
        keyring: Keyring,
        stored: Keys,
        *,
        tokens: Tokens | None = None,
        admins: frozenset[str] = frozenset(),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._use, self._keyring, self._stored, self._tokens = use, keyring, stored, tokens
        self._admins = admins
        self._clock = clock
        self._known: OrderedDict[bytes, Known] = OrderedDict()
        self._unknown: OrderedDict[bytes, float] = OrderedDict()
        self._looking: dict[bytes, asyncio.Task[Caller]] = {}
        self._used: set[int] = set()  # keys, since they were noted last

    async def __call__(self, headers: Mapping[str, str], origin: Origin = ELSEWHERE) -> Caller:
        """The caller.

        Raises:
            UnauthenticatedError: No credential, or one that is not known (any more).
            BackendUnavailableError: Who knows it cannot be asked now.
        """
        token = token_of(headers)
        if token is None:
            return self._of_connection(origin)
        digest = digest_of(token)
        known = self._known.get(digest)
        if known is not None and known.until > self._clock():
            return known.caller
        if self._unknown.get(digest, 0.0) > self._clock():
            raise self._refusal(token)
        look_up = self._looking.get(digest)
        if look_up is None:
            if known is None and len(self._looking) >= LOOK_UPS_MAX:
                raise BackendUnavailableError("too many unknown credentials are looked up at once: try again")
            look_up = self._looking[digest] = asyncio.create_task(self._look_up(digest, token))
            look_up.add_done_callback(lambda task: self._looked_up(digest, task))
        return await asyncio.shield(look_up)  # others wait for it as well

    @contextlib.asynccontextmanager
    async def noting_use(self) -> AsyncIterator[Identities]:
        """Itself; for the length of the block it is noted now and then which keys were used, and at its end."""
        noting = asyncio.create_task(self._note_now_and_then())
        try:
            yield self
        finally:
            noting.cancel()
            await asyncio.gather(noting, return_exceptions=True)
            await self.note_use()

    async def _note_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(USE_NOTED_EVERY_S)
            await self.note_use()

    async def note_use(self) -> None:
        """Note which keys were used since the last time. A database that does not answer loses that, and nothing else."""
        used, self._used = self._used, set()
        if used:
            try:
                await self._stored.note_use(used)
            except LakeflightError as error:
                log.warning("access.use_not_noted", keys=len(used), error=str(error))

    def _of_connection(self, origin: Origin) -> Caller:
        if origin.is_own_socket:
            return OPERATOR
        if origin.certificate is not None:
            name = f"certificate:{origin.certificate}"
            return Caller(name, kind=CallerKind.CERTIFICATE, admin=name in self._admins)
        raise UnauthenticatedError(
            f"{NO_CREDENTIAL}: send `authorization: Bearer KEY`, or log in with the key as password"
        )

    async def _look_up(self, digest: bytes, token: bytes) -> Caller:
        try:
            known = await self._ask(digest, token)
        except UnauthenticatedError:
            self._known.pop(digest, None)
            _remember(self._unknown, digest, self._clock() + UNKNOWN_S)
            raise
        _remember(self._known, digest, known)
        return known.caller

    async def _ask(self, digest: bytes, token: bytes) -> Known:
        for_now = self._clock() + KNOWN_S
        if (name := self._keyring.name_of(digest)) is not None:
            return Known(_of_key(name), for_now)
        if self._tokens is not None and self._tokens.may_know(token):
            name, also, expires = await self._tokens.identify(token)
            is_admin = not self._admins.isdisjoint({name, *also})
            return Known(Caller(name, kind=CallerKind.PERSON, admin=is_admin), min(for_now, expires))
        key = await self._stored.find(digest) if is_issued(token) and is_for(token, self._use) else None
        if key is None or not hmac.compare_digest(key.digest, digest):
            raise self._refusal(token)
        self._used.add(key.key_id)
        until = for_now if key.expires_at is None else min(for_now, key.expires_at.timestamp())
        return Known(_of_key(key.name), until)

    def _looked_up(self, digest: bytes, task: asyncio.Task[Caller]) -> None:
        self._looking.pop(digest, None)
        if not task.cancelled():
            task.exception()  # whoever still waits has it

    def _refusal(self, token: bytes) -> UnauthenticatedError:
        other = next(use for use in KeyUse if use is not self._use)
        if is_issued(token) and is_for(token, other):
            return UnauthenticatedError(_OTHER_USE[self._use])
        return UnauthenticatedError("the credential is not known here: it is wrong, has expired or was revoked")


def _of_key(name: str) -> Caller:
    """Keys are never admins: they lie in files of programs."""
    return Caller(f"key:{name}", kind=CallerKind.KEY)


def _remember(remembered: OrderedDict[bytes, _T], digest: bytes, value: _T) -> None:
    remembered[digest] = value
    remembered.move_to_end(digest)
    if len(remembered) > REMEMBERED_MAX:
        remembered.popitem(last=False)
