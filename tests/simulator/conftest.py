"""A simulator for the tests of a module, and someone to speak with it."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from simulator.seed import ACCOUNTS
from simulator.testing import Running, running_simulator
from tests.simulator.talking import Account, Cloud, Talk
from tests.waiting import wait_until

TEMPLATE = "cpu-only-template"
#: Work that is done at once, and work that a test lets pass by the clock.
QUICK = {f"rig_{work}_seconds": "0.05" for work in ("create", "update", "delete")}
SLOW = {f"rig_{work}_seconds": "600" for work in ("create", "update", "delete")}


class Caller(Talk):
    """The operator and others, with what the tests ask for often."""

    def __init__(self, running: Running) -> None:
        super().__init__(Cloud(running.auth_url, {who: Account(who, *ACCOUNTS[who][:2]) for who in ACCOUNTS}, pace=0.02))
        self.control: Callable[..., Any] = running.control
        self.url = running.url

    def make(self, name: str, *, template: str = TEMPLATE, labels: dict[str, str] | None = None, **body: Any) -> str:
        """A cluster's uuid, as soon as it is there."""
        given = {"name": name, "cluster_template_id": template, "labels": QUICK if labels is None else labels, **body}
        answer = self.ask("POST", "/clusters", json=given)
        assert answer.status_code == 202, answer.text
        uuid = str(answer.json()["uuid"])
        wait_until(lambda: self.ask("GET", f"/clusters/{uuid}").status_code == 200, what=f"{name} is there")
        return uuid

    def made(self, name: str, **body: Any) -> str:
        """The uuid of a cluster that is complete."""
        uuid = self.make(name, **body)
        self.until(uuid, "CREATE_COMPLETE")
        return uuid

    def shown(self, uuid: str) -> Any:
        """A cluster."""
        answer = self.ask("GET", f"/clusters/{uuid}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def fault(self, kind: str, **how: Any) -> Any:
        """Script a fault."""
        return self.control("POST", "/faults", {"kind": kind, **how})

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.control("POST", "/clock", {"advance_s": seconds})


@pytest.fixture(scope="module")
def simulator() -> Iterator[Running]:
    with running_simulator() as running:
        yield running


@pytest.fixture
def caller(simulator: Running) -> Iterator[Caller]:
    """Signed in anew for each test, which leaves no fault behind."""
    caller = Caller(simulator)
    for who in ("operator", "admin"):
        caller.cloud.sign_in(who)
    yield caller
    simulator.control("DELETE", "/faults")
    simulator.control("POST", "/settings", {"quota": 1000, "accept_s": 0.05, "half_written_s": 0.05, "token_s": 36000})
