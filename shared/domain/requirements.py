"""What the clusters of a project would have to become for workloads to run: grow, wake, new ones; and which are not needed.

The workloads are placed one after the other, the more important ones first, on an imagined fleet: what one of them makes grow is there for
the next, so that two which fit on one new node ask for one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID, uuid5

from shared.domain.matching import Candidate, Matched, Matcher, Way

if TYPE_CHECKING:
    from shared.domain.accelerators import NodeShape
    from shared.domain.fleet import ProjectFleet
    from shared.domain.workloads import Workload

_NEW: Final = UUID("8e3b7c52-7f3c-4d0f-9a52-5c9f5d1c1d10")
_TELL_OF_REJECTED: Final = 5


class Need(StrEnum):
    """What is to be done to a cluster, or with a type."""

    NONE = "none"
    SCALE_OUT = "scale_out"
    SCALE_IN = "scale_in"
    WAKE = "wake"
    CREATE = "create"
    HIBERNATE = "hibernate"


@dataclass
class Change:
    """One cluster's decision. ``cluster_id`` is None for one that is to be created, of the type ``name``. ``targets``: nodes by group."""

    need: Need
    name: str
    cluster_id: str | None
    targets: dict[str, int] = field(default_factory=dict)
    reasons: list[str] = field(default_factory=list)
    blocked: list[str] = field(default_factory=list)

    @property
    def target_nodes(self) -> int | None:
        """All workers after it; None where nothing changes."""
        return sum(self.targets.values()) if self.targets else None

    def as_dict(self) -> dict[str, Any]:
        """For answers."""
        return {
            "action": self.need.value,
            "cluster_id": self.cluster_id,
            "name": self.name,
            "target_nodes": self.target_nodes,
            "targets": self.targets,
            "reasons": self.reasons,
            "blocked": self.blocked,
        }


@dataclass
class Analysis:
    """``changes`` by cluster, in the order in which they came up; ``used``: ids of clusters that some workload lies on;
    ``placed``: for each workload, in the order given, the cluster's (or new one's) name, or None with the reasons.
    """

    changes: dict[UUID, Change] = field(default_factory=dict)
    used: set[UUID] = field(default_factory=set)
    placed: list[tuple[str | None, list[str]]] = field(default_factory=list)


class Analyst:
    """Works on a fleet of its own, which it changes."""

    def __init__(
        self, fleet: ProjectFleet, matcher: Matcher, rows: Mapping[UUID, Mapping[str, Any]], shapes: Mapping[str, NodeShape]
    ) -> None:
        self._fleet = fleet
        self._matcher = matcher
        self._rows = rows
        self._shapes = shapes
        self._found = Analysis()
        self._made = 0

    def analyse(self, works: Sequence[Workload]) -> Analysis:
        """Place them all."""
        order = sorted(range(len(works)), key=lambda index: -works[index].priority)
        placed: dict[int, tuple[str | None, list[str]]] = {index: self._place(works[index]) for index in order}
        self._found.placed = [placed[index] for index in range(len(works))]
        return self._found

    def _place(self, work: Workload) -> tuple[str | None, list[str]]:
        matched = self._matcher.match(work, first_only=True)
        best = matched.best
        if best is not None and best.way is not Way.USE:
            self._imagine(work, best)
            matched = self._matcher.match(work, first_only=True)
        now = matched.best
        if best is None or now is None or now.way is not Way.USE or now.member is None:
            return None, _why_not(matched)
        for seat in now.seats:
            self._fleet.capacity.take(seat.slot, matched.shape, seat.devices)
        self._found.used.add(now.member.id)
        return now.member.name, list((best if best.way is not Way.USE else now).reasons)

    def _imagine(self, work: Workload, best: Candidate) -> None:
        why = f"{work.name}: {best.reasons[0]}" if best.reasons else work.name
        if best.way is Way.SCALE and best.member is not None:
            group = next(one for one in best.member.groups if one.name == best.group)
            self._fleet.grow(group, (best.target_nodes or group.top) - group.top)
            change = self._found.changes.setdefault(best.member.id, Change(Need.SCALE_OUT, best.member.name, str(best.member.id)))
            change.targets = {one.name: one.count for one in best.member.groups}
            change.reasons.append(why)
            return
        if best.way is Way.WAKE and best.member is not None:
            row = dict(self._rows[best.member.id])
            sizes = dict(best.member.hibernated_sizes or {})
            further = [{**group, "node_count": sizes.get(group["name"], 0)} for group in row["groups"]]
            count = sum(sizes.values())
            self._fleet.put(
                row | {"phase": "Ready", "node_count": count, "observed_node_count": count, "groups": further}, [], self._shapes
            )
            self._found.changes[best.member.id] = Change(Need.WAKE, best.member.name, str(best.member.id), sizes, [why])
        elif best.way is Way.CREATE and best.type is not None:
            self._made += 1
            row = {
                "id": uuid5(_NEW, str(self._made)),
                "name": f"{best.type.name}#{self._made}",
                "phase": "Ready",
                "live": True,
                "flavor": best.type.node.flavor,
                "master_flavor": best.type.master.flavor if best.type.master else None,
                "template_id": best.type.name,
                "template_name": best.type.name,
                "node_count": best.nodes,
                "observed_node_count": best.nodes,
                "masters": best.type.masters,
                "labels": dict(best.type.labels),
                "health_status": None,
                "hibernated_sizes": None,
                "groups": [],
            }
            self._fleet.put(row, [], self._shapes)
            targets = {best.type.group: best.nodes}
            self._found.changes[row["id"]] = Change(Need.CREATE, best.type.name, None, targets, [why])


def _why_not(matched: Matched) -> list[str]:
    told = [f"{one.name}: {one.detail}" for one in matched.rejected[:_TELL_OF_REJECTED]]
    return told or ["There is no cluster, and no cluster type that could be made."]
