"""Whole files are compared with what was written a few at a time, each once, and never for longer than one statement may ask."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from lakehouse.buckets.comparing import THREADS
from lakehouse.buckets.files import PartitionFiles
from lakehouse.errors import BackendUnavailableError
from lakehouse.storage.digests import whole_digest

BYTES = 1000


class Files:
    """A store and a catalog of sound files, by their keys."""

    def __init__(self, folder: Path, count: int, *, keeps_copies: bool = False) -> None:
        self.folder, self.keeps_copies = folder, keeps_copies
        self.keys = [f"file {number}" for number in range(count)]
        for key in self.keys:
            (folder / key).write_bytes(key.encode().ljust(BYTES))

    @contextlib.asynccontextmanager
    async def localize(self, keys: Sequence[str]) -> AsyncIterator[list[Path]]:
        yield [self.folder / key for key in keys]

    def discard_copies(self, keys: Sequence[str]) -> bool:
        return self.keeps_copies

    async def digests(self, keys: Sequence[str]) -> dict[str, bytes | None]:
        return {key: hashlib.sha256(key.encode().ljust(BYTES)).digest() for key in keys}

    def open(self, **limits: Any) -> PartitionFiles:
        return PartitionFiles(self, self, **limits)  # type: ignore[arg-type]


class Readings:
    """What is read whole. It goes on when the test says so, or when it is stopped."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun: list[str] = []
        self.stopped: list[str] = []
        self.go_on = threading.Event()
        monkeypatch.setattr("lakehouse.buckets.comparing.whole_digest", self._read)

    def _read(self, path: Path, is_stopped: Callable[[], bool]) -> bytes | None:
        self.begun.append(path.name)
        while not self.go_on.wait(0.001):
            if is_stopped():
                self.stopped.append(path.name)
                return None
        return whole_digest(path, is_stopped)


@pytest.fixture
def readings(monkeypatch: pytest.MonkeyPatch) -> Readings:
    return Readings(monkeypatch)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 (threads, some of them)
            await asyncio.sleep(0.001)


async def test_few_files_are_read_at_a_time_and_others_threads_stay_free(tmp_path: Path, readings: Readings) -> None:
    stored = Files(tmp_path, 40)
    files = stored.open()
    asked = [asyncio.create_task(files.find_damaged([key])) for key in stored.keys]
    await until(lambda: len(readings.begun) == THREADS)

    async with asyncio.timeout(30):
        assert await asyncio.to_thread(int) == 0

    assert len(readings.begun) == THREADS
    readings.go_on.set()
    assert await asyncio.gather(*asked) == [[]] * 40


async def test_however_many_ask_a_file_is_read_once(tmp_path: Path, readings: Readings) -> None:
    stored = Files(tmp_path, 3)
    files = stored.open()
    asked = [asyncio.create_task(files.find_damaged(stored.keys)) for _ in range(20)]
    await until(lambda: len(readings.begun) == 1)
    readings.go_on.set()

    assert await asyncio.gather(*asked) == [[]] * 20
    assert await files.find_damaged(stored.keys) == []

    assert readings.begun == stored.keys


async def test_a_file_that_changed_since_is_read_again(tmp_path: Path) -> None:
    stored = Files(tmp_path, 2)
    files = stored.open()
    assert await files.find_damaged(stored.keys) == []
    (tmp_path / stored.keys[1]).write_bytes(b"other".ljust(BYTES + 1))

    assert await files.find_damaged(stored.keys) == stored.keys[1:]


async def test_reading_stops_when_the_last_who_waits_for_it_has_gone(tmp_path: Path, readings: Readings) -> None:
    stored = Files(tmp_path, 1)
    files = stored.open()
    first, second = (asyncio.create_task(files.find_damaged(stored.keys)) for _ in range(2))
    await until(lambda: len(readings.begun) == 1)
    await asyncio.sleep(0)

    first.cancel()
    await asyncio.wait({first})
    assert readings.stopped == []
    second.cancel()
    await asyncio.wait({second})

    await until(lambda: readings.stopped == stored.keys)
    readings.go_on.set()
    assert await files.find_damaged(stored.keys) == []


async def test_more_bytes_than_one_statement_may_read_are_left_for_the_next_ones(tmp_path: Path) -> None:
    stored = Files(tmp_path, 5)
    files = stored.open(compared_bytes_max=2 * BYTES)

    with pytest.raises(BackendUnavailableError, match="2 of 5 are compared, ask again"):
        await files.find_damaged(stored.keys)
    with pytest.raises(BackendUnavailableError, match="4 of 5 are compared, ask again"):
        await files.find_damaged(stored.keys)
    assert await files.find_damaged(stored.keys) == []


async def test_a_file_that_is_larger_than_one_statement_may_read_is_read_alone(tmp_path: Path) -> None:
    stored = Files(tmp_path, 2)
    files = stored.open(compared_bytes_max=BYTES // 2)

    with pytest.raises(BackendUnavailableError, match="1 of 2 are compared"):
        await files.find_damaged(stored.keys)
    assert await files.find_damaged(stored.keys) == []


async def test_what_takes_longer_than_one_statement_may_wait_is_given_up(tmp_path: Path, readings: Readings) -> None:
    stored = Files(tmp_path, 2)
    files = stored.open(compared_s_max=0.01)

    with pytest.raises(BackendUnavailableError, match="0 of 2 are compared, ask again"):
        await files.find_damaged(stored.keys)

    await until(lambda: readings.stopped == readings.begun)


async def test_what_was_found_damaged_is_said_even_if_not_all_could_be_compared(tmp_path: Path) -> None:
    stored = Files(tmp_path, 3)
    files = stored.open(compared_bytes_max=2 * BYTES)
    (tmp_path / stored.keys[0]).write_bytes(bytes(BYTES))

    assert await files.find_damaged(stored.keys) == stored.keys[:1]


@pytest.mark.parametrize(("keeps_copies", "times"), [(False, 1), (True, 2)])
async def test_a_damaged_file_is_read_again_only_if_it_may_have_been_a_bad_copy(
    tmp_path: Path, readings: Readings, keeps_copies: bool, times: int
) -> None:
    stored = Files(tmp_path, 1, keeps_copies=keeps_copies)
    files = stored.open()
    (tmp_path / stored.keys[0]).write_bytes(bytes(BYTES))
    readings.go_on.set()

    assert await files.find_damaged(stored.keys) == stored.keys

    assert readings.begun == stored.keys * times
