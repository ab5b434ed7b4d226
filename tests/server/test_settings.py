"""What the operator reads when a setting cannot be used: what was given, where, and what to write instead."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from server.settings import Settings, mistakes, spelled, unknown_variables


def sentences(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], **flags: Any) -> list[str]:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError) as caught:
        Settings(**flags)
    return mistakes(caught.value, flags, environment)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("HTTP_ADDRESS", "9000", "=9000 is not HOST:PORT, as in 127.0.0.1:9000"),
        ("HTTP_ADDRESS", "127.0.0.1:port", "=127.0.0.1:port is not HOST:PORT"),
        ("HTTP_ADDRESS", "127.0.0.1:65536", "=127.0.0.1:65536 is not HOST:PORT"),
        ("FLIGHT_ADDRESS", "unix:/run/flight", "=unix:/run/flight is not HOST:PORT"),
        ("FLIGHT_ADDRESS", "localhost.example.org:1", "=localhost.example.org:1 is not a loopback address"),
        ("FLIGHT_ADDRESS", "127.example.org:1", "=127.example.org:1 is not a loopback address"),
        ("STORE_URL", "/srv/lake", "=/srv/lake is not a URL: write file:///srv/lake"),
        ("STORE_URL", "file://srv/lake", "=file://srv/lake is not the URL of an absolute path"),
        ("STORE_URL", "gs://bucket/lake", "=gs://bucket/lake is not supported: gs stores are not; use s3://bucket"),
        ("STORE_URL", "s3:///lake", "=s3:///lake is not the URL of a store in S3: write s3://bucket/prefix"),
        ("STORE_URL", "s3://bucket/lake?x=1", "=s3://bucket/lake?x=1 is not the URL of a store in S3"),
        ("STORE_ENDPOINT", "host:9000", "=host:9000 is not the URL of an S3 server: write http://host:9000"),
        ("STORE_ENDPOINT", "", " is empty: give it a value, or leave it out"),
        ("STORE_URL", "", " is empty: give it a value, or leave it out"),
        ("QUERY_WORKERS", "many", "=many is not a whole number"),
        ("QUERY_WORKERS", "0", "=0 is too small: at least 1"),
        ("HTTP_PROCESSES", "65", "=65 is too large: at most 64"),
        ("DRAIN_S", "soon", "=soon is not a number"),
        ("STALL_TIMEOUT_S", "0", "=0 is too small: more than 0"),
        ("SELF_TELEMETRY", "maybe", "=maybe is neither true nor false"),
        ("LOG_LEVEL", "loud", "=loud is not a level: debug, info, warning or error"),
    ],
)
def test_a_variable_that_cannot_be_used_is_named_with_its_value(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    (sentence,) = sentences(monkeypatch, {f"LAKEFLIGHT_{name}": value})

    assert sentence.startswith(f"LAKEFLIGHT_{name}{said}")


def test_a_flag_is_named_as_a_flag_though_the_variable_is_set_too(monkeypatch: pytest.MonkeyPatch) -> None:
    said = sentences(monkeypatch, {"LAKEFLIGHT_HTTP_ADDRESS": "127.0.0.1:1"}, http_address="9000", query_workers="x")

    assert said == [
        "--http-address 9000 is not HOST:PORT, as in 127.0.0.1:9000",
        "--query-workers x is not a whole number",
    ]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("mysql://lake:hidden@db/lake", "is not a URL of Postgres"),
        ("db.example.org", "is not a URL of Postgres"),
        ("postgresql://lake:hid/den@db/lake", "write / as %2F"),
        ("postgresql://lake:hid?den@db/lake", "write / as %2F"),
        ("postgresql://lake:hid#den@db/lake", "write / as %2F"),
        ("postgresql://lake:hid?=den@db/lake", "write / as %2F"),
        ("postgresql://lake@db:hidden/lake", "has no number after its host"),
        ("postgresql://lake:hidden@db:99999/lake", "has no number after its host"),
    ],
)
def test_a_database_that_cannot_be_used_is_named_without_what_may_be_a_password(
    monkeypatch: pytest.MonkeyPatch, url: str, said: str
) -> None:
    (sentence,) = sentences(monkeypatch, {"LAKEFLIGHT_POSTGRES_URL": url})

    assert sentence.startswith("LAKEFLIGHT_POSTGRES_URL ")
    assert said in sentence
    assert "hid" not in sentence


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("STORE_URL", "s3://key:hidden@bucket/lake", "is not the URL of a store in S3"),
        ("STORE_ENDPOINT", "http://key:hidden@host:9000", "is not the URL of an S3 server"),
        ("STORE_SECRET_ACCESS_KEY", "hidden", "is of no use without LAKEFLIGHT_STORE_ACCESS_KEY_ID"),
    ],
)
def test_what_may_be_a_secret_of_a_store_is_not_repeated(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    (sentence,) = sentences(monkeypatch, {f"LAKEFLIGHT_{name}": value})

    assert sentence.startswith(f"LAKEFLIGHT_{name} {said}")
    assert "hidden" not in sentence


def test_secrets_of_a_store_are_not_shown_with_the_settings() -> None:
    settings = Settings(
        store_access_key_id="key", store_secret_access_key="hidden-secret", store_session_token="hidden-token"
    )

    assert "hidden" not in f"{settings!r} {settings.s3!r}"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://lake:hidden@db.example.org/lake",
        "postgres://a:5432,b:5433/lake",
        "postgresql://[::1]:5432/lake",
        "postgresql://[::1]/lake?sslmode=require",
        "postgresql://lake@/lake?host=%2Frun%2Fpg&port=5432",
        "postgresql://db/lake?user=me@example.org&password=hidden",
        "postgresql://db/lake?application_name=lake@home",
        "postgresql://lake:hidden@db/lake?application_name=lake@home&options=-c%20search_path=lake",
    ],
)
def test_the_forms_of_a_database_url_are_taken(url: str) -> None:
    assert Settings(postgres_url=url).postgres_url == url


@pytest.mark.parametrize("address", ["127.0.0.1:0", "127.8.9.10:65535", "localhost:9000", "[::1]:9000"])
def test_every_loopback_address_is_taken(address: str) -> None:
    assert Settings(http_address=address).http_address == address


def test_a_variable_that_is_no_setting_is_named_with_the_nearest_one() -> None:
    given = [
        *("LAKEFLIGHT_QUERY_WORKER", "lakeflight_datadir", "LAKEFLIGHT_XYZ"),
        *("LAKEFLIGHT_QUERY_WORKERS", "lakeflight_data_dir", "LAKEFLIGHT_SERVER", "LAKEFLIGHT_TOKEN", "PATH"),
        *("LAKEFLIGHT_TEST_UNPRUNED", "LAKEFLIGHT_FAILPOINT"),
        *("LAKEFLIGHT_SERVICE_HOST", "LAKEFLIGHT_PORT", "LAKEFLIGHT_PORT_9000_TCP_ADDR"),
    ]

    assert unknown_variables(given) == [
        "lakeflight_datadir is not a setting and has no effect; did you mean LAKEFLIGHT_DATA_DIR?",
        "LAKEFLIGHT_QUERY_WORKER is not a setting and has no effect; did you mean LAKEFLIGHT_QUERY_WORKERS?",
        "LAKEFLIGHT_XYZ is not a setting and has no effect; docs/settings.md has them all",
    ]


def test_advice_names_the_flag_only_where_there_is_one() -> None:
    assert spelled("data_dir") == "--data-dir or LAKEFLIGHT_DATA_DIR"
    assert spelled("drain_s") == "LAKEFLIGHT_DRAIN_S"
