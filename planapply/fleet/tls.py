"""The key pair of a cluster."""

from datetime import UTC, datetime, timedelta

from pydantic import SecretStr

from planapply.model.state import TLS

YEARS = 10  # longer than any cluster lives: the pair is never renewed


def make_tls(cluster: str) -> TLS:
    """Create a self-signed P-256 key pair that is its own authority, for all roles of one cluster.

    It is like that of `distributed.Security.temporary()`, but with an elliptic curve and a longer
    life. Dask checks the authority, not the host name.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"planapply {cluster}"[:64])])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("dask-internal")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))  # the machines' clocks differ
        .not_valid_after(now + timedelta(days=365 * YEARS))
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return TLS(
        certificate=certificate.public_bytes(serialization.Encoding.PEM).decode(),
        key=SecretStr(pem.decode()),
    )
