"""Tokens: keystonemiddleware against the simulated Keystone, and what is remembered of its answers."""

import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from keystoneauth1.identity import v3
from keystoneauth1.session import Session

from api.auth import KeystoneValidator, Tokens
from shared.errors import NotAuthenticated, Unavailable
from shared.settings import CloudSettings
from simulator.testing import Running, running_simulator


@pytest.fixture(scope="module")
def simulator() -> Iterator[Running]:
    with running_simulator() as running:
        yield running


@pytest.fixture
def keystone(simulator: Running) -> Iterator[Running]:
    yield simulator
    simulator.control("DELETE", "/faults")


def _settings(keystone: Running, **changes: Any) -> CloudSettings:
    values = {"auth_url": keystone.auth_url, "username": "admin", "password": "secretpassword", "timeout_s": 3.0}
    return CloudSettings(**{**values, **changes})


def _token(keystone: Running, user: str = "viewer", project: str | None = "kcloud") -> str:
    scope = {"project_name": project, "project_domain_name": "Default"} if project else {"unscoped": True}
    password = "secretpassword" if user == "admin" else f"{user}-password"
    auth = v3.Password(keystone.auth_url, username=user, password=password, user_domain_name="Default", **scope)
    return str(Session(auth=auth).get_token())


def test_a_token_tells_who_where_and_with_which_roles(keystone: Running) -> None:
    tokens = Tokens(KeystoneValidator(_settings(keystone)))
    viewer = tokens.principal(_token(keystone))
    assert (viewer.user_name, viewer.roles) == ("viewer", frozenset({"reader"}))
    member = tokens.principal(_token(keystone, "operator"))
    assert member.roles >= {"member", "reader"}
    assert member.project_id == viewer.project_id
    assert tokens.principal(_token(keystone, "outsider", "other")).project_id != viewer.project_id


def test_a_token_of_no_project_has_none(keystone: Running) -> None:
    assert Tokens(KeystoneValidator(_settings(keystone))).principal(_token(keystone, project=None)).project_id is None


def test_an_unknown_token_is_refused(keystone: Running) -> None:
    with pytest.raises(NotAuthenticated):
        KeystoneValidator(_settings(keystone))("gAAAAABunknown")


def test_a_token_is_asked_about_once(keystone: Running) -> None:
    tokens = Tokens(KeystoneValidator(_settings(keystone)))
    token = _token(keystone)
    first = tokens.principal(token)
    keystone.control("POST", "/faults", {"kind": "keystone_down"})
    assert tokens.principal(token) is first
    with pytest.raises(Unavailable) as caught:
        tokens.principal(token + "x")
    assert (caught.value.reason, caught.value.retryable) == ("KEYSTONE_UNAVAILABLE", True)


def test_an_expired_token_is_refused_once_it_is_asked_about_again(keystone: Running) -> None:
    tokens = Tokens(KeystoneValidator(_settings(keystone)), ttl_s=0.05)
    token = _token(keystone)
    tokens.principal(token)
    keystone.control("POST", "/faults", {"kind": "expire_tokens"})
    time.sleep(0.06)
    with pytest.raises(NotAuthenticated):
        tokens.principal(token)


def test_the_services_own_token_is_renewed(keystone: Running) -> None:
    validate = KeystoneValidator(_settings(keystone))
    validate(_token(keystone))
    keystone.control("POST", "/faults", {"kind": "expire_tokens"})
    assert validate(_token(keystone))["user"]["name"] == "viewer"


def test_a_service_that_cannot_sign_in_is_unavailable_and_not_the_callers_fault(keystone: Running) -> None:
    with pytest.raises(Unavailable):
        KeystoneValidator(_settings(keystone, password="wrong"))(_token(keystone))


def test_keystone_that_is_not_there() -> None:
    validate = KeystoneValidator(CloudSettings("http://127.0.0.1:9/v3", "admin", "x", timeout_s=1.0))
    with pytest.raises(Unavailable):
        validate("gAAAAABx")


def test_refusals_make_no_noise(keystone: Running, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    validate = KeystoneValidator(_settings(keystone))
    with pytest.raises(NotAuthenticated):
        validate("gAAAAABvery-secret-token")
    assert [record for record in caplog.records if record.name.startswith("keystonemiddleware")] == []
    assert "very-secret-token" not in caplog.text


# -- what is remembered ----------------------------------------------------------------------------------------------------


class Source:
    """A Keystone that counts questions; each token's user is the token itself."""

    def __init__(self, *, lives_s: float = 3600.0, takes_s: float = 0.0) -> None:
        self.asked: list[str] = []
        self._lives_s, self._takes_s = lives_s, takes_s
        self._lock = threading.Lock()

    def __call__(self, token: str) -> Mapping[str, Any]:
        with self._lock:
            self.asked.append(token)
        time.sleep(self._takes_s)
        until = datetime.now(UTC) + timedelta(seconds=self._lives_s)
        return {"user": {"id": token}, "expires_at": until.strftime("%Y-%m-%dT%H:%M:%S.%fZ"), "roles": [{"name": "Member"}]}


def test_nothing_is_believed_beyond_the_tokens_own_expiry() -> None:
    source = Source(lives_s=0.1)
    tokens = Tokens(source, ttl_s=60)
    tokens.principal("a")
    time.sleep(0.12)
    tokens.principal("a")
    assert source.asked == ["a", "a"]


def test_what_is_remembered_is_bounded_and_the_oldest_goes_first() -> None:
    source = Source()
    tokens = Tokens(source, most=100)
    for number in range(150):
        tokens.principal(str(number))
    assert len(tokens._held) == 100
    tokens.principal("149")
    assert len(source.asked) == 150
    tokens.principal("0")
    assert len(source.asked) == 151


def test_tokens_themselves_are_not_kept() -> None:
    tokens = Tokens(Source())
    tokens.principal("a-secret-token")
    assert all(b"secret" not in key for key in tokens._held)


def test_many_requests_with_a_new_token_ask_once() -> None:
    source = Source(takes_s=0.1)
    tokens = Tokens(source)
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda _: tokens.principal("same"), range(16)))
    assert source.asked == ["same"]
    assert len({id(one) for one in found}) == 1


def test_roles_are_compared_in_lower_case() -> None:
    assert Tokens(Source()).principal("a").roles == {"member"}


def test_a_token_that_was_refused_is_asked_about_again() -> None:
    calls = 0

    def late(token: str) -> Mapping[str, Any]:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise NotAuthenticated("Not yet.")
        return Source()(token)

    tokens = Tokens(late)
    with pytest.raises(NotAuthenticated):
        tokens.principal("a")
    assert tokens.principal("a").user_id == "a"
