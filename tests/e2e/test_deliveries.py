"""What webhooks and Firehoses of Amazon deliver stands in the tables, and a delivery that is sent again changes nothing."""

from __future__ import annotations

import json
import time

from server.ingestion.deliveries import WEBHOOK_BYTES_MAX
from tests.support.deliveries import (
    EXPORTER,
    LOGS_FIREHOSE,
    METRICS_FIREHOSE,
    WEBHOOK,
    delimited,
    envelope,
    metric_stream,
    subscription,
)
from tests.support.fixtures import rows_of
from tests.support.otlp import NOW_NS
from tests.support.serving import Server


def test_a_webhook_is_a_line_whose_message_is_its_json(server: Server) -> None:
    event = {"action": "opened", "issue": {"number": 7, "title": "naïve 𝄞"}}
    headers = {
        "X-Micromegas-Service-Name": "tracker",
        "X-Micromegas-Service-Namespace": "hooks",
        "X-Micromegas-Target": "issues",
    }
    began_ns = time.time_ns()

    for _ in range(2):
        assert server.post(WEBHOOK, json.dumps(event).encode(), headers) == 200

    (row,) = rows_of(
        server.query(
            """
            SELECT exe, target, level, time, jsonb_as_i64(jsonb_path_query_first(jsonb_parse(msg), '$.issue.number')) AS issue,
                jsonb_as_string(jsonb_path_query_first(jsonb_parse(msg), '$.issue.title')) AS title
            FROM log_entries WHERE exe = 'hooks/tracker'
            """
        )
    )
    assert (row["exe"], row["target"], row["level"]) == ("hooks/tracker", "issues", 4)
    assert (row["issue"], row["title"]) == (7, "naïve 𝄞")
    assert began_ns - 1_000_000_000 <= row["time"] <= time.time_ns()


def test_the_largest_webhook_is_a_line_that_can_be_read(server: Server) -> None:
    headers = {"X-Micromegas-Service-Name": "large"}
    assert server.post(WEBHOOK, b"x" * WEBHOOK_BYTES_MAX, headers) == 200

    (row,) = rows_of(server.query("SELECT msg FROM log_entries WHERE exe = 'large'"))
    assert row["msg"] == "x" * WEBHOOK_BYTES_MAX


def test_a_metric_stream_is_rows_of_measures_by_namespace(server: Server) -> None:
    body = envelope([delimited(metric_stream("AWS/RDS", None).SerializeToString())])

    for _ in range(2):
        assert server.post(METRICS_FIREHOSE, body, {"Content-Type": "application/json"}) == 200

    rows = rows_of(
        server.query(
            """
            SELECT exe, time, name, unit, value, property_get(process_properties, 'otel.resource.service.instance.id') AS instance
            FROM measures WHERE exe LIKE 'AWS/%' ORDER BY exe, name
            """
        )
    )
    assert rows == [
        {"exe": exe, "time": NOW_NS + n, "name": name + suffix, "unit": unit, "value": value, "instance": EXPORTER}
        for n, exe, name in ((0, "AWS/RDS", "amazonaws.com/AWS/RDS/CPU"), (1, "AWS/Unknown", "amazonaws.com/None/CPU"))
        for suffix, unit, value in (
            ("_count", "", 2.0),
            ("_max", "Percent", 2.0),
            ("_min", "Percent", 1.0),
            ("_sum", "Percent", 3.0 + n),
        )
    ]


def test_events_of_a_log_group_are_lines(server: Server) -> None:
    body = envelope([subscription("START 1", '{"level":"error"}'), subscription("elsewhere", logStream="b")])

    for _ in range(2):
        assert server.post(LOGS_FIREHOSE, body) == 200

    rows = rows_of(
        server.query(
            """
            SELECT property_get(process_properties, 'otel.resource.aws.log.stream.name') AS stream, time, level, target, msg,
                property_get(properties, 'aws.log.event.id') AS event
            FROM log_entries WHERE exe = '/aws/lambda/shop' ORDER BY stream, time
            """
        )
    )
    at = NOW_NS // 1_000_000 * 1_000_000
    assert [tuple(row.values()) for row in rows] == [
        ("2026/01/02/[$LATEST]a", at, 4, "", "START 1", "event-0"),
        ("2026/01/02/[$LATEST]a", at + 1_000_000, 4, "", '{"level":"error"}', "event-1"),
        ("b", at, 4, "", "elsewhere", "event-0"),
    ]
