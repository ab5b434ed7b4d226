"""One server for the programs of other languages; each sends as a process of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.serving import Server, serving


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("lake")) as running:
        yield running
