"""Nova, as far as clusters are checked against it: flavors with their extra specs, and keypairs, which belong to users."""

import uuid
from typing import Any

from simulator import server_groups
from simulator.http import Answer, HttpError, Request, Router
from simulator.identity import Keystone
from simulator.store import Store


def _missing(words: str) -> HttpError:
    return HttpError(Answer(404, {"itemNotFound": {"code": 404, "message": words}}))


class Nova:
    """The compute service."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.flavors: dict[str, dict[str, Any]] = dict(store.all("flavor"))
        self.keypairs: dict[str, dict[str, Any]] = dict(store.all("keypair"))
        self.groups = server_groups.ServerGroups(store)

    def add_flavor(self, name: str, vcpus: int, ram_mb: int, disk: int, specs: dict[str, str]) -> None:
        """A public flavor."""
        key = str(uuid.uuid5(uuid.NAMESPACE_DNS, f"flavor.{name}"))
        self.flavors[key] = {"id": key, "name": name, "vcpus": vcpus, "ram": ram_mb, "disk": disk, "extra_specs": specs}
        self._store.put("flavor", key, self.flavors[key])

    def add_keypair(self, user: str, name: str, public_key: str) -> dict[str, Any]:
        """A user's keypair."""
        item = {"user": user, "name": name, "public_key": public_key, "fingerprint": ":".join(["00"] * 16), "type": "ssh"}
        self.keypairs[f"{user}|{name}"] = item
        self._store.put("keypair", f"{user}|{name}", item)
        return item

    def has_flavor(self, ref: str) -> bool:
        """By id or name."""
        return any(ref in {flavor["id"], flavor["name"]} for flavor in self.flavors.values())

    def has_keypair(self, user: str, name: str) -> bool:
        """Whether this user has it."""
        return f"{user}|{name}" in self.keypairs

    def drop_keypair(self, user: str, name: str) -> bool:
        """Forget it."""
        self._store.drop("keypair", f"{user}|{name}")
        return self.keypairs.pop(f"{user}|{name}", None) is not None


def _flavor(item: dict[str, Any], origin: str, version: float) -> dict[str, Any]:
    body = {
        "id": item["id"],
        "name": item["name"],
        "ram": item["ram"],
        "disk": item["disk"],
        "swap": "",
        "OS-FLV-EXT-DATA:ephemeral": 0,
        "OS-FLV-DISABLED:disabled": False,
        "vcpus": item["vcpus"],
        "os-flavor-access:is_public": True,
        "rxtx_factor": 1.0,
        "links": [{"rel": "self", "href": f"{origin}/compute/v2.1/flavors/{item['id']}"}],
    }
    if version >= 2.61:  # noqa: PLR2004 - the microversion that shows them
        body["extra_specs"] = item["extra_specs"]
    return body


def _version(request: Request) -> float:
    text = request.header("OpenStack-API-Version") or ""
    number = text.removeprefix("compute ").strip() or (request.header("X-OpenStack-Nova-API-Version") or "2.1")
    major, _, minor = number.partition(".")
    return float(f"{major}.{int(minor):02d}") if major.isdigit() and minor.isdigit() else 2.99


def routes(nova: Nova, keystone: Keystone) -> Router:  # noqa: C901, PLR0915 - a table of small handlers
    """Everything under /compute."""
    router = Router()

    def version_body(request: Request) -> dict[str, Any]:
        return {
            "id": "v2.1",
            "status": "CURRENT",
            "version": "2.104",
            "min_version": "2.1",
            "updated": "2013-07-23T11:33:21Z",
            "links": [{"rel": "self", "href": f"{request.origin}/compute/v2.1/"}],
            "media-types": [],
        }

    def listed(request: Request) -> Answer:
        keystone.identify(request)
        shown = [_flavor(item, request.origin, _version(request)) for item in nova.flavors.values()]
        return Answer(200, {"flavors": [] if "marker" in request.query else shown})

    def find(ref: str) -> dict[str, Any]:
        for item in nova.flavors.values():
            if ref == item["id"]:
                return item
        raise _missing(f"Flavor {ref} could not be found.")

    def shown(request: Request) -> Answer:
        keystone.identify(request)
        return Answer(200, {"flavor": _flavor(find(request.variables["id"]), request.origin, _version(request))})

    def specs(request: Request) -> Answer:
        keystone.identify(request)
        return Answer(200, {"extra_specs": find(request.variables["id"])["extra_specs"]})

    def pair(item: dict[str, Any]) -> dict[str, Any]:
        return {"keypair": {key: item[key] for key in ("name", "public_key", "fingerprint", "type")}}

    def keypairs(request: Request) -> Answer:
        me = keystone.identify(request)
        mine = [pair(item) for item in nova.keypairs.values() if item["user"] == me.user_id]
        return Answer(200, {"keypairs": [] if "marker" in request.query else mine})

    def keypair(request: Request) -> Answer:
        me = keystone.identify(request)
        item = nova.keypairs.get(f"{me.user_id}|{request.variables['name']}")
        if item is None:
            raise _missing(f"Keypair {request.variables['name']} not found for user {me.user_id}")
        return Answer(200, pair(item))

    def add_keypair(request: Request) -> Answer:
        me = keystone.identify(request)
        body = request.json()["keypair"]
        if nova.has_keypair(me.user_id, body["name"]):
            words = f"Key pair '{body['name']}' already exists."
            raise HttpError(Answer(409, {"conflictingRequest": {"code": 409, "message": words}}))
        return Answer(200, pair(nova.add_keypair(me.user_id, body["name"], body.get("public_key", "ssh-ed25519 AAAA"))))

    def drop_keypair(request: Request) -> Answer:
        me = keystone.identify(request)
        if not nova.drop_keypair(me.user_id, request.variables["name"]):
            raise _missing(f"Keypair {request.variables['name']} not found for user {me.user_id}")
        return Answer(202)

    def limits(request: Request) -> Answer:
        keystone.identify(request)
        absolute = {
            "maxTotalInstances": 10_000,
            "maxTotalCores": 400_000,
            "maxTotalRAMSize": 2_000_000_000,
            "maxTotalKeypairs": 100,
            "totalInstancesUsed": 0,
            "totalCoresUsed": 0,
            "totalRAMUsed": 0,
        }
        return Answer(200, {"limits": {"rate": [], "absolute": absolute}})

    def quota(request: Request) -> Answer:
        keystone.identify(request)
        project = request.variables["project"]
        return Answer(
            200, {"quota_set": {"id": project, "instances": 10_000, "cores": 400_000, "ram": 2_000_000_000, "key_pairs": 100}}
        )

    def servers(request: Request) -> Answer:
        keystone.identify(request)
        return Answer(200, {"servers": []})  # clusters here have no machines behind them

    router.add("GET", "/", lambda r: Answer(200, {"versions": [version_body(r)]}))
    router.add("GET", "/v2.1", lambda r: Answer(200, {"version": version_body(r)}))
    router.add("GET", "/v2.1/flavors", listed)
    router.add("GET", "/v2.1/flavors/detail", listed)
    router.add("GET", "/v2.1/flavors/{id}", shown)
    router.add("GET", "/v2.1/flavors/{id}/os-extra_specs", specs)
    router.add("GET", "/v2.1/os-keypairs", keypairs)
    router.add("POST", "/v2.1/os-keypairs", add_keypair)
    router.add("GET", "/v2.1/os-keypairs/{name}", keypair)
    router.add("DELETE", "/v2.1/os-keypairs/{name}", drop_keypair)
    router.add("GET", "/v2.1/limits", limits)
    router.add("GET", "/v2.1/os-quota-sets/{project}", quota)
    router.add("GET", "/v2.1/servers/detail", servers)
    server_groups.routes(nova.groups, keystone, router, _version)
    return router
