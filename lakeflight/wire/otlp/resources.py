"""An OTLP request -> one block for each resource in it, with the process and the stream that it belongs to.

A block's payload is the resource's message in its one encoding: fields in order, nothing that is not known. What the
records mean is judged when the block is decoded; here they are counted, and their times bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from lakeflight.wire.envelope import BlockRequest, ProcessRequest, StreamRequest, encode_payload, encode_types
from lakeflight.wire.errors import MalformedRequestError
from lakeflight.wire.otlp import LOGS_FORMAT, METRICS_FORMAT, TRACES_FORMAT, identity, pieces
from lakeflight.wire.otlp.encoding import encode
from lakeflight.wire.otlp.json_mapping import from_json
from lakeflight.wire.otlp.messages import MESSAGES
from lakeflight.wire.protobuf import parse
from lakeflight.wire.times import INT64_MAX, parse_time_ns

TICKS_PER_S: Final = 1_000_000_000
PROPERTY_PREFIX: Final = "otel.resource."
RESERVED_PREFIX: Final = "micromegas."  # of attributes that only servers may set
WHOLE_BYTES_MAX: Final = 1 << 20  # of a request that is read at once; larger ones are read in pieces
RECORDS_MAX: Final = (1 << 31) - 1  # of one block: a row has 32 bits for their number
RESOURCES_MAX: Final = (
    16_384  # of a request; two bytes are one, and each becomes a block, an object in the store and rows
)

_NO_TYPES: Final = encode_types([])


class Records(NamedTuple):
    """What a block's row says of its records."""

    number: int
    times: Iterator[int]  # in nanoseconds; 0: not known
    have_exemplars: bool = False


@dataclass(frozen=True, slots=True)
class Signal:
    """One of the three things that OTLP carries."""

    name: str
    tag: str  # of its streams
    format: str
    request: Any  # the message class
    resources: str  # the request's one field
    resource: Any  # what it has, a message class
    scopes: str  # the field of a resource that has its scopes
    look: Callable[[Any], Records]  # at the records of a resource


class ResourceBlock(NamedTuple):
    """What one resource of a request becomes; to be stored in this order."""

    process: ProcessRequest
    stream: StreamRequest
    block: BlockRequest


def decode_request(signal: Signal, body: bytes, now_ns: int, *, is_json: bool = False) -> list[ResourceBlock]:
    """The blocks of a request's resources, in their order. ``now_ns`` is for records that do not say when they were.

    Raises:
        MalformedRequestError: The body is no such request.
    """
    try:
        if not is_json and len(body) > WHOLE_BYTES_MAX:
            looked = _in_pieces(signal, body)
        else:
            request = from_json(signal.request, body) if is_json else parse(signal.request, body)
            resources = getattr(request, signal.resources)
            check_number(len(resources))
            looked = [_whole(signal, resource) for resource in resources]
    except MalformedRequestError as error:
        raise MalformedRequestError(f"parse error ({signal.name}): {error}") from error
    return [_block_of(signal, resource, now_ns) for resource in looked]


def block_of(signal: Signal, resource: Any, now_ns: int, *, seed: bytes = b"") -> ResourceBlock:
    """The same of one resource's message. What is in ``seed`` tells blocks apart whose resources are equal.

    Raises:
        MalformedRequestError: It has more records than a block may have.
    """
    return _block_of(signal, _whole(signal, resource), now_ns, seed)


def check_number(resources: int) -> None:
    """
    Raises:
        MalformedRequestError: There are more than a request may have.
    """
    if resources > RESOURCES_MAX:
        raise MalformedRequestError(f"more than {RESOURCES_MAX} resources in one request")


class _Looked(NamedTuple):
    """What is known of a resource once it has been looked at."""

    attributes: Sequence[Any]
    objects: bytes
    number: int
    begin_ns: int | None
    end_ns: int | None


def _whole(signal: Signal, resource: Any) -> _Looked:
    resource.DiscardUnknownFields()
    records = signal.look(resource)
    objects = encode(resource, has_exemplars=records.have_exemplars)
    known = [time for time in records.times if 0 < time <= INT64_MAX]
    begin_ns, end_ns = (min(known), max(known)) if known else (None, None)
    return _Looked(resource.resource.attributes, objects, records.number, begin_ns, end_ns)


def _in_pieces(signal: Signal, body: bytes) -> list[_Looked]:
    """The same of a large request, of which never more than a piece is in memory as messages."""
    message = signal.resource
    found: list[_Looked] = []
    for number, wire, _, value, end in pieces.fields(memoryview(body)):
        if number != 1 or wire != 2:
            continue
        check_number(len(found) + 1)
        around, scopes = pieces.apart(memoryview(body)[value:end])
        resource = parse(message, around)
        head, tail = _around(message, resource)
        objects, seen = [head], []
        for scope in scopes:
            scope_around, runs = pieces.pieces(scope)
            wrapped = parse(message, pieces.inside(scope_around))
            (shell,) = getattr(wrapped, signal.scopes)
            scope_head, scope_tail = _around(type(shell), shell)
            records: list[bytes] = []
            for run in runs:
                piece = _whole(signal, parse(message, pieces.inside(bytes(run))))
                records.append(piece.objects[len(pieces.length_head(_inner_length(piece.objects))) :])
                seen.append(piece._replace(attributes=(), objects=b""))  # the attributes would keep their message
            objects.append(pieces.inside(b"".join((scope_head, *records, scope_tail))))
        begins = [piece.begin_ns for piece in seen if piece.begin_ns is not None]
        ends = [piece.end_ns for piece in seen if piece.end_ns is not None]
        found.append(
            _Looked(
                resource.resource.attributes,
                b"".join((*objects, tail)),
                sum(piece.number for piece in seen),
                min(begins, default=None),
                max(ends, default=None),
            )
        )
    return found


def _around(message: Any, shell: Any) -> tuple[bytes, bytes]:
    """A message without what is inside: what stands before that, and what behind."""
    shell.DiscardUnknownFields()
    tail = message(schema_url=shell.schema_url).SerializeToString()
    encoded = shell.SerializeToString()
    return encoded[: len(encoded) - len(tail)], tail


def _inner_length(objects: bytes) -> int:
    """The length that the one field of a message says."""
    for _, _, _, value, end in pieces.fields(memoryview(objects)):
        return end - value
    return 0


def _block_of(signal: Signal, resource: _Looked, now_ns: int, seed: bytes = b"") -> ResourceBlock:
    if resource.number > RECORDS_MAX:
        raise MalformedRequestError(f"one resource has {resource.number} records, the limit is {RECORDS_MAX}")
    begin_ns = now_ns if resource.begin_ns is None else resource.begin_ns
    end_ns = now_ns if resource.end_ns is None else resource.end_ns
    objects = resource.objects
    process = _process_of(resource.attributes, begin_ns)
    stream = StreamRequest(
        process_id=process.process_id,
        stream_id=identity.stream_id(process.process_id, signal.name),
        dependencies_metadata=_NO_TYPES,
        objects_metadata=_NO_TYPES,
        tags=(signal.tag,),
        properties={},
    )
    block = BlockRequest(
        block_id=identity.block_id(seed + objects),
        stream_id=stream.stream_id,
        process_id=process.process_id,
        begin_time_ns=begin_ns,
        begin_ticks=begin_ns,
        end_time_ns=end_ns,
        end_ticks=end_ns,
        payload=encode_payload(b"", objects),
        object_offset=0,
        nb_objects=resource.number,
    )
    return ResourceBlock(process, stream, block)


def _process_of(attributes: Sequence[Any], begin_ns: int) -> ProcessRequest:
    texts: dict[str, str] = {}
    properties: dict[str, str] = {}
    for pair in attributes:
        text = identity.text_of(pair.value)
        texts.setdefault(pair.key, text)
        if not pair.key.startswith(RESERVED_PREFIX):
            properties[_storable(PROPERTY_PREFIX + pair.key)] = _storable(text)
    name, namespace = texts.get("service.name", ""), texts.get("service.namespace", "")
    _, owner = identity.first_of(texts, identity.OWNERS)
    start_ns = _start_time(texts, begin_ns)
    return ProcessRequest(
        process_id=identity.process_id(texts),
        exe=_storable(f"{namespace}/{name}" if namespace else name),
        username=_storable(owner),
        realname=_storable(owner),
        computer=_storable(texts.get("host.name", "")),
        distro=_storable(texts.get("os.description", "")),
        cpu_brand=_storable(texts.get("host.cpu.model.name", "")),
        tsc_frequency=TICKS_PER_S,
        start_time_ns=start_ns,
        start_ticks=start_ns,
        parent_process_id=None,
        properties=properties,
    )


def _start_time(texts: dict[str, str], begin_ns: int) -> int:
    """When the process says that it began; else its first record."""
    _, text = identity.first_of(texts, identity.START_TIMES)
    try:
        return parse_time_ns(text) if text else begin_ns
    except MalformedRequestError:
        return begin_ns


def _storable(text: str) -> str:
    """Postgres cannot hold U+0000, and a lost row would be worse than a replaced character."""
    return text.replace("\0", "\ufffd")


# --- counts and times -------------------------------------------------------------------------------------------------
# One look at each record, which protobuf's compiled code answers: less than reading and writing the message takes. None is
# kept, because a thousand of Python's objects at once cost more than the looks.


def _logs(resource: Any) -> Records:
    times = (
        record.time_unix_nano or record.observed_time_unix_nano
        for scope in resource.scope_logs
        for record in scope.log_records
    )
    return Records(sum(len(scope.log_records) for scope in resource.scope_logs), times)


def _spans(resource: Any) -> Records:
    times = (
        time
        for scope in resource.scope_spans
        for span in scope.spans
        for time in (span.start_time_unix_nano, span.end_time_unix_nano)
    )
    return Records(sum(len(scope.spans) for scope in resource.scope_spans), times)


_SUMMARY_RECORDS: Final = 4  # count, sum, least, greatest


def _points(resource: Any) -> Records:
    metrics = [metric for scope in resource.scope_metrics for metric in scope.metrics]
    points: list[Any] = []
    more = 0
    have_exemplars = False
    for metric in metrics:
        kind = metric.WhichOneof("data")
        if kind is None:
            continue
        of_metric = getattr(metric, kind).data_points
        points.extend(of_metric)
        if kind == "summary":
            more += (_SUMMARY_RECORDS - 1) * len(of_metric)
        elif not have_exemplars:
            have_exemplars = any(point.exemplars for point in of_metric)
    return Records(len(points) + more, (point.time_unix_nano for point in points), have_exemplars)


LOGS: Final = Signal(
    "logs",
    "log",
    LOGS_FORMAT,
    MESSAGES["ExportLogsServiceRequest"],
    "resource_logs",
    MESSAGES["ResourceLogs"],
    "scope_logs",
    _logs,
)
METRICS: Final = Signal(
    "metrics",
    "metrics",
    METRICS_FORMAT,
    MESSAGES["ExportMetricsServiceRequest"],
    "resource_metrics",
    MESSAGES["ResourceMetrics"],
    "scope_metrics",
    _points,
)
TRACES: Final = Signal(
    "traces",
    "trace",
    TRACES_FORMAT,
    MESSAGES["ExportTraceServiceRequest"],
    "resource_spans",
    MESSAGES["ResourceSpans"],
    "scope_spans",
    _spans,
)
SIGNALS: Final = (LOGS, METRICS, TRACES)
