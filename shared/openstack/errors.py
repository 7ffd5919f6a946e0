"""From OpenStack's answers and keystoneauth's exceptions to our errors, keeping OpenStack's own words and request id.

The exception that matters most is the lost answer: a request that was sent, and whose outcome is not known. It is marked
``executed=None``; only failures that are known to have happened before the request left are marked False.
"""

import re
from typing import Any

import requests
from keystoneauth1 import exceptions as ksa
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

from shared.errors import (
    CloudAuthFailed,
    CloudBeingWritten,
    CloudError,
    CloudNotFound,
    CloudRejected,
    CloudThrottled,
    CloudTimeout,
    CloudUnavailable,
    QuotaExceeded,
)

_BEING_WRITTEN = re.compile(r"field/attribute master_count", re.IGNORECASE)
_QUOTA = re.compile(r"resource limit exceeded|quota", re.IGNORECASE)
_TAG = re.compile(r"<[^>]+>")
_LONGEST_WORDS = 2000


def words_of(response: requests.Response) -> str:
    """What the service said, whichever of its body shapes it used."""
    try:
        body = response.json()
    except ValueError:
        return " ".join(_TAG.sub(" ", response.text).split())[:_LONGEST_WORDS] or f"HTTP {response.status_code}"
    if isinstance(body, dict):
        errors = body.get("errors")
        if isinstance(errors, list) and errors and isinstance(errors[0], dict):
            return str(errors[0].get("detail") or errors[0].get("title") or "")[:_LONGEST_WORDS]
        for value in (body.get("error"), *body.values()):
            if isinstance(value, dict) and "message" in value:
                return str(value["message"])[:_LONGEST_WORDS]
        if "faultstring" in body:
            return str(body["faultstring"])[:_LONGEST_WORDS]
    return str(body)[:_LONGEST_WORDS]


def error_of(response: requests.Response, *, mutating: bool) -> CloudError:
    """The error that an answer of 400 or above means. ``mutating``: the request asked for a change."""
    status = response.status_code
    words = words_of(response) or f"HTTP {status}"
    known: dict[str, Any] = {
        "upstream_status": status,
        "upstream_request_id": response.headers.get("x-openstack-request-id"),
    }
    if status == 401:  # noqa: PLR2004
        return CloudUnavailable(words, reason="AUTH_EXPIRED", hint="The token is renewed and the call made again.", **known)
    if status == 404:  # noqa: PLR2004
        return CloudNotFound(words, **known)
    if status == 400 and _BEING_WRITTEN.search(words):  # noqa: PLR2004
        return CloudBeingWritten(words, **known)
    if status == 403 and _QUOTA.search(words):  # noqa: PLR2004
        hint = "Raise the project's quota, or remove clusters that are not needed."
        return QuotaExceeded(words, hint=hint, **known)
    if status == 403:  # noqa: PLR2004
        hint = "The service's user lacks a role in the project."
        return CloudRejected(words, reason="FORBIDDEN_BY_CLOUD", hint=hint, **known)
    if status == 409:  # noqa: PLR2004
        return CloudRejected(words, reason="CLOUD_CONFLICT", **known)
    if status == 429:  # noqa: PLR2004
        return CloudThrottled(words, retry_after_s=_retry_after(response), **known)
    if status in {408, 504}:
        return CloudTimeout(words, executed=None if mutating else False, **known)
    if status >= 500:  # noqa: PLR2004
        # A gateway in between may answer 502 or 503 for a request that Magnum took.
        return CloudUnavailable(words, executed=None if mutating else False, **known)
    return CloudRejected(words, **known)


def translate(exc: Exception, *, mutating: bool) -> CloudError:
    """The error that an exception of keystoneauth means."""
    executed = None if mutating and not _never_sent(exc) else False
    if isinstance(exc, ksa.Unauthorized):
        hint = "Give the service's user a role in the project, or register an application credential for it."
        return CloudAuthFailed(_short(exc), hint=hint, upstream_status=401, upstream_request_id=getattr(exc, "request_id", None))
    if isinstance(exc, ksa.NotFound) and not mutating:
        return CloudNotFound(_short(exc), upstream_status=404)
    if isinstance(exc, ksa.ConnectTimeout | ksa.RequestTimeout):
        return CloudTimeout(_short(exc), executed=executed)
    if isinstance(exc, ksa.EndpointNotFound | ksa.EmptyCatalog):
        hint = "The catalog names no such service in this region; `make verify-openstack` shows what is missing."
        return CloudRejected(_short(exc), reason="SERVICE_MISSING", hint=hint)
    if isinstance(exc, ksa.HttpError):
        status = exc.http_status or 500
        if status < 500 and status not in {408, 429}:  # noqa: PLR2004
            return CloudRejected(_short(exc), upstream_status=status, upstream_request_id=exc.request_id)
        return CloudUnavailable(_short(exc), upstream_status=status, upstream_request_id=exc.request_id, executed=executed)
    return CloudUnavailable(_short(exc), executed=executed)


def _never_sent(exc: Exception) -> bool:
    """Whether the connection could not even be opened. Anything else may have reached the service."""
    seen: set[int] = set()
    cause: BaseException | None = exc
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        if isinstance(cause, NewConnectionError | ConnectTimeoutError | requests.ConnectTimeout):
            return True
        reason = getattr(cause.args[0], "reason", None) if cause.args else None
        if isinstance(reason, NewConnectionError | ConnectTimeoutError):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def _retry_after(response: requests.Response) -> float | None:
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isdigit() else None


def _short(exc: Exception) -> str:
    return str(exc)[:_LONGEST_WORDS] or type(exc).__name__
