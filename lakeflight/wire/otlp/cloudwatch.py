"""Records of Amazon CloudWatch, as a Firehose delivers them -> OTLP: of metric streams, and of subscriptions to log groups.

A metric stream says of its resource what account it is of and nothing else, so all that an account has would be one process.
Its metrics are told apart by their namespace instead.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from lakeflight.wire.errors import MalformedRequestError
from lakeflight.wire.otlp import identity
from lakeflight.wire.otlp.json_mapping import bound_arrays, shared_if_empty, sound
from lakeflight.wire.otlp.messages import MESSAGES
from lakeflight.wire.otlp.pieces import varint
from lakeflight.wire.protobuf import parse
from lakeflight.wire.times import INT64_MAX

UNKNOWN_NAMESPACE: Final = "AWS/Unknown"

_EXPORTER: Final = "aws.exporter.arn"
_WHO: Final = ("service.name", "service.namespace", "host.id", "host.name", "process.pid", "service.instance.id")
_NS_PER_MS: Final = 1_000_000


def metric_resources(record: bytes) -> Iterator[Any]:
    """The ``ResourceMetrics`` of a metric stream's record: OTLP requests, each behind its length.

    Raises:
        MalformedRequestError: It is none.
    """
    at = 0
    while at < len(record):
        length, at = varint(record, at)
        if length > len(record) - at:
            raise MalformedRequestError(f"a message of {length} bytes, and {len(record) - at} are left of the record")
        request = parse(MESSAGES["ExportMetricsServiceRequest"], record[at : at + length])
        at += length
        for resource in request.resource_metrics:
            if _is_nobody(resource):
                yield from _by_namespace(resource)
            else:
                yield resource


def _is_nobody(resource: Any) -> bool:
    """Whether it says where it was exported, and nothing of who it is."""
    texts = _texts(resource)
    return bool(texts.get(_EXPORTER, "").strip()) and not any(texts.get(name, "").strip() for name in _WHO)


def _texts(resource: Any) -> dict[str, str]:
    texts: dict[str, str] = {}
    for pair in resource.resource.attributes:
        texts.setdefault(pair.key, identity.text_of(pair.value))
    return texts


class _Namespace(NamedTuple):
    name: str  # as it was first written
    metrics: list[tuple[int, list[Any]]]  # of a scope by its number


def _by_namespace(resource: Any) -> Iterator[Any]:
    """A resource for each namespace, in their order: equal deliveries make equal blocks."""
    found: dict[str, _Namespace] = {}
    for number, scope in enumerate(resource.scope_metrics):
        for metric in scope.metrics:
            name = _namespace_of(metric)
            namespace = found.setdefault(name.translate(identity.ASCII_LOWER), _Namespace(name, []))
            if not namespace.metrics or namespace.metrics[-1][0] != number:
                namespace.metrics.append((number, []))
            namespace.metrics[-1][1].append(metric)
    exporter = _texts(resource)[_EXPORTER]
    for _, namespace in sorted(found.items()):
        made = type(resource)(schema_url=resource.schema_url)
        made.resource.CopyFrom(resource.resource)
        _set(made.resource.attributes, "service.instance.id", exporter)
        _set(made.resource.attributes, "service.name", namespace.name or UNKNOWN_NAMESPACE)
        for pair in made.resource.attributes:
            if pair.key == "service.namespace":  # of spaces alone
                pair.value.string_value = ""
        for number, metrics in namespace.metrics:
            given = resource.scope_metrics[number]
            scope = made.scope_metrics.add(schema_url=given.schema_url)
            if given.HasField("scope"):
                scope.scope.CopyFrom(given.scope)
            scope.metrics.extend(metrics)
        yield made


def _namespace_of(metric: Any) -> str:
    """What its first point says; empty: nothing."""
    kind = metric.WhichOneof("data")
    if kind is None:
        return ""
    for point in getattr(metric, kind).data_points[:1]:
        for pair in point.attributes:
            if pair.key == "Namespace":
                return identity.text_of(pair.value).strip()
    return ""


def _set(attributes: Any, key: str, text: str) -> None:
    for pair in attributes:
        if pair.key == key:
            pair.value.string_value = text
            return
    attributes.add(key=key).value.string_value = text


def log_resource(document: bytes) -> Any | None:
    """The ``ResourceLogs`` of a subscription's record, which has been decompressed; ``None``: it has no events to store.

    Raises:
        MalformedRequestError: It is no such record.
    """
    try:
        bound_arrays(document)
        given = json.loads(document, object_hook=shared_if_empty)
        if type(given) is not dict:
            raise MalformedRequestError("it is not a JSON object")
        kind, owner, group, stream = (_member(given, n, str) for n in ("messageType", "owner", "logGroup", "logStream"))
        events = _member({"logEvents": [], **given}, "logEvents", list)
        resource = MESSAGES["ResourceLogs"]()
        for key, text in (
            ("service.name", group),
            ("service.instance.id", stream),
            ("cloud.account.id", owner),
            ("aws.log.group.name", group),
            ("aws.log.stream.name", stream),
        ):
            resource.resource.attributes.add(key=key).value.string_value = text
        records = resource.scope_logs.add().log_records
        for event in events:
            _add_event(records, event)
    except (ValueError, RecursionError) as error:  # of the parser, and of text that is no Unicode
        if isinstance(error, MalformedRequestError):
            raise
        raise MalformedRequestError(f"not sound JSON: {str(error)[:200]}") from error
    return None if kind == "CONTROL_MESSAGE" or not events else resource


def _add_event(records: Any, event: Any) -> None:
    if type(event) is not dict:
        raise MalformedRequestError("a log event is not an object")
    time_ms = _member(event, "timestamp", int)
    if not 0 <= time_ms <= INT64_MAX // _NS_PER_MS:
        raise MalformedRequestError(f"the timestamp of a log event is {time_ms} ms")
    record = records.add(time_unix_nano=time_ms * _NS_PER_MS)
    record.body.string_value = _member(event, "message", str)
    record.attributes.add(key="aws.log.event.id").value.string_value = _member(event, "id", str)


def _member(given: Mapping[str, Any], name: str, kind: type) -> Any:
    value = given.get(name)
    if type(value) is not kind:
        raise MalformedRequestError(f"{name} is not {_KINDS[kind]}")
    return sound(value) if isinstance(value, str) else value


_KINDS: Final[Mapping[type, str]] = {str: "text", int: "a whole number", list: "an array"}
