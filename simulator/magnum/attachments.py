"""What clusters have in other services: ports on their own network, and what they leave there when they are told to."""

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from simulator.http import HttpError
from simulator.magnum.model import Cluster
from simulator.magnum.wire import fault
from simulator.network import Neutron
from simulator.volume import Cinder

_OWNER = "compute:nova"


def check_networks(neutron: Neutron, project: str, body: dict[str, Any]) -> None:
    """Refuse a fixed network or subnet that the project does not see. Whether they belong together Magnum does not ask."""
    for kind, name in (("network", "fixed_network"), ("subnet", "fixed_subnet")):
        ref = body.get(name)
        if ref and neutron.named(kind, str(ref), project) is None:
            raise fault(400, f"Unable to find fixed {kind} {ref}.")


@dataclass(frozen=True)
class Attachments:
    """A port for each node of a cluster with a network of its own. It carries the cluster's uuid in its description."""

    neutron: Neutron
    cinder: Cinder

    def _network(self, cluster: Cluster) -> dict[str, Any] | None:
        ref = cluster.options.get("fixed_network")
        return self.neutron.named("network", str(ref), cluster.project_id) if ref else None

    def _ports(self, cluster: Cluster) -> list[dict[str, Any]]:
        return list(self.neutron.all("port", device_owner=_OWNER, description=cluster.uuid))

    def grow(self, cluster: Cluster) -> str | None:
        """As many ports as nodes; why not, where that can't be."""
        if not cluster.options.get("fixed_network"):
            return None
        with self.neutron.lock:
            network = self._network(cluster)
            if network is None:
                return f"NotFound: resources.network: Network {cluster.options['fixed_network']} could not be found."
            ports, wanted = self._ports(cluster), cluster.node_count + cluster.master_count
            for port in ports[wanted:]:
                self.neutron.delete("port", port["id"])
            place = {"fixed_ips": [{"subnet_id": self._subnet(cluster)}]} if cluster.options.get("fixed_subnet") else {}
            try:
                for number in range(len(ports), wanted):
                    body = {"name": f"{cluster.name}-node-{number}", "description": cluster.uuid, "device_owner": _OWNER}
                    self.neutron.create("port", cluster.project_id, {**body, **place, "network_id": network["id"]})
            except HttpError as exc:
                words = exc.answer.body["NeutronError"]["message"]
                return f"Resource CREATE failed: Conflict: resources.kube_minions: {words}"
        return None

    def _subnet(self, cluster: Cluster) -> str | None:
        found = self.neutron.named("subnet", str(cluster.options["fixed_subnet"]), cluster.project_id)
        return str(found["id"]) if found is not None else None

    def remove(self, cluster: Cluster, *, leave: bool) -> None:
        """The cluster goes with its ports. ``leave``: with what its users had it make, and forgot, left behind."""
        if not leave and not cluster.options.get("fixed_network"):
            return
        with self.neutron.lock:
            for port in self._ports(cluster):
                self.neutron.delete("port", port["id"])
            if leave:
                with suppress(HttpError):  # a full quota or network: less is left then, and the delete goes on
                    self._leave(cluster)

    def _leave(self, cluster: Cluster) -> None:
        """A load balancer's port and floating IP and a persistent volume, named as Kubernetes' cloud provider names them."""
        own = self._network(cluster)
        networks = [own] if own else list(self.neutron.all("network", project_id=cluster.project_id))
        metadata = {"cinder.csi.openstack.org/cluster": cluster.uuid, "csi.storage.k8s.io/pvc/name": "data"}
        self.cinder.add(cluster.project_id, f"pvc-{cluster.uuid}", 1, metadata)
        service = f"kube_service_{cluster.uuid}_default_web"
        if networks:
            body = {"name": f"octavia-lb-{service}", "description": service, "device_owner": "Octavia"}
            self.neutron.create("port", cluster.project_id, {**body, "network_id": networks[0]["id"]})
        outside = next(self.neutron.all("network", **{"router:external": True}), None)
        if outside is not None:
            words = f"Floating IP for Kubernetes external service default/web from cluster {cluster.uuid}"
            body = {"floating_network_id": outside["id"], "description": words}
            self.neutron.create("floatingip", cluster.project_id, body)
