"""Request metadata -> options."""

from __future__ import annotations

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.errors import QueryError
from lakehouse.model import EVERYTHING, Spelling, TimeRange
from server.flight.headers import DESCRIPTION_CHARS_MAX, query_options, time_range


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01t00:00:00z", 0),
        ("1970-01-01 00:00:01Z", 1_000_000_000),
        ("1970-01-01T02:00:00+02:00", 0),
        ("1970-01-01T02:00:00+0200", 0),
        ("1969-12-31T23:30:00-00:30", 0),
        ("2024-02-29T12:34:56.123456789Z", 1_709_210_096_123_456_789),
        ("2024-02-29T12:34:56.1Z", 1_709_210_096_100_000_000),
        ("2024-02-29T12:34:56.1234567899Z", 1_709_210_096_123_456_789),
        ("1969-12-31T23:59:59.999999999Z", -1),
        ("0001-01-01T00:00:00Z", -(1 << 63)),
        ("9999-12-31T23:59:59Z", (1 << 63) - 1),
    ],
)
def test_times_keep_every_nanosecond_and_their_offset(text: str, ns: int) -> None:
    assert time_range(text, None).begin_ns == ns


@pytest.mark.parametrize(
    "text",
    [
        "yesterday",
        "2024-01-01",
        "2024-01-01T00:00:00",
        "2024-13-01T00:00:00Z",
        "2023-02-29T00:00:00Z",
        "2024-01-01T24:00:00Z",
        "2024-01-01T00:00:00+24:00",
        "٢٠٢٤-01-01T00:00:00Z",
        "0000-01-01T00:00:00Z",
        "1704067200",
    ],
)
def test_other_times_are_refused_by_name(text: str) -> None:
    with pytest.raises(QueryError, match="query_range_end must be an RFC 3339 time"):
        query_options({"query_range_end": text}, "q", None)


FIRST, LAST = (datetime.datetime(year, 1, 1) for year in (1700, 2200))  # noqa: DTZ001  hypothesis wants them naive


@given(st.datetimes(min_value=FIRST, max_value=LAST), st.integers(-840, 840))
def test_what_python_writes_is_read(moment: datetime.datetime, offset_minutes: int) -> None:
    aware = moment.replace(tzinfo=datetime.timezone(datetime.timedelta(minutes=offset_minutes)))
    epoch = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)

    assert time_range(aware.isoformat(), None).begin_ns == (aware - epoch) // datetime.timedelta(microseconds=1) * 1000


def test_absent_and_empty_headers_ask_for_nothing() -> None:
    for metadata in ({}, {"query_range_begin": "", "query_range_end": "", "limit": "", "x-lakeflight-strict": ""}):
        options = query_options(metadata, "q", 1.5)

        assert options.time_range == EVERYTHING
        assert options.row_limit is None
        assert options.strict is False
        assert (options.query_id, options.deadline_s) == ("q", 1.5)


def test_half_a_range_is_open_on_the_other_side() -> None:
    begin = query_options({"query_range_begin": "1970-01-01T00:00:01Z", "query_range_end": ""}, "q", None)
    end = query_options({"query_range_end": "1970-01-01T00:00:01Z"}, "q", None)

    assert begin.time_range == TimeRange(1_000_000_000, None)
    assert end.time_range == TimeRange(None, 1_000_000_000)


@pytest.mark.parametrize("text", ["-1", "1.5", "many", "1e3", "١", "9223372036854775808", "1" * 40])
def test_a_limit_that_is_no_number_of_rows_is_refused(text: str) -> None:
    with pytest.raises(QueryError, match="limit"):
        query_options({"limit": text}, "q", None)


def test_a_limit_of_zero_is_a_limit() -> None:
    assert query_options({"limit": "0"}, "q", None).row_limit == 0


def test_strict_is_true_or_false() -> None:
    assert query_options({"x-lakeflight-strict": "True"}, "q", None).strict is True
    with pytest.raises(QueryError, match="x-lakeflight-strict"):
        query_options({"x-lakeflight-strict": "maybe"}, "q", None)


@pytest.mark.parametrize(
    ("metadata", "profile"),
    [
        ({}, "default"),
        ({"x-client-type": "grafana"}, "grafana"),
        ({"x-client-type": "python"}, "micromegas"),
        ({"x-client-type": "web"}, "micromegas"),
        ({"x-client-type": "python", "x-output-profile": "default"}, "default"),
        ({"x-client-type": "something new"}, "default"),
        ({"user-agent": "grpc-java-netty/1.71.0"}, "jdbc"),
        ({"user-agent": "grpc-java-netty/1.71.0", "x-output-profile": "default"}, "default"),
        ({"user-agent": "ADBC Flight SQL Driver 1.13.0 grpc-go/1.81.0"}, "default"),
        ({"x-output-profile": "JDBC"}, "jdbc"),
    ],
)
def test_the_output_profile_is_asked_for_or_known(metadata: dict[str, str], profile: str) -> None:
    assert query_options(metadata, "q", None).client["profile"] == profile


def test_an_unknown_profile_is_refused() -> None:
    with pytest.raises(QueryError, match="x-output-profile"):
        query_options({"x-output-profile": "fancy"}, "q", None)


def test_descriptions_are_cut_short_and_identity_is_not_the_clients_to_set() -> None:
    client = query_options({"x-client-agent": "a" * 5000, "x-auth-user": "root", "x-request-id": ""}, "q", None).client

    assert len(client["x-client-agent"]) == DESCRIPTION_CHARS_MAX
    assert set(client) == {"x-client-agent", "profile", "preserve_dictionary"}


@pytest.mark.parametrize(
    ("headers", "spelling"),
    [
        ({}, Spelling.PLAIN),
        ({"preserve_dictionary": "true"}, Spelling.DICTIONARIES),
        ({"x-client-type": "grafana"}, Spelling.DOUBLES | Spelling.SHOWN),
        ({"x-output-profile": "jdbc"}, Spelling.UNZONED | Spelling.MILLISECONDS),
        ({"x-client-type": "python"}, Spelling.JSONB | Spelling.DOUBLES | Spelling.OFFSETS),
        ({"x-client-type": "python", "x-output-profile": "default"}, Spelling.PLAIN),
        (
            {"x-output-profile": "micromegas", "preserve_dictionary": "TRUE"},
            Spelling.JSONB | Spelling.DOUBLES | Spelling.OFFSETS | Spelling.DICTIONARIES,
        ),
    ],
)
def test_a_client_is_sent_the_types_that_it_asks_for_or_is_known_to_need(
    headers: dict[str, str], spelling: Spelling
) -> None:
    assert query_options(headers, "q", None).spelling == spelling
