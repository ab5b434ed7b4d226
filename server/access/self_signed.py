"""A certificate that the server makes for itself, for tools that insist on TLS and a first connection from them.

It proves nothing to who has not got it beforehand: clients are given the file, or told not to check.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from server.access.tls import TlsFiles

if TYPE_CHECKING:
    from cryptography import x509

LASTING: Final = timedelta(days=365)
RENEWED_BEFORE: Final = timedelta(days=30)  # of its end, at a start of the server


def self_signed(folder: Path, hosts: Iterable[str]) -> TlsFiles:
    """The certificate in the folder, made if there is none or it ends soon. It is for this machine's names, and for ``hosts``."""
    files = TlsFiles(folder / "certificate.pem", folder / "key.pem")
    names = sorted({"localhost", "127.0.0.1", "::1", socket.gethostname(), *hosts} - {"0.0.0.0", "::", ""})
    if not _is_good(files, names):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _make(files, names)
    return files


def _is_good(files: TlsFiles, names: list[str]) -> bool:
    from cryptography import x509

    try:
        found = x509.load_pem_x509_certificate(files.certificate.read_bytes())
        named = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        files.key.stat()
    except (OSError, ValueError, x509.ExtensionNotFound):
        return False
    lasts = found.not_valid_after_utc - RENEWED_BEFORE > datetime.now(UTC)
    return lasts and set(_alternatives(names)) <= set(named)


def _make(files: TlsFiles, names: list[str]) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "lakeflight, self-signed")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))  # of clocks that are behind
        .not_valid_after(now + LASTING)
        .add_extension(x509.SubjectAlternativeName(_alternatives(names)), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)  # some clients trust no other
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    _write(files.key, private, 0o600)
    _write(files.certificate, made.public_bytes(serialization.Encoding.PEM), 0o644)


def _alternatives(names: list[str]) -> list[x509.GeneralName]:
    from cryptography import x509

    found: list[x509.GeneralName] = []
    for name in names:
        try:
            found.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            found.append(x509.DNSName(name))
    return found


def _write(path: Path, content: bytes, mode: int) -> None:
    """Whole, or not at all; never readable to more than it should be."""
    temporary = path.with_suffix(".new")
    temporary.unlink(missing_ok=True)
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(fd, "wb") as file:
        file.write(content)
    temporary.replace(path)
