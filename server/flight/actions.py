"""DoAction: prepared statements, cancellation, session options, progress. ``ListActions`` shows exactly this table."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from lakeflight.wire.errors import MalformedRequestError
from lakeflight.wire.flight_sql import (
    FLIGHT,
    SQL,
    PreparedStatementQuery,
    StatementTicket,
    decode_ticket,
    pack,
    parse,
    unpack_as,
)
from lakehouse.errors import NotFoundError, QueryError, UnsupportedError
from lakehouse.model import Caller
from server.flight.calls import Call
from server.flight.commands import refuse_transaction
from server.flight.handles import HandleSealer
from server.flight.sessions import get_options, read_session, session_cookie, set_options
from server.query.ports import QueryService
from server.query.running import RunningStatements

_CANCELLED: Final = 1  # CancelStatus
_NOT_CANCELLABLE: Final = 3
_SESSION_CLOSED: Final = 1


@dataclass(frozen=True, slots=True)
class Action:
    description: str
    run: Callable[[Call, bytes], Awaitable[bytes | None]]  # ``None``: no result message


class Actions:
    """The actions of one server, by name in ``table``."""

    def __init__(self, queries: QueryService, sealer: HandleSealer, running: RunningStatements) -> None:
        self._queries = queries
        self._sealer = sealer
        self._running = running
        self.table: Final[Mapping[str, Action]] = {
            "CreatePreparedStatement": Action(
                "Prepare a statement; a handle and schemas come back", self._create_prepared
            ),
            "ClosePreparedStatement": Action("Forget a prepared statement", self._close_prepared),
            "CancelFlightInfo": Action("Cancel the running statements of a FlightInfo", self._cancel_flight_info),
            "CancelQuery": Action(
                "Cancel the running statements of a FlightInfo (deprecated form)", self._cancel_query
            ),
            "SetSessionOptions": Action(
                "Set options of the session, which a cookie carries", self._set_session_options
            ),
            "GetSessionOptions": Action("Read the options of the session", self._get_session_options),
            "CloseSession": Action("Forget the session", self._close_session),
            "lakeflight.QueryProgress": Action("Progress of a running query, by id, as JSON", self._query_progress),
        }

    async def run(self, name: str, call: Call, body: bytes) -> bytes | None:
        action = self.table.get(name)
        if action is None:
            raise UnsupportedError(f"there is no action {name[:100]!r}")
        return await action.run(call, body)

    async def _create_prepared(self, call: Call, body: bytes) -> bytes:
        request = unpack_as("ActionCreatePreparedStatementRequest", body)
        refuse_transaction(request.transaction_id)
        sql: str = request.query
        prepared = await self._queries.prepare(sql, call.caller, call.options())
        return pack(
            SQL["ActionCreatePreparedStatementResult"](
                prepared_statement_handle=self._sealer.prepare(
                    call.caller, sql, _parameter_count(prepared.parameter_schema)
                ),
                dataset_schema=prepared.schema,
                parameter_schema=prepared.parameter_schema,
                is_update=False,
            )
        )

    async def _close_prepared(self, call: Call, body: bytes) -> None:
        self._sealer.forget(
            call.caller, unpack_as("ActionClosePreparedStatementRequest", body).prepared_statement_handle
        )

    async def _cancel_flight_info(self, call: Call, body: bytes) -> bytes:
        info = parse(FLIGHT["CancelFlightInfoRequest"], body).info
        status = self._cancel(call.caller, info)
        result: bytes = FLIGHT["CancelFlightInfoResult"](status=status).SerializeToString()
        return result

    async def _cancel_query(self, call: Call, body: bytes) -> bytes:
        info = parse(FLIGHT["FlightInfo"], unpack_as("ActionCancelQueryRequest", body).info)
        return pack(SQL["ActionCancelQueryResult"](result=self._cancel(call.caller, info)))

    def _cancel(self, caller: Caller, info: Any) -> int:
        handles: list[bytes] = []
        for endpoint in info.endpoint:
            match decode_ticket(endpoint.ticket.ticket):
                case StatementTicket(handle):
                    handles.append(handle)
                case PreparedStatementQuery(handle):
                    handles.append(self._sealer.latest(caller, handle))
                case _:
                    pass  # metadata is answered at once
        stopped = [self._cancel_handle(caller, handle) for handle in handles]
        return _CANCELLED if any(stopped) else _NOT_CANCELLABLE

    def _cancel_handle(self, caller: Caller, handle: bytes) -> bool:
        self._sealer.open(caller, handle)  # somebody else's is refused, as everywhere
        return bool(self._running.cancel(caller, handle) or self._running.has_finished(caller, handle))

    async def _set_session_options(self, call: Call, body: bytes) -> bytes:
        session = read_session(call.metadata)
        result: bytes = set_options(session, parse(FLIGHT["SetSessionOptionsRequest"], body)).SerializeToString()
        await call.send_initial_metadata("set-cookie", session_cookie(session))
        return result

    async def _get_session_options(self, call: Call, body: bytes) -> bytes:
        parse(FLIGHT["GetSessionOptionsRequest"], body)
        result: bytes = get_options(read_session(call.metadata)).SerializeToString()
        return result

    async def _close_session(self, call: Call, body: bytes) -> bytes:
        if read_session(call.metadata):
            await call.send_initial_metadata("set-cookie", session_cookie({}))
        result: bytes = FLIGHT["CloseSessionResult"](status=_SESSION_CLOSED).SerializeToString()
        return result

    async def _query_progress(self, call: Call, body: bytes) -> bytes:
        query_id = body.decode(errors="replace")[:100]
        if not query_id:
            raise MalformedRequestError("the action's body must be a query id")
        progress = self._running.progress(call.caller, query_id)
        if progress is None:
            raise NotFoundError(f"no running query {query_id!r}")
        return json.dumps(dict(progress), default=str).encode()


def _parameter_count(parameter_schema: bytes) -> int:
    if not parameter_schema:
        raise QueryError("the statement's parameters are unknown")
    return len(pa.ipc.read_schema(pa.py_buffer(parameter_schema)))
