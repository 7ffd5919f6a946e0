"""One conversation with an OpenStack, and what it answered, in a form in which two clouds can be compared.

It says the same to real services and to the simulator. ``real.json`` beside this file holds what real ones answered (OpenStack
2026.2); ``python tests/simulator/conversation.py CLOUDS_YAML`` asks them again and writes it anew.
"""

import json
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

RECORDING = Path(__file__).with_name("real.json")
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
        last: Any = None
        until = time.monotonic() + 40
        while time.monotonic() < until:
            answer = self.ask("GET", f"/clusters/{ref}", who=who)
            last = answer.text[:300]
            if (answer.json()["status"] if answer.status_code == 200 else "gone") in wanted and answer.status_code in {200, 404}:
                return
            time.sleep(self.cloud.pace)
        raise AssertionError(f"{ref} never came to {wanted}: {last}")


QUICK = {"rig_create_seconds": "1", "rig_update_seconds": "1", "rig_delete_seconds": "1"}
_TEMPLATE = {
    "name": "talk-template",
    "image_id": "ubuntu-24.04-kube-v1.33.1",
    "coe": "kubernetes",
    "flavor_id": "gpu.a100.large",
    "master_flavor_id": "cpu.large",
    "external_network_id": "public",
    "keypair_id": "kcloud-keypair",
    "labels": {"kube_tag": "v1.33.1", "workload_type": "training"},
}


def hold(cloud: Cloud) -> dict[str, Any]:
    """The whole conversation; what was heard, by label. Cleans up before and after itself."""
    talk = Talk(cloud)
    for who in cloud.accounts:
        cloud.sign_in(who)
    _clean(talk)
    try:
        for part in (_identity, _templates, _refusals, _life, _lists, _groups, _neighbours):
            part(talk)
    finally:
        _clean(talk)
    return talk.heard


def _clear_clusters(talk: Talk) -> None:
    mine = [c for c in talk.ask("GET", "/clusters").json().get("clusters", []) if c["name"].startswith("talk-")]
    for cluster in mine:
        talk.ask("DELETE", f"/clusters/{cluster['uuid']}")
    for cluster in mine:
        talk.until(cluster["uuid"], "gone", "DELETE_FAILED")
        if talk.ask("DELETE", f"/clusters/{cluster['uuid']}").status_code == 204:
            talk.until(cluster["uuid"], "gone")


def _clean(talk: Talk) -> None:
    _clear_clusters(talk)
    for who in ("operator", "outsider"):
        for template in talk.ask("GET", "/clustertemplates", who=who).json()["clustertemplates"]:
            if template["name"].startswith("talk-"):
                talk.ask("DELETE", f"/clustertemplates/{template['uuid']}", who=who)
    user = talk.cloud.ids["operator"]
    path = f"/users/{user}/application_credentials"
    for held in talk.ask("GET", path, service="identity").json()["application_credentials"]:
        if held["name"].startswith("talk-"):
            talk.ask("DELETE", f"{path}/{held['id']}", service="identity")


def _identity(talk: Talk) -> None:
    cloud = talk.cloud
    account, me = cloud.accounts["operator"], cloud.ids["operator"]
    tokens = "/auth/tokens"

    def sign(label: str, body: Any, **how: Any) -> requests.Response:
        return talk.say(f"keystone: {label}", "POST", tokens, who=None, service="identity", json=body, **how)

    talk.say("keystone: version", "GET", "", who=None, service="identity")
    scoped = sign("password", password_body(account))
    project = scoped.json()["token"]["project"]["id"]
    sign("password, without catalog", password_body(account), params={"nocatalog": ""})
    unscoped = sign("unscoped", password_body(account, scope="unscoped"))
    sign("wrong password", password_body(account, password="wrong"))
    sign("unknown user", password_body(Account("nobody", "x", "kcloud")))
    sign("unknown project", password_body(Account(account.name, account.password, "nowhere")))
    sign("project without a role", password_body(Account(account.name, account.password, cloud.accounts["outsider"].project)))
    sign("no auth", {})
    sign("unknown method", {"auth": {"identity": {"methods": ["palm"]}}})
    by_token = {"identity": {"methods": ["token"], "token": {"id": unscoped.headers["X-Subject-Token"]}}}
    sign("rescoped", {"auth": {**by_token, "scope": {"project": {"id": project}}}})
    sign("unknown token", {"auth": {"identity": {"methods": ["token"], "token": {"id": "x"}}}})
    mine = {"X-Subject-Token": scoped.headers["X-Subject-Token"]}
    for method in ("GET", "HEAD"):
        talk.say(f"keystone: {method} own token", method, tokens, service="identity", headers=mine)
    talk.say("keystone: token of somebody else", "GET", tokens, service="identity", who="viewer", headers=mine)
    talk.say("keystone: no such token", "GET", tokens, service="identity", headers={"X-Subject-Token": "x"})
    talk.say("keystone: checked without a token", "GET", tokens, service="identity", who=None, headers=mine)
    talk.say("keystone: revoked", "DELETE", tokens, service="identity", headers=mine)
    talk.say("keystone: after that", "GET", tokens, service="identity", headers=mine)
    talk.say("keystone: projects", "GET", "/auth/projects", service="identity")
    talk.say("keystone: catalog", "GET", "/auth/catalog", service="identity")
    talk.say("keystone: users, by a member", "GET", "/users", service="identity")
    talk.say("keystone: new project, by a member", "POST", "/projects", service="identity", json={"project": {"name": "talk"}})
    talk.say("keystone: no such user", "GET", "/users/0", service="identity", who="admin")
    talk.say("keystone: myself", "GET", f"/users/{me}", service="identity")
    talk.say("keystone: no such page", "GET", "/nothing", service="identity")
    _credentials(talk, sign, f"/users/{me}/application_credentials")


def _credentials(talk: Talk, sign: Any, path: str) -> None:
    wanted = {"application_credential": {"name": "talk-credential", "roles": [{"name": "reader"}]}}
    made = talk.say("credential: made", "POST", path, service="identity", json=wanted).json()["application_credential"]
    talk.say("credential: twice", "POST", path, service="identity", json=wanted)
    beyond = {"application_credential": {"name": "talk-beyond", "roles": [{"name": "admin"}]}}
    talk.say("credential: with a role that one lacks", "POST", path, service="identity", json=beyond)
    talk.say("credential: listed", "GET", path, service="identity", params={"name": "talk-credential"})
    talk.say("credential: shown", "GET", f"{path}/{made['id']}", service="identity")
    talk.say("credential: by another member", "GET", path, service="identity", who="viewer")
    by_id = {"id": made["id"], "secret": made["secret"]}
    method = {"methods": ["application_credential"]}
    sign("credential", {"auth": {"identity": {**method, "application_credential": by_id}}})
    named = {"name": made["name"], "secret": made["secret"], "user": {"name": "operator", "domain": {"name": "Default"}}}
    signed = sign("credential by name", {"auth": {"identity": {**method, "application_credential": named}}})
    sign("credential, wrong secret", {"auth": {"identity": {**method, "application_credential": {**by_id, "secret": "x"}}}})
    sign("credential, unknown", {"auth": {"identity": {**method, "application_credential": {"id": "x", "secret": "x"}}}})
    held = {"X-Auth-Token": signed.headers.get("X-Subject-Token", "")}
    talk.say("credential: makes none itself", "POST", path, service="identity", json=wanted, who=None, headers=held)
    talk.say("credential: a reader's", "POST", "/clusters", json={}, who=None, headers=held)
    talk.say("credential: removed", "DELETE", f"{path}/{made['id']}", service="identity")
    talk.say("credential: then", "GET", f"{path}/{made['id']}", service="identity")
    sign("credential, removed", {"auth": {"identity": {**method, "application_credential": by_id}}})


def _templates(talk: Talk) -> None:
    path = "/clustertemplates"
    for label, changes in (
        ("without an image", {"image_id": None}),
        ("unknown image", {"image_id": "nothing"}),
        ("unknown flavor", {"flavor_id": "nothing"}),
        ("unknown keypair", {"keypair_id": "nothing"}),
        ("unknown network", {"external_network_id": "nothing"}),
        ("unknown coe", {"coe": "swarm"}),
        ("unknown field", {"nothing": 1}),
        ("unknown network driver", {"network_driver": "nothing"}),
        ("unknown server type", {"server_type": "nothing"}),
        ("unknown volume driver", {"volume_driver": "nothing"}),
        ("devicemapper without a volume", {"docker_storage_driver": "devicemapper"}),
        ("bad name", {"name": "1abc"}),
        ("labels that are a list", {"labels": ["x"]}),
        ("public, by a member", {"public": True}),
        ("a volume of zero", {"docker_volume_size": 0}),
    ):
        body = {key: value for key, value in {**_TEMPLATE, **changes}.items() if value is not None}
        answer = talk.say(f"template: {label}", "POST", path, json=body)
        if answer.status_code == 201:
            talk.ask("DELETE", f"{path}/{answer.json()['uuid']}")
    talk.say("template: by a reader", "POST", path, json=_TEMPLATE, who="viewer")
    made = talk.say("template: made", "POST", path, json=_TEMPLATE).json()
    talk.say("template: shown", "GET", f"{path}/{made['uuid']}")
    talk.say("template: shown by name", "GET", f"{path}/talk-template")
    talk.say("template: shown to a reader", "GET", f"{path}/talk-template", who="viewer")
    talk.say("template: shown to another project", "GET", f"{path}/{made['uuid']}", who="outsider")
    talk.say("template: unknown", "GET", f"{path}/nothing")
    listed = talk.ask("GET", path).json()["clustertemplates"]
    talk.heard["template: in the list"] = talk._plain(next(t for t in listed if t["uuid"] == made["uuid"]))
    detailed = talk.ask("GET", f"{path}/detail").json()["clustertemplates"]
    talk.heard["template: in detail"] = talk._plain(next(t for t in detailed if t["uuid"] == made["uuid"]))
    patch = [{"op": "replace", "path": "/flavor_id", "value": "cpu.small"}]
    talk.say("template: changed", "PATCH", f"{path}/{made['uuid']}", json=patch)
    talk.say("template: changed back", "PATCH", f"{path}/{made['uuid']}", json=[{**patch[0], "value": "gpu.a100.large"}])
    talk.say("template: changed to nonsense", "PATCH", f"{path}/{made['uuid']}", json=[{**patch[0], "path": "/nothing"}])
    talk.say("template: changed by a reader", "PATCH", f"{path}/{made['uuid']}", json=patch, who="viewer")
    second = talk.say("template: of the same name", "POST", path, json=_TEMPLATE).json()
    talk.say("template: one of two", "GET", f"{path}/talk-template")
    talk.say("template: removed", "DELETE", f"{path}/{second['uuid']}")
    talk.say("template: removed again", "DELETE", f"{path}/{second['uuid']}")
    theirs = talk.say("template: another project's", "POST", path, json={**_TEMPLATE, "name": "talk-theirs"}, who="outsider")
    talk.say(
        "cluster: of another project's template", "POST", "/clusters", json=_cluster(cluster_template_id=theirs.json()["uuid"])
    )
    talk.ask("DELETE", f"{path}/{theirs.json()['uuid']}", who="outsider")


def _cluster(**changes: Any) -> dict[str, Any]:
    body = {"name": "talk-cluster", "cluster_template_id": "talk-template", "labels": QUICK, **changes}
    return {key: value for key, value in body.items() if value is not ...}


def _refusals(talk: Talk) -> None:
    path = "/clusters"
    for label, changes, how in (
        ("unknown template", {"cluster_template_id": "nothing"}, {}),
        ("unknown template at 1.1", {"cluster_template_id": "nothing"}, {"version": None}),
        ("no template", {"cluster_template_id": ...}, {}),
        ("no nodes at 1.9", {"node_count": 0}, {"version": "1.9"}),
        ("node_count -1", {"node_count": -1}, {}),
        ("node_count x", {"node_count": "x"}, {}),
        ("master_count 0", {"master_count": 0}, {}),
        ("master_count 2", {"master_count": 2}, {}),
        ("master_count 3 without a load balancer", {"master_count": 3}, {}),
        ("unknown flavor", {"flavor_id": "nothing"}, {}),
        ("unknown keypair", {"keypair": "nothing"}, {}),
        ("name 1abc", {"name": "1abc"}, {}),
        ("name with a blank", {"name": "p m"}, {}),
        ("empty name", {"name": ""}, {}),
        ("long name", {"name": "a" * 243}, {}),
        ("unknown field", {"nothing": 1}, {}),
        ("a status", {"status": "CREATE_COMPLETE"}, {}),
        ("a project", {"project_id": "x"}, {}),
        ("labels that are a string", {"labels": "x"}, {}),
        ("a label that is a list", {"labels": {"a": ["b"]}}, {}),
        ("create_timeout -1", {"create_timeout": -1}, {}),
        ("by a reader", {}, {"who": "viewer"}),
    ):
        talk.say(f"cluster: {label}", "POST", path, json=_cluster(**changes), **how)
    talk.say("cluster: no JSON", "POST", path, data=b"{", headers={"Content-Type": "application/json"})
    talk.say("cluster: a list", "POST", path, json=[])
    talk.say("cluster: no body", "POST", path, headers={"Content-Type": "application/json"})
    talk.say("cluster: text", "POST", path, data=b"x", headers={"Content-Type": "text/plain"})
    talk.say("cluster: no token", "GET", path, who=None)
    talk.say("cluster: bad token", "GET", path, who=None, headers={"X-Auth-Token": "nonsense"})
    unscoped = requests.post(
        f"{talk.cloud.auth_url}/auth/tokens", json=password_body(talk.cloud.accounts["operator"], scope="unscoped"), timeout=30
    )
    token = {"X-Auth-Token": unscoped.headers["X-Subject-Token"]}
    talk.say("cluster: unscoped token", "GET", path, who=None, headers=token)
    talk.say("cluster: unscoped token writes", "POST", path, who=None, headers=token, json=_cluster())
    for method in ("GET", "DELETE", "PATCH"):
        talk.say(f"cluster: {method} of an unknown one", method, f"{path}/nothing", json=[] if method == "PATCH" else None)
    talk.say("cluster: PUT", "PUT", f"{path}/nothing", json={})
    for query in ("limit=0", "limit=-1", "limit=x", "sort_dir=up", "sort_key=nothing", "sort_key=labels", "status=x", "marker=x",
                  "marker=6ec6ad6b-5f26-4b35-8b9f-dd65aa2b46a8"):  # fmt: skip
        talk.say(f"clusters?{query}", "GET", f"{path}?{query}")
    for version in ("1.15", "1.0", "2.0", "x", "1", "latest", "1.14"):
        talk.say(f"version {version}", "GET", "/clusters/nothing", version=version)
    long_form = {"OpenStack-API-Version": "container-infrastructure-management 1.10"}
    talk.say("version, long form", "GET", "/clusters/nothing", version=None, headers=long_form)
    talk.say(
        "version of another service", "GET", "/clusters/nothing", version=None, headers={"OpenStack-API-Version": "compute 2.1"}
    )
    talk.say("resize without a version", "POST", f"{path}/nothing/actions/resize", version=None, json={"node_count": 1})
    talk.say("upgrade at 1.7", "POST", f"{path}/nothing/actions/upgrade", version="1.7", json={})
    talk.say("node groups at 1.8", "GET", f"{path}/nothing/nodegroups", version="1.8")
    talk.say("no such page", "GET", "/nothing")
    talk.say("no such action", "POST", f"{path}/nothing/actions/nothing", json={})
    talk.say("magnum: root", "GET", "", version=None)
    time.sleep(5 * talk.cloud.pace)  # until lists show it
    _clear_clusters(talk)  # what was accepted after all


def _life(talk: Talk) -> None:
    path = "/clusters"
    made = talk.say("cluster: made", "POST", path, json=_cluster(node_count=2)).json()["uuid"]
    talk.until(made, "CREATE_COMPLETE")
    one = f"{path}/{made}"
    talk.say("cluster: complete", "GET", one)
    talk.say("cluster: complete, at 1.1", "GET", one, version=None)
    talk.say("cluster: complete, at 1.14", "GET", one, version="1.14")
    talk.say("cluster: by name", "GET", f"{path}/talk-cluster")
    talk.say("cluster: for a reader", "GET", one, who="viewer")
    talk.say("cluster: for another project", "GET", one, who="outsider")
    talk.say("cluster: removed by another project", "DELETE", one, who="outsider")
    talk.say("cluster: removed by a reader", "DELETE", one, who="viewer")
    talk.say("cluster: for an administrator", "GET", one, who="admin")
    _changes(talk, one)
    talk.say("cluster: resized", "POST", f"{one}/actions/resize", json={"node_count": 3})
    talk.until(made, "UPDATE_IN_PROGRESS", "UPDATE_COMPLETE")
    talk.until(made, "UPDATE_COMPLETE")
    talk.say("cluster: after resize", "GET", one)
    talk.say("cluster: upgraded", "POST", f"{one}/actions/upgrade", json={"cluster_template": "talk-template", "max_batch_size": 1})
    talk.until(made, "UPDATE_COMPLETE")
    talk.say("template: removed while in use", "DELETE", "/clustertemplates/talk-template")
    talk.say("template: changed while in use", "PATCH", "/clustertemplates/talk-template",
             json=[{"op": "replace", "path": "/flavor_id", "value": "cpu.small"}])  # fmt: skip
    talk.say("template: renamed while in use", "PATCH", "/clustertemplates/talk-template",
             json=[{"op": "replace", "path": "/name", "value": "talk-renamed"}])  # fmt: skip
    talk.ask("PATCH", "/clustertemplates/talk-renamed", json=[{"op": "replace", "path": "/name", "value": "talk-template"}])
    _certificates(talk, made)
    twin = talk.say("cluster: of the same name", "POST", path, json=_cluster(labels={**QUICK, "rig_fail": "create"}, node_count=0))
    failed = twin.json()["uuid"]
    talk.until(failed, "CREATE_FAILED")
    talk.say("cluster: one of two", "GET", f"{path}/talk-cluster")
    talk.say("cluster: failed", "GET", f"{path}/{failed}")
    talk.say("cluster: failed, resized", "POST", f"{path}/{failed}/actions/resize", json={"node_count": 3})
    time.sleep(1)
    talk.say("cluster: failed, after resize", "GET", f"{path}/{failed}")
    talk.say("cluster: removed", "DELETE", f"{path}/{failed}")
    talk.say("cluster: removed again", "DELETE", f"{path}/{failed}")
    talk.until(failed, "gone")
    talk.say("cluster: gone", "GET", f"{path}/{failed}")
    talk.say("cluster: removed when gone", "DELETE", f"{path}/{failed}")
    _merged(talk)


def _changes(talk: Talk, one: str) -> None:
    for label, body, how in (
        ("resize without a count", {}, {}),
        ("resize to -1", {"node_count": -1}, {}),
        ("resize to x", {"node_count": "x"}, {}),
        ("resize to 0 at 1.9", {"node_count": 0}, {"version": "1.9"}),
        ("resize of an unknown group", {"node_count": 1, "nodegroup": "nothing"}, {}),
        ("resize of masters to 3", {"node_count": 3, "nodegroup": "default-master"}, {}),
        ("resize of masters to 2", {"node_count": 2, "nodegroup": "default-master"}, {}),
        ("resize with an unknown field", {"node_count": 1, "nothing": 1}, {}),
        ("resize by a reader", {"node_count": 1}, {"who": "viewer"}),
        ("resize by another project", {"node_count": 1}, {"who": "outsider"}),
    ):
        talk.say(f"cluster: {label}", "POST", f"{one}/actions/resize", json=body, **how)
    for label, change in (
        ("labels", [{"op": "replace", "path": "/labels", "value": "x"}]),
        ("a label", [{"op": "add", "path": "/labels/a", "value": "b"}]),
        ("name", [{"op": "replace", "path": "/name", "value": "talk-other"}]),
        ("stack_id", [{"op": "replace", "path": "/stack_id", "value": "x"}]),
        ("an unknown field", [{"op": "replace", "path": "/nothing", "value": "x"}]),
        ("node_count x", [{"op": "replace", "path": "/node_count", "value": "x"}]),
        ("node_count -1", [{"op": "replace", "path": "/node_count", "value": -1}]),
        ("a list", [{"op": "replace", "path": "/node_count", "value": [1]}]),
        ("an unknown operation", [{"op": "nothing", "path": "/node_count", "value": 1}]),
        ("no path", [{"op": "replace", "value": 1}]),
        ("no list", {"node_count": 1}),
        ("nothing", []),
    ):
        talk.say(f"cluster: PATCH of {label}", "PATCH", one, json=change)
    for label, body in (
        ("nothing", {}),
        ("unknown template", {"cluster_template": "nothing", "max_batch_size": 1}),
        ("no batch size", {"cluster_template": "talk-template"}),
        ("batch of 0", {"cluster_template": "talk-template", "max_batch_size": 0}),
    ):
        talk.say(f"cluster: upgrade, {label}", "POST", f"{one}/actions/upgrade", json=body)


def _certificates(talk: Talk, cluster: str) -> None:
    talk.say("certificate: of the authority", "GET", f"/certificates/{cluster}")
    talk.say("certificate: unknown cluster", "GET", "/certificates/nothing")
    talk.say("certificate: for a reader", "GET", f"/certificates/{cluster}", who="viewer")
    talk.say("certificate: for another project", "GET", f"/certificates/{cluster}", who="outsider")
    talk.say("certificate: signed", "POST", "/certificates", json={"cluster_uuid": cluster, "csr": _csr()})
    talk.say("certificate: nothing to sign", "POST", "/certificates", json={"cluster_uuid": cluster})


def _csr() -> str:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.x509.oid import NameOID

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:masters"), x509.NameAttribute(NameOID.COMMON_NAME, "a")]
    )
    made = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    return made.public_bytes(serialization.Encoding.PEM).decode()


def _merged(talk: Talk) -> None:
    for label, body in (
        ("replaced", {"labels": {**QUICK, "kube_tag": "v1.30.0"}}),
        ("merged", {"labels": {**QUICK, "kube_tag": "v1.30.0", "mine": "yes"}, "merge_labels": True}),
        ("inherited", {"labels": ...}),
        ("typed", {"labels": {**QUICK, "a": 1, "b": True, "c": 1.5}, "create_timeout": 7, "docker_volume_size": 5}),
        ("odd counts", {"node_count": "3", "keypair": None}),
        ("count of 1.5", {"node_count": 1.5}),
    ):
        name = f"talk-{label.replace(' ', '-').replace('.', '-')}"
        uuid = talk.say(f"labels: {label}", "POST", "/clusters", json=_cluster(name=name, **body)).json()["uuid"]
        talk.until(uuid, "CREATE_COMPLETE")
        talk.say(f"labels: {label}, shown", "GET", f"/clusters/{uuid}")
        talk.ask("DELETE", f"/clusters/{uuid}")


def _lists(talk: Talk) -> None:
    for name in ("replaced", "merged", "inherited", "typed", "odd-counts", "count-of-1-5"):
        talk.until(f"talk-{name}", "gone")
    for path in ("/clusters", "/clusters/detail"):
        rows = talk.ask("GET", path).json()["clusters"]
        talk.heard[f"list: a row of {path}"] = talk._plain(next(row for row in rows if row["name"] == "talk-cluster"))
        page = talk.ask("GET", f"{path}?limit=1&sort_key=updated_at&sort_dir=desc").json()
        talk.heard[f"list: next of {path}"] = talk._plain(page["next"])
        talk.heard[f"list: keys of {path}"] = sorted(page)
    talk.say("list: nobody else's", "GET", "/clusters?limit=1000", who="outsider")
    talk.say("statistics", "GET", "/stats?project_id=nothing")
    talk.say("services, for a member", "GET", "/mservices")
    talk.say("services", "GET", "/mservices", who="admin")
    project = talk.cloud.ids["operator.project"]
    talk.say("quota: of another project", "GET", "/quotas/nothing/Cluster")
    talk.say("quota: set by a member", "POST", "/quotas", json={"project_id": project, "resource": "Cluster", "hard_limit": 5})
    talk.say("quota: all, for a member", "GET", "/quotas?all_tenants=true")
    other = talk.cloud.ids["outsider.project"]
    talk.ask("DELETE", f"/quotas/{other}/Cluster", who="admin")
    wanted = {"project_id": other, "resource": "Cluster", "hard_limit": 0}
    talk.say("quota: set", "POST", "/quotas", json=wanted, who="admin")
    talk.say("quota: set twice", "POST", "/quotas", json=wanted, who="admin")
    talk.say("quota: shown", "GET", f"/quotas/{other}/Cluster", who="admin")
    talk.say("quota: changed", "PATCH", f"/quotas/{other}/Cluster", json={**wanted, "hard_limit": 0}, who="admin")
    talk.ask("POST", "/clustertemplates", json={**_TEMPLATE, "name": "talk-theirs"}, who="outsider")
    talk.say("quota: reached", "POST", "/clusters", json=_cluster(cluster_template_id="talk-theirs"), who="outsider")
    talk.say("quota: removed", "DELETE", f"/quotas/{other}/Cluster", who="admin")
    talk.say("quota: removed again", "DELETE", f"/quotas/{other}/Cluster", who="admin")
    talk.say("quota: of a project that is not there", "POST", "/quotas", json={**wanted, "project_id": "nothing"}, who="admin")


def _groups(talk: Talk) -> None:
    path = "/clusters/talk-cluster/nodegroups"
    talk.say("groups: listed", "GET", path)
    talk.say("groups: listed by role", "GET", f"{path}?role=worker")
    talk.say("groups: for another project", "GET", path, who="outsider")
    talk.say("groups: shown", "GET", f"{path}/default-worker")
    talk.say("groups: shown at 1.14", "GET", f"{path}/default-worker", version="1.14")
    talk.say("groups: unknown", "GET", f"{path}/nothing")
    gpu = {"name": "gpu", "flavor_id": "gpu.h100.xlarge", "node_count": 2, "min_node_count": 1, "max_node_count": 3}
    for label, changes, how in (
        ("by a reader", {}, {"who": "viewer"}),
        ("without a name", {"name": ...}, {}),
        ("twice the same name", {"name": "default-worker"}, {}),
        ("as masters", {"role": "master"}, {}),
        ("unknown flavor", {"flavor_id": "nothing"}, {}),
        ("more than most", {"node_count": 4}, {}),
        ("less than least", {"node_count": 0}, {}),
        ("least over most", {"min_node_count": 5}, {}),
        ("unknown field", {"nothing": 1}, {}),
        ("empty at 1.9", {"name": "empty", "node_count": 0, "min_node_count": 0}, {"version": "1.9"}),
        ("with a restricted label", {"node_labels": {"kubernetes.io/a": "b"}}, {"version": "1.14"}),
        ("with a bad taint", {"node_taints": [{"key": "a", "effect": "b"}]}, {"version": "1.14"}),
    ):
        body = {key: value for key, value in {**gpu, **changes}.items() if value is not ...}
        talk.say(f"groups: made {label}", "POST", path, json=body, **how)
    time.sleep(talk.cloud.pace)
    talk.until("talk-cluster", "UPDATE_COMPLETE")
    talk.say("groups: made", "POST", path, json=gpu)
    talk.until("talk-cluster", "UPDATE_IN_PROGRESS")
    talk.until("talk-cluster", "UPDATE_COMPLETE")
    talk.say("groups: made, shown", "GET", f"{path}/gpu")
    talk.say("groups: made, in its cluster", "GET", "/clusters/talk-cluster")
    talk.say("groups: made, listed", "GET", path)
    talk.say("groups: resized too far", "POST", "/clusters/talk-cluster/actions/resize", json={"node_count": 4, "nodegroup": "gpu"})
    talk.say(
        "groups: resized too little", "POST", "/clusters/talk-cluster/actions/resize", json={"node_count": 0, "nodegroup": "gpu"}
    )
    talk.say("groups: name changed", "PATCH", f"{path}/gpu", json=[{"op": "replace", "path": "/name", "value": "x"}])
    talk.say("groups: most under count", "PATCH", f"{path}/gpu", json=[{"op": "replace", "path": "/max_node_count", "value": 1}])
    talk.say("groups: most changed", "PATCH", f"{path}/gpu", json=[{"op": "replace", "path": "/max_node_count", "value": 5}])
    talk.until("talk-cluster", "UPDATE_COMPLETE")
    talk.say("groups: default removed", "DELETE", f"{path}/default-worker")
    talk.say("groups: unknown removed", "DELETE", f"{path}/nothing")
    talk.say("groups: removed", "DELETE", f"{path}/gpu")
    talk.until("talk-cluster", "UPDATE_IN_PROGRESS")
    talk.until("talk-cluster", "UPDATE_COMPLETE")
    talk.say("groups: removed, then", "GET", f"{path}/gpu")


def _neighbours(talk: Talk) -> None:
    nova = {"service": "compute"}
    talk.say("nova: version", "GET", "/", **nova)
    flavors = talk.say("nova: flavors", "GET", "/flavors", **nova).json()["flavors"]
    talk.say("nova: flavors in detail", "GET", "/flavors/detail", **nova)
    one = next(flavor["id"] for flavor in flavors if flavor["name"] == "npu.furiosa.large")
    talk.say("nova: flavor", "GET", f"/flavors/{one}", **nova)
    talk.say("nova: flavor at 2.61", "GET", f"/flavors/{one}", headers={"OpenStack-API-Version": "compute 2.61"}, **nova)
    talk.say("nova: flavor's specs", "GET", f"/flavors/{one}/os-extra_specs", **nova)
    talk.say("nova: unknown flavor", "GET", "/flavors/nothing", **nova)
    talk.say("nova: keypairs", "GET", "/os-keypairs", **nova)
    talk.say("nova: no keypair of a reader", "GET", "/os-keypairs", who="viewer", **nova)
    talk.say("nova: keypair", "GET", "/os-keypairs/kcloud-keypair", **nova)
    talk.say("nova: unknown keypair", "GET", "/os-keypairs/nothing", **nova)
    talk.say("nova: bad token", "GET", "/flavors", who=None, headers={"X-Auth-Token": "x"}, **nova)
    talk.say("nova: limits", "GET", "/limits", **nova)
    talk.say("nova: servers of nobody", "GET", "/servers/detail?name=nothing", **nova)
    glance = {"service": "image"}
    prefix = "" if talk.cloud.endpoints["image"].endswith("/v2") else "/v2"
    image = talk.say("glance: images", "GET", f"{prefix}/images?name=ubuntu-24.04-kube-v1.33.1", **glance).json()["images"][0]
    talk.say("glance: image", "GET", f"{prefix}/images/{image['id']}", **glance)
    talk.say("glance: unknown image", "GET", f"{prefix}/images/nothing", **glance)
    neutron = {"service": "network"}
    prefix = "" if talk.cloud.endpoints["network"].endswith("/v2.0") else "/v2.0"
    for name in ("public", "kcloud-net"):
        talk.say(f"neutron: {name}", "GET", f"{prefix}/networks?name={name}", **neutron)
    talk.say("neutron: kcloud-net for another project", "GET", f"{prefix}/networks?name=kcloud-net", who="outsider", **neutron)
    talk.say("neutron: unknown network", "GET", f"{prefix}/networks/nothing", **neutron)


def compare(real: Any, here: Any, place: str = "") -> Iterator[str]:
    """Where two answers differ, a line each."""
    if isinstance(real, dict) and isinstance(here, dict):
        for key in sorted(real.keys() | here.keys()):
            where = f"{place}.{key}" if place else key
            if key not in here:
                yield f"{where}: missing, really {json.dumps(real[key])[:300]}"
            elif key not in real:
                yield f"{where}: is {json.dumps(here[key])[:200]}, really there is none"
            else:
                yield from compare(real[key], here[key], where)
    elif isinstance(real, list) and isinstance(here, list):
        if len(real) != len(here):
            yield f"{place}: {len(here)} entries, really {len(real)}"
        for number, (left, right) in enumerate(zip(real, here, strict=False)):
            yield from compare(left, right, f"{place}[{number}]")
    elif real != here:
        yield f"{place}: is {json.dumps(here)[:300]}, really {json.dumps(real)[:300]}"


def clouds(path: Path, prefix: str = "rig") -> Cloud:
    """The accounts of a clouds.yaml with the entries rig, rig-operator, rig-viewer and rig-outsider."""
    import yaml

    known = yaml.safe_load(path.read_text())["clouds"]
    accounts = {}
    for who in ("admin", "operator", "viewer", "outsider"):
        auth = known[prefix if who == "admin" else f"{prefix}-{who}"]["auth"]
        project = known[f"{prefix}-operator"]["auth"]["project_name"] if who == "admin" else auth["project_name"]
        accounts[who] = Account(auth["username"], auth["password"], project)
    return Cloud(known[prefix]["auth"]["auth_url"], accounts)


def main() -> None:
    """Ask the real services and write down what they say."""
    heard = hold(clouds(Path(sys.argv[1])))
    lines = [f"{json.dumps(label)}: {json.dumps(answer, sort_keys=True)}" for label, answer in heard.items()]
    RECORDING.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    print(f"{len(heard)} answers")  # noqa: T201 - a command's result


if __name__ == "__main__":
    main()
