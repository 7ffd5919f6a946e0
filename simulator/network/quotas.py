"""How many of each kind a project may have."""

from typing import Any

from simulator.network.base import KINDS, Base, fault
from simulator.store import Store

#: As the real services that the simulator is compared with are set up; kinds that are not simulated are told, and count nothing.
LIMITS = {
    "network": 2000,
    "subnet": 2000,
    "subnetpool": -1,
    "port": 20000,
    "router_route": 30,
    "router": 1000,
    "floatingip": 1000,
    "rbac_policy": 10,
    "security_group": 2000,
    "security_group_rule": 20000,
}


class Quotas:
    """Limits by project; -1 means none."""

    def __init__(self, store: Store, base: Base) -> None:
        self._store = store
        self._base = base
        self._own: dict[str, dict[str, int]] = dict(store.all("network_quota"))

    def of(self, project: str) -> dict[str, int]:
        """A project's limits."""
        return LIMITS | self._own.get(project, {})

    def details(self, project: str) -> dict[str, dict[str, int]]:
        """Limits with what is used."""
        return {
            kind: {"limit": limit, "used": self.used(project, kind) if kind in KINDS else 0, "reserved": 0}
            for kind, limit in self.of(project).items()
        }

    def used(self, project: str, kind: str) -> int:
        """How many there are."""
        return sum(1 for _ in self._base.all(kind, project_id=project))

    def check(self, project: str, kind: str) -> None:
        """Raises 409 where one more would be too many."""
        limit = self.of(project)[kind]
        if limit >= 0 and self.used(project, kind) >= limit:
            raise fault(409, "OverQuota", f"Quota exceeded for resources: ['{kind}'].")

    def put(self, project: str, given: Any) -> dict[str, int]:
        """Set some. Raises 400 for unknown ones and for limits below -1."""
        for name, value in given.items():
            if name not in LIMITS:
                raise fault(400, "HTTPBadRequest", f"Unrecognized attribute(s) '{name}'")
            if isinstance(value, bool) or not isinstance(value, int):
                raise fault(400, "HTTPBadRequest", f"Invalid input for {name}. Reason: '{value}' is not an integer.")
            if value < -1:
                reason = f"'{value}' is too small - must be at least '-1'"
                raise fault(400, "HTTPBadRequest", f"Invalid input for {name}. Reason: {reason}.")
        self._own[project] = self._own.get(project, {}) | given
        self._store.put("network_quota", project, self._own[project])
        return self.of(project)

    def drop(self, project: str) -> None:
        """Back to what every project has."""
        self._own.pop(project, None)
        self._store.drop("network_quota", project)
