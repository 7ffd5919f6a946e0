"""Magnum over HTTP, as it answers (openstack-facts.md), not as openstacksdk's objects show it.

openstacksdk's own cluster calls are not used: ``resize`` raises after Magnum accepted it, ``health_status`` and ``faults``
are missing, ``merge_labels`` is dropped, and no microversion is sent. Its session, discovery and catalog are.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import requests
from keystoneauth1.adapter import Adapter

from shared.domain.clusters import LABEL_CLUSTER, LABEL_JOB, ClusterSpec, NodeGroup, NodeGroupSpec, ObservedCluster, Scope
from shared.domain.ports import Catalog
from shared.errors import CloudError, CloudNotFound
from shared.openstack.catalog import read_catalog
from shared.openstack.connection import Sessions
from shared.openstack.wire import Wire

__all__ = ["LABEL_CLUSTER", "LABEL_JOB", "MagnumGateway"]

SERVICE = "container-infra"
_HIGHEST_KNOWN = (1, 14)
_WORDS = {"detail", "resize", "upgrade"}


class MagnumGateway:
    """One project's Magnum in one region (the port ``CloudGateway``)."""

    def __init__(self, sessions: Sessions, scope: Scope, *, version: str) -> None:
        self._sessions = sessions
        self._scope = scope
        headers = {"OpenStack-API-Version": f"{SERVICE} {version}"}
        self._wire = Wire(sessions, scope, SERVICE, label="magnum", pattern=_pattern, headers=headers)

    def find(self, name: str) -> ObservedCluster | None:
        """By name: one GET. Names of ours carry their job's mark, so several of one name are not ours to choose from."""
        return self.get(name)

    def get(self, uuid: str) -> ObservedCluster | None:
        """One cluster; None where Magnum answers 404, or shows an administrator what is another project's."""
        try:
            seen = observed_from(self._wire.read(f"/clusters/{uuid}"))
        except CloudNotFound:
            return None
        return seen if seen.project_id in {None, self._scope.project_id} else None

    def page(self, *, limit: int, marker: str | None = None, newest_first: bool = False) -> list[ObservedCluster]:
        """Some clusters in detail, of every project where the service's user is an administrator: Magnum has no filter."""
        query: dict[str, Any] = {"limit": limit}
        if marker:
            query["marker"] = marker
        if newest_first:
            query |= {"sort_key": "updated_at", "sort_dir": "desc"}
        body = self._wire.read("/clusters/detail", query)
        return [observed_from(item) for item in body.get("clusters", [])]

    def create(self, spec: ClusterSpec) -> str:
        """Ask for a cluster; its uuid. Labels are merged into the template's unless the spec's options say otherwise."""
        options = dict(spec.options)
        body: dict[str, Any] = {
            "name": spec.name,
            "cluster_template_id": spec.template,
            "node_count": spec.node_count,
            "master_count": spec.master_count,
            "labels": spec.labels,
            "merge_labels": options.pop("merge_labels", True),
            **options,
        }
        if spec.keypair:
            body["keypair"] = spec.keypair
        answer = self._wire.write("POST", "/clusters", body)
        uuid = answer.get("uuid")
        if not isinstance(uuid, str):
            msg = f"Magnum accepted the create without telling a uuid: {answer!r}"
            raise CloudError(msg, executed=None)
        return uuid

    def resize(self, uuid: str, node_count: int, *, node_group: str | None = None, remove: Sequence[str] = ()) -> None:
        """Ask for ``node_count`` workers in a group, by default the default one; ``remove`` names the nodes that should go."""
        body: dict[str, Any] = {"node_count": node_count}
        if node_group:
            body["nodegroup"] = node_group
        if remove:
            body["nodes_to_remove"] = list(remove)
        self._wire.write("POST", f"/clusters/{uuid}/actions/resize", body)

    def node_groups(self, uuid: str, *, detailed: bool = False) -> list[NodeGroup]:
        """All node groups. Magnum's list leaves the bounds out, so ``detailed`` costs a GET for each."""
        listed = self._wire.read(f"/clusters/{uuid}/nodegroups").get("nodegroups", [])
        if detailed:
            listed = [self._wire.read(f"/clusters/{uuid}/nodegroups/{group['uuid']}") for group in listed]
        groups = [node_group_from(body) for body in listed]
        return sorted(groups, key=lambda group: (group.is_master, not group.is_default, group.name))

    def add_node_group(self, uuid: str, spec: NodeGroupSpec) -> str:
        """Ask for one more group; its uuid."""
        body: dict[str, Any] = {
            "name": spec.name,
            "node_count": spec.node_count,
            "role": spec.role,
            "flavor_id": spec.flavor,
            "image_id": spec.image,
            "min_node_count": spec.least,
            "max_node_count": spec.most,
            "labels": spec.labels or None,
            "merge_labels": True if spec.labels and spec.merge_labels else None,
        }
        answer = self._wire.write(
            "POST", f"/clusters/{uuid}/nodegroups", {name: value for name, value in body.items() if value is not None}
        )
        made = answer.get("uuid")
        return made if isinstance(made, str) else ""

    def remove_node_group(self, uuid: str, node_group: str) -> bool:
        """Ask for a group's removal; False where there was none of that name."""
        try:
            self._wire.write("DELETE", f"/clusters/{uuid}/nodegroups/{node_group}", None)
        except CloudNotFound:
            return False
        return True

    def upgrade(self, uuid: str, template: str, *, max_batch_size: int, node_group: str | None = None) -> None:
        """Ask for another template's version. Without ``max_batch_size`` Magnum answers 500."""
        body: dict[str, Any] = {"cluster_template": template, "max_batch_size": max_batch_size}
        if node_group:
            body["nodegroup"] = node_group
        self._wire.write("POST", f"/clusters/{uuid}/actions/upgrade", body)

    def authority(self, uuid: str) -> str:
        """The certificate of the cluster's certificate authority, as PEM."""
        return _pem(self._wire.read(f"/certificates/{uuid}"))

    def sign(self, uuid: str, request: str) -> str:
        """The certificate that the authority makes of a signing request."""
        return _pem(self._wire.write("POST", "/certificates", {"cluster_uuid": uuid, "csr": request}))

    def delete(self, uuid: str) -> bool:
        """Ask for removal; False where there was nothing to remove."""
        try:
            self._wire.write("DELETE", f"/clusters/{uuid}", None)
        except CloudNotFound:
            return False
        return True

    def find_template(self, name: str) -> str | None:
        """By the list: Magnum answers 409 to the name of several, and does not tell their ids."""
        named = [item for item in self._templates() if item.get("name") == name]
        return min(named, key=lambda item: (str(item.get("created_at")), item["uuid"]))["uuid"] if named else None

    def create_template(self, body: Mapping[str, Any]) -> str:
        """Make a cluster template; its uuid."""
        uuid = self._wire.write("POST", "/clustertemplates", body).get("uuid")
        if not isinstance(uuid, str):
            msg = "Magnum took the cluster template without telling its uuid."
            raise CloudError(msg, executed=None)
        return uuid

    def delete_template(self, uuid: str) -> bool:
        """Remove a cluster template; False where there was none. Magnum refuses while clusters have it (CloudRejected)."""
        try:
            self._wire.write("DELETE", f"/clustertemplates/{uuid}", None)
        except CloudNotFound:
            return False
        return True

    def _templates(self) -> list[dict[str, Any]]:
        """Public ones and the project's own. An administrator is shown every project's, which are not this project's to see."""
        listed = self._wire.read("/clustertemplates/detail").get("clustertemplates", [])
        return [item for item in listed if item.get("public") or item.get("project_id") in {None, self._scope.project_id}]

    def catalog(self) -> Catalog:
        """Templates, flavors and keypairs that the project can use."""
        session = self._sessions.session(self._scope)
        return read_catalog(self._sessions.connection(session), self._templates())


def _pem(answer: Mapping[str, Any]) -> str:
    pem = answer.get("pem")
    if not isinstance(pem, str) or "BEGIN CERTIFICATE" not in pem:
        msg = "Magnum's answer holds no certificate."
        raise CloudError(msg, executed=None)
    return pem


def _pattern(path: str) -> str:
    """The path with ids left out, so that a metric's label takes few values."""
    parts = path.split("/")
    return "/".join("{id}" if part and index in {2, 4} and part not in _WORDS else part for index, part in enumerate(parts))


def highest_version(adapter: Adapter) -> tuple[int, int] | None:
    """The highest microversion that Magnum has. It tells in the headers of every answer; its version document at /v1 has none."""
    response: requests.Response = adapter.get("/", raise_exc=False)
    words = response.headers.get("OpenStack-API-Maximum-Version", "").rpartition(" ")[2]
    major, _, minor = words.partition(".")
    return (int(major), int(minor)) if major.isdigit() and minor.isdigit() else None


def supported_version(wanted: str, highest: tuple[int, int] | None) -> str:
    """The microversion to ask for: what is wanted, but no more than both sides have. The seed's 1.15 never existed."""
    bound = min(highest or _HIGHEST_KNOWN, _HIGHEST_KNOWN)
    if wanted == "latest":
        return f"{bound[0]}.{bound[1]}"
    major, _, minor = wanted.partition(".")
    chosen = min((int(major), int(minor)), bound)
    return f"{chosen[0]}.{chosen[1]}"


def observed_from(body: Mapping[str, Any]) -> ObservedCluster:
    """A cluster as Magnum's JSON shows it, in detail or alone."""
    return ObservedCluster(
        uuid=body["uuid"],
        name=body.get("name") or "",
        raw_status=body.get("status") or "UNKNOWN",
        status_reason=body.get("status_reason"),
        node_count=int(body.get("node_count") or 0),
        master_count=int(body.get("master_count") or 0),
        health_status=body.get("health_status"),
        health_status_reason=body.get("health_status_reason") or None,
        updated_at=_time(body.get("updated_at")),
        created_at=_time(body.get("created_at")),
        template_id=body.get("cluster_template_id"),
        keypair=body.get("keypair"),
        flavor=body.get("flavor_id"),
        master_flavor=body.get("master_flavor_id"),
        labels=body.get("labels") or {},
        api_address=body.get("api_address"),
        coe_version=body.get("coe_version"),
        stack_id=body.get("stack_id"),
        faults=body.get("faults") or {},
        project_id=body.get("project_id"),
    )


def node_group_from(body: Mapping[str, Any]) -> NodeGroup:
    """A node group as Magnum's JSON shows it."""
    return NodeGroup(
        uuid=body["uuid"],
        name=body.get("name") or "",
        role=body.get("role") or "worker",
        node_count=int(body.get("node_count") or 0),
        flavor=body.get("flavor_id"),
        image=body.get("image_id"),
        least=int(body.get("min_node_count") or 0),
        most=body.get("max_node_count"),
        is_default=bool(body.get("is_default")),
        status=body.get("status"),
        status_reason=body.get("status_reason"),
        labels=body.get("labels") or {},
        created_at=_time(body.get("created_at")),
        updated_at=_time(body.get("updated_at")),
    )


def _time(words: str | None) -> datetime | None:
    if not words:
        return None
    moment = datetime.fromisoformat(words)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
