"""A build that several queries wait for: who waits, who pays, and when it is given up. Knows no view and no store.

It goes on while somebody waits for it. Until blocks are being decoded, waiting for its turn or for another server, it
goes with the last query that wanted it. After that it may go on for a while where nobody waits for anything else, because
a client that gives up and asks again would otherwise start over for ever. What is being committed is never stopped, nor is
the search for a block that decoders die of.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, Final, TypeVar

import structlog

from lakehouse.errors import LimitExceededError
from lakehouse.model import Block

log = structlog.get_logger(__name__)

T = TypeVar("T")

LEAVING_S: Final = 0.05  # in which a query that is cancelled leaves all the builds that it waits for


@dataclass(slots=True)
class Progress:
    """What a query is waiting for; read by whoever draws a progress line."""

    buckets: int = 0
    buckets_done: int = 0
    blocks: int = 0
    payload_bytes: int = 0

    def as_dict(self) -> dict[str, int]:
        return {
            "buckets": self.buckets,
            "buckets_done": self.buckets_done,
            "blocks": self.blocks,
            "payload_bytes": self.payload_bytes,
        }


@dataclass(slots=True)
class Allowance:
    """What one query may have built, of however many views: so many buckets at a time, and so many bytes of blocks."""

    bytes_max: int
    buckets_at_once: int
    progress: Progress
    bytes_left: int = field(init=False)
    places: asyncio.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        self.bytes_left = self.bytes_max
        self.places = asyncio.Semaphore(self.buckets_at_once)

    def take(self, view_set: str, blocks: Sequence[Block]) -> None:
        """
        Raises:
            LimitExceededError: That is more than there is.
        """
        size = sum(block.payload_size for block in blocks)
        self.bytes_left -= size
        self.progress.blocks += len(blocks)
        self.progress.payload_bytes += size
        if self.bytes_left < 0:
            raise LimitExceededError(
                f"this query needs more than {self.bytes_max} bytes of blocks of {view_set}"
                " decoded at once; what is done is kept: ask again, or for a shorter time range"
            )


class Stage(Enum):
    """How far a build has come, and so who may join it and who may stop it."""

    WAITING = auto()  # for its turn, or for another server: others join, and it ends with the last who waits
    READING = auto()  # blocks that come from now on are not in it: nobody joins any more
    DECODING = auto()  # it is paid for, and may go on for a while when nobody waits any more
    FINISHING = auto()  # it is committed, or looks for the block that its decoder dies of: nobody stops it
    OVER = auto()  # or it has been told to end


@dataclass(slots=True, eq=False)
class SharedBuild:
    """The making of one bucket."""

    whole: bool = False  # decode all of its blocks, whatever is there already
    is_paid: bool = False  # somebody's allowance was charged, or it is nobody's query
    keeps_rows: bool = False  # refuse to make it of fewer blocks than it is made of now
    stage: Stage = Stage.WAITING
    lost_keys: set[str] = field(default_factory=set)  # files that the store has lost: if they are its, make it whole
    _waiting: dict[asyncio.Future[None], Allowance | None] = field(default_factory=dict)
    _task: asyncio.Task[None] | None = None
    _on_end: Callable[[], None] = lambda: None
    _patience_s: Callable[[], float] = lambda: 0.0

    # what queries see of it

    def start(
        self, work: Coroutine[Any, Any, None], on_end: Callable[[], None], patience_s: Callable[[], float]
    ) -> None:
        """Run ``work`` in a task of its own.

        Args:
            on_end: Called as soon as nobody can join any more.
            patience_s: How long it may go on, once it is paid for, when nobody waits for it any more.
        """
        self._on_end, self._patience_s = on_end, patience_s
        self._task = asyncio.create_task(work)
        self._task.add_done_callback(self._end)

    @property
    def is_open(self) -> bool:
        """Whether it will have all blocks that there are now."""
        return self.stage is Stage.WAITING

    @property
    def is_wanted(self) -> bool:
        """Somebody waits for it."""
        return bool(self._waiting)

    async def wait(self, allowance: Allowance) -> None:
        """Until it is done. Its error is raised here, and the one about ``allowance`` to nobody else."""
        await self._wait(allowance)

    async def outlast(self) -> None:
        """Until it is over, however it ends and whoever pays."""
        with suppress(Exception):
            await self._wait(None)

    def give_up(self) -> None:
        """Stop it, unless somebody waits for it or it is to be seen through."""
        if not self._waiting and self.stage not in (Stage.FINISHING, Stage.OVER) and self._task is not None:
            self.stage = Stage.OVER
            self._task.cancel()
            self._on_end()

    # what its own task says of it

    def reads(self) -> None:
        """Its source is about to be read: the first time, or again because the bucket was changed meanwhile."""
        if self.stage is Stage.WAITING:
            self.stage = Stage.READING

    def decodes(self, view_set: str, blocks: Sequence[Block]) -> bool:
        """Take ``blocks`` from the allowance of each query that waits; false if none is left that has enough."""
        if not self.is_paid and not self._charge(view_set, blocks):
            return False
        self.is_paid = True
        self.stage = Stage.DECODING
        return True

    def sees_through(self) -> None:
        """From now on it goes on whoever leaves."""
        self.stage = Stage.FINISHING

    def _charge(self, view_set: str, blocks: Sequence[Block]) -> bool:
        paid = False
        for waiter, allowance in list(self._waiting.items()):
            if allowance is None or waiter.done():
                continue
            try:
                allowance.take(view_set, blocks)
                paid = True
            except LimitExceededError as error:
                _settle(waiter, error)
        return paid

    async def _wait(self, allowance: Allowance | None) -> None:
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        self._waiting[waiter] = allowance
        try:
            await waiter
        finally:
            del self._waiting[waiter]
            if not self._waiting and self.stage is not Stage.OVER:
                if self.is_paid:
                    loop.call_later(LEAVING_S, self._after_leaving)
                else:
                    self.give_up()

    def _after_leaving(self) -> None:
        patience_s = self._patience_s()
        if patience_s > 0:
            asyncio.get_running_loop().call_later(patience_s, self.give_up)
        else:
            self.give_up()

    def _end(self, task: asyncio.Task[None]) -> None:
        self.stage = Stage.OVER
        self._on_end()
        error = None if task.cancelled() else task.exception()
        if error is not None and not self._waiting:
            log.warning("bucket.failed", reason=str(error))  # nobody is there to be told
        for waiter in self._waiting:
            if task.cancelled():
                waiter.cancel()
            else:
                _settle(waiter, error)


def _settle(waiter: asyncio.Future[None], error: BaseException | None) -> None:
    if waiter.done():
        return
    if error is None:
        waiter.set_result(None)
    else:
        waiter.set_exception(error)
        waiter.exception()  # who was cancelled meanwhile does not fetch it, which is no fault


async def together(works: Iterable[Coroutine[Any, Any, T]], places: asyncio.Semaphore | None = None) -> list[T]:
    """Their results, in order. If one fails the others are cancelled, and are over when its error is raised.

    Args:
        places: If given, each needs one of them to run.
    """
    begun = list(works)

    async def in_turn(work: Coroutine[Any, Any, T], places: asyncio.Semaphore) -> T:
        async with places:
            return await work

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work if places is None else in_turn(work, places)) for work in begun]
    except ExceptionGroup as errors:  # raised inside `except*` it would be a group again
        raise errors.exceptions[0] from None
    finally:
        for work in begun:
            work.close()  # whose turn never came
    return [task.result() for task in tasks]
