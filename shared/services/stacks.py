"""What callers ask of stacks: promised as jobs, kept like those of clusters."""

from __future__ import annotations

from dataclasses import asdict, replace
from ipaddress import IPv4Network
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from shared.domain.clusters import Cluster, Phase, Scope
from shared.domain.jobs import Job, JobKind
from shared.domain.ports import AcceptedStack, Actor, Clock, Cloud, Idempotency, Page
from shared.domain.stacks import INTERCONNECT, NETWORK, WITH_RANGE, Stack, StackResource, first_free, heat_name
from shared.errors import (
    AlreadyExists,
    CloudError,
    CloudRejected,
    Conflict,
    FieldError,
    IdempotencyMismatch,
    InvalidRequest,
    NotFound,
    as_sentence,
)
from shared.services.interconnect import Member, document_for, member_of
from shared.services.stack_jobs import delete_stack_within, stack_job

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from shared.db.uow import Database, UnitOfWork
    from shared.services.clusters import ClusterService
    from shared.services.hot import HotTemplates
    from shared.settings import NetworkSettings


class StackService:
    """Stacks of the actor's project."""

    def __init__(
        self,
        database: Database,
        cloud: Cloud,
        clusters: ClusterService,
        templates: HotTemplates,
        clock: Clock,
        *,
        region: str,
        settings: NetworkSettings,
        nudge: Callable[[], None],
    ) -> None:
        self._database = database
        self._cloud = cloud
        self._clusters = clusters
        self.templates = templates
        self._clock = clock
        self._region = region
        self._settings = settings
        self._nudge = nudge

    # -- reading ------------------------------------------------------------------------------------------------------

    def get(self, actor: Actor, ref: str) -> Stack:
        """One stack, by our id or Heat's."""
        with self._database.single() as uow:
            stack = uow.stacks.get(actor.project_id, ref)
        if stack is None:
            raise _no_stack(ref)
        return stack

    def latest(self, stack: Stack) -> Stack:
        """The stack as it is now, a deleted one too."""
        with self._database.single() as uow:
            return uow.stacks.by_id(stack.id) or stack

    def page(self, actor: Actor, *, limit: int, marker: UUID | None) -> Page[Stack]:
        """The project's stacks in the order of their making."""
        with self._database.single() as uow:
            if marker and uow.stacks.get(actor.project_id, str(marker)) is None:
                words = f"{str(marker)!r} is not the id of a stack in this list."
                raise InvalidRequest(words, errors=[FieldError("marker", "exists", words)])
            items = uow.stacks.select(actor.project_id, limit=limit + 1, after=marker)
        return Page(items[:limit], str(items[limit - 1].id) if len(items) > limit else None)

    def jobs_of(self, stacks: Sequence[Stack]) -> dict[UUID, Job]:
        """The job that matters most to each of these stacks now."""
        with self._database.single() as uow:
            return uow.jobs.latest_of([stack.id for stack in stacks])

    def resources(self, stack: Stack) -> Sequence[StackResource]:
        """What Heat says the stack made; nothing where Heat has no such stack."""
        if stack.heat_id is None:
            return []
        try:
            return self._cloud.stacks(stack.scope).resources(stack.heat_id, stack.heat_name)
        except CloudRejected as exc:
            if exc.upstream_status == 404:  # noqa: PLR2004
                return []
            raise

    # -- create ---------------------------------------------------------------------------------------------------------

    def request_create(
        self,
        actor: Actor,
        fields: Mapping[str, Any],
        *,
        findings: Sequence[FieldError] = (),
        idempotency: Idempotency | None = None,
        validate_only: bool = False,
    ) -> AcceptedStack | None:
        """Promise a stack out of a shipped template."""
        scope = Scope(self._region, actor.project_id)
        self._clusters.require_credential(scope)
        wrong = list(findings)
        template = self.templates.get(fields["template"]) if "template" in fields else None
        if "template" in fields and template is None:
            words = f"There is no template {fields['template']!r}. There are: {', '.join(self.templates.all)}."
            wrong.append(FieldError("template", "exists", words))
        given = dict(fields.get("parameters") or {})
        ranged = fields.get("template") in WITH_RANGE
        filled = frozenset({"cidr", "external_network", "name"}) if ranged else frozenset({"name"})
        if template is not None:
            wrong += template.findings(given, filled=filled)
        members = self._members(actor, fields, wrong)
        cidr = self._wish(given, wrong) if ranged else None
        if wrong or template is None:
            raise InvalidRequest(as_sentence(wrong), errors=wrong)
        if "name" in template.parameters:
            given.setdefault("name", fields["name"])
        if template.name == NETWORK:
            self._fill_network(scope, given)
        taken = self._project_ranges(scope) if ranged else []
        stack, job = self._new(
            actor, fields["name"], template.name, given, members={str(m.cluster.id): m.cluster.name for m in members}
        )
        with self._database.begin() as uow:
            replay = self._recall(uow, actor, idempotency)
            if replay:
                return replay
            if ranged:
                stack = self.allocate(uow, stack, cidr, taken)
            if validate_only:
                uow.connection.rollback()
                return None
            uow.stacks.add(stack)
            if idempotency and not uow.accept.remember(actor.project_id, idempotency, job.id):
                raise _key_in_use()
            uow.accept.change(job)
            return self._accepted(uow, stack.id, job)

    def _members(self, actor: Actor, fields: Mapping[str, Any], wrong: list[FieldError]) -> list[Member]:
        named = fields.get("members")
        if fields.get("template") != INTERCONNECT:
            if named is not None:
                wrong.append(FieldError("members", "unknown", f"Only the template {INTERCONNECT} takes members."))
            return []
        if named is None:
            wrong.append(FieldError("members", "required", "This field is required: the ids of two or more clusters."))
            return []
        found: list[Member] = []
        for index, ref in enumerate(named):
            try:
                cluster = self._clusters.get(actor, ref)
            except NotFound as exc:
                wrong.append(FieldError(f"members.{index}", "exists", exc.detail))
                continue
            member = self._member(cluster)
            if isinstance(member, str):
                wrong.append(FieldError(f"members.{index}", "network", member))
            else:
                found.append(member)
        if len({member.cluster.id for member in found}) < len(found):
            wrong.append(FieldError("members", "unique", "Must name each cluster once only."))
        return found

    def _member(self, cluster: Cluster) -> Member | str:
        with self._database.single() as uow:
            stack = uow.stacks.of_clusters([cluster.id]).get(cluster.id)
        return member_of(cluster, stack)

    def _wish(self, given: Mapping[str, Any], wrong: list[FieldError]) -> IPv4Network | None:
        asked = given.get("cidr")
        if asked is None:
            return None
        try:
            cidr = IPv4Network(asked)
        except ValueError as exc:
            wrong.append(FieldError("parameters.cidr", "cidr", f"Must be an IPv4 range such as 10.64.7.0/24: {exc}."))
            return None
        if not 8 <= cidr.prefixlen <= 28 or not cidr.is_private:  # noqa: PLR2004 - Neutron takes five addresses of each
            wrong.append(FieldError("parameters.cidr", "range", "Must be a private range with a prefix of 8 to 28 bits."))
            return None
        return cidr

    def _fill_network(self, scope: Scope, given: dict[str, Any]) -> None:
        if "external_network" in given:
            return
        names = [self._settings.external] if self._settings.external else self._cloud.stacks(scope).external_networks()
        if not names:
            msg = "The cloud has no external network that the project sees, so a network of its own would lead nowhere."
            raise Conflict(
                msg, reason="NO_EXTERNAL_NETWORK", hint="Name one as parameters.external_network, or set EXTERNAL_NETWORK."
            )
        given["external_network"] = names[0]

    def _project_ranges(self, scope: Scope) -> list[tuple[str, IPv4Network]]:
        return [(name, IPv4Network(cidr, strict=False)) for name, cidr in self._cloud.stacks(scope).subnets()]

    def allocate(self, uow: UnitOfWork, stack: Stack, wish: IPv4Network | None, taken: Sequence[tuple[str, IPv4Network]]) -> Stack:
        """The stack with a range of addresses that it holds from now on: the wished one, else the first free one of the pool.

        ``taken`` are the project's subnets. Raises Conflict where the wished range overlaps one, or the pool is used up.
        """
        uow.stacks.lock_ranges()
        held = uow.stacks.ranges()
        if wish is not None:
            clash = next((name for name, cidr in taken if cidr.overlaps(wish)), None)
            if clash is None and any(cidr.overlaps(wish) for cidr in held):
                clash = "another network that this service made"
            if clash is not None:
                words = f"{wish} overlaps {clash}."
                raise Conflict(words, reason="ADDRESS_OVERLAP", errors=[FieldError("parameters.cidr", "overlap", words)])
            cidr = wish
        else:
            pool = IPv4Network(self._settings.pool)
            found = first_free(pool, self._settings.prefix, [*held, *(cidr for _, cidr in taken)])
            if found is None:
                msg = f"The address pool {pool} has no free /{self._settings.prefix} left."
                raise Conflict(
                    msg, reason="ADDRESS_POOL_EMPTY", hint="Delete networks that are not used, or set a larger NETWORK_POOL."
                )
            cidr = found
        uow.stacks.hold(stack, cidr)
        return replace(stack, parameters=stack.parameters | {"cidr": str(cidr)})

    # -- a cluster's own network ------------------------------------------------------------------------------------------

    def prepare_network(self, actor: Actor, cluster: Cluster, cidr: str | None) -> Callable[[UnitOfWork], tuple[Stack, Job]]:
        """A function that writes the network's stack and its job in the transaction that promises the cluster.

        The cloud is asked now, so that no transaction waits for it.
        """
        scope = cluster.scope
        given: dict[str, Any] = {"name": cluster.magnum_name}
        wrong: list[FieldError] = []
        wish = self._wish({"cidr": cidr}, wrong) if cidr else None
        if wrong:
            wrong = [FieldError("network_cidr", finding.rule, finding.detail) for finding in wrong]
            raise InvalidRequest(as_sentence(wrong), errors=wrong)
        self.templates.network()
        self._fill_network(scope, given)
        taken = self._project_ranges(scope)

        def write(uow: UnitOfWork) -> tuple[Stack, Job]:
            stack, job = self._new(actor, f"network-of-{cluster.magnum_name}", NETWORK, given, cluster_id=cluster.id)
            stack = self.allocate(uow, stack, wish, taken)
            uow.stacks.add(stack)
            uow.accept.change(job)
            return stack, job

        return write

    # -- update, delete -----------------------------------------------------------------------------------------------------

    def request_update(
        self,
        actor: Actor,
        ref: str,
        fields: Mapping[str, Any],
        *,
        findings: Sequence[FieldError] = (),
        idempotency: Idempotency | None = None,
        validate_only: bool = False,
    ) -> AcceptedStack | None:
        """Promise other parameters, or other members. What is not named stays."""
        stack = self.get(actor, ref)
        self._clusters.require_credential(stack.scope)
        wrong = list(findings)
        template = self.templates.get(stack.template)
        if template is None:
            msg = f"The template {stack.template!r} that the stack was made of is not shipped any more."
            raise Conflict(msg, reason="TEMPLATE_GONE")
        given = stack.parameters | dict(fields.get("parameters") or {})
        wrong += template.findings(given)
        if stack.template in WITH_RANGE and given.get("cidr") != stack.parameters.get("cidr"):
            words = "A network's range can't be changed: what is connected to it has addresses of it."
            wrong.append(FieldError("parameters.cidr", "fixed", words))
        members = self._members(actor, {"template": stack.template, **fields}, wrong) if "members" in fields else None
        if wrong:
            raise InvalidRequest(as_sentence(wrong), errors=wrong)
        with self._database.begin() as uow:
            replay = self._recall(uow, actor, idempotency)
            if replay:
                return replay
            stack = self._locked(uow, actor, ref)
            self._refuse(uow, stack)
            if stack.heat_id is None and not uow.jobs.active_of(stack.id):
                msg = f"Stack {stack.name!r} was never made: {stack.reason_detail}"
                raise Conflict(msg, reason=stack.reason or "STACK_NOT_MADE", hint="Delete it, and create it again.")
            if validate_only:
                return None
            job = self._job(actor, stack, JobKind.UPDATE_STACK)
            if idempotency and not uow.accept.remember(actor.project_id, idempotency, job.id):
                raise _key_in_use()
            uow.accept.change(job)
            named = {str(member.cluster.id): member.cluster.name for member in members} if members is not None else None
            uow.stacks.want(stack.id, phase=Phase.UPDATING, parameters=given, members=named)
            return self._accepted(uow, stack.id, job)

    def request_delete(
        self, actor: Actor, ref: str, *, idempotency: Idempotency | None = None, validate_only: bool = False
    ) -> AcceptedStack | None:
        """Promise that the stack goes, with what it made."""
        stack = self.get(actor, ref)
        self._clusters.require_credential(stack.scope)
        with self._database.begin() as uow:
            replay = self._recall(uow, actor, idempotency)
            if replay:
                return replay
            stack = self._locked(uow, actor, ref)
            under_way = [job for job in uow.jobs.active_of(stack.id) if job.kind is JobKind.DELETE_STACK]
            if under_way:
                return AcceptedStack(stack, under_way[0], replayed=True)
            self._refuse(uow, stack)
            if validate_only:
                return None
            job = delete_stack_within(uow, stack, self._job(actor, stack, JobKind.DELETE_STACK))
            if idempotency and not uow.accept.remember(actor.project_id, idempotency, job.id):
                raise _key_in_use()
            return self._accepted(uow, stack.id, job)

    def _refuse(self, uow: UnitOfWork, stack: Stack) -> None:
        if stack.cluster_id is not None:
            cluster = uow.clusters.by_id(stack.cluster_id)
            if cluster is not None and cluster.deleted_at is None and cluster.live:
                msg = f"Stack {stack.name!r} is the network of cluster {cluster.name!r}, and goes with it."
                raise Conflict(msg, reason="STACK_OF_CLUSTER", hint=f"DELETE /clusters/{cluster.id} removes both, in order.")
        if any(job.kind is JobKind.DELETE_STACK for job in uow.jobs.active_of(stack.id)):
            msg = f"Stack {stack.name!r} is being deleted."
            raise Conflict(msg, reason="STACK_DELETING")

    # -- preview --------------------------------------------------------------------------------------------------------------

    def preview(self, actor: Actor, fields: Mapping[str, Any], *, findings: Sequence[FieldError] = ()) -> dict[str, Any]:
        """What a new stack would make, or what an update (``stack_id``) would change, in Heat's own judgement. Changes nothing."""
        scope = Scope(self._region, actor.project_id)
        self._clusters.require_credential(scope)
        wrong = list(findings)
        stack = self.get(actor, fields["stack_id"]) if fields.get("stack_id") else None
        name = stack.template if stack else fields.get("template")
        template = self.templates.get(name) if name else None
        if template is None and not wrong:
            words = f"There is no template {name!r}. There are: {', '.join(self.templates.all)}."
            wrong.append(FieldError("template", "exists" if name else "required", words))
        given = (stack.parameters if stack else {}) | dict(fields.get("parameters") or {})
        filled = frozenset({"cidr", "external_network", "name"})
        if template is not None:
            wrong += template.findings(given, filled=filled)
        named = dict(fields) | {"template": name}
        if stack and "members" not in fields and stack.members:
            named["members"] = list(stack.members)
        members = self._members(actor, named, wrong)
        wish = self._wish(given, wrong) if name in WITH_RANGE else None
        if wrong or template is None:
            raise InvalidRequest(as_sentence(wrong), errors=wrong)
        if name == NETWORK:
            self._fill_network(scope, given)
        if name in WITH_RANGE:
            given["cidr"] = str(wish) if wish else self._next_range(scope)
        if "name" in template.parameters:
            given.setdefault("name", stack.name if stack else fields.get("name", "preview"))
        text = document_for(template, members)
        gateway = self._cloud.stacks(scope)
        try:
            if stack is not None and stack.heat_id is not None:
                changes = gateway.preview_update(stack.heat_id, stack.heat_name, text, given)
            else:
                changes = {"added": gateway.preview(f"preview-{uuid4().hex[:8]}", text, given)}
        except CloudRejected as exc:
            raise InvalidRequest(
                f"Heat does not take it: {exc.detail}", errors=[FieldError("parameters", "heat", exc.detail)]
            ) from exc
        return {
            "template": template.name,
            "parameters": given,
            "changes": {kind: [asdict(item) for item in items] for kind, items in changes.items()},
        }

    def _next_range(self, scope: Scope) -> str:
        taken = [cidr for _, cidr in self._project_ranges(scope)]
        with self._database.single() as uow:
            held = uow.stacks.ranges()
        found = first_free(IPv4Network(self._settings.pool), self._settings.prefix, [*held, *taken])
        return str(found) if found else self._settings.pool

    # -- parts ----------------------------------------------------------------------------------------------------------------

    def _new(
        self,
        actor: Actor,
        name: str,
        template: str,
        parameters: Mapping[str, Any],
        *,
        cluster_id: UUID | None = None,
        members: Mapping[str, str] | None = None,
    ) -> tuple[Stack, Job]:
        now = self._clock.now()
        job_id = uuid4()
        stack = Stack(
            id=uuid4(),
            project_id=actor.project_id,
            region=self._region,
            name=name,
            heat_name=heat_name(name, job_id),
            template=template,
            parameters=dict(parameters),
            cluster_id=cluster_id,
            members=dict(members or {}),
            created_at=now,
            updated_at=now,
            created_by=actor.user_id,
        )
        return stack, self._job(actor, stack, JobKind.CREATE_STACK, job_id=job_id)

    def _job(self, actor: Actor, stack: Stack, kind: JobKind, *, job_id: UUID | None = None) -> Job:
        return stack_job(stack, kind, now=self._clock.now(), requested_by=actor.user_id, request_id=actor.request_id, job_id=job_id)

    def _accepted(self, uow: UnitOfWork, stack_id: UUID, job: Job) -> AcceptedStack:
        stack = uow.stacks.by_id(stack_id)
        written = uow.jobs.get(job.id)
        if stack is None or written is None:  # both were written in this very transaction
            msg = "The request was lost while it was written."
            raise CloudError(msg)
        self._nudge()
        return AcceptedStack(stack, written)

    def _locked(self, uow: UnitOfWork, actor: Actor, ref: str) -> Stack:
        stack = uow.stacks.get(actor.project_id, ref, lock=True)
        if stack is None:
            raise _no_stack(ref)
        return stack

    def _recall(self, uow: UnitOfWork, actor: Actor, idempotency: Idempotency | None) -> AcceptedStack | None:
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
        stack = uow.stacks.by_id(job.stack_id) if job and job.stack_id else None
        if job is None or stack is None:
            msg = f"The job of Idempotency-Key {idempotency.key!r} is past its keeping time."
            raise IdempotencyMismatch(msg, hint="Use a new key.")
        return AcceptedStack(stack, job, replayed=True)


def _no_stack(ref: str) -> NotFound:
    return NotFound(f"The project has no stack {ref[:100]!r}.", reason="STACK_NOT_FOUND")


def _key_in_use() -> AlreadyExists:
    return AlreadyExists("Another request with this Idempotency-Key is being accepted right now.", reason="IDEMPOTENCY_KEY_IN_USE")
