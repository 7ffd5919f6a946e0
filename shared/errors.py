"""The one exception tree.

Each class says by its docstring what happened in general (its title), by ``slug`` which page of ``/problems/`` explains
it, and by ``reason`` a stable code that programs may rely on. An instance adds the particular: ``detail`` in words,
a ``hint`` on what to do, and one :class:`FieldError` for each wrong field.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class FieldError:
    """One wrong field of a request: where it is, which rule it breaks, and the rule in words."""

    field: str
    rule: str
    detail: str


def as_sentence(findings: Sequence[FieldError]) -> str:
    """How many fields are wrong, and which."""
    names = ", ".join(dict.fromkeys(finding.field for finding in findings))
    return f"The request has {len(findings)} wrong field{'s' if len(findings) != 1 else ''}: {names}."


class KcloudError(Exception):
    """Something went wrong."""

    slug: ClassVar[str] = "error"
    reason: str = "ERROR"
    #: True where the same call may succeed later without anyone changing anything.
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        detail: str,
        *,
        reason: str | None = None,
        hint: str | None = None,
        errors: Iterable[FieldError] = (),
        **context: Any,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        if reason is not None:
            self.reason = reason
        self.hint = hint
        self.errors = tuple(errors)
        self.context = context

    @classmethod
    def title(cls) -> str:
        """The first line of the class's docstring."""
        return (cls.__doc__ or cls.__name__).strip().splitlines()[0]


class InvalidRequest(KcloudError):
    """The request breaks a rule."""

    slug = "invalid-request"
    reason = "INVALID_REQUEST"


class NotAuthenticated(KcloudError):
    """No valid token came with the request."""

    slug = "not-authenticated"
    reason = "NOT_AUTHENTICATED"


class Forbidden(KcloudError):
    """The caller may not do this."""

    slug = "forbidden"
    reason = "FORBIDDEN"


class NotFound(KcloudError):
    """There is no such object in this project."""

    slug = "not-found"
    reason = "NOT_FOUND"


class Conflict(KcloudError):
    """The object's present state does not allow this."""

    slug = "conflict"
    reason = "CONFLICT"


class AlreadyExists(Conflict):
    """An object of this name exists."""

    slug = "already-exists"
    reason = "ALREADY_EXISTS"


class InvalidTransition(Conflict):
    """A job cannot go from its state to the one asked for."""

    slug = "invalid-transition"
    reason = "INVALID_TRANSITION"


class IdempotencyMismatch(KcloudError):
    """The Idempotency-Key was used before with another request."""

    slug = "idempotency-mismatch"
    reason = "IDEMPOTENCY_KEY_REUSED"


class Unavailable(KcloudError):
    """A part this service depends on does not answer."""

    slug = "unavailable"
    reason = "UNAVAILABLE"
    retryable = True

    def __init__(self, detail: str, *, retry_after_s: float | None = None, **kwargs: Any) -> None:
        super().__init__(detail, **kwargs)
        self.retry_after_s = retry_after_s


class LeaseLost(KcloudError):
    """Another worker owns this work now; never shown to a caller."""

    slug = "lease-lost"
    reason = "LEASE_LOST"


class ConfigurationError(KcloudError):
    """The settings are wrong; raised at start only."""

    slug = "configuration"
    reason = "CONFIGURATION"


class CloudError(KcloudError):
    """OpenStack refused or failed.

    ``upstream_status`` and ``upstream_request_id`` are OpenStack's own; ``executed`` says whether the call may have
    taken effect: True/False where that is known, None where the answer was lost.
    """

    slug = "cloud-error"
    reason = "CLOUD_ERROR"

    def __init__(
        self,
        detail: str,
        *,
        upstream_status: int | None = None,
        upstream_request_id: str | None = None,
        executed: bool | None = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(detail, **kwargs)
        self.upstream_status = upstream_status
        self.upstream_request_id = upstream_request_id
        self.executed = executed


class CloudUnavailable(CloudError):
    """OpenStack could not be reached, or answered with a server error."""

    slug = "cloud-unavailable"
    reason = "CLOUD_UNAVAILABLE"
    retryable = True


class CloudTimeout(CloudUnavailable):
    """OpenStack did not answer in time."""

    slug = "cloud-timeout"
    reason = "CLOUD_TIMEOUT"


class CloudThrottled(CloudError):
    """OpenStack asked us to slow down."""

    slug = "cloud-throttled"
    reason = "CLOUD_THROTTLED"
    retryable = True

    def __init__(self, detail: str, *, retry_after_s: float | None = None, **kwargs: Any) -> None:
        super().__init__(detail, **kwargs)
        self.retry_after_s = retry_after_s


class CloudBeingWritten(CloudError):
    """Magnum is still writing a cluster, and refuses to show it (and every list that has it)."""

    slug = "cloud-being-written"
    reason = "CLUSTER_BEING_WRITTEN"
    retryable = True


class CloudNotFound(CloudError):
    """OpenStack has no such object."""

    slug = "cloud-not-found"
    reason = "CLOUD_NOT_FOUND"


class CloudRejected(CloudError):
    """OpenStack refused the request."""

    slug = "cloud-rejected"
    reason = "CLOUD_REJECTED"


class CloudAuthFailed(CloudRejected):
    """OpenStack did not accept the credentials this service holds for the project."""

    slug = "cloud-auth-failed"
    reason = "AUTH_FAILED"


class QuotaExceeded(CloudRejected):
    """The project's quota in OpenStack does not allow this."""

    slug = "quota-exceeded"
    reason = "QUOTA_EXCEEDED"
