"""What a change that takes nodes away was to save, and what it does.

Without it the nodes would have run on. So at a moment it saves, of each group of nodes, ``before`` less the largest number that the group has had
since the change took effect, or less ``after`` where that is more; for thirty days at most, and until the cluster is gone by something else.
A later change of the same group counts its own difference alone, and nodes that come back are saved by nobody, so that savings of all changes
and what runs add up to no more than what once ran.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final
from uuid import UUID

from shared.domain.costing import Use

#: For how long a change is credited: longer, and nobody knows what would have been.
HORIZON: Final = timedelta(days=30)
KINDS: Final = ("scale_in", "hibernate", "delete", "remove_node_group")
CAUSES: Final = ("user", "policy", "cleanup", "plan", "budget")


@dataclass(frozen=True, slots=True)
class Change:
    """Of one group of nodes: how many ran, and how many were to."""

    role: str
    flavor: str | None
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class Entry:
    """A change that was promised at ``at``. ``groups``: those that it takes nodes from."""

    job_id: UUID
    cluster_id: UUID
    cluster_name: str
    kind: str
    cause: str
    at: datetime
    groups: Mapping[str, Change]


@dataclass(frozen=True, slots=True)
class Ran:
    """Nodes of a group that ran over [start, end)."""

    node_group: str
    nodes: int
    start: datetime
    end: datetime


def predicted(entry: Entry, start: datetime, end: datetime) -> list[Use]:
    """What it was to save in [start, end): all of its difference from its promise on."""
    first, last = max(start, entry.at), min(end, entry.at + HORIZON)
    if first >= last:
        return []
    return [
        Use(entry.cluster_id, one.role, name, one.flavor, one.before - one.after, first, last)
        for name, one in entry.groups.items()
        if one.before > one.after
    ]


def realised(entry: Entry, ran: Iterable[Ran], gone: datetime | None, start: datetime, end: datetime) -> list[Use]:
    """What it did save in [start, end). ``ran``: all that the cluster ran from the promise on; ``gone``: when it ended as a whole."""
    until = min(end, entry.at + HORIZON)
    if gone is not None and entry.kind != "delete":
        until = min(until, gone)
    held = list(ran)
    found = []
    for name, change in entry.groups.items():
        own = [one for one in held if one.node_group == name]
        edges = sorted({entry.at, until, *(at for one in own for at in (one.start, one.end) if entry.at < at < until)})
        level: int | None = None
        for since, to in pairwise(edges):
            if since < entry.at or to > until:
                continue
            there = sum(one.nodes for one in own if one.start <= since and one.end >= to)
            if level is None and there > change.after:
                continue  # its nodes are still there
            level = max(level or 0, change.after, there)
            if level >= change.before:
                break
            first, last = max(since, start), min(to, end)
            if first < last:
                found.append(Use(entry.cluster_id, change.role, name, change.flavor, change.before - level, first, last))
    return found
