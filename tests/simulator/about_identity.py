"""The part of the conversation that is with Keystone."""

from typing import Any

import requests

from tests.simulator.talking import Account, Talk, password_body


def identity(talk: Talk) -> None:
    """Tokens and who may have them."""
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
