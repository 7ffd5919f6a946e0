"""What callers ask of clusters. Each request is checked whole, then promised in one transaction; no cloud, no broker is touched."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from shared.domain.clusters import Cluster, MagnumStatus, Phase, Scope, magnum_name
from shared.domain.jobs import OVERTAKEN, Job, JobKind, JobState
from shared.domain.ports import Accepted, Actor, Catalog, Clock, Cloud, ClusterFilter, Idempotency, Page, Template
from shared.errors import (
    AlreadyExists,
    CloudError,
    Conflict,
    FieldError,
    Forbidden,
    IdempotencyMismatch,
    InvalidRequest,
    NotFound,
    Unavailable,
)

if TYPE_CHECKING:
    from shared.db.uow import Database, UnitOfWork
    from shared.services.catalogs import Catalogs
    from shared.settings import EngineSettings

#: Fields of a create that go to Magnum under the same name.
OPTIONS = (
    "flavor_id",
    "master_flavor_id",
    "create_timeout",
    "docker_volume_size",
    "fixed_network",
    "fixed_subnet",
    "floating_ip_enabled",
    "merge_labels",
)


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long each kind of job may take, from its acceptance, in seconds."""

    create: float
    resize: float
    delete: float

    def of(self, kind: JobKind) -> timedelta:
        """For one kind."""
        return timedelta(seconds={JobKind.CREATE: self.create, JobKind.RESIZE: self.resize, JobKind.DELETE: self.delete}[kind])


class ClusterService:
    """Requests about clusters, by an actor whose rights the caller has checked."""

    def __init__(
        self,
        database: Database,
        cloud: Cloud,
        catalogs: Catalogs,
        clock: Clock,
        *,
        region: str,
        engine: EngineSettings,
        nudge: Callable[[], None],
    ) -> None:
        self._database = database
        self._cloud = cloud
        self._catalogs = catalogs
        self._clock = clock
        self._region = region
        self._engine = engine
        self._deadlines = Deadlines(engine.create_deadline_s, engine.resize_deadline_s, engine.delete_deadline_s)
        self._nudge = nudge

    # -- create ---------------------------------------------------------------------------------------------------

    def request_create(
        self,
        actor: Actor,
        fields: Mapping[str, Any],
        *,
        findings: Sequence[FieldError] = (),
        idempotency: Idempotency | None = None,
        validate_only: bool = False,
    ) -> Accepted | None:
        """Promise a cluster.

        ``fields`` are those that the caller found well-formed, ``findings`` what it found wrong; what the cloud's catalog
        shows to be wrong is added, and all of it is raised at once as :class:`InvalidRequest`. With ``validate_only``
        nothing is written, and None means that nothing is wrong.
        """
        scope = Scope(self._region, actor.project_id)
        self._require_credential(scope)
        catalog = self._catalogs.get(scope)
        template, wrong = self._examine(scope, catalog, fields)
        if validate_only and not findings and not wrong:
            self._require_free_name(actor, fields["name"])
            return None
        if findings or wrong or template is None:
            raise InvalidRequest(_sentence([*findings, *wrong]), errors=[*findings, *wrong])
        cluster, job = self._new_create(actor, scope, fields, template)
        written = self._database.acceptor.create(cluster, job, idempotency)
        if not written and idempotency is not None:
            return self._replay(actor, idempotency)
        self._nudge()
        return Accepted(cluster, job)

    def _examine(self, scope: Scope, catalog: Catalog, fields: Mapping[str, Any]) -> tuple[Template | None, list[FieldError]]:
        wrong: list[FieldError] = []
        template: Template | None = None
        if "cluster_template_id" in fields:
            ref = fields["cluster_template_id"]
            template = catalog.template(ref)
            if template is None:
                catalog = self._catalogs.after_miss(scope)
                template = catalog.template(ref)
            if template is None:
                wrong.append(FieldError("cluster_template_id", "exists", _unknown_template(catalog, ref)))
        wrong += [
            FieldError(name, "exists", f"The project has no flavor {fields[name]!r}.")
            for name in ("flavor_id", "master_flavor_id")
            if fields.get(name) and catalog.flavor(fields[name]) is None
        ]
        keypair = fields.get("keypair")
        if keypair and keypair not in catalog.keypairs:
            catalog = self._catalogs.after_miss(scope)
            if keypair not in catalog.keypairs:
                words = (
                    f"The service's user has no keypair {keypair!r} (keypairs belong to users, not to projects)."
                    f" It has: {', '.join(sorted(catalog.keypairs)) or 'none'}."
                )
                wrong.append(FieldError("keypair", "exists", words))
        masters = fields.get("master_count", 1)
        if template and masters > 1 and not template.master_lb_enabled:
            words = f"Template {template.name!r} has no load balancer for masters, so master_count must be 1."
            wrong.append(FieldError("master_count", "load_balancer", words))
        return template, wrong

    def _new_create(self, actor: Actor, scope: Scope, fields: Mapping[str, Any], template: Template) -> tuple[Cluster, Job]:
        now = self._clock.now()
        job_id = uuid4()
        options = {name: fields[name] for name in OPTIONS if fields.get(name) is not None}
        cluster = Cluster(
            id=uuid4(),
            project_id=scope.project_id,
            region=scope.region,
            name=fields["name"],
            magnum_name=magnum_name(fields["name"], job_id),
            template_id=template.uuid,
            template_name=template.name,
            node_count=fields.get("node_count", 1),
            master_count=fields.get("master_count", 1),
            keypair=fields.get("keypair") or template.keypair,
            flavor=options.get("flavor_id") or template.flavor,
            master_flavor=options.get("master_flavor_id") or template.master_flavor,
            labels=dict(fields.get("labels") or {}),
            options=options,
            created_by=actor.user_id,
            created_at=now,
            updated_at=now,
        )
        return cluster, self._new_job(actor, cluster, JobKind.CREATE, {"node_count": cluster.node_count}, job_id=job_id)

    # -- resize ---------------------------------------------------------------------------------------------------

    def request_resize(
        self,
        actor: Actor,
        cluster_ref: str,
        fields: Mapping[str, Any],
        *,
        findings: Sequence[FieldError] = (),
        idempotency: Idempotency | None = None,
        validate_only: bool = False,
    ) -> Accepted | None:
        """Promise ``node_count`` workers. Waits its turn behind the cluster's unfinished jobs."""
        if findings:
            self.get(actor, cluster_ref)
            raise InvalidRequest(_sentence(findings), errors=findings)
        self._require_credential(Scope(self._region, actor.project_id))
        with self._database.begin() as uow:
            replay = self._recall(uow, actor, idempotency)
            if replay:
                return replay
            cluster = self._locked(uow, actor, cluster_ref)
            self._refuse_resize(uow, cluster)
            if validate_only:
                return None
            count = fields["node_count"]
            job = self._new_job(actor, cluster, JobKind.RESIZE, {"node_count": count, "from": cluster.node_count})
            if idempotency and not uow.accept.remember(actor.project_id, idempotency, job.id):
                raise _key_in_use()
            uow.accept.change(job)
            made = cluster.phase is not Phase.PENDING and cluster.phase is not Phase.PROVISIONING
            uow.clusters.want(cluster.id, phase=Phase.UPDATING if made else cluster.phase, node_count=count)
            return self._accepted(uow, cluster.id, job)

    def _refuse_resize(self, uow: UnitOfWork, cluster: Cluster) -> None:
        active = uow.jobs.active_of(cluster.id)
        if any(job.kind is JobKind.DELETE for job in active) or cluster.phase is Phase.DELETING:
            msg = f"Cluster {cluster.name!r} is being deleted."
            raise Conflict(msg, reason="CLUSTER_DELETING")
        if cluster.gone or (not cluster.live and cluster.magnum_uuid is None):
            msg = f"Cluster {cluster.name!r} does not exist in Magnum: {cluster.reason_detail or cluster.reason}."
            raise Conflict(msg, reason=cluster.reason or "CLUSTER_GONE", hint="Delete it and create it again.")
        if MagnumStatus.parse(cluster.status) is MagnumStatus.CREATE_FAILED and not active:
            msg = f"The creation of cluster {cluster.name!r} failed, and Magnum does not resize such a cluster."
            raise Conflict(msg, reason="CREATE_FAILED", hint="Delete it and create it again.")

    # -- delete ---------------------------------------------------------------------------------------------------

    def request_delete(
        self,
        actor: Actor,
        cluster_ref: str,
        *,
        idempotency: Idempotency | None = None,
        validate_only: bool = False,
    ) -> Accepted | None:
        """Promise that the cluster goes. What is pending on it is overtaken; a second request finds the first one's job."""
        self._require_credential(Scope(self._region, actor.project_id))
        with self._database.begin() as uow:
            replay = self._recall(uow, actor, idempotency)
            if replay:
                return replay
            cluster = self._locked(uow, actor, cluster_ref)
            if validate_only:
                return None
            accepted = self.delete_within(uow, actor, cluster, reason="PREEMPTED_BY_DELETE")
            if idempotency and not uow.accept.remember(actor.project_id, idempotency, accepted.job.id):
                raise _key_in_use()
            return accepted

    def delete_within(self, uow: UnitOfWork, actor: Actor, cluster: Cluster, *, reason: str) -> Accepted:
        """The delete, in a transaction that holds the cluster's row."""
        under_way = [job for job in uow.jobs.active_of(cluster.id) if job.kind is JobKind.DELETE]
        if under_way:
            return Accepted(cluster, under_way[0], replayed=True)
        job = self._new_job(actor, cluster, JobKind.DELETE, {})
        uow.jobs.overtake(cluster.id, reason=reason, by=job.id, kinds=OVERTAKEN)
        uow.accept.change(job)
        uow.clusters.want(cluster.id, phase=Phase.DELETING)
        return self._accepted(uow, cluster.id, job)

    # -- reading --------------------------------------------------------------------------------------------------

    def get(self, actor: Actor, cluster_ref: str) -> Cluster:
        """One cluster of the actor's project, by our id or Magnum's uuid."""
        with self._database.single() as uow:
            cluster = uow.clusters.get(actor.project_id, cluster_ref)
        if cluster is None:
            raise _no_cluster(cluster_ref)
        return cluster

    def jobs_of(self, clusters: Sequence[Cluster]) -> dict[UUID, Job]:
        """The job that matters most to each of these clusters now."""
        with self._database.single() as uow:
            return uow.jobs.latest_of([cluster.id for cluster in clusters])

    def status(self, actor: Actor, cluster_ref: str) -> dict[str, Any]:
        """The cluster's phase and why, what was wanted and what is seen, and how long it should take."""
        with self._database.begin() as uow:
            cluster = uow.clusters.get(actor.project_id, cluster_ref)
            if cluster is None:
                raise _no_cluster(cluster_ref)
            active = uow.jobs.active_of(cluster.id)
            job = active[0] if active else uow.jobs.latest_of([cluster.id]).get(cluster.id)
            expected = uow.series.expected_s(cluster.region, active[0].kind.value, cluster.template_id) if active else None
        return _status(cluster, job, active, expected)

    def list(self, actor: Actor, where: ClusterFilter, *, limit: int, marker: str | None) -> Page[Cluster]:
        """The project's clusters, in the order of their making, after ``marker``."""
        after = as_marker(marker)
        with self._database.single() as uow:
            if after and not uow.clusters.exists(actor.project_id, after):
                raise _unknown_marker(marker)
            items = uow.clusters.select(actor.project_id, where, limit=limit + 1, after=after)
        return Page(items[:limit], str(items[limit - 1].id) if len(items) > limit else None)

    # -- parts ----------------------------------------------------------------------------------------------------

    def _new_job(self, actor: Actor, cluster: Cluster, kind: JobKind, params: dict[str, Any], *, job_id: UUID | None = None) -> Job:
        now = self._clock.now()
        return Job(
            id=job_id or uuid4(),
            project_id=cluster.project_id,
            region=cluster.region,
            cluster_id=cluster.id,
            kind=kind,
            state=JobState.QUEUED,
            params=params,
            created_at=now,
            due_at=now,
            deadline_at=now + self._deadlines.of(kind),
            requested_by=actor.user_id,
            request_id=actor.request_id,
            cluster_name=cluster.name,
        )

    def _accepted(self, uow: UnitOfWork, cluster_id: UUID, job: Job) -> Accepted:
        cluster = uow.clusters.by_id(cluster_id)
        written = uow.jobs.get(job.id)
        if cluster is None or written is None:  # both were written in this very transaction
            msg = "The request was lost while it was written."
            raise Unavailable(msg)
        self._nudge()
        return Accepted(cluster, written)

    def _locked(self, uow: UnitOfWork, actor: Actor, cluster_ref: str) -> Cluster:
        cluster = uow.clusters.get(actor.project_id, cluster_ref, lock=True)
        if cluster is None:
            raise _no_cluster(cluster_ref)
        return cluster

    def _require_credential(self, scope: Scope) -> None:
        try:
            allowed = self._cloud.can_act(scope)
        except CloudError as exc:
            if not exc.retryable:
                raise
            # Keystone let the caller in a moment ago. Should it be away now, the worker asks again.
            return
        if not allowed:
            msg = "This service may not act in your project."
            raise Forbidden(
                msg,
                reason="NO_CREDENTIAL",
                hint="Grant the service's user the role member in the project, or register an application credential"
                " of the project with PUT /credentials.",
            )

    def _require_free_name(self, actor: Actor, name: str) -> None:
        with self._database.single() as uow:
            taken = uow.clusters.name_taken(actor.project_id, self._region, name)
        if taken:
            words = "A cluster of this name exists in the project."
            raise AlreadyExists(words, errors=[FieldError("name", "unique", words)])

    def _recall(self, uow: UnitOfWork, actor: Actor, idempotency: Idempotency | None) -> Accepted | None:
        if idempotency is None:
            return None
        known = uow.accept.recall(actor.project_id, idempotency.key)
        if known is None:
            return None
        fingerprint, job_id = known
        if fingerprint != idempotency.fingerprint:
            msg = f"Idempotency-Key {idempotency.key!r} was used before with another request."
            raise IdempotencyMismatch(msg, hint="Use a new key for a new request.")
        job = uow.jobs.get(job_id)
        cluster = uow.clusters.by_id(job.of_cluster) if job else None
        if job is None or cluster is None:
            msg = f"The job of Idempotency-Key {idempotency.key!r} is past its keeping time."
            raise IdempotencyMismatch(msg, hint="Use a new key.")
        return Accepted(cluster, job, replayed=True)

    def _replay(self, actor: Actor, idempotency: Idempotency) -> Accepted:
        with self._database.begin() as uow:
            accepted = self._recall(uow, actor, idempotency)
        if accepted is None:
            raise _key_in_use()
        return accepted


def as_marker(marker: str | None) -> UUID | None:
    """A page's marker as an id. Raises InvalidRequest that names it."""
    if not marker:
        return None
    try:
        return UUID(marker)
    except ValueError:
        raise _unknown_marker(marker) from None


def _unknown_marker(marker: str | None) -> InvalidRequest:
    words = f"{marker!r} is not the id of an object in this list."
    return InvalidRequest(words, errors=[FieldError("marker", "exists", words)])


def _no_cluster(ref: str) -> NotFound:
    return NotFound(f"The project has no cluster {ref!r}.", reason="CLUSTER_NOT_FOUND")


def _key_in_use() -> Conflict:
    return Conflict(
        "A request with this Idempotency-Key is being taken at this moment.",
        reason="IDEMPOTENCY_KEY_IN_USE",
        hint="Send it again in a second; the answer will be the first request's.",
    )


def _unknown_template(catalog: Catalog, ref: str) -> str:
    same = [template for template in catalog.templates if template.name == ref]
    if len(same) > 1:
        return f"{len(same)} templates are named {ref!r}; use the id of one of them."
    known = ", ".join(sorted(template.name for template in catalog.templates)[:10]) or "none"
    return f"The project has no cluster template {ref!r}. It has: {known}."


def _sentence(findings: Sequence[FieldError]) -> str:
    names = ", ".join(dict.fromkeys(finding.field for finding in findings))
    return f"The request has {len(findings)} wrong field{'s' if len(findings) != 1 else ''}: {names}."


def _status(cluster: Cluster, job: Job | None, active: Sequence[Job], expected: tuple[float, float, int] | None) -> dict[str, Any]:
    acting = active[0] if active else None
    phase = cluster.phase
    reason, detail = cluster.reason, cluster.reason_detail
    if acting and acting.condition == "stalled":
        reason = "STALLED"
        detail = f"Magnum has shown no change since {acting.progress_at:%Y-%m-%dT%H:%M:%SZ}." if acting.progress_at else None
    elif acting and reason is None:
        reason, detail = _waiting(acting)
    return {
        "id": str(cluster.id),
        "magnum_uuid": cluster.magnum_uuid,
        "phase": phase.value,
        "reason": reason,
        "detail": detail,
        "status": cluster.status or "CREATE_REQUESTED",
        "status_reason": cluster.status_reason,
        "health_status": cluster.health_status,
        "health_status_reason": cluster.health_status_reason,
        "node_count": cluster.observed_node_count,
        "desired_node_count": cluster.node_count,
        "master_count": cluster.observed_master_count if cluster.observed_master_count is not None else cluster.master_count,
        "generation": cluster.generation,
        "observed_generation": cluster.observed_generation,
        "observed_at": cluster.observed_at,
        "managed": cluster.managed,
        "gone": cluster.gone,
        "job": job,
        "jobs_waiting": len(active) - 1 if active else 0,
        "condition": acting.condition if acting else None,
        "deadline_at": acting.deadline_at if acting else None,
        "expected_seconds": {"p50": expected[0], "p90": expected[1], "runs": expected[2]} if expected else None,
    }


def _waiting(job: Job) -> tuple[str, str]:
    if job.state is JobState.CONVERGING:
        return "WAITING_FOR_MAGNUM", f"Magnum accepted the {job.kind}; it is watched until the change is seen."
    if job.state is JobState.RUNNING:
        return "CALLING_MAGNUM", f"A worker is asking Magnum for the {job.kind}."
    if job.attempts:
        words = f"Attempt {job.attempts} of the {job.kind} ended with a passing error ({job.step}); the next is due {job.due_at:%H:%M:%SZ}."
        return "RETRYING", words
    return "WAITING_FOR_WORKER", f"The {job.kind} is accepted and waits for a worker."
