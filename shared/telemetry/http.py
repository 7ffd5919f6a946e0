"""Prometheus' HTTP API: instant queries, bounded in time and size.

A read timeout alone bounds nothing, because each byte that drips in starts it anew; so answers are read in pieces against a
deadline.
"""

import json
import time
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import requests
import urllib3
from requests.auth import AuthBase, HTTPBasicAuth

from shared.telemetry.config import Source

#: A series' labels and its value as Prometheus wrote it.
Series = tuple[dict[str, str], str]

_PIECE: Final = 256 * 1024
_WORDS: Final = 300
_USER_AGENT: Final = "kcloud-infrastructure"


class SourceFailed(Exception):
    """A query got no answer. ``reason`` is a stable code. ``whole``: others will get none either."""

    def __init__(self, reason: str, detail: str, *, whole: bool = True) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        self.whole = whole


class _Bearer(AuthBase):
    """As an auth object, so that a .netrc of the service's user does not replace it."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


class PrometheusClient:
    """One source's API for one collection; for one thread. Close it after use."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._session = requests.Session()
        self._session.headers.update({"User-Agent": _USER_AGENT, "Accept": "application/json"})

    def close(self) -> None:
        """Give its connections back."""
        self._session.close()

    def sign_in(self) -> None:
        """Read the credentials. Raises :class:`SourceFailed`."""
        source = self._source
        if source.bearer_token_file:
            self._session.auth = _Bearer(_secret(source.bearer_token_file))
        elif source.username and source.password_file:
            password = _secret(source.password_file)
            self._session.auth = HTTPBasicAuth(source.username.encode(), password.encode())

    def query(self, expression: str, at: datetime, deadline: float) -> tuple[list[Series], list[str]]:
        """The vector and Prometheus' warnings. ``deadline``: of ``time.monotonic``. Raises :class:`SourceFailed` alone."""
        source = self._source
        left = min(source.timeout_s, deadline - time.monotonic())
        if left <= 0:
            raise SourceFailed("TIMEOUT", "no time was left to ask.")
        try:
            # POST: the expression may be longer than an address. Prometheus stops working when we stop waiting.
            with self._session.post(
                f"{source.url}/api/v1/query",
                data={"query": expression, "time": f"{at.timestamp():.3f}", "timeout": f"{max(1, int(left * 1000))}ms"},
                timeout=(min(source.connect_timeout_s, left), left),
                stream=True,
                allow_redirects=False,
                verify=source.ca_file or True,  # here: REQUESTS_CA_BUNDLE would take precedence over the session's
            ) as response:
                body = self._body(response, time.monotonic() + left)
        except requests.exceptions.SSLError as exc:
            raise SourceFailed("TLS_FAILED", _short(exc)) from exc
        except (requests.Timeout, urllib3.exceptions.TimeoutError) as exc:
            raise SourceFailed("TIMEOUT", f"no answer within {left:.1f} s.") from exc
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as exc:
            raise SourceFailed("UNREACHABLE", _short(exc)) from exc
        return _vector(response.status_code, body)

    def _body(self, response: requests.Response, deadline: float) -> bytes:
        pieces: list[bytes] = []
        size = 0
        while piece := response.raw.read1(_PIECE, decode_content=True):
            pieces.append(piece)
            size += len(piece)
            if size > self._source.max_bytes:
                raise SourceFailed("ANSWER_TOO_LARGE", f"the answer has more than {self._source.max_bytes} bytes.", whole=False)
            if time.monotonic() > deadline:
                raise SourceFailed("TIMEOUT", "the answer did not end in time.")
        return b"".join(pieces)


def _secret(path: str) -> str:
    try:
        text = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise SourceFailed("CREDENTIAL_UNREADABLE", f"{path} cannot be read: {_short(exc)}") from exc
    if not text or not text.isprintable():
        raise SourceFailed("CREDENTIAL_UNREADABLE", f"{path} must hold one line of text.")
    return text


def _vector(status: int, body: bytes) -> tuple[list[Series], list[str]]:
    if status in {401, 403}:
        raise SourceFailed("NOT_AUTHORISED", f"HTTP {status}: the source does not accept our credentials.")
    if 300 <= status < 400:  # noqa: PLR2004 - the class of redirects
        raise SourceFailed("REDIRECTED", f"HTTP {status}: the address leads elsewhere; redirects are not followed.")
    try:
        answer = json.loads(body)
    except ValueError as exc:
        raise _no_prometheus(status, body) from exc
    if not isinstance(answer, dict):
        raise _no_prometheus(status, body)
    if answer.get("status") == "error":
        kind = str(answer.get("errorType", ""))
        words = f"HTTP {status}: {kind}: {str(answer.get('error', ''))[:_WORDS]}"
        if kind in {"timeout", "canceled"}:
            raise SourceFailed("TIMEOUT", words)
        raise SourceFailed("QUERY_REFUSED", words, whole=False)
    data = answer.get("data")
    if status != 200 or not isinstance(data, dict) or data.get("resultType") != "vector":  # noqa: PLR2004 - OK
        raise _no_prometheus(status, body)
    try:
        series = [_series(item) for item in data["result"]]
    except (KeyError, TypeError, ValueError) as exc:
        raise _no_prometheus(status, body) from exc
    warnings = answer.get("warnings")
    return series, [str(words)[:_WORDS] for words in warnings] if isinstance(warnings, list) else []


def _series(item: Any) -> Series:
    labels, (_, value) = item["metric"], item["value"]
    if not isinstance(labels, dict) or not isinstance(value, str):
        raise TypeError("a series is a mapping of labels and a text")
    return labels, value


def _no_prometheus(status: int, body: bytes) -> SourceFailed:
    start = body[:80].decode("utf-8", "replace")
    if status >= 500:  # noqa: PLR2004 - the class of server errors
        return SourceFailed("UNAVAILABLE", f"HTTP {status}: {start!r}")
    return SourceFailed("NOT_PROMETHEUS", f"HTTP {status} without an answer of Prometheus' API: {start!r}")


def _short(exc: Exception) -> str:
    return str(exc)[:_WORDS]
