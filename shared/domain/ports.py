"""What the use cases need from the world. `bootstrap` alone knows the classes behind these."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, Protocol, TypeVar
from uuid import UUID

from shared.domain.clusters import Cluster, ClusterSpec, NodeGroup, NodeGroupSpec, ObservedCluster, Scope
from shared.domain.idleness import Placed, Usage
from shared.domain.jobs import Job
from shared.domain.stacks import Leftover, ObservedStack, Stack, StackResource

T = TypeVar("T")


class Clock(Protocol):
    """The time, so that tests can hold it."""

    def now(self) -> datetime:
        """Aware UTC."""
        ...


@dataclass(frozen=True, slots=True)
class Actor:
    """Who asks: a user in a project, with Keystone's roles."""

    user_id: str
    project_id: str
    roles: frozenset[str]
    user_name: str = ""
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class Template:
    """A Magnum cluster template, as far as requests are checked against it."""

    uuid: str
    name: str
    coe: str
    flavor: str | None
    master_flavor: str | None
    keypair: str | None
    labels: dict[str, str] = field(default_factory=dict)
    master_lb_enabled: bool = False
    image: str | None = None
    driver: str | None = None
    image_os: str | None = None  #: the image's os_distro, by which Magnum chooses a driver where none is named
    created_at: datetime | None = None
    network_driver: str | None = None


@dataclass(frozen=True, slots=True)
class Flavor:
    """A Nova flavor: cores, memory in MiB, and its extra specs."""

    id: str
    name: str
    vcpus: int
    ram_mb: int
    extra_specs: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Catalog:
    """What a project can build clusters from, as read at ``read_at``."""

    templates: tuple[Template, ...]
    flavors: tuple[Flavor, ...]
    keypairs: frozenset[str]
    read_at: datetime
    image_os: Mapping[str, str] = field(default_factory=dict)  #: os_distro of each image, by id and by name; "" where it has none

    def template(self, ref: str) -> Template | None:
        """By id, or by a name that only one has."""
        named = [t for t in self.templates if ref in (t.uuid, t.name)]
        exact = [t for t in named if t.uuid == ref]
        if exact:
            return exact[0]
        return named[0] if len(named) == 1 else None

    def flavor(self, ref: str) -> Flavor | None:
        """By id or name."""
        return next((f for f in self.flavors if ref in (f.id, f.name)), None)


class CloudGateway(Protocol):
    """One project's Magnum in one region. Every call is bounded in time and raises only :class:`CloudError`."""

    def find(self, name: str) -> ObservedCluster | None:
        """The one cluster of this Magnum name; None if there is none. Raises CloudRejected where several have it."""
        ...

    def get(self, uuid: str) -> ObservedCluster | None:
        """One cluster of the project; None where Magnum answers 404, or shows another project's to an administrator."""
        ...

    def page(self, *, limit: int, marker: str | None = None, newest_first: bool = False) -> list[ObservedCluster]:
        """Some clusters in detail: in the order of their making after ``marker``, or the latest changed first.

        To a user who is an administrator Magnum lists every project's: look at ``project_id``. Fewer than ``limit`` mean the
        end. Raises CloudNotFound where the cluster of ``marker`` has gone.
        """
        ...

    def create(self, spec: ClusterSpec) -> str:
        """Ask for a cluster; its uuid. Made once: a lost answer raises with ``executed=None``."""
        ...

    def resize(self, uuid: str, node_count: int, *, node_group: str | None = None, remove: Sequence[str] = ()) -> None:
        """Ask for ``node_count`` workers in a group, by default the default one; ``remove`` names the nodes that should go."""
        ...

    def node_groups(self, uuid: str, *, detailed: bool = False) -> list[NodeGroup]:
        """All node groups, the default worker group first and masters last. Bounds are known only with ``detailed``.

        Raises CloudNotFound where the cluster is gone.
        """
        ...

    def add_node_group(self, uuid: str, spec: NodeGroupSpec) -> str:
        """Ask for one more group; its uuid. Magnum refuses a name that the cluster has already (CloudRejected)."""
        ...

    def remove_node_group(self, uuid: str, node_group: str) -> bool:
        """Ask for a group's removal; False where there was none of that name."""
        ...

    def upgrade(self, uuid: str, template: str, *, max_batch_size: int, node_group: str | None = None) -> None:
        """Ask for another template's version, so many nodes at a time."""
        ...

    def authority(self, uuid: str) -> str:
        """The certificate of the cluster's certificate authority, as PEM."""
        ...

    def sign(self, uuid: str, request: str) -> str:
        """The certificate that the authority makes of a signing request (PEM); it is as long valid as Magnum's settings say."""
        ...

    def delete(self, uuid: str) -> bool:
        """Ask for removal; False where there was nothing to remove."""
        ...

    def find_template(self, name: str) -> str | None:
        """The uuid of the cluster template of this name, the oldest of several; None where there is none."""
        ...

    def create_template(self, body: Mapping[str, Any]) -> str:
        """Make a cluster template; its uuid. The same name may be given twice."""
        ...

    def delete_template(self, uuid: str) -> bool:
        """Remove a cluster template; False where there was none. Raises CloudRejected while clusters have it."""
        ...

    def catalog(self) -> Catalog:
        """Templates, flavors and keypairs that the project can use."""
        ...


class StackGateway(Protocol):
    """One project's Heat in one region. Each call raises a CloudError; see its ``executed`` after a change."""

    def get(self, ref: str) -> ObservedStack | None:
        """One stack by id or name; None where there is none."""
        ...

    def listed(self) -> list[ObservedStack]:
        """All stacks of ours, without outputs."""
        ...

    def create(self, name: str, template: str, parameters: Mapping[str, Any], *, timeout_minutes: int) -> str:
        """Ask for a stack out of a HOT document; its id. Raises CloudRejected (conflict) where the name is taken."""
        ...

    def update(self, ref: str, name: str, template: str, parameters: Mapping[str, Any], *, timeout_minutes: int) -> None:
        """Ask that a stack become what the document and parameters say."""
        ...

    def delete(self, ref: str, name: str) -> bool:
        """Ask for removal; False where there was nothing to remove."""
        ...

    def preview(self, name: str, template: str, parameters: Mapping[str, Any]) -> list[StackResource]:
        """What a new stack would make."""
        ...

    def preview_update(self, ref: str, name: str, template: str, parameters: Mapping[str, Any]) -> dict[str, list[StackResource]]:
        """What an update would add, delete, replace, update and leave as it is."""
        ...

    def resources(self, ref: str, name: str) -> list[StackResource]:
        """What a stack made."""
        ...

    def subnets(self) -> list[tuple[str, str]]:
        """Name and address range of each IPv4 subnet that the project sees."""
        ...

    def external_networks(self) -> list[str]:
        """Names of the networks that lead to the outside."""
        ...

    def carrying(self, marks: Sequence[str]) -> dict[str, list[Leftover]]:
        """Ports, floating IPs, load balancers and volumes with one of these words in name, description, tags or metadata."""
        ...


class Cloud(Protocol):
    """All scopes this installation can act in."""

    def gateway(self, scope: Scope) -> CloudGateway:
        """The gateway of one scope. Raises CloudAuthFailed where no credential fits."""
        ...

    def stacks(self, scope: Scope) -> StackGateway:
        """The same for Heat."""
        ...

    def can_act(self, scope: Scope) -> bool:
        """Whether some credential reaches this project. Raises CloudUnavailable where Keystone does not answer."""
        ...

    def own_scope(self) -> Scope:
        """The service's own project."""
        ...

    def project_of(self, application_credential_id: str, secret: str) -> str:
        """The project that an application credential belongs to. Raises CloudAuthFailed where Keystone refuses it."""
        ...

    def groups_of(self, user_id: str, token: str) -> list[str]:
        """The ids of the Keystone groups that a user is in, asked with the user's own token.

        Raises CloudUnavailable where Keystone does not answer.
        """
        ...

    def forget(self, scope: Scope) -> None:
        """The scope's credentials changed."""
        ...

    def ping(self) -> dict[str, str]:
        """State of each service that the catalog names, for /health: "up", or what went wrong."""
        ...


class UsageSource(Protocol):
    """What clusters are used for, as measured inside them."""

    def usage(self, cluster_ids: Sequence[UUID], *, since: datetime) -> Mapping[UUID, Usage]:
        """The highest value of each measure since then, and when it was last measured; what was not measured is None.

        A cluster that is missing was not measured at all. Raises KcloudError where it can't tell.
        """
        ...


class PlacementSource(Protocol):
    """Which clusters have capacity that is held for workloads."""

    def placed(self, cluster_ids: Sequence[UUID]) -> Mapping[UUID, Placed]:
        """By cluster; one that is missing never had a placement. Raises KcloudError where it can't tell."""
        ...


@dataclass(frozen=True, slots=True)
class Received:
    """What a receiver of a webhook made of it: its HTTP status (None: it did not answer), and what went wrong."""

    status: int | None
    error: str | None = None


class WebhookSender(Protocol):
    """Posts to addresses that users name. Bounded in time, follows no redirect, never raises."""

    def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Received:
        """Post once."""
        ...

    def forbids(self, url: str) -> str | None:
        """Why nothing is ever sent to such an address, as far as the address itself tells; None where it may be."""
        ...


class Dispatcher(Protocol):
    """Hints to workers. Losing one costs time, never work. Each call raises Unavailable where the broker is away."""

    def waiting(self) -> int:
        """How many hints about jobs wait in the broker."""
        ...

    def send_job(self, job: Job) -> None:
        """Tell a worker that this job is due."""
        ...

    def send_tick(self, scope: Scope) -> None:
        """Tell a worker that this scope should be looked at."""
        ...

    def send_inventory(self, scope: Scope) -> None:
        """Tell a worker that this scope's whole list is due."""
        ...


class Announcer(Protocol):
    """Tells the job's end to whoever watches Celery's event stream (Flower)."""

    def finished(self, job: Job) -> None:
        """The job reached its end; never raises."""
        ...


@dataclass(frozen=True, slots=True)
class Idempotency:
    """A caller's key for one request, and the request's fingerprint."""

    key: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Accepted:
    """What a mutating request led to. ``replayed``: an earlier request of the same key made it."""

    cluster: Cluster
    job: Job
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class AcceptedStack:
    """The same for a stack."""

    stack: Stack
    job: Job
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class ClusterFilter:
    """Which clusters to list. None means any."""

    status: str | None = None  #: a phase or one of Magnum's statuses
    workload_type: str | None = None
    managed: bool | None = None


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs to list. None means any."""

    state: str | None = None
    kind: str | None = None
    cluster_id: UUID | None = None
    stack_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Some objects and the marker after which the next page begins; None on the last page."""

    items: Sequence[T]
    next_marker: str | None = None
