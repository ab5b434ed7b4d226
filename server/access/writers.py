"""Who may send, as an ingestion process is told: by digests, so that none of them knows a key."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from lakehouse.catalog.keys import StoredKeys
from lakehouse.model import KeyUse
from server.access.identities import Identities
from server.access.keys import Keyring


@dataclass(frozen=True, slots=True)
class WritersSpec:
    """Writers' keys beside those in the database."""

    keyring: Keyring

    def as_json(self) -> dict[str, str]:
        return {digest.hex(): name for digest, name in self.keyring.items()}

    @classmethod
    def of_json(cls, given: Mapping[str, str]) -> WritersSpec:
        return cls(Keyring({bytes.fromhex(digest): name for digest, name in given.items()}))

    @contextlib.asynccontextmanager
    async def identities(self, pool: Any) -> AsyncIterator[Identities]:
        """An ``Authenticate`` for the length of a block."""
        async with Identities(KeyUse.WRITER, self.keyring, StoredKeys(pool, KeyUse.WRITER)).noting_use() as writers:
            yield writers
