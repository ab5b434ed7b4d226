"""Payloads are fetched ahead of the decoders, in turn and within a bound."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from lakehouse.jobs.ahead import BytesAhead


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


class Jobs:
    """Jobs that begin when they may, and end when they are told."""

    def __init__(self, ahead: BytesAhead) -> None:
        self.ahead = ahead
        self.begun: list[str] = []
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self.ends: dict[str, asyncio.Event] = {}

    async def ask(self, name: str, size: int) -> None:
        self.ends[name] = asyncio.Event()

        async def job() -> None:
            async with self.ahead.held(size):
                self.begun.append(name)
                await self.ends[name].wait()

        self.tasks[name] = asyncio.create_task(job())
        await settle()

    async def end(self, name: str) -> None:
        self.ends[name].set()
        await self.tasks[name]
        await settle()


async def test_jobs_begin_in_turn_and_hold_no_more_than_the_bound_together() -> None:
    jobs = Jobs(BytesAhead(100))
    for name, size in (("a", 60), ("b", 40), ("c", 50), ("d", 1)):
        await jobs.ask(name, size)
    assert jobs.begun == ["a", "b"]  # d would fit, and waits behind c

    await jobs.end("a")
    assert jobs.begun == ["a", "b", "c", "d"]
    for name in ("b", "c", "d"):
        await jobs.end(name)


async def test_a_job_beyond_the_bound_goes_alone_and_without_a_bound_all_go() -> None:
    jobs = Jobs(BytesAhead(100))
    await jobs.ask("small", 1)
    await jobs.ask("large", 1_000)
    assert jobs.begun == ["small"]
    await jobs.end("small")
    await jobs.ask("next", 0)
    assert jobs.begun == ["small", "large"]
    await jobs.end("large")
    assert jobs.begun == ["small", "large", "next"]
    await jobs.end("next")

    async with AsyncExitStack() as held:
        for _ in range(3):
            await held.enter_async_context(BytesAhead(None).held(1 << 40))


async def test_who_gives_up_while_waiting_or_at_work_makes_room_for_the_next() -> None:
    jobs = Jobs(BytesAhead(100))
    for name in ("a", "b", "c"):
        await jobs.ask(name, 100)
    for name in ("b", "a"):
        jobs.tasks[name].cancel()
    await settle()

    assert jobs.begun == ["a", "c"]
    await jobs.end("c")
