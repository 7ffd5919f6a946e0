"""A way into a cluster: a key pair made here, a signing request, and the kubeconfig that they end up in.

Kubernetes reads the user from the certificate's common name and the groups from its organisations; the group
``system:masters`` may do everything, and it is the only one that every cluster knows from its first minute
(https://kubernetes.io/docs/reference/access-authn-authz/authentication/#x509-client-certificates).
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from shared.errors import CloudError

if TYPE_CHECKING:
    from datetime import datetime

GROUP: Final = "system:masters"
#: X.520's upper bound of a common name (RFC 5280, appendix A.1).
_COMMON_NAME_MAX: Final = 64


@dataclass(frozen=True, slots=True)
class Kubeconfig:
    """A kubeconfig as text (JSON is YAML), and what its certificate says of itself. ``text`` holds a private key."""

    text: str
    cluster: str
    serial: str
    expires_at: datetime

    def __repr__(self) -> str:
        return f"Kubeconfig(cluster={self.cluster!r}, serial={self.serial!r}, expires_at={self.expires_at.isoformat()})"


class SigningRequest:
    """A fresh key and its certificate signing request, as PEM."""

    def __init__(self, key: ec.EllipticCurvePrivateKey, user: str) -> None:
        self._key = key
        self._user = user
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, user), x509.NameAttribute(NameOID.ORGANIZATION_NAME, GROUP)])
        signed = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
        self.request = signed.public_bytes(serialization.Encoding.PEM).decode()

    def completed(self, *, certificate: str, authority: str, cluster: str, server: str) -> Kubeconfig:
        """The kubeconfig. Raises :class:`CloudError` where the certificate is not of this key, or not of that authority."""
        signed = x509.load_pem_x509_certificate(certificate.encode())
        if signed.public_key() != self._key.public_key():
            msg = "Magnum answered with a certificate for another key."
            raise CloudError(msg, reason="CERTIFICATE_MISMATCH")
        try:
            signed.verify_directly_issued_by(x509.load_pem_x509_certificate(authority.encode()))
        except (ValueError, TypeError, InvalidSignature) as exc:
            msg = "Magnum answered with a certificate that the cluster's authority did not sign."
            raise CloudError(msg, reason="CERTIFICATE_MISMATCH") from exc
        pem = self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode()
        context = f"{self._user}@{cluster}"
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": cluster, "cluster": {"server": server, "certificate-authority-data": _encoded(authority)}}],
            "users": [
                {"name": self._user, "user": {"client-certificate-data": _encoded(certificate), "client-key-data": _encoded(pem)}}
            ],
            "contexts": [{"name": context, "context": {"cluster": cluster, "user": self._user}}],
            "current-context": context,
        }
        return Kubeconfig(json.dumps(document, indent=2) + "\n", cluster, f"{signed.serial_number:x}", signed.not_valid_after_utc)


def make_request(user: str) -> SigningRequest:
    """A key on the curve P-256 and its request. ``user`` becomes the name that the cluster's own audit log shows."""
    return SigningRequest(ec.generate_private_key(ec.SECP256R1()), user[:_COMMON_NAME_MAX])


def _encoded(pem: str) -> str:
    return base64.b64encode(pem.encode()).decode()
