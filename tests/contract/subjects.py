"""The clouds that the contract suite runs against, each behind the same few handles."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar
from uuid import uuid4

from keystoneauth1.identity import v3
from keystoneauth1.session import Session
from openstack.connection import Connection

from shared.domain.clusters import ClusterSpec, ObservedCluster, Scope
from shared.domain.ports import Cloud, CloudGateway
from shared.errors import CloudBeingWritten
from shared.openstack.cloud import OpenStackCloud
from shared.settings import CloudSettings
from tests.builders import KEYPAIR, OTHER_PROJECT, PROJECT, REGION, TEMPLATE_ID
from tests.clocks import ManualClock
from tests.fake_cloud import FakeCloud

T = TypeVar("T")

#: The driver of every subject reads these labels: a short life, so that a suite takes no minutes.
QUICK = {"rig_create_seconds": "1", "rig_update_seconds": "1", "rig_delete_seconds": "1"}


@dataclass
class Subject:
    """One cloud under test."""

    cloud: Cloud
    scope: Scope
    template: str
    template_labels: dict[str, str]
    keypair: str
    pause: Callable[[float], None]
    stranger: CloudGateway  #: a member of another project, in that project
    forbidden: Scope  #: a project in which the service's user has no role
    application_credential: Callable[[], tuple[str, str]]  #: id and secret of a new one, in ``scope``
    cramped: Callable[[], tuple[CloudGateway, int]]  #: a project that may have so many clusters
    login_network: Callable[[], Any]  #: Neutron as ``scope``'s administrator
    in_a_group: Callable[[], tuple[str, str, str]]  #: a user, a token of his, and the group that he is in
    timeout_s: float = 40.0
    made: list[tuple[CloudGateway, str]] = field(default_factory=list)

    @property
    def gateway(self) -> CloudGateway:
        return self.cloud.gateway(self.scope)

    def spec(self, name: str = "", *, labels: dict[str, str] | None = None, **changes: Any) -> ClusterSpec:
        values = {
            "name": name or f"contract-{uuid4().hex[:8]}",
            "template": self.template,
            "node_count": 1,
            "master_count": 1,
            "keypair": self.keypair,
            "labels": {**QUICK, **(labels or {})},
        }
        return ClusterSpec(**{**values, **changes})

    def create(self, spec: ClusterSpec, gateway: CloudGateway | None = None) -> str:
        """Create, and remember to clean up."""
        gateway = gateway or self.gateway
        uuid = gateway.create(spec)
        self.made.append((gateway, uuid))
        return uuid

    def until(self, ask: Callable[[], T], what: str) -> T:
        """Ask until the answer is true; a cluster that is being written is asked for again, as the product does."""
        waited = 0.0
        answer: T | None = None
        while waited < self.timeout_s:
            try:
                answer = ask()
            except CloudBeingWritten:
                answer = None
            if answer:
                return answer
            self.pause(0.2)
            waited += 0.2
        msg = f"not within {self.timeout_s:g} s: {what}; last answer {answer!r}"
        raise AssertionError(msg)

    def arrived(self, uuid: str, *statuses: str) -> ObservedCluster:
        """The cluster once it says one of ``statuses``."""

        def ask() -> ObservedCluster | None:
            seen = self.gateway.get(uuid)
            return seen if seen is not None and seen.raw_status in statuses else None

        seen = self.until(ask, f"{uuid} in {statuses}")
        assert seen is not None
        return seen

    def made_quick(self, **changes: Any) -> tuple[str, ObservedCluster]:
        """A cluster that is complete."""
        uuid = self.create(self.spec(**changes))
        return uuid, self.arrived(uuid, "CREATE_COMPLETE")

    def clean(self) -> None:
        """Remove what a test made, and see it gone, so that one test's end is not another's beginning."""
        for gateway, uuid in self.made:
            gateway.delete(uuid)
        for gateway, uuid in self.made:
            self.until(lambda g=gateway, u=uuid: self._gone(g, u), f"{uuid} gone")  # type: ignore[misc]
        self.made.clear()

    def _gone(self, gateway: CloudGateway, uuid: str) -> bool:
        seen = gateway.get(uuid)
        if seen is not None and seen.raw_status == "DELETE_FAILED":
            gateway.delete(uuid)
        return seen is None


def fake() -> Subject:
    """The fake, whose time is moved by hand."""
    clock = ManualClock()
    cloud = FakeCloud(clock)
    scope, other = Scope(REGION, PROJECT), Scope(REGION, OTHER_PROJECT)

    def cramped() -> tuple[CloudGateway, int]:
        cloud.quotas[OTHER_PROJECT] = 1
        return cloud.gateway(other), 1

    def in_a_group() -> tuple[str, str, str]:
        cloud.groups["user-1"] = ["group-1"]
        return "user-1", "token", "group-1"

    return Subject(
        cloud=cloud,
        scope=scope,
        template=TEMPLATE_ID,
        template_labels={"kube_tag": "v1.33.1"},
        keypair=KEYPAIR,
        pause=clock.advance,
        stranger=cloud.gateway(other),
        forbidden=Scope(REGION, "0" * 32),
        application_credential=lambda: (f"credential@{PROJECT}", f"secret-of-credential@{PROJECT}"),
        cramped=cramped,
        login_network=lambda: None,
        in_a_group=in_a_group,
    )


_TEMPLATE = "kcloud-contract"
_COE = "container-infra 1.10"


@dataclass(frozen=True)
class Login:
    """An administrator's account."""

    auth_url: str
    username: str
    password: str
    project_name: str
    region: str = REGION
    domain: str = "Default"

    def connection(self, project_id: str | None = None) -> Connection:
        """Signed in, to its own project or another one."""
        project: dict[str, Any] = {"project_id": project_id} if project_id else {"project_name": self.project_name}
        if not project_id:
            project["project_domain_name"] = self.domain
        plugin = v3.Password(self.auth_url, username=self.username, password=self.password, user_domain_name=self.domain, **project)
        return Connection(session=Session(plugin), region_name=self.region)


@contextmanager
def on_the_wire(login: Login, project: str) -> Iterator[Subject]:
    """Services that speak OpenStack's protocols: real ones, or the simulator.

    Makes what is missing: a public template, and projects for the tests of isolation and of quotas.
    """
    connection = login.connection()
    scope_id = _project(connection, project)
    stranger_id, cramped_id = (_project(connection, f"kcloud-contract-{name}") for name in ("stranger", "cramped"))
    forbidden_id = _project(connection, "kcloud-contract-forbidden", member=False)
    password = f"pw-{uuid4().hex}"
    user = _stranger(connection, stranger_id, password)
    template = _template(login.connection(scope_id))
    settings = CloudSettings(login.auth_url, login.username, login.password, login.project_name, region=login.region)
    cloud = OpenStackCloud(settings, lambda _scope: None)
    theirs = OpenStackCloud(
        CloudSettings(login.auth_url, user.name, password, "kcloud-contract-stranger", region=login.region), lambda _scope: None
    )

    def cramped() -> tuple[CloudGateway, int]:
        body = {"project_id": cramped_id, "resource": "Cluster", "hard_limit": 1}
        headers = {"OpenStack-API-Version": _COE}
        coe = connection.container_infrastructure_management
        answer = coe.post("/quotas", json=body, headers=headers)
        if answer.status_code == 409:
            answer = coe.patch(f"/quotas/{cramped_id}/Cluster", json=body, headers=headers)
        assert answer.status_code < 300, answer.text
        return cloud.gateway(Scope(settings.region, cramped_id)), 1

    credentials: list[Any] = []

    def application_credential() -> tuple[str, str]:
        scoped = login.connection(scope_id)
        made = _identity(scoped).create_application_credential(scoped.current_user_id, f"contract-{uuid4().hex[:8]}")
        credentials.append((scoped, made))
        return made.id, made.secret

    groups: list[Any] = []

    def in_a_group() -> tuple[str, str, str]:
        group = _identity(connection).create_group(name=f"contract-{uuid4().hex[:8]}", domain_id="default")
        groups.append(group)
        _identity(connection).add_user_to_group(user, group)
        member = Login(login.auth_url, user.name, password, "kcloud-contract-stranger", region=login.region, domain=login.domain)
        return user.id, str(member.connection().session.get_token()), group.id

    try:
        yield Subject(
            cloud=cloud,
            scope=Scope(settings.region, scope_id),
            template=template["uuid"],
            template_labels=template["labels"],
            keypair=KEYPAIR,
            pause=time.sleep,
            stranger=theirs.gateway(Scope(settings.region, stranger_id)),
            forbidden=Scope(settings.region, forbidden_id),
            application_credential=application_credential,
            cramped=cramped,
            login_network=lambda: login.connection(scope_id).network,
            in_a_group=in_a_group,
        )
    finally:
        for group in groups:
            _identity(connection).delete_group(group)
        for scoped, made in credentials:
            _identity(scoped).delete_application_credential(scoped.current_user_id, made)
        _identity(connection).delete_user(user)


def _identity(connection: Connection) -> Any:
    # openstacksdk types it as either version of the API; it is always the third.
    return connection.identity


def _member(identity: Any) -> Any:
    return next(iter(identity.roles(name="member")))


def _project(connection: Connection, name: str, *, member: bool = True) -> str:
    identity = _identity(connection)
    found = next(iter(identity.projects(name=name)), None) or identity.create_project(name=name, domain_id="default")
    if member:
        role = _member(identity)
        identity.assign_project_role_to_user(found, connection.current_user_id, role)
    project_id: str = found.id
    return project_id


def _stranger(connection: Connection, project_id: str, password: str) -> Any:
    identity = _identity(connection)
    user = identity.create_user(
        name=f"kcloud-contract-{uuid4().hex[:8]}", password=password, domain_id="default", default_project_id=project_id
    )
    identity.assign_project_role_to_user(project_id, user, _member(identity))
    return user


def _template(connection: Connection) -> dict[str, Any]:
    coe = connection.container_infrastructure_management
    headers = {"OpenStack-API-Version": _COE}
    answer = coe.get("/clustertemplates", headers=headers)
    for held in answer.json()["clustertemplates"]:
        if held["name"] == _TEMPLATE:
            return dict(held)
    body = {
        "name": _TEMPLATE,
        "image_id": "ubuntu-24.04-kube-v1.33.1",
        "coe": "kubernetes",
        "flavor_id": "gpu.a100.large",
        "master_flavor_id": "cpu.large",
        "external_network_id": "public",
        "keypair_id": KEYPAIR,
        "labels": {"kube_tag": "v1.33.1"},
        "public": True,
    }
    answer = coe.post("/clustertemplates", json=body, headers=headers)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())
