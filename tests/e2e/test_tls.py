"""TLS on every port: what is refused, who is known by a certificate, and that a renewed one is served without a restart."""

from __future__ import annotations

import http.client
import ipaddress
import os
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import grpc
import pyarrow.flight as fl
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from lakeflight.connection import UnavailableError, connect
from tests.support.fixtures import ROOT
from tests.support.flight_server import sql_command
from tests.support.serving import Server, ServerDiedError, serving

WRITER = "0123456789abcdef0123456789abcdef"
READER = "fedcba9876543210fedcba9876543210"
EXPORT = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"


@dataclass
class Signed:
    """A certificate and its key, in files."""

    certificate: Path
    key: Path
    made: x509.Certificate
    private: ec.EllipticCurvePrivateKey


def signed(folder: Path, name: str, by: Signed | None = None) -> Signed:
    """A certificate of an authority, or an authority."""
    private = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    hosts = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if by is None else by.made.subject)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(hosts), critical=False)
        .add_extension(x509.BasicConstraints(ca=by is None, path_length=None), critical=True)
        .sign(private if by is None else by.private, hashes.SHA256())
    )
    here = Signed(folder / f"{name}.pem", folder / f"{name}.key", made, private)
    here.certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    here.key.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return here


@dataclass
class Encrypted:
    server: Server
    folder: Path
    authority: Signed
    served: Signed


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Encrypted]:
    folder = tmp_path_factory.mktemp("tls")
    authority = signed(folder, "authority")
    served = signed(folder, "served", authority)
    environment = {"LAKEFLIGHT_READER_KEYS": f"a={READER}", "LAKEFLIGHT_WRITER_KEYS": f"a={WRITER}"}
    files = ("--tls-cert-file", str(served.certificate), "--tls-key-file", str(served.key))
    with serving(folder / "lake", *files, environment=environment, self_telemetry=True) as server:
        yield Encrypted(server, folder, authority, served)


def client_context(authority: Path, own: Signed | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority))
    if own is not None:
        context.load_cert_chain(own.certificate, own.key)
    return context


def post(server: Server, context: ssl.SSLContext) -> int:
    connection = http.client.HTTPSConnection(urlsplit(server.http).netloc, context=context, timeout=20)
    connection.request(
        "POST", "/v1/logs", b"", {"authorization": f"Bearer {WRITER}", "content-type": "application/x-protobuf"}
    )
    return connection.getresponse().status


def serial_of(url: str) -> int:
    host, port = urlsplit(url).hostname or "", urlsplit(url).port or 0
    return x509.load_pem_x509_certificate(ssl.get_server_certificate((host, port)).encode()).serial_number


def test_every_port_speaks_tls_to_who_trusts_its_authority(encrypted: Encrypted) -> None:
    server, authority = encrypted.server, encrypted.authority.certificate
    assert [urlsplit(url).scheme for url in (server.flight, server.http, server.otlp_grpc)] == [
        "grpc+tls",
        "https",
        "https",
    ]

    with connect(server.flight, token=READER, tls_ca_file=authority) as lake:
        assert lake.query("SELECT 1 AS a").to_pylist() == [{"a": 1}]
    assert post(server, client_context(authority)) == 200
    credentials = grpc.ssl_channel_credentials(authority.read_bytes())
    with grpc.secure_channel(urlsplit(server.otlp_grpc).netloc, credentials) as channel:
        assert channel.unary_unary(EXPORT)(b"", metadata=[("authorization", f"Bearer {WRITER}")], timeout=20) == b""


def test_plaintext_old_versions_and_strange_authorities_are_refused(encrypted: Encrypted) -> None:
    """Security check 14."""
    server = encrypted.server
    other = signed(encrypted.folder, "other-authority")
    with connect(f"grpc://{urlsplit(server.flight).netloc}", token=READER) as lake, pytest.raises(UnavailableError):
        lake.query("SELECT 1", timeout_s=10)
    with connect(server.flight, token=READER, tls_ca_file=other.certificate) as lake, pytest.raises(UnavailableError):
        lake.query("SELECT 1", timeout_s=10)
    plain = http.client.HTTPConnection(urlsplit(server.http).netloc, timeout=20)
    with pytest.raises((http.client.HTTPException, OSError)):
        plain.request("GET", "/health")
        plain.getresponse()
    with pytest.raises(ssl.SSLCertVerificationError):
        post(server, client_context(other.certificate))
    for url in (server.http, server.flight, server.otlp_grpc):
        old = client_context(encrypted.authority.certificate)
        old.set_ciphers("ALL:@SECLEVEL=0")
        old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
        with pytest.raises(OSError):
            ssl_connect(url, old)


def ssl_connect(url: str, context: ssl.SSLContext) -> str | None:
    host, port = urlsplit(url).hostname or "", urlsplit(url).port or 0
    with socket.create_connection((host, port), timeout=20) as plain:
        with context.wrap_socket(plain, server_hostname=host) as wrapped:
            return wrapped.version()


def test_a_renewed_certificate_is_served_and_half_a_renewal_is_not(encrypted: Encrypted) -> None:
    server, served = encrypted.server, encrypted.served
    urls = (server.flight, server.http, server.otlp_grpc)
    assert {serial_of(url) for url in urls} == {served.made.serial_number}
    renewed = signed(encrypted.folder, "renewed", encrypted.authority)

    os.replace(renewed.certificate, served.certificate)  # and the key is still the old one
    assert {serial_of(url) for url in urls} == {served.made.serial_number}

    os.replace(renewed.key, served.key)
    assert {serial_of(url) for url in urls} == {renewed.made.serial_number}
    assert post(server, client_context(encrypted.authority.certificate)) == 200


def test_clients_are_known_by_certificates_where_an_authority_of_theirs_is_given(tmp_path: Path) -> None:
    authority = signed(tmp_path, "clients")
    served, ops, guest = (signed(tmp_path, name, authority) for name in ("served", "ops", "guest"))
    files = ("--tls-cert-file", str(served.certificate), "--tls-key-file", str(served.key))
    environment = {"LAKEFLIGHT_ADMINS": "certificate:ops", "LAKEFLIGHT_WRITER_KEYS": f"a={WRITER}"}
    retire = "SELECT * FROM retire_partitions('log_entries', 'global', '2020-01-01', '2020-01-02')"

    with serving(
        tmp_path / "lake", *files, "--tls-client-ca-file", str(authority.certificate), environment=environment
    ) as server:

        def ask(own: Signed, sql: str) -> None:
            client = fl.connect(
                server.flight,
                tls_root_certs=authority.certificate.read_bytes(),
                cert_chain=own.certificate.read_bytes(),
                private_key=own.key.read_bytes(),
            )
            with client:
                command = sql_command("CommandStatementQuery", query=sql)
                info = client.get_flight_info(fl.FlightDescriptor.for_command(command))
                client.do_get(info.endpoints[0].ticket).read_all()

        ask(ops, retire)
        ask(guest, "SELECT 1")
        with pytest.raises(fl.FlightUnauthorizedError, match="administrators"):
            ask(guest, retire)
        with connect(server.flight, tls_ca_file=authority.certificate) as lake, pytest.raises(UnavailableError):
            lake.query("SELECT 1", timeout_s=10)
        assert post(server, client_context(authority.certificate, guest)) == 200
        with pytest.raises(OSError):
            post(server, client_context(authority.certificate))


def test_a_server_makes_a_certificate_itself_and_keeps_it(tmp_path: Path) -> None:
    with serving(tmp_path, "--tls-self-signed") as server:
        made = tmp_path / "tls" / "certificate.pem"
        with connect(server.flight, tls_ca_file=made) as lake:
            assert lake.query("SELECT 1 AS a").to_pylist() == [{"a": 1}]
        command = [sys.executable, "-m", "server", "doctor", "--data-dir", str(tmp_path)]
        told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60).stdout
        assert f"answers at {server.flight} and {server.http}" in told
        first = made.read_bytes()
        assert os.stat(tmp_path / "tls" / "key.pem").st_mode & 0o077 == 0
    with serving(tmp_path, "--tls-self-signed") as server:
        assert made.read_bytes() == first
        assert post(server, client_context(made)) == 200


def test_files_that_do_not_belong_together_are_named_at_the_start(tmp_path: Path) -> None:
    one, other = signed(tmp_path, "one"), signed(tmp_path, "other")
    with pytest.raises(ServerDiedError, match="cannot be used as a certificate and its key: key values mismatch"):
        with serving(tmp_path / "lake", "--tls-cert-file", str(one.certificate), "--tls-key-file", str(other.key)):
            pass
