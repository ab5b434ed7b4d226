"""An S3 server, started by the first test that asks for one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.s3 import Bucket, new_bucket, s3_server


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    with s3_server() as endpoint:
        yield endpoint


@pytest.fixture
def bucket(s3_endpoint: str) -> Bucket:
    return new_bucket(s3_endpoint)
