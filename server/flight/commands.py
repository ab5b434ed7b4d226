"""Descriptors and tickets -> what is to be done, or a refusal with the reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lakeflight.wire.errors import MalformedRequestError
from lakeflight.wire.flight_sql import (
    FLIGHT,
    Command,
    MetadataCommand,
    PreparedStatementQuery,
    PreparedStatementUpdate,
    StatementIngest,
    StatementQuery,
    StatementTicket,
    StatementUpdate,
    UnknownCommand,
    decode_command,
    decode_ticket,
    parse,
)
from lakehouse.errors import QueryError, UnsupportedError
from lakehouse.model import Caller
from server.flight.handles import HandleSealer, Statement

_PATH = 1  # FlightDescriptor.DescriptorType


@dataclass(frozen=True, slots=True)
class Query:
    """A statement to prepare or run; ``handle`` is what a ticket for it carries."""

    handle: bytes
    statement: Statement


def read_descriptor(data: bytes) -> tuple[Any, Command]:
    """The parsed descriptor, to be echoed, and its command.

    Raises:
        MalformedRequestError: It is a path, or holds no command of Flight SQL.
    """
    descriptor = parse(FLIGHT["FlightDescriptor"], data)
    return descriptor, command_of(descriptor.cmd, is_path=descriptor.type == _PATH)


def command_of(command: bytes, *, is_path: bool) -> Command:
    """The command of a descriptor's fields."""
    if is_path:
        raise MalformedRequestError("path descriptors name nothing here: send a Flight SQL command")
    if not command:
        raise MalformedRequestError("the descriptor has no command")
    return decode_command(command)


def read_ticket(data: bytes) -> tuple[bytes, Command]:
    """The ticket's bytes and what they stand for.

    Raises:
        MalformedRequestError: It is no ticket of Flight SQL.
    """
    ticket: bytes = parse(FLIGHT["Ticket"], data).ticket
    if not ticket:
        raise MalformedRequestError("the ticket is empty")
    return ticket, decode_ticket(ticket)


def refuse_transaction(transaction_id: bytes) -> None:
    if transaction_id:
        raise QueryError("there are no transactions here: send the request without a transaction id")


def resolve(command: Command, sealer: HandleSealer, caller: Caller) -> Query | MetadataCommand:
    """What a command to read something means.

    Raises:
        UnsupportedError: It would change something, or is not known.
        NotFoundError, QueryError: Its handle cannot be opened.
    """
    match command:
        case StatementQuery(query, transaction_id):
            refuse_transaction(transaction_id)
            return Query(query.encode(), Statement(query))
        case StatementTicket(handle):
            return Query(handle, sealer.open(caller, handle))
        case PreparedStatementQuery(handle):
            handle = sealer.latest(caller, handle)
            return Query(handle, sealer.open(caller, handle))
        case StatementUpdate() | PreparedStatementUpdate() | StatementIngest() | UnknownCommand():
            raise refusal(command)
        case _:
            return command


def refusal(command: Command) -> Exception:
    """Why a command that is no query is not carried out."""
    match command:
        case StatementUpdate(transaction_id=transaction_id) if transaction_id:
            return QueryError("there are no transactions here: send the request without a transaction id")
        case StatementUpdate() | PreparedStatementUpdate():
            return UnsupportedError("statements that change data or tables are not supported: run a query instead")
        case StatementIngest():
            return UnsupportedError(
                "bulk ingestion is not supported: programs send processes, streams and blocks over HTTP, see docs/sending.md"
            )
        case UnknownCommand(name):
            return UnsupportedError(f"{name} is not supported")
        case _:
            return UnsupportedError(f"{type(command).__name__} cannot be used here")
