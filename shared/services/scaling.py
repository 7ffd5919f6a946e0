"""Scale policies: given, explained, and applied by beat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from shared.domain.clusters import DEFAULT_GROUP, Cluster, Scope
from shared.domain.ports import Actor
from shared.domain.scaling import Action, Decision, ScalePolicy, decide, read_policy
from shared.errors import CloudError, Conflict, FieldError, InvalidRequest, KcloudError, NotFound, Unavailable, as_sentence
from shared.observability.logging import get_logger

if TYPE_CHECKING:
    from uuid import UUID

    from shared.db.scaling import HeldPolicy
    from shared.db.uow import Database, UnitOfWork
    from shared.domain.fleet import Member
    from shared.domain.ports import Accepted, Clock
    from shared.services.clusters import ClusterService
    from shared.services.fleets import Fleets

log = get_logger(__name__)

#: Who asks for what a policy decides, in jobs and in the audit trail.
POLICY: Final = "policy:scale"
#: Measured use older than this is not known any more.
_USE_WITHIN_S: Final = 600.0
_BATCH: Final = 50


class ScalingService:
    """Policies of clusters of the actor's project."""

    def __init__(self, database: Database, fleets: Fleets, clusters: ClusterService, clock: Clock) -> None:
        self._database = database
        self._fleets = fleets
        self._clusters = clusters
        self._clock = clock

    def policy(self, actor: Actor, cluster_ref: str) -> dict[str, Any]:
        """The cluster's policy, and what last came of it. NotFound where it has none."""
        cluster = self._clusters.get(actor, cluster_ref)
        with self._database.single() as uow:
            held = uow.scaling.get(cluster.id)
        if held is None:
            msg = f"Cluster {cluster.name!r} has no scale policy."
            raise NotFound(msg, reason="NO_SCALE_POLICY")
        return _shown(cluster, held)

    def put(
        self,
        actor: Actor,
        cluster_ref: str,
        fields: Mapping[str, Any],
        *,
        findings: Sequence[FieldError],
        validate_only: bool = False,
    ) -> dict[str, Any] | None:
        """Give the cluster a policy. None: it was only validated."""
        cluster = self._clusters.get(actor, cluster_ref)
        policy, wrong = read_policy(fields) if not findings else (ScalePolicy(), [])
        wrong = [*findings, *wrong]
        if wrong:
            raise InvalidRequest(as_sentence(wrong), errors=wrong)
        if policy.enabled and not cluster.managed:
            msg = f"Cluster {cluster.name!r} was made by others, and is only watched here."
            raise Conflict(msg, reason="NOT_MANAGED", hint="Take it over first: POST /clusters/import.")
        if validate_only:
            return None
        with self._database.begin() as uow:
            uow.scaling.put(cluster.id, policy.as_dict(), by=actor.user_id)
            uow.audit.record(actor, "scaling:put", cluster.id, policy.as_dict())
        return self.policy(actor, cluster_ref)

    def delete(self, actor: Actor, cluster_ref: str) -> None:
        """Take the policy away."""
        cluster = self._clusters.get(actor, cluster_ref)
        with self._database.begin() as uow:
            if not uow.scaling.delete(cluster.id):
                msg = f"Cluster {cluster.name!r} has no scale policy."
                raise NotFound(msg, reason="NO_SCALE_POLICY")
            uow.audit.record(actor, "scaling:delete", cluster.id, {})

    def explain(self, actor: Actor, cluster_ref: str) -> dict[str, Any]:
        """What the policy (without one: the usual one, switched off) would do now, and why. Nothing is done."""
        cluster = self._clusters.get(actor, cluster_ref)
        decision, policy = self._decision(cluster)
        return {
            "cluster_id": str(cluster.id),
            "enabled": policy.enabled,
            **as_dict(decision),
            "policy": policy.as_dict(),
            "timestamp": self._clock.now(),
        }

    # -- beat ---------------------------------------------------------------------------------------------------------------

    def apply(self, *, every_s: float) -> int:
        """Do what policies that are switched on and due decide; how many changes were begun. Two beats don't double them."""
        with self._database.begin() as uow:
            due = uow.scaling.take_due(every_s=every_s * 0.8, limit=_BATCH)
        begun = 0
        for cluster_id, region, project in due:
            actor = Actor(POLICY, project, frozenset({"member"}))
            try:
                cluster = self._clusters.get(actor, str(cluster_id))
                begun += self._apply_one(actor, cluster)
            except (Unavailable, CloudError) as exc:
                log.warning("scaling.later", cluster_id=str(cluster_id), region=region, reason=exc.reason, detail=exc.detail)
            except NotFound:
                continue  # deleted meanwhile
        return begun

    def _apply_one(self, actor: Actor, cluster: Cluster) -> int:
        decision, _ = self._decision(cluster)
        outcome: dict[str, Any] = as_dict(decision)
        accepted: list[Accepted] = []
        try:
            accepted = self._begin(actor, cluster, decision)
        except KcloudError as exc:
            if isinstance(exc, Unavailable | CloudError):
                raise
            outcome["blocked"] = [*outcome["blocked"], f"{exc.reason}: {exc.detail}"]
        outcome["job_ids"] = [str(one.job.id) for one in accepted]
        with self._database.begin() as uow:
            uow.scaling.decided(cluster.id, outcome)
            if accepted:
                uow.audit.record(actor, f"scaling:{decision.action.value}", cluster.id, outcome)
        if accepted:
            log.info("scaling.begun", cluster=cluster.name, action=decision.action.value, reasons=list(decision.reasons))
        return len(accepted)

    def _begin(self, actor: Actor, cluster: Cluster, decision: Decision) -> list[Accepted]:
        ref = str(cluster.id)
        made: list[Accepted | None] = []
        if decision.action is Action.HIBERNATE:
            made.append(self._clusters.request_hibernate(actor, ref))
        elif decision.action is Action.WAKE:
            made.append(self._clusters.request_wake(actor, ref))
        elif decision.action in {Action.SCALE_OUT, Action.SCALE_IN}:
            before = self._sizes(cluster)
            for name, count in decision.targets.items():
                if count != before.get(name):
                    fields: dict[str, Any] = {"node_count": count}
                    if name != DEFAULT_GROUP:
                        fields["node_group"] = name
                    made.append(self._clusters.request_resize(actor, ref, fields))
        return [one for one in made if one is not None]

    def _sizes(self, cluster: Cluster) -> dict[str, int]:
        with self._fleets.held(cluster.scope) as fresh, self._database.begin() as uow:
            member = fresh(uow).members.get(cluster.id)
            return {group.name: group.count for group in member.groups} if member else {}

    def _decision(self, cluster: Cluster) -> tuple[Decision, ScalePolicy]:
        scope = Scope(cluster.region, cluster.project_id)
        with self._fleets.held(scope) as fresh, self._database.begin() as uow:
            held = uow.scaling.get(cluster.id)
            policy = read_policy(held.policy)[0] if held else ScalePolicy()
            member = fresh(uow).members.get(cluster.id)
            if member is None:
                return Decision(Action.NONE, blocked=("The cluster is not there.",)), policy
            return self._of_member(uow, scope, cluster, member, policy), policy

    def _of_member(
        self,
        uow: UnitOfWork,
        scope: Scope,
        cluster: Cluster,
        member: Member,
        policy: ScalePolicy,
    ) -> Decision:
        now: datetime = self._clock.now()
        ids: list[UUID] = [cluster.id]
        return decide(
            policy,
            member,
            uow.placements.active(scope, ids),
            now=now,
            changed_at=uow.scaling.changed_at(cluster.id),
            use=uow.scaling.use(cluster.id, within_s=_USE_WITHIN_S),
            least_workers=self._clusters.driver_of(cluster).least_workers,
            slept_by_policy=uow.scaling.hibernated_by(cluster.id) == POLICY,
        )


def as_dict(decision: Decision) -> dict[str, Any]:
    """For answers and for the row."""
    return {
        "action": decision.action.value,
        "target_nodes": decision.target_nodes,
        "targets": decision.targets,
        "reasons": list(decision.reasons),
        "blocked": list(decision.blocked),
    }


def _shown(cluster: Cluster, held: HeldPolicy) -> dict[str, Any]:
    return {
        "cluster_id": str(cluster.id),
        **held.policy,
        "last_decision": held.decision,
        "decided_at": held.decided_at if held.decision else None,
        "updated_by": held.updated_by,
        "updated_at": held.updated_at,
    }
