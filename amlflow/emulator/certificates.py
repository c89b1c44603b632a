"""A certificate authority of the emulator's own, and the certificate that it answers with."""

from __future__ import annotations

import datetime
import ipaddress
import os
import ssl
from pathlib import Path
from typing import Any

from amlflow.emulator.settings import HOST, LOCATION, write_private
from amlflow.errors import NotSupported

# Of another name than before it knew of container groups: so that an emulator of that time gets a new one.
CERTIFICATE, KEY, AUTHORITY, BUNDLE = "front.pem", "front-key.pem", "ca.pem", "ca-bundle.pem"
_VALID = datetime.timedelta(days=3650)


def ensure(place: Path) -> None:
    """Make the authority and the certificate, if they are not there, and the bundle that clients are told of: this machine's own
    authorities and the emulator's. Raises `NotSupported` without the package `cryptography`."""
    if not all((place / name).exists() for name in (CERTIFICATE, KEY, AUTHORITY)):
        _make(place)
    known = _machine_bundle(place)
    own = (place / AUTHORITY).read_text(encoding="ascii")
    write_private(place / BUNDLE, f"{known.rstrip()}\n{own}".lstrip().encode())


def _machine_bundle(place: Path) -> str:
    """The authorities that programs here trust already: with the emulator's alone, they could reach nothing else."""
    candidates = [os.environ.get(name, "") for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")]
    candidates.append(ssl.get_default_verify_paths().cafile or "")
    try:
        import certifi

        candidates.append(certifi.where())
    except ImportError:
        pass
    for name in candidates:
        if name and Path(name).is_file() and Path(name).resolve() != (place / BUNDLE).resolve():
            return Path(name).read_text(encoding="utf-8", errors="replace")
    return ""


def _make(place: Path) -> None:
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
    except ImportError as error:
        raise NotSupported(
            "The emulator needs the package 'cryptography' for its certificates.",
            "Install it with `pip install 'amlflow[emulator]'`.",
        ) from error

    now = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=1)

    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    def builder(subject: str, issuer: str, public: Any) -> x509.CertificateBuilder:
        made = x509.CertificateBuilder().subject_name(name(subject)).issuer_name(name(issuer)).public_key(public)
        made = made.serial_number(x509.random_serial_number()).not_valid_before(now).not_valid_after(now + _VALID)
        return made.add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)

    def usage(signs: bool) -> x509.KeyUsage:
        return x509.KeyUsage(not signs, False, False, False, False, signs, signs, False, False)

    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    title = "amlflow emulator authority"
    authority = (
        builder(title, title, authority_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage(signs=True), critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    names = [*map(x509.DNSName, ("localhost", f"*.{LOCATION}.localhost")), x509.IPAddress(ipaddress.ip_address(HOST))]
    certificate = (
        builder("amlflow emulator", title, key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    write_private(
        place / KEY,
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )
    write_private(place / CERTIFICATE, certificate.public_bytes(pem))
    write_private(place / AUTHORITY, authority.public_bytes(pem))
