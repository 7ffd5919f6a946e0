"""Cinder, as far as what clusters leave behind is looked for and removed there."""

import time
import uuid
from typing import Any

from simulator.http import Answer, HttpError, Request, Router
from simulator.identity import Keystone
from simulator.store import Store

_WRITERS = {"admin", "manager", "member"}


def _refused(status: int, name: str, words: str) -> HttpError:
    return HttpError(Answer(status, {name: {"code": status, "message": words}}))


class Cinder:
    """The volume service."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.volumes: dict[str, dict[str, Any]] = dict(store.all("volume"))

    def add(self, project: str, name: str, size_gb: int, metadata: dict[str, str], description: str = "") -> dict[str, Any]:
        """A new volume."""
        key = str(uuid.uuid4())
        moment = time.strftime("%Y-%m-%dT%H:%M:%S.000000", time.gmtime())
        self.volumes[key] = {
            "id": key,
            "name": name,
            "description": description,
            "size": size_gb,
            "status": "available",
            "metadata": metadata,
            "attachments": [],
            "availability_zone": "nova",
            "bootable": "false",
            "created_at": moment,
            "updated_at": moment,
            "os-vol-tenant-attr:tenant_id": project,
        }
        self._store.put("volume", key, self.volumes[key])
        return self.volumes[key]

    def drop(self, key: str) -> None:
        """Forget one."""
        self.volumes.pop(key, None)
        self._store.drop("volume", key)


def routes(cinder: Cinder, keystone: Keystone) -> Router:
    """Everything under /volume."""
    router = Router()

    def versions(request: Request) -> Answer:
        links = [{"rel": "self", "href": f"{request.origin}/volume/v3/"}]
        one = {"id": "v3.0", "status": "CURRENT", "version": "3.71", "min_version": "3.0", "links": links}
        return Answer(300, {"versions": [one]})

    def seen(request: Request) -> list[dict[str, Any]]:
        me = keystone.identify(request)
        if request.variables["project"] != me.project_id:
            raise _refused(404, "itemNotFound", "The resource could not be found.")
        name = request.query.get("name")
        mine = [one for one in cinder.volumes.values() if one["os-vol-tenant-attr:tenant_id"] == me.project_id]
        return [one for one in mine if name in {None, one["name"]}]

    def find(request: Request) -> dict[str, Any]:
        for one in seen(request):
            if one["id"] == request.variables["id"]:
                return one
        raise _refused(404, "itemNotFound", f"Volume {request.variables['id']} could not be found.")

    def brief(request: Request) -> Answer:
        return Answer(200, {"volumes": [{key: one[key] for key in ("id", "name")} for one in seen(request)]})

    def detail(request: Request) -> Answer:
        # Clients ask on after the last one, until a page is empty.
        return Answer(200, {"volumes": [] if "marker" in request.query else seen(request)})

    def removed(request: Request) -> Answer:
        found = find(request)
        if not keystone.identify(request).roles & _WRITERS:
            raise _refused(403, "forbidden", "Policy doesn't allow volume:delete to be performed.")
        cinder.drop(found["id"])
        return Answer(202)

    router.add("GET", "/", versions)
    router.add("GET", "/v3", versions)
    router.add("GET", "/v3/{project}/volumes", brief)
    router.add("GET", "/v3/{project}/volumes/detail", detail)
    router.add("GET", "/v3/{project}/volumes/{id}", lambda request: Answer(200, {"volume": find(request)}))
    router.add("DELETE", "/v3/{project}/volumes/{id}", removed)
    return router
