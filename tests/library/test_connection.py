"""The client library: what it sends, what it makes of answers, and how errors read."""

from __future__ import annotations

import asyncio
import threading
import time
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from uuid import UUID

import grpc.aio
import pyarrow as pa
import pyarrow.flight as flight
import pytest

import lakeflight
from lakeflight.connection import (
    AccessError,
    ClientError,
    Connection,
    IncompleteResultError,
    LimitReachedError,
    MissingBlocksWarning,
    OutOfRangeError,
    ServerError,
    StatementError,
    UnavailableError,
    connect,
    instant_text,
)
from tests.support.fake_flight import FakeFlight, Laid, fake_flight
from tests.support.ports import REFUSED

ROWS = pa.record_batch({"n": pa.array([1, 2, 3], pa.int64()), "text": ["a", None, "c"]})


@pytest.fixture
def server() -> Iterator[FakeFlight]:
    with fake_flight() as running:
        running.answers[None] = Laid([ROWS])
        yield running


@pytest.fixture
def lake(server: FakeFlight) -> Iterator[Connection]:
    with connect(server.uri) as connection:
        yield connection


def test_query_gives_the_whole_answer(lake: Connection, server: FakeFlight) -> None:
    server.answers[None] = Laid([ROWS, ROWS])

    table = lake.query("SELECT 1")

    assert table.to_pylist() == [*ROWS.to_pylist(), *ROWS.to_pylist()]
    assert server.asked.sql == ["SELECT 1"]


def test_an_answer_without_rows_keeps_its_columns(lake: Connection, server: FakeFlight) -> None:
    server.answers[None] = Laid(schema=ROWS.schema)

    table = lake.query("SELECT 1")

    assert (table.num_rows, table.schema) == (0, ROWS.schema)


def test_range_limit_and_strictness_travel_as_headers_of_both_calls(lake: Connection, server: FakeFlight) -> None:
    begin = datetime(2026, 1, 31, 13, 0, 0, 5, timezone(timedelta(hours=2)))

    lake.query("SELECT 1", begin=begin, end="2026-01-31T12:00:00.123456789Z", limit=7, strict=True)

    for headers in server.asked.headers:
        assert headers["query_range_begin"] == "2026-01-31T11:00:00.000005000Z"
        assert headers["query_range_end"] == "2026-01-31T12:00:00.123456789Z"
        assert headers["limit"] == "7"
        assert headers["x-lakeflight-strict"] == "true"
        assert headers["x-client-type"] == "lakeflight"
    assert len(server.asked.headers) == 2


def test_nothing_is_sent_that_was_not_asked_for(lake: Connection, server: FakeFlight) -> None:
    lake.query("SELECT 1")

    for headers in server.asked.headers:
        assert not {"query_range_begin", "query_range_end", "limit", "x-lakeflight-strict"} & set(headers)


def test_a_token_goes_with_every_call(server: FakeFlight) -> None:
    with connect(server.uri, token="secret", headers={"X-Team": "red"}) as lake:
        lake.query("SELECT 1")

    assert {headers["authorization"] for headers in server.asked.headers} == {"Bearer secret"}
    assert {headers["x-team"] for headers in server.asked.headers} == {"red"}


@pytest.mark.parametrize(
    ("instant", "text"),
    [
        (0, "1970-01-01T00:00:00.000000000Z"),
        (1_700_000_000_123_456_789, "2023-11-14T22:13:20.123456789Z"),
        ("2026-01-31T12:00:00+02:00", "2026-01-31T10:00:00.000000000Z"),
        (datetime(2026, 1, 31, tzinfo=UTC), "2026-01-31T00:00:00.000000000Z"),
    ],
)
def test_times_are_sent_in_utc_to_the_nanosecond(instant: datetime | str | int, text: str) -> None:
    assert instant_text(instant) == text


@pytest.mark.parametrize("instant", [datetime(2026, 1, 31), "2026-01-31T12:00:00", "yesterday", 1 << 70])  # noqa: DTZ001
def test_times_without_a_zone_are_refused(instant: datetime | str | int) -> None:
    with pytest.raises(ValueError, match=r"zone|not an RFC 3339 time|out of range"):
        instant_text(instant)


def test_batches_stream(lake: Connection, server: FakeFlight) -> None:
    server.answers[None] = Laid([ROWS] * 3)

    with lake.query_stream("SELECT 1") as stream:
        assert stream.schema == ROWS.schema
        assert stream.query_id == "query-1"
        assert [batch.num_rows for batch in stream] == [3, 3, 3]


def test_leaving_a_stream_early_stops_the_statement(lake: Connection, server: FakeFlight) -> None:
    server.answers[None] = Laid([ROWS], wait_s=10)

    with lake.query_stream("SELECT 1"):
        pass

    deadline = time.monotonic() + 5
    while not server.asked.cancelled and time.monotonic() < deadline:
        time.sleep(0.01)
    assert server.asked.cancelled == 1


def test_another_thread_may_cancel(lake: Connection, server: FakeFlight) -> None:
    server.answers[None] = Laid([ROWS], wait_s=10)

    with lake.query_stream("SELECT 1") as stream:
        threading.Timer(0.1, stream.cancel).start()
        with pytest.raises(LimitReachedError):
            next(stream)


def test_missing_blocks_warn(lake: Connection, server: FakeFlight) -> None:
    server.answers[None] = Laid([ROWS], missing_blocks=3)

    with pytest.warns(MissingBlocksWarning, match="3 blocks that could not be decoded are missing from this answer"):
        lake.query("SELECT 1")

    with lake.query_stream("SELECT 1") as stream, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert len(list(stream)) == 1
        assert stream.missing_blocks == 3


def test_nothing_missing_is_no_warning(lake: Connection) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")

        lake.query("SELECT 1")


def test_parameters_are_bound_in_the_types_the_server_expects(lake: Connection, server: FakeFlight) -> None:
    server.answers["SELECT ?, ?, ?"] = Laid(
        [ROWS], parameters=[pa.field("1", pa.int64()), pa.field("2", pa.float64()), pa.field("3", pa.timestamp("us"))]
    )

    table = lake.query("SELECT ?, ?, ?", params=["17", 5, "next tuesday"])

    assert table.num_rows == 3
    assert server.asked.parameters == [[17, 5.0, "next tuesday"]]
    assert server.asked.parameter_types == [[pa.int64(), pa.float64(), pa.string()]]
    assert server.asked.actions == ["CreatePreparedStatement", "ClosePreparedStatement"]


_NOON = datetime(2026, 1, 31, 12)  # noqa: DTZ001
_OWN_TYPES: list[tuple[object, pa.DataType]] = [
    (10, pa.int64()),
    (1.5, pa.float64()),
    (True, pa.bool_()),
    (b"\x00", pa.binary()),
    ("text", pa.string()),
    (Decimal("1.50"), pa.decimal128(3, 2)),
    (_NOON.date(), pa.date32()),
    (_NOON, pa.timestamp("us")),
    (_NOON.replace(tzinfo=UTC), pa.timestamp("us", "UTC")),
    (timedelta(seconds=1), pa.duration("us")),
    ([1, 2], pa.list_(pa.int64())),
    (["a", None], pa.list_(pa.string())),
    ({"a": 1}, pa.struct([("a", pa.int64())])),
    (UUID(int=7), pa.string()),
    (pa.array([7], pa.int8()), pa.int8()),
    (None, pa.string()),
]


@pytest.mark.parametrize("declared", [pa.string(), pa.list_(pa.string())], ids=str)
def test_a_value_has_its_own_type_where_the_server_cannot_tell_one(
    lake: Connection, server: FakeFlight, declared: pa.DataType
) -> None:
    """Numbers that were sent as text would be compared as text."""
    server.answers[None] = Laid([ROWS], parameters=[pa.field(str(n), declared) for n in range(len(_OWN_TYPES))])

    lake.query("SELECT ...", params=[value for value, _ in _OWN_TYPES])

    own = [kind for _, kind in _OWN_TYPES[:-1]]
    assert server.asked.parameter_types == [[*own, declared]]  # a null has none


def test_what_cannot_be_sent_is_said_by_the_number_of_its_parameter(lake: Connection, server: FakeFlight) -> None:
    server.answers[None] = Laid([ROWS], parameters=[pa.field("1", pa.string()), pa.field("2", pa.string())])

    for value in (object(), 1 << 200, [1, "a"]):
        with pytest.raises(StatementError, match="parameter 2 is nothing that can be sent"):
            lake.query("SELECT ?, ?", params=[1, value])


def test_wrong_parameters_are_an_error_before_anything_runs(lake: Connection, server: FakeFlight) -> None:
    server.answers[None] = Laid([ROWS], parameters=[pa.field("1", pa.int64())])

    with pytest.raises(StatementError, match="the statement has 1 parameters, 2 values were given"):
        lake.query("SELECT ?", params=[1, 2])
    with pytest.raises(StatementError, match=r"parameter 1 must be int64, not 1\.5"):
        lake.query("SELECT ?", params=[1.5])

    assert server.asked.sql == []
    assert server.asked.actions.count("ClosePreparedStatement") == 2


def test_tables_lists_what_can_be_queried(lake: Connection) -> None:
    assert lake.tables().column("table_name").to_pylist() == ["log_entries"]


def test_progress_is_known_while_a_statement_runs(lake: Connection, server: FakeFlight) -> None:
    with lake.query_stream("SELECT 1") as stream:
        assert stream.progress() is None

        server.progress = {"buckets": 4, "buckets_done": 1}

        assert stream.progress() == {"buckets": 4, "buckets_done": 1}


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (pa.ArrowInvalid("Parser Error: syntax error (query_id=abc)"), StatementError),
        (KeyError("no such thing (query_id=abc)"), StatementError),
        (NotImplementedError("not offered (query_id=abc)"), StatementError),
        (flight.FlightTimedOutError("too slow (query_id=abc)"), LimitReachedError),
        (flight.FlightCancelledError("stopped (query_id=abc)"), LimitReachedError),
        (flight.FlightUnauthenticatedError("who are you (query_id=abc)"), AccessError),
        (flight.FlightUnauthorizedError("not yours (query_id=abc)"), AccessError),
        (flight.FlightUnavailableError("come back later (query_id=abc)"), UnavailableError),
        (flight.FlightInternalError("internal error (query_id=abc)"), ServerError),
    ],
)
@pytest.mark.parametrize("midway", [False, True])
def test_errors_say_what_the_server_said_and_no_more(
    lake: Connection, server: FakeFlight, raised: Exception, kind: type[ClientError], midway: bool
) -> None:
    server.answers[None] = Laid([ROWS], fail_midway=raised) if midway else Laid(fail_bind=raised)

    with pytest.raises(kind) as caught:
        lake.query("SELECT 1")

    said = str(raised.args[0]).removesuffix(" (query_id=abc)")
    assert str(caught.value).strip("'") == said  # pyarrow's server puts a KeyError's text in quotes
    assert caught.value.query_id == "abc"


def test_what_pyarrow_says_of_data_loss_and_full_servers_is_told_apart() -> None:
    from lakeflight.connection import translated

    tail = ". gRPC client debug context: X:missing 3. Client context: IOError: Server never sent. Detail: Internal"
    lost = translated(flight.FlightInternalError(f"gRPC returned data loss error, with message: missing 3{tail}"))
    full = translated(pa.ArrowInvalid(f"gRPC returned resource exhausted error, with message: rows: 5 > 4{tail}"))

    assert (type(lost), str(lost)) == (IncompleteResultError, "missing 3")
    assert (type(full), str(full)) == (LimitReachedError, "rows: 5 > 4")


def test_the_package_lists_what_it_offers() -> None:
    assert set(lakeflight.__all__) <= set(dir(lakeflight))
    assert lakeflight.connect is connect


def test_nobody_there_is_one_short_sentence() -> None:
    with connect(REFUSED) as lake, pytest.raises(UnavailableError) as caught:
        lake.query("SELECT 1")

    assert str(caught.value) == "cannot connect: connection refused"


@pytest.mark.parametrize(
    ("transport", "meaning"),
    [
        (
            "failed to connect to all addresses; last error: UNAVAILABLE: ipv4:127.0.0.1:9000: Failed parsing HTTP/2"
            " (Expected SETTINGS frame as the first frame, got frame type 79)",
            "cannot connect: this is not a Flight port; is it the ingestion port?",
        ),
        (
            "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:50051: Ssl handshake failed"
            " (TSI_PROTOCOL_FAILURE): SSL_ERROR_SSL: error:0A00010B:SSL routines::wrong version number",
            "cannot connect: this port does not speak TLS; say grpc:// instead of grpc+tls://",
        ),
        (
            "errors resolving nosuch.invalid:1234: [field:hostname lookup error:address lookup failed for"
            " nosuch.invalid:1234: Domain name not found]",
            "cannot connect: no such host",
        ),
        (
            "failed to connect to all addresses; last error: UNAVAILABLE: ipv4:127.0.0.1:1: recvmsg:Connection reset by peer",
            "cannot connect: connection reset by peer",
        ),
        ("Cancelling all calls", "the server is stopping"),
        ("Stream removed (Socket closed)", "the connection to the server was lost while the statement ran"),
        ("recvmsg:Connection reset by peer", "the connection to the server was lost while the statement ran"),
    ],
)
def test_what_happened_to_a_connection_is_said_in_words(transport: str, meaning: str) -> None:
    from lakeflight.connection import translated

    error = translated(
        flight.FlightUnavailableError(
            f"Flight returned unavailable error, with message: {transport}. Client context: X"
        )
    )

    assert (type(error), str(error), error.query_id) == (UnavailableError, meaning, None)


def test_a_port_of_another_grpc_service_is_no_flight_port() -> None:
    async def ask() -> str:
        other = grpc.aio.server()
        port = other.add_insecure_port("127.0.0.1:0")
        await other.start()
        try:
            with connect(f"127.0.0.1:{port}") as lake, pytest.raises(UnavailableError) as caught:
                await asyncio.to_thread(lake.query, "SELECT 1")
            return str(caught.value)
        finally:
            await other.stop(None)

    assert asyncio.run(ask()) == "cannot connect: this is not a Flight port; is it the one of OTLP over gRPC?"


@pytest.mark.parametrize("midway", [False, True])
def test_a_server_that_answers_is_not_called_unreachable(lake: Connection, server: FakeFlight, midway: bool) -> None:
    raised = flight.FlightUnavailableError("the database is not available: no connection (query_id=abc)")
    server.answers[None] = Laid([ROWS], fail_midway=raised) if midway else Laid(fail_bind=raised)

    with pytest.raises(UnavailableError, match=r"^the database is not available: no connection$") as caught:
        lake.query("SELECT 1")

    assert caught.value.query_id == "abc"


@pytest.mark.parametrize(
    "instant", ["1500-01-01T00:00:00Z", 1 << 63, datetime(2500, 1, 1, tzinfo=UTC), datetime.max.replace(tzinfo=UTC)]
)
def test_times_that_nanoseconds_cannot_hold_are_refused_with_the_range(instant: datetime | str | int) -> None:
    with pytest.raises(
        OutOfRangeError, match=r"is out of range: times lie between 1677-09-21T00:12:44Z and 2262-04-11"
    ):
        instant_text(instant)


@pytest.mark.parametrize("uri", ["ftp://host:1", "grpc://host", "grpc://:1", "host", "grpc://host:port", ""])
def test_addresses_that_are_none_are_refused(uri: str) -> None:
    with pytest.raises(ValueError, match="Flight address"):
        connect(uri)


@pytest.mark.parametrize(
    ("uri", "spelled"),
    [
        ("localhost:50051", "grpc://localhost:50051"),
        ("http://localhost:50051", "grpc://localhost:50051"),
        ("https://lake.example:443", "grpc+tls://lake.example:443"),
        ("grpc+tcp://[::1]:50051", "grpc://[::1]:50051"),
        ("grpc+unix:///tmp/lake.sock", "grpc+unix:///tmp/lake.sock"),
    ],
)
def test_addresses_are_read_in_every_usual_spelling(uri: str, spelled: str) -> None:
    with connect(uri) as lake:
        assert lake.uri == spelled
