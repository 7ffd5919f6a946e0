"""What a plan rests on: clusters and placements as a transaction sees them, in a form that can be kept and held against the present."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

from shared.domain.clusters import DEFAULT_GROUP, Scope
from shared.domain.plans import NEW, PlanStep

if TYPE_CHECKING:
    from datetime import datetime

    from shared.db.uow import UnitOfWork
    from shared.domain.consolidation.plan import Step
    from shared.domain.matching import TypeOffer
    from shared.domain.workloads import Placement


def cluster_state(row: Mapping[str, Any]) -> dict[str, Any]:
    """One cluster: what of it a plan relies on."""
    others = sum(group["node_count"] for group in row["groups"])
    there = row["observed_node_count"] or 0
    groups = {DEFAULT_GROUP: {"flavor": row["flavor"], "nodes": max(0, there - others)}}
    groups |= {group["name"]: {"flavor": group["flavor"], "nodes": group["node_count"]} for group in row["groups"]}
    return {
        "name": row["name"],
        "phase": row["phase"],
        "managed": row["managed"],
        "healthy": row["health_status"] != "UNHEALTHY",
        "persistent": (row["labels"] or {}).get("persistent") == "true",
        "masters": row["masters"],
        "master_flavor": row["master_flavor"],
        "groups": groups,
    }


def snapshot(rows: Iterable[Mapping[str, Any]], held: Iterable[Placement], offers: Iterable[TypeOffer]) -> dict[str, Any]:
    """Live clusters, what lies on them, and the types that more could be made of."""
    clusters = {str(row["id"]): cluster_state(row) for row in rows if row["live"]}
    placements: dict[str, dict[str, list[Any]]] = {ref: {} for ref in clusters}
    for one in held:
        if str(one.cluster_id) in placements:
            placements[str(one.cluster_id)][str(one.id)] = [one.node_group, one.node]
    types = {
        f"{NEW}{one.name}": {
            "flavor": one.node.flavor,
            "master_flavor": one.master.flavor if one.master else None,
            "masters": one.masters,
            "group": one.group,
        }
        for one in offers
    }
    return {"clusters": clusters, "placements": placements, "types": types}


def look(uow: UnitOfWork, scope: Scope, refs: Collection[str], offers: Iterable[TypeOffer]) -> dict[str, Any]:
    """The same of the present, for some clusters."""
    ids = [UUID(ref) for ref in refs if not ref.startswith(NEW)]
    return snapshot([dict(row) for row in uow.placements.clusters(scope, ids)], uow.placements.active(scope, ids), offers)


def only(seen: Mapping[str, Any], refs: Collection[str]) -> dict[str, Any]:
    """The part of a snapshot that is about these."""
    return {name: {ref: one for ref, one in seen[name].items() if ref in refs} for name in ("clusters", "placements", "types")}


def held_until(uow: UnitOfWork, cluster_ids: Sequence[UUID], now: datetime) -> dict[UUID, datetime]:
    """The clusters that somebody keeps (PUT /clusters/{id}/hold), and until when."""
    return {key: hold.until_at for key, hold in uow.cleanup.holds(cluster_ids).items() if hold.until_at > now}


def plan_steps(steps: Sequence[Step], names: Mapping[str, str], workloads: Mapping[str, str]) -> list[PlanStep]:
    """A plan's steps as they are stored, with the numbers by which they were told."""
    return [
        PlanStep(
            number=number,
            act=step.act,
            ref=step.cluster,
            name=names[step.cluster].removeprefix(NEW),
            reason=step.reason,
            group=step.group,
            nodes_before=step.nodes_before,
            nodes=step.nodes,
            keeps=step.keeps,
            placement_id=UUID(step.pod) if step.pod else None,
            workload=workloads.get(step.pod or ""),
            source=step.source,
            target=step.target,
            cluster_id=None if step.cluster.startswith(NEW) else UUID(step.cluster),
        )
        for number, step in enumerate(steps)
    ]
