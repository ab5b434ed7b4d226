"""What a server says of folders, addresses and databases that it cannot use."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

import asyncpg
import pytest

from lakehouse.errors import BackendUnavailableError
from server.data_folder import DataFolder
from server.settings import Settings
from server.surroundings import (
    AddressTakenError,
    Problem,
    check_address,
    check_ready_file,
    check_writable,
    database_errors_of,
    free_space,
    refuse_lost_database,
    words_of,
)

URL = "postgresql://lake:hidden@db.example.org/telemetry"


def said_of(cause: Exception, url: str | None = URL) -> str:
    with pytest.raises(Problem) as caught, database_errors_of(url):
        raise BackendUnavailableError("the database is not available: no connection") from cause
    return str(caught.value)


@pytest.mark.parametrize(
    ("cause", "said"),
    [
        (ConnectionRefusedError(111, "Connect call failed ('10.0.0.1', 5432)"), "nobody listens there"),
        (OSError("Multiple exceptions: [Errno 111] Connect call failed"), "nobody listens there"),
        (socket.gaierror(-2, "Name or service not known"), "no such host"),
        (TimeoutError(), "no answer in time"),
        (OSError(113, "No route to host"), "no route to host"),
        (ssl.SSLCertVerificationError(1, "[SSL] certificate verify failed"), "no TLS: "),
        (
            asyncpg.InvalidPasswordError('password authentication failed for user "lake"'),
            "password authentication failed",
        ),
        (asyncpg.InvalidCatalogNameError('database "telemetry" does not exist'), 'database "telemetry" does not exist'),
        (asyncpg.TooManyConnectionsError("sorry, too many clients already"), "sorry, too many clients already"),
    ],
)
def test_a_database_is_named_with_the_cause_and_never_with_the_password(cause: Exception, said: str) -> None:
    sentence = said_of(cause)

    assert sentence.startswith(f"the database db.example.org:5432/telemetry is not available: {said}")
    assert sentence.endswith("see --postgres-url or LAKEFLIGHT_POSTGRES_URL")
    assert "hidden" not in sentence


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("postgresql://u:hidden@[::1]:5433/lake", "[::1]:5433/lake"),
        ("postgresql://u:hidden@[::1]/lake", "[::1]:5432/lake"),
        ("postgresql://a:1,b:2/lake", "a:1,b:2/lake"),
        ("postgresql://u@/lake?host=%2Frun%2Fpg&password=hidden", "/run/pg/lake"),
    ],
)
def test_every_form_of_a_url_names_its_place(url: str, place: str) -> None:
    assert said_of(TimeoutError(), url).startswith(f"the database {place} is not available: no answer in time")


def test_a_role_that_may_not_make_tables_is_one_sentence() -> None:
    with pytest.raises(Problem) as caught, database_errors_of(URL):
        raise asyncpg.InsufficientPrivilegeError("permission denied for schema public")

    assert str(caught.value) == (
        "the database db.example.org:5432/telemetry refuses what a server must do: permission denied for schema public"
    )


def test_an_address_that_somebody_has_is_told_from_one_that_is_not_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"

        with pytest.raises(AddressTakenError, match=f"{address} is taken: .* with --http-address or LAKEFLIGHT_HTTP_"):
            check_address("http_address", address)

    check_address("http_address", address)
    with pytest.raises(
        Problem, match=r"cannot listen on 192\.0\.2\.1:9000: cannot assign requested address; change --http"
    ):
        check_address("http_address", "192.0.2.1:9000")


def test_seeing_whether_a_folder_can_be_written_leaves_no_trace(tmp_path: Path) -> None:
    check_writable("the data folder", tmp_path / "a" / "b", "data_dir")

    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(
        Problem, match=f"the data folder {tmp_path}/file cannot be written: .* choose another with --data-d"
    ):
        check_writable("the data folder", tmp_path / "file", "data_dir")


def test_free_space_is_told_of_a_folder_that_is_not_there_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert free_space(tmp_path / "a" / "b").endswith("iB free")

    monkeypatch.setattr("server.surroundings.FREE_BYTES_MIN", 1 << 60)
    with pytest.raises(Problem, match=f"{tmp_path} has .* free, less than .*: make room"):
        free_space(tmp_path)


def test_a_ready_file_may_lie_in_a_data_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    check_ready_file(Settings(data_dir=tmp_path / "lake", ready_file=tmp_path / "lake" / "ready"))

    for place in (tmp_path, tmp_path / "absent" / "ready"):
        with pytest.raises(Problem, match=r"the ready file .* LAKEFLIGHT_READY_FILE"):
            check_ready_file(Settings(data_dir=tmp_path / "lake", ready_file=place))
    assert list(tmp_path.iterdir()) == []


async def test_blobs_without_a_database_are_refused_and_a_new_lake_is_not(tmp_path: Path) -> None:
    folder, settings = DataFolder(tmp_path), Settings(data_dir=tmp_path)
    await refuse_lost_database(settings, folder)
    (folder.store / "blobs" / "process").mkdir(parents=True)
    await refuse_lost_database(settings, folder)

    (folder.store / "blobs" / "process" / "block").touch()

    with pytest.raises(Problem, match=r"has blobs, and its database .* is gone: none of them would be found"):
        await refuse_lost_database(settings, folder)


def test_an_error_of_the_operating_system_is_told_without_its_number() -> None:
    assert words_of(PermissionError(13, "Permission denied", "/srv/x")) == "permission denied: /srv/x"
    assert words_of(OSError("words alone")) == "words alone"
