"""The OpenAPI document: what each operation takes and answers. `python -m api.spec docs/openapi.json` writes it.

flask-smorest makes the document; its decorators that read and write are not used, because they cost more than the rest
of a request. Two things of it are changed: errors are documented as application/problem+json, and its error handler is
left out for :mod:`api.problems`.
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, TypeVar

from flask import Flask
from flask_smorest import Api as SmorestApi
from flask_smorest import Blueprint as SmorestBlueprint
from marshmallow import Schema, fields

from api.inputs import Query
from api.problems import MEDIA_TYPE
from api.schemas.fields import Labels
from api.schemas.service import Problem

F = TypeVar("F", bound=Callable[..., Any])
VERSION: Final = "0.1.0"
SERVICE: Final = "kcloud-infrastructure"
DESCRIPTION: Final = (
    "Creates, scales and removes Kubernetes clusters on OpenStack Magnum.\n\n"
    "Every change is answered with 202 and a job: a promise that is kept whatever crashes. `Operation-Location` names it,"
    " `Retry-After` says when to look. Send `Prefer: wait=30` to wait for its end, `Idempotency-Key` to repeat a request"
    " without doing it twice, `?validate_only=true` to have it checked and not done. Errors are problem documents (RFC 9457)"
    " that name every wrong field at once."
)

#: Refusals: their names in the document, and what they mean to the caller.
_REFUSALS: Final = {
    400: ("BadRequest", "The request can't be read: malformed JSON, or a malformed Idempotency-Key."),
    401: ("Unauthorized", "No valid token came with the request."),
    403: ("Forbidden", "The caller's roles do not allow this, or the service may not act in the project."),
    404: ("NotFound", "The project has no such object."),
    409: ("Conflict", "The object's present state, or another of its name, does not allow this."),
    413: ("ContentTooLarge", "The body is too large."),
    415: ("UnsupportedMediaType", "The body is not JSON."),
    422: (
        "UnprocessableContent",
        "Fields or parameters break rules; `errors` has all of them. Or the Idempotency-Key belongs to another request.",
    ),
    500: ("InternalServerError", "This service failed; the request id leads to the cause in its log."),
    502: ("BadGateway", "OpenStack refused what this service asked of it."),
    503: (
        "ServiceUnavailable",
        "A part that this needs does not answer (database, Keystone), or too much is open. Retry-After says when to come back.",
    ),
    504: ("GatewayTimeout", "OpenStack did not answer in time."),
}
_ALWAYS: Final = (401, 403, 500, 503)
_BODY: Final = (400, 413, 415, 422)

HEADERS: Final[dict[str, dict[str, Any]]] = {
    "Location": {"schema": {"type": "string"}, "description": "The cluster."},
    "Operation-Location": {"schema": {"type": "string"}, "description": "The job."},
    "Retry-After": {"schema": {"type": "integer", "minimum": 1}, "description": "Seconds after which looking again makes sense."},
    "Preference-Applied": {"schema": {"type": "string"}, "description": "`wait=N`: the answer waited up to N seconds."},
    "Idempotent-Replayed": {"schema": {"type": "string"}, "description": "`true`: an earlier request made this job."},
    "Kubeconfig-Expires-At": {
        "schema": {"type": "string", "format": "date-time"},
        "description": "Until when the certificate is valid.",
    },
    "Link": {"schema": {"type": "string"}, "description": '`<...>; rel="next"` where there are more.'},
}
_PREFER: Final = {
    "name": "Prefer",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "examples": ["wait=30"]},
    "description": (
        "`wait=N` (RFC 7240) waits up to N seconds for the job's end. A job that succeeded by then gives 200 or 201. One that"
        " failed, was cancelled or still runs gives 202 with the job as it is; `job.state` tells which."
    ),
}
_IDEMPOTENCY: Final = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]([ -~]*[!-~])?$"},
    "description": (
        "A repeat with the same key makes nothing new: it gets the first request's job. Keys belong to the project, whoever of"
        " it sends them, and are kept as long as their jobs. The same key with another request: 422."
    ),
}


@dataclass(frozen=True)
class Outcome:
    """One answer: what it means, the schema of its body (or several, one of which it has), its headers, and whether it is an array."""

    words: str
    schema: type[Schema] | tuple[type[Schema], ...] | None = None
    headers: tuple[str, ...] = ()
    many: bool = False


class Api(SmorestApi):
    """flask-smorest's registry of operations."""

    def _register_responses(self) -> None:
        for status, (name, words) in _REFUSALS.items():
            content = {MEDIA_TYPE: {"schema": Problem}}
            response: dict[str, Any] = {"description": words, "content": content}
            if status == HTTPStatus.SERVICE_UNAVAILABLE:
                response["headers"] = {"Retry-After": HEADERS["Retry-After"]}
            self.spec.components.response(name, response)

    def _register_error_handlers(self) -> None:
        """Errors are answered by :mod:`api.problems`, with all of an exception's headers (Allow among them)."""

    def _register_doc_blueprint(self) -> None:
        """The document and its page are served by :mod:`api.service`."""


class Blueprint(SmorestBlueprint):
    """A noun's paths. What :func:`operation` says of a view is all that is documented: there is no default answer."""

    def __init__(self, name: str, import_name: str, *, description: str) -> None:
        super().__init__(name, import_name, description=description)
        self._prepare_doc_cbks: list[Any] = []


def _names_of_labels(_converter: Any, field: fields.Field[Any], **_kwargs: Any) -> dict[str, Any]:
    return {"propertyNames": field.names} if isinstance(field, Labels) else {}


def make_api(app: Flask) -> Api:
    """The registry for an application."""
    app.config.update(API_TITLE="K-Cloud clusters", API_VERSION=VERSION, OPENAPI_VERSION="3.1.0")
    scheme = {"type": "apiKey", "in": "header", "name": "X-Auth-Token", "description": "A Keystone token of a project."}
    api = Api(
        app,
        spec_kwargs={
            "info": {"description": DESCRIPTION, "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"}},
            "components": {"securitySchemes": {"keystone": scheme}},
            "security": [{"keystone": []}],
        },
    )
    api.ma_plugin.converter.add_attribute_function(_names_of_labels)
    return api


def operation(
    summary: str,
    answers: Mapping[int, Outcome],
    *,
    refusals: Sequence[int] = (),
    body: type[Schema] | None = None,
    body_required: bool = True,
    query: Query | None = None,
    changes: bool = False,
    public: bool = False,
    more: Mapping[int, Mapping[str, Any]] | None = None,
) -> Callable[[F], F]:
    """Document a view: its summary, and each answer by status.

    ``body_required``: False where no body is as good as an empty object. ``changes``: takes Prefer and Idempotency-Key. ``public``: needs no token.
    ``more``: further content by status and media type. The docstring is the description.
    """
    expected = {*refusals, *(() if public else _ALWAYS), *(_BODY if body else ()), *((400, 422) if changes or query else ())}
    if query and not changes and not body:
        expected.discard(400)
    if public:
        expected |= {500}
    responses: dict[str, Any] = {str(status): _REFUSALS[status][0] for status in sorted(expected)}
    for status, described in answers.items():
        response: dict[str, Any] = {"description": described.words}
        if described.headers:
            response["headers"] = {name: HEADERS[name] for name in described.headers}
        if described.schema is not None:
            one: Any = {"oneOf": list(described.schema)} if isinstance(described.schema, tuple) else described.schema
            response["content"] = {"application/json": {"schema": {"type": "array", "items": one} if described.many else one}}
        if more and status in more:
            response.setdefault("content", {}).update(more[status])
        responses[str(status)] = response
    document: dict[str, Any] = {"summary": summary, "responses": responses}
    parameters: list[dict[str, Any]] = [param.spec() for param in query.params] if query else []
    if changes:
        parameters += [_PREFER, _IDEMPOTENCY]
    if parameters:
        document["parameters"] = parameters
    if body:
        document["requestBody"] = {"required": body_required, "content": {"application/json": {"schema": body}}}
    if public:
        document["security"] = []

    def decorate(view: F) -> F:
        # Blueprint.doc() would do the same, and wrap the view besides.
        described = document | {"operationId": view.__name__, "description": " ".join((view.__doc__ or "").split())}
        setattr(view, "_apidoc", {"manual_doc": described})  # noqa: B010 - of a function, which has no such attribute yet
        return view

    return decorate


def document_of(app: Flask) -> dict[str, Any]:
    """An application's OpenAPI document."""
    made: dict[str, Any] = app.extensions["flask-smorest"]["apis"][""]["ext_obj"].spec.to_dict()
    return made


def main(paths: Sequence[str]) -> None:
    """Write the generated documents: the OpenAPI document to names that end in .json, the list of errors to .md."""
    from api.app import describe
    from api.problem_pages import as_markdown

    for path in paths:
        text = as_markdown() if path.endswith(".md") else json.dumps(document_of(describe()), indent=2) + "\n"
        Path(path).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
