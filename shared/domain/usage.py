"""Which node groups of a cluster run how many nodes of which flavor, out of what Magnum's lists show: totals, and one flavor.

A list of clusters shows the workers of all groups in one number. As long as that number is the one that was wanted, the groups have the
sizes that were wanted; otherwise the split is a guess, marked so, until the cluster's groups are read by themselves.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from shared.domain.clusters import DEFAULT_GROUP, MagnumStatus, NodeGroup, ObservedCluster

#: The group of the control plane, by Magnum's name for it.
MASTER_GROUP: Final = "default-master"
MASTER: Final = "master"
WORKER: Final = "worker"


@dataclass(frozen=True, slots=True)
class GroupUse:
    """From ``since`` on, a group runs so many nodes. ``flavor`` None: not known, which leaves the one known before."""

    group: str
    role: str
    flavor: str | None
    nodes: int
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """What was asked for: workers in all, and the groups besides the default one with their flavors and sizes."""

    workers: int
    groups: tuple[GroupUse, ...] = ()
    managed: bool = True
    asleep: bool = False  #: hibernated: the groups' sizes are those to wake to


@dataclass(frozen=True, slots=True)
class Known:
    """What was on record of a cluster before an answer: Magnum's word, and Magnum's date."""

    status: str | None = None
    updated_at: datetime | None = None


def counts_stand(observed: ObservedCluster) -> bool:
    """Whether the counts shown are of nodes that run, rather than of nodes that are being made or removed."""
    return observed.status.complete or observed.status is MagnumStatus.UPDATE_FAILED


def split(observed: ObservedCluster, wanted: Wanted) -> tuple[list[GroupUse], bool]:
    """The groups' use, and whether it is known rather than guessed. Groups that are not named run nothing."""
    masters = GroupUse(MASTER_GROUP, MASTER, observed.master_flavor, observed.master_count)
    total = observed.node_count
    if total == 0:
        return [masters], True
    in_groups = sum(group.nodes for group in wanted.groups)
    known = wanted.managed and not wanted.asleep and total == wanted.workers and in_groups <= total
    left = total
    found = []
    for group in wanted.groups:
        nodes = min(group.nodes, left)
        left -= nodes
        found.append(GroupUse(group.group, WORKER, group.flavor or observed.flavor, nodes))
    return [masters, GroupUse(DEFAULT_GROUP, WORKER, observed.flavor, left), *found], known


def of_groups(groups: Sequence[NodeGroup]) -> list[GroupUse]:
    """The use that Magnum's own list of a cluster's node groups tells, dated by Magnum."""
    return [
        GroupUse(
            group.name,
            MASTER if group.is_master else WORKER,
            group.flavor,
            group.node_count,
            group.updated_at or group.created_at,
        )
        for group in groups
    ]


def changes(told: Sequence[GroupUse], running: Mapping[str, GroupUse]) -> list[GroupUse]:
    """What of ``told`` differs from what is on record as ``running``; groups on record that it does not name have ended."""
    named = {use.group for use in told}
    found = [use for use in told if _differs(use, running.get(use.group))]
    found += [GroupUse(name, use.role, use.flavor, 0) for name, use in running.items() if name not in named]
    return found


def _differs(use: GroupUse, before: GroupUse | None) -> bool:
    if before is None:
        return use.nodes > 0
    return use.nodes != before.nodes or (use.flavor is not None and use.flavor != before.flavor)


def changed_at(observed: ObservedCluster, known: Known, at: datetime) -> datetime:
    """When the counts became what ``observed`` shows: when Magnum last changed the cluster, also where we saw it much later.

    Magnum's date is compared with Magnum's own date before, so that the clocks' difference plays no part; where neither it nor the
    status has moved, Magnum did not date the change, and it counts from ``at``, the moment of its answer by our clock.
    """
    dated = observed.updated_at or observed.created_at
    if dated is None or (known.updated_at is not None and dated <= known.updated_at and known.status == observed.raw_status):
        return at
    return dated


def is_late(observed: ObservedCluster, known: Known) -> bool:
    """Whether Magnum has dated a change after this answer."""
    return known.updated_at is not None and observed.updated_at is not None and observed.updated_at < known.updated_at
