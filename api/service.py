"""The service itself: what it is, whether it is well, what it counts, and how it is used."""

import base64
import hashlib
import hmac
import json
from functools import cached_property
from http import HTTPStatus
from importlib import resources
from typing import Final

from flask import Flask, Response, request
from prometheus_client import CONTENT_TYPE_LATEST

from api import problem_pages, spec
from api.kit import Kit
from api.render import answer
from api.schemas import service as schemas
from api.spec import Blueprint, Outcome, operation
from shared.errors import NotAuthenticated, NotFound

#: The page of documentation runs one script and one style of its own, named by their digests, and asks this host only.
_HTML_POLICY: Final = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "


class ServiceViews:
    """The operations on the service."""

    def __init__(self, kit: Kit, app: Flask) -> None:
        self._kit = kit
        self._app = app

    def blueprint(self) -> Blueprint:
        """Their paths."""
        made = Blueprint("service", __name__, description="The service itself.")
        made.add_url_rule("/", view_func=self.get_about, methods=["GET"])
        made.add_url_rule("/health", view_func=self.get_health, methods=["GET"])
        made.add_url_rule("/ready", view_func=self.get_ready, methods=["GET"])
        made.add_url_rule("/metrics", view_func=self.get_metrics, methods=["GET"])
        made.add_url_rule("/openapi.json", view_func=self.get_openapi, methods=["GET"])
        made.add_url_rule("/docs", view_func=self.get_docs, methods=["GET"])
        made.add_url_rule("/problems/<slug>", view_func=self.get_problem, methods=["GET"])
        return made

    @operation("Say what this is", {200: Outcome("Name, version and where to go on.", schemas.About)}, public=True)
    def get_about(self) -> Response:
        """Needs no token."""
        links = {name: f"/{name}" for name in ("clusters", "jobs", "health", "ready", "metrics", "docs")}
        return answer(
            {
                "service": spec.SERVICE,
                "version": spec.VERSION,
                "description": spec.DESCRIPTION.split("\n", 1)[0],
                "status": "running",
                "links": links | {"openapi": "/openapi.json"},
            }
        )

    @operation(
        "Say how it is",
        {
            200: Outcome("All that is needed answers.", schemas.Health),
            503: Outcome("Something that is needed does not answer.", schemas.Health),
        },
        public=True,
    )
    def get_health(self) -> Response:
        """The database, the broker and each OpenStack service, asked at most every five seconds."""
        well, state = self._kit.container.health.health()
        return answer(state, HTTPStatus.OK if well else HTTPStatus.SERVICE_UNAVAILABLE)

    @operation(
        "Say whether requests can be taken",
        {200: Outcome("They can.", schemas.Ready), 503: Outcome("They can't.", schemas.Ready)},
        public=True,
    )
    def get_ready(self) -> Response:
        """The database is there with its newest schema, and tokens can be checked. The broker is reported and not required:
        without it, requests are promised, and kept later.
        """
        fine, state = self._kit.container.health.ready()
        return answer(state, HTTPStatus.OK if fine else HTTPStatus.SERVICE_UNAVAILABLE)

    @operation(
        "Count",
        {200: Outcome("Prometheus text.", None)},
        more={200: {"text/plain": {"schema": {"type": "string"}}}},
    )
    def get_metrics(self) -> Response:
        """Needs the role reader, or the bearer token that METRICS_TOKEN sets, unless the policy's rule `service:metrics` is `@`."""
        if not self._is_prometheus() and not self._kit.guard.open_to_all("service:metrics"):
            self._kit.guard.actor("service:metrics")
        return Response(self._kit.container.health.metrics(), content_type=CONTENT_TYPE_LATEST)

    def _is_prometheus(self) -> bool:
        """Whether the request has METRICS_TOKEN. Keystone's tokens expire, and Prometheus can't renew them."""
        key = self._kit.container.settings.metrics.token
        given = request.headers.get("Authorization")
        if key is None or given is None:
            return False
        if not hmac.compare_digest(given.encode(), f"Bearer {key}".encode()):
            raise NotAuthenticated("The bearer token is not the one that METRICS_TOKEN sets.", reason="TOKEN_INVALID")
        return True

    @operation(
        "Describe the API",
        {200: Outcome("The OpenAPI document.", None)},
        public=True,
        more={200: {"application/json": {"schema": {"type": "object"}}}},
    )
    def get_openapi(self) -> Response:
        """This document."""
        return Response(self._openapi, content_type="application/json")

    @operation(
        "Read the documentation",
        {200: Outcome("A page made of the OpenAPI document.", None)},
        public=True,
        more={200: {"text/html": {"schema": {"type": "string"}}}},
    )
    def get_docs(self) -> Response:
        """It needs nothing from the internet, and can send requests with a token that is typed in."""
        return _html(*self._docs)

    @operation(
        "Explain a kind of problem",
        {200: Outcome("What it means and what to do.", None)},
        refusals=(404,),
        public=True,
        more={200: {"text/html": {"schema": {"type": "string"}}}},
    )
    def get_problem(self, slug: str) -> Response:
        """The `type` of every problem document leads here."""
        page = problem_pages.as_html(slug)
        if page is None:
            raise NotFound(f"There is no kind of problem {slug[:100]!r}.", reason="UNKNOWN_PROBLEM")
        return _html(page, "style-src 'unsafe-inline'")

    @cached_property
    def _openapi(self) -> str:
        return json.dumps(spec.document_of(self._app))

    @cached_property
    def _docs(self) -> tuple[str, str]:
        page = resources.files("api").joinpath("docs.html").read_text(encoding="utf-8")
        return page, f"style-src {_digest(page, 'style')}; script-src {_digest(page, 'script')}; connect-src 'self'"


def _digest(page: str, tag: str) -> str:
    inside = page.split(f"<{tag}>", 1)[1].split(f"</{tag}>", 1)[0]
    return f"'sha256-{base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()}'"


def _html(page: str, allowed: str) -> Response:
    return Response(page, content_type="text/html; charset=utf-8", headers={"Content-Security-Policy": _HTML_POLICY + allowed})
