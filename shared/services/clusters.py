"""What callers ask of clusters. Each request is checked whole, then promised in one transaction; no cloud, no broker is touched."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from shared.db.clusters import observation
from shared.domain.clusters import (
    DEFAULT_GROUP,
    Cluster,
    MagnumStatus,
    NodeGroup,
    NodeGroupSpec,
    ObservedCluster,
    Phase,
    Scope,
    magnum_name,
)
from shared.domain.drivers import Driver, driver_for
from shared.domain.jobs import OVERTAKEN, Job, JobKind, JobState
from shared.domain.lifecycle import phase_of
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
    as_sentence,
)
from shared.services.savings import enter
from shared.services.stack_jobs import drop_network
from shared.services.templates import as_template, driver_of, problems_of
from shared.services.usage import tell

if TYPE_CHECKING:
    from shared.db.uow import Database, UnitOfWork
    from shared.domain.cluster_types import ClusterType
    from shared.domain.stacks import Stack
    from shared.services.catalogs import Catalogs
    from shared.services.power import PowerBudgets
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

_MASTERS = "default-master"

#: Asks the cloud what a cluster's own network needs, and gives a function that writes its stack and job.
PrepareNetwork = Callable[[Actor, Cluster, str | None], "Callable[[UnitOfWork], tuple[Stack, Job]]"]


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long each kind of job may take, from its acceptance, in seconds."""

    create: float
    resize: float
    delete: float

    def of(self, kind: JobKind) -> timedelta:
        """For one kind."""
        return timedelta(seconds={JobKind.CREATE: self.create, JobKind.DELETE: self.delete}.get(kind, self.resize))


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
        self._networks: PrepareNetwork = _no_networks
        self._find_type: Callable[[str, str], ClusterType | None] = lambda _project, _name: None
        self._power: PowerBudgets | None = None

    def give(
        self,
        networks: PrepareNetwork,
        find_type: Callable[[str, str], ClusterType | None],
        power: PowerBudgets | None = None,
    ) -> None:
        """Who prepares clusters' own networks, who knows cluster types by project and name, and who keeps power budgets."""
        self._networks = networks
        self._find_type = find_type
        self._power = power

    @contextlib.contextmanager
    def _promising(self, scope: Scope, *, validate_only: bool) -> Iterator[UnitOfWork]:
        """A transaction whose changes stay within the power budgets; with ``validate_only`` all of it is taken back."""
        with contextlib.suppress(_OnlyValidated), self._database.begin() as uow:
            with self._power.kept(uow, scope) if self._power else contextlib.nullcontext():
                yield uow
            if validate_only:
                raise _OnlyValidated

    def _is_bounded(self, project_id: str) -> bool:
        return self._power is not None and self._power.concerns(project_id)

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
        self.require_credential(scope)
        catalog = self._catalogs.get(scope)
        template, kind, wrong = self._examine(scope, catalog, fields)
        if validate_only and not findings and not wrong:
            self._require_free_name(actor, fields["name"])
            if fields.get("network") != "isolated" and not self._is_bounded(actor.project_id):
                return None
        if findings or wrong or template is None:
            raise InvalidRequest(as_sentence([*findings, *wrong]), errors=[*findings, *wrong])
        if kind is not None:
            fields = {"node_count": kind.node_count, "master_count": kind.master_count, **fields}
        cluster, job = self._new_create(actor, scope, fields, template)
        if kind is not None and not template.uuid:
            job = replace(job, params=job.params | {"template": kind.body(driver_of(kind, catalog))})
        if self._is_bounded(actor.project_id) or fields.get("network") == "isolated" or (kind is not None and kind.node_groups):
            groups = kind.node_groups if kind is not None else ()
            return self._create_together(actor, fields, cluster, job, groups, idempotency, validate_only=validate_only)
        written = self._database.acceptor.create(cluster, job, idempotency)
        if not written and idempotency is not None:
            return self._replay(actor, idempotency)
        self._nudge()
        return Accepted(cluster, job)

    def _create_together(
        self,
        actor: Actor,
        fields: Mapping[str, Any],
        cluster: Cluster,
        job: Job,
        groups: Sequence[NodeGroupSpec],
        idempotency: Idempotency | None,
        *,
        validate_only: bool,
    ) -> Accepted | None:
        """Jobs that are promised together: the network's stack first, then the cluster in it, then its further node groups."""
        write = self._networks(actor, cluster, fields.get("network_cidr")) if fields.get("network") == "isolated" else None
        with self._promising(cluster.scope, validate_only=validate_only) as uow:
            replay = self._recall(uow, actor, idempotency)
            if replay:
                return replay
            accepted = self._write_create(uow, actor, cluster, job, groups, idempotency, network=write)
        return None if validate_only else accepted

    def _write_create(
        self,
        uow: UnitOfWork,
        actor: Actor,
        cluster: Cluster,
        job: Job,
        groups: Sequence[NodeGroupSpec],
        idempotency: Idempotency | None,
        *,
        network: Callable[[UnitOfWork], tuple[Stack, Job]] | None,
    ) -> Accepted:
        if network is not None:
            stack, first = network(uow)
            deadline = first.deadline_at + self._deadlines.of(JobKind.CREATE) if first.deadline_at else None
            job = replace(job, after_id=first.id, deadline_at=deadline)
            cluster = replace(cluster, network_stack_id=stack.id)
        uow.accept.cluster(replace(cluster, node_count=cluster.node_count + sum(group.node_count for group in groups)))
        if idempotency and not uow.accept.remember(actor.project_id, idempotency, job.id):
            raise _key_in_use()
        uow.accept.change(job)
        sizes = {DEFAULT_GROUP: cluster.node_count}
        for group in groups:
            params = {"spec": asdict(group), "node_group": group.name, "before": dict(sizes)}
            later = self._new_job(actor, cluster, JobKind.ADD_NODE_GROUP, params)
            waits = job.deadline_at - self._clock.now() if job.deadline_at else timedelta(0)
            later = replace(later, deadline_at=later.deadline_at + waits if later.deadline_at else None)
            uow.clusters.want_group(cluster.id, group)
            uow.accept.change(later)
            sizes[group.name] = group.node_count
        return self._accepted(uow, cluster.id, job)

    def within_budgets(self, uow: UnitOfWork, scope: Scope) -> contextlib.AbstractContextManager[None]:
        """For changes in a caller's own transaction: a block that raises Conflict where what it wrote breaks a power budget. To be
        entered before any row of a cluster is locked.
        """
        return self._power.kept(uow, scope) if self._power else contextlib.nullcontext()

    def create_within(self, uow: UnitOfWork, actor: Actor, fields: Mapping[str, Any], *, params: Mapping[str, Any]) -> Accepted:
        """A create in a caller's own transaction, in a network that is there. ``params`` go into the job, to say why.

        Raises InvalidRequest with all that is wrong, AlreadyExists where the name is taken.
        """
        scope = Scope(self._region, actor.project_id)
        catalog = self._catalogs.get(scope)
        template, kind, wrong = self._examine(scope, catalog, fields)
        if wrong or template is None:
            raise InvalidRequest(as_sentence(wrong), errors=wrong)
        cluster, job = self._new_create(actor, scope, fields, template)
        job = replace(job, params=job.params | dict(params))
        if kind is not None and not template.uuid:
            job = replace(job, params=job.params | {"template": kind.body(driver_of(kind, catalog))})
        groups = kind.node_groups if kind is not None else ()
        return self._write_create(uow, actor, cluster, job, groups, None, network=None)

    def _examine(
        self, scope: Scope, catalog: Catalog, fields: Mapping[str, Any]
    ) -> tuple[Template | None, ClusterType | None, list[FieldError]]:
        wrong: list[FieldError] = []
        template: Template | None = None
        kind: ClusterType | None = None
        if "cluster_template_id" in fields:
            ref = fields["cluster_template_id"]
            template = catalog.template(ref)
            if template is None and (kind := self._find_type(scope.project_id, ref)) is not None:
                template = as_template(kind, catalog)
                words = "; ".join(problems_of(kind, catalog))
                wrong += [FieldError("cluster_template_id", "usable", f"Cluster type {ref!r}: {words}")] if words else []
            elif template is None:
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
        if fields.get("network") == "isolated":
            wrong += [
                FieldError(
                    name, "conflict", f"{name} and network: isolated exclude each other: the cluster gets a network of its own."
                )
                for name in ("fixed_network", "fixed_subnet")
                if fields.get(name)
            ]
        elif fields.get("network_cidr"):
            wrong.append(
                FieldError("network_cidr", "conflict", "Only a network of the cluster's own (network: isolated) has a range.")
            )
        masters = fields.get("master_count", 1)
        if template and masters > 1 and not template.master_lb_enabled:
            words = f"Template {template.name!r} has no load balancer for masters, so master_count must be 1."
            wrong.append(FieldError("master_count", "load_balancer", words))
        return template, kind, wrong

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
            raise InvalidRequest(as_sentence(findings), errors=findings)
        self.require_credential(Scope(self._region, actor.project_id))
        if fields.get("node_group"):
            self._require_group(actor, cluster_ref, fields["node_group"])
        with self._promising(Scope(self._region, actor.project_id), validate_only=validate_only) as uow:
            replay = self._recall(uow, actor, idempotency)
            if replay:
                return replay
            cluster = self._locked(uow, actor, cluster_ref)
            self._refuse_resize(uow, cluster)
            if fields.get("nodes_to_remove"):
                self._require_choice(cluster)
            promised = self._write_resize(uow, actor, cluster, fields, {}, idempotency)
        return None if validate_only else promised

    def resize_within(
        self, uow: UnitOfWork, actor: Actor, cluster: Cluster, fields: Mapping[str, Any], *, params: Mapping[str, Any]
    ) -> Accepted:
        """The same in a transaction that holds the cluster's row; ``fields``: ``node_count``, ``node_group`` of a group that it has."""
        self._refuse_resize(uow, cluster)
        return self._write_resize(uow, actor, cluster, fields, params, None)

    def _write_resize(
        self,
        uow: UnitOfWork,
        actor: Actor,
        cluster: Cluster,
        fields: Mapping[str, Any],
        why: Mapping[str, Any],
        idempotency: Idempotency | None,
    ) -> Accepted:
        count = fields["node_count"]
        sizes = _sizes(uow, cluster)
        params: dict[str, Any] = {"node_count": count, "from": cluster.node_count, "before": sizes, **why}
        name = fields.get("node_group") or DEFAULT_GROUP
        if name != DEFAULT_GROUP:
            params["node_group"] = name
            uow.clusters.want_group(cluster.id, NodeGroupSpec(name, count))
        if fields.get("nodes_to_remove"):
            params["nodes_to_remove"] = list(fields["nodes_to_remove"])
        total = sum((sizes | {name: count}).values())
        return self._promise(uow, actor, cluster, JobKind.RESIZE, params, idempotency, node_count=total)

    def _promise(
        self,
        uow: UnitOfWork,
        actor: Actor,
        cluster: Cluster,
        kind: JobKind,
        params: dict[str, Any],
        idempotency: Idempotency | None,
        *,
        node_count: int | None = None,
    ) -> Accepted:
        """Write the job of a change, in a transaction that holds the cluster's row."""
        job = self._new_job(actor, cluster, kind, params)
        if idempotency and not uow.accept.remember(actor.project_id, idempotency, job.id):
            raise _key_in_use()
        uow.accept.change(job)
        enter(uow, cluster, job)
        made = cluster.phase is not Phase.PENDING and cluster.phase is not Phase.PROVISIONING
        uow.clusters.want(cluster.id, phase=Phase.UPDATING if made else cluster.phase, node_count=node_count)
        return self._accepted(uow, cluster.id, job)

    def _require_group(self, actor: Actor, cluster_ref: str, name: str) -> None:
        """Raise NotFound unless the cluster has such a group of workers, by our rows or by Magnum's."""
        cluster = self.get(actor, cluster_ref)
        with self._database.single() as uow:
            known = {DEFAULT_GROUP, *uow.clusters.groups(cluster.id)}
        if name not in known and cluster.magnum_uuid is not None and not cluster.gone:
            there = self._cloud.gateway(cluster.scope).node_groups(cluster.magnum_uuid)
            known |= {group.name for group in there}
        if name not in known:
            raise _no_group(name, sorted(known))

    def _require_choice(self, cluster: Cluster) -> None:
        driver = self.driver_of(cluster)
        if not driver.removes_chosen_nodes:
            msg = f"The cluster's driver ({driver.name}) does not let one choose which nodes go: {driver.why_no_choice}."
            raise Conflict(msg, reason="DRIVER_LACKS", hint="Leave nodes_to_remove out, or drain the nodes that should stay last.")

    def driver_of(self, cluster: Cluster) -> Driver:
        """What the cluster's Magnum driver can do, by its template's name for it or its image's operating system."""
        catalog = self._catalogs.get(cluster.scope)
        template = catalog.template(cluster.template_id)
        return driver_for(template.driver if template else None, template.image_os if template else None)

    def _refuse_resize(self, uow: UnitOfWork, cluster: Cluster, *, kind: JobKind = JobKind.RESIZE) -> None:
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
        asleep = cluster.hibernated_sizes is not None
        for job in active:
            asleep = {JobKind.HIBERNATE: True, JobKind.WAKE: False}.get(job.kind, asleep)
        if kind is JobKind.WAKE and not asleep:
            msg = f"Cluster {cluster.name!r} is not hibernated."
            raise Conflict(msg, reason="NOT_HIBERNATED")
        if kind is not JobKind.WAKE and asleep:
            msg = f"Cluster {cluster.name!r} is hibernated, or about to be."
            raise Conflict(msg, reason="HIBERNATED", hint=f"Wake it first: POST /clusters/{cluster.id}/wake.")

    # -- other changes --------------------------------------------------------------------------------------------

    def _change(
        self,
        actor: Actor,
        cluster_ref: str,
        kind: JobKind,
        fill: Callable[[UnitOfWork, Cluster], tuple[dict[str, Any], int | None]],
        *,
        findings: Sequence[FieldError] = (),
        idempotency: Idempotency | None = None,
        validate_only: bool = False,
    ) -> Accepted | None:
        """Promise a change. ``fill`` looks at the cluster's row, may refuse, and gives the job's parameters and the new total."""
        if findings:
            self.get(actor, cluster_ref)
            raise InvalidRequest(as_sentence(findings), errors=findings)
        self.require_credential(Scope(self._region, actor.project_id))
        with self._promising(Scope(self._region, actor.project_id), validate_only=validate_only) as uow:
            replay = self._recall(uow, actor, idempotency)
            if replay:
                return replay
            cluster = self._locked(uow, actor, cluster_ref)
            self._refuse_resize(uow, cluster, kind=kind)
            params, total = fill(uow, cluster)
            promised = self._promise(uow, actor, cluster, kind, params, idempotency, node_count=total)
        return None if validate_only else promised

    def request_node_group(self, actor: Actor, cluster_ref: str, fields: Mapping[str, Any], **how: Any) -> Accepted | None:
        """Promise one more group of workers."""
        catalog = self._catalogs.get(Scope(self._region, actor.project_id))
        findings = list(how.pop("findings", ()))
        flavor = fields.get("flavor_id")
        if flavor and catalog.flavor(flavor) is None:
            findings.append(FieldError("flavor_id", "exists", f"The project has no flavor {flavor!r}."))
        if fields.get("role") == "master":
            words = "Magnum adds no further group of masters."
            findings.append(FieldError("role", "choice", words))
        least, most = fields.get("min_node_count"), fields.get("max_node_count")
        count = fields.get("node_count", 1)
        if most is not None and most < max(least or 0, count):
            words = "It must be at least node_count and min_node_count."
            findings.append(FieldError("max_node_count", "range", words))
        if least is not None and least > count:
            findings.append(FieldError("min_node_count", "range", "It must be at most node_count."))

        def fill(uow: UnitOfWork, cluster: Cluster) -> tuple[dict[str, Any], int]:
            spec = NodeGroupSpec(
                name=fields["name"],
                node_count=count,
                flavor=flavor,
                role=fields.get("role", "worker"),
                least=least,
                most=most,
                labels=dict(fields.get("labels") or {}),
            )
            sizes = _sizes(uow, cluster)
            if spec.name in sizes or spec.name == _MASTERS:
                words = f"The cluster has a node group {spec.name!r} already."
                raise AlreadyExists(words, errors=[FieldError("name", "unique", words)])
            uow.clusters.want_group(cluster.id, spec)
            return {"spec": asdict(spec), "node_group": spec.name, "before": sizes}, cluster.node_count + count

        return self._change(actor, cluster_ref, JobKind.ADD_NODE_GROUP, fill, findings=findings, **how)

    def request_remove_group(self, actor: Actor, cluster_ref: str, name: str, **how: Any) -> Accepted | None:
        """Promise that a group of workers goes."""
        self._require_group(actor, cluster_ref, name)

        def fill(uow: UnitOfWork, cluster: Cluster) -> tuple[dict[str, Any], int]:
            if name in {DEFAULT_GROUP, _MASTERS}:
                msg = f"{name} is a default group, which Magnum removes only with the cluster."
                raise Conflict(msg, reason="DEFAULT_NODE_GROUP", hint="Scale it to what you need, or delete the cluster.")
            sizes = _sizes(uow, cluster)
            if name in sizes:  # its row stays until it is gone
                uow.clusters.want_group(cluster.id, NodeGroupSpec(name, 0))
            return {"node_group": name, "before": sizes}, cluster.node_count - sizes.get(name, 0)

        return self._change(actor, cluster_ref, JobKind.REMOVE_NODE_GROUP, fill, **how)

    def request_hibernate(self, actor: Actor, cluster_ref: str, **how: Any) -> Accepted | None:
        """Promise that all workers go, and that their numbers are remembered."""
        return self._change(actor, cluster_ref, JobKind.HIBERNATE, self._floor, **how)

    def hibernate_within(self, uow: UnitOfWork, actor: Actor, cluster: Cluster, *, params: Mapping[str, Any]) -> Accepted:
        """The same in a transaction that holds the cluster's row. ``params`` go into the job, to say why."""
        self._refuse_resize(uow, cluster, kind=JobKind.HIBERNATE)
        floor, _ = self._floor(uow, cluster)
        return self._promise(uow, actor, cluster, JobKind.HIBERNATE, floor | dict(params), None)

    def _floor(self, _uow: UnitOfWork, cluster: Cluster) -> tuple[dict[str, Any], None]:
        driver = self.driver_of(cluster)
        return {"floor": driver.least_workers}, None

    def request_wake(self, actor: Actor, cluster_ref: str, **how: Any) -> Accepted | None:
        """Promise that the workers come back."""
        return self._change(actor, cluster_ref, JobKind.WAKE, lambda _uow, _cluster: ({}, None), **how)

    def request_upgrade(self, actor: Actor, cluster_ref: str, fields: Mapping[str, Any], **how: Any) -> Accepted | None:
        """Promise another template's version of Kubernetes."""
        scope = Scope(self._region, actor.project_id)
        catalog = self._catalogs.get(scope)
        findings = list(how.pop("findings", ()))
        ref = fields.get("cluster_template_id")
        template = catalog.template(ref) if ref else None
        body: dict[str, Any] | None = None
        if ref and template is None and (kind := self._find_type(scope.project_id, ref)) is not None:
            template = as_template(kind, catalog)
            words = "; ".join(problems_of(kind, catalog))
            if words:
                findings.append(FieldError("cluster_template_id", "usable", f"Cluster type {ref!r}: {words}"))
            body = kind.body(driver_of(kind, catalog))
        elif ref and template is None:
            catalog = self._catalogs.after_miss(scope)
            template = catalog.template(ref)
        if ref and template is None:
            findings.append(FieldError("cluster_template_id", "exists", _unknown_template(catalog, ref)))

        def fill(_uow: UnitOfWork, _cluster: Cluster) -> tuple[dict[str, Any], None]:
            if template is None:  # a finding, which was raised before
                msg = "There is no such template."
                raise InvalidRequest(msg)
            params: dict[str, Any] = {
                "template_id": template.uuid,
                "template_name": template.name,
                "max_batch_size": fields.get("max_batch_size", 1),
            }
            if body is not None and not template.uuid:  # a worker makes the type's Magnum template first
                params["template"] = body
            return params | ({"node_group": fields["node_group"]} if fields.get("node_group") else {}), None

        return self._change(actor, cluster_ref, JobKind.UPGRADE, fill, findings=findings, **how)

    # -- what only Magnum knows -----------------------------------------------------------------------------------

    def node_groups(self, actor: Actor, cluster_ref: str) -> list[NodeGroup]:
        """The cluster's node groups as Magnum shows them now."""
        cluster = self.made(actor, cluster_ref)
        return self._cloud.gateway(cluster.scope).node_groups(str(cluster.magnum_uuid), detailed=True)

    def node_group(self, actor: Actor, cluster_ref: str, ref: str) -> NodeGroup:
        """One of them, by name or uuid."""
        groups = self.node_groups(actor, cluster_ref)
        found = next((group for group in groups if ref in (group.name, group.uuid)), None)
        if found is None:
            raise _no_group(ref, [group.name for group in groups])
        return found

    def made(self, actor: Actor, cluster_ref: str) -> Cluster:
        """A cluster that Magnum has. Raises Conflict where it has not."""
        cluster = self.get(actor, cluster_ref)
        if cluster.magnum_uuid is None or cluster.gone:
            msg = f"Cluster {cluster.name!r} is not in Magnum: it is {cluster.phase.value}."
            raise Conflict(msg, reason=cluster.reason or "CLUSTER_NOT_MADE", hint="Follow its job, then ask again.")
        return cluster

    def import_cluster(self, actor: Actor, uuid: str, *, name: str | None) -> Cluster:
        """Take over a cluster that was made elsewhere: from now on it is this service's to change.

        Raises InvalidRequest where Magnum shows the project no such cluster, AlreadyExists where its name is taken here, Conflict
        where it is this service's already.
        """
        scope = Scope(self._region, actor.project_id)
        self.require_credential(scope)
        gateway = self._cloud.gateway(scope)
        observed = gateway.get(uuid)
        if observed is None:
            words = f"Magnum shows the project no cluster {uuid!r}."
            raise InvalidRequest(words, errors=[FieldError("magnum_uuid", "exists", words)])
        added = [group for group in gateway.node_groups(uuid, detailed=True) if not (group.is_master or group.is_default)]
        now = self._clock.now()
        with self._database.begin() as uow:
            uow.scopes.ensure(scope)
            row = uow.clusters.by_uuids(scope.region, [uuid]).get(uuid)
            if row is not None and row.managed and row.deleted_at is None:
                msg = f"Cluster {row.name!r} is managed by this service already."
                raise Conflict(msg, reason="ALREADY_MANAGED")
            if row is None:
                row = cluster_row(scope, observed, now)
                if not uow.clusters.add_found(row):
                    msg = "The cluster is being noticed by the inventory at this moment."
                    raise Unavailable(msg, reason="CLUSTER_BEING_WRITTEN", retry_after_s=1)
            uow.clusters.manage(row.id, name=name or observed.name, by=actor.user_id)
            verdict = phase_of(observed, None)
            before = uow.clusters.observe([observation(row, observed, now, verdict, arrived=True)])
            for group in added:
                uow.clusters.want_group(
                    row.id,
                    NodeGroupSpec(
                        group.name, group.node_count, group.flavor, group.image, group.role, group.least, group.most, group.labels
                    ),
                )
            tell(uow, [(row, observed, now)], before)
            uow.audit.record(actor, "clusters:import", row.id, {"magnum_uuid": uuid})
            made = uow.clusters.by_id(row.id)
        if made is None:  # written in that very transaction
            msg = "The cluster was removed while it was taken over."
            raise Unavailable(msg)
        return made

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
        self.require_credential(Scope(self._region, actor.project_id))
        with self._database.begin() as uow:
            replay = self._recall(uow, actor, idempotency)
            if replay:
                return replay
            cluster = self._locked(uow, actor, cluster_ref)
            self.refuse_delete(uow, cluster)
            if validate_only:
                return None
            accepted = self.delete_within(uow, actor, cluster, reason="PREEMPTED_BY_DELETE")
            if idempotency and not uow.accept.remember(actor.project_id, idempotency, accepted.job.id):
                raise _key_in_use()
            return accepted

    def refuse_delete(self, uow: UnitOfWork, cluster: Cluster) -> None:
        """Raise Conflict where a stack connects the cluster with others."""
        connecting = uow.stacks.connecting(cluster.id)
        if connecting:
            names = ", ".join(stack.name for stack in connecting)
            msg = f"Cluster {cluster.name!r} is connected with others by {names}."
            raise Conflict(
                msg, reason="CLUSTER_CONNECTED", hint="Take it out of the connection (PUT /stacks/{id}), or delete that."
            )

    def delete_within(
        self, uow: UnitOfWork, actor: Actor, cluster: Cluster, *, reason: str, params: Mapping[str, Any] | None = None
    ) -> Accepted:
        """The delete, in a transaction that holds the cluster's row. ``params`` go into the job, to say why."""
        under_way = [job for job in uow.jobs.active_of(cluster.id) if job.kind is JobKind.DELETE]
        if under_way:
            return Accepted(cluster, under_way[0], replayed=True)
        job = self._new_job(actor, cluster, JobKind.DELETE, dict(params or {}))
        uow.jobs.overtake(cluster.id, reason=reason, by=job.id, kinds=OVERTAKEN)
        uow.accept.change(job)
        enter(uow, cluster, job)
        uow.clusters.want(cluster.id, phase=Phase.DELETING)
        drop_network(uow, cluster, job, self._clock.now())
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

    def require_credential(self, scope: Scope) -> None:
        """Raise Forbidden where no credential lets this service act in the project."""
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


def _no_networks(_actor: Actor, _cluster: Cluster, _cidr: str | None) -> Callable[[UnitOfWork], tuple[Stack, Job]]:
    msg = "This process makes no networks."
    raise Unavailable(msg)


class _OnlyValidated(Exception):
    """The request would have been accepted."""


def _sizes(uow: UnitOfWork, cluster: Cluster) -> dict[str, int]:
    """How many workers are wanted of each group."""
    groups = uow.clusters.groups(cluster.id)
    return {DEFAULT_GROUP: cluster.node_count - sum(groups.values()), **groups}


def _no_group(name: str, known: Sequence[str]) -> NotFound:
    return NotFound(f"The cluster has no node group {name[:100]!r}. It has: {', '.join(known)}.", reason="NODE_GROUP_NOT_FOUND")


def cluster_row(scope: Scope, item: ObservedCluster, now: datetime) -> Cluster:
    """A row for a cluster that was found in Magnum, made by others as far as is known."""
    return Cluster(
        id=uuid4(),
        project_id=scope.project_id,
        region=scope.region,
        name=item.name,
        magnum_name=item.name,
        magnum_uuid=item.uuid,
        managed=False,
        template_id=item.template_id or "",
        node_count=item.node_count,
        master_count=item.master_count,
        keypair=item.keypair,
        flavor=item.flavor,
        master_flavor=item.master_flavor,
        labels=item.labels,
        phase=Phase.READY,
        created_at=now,
        updated_at=now,
        created_by=None,
    )


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
