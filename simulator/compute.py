"""Nova, as far as clusters are checked against it: flavors with their extra specs, and keypairs, which belong to users."""

import time
import uuid
from typing import Any

from simulator import server_groups
from simulator.http import Answer, HttpError, Request, Router
from simulator.identity import Keystone
from simulator.store import Store

LOWEST, HIGHEST = (2, 1), (2, 104)
_SPECS_SHOWN, _DESCRIBED, _TYPED = (2, 61), (2, 55), (2, 2)  # from which flavors show specs and descriptions, keypairs their type
#: Quotas; -1 is no limit.
LIMITS = {
    "maxTotalInstances": 10_000,
    "maxTotalCores": -1,
    "maxTotalRAMSize": -1,
    "maxTotalKeypairs": 1000,
    "maxServerMeta": 128,
    "maxImageMeta": 128,
    "maxPersonality": 5,
    "maxPersonalitySize": 10240,
    "maxServerGroups": 1000,
    "maxServerGroupMembers": 1000,
    "maxSecurityGroups": -1,
    "maxSecurityGroupRules": -1,
    "maxTotalFloatingIps": -1,
    "totalInstancesUsed": 0,
    "totalCoresUsed": 0,
    "totalRAMUsed": 0,
    "totalServerGroupsUsed": 0,
    "totalSecurityGroupsUsed": 0,
    "totalFloatingIpsUsed": 0,
}


def _error(status: int, kind: str, words: str) -> HttpError:
    body = {kind: {"code": status, "message": words}}
    return HttpError(Answer(status, body, {"Content-Type": "application/json; charset=UTF-8"}))


def _missing(words: str) -> HttpError:
    return _error(404, "itemNotFound", words)


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
        item = {
            "id": len(self.keypairs) + 1,
            "user": user,
            "name": name,
            "public_key": public_key,
            "fingerprint": ":".join(["00"] * 16),
            "type": "ssh",
            "created_at": time.strftime("%Y-%m-%dT%H:%M:%S.000000", time.gmtime()),
        }
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


def _flavor(item: dict[str, Any], origin: str, version: tuple[int, int], *, detail: bool = True) -> dict[str, Any]:
    links = [
        {"rel": "self", "href": f"{origin}/compute/v2.1/flavors/{item['id']}"},
        {"rel": "bookmark", "href": f"{origin}/compute/flavors/{item['id']}"},
    ]
    body: dict[str, Any] = {"id": item["id"], "name": item["name"], "links": links}
    if version >= _DESCRIBED:
        body["description"] = None
    if not detail:
        return body
    body |= {
        "ram": item["ram"],
        "disk": item["disk"],
        "swap": "",
        "OS-FLV-EXT-DATA:ephemeral": 0,
        "OS-FLV-DISABLED:disabled": False,
        "vcpus": item["vcpus"],
        "os-flavor-access:is_public": True,
        "rxtx_factor": 1.0,
    }
    if version >= _SPECS_SHOWN:
        body["extra_specs"] = item["extra_specs"]
    return body


def _version(request: Request) -> tuple[int, int]:
    """The microversion asked for; 2.1 where none is. Raises 400 or 406."""
    text = request.header("OpenStack-API-Version") or ""
    number = text.removeprefix("compute ").strip() or (request.header("X-OpenStack-Nova-API-Version") or "2.1")
    if number == "latest":
        return HIGHEST
    major, _, minor = number.partition(".")
    if not (major.isdigit() and minor.isdigit()):
        raise _error(400, "badRequest", f"API Version String {number} is of invalid format. Must be of format MajorNum.MinorNum.")
    if not LOWEST <= (int(major), int(minor)) <= HIGHEST:
        words = f"Version {number} is not supported by the API. Minimum is 2.1 and maximum is 2.104."
        raise _error(406, "computeFault", words)
    return int(major), int(minor)


def _pair(item: dict[str, Any], version: tuple[int, int], *, detail: bool) -> dict[str, Any]:
    body = {key: item[key] for key in ("name", "public_key", "fingerprint")}
    if version >= _TYPED:
        body["type"] = item["type"]
    if detail:
        body |= {"id": item["id"], "user_id": item["user"], "created_at": item["created_at"]}
        body |= {"deleted": False, "deleted_at": None, "updated_at": None}
    return {"keypair": body}


def routes(nova: Nova, keystone: Keystone) -> Router:  # noqa: C901, PLR0915 - a table of small handlers
    """Everything under /compute."""
    router = Router()

    def enter(request: Request) -> tuple[str, tuple[int, int]]:
        """Who asks, and at which microversion."""
        me = keystone.identify(request)
        version = _version(request)
        request.extra = {
            "OpenStack-API-Version": f"compute {version[0]}.{version[1]}",
            "X-OpenStack-Nova-API-Version": f"{version[0]}.{version[1]}",
            "Vary": "OpenStack-API-Version, X-OpenStack-Nova-API-Version",
        }
        return me.user_id, version

    def version_body(request: Request) -> dict[str, Any]:
        return {
            "id": "v2.1",
            "status": "CURRENT",
            "version": "2.104",
            "min_version": "2.1",
            "updated": "2013-07-23T11:33:21Z",
            "links": [
                {"rel": "self", "href": f"{request.origin}/compute/v2.1/"},
                {"rel": "describedby", "type": "text/html", "href": "http://docs.openstack.org/"},
            ],
            "media-types": [{"base": "application/json", "type": "application/vnd.openstack.compute+json;version=2.1"}],
        }

    def described(request: Request) -> Answer:
        if request.header("X-Auth-Token"):
            enter(request)
        return Answer(200, {"version": version_body(request)})

    def listed(request: Request) -> Answer:
        _, version = enter(request)
        detail = request.path.endswith("/detail")
        shown = [_flavor(item, request.origin, version, detail=detail) for item in nova.flavors.values()]
        return Answer(200, {"flavors": [] if "marker" in request.query else shown})

    def find(ref: str) -> dict[str, Any]:
        for item in nova.flavors.values():
            if ref == item["id"]:
                return item
        raise _missing(f"Flavor {ref} could not be found.")

    def shown(request: Request) -> Answer:
        _, version = enter(request)
        return Answer(200, {"flavor": _flavor(find(request.variables["id"]), request.origin, version)})

    def specs(request: Request) -> Answer:
        enter(request)
        return Answer(200, {"extra_specs": find(request.variables["id"])["extra_specs"]})

    def keypairs(request: Request) -> Answer:
        me, version = enter(request)
        mine = [_pair(item, version, detail=False) for item in nova.keypairs.values() if item["user"] == me]
        return Answer(200, {"keypairs": [] if "marker" in request.query else mine})

    def keypair(request: Request) -> Answer:
        me, version = enter(request)
        item = nova.keypairs.get(f"{me}|{request.variables['name']}")
        if item is None:
            raise _missing(f"Keypair {request.variables['name']} not found for user {me}")
        return Answer(200, _pair(item, version, detail=True))

    def add_keypair(request: Request) -> Answer:
        me, version = enter(request)
        body = request.json()["keypair"]
        if nova.has_keypair(me, body["name"]):
            raise _error(409, "conflictingRequest", f"Key pair '{body['name']}' already exists.")
        made = nova.add_keypair(me, body["name"], body.get("public_key", "ssh-ed25519 AAAA"))
        return Answer(200, {"keypair": {**_pair(made, version, detail=False)["keypair"], "user_id": me}})

    def drop_keypair(request: Request) -> Answer:
        me, _ = enter(request)
        if not nova.drop_keypair(me, request.variables["name"]):
            raise _missing(f"Keypair {request.variables['name']} not found for user {me}")
        return Answer(202)

    def limits(request: Request) -> Answer:
        enter(request)
        return Answer(200, {"limits": {"rate": [], "absolute": LIMITS}})

    def quota(request: Request) -> Answer:
        enter(request)
        held = {"instances": "Instances", "cores": "Cores", "ram": "RAMSize", "key_pairs": "Keypairs"}
        limits_ = {name: LIMITS[f"maxTotal{limit}"] for name, limit in held.items()}
        return Answer(200, {"quota_set": {"id": request.variables["project"], **limits_}})

    def servers(request: Request) -> Answer:
        enter(request)
        return Answer(200, {"servers": []})  # clusters here have no machines behind them

    router.add("GET", "/", lambda r: Answer(200, {"versions": [version_body(r)]}))
    router.add("GET", "/v2.1", described)
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
