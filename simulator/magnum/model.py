"""Magnum's objects, and where they are kept and found."""

import threading
from dataclasses import asdict, dataclass, field
from typing import Any

from sortedcontainers import SortedDict, SortedList

from simulator.store import Store


@dataclass
class Template:
    """A cluster template; ``body`` holds what was posted."""

    uuid: str
    name: str
    project_id: str
    user_id: str
    body: dict[str, Any]
    created_at: float
    updated_at: float | None = None


@dataclass
class NodeGroup:
    """A node group of a cluster."""

    uuid: str
    name: str
    role: str
    flavor_id: str | None
    image_id: str | None
    node_count: int
    is_default: bool
    min_node_count: int
    max_node_count: int | None
    status: str
    created_at: float
    updated_at: float
    number: int
    labels: dict[str, str] = field(default_factory=dict)
    status_reason: str | None = None


@dataclass
class Cluster:
    """A cluster. Times are seconds since the epoch on the simulator's clock."""

    id: int
    uuid: str
    name: str
    template: str
    project_id: str
    user_id: str
    keypair: str | None
    flavor_id: str | None
    master_flavor_id: str | None
    labels: dict[str, str]
    labels_overridden: dict[str, str]
    labels_added: dict[str, str]
    labels_skipped: dict[str, str]
    create_timeout: int
    stack_id: str
    status: str
    driver: str
    created_at: float
    options: dict[str, Any]
    updated_at: float | None = None
    status_reason: str | None = None
    health_status: str | None = None
    health_reason: dict[str, str] = field(default_factory=dict)
    api_address: str | None = None
    coe_version: str | None = None
    visible_at: float = 0.0  #: a GET answers 404 before
    whole_at: float = 0.0  #: without node groups before: 400, also for every list
    next_at: float | None = None  #: when the work under way ends
    next_step: str | None = None  #: what it ends as: create, update, delete
    completed_at: float | None = None  #: exactly when it last became *_COMPLETE or *_FAILED
    failed_deletes: int = 0
    groups: list[NodeGroup] = field(default_factory=list)

    @property
    def node_count(self) -> int:
        """All groups but masters."""
        return sum(group.node_count for group in self.groups if group.role != "master")

    @property
    def master_count(self) -> int:
        """The master groups."""
        return sum(group.node_count for group in self.groups if group.role == "master")

    def order(self) -> tuple[float, int]:
        """Place in the list by updated_at: whole seconds, a missing one first (last when descending, as on MariaDB)."""
        return (float(int(self.updated_at)) if self.updated_at is not None else -1.0, self.id)


class Collection:
    """Clusters and templates, in memory, written through to the store. Callers hold ``lock``."""

    def __init__(self, store: Store) -> None:
        self.lock = threading.RLock()
        self._store = store
        self.templates: dict[str, Template] = {key: Template(**body) for key, body in store.all("template")}
        self.clusters: dict[str, Cluster] = {}
        self.by_id: SortedDict = SortedDict()
        self.by_change: SortedList = SortedList()
        self.by_name: dict[str, set[str]] = {}
        self.rendered: dict[str, dict[tuple[Any, ...], str]] = {}  #: JSON of clusters as lists show them, until they change
        self.audit: dict[str, dict[str, Any]] = dict(store.all("audit"))
        self.last_id = max((entry["id"] for entry in self.audit.values()), default=0)
        for _, body in store.all("cluster"):
            groups = [NodeGroup(**group) for group in body.pop("groups")]
            self._index(Cluster(**body, groups=groups))

    def _index(self, cluster: Cluster) -> None:
        self.clusters[cluster.uuid] = cluster
        self.by_id[cluster.id] = cluster.uuid
        self.by_change.add(cluster.order())
        self.by_name.setdefault(cluster.name, set()).add(cluster.uuid)

    def save_template(self, template: Template) -> None:
        """Keep a template."""
        self.templates[template.uuid] = template
        self._store.put("template", template.uuid, asdict(template))

    def drop_template(self, uuid: str) -> None:
        """Forget one."""
        self.templates.pop(uuid, None)
        self._store.drop("template", uuid)

    def next_id(self) -> int:
        """Magnum's running number."""
        self.last_id += 1
        return self.last_id

    def add(self, clusters: list[Cluster]) -> None:
        """New clusters."""
        for cluster in clusters:
            self._index(cluster)
            self.audit[cluster.uuid] = {
                "id": cluster.id,
                "uuid": cluster.uuid,
                "name": cluster.name,
                "project_id": cluster.project_id,
                "labels": cluster.labels,
                "created_at": cluster.created_at,
                "deleted_at": None,
            }
        self._store.put_all("cluster", [(cluster.uuid, asdict(cluster)) for cluster in clusters])
        self._store.put_all("audit", [(cluster.uuid, self.audit[cluster.uuid]) for cluster in clusters])

    def change(self, cluster: Cluster, **values: Any) -> None:
        """Set attributes, keeping the indexes true."""
        before = cluster.order()
        self.rendered.pop(cluster.uuid, None)
        for name, value in values.items():
            setattr(cluster, name, value)
        after = cluster.order()
        if after != before:
            self.by_change.discard(before)
            self.by_change.add(after)
        self._store.put("cluster", cluster.uuid, asdict(cluster))

    def remove(self, cluster: Cluster, at: float) -> None:
        """It is gone."""
        self.clusters.pop(cluster.uuid, None)
        self.rendered.pop(cluster.uuid, None)
        self.by_id.pop(cluster.id, None)
        self.by_change.discard(cluster.order())
        names = self.by_name.get(cluster.name, set())
        names.discard(cluster.uuid)
        if not names:
            self.by_name.pop(cluster.name, None)
        self.audit[cluster.uuid]["deleted_at"] = at
        self._store.drop("cluster", cluster.uuid)
        self._store.put("audit", cluster.uuid, self.audit[cluster.uuid])
