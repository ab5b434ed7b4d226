"""The RPCs of Arrow Flight: decode, say who calls, ask the query service, pass its frames on, map errors.

Messages cross gRPC as bytes in both directions; frames of a result are never looked into. Queries are lazy: a
``FlightInfo`` only binds, ``DoGet`` runs. No statement here changes anything, so nothing has to run early. The length
of a statement is the query service's to judge; gRPC's own message limit bounds it before.
"""

from __future__ import annotations

import asyncio
import functools
import json
import secrets
from collections.abc import Awaitable, Callable
from typing import Any, Final

import grpc
import structlog

from lakeflight.wire.errors import MalformedRequestError
from lakeflight.wire.flight_data import decode_frame, flight_data_frames, read_upload, schema_frame
from lakeflight.wire.flight_sql import (
    FLIGHT,
    FLIGHT_PACKAGE,
    SQL,
    MetadataCommand,
    PreparedStatementQuery,
    encode_statement_ticket,
    parse,
)
from lakehouse.errors import BackendUnavailableError, LimitExceededError, UnsupportedError
from lakehouse.model import CallerKind
from server.access import Authenticate
from server.access.credentials import is_basic, token_of
from server.flight.actions import Actions
from server.flight.calls import Call, ReaderGoneError
from server.flight.commands import Query, command_of, read_descriptor, read_ticket, refusal, resolve
from server.flight.handles import BOUND_VALUES_BYTES_MAX, HandleSealer, Statement
from server.flight.metadata import metadata_batch, metadata_schema, needs_tables
from server.flight.open_calls import OpenCalls
from server.flight.sql_info import sql_info
from server.flight.status import refuse
from server.flight.streams import ReadyFrames, RepeatedQuery
from server.query.ports import PreparedQuery, QueryService, QueryStream
from server.query.running import RunningStatements

_log = structlog.get_logger(__name__)

QUERY_ID_HEADER: Final = "x-query-id"
MISSING_BLOCKS: Final = "missing_blocks"  # trailer of DoGet, and key in FlightInfo.app_metadata
UPLOAD_BYTES_MAX: Final = 2 * BOUND_VALUES_BYTES_MAX  # the stream around the values
_EMPTY_HANDSHAKE_RESPONSE: Final = b""

_Rpc = Callable[["FlightService", Any, Call], Awaitable[bytes | None]]


def _answered(rpc: _Rpc, *, reads: bool) -> Callable[[FlightService, Any, Any], Awaitable[None]]:
    """Wrap a method so that it gets a ``Call``, and every error it raises becomes the one status for it.

    All methods are streams in both directions to gRPC, also those with one request: it would wait for that request
    itself, without a deadline and before anybody knows whose it is.
    """

    @functools.wraps(rpc)
    async def handler(self: FlightService, _: Any, context: Any) -> None:
        query_id, place = "", None
        try:
            place = self._calls.enter(context.peer())
            call = Call(context, self._calls, place)
            query_id = call.query_id
            await call.identify(self._authenticate)
            answer = await rpc(self, await _request(call) if reads else None, call)
            if answer is not None:
                await call.write(answer)
            return
        except ReaderGoneError:
            if place is None or place.cut is None:
                return
            problem: Exception = place.cut
        except asyncio.CancelledError:
            if place is None or place.cut is None:
                raise  # the client cancelled, its deadline passed, or it is gone
            place.task.uncancel()
            problem = place.cut
        except Exception as error:
            problem = error
        finally:
            if place is not None:
                self._calls.leave(place)
        await refuse(context, problem, query_id)

    return handler


_one_request = functools.partial(_answered, reads=True)
_its_own_reads = functools.partial(_answered, reads=False)


async def _request(call: Call) -> bytes:
    message = await call.read()
    if message is None:
        raise MalformedRequestError("the call has no message")
    return message


class FlightService:
    """Handlers of ``arrow.flight.protocol.FlightService``."""

    def __init__(
        self,
        queries: QueryService,
        sealer: HandleSealer,
        running: RunningStatements,
        calls: OpenCalls,
        *,
        product_version: str,
        authenticate: Authenticate,
    ) -> None:
        self._queries = queries
        self._sealer = sealer
        self._running = running
        self._calls = calls
        self._authenticate = authenticate
        self._actions = Actions(queries, sealer, running)
        self._sql_info = sql_info(product_version)
        self._closing: set[asyncio.Task[None]] = set()

    def handler(self) -> Any:
        """All RPCs, for ``grpc.aio.Server.add_generic_rpc_handlers``."""
        methods = {
            "Handshake": self.handshake,
            "GetFlightInfo": self.get_flight_info,
            "GetSchema": self.get_schema,
            "PollFlightInfo": self.poll_flight_info,
            "DoGet": self.do_get,
            "DoPut": self.do_put,
            "DoAction": self.do_action,
            "ListActions": self.list_actions,
            "ListFlights": self.list_flights,
            "DoExchange": self.do_exchange,
        }
        return grpc.method_handlers_generic_handler(
            f"{FLIGHT_PACKAGE}.FlightService",
            {name: grpc.stream_stream_rpc_method_handler(method) for name, method in methods.items()},
        )

    @_its_own_reads
    async def handshake(self, _: None, call: Call) -> None:
        """Answer before reading: some clients send nothing, others wait for the answer first."""
        if is_basic(call.metadata):
            await call.send_initial_metadata("authorization", f"Bearer {_token_for(call)}")
        await call.write(_EMPTY_HANDSHAKE_RESPONSE)

    @_one_request
    async def get_flight_info(self, request: bytes, call: Call) -> bytes:
        info: bytes = (await self._flight_info(request, call)).SerializeToString()
        return info

    @_one_request
    async def poll_flight_info(self, request: bytes, call: Call) -> bytes:
        """Always finished: planning is all there is to wait for."""
        info = await self._flight_info(request, call)
        poll: bytes = FLIGHT["PollInfo"](info=info, progress=1.0).SerializeToString()
        return poll

    @_one_request
    async def get_schema(self, request: bytes, call: Call) -> bytes:
        _, command = read_descriptor(request)
        target = resolve(command, self._sealer, call.caller)
        if isinstance(target, Query):
            prepared = await self._prepare(target.statement, call)
            schema = prepared.schema
        else:
            schema = _metadata_schema_message(target)
        result: bytes = FLIGHT["SchemaResult"](schema=schema).SerializeToString()
        return result

    @_one_request
    async def do_get(self, request: bytes, call: Call) -> None:
        # At once, and nothing waits for it but the first frame: progress and cancellation go by this id.
        named = asyncio.ensure_future(call.send_initial_metadata(QUERY_ID_HEADER, call.query_id))
        try:
            ticket, command = read_ticket(request)
            target = resolve(command, self._sealer, call.caller)
            if isinstance(target, Query):
                await self._send(await self._open(target.statement, call), target.handle, call, named)
            else:
                await self._send(await self._metadata(target, call), ticket, call, named)
        finally:
            await named

    @_its_own_reads
    async def do_put(self, _: None, call: Call) -> None:
        """Bind values to a prepared statement. Whatever is refused is refused at the first message: a client may wait
        for the answer before it ends its stream."""
        first = await call.read()
        if first is None:
            raise MalformedRequestError("the upload has no message")
        received = decode_frame(first)
        command = command_of(received.command, is_path=received.is_path)
        if not isinstance(command, PreparedStatementQuery):
            raise refusal(command)
        self._sealer.open(call.caller, command.handle)  # an unknown handle is refused before the values are read
        frames, size = [received], len(first)
        while (message := await call.read()) is not None:
            size += len(message)
            if size > UPLOAD_BYTES_MAX:
                raise LimitExceededError(
                    f"the bound values take more than {BOUND_VALUES_BYTES_MAX} bytes, at most so many may"
                )
            frames.append(decode_frame(message))
        bound = self._sealer.bind(call.caller, command.handle, read_upload(frames))
        # JDBC reads the handle without asking whether there is one.
        result = SQL["DoPutPreparedStatementResult"](prepared_statement_handle=bound).SerializeToString()
        await call.write(FLIGHT["PutResult"](app_metadata=result).SerializeToString())

    @_one_request
    async def do_action(self, request: bytes, call: Call) -> None:
        action = parse(FLIGHT["Action"], request)
        body = await self._actions.run(action.type, call, action.body)
        if body is not None:
            await call.write(FLIGHT["Result"](body=body).SerializeToString())

    @_one_request
    async def list_actions(self, request: bytes, call: Call) -> None:
        for name, action in self._actions.table.items():
            await call.write(FLIGHT["ActionType"](type=name, description=action.description).SerializeToString())

    @_one_request
    async def list_flights(self, request: bytes, call: Call) -> None:
        raise UnsupportedError("ListFlights is not supported: list tables with GetTables")

    @_its_own_reads
    async def do_exchange(self, _: None, call: Call) -> None:
        raise UnsupportedError("DoExchange is not supported")

    async def _flight_info(self, request: bytes, call: Call) -> Any:
        descriptor, command = read_descriptor(request)
        target = resolve(command, self._sealer, call.caller)
        app_metadata = b""
        if isinstance(target, Query):
            prepared = await self._prepare(target.statement, call)
            schema, ticket = prepared.schema, encode_statement_ticket(target.handle)
            app_metadata = json.dumps({MISSING_BLOCKS: await prepared.missing_blocks()}).encode()
        else:
            schema, ticket = _metadata_schema_message(target), descriptor.cmd
        # One endpoint without a location: this connection. Some clients accept nothing else.
        return FLIGHT["FlightInfo"](
            schema=schema,
            flight_descriptor=descriptor,
            endpoint=[FLIGHT["FlightEndpoint"](ticket=FLIGHT["Ticket"](ticket=ticket))],
            total_records=-1,
            total_bytes=-1,
            app_metadata=app_metadata,
        )

    async def _prepare(self, statement: Statement, call: Call) -> PreparedQuery:
        first = None if statement.values is None else statement.values.first
        return await self._queries.prepare(statement.sql, call.caller, call.options(), first)

    async def _open(self, statement: Statement, call: Call) -> QueryStream:
        values, options = statement.values, call.options()
        if values is None or values.rows == 1:
            return self._queries.execute(statement.sql, call.caller, options, values)
        if values.rows == 0:
            prepared = await self._queries.prepare(statement.sql, call.caller, options)
            return ReadyFrames([schema_frame(prepared.schema)])
        return RepeatedQuery(
            lambda row: self._queries.execute(statement.sql, call.caller, options, row),
            values,
        )

    async def _metadata(self, command: MetadataCommand, call: Call) -> QueryStream:
        tables = await self._queries.tables(call.caller, call.options()) if needs_tables(command) else ()
        batch = metadata_batch(command, tables, self._sql_info)
        return ReadyFrames(flight_data_frames(batch.schema, [batch]))

    async def _send(self, stream: QueryStream, handle: bytes, call: Call, named: asyncio.Future[None]) -> None:
        """Pass the stream's frames on. If it does not come to its end, it is closed, at once and in the background."""
        now, write = asyncio.get_running_loop().time, call.context.write
        try:
            running = self._running.enter(
                call.query_id, call.caller, handle, stream, counted=not isinstance(stream, ReadyFrames)
            )
        except (LimitExceededError, BackendUnavailableError) as error:
            stream.refuse(error)
            self._close(stream)
            raise
        has_ended = False
        try:
            async for frame in stream:
                if not named.done():
                    await named
                running.blocked_since = now()
                try:
                    await write(frame)
                except Exception as error:
                    raise ReaderGoneError from error
                running.blocked_since = None
            call.context.set_trailing_metadata(((MISSING_BLOCKS, str(stream.missing_blocks)),))
            has_ended = True
        except (asyncio.CancelledError, ReaderGoneError):  # gRPC makes an error of its own of a cancelled write
            if running.cut is None:
                raise  # the client cancelled, its deadline passed, or it is gone
            running.task.uncancel()
            raise running.cut from None
        finally:
            self._running.leave(running)
            if not has_ended:
                self._close(stream)

    def _close(self, stream: QueryStream) -> None:
        """Never awaited: an ``await`` while a cancelled handler cleans up would be cancelled itself."""
        task = asyncio.ensure_future(stream.aclose())
        self._closing.add(task)
        task.add_done_callback(self._closed)

    def _closed(self, task: asyncio.Task[None]) -> None:
        self._closing.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("flight.close_failed", exc_info=error)

    async def closed(self) -> None:
        """Wait until every stream that ended is closed."""
        while self._closing:
            await asyncio.wait(self._closing)


def _token_for(call: Call) -> str:
    """What a client that has logged in sends from now on: the key it came with. Nothing new is made that could outlive it,
    and every server of the lake knows it. Clients fail without a token, so where nobody is asked who they are they get any.
    """
    if call.caller.kind is CallerKind.ANONYMOUS:
        return secrets.token_urlsafe(24)
    token = token_of(call.metadata) or b""
    return token.decode("utf-8", "surrogateescape")


_METADATA_SCHEMA_MESSAGES: Final[dict[int, bytes]] = {}


def _metadata_schema_message(command: MetadataCommand) -> bytes:
    schema = metadata_schema(command)  # one of a few constants, so its identity is a key
    message = _METADATA_SCHEMA_MESSAGES.get(id(schema))
    if message is None:
        message = _METADATA_SCHEMA_MESSAGES[id(schema)] = schema.serialize().to_pybytes()
    return message
