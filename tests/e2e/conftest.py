"""One server for all tests of this folder that do not harm theirs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.postgres import postgres_server
from tests.support.serving import Server, serving, wait_out_the_hour

__all__ = ["postgres_server", "server"]


@pytest.fixture(autouse=True)
def one_insert_hour() -> None:
    """Recorded trees are compared row by row, and an hour's end would cut them."""
    wait_out_the_hour()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("lake")) as running:
        yield running
