"""Magnum's objects, and where they are kept and found."""

import threading
import uuid
from collections.abc import Iterator
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


@dataclass(eq=False)
class NodeGroup:
    """A node group of a cluster. ``nodes``: the numbers of the machines that run, which their addresses are made of."""

    uuid: str
    name: str
    role: str
    flavor_id: str | None
    image_id: str | None
    node_count: int
    is_default: bool
    min_node_count: int
    max_node_count: int | None
    status: str | None
    created_at: float | None
    updated_at: float | None
    number: int
    labels: dict[str, str] = field(default_factory=dict)
    status_reason: str | None = None
    stack_id: str | None = None
    docker_volume_size: int | None = None
    node_labels: dict[str, str] = field(default_factory=dict)
    node_taints: list[Any] = field(default_factory=list)
    nodes: list[int] = field(default_factory=list)

    @property
    def is_busy(self) -> bool:
        """Whether work on it is under way."""
        return (self.status or "").endswith("_IN_PROGRESS")

    @property
    def tells_fault(self) -> bool:
        """Whether it has failed, and its driver has said why."""
        return (self.status or "").endswith("_FAILED") and self.status_reason is not None

    def machine(self, node: int) -> str:
        """The id of a node's server."""
        return str(uuid.uuid5(uuid.UUID(self.uuid), str(node)))

    def address(self, node: int, owner: "Cluster") -> str:
        """A node's address."""
        position = owner.groups.index(self) * 1000 + node
        return f"10.{1 + owner.id % 250}.{(owner.id // 250 + position // 250) % 256}.{1 + position % 250}"

    def names_of(self, node: int, owner: "Cluster") -> set[str]:
        """What a node can be meant by: its number, its server's id, its address."""
        return {str(node), self.machine(node), self.address(node, owner)}

    def settle(self, count: int, chosen: list[int] | None = None) -> None:
        """Let so many machines run: the chosen ones go first, then the youngest."""
        if len(self.nodes) > count and chosen:
            spared = [node for node in self.nodes if node not in chosen[: len(self.nodes) - count]]
            self.nodes = spared
        del self.nodes[count:]
        youngest = self.nodes[-1] if self.nodes else -1
        self.nodes += range(youngest + 1, youngest + 1 + count - len(self.nodes))


@dataclass(eq=False)
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
    upgrade_tag: str | None = None  #: the version that its last upgrade brings
    refused: str | None = None  #: why the driver can't make it: it fails as soon as it is begun
    never_ready: bool = False  #: made, but it waits for ever for what its driver does not bring
    chosen: dict[str, list[int]] = field(default_factory=dict)  #: nodes to remove, by node group's uuid

    @property
    def node_count(self) -> int:
        """All groups but masters."""
        return sum(group.node_count for group in self.groups if group.role != "master")

    @property
    def master_count(self) -> int:
        """The master groups."""
        return sum(group.node_count for group in self.groups if group.role == "master")

    @property
    def may_change(self) -> bool:
        """Whether the conductor takes resizes and node groups now; it drops them in silence otherwise."""
        return self.status.endswith("_COMPLETE") or self.status in {"UPDATE_IN_PROGRESS", "UPDATE_FAILED"}

    @property
    def is_autoscaled(self) -> bool:
        """Whether its labels ask for the autoscaler."""
        return self.labels.get("auto_scaling_enabled", "").lower() in {"true", "1", "yes", "on"}

    def order(self) -> tuple[float, int]:
        """Place in the list by updated_at: whole seconds, a missing one first (last when descending, as on MariaDB)."""
        return (float(int(self.updated_at)) if self.updated_at is not None else -1.0, self.id)


#: Columns whose attributes are called otherwise here.
COLUMNS = {"cluster_template_id": "template"}


class Orders:
    """Clusters of one project, or of all, in the two orders that are asked for often."""

    def __init__(self) -> None:
        self.by_id: SortedDict = SortedDict()
        self.by_change: SortedList = SortedList()

    def add(self, cluster: Cluster) -> None:
        """Take one in."""
        self.by_id[cluster.id] = cluster
        self.by_change.add(cluster.order())

    def discard(self, cluster: Cluster) -> None:
        """Leave one out."""
        self.by_id.pop(cluster.id, None)
        self.by_change.discard(cluster.order())

    def move(self, before: tuple[float, int], after: tuple[float, int]) -> None:
        """One has changed."""
        self.by_change.discard(before)
        self.by_change.add(after)

    def walk(self, key: str, after: Cluster | None, *, descending: bool) -> Iterator[Cluster]:
        """All from a marker on, in the order of a column."""
        if key == "id":
            yield from (self.by_id[number] for number in _walk(self.by_id, after.id if after else None, descending))
        elif key == "updated_at":
            yield from (self.by_id[place[1]] for place in _walk(self.by_change, after.order() if after else None, descending))
        else:
            name = COLUMNS.get(key, key)
            everyone = sorted(self.by_id.values(), key=lambda each: (str(getattr(each, name) or ""), each.id), reverse=descending)
            start = everyone.index(after) + 1 if after in everyone else 0
            yield from everyone[start:]


def _walk(places: Any, after: Any, descending: bool) -> Iterator[Any]:
    if descending:
        found: Iterator[Any] = places.irange(None, after, (True, after is None), reverse=True)
    else:
        found = places.irange(after, None, (after is None, True))
    return found


class Collection:
    """Clusters and templates, in memory, written through to the store. Callers hold ``lock``."""

    def __init__(self, store: Store) -> None:
        self.lock = threading.RLock()
        self._store = store
        self.templates: dict[str, Template] = {key: Template(**body) for key, body in store.all("template")}
        self.clusters: dict[str, Cluster] = {}
        self.everyone = Orders()
        self.of_project: dict[str, Orders] = {}
        self.by_name: dict[str, set[str]] = {}
        self.rendered: dict[str, dict[tuple[Any, ...], str]] = {}  #: JSON of clusters as lists show them, until they change
        self.audit: dict[str, dict[str, Any]] = dict(store.all("audit"))
        self.last_id = max((entry["id"] for entry in self.audit.values()), default=0)
        for _, body in store.all("cluster"):
            groups = [NodeGroup(**group) for group in body.pop("groups")]
            self._index(Cluster(**body, groups=groups))

    def _index(self, cluster: Cluster) -> None:
        self.clusters[cluster.uuid] = cluster
        self.everyone.add(cluster)
        self.of_project.setdefault(cluster.project_id, Orders()).add(cluster)
        self.by_name.setdefault(cluster.name, set()).add(cluster.uuid)

    def orders(self, project: str | None) -> Orders:
        """Those of one project, or with None those of all."""
        return self.everyone if project is None else self.of_project.get(project, Orders())

    def save_template(self, template: Template) -> None:
        """Keep a template."""
        self.templates[template.uuid] = template
        self._store.put("template", template.uuid, asdict(template))

    def drop_template(self, key: str) -> None:
        """Forget one."""
        self.templates.pop(key, None)
        self._store.drop("template", key)

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
        self._store.put_all("cluster", ((cluster.uuid, asdict(cluster)) for cluster in clusters))
        self._store.put_all("audit", ((cluster.uuid, self.audit[cluster.uuid]) for cluster in clusters))

    def change(self, cluster: Cluster, **values: Any) -> None:
        """Set attributes, keeping the indexes true."""
        before = cluster.order()
        self.rendered.pop(cluster.uuid, None)
        for name, value in values.items():
            setattr(cluster, name, value)
        after = cluster.order()
        if after != before:
            self.everyone.move(before, after)
            self.of_project[cluster.project_id].move(before, after)
        if self._store.keeps:
            self._store.put("cluster", cluster.uuid, asdict(cluster))

    def remove(self, cluster: Cluster, at: float) -> None:
        """It is gone."""
        self.clusters.pop(cluster.uuid, None)
        self.rendered.pop(cluster.uuid, None)
        self.everyone.discard(cluster)
        self.of_project[cluster.project_id].discard(cluster)
        names = self.by_name.get(cluster.name, set())
        names.discard(cluster.uuid)
        if not names:
            self.by_name.pop(cluster.name, None)
        self.audit[cluster.uuid]["deleted_at"] = at
        self._store.drop("cluster", cluster.uuid)
        self._store.put("audit", cluster.uuid, self.audit[cluster.uuid])
