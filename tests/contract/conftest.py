"""The clouds that the suites of this folder run against.

Real services are taken from OS_CLOUD in OS_CLIENT_CONFIG_FILE; the user must be an administrator there, because projects, users
and a public template are made. TEST_OS_PROJECT (default kcloud) names the project to work in.
"""

import importlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.contract.subjects import Login, Subject, fake, on_the_wire


def _simulator() -> Iterator[Subject]:
    try:
        testing = importlib.import_module("simulator.testing")
    except ModuleNotFoundError as exc:
        pytest.skip(f"the simulator can't be imported: {exc}")
    with (
        testing.running_simulator() as running,
        on_the_wire(Login(running.auth_url, "admin", "secretpassword", "kcloud"), "kcloud") as subject,
    ):
        yield subject


def _real() -> Iterator[Subject]:
    if "OS_CLIENT_CONFIG_FILE" not in os.environ or "OS_CLOUD" not in os.environ:
        pytest.skip("OS_CLIENT_CONFIG_FILE and OS_CLOUD name no real services")
    clouds = yaml.safe_load(Path(os.environ["OS_CLIENT_CONFIG_FILE"]).read_text(encoding="utf-8"))["clouds"]
    named = clouds[os.environ["OS_CLOUD"]]
    auth = named["auth"]
    login = Login(
        auth["auth_url"],
        auth["username"],
        auth["password"],
        auth["project_name"],
        region=named.get("region_name", "RegionOne"),
        domain=auth.get("user_domain_name", "Default"),
    )
    with on_the_wire(login, os.environ.get("TEST_OS_PROJECT", "kcloud")) as subject:
        yield subject


def _fake() -> Iterator[Subject]:
    yield fake()


SUBJECTS = {"fake": _fake, "simulator": _simulator, "real": _real}


@pytest.fixture(scope="module", params=list(SUBJECTS))
def _subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    yield from SUBJECTS[request.param]()


@pytest.fixture
def subject(_subject: Subject) -> Iterator[Subject]:
    yield _subject
    _subject.clean()
