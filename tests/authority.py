"""A certificate authority, as each cluster has one in Magnum."""

from datetime import UTC, datetime, timedelta
from functools import cached_property

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class Authority:
    """Signs what it is given, for a year."""

    @cached_property
    def _key(self) -> ec.EllipticCurvePrivateKey:
        return ec.generate_private_key(ec.SECP256R1())

    @cached_property
    def _name(self) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "the test's authority")])

    @cached_property
    def _certificate(self) -> x509.Certificate:
        now = datetime.now(UTC)
        made = x509.CertificateBuilder(self._name, self._name, self._key.public_key(), 1, now, now + timedelta(days=365))
        return made.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True).sign(self._key, hashes.SHA256())

    def pem(self) -> str:
        """Its own certificate."""
        return self._certificate.public_bytes(serialization.Encoding.PEM).decode()

    def sign(self, request: str) -> str:
        """The certificate of a signing request. Raises ValueError where it is none."""
        asked = x509.load_pem_x509_csr(request.encode())
        now = datetime.now(UTC)
        made = x509.CertificateBuilder(
            self._name, asked.subject, asked.public_key(), x509.random_serial_number(), now, now + timedelta(days=365)
        )
        return made.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


AUTHORITY = Authority()
