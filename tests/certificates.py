"""Certificates for tests of TLS."""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


def issued(folder: Path, names: list[str]) -> dict[str, Path]:
    """Makes an authority and a certificate of it for servers and clients, as cert-manager does: files ca.crt, tls.crt, tls.key."""
    now = datetime.datetime.now(datetime.UTC)
    keys = {who: ec.generate_private_key(ec.SECP256R1()) for who in ("ca", "tls")}
    subjects = {who: x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, who)]) for who in keys}
    usages = x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.SERVER_AUTH, x509.ExtendedKeyUsageOID.CLIENT_AUTH])
    extensions = {
        "ca": [(x509.BasicConstraints(ca=True, path_length=None), True)],
        "tls": [
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), False),
            (usages, False),
            (x509.AuthorityKeyIdentifier.from_issuer_public_key(keys["ca"].public_key()), False),
        ],
    }
    folder.mkdir(parents=True, exist_ok=True)
    paths = {name: folder / name for name in ("ca.crt", "tls.crt", "tls.key")}
    for who, key in keys.items():
        builder = (
            x509.CertificateBuilder()
            .subject_name(subjects[who])
            .issuer_name(subjects["ca"])
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(hours=6))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )
        for extension, critical in extensions[who]:
            builder = builder.add_extension(extension, critical=critical)
        certificate = builder.sign(keys["ca"], hashes.SHA256())
        paths[f"{who}.crt"].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    encoding, format = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    paths["tls.key"].write_bytes(keys["tls"].private_bytes(encoding, format, serialization.NoEncryption()))
    return paths


def self_signed(folder: Path) -> tuple[Path, Path]:
    """Makes a certificate of localhost and 127.0.0.1 that is its own authority; PEM files of it and of its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    alternatives = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder.mkdir(parents=True, exist_ok=True)
    paths = folder / "cert.pem", folder / "key.pem"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    encoding, format = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    paths[1].write_bytes(key.private_bytes(encoding, format, serialization.NoEncryption()))
    return paths
