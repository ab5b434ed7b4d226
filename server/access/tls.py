"""TLS of both edges from files that may change while the server runs.

Each new connection looks at the files, so a renewed certificate is served without a restart and without a moment in which
there is none. A pair that does not fit together, as in the middle of a renewal, is not served: the one before stays.
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import structlog

log = structlog.get_logger(__name__)

_Stamp: TypeAlias = tuple[tuple[int, int, int], ...]
VERSION_MIN: Final = ssl.TLSVersion.TLSv1_2  # also gRPC's own


class CertificateError(RuntimeError):
    """The files cannot be used; the message names them and says why, and has nothing of the key."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Where certificate, key and the authority of clients are. With an authority, clients need a certificate of it."""

    certificate: Path
    key: Path
    client_ca: Path | None = None

    def as_json(self) -> dict[str, str | None]:
        client_ca = None if self.client_ca is None else str(self.client_ca)
        return {"certificate": str(self.certificate), "key": str(self.key), "client_ca": client_ca}

    @classmethod
    def of_json(cls, given: Mapping[str, str | None]) -> TlsFiles:
        client_ca = given["client_ca"]
        return cls(Path(given["certificate"] or ""), Path(given["key"] or ""), Path(client_ca) if client_ca else None)


class Certificates:
    """What the files hold now, as each of the two edges needs it.

    Raises:
        CertificateError: They cannot be used, when it is made; later the latest that could are.
    """

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._stamp = self._look()
        self._context = self._load()
        self._contents = self._read()
        self._changes = 0
        self._refused: _Stamp | None = None
        self._said = ""  # of what is wrong now: once, not for every connection
        self._renewing = threading.Lock()

    def context(self) -> ssl.SSLContext:
        """For HTTP: hands each connection the certificate of its moment."""
        context = self._load()

        def choose(connection: ssl.SSLObject, name: str | None, before: ssl.SSLContext) -> None:
            self.renew()
            connection.context = self._context

        context.sni_callback = choose  # called for every connection, whether the client names a host or not
        return context

    def grpc_credentials(self) -> Any:
        """The same for gRPC, which asks before each handshake."""
        import grpc

        served = 0  # the change of the files that gRPC knows

        def configuration() -> Any:
            nonlocal served
            served = self._changes
            key, certificate, client_ca = self._contents
            return grpc.ssl_server_certificate_configuration([(key, certificate)], root_certificates=client_ca)

        def fetch() -> Any:
            self.renew()
            return None if served == self._changes else configuration()  # ``None``: as before

        return grpc.dynamic_ssl_server_credentials(
            configuration(), fetch, require_client_authentication=self._files.client_ca is not None
        )

    def renew(self) -> None:
        """Look at the files, and take what is new there and good. gRPC calls from threads of its own."""
        with self._renewing:
            stamp: _Stamp | None = None
            try:
                stamp = self._look()
                if stamp in (self._stamp, self._refused):
                    return
                context, contents = self._load(), self._read()
                if self._look() != stamp:
                    return  # it goes on: the next connection looks again
            except CertificateError as error:
                if str(error) != self._said:
                    log.error("tls.not_renewed", reason=str(error))
                self._said = str(error)
                self._refused = stamp
                return
            self._context, self._contents, self._changes = context, contents, self._changes + 1
            self._stamp, self._refused, self._said = stamp, None, ""
            log.info("tls.renewed")

    def _look(self) -> _Stamp:
        paths = [self._files.certificate, self._files.key]
        if self._files.client_ca is not None:
            paths.append(self._files.client_ca)
        stamps = []
        for path in paths:
            try:
                there = path.stat()
            except OSError as error:
                raise CertificateError(f"{path} cannot be read: {(error.strerror or '').lower()}") from error
            stamps.append((there.st_ino, there.st_mtime_ns, there.st_size))
        return tuple(stamps)

    def _read(self) -> tuple[bytes, bytes, bytes | None]:
        """Key, certificate and authority of clients."""
        files = self._files
        try:
            client_ca = None if files.client_ca is None else files.client_ca.read_bytes()
            return files.key.read_bytes(), files.certificate.read_bytes(), client_ca
        except OSError as error:
            raise CertificateError(f"{error.filename} cannot be read: {(error.strerror or '').lower()}") from error

    def _load(self) -> ssl.SSLContext:
        files = self._files
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = VERSION_MIN
        try:
            context.load_cert_chain(files.certificate, files.key, password=_no_password)
        except (OSError, ValueError) as error:  # ``ssl.SSLError`` is an ``OSError``
            raise CertificateError(
                f"{files.certificate} and {files.key} cannot be used as a certificate and its key: {_reason(error)}"
            ) from error
        if files.client_ca is not None:
            try:
                context.load_verify_locations(files.client_ca)
            except (OSError, ValueError) as error:
                raise CertificateError(f"{files.client_ca} has no certificates: {_reason(error)}") from error
            context.verify_mode = ssl.CERT_REQUIRED
        return context


def common_name(certificate: Mapping[str, Any] | None) -> str | None:
    """Whose a certificate is, as Python's ``ssl`` shows one that it has checked."""
    for part in (certificate or {}).get("subject", ()):
        for name, value in part:
            if name == "commonName":
                return str(value)
    return None


def trusting(certificate: Path) -> ssl.SSLContext:
    """For a client on this machine that knows the very certificate of the server, whatever host that was made for."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(certificate)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def _no_password() -> str:
    raise ValueError("the key is encrypted: give one that is not, readable to the server alone")


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or "not in PEM format").lower().replace("_", " ")
    if isinstance(error, OSError):
        return (error.strerror or str(error)).lower()
    return str(error)
