"""What a cluster is: what was asked for, what Magnum says, and the phase that follows from both."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, NamedTuple
from uuid import UUID

#: Magnum's rule for names, read from the API's answer (400 for others).
NAME_PATTERN: Final = r"^[a-zA-Z][a-zA-Z0-9_.-]*\Z"
MAGNUM_NAME_MAX: Final = 242
#: A dash and eight characters of the job's id end the name in Magnum, so that a create whose answer was lost is found again.
SUFFIX_LENGTH: Final = 9
NAME_MAX: Final = MAGNUM_NAME_MAX - SUFFIX_LENGTH
#: Magnum's API knows no upper bound (it takes 2**31 nodes); one of ours keeps a slip of the finger out.
NODE_COUNT_MAX: Final = 1000
MASTER_COUNT_MAX: Final = 7
#: The group of workers that every cluster has, by Magnum's name for it.
DEFAULT_GROUP: Final = "default-worker"

#: Labels that this system sets on every cluster it makes.
LABEL_JOB: Final = "kcloud_job_id"
LABEL_CLUSTER: Final = "kcloud_cluster_id"
RESERVED_LABEL_PREFIX: Final = "kcloud_"


class Scope(NamedTuple):
    """Where clusters live: one project in one region. Credentials, ticks and lists are per scope."""

    region: str
    project_id: str


class Phase(StrEnum):
    """A cluster's life in one word, as `GET /clusters/{id}/status` shows it."""

    PENDING = "Pending"  #: accepted; Magnum has not been asked yet, or has not answered
    PROVISIONING = "Provisioning"  #: Magnum is creating it
    READY = "Ready"  #: created or updated, and nothing is under way
    UPDATING = "Updating"  #: a change is under way
    HIBERNATED = "Hibernated"  #: its workers are at zero and will come back
    DELETING = "Deleting"  #: it is being removed
    FAILED = "Failed"  #: the last change failed, or the cluster vanished; `reason` says why


class MagnumStatus(StrEnum):
    """Magnum's own states (magnum/objects/fields.py); another string is read as UNKNOWN and waited on, never guessed."""

    CREATE_IN_PROGRESS = "CREATE_IN_PROGRESS"
    CREATE_FAILED = "CREATE_FAILED"
    CREATE_COMPLETE = "CREATE_COMPLETE"
    UPDATE_IN_PROGRESS = "UPDATE_IN_PROGRESS"
    UPDATE_FAILED = "UPDATE_FAILED"
    UPDATE_COMPLETE = "UPDATE_COMPLETE"
    DELETE_IN_PROGRESS = "DELETE_IN_PROGRESS"
    DELETE_FAILED = "DELETE_FAILED"
    DELETE_COMPLETE = "DELETE_COMPLETE"
    RESUME_COMPLETE = "RESUME_COMPLETE"
    RESUME_FAILED = "RESUME_FAILED"
    RESTORE_COMPLETE = "RESTORE_COMPLETE"
    ROLLBACK_IN_PROGRESS = "ROLLBACK_IN_PROGRESS"
    ROLLBACK_FAILED = "ROLLBACK_FAILED"
    ROLLBACK_COMPLETE = "ROLLBACK_COMPLETE"
    SNAPSHOT_COMPLETE = "SNAPSHOT_COMPLETE"
    CHECK_COMPLETE = "CHECK_COMPLETE"
    ADOPT_COMPLETE = "ADOPT_COMPLETE"
    UNKNOWN = "UNKNOWN"

    @classmethod
    def parse(cls, text: str | None) -> "MagnumStatus":
        """The state that ``text`` names, or UNKNOWN."""
        try:
            return cls(text or "")
        except ValueError:
            return cls.UNKNOWN

    @property
    def in_progress(self) -> bool:
        """Magnum is working on the cluster."""
        return self.value.endswith("_IN_PROGRESS")

    @property
    def complete(self) -> bool:
        """The last operation ended well and the cluster exists."""
        return self.value.endswith("_COMPLETE") and self is not MagnumStatus.DELETE_COMPLETE

    @property
    def failed(self) -> bool:
        """The last operation ended badly."""
        return self.value.endswith("_FAILED")


@dataclass(frozen=True, slots=True)
class ClusterSpec:
    """What is asked of Magnum for a new cluster. Counts are nodes; `template` is Magnum's id or name."""

    name: str
    template: str
    node_count: int
    master_count: int
    keypair: str | None
    labels: dict[str, str]
    options: dict[str, Any] = field(default_factory=dict)  #: flavor_id, master_flavor_id, create_timeout, fixed_network, ...


@dataclass(frozen=True, slots=True)
class ObservedCluster:
    """A cluster as Magnum showed it. ``node_count`` is the sum over all node groups but masters; times are Magnum's."""

    uuid: str
    name: str
    raw_status: str
    node_count: int
    master_count: int
    status_reason: str | None = None
    health_status: str | None = None
    health_status_reason: dict[str, Any] | None = None
    updated_at: datetime | None = None
    created_at: datetime | None = None
    template_id: str | None = None
    keypair: str | None = None
    flavor: str | None = None
    master_flavor: str | None = None
    labels: dict[str, str] = field(default_factory=dict)
    api_address: str | None = None
    coe_version: str | None = None
    stack_id: str | None = None
    faults: dict[str, Any] = field(default_factory=dict)
    project_id: str | None = None  #: whose it is; an administrator's lists have every project's

    @property
    def status(self) -> MagnumStatus:
        """The state, UNKNOWN where Magnum says a word we do not know."""
        return MagnumStatus.parse(self.raw_status)


@dataclass(frozen=True, slots=True)
class NodeGroup:
    """A node group as Magnum shows it. Counts are nodes; ``most`` None means that Magnum sets no bound."""

    uuid: str
    name: str
    role: str
    node_count: int
    flavor: str | None = None
    image: str | None = None
    least: int = 0
    most: int | None = None
    is_default: bool = False
    status: str | None = None
    status_reason: str | None = None
    labels: dict[str, str] = field(default_factory=dict)
    created_at: datetime | None = None
    updated_at: datetime | None = None

    @property
    def is_master(self) -> bool:
        """Whether it holds the control plane."""
        return self.role == "master"


@dataclass(frozen=True, slots=True)
class NodeGroupSpec:
    """What is asked of Magnum for a new node group."""

    name: str
    node_count: int
    flavor: str | None = None
    image: str | None = None
    role: str = "worker"
    least: int | None = None
    most: int | None = None
    labels: dict[str, str] = field(default_factory=dict)
    merge_labels: bool = True


@dataclass(frozen=True, slots=True)
class Cluster:
    """One cluster as its row says: the desired part is ours, the observed part Magnum's last word."""

    id: UUID
    project_id: str
    region: str
    name: str
    template_id: str
    node_count: int  #: workers wanted
    master_count: int
    created_at: datetime
    updated_at: datetime
    phase: Phase = Phase.PENDING
    magnum_name: str | None = None
    magnum_uuid: str | None = None
    managed: bool = True  #: False: made by others, noticed by inventory; watched, never changed on our own account
    live: bool = True  #: holds its name; False once deleted, gone, or never made
    gone: bool = False  #: vanished from Magnum without our doing
    template_name: str | None = None
    keypair: str | None = None
    flavor: str | None = None
    master_flavor: str | None = None
    labels: dict[str, str] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    reason: str | None = None  #: stable code of what is wrong or waited for
    reason_detail: str | None = None
    status: str | None = None  #: Magnum's word
    status_reason: str | None = None
    health_status: str | None = None
    health_status_reason: dict[str, Any] | None = None
    observed_node_count: int | None = None
    observed_master_count: int | None = None
    api_address: str | None = None
    coe_version: str | None = None
    stack_id: str | None = None
    generation: int = 1  #: counts accepted changes of what is wanted
    observed_generation: int = 0  #: the generation last seen fulfilled in the cloud
    magnum_created_at: datetime | None = None
    magnum_updated_at: datetime | None = None
    first_seen_at: datetime | None = None
    observed_at: datetime | None = None  #: when Magnum was last asked about it
    deleted_at: datetime | None = None
    created_by: str | None = None
    hibernated_sizes: dict[str, int] | None = None  #: workers per node group before it was hibernated; None while awake
    network_stack_id: UUID | None = None  #: the stack of its isolated network

    @property
    def scope(self) -> Scope:
        """The project and region it lives in."""
        return Scope(self.region, self.project_id)


def magnum_name(name: str, job_id: UUID) -> str:
    """The cluster's name in Magnum: names are not unique there, so the creating job's mark is part of it."""
    return f"{name}-{job_id.hex[-8:]}"
