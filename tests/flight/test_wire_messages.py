"""Flight and Flight SQL messages: our own pool, the published bytes."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.flight as fl
import pytest
from google.protobuf import descriptor_pool
from hypothesis import given, settings
from hypothesis import strategies as st

from lakeflight.wire.errors import MalformedRequestError
from lakeflight.wire.flight_sql import (
    FLIGHT,
    SQL,
    GetTables,
    MessagePool,
    StatementQuery,
    StatementTicket,
    UnknownCommand,
    decode_command,
    decode_ticket,
    encode_statement_ticket,
    message_names,
    pack,
    parse,
)


def test_no_message_is_registered_in_the_default_pool() -> None:
    default = descriptor_pool.Default()

    for name in message_names():
        with pytest.raises(KeyError):
            default.FindMessageTypeByName(name)


def test_flight_messages_are_those_of_arrow() -> None:
    schema = pa.schema([("a", pa.int64())])
    descriptor = fl.FlightDescriptor.for_command(b"cmd")
    info = fl.FlightInfo(schema, descriptor, [fl.FlightEndpoint(b"t", ["grpc://h:1"])], 5, 6, True, b"m")

    parsed = parse(FLIGHT["FlightInfo"], info.serialize())

    assert parsed.schema == schema.serialize().to_pybytes()
    assert (parsed.flight_descriptor.type, parsed.flight_descriptor.cmd) == (2, b"cmd")
    assert parsed.endpoint[0].ticket.ticket == b"t"
    assert parsed.endpoint[0].location[0].uri == "grpc://h:1"
    assert (parsed.total_records, parsed.total_bytes, parsed.ordered, parsed.app_metadata) == (5, 6, True, b"m")
    assert fl.FlightInfo.deserialize(parsed.SerializeToString()).endpoints[0].ticket.ticket == b"t"


@pytest.mark.parametrize(
    ("message", "encoded"),
    [
        # Field numbers and kinds as published, spelled out byte by byte.
        (SQL["CommandGetTables"](table_types=["T"], include_schema=True), b"\x22\x01T\x28\x01"),
        (SQL["CommandGetCrossReference"](pk_table="p", fk_table="f"), b"\x1a\x01p\x32\x01f"),
        (SQL["CommandStatementIngest"](table="t", options={"a": "b"}), b"\x12\x01t\xc2\x3e\x06\x0a\x01a\x12\x01b"),
        (SQL["ActionCreatePreparedStatementResult"](is_update=False), b"\x20\x00"),
        (SQL["DoPutUpdateResult"](record_count=-1), b"\x08" + b"\xff" * 9 + b"\x01"),
        (FLIGHT["BasicAuth"](username="u", password="p"), b"\x12\x01u\x1a\x01p"),
        (FLIGHT["SessionOptionValue"](int64_value=1), b"\x19\x01\0\0\0\0\0\0\0"),
        (FLIGHT["FlightData"](data_header=b"h", data_body=b"b"), b"\x12\x01h\xc2\x3e\x01b"),
        (FLIGHT["PollInfo"](progress=0.0), b"\x19" + b"\0" * 8),
    ],
    ids=lambda value: type(value).__name__,
)
def test_field_numbers_are_the_published_ones(message: object, encoded: bytes) -> None:
    assert message.SerializeToString() == encoded  # type: ignore[attr-defined]


def test_session_options_are_one_of_several_kinds() -> None:
    request = FLIGHT["SetSessionOptionsRequest"]()
    request.session_options["a"].string_list_value.values.append("x")
    request.session_options["erase"].SetInParent()

    parsed = parse(FLIGHT["SetSessionOptionsRequest"], request.SerializeToString())

    assert parsed.session_options["a"].WhichOneof("option_value") == "string_list_value"
    assert parsed.session_options["erase"].WhichOneof("option_value") is None


def test_absent_is_told_from_empty() -> None:
    absent = decode_command(pack(SQL["CommandGetTables"]()))
    empty = decode_command(pack(SQL["CommandGetTables"](catalog="")))

    assert isinstance(absent, GetTables)
    assert isinstance(empty, GetTables)
    assert (absent.catalog, empty.catalog) == (None, "")


@pytest.mark.parametrize("prefix", ["type.googleapis.com/", "example.org/deep/", "/", ""])
def test_any_type_url_prefix_is_understood(prefix: str) -> None:
    any_message = MessagePool().declare("google.protobuf", "Any { string type_url = 1; bytes value = 2; }")["Any"]
    command = any_message(
        type_url=f"{prefix}arrow.flight.protocol.sql.CommandStatementQuery",
        value=SQL["CommandStatementQuery"](query="SELECT 1").SerializeToString(),
    )

    assert decode_command(command.SerializeToString()) == StatementQuery("SELECT 1", b"")


def test_an_unheard_of_command_keeps_its_name() -> None:
    assert decode_command(pack(SQL["CommandStatementSubstraitPlan"]())) == UnknownCommand(
        "CommandStatementSubstraitPlan"
    )


@pytest.mark.parametrize("data", [b"", b"\xff\xff", b"SELECT 1", b"\x0a\x03abc\x12\x01x", pack(FLIGHT["Empty"]())])
def test_bytes_that_are_no_command_are_malformed(data: bytes) -> None:
    with pytest.raises(MalformedRequestError):
        decode_command(data)


@given(st.text(min_size=1))
def test_a_statement_ticket_comes_back(sql: str) -> None:
    assert decode_ticket(encode_statement_ticket(sql.encode())) == StatementTicket(sql.encode())


@given(st.text(min_size=1).filter(lambda text: "arrow.flight" not in text))
def test_a_ticket_without_its_any_is_understood(sql: str) -> None:
    raw = SQL["TicketStatementQuery"](statement_handle=sql.encode()).SerializeToString()

    assert decode_ticket(raw) == StatementTicket(sql.encode())


@settings(max_examples=300)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_command_or_malformed(data: bytes) -> None:
    for decode in (decode_command, decode_ticket):
        try:
            decode(data)
        except MalformedRequestError as error:
            assert str(error) == str(error).strip()
