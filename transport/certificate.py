"""TLS for a conduit: 1.3 only, a certificate per boot, nobody's authority.

The certificate proves nothing by itself and is not meant to. Its hash goes into the handshake inside
(``transport.handshake``) that both nodes sign, so whoever stands in between, with another certificate, is found out.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import os
import ssl
import sys
import tempfile
from collections.abc import Iterator

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

# No clock: a node with a wrong one must still be reachable. RFC 5280 4.1.2.5: 99991231235959Z is "no end".
_NOT_BEFORE = datetime.datetime(2000, 1, 1)
_NOT_AFTER = datetime.datetime(9999, 12, 31, 23, 59, 59)


def binding_of(certificate_der: bytes) -> bytes:
    """What both ends of a conduit compute alike and no one in between can: SHA-256 of the server's certificate."""
    return hashlib.sha256(certificate_der).digest()


def server_context() -> tuple[ssl.SSLContext, bytes]:
    """A fresh key and certificate, and their binding. About 2 ms; the key is never on a disk where memory can do."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "gossamer")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_NOT_BEFORE)
        .not_valid_after(_NOT_AFTER)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0  # nothing is resumed, so two writes less per conduit
    with _as_file(private + certificate.public_bytes(serialization.Encoding.PEM)) as path:
        context.load_cert_chain(path)
    return context, binding_of(certificate.public_bytes(serialization.Encoding.DER))


def client_context() -> ssl.SSLContext:
    """Trusts any certificate: who is there is proven by the handshake inside."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


@contextlib.contextmanager
def _as_file(content: bytes) -> Iterator[str]:
    """``ssl`` loads keys from files only: one in memory on Linux, else a 0600 one that is removed at once."""
    if sys.platform == "linux":
        descriptor = os.memfd_create("gossamer-tls")
        try:
            os.write(descriptor, content)
            yield f"/proc/self/fd/{descriptor}"
        finally:
            os.close(descriptor)
    else:
        descriptor, path = tempfile.mkstemp(prefix="gossamer-")  # mkstemp makes it 0600
        try:
            os.write(descriptor, content)
            os.close(descriptor)
            yield path
        finally:
            os.unlink(path)  # noqa: PTH108
