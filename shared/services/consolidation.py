"""Plans over all clusters of a project: which could go, shrink or be made, so that what runs costs less and draws less.

Making a plan changes nothing. It is kept, and whoever stands for it has it carried out: see :mod:`shared.services.plans`.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from shared.domain.clusters import NODE_COUNT_MAX, Scope
from shared.domain.consolidation.model import Cluster, Group, Pod, Problem, Spot
from shared.domain.consolidation.plan import Plan, Step, consolidate
from shared.domain.jobs import Job, JobError, JobKind, JobState
from shared.domain.plan_drift import concerned
from shared.domain.plans import NEW, PlanState, PlanStep, StoredPlan
from shared.domain.ports import Actor
from shared.errors import (
    CloudError,
    Conflict,
    IdempotencyMismatch,
    InvalidRequest,
    KcloudError,
    LeaseLost,
    Unavailable,
    as_sentence,
)
from shared.services.plan_basis import held_until, only, plan_steps, snapshot
from shared.services.power import watts_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import timedelta
    from uuid import UUID

    from shared.db.uow import Database, UnitOfWork
    from shared.domain.accelerators import NodeShape
    from shared.domain.fleet import Member, ProjectFleet
    from shared.domain.matching import TypeOffer
    from shared.domain.ports import Clock, Idempotency
    from shared.domain.workloads import Placement
    from shared.errors import FieldError
    from shared.services.clusters import ClusterService
    from shared.services.fleets import Fleets
    from shared.services.matching import MatchService
    from shared.settings import PlacementSettings

#: A task has 30 s; what remains is for reading and writing.
SECONDS_MAX: Final = 20.0
SECONDS: Final = 10.0
COST_PER_MOVE: Final = 0.02
#: Nodes by which a group may grow in a plan.
_GROWTH: Final = 16
_STEPS_TOLD: Final = 2_000


class ConsolidationService:
    """Plans for the actor's project."""

    def __init__(
        self,
        database: Database,
        fleets: Fleets,
        matching: MatchService,
        clusters: ClusterService,
        clock: Clock,
        *,
        region: str,
        settings: PlacementSettings,
        nudge: Callable[[], None],
        deadline: timedelta,
        valid: timedelta,
    ) -> None:
        self._database = database
        self._fleets = fleets
        self._matching = matching
        self._clusters = clusters
        self._clock = clock
        self._region = region
        self._settings = settings
        self._nudge = nudge
        self._deadline = deadline
        self._valid = valid

    def request(
        self,
        actor: Actor,
        fields: Mapping[str, Any],
        *,
        findings: Sequence[FieldError] = (),
        idempotency: Idempotency | None = None,
        validate_only: bool = False,
    ) -> tuple[Job, bool] | None:
        """Promise a plan: its job, and whether an earlier request of the same key had it already. None: it was only validated."""
        if findings:
            raise InvalidRequest(as_sentence(findings), errors=findings)
        if validate_only:
            return None
        now = self._clock.now()
        job = Job(
            id=uuid4(),
            project_id=actor.project_id,
            region=self._region,
            cluster_id=None,
            kind=JobKind.OPTIMIZE,
            state=JobState.QUEUED,
            created_at=now,
            due_at=now,
            deadline_at=now + self._deadline,
            params={
                "name": "all clusters",
                "cost_per_move": fields.get("cost_per_move", COST_PER_MOVE),
                "max_seconds": fields.get("max_seconds", SECONDS),
                "new_clusters": fields.get("new_clusters", True),
            },
            requested_by=actor.user_id,
            request_id=actor.request_id,
        )
        with self._database.begin() as uow:
            known = uow.accept.recall(actor.project_id, idempotency.key) if idempotency else None
            if known is not None and idempotency is not None:
                return self._replayed(uow, actor, idempotency, known)
            if idempotency and not uow.accept.remember(actor.project_id, idempotency, job.id):
                msg = f"A request with Idempotency-Key {idempotency.key!r} is under way."
                raise Conflict(msg, reason="IDEMPOTENCY_KEY_IN_USE", hint="Repeat the request.")
            uow.accept.change(job)
        self._nudge()
        return job, False

    @staticmethod
    def _replayed(uow: UnitOfWork, actor: Actor, idempotency: Idempotency, known: tuple[str, UUID]) -> tuple[Job, bool]:
        job = uow.jobs.get(known[1], actor.project_id) if known[0] == idempotency.fingerprint else None
        if job is None:
            msg = f"Idempotency-Key {idempotency.key!r} was used before with another request, or its job is past its keeping time."
            raise IdempotencyMismatch(msg, hint="Use a new key.")
        return job, True

    def run(self, job: Job) -> Job:
        """Make the plan of a job that a worker holds, and end the job."""
        actor = Actor(job.requested_by or "", job.project_id, frozenset({"member"}), request_id=job.request_id or "")
        try:
            problem, names, seen = self._problem(actor, job)
            plan = consolidate(problem, seconds=float(job.params["max_seconds"]))
        except (LeaseLost, Unavailable, CloudError):
            raise
        except KcloudError as exc:
            error = JobError(exc.reason, exc.detail, exc.hint).as_dict()
            return self._end(job, JobState.FAILED, error=error)
        told = _told(plan, names)
        steps = plan_steps(plan.steps, names, {pod.id: pod.workload for pod in problem.pods})
        return self._end(job, JobState.SUCCEEDED, (self._stored(job, told, only(seen, concerned(steps))), steps), result=told)

    def _stored(self, job: Job, told: Mapping[str, Any], basis: Mapping[str, Any]) -> StoredPlan:
        now = self._clock.now()
        return StoredPlan(
            id=job.id,
            project_id=job.project_id,
            region=job.region,
            state=PlanState.PROPOSED,
            created_at=now,
            valid_until=now + self._valid,
            summary={name: value for name, value in told.items() if name not in {"steps", "steps_in_all"}},
            basis=basis,
            requested_by=job.requested_by,
        )

    def _end(self, job: Job, state: JobState, made: tuple[StoredPlan, list[PlanStep]] | None = None, **outcome: Any) -> Job:
        with self._database.begin() as uow:
            if made is not None:
                uow.plans.add(*made)
            ended = uow.jobs.finish(job, state, **outcome)
            uow.jobs.record([(job.id, state.value, ended.state.value, outcome.get("error") or {})])
        return ended

    # -- the question -----------------------------------------------------------------------------------------------------

    def _problem(self, actor: Actor, job: Job) -> tuple[Problem, dict[str, str], dict[str, Any]]:
        """The question, the names of its clusters, and what was seen of them."""
        scope = Scope(job.region, job.project_id)
        offers = self._matching.offers_of(actor, scope) if job.params["new_clusters"] else []
        with self._database.begin() as uow:
            fleet, rows, shapes = self._fleets.imagined(uow, scope)
            held = uow.placements.active(scope)
            nodes = uow.placements.nodes(scope.region)
            full = {one.id: one for one in uow.clusters.by_ids(list(rows)).values()}
            kept = held_until(uow, list(rows), self._clock.now())
        lying: dict[UUID, list[Placement]] = {}
        for one in held:
            lying.setdefault(one.cluster_id, []).append(one)
        floors = {key: self._clusters.driver_of(one).least_workers for key, one in full.items()}
        clusters = [
            _cluster(member, rows[key], lying.get(key, []), scope, floors.get(key, 0), kept=key in kept)
            for key, member in fleet.members.items()
        ]
        new = [_possible(offer, scope) for offer in offers]
        problem = Problem(
            clusters=(*clusters, *new),
            pods=tuple(
                _pod(one, fleet, offers, scope) for key in fleet.members for one in _seated(fleet.members[key], lying.get(key, []))
            ),
            money_per_watt=self._settings.electricity_per_kwh / 1000,
            money_per_move=float(job.params["cost_per_move"]),
            site_watts=self._site(scope, nodes, shapes),
            project_watts={scope.project_id: self._settings.project_power_w} if self._settings.project_power_w is not None else {},
        )
        names = {str(member.id): member.name for member in fleet.members.values()} | {one.id: one.id for one in new}
        return problem, names, snapshot(rows.values(), held, offers)

    def _site(self, scope: Scope, nodes: Sequence[tuple[str, str, int]], shapes: Mapping[str, NodeShape]) -> dict[str, float]:
        if self._settings.site_power_w is None:
            return {}
        others = sum(watts_of(shapes.get(flavor)) * count for project, flavor, count in nodes if project != scope.project_id)
        return {scope.region: max(0.0, self._settings.site_power_w - others)}


def _seated(member: Member, held: Sequence[Placement]) -> list[Placement]:
    """What lies on a node that is there, of a flavor that is known."""
    counts = {group.name: group.count for group in member.groups if group.shape is not None}
    return [one for one in held if one.node < counts.get(one.node_group, 0)]


def _cluster(member: Member, row: Mapping[str, Any], held: Sequence[Placement], scope: Scope, floor: int, *, kept: bool) -> Cluster:
    whole = all(group.shape is not None for group in member.groups) and len(_seated(member, held)) == len(held)
    known = [(group, group.shape) for group in member.groups if group.shape is not None]
    return Cluster(
        id=str(member.id),
        tenancy=scope.project_id,
        project=scope.project_id,
        site=scope.region,
        control_cost_per_hour=member.master_shape.price_per_hour * member.masters if member.master_shape else 0.0,
        control_watts=member.master_shape.max_w * member.masters if member.master_shape else 0.0,
        groups=tuple(
            _group(
                group.name,
                shape,
                nodes=group.count,
                least=min(floor, group.count),
                most=max(group.count, min(NODE_COUNT_MAX if group.most is None else group.most, group.count + _GROWTH)),
            )
            for group, shape in known
        ),
        fixed=member.closed is not None or not whole or not row["managed"],
        deletable=bool(row["managed"]) and member.labels.get("persistent") != "true" and not kept,
    )


def _group(name: str, shape: NodeShape, *, nodes: int, least: int, most: int) -> Group:
    return Group(
        name=name,
        flavor=shape.flavor,
        cpu_milli=shape.cpu_milli,
        memory_mib=shape.memory_mib,
        model=shape.accelerator.id if shape.accelerator else None,
        devices=shape.devices,
        cost_per_hour=shape.price_per_hour,
        watts=shape.max_w,
        nodes=nodes,
        least=least,
        most=most,
    )


def _possible(offer: TypeOffer, scope: Scope) -> Cluster:
    master = offer.master
    return Cluster(
        id=f"{NEW}{offer.name}",
        tenancy=scope.project_id,
        project=scope.project_id,
        site=scope.region,
        control_cost_per_hour=master.price_per_hour * offer.masters if master else 0.0,
        control_watts=master.max_w * offer.masters if master else 0.0,
        groups=(_group(offer.group, offer.node, nodes=0, least=0, most=_GROWTH),),
        exists=False,
    )


def _pod(one: Placement, fleet: ProjectFleet, offers: Sequence[TypeOffer], scope: Scope) -> Pod:
    lacking = (
        {str(member.id) for member in fleet.members.values() if not one.labels.items() <= member.labels.items()}
        | {f"{NEW}{offer.name}" for offer in offers if not one.labels.items() <= offer.labels.items()}
        if one.labels
        else set()
    )
    return Pod(
        id=str(one.id),
        workload=one.workload,
        tenancy=scope.project_id,
        at=Spot(str(one.cluster_id), one.node_group, one.node),
        cpu_milli=one.cpu_milli,
        memory_mib=one.memory_mib,
        accelerators=one.accelerators,
        share_milli=one.share_milli,
        models=frozenset(one.models) if one.models is not None else None,
        movable=one.movable,
        isolation=one.isolation,
        priority=one.priority,
        forbidden=frozenset(lacking - {str(one.cluster_id)}),
    )


# -- the answer -------------------------------------------------------------------------------------------------------------


def _told(plan: Plan, names: Mapping[str, str]) -> dict[str, Any]:
    return {
        "steps": [_step(number, step, names) for number, step in enumerate(plan.steps[:_STEPS_TOLD])],
        "steps_in_all": len(plan.steps),
        "kept": [
            {"cluster_id": one.cluster, "name": names[one.cluster].removeprefix(NEW), "reason": one.reason} for one in plan.rejected
        ],
        "objective": {
            "before": round(plan.objective_before, 6),
            "after": round(plan.objective, 6),
            "bound": round(plan.bound, 6),
            "gap": round(plan.gap, 6),
            "optimal": plan.optimal,
        },
        "cost_per_hour": {"before": round(plan.cost_before, 6), "after": round(plan.cost, 6)},
        "watts": {"before": round(plan.watts_before, 1), "after": round(plan.watts, 1)},
        "moves": sum(1 for step in plan.steps if step.pod is not None),
    }


def _step(number: int, step: Step, names: Mapping[str, str]) -> dict[str, Any]:
    new = step.cluster.startswith(NEW)
    return {
        "number": number,
        "action": step.act.value,
        "cluster_id": None if new else step.cluster,
        "name": names[step.cluster].removeprefix(NEW),
        "node_group": step.group,
        "nodes_before": step.nodes_before if step.group else None,
        "nodes": step.nodes if step.group else None,
        "keeps": list(step.keeps),
        "placement_id": step.pod,
        "source": asdict(step.source) if step.source else None,
        "target": asdict(step.target) if step.target else None,
        "reason": step.reason,
    }
