"""What every kind of Neutron's things shares: where they are kept, how they are found, Neutron's errors."""

import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

from simulator.http import Answer, HttpError
from simulator.store import Store

KINDS = ("network", "subnet", "router", "port", "security_group", "security_group_rule", "floatingip")
TITLES = {
    "network": "Network",
    "subnet": "Subnet",
    "router": "Router",
    "port": "Port",
    "security_group": "SecurityGroup",
    "security_group_rule": "SecurityGroupRule",
    "floatingip": "FloatingIP",
}
#: In sentences; Neutron ends that of a router without a full stop, and speaks of groups in words of its own.
_ABSENT = {
    "router": "Router {} could not be found",
    "security_group": "Security group {} does not exist",
    "security_group_rule": "Security group rule {} does not exist",
    "floatingip": "Floating IP {} could not be found",
}
Thing = dict[str, Any]


def fault(status: int, kind: str, words: str) -> HttpError:
    """An error in Neutron's shape."""
    return HttpError(Answer(status, {"NeutronError": {"type": kind, "message": words, "detail": ""}}))


def invalid(words: str) -> HttpError:
    """What Neutron answers to a value that it can't work with."""
    return fault(400, "InvalidInput", f"Invalid input for operation: {words}")


def absent(kind: str, key: str) -> HttpError:
    """A 404 that names what is missing."""
    return fault(404, f"{TITLES[kind]}NotFound", _ABSENT.get(kind, f"{TITLES[kind]} {{}} could not be found.").format(key))


def now() -> str:
    """As Neutron writes times."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


class Base:
    """Things by kind and id, written through to the store. Callers hold ``lock``."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.lock = threading.RLock()
        self.things: dict[str, dict[str, Thing]] = {kind: dict(store.all(kind)) for kind in KINDS}

    def all(self, kind: str, **equal: Any) -> Iterator[Thing]:
        """Those of a kind whose attributes equal the given ones."""
        return (one for one in list(self.things[kind].values()) if all(one.get(key) == value for key, value in equal.items()))

    def find(self, kind: str, key: Any) -> Thing:
        """One thing. Raises 404."""
        found = self.things[kind].get(key)
        if found is None:
            raise absent(kind, str(key))
        return found

    def keep(self, kind: str, body: Thing) -> Thing:
        """Write it through."""
        self.things[kind][body["id"]] = body
        self._store.put(kind, body["id"], body)
        return body

    def insert(self, kind: str, project: str, body: Thing) -> Thing:
        """A new thing, with what every kind has."""
        moment = now()
        usual = {
            "id": str(uuid.uuid4()),
            "name": "",
            "description": "",
            "tags": [],
            "created_at": moment,
            "updated_at": moment,
            "revision_number": 1,
            "tenant_id": project,
            "project_id": project,
        }
        return self.keep(kind, usual | body)

    def touch(self, kind: str, body: Thing, **values: Any) -> Thing:
        """Change it: a new revision, at a new time."""
        body |= {**values, "updated_at": now(), "revision_number": body["revision_number"] + 1}
        return self.keep(kind, body)

    def forget(self, kind: str, key: str) -> None:
        """It is gone."""
        self.things[kind].pop(key, None)
        self._store.drop(kind, key)
