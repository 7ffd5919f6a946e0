"""Just enough HTTP: a request over WSGI's environment, answers, and a router. It shares the machine with the system under test."""

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl
from uuid import uuid4

REASONS = {
    200: "OK",
    201: "Created",
    202: "Accepted",
    204: "No Content",
    300: "Multiple Choices",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    406: "Not Acceptable",
    409: "Conflict",
    302: "Found",
    413: "Request Entity Too Large",
    415: "Unsupported Media Type",
    429: "Too Many Requests",
    500: "Internal Server Error",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}


@dataclass
class Answer:
    """Status, JSON (or bytes) body, and headers."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)

    def encoded(self) -> bytes:
        """The body on the wire."""
        if self.body is None:
            return b""
        if isinstance(self.body, bytes):
            return self.body
        return json.dumps(self.body).encode()


class HttpError(Exception):
    """Raised anywhere in a service; its answer is sent."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


class Dropped(Exception):
    """The connection is closed without an answer."""


class Request:
    """One request to one service; ``path`` is below the service's prefix."""

    def __init__(self, environ: dict[str, Any], service: str, path: str) -> None:
        self.environ = environ
        self.service = service
        self.path = path
        self.method: str = environ["REQUEST_METHOD"]
        self.id = f"req-{uuid4()}"
        self.variables: dict[str, str] = {}
        self.extra: dict[str, str] = {}  #: headers of every answer to it, refusals too
        self._body: bytes | None = None

    def header(self, name: str) -> str | None:
        """A header's value."""
        key = name.upper().replace("-", "_")
        value = self.environ.get(key if key in {"CONTENT_TYPE", "CONTENT_LENGTH"} else f"HTTP_{key}")
        return str(value) if value is not None else None

    @property
    def query(self) -> dict[str, str]:
        """The query's last value per name."""
        return dict(parse_qsl(self.environ.get("QUERY_STRING", ""), keep_blank_values=True))

    @property
    def origin(self) -> str:
        """Scheme and host as the client wrote them."""
        return f"{self.environ.get('wsgi.url_scheme', 'http')}://{self.environ.get('HTTP_HOST', 'localhost')}"

    def raw(self) -> bytes:
        """The body."""
        if self._body is None:
            length = int(self.environ.get("CONTENT_LENGTH") or 0)
            self._body = self.environ["wsgi.input"].read(length) if length else b""
        return self._body

    def json(self) -> Any:
        """The body's JSON; ValueError where it is none."""
        return json.loads(self.raw())


Handler = Callable[[Request], Answer]


class Router:
    """Routes by method and path; ``{name}`` stands for one segment. Fixed paths are found first."""

    def __init__(self) -> None:
        self._fixed: dict[str, dict[str, Handler]] = {}
        self._patterns: list[tuple[re.Pattern[str], str, dict[str, Handler]]] = []

    def add(self, methods: str | Iterable[str], path: str, handler: Handler) -> None:
        """Let ``handler`` answer; several methods are written "GET HEAD"."""
        wanted = methods.split() if isinstance(methods, str) else list(methods)
        if "{" not in path:
            table = self._fixed.setdefault(path, {})
        else:
            table = next((known for _, text, known in self._patterns if text == path), {})
            if not table:
                pattern = re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path) + r"\Z")
                self._patterns.append((pattern, path, table))
        table.update(dict.fromkeys(wanted, handler))

    def find(self, request: Request) -> tuple[Handler | None, str, list[str]]:
        """The handler, the route as it was written, and the methods that the path knows."""
        path = request.path.rstrip("/") or "/"
        table = self._fixed.get(path)
        route = path
        if table is None:
            for pattern, text, known in self._patterns:
                matched = pattern.match(path)
                if matched:
                    request.variables = matched.groupdict()
                    table, route = known, text
                    break
        if table is None:
            return None, "", []
        return table.get(request.method), route, sorted(table)
