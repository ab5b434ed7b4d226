"""One server with all the telemetry that the documented statements ask about, and the model of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.compatibility.reference import teach
from tests.compatibility.telemetry import Model, Telemetry
from tests.support.serving import Server, serving, wait_out_the_hour


@pytest.fixture(scope="session")
def telemetry() -> Telemetry:
    wait_out_the_hour()
    return Telemetry()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, telemetry: Telemetry) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("compatibility")) as running:
        running.replay(telemetry.requests)
        running.query("SELECT count(*) FROM log_entries")  # so that there is a partition to list
        yield running


@pytest.fixture(scope="session")
def model(telemetry: Telemetry) -> Iterator[Model]:
    model = Model(telemetry)
    teach(model.connection)
    yield model
    model.connection.close()
