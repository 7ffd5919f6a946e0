"""From OpenStack's answers to our errors: their words and request id kept, and whether the call may have been executed."""

import json
import socket
import threading
from typing import Any

import pytest
import requests
from keystoneauth1 import exceptions as ksa
from keystoneauth1.session import Session

from shared.domain.jobs import JobKind
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
from shared.openstack.errors import error_of, translate, words_of
from shared.openstack.retry import ATTEMPTS, backoff_s, reading
from shared.services.runner import _error_of


def answer(status: int, body: Any, **headers: str) -> requests.Response:
    response = requests.Response()
    response.status_code = status
    text = body if isinstance(body, str) else json.dumps(body)
    response._content = text.encode()
    response.headers.update({name.replace("_", "-"): value for name, value in headers.items()})
    return response


def magnum(status: int, detail: str, **headers: str) -> requests.Response:
    error = {"request_id": "", "code": "client", "status": status, "title": detail, "detail": detail, "links": []}
    return answer(status, {"errors": [error]}, x_openstack_request_id="req-7", **headers)


@pytest.mark.parametrize(
    "body,words",
    [
        ({"errors": [{"title": "t", "detail": "Magnum's"}]}, "Magnum's"),
        ({"errors": [{"title": "only a title", "detail": ""}]}, "only a title"),
        ({"error": {"code": 401, "title": "Unauthorized", "message": "Keystone's"}}, "Keystone's"),
        ({"badRequest": {"code": 400, "message": "Nova's"}}, "Nova's"),
        ({"NeutronError": {"type": "X", "message": "Neutron's"}}, "Neutron's"),
        ({"faultstring": "an older Magnum's"}, "an older Magnum's"),
        ("<html><body><h1>503</h1>\n Service  Unavailable</body></html>", "503 Service Unavailable"),
        ("", "HTTP 500"),
        ("[1]", "[1]"),
        ({"errors": []}, "{'errors': []}"),
    ],
)
def test_words_of_every_known_body(body: Any, words: str) -> None:
    assert words_of(answer(500, body)) == words


def test_words_are_bounded() -> None:
    assert len(words_of(magnum(500, "x" * 10_000))) == 2000


BEING_WRITTEN = "Invalid input for field/attribute master_count. Value: '0'. Value should be greater or equal to 1"


@pytest.mark.parametrize(
    "status,words,kind,expected",
    [
        (400, "Invalid input for field/attribute node_count.", CloudRejected, ("CLOUD_REJECTED", False, False)),
        (400, BEING_WRITTEN, CloudBeingWritten, ("CLUSTER_BEING_WRITTEN", True, False)),
        (401, "Unauthorized", CloudUnavailable, ("AUTH_EXPIRED", True, False)),
        (403, "Policy doesn't allow cluster:create to be performed.", CloudRejected, ("FORBIDDEN_BY_CLOUD", False, False)),
        (403, "Resource limit exceeded: You have reached the maximum", QuotaExceeded, ("QUOTA_EXCEEDED", False, False)),
        (404, "ClusterTemplate X could not be found.", CloudNotFound, ("CLOUD_NOT_FOUND", False, False)),
        (406, "", CloudRejected, ("CLOUD_REJECTED", False, False)),
        (409, "Multiple clusters exist with same name", CloudRejected, ("CLOUD_CONFLICT", False, False)),
        (408, "slow", CloudTimeout, ("CLOUD_TIMEOUT", True, None)),
        (429, "Too many", CloudThrottled, ("CLOUD_THROTTLED", True, False)),
        (500, "Cannot convert Unset to primitive", CloudUnavailable, ("CLOUD_UNAVAILABLE", True, None)),
        (502, "<html>Bad gateway</html>", CloudUnavailable, ("CLOUD_UNAVAILABLE", True, None)),
        (503, "<html>", CloudUnavailable, ("CLOUD_UNAVAILABLE", True, None)),
        (504, "<html>", CloudTimeout, ("CLOUD_TIMEOUT", True, None)),
    ],
)
def test_error_of_a_changing_call(status: int, words: str, kind: type[CloudError], expected: tuple[str, bool, bool | None]) -> None:
    error = error_of(magnum(status, words), mutating=True)
    assert type(error) is kind
    assert (error.reason, error.retryable, error.executed) == expected
    assert (error.upstream_status, error.upstream_request_id) == (status, "req-7")


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504])
def test_a_failed_read_changed_nothing(status: int) -> None:
    assert error_of(magnum(status, "x"), mutating=False).executed is False


def test_being_written_is_told_from_a_request_with_a_wrong_master_count_by_nothing_so_both_are_tried_again() -> None:
    # Magnum's words are the same for both; our own validation keeps wrong counts from reaching it.
    assert error_of(magnum(400, BEING_WRITTEN), mutating=False).retryable


def test_throttling_keeps_the_time_that_was_asked_for() -> None:
    error = error_of(magnum(429, "slow down", Retry_After="7"), mutating=True)
    assert isinstance(error, CloudThrottled)
    assert error.retry_after_s == 7
    dated = error_of(magnum(429, "slow down", Retry_After="Wed, 21 Oct 2026 07:28:00 GMT"), mutating=True)
    assert isinstance(dated, CloudThrottled)
    assert dated.retry_after_s is None


# -- exceptions of keystoneauth, from real sockets ---------------------------------------------------------------------------


def _call(port: int, **kwargs: Any) -> Exception:
    with pytest.raises(ksa.ClientException) as caught:
        Session().post(f"http://127.0.0.1:{port}/", json={}, authenticated=False, connect_retries=0, **kwargs)
    return caught.value


def test_refused_connection_was_never_sent() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    error = translate(_call(port), mutating=True)
    assert isinstance(error, CloudUnavailable)
    assert error.executed is False


def test_answer_that_does_not_come_may_have_been_executed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:  # accepts, reads nothing, says nothing
        error = translate(_call(server.getsockname()[1], timeout=0.1), mutating=True)
    assert isinstance(error, CloudTimeout)
    assert error.executed is None


def test_connection_closed_without_an_answer_may_have_been_executed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up() -> None:
            connection, _ = server.accept()
            connection.recv(65536)
            connection.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        error = translate(_call(server.getsockname()[1], timeout=5), mutating=True)
        thread.join(5)
    assert isinstance(error, CloudUnavailable)
    assert error.executed is None


def test_the_same_of_a_read_changed_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        error = translate(_call(server.getsockname()[1], timeout=0.1), mutating=False)
    assert error.executed is False


@pytest.mark.parametrize(
    "exc,kind,reason,executed",
    [
        (ksa.Unauthorized("no", request_id="req-1"), CloudAuthFailed, "AUTH_FAILED", False),
        (ksa.EndpointNotFound("none"), CloudRejected, "SERVICE_MISSING", False),
        (ksa.EmptyCatalog("none"), CloudRejected, "SERVICE_MISSING", False),
        (ksa.Forbidden("no", request_id="req-1"), CloudRejected, "CLOUD_REJECTED", False),
        (ksa.InternalServerError("oops", request_id="req-1"), CloudUnavailable, "CLOUD_UNAVAILABLE", None),
        (ksa.ServiceUnavailable("down", request_id="req-1"), CloudUnavailable, "CLOUD_UNAVAILABLE", None),
        (ksa.SSLError("bad"), CloudUnavailable, "CLOUD_UNAVAILABLE", None),
        (ksa.DiscoveryFailure("down"), CloudUnavailable, "CLOUD_UNAVAILABLE", None),
    ],
)
def test_translate(exc: Exception, kind: type[CloudError], reason: str, executed: bool | None) -> None:
    error = translate(exc, mutating=True)
    assert type(error) is kind
    assert (error.reason, error.executed) == (reason, executed)
    if getattr(exc, "request_id", None):
        assert error.upstream_request_id == "req-1"


def test_translate_not_found_of_a_read() -> None:
    assert isinstance(translate(ksa.NotFound("gone"), mutating=False), CloudNotFound)


# -- from errors to what a job shows ------------------------------------------------------------------------------------------


def test_a_jobs_error_keeps_the_clouds_words_status_and_request_id() -> None:
    error = _error_of(error_of(magnum(403, "Resource limit exceeded: 2"), mutating=True), JobKind.CREATE)
    assert error.as_dict() == {
        "reason": "QUOTA_EXCEEDED",
        "detail": "Resource limit exceeded: 2",
        "hint": "Raise the project's quota, or remove clusters that are not needed.",
        "upstream_request_id": "req-7",
        "upstream_status": 403,
    }


def test_a_plain_refusal_is_named_by_its_words() -> None:
    known = _error_of(error_of(magnum(400, "image property kube_version missing"), mutating=True), JobKind.CREATE)
    assert known.reason == "IMAGE_PROPERTY_MISSING"
    unknown = _error_of(error_of(magnum(400, "no"), mutating=True), JobKind.CREATE)
    assert unknown.reason == "CLOUD_REJECTED"


# -- retries ------------------------------------------------------------------------------------------------------------------


class Flaky:
    def __init__(self, *errors: CloudError) -> None:
        self.errors = list(errors)
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "fine"


def test_reading_survives_passing_errors() -> None:
    call = Flaky(CloudUnavailable("x"), CloudBeingWritten("x"))
    assert reading(call) == "fine"
    assert call.calls == 3


@pytest.mark.parametrize("error", [CloudRejected("x"), CloudNotFound("x"), CloudThrottled("x"), CloudAuthFailed("x")])
def test_reading_does_not_repeat_what_repeating_cannot_help(error: CloudError) -> None:
    call = Flaky(error)
    with pytest.raises(type(error)):
        reading(call)
    assert call.calls == 1


def test_reading_gives_up() -> None:
    call = Flaky(*[CloudUnavailable(str(n)) for n in range(10)])
    with pytest.raises(CloudUnavailable):
        reading(call)
    assert call.calls == ATTEMPTS


@pytest.mark.parametrize("attempt", [0, 1, 5, 12, 60])
def test_backoff_doubles_with_jitter_and_is_bounded(attempt: int) -> None:
    ceiling = min(0.5 * 2**attempt, 60.0)
    drawn = [backoff_s(attempt) for _ in range(200)]
    assert min(drawn) >= ceiling / 2
    assert max(drawn) <= ceiling
    assert attempt == 0 or len(set(drawn)) > 10
