"""Nova's server groups: policies for where the servers of a group are put."""

import uuid
from typing import Any

from simulator.http import Answer, HttpError, Request, Router
from simulator.identity import Keystone
from simulator.store import Store

_HARD, _SOFT = ("anti-affinity", "affinity"), ("soft-anti-affinity", "soft-affinity")
#: The versions that know soft policies, and that tell one policy with rules instead of a list.
_WITH_SOFT, _WITH_RULES = (2, 15), (2, 64)


def _refused(status: int, name: str, words: str) -> HttpError:
    return HttpError(Answer(status, {name: {"code": status, "message": words}}))


class ServerGroups:
    """All groups by id."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.all: dict[str, dict[str, Any]] = dict(store.all("server_group"))

    def add(self, project: str, user: str, name: str, policy: str, rules: dict[str, Any]) -> str:
        """A new group's id."""
        key = str(uuid.uuid4())
        self.all[key] = {"id": key, "name": name, "policy": policy, "rules": rules, "project_id": project, "user_id": user}
        self._store.put("server_group", key, self.all[key])
        return key

    def drop(self, key: str) -> None:
        """Forget one."""
        self.all.pop(key, None)
        self._store.drop("server_group", key)


def _view(group: dict[str, Any], version: tuple[int, int]) -> dict[str, Any]:
    shown = {"id": group["id"], "name": group["name"], "members": []}
    if version >= _WITH_RULES:
        return shown | {name: group[name] for name in ("policy", "rules", "project_id", "user_id")}
    return shown | {"policies": [group["policy"]], "metadata": {}}


def _policy(body: dict[str, Any], version: tuple[int, int]) -> str:
    known = _HARD + _SOFT if version >= _WITH_SOFT else _HARD
    given = body.get("policy") if version >= _WITH_RULES else (body.get("policies") or [None])[0]
    if given not in known:
        field = "policy" if version >= _WITH_RULES else "0"
        words = f"Invalid input for field/attribute {field}. Value: {given}. {given!r} is not one of {list(known)}"
        raise _refused(400, "badRequest", words)
    return str(given)


def routes(groups: ServerGroups, keystone: Keystone, router: Router, version: Any) -> None:
    """Add them. ``version``: reads a request's microversion."""

    def mine(request: Request, *, writes: bool = False) -> dict[str, Any]:
        me = keystone.identify(request)
        found = groups.all.get(request.variables["id"])
        if found is None or (found["project_id"] != me.project_id and not me.is_admin):
            raise _refused(404, "itemNotFound", f"Instance group {request.variables['id']} could not be found.")
        if writes and not me.roles & {"admin", "manager", "member"}:
            raise _refused(403, "forbidden", "Policy doesn't allow os_compute_api:os-server-groups:delete to be performed.")
        return found

    def listed(request: Request) -> Answer:
        me = keystone.identify(request)
        seen = [one for one in groups.all.values() if one["project_id"] == me.project_id]
        return Answer(200, {"server_groups": [_view(one, version(request)) for one in seen]})

    def made(request: Request) -> Answer:
        me = keystone.identify(request)
        if not me.roles & {"admin", "manager", "member"}:
            raise _refused(403, "forbidden", "Policy doesn't allow os_compute_api:os-server-groups:create to be performed.")
        body = request.json().get("server_group") or {}
        name = body.get("name")
        if not isinstance(name, str) or not name.strip():
            raise _refused(400, "badRequest", f"Invalid input for field/attribute name. Value: {name}.")
        policy = _policy(body, version(request))
        key = groups.add(me.project_id or "", me.user_id, name, policy, body.get("rules") or {})
        return Answer(200, {"server_group": _view(groups.all[key], version(request))})

    def removed(request: Request) -> Answer:
        groups.drop(mine(request, writes=True)["id"])
        return Answer(204)

    router.add("GET", "/v2.1/os-server-groups", listed)
    router.add("POST", "/v2.1/os-server-groups", made)
    router.add("GET", "/v2.1/os-server-groups/{id}", lambda r: Answer(200, {"server_group": _view(mine(r), version(r))}))
    router.add("DELETE", "/v2.1/os-server-groups/{id}", removed)
