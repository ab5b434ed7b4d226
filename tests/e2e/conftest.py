"""One server for all tests of this folder that do not harm theirs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.postgres import postgres_server
from tests.support.serving import Server, serving

__all__ = ["postgres_server", "server"]


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("lake")) as running:
        yield running
