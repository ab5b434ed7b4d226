"""Questions to a lake over Arrow Flight SQL: SQL in, Arrow out.

    from lakeflight.connection import connect

    with connect("grpc://127.0.0.1:50051") as lake:
        table = lake.query("SELECT time, level, msg FROM log_entries ORDER BY time DESC", limit=100)

Results stream: ``query_stream`` gives batches as the server makes them, and never holds more than one. An answer that
lacks blocks the server could not decode warns with ``MissingBlocksWarning``, or fails if ``strict`` is set. Refuses to
print, to rewrite SQL, and to guess the zone of a time without one.

ClientError
├── StatementError          change the request: its text, its parameters, its range
├── LimitReachedError       the server stopped it at one of its limits, or it was cancelled
├── IncompleteResultError   blocks are missing and the caller asked for ``strict``
├── AccessError             the server does not know the caller, or does not allow this
├── UnavailableError        nobody answers, or the server is too busy: try again
└── ServerError             a fault of the server; its log has the detail under the query id
"""

from __future__ import annotations

import ipaddress
import json
import re
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, Final, TypeAlias, assert_never
from urllib.parse import urlsplit
from uuid import UUID

import pyarrow as pa
import pyarrow.flight as flight

from lakeflight.wire.errors import MalformedRequestError
from lakeflight.wire.flight_sql import SQL, pack, unpack_as
from lakeflight.wire.times import INT64_MAX, INT64_MIN, format_time, parse_instant_ns

DEFAULT_URI: Final = "grpc://127.0.0.1:50051"
CLIENT_TYPE: Final = "lakeflight"

QUERY_ID_HEADER: Final = "x-query-id"
MISSING_BLOCKS: Final = "missing_blocks"
PROGRESS_ACTION: Final = "lakeflight.QueryProgress"
PROGRESS_TIMEOUT_S: Final = 5.0

Instant: TypeAlias = datetime | str | int
Parameter: TypeAlias = Any  # what pyarrow can put into an array of one value

_SCHEMES: Final = {
    "grpc": "grpc",
    "grpc+tcp": "grpc",
    "http": "grpc",
    "grpc+tls": "grpc+tls",
    "grpcs": "grpc+tls",
    "https": "grpc+tls",
    "grpc+unix": "grpc+unix",
}
_OPEN_KINDS: Final = (pa.types.is_null, pa.types.is_string, pa.types.is_large_string, pa.types.is_nested)
TIME_RANGE: Final = "times lie between 1677-09-21T00:12:44Z and 2262-04-11T23:47:16Z"


class ClientError(Exception):
    """Root of the tree; never raised itself. ``query_id`` names the statement in the server's log, where known."""

    def __init__(self, message: str, query_id: str | None = None) -> None:
        super().__init__(message)
        self.query_id = query_id


class StatementError(ClientError):
    """The request cannot work as it stands."""


class LimitReachedError(ClientError):
    """The server stopped the statement: a limit, the deadline, or a cancellation."""


class IncompleteResultError(ClientError):
    """The answer would miss blocks, and ``strict`` was set."""


class AccessError(ClientError):
    """Not known, or not allowed."""


class UnavailableError(ClientError):
    """Nobody answers, or too much is going on there: the same request may work later."""


class ServerError(ClientError):
    """A fault of the server."""


class OutOfRangeError(ValueError):
    """A time that int64 nanoseconds since 1970 cannot hold; the message has the range."""


class MissingBlocksWarning(UserWarning):
    """The answer lacks the rows of blocks that the server could not decode."""


def connect(
    uri: str = DEFAULT_URI,
    *,
    token: str | None = None,
    headers: Mapping[str, str] | None = None,
    tls_ca_file: str | PathLike[str] | None = None,
) -> Connection:
    """A connection that is opened with its first request, so a wrong host fails there.

    Args:
        uri: ``grpc://host:port``, ``grpc+tls://host:port``, ``grpc+unix:///path``, or ``host:port``.
        token: Sent as ``authorization: Bearer``.  headers: Sent with every request.
        tls_ca_file: Authorities in PEM, or the server's own certificate, to trust instead of this machine's.

    Raises:
        ValueError: The URI is none of these.
        OSError: The file cannot be read.
    """
    return Connection(uri, token=token, headers=headers, tls_ca_file=tls_ca_file)


class Connection:
    """Asks one server. May be used by several threads at once."""

    def __init__(
        self,
        uri: str = DEFAULT_URI,
        *,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
        tls_ca_file: str | PathLike[str] | None = None,
    ) -> None:
        self.uri = _flight_uri(uri)
        self._headers = {"x-client-type": CLIENT_TYPE, **{name.lower(): text for name, text in (headers or {}).items()}}
        if token:
            self._headers["authorization"] = f"Bearer {token}"
        self._answers = _AnswerHeaders()
        trusted = {} if tls_ca_file is None else {"tls_root_certs": Path(tls_ca_file).read_bytes()}
        try:
            self._client = flight.connect(
                self.uri, middleware=[self._answers], generic_options=_channel_options(self.uri), **trusted
            )
        except (pa.ArrowException, ValueError) as error:
            raise ValueError(f"not a Flight address: {uri!r}") from error

    def query(
        self,
        sql: str,
        *,
        begin: Instant | None = None,
        end: Instant | None = None,
        limit: int | None = None,
        params: Sequence[Parameter] | None = None,
        strict: bool = False,
        timeout_s: float | None = None,
    ) -> pa.Table:
        """The whole answer as one table; arguments as for ``query_stream``."""
        with self.query_stream(
            sql, begin=begin, end=end, limit=limit, params=params, strict=strict, timeout_s=timeout_s
        ) as stream:
            return pa.Table.from_batches(list(stream), stream.schema)

    def query_stream(
        self,
        sql: str,
        *,
        begin: Instant | None = None,
        end: Instant | None = None,
        limit: int | None = None,
        params: Sequence[Parameter] | None = None,
        strict: bool = False,
        timeout_s: float | None = None,
    ) -> QueryStream:
        """Start a statement; batches come as they are iterated.

        Args:
            begin, end: Closed range of event time; times with an offset (``datetime``, RFC 3339 text) or nanoseconds
                since 1970, UTC. An absent one is no bound.
            limit: Rows at most.  params: Values of ``?`` in the text, by position. A value has its own Arrow type (``int``
                is int64, ``datetime`` a timestamp, a list a list), or the one of its place where that has one.
            strict: Fail where blocks are missing from the answer.  timeout_s: For the whole answer.

        Raises:
            ClientError: The server refuses, cannot or does not answer.
            ValueError: A time without an offset.
        """
        headers = dict(self._headers)
        if begin is not None:
            headers["query_range_begin"] = instant_text(begin)
        if end is not None:
            headers["query_range_end"] = instant_text(end)
        if limit is not None:
            headers["limit"] = str(int(limit))
        if strict:
            headers["x-lakeflight-strict"] = "true"
        options = _call_options(headers, timeout_s)
        with _translated_errors():
            prepared: bytes | None = None
            if params:
                prepared, bound = self._prepare(sql, params, options)
                command = pack(SQL["CommandPreparedStatementQuery"](prepared_statement_handle=bound))
            else:
                command = pack(SQL["CommandStatementQuery"](query=sql))
            try:
                reader, answer = self._open(command, options)
            except BaseException:
                self.close_prepared(prepared)
                raise
        return QueryStream(self, reader, answer, prepared)

    def tables(self, *, timeout_s: float | None = None) -> pa.Table:
        """What can be queried: ``catalog_name``, ``db_schema_name``, ``table_name``, ``table_type``."""
        with _translated_errors():
            reader, _ = self._open(pack(SQL["CommandGetTables"]()), _call_options(self._headers, timeout_s))
            return reader.read_all()

    def progress(self, query_id: str) -> dict[str, Any] | None:
        """What is known of a running statement, as numbers by name; ``None`` if it does not run (any more)."""
        options = _call_options(self._headers, PROGRESS_TIMEOUT_S)
        try:
            results = list(self._client.do_action(flight.Action(PROGRESS_ACTION, query_id.encode()), options))
            known = json.loads(results[0].body.to_pybytes())
        except (KeyError, NotImplementedError, IndexError, json.JSONDecodeError):  # an unknown id; another server
            return None
        except (pa.ArrowException, flight.FlightError) as error:
            raise translated(error) from error
        return known if isinstance(known, dict) else None

    def close(self) -> None:
        self._client.close()

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self, command: bytes, options: Any) -> tuple[Any, _Answer]:
        info = self._client.get_flight_info(flight.FlightDescriptor.for_command(command), options)
        if len(info.endpoints) != 1:
            raise ServerError(f"expected one endpoint, the server has {len(info.endpoints)}")
        answer = self._answers.expect()
        try:
            return self._client.do_get(info.endpoints[0].ticket, options), answer
        finally:
            self._answers.forget()

    def _prepare(self, sql: str, params: Sequence[Parameter], options: Any) -> tuple[bytes, bytes]:
        """Prepare and bind; the handle to close and the one to execute, which carries the values."""
        request = flight.Action("CreatePreparedStatement", pack(SQL["ActionCreatePreparedStatementRequest"](query=sql)))
        results = list(self._client.do_action(request, options))
        created = unpack_as("ActionCreatePreparedStatementResult", results[0].body.to_pybytes())
        prepared: bytes = created.prepared_statement_handle
        try:
            batch = _parameter_batch(params, created.parameter_schema)
            command = pack(SQL["CommandPreparedStatementQuery"](prepared_statement_handle=prepared))
            descriptor = flight.FlightDescriptor.for_command(command)
            writer, replies = self._client.do_put(descriptor, batch.schema, options)
            with writer:
                writer.write_batch(batch)
                writer.done_writing()
                reply = replies.read()
        except BaseException:
            self.close_prepared(prepared)
            raise
        if reply is None:
            return prepared, prepared
        bound = SQL["DoPutPreparedStatementResult"].FromString(reply.to_pybytes()).prepared_statement_handle
        return prepared, bound or prepared

    def close_prepared(self, handle: bytes | None) -> None:
        if handle is None:
            return
        body = pack(SQL["ActionClosePreparedStatementRequest"](prepared_statement_handle=handle))
        try:
            options = _call_options(self._headers, PROGRESS_TIMEOUT_S)
            list(self._client.do_action(flight.Action("ClosePreparedStatement", body), options))
        except (pa.ArrowException, flight.FlightError):
            return  # handles expire by themselves


class QueryStream(Iterator[pa.RecordBatch]):
    """The answer to one statement, batch by batch. Closing it stops the statement."""

    def __init__(self, connection: Connection, reader: Any, answer: _Answer, prepared: bytes | None) -> None:
        self._connection = connection
        self._reader = reader
        self._answer = answer
        self._prepared = prepared
        self._finished = False
        with _translated_errors():
            self.schema: pa.Schema = reader.schema

    @property
    def query_id(self) -> str | None:
        """Names the statement in the server's log; ``None`` if the server does not say."""
        return self._answer.values.get(QUERY_ID_HEADER)

    @property
    def missing_blocks(self) -> int:
        """Blocks whose rows the answer lacks. Known at the end."""
        text = self._answer.values.get(MISSING_BLOCKS, "")
        return int(text) if text.isascii() and text.isdigit() else 0

    def progress(self) -> dict[str, Any] | None:
        """What the server says of the running statement. May be asked by another thread than the one that iterates."""
        return self._connection.progress(self.query_id) if self.query_id else None

    def __next__(self) -> pa.RecordBatch:
        while not self._finished:
            try:
                with _translated_errors():
                    chunk = self._reader.read_chunk()
            except StopIteration:
                self._finish()
                if self.missing_blocks:
                    warnings.warn(missing_blocks_text(self.missing_blocks), MissingBlocksWarning, stacklevel=2)
                raise
            except BaseException:
                self._finish()
                raise
            if chunk.data is not None:
                return chunk.data
        raise StopIteration

    def cancel(self) -> None:
        """Stop the statement. May be called by another thread than the one that iterates, which then gets an error."""
        self._reader.cancel()

    def close(self) -> None:
        if not self._finished:
            self._reader.cancel()
            self._finish()

    def __enter__(self) -> QueryStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _finish(self) -> None:
        self._finished = True
        self._connection.close_prepared(self._prepared)
        self._prepared = None


def missing_blocks_text(blocks: int) -> str:
    """One sentence for whoever reads an answer that lacks something."""
    what = "1 block that could not be decoded is" if blocks == 1 else f"{blocks} blocks that could not be decoded are"
    return f"{what} missing from this answer: see quarantined_blocks"


def instant_text(instant: Instant) -> str:
    """RFC 3339 in UTC, to the nanosecond.

    Raises:
        ValueError: No time, or one without an offset.
        OutOfRangeError: It lies before 1677 or after 2262.
    """
    if isinstance(instant, datetime):
        if instant.utcoffset() is None:
            raise ValueError(f"a time needs a zone: {instant.isoformat()} (say .replace(tzinfo=UTC))")
        text = instant.isoformat()
        time_ns = _time_ns(text)
    elif isinstance(instant, str):
        text, time_ns = instant, _time_ns(instant)
    elif isinstance(instant, int):
        text, time_ns = f"{instant} ns", instant
    else:
        assert_never(instant)
    if not INT64_MIN <= time_ns <= INT64_MAX:
        raise OutOfRangeError(f"{text} is out of range: {TIME_RANGE}")
    return format_time(time_ns) + "Z"


def _time_ns(text: str) -> int:
    try:
        return parse_instant_ns(text)
    except MalformedRequestError as error:
        raise ValueError(f"{error} (for example 2026-01-31T12:00:00Z)") from error


# --- transport ------------------------------------------------------------------------------------------------------


def _flight_uri(uri: str) -> str:
    parts = urlsplit(uri if "://" in uri else f"grpc://{uri}")
    scheme = _SCHEMES.get(parts.scheme)
    if scheme is None:
        raise ValueError(f"not a Flight address: {uri!r} (for example {DEFAULT_URI})")
    if scheme == "grpc+unix":
        return f"{scheme}://{parts.path}"
    try:
        port = parts.port
    except ValueError:
        port = None
    if not parts.hostname or port is None:
        raise ValueError(f"a Flight address needs a host and a port: {uri!r} (for example {DEFAULT_URI})")
    return f"{scheme}://{parts.netloc.rpartition('@')[2]}"


def _channel_options(uri: str) -> list[tuple[str, int]]:
    """A proxy leads out of this machine, never to an address of its own."""
    host = urlsplit(uri).hostname or ""
    try:
        is_here = host in ("", "localhost") or ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_here = False
    return [("grpc.enable_http_proxy", 0)] if is_here else []


def _call_options(headers: Mapping[str, str], timeout_s: float | None) -> Any:
    pairs = [(name.encode(), text.encode()) for name, text in headers.items()]
    return flight.FlightCallOptions(timeout=timeout_s, headers=pairs)


class _Answer(flight.ClientMiddleware):  # type: ignore[misc]  # pyarrow has no types
    """Headers and trailers of one call, the latest value of each."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}

    def received_headers(self, headers: Mapping[str, Sequence[str | bytes]]) -> None:
        for name, texts in headers.items():
            if texts and isinstance(texts[-1], str):
                self.values[name.lower()] = texts[-1]


class _AnswerHeaders(flight.ClientMiddlewareFactory):  # type: ignore[misc]  # pyarrow has no types
    """Keeps what a server says beside its data, for the calls that ask for it. Calls start on their caller's thread."""

    def __init__(self) -> None:
        self._local = threading.local()

    def expect(self) -> _Answer:
        answer = self._local.answer = _Answer()
        return answer

    def forget(self) -> None:
        self._local.answer = None

    def start_call(self, info: Any) -> _Answer | None:
        if info.method != flight.FlightMethod.DO_GET:
            return None
        return getattr(self._local, "answer", None)


def _parameter_batch(params: Sequence[Parameter], parameter_schema: bytes) -> pa.RecordBatch:
    """One row of values, in the types the server expects where they can be had."""
    declared: Sequence[Any] = ()
    if parameter_schema:
        declared = list(pa.ipc.read_schema(pa.py_buffer(parameter_schema)))
        if len(declared) != len(params):
            raise StatementError(f"the statement has {len(declared)} parameters, {len(params)} values were given")
    arrays, fields = [], []
    for position, value in enumerate(params):
        expected = declared[position] if position < len(declared) else pa.field(str(position + 1), pa.null())
        array = _parameter_array(value, expected.type, position + 1)
        arrays.append(array)
        fields.append(pa.field(expected.name, array.type))
    return pa.record_batch(arrays, schema=pa.schema(fields))


def _parameter_array(value: Parameter, declared: Any, number: int) -> pa.Array:
    """One value in its own type, or in the declared one if that says something.

    Text and lists are what a server declares where it cannot tell: a number that was sent as text would be compared as text.
    """
    try:
        array = value if isinstance(value, pa.Array) else pa.array([str(value) if isinstance(value, UUID) else value])
    except (pa.ArrowException, OverflowError, TypeError) as error:
        raise StatementError(f"parameter {number} is nothing that can be sent: {value!r:.200} ({error})") from error
    tells_nothing = any(is_kind(declared) for is_kind in _OPEN_KINDS)
    if tells_nothing and not _has_no_type(array.type):
        return array
    try:
        return array.cast(declared)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        if isinstance(value, str) or tells_nothing:  # the engine reads more spellings of a value than the cast does
            return array
        raise StatementError(f"parameter {number} must be {declared}, not {value!r}") from error


def _has_no_type(kind: Any) -> bool:
    """Of ``None``, and of a list without values."""
    return pa.types.is_null(kind) or (pa.types.is_list(kind) and _has_no_type(kind.value_type))


# --- errors ---------------------------------------------------------------------------------------------------------

_LAYER: Final = re.compile(r"(?:Flight|gRPC) returned (?P<kind>[\w -]+?) error, with message: (?P<rest>.*)", re.DOTALL)
_NOISE: Final = (". gRPC client debug context: ", ". Client context: ", ". Detail: ")  # each with everything after it
_QUERY_ID: Final = re.compile(r" \(query_id=([^)\s]+)\)")
# What gRPC says of a connection that it has not got, or has lost, and what that means. A server's own sentence, which
# comes with the id of its query, is never looked at.
_UNREACHED: Final = re.compile(r"failed to connect to all addresses|errors resolving|dns resolution failed")
_REASONS: Final = (
    (re.compile(r"failed parsing http/2|http1\.x server"), "this is not a Flight port; is it the ingestion port?"),
    (re.compile(r"wrong version number"), "this port does not speak TLS; say grpc:// instead of grpc+tls://"),
    (re.compile(r"certificate"), "the server's certificate is not trusted here"),
    (re.compile(r"domain name not found|name or service not known|nxdomain"), "no such host"),
)
# What gRPC says of a service that a port has not got, in its several languages.
_OTHER_SERVICE: Final = re.compile(r"(?:method not found|unknown service|unknown method)[^()]*", re.IGNORECASE)
_STOPPED: Final = re.compile(r"cancelling all calls")
_LOST: Final = re.compile(
    r"stream removed|socket closed|connection reset|broken pipe|recvmsg|sendmsg|goaway|endpoint closing|transport closed"
)
_BY_KIND: Final[Mapping[str, type[ClientError]]] = {
    "invalid argument": StatementError,
    "not found": StatementError,
    "unimplemented": StatementError,
    "already exists": StatementError,
    "resource exhausted": LimitReachedError,
    "timeout": LimitReachedError,
    "cancelled": LimitReachedError,
    "data loss": IncompleteResultError,
    "unauthenticated": AccessError,
    "unauthorized": AccessError,
    "unavailable": UnavailableError,
}
_BY_TYPE: Final[Sequence[tuple[type[Exception], type[ClientError]]]] = (
    (flight.FlightUnauthenticatedError, AccessError),
    (flight.FlightUnauthorizedError, AccessError),
    (flight.FlightUnavailableError, UnavailableError),
    (flight.FlightTimedOutError, LimitReachedError),
    (flight.FlightCancelledError, LimitReachedError),
    (flight.FlightError, ServerError),
    (pa.ArrowInvalid, StatementError),
    (pa.ArrowKeyError, StatementError),
    (pa.ArrowNotImplementedError, StatementError),
)


def translated(error: Exception) -> ClientError:
    """The server's own sentence, without the transport's layers around it."""
    text = str(error).strip()
    match = _LAYER.match(text)
    message = match["rest"] if match else text
    for layer in _NOISE:
        message = message.partition(layer)[0]
    kind = _BY_KIND.get(match["kind"].lower()) if match else None
    if kind is None:
        kind = next((ours for theirs, ours in _BY_TYPE if isinstance(error, theirs)), ServerError)
    query_id = _QUERY_ID.search(message)
    if query_id is not None:
        message = message.replace(query_id[0], "", 1)
    elif match and match["kind"].lower() == "unimplemented" and _OTHER_SERVICE.fullmatch(message):
        kind, message = UnavailableError, "cannot connect: this is not a Flight port; is it the one of OTLP over gRPC?"
    elif kind is UnavailableError:
        message = _of_the_connection(message)
    return kind(message, query_id[1] if query_id else None)


def _of_the_connection(message: str) -> str:
    """Words for what happened to a connection; others stay as they are."""
    text = message.lower()
    if _UNREACHED.search(text):
        for sign, meaning in _REASONS:
            if sign.search(text):
                return f"cannot connect: {meaning}"
        return "cannot connect: " + text.rpartition(": ")[2].removeprefix("recvmsg:").rstrip("]")
    if _STOPPED.search(text):
        return "the server is stopping"
    if _LOST.search(text):
        return "the connection to the server was lost while the statement ran"
    return message


@contextmanager
def _translated_errors() -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, flight.FlightError, OSError) as error:
        raise translated(error) from error
    except MalformedRequestError as error:
        raise ServerError(f"the server's answer cannot be read: {error}") from error
