"""A project's clusters as a fleet of nodes: what is free on each, and which clusters may take work.

Nodes are counted, not named: Magnum tells how many nodes a group has, so a placement lies on "node 3 of group gpu". What lay on nodes
that are no more is seated on others of its group, in the order of its making, as long as it fits; the rest is *displaced*.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import numpy as np

from shared.domain.capacity import Bools, Capacity, Ints, Scorer, Shape
from shared.domain.clusters import DEFAULT_GROUP, NODE_COUNT_MAX, Phase
from shared.domain.workloads import Isolation, Placement

if TYPE_CHECKING:
    from shared.domain.accelerators import NodeShape

#: Why no new work is put on a cluster, by its phase.
#: Phases in which more nodes may be on their way.
_GROWS: Final = (Phase.PENDING, Phase.PROVISIONING, Phase.UPDATING)
_CLOSED: Final = {
    Phase.PENDING: "NOT_READY",
    Phase.PROVISIONING: "NOT_READY",
    Phase.UPDATING: "CHANGING",
    Phase.HIBERNATED: "HIBERNATED",
    Phase.DELETING: "DELETING",
    Phase.FAILED: "FAILED",
}


#: In the table of clusters: open, asleep, growing (nodes are on their way; those that are there are open), and closed.
OPEN: Final = 1
ASLEEP: Final = 2
GROWING: Final = 3
SHUT: Final = 0


@dataclass
class Group:
    """A node group: ``count`` nodes that exist, at most ``most`` (None: no bound of Magnum's). While its cluster grows, ``slots`` has
    those on their way too.
    """

    cluster: Member
    name: str
    flavor: str | None
    shape: NodeShape | None
    count: int
    most: int | None = None
    slots: list[int] = field(default_factory=list)
    index: int = -1
    wanted: int = 0  #: nodes that are there or promised

    @property
    def top(self) -> int:
        """The number of the next node."""
        return max(self.count, len(self.slots))


@dataclass
class Member:
    """A cluster of the fleet. ``closed`` says why nothing new is put there; None where it may be."""

    index: int
    id: UUID
    name: str
    phase: Phase
    closed: str | None
    labels: dict[str, str]
    template: str
    masters: int
    master_shape: NodeShape | None
    hibernated_sizes: dict[str, int] | None = None
    groups: list[Group] = field(default_factory=list)
    seated: set[UUID] = field(default_factory=set)
    loners: int = 0  #: those of them that tolerate no other work in the cluster
    displaced: list[Placement] = field(default_factory=list)

    @property
    def pods(self) -> int:
        """Placements that lie on its nodes."""
        return len(self.seated)

    @property
    def workload_type(self) -> str | None:
        """What its label says."""
        return self.labels.get("workload_type")

    @property
    def max_w(self) -> float:
        """Watts of all its nodes at their highest, those promised and masters included; of flavors that nobody knows, none."""
        masters = self.master_shape.max_w * self.masters if self.master_shape else 0.0
        return masters + sum(group.shape.max_w * group.wanted for group in self.groups if group.shape)

    @property
    def cost_per_hour(self) -> float:
        """Price of all its nodes, those promised and masters included."""
        masters = self.master_shape.price_per_hour * self.masters if self.master_shape else 0.0
        return masters + sum(group.shape.price_per_hour * group.wanted for group in self.groups if group.shape)


@dataclass
class _Seat:
    placement: Placement
    slot: int
    devices: tuple[int, ...]


class _Rows:
    """Arrays that grow together, with rows that are given again."""

    def __init__(self, **columns: type) -> None:
        self.size = 0
        self._unused: list[int] = []
        self._columns = columns
        for name, kind in columns.items():
            setattr(self, name, np.zeros(64, dtype=kind))

    def take(self) -> int:
        """A row of zeros."""
        if self._unused:
            return self._unused.pop()
        row, self.size = self.size, self.size + 1
        for name in self._columns:
            old = getattr(self, name)
            if row >= len(old):
                setattr(self, name, np.concatenate([old, np.zeros(len(old), dtype=old.dtype)]))
        return row

    def give(self, row: int) -> None:
        """The row is free."""
        for name in self._columns:
            getattr(self, name)[row] = 0
        self._unused.append(row)

    def column(self, name: str) -> Any:
        """The rows of a column that were ever given."""
        return getattr(self, name)[: self.size]


class ProjectFleet:
    """One project's clusters in one region. Not safe for several threads at once: callers hold a lock."""

    def __init__(self, scorer: Scorer) -> None:
        self.capacity = Capacity()
        self.scorer = scorer
        self.members: dict[UUID, Member] = {}
        self.shapes: list[NodeShape] = []  #: those that groups have, by their number
        self._shape_ids: dict[NodeShape, int] = {}
        self._by_index: list[Member | None] = []
        self._groups: list[Group | None] = []
        #: By cluster: whether it takes work (1), or sleeps (2), placements on it, and whether one of them wants it alone.
        self.clusters = _Rows(there=bool, state=np.int8, pods=np.int32, alone=bool)
        #: By node group: its cluster's index, its shape's number + 1 (0: not known), its nodes, and how many more it may have.
        self.groups = _Rows(cluster=np.int32, shape=np.int32, count=np.int32, spare=np.int32)
        self._of_slot: list[Group | None] = []
        #: By slot: index of the cluster (-1: none), the node's number in its group, pods on it, whether one wants it alone.
        self._slots = _Rows(cluster=np.int32, node=np.int32, pods=np.int32, alone=bool, coming=bool)
        self._seats: dict[UUID, _Seat] = {}
        self._by_name: dict[str, Member] = {}
        self._max_w = 0.0

    # -- reading ----------------------------------------------------------------------------------------------------------

    @property
    def cluster_of(self) -> Ints:
        """By slot: the index of its cluster."""
        found: Ints = self._slots.column("cluster")
        return found

    @property
    def pods_on(self) -> Ints:
        """By slot: placements on the node."""
        found: Ints = self._slots.column("pods")
        return found

    @property
    def coming_on(self) -> Bools:
        """By slot: its node is on its way."""
        found: Bools = self._slots.column("coming")
        return found

    @property
    def alone_on(self) -> Bools:
        """By slot: whether a placement has the node to itself."""
        found: Bools = self._slots.column("alone")
        return found

    def node_of(self, slot: int) -> int:
        """The node's number in its group."""
        return int(self._slots.column("node")[slot])

    def member_at(self, index: int) -> Member:
        """The cluster of an index."""
        found = self._by_index[index]
        if found is None:
            msg = f"cluster {index} is gone"
            raise KeyError(msg)
        return found

    def group_of(self, slot: int) -> Group:
        """The node group of a slot."""
        found = self._of_slot[slot]
        if found is None:
            msg = f"slot {slot} is gone"
            raise KeyError(msg)
        return found

    def group_at(self, index: int) -> Group:
        """The node group of an index."""
        found = self._groups[index]
        if found is None:
            msg = f"group {index} is gone"
            raise KeyError(msg)
        return found

    def named(self, ref: str) -> Member | None:
        """A cluster by name or id."""
        return self._by_name.get(ref)

    def max_w(self) -> float:
        """Watts of everything at its highest."""
        return self._max_w

    def free_of(self, member: Member) -> dict[str, float]:
        """What is free on a cluster's nodes in all: cores, GiB, and accelerators (parts count as parts)."""
        slots = [slot for group in member.groups for slot in group.slots]
        return {
            "cpu_cores": float(self.capacity.cpu[slots].sum()) / 1000,
            "memory_gb": round(float(self.capacity.memory[slots].sum()) / 1024, 3),
            "accelerators": float(self.capacity.free_milli[slots].sum()) / 1000,
        }

    def is_seated(self, placement_id: UUID) -> bool:
        """Whether a placement lies on a node that exists."""
        return placement_id in self._seats

    def devices_at(self, slot: int, placement: Placement) -> tuple[int, ...] | None:
        """The devices of a node that a placement could have now; None where it has no room."""
        return self.capacity.devices_for(slot, shape_of(placement))

    # -- changing -----------------------------------------------------------------------------------------------------------

    def put(self, row: Mapping[str, Any], placements: Sequence[Placement], shapes: Mapping[str, NodeShape]) -> None:
        """A cluster as its row says now, with what is held on it, in the order of its making. One that is not live leaves."""
        self.drop(row["id"])
        if not row["live"]:
            return
        index = self.clusters.take()
        phase = Phase(row["phase"])
        closed = _CLOSED.get(phase)
        if closed is None and row["health_status"] == "UNHEALTHY":
            closed = "UNHEALTHY"
        if closed is None and row.get("leaving"):
            closed = "LEAVING"  # a plan that is being applied empties and deletes it
        member = Member(
            index=index,
            id=row["id"],
            name=row["name"],
            phase=phase,
            closed=closed,
            labels=dict(row["labels"] or {}),
            template=row["template_name"] or row["template_id"],
            masters=row["masters"] or 0,
            master_shape=shapes.get(row["master_flavor"] or ""),
            hibernated_sizes=row["hibernated_sizes"],
        )
        if index == len(self._by_index):
            self._by_index.append(None)
        self._by_index[index] = member
        self.members[member.id] = member
        self._by_name[member.name] = self._by_name[str(member.id)] = member
        self.clusters.column("there")[index] = True
        asleep = phase is Phase.HIBERNATED
        others = 0 if asleep else sum(group["node_count"] for group in row["groups"])
        there = row["observed_node_count"] or 0
        promised = 0 if asleep else row["node_count"]
        grows = phase in _GROWS and promised > there and row["hibernated_sizes"] is None and row["health_status"] != "UNHEALTHY"
        state = OPEN if closed is None else ASLEEP if asleep else GROWING if grows else SHUT
        self.clusters.column("state")[index] = state
        self._add_group(
            member, DEFAULT_GROUP, row["flavor"], max(0, there - others), None, shapes, wanted=max(there, promised) - others
        )
        for group in row["groups"]:
            # A group is believed to have the nodes that are wanted, as far as the cluster has so many.
            count = 0 if asleep else min(group["node_count"], there)
            wanted = 0 if asleep else group["node_count"]
            self._add_group(member, group["name"], group["flavor"], count, group["most"], shapes, wanted=wanted)
        self._max_w += member.max_w
        for placement in placements:
            self._seat_somewhere(member, placement)

    def drop(self, cluster_id: UUID) -> None:
        """A cluster leaves, with its nodes and all that lies on them."""
        member = self.members.pop(cluster_id, None)
        if member is None:
            return
        self._max_w -= member.max_w
        self._by_name.pop(str(cluster_id), None)
        if self._by_name.get(member.name) is member:
            del self._by_name[member.name]
        for placement_id in member.seated:
            del self._seats[placement_id]
        for group in member.groups:
            for slot in group.slots:
                self.capacity.remove(slot)
                self._slots.give(slot)
                self._slots.column("cluster")[slot] = -1
                self._of_slot[slot] = None
            self.groups.give(group.index)
            self._groups[group.index] = None
        self._by_index[member.index] = None
        self.clusters.give(member.index)

    def seat(self, placement: Placement, slot: int) -> None:
        """A new placement takes its devices on a slot. ValueError where it does not fit."""
        self._sit(placement, slot, placement.devices)

    def unseat(self, placement_id: UUID) -> bool:
        """A placement is over; False where it lay nowhere."""
        seat = self._seats.pop(placement_id, None)
        if seat is None:
            return False
        self.capacity.give(seat.slot, shape_of(seat.placement), seat.devices)
        member = self.group_of(seat.slot).cluster
        member.seated.discard(placement_id)
        self._slots.column("pods")[seat.slot] -= 1
        if seat.placement.isolation is Isolation.NODE:
            self._slots.column("alone")[seat.slot] = False
        member.loners -= seat.placement.isolation is Isolation.CLUSTER
        self._tell(member)
        return True

    def _sit(self, placement: Placement, slot: int, devices: tuple[int, ...]) -> None:
        self.capacity.take(slot, shape_of(placement), devices)
        self._seats[placement.id] = _Seat(placement, slot, devices)
        member = self.group_of(slot).cluster
        member.seated.add(placement.id)
        self._slots.column("pods")[slot] += 1
        if placement.isolation is Isolation.NODE:
            self._slots.column("alone")[slot] = True
        member.loners += placement.isolation is Isolation.CLUSTER
        self._tell(member)

    def _tell(self, member: Member) -> None:
        self.clusters.column("pods")[member.index] = member.pods
        self.clusters.column("alone")[member.index] = member.loners > 0

    def _seat_somewhere(self, member: Member, placement: Placement) -> None:
        group = next((one for one in member.groups if one.name == placement.node_group), None)
        slots = group.slots if group is not None else []
        shape = shape_of(placement)
        first = [slots[placement.node]] if placement.node < len(slots) else []
        if first:
            try:
                self.seat(placement, first[0])
            except ValueError:
                pass
            else:
                return
        for slot in slots:
            devices = None if self.alone_on[slot] else self.capacity.devices_for(slot, shape)
            if devices is not None and not (placement.isolation is Isolation.NODE and self.pods_on[slot]):
                self._sit(placement, slot, devices)
                return
        member.displaced.append(placement)

    def _add_group(
        self,
        member: Member,
        name: str,
        flavor: str | None,
        count: int,
        most: int | None,
        shapes: Mapping[str, NodeShape],
        *,
        wanted: int,
    ) -> None:
        shape = shapes.get(flavor or "")
        index = self.groups.take()
        group = Group(member, name, flavor, shape, count, most, index=index, wanted=max(wanted, count))
        if index == len(self._groups):
            self._groups.append(None)
        self._groups[index] = group
        member.groups.append(group)
        self.groups.column("cluster")[index] = member.index
        self.groups.column("shape")[index] = self._shape_id(shape) + 1 if shape is not None else 0
        self.groups.column("count")[index] = count
        self._add_nodes(group, range(count))
        if self.clusters.column("state")[member.index] == GROWING:
            self._add_nodes(group, range(count, group.wanted), coming=True)
        self.groups.column("spare")[index] = max(0, (NODE_COUNT_MAX if most is None else most) - group.top)

    def grow(self, group: Group, nodes: int) -> None:
        """As if the group had so many more nodes."""
        member = group.cluster
        self._max_w -= member.max_w
        self._add_nodes(group, range(group.top, group.top + nodes))
        group.count = group.top if group.shape is not None else group.count + nodes
        group.wanted = max(group.wanted, group.count)
        self._max_w += member.max_w
        self.groups.column("count")[group.index] = group.count
        self.groups.column("spare")[group.index] -= nodes

    def _add_nodes(self, group: Group, numbers: range, *, coming: bool = False) -> None:
        shape, member = group.shape, group.cluster
        if shape is None:
            return  # nothing is known of its nodes: nothing can be placed there
        for number in numbers:
            slot = self.capacity.add(
                cpu_milli=shape.cpu_milli,
                memory_mib=shape.memory_mib,
                model=shape.accelerator.id if shape.accelerator else "",
                devices=shape.devices,
                idle_w=shape.idle_w,
                device_w=shape.draw_w(0, 1),
            )
            row = self._slots.take()
            if row != slot:
                msg = "nodes and their capacities are out of step"
                raise RuntimeError(msg)
            if slot == len(self._of_slot):
                self._of_slot.append(None)
            self._of_slot[slot] = group
            self._slots.column("cluster")[slot] = member.index
            self._slots.column("node")[slot] = number
            self._slots.column("coming")[slot] = coming
            group.slots.append(slot)

    def _shape_id(self, shape: NodeShape) -> int:
        found = self._shape_ids.get(shape)
        if found is None:
            found = self._shape_ids[shape] = len(self.shapes)
            self.shapes.append(shape)
        return found


def shape_of(placement: Placement) -> Shape:
    """What the placement takes of its node."""
    return Shape(
        cpu_milli=placement.cpu_milli,
        memory_mib=placement.memory_mib,
        accelerators=placement.accelerators,
        share_milli=placement.share_milli,
        models=frozenset(placement.models) if placement.models is not None else None,
    )


def pods_that_fit(node: NodeShape, shape: Shape, *, alone: bool = False) -> int:
    """How many such pods an empty node takes; 0 where it takes none. ``alone``: each wants a node to itself."""
    if shape.accelerators and (node.accelerator is None or (shape.models is not None and node.accelerator.id not in shape.models)):
        return 0
    limits: list[int] = []
    if shape.cpu_milli:
        limits.append(node.cpu_milli // shape.cpu_milli)
    if shape.memory_mib:
        limits.append(node.memory_mib // shape.memory_mib)
    if shape.accelerators:
        limits.append(
            node.devices * (1000 // shape.share_milli) if shape.share_milli < 1000 else node.devices // shape.accelerators  # noqa: PLR2004
        )
    most = min(limits, default=1)
    return min(most, 1) if alone else most


def nodes_for(replicas: int, per_node: int) -> int:
    """Nodes that so many pods need."""
    return -(-replicas // per_node)
