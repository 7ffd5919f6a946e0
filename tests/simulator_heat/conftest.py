"""A simulator for the tests of this folder, and accounts to speak to it with."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import requests
from keystoneauth1.identity import v3
from keystoneauth1.session import Session
from openstack.connection import Connection

from simulator.seed import ACCOUNTS
from simulator.testing import Running, running_simulator

#: Quick clusters and stacks: a test waits for no longer than it must.
QUICK = {"rig_create_seconds": "0.1", "rig_update_seconds": "0.1", "rig_delete_seconds": "0.1"}


@dataclass
class Caller:
    """Someone with a token, who sees answers as they are."""

    url: str
    token: str
    project: str

    def ask(self, method: str, path: str, body: Any = None, **options: Any) -> requests.Response:
        """A request to ``/{service}/...``; redirections are not followed."""
        headers = {"X-Auth-Token": self.token, **options.pop("headers", {})}
        return requests.request(
            method, f"{self.url}{path}", json=body, headers=headers, timeout=30, allow_redirects=False, **options
        )

    def network(self, method: str, path: str, body: Any = None) -> requests.Response:
        return self.ask(method, f"/network/v2.0{path}", body)

    def heat(self, method: str, path: str, body: Any = None) -> requests.Response:
        return self.ask(method, f"/orchestration/v1/{self.project}{path}", body)


@pytest.fixture(scope="module")
def simulator() -> Iterator[Running]:
    with running_simulator() as running:
        running.control("POST", "/heat", {"seconds": 0.1})
        yield running


@pytest.fixture(scope="module")
def caller(simulator: Running) -> Callable[..., Caller]:
    """Signs a user of the seed in."""

    def sign_in(user: str) -> Caller:
        password, project, _ = ACCOUNTS[user]
        who = {"name": user, "domain": {"name": "Default"}, "password": password}
        scope = {"project": {"name": project, "domain": {"name": "Default"}}}
        body = {"auth": {"identity": {"methods": ["password"], "password": {"user": who}}, "scope": scope}}
        answer = requests.post(f"{simulator.auth_url}/auth/tokens", json=body, timeout=30)
        answer.raise_for_status()
        return Caller(simulator.url, answer.headers["X-Subject-Token"], answer.json()["token"]["project"]["id"])

    return sign_in


@pytest.fixture(scope="module")
def member(caller: Callable[..., Caller]) -> Caller:
    return caller("operator")


@pytest.fixture(scope="module")
def cloud(simulator: Running) -> Iterator[Connection]:
    """openstacksdk, as the operator of project kcloud."""
    password, project, _ = ACCOUNTS["operator"]
    plugin = v3.Password(
        simulator.auth_url,
        username="operator",
        password=password,
        project_name=project,
        user_domain_name="Default",
        project_domain_name="Default",
    )
    connection = Connection(session=Session(plugin), region_name="RegionOne")
    yield connection
    connection.close()
