"""What a service sends by OTLP: its spans, in requests as an exporter makes them of its batches."""

from __future__ import annotations

import random
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from lakeflight.wire.otlp.identity import process_id
from lakeflight.wire.otlp.messages import MESSAGES

PATH: Final = "/v1/traces"
METHOD: Final = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
SPANS_OF_REQUEST: Final = 1_000

_START_NS: Final = 1_760_000_000_000_000_000
_PLACE: Final = b"service-00000000"  # where the name of the service goes, which is as long
_RESOURCE: Final = {"service.name": _PLACE.decode(), "host.name": "node-17", "service.version": "1.4.2"}
_SPANS: Final = (("POST /cart/{id}", 2), ("authorize", 1), ("SELECT cart", 3), ("price", 1), ("publish cart", 4))
_EVENT_EVERY: Final = 20  # spans
_STATUS_ERROR: Final = 2
_TRACE_NS: Final = 200_000
_SPAN_NS_MEAN: Final = 40_000


@dataclass(frozen=True, slots=True)
class SpanRequests:
    """Encoded requests of one service."""

    service: bytes
    bodies: Sequence[bytes]

    @property
    def process_id(self) -> str:
        return process_id({**_RESOURCE, "service.name": self.service.decode()})

    def renamed(self) -> SpanRequests:
        """The same of another service: a process of its own, whose blocks nobody has sent yet."""
        service = b"service-" + uuid.uuid4().hex[:8].encode()
        return SpanRequests(service, [body.replace(self.service, service, 1) for body in self.bodies])


def span_requests(spans: int) -> SpanRequests:
    """Traces of five spans, each with six attributes; some have an event, some have failed."""
    chance = random.Random(1)
    requests = range(0, spans, SPANS_OF_REQUEST)
    bodies = [_request(chance, first, min(SPANS_OF_REQUEST, spans - first)) for first in requests]
    return SpanRequests(_PLACE, bodies).renamed()


def _request(chance: random.Random, first: int, spans: int) -> bytes:
    request = MESSAGES["ExportTraceServiceRequest"]()
    resource = request.resource_spans.add()
    for key, value in _RESOURCE.items():
        resource.resource.attributes.add(key=key).value.string_value = value
    scope = resource.scope_spans.add()
    scope.scope.name, scope.scope.version = "shop.cart", "0.9"
    trace_id, root_id = b"", b""
    for number in range(first, first + spans):
        trace, place = divmod(number, len(_SPANS))
        span_id = chance.randbytes(8)
        if place == 0 or not trace_id:
            trace_id, root_id = chance.randbytes(16), span_id
        name, kind = _SPANS[place]
        start_ns = _START_NS + trace * _TRACE_NS + place * _SPAN_NS_MEAN + chance.randrange(1_000)
        span = scope.spans.add(
            trace_id=trace_id,
            span_id=span_id,
            parent_span_id=root_id if span_id != root_id else b"",
            name=name,
            kind=kind,
            start_time_unix_nano=start_ns,
            end_time_unix_nano=start_ns + int(chance.expovariate(1 / _SPAN_NS_MEAN)),
        )
        _describe(chance, span)
        if number % _EVENT_EVERY == 0:
            event = span.events.add(time_unix_nano=start_ns + 500, name="retry")
            event.attributes.add(key="attempt").value.int_value = number % 3
            span.status.code, span.status.message = _STATUS_ERROR, "timed out"
    encoded: bytes = request.SerializeToString()
    return encoded


def _describe(chance: random.Random, span: Any) -> None:
    add = span.attributes.add
    add(key="http.request.method").value.string_value = "POST"
    add(key="http.route").value.string_value = "/cart/{id}"
    add(key="http.response.status_code").value.int_value = chance.choice((200, 200, 200, 201, 404, 500))
    add(key="server.address").value.string_value = "cart.internal"
    add(key="user.id").value.string_value = f"user-{chance.randrange(5_000)}"
    add(key="cart.total").value.double_value = chance.randrange(100_000) / 100
