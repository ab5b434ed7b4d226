"""Lakes that several servers share."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cluster import Cluster
from tests.support.postgres import PostgresServer, postgres_server
from tests.support.s3 import faulty_s3, new_bucket, s3_server

__all__ = ["postgres_server"]


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    with s3_server() as endpoint:
        yield endpoint


@pytest.fixture
def cluster(tmp_path: Path, postgres_server: PostgresServer, s3_endpoint: str) -> Iterator[Cluster]:
    url = asyncio.run(postgres_server.create(migrated=True))
    with faulty_s3(s3_endpoint) as store:
        yield Cluster(url, new_bucket(s3_endpoint).at(store.endpoint), store, tmp_path)
    asyncio.run(postgres_server.drop(url))
