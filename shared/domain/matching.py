"""Every way to give a workload a place, ranked, and why the others fell out.

The ways: use what is free, grow a node group, wake a hibernated cluster, create a cluster of a type. Ceilings of watts and money are
hard. A way's *price* decides: what it adds per hour in money, plus the watts it adds times the tariff, plus what waiting costs, plus the
value of the accelerators that nobody else could use any more. The smallest price wins; a caller's preferred clusters come first among
the ways of one kind. Same workload and state, same answer: nothing here is random and no clock is read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from shared.domain.capacity import Bools, Ints, Shape
from shared.domain.clusters import NODE_COUNT_MAX, Phase
from shared.domain.fleet import ASLEEP, GROWING, OPEN, SHUT, Group, Member, ProjectFleet, nodes_for, pods_that_fit
from shared.domain.workloads import Isolation, Workload

if TYPE_CHECKING:
    from shared.domain.accelerators import Catalogue, NodeShape
    from shared.domain.workloads import Placement

#: Candidates that are told, and rejections that are told one by one; all are counted.
MOST_TOLD: Final = 20
MOST_REJECTED: Final = 50
#: Nodes looked at for a candidate, and clusters tried where several pods must find room.
_LOOKED_AT: Final = 24
_TRIED: Final = 8
#: The same where only the best one is asked for, and how many rejections are told then.
_LOOKED_AT_FIRST, _TOLD_FIRST = 4, 3


class Way(StrEnum):
    """How a workload gets its place, as the answer's ``action`` says it."""

    USE = "use_existing"
    SCALE = "scale_existing"
    WAKE = "wake_existing"
    CREATE = "create_new"


@dataclass(frozen=True, slots=True)
class Wait:
    """Seconds until the nodes are there, of the recorded durations: median and 90th percentile; ``runs`` recorded."""

    p50_s: float
    p90_s: float
    runs: int = 0


NOW: Final = Wait(0.0, 0.0, 0)


@dataclass(frozen=True, slots=True)
class TypeOffer:
    """A cluster type that could be made: nodes of which flavor, how many masters of which."""

    name: str
    node: NodeShape
    master: NodeShape | None
    masters: int
    group: str
    labels: Mapping[str, str]
    wait: Wait
    document: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Limits:
    """What may be drawn: watts left under each limit, by the name of the limit; and what money and watts weigh."""

    headroom_w: Mapping[str, float]
    electricity_per_kwh: float
    headroom_cost: Mapping[str, float] = field(default_factory=dict)  #: money per hour left


@dataclass(frozen=True, slots=True)
class Seat:
    """Where one pod would lie."""

    group: str
    node: int
    devices: tuple[int, ...]
    slot: int = -1  #: -1: on a node that does not exist yet


@dataclass(frozen=True)
class Candidate:
    """One way. ``cost_per_hour``: of the capacity that the workload has, in the price currency; ``added_*``: what the project pays and
    draws more than now; ``watts``: the workload's own highest draw; ``fragmentation``: accelerators (a part counts as a part) that
    the mix of other work could not use any more.
    """

    way: Way
    price: float
    cost_per_hour: float
    added_cost_per_hour: float
    watts: float
    added_watts: float
    wait: Wait
    fragmentation: float
    nodes: int
    accelerator: str | None
    member: Member | None = None
    group: str | None = None
    type: TypeOffer | None = None
    target_nodes: int | None = None
    seats: tuple[Seat, ...] = ()
    preferred: bool = False
    reasons: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[bool, float, float, str, str]:
        """Its rank: smaller is better."""
        name = self.member.name if self.member else (self.type.name if self.type else "")
        return (not self.preferred, round(self.price, 9), self.wait.p50_s, name, self.group or "")


@dataclass(frozen=True, slots=True)
class Rejected:
    """A way that fell out: the stable code, and the words with the figures."""

    way: Way
    code: str
    detail: str
    name: str
    id: str | None = None


@dataclass
class Matched:
    """The outcome. ``counts``: rejections by code, all of them."""

    candidates: list[Candidate]
    rejected: list[Rejected]
    counts: Counter[str]
    shape: Shape

    @property
    def best(self) -> Candidate | None:
        """The first, if there is any."""
        return self.candidates[0] if self.candidates else None


class Matcher:
    """Answers for one workload over one fleet."""

    def __init__(
        self,
        fleet: ProjectFleet,
        catalogue: Catalogue,
        limits: Limits,
        *,
        now: datetime,
        waits: Mapping[tuple[Way, str], Wait],
        offers: Sequence[TypeOffer] = (),
    ) -> None:
        self._fleet = fleet
        self._catalogue = catalogue
        self._limits = limits
        self._now = now
        self._waits = waits
        self._offers = offers
        self._rejected: list[Rejected] = []
        self._counts: Counter[str] = Counter()
        self._look_at, self._tell = _LOOKED_AT, MOST_REJECTED

    def match(self, work: Workload, *, first_only: bool = False) -> Matched:
        """All ways, best first. ``first_only``: where what is free is enough, nothing else is looked at, and one way is told. It is the
        best of those that leave the least useless, of fewer than otherwise.
        """
        self._rejected, self._counts = [], Counter()
        self._look_at, self._tell = (_LOOKED_AT_FIRST, _TOLD_FIRST) if first_only else (_LOOKED_AT, MOST_REJECTED)
        shape, models = self._shape(work)
        if work.accelerators and not models:
            words = "No accelerator of the catalogue has the kind, models and memory that are asked for."
            self._reject(Way.CREATE, "NO_SUCH_ACCELERATOR", words, work.name)
            return Matched([], self._rejected, self._counts, shape)
        allowed = self._clusters_allowed(work)
        kept = [one for one in self._uses(work, shape, allowed) if self._within(work, one)]
        if not (first_only and kept):
            found = [*self._grown(work, shape, allowed), *self._woken(work, shape, allowed), *self._created(work, shape)]
            kept += [one for one in found if self._within(work, one)]
        kept.sort(key=lambda one: (self._order(one), one.key))
        return Matched(kept[: 1 if first_only else MOST_TOLD], self._rejected, self._counts, shape)

    @staticmethod
    def _order(one: Candidate) -> bool:
        # A preferred cluster comes first if it needs nothing new; one that must first grow only competes by its price.
        return not (one.preferred and one.way is Way.USE)

    def _shape(self, work: Workload) -> tuple[Shape, frozenset[str]]:
        models: frozenset[str] = frozenset()
        asked = work.kind is not None or bool(work.models) or work.accelerator_memory_gb is not None
        if work.accelerators:
            rows = self._catalogue.wanted(kind=work.kind, models=work.models, memory_gb=work.accelerator_memory_gb)
            if not work.models:  # a slice is given to those who name it, or who ask for its memory and less than a device
                rows = [row for row in rows if row.slice_of is None]
            models = frozenset(row.id for row in rows)
        shape = Shape(
            cpu_milli=work.cpu_milli,
            memory_mib=work.memory_mib,
            accelerators=work.accelerators,
            share_milli=work.share_milli,
            models=models if work.accelerators and asked else None,
        )
        return shape, models

    # -- which clusters ----------------------------------------------------------------------------------------------------

    def _clusters_allowed(self, work: Workload) -> Bools:
        """By cluster: whether the request's own conditions leave it. Why not is told of the others."""
        fleet = self._fleet
        kept: Bools = fleet.clusters.column("there").copy()
        for ref in sorted(work.forbidden):
            member = fleet.named(ref)
            if member is not None and kept[member.index]:
                kept[member.index] = False
                self._reject(Way.USE, "FORBIDDEN", "The request forbids it.", member.name, member)
        if work.labels:
            wanted = work.labels.items()
            lacking = [m for m in fleet.members.values() if kept[m.index] and not wanted <= m.labels.items()]
            for member in lacking:
                kept[member.index] = False
            self._reject_many(Way.USE, "LABELS", lacking, lambda m: f"It lacks {_lacking(work.labels, m.labels)}.")
        alone = kept & fleet.clusters.column("alone")
        self._reject_at(Way.USE, "ISOLATED", alone, lambda _: "A workload has the cluster to itself.")
        kept &= ~alone
        if work.isolation is Isolation.CLUSTER:
            busy = kept & (fleet.clusters.column("pods") > 0)
            words = "The workload wants a cluster to itself; {} placements are on this one."
            self._reject_at(Way.USE, "NOT_EMPTY", busy, lambda m: words.format(m.pods))
            kept &= ~busy
        closed = kept & (fleet.clusters.column("state") == SHUT)
        for index in np.flatnonzero(closed).tolist():
            member = fleet.member_at(index)
            self._reject(Way.USE, member.closed or "CLOSED", f"The cluster is {member.phase}.", member.name, member)
        left: Bools = kept & ~closed
        return left

    def _preferred(self, work: Workload, member: Member) -> bool:
        return bool(work.preferred) and (member.name in work.preferred or str(member.id) in work.preferred)

    # -- use -----------------------------------------------------------------------------------------------------------------

    def _uses(self, work: Workload, shape: Shape, allowed: Bools) -> list[Candidate]:
        fleet = self._fleet
        state = fleet.clusters.column("state")
        open_to = allowed & ((state == OPEN) | (state == GROWING))
        if not fleet.capacity.size or not open_to.any():
            return []
        of = fleet.cluster_of
        usable = (of >= 0) & ~fleet.alone_on
        if not open_to[fleet.clusters.column("there")].all():
            usable &= open_to[of]
        alone = work.isolation is Isolation.NODE
        if alone:
            usable &= fleet.pods_on == 0
        # Nodes on their way are taken where those that are there are full.
        there = usable & ~fleet.coming_on
        if work.replicas == 1:
            fits = fleet.capacity.fits(shape)
            roomy = np.flatnonzero(fits & there)
            if not len(roomy):
                roomy = np.flatnonzero(fits & usable)
            here = np.zeros(len(open_to), dtype=bool)
            here[of[roomy]] = True
            self._tell_full(work, shape, open_to & ~here, None)
            return self._singles(work, shape, roomy)
        each = fleet.capacity.count_fits(shape)
        if alone:
            each = np.minimum(each, 1)
        per_cluster = np.bincount(of[there], weights=each[there], minlength=len(open_to))
        if not (per_cluster >= work.replicas).any():
            there = usable
            per_cluster = np.bincount(of[there], weights=each[there], minlength=len(open_to))
        enough = per_cluster >= work.replicas
        self._tell_full(work, shape, open_to & ~enough, per_cluster)
        return self._several(work, shape, np.flatnonzero(there & (each > 0) & enough[of]))

    def _singles(self, work: Workload, shape: Shape, roomy: Ints) -> list[Candidate]:
        fleet = self._fleet
        ranked = fleet.scorer.rank(fleet.capacity, shape, roomy, limit=self._look_at)
        seen: dict[int, None] = {}
        found = []
        order = list(zip(ranked.slots.tolist(), ranked.fragmentation.tolist(), strict=True))
        for ref in sorted(work.preferred):
            member = fleet.named(ref)
            own = roomy[fleet.cluster_of[roomy] == member.index] if member is not None else roomy[:0]
            if len(own):
                best = fleet.scorer.rank(fleet.capacity, shape, own, limit=1)
                order.insert(0, (int(best.slots[0]), float(best.fragmentation[0])))
        for slot, fragmentation in order:
            member = fleet.group_of(slot).cluster
            devices = fleet.scorer.devices(fleet.capacity, shape, slot)
            if member.index in seen or devices is None:
                continue
            seen[member.index] = None
            found.append(self._use(work, member, [(slot, devices)], fragmentation))
        return found

    def _several(self, work: Workload, shape: Shape, roomy: Ints) -> list[Candidate]:
        fleet = self._fleet
        if not len(roomy):
            return []
        ranked = fleet.scorer.rank(fleet.capacity, shape, roomy, limit=self._look_at)
        of = fleet.cluster_of
        order = dict.fromkeys(of[ranked.slots].tolist())
        also = [m.index for ref in sorted(work.preferred) if (m := fleet.named(ref)) is not None]
        there = set(of[roomy].tolist())
        order = dict.fromkeys(index for index in also if index in there) | order
        found = []
        for index in list(order)[:_TRIED]:
            seats, fragmentation = self._tried(work, shape, roomy[of[roomy] == index])
            if seats:
                found.append(self._use(work, fleet.member_at(index), seats, fragmentation))
        return found

    def _tried(self, work: Workload, shape: Shape, slots: Ints) -> tuple[list[tuple[int, tuple[int, ...]]], float]:
        """Seats for all pods on some nodes of a cluster, taken one after the other and given back; none where they don't all fit."""
        fleet = self._fleet
        taken: list[tuple[int, tuple[int, ...]]] = []
        fragmentation = 0.0
        try:
            for _ in range(work.replicas):
                slots = slots[fleet.capacity.fits(shape)[slots]]
                if not len(slots):
                    return [], 0.0
                best = fleet.scorer.rank(fleet.capacity, shape, slots, limit=1)
                slot = int(best.slots[0])
                devices = fleet.scorer.devices(fleet.capacity, shape, slot)
                if devices is None:
                    return [], 0.0
                fleet.capacity.take(slot, shape, devices)
                taken.append((slot, devices))
                fragmentation += float(best.fragmentation[0])
                if work.isolation is Isolation.NODE:
                    slots = slots[slots != slot]
        finally:
            for slot, devices in taken:
                fleet.capacity.give(slot, shape, devices)
        return taken, fragmentation

    def _use(self, work: Workload, member: Member, taken: Sequence[tuple[int, tuple[int, ...]]], fragmentation: float) -> Candidate:
        fleet = self._fleet
        cost = watts = 0.0
        model: str | None = None
        for slot, _ in taken:
            node = fleet.group_of(slot).shape
            if node is not None:
                cost += share_of(node, work) * node.price_per_hour
                watts += node.draw_w(work.cpu_milli, work.devices)
                model = node.accelerator.id if node.accelerator and work.accelerators else model
        seats = tuple(Seat(fleet.group_of(slot).name, fleet.node_of(slot), devices, slot) for slot, devices in taken)
        nodes = len({slot for slot, _ in taken})
        stranded = max(0.0, fragmentation / 1000)
        coming = any(fleet.coming_on[slot] for slot, _ in taken)
        room = "of its nodes that are on their way" if coming else "of its nodes now"
        return self._priced(
            work,
            Way.USE,
            added_cost=0.0,
            cost=cost,
            watts=watts,
            added_watts=0.0,
            wait=self._until_there(member) if coming else NOW,
            fragmentation=stranded,
            nodes=nodes,
            accelerator=model,
            member=member,
            group=seats[0].group,
            seats=seats,
            reasons=(
                f"{work.replicas} x {_words(work)} fit on {nodes} {room}; nothing is added.",
                f"{stranded:.2f} accelerators become useless to other work.",
            ),
        )

    def _tell_full(self, work: Workload, shape: Shape, full: Bools, room: Any) -> None:
        indices = np.flatnonzero(full)
        told = indices[: max(0, self._tell - len(self._rejected))]
        for index in told.tolist():
            member = self._fleet.member_at(index)
            shapes = [group.shape for group in member.groups if group.shape is not None]
            if max((pods_that_fit(one, shape) for one in shapes), default=0) == 0:
                flavors = ", ".join(sorted({one.flavor for one in shapes})) or "unknown"
                words = f"No node of its flavors ({flavors}) holds {_words(work)}."
                self._reject(Way.USE, "NO_SUCH_NODE", words, member.name, member)
            else:
                fit = 0 if room is None else int(room[index])
                words = f"{fit} of {work.replicas} pods of {_words(work)} fit on what is free of its nodes."
                self._reject(Way.USE, "NO_ROOM", words, member.name, member)
        if len(indices) > len(told):
            self._counts["NO_ROOM"] += len(indices) - len(told)

    # -- grow ----------------------------------------------------------------------------------------------------------------

    def _grown(self, work: Workload, shape: Shape, allowed: Bools) -> list[Candidate]:
        fleet = self._fleet
        groups = fleet.groups
        if not groups.size:
            return []
        alone = work.isolation is Isolation.NODE
        per_node = np.array([0, *(pods_that_fit(node, shape, alone=alone) for node in fleet.shapes)])
        price = np.array([0.0, *(node.price_per_hour for node in fleet.shapes)])
        kind = groups.column("shape")
        state = fleet.clusters.column("state")
        open_to = (allowed & ((state == OPEN) | (state == GROWING)))[groups.column("cluster")]
        can = (kind > 0) & open_to & (per_node[kind] > 0)
        more = -(-work.replicas // np.maximum(per_node[kind], 1))
        bounded = can & (more > groups.column("spare"))
        for index in np.flatnonzero(bounded)[: self._tell].tolist():
            group = fleet.group_at(index)
            most = NODE_COUNT_MAX if group.most is None else group.most
            words = f"Group {group.name} may have {most} nodes; {group.top} + {int(more[index])} are more."
            self._reject(Way.SCALE, "GROUP_FULL", words, group.cluster.name, group.cluster)
        rows = np.flatnonzero(can & ~bounded)
        added = more[rows] * price[kind[rows]]
        near = rows[np.argsort(added, kind="stable")[: self._look_at]].tolist()
        for ref in sorted(work.preferred):
            member = fleet.named(ref)
            near += [g.index for g in member.groups if g.index in set(rows.tolist()) and g.index not in near] if member else []
        return [self._grow(work, shape, fleet.group_at(index), int(more[index])) for index in near]

    def _grow(self, work: Workload, shape: Shape, group: Group, more: int) -> Candidate:
        node = group.shape
        assert node is not None  # noqa: S101 - chosen so
        per_node = pods_that_fit(node, shape, alone=work.isolation is Isolation.NODE)
        return self._priced(
            work,
            Way.SCALE,
            added_cost=more * node.price_per_hour,
            cost=more * node.price_per_hour,
            watts=self._draw(work, node),
            added_watts=more * node.max_w,
            wait=self._wait_to_grow(group.cluster),
            fragmentation=_left(node, work, more),
            nodes=more,
            accelerator=node.accelerator.id if node.accelerator and work.accelerators else None,
            member=group.cluster,
            group=group.name,
            target_nodes=group.top + more,
            seats=_seats_on_new(group.name, group.top, work, shape, per_node),
            reasons=(f"{more} more nodes of {node.flavor} in group {group.name} hold {work.replicas} x {_words(work)}.",),
        )

    # -- wake ----------------------------------------------------------------------------------------------------------------

    def _woken(self, work: Workload, shape: Shape, allowed: Bools) -> list[Candidate]:
        found = []
        alone = work.isolation is Isolation.NODE
        for index in np.flatnonzero(allowed & (self._fleet.clusters.column("state") == ASLEEP)).tolist():
            member = self._fleet.member_at(index)
            sizes = member.hibernated_sizes or {}
            room = [
                (group, pods_that_fit(group.shape, shape, alone=alone), sizes.get(group.name, 0))
                for group in member.groups
                if group.shape is not None
            ]
            if sum(per_node * size for _, per_node, size in room) < work.replicas:
                words = f"Awake it would hold fewer than {work.replicas} x {_words(work)}."
                self._reject(Way.WAKE, "NO_ROOM", words, member.name, member)
                continue
            found.append(self._wake(work, shape, member, room))
        found.sort(key=lambda one: one.key)
        return found[:MOST_TOLD]

    def _wake(self, work: Workload, shape: Shape, member: Member, room: Sequence[tuple[Group, int, int]]) -> Candidate:
        added = sum(group.shape.price_per_hour * size for group, _, size in room if group.shape)
        drawn = sum(group.shape.max_w * size for group, _, size in room if group.shape)
        seats: list[Seat] = []
        watts = cost = 0.0
        model = None
        for group, per_node, size in sorted(room, key=lambda item: item[0].shape.price_per_hour if item[0].shape else 0.0):
            take = min(per_node * size, work.replicas - len(seats))
            if take <= 0 or group.shape is None:
                continue
            seats += _seats_on_new(group.name, 0, work, shape, per_node)[:take]
            watts += take * group.shape.draw_w(work.cpu_milli, work.devices)
            cost += take * share_of(group.shape, work) * group.shape.price_per_hour
            model = group.shape.accelerator.id if group.shape.accelerator and work.accelerators else model
        nodes = sum(size for _, _, size in room)
        return self._priced(
            work,
            Way.WAKE,
            added_cost=added,
            cost=cost,
            watts=watts,
            added_watts=drawn,
            wait=self._wait(Way.WAKE, member.template),
            fragmentation=0.0,
            nodes=nodes,
            accelerator=model,
            member=member,
            group=seats[0].group,
            seats=tuple(seats),
            reasons=(f"It is hibernated; awake, its {nodes} nodes hold {work.replicas} x {_words(work)}.",),
        )

    # -- create --------------------------------------------------------------------------------------------------------------

    def _created(self, work: Workload, shape: Shape) -> list[Candidate]:
        found = []
        for offer in self._offers:
            if work.labels and not work.labels.items() <= dict(offer.labels).items():
                self._reject(Way.CREATE, "LABELS", "Clusters of this type lack labels that are asked for.", offer.name)
                continue
            per_node = pods_that_fit(offer.node, shape, alone=work.isolation is Isolation.NODE)
            if per_node == 0:
                words = f"A node of {offer.node.flavor} does not hold {_words(work)}."
                self._reject(Way.CREATE, "NO_SUCH_NODE", words, offer.name)
                continue
            nodes = nodes_for(work.replicas, per_node)
            masters = offer.master.price_per_hour * offer.masters if offer.master else 0.0
            master_w = offer.master.max_w * offer.masters if offer.master else 0.0
            added = nodes * offer.node.price_per_hour + masters
            found.append(
                self._priced(
                    work,
                    Way.CREATE,
                    added_cost=added,
                    cost=added,
                    watts=self._draw(work, offer.node),
                    added_watts=nodes * offer.node.max_w + master_w,
                    wait=offer.wait,
                    fragmentation=_left(offer.node, work, nodes),
                    nodes=nodes,
                    accelerator=offer.node.accelerator.id if offer.node.accelerator and work.accelerators else None,
                    group=offer.group,
                    type=offer,
                    target_nodes=nodes,
                    seats=_seats_on_new(offer.group, 0, work, shape, per_node),
                    reasons=(
                        f"A new cluster of {nodes} nodes of {offer.node.flavor} and {offer.masters} masters, of type {offer.name}.",
                    ),
                )
            )
        return found

    # -- what all have in common -----------------------------------------------------------------------------------------------

    def _draw(self, work: Workload, node: NodeShape) -> float:
        return work.replicas * node.draw_w(work.cpu_milli, work.devices)

    def _until_there(self, member: Member) -> Wait:
        """Until the nodes are there that are on their way: all that this takes, as nobody knows how far it has come."""
        return self._wait(Way.SCALE if member.phase is Phase.UPDATING else Way.CREATE, member.template)

    def _wait_to_grow(self, member: Member) -> Wait:
        """A change waits its turn behind one that is under way."""
        own = self._wait(Way.SCALE, member.template)
        if self._fleet.clusters.column("state")[member.index] != GROWING:
            return own
        before = self._until_there(member)
        return Wait(before.p50_s + own.p50_s, before.p90_s + own.p90_s, min(before.runs, own.runs))

    def _wait(self, way: Way, template: str) -> Wait:
        return self._waits.get((way, template)) or self._waits[(way, "")]

    def _priced(
        self,
        work: Workload,
        way: Way,
        *,
        added_cost: float,
        cost: float,
        watts: float,
        added_watts: float,
        wait: Wait,
        fragmentation: float,
        nodes: int,
        accelerator: str | None,
        member: Member | None = None,
        group: str | None = None,
        type: TypeOffer | None = None,  # noqa: A002 - the API's word
        target_nodes: int | None = None,
        seats: tuple[Seat, ...] = (),
        reasons: tuple[str, ...] = (),
    ) -> Candidate:
        tariff = self._limits.electricity_per_kwh
        row = self._catalogue.rows.get(accelerator or "")
        electricity = max(watts, added_watts) / 1000 * tariff
        waiting = wait.p50_s / 3600 * cost  # an hour of waiting is worth an hour of what is waited for
        stranded = fragmentation * (row.price_per_hour if row else 0.0)
        price = added_cost + electricity + waiting + stranded
        terms = (
            f"price {price:.4f}/h = {added_cost:.4f} added + {electricity:.4f} electricity + {waiting:.4f} waiting"
            f" + {stranded:.4f} stranded accelerators"
        )
        return Candidate(
            way=way,
            price=price,
            cost_per_hour=cost,
            added_cost_per_hour=added_cost,
            watts=watts,
            added_watts=added_watts,
            wait=wait,
            fragmentation=fragmentation,
            nodes=nodes,
            accelerator=accelerator,
            member=member,
            group=group,
            type=type,
            target_nodes=target_nodes,
            seats=seats,
            preferred=member is not None and self._preferred(work, member),
            reasons=(*reasons, terms),
        )

    def _within(self, work: Workload, one: Candidate) -> bool:
        """Whether a way keeps to every ceiling; the first that it breaks is told."""
        name = one.member.name if one.member else (one.type.name if one.type else "")
        broken = self._broken(work, one)
        if broken is None:
            return True
        self._reject(one.way, *broken, name, one.member)
        return False

    def _broken(self, work: Workload, one: Candidate) -> tuple[str, str] | None:
        if work.max_watts is not None and one.watts > work.max_watts:
            return "POWER_CEILING", f"It draws up to {one.watts:.0f} W; the workload may draw {work.max_watts:g} W."
        if work.max_cost_per_hour is not None and one.cost_per_hour > work.max_cost_per_hour:
            return "COST_CEILING", f"It costs {one.cost_per_hour:.4f}/h; the workload may cost {work.max_cost_per_hour:g}/h."
        for limit, left in sorted(self._limits.headroom_w.items()):
            if one.added_watts > left:
                return "POWER_BUDGET", f"It adds up to {one.added_watts:.0f} W; under the {limit} {max(left, 0.0):.0f} W are left."
        for limit, left in sorted(self._limits.headroom_cost.items()):
            if one.added_cost_per_hour > left:
                words = f"It adds {one.added_cost_per_hour:.4f}/h; under the {limit} {max(left, 0.0):.4f}/h are left."
                return "COST_BUDGET", words
        if work.deadline is not None:
            end = self._now + timedelta(seconds=one.wait.p90_s + (work.duration_s or 0.0))
            if end > work.deadline:
                words = f"With a wait of {one.wait.p90_s:.0f} s (p90) it would end at {end:%Y-%m-%dT%H:%M:%SZ}, after the deadline."
                return "DEADLINE", words
        return None

    def _reject_at(self, way: Way, code: str, where: Bools, words: Callable[[Member], str]) -> None:
        indices = np.flatnonzero(where)
        told = [self._fleet.member_at(index) for index in indices[: self._tell].tolist()]
        self._reject_many(way, code, told, words)
        self._counts[code] += len(indices) - len(told)

    def _reject_many(self, way: Way, code: str, members: Sequence[Member], words: Callable[[Member], str]) -> None:
        for number, member in enumerate(members):
            if number < self._tell:
                self._reject(way, code, words(member), member.name, member)
        self._counts[code] += max(0, len(members) - self._tell)

    def _reject(self, way: Way, code: str, detail: str, name: str, member: Member | None = None) -> None:
        self._counts[code] += 1
        if len(self._rejected) < self._tell:
            self._rejected.append(Rejected(way, code, detail, name, str(member.id) if member else None))


def share_of(node: NodeShape, work: Workload | Placement) -> float:
    """The part of a node that one pod has: of the resource that it takes most of. 1 where it has the node to itself."""
    if work.isolation is not Isolation.SHARED:
        return 1.0
    parts = [0.0]
    if node.cpu_milli:
        parts.append(work.cpu_milli / node.cpu_milli)
    if node.memory_mib:
        parts.append(work.memory_mib / node.memory_mib)
    if node.devices:
        parts.append(work.accelerators * work.share_milli / 1000 / node.devices)
    return min(1.0, max(parts))


def _left(node: NodeShape, work: Workload, nodes: int) -> float:
    """Accelerators of new nodes that the workload leaves without cores or memory: what is left of those goes with them."""
    if node.accelerator is None:
        return 0.0
    free = nodes * node.devices - work.replicas * work.devices
    if free <= 0:
        return 0.0
    cpu = 1 - work.replicas * work.cpu_milli / (nodes * node.cpu_milli) if node.cpu_milli else 0.0
    memory = 1 - work.replicas * work.memory_mib / (nodes * node.memory_mib) if node.memory_mib else 0.0
    usable = max(0.0, min(cpu, memory)) * nodes * node.devices
    return max(0.0, free - usable)


def _seats_on_new(group: str, first: int, work: Workload, shape: Shape, per_node: int) -> tuple[Seat, ...]:
    seats = []
    for number in range(work.replicas):
        node, place = divmod(number, per_node)
        if not shape.accelerators:
            devices: tuple[int, ...] = ()
        elif shape.share_milli < 1000:  # noqa: PLR2004 - a whole device
            devices = (place // (1000 // shape.share_milli),)
        else:
            devices = tuple(range(place * shape.accelerators, (place + 1) * shape.accelerators))
        seats.append(Seat(group, first + node, devices))
    return tuple(seats)


def _lacking(wanted: Mapping[str, str], has: Mapping[str, str]) -> str:
    return ", ".join(f"{key}={value}" for key, value in sorted(wanted.items()) if has.get(key) != value)


def _words(work: Workload) -> str:
    parts = [f"{work.cpu_milli / 1000:g} cores", f"{work.memory_mib / 1024:g} GiB"]
    if work.accelerators:
        amount = f"{work.share_milli / 10:g} % of one" if work.share_milli < 1000 else f"{work.accelerators}"  # noqa: PLR2004
        parts.append(f"{amount} {'/'.join(work.models) or work.kind or 'accelerator'}")
    return ", ".join(parts)
