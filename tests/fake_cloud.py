"""A cloud in memory that behaves as Magnum was seen to (openstack-facts.md), and that can be told to misbehave.

It passes the same contract suite as the simulator and real services (tests/contract), and may be used because of that.
Its answers of 400 and above are built as HTTP answers and go through the gateway's own translation. Nothing happens between
calls: each call first lets the time that has passed since the last one do its work.
"""

import itertools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, NoReturn, TypeVar
from uuid import UUID, uuid4, uuid5

import requests

from shared.domain.clusters import NAME_PATTERN, ClusterSpec, NodeGroup, NodeGroupSpec, ObservedCluster, Scope
from shared.domain.ports import Catalog, Clock, Flavor, Template
from shared.errors import CloudAuthFailed, CloudTimeout
from shared.openstack.catalog import template_from
from shared.openstack.errors import error_of
from tests.authority import AUTHORITY
from tests.builders import KEYPAIR, OTHER_PROJECT, PROJECT, REGION, a_flavor, a_template
from tests.fake_heat import FakeHeat, FakeStackGateway

T = TypeVar("T")

#: How long Magnum's conductor takes to begin an accepted write, and to write a new cluster's node groups after its row.
LAG_S = 0.05
WRITING_S = 0.05
DEFAULT_WORK_S = 5.0
_OPTIONS = frozenset({"flavor_id", "master_flavor_id", "create_timeout", "docker_volume_size", "fixed_network", "fixed_subnet"}) | {
    "floating_ip_enabled",
    "merge_labels",
}
_NO_HOST = "Resource CREATE failed: ResourceInError: resources.kube_masters: Message: No valid host was found., Code: 500"


class WorkerKilled(BaseException):
    """What a test raises in the place of ``kill -9``: no handler of the product catches it."""


class Trouble(StrEnum):
    """What can go wrong with one call."""

    LOST = "lost"  #: no answer, not executed
    LOST_EXECUTED = "lost_executed"  #: no answer, but executed
    UNAVAILABLE = "unavailable"  #: 503 out of a gateway in between
    THROTTLED = "throttled"  #: 429
    KILLED_BEFORE = "killed_before"  #: the worker dies before the call leaves
    KILLED_AFTER = "killed_after"  #: the worker dies after it was executed, before it reads the answer
    DROPPED = "dropped"  #: accepted, and dropped by the conductor without a word


@dataclass
class Fault:
    """One piece of trouble for the next call of ``operation``. ``meanwhile`` runs before the call is executed."""

    operation: str
    trouble: Trouble | None
    meanwhile: Callable[[], None] | None = None


@dataclass
class FakeCluster:
    """One cluster inside the cloud."""

    uuid: str
    number: int
    name: str
    project_id: str
    labels: dict[str, str]
    template: Template
    groups: dict[str, int]
    masters: int
    keypair: str | None
    flavor: str | None
    master_flavor: str | None
    created_at: datetime
    whole_at: datetime  #: until then Magnum refuses to show it
    status: str = "CREATE_IN_PROGRESS"
    status_reason: str | None = None
    updated_at: datetime | None = None
    work: tuple[str, datetime] | None = None  #: what the driver does, and when it will have done it
    failed_deletes: int = 0
    api_address: str | None = None
    faults: dict[str, str] = field(default_factory=dict)
    added: dict[str, NodeGroupSpec] = field(default_factory=dict)  #: groups besides the default one

    options: dict[str, Any] = field(default_factory=dict)
    removed: list[str] = field(default_factory=list)  #: nodes that callers chose to go

    def node_groups(self) -> list[NodeGroup]:
        """As Magnum shows them, the default group first and the masters last."""
        shown = []
        for name, count in self.groups.items():
            spec = self.added.get(name, NodeGroupSpec(name, count, flavor=self.flavor))
            shown.append(
                NodeGroup(
                    uuid=str(uuid5(UUID(self.uuid), name)),
                    name=name,
                    role=spec.role,
                    node_count=count,
                    flavor=spec.flavor or self.flavor,
                    least=spec.least or 0,
                    most=spec.most,
                    is_default=name == "default-worker",
                    status=self.status,
                )
            )
        masters = NodeGroup(
            uuid=str(uuid5(UUID(self.uuid), "master")),
            name="default-master",
            role="master",
            node_count=self.masters,
            flavor=self.master_flavor,
            least=1,
            is_default=True,
            status=self.status,
        )
        return [*shown, masters]

    def seen(self) -> ObservedCluster:
        """As Magnum shows it."""
        return ObservedCluster(
            uuid=self.uuid,
            name=self.name,
            raw_status=self.status,
            status_reason=self.status_reason,
            node_count=sum(self.groups.values()),
            master_count=self.masters,
            health_status="HEALTHY" if self.api_address else None,
            updated_at=self.updated_at,
            created_at=self.created_at,
            template_id=self.template.uuid,
            keypair=self.keypair,
            flavor=self.flavor,
            master_flavor=self.master_flavor,
            labels=dict(self.labels),
            api_address=self.api_address,
            coe_version=self.labels.get("kube_tag") if self.api_address else None,
            stack_id=f"stack-{self.number}",
            faults=dict(self.faults) if self.status.endswith("_FAILED") else {},
            project_id=self.project_id,
        )


class FakeCloud:
    """All scopes (the port ``Cloud``). Knows the projects PROJECT and OTHER_PROJECT; acts in those of ``allowed``."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.reset()

    def reset(self) -> None:
        """As new."""
        self.heat = FakeHeat(self.clock)
        self.groups: dict[str, list[str]] = {}  #: of each user
        self.allowed = {PROJECT, OTHER_PROJECT}
        self.templates: list[Template] = [a_template()]
        self.owners: dict[str, str] = {}  #: the project of each template that is not public
        self.flavors: list[Flavor] = [
            a_flavor("cpu.large"),
            a_flavor("gpu.a100.large", vcpus=32, ram_mb=131072, pci_passthrough__alias="a100:4"),
            a_flavor("npu.intel.medium", accel__device_profile="npu-intel-x2"),
            a_flavor("cpu.medium", vcpus=8),
        ]
        self.keypairs = {KEYPAIR}
        self.image_os = {"ubuntu-24.04-kube-v1.33.1": "ubuntu", "plain": ""}
        self.quotas: dict[str, int] = {}  #: clusters that a project may have; 1000 where nothing is said
        self.administrator = False  #: lists show every project's clusters, as Magnum does for an administrator
        self.conductor_up = True
        self.lag_s = LAG_S
        self.writing_s = WRITING_S
        self.faults: list[Fault] = []
        self.clusters: dict[str, FakeCluster] = {}
        self.made: list[FakeCluster] = []  #: every cluster that ever came to be
        self.accepted_late: set[str] = set()  #: names of clusters whose create was accepted while the conductor was away
        self.calls: list[str] = []
        self._accepted: list[tuple[datetime | None, Callable[[datetime], None]]] = []
        self._numbers = itertools.count(1)

    # -- the port ---------------------------------------------------------------------------------------------------

    def gateway(self, scope: Scope) -> "FakeGateway":
        if not self.can_act(scope):
            raise CloudAuthFailed("The request you have made requires authentication.", upstream_status=401)
        return FakeGateway(self, scope)

    def stacks(self, scope: Scope) -> FakeStackGateway:
        return FakeStackGateway(self.heat, scope.project_id)

    def can_act(self, scope: Scope) -> bool:
        return scope.project_id in self.allowed

    def own_scope(self) -> Scope:
        return Scope(REGION, PROJECT)

    def project_of(self, application_credential_id: str, secret: str) -> str:
        if secret != f"secret-of-{application_credential_id}":
            raise CloudAuthFailed("The request you have made requires authentication.", upstream_status=401)
        return application_credential_id.partition("@")[2] or PROJECT

    def groups_of(self, user_id: str, token: str) -> list[str]:
        del token
        return self.groups.get(user_id, [])

    def forget(self, scope: Scope) -> None:
        self.calls.append(f"forget {scope.project_id}")

    def ping(self) -> dict[str, str]:
        return {"identity": "up", "magnum": "up"}

    # -- what tests do to it ------------------------------------------------------------------------------------------

    def start_conductor(self, reorder: Callable[[int], list[int]] | None = None) -> None:
        """The conductor is back: what was accepted meanwhile is executed now, in the order that ``reorder`` gives."""
        self.conductor_up = True
        now = self.clock.now()
        order = reorder(len(self._accepted)) if reorder else range(len(self._accepted))
        waiting = self._accepted
        self._accepted = [(now, waiting[index][1]) for index in order]
        self.advance()

    def vanish(self, uuid: str) -> None:
        """Somebody removes a cluster behind everybody's back."""
        self.clusters.pop(uuid, None)

    def put_foreign(self, uuid: str, name: str, project_id: str = PROJECT, **changes: Any) -> FakeCluster:
        """A cluster that somebody made without this service, complete."""
        now = self.clock.now().replace(microsecond=0)
        made = FakeCluster(
            uuid=uuid,
            number=len(self.clusters) + 1,
            name=name,
            project_id=project_id,
            labels={},
            template=self.templates[0],
            groups={"default-worker": 2},
            masters=1,
            keypair=None,
            flavor="cpu.large",
            master_flavor="cpu.large",
            created_at=now,
            whole_at=now,
            status="CREATE_COMPLETE",
            updated_at=now,
            api_address="https://10.9.9.9:6443",
        )
        self.clusters[uuid] = replace(made, **changes)
        return self.clusters[uuid]

    def settle(self) -> None:
        """Whatever is under way ends at the next call."""
        for cluster in self.clusters.values():
            if cluster.work:
                cluster.work = (cluster.work[0], self.clock.now())
        self.advance()

    # -- its inside -----------------------------------------------------------------------------------------------------

    def accept(self, execute: Callable[[datetime], None]) -> None:
        """Magnum's API has said yes; the conductor does it a moment later, or when it is back."""
        self._accepted.append((self.clock.now() + timedelta(seconds=self.lag_s) if self.conductor_up else None, execute))

    def advance(self) -> None:
        """Let the time that has passed do its work."""
        now = self.clock.now()
        ready = [(at, execute) for at, execute in self._accepted if at is not None and at <= now]
        self._accepted = [(at, execute) for at, execute in self._accepted if at is None or at > now]
        for at, execute in ready:
            if at is not None:
                self._finish_work(at)
                execute(at)
        self._finish_work(now)

    def _finish_work(self, now: datetime) -> None:
        for cluster in list(self.clusters.values()):
            if cluster.work is not None and cluster.work[1] <= now:
                self._finish(cluster, *cluster.work)

    def _finish(self, cluster: FakeCluster, verb: str, at: datetime) -> None:
        cluster.work = None
        fails = verb in cluster.labels.get("rig_fail", "").split(",")
        if verb == "delete" and fails and cluster.failed_deletes == 0:
            cluster.failed_deletes = 1
        elif verb == "delete":
            self.clusters.pop(cluster.uuid, None)
            return
        cluster.updated_at = at.replace(microsecond=0)
        cluster.status = f"{verb.upper()}_{'FAILED' if fails else 'COMPLETE'}"
        cluster.status_reason = None
        if fails:
            cluster.status_reason = cluster.labels.get("rig_fail_reason", _NO_HOST)
            cluster.faults = {"default-worker": cluster.status_reason}
        else:
            cluster.api_address = cluster.api_address or f"https://10.0.{cluster.number // 250}.{cluster.number % 250}:6443"

    def begin(self, cluster: FakeCluster, verb: str, now: datetime) -> None:
        """The driver begins."""
        cluster.status = f"{verb.upper()}_IN_PROGRESS"
        cluster.status_reason = None
        cluster.updated_at = now.replace(microsecond=0)
        seconds = float(cluster.labels.get(f"rig_{verb}_seconds", DEFAULT_WORK_S))
        cluster.work = (verb, now + timedelta(seconds=seconds))

    def next_number(self) -> int:
        """For the order of making."""
        return next(self._numbers)

    def refuse(self, status: int, words: str, *, mutating: bool, retry_after: str | None = None) -> NoReturn:
        """Answer as Magnum does when it says no."""
        response = requests.Response()
        response.status_code = status
        error = {"request_id": "", "code": "client", "status": status, "title": words, "detail": words, "links": []}
        response._content = json.dumps({"errors": [error]}).encode()
        response.headers["x-openstack-request-id"] = f"req-{uuid4()}"
        if retry_after:
            response.headers["Retry-After"] = retry_after
        raise error_of(response, mutating=mutating)

    def take_fault(self, operation: str) -> Fault | None:
        """The trouble that was ordered for this call."""
        for index, fault in enumerate(self.faults):
            if fault.operation == operation or (fault.operation == "any" and operation != "catalog"):
                return self.faults.pop(index)
        return None


class FakeGateway:
    """One project's Magnum (the port ``CloudGateway``)."""

    def __init__(self, cloud: FakeCloud, scope: Scope) -> None:
        self._cloud = cloud
        self._scope = scope

    def find(self, name: str) -> ObservedCluster | None:
        return self._reading("find", lambda: self._one(name))

    def get(self, uuid: str) -> ObservedCluster | None:
        return self._reading("get", lambda: self._one(uuid))

    def page(self, *, limit: int, marker: str | None = None, newest_first: bool = False) -> list[ObservedCluster]:
        return self._reading("page", lambda: self._page(min(limit, 1000), marker, newest_first=newest_first))

    def node_groups(self, uuid: str, *, detailed: bool = False) -> list[NodeGroup]:
        del detailed
        return self._reading("node_groups", lambda: self._known(uuid, mutating=False).node_groups())

    def authority(self, uuid: str) -> str:
        def read() -> str:
            self._known(uuid, mutating=False)
            return AUTHORITY.pem()

        return self._reading("authority", read)

    def sign(self, uuid: str, request: str) -> str:
        def write(_drop: bool) -> str:
            self._known(uuid, mutating=True)
            return AUTHORITY.sign(request)

        return self._writing("sign", write)

    def find_template(self, name: str) -> str | None:
        def read() -> str | None:
            named = [template for template in self._templates() if template.name == name]
            return min(named, key=lambda one: (str(one.created_at), one.uuid)).uuid if named else None

        return self._reading("find_template", read)

    def create_template(self, body: Mapping[str, Any]) -> str:
        def write(_drop: bool) -> str:
            if body["image_id"] not in self._cloud.image_os:
                self._cloud.refuse(400, f"Image {body['image_id']} could not be found.", mutating=True)
            now = self._cloud.clock.now().replace(microsecond=0).isoformat()
            made = template_from({**body, "uuid": str(uuid4()), "created_at": now}, self._cloud.image_os)
            self._cloud.templates.append(made)
            if not body.get("public"):
                self._cloud.owners[made.uuid] = self._scope.project_id
            return made.uuid

        return self._writing("create_template", write)

    def delete_template(self, uuid: str) -> bool:
        def write(_drop: bool) -> bool:
            found = next((template for template in self._templates() if template.uuid == uuid), None)
            if found is None:
                return False
            if any(cluster.template.uuid == uuid for cluster in self._cloud.clusters.values()):
                self._cloud.refuse(400, f"ClusterTemplate {uuid} is referenced by one or multiple clusters.", mutating=True)
            self._cloud.templates.remove(found)
            return True

        return self._writing("delete_template", write)

    def _templates(self) -> list[Template]:
        owners = self._cloud.owners
        return [template for template in self._cloud.templates if owners.get(template.uuid) in {None, self._scope.project_id}]

    def catalog(self) -> Catalog:
        cloud = self._cloud
        return self._reading(
            "catalog",
            lambda: Catalog(
                tuple(self._templates()), tuple(cloud.flavors), frozenset(cloud.keypairs), cloud.clock.now(), dict(cloud.image_os)
            ),
        )

    def create(self, spec: ClusterSpec) -> str:
        return self._writing("create", lambda drop: self._create(spec, drop=drop))

    def resize(self, uuid: str, node_count: int, *, node_group: str | None = None, remove: Sequence[str] = ()) -> None:
        self._writing("resize", lambda drop: self._resize(uuid, node_count, node_group, drop=drop))
        self._cloud.clusters[uuid].removed += remove

    def add_node_group(self, uuid: str, spec: NodeGroupSpec) -> str:
        return self._writing("add_node_group", lambda drop: self._add_group(uuid, spec, drop=drop))

    def remove_node_group(self, uuid: str, node_group: str) -> bool:
        return self._writing("remove_node_group", lambda drop: self._remove_group(uuid, node_group, drop=drop))

    def upgrade(self, uuid: str, template: str, *, max_batch_size: int, node_group: str | None = None) -> None:
        del max_batch_size, node_group
        self._writing("upgrade", lambda drop: self._upgrade(uuid, template, drop=drop))

    def delete(self, uuid: str) -> bool:
        return self._writing("delete", lambda drop: self._delete(uuid, drop=drop))

    # -- calls and their trouble ------------------------------------------------------------------------------------

    def _reading(self, operation: str, call: Callable[[], T]) -> T:
        cloud = self._cloud
        cloud.calls.append(operation)
        fault = cloud.take_fault(operation)
        self._meanwhile(fault, mutating=False)
        cloud.advance()
        return call()

    def _writing(self, operation: str, call: Callable[[bool], T]) -> T:
        cloud = self._cloud
        cloud.calls.append(operation)
        fault = cloud.take_fault(operation)
        self._meanwhile(fault, mutating=True)
        cloud.advance()
        trouble = fault.trouble if fault else None
        answer = call(trouble is Trouble.DROPPED)
        if trouble is Trouble.LOST_EXECUTED:
            raise CloudTimeout("Request timed out", executed=None)
        if trouble is Trouble.KILLED_AFTER:
            raise WorkerKilled
        return answer

    def _meanwhile(self, fault: Fault | None, *, mutating: bool) -> None:
        if fault is None:
            return
        if fault.meanwhile is not None:
            fault.meanwhile()
        if fault.trouble is Trouble.KILLED_BEFORE or (fault.trouble is Trouble.KILLED_AFTER and not mutating):
            raise WorkerKilled
        if fault.trouble is Trouble.LOST or (fault.trouble is Trouble.LOST_EXECUTED and not mutating):
            raise CloudTimeout("Request timed out", executed=None if mutating else False)
        if fault.trouble is Trouble.UNAVAILABLE:
            self._cloud.refuse(503, "Service Unavailable", mutating=mutating)
        if fault.trouble is Trouble.THROTTLED:
            self._cloud.refuse(429, "Too many requests", mutating=mutating, retry_after="3")

    # -- reading ------------------------------------------------------------------------------------------------------

    def _mine(self) -> list[FakeCluster]:
        return sorted((c for c in self._cloud.clusters.values() if c.project_id == self._scope.project_id), key=lambda c: c.number)

    def _show(self, cluster: FakeCluster) -> ObservedCluster:
        if self._cloud.clock.now() < cluster.whole_at:
            words = "Invalid input for field/attribute master_count. Value: '0'. Value should be greater or equal to 1"
            self._cloud.refuse(400, words, mutating=False)
        return cluster.seen()

    def _one(self, ref: str) -> ObservedCluster | None:
        by_id = [cluster for cluster in self._mine() if cluster.uuid == ref]
        found = by_id or [cluster for cluster in self._mine() if cluster.name == ref]
        if len(found) > 1:
            words = "Multiple clusters exist with same name. Please use the cluster uuid instead."
            self._cloud.refuse(409, words, mutating=False)
        return self._show(found[0]) if found else None

    def _page(self, limit: int, marker: str | None, *, newest_first: bool) -> list[ObservedCluster]:
        if limit <= 0:
            self._cloud.refuse(400, "Limit must be positive", mutating=False)
        everyone = sorted(self._cloud.clusters.values(), key=lambda cluster: cluster.number)
        ordered = everyone if self._cloud.administrator else self._mine()
        if newest_first:
            never = datetime.min.replace(tzinfo=UTC)
            ordered.sort(key=lambda cluster: (cluster.updated_at or never, cluster.number), reverse=True)
        first = 0
        if marker:
            places = [index for index, cluster in enumerate(ordered) if cluster.uuid == marker]
            if not places:
                self._cloud.refuse(404, f"Cluster {marker} could not be found.", mutating=False)
            first = places[0] + 1
        return [self._show(cluster) for cluster in ordered[first : first + limit]]

    def _known(self, uuid: str, *, mutating: bool) -> FakeCluster:
        cluster = self._cloud.clusters.get(uuid)
        if cluster is None or cluster.project_id != self._scope.project_id:
            self._cloud.refuse(404, f"Cluster {uuid} could not be found.", mutating=mutating)
        return cluster

    # -- writing ------------------------------------------------------------------------------------------------------

    def _create(self, spec: ClusterSpec, *, drop: bool) -> str:
        template = self._checked(spec)
        uuid = str(uuid4())
        labels = {**template.labels, **spec.labels} if spec.options.get("merge_labels", True) else dict(spec.labels)

        def execute(now: datetime) -> None:
            cloud = self._cloud
            cluster = FakeCluster(
                uuid=uuid,
                number=cloud.next_number(),
                name=spec.name,
                project_id=self._scope.project_id,
                labels=labels,
                template=template,
                groups={"default-worker": spec.node_count},
                masters=spec.master_count,
                keypair=spec.keypair or template.keypair,
                options=dict(spec.options),
                flavor=spec.options.get("flavor_id") or template.flavor,
                master_flavor=spec.options.get("master_flavor_id") or template.master_flavor,
                created_at=now.replace(microsecond=0),
                whole_at=now + timedelta(seconds=cloud.writing_s),
            )
            cloud.begin(cluster, "create", now)
            cloud.clusters[uuid] = cluster
            cloud.made.append(cluster)

        if not self._cloud.conductor_up:
            self._cloud.accepted_late.add(spec.name)
        if not drop:
            self._cloud.accept(execute)
        return uuid

    def _checked(self, spec: ClusterSpec) -> Template:
        def no(status: int, words: str) -> NoReturn:
            self._cloud.refuse(status, words, mutating=True)

        unknown = sorted(set(spec.options) - _OPTIONS)
        if unknown:
            no(400, f"Unknown attribute for argument cluster: {unknown[0]}")
        if not re.match(NAME_PATTERN, spec.name) or len(spec.name) > 242:
            no(400, f"Invalid input for field/attribute name. Value: '{spec.name}'. Value should match the pattern {NAME_PATTERN}")
        if spec.node_count < 0:
            no(400, _too_small(spec.node_count))
        template = next((t for t in self._cloud.templates if spec.template in (t.uuid, t.name)), None)
        if template is None:
            no(404, f"ClusterTemplate {spec.template} could not be found.")
        for option in ("flavor_id", "master_flavor_id"):
            wanted = spec.options.get(option)
            if wanted and not any(wanted in (flavor.id, flavor.name) for flavor in self._cloud.flavors):
                no(400, f"Unable to find flavor {wanted}.")
        if spec.keypair and spec.keypair not in self._cloud.keypairs:
            no(404, f"Unable to find keypair {spec.keypair}.")
        if spec.master_count % 2 == 0:
            no(400, f"master nodegroup size of {spec.master_count} is invalid, size cannot be an even number.")
        if spec.master_count > 1 and not template.master_lb_enabled:
            no(400, "master_count must be 1 when master_lb_enabled is False")
        quota = self._cloud.quotas.get(self._scope.project_id, 1000)
        if len(self._mine()) >= quota:
            no(
                403,
                "Resource limit exceeded: You have reached the maximum clusters per project,"
                f" {quota}. You may delete a cluster to make room for a new one.",
            )
        return template

    def _resize(self, uuid: str, node_count: int, node_group: str | None, *, drop: bool) -> None:
        cluster = self._known(uuid, mutating=True)
        if node_count < 0:
            self._cloud.refuse(400, _too_small(node_count), mutating=True)
        group = self._group(cluster, node_group or "default-worker")
        if node_count < group.least or (group.most is not None and node_count > group.most):
            self._cloud.refuse(
                400, f"Resizing {group.name} outside the allowed range: min_node_count = {group.least}", mutating=True
            )

        def execute(now: datetime) -> None:
            if self._changeable(cluster) and group.name in cluster.groups:
                cluster.groups[group.name] = node_count
                self._cloud.begin(cluster, "update", now)

        if not drop:
            self._cloud.accept(execute)

    def _changeable(self, cluster: FakeCluster) -> bool:
        """Else the conductor refuses, and nobody hears of it."""
        allowed = {"CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_IN_PROGRESS", "UPDATE_FAILED"}
        return cluster.uuid in self._cloud.clusters and cluster.status in allowed

    def _group(self, cluster: FakeCluster, ref: str) -> NodeGroup:
        found = next((group for group in cluster.node_groups() if ref in (group.name, group.uuid)), None)
        if found is None:
            self._cloud.refuse(404, f"Nodegroup {ref} could not be found.", mutating=True)
        return found

    def _add_group(self, uuid: str, spec: NodeGroupSpec, *, drop: bool) -> str:
        cluster = self._known(uuid, mutating=True)
        if spec.flavor and not any(spec.flavor in (flavor.id, flavor.name) for flavor in self._cloud.flavors):
            self._cloud.refuse(400, f"Unable to find flavor {spec.flavor}.", mutating=True)
        if spec.name in cluster.groups:
            words = f"A node group with name {spec.name} already exists in the cluster {cluster.name}."
            self._cloud.refuse(409, words, mutating=True)

        def execute(now: datetime) -> None:
            if self._changeable(cluster):
                cluster.groups[spec.name] = spec.node_count
                cluster.added[spec.name] = spec
                self._cloud.begin(cluster, "update", now)

        if not drop:
            self._cloud.accept(execute)
        return str(uuid5(UUID(uuid), spec.name))

    def _remove_group(self, uuid: str, ref: str, *, drop: bool) -> bool:
        cluster = self._known(uuid, mutating=True)
        found = next((group for group in cluster.node_groups() if ref in (group.name, group.uuid)), None)
        if found is None:
            return False
        if found.is_default:
            self._cloud.refuse(400, "Deleting a default nodegroup is not supported.", mutating=True)

        def execute(now: datetime) -> None:
            if self._changeable(cluster):
                cluster.groups.pop(found.name, None)
                self._cloud.begin(cluster, "update", now)

        if not drop:
            self._cloud.accept(execute)
        return True

    def _upgrade(self, uuid: str, ref: str, *, drop: bool) -> None:
        cluster = self._known(uuid, mutating=True)
        template = next((each for each in self._cloud.templates if ref in (each.uuid, each.name)), None)
        if template is None:
            self._cloud.refuse(404, f"ClusterTemplate {ref} could not be found.", mutating=True)

        def execute(now: datetime) -> None:
            if self._changeable(cluster):
                cluster.template = template
                self._cloud.begin(cluster, "update", now)

        if not drop:
            self._cloud.accept(execute)

    def _delete(self, uuid: str, *, drop: bool) -> bool:
        cluster = self._cloud.clusters.get(uuid)
        if cluster is None or cluster.project_id != self._scope.project_id:
            return False

        def execute(now: datetime) -> None:
            if cluster.uuid in self._cloud.clusters and cluster.status != "DELETE_IN_PROGRESS":
                self._cloud.begin(cluster, "delete", now)

        if not drop:
            self._cloud.accept(execute)
        return True


def _too_small(value: int) -> str:
    return f"Invalid input for field/attribute node_count. Value: '{value}'. Value should be greater or equal to 0"


def job_of(cluster: FakeCluster) -> UUID | None:
    """The job whose mark the cluster carries."""
    words = cluster.labels.get("kcloud_job_id")
    return UUID(words) if words else None
