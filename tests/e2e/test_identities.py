"""A server that requires identities: who gets in at every door, and that no secret gets out."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import grpc
import pyarrow.flight as fl
import pytest

from lakeflight.connection import AccessError, connect
from lakeflight.wire.flight_sql import encode_statement_ticket, unpack_as
from tests.support.fixtures import ROOT
from tests.support.flight_server import RawCalls, descriptor, sql_command, ticket
from tests.support.issuer import AUDIENCE, TokenIssuer, token_issuer
from tests.support.programs import Program
from tests.support.serving import Server, serving

READER = "canary-reader-0123456789abcdef"
WRITER = "canary-writer-0123456789abcdef"
UNARY = ("GetFlightInfo", "GetSchema", "PollFlightInfo")
STREAMS = ("Handshake", "DoGet", "DoPut", "DoAction", "ListActions", "ListFlights", "DoExchange")
ROUTES = (
    *("/ingestion/insert_process", "/ingestion/insert_stream", "/ingestion/insert_block"),
    *(f"{base}/v1/{signal}" for base in ("", "/ingestion/otlp") for signal in ("logs", "metrics", "traces")),
    *("/ingestion/webhook", "/ingestion/otlp/v1/metrics/firehose", "/ingestion/cloudwatch/v1/logs/firehose"),
)
SERVICES = ("logs.v1.LogsService", "metrics.v1.MetricsService", "trace.v1.TraceService")


@dataclass
class Guarded:
    """The server, and keys of the database for it."""

    server: Server
    socket: Path
    keys: dict[str, str]
    issuer: TokenIssuer

    def calls(self) -> RawCalls:
        return RawCalls(urlsplit(self.server.flight).netloc)


def keys(server: Server, *arguments: str) -> subprocess.CompletedProcess[str]:
    """``lakeflight keys`` beside the running server, as its operator types it."""
    command = [sys.executable, "-m", "server", "keys", *arguments, "--data-dir", str(server.data_dir)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


def doctor(server: Server) -> str:
    """What the operator is told of a running server."""
    command = [sys.executable, "-m", "server", "doctor", "--data-dir", str(server.data_dir)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60).stdout


@pytest.fixture(scope="module")
def issuer() -> Iterator[TokenIssuer]:
    with token_issuer() as issuer:
        yield issuer


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, issuer: TokenIssuer) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("guarded")
    socket = folder / "f.sock"
    environment = {"LAKEFLIGHT_READER_KEYS": f"grafana={READER}", "LAKEFLIGHT_WRITER_KEYS": f"game={WRITER}"}
    environment |= {
        "LAKEFLIGHT_OIDC_ISSUERS": f"{issuer.url}={AUDIENCE}",
        "LAKEFLIGHT_ADMINS": f"{issuer.url}#root, someone@example.org",
    }
    with serving(
        folder / "lake", "--flight-socket", str(socket), environment=environment, self_telemetry=True
    ) as server:
        made = {
            "reader": keys(server, "create", "ann", "--for", "reader").stdout.strip(),
            "writer": keys(server, "create", "ann", "--for", "writer", "--expires", "1h").stdout.strip(),
            "revoked reader": keys(server, "create", "eve", "--for", "reader").stdout.strip(),
            "revoked writer": keys(server, "create", "eve", "--for", "writer", "--expires", "never").stdout.strip(),
        }
        assert keys(server, "revoke", "r2", "w2").returncode == 0
        yield Guarded(server, socket, made, issuer)


def strangers(guarded: Guarded, other_use: str) -> dict[str, list[tuple[str, str]]]:
    """Metadata of callers who must not get in."""
    tokens = {
        "a wrong key": "wrong-0123456789abcdef0123",
        "a key of the other use": guarded.keys[other_use],
        "one of the other use, of the environment": WRITER if other_use == "writer" else READER,
        "a revoked key": guarded.keys["revoked reader" if other_use == "writer" else "revoked writer"],
        "None": "None",
        "an expired token": guarded.issuer.token(exp=1_700_000_000),
        "a token for others": guarded.issuer.token(aud="other"),
        "a token of a person at ingestion": guarded.issuer.token(aud=None)
        if other_use == "writer"
        else guarded.issuer.token(),
    }
    return {
        "no credential": [],
        "Basic": [("authorization", "Basic dTpw")],
        **{what: [("authorization", f"Bearer {token}")] for what, token in tokens.items()},
    }


def test_every_rpc_of_flight_refuses_who_is_not_known(guarded: Guarded) -> None:
    """Security check 6, FS-51."""
    calls = guarded.calls()
    for what, metadata in strangers(guarded, "writer").items():
        for method in (*UNARY, *STREAMS):
            with pytest.raises(grpc.RpcError) as refused:
                list(calls.both(method, iter([b""]), metadata))
            assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED, (what, method)
            assert "canary" not in refused.value.details()


def test_every_route_of_ingestion_refuses_who_is_not_known(guarded: Guarded) -> None:
    """Security check 6."""
    for what, metadata in strangers(guarded, "reader").items():
        for route in ROUTES:
            status = guarded.server.post(route, b"", dict(metadata))
            assert status == 401, (what, route)


def test_otlp_over_grpc_refuses_who_is_not_known(guarded: Guarded) -> None:
    """Security check 6."""
    with grpc.insecure_channel(urlsplit(guarded.server.otlp_grpc).netloc) as channel:
        for service in SERVICES:
            export = channel.unary_unary(f"/opentelemetry.proto.collector.{service}/Export")
            for what, metadata in strangers(guarded, "reader").items():
                with pytest.raises(grpc.RpcError) as refused:
                    export(b"", metadata=metadata, timeout=20)
                assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED, (what, service)
            for key in (WRITER, guarded.keys["writer"]):
                assert export(b"", metadata=[("authorization", f"Bearer {key}")], timeout=20) == b""


def test_health_needs_no_credential(guarded: Guarded) -> None:
    calls = guarded.calls()
    assert calls.channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=10) == b"\x08\x01"


def test_writers_write_and_readers_read_what_they_wrote(guarded: Guarded) -> None:
    program = Program()
    for request in [*program.registration(), program.log_block()]:
        headers = {"Content-Type": "application/cbor", "Authorization": f"Bearer {guarded.keys['writer']}"}
        assert guarded.server.post(request.path, request.body, headers) == 200

    for key in (READER, guarded.keys["reader"]):
        with connect(guarded.server.flight, token=key) as lake:
            counted = lake.query(f"SELECT count(*) AS n FROM view_instance('log_entries', '{program.process_id}')")
            assert counted.to_pylist() == [{"n": program.logged}]
    with connect(guarded.server.flight) as lake, pytest.raises(AccessError, match="no credential"):
        lake.query("SELECT 1")


def test_a_login_gets_back_the_key_it_came_with_and_no_other_call_does(guarded: Guarded) -> None:
    """FS-3, FS-51, FS-52: what JDBC, Go and pyarrow do."""
    with fl.connect(guarded.server.flight) as client:
        header = client.authenticate_basic_token("anybody", guarded.keys["reader"])
        assert header == (b"authorization", f"Bearer {guarded.keys['reader']}".encode())
        options = fl.FlightCallOptions(headers=[header])
        info = client.get_flight_info(
            fl.FlightDescriptor.for_command(sql_command("CommandStatementQuery", query="SELECT 5 AS a")), options
        )
        assert client.do_get(info.endpoints[0].ticket, options).read_all().to_pylist() == [{"a": 5}]
        with pytest.raises(fl.FlightUnauthenticatedError):
            client.authenticate_basic_token("ann", "wrong")
    get = guarded.calls().stream(
        "DoGet", ticket(encode_statement_ticket(b"SELECT 1")), [("authorization", f"Bearer {READER}")]
    )
    list(get)
    assert "authorization" not in dict(get.initial_metadata()) | dict(get.trailing_metadata())


def test_a_prepared_statement_is_its_owners_alone(guarded: Guarded) -> None:
    calls = guarded.calls()
    mine, other = ([("authorization", f"Bearer {key}")] for key in (READER, guarded.keys["reader"]))
    (created,) = calls.action(
        "CreatePreparedStatement", sql_command("ActionCreatePreparedStatementRequest", query="SELECT ? + 1 AS a"), mine
    )
    handle = unpack_as("ActionCreatePreparedStatementResult", created).prepared_statement_handle
    command = descriptor(sql_command("CommandPreparedStatementQuery", prepared_statement_handle=handle))

    assert calls.unary("GetFlightInfo", command, mine)
    with pytest.raises(grpc.RpcError) as refused:
        calls.unary("GetFlightInfo", command, other)
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND


def test_keys_administer_nothing_and_the_socket_of_the_operator_does(guarded: Guarded) -> None:
    """Security check 19: also of callers on this machine, as behind a proxy on it."""
    retire = "SELECT * FROM retire_partitions('log_entries', 'global', '2020-01-01', '2020-01-02')"
    with (
        connect(guarded.server.flight, token=READER) as lake,
        pytest.raises(AccessError, match="administrators: key:grafana is none"),
    ):
        lake.query(retire)

    assert stat.S_IMODE(os.stat(guarded.socket).st_mode) == 0o600
    with connect(f"grpc+unix://{guarded.socket}") as lake:
        lake.query(retire)


def test_people_query_with_a_token_and_administer_if_they_are_named(guarded: Guarded) -> None:
    retire = "SELECT * FROM retire_partitions('log_entries', 'global', '2020-01-01', '2020-01-02')"
    with connect(guarded.server.flight, token=guarded.issuer.token()) as lake:
        assert lake.query("SELECT 1 AS a").to_pylist() == [{"a": 1}]
        with pytest.raises(AccessError, match="administrators"):
            lake.query(retire)
    with connect(guarded.server.flight, token=guarded.issuer.token(sub="root")) as lake:
        lake.query(retire)
    password = guarded.issuer.token()
    with fl.connect(guarded.server.flight) as client:
        assert client.authenticate_basic_token("ann", password) == (b"authorization", f"Bearer {password}".encode())


def test_doctor_knows_a_server_that_requires_identities(guarded: Guarded) -> None:
    assert f"answers at {guarded.server.flight}" in doctor(guarded.server)


def test_the_list_of_keys_tells_all_but_the_keys(guarded: Guarded) -> None:
    listed = keys(guarded.server, "list").stdout

    assert [line.split()[:2] for line in listed.splitlines()[1:]] == [
        ["r1", "ann"],
        ["r2", "eve"],
        ["w1", "ann"],
        ["w2", "eve"],
    ]
    assert listed.count("revoked") == 2
    assert not any(key in listed for key in guarded.keys.values())
    missing = keys(guarded.server, "revoke", "r99")
    assert (missing.returncode, missing.stderr) == (
        1,
        "lakeflight: there is no key r99: lakeflight keys list has them\n",
    )


def test_no_secret_is_in_the_log_nor_in_what_is_seen_of_any_process(guarded: Guarded) -> None:
    """Security checks 8 and 16: arguments of all processes, environments of all but the one that was given them."""
    deadline = time.monotonic() + 30
    while True:  # its own telemetry has a key of its own
        with connect(guarded.server.flight, token=READER) as lake:
            if lake.query("SELECT count(*) AS n FROM log_entries WHERE exe = 'lakeflight'").to_pylist()[0]["n"]:
                break
        assert time.monotonic() < deadline, guarded.server.log.read_text()[-2000:]
        time.sleep(0.2)
    secrets = ["canary-", *guarded.keys.values()]
    for process in guarded.server.tree():
        seen = " ".join(process.cmdline())
        if process.pid != guarded.server.process.pid:
            seen += Path(f"/proc/{process.pid}/environ").read_text(errors="replace")
        assert not any(secret in seen for secret in secrets), process.name()
    assert not any(secret in guarded.server.log.read_text() for secret in secrets)
