"""Saying things to an OpenStack, and noting what it answers in a form in which two clouds can be compared."""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import requests

#: Headers that clients read.
_HEADERS = (
    "Content-Type",
    "Location",
    "OpenStack-API-Maximum-Version",
    "OpenStack-API-Minimum-Version",
    "OpenStack-API-Version",
    "Vary",
    "WWW-Authenticate",
    "x-openstack-request-id",
)
#: What differs from cloud to cloud without meaning anything: running numbers, hosts, descriptions.
_FREE = {
    "id",
    "report_count",
    "host",
    "description",
    "fingerprint",
    "public_key",
    "updated",
    "secret",
    "owner",
    "checksum",
    "stores",
}
_PATTERNS = (
    (re.compile(r"-----BEGIN [A-Z ]+-----.*?-----END [A-Z ]+-----\n?", re.DOTALL), "<pem>"),
    (re.compile(r"req-[0-9a-f]{8}-[0-9a-f-]{27}"), "<request>"),
    (re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"), "<uuid>"),
    (re.compile(r"\b[0-9a-f]{32}\b"), "<hex>"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)?"), "<time>"),
    (re.compile(r"\b10\.\d+\.\d+\.\d+\b"), "<ip>"),
    (re.compile(r"gAAAA[\w-]+=*"), "<token>"),
    (re.compile(r"0x[0-9a-f]{8,}"), "<address>"),
)


@dataclass(frozen=True)
class Account:
    """A user and the project that it works in."""

    name: str
    password: str
    project: str


@dataclass
class Cloud:
    """Where to talk, and as whom: admin, operator (member), viewer (reader), outsider (member of another project)."""

    auth_url: str
    accounts: dict[str, Account]
    pace: float = 0.2  #: seconds between looks while waiting
    _tokens: dict[str, str] = field(default_factory=dict)
    endpoints: dict[str, str] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)

    def sign_in(self, who: str) -> str:
        """A token of that account, asked for once."""
        if who not in self._tokens:
            account = self.accounts[who]
            answer = requests.post(f"{self.auth_url}/auth/tokens", json=password_body(account), timeout=30)
            assert answer.status_code == 201, answer.text
            token = answer.json()["token"]
            self._tokens[who] = answer.headers["X-Subject-Token"]
            self.ids[who], self.ids[f"{who}.project"] = token["user"]["id"], token["project"]["id"]
            for service in token["catalog"]:
                url = next(e["url"] for e in service["endpoints"] if e["interface"] == "public")
                self.endpoints[service["type"]] = url.rstrip("/")
        return self._tokens[who]

    def sign_out(self) -> None:
        """Forget all tokens, so that others are asked for."""
        self._tokens.clear()


def password_body(account: Account, scope: Any = None, **user: Any) -> dict[str, Any]:
    """The body that asks Keystone for a token."""
    project = {"project": {"name": account.project, "domain": {"name": "Default"}}}
    given = {"name": account.name, "domain": {"name": "Default"}, "password": account.password, **user}
    auth = {"identity": {"methods": ["password"], "password": {"user": given}}, "scope": project if scope is None else scope}
    return {"auth": auth}


class Talk:
    """Says things and keeps the answers, by label."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self.heard: dict[str, Any] = {}

    def ask(
        self,
        method: str,
        path: str,
        *,
        who: str | None = "operator",
        service: str = "container-infra",
        version: str | None = "1.10",
        headers: dict[str, str] | None = None,
        **more: Any,
    ) -> requests.Response:
        """Say something of which no note is taken."""
        sent = {"Accept": "application/json"}
        if who is not None:
            sent["X-Auth-Token"] = self.cloud.sign_in(who)
        if version is not None and service == "container-infra":
            sent["OpenStack-API-Version"] = f"container-infra {version}"
        base = self.cloud.auth_url if service == "identity" else self.cloud.endpoints[service]
        return requests.request(method, base + path, headers={**sent, **(headers or {})}, timeout=120, **more)

    def say(self, label: str, method: str, path: str, **how: Any) -> requests.Response:
        """Say something and note the answer."""
        assert label not in self.heard, f"two answers would be called {label}"
        answer = self.ask(method, path, **how)
        self.heard[label] = self._note(answer)
        return answer

    def keep(self, label: str, value: Any) -> None:
        """Note a part of an answer."""
        assert label not in self.heard, f"two notes would be called {label}"
        self.heard[label] = {"status": None, "headers": {}, "body": self._plain(value)}

    def _note(self, answer: requests.Response) -> dict[str, Any]:
        note: dict[str, Any] = {"status": answer.status_code}
        note["headers"] = {name.lower(): self._plain(answer.headers[name]) for name in _HEADERS if name in answer.headers}
        if not answer.content:
            note["body"] = None
        elif "json" in answer.headers.get("Content-Type", ""):
            note["body"] = self._sorted(self._plain(answer.json()))
        else:
            note["body"] = "<page>"
        return note

    def _plain(self, value: Any, key: str = "") -> Any:
        if key in _FREE and value is not None and not isinstance(value, dict | list):
            return f"<{type(value).__name__}>"
        if key == "catalog":
            return self._catalog(value)
        if key == "audit_ids":
            return ["<id>" for _ in value]
        if isinstance(value, dict):
            return {name: self._plain(item, name) for name, item in value.items()}
        if isinstance(value, list):
            return [self._plain(item) for item in value]
        if isinstance(value, str):
            for url in sorted(self.cloud.endpoints.values(), key=len, reverse=True):
                value = value.replace(url.removesuffix("/v1").removesuffix("/v2.1"), "<endpoint>")
            value = value.replace(self.cloud.auth_url.removesuffix("/v3"), "<endpoint>")
            for pattern, name in _PATTERNS:
                value = pattern.sub(name, value)
        return value

    @staticmethod
    def _sorted(body: Any) -> Any:
        """Flavors in the order of their names: theirs is the database's."""
        if isinstance(body, dict) and isinstance(body.get("flavors"), list):
            return {**body, "flavors": sorted(body["flavors"], key=lambda flavor: str(flavor["name"]))}
        return body

    def _catalog(self, services: list[dict[str, Any]]) -> dict[str, Any]:
        """Of the services that are spoken to here, in one order: Keystone has none."""
        found = {}
        for service in services:
            if service["type"] in {"compute", "container-infra", "identity", "image", "network"}:
                places = sorted(service["endpoints"], key=lambda endpoint: str(endpoint["interface"]))
                plain = [{**self._plain(place), "url": "<url>"} for place in places]
                found[service["type"]] = {**self._plain({**service, "endpoints": []}), "endpoints": plain}
        return found

    def until(self, ref: str, *wanted: str, who: str = "operator") -> None:
        """Wait for a cluster's status, or for its end with "gone"."""
        self.wait(f"/clusters/{ref}", lambda body: (body["status"] if body else "gone") in wanted, who=who)

    def wait(self, path: str, check: Callable[[Any], bool], *, who: str = "operator") -> None:
        """Wait until what is there, or None where nothing is, is as wanted."""
        last = ""
        until = time.monotonic() + 60
        while time.monotonic() < until:
            answer = self.ask("GET", path, who=who)
            last = answer.text[:300]
            if answer.status_code in {200, 404} and check(answer.json() if answer.status_code == 200 else None):
                return
            time.sleep(self.cloud.pace)
        raise AssertionError(f"{path} never became as wanted: {last}")

    def settle(self) -> None:
        """Let what was accepted begin."""
        time.sleep(5 * self.cloud.pace)
