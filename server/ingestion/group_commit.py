"""Makes blocks durable in groups: what has arrived goes together through one sync of the store and one statement.

No timer: a group is whatever waits when a flusher is free. Payload first, row second, answer third. Whatever happens to
a group happens to that group alone, trouble with one payload to that block alone, and a caller that has gone away changes
nothing for the others.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

import structlog

from lakeflight.wire.envelope import BlockRequest
from lakehouse.catalog.telemetry import BlockRows
from lakehouse.errors import BackendUnavailableError
from lakehouse.failpoints import failpoint
from lakehouse.storage import BlobStore, StoredBlob
from lakehouse.storage.paths import blob_key

log = structlog.get_logger(__name__)

GROUP_BLOCKS_MAX: Final = 64
GROUP_BYTES_MAX: Final = 32 << 20  # a sync must not take longer than senders wait
GROUPS_IN_FLIGHT: Final = 2  # one syncs while the other inserts

Outcome = tuple[Literal["created", "existed"], Literal["inserted", "conflict"]]


class _Waiting(NamedTuple):
    block: BlockRequest
    done: asyncio.Future[None]


class GroupCommit:
    """One per process; used from one event loop.

    What waits is bounded by the budget of bodies: a request keeps its share until its block is answered.
    """

    def __init__(self, store: BlobStore, rows: BlockRows) -> None:
        self._store = store
        self._rows = rows
        self._waiting: deque[_Waiting] = deque()
        self._flushers: set[asyncio.Task[None]] = set()
        self.outcomes: Counter[Outcome] = Counter()  # four cells: object created or there, row inserted or there
        self.groups = 0

    async def put(self, block: BlockRequest) -> None:
        """Returns once the payload and the row are durable. Doing it again is harmless: the first one stands.

        Raises:
            BackendUnavailableError: Not known to be durable.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(block, done))
        if len(self._flushers) < GROUPS_IN_FLIGHT:
            self._start_flusher()
        await done

    async def close(self) -> None:
        """Finish what has been accepted."""
        while self._flushers:
            await asyncio.wait(self._flushers)

    def _start_flusher(self) -> None:
        flusher = asyncio.get_running_loop().create_task(self._flush())
        self._flushers.add(flusher)
        flusher.add_done_callback(self._flusher_ended)

    def _flusher_ended(self, flusher: asyncio.Task[None]) -> None:
        self._flushers.discard(flusher)
        if self._waiting and len(self._flushers) < GROUPS_IN_FLIGHT:
            self._start_flusher()  # something was put between its last look and its end

    async def _flush(self) -> None:
        while self._waiting:
            group = self._take_group()
            try:
                await self._commit_or_fail(group)
            finally:
                for _, done in group:
                    if not done.done():
                        done.set_exception(BackendUnavailableError("the server is shutting down"))

    def _take_group(self) -> list[_Waiting]:
        group: list[_Waiting] = []
        size = 0
        while self._waiting and len(group) < GROUP_BLOCKS_MAX:
            size += len(self._waiting[0].block.payload)
            if group and size > GROUP_BYTES_MAX:
                break
            waiting = self._waiting.popleft()
            if not waiting.done.cancelled():
                group.append(waiting)
        return group

    async def _commit_or_fail(self, group: Sequence[_Waiting]) -> None:
        try:
            await self._commit(group)
        except BackendUnavailableError as error:
            log.warning("ingestion.group_failed", blocks=len(group), error=str(error))
            _answer(group, error)
        except Exception as error:
            if len(group) > 1:  # not trouble of a backend: let it hit only the block that it is about
                for waiting in group:
                    if not waiting.done.done():
                        await self._commit_or_fail([waiting])
                return
            log.error("ingestion.block_failed", block_id=group[0].block.block_id, exc_info=error)
            _answer(group, BackendUnavailableError("the block could not be stored"))
        else:
            _answer(group, None)

    async def _commit(self, group: Sequence[_Waiting]) -> None:
        """Answers the blocks whose payload could not be stored; on return the others are durable."""
        if not group:
            return
        outcomes = await self._store.create_blobs(
            [(blob_key(block.process_id, block.stream_id, block.block_id), block.payload) for block, _ in group]
        )
        failpoint("payload")
        blocks: list[BlockRequest] = []
        stored: list[StoredBlob] = []
        for waiting, outcome in zip(group, outcomes, strict=True):
            if isinstance(outcome, BackendUnavailableError):
                log.warning("ingestion.block_not_stored", block_id=waiting.block.block_id, error=str(outcome))
                _answer([waiting], outcome)
            else:
                blocks.append(waiting.block)
                stored.append(outcome)
        if not blocks:
            return
        inserted = await self._rows.insert(blocks, [blob.size for blob in stored])
        failpoint("row")
        self.groups += 1
        for block, blob in zip(blocks, stored, strict=True):
            is_new = block.block_id in inserted
            self.outcomes["created" if blob.created else "existed", "inserted" if is_new else "conflict"] += 1
            if blob.differs:
                log.warning(
                    "ingestion.block_differs",
                    block_id=block.block_id,
                    stored_bytes=blob.size,
                    dropped_bytes=len(block.payload),
                )


def _answer(group: Sequence[_Waiting], error: Exception | None) -> None:
    for _, done in group:
        if done.done():
            continue
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)
