"""From errors to answers: RFC 9457 problem+json, always, also for what Flask and werkzeug refuse by themselves."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, ClassVar, Final, NamedTuple
from urllib.parse import quote

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException, InternalServerError
from werkzeug.routing import RequestRedirect

from api.render import encode
from shared import errors
from shared.errors import FieldError, KcloudError
from shared.observability.logging import get_logger

log = get_logger(__name__)

MEDIA_TYPE: Final = "application/problem+json"
#: What may stand in a path as it is (RFC 3986).
_IN_PATHS: Final = "/:@!$&'()*+,;=~"
#: Seconds to come back after, where nothing better is known.
RETRY_AFTER_S: Final = 5


class HttpProblem(KcloudError):
    """The request can't be read."""

    slug = "malformed-request"
    reason = "MALFORMED_REQUEST"
    status: ClassVar[HTTPStatus] = HTTPStatus.BAD_REQUEST


class UnsupportedMediaType(HttpProblem):
    """The body is not JSON."""

    slug = "unsupported-media-type"
    reason = "UNSUPPORTED_MEDIA_TYPE"
    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE


STATUS: Final[dict[type[KcloudError], HTTPStatus]] = {
    errors.InvalidRequest: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.NotAuthenticated: HTTPStatus.UNAUTHORIZED,
    errors.Forbidden: HTTPStatus.FORBIDDEN,
    errors.NotFound: HTTPStatus.NOT_FOUND,
    errors.Conflict: HTTPStatus.CONFLICT,
    errors.AlreadyExists: HTTPStatus.CONFLICT,
    errors.InvalidTransition: HTTPStatus.CONFLICT,
    errors.IdempotencyMismatch: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.Unavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    # A worker's affair, and the operator's: if one gets here, the fault is ours.
    errors.LeaseLost: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.ConfigurationError: HTTPStatus.INTERNAL_SERVER_ERROR,
    # OpenStack's refusals of what this service itself asked are not the caller's mistakes, hence 502.
    errors.CloudError: HTTPStatus.BAD_GATEWAY,
    errors.CloudUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.CloudTimeout: HTTPStatus.GATEWAY_TIMEOUT,
    errors.CloudThrottled: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.CloudBeingWritten: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.CloudNotFound: HTTPStatus.BAD_GATEWAY,
    errors.CloudRejected: HTTPStatus.BAD_GATEWAY,
    errors.CloudAuthFailed: HTTPStatus.BAD_GATEWAY,
    errors.QuotaExceeded: HTTPStatus.FORBIDDEN,
    HttpProblem: HttpProblem.status,
    UnsupportedMediaType: UnsupportedMediaType.status,
}


class _Refusal(NamedTuple):
    """How a refusal of werkzeug's is answered."""

    slug: str
    reason: str
    title: str
    words: str | None = None  #: where werkzeug's own say too little


_HTTP: Final[dict[int, _Refusal]] = {
    400: _Refusal("malformed-request", "MALFORMED_REQUEST", "The request can't be read"),
    404: _Refusal("unknown-path", "UNKNOWN_PATH", "There is nothing at this path", "There is nothing at this path."),
    405: _Refusal(
        "method-not-allowed",
        "METHOD_NOT_ALLOWED",
        "This path does not take this method",
        "This path does not take this method; the header Allow lists those it takes.",
    ),
    413: _Refusal("body-too-large", "BODY_TOO_LARGE", "The body is too large"),
    415: _Refusal("unsupported-media-type", "UNSUPPORTED_MEDIA_TYPE", "The body is not JSON"),
    500: _Refusal(
        "internal",
        "INTERNAL",
        "This service failed",
        "Something is wrong in this service. The request id leads to it in its log.",
    ),
}
_OTHER: Final = _Refusal("malformed-request", "REFUSED", "The request can't be served")
#: The kinds among them: title and status by slug.
HTTP_KINDS: Final = {kind.slug: (kind.title, HTTPStatus(status)) for status, kind in _HTTP.items()}


def status_of(error: KcloudError) -> HTTPStatus:
    """The HTTP status of an error: its class's, or its nearest ancestor's."""
    for cls in type(error).__mro__:
        if cls in STATUS:
            return STATUS[cls]
    return HTTPStatus.INTERNAL_SERVER_ERROR


def request_id() -> str:
    """The present request's id."""
    found: str = request.environ.get("kcloud.request_id", "")
    return found


def answer(
    status: int,
    slug: str,
    title: str,
    detail: str,
    reason: str,
    *,
    headers: Mapping[str, str] | None = None,
    **more: Any,
) -> Response:
    """A problem document."""
    body = {
        "type": f"/problems/{slug}",
        "title": title,
        "status": int(status),
        "detail": detail,
        "instance": quote(request.path, safe=_IN_PATHS),
        "reason": reason,
        "request_id": request_id(),
    }
    body |= {name: value for name, value in more.items() if value}
    response = Response(encode(body), status=int(status), content_type=MEDIA_TYPE)
    if headers:
        response.headers.update(headers)
    return response


def on_error(error: KcloudError) -> Response:
    """An error of our own tree."""
    status = status_of(error)
    headers: dict[str, str] = {}
    if status == HTTPStatus.INTERNAL_SERVER_ERROR:
        log.error("request.failed", exc_info=error, path=request.path)
        return on_http_exception(InternalServerError())
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        log.warning("request.unavailable", path=request.path, reason=error.reason, detail=error.detail)
    if error.retryable:
        headers["Retry-After"] = str(max(1, round(getattr(error, "retry_after_s", None) or RETRY_AFTER_S)))
    elif error.reason == "IDEMPOTENCY_KEY_IN_USE":
        headers["Retry-After"] = "1"
    headers |= error.context.get("headers", {})
    return answer(
        status,
        error.slug,
        error.title().rstrip("."),
        error.detail,
        error.reason,
        headers=headers,
        hint=error.hint,
        errors=[_field(one, in_body=error.context.get("location") is None) for one in error.errors],
        upstream_status=getattr(error, "upstream_status", None),
        upstream_request_id=getattr(error, "upstream_request_id", None),
    )


def _field(error: FieldError, *, in_body: bool) -> dict[str, str]:
    shown = {"field": error.field, "rule": error.rule, "detail": error.detail}
    if in_body and request.method in {"POST", "PUT"}:
        # Names of labels may hold dots, so only the first one separates.
        path = "/".join(part.replace("~", "~0").replace("/", "~1") for part in error.field.split(".", 1))
        shown["pointer"] = f"/{path}"
    return shown


def on_http_exception(error: HTTPException) -> Response:
    """A refusal by Flask or werkzeug."""
    if isinstance(error, RequestRedirect):
        return Response(status=error.code, headers={"Location": error.new_url})
    status = error.code or 500
    kind = _HTTP.get(status, _OTHER)
    words = kind.words
    limit = request.max_content_length
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE and limit:
        words = f"The body may have {limit} bytes at most."
    # Content-Type is ours; the rest (Allow, Retry-After) says something about the refusal.
    headers = {name: value for name, value in error.get_headers() if name.lower() not in {"content-type", "content-length"}}
    return answer(status, kind.slug, kind.title, words or error.description or kind.title, kind.reason, headers=headers)


def on_exception(error: Exception) -> Response:
    """A fault of ours: logged with its traceback, answered without."""
    log.error("request.failed", exc_info=error, path=request.path)
    return on_http_exception(InternalServerError())


def install(app: Flask) -> None:
    """Answer every error of an application with a problem."""
    app.register_error_handler(KcloudError, on_error)
    app.register_error_handler(HTTPException, on_http_exception)
    app.register_error_handler(Exception, on_exception)
