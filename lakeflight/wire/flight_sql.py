"""Flight and Flight SQL: protobuf bytes <-> messages and typed commands, for servers and clients.

Reads and writes nothing, and judges no SQL.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from lakeflight.wire.errors import MalformedRequestError
from lakeflight.wire.protobuf import MessagePool as MessagePool
from lakeflight.wire.protobuf import parse as parse  # with the messages that it is for

FLIGHT_PACKAGE: Final = "arrow.flight.protocol"
SQL_PACKAGE: Final = "arrow.flight.protocol.sql"

_COMMON_MESSAGES: Final = """
Any { string type_url = 1; bytes value = 2; }
Timestamp { int64 seconds = 1; int32 nanos = 2; }
"""

_FLIGHT_MESSAGES: Final = """
HandshakeRequest { uint64 protocol_version = 1; bytes payload = 2; }
HandshakeResponse { uint64 protocol_version = 1; bytes payload = 2; }
BasicAuth { string username = 2; string password = 3; }
Empty { }
ActionType { string type = 1; string description = 2; }
Criteria { bytes expression = 1; }
Action { string type = 1; bytes body = 2; }
Result { bytes body = 1; }
SchemaResult { bytes schema = 1; }
FlightDescriptor { int32 type = 1; bytes cmd = 2; repeated string path = 3; }
Ticket { bytes ticket = 1; }
Location { string uri = 1; }
FlightEndpoint {
  Ticket ticket = 1; repeated Location location = 2; google.protobuf.Timestamp expiration_time = 3;
  bytes app_metadata = 4;
}
FlightInfo {
  bytes schema = 1; FlightDescriptor flight_descriptor = 2; repeated FlightEndpoint endpoint = 3;
  int64 total_records = 4; int64 total_bytes = 5; bool ordered = 6; bytes app_metadata = 7;
}
PollInfo {
  FlightInfo info = 1; FlightDescriptor flight_descriptor = 2; optional double progress = 3;
  google.protobuf.Timestamp expiration_time = 4;
}
FlightData {
  FlightDescriptor flight_descriptor = 1; bytes data_header = 2; bytes app_metadata = 3; bytes data_body = 1000;
}
PutResult { bytes app_metadata = 1; }
CancelFlightInfoRequest { FlightInfo info = 1; }
CancelFlightInfoResult { int32 status = 1; }
RenewFlightEndpointRequest { FlightEndpoint endpoint = 1; }
StringListValue { repeated string values = 1; }
SessionOptionValue {
  oneof option_value {
    string string_value = 1; bool bool_value = 2; sfixed64 int64_value = 3; double double_value = 4;
    StringListValue string_list_value = 5;
  }
}
SetSessionOptionsRequest { map<string, SessionOptionValue> session_options = 1; }
SetSessionOptionsError { int32 value = 1; }
SetSessionOptionsResult { map<string, SetSessionOptionsError> errors = 1; }
GetSessionOptionsRequest { }
GetSessionOptionsResult { map<string, SessionOptionValue> session_options = 1; }
CloseSessionRequest { }
CloseSessionResult { int32 status = 1; }
"""

_SQL_MESSAGES: Final = """
CommandGetSqlInfo { repeated uint32 info = 1; }
CommandGetXdbcTypeInfo { optional int32 data_type = 1; }
CommandGetCatalogs { }
CommandGetDbSchemas { optional string catalog = 1; optional string db_schema_filter_pattern = 2; }
CommandGetTables {
  optional string catalog = 1; optional string db_schema_filter_pattern = 2;
  optional string table_name_filter_pattern = 3; repeated string table_types = 4; bool include_schema = 5;
}
CommandGetTableTypes { }
CommandGetPrimaryKeys { optional string catalog = 1; optional string db_schema = 2; string table = 3; }
CommandGetExportedKeys { optional string catalog = 1; optional string db_schema = 2; string table = 3; }
CommandGetImportedKeys { optional string catalog = 1; optional string db_schema = 2; string table = 3; }
CommandGetCrossReference {
  optional string pk_catalog = 1; optional string pk_db_schema = 2; string pk_table = 3;
  optional string fk_catalog = 4; optional string fk_db_schema = 5; string fk_table = 6;
}
CommandStatementQuery { string query = 1; optional bytes transaction_id = 2; }
CommandStatementUpdate { string query = 1; optional bytes transaction_id = 2; }
SubstraitPlan { bytes plan = 1; string version = 2; }
CommandStatementSubstraitPlan { SubstraitPlan plan = 1; optional bytes transaction_id = 2; }
TicketStatementQuery { bytes statement_handle = 1; }
CommandPreparedStatementQuery { bytes prepared_statement_handle = 1; }
CommandPreparedStatementUpdate { bytes prepared_statement_handle = 1; }
TableDefinitionOptions { int32 if_not_exist = 1; int32 if_exists = 2; }
CommandStatementIngest {
  TableDefinitionOptions table_definition_options = 1; string table = 2; optional string schema = 3;
  optional string catalog = 4; bool temporary = 5; optional bytes transaction_id = 6;
  map<string, string> options = 1000;
}
ActionCreatePreparedStatementRequest { string query = 1; optional bytes transaction_id = 2; }
ActionCreatePreparedStatementResult {
  bytes prepared_statement_handle = 1; bytes dataset_schema = 2; bytes parameter_schema = 3;
  optional bool is_update = 4;
}
ActionCreatePreparedSubstraitPlanRequest { SubstraitPlan plan = 1; optional bytes transaction_id = 2; }
ActionClosePreparedStatementRequest { bytes prepared_statement_handle = 1; }
ActionBeginTransactionRequest { }
ActionBeginTransactionResult { bytes transaction_id = 1; }
ActionEndTransactionRequest { bytes transaction_id = 1; int32 action = 2; }
ActionBeginSavepointRequest { bytes transaction_id = 1; string name = 2; }
ActionBeginSavepointResult { bytes savepoint_id = 1; }
ActionEndSavepointRequest { bytes savepoint_id = 1; int32 action = 2; }
ActionCancelQueryRequest { bytes info = 1; }
ActionCancelQueryResult { int32 result = 1; }
DoPutUpdateResult { int64 record_count = 1; }
DoPutPreparedStatementResult { optional bytes prepared_statement_handle = 1; }
"""

_pool: Final = MessagePool()
_common: Final = _pool.declare("google.protobuf", _COMMON_MESSAGES)
FLIGHT: Final = _pool.declare(FLIGHT_PACKAGE, _FLIGHT_MESSAGES)  # message classes by short name
SQL: Final = _pool.declare(SQL_PACKAGE, _SQL_MESSAGES)
_AnyMessage: Final = _common["Any"]


def pack(message: Any) -> bytes:
    """Wrap a message in ``Any``, as every command, action request and ticket of Flight SQL travels."""
    type_url = f"type.googleapis.com/{message.DESCRIPTOR.full_name}"
    packed: bytes = _AnyMessage(type_url=type_url, value=message.SerializeToString()).SerializeToString()
    return packed


def unpack_as(name: str, data: bytes) -> Any:
    """Unwrap an ``Any`` that must hold the Flight SQL message ``name``, under whatever prefix its type URL has.

    Raises:
        MalformedRequestError: It is no ``Any``, holds another message, or the message does not parse.
    """
    wrapped = parse(_AnyMessage, data)
    full_name = wrapped.type_url.rpartition("/")[2]
    if full_name != f"{SQL_PACKAGE}.{name}":
        raise MalformedRequestError(f"expected {name}, not {full_name[:100]!r}")
    return parse(SQL[name], wrapped.value)


@dataclass(frozen=True, slots=True)
class StatementQuery:
    query: str
    transaction_id: bytes


@dataclass(frozen=True, slots=True)
class StatementUpdate:
    query: str
    transaction_id: bytes


@dataclass(frozen=True, slots=True)
class StatementIngest:
    table: str
    transaction_id: bytes


@dataclass(frozen=True, slots=True)
class PreparedStatementQuery:
    handle: bytes


@dataclass(frozen=True, slots=True)
class PreparedStatementUpdate:
    handle: bytes


@dataclass(frozen=True, slots=True)
class StatementTicket:
    """What ``GetFlightInfo`` handed out, or the SQL itself from a client that builds its own tickets."""

    handle: bytes


@dataclass(frozen=True, slots=True)
class GetCatalogs:
    pass


@dataclass(frozen=True, slots=True)
class GetDbSchemas:
    catalog: str | None
    schema_pattern: str | None


@dataclass(frozen=True, slots=True)
class GetTables:
    catalog: str | None
    schema_pattern: str | None
    table_pattern: str | None
    table_types: tuple[str, ...]
    include_schema: bool


@dataclass(frozen=True, slots=True)
class GetTableTypes:
    pass


@dataclass(frozen=True, slots=True)
class GetPrimaryKeys:
    table: str


@dataclass(frozen=True, slots=True)
class GetExportedKeys:
    table: str


@dataclass(frozen=True, slots=True)
class GetImportedKeys:
    table: str


@dataclass(frozen=True, slots=True)
class GetCrossReference:
    pk_table: str
    fk_table: str


@dataclass(frozen=True, slots=True)
class GetSqlInfo:
    codes: tuple[int, ...]  # empty: all


@dataclass(frozen=True, slots=True)
class GetXdbcTypeInfo:
    data_type: int | None


@dataclass(frozen=True, slots=True)
class UnknownCommand:
    """A well-formed command of the protocol, or of a later version of it, that has no type here."""

    name: str


MetadataCommand = (
    GetCatalogs
    | GetDbSchemas
    | GetTables
    | GetTableTypes
    | GetPrimaryKeys
    | GetExportedKeys
    | GetImportedKeys
    | GetCrossReference
    | GetSqlInfo
    | GetXdbcTypeInfo
)
Command = (
    StatementQuery
    | StatementUpdate
    | StatementIngest
    | PreparedStatementQuery
    | PreparedStatementUpdate
    | StatementTicket
    | MetadataCommand
    | UnknownCommand
)


def _optional(message: Any, field: str) -> Any:
    return getattr(message, field) if message.HasField(field) else None


_TYPED: Final[Mapping[str, Callable[[Any], Command]]] = {
    "CommandStatementQuery": lambda m: StatementQuery(m.query, m.transaction_id),
    "CommandStatementUpdate": lambda m: StatementUpdate(m.query, m.transaction_id),
    "CommandStatementIngest": lambda m: StatementIngest(m.table, m.transaction_id),
    "CommandPreparedStatementQuery": lambda m: PreparedStatementQuery(m.prepared_statement_handle),
    "CommandPreparedStatementUpdate": lambda m: PreparedStatementUpdate(m.prepared_statement_handle),
    "TicketStatementQuery": lambda m: StatementTicket(m.statement_handle),
    "CommandGetCatalogs": lambda m: GetCatalogs(),
    "CommandGetDbSchemas": lambda m: GetDbSchemas(_optional(m, "catalog"), _optional(m, "db_schema_filter_pattern")),
    "CommandGetTables": lambda m: GetTables(
        _optional(m, "catalog"),
        _optional(m, "db_schema_filter_pattern"),
        _optional(m, "table_name_filter_pattern"),
        tuple(m.table_types),
        m.include_schema,
    ),
    "CommandGetTableTypes": lambda m: GetTableTypes(),
    "CommandGetPrimaryKeys": lambda m: GetPrimaryKeys(m.table),
    "CommandGetExportedKeys": lambda m: GetExportedKeys(m.table),
    "CommandGetImportedKeys": lambda m: GetImportedKeys(m.table),
    "CommandGetCrossReference": lambda m: GetCrossReference(m.pk_table, m.fk_table),
    "CommandGetSqlInfo": lambda m: GetSqlInfo(tuple(m.info)),
    "CommandGetXdbcTypeInfo": lambda m: GetXdbcTypeInfo(_optional(m, "data_type")),
}
_SQL_PREFIX: Final = SQL_PACKAGE + "."


def decode_command(data: bytes) -> Command:
    """Decode the command of a descriptor.

    Raises:
        MalformedRequestError: The bytes are not a command of Flight SQL.
    """
    return _typed(parse(_AnyMessage, data))


def decode_ticket(data: bytes) -> Command:
    """Decode what a ticket stands for: a statement, or the metadata command it repeats.

    Raises:
        MalformedRequestError: The bytes are neither.
    """
    wrapped = parse(_AnyMessage, data)
    if wrapped.type_url and not wrapped.value and not wrapped.type_url.rpartition("/")[2].startswith(_SQL_PREFIX):
        # A TicketStatementQuery without its Any: both have the text in field 1.
        return StatementTicket(wrapped.type_url.encode())
    return _typed(wrapped)


def _typed(wrapped: Any) -> Command:
    full_name: str = wrapped.type_url.rpartition("/")[2]
    if not full_name.startswith(_SQL_PREFIX):
        raise MalformedRequestError("not a Flight SQL command")
    name = full_name.removeprefix(_SQL_PREFIX)
    typed = _TYPED.get(name)
    if typed is None:
        return UnknownCommand(name[:100])
    return typed(parse(SQL[name], wrapped.value))


def encode_statement_ticket(handle: bytes) -> bytes:
    """The ticket that ``decode_ticket`` reads back as ``StatementTicket(handle)``."""
    return pack(SQL["TicketStatementQuery"](statement_handle=handle))


def message_names() -> Iterator[str]:
    """Full names of all messages, for tests."""
    yield from (f"{FLIGHT_PACKAGE}.{name}" for name in FLIGHT)
    yield from (f"{SQL_PACKAGE}.{name}" for name in SQL)
