"""The header Idempotency-Key: a repeated request with the same key gets the first one's job.

Keys belong to a project, so that a request may be repeated by another user, or with another token, of the same project.
"""

import hashlib
import json
from typing import Any, Final

from flask import request

from api.problems import HttpProblem
from shared.domain.ports import Actor, Idempotency
from shared.errors import FieldError

HEADER: Final = "Idempotency-Key"
LENGTH_MAX: Final = 255
_CANONICAL: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode


def idempotency(actor: Actor, document: dict[str, Any] | None) -> Idempotency | None:
    """The present request's key and fingerprint; None where it has no key. Raises HttpProblem where the key is malformed.

    The fingerprint covers method, path, project and the body's content, not its spelling: the order of names and white
    space may differ.
    """
    key = request.environ.get("HTTP_IDEMPOTENCY_KEY")
    if key is None:
        return None
    if not 1 <= len(key) <= LENGTH_MAX or not key.isascii() or not key.isprintable():
        words = f"{HEADER} must have 1 to {LENGTH_MAX} printable ASCII characters."
        raise HttpProblem(words, reason="INVALID_IDEMPOTENCY_KEY", errors=[FieldError(HEADER, "length", words)], location="header")
    body = "" if document is None else _CANONICAL(document)
    parts = f"{request.method}\n{request.path}\n{actor.project_id}\n{body}"
    # Lone surrogates can be in a body that other checks have yet to refuse.
    return Idempotency(key, hashlib.sha256(parts.encode("utf-8", "surrogatepass")).hexdigest())
