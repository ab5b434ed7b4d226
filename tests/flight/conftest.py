"""One event loop for all tests of the edge; a fresh service and server for each."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.support.fake_query_service import FakeQueryService, new_database
from tests.support.flight_server import LoopThread, ServerInThread, flight_server


@pytest.fixture(scope="session")
def loop_thread() -> Iterator[LoopThread]:
    thread = LoopThread()
    yield thread
    thread.close()


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[MutableMapping[str, Any]]]:
    with capture_logs() as entries:
        yield entries


@pytest.fixture(scope="session")
def engine() -> Iterator[tuple[Any, ThreadPoolExecutor]]:
    database = new_database()
    with ThreadPoolExecutor(4) as threads:
        yield database, threads
    database.close()


@pytest.fixture
def queries(engine: tuple[Any, ThreadPoolExecutor]) -> FakeQueryService:
    database, threads = engine
    return FakeQueryService(database=database, threads=threads)


@pytest.fixture
def flight(loop_thread: LoopThread, queries: FakeQueryService) -> Iterator[ServerInThread]:
    with flight_server(loop_thread, queries) as server:
        yield server
