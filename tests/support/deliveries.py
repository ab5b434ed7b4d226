"""What webhooks and a Firehose of Amazon send."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Sequence
from typing import Any

from lakeflight.wire.otlp.resources import METRICS
from tests.support.otlp import NOW_NS

WEBHOOK = "/ingestion/webhook"
METRICS_FIREHOSE = "/ingestion/otlp/v1/metrics/firehose"
LOGS_FIREHOSE = "/ingestion/cloudwatch/v1/logs/firehose"
EXPORTER = "arn:aws:cloudwatch:eu-west-1:123456789012:metric-stream/all"


def envelope(records: Sequence[bytes], request_id: str = "of-the-body") -> bytes:
    data = [{"data": base64.b64encode(record).decode()} for record in records]
    return json.dumps({"requestId": request_id, "timestamp": 1_578_090_901_599, "records": data}).encode()


def delimited(*messages: bytes) -> bytes:
    """Each behind its length."""
    return b"".join(_varint(len(message)) + message for message in messages)


def _varint(number: int) -> bytes:
    head = bytearray()
    while number > 0x7F:
        head.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*head, number])


def metric_stream(*namespaces: str | None, exporter: str = EXPORTER, **resource: str) -> Any:
    """A request as CloudWatch makes it, with one summary of each namespace; ``None``: it says none."""
    request = METRICS.request()
    made = request.resource_metrics.add()
    for key, text in {"cloud.account.id": "123456789012", "aws.exporter.arn": exporter, **resource}.items():
        made.resource.attributes.add(key=key.replace("__", ".")).value.string_value = text
    scope = made.scope_metrics.add()
    for number, namespace in enumerate(namespaces):
        metric = scope.metrics.add(name=f"amazonaws.com/{namespace}/CPU", unit="Percent")
        point = metric.summary.data_points.add(time_unix_nano=NOW_NS + number, count=2, sum=3.0 + number)
        if namespace is not None:
            point.attributes.add(key="Namespace").value.string_value = namespace
        for quantile, value in ((0.0, 1.0), (1.0, 2.0)):
            point.quantile_values.add(quantile=quantile, value=value)
    return request


def subscription(*messages: str, time_ms: int = NOW_NS // 1_000_000, **changes: Any) -> bytes:
    """A record of a subscription to a log group."""
    document = {
        "messageType": "DATA_MESSAGE",
        "owner": "123456789012",
        "logGroup": "/aws/lambda/shop",
        "logStream": "2026/01/02/[$LATEST]a",
        "subscriptionFilters": ["all"],
        "logEvents": [
            {"id": f"event-{number}", "timestamp": time_ms + number, "message": message}
            for number, message in enumerate(messages)
        ],
        **changes,
    }
    return gzip.compress(json.dumps({k: v for k, v in document.items() if v is not ...}).encode())
