"""S3 servers, each started by the first test that asks for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.s3 import Bucket, new_bucket, s3_server, versitygw, versitygw_program

S3_SERVERS = ["moto", pytest.param("versitygw", marks=pytest.mark.needs("versitygw"))]


@pytest.fixture(scope="session")
def moto_endpoint() -> Iterator[str]:
    with s3_server() as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def versitygw_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    program = versitygw_program()
    assert program is not None
    with versitygw(program, tmp_path_factory.mktemp("versitygw")) as endpoint:
        yield endpoint


@pytest.fixture(params=S3_SERVERS)
def s3_endpoint(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(f"{request.param}_endpoint"))


@pytest.fixture
def bucket(s3_endpoint: str) -> Bucket:
    return new_bucket(s3_endpoint)
