"""Payloads of blocks for a statement that runs in a worker: ids in, local files out.

The worker is not trusted: it names blocks by their ids, never a key or a path, and what it gets are payloads alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any, Final

from lakeflight.wire.errors import WireError
from lakeflight.wire.identifiers import canonical_uuid
from lakehouse.errors import BackendUnavailableError, QueryError, UnknownViewError
from lakehouse.ports import ObjectStore
from lakehouse.storage.paths import blob_key
from server.workers.protocol import ProtocolError

_KINDS: Final = ("process", "stream", "block")
_SHOWN_CHARS_MAX: Final = 100


class Payloads:
    """Those of one statement. Files stay until others are asked for, or ``held`` is left."""

    def __init__(self, store: ObjectStore, held: AsyncExitStack) -> None:
        self._store, self._held = store, held

    async def fetch(self, blocks: Sequence[Any]) -> list[str]:
        """The files of these blocks, each given by the ids of its process, its stream and itself.

        Raises:
            QueryError: A text is no id.
            UnknownViewError: There is no such block.
            BackendUnavailableError: The store.
        """
        ids = [_ids(block) for block in blocks]
        await self._held.aclose()
        keys = [blob_key(*each) for each in ids]
        try:
            return [str(path) for path in await self._held.enter_async_context(self._store.localize(keys))]
        except BackendUnavailableError:
            for (process_id, stream_id, block_id), key in zip(ids, keys, strict=True):
                if await self._store.size(key) is None:
                    raise UnknownViewError(
                        f"get_payload: block {block_id} of stream {stream_id} of process {process_id} not found"
                        " or not accessible"
                    ) from None
            raise


def _ids(block: Any) -> list[str]:
    if not isinstance(block, list) or len(block) != len(_KINDS) or not all(isinstance(text, str) for text in block):
        raise ProtocolError("a block is named by three ids")
    return [_id(kind, text) for kind, text in zip(_KINDS, block, strict=True)]


def _id(kind: str, text: str) -> str:
    try:
        return canonical_uuid(text)
    except WireError as error:
        raise QueryError(f"get_payload: '{text[:_SHOWN_CHARS_MAX]}' is not a valid {kind} id") from error
