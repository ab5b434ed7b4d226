"""Every RPC over a real socket, with the bytes of odd clients."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator, MutableMapping
from typing import Any

import grpc
import pyarrow as pa
import pyarrow.flight as fl
import pytest

from lakeflight.wire.flight_data import decode_frame, flight_data_frames, read_upload, schema_frame
from lakeflight.wire.flight_sql import FLIGHT, SQL, encode_statement_ticket, pack, parse, unpack_as
from lakehouse import errors
from server.flight.handles import BOUND_VALUES_BYTES_MAX
from tests.support.fake_query_service import FakeQueryService
from tests.support.flight_server import ServerInThread, descriptor, sql_command, ticket

INVALID, UNIMPLEMENTED = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNIMPLEMENTED
NOT_FOUND, EXHAUSTED = grpc.StatusCode.NOT_FOUND, grpc.StatusCode.RESOURCE_EXHAUSTED

METADATA_COMMANDS = [
    "CommandGetCatalogs",
    "CommandGetDbSchemas",
    "CommandGetTables",
    "CommandGetTableTypes",
    "CommandGetPrimaryKeys",
    "CommandGetExportedKeys",
    "CommandGetImportedKeys",
    "CommandGetCrossReference",
    "CommandGetSqlInfo",
    "CommandGetXdbcTypeInfo",
]


def table_of(frames: Any) -> pa.Table:
    return read_upload([decode_frame(frame) for frame in frames])


def refused(call: Any) -> tuple[Any, str]:
    """Code and text of a call that must fail."""
    with pytest.raises(grpc.RpcError) as caught:
        list(call() if callable(call) else call)
    return caught.value.code(), caught.value.details()


def statement(sql: str) -> bytes:
    return sql_command("CommandStatementQuery", query=sql)


def prepare(flight: ServerInThread, sql: str) -> Any:
    [body] = flight.action("CreatePreparedStatement", sql_command("ActionCreatePreparedStatementRequest", query=sql))
    return unpack_as("ActionCreatePreparedStatementResult", body)


def upload(command: bytes, table: pa.Table) -> Iterator[bytes]:
    frames = flight_data_frames(table.schema, table.to_batches())
    first = FLIGHT["FlightDescriptor"](type=2, cmd=command).SerializeToString()
    yield b"\x0a" + bytes([len(first) & 0x7F | 0x80, len(first) >> 7]) + first + next(frames)
    yield from frames


def bind(flight: ServerInThread, handle: bytes, table: pa.Table) -> bytes:
    command = sql_command("CommandPreparedStatementQuery", prepared_statement_handle=handle)
    [reply] = flight.both("DoPut", upload(command, table))
    result = parse(SQL["DoPutPreparedStatementResult"], parse(FLIGHT["PutResult"], reply).app_metadata)
    assert result.HasField("prepared_statement_handle")
    bound: bytes = result.prepared_statement_handle
    return bound


def test_schemas_agree_between_info_schema_prepare_poll_and_stream(flight: ServerInThread) -> None:
    sql = "SELECT level, count(*) AS n, now() AS t, NULL AS nothing FROM log_entries GROUP BY level"

    info = flight.info(statement(sql))
    schema = parse(FLIGHT["SchemaResult"], flight.unary("GetSchema", descriptor(statement(sql)))).schema
    poll = parse(FLIGHT["PollInfo"], flight.unary("PollFlightInfo", descriptor(statement(sql))))
    first = next(flight.stream("DoGet", info.endpoint[0].ticket.SerializeToString()))

    assert info.schema == schema == prepare(flight, sql).dataset_schema == poll.info.schema != b""
    assert schema_frame(info.schema) == first
    assert (poll.progress, poll.HasField("flight_descriptor")) == (1.0, False)


def test_a_flight_info_has_one_endpoint_here_and_echoes_its_descriptor(flight: ServerInThread) -> None:
    info = flight.info(statement("SELECT 1"))

    assert len(info.endpoint) == 1
    assert list(info.endpoint[0].location) == []
    assert not info.endpoint[0].HasField("expiration_time")
    assert (info.total_records, info.total_bytes) == (-1, -1)
    assert info.flight_descriptor.cmd == statement("SELECT 1")


def test_queries_run_in_do_get_alone(flight: ServerInThread, queries: FakeQueryService) -> None:
    info = flight.info(statement("SELECT 1"))
    prepare(flight, "SELECT 1")
    assert queries.calls["execute"] == 0

    list(flight.stream("DoGet", info.endpoint[0].ticket.SerializeToString()))
    assert queries.calls["execute"] == 1


@pytest.mark.parametrize(
    "form",
    [
        encode_statement_ticket(b"SELECT 42 AS a"),
        SQL["TicketStatementQuery"](statement_handle=b"SELECT 42 AS a").SerializeToString(),
        pack(SQL["CommandPreparedStatementQuery"](prepared_statement_handle=b"SELECT 42 AS a")),
        pack(SQL["CommandStatementQuery"](query="SELECT 42 AS a")),
    ],
    ids=["ticket", "raw ticket", "prepared", "statement"],
)
def test_do_get_takes_every_form_of_ticket(flight: ServerInThread, form: bytes) -> None:
    assert table_of(flight.stream("DoGet", ticket(form))).to_pylist() == [{"a": 42}]


@pytest.mark.parametrize("name", METADATA_COMMANDS)
def test_metadata_commands_answer_alike_everywhere(flight: ServerInThread, name: str) -> None:
    command = sql_command(name)

    info = flight.info(command)
    schema = parse(FLIGHT["SchemaResult"], flight.unary("GetSchema", descriptor(command))).schema
    frames = list(flight.stream("DoGet", info.endpoint[0].ticket.SerializeToString()))

    assert info.endpoint[0].ticket.ticket == command
    assert info.schema == schema
    assert frames[0] == schema_frame(schema)
    table_of(frames).validate(full=True)


def test_tables_are_listed_with_schemas_that_describe(flight: ServerInThread) -> None:
    command = sql_command("CommandGetTables", include_schema=True, table_name_filter_pattern="log_entries")

    rows = table_of(flight.stream("DoGet", ticket(command))).to_pylist()

    assert [row["table_name"] for row in rows] == ["log_entries", "logXentries"]
    assert pa.ipc.read_schema(pa.py_buffer(rows[0]["table_schema"])).names == ["time", "level", "msg", "properties"]


def test_zero_rows_still_bring_the_schema(flight: ServerInThread) -> None:
    frames = list(flight.stream("DoGet", ticket(encode_statement_ticket(b"SELECT 1 AS a WHERE false"))))

    assert len(frames) == 1
    assert table_of(frames).schema.names == ["a"]


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"",
        b"\xff\xff\xff",
        descriptor(b""),
        descriptor(b"SELECT 1"),
        descriptor(b"\xff\x00garbage"),
        FLIGHT["FlightDescriptor"](type=1, path=["a", "b"]).SerializeToString(),
        descriptor(encode_statement_ticket(b"\xff\xfe")),
        descriptor(pack(SQL["CommandStatementQuery"](query="SELECT 1", transaction_id=b"t"))),
    ],
    ids=["nothing", "garbage", "no command", "bare sql", "garbage command", "path", "binary handle", "transaction"],
)
@pytest.mark.parametrize("method", ["GetFlightInfo", "GetSchema", "PollFlightInfo"])
def test_descriptors_that_name_nothing_are_invalid(flight: ServerInThread, method: str, request_bytes: bytes) -> None:
    code, details = refused(lambda: flight.unary(method, request_bytes))

    assert code is INVALID
    assert "query_id=" in details


@pytest.mark.parametrize("data", [b"", b"\xff", ticket(b""), ticket(b"\xff\xff"), ticket(pack(FLIGHT["Empty"]()))])
def test_tickets_that_name_nothing_are_invalid(flight: ServerInThread, data: bytes) -> None:
    assert refused(flight.stream("DoGet", data))[0] is INVALID


def test_what_changes_data_is_refused_as_not_there(flight: ServerInThread) -> None:
    update = sql_command("CommandStatementUpdate", query="DROP TABLE x")
    substrait = sql_command("CommandStatementSubstraitPlan")

    for command in (update, substrait, sql_command("CommandStatementIngest", table="t")):
        assert refused(lambda command=command: flight.unary("GetFlightInfo", descriptor(command)))[0] is UNIMPLEMENTED


def test_do_get_says_its_id_at_once_and_what_is_missing_at_the_end(
    flight: ServerInThread, queries: FakeQueryService
) -> None:
    queries.missing = 3
    call = flight.stream("DoGet", ticket(encode_statement_ticket(b"SELECT 1")))
    query_id = dict(call.initial_metadata())["x-query-id"]
    list(call)

    assert len(query_id) == 32
    assert queries.options[-1].query_id == query_id
    assert dict(call.trailing_metadata())["missing_blocks"] == "3"


def test_the_id_comes_before_the_first_frame(flight: ServerInThread, queries: FakeQueryService) -> None:
    call = flight.stream("DoGet", ticket(encode_statement_ticket(b"stall")))
    query_id = dict(call.initial_metadata())["x-query-id"]
    wait_until(lambda: query_id in queries.open_streams)

    [progress] = flight.action("lakeflight.QueryProgress", query_id.encode())
    call.cancel()

    assert json.loads(progress) == {"rows": 0, "query_id": query_id}


def test_progress_of_an_unknown_query_is_not_found(flight: ServerInThread) -> None:
    assert refused(lambda: flight.action("lakeflight.QueryProgress", b"nothing"))[0] is NOT_FOUND
    assert refused(lambda: flight.action("lakeflight.QueryProgress", b""))[0] is INVALID


@pytest.mark.parametrize("known", [0, 5])
def test_flight_info_says_what_is_known_to_be_missing(
    flight: ServerInThread, queries: FakeQueryService, known: int
) -> None:
    queries.known_missing = known

    app_metadata = flight.info(statement("SELECT 1")).app_metadata

    assert json.loads(app_metadata) == {"missing_blocks": known}


@pytest.mark.parametrize(
    ("name", "text"),
    [("query_range_begin", "yesterday"), ("limit", "many"), ("x-lakeflight-strict", "?"), ("x-output-profile", "?")],
)
def test_a_header_that_does_not_parse_is_invalid_everywhere(flight: ServerInThread, name: str, text: str) -> None:
    metadata = [(name, text)]

    for call in (
        lambda: flight.unary("GetFlightInfo", descriptor(statement("SELECT 1")), metadata),
        lambda: flight.stream("DoGet", ticket(encode_statement_ticket(b"SELECT 1")), metadata),
        lambda: flight.action(
            "CreatePreparedStatement", sql_command("ActionCreatePreparedStatementRequest", query="SELECT 1"), metadata
        ),
    ):
        code, details = refused(call)
        assert code is INVALID
        assert name in details


def test_headers_reach_prepare_and_execute_alike(flight: ServerInThread, queries: FakeQueryService) -> None:
    metadata = [("x-lakeflight-strict", "true"), ("query_range_end", ""), ("x-client-type", "grafana"), ("limit", "1")]

    flight.info(statement("SELECT 1"), metadata)
    list(flight.stream("DoGet", ticket(encode_statement_ticket(b"SELECT 1")), metadata))

    for options in queries.options:
        assert (options.strict, options.row_limit, options.client["profile"]) == (True, 1, "grafana")
    assert queries.options[1].deadline_s == pytest.approx(10, abs=2)


# Prepared statements and DoPut


def test_a_statement_without_parameters_is_its_own_handle(flight: ServerInThread) -> None:
    prepared = prepare(flight, "SELECT 1")

    assert prepared.prepared_statement_handle == b"SELECT 1"
    assert len(pa.ipc.read_schema(pa.py_buffer(prepared.parameter_schema))) == 0
    assert prepared.HasField("is_update")
    assert not prepared.is_update


def test_closing_returns_nothing_and_accepts_any_handle(flight: ServerInThread) -> None:
    for handle in (b"SELECT 1", b"lakeflight-statement:unknown", b"\xff"):
        body = sql_command("ActionClosePreparedStatementRequest", prepared_statement_handle=handle)
        assert flight.action("ClosePreparedStatement", body) == []


def test_bound_values_work_through_the_new_and_the_old_handle(flight: ServerInThread) -> None:
    prepared = prepare(flight, "SELECT ?::BIGINT AS a")
    old = prepared.prepared_statement_handle
    new = bind(flight, old, pa.table({"a": [5]}))

    for handle in (new, old):
        info = flight.info(sql_command("CommandPreparedStatementQuery", prepared_statement_handle=handle))
        assert table_of(flight.stream("DoGet", info.endpoint[0].ticket.SerializeToString())).to_pylist() == [{"a": 5}]


def test_rows_of_values_run_one_after_the_other(flight: ServerInThread, queries: FakeQueryService) -> None:
    queries.missing = 2
    handle = bind(
        flight, prepare(flight, "SELECT ?::BIGINT AS a").prepared_statement_handle, pa.table({"a": [3, 1, 2]})
    )

    call = flight.stream("DoGet", ticket(encode_statement_ticket(handle)))

    assert table_of(call).column("a").to_pylist() == [3, 1, 2]
    assert dict(call.trailing_metadata())["missing_blocks"] == "2"
    wait_until(lambda: queries.calls["aclose"] == 3)


def test_no_row_of_values_is_a_result_without_rows(flight: ServerInThread, queries: FakeQueryService) -> None:
    prepared = prepare(flight, "SELECT ?::BIGINT AS a")
    handle = bind(flight, prepared.prepared_statement_handle, pa.table({"a": pa.array([], pa.int64())}))

    table = table_of(flight.stream("DoGet", ticket(encode_statement_ticket(handle))))

    assert (table.num_rows, table.schema.names) == (0, ["a"])
    assert queries.calls["execute"] == 0


def test_unbound_parameters_are_invalid_at_execution(flight: ServerInThread) -> None:
    handle = prepare(flight, "SELECT ?").prepared_statement_handle

    assert refused(flight.stream("DoGet", ticket(encode_statement_ticket(handle))))[0] is INVALID


def test_forged_handles_are_not_found(flight: ServerInThread) -> None:
    forged = b"lakeflight-statement:" + base64.urlsafe_b64encode(b"x" * 80)

    for handle in (forged, b"lakeflight-statement:", b"lakeflight-statement:\xff!"):
        command = sql_command("CommandPreparedStatementQuery", prepared_statement_handle=handle)
        assert refused(flight.stream("DoGet", ticket(encode_statement_ticket(handle))))[0] is NOT_FOUND
        assert refused(lambda command=command: flight.info(command))[0] is NOT_FOUND
        assert refused(flight.both("DoPut", upload(command, pa.table({"a": [1]}))))[0] is NOT_FOUND


@pytest.mark.parametrize("name", ["CommandStatementUpdate", "CommandPreparedStatementUpdate", "CommandStatementIngest"])
def test_writes_are_refused_before_the_client_ends_its_stream(flight: ServerInThread, name: str) -> None:
    done = threading.Event()

    def requests() -> Iterator[bytes]:  # a descriptor alone, without a schema, and then nothing for a long time
        yield FLIGHT["FlightData"](
            flight_descriptor=FLIGHT["FlightDescriptor"](type=2, cmd=sql_command(name))
        ).SerializeToString()
        done.wait(8)

    began = time.monotonic()
    code, details = refused(flight.both("DoPut", requests()))
    done.set()

    assert code is UNIMPLEMENTED
    assert "not supported" in details
    assert time.monotonic() - began < 5


def test_a_write_in_a_transaction_is_invalid(flight: ServerInThread) -> None:
    command = sql_command("CommandStatementUpdate", query="x", transaction_id=b"t")
    message = FLIGHT["FlightData"](flight_descriptor=FLIGHT["FlightDescriptor"](type=2, cmd=command))

    assert refused(flight.both("DoPut", iter([message.SerializeToString()])))[0] is INVALID


def test_odd_uploads_are_invalid(flight: ServerInThread) -> None:
    handle = prepare(flight, "SELECT ?").prepared_statement_handle
    command = sql_command("CommandPreparedStatementQuery", prepared_statement_handle=handle)
    first, *rest = upload(command, pa.table({"a": [1]}))
    path = FLIGHT["FlightData"](flight_descriptor=FLIGHT["FlightDescriptor"](type=1, path=["x"])).SerializeToString()

    for messages in ([], [b"\xff\xff"], [path], rest, [first, b"\x12\x04abcd"], [first, *rest, b"\xff"]):
        assert refused(flight.both("DoPut", iter(messages)))[0] is INVALID


def test_too_many_bytes_of_values_are_refused(flight: ServerInThread) -> None:
    handle = prepare(flight, "SELECT ?").prepared_statement_handle
    command = sql_command("CommandPreparedStatementQuery", prepared_statement_handle=handle)
    values = pa.table({"a": ["x" * (BOUND_VALUES_BYTES_MAX // 2)] * 6})

    assert refused(flight.both("DoPut", upload(command, values)))[0] is EXHAUSTED


# Actions and sessions


def test_listed_actions_are_those_that_are_accepted(flight: ServerInThread) -> None:
    listed = {parse(FLIGHT["ActionType"], reply).type for reply in flight.stream("ListActions", b"")}

    assert listed == {
        "CreatePreparedStatement",
        "ClosePreparedStatement",
        "CancelFlightInfo",
        "CancelQuery",
        "SetSessionOptions",
        "GetSessionOptions",
        "CloseSession",
        "lakeflight.QueryProgress",
    }
    for name in ("BeginTransaction", "EndTransaction", "RenewFlightEndpoint", "CreatePreparedSubstraitPlan", "x", ""):
        assert refused(lambda name=name: flight.action(name, b""))[0] is UNIMPLEMENTED


@pytest.mark.parametrize(
    "name",
    ["CreatePreparedStatement", "ClosePreparedStatement", "CancelFlightInfo", "CancelQuery", "SetSessionOptions"],
)
def test_garbage_in_an_action_is_invalid(flight: ServerInThread, name: str) -> None:
    assert refused(lambda: flight.action(name, b"\xff\xff"))[0] is INVALID


def test_preparing_in_a_transaction_is_invalid(flight: ServerInThread) -> None:
    body = sql_command("ActionCreatePreparedStatementRequest", query="SELECT 1", transaction_id=b"t")

    assert refused(lambda: flight.action("CreatePreparedStatement", body))[0] is INVALID


def session_request(**options: str | None) -> bytes:
    request = FLIGHT["SetSessionOptionsRequest"]()
    for name, value in options.items():
        if value is None:
            request.session_options[name].SetInParent()
        else:
            request.session_options[name].string_value = value
    encoded: bytes = request.SerializeToString()
    return encoded


def set_session(flight: ServerInThread, cookie: str = "", **options: str | None) -> tuple[str, dict[str, int]]:
    """The cookie that comes back, and the refused options."""
    request = FLIGHT["Action"](type="SetSessionOptions", body=session_request(**options)).SerializeToString()
    call = flight.stream("DoAction", request, [("cookie", cookie)] if cookie else ())
    result = parse(FLIGHT["SetSessionOptionsResult"], parse(FLIGHT["Result"], next(call)).body)
    return dict(call.initial_metadata())["set-cookie"].partition(";")[0], {k: v.value for k, v in result.errors.items()}


def get_session(flight: ServerInThread, cookie: str = "") -> dict[str, str]:
    [body] = flight.action("GetSessionOptions", b"", [("cookie", cookie)] if cookie else ())
    found = parse(FLIGHT["GetSessionOptionsResult"], body).session_options
    return {name: value.string_value for name, value in found.items()}


DEFAULTS = {"catalog": "lakeflight", "schema": "main", "timezone": "UTC"}


def test_a_fresh_session_lists_catalog_schema_and_time_zone(flight: ServerInThread) -> None:
    assert get_session(flight) == DEFAULTS
    assert flight.action("CloseSession", b"") == [FLIGHT["CloseSessionResult"](status=1).SerializeToString()]


def test_a_cookie_keeps_the_session_and_nothing_leaks_without_it(
    flight: ServerInThread, queries: FakeQueryService
) -> None:
    cookie, errors_ = set_session(flight, schema="main", limit="7", query_range_begin="1970-01-01T00:00:01Z")

    assert errors_ == {}
    assert get_session(flight) == DEFAULTS
    assert get_session(flight, f"other=1; {cookie}; more=2")["limit"] == "7"
    list(flight.stream("DoGet", ticket(encode_statement_ticket(b"SELECT 1")), [("cookie", cookie)]))
    assert (queries.options[-1].row_limit, queries.options[-1].time_range.begin_ns) == (7, 1_000_000_000)
    list(flight.stream("DoGet", ticket(encode_statement_ticket(b"SELECT 1")), [("cookie", cookie), ("limit", "3")]))
    assert queries.options[-1].row_limit == 3


def test_options_are_erased_by_no_value_and_refused_by_kind(flight: ServerInThread) -> None:
    cookie, _ = set_session(flight, limit="7")
    cookie, errors_ = set_session(flight, cookie, limit=None, catalog="other", timezone="Mars/Base", nonsense="1")

    assert errors_ == {"catalog": 2, "timezone": 2, "nonsense": 1}
    assert get_session(flight, cookie) == DEFAULTS


@pytest.mark.parametrize("value", ["", "x", "!!!", "eyJsaW1pdCI6MX0", "W10", "eyJsaW1pdCI6IngifQ", "A" * 6000])
def test_a_cookie_that_does_not_parse_is_an_empty_session(flight: ServerInThread, value: str) -> None:
    assert get_session(flight, f"arrow_flight_session_id={value}") == DEFAULTS


# Cancellation by request


def wait_until(condition: Any, timeout_s: float = 3) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


def cancel(flight: ServerInThread, info: Any) -> int:
    [body] = flight.action("CancelFlightInfo", FLIGHT["CancelFlightInfoRequest"](info=info).SerializeToString())
    status: int = parse(FLIGHT["CancelFlightInfoResult"], body).status
    return status


def info_for(handle: bytes) -> Any:
    endpoint = FLIGHT["FlightEndpoint"](ticket=FLIGHT["Ticket"](ticket=encode_statement_ticket(handle)))
    return FLIGHT["FlightInfo"](endpoint=[endpoint])


def test_cancelling_a_flight_info_ends_all_runs_of_its_text(flight: ServerInThread, queries: FakeQueryService) -> None:
    running = [flight.stream("DoGet", ticket(encode_statement_ticket(b"stall"))) for _ in range(2)]
    wait_until(lambda: len(queries.open_streams) == 2)

    assert cancel(flight, flight.info(statement("stall"))) == 1

    for call in running:
        assert refused(call)[0] is grpc.StatusCode.CANCELLED
    wait_until(lambda: queries.open_streams == {})
    assert cancel(flight, info_for(b"stall")) == 1  # known, and over
    assert cancel(flight, info_for(b"SELECT 'never run'")) == 3


def test_the_deprecated_cancel_is_wrapped_and_does_the_same(flight: ServerInThread, queries: FakeQueryService) -> None:
    call = flight.stream("DoGet", ticket(encode_statement_ticket(b"stall")))
    wait_until(lambda: len(queries.open_streams) == 1)

    [body] = flight.action(
        "CancelQuery", sql_command("ActionCancelQueryRequest", info=info_for(b"stall").SerializeToString())
    )

    assert unpack_as("ActionCancelQueryResult", body).result == 1
    assert refused(call)[0] is grpc.StatusCode.CANCELLED


def test_cancelling_one_binding_leaves_the_others(flight: ServerInThread, queries: FakeQueryService) -> None:
    sql = "SELECT ?::BIGINT AS a, i FROM range(5000000) t(i)"
    handles = [bind(flight, prepare(flight, sql).prepared_statement_handle, pa.table({"a": [n]})) for n in (1, 2)]
    calls = [flight.stream("DoGet", ticket(encode_statement_ticket(handle)), timeout=30) for handle in handles]
    for call in calls:
        next(call)  # running, and held back by its reader

    assert cancel(flight, info_for(handles[0])) == 1

    assert refused(calls[0])[0] is grpc.StatusCode.CANCELLED
    assert sum(1 for _ in calls[1]) > 10


def test_a_client_that_goes_away_closes_its_stream(flight: ServerInThread, queries: FakeQueryService) -> None:
    for sql in (b"stall", b"SELECT count(*) FROM range(100000) a, range(10000000) b", b"frames 100000 1000000"):
        closed = queries.calls["aclose"]
        call = flight.stream("DoGet", ticket(encode_statement_ticket(sql)))
        wait_until(lambda: len(queries.open_streams) == 1)
        time.sleep(0.05)

        call.cancel()

        wait_until(lambda closed=closed: queries.calls["aclose"] == closed + 1, 1)
        wait_until(lambda: queries.open_streams == {} and flight.server.running_statements == 0, 1)


def test_a_deadline_closes_the_stream(flight: ServerInThread, queries: FakeQueryService) -> None:
    call = flight.stream("DoGet", ticket(encode_statement_ticket(b"stall")), timeout=0.2)

    assert refused(call)[0] is grpc.StatusCode.DEADLINE_EXCEEDED
    wait_until(lambda: queries.calls["aclose"] == 1, 1)


# Errors


ERRORS = [
    (errors.QueryError("bad"), INVALID, "bad"),
    (errors.SqlSyntaxError("bad"), INVALID, "bad"),
    (errors.ForbiddenSqlError("bad"), INVALID, "bad"),
    (errors.UnsupportedError("bad"), UNIMPLEMENTED, "bad"),
    (errors.NotFoundError("bad"), NOT_FOUND, "bad"),
    (errors.LimitExceededError("bad"), EXHAUSTED, "bad"),
    (errors.QueryTimeoutError("bad"), grpc.StatusCode.DEADLINE_EXCEEDED, "bad"),
    (errors.QueryCancelledError("bad"), grpc.StatusCode.CANCELLED, "bad"),
    (errors.BackendUnavailableError("bad"), grpc.StatusCode.UNAVAILABLE, "bad"),
    (errors.IncompleteDataError("bad"), grpc.StatusCode.DATA_LOSS, "bad"),
    (errors.InternalError("/srv/secret"), grpc.StatusCode.INTERNAL, "internal error"),
    (RuntimeError("/srv/secret.py"), grpc.StatusCode.INTERNAL, "internal error"),
]


@pytest.mark.parametrize(("error", "code", "text"), ERRORS, ids=[type(error).__name__ for error, _, _ in ERRORS])
def test_errors_arrive_with_their_code_wherever_they_happen(
    flight: ServerInThread,
    queries: FakeQueryService,
    logs: list[MutableMapping[str, Any]],
    error: Exception,
    code: Any,
    text: str,
) -> None:
    get = ticket(encode_statement_ticket(b"SELECT i FROM range(300000) t(i)"))
    body = sql_command("ActionCreatePreparedStatementRequest", query="SELECT 1")
    answers = []

    queries.fail_prepare = error
    answers.append(refused(lambda: flight.info(statement("SELECT 1"))))
    answers.append(refused(lambda: flight.action("CreatePreparedStatement", body)))
    queries.fail_start = error
    answers.append(refused(flight.stream("DoGet", get)))
    queries.fail_start, queries.fail_midway = None, error
    call = flight.stream("DoGet", get)
    assert len(next(call)) > 0
    answers.append(refused(call))

    for found, details in answers:
        assert found is code
        assert details.startswith(f"{text} (query_id=")
        assert not {"secret", "Traceback", "Python exception", ".py"} & set(details.replace("/", " ").split())
        assert "/srv" not in details
    wait_until(lambda: queries.calls["aclose"] == 2)
    ids = [details.partition("query_id=")[2].rstrip(")") for _, details in answers]
    assert [entry["query_id"] for entry in logs] == (ids if code is grpc.StatusCode.INTERNAL else [])


# The rest of the protocol


def test_list_flights_and_exchange_are_not_there(flight: ServerInThread) -> None:
    assert refused(flight.stream("ListFlights", b""))[0] is UNIMPLEMENTED
    assert refused(flight.both("DoExchange", iter([b""])))[0] is UNIMPLEMENTED


@pytest.mark.parametrize("sends", [0, 1])
def test_handshake_answers_once_before_anything_is_sent(flight: ServerInThread, sends: int) -> None:
    done = threading.Event()

    def requests() -> Iterator[bytes]:
        yield from [b""] * sends
        done.wait(8)

    call = flight.both("Handshake", requests())
    replies = list(call)
    done.set()

    assert replies == [b""]
    assert "authorization" not in dict(call.initial_metadata())


@pytest.mark.parametrize("credentials", ["dTpwOnc=", "dTpwOnc", "%%%", ""])
def test_a_login_gets_a_token_and_no_other_call_echoes_one(flight: ServerInThread, credentials: str) -> None:
    metadata = [("authorization", f"Basic {credentials}")]
    call = flight.both("Handshake", iter([]), metadata)
    assert list(call) == [b""]
    token = dict(call.initial_metadata())["authorization"]
    get = flight.stream("DoGet", ticket(encode_statement_ticket(b"SELECT 1")), [("authorization", token)])
    list(get)

    assert token.startswith("Bearer ")
    assert "authorization" not in dict(get.initial_metadata()) | dict(get.trailing_metadata())


def test_pyarrow_clients_log_in_query_and_prepare(flight: ServerInThread) -> None:
    with fl.connect(flight.uri) as client:
        header = client.authenticate_basic_token("user", "secret")
        options = fl.FlightCallOptions(headers=[header])

        info = client.get_flight_info(fl.FlightDescriptor.for_command(statement("SELECT 5 AS a")), options)
        table = client.do_get(info.endpoints[0].ticket, options).read_all()
        schema = client.get_schema(fl.FlightDescriptor.for_command(statement("SELECT 5 AS a")), options).schema
        actions = [action.type for action in client.list_actions(options)]

    assert table.to_pylist() == [{"a": 5}]
    assert info.schema == table.schema == schema
    assert "CancelFlightInfo" in actions


def test_pyarrow_raises_its_own_kinds_of_error(flight: ServerInThread) -> None:
    with fl.connect(flight.uri) as client:
        with pytest.raises(pa.ArrowInvalid, match="syntax error") as caught:
            client.do_get(fl.Ticket(encode_statement_ticket(b"SELEC 1"))).read_all()
        with pytest.raises(NotImplementedError):
            list(client.list_flights())
        with pytest.raises(pa.ArrowInvalid):
            client.get_flight_info(fl.FlightDescriptor.for_path("a"))

    assert "Traceback" not in str(caught.value)


def test_dictionaries_survive_the_way(flight: ServerInThread) -> None:
    sql = b"SELECT CASE WHEN i % 2 = 0 THEN 'even' ELSE 'odd' END::ENUM('even', 'odd') AS e FROM range(4) t(i)"
    with fl.connect(flight.uri) as client:
        table = client.do_get(fl.Ticket(encode_statement_ticket(sql))).read_all()

    assert pa.types.is_dictionary(table.schema.field("e").type)
    assert table.column("e").to_pylist() == ["even", "odd", "even", "odd"]
