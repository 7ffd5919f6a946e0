"""What all of Magnum's resources need: who asks, at which version, and which object is meant."""

from dataclasses import dataclass, field
from typing import Any

from simulator.clock import Clock
from simulator.compute import Nova
from simulator.costs import Costs
from simulator.http import Request
from simulator.identity import Identity, Keystone
from simulator.image import Glance
from simulator.magnum.lifecycle import Conductor
from simulator.magnum.model import Cluster, Collection, Template
from simulator.magnum.personalities import DEFAULT
from simulator.magnum.wire import fault, headers, microversion
from simulator.network import Neutron


@dataclass
class Magnum:
    """The service and its neighbours."""

    keystone: Keystone
    nova: Nova
    glance: Glance
    neutron: Neutron
    collection: Collection
    conductor: Conductor
    clock: Clock
    costs: Costs
    quota: int = 1000  #: clusters per project, where no other is set
    quotas: dict[str, dict[str, Any]] = field(default_factory=dict)  #: by project, as an administrator has set them
    driver: str = DEFAULT  #: of new templates whose image it takes
    lists_broken: bool = False  #: a cluster without node groups stays: every list answers 400 (openstack-facts, 2)

    def quota_of(self, project_id: str | None) -> int:
        """How many clusters a project may have."""
        known = self.quotas.get(project_id or "")
        return int(known["hard_limit"]) if known else self.quota

    def recognize(self, request: Request) -> tuple[Identity, tuple[int, int]]:
        """Who asks, and at which microversion."""
        me = self.keystone.identify(request)
        version = microversion(request)
        request.extra = headers(version)
        return me, version

    def permit(self, me: Identity, rule: str, *, writes: bool) -> None:
        """Refuse who lacks the role. Calls with a body read it before: what is wrong with it is said to anybody."""
        needed = "member" if writes else "reader"
        if me.project_id is None or needed not in me.roles:
            raise fault(403, f"Policy doesn't allow {rule} to be performed.")

    def enter(self, request: Request, rule: str, *, writes: bool = False) -> tuple[Identity, tuple[int, int]]:
        """Check token and role, and read the microversion."""
        me, version = self.recognize(request)
        self.permit(me, rule, writes=writes)
        return me, version

    def cluster(self, me: Identity, ref: str) -> Cluster:
        """By uuid or name, as Magnum finds it. Callers hold the collection's lock."""
        self.conductor.catch_up()
        now = self.clock.now()
        found = self.collection.clusters.get(ref)
        if found is not None and _sees(me, found) and found.visible_at <= now:
            return self.whole(found)
        named = [
            self.collection.clusters[uuid]
            for uuid in self.collection.by_name.get(ref, ())
            if _sees(me, self.collection.clusters[uuid]) and self.collection.clusters[uuid].visible_at <= now
        ]
        if len(named) > 1:
            raise fault(409, "Multiple clusters exist with same name. Please use the cluster uuid instead.")
        if not named:
            raise fault(404, f"Cluster {ref} could not be found.")
        return self.whole(named[0])

    def whole(self, cluster: Cluster) -> Cluster:
        """Refuse one that the conductor has not finished writing."""
        if cluster.whole_at > self.clock.now():
            raise fault(400, "Invalid input for field/attribute master_count. Value: '0'. Value should be greater or equal to 1")
        return cluster

    def template(self, me: Identity, ref: str, status: int) -> Template:
        """By uuid or name; ``status`` where there is none."""
        found = self.collection.templates.get(ref)
        if found is not None and self.sees_template(me, found):
            return found
        named = [t for t in self.collection.templates.values() if t.name == ref and self.sees_template(me, t)]
        if len(named) > 1:
            raise fault(409, "Multiple ClusterTemplates exist with same name. Please use the ClusterTemplate uuid instead.")
        if not named:
            raise fault(status, f"ClusterTemplate {ref} could not be found.")
        return named[0]

    def sees_template(self, me: Identity, item: Template) -> bool:
        """Own ones, public ones that are not hidden, and all for administrators. Without a project, a user's are its own."""
        own = item.project_id == me.project_id if me.project_id else item.user_id == me.user_id
        return me.is_admin or own or bool(item.body.get("public") and not item.body.get("hidden"))


def _sees(me: Identity, cluster: Cluster) -> bool:
    return me.is_admin or cluster.project_id == me.project_id
