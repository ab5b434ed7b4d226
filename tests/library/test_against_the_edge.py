"""The client library against our own Flight edge: both ends of the same headers, trailers, parameters and errors."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lakeflight.connection import (
    ClientError,
    Connection,
    IncompleteResultError,
    LimitReachedError,
    MissingBlocksWarning,
    ServerError,
    StatementError,
    UnavailableError,
    connect,
)
from lakehouse.errors import (
    BackendUnavailableError,
    IncompleteDataError,
    InternalError,
    LakeflightError,
    LimitExceededError,
    NotFoundError,
    QueryTimeoutError,
    UnsupportedError,
)
from tests.support.fake_query_service import FakeQueryService
from tests.support.flight_server import LoopThread, flight_server


@pytest.fixture(scope="module")
def thread() -> Iterator[LoopThread]:
    running = LoopThread()
    yield running
    running.close()


@pytest.fixture
def queries() -> FakeQueryService:
    return FakeQueryService()


@pytest.fixture
def lake(thread: LoopThread, queries: FakeQueryService) -> Iterator[Connection]:
    with flight_server(thread, queries) as server, connect(server.uri) as connection:
        yield connection


def test_rows_arrive(lake: Connection) -> None:
    table = lake.query("SELECT level, msg FROM log_entries ORDER BY msg LIMIT 2")

    assert table.to_pylist() == [{"level": 0, "msg": "message 0"}, {"level": 1, "msg": "message 1"}]


def test_range_limit_and_strictness_become_query_options(lake: Connection, queries: FakeQueryService) -> None:
    table = lake.query("SELECT * FROM log_entries", begin=1, end="1970-01-01T00:00:01.000000002Z", limit=3, strict=True)

    options = queries.options[-1]
    assert (options.time_range.begin_ns, options.time_range.end_ns) == (1, 1_000_000_002)
    assert (options.row_limit, options.strict) == (3, True)
    assert options.client["profile"] == "default"
    assert table.num_rows == 3


def test_parameters_are_bound(lake: Connection) -> None:
    table = lake.query("SELECT msg FROM log_entries WHERE level = ? AND msg LIKE ?", params=["3", "%27"])

    assert table.to_pylist() == [
        {"msg": "message 27"},
        {"msg": "message 327"},
        {"msg": "message 627"},
        {"msg": "message 927"},
    ]


def test_a_running_statement_has_an_id_and_progress(lake: Connection) -> None:
    with lake.query_stream("frames 100 1000000") as stream:
        assert stream.query_id
        assert stream.progress() == {"rows": 0, "query_id": stream.query_id}


def test_missing_blocks_are_told_by_the_trailer(lake: Connection, queries: FakeQueryService) -> None:
    queries.missing = 2

    with pytest.warns(MissingBlocksWarning, match="2 blocks"):
        lake.query("SELECT 1")


def test_tables_are_listed(lake: Connection) -> None:
    tables = lake.tables()

    assert "log_entries" in tables.column("table_name").to_pylist()
    assert set(tables.column("catalog_name").to_pylist()) == {"lakeflight"}


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (LimitExceededError("rows: 5 is more than 4"), LimitReachedError),
        (QueryTimeoutError("took longer than 30 s"), LimitReachedError),
        (NotFoundError("no such handle"), StatementError),
        (UnsupportedError("no transactions"), StatementError),
        (BackendUnavailableError("the store does not answer"), UnavailableError),
        (IncompleteDataError("3 blocks are missing"), IncompleteResultError),
    ],
)
@pytest.mark.parametrize("where", ["fail_prepare", "fail_start", "fail_midway"])
def test_every_error_reads_as_it_was_written(
    lake: Connection, queries: FakeQueryService, where: str, raised: LakeflightError, kind: type[ClientError]
) -> None:
    setattr(queries, where, raised)

    with pytest.raises(kind) as caught:
        lake.query("SELECT * FROM log_entries")

    assert str(caught.value) == str(raised)
    assert caught.value.query_id


def test_a_fault_of_the_server_names_the_query_and_nothing_else(lake: Connection, queries: FakeQueryService) -> None:
    queries.fail_start = InternalError("/secret/path")

    with pytest.raises(ServerError, match=r"^internal error$") as caught:
        lake.query("SELECT 1")

    assert caught.value.query_id


def test_a_syntax_error_is_the_parsers_sentence(lake: Connection) -> None:
    with pytest.raises(StatementError, match=r'^Parser Error: syntax error at or near "selec"'):
        lake.query("selec 1")
