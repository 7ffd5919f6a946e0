"""Who may come to a cluster: grants, and kubeconfigs."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from shared.domain.access import LEAST, Grant, GrantRole, SubjectType, allows
from shared.domain.kubeconfig import Kubeconfig, make_request
from shared.errors import CloudRejected, Conflict, Forbidden, NotFound

if TYPE_CHECKING:
    from shared.db.uow import Database
    from shared.domain.clusters import Cluster
    from shared.domain.ports import Actor, Cloud
    from shared.services.clusters import ClusterService


class AccessService:
    """Grants on clusters, and the way into them."""

    def __init__(self, database: Database, cloud: Cloud, clusters: ClusterService) -> None:
        self._database = database
        self._cloud = cloud
        self._clusters = clusters

    # -- grants -------------------------------------------------------------------------------------------------------

    def allows(self, rule: str, actor: Actor, token: str, *, cluster: str | None = None, job: str | None = None) -> bool:
        """Whether a grant on the cluster (or on the job's) lets the actor do what ``rule`` guards.

        Groups are asked of Keystone only where one has a grant on the cluster. Raises CloudError where it does not answer.
        """
        if rule not in LEAST:
            return False
        with self._database.begin() as uow:
            cluster_id: UUID | None = None
            if cluster and (row := uow.clusters.get(actor.project_id, cluster)):
                cluster_id = row.id
            elif job and (named := _uuid(job)) and (found := uow.jobs.get(named, actor.project_id)):
                cluster_id = found.cluster_id
            if cluster_id is None:
                return False
            if allows(rule, uow.grants.roles(cluster_id, actor.user_id, [])):
                return True
            if not uow.grants.has_groups(cluster_id):
                return False
        groups = self._cloud.groups_of(actor.user_id, token)
        with self._database.single() as uow:
            return allows(rule, uow.grants.roles(cluster_id, actor.user_id, groups))

    def made(self, actor: Actor, cluster_ref: str) -> bool:
        """Whether the actor made the cluster."""
        try:
            return self._clusters.get(actor, cluster_ref).created_by == actor.user_id
        except NotFound:
            return False

    def grants(self, actor: Actor, cluster_ref: str) -> tuple[Cluster, list[Grant]]:
        """The cluster's grants."""
        cluster = self._clusters.get(actor, cluster_ref)
        with self._database.single() as uow:
            return cluster, uow.grants.of(cluster.id)

    def grant(
        self, actor: Actor, cluster_ref: str, subject_type: SubjectType, subject_id: str, role: GrantRole
    ) -> tuple[Cluster, list[Grant]]:
        """Give a role on the cluster; what the subject had before is replaced."""
        cluster = self._clusters.get(actor, cluster_ref)
        with self._database.begin() as uow:
            uow.grants.put(cluster.id, subject_type, subject_id, role, actor.user_id)
            uow.audit.record(actor, "grants:put", cluster.id, {"subject": f"{subject_type}:{subject_id}", "role": role.value})
            return cluster, uow.grants.of(cluster.id)

    def revoke(self, actor: Actor, cluster_ref: str, subject_type: SubjectType, subject_id: str) -> None:
        """Take the subject's role away. Raises NotFound where it has none."""
        cluster = self._clusters.get(actor, cluster_ref)
        with self._database.begin() as uow:
            if not uow.grants.delete(cluster.id, subject_type, subject_id):
                msg = f"The {subject_type} {subject_id!r} has no grant on cluster {cluster.name!r}."
                raise NotFound(msg, reason="GRANT_NOT_FOUND")
            uow.audit.record(actor, "grants:delete", cluster.id, {"subject": f"{subject_type}:{subject_id}"})

    # -- kubeconfig -----------------------------------------------------------------------------------------------------

    def kubeconfig(self, actor: Actor, cluster_ref: str) -> Kubeconfig:
        """A kubeconfig with a key made now, which only this answer ever holds.

        The certificate is signed by the cluster's own authority through Magnum (POST /v1/certificates); how long it is valid the
        driver decides, none takes a wish. Raises Conflict while the cluster has no API address.
        """
        cluster = self._clusters.made(actor, cluster_ref)
        if not cluster.api_address:
            msg = f"Cluster {cluster.name!r} has no API address yet: Magnum says {cluster.status}."
            raise Conflict(msg, reason="NO_API_ADDRESS", hint="Follow its job, then ask again.")
        gateway = self._cloud.gateway(cluster.scope)
        pair = make_request(actor.user_name or actor.user_id)
        try:
            authority = gateway.authority(str(cluster.magnum_uuid))
            made = pair.completed(
                certificate=gateway.sign(str(cluster.magnum_uuid), pair.request),
                authority=authority,
                cluster=cluster.name,
                server=cluster.api_address,
            )
        except CloudRejected as exc:
            raise Forbidden(
                f"Magnum does not sign a certificate for cluster {cluster.name!r}: {exc.detail}",
                reason="CERTIFICATE_REFUSED",
                hint="The service's role in the project must be allowed certificate:create by Magnum's policy.",
            ) from exc
        with self._database.begin() as uow:
            uow.audit.record(
                actor, "clusters:kubeconfig", cluster.id, {"serial": made.serial, "expires_at": made.expires_at.isoformat()}
            )
        return made


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
