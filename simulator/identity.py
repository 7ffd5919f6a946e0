"""Keystone v3: tokens by password, token and application credential; their check; projects, users, roles and assignments."""

import hmac
import secrets
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from simulator.clock import Clock
from simulator.http import Answer, HttpError, Request, Router
from simulator.store import Store

REGION = "RegionOne"
DOMAIN = {"id": "default", "name": "Default"}
#: A role brings those below it (Keystone's implied roles).
IMPLIED = {"admin": ("manager", "member", "reader"), "manager": ("member", "reader"), "member": ("reader",), "reader": ()}
REFUSED = "The request you have made requires authentication."

SERVICES = (
    ("identity", "keystone", "/identity/v3"),
    ("container-infra", "magnum", "/container-infra/v1"),
    ("compute", "nova", "/compute/v2.1"),
    ("image", "glance", "/image"),
    ("network", "neutron", "/network"),
    ("orchestration", "heat", "/orchestration/v1/%(project)s"),
    ("block-storage", "cinder", "/volume/v3/%(project)s"),
)


def problem(status: int, words: str) -> HttpError:
    """An error in Keystone's shape."""
    titles = {400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 409: "Conflict"}
    headers = {"WWW-Authenticate": 'Keystone uri="/identity/v3"'} if status == 401 else {}  # noqa: PLR2004
    return HttpError(Answer(status, {"error": {"code": status, "message": words, "title": titles[status]}}, headers))


@dataclass(frozen=True)
class Identity:
    """Who a valid token speaks for."""

    user_id: str
    user_name: str
    project_id: str | None
    roles: frozenset[str]

    @property
    def is_admin(self) -> bool:
        """Has the role admin in its project."""
        return "admin" in self.roles


def _time(moment: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment)) + f".{int(moment % 1 * 1e6):06d}Z"


class Keystone:
    """The identity service. ``token_s``: how long tokens live."""

    def __init__(self, store: Store, clock: Clock, *, token_s: float = 3600.0) -> None:
        self._store = store
        self._clock = clock
        self.token_s = token_s
        self.down = False
        self._seen: set[str] = set()  #: tokens that services have had checked
        self._lock = threading.Lock()
        self._tables: dict[str, dict[str, Any]] = {
            kind: dict(store.all(kind)) for kind in ("project", "user", "role", "assignment", "token", "appcred", "group")
        }

    # -- what is kept -----------------------------------------------------------------------------------------------

    def table(self, kind: str) -> dict[str, Any]:
        """All documents of a kind."""
        return self._tables[kind]

    def put(self, kind: str, key: str, body: dict[str, Any]) -> dict[str, Any]:
        """Keep a document."""
        with self._lock:
            self._tables[kind][key] = body
        self._store.put(kind, key, body)
        return body

    def drop(self, kind: str, key: str) -> bool:
        """Forget one; False where there was none."""
        with self._lock:
            known = self._tables[kind].pop(key, None)
        self._store.drop(kind, key)
        return known is not None

    def add_project(self, name: str) -> str:
        """A project's id, made where the name is new."""
        found = self._named("project", name)
        if found:
            return str(found["id"])
        key = uuid.uuid5(uuid.NAMESPACE_DNS, f"project.{name}").hex
        self.put("project", key, {"id": key, "name": name, "domain_id": "default", "enabled": True, "description": ""})
        return key

    def add_user(self, name: str, password: str) -> str:
        """A user's id, made where the name is new."""
        found = self._named("user", name)
        if found:
            return str(found["id"])
        key = uuid.uuid5(uuid.NAMESPACE_DNS, f"user.{name}").hex
        self.put("user", key, {"id": key, "name": name, "domain_id": "default", "enabled": True, "password": password})
        return key

    def assign(self, user: str, project: str, role: str) -> None:
        """Give a role."""
        self.put("assignment", f"{user}|{project}|{role}", {"user": user, "project": project, "role": role})

    def _named(self, kind: str, name: str) -> dict[str, Any] | None:
        return next((item for item in list(self._tables[kind].values()) if item["name"] == name), None)

    def roles_in(self, user: str, project: str) -> frozenset[str]:
        """Roles of a user in a project, implied ones included."""
        direct = {
            item["role"] for item in list(self._tables["assignment"].values()) if (item["user"], item["project"]) == (user, project)
        }
        return frozenset(direct | {implied for role in direct for implied in IMPLIED.get(role, ())})

    # -- tokens -----------------------------------------------------------------------------------------------------

    def identify(self, request: Request) -> Identity:
        """Who asks. Raises what every service answers to a missing or bad token. Services know for a while the tokens that they have
        seen, and need Keystone for the others only.
        """
        token = request.header("X-Auth-Token") or ""
        if self.down and (request.service == "keystone" or token not in self._seen):
            page = b"<html><body><h1>503 Service Unavailable</h1></body></html>"
            raise HttpError(Answer(503, page, {"Content-Type": "text/html"}))
        found = self._valid(token)
        if found is None:
            raise problem(401, REFUSED)
        if request.service != "keystone":
            self._seen.add(token)
        return Identity(found["user"], found["user_name"], found["project"], frozenset(found["roles"]))

    def _valid(self, token: str | None) -> dict[str, Any] | None:
        found: dict[str, Any] | None = self._tables["token"].get(token or "")
        if found is None or found["expires"] <= self._clock.now():
            return None
        return found

    def expire_all(self) -> int:
        """Every token is invalid from now on; how many there were."""
        keys = list(self._tables["token"])
        for key in keys:
            self.drop("token", key)
        self._seen.clear()
        return len(keys)

    def issue(self, request: Request) -> Answer:
        """POST /auth/tokens."""
        try:
            auth = request.json()["auth"]
            identity = auth["identity"]
            methods = list(identity["methods"])
        except (ValueError, KeyError, TypeError):
            raise problem(
                400,
                "Expecting to find auth in request body. The server could not comply with the request since it is either"
                " malformed or otherwise incorrect. The client is assumed to be in error.",
            ) from None
        user, project, roles = self._sign_in(identity, methods, auth.get("scope"))
        parent = self._valid((identity.get("token") or {}).get("id")) if "token" in methods else None
        credential = self._credential(identity.get("application_credential") or {}) if "application_credential" in methods else None
        now = self._clock.now()
        body = {
            "user": user["id"],
            "user_name": user["name"],
            "project": project,
            "roles": sorted(roles),
            "methods": list(dict.fromkeys([*methods, *(parent["methods"] if parent else ())])),
            "issued": now,
            "expires": parent["expires"] if parent else now + self.token_s,
            "parent": parent["issued"] if parent else None,
            "credential": {"id": credential["id"], "name": credential["name"], "restricted": True} if credential else None,
        }
        token = "gAAAAAB" + secrets.token_urlsafe(100)
        self.put("token", token, body)
        shown = self._view(body, request, catalog="nocatalog" not in request.query)
        return Answer(201, {"token": shown}, {"X-Subject-Token": token})

    def _sign_in(
        self, identity: dict[str, Any], methods: list[str], scope: Any
    ) -> tuple[dict[str, Any], str | None, frozenset[str]]:
        if "application_credential" in methods:
            return self._by_credential(identity.get("application_credential") or {})
        if "password" in methods:
            given = (identity.get("password") or {}).get("user") or {}
            user = self._find("user", given)
            right = user is not None and hmac.compare_digest(str(user["password"]), str(given.get("password", "")))
            if not right or user is None or not user["enabled"]:
                raise problem(401, REFUSED)
        elif "token" in methods:
            held = self._valid((identity.get("token") or {}).get("id"))
            if held is None:
                raise problem(404, "Could not recognize Fernet token")
            user = self._tables["user"][held["user"]]
        else:
            words = "The server could not comply with the request since it is either malformed or otherwise incorrect."
            names = ", ".join(methods)
            raise problem(400, f"Expecting to find {names} in identity. {words} The client is assumed to be in error.")
        wanted = scope.get("project") if isinstance(scope, dict) else None
        if not wanted:
            return user, None, frozenset()
        project = self._find("project", wanted)
        roles = self.roles_in(user["id"], project["id"]) if project else frozenset()
        if project is None or not roles:
            raise problem(401, REFUSED)
        return user, project["id"], roles

    def _by_credential(self, given: dict[str, Any]) -> tuple[dict[str, Any], str | None, frozenset[str]]:
        found = self._credential(given)
        if found is None and given.get("id"):
            raise problem(404, f"Could not find Application Credential: {given['id']}.")
        if found is None or not hmac.compare_digest(found["secret"], str(given.get("secret", ""))):
            raise problem(401, REFUSED)
        roles = self.roles_in(found["user"], found["project"]) & frozenset(found["roles"])
        if not roles:
            raise problem(401, REFUSED)
        return self._tables["user"][found["user"]], found["project"], roles

    def _credential(self, given: dict[str, Any]) -> dict[str, Any] | None:
        """An application credential by its id, or by its name and user."""
        known = self._tables["appcred"]
        if given.get("id"):
            found: dict[str, Any] | None = known.get(given["id"])
            return found
        user = self._find("user", given.get("user") or {})
        return next((c for c in known.values() if user and c["user"] == user["id"] and c["name"] == given.get("name")), None)

    def _find(self, kind: str, given: dict[str, Any]) -> dict[str, Any] | None:
        if given.get("id"):
            found: dict[str, Any] | None = self._tables[kind].get(given["id"])
            return found
        domain = given.get("domain") or {}
        if (domain and domain.get("id", "default") != "default") or domain.get("name", "Default").lower() != "default":
            return None
        return self._named(kind, str(given.get("name", "")))

    def _view(self, body: dict[str, Any], request: Request, *, catalog: bool) -> dict[str, Any]:
        view: dict[str, Any] = {
            "methods": body["methods"],
            "user": {"domain": DOMAIN, "id": body["user"], "name": body["user_name"], "password_expires_at": None},
            "audit_ids": [_audit_id(moment) for moment in (body["issued"], body.get("parent")) if moment is not None],
            "expires_at": _time(body["expires"]),
            "issued_at": _time(body["issued"]),
        }
        if body.get("credential"):
            view["application_credential"] = body["credential"]
        if body["project"]:
            project = self._tables["project"][body["project"]]
            view |= {
                "project": {"domain": DOMAIN, "id": project["id"], "name": project["name"]},
                "is_domain": False,
                "roles": [{"id": _role_id(name), "name": name} for name in body["roles"]],
            }
            if catalog:
                view["catalog"] = _catalog(request.origin, project["id"])
        return view

    def check(self, request: Request) -> Answer:
        """GET and HEAD /auth/tokens: is the X-Subject-Token valid, and whose is it."""
        me = self.identify(request)
        subject = request.header("X-Subject-Token")
        found = self._valid(subject)
        if found is not None and found["user"] != me.user_id and not me.roles & {"admin", "service"}:
            raise forbidden("validate_token")
        if found is None:
            raise _no_such_token(subject)
        view = {"token": self._view(found, request, catalog="nocatalog" not in request.query)}
        told = {"X-Subject-Token": subject or "", "Content-Type": "application/json"}
        return Answer(200, None if request.method == "HEAD" else view, told)

    def is_by_credential(self, request: Request) -> bool:
        """Whether the request's token came of an application credential."""
        held = self._valid(request.header("X-Auth-Token"))
        return held is not None and "application_credential" in held["methods"]

    def revoke(self, request: Request) -> Answer:
        """DELETE /auth/tokens."""
        self.identify(request)
        subject = request.header("X-Subject-Token") or ""
        if not self.drop("token", subject):
            raise _no_such_token(subject)
        return Answer(204)

    def catalog(self, request: Request) -> Answer:
        """GET /auth/catalog."""
        me = self.identify(request)
        return Answer(
            200, {"catalog": _catalog(request.origin, me.project_id or ""), "links": {"self": _url(request, "auth/catalog")}}
        )

    def own_projects(self, request: Request) -> Answer:
        """GET /auth/projects."""
        me = self.identify(request)
        mine = [p for p in self._tables["project"].values() if self.roles_in(me.user_id, p["id"])]
        return Answer(200, {"projects": [_plain("project", p, request) for p in mine], "links": _links(request)})


def _no_such_token(token: str | None) -> HttpError:
    """A token that is none, or one that was revoked or has expired."""
    return problem(404, "Failed to validate token" if (token or "").startswith("gAAAA") else "Could not recognize Fernet token")


def _audit_id(issued: float) -> str:
    return uuid.uuid5(uuid.NAMESPACE_OID, str(issued)).hex[:22]


def _url(request: Request, path: str) -> str:
    return f"{request.origin}/identity/v3/{path}"


def _links(request: Request) -> dict[str, str | None]:
    """Of a list, which is never cut into pages."""
    query = request.environ.get("QUERY_STRING", "")
    own = f"{request.origin}/identity{request.path}" + (f"?{query}" if query else "")
    return {"next": None, "self": own, "previous": None}


def _role_id(name: str) -> str:
    return uuid.uuid5(uuid.NAMESPACE_DNS, f"role.{name}").hex


#: What Keystone shows of an object beside what was given.
_SHOWN: dict[str, dict[str, Any]] = {
    "project": {"is_domain": False, "options": {}, "parent_id": "default", "tags": []},
    "user": {"options": {}, "password_expires_at": None},
    "role": {"options": {"immutable": True}},
}


def _plain(kind: str, item: dict[str, Any], request: Request) -> dict[str, Any]:
    shown = {key: value for key, value in item.items() if key not in {"password", "secret"}}
    return {**_SHOWN[kind], **shown, "links": {"self": _url(request, f"{kind}s/{item['id']}")}}


def _catalog(origin: str, project: str) -> list[dict[str, Any]]:
    return [
        {
            "id": uuid.uuid5(uuid.NAMESPACE_DNS, kind).hex,
            "type": kind,
            "name": name,
            "endpoints": [
                {
                    "id": uuid.uuid5(uuid.NAMESPACE_DNS, f"{kind}.{interface}").hex,
                    "interface": interface,
                    "region_id": REGION,
                    "region": REGION,
                    "url": origin + path.replace("%(project)s", project),
                }
                for interface in ("public", "internal", "admin")
            ],
        }
        for kind, name, path in SERVICES
    ]


def version(request: Request) -> dict[str, Any]:
    """Keystone's description of its one version."""
    return {
        "id": "v3.14",
        "status": "stable",
        "updated": "2020-04-07T00:00:00Z",
        "links": [{"rel": "self", "href": f"{request.origin}/identity/v3/"}],
        "media-types": [{"base": "application/json", "type": "application/vnd.openstack.identity-v3+json"}],
    }


def routes(keystone: Keystone) -> Router:
    """Everything under /identity."""
    router = Router()
    router.add("GET", "/", lambda r: Answer(300, {"versions": {"values": [version(r)]}}, {"Location": f"{r.origin}/identity/v3/"}))
    router.add("GET", "/v3", lambda r: Answer(200, {"version": version(r)}))
    router.add("POST", "/v3/auth/tokens", keystone.issue)
    router.add("GET HEAD", "/v3/auth/tokens", keystone.check)
    router.add("DELETE", "/v3/auth/tokens", keystone.revoke)
    router.add("GET", "/v3/auth/catalog", keystone.catalog)
    router.add("GET", "/v3/auth/projects", keystone.own_projects)
    for kind in ("project", "user", "role"):
        _collection(router, keystone, kind)
    _assignments(router, keystone)
    _credentials(router, keystone)
    return router


def forbidden(action: str) -> HttpError:
    """What a token may not do, by the name that Keystone's policies have for it."""
    return problem(403, f"You are not authorized to perform the requested action: identity:{action}.")


def _admin(keystone: Keystone, request: Request, action: str) -> Identity:
    me = keystone.identify(request)
    if not me.is_admin:
        raise forbidden(action)
    return me


def _guarded(keystone: Keystone, action: str, handler: Callable[[Request], Answer]) -> Callable[[Request], Answer]:
    def checked(request: Request) -> Answer:
        _admin(keystone, request, action)
        return handler(request)

    return checked


def _collection(router: Router, keystone: Keystone, kind: str) -> None:
    plural = f"{kind}s"

    def listed(request: Request) -> Answer:
        me = keystone.identify(request)
        if kind == "user" and not me.is_admin:
            raise forbidden("list_users")
        items = list(keystone.table(kind).values())
        name = request.query.get("name")
        found = [_plain(kind, item, request) for item in items if name in {None, item["name"]}]
        return Answer(200, {plural: found, "links": _links(request)})

    def shown(request: Request) -> Answer:
        keystone.identify(request)
        item = keystone.table(kind).get(request.variables["id"])
        if item is None:
            raise problem(404, f"Could not find {kind}: {request.variables['id']}.")
        return Answer(200, {kind: _plain(kind, item, request)})

    def made(request: Request) -> Answer:
        body = request.json()[kind]
        if any(item["name"] == body["name"] for item in keystone.table(kind).values()):
            raise problem(409, f"Conflict occurred attempting to store {kind} - Duplicate entry found with name {body['name']}.")
        key = uuid.uuid4().hex
        keystone.put(kind, key, {"id": key, "domain_id": "default", "enabled": True, **body})
        return Answer(201, {kind: _plain(kind, keystone.table(kind)[key], request)})

    def removed(request: Request) -> Answer:
        if not keystone.drop(kind, request.variables["id"]):
            raise problem(404, f"Could not find {kind}: {request.variables['id']}.")
        return Answer(204)

    router.add("GET", f"/v3/{plural}", listed)
    router.add("GET", f"/v3/{plural}/{{id}}", shown)
    router.add("POST", f"/v3/{plural}", _guarded(keystone, f"create_{kind}", made))
    router.add("DELETE", f"/v3/{plural}/{{id}}", _guarded(keystone, f"delete_{kind}", removed))


def _assignments(router: Router, keystone: Keystone) -> None:
    def name_of(role: str) -> str:
        return next((item["name"] for item in keystone.table("role").values() if item["id"] == role), role)

    def key(request: Request) -> str:
        v = request.variables
        return f"{v['user']}|{v['project']}|{name_of(v['role'])}"

    def given(request: Request) -> Answer:
        v = request.variables
        keystone.assign(v["user"], v["project"], name_of(v["role"]))
        return Answer(204)

    def taken(request: Request) -> Answer:
        if not keystone.drop("assignment", key(request)):
            raise problem(404, "Could not find role assignment.")
        return Answer(204)

    def checked(request: Request) -> Answer:
        if key(request) not in keystone.table("assignment"):
            raise problem(404, "Could not find role assignment.")
        return Answer(204)

    def listed(request: Request) -> Answer:
        keystone.identify(request)
        query = request.query
        rows = [
            {
                "role": {"id": _role_id(a["role"]), "name": a["role"]},
                "user": {"id": a["user"]},
                "scope": {"project": {"id": a["project"]}},
            }
            for a in keystone.table("assignment").values()
            if query.get("user.id", a["user"]) == a["user"] and query.get("scope.project.id", a["project"]) == a["project"]
        ]
        return Answer(200, {"role_assignments": rows, "links": _links(request)})

    path = "/v3/projects/{project}/users/{user}/roles/{role}"
    router.add("PUT", path, _guarded(keystone, "create_grant", given))
    router.add("DELETE", path, _guarded(keystone, "revoke_grant", taken))
    router.add("GET HEAD", path, _guarded(keystone, "check_grant", checked))
    router.add("GET", "/v3/role_assignments", listed)


def _check_credential(keystone: Keystone, request: Request, me: Identity, body: dict[str, Any]) -> None:
    if keystone.is_by_credential(request):
        words = "Using method 'application_credential' is not allowed for managing additional application credentials."
        raise problem(403, f"You are not authorized to perform the requested action: {words}.")
    if {role.get("name") for role in body.get("roles") or []} - set(me.roles):
        raise problem(400, "Invalid application credential: Cannot create an application credential with unassigned role")


def _credentials(router: Router, keystone: Keystone) -> None:
    def view(item: dict[str, Any], request: Request, *, secret: bool = False) -> dict[str, Any]:
        role = {"domain_id": None, "description": None, "options": {"immutable": True}}
        shown = {
            "id": item["id"],
            "name": item["name"],
            "project_id": item["project"],
            "user_id": item["user"],
            "description": None,
            "expires_at": None,
            "unrestricted": None,
            "system": None,
            "roles": [{"id": _role_id(name), "name": name, **role} for name in item["roles"]],
            "links": {"self": _url(request, f"application_credentials/{item['id']}")},
        }
        return shown | ({"secret": item["secret"]} if secret else {})

    def mine(request: Request, action: str) -> list[dict[str, Any]]:
        me = keystone.identify(request)
        if me.user_id != request.variables["user"]:
            raise forbidden(action)
        return [item for item in keystone.table("appcred").values() if item["user"] == me.user_id]

    def made(request: Request) -> Answer:
        known = mine(request, "create_application_credential")
        me = keystone.identify(request)
        body = request.json()["application_credential"]
        _check_credential(keystone, request, me, body)
        if any(item["name"] == body["name"] for item in known):
            words = f"Duplicate entry found with name {body['name']}."
            raise problem(409, f"Conflict occurred attempting to store application_credential - {words}")
        wanted = [role.get("name") for role in body.get("roles") or []] or sorted(me.roles)
        key = uuid.uuid4().hex
        item = {
            "id": key,
            "name": body["name"],
            "user": me.user_id,
            "project": me.project_id,
            "secret": body.get("secret") or secrets.token_urlsafe(64),
            "roles": wanted,
        }
        keystone.put("appcred", key, item)
        return Answer(201, {"application_credential": view(item, request, secret=True)})

    def listed(request: Request) -> Answer:
        name = request.query.get("name")
        held = [item for item in mine(request, "list_application_credentials") if name in {None, item["name"]}]
        return Answer(200, {"application_credentials": [view(item, request) for item in held], "links": _links(request)})

    def shown(request: Request) -> Answer:
        return Answer(200, {"application_credential": view(one(request, "get_application_credential"), request)})

    def one(request: Request, action: str) -> dict[str, Any]:
        for item in mine(request, action):
            if item["id"] == request.variables["id"]:
                return item
        raise problem(404, f"Could not find Application Credential: {request.variables['id']}.")

    def removed(request: Request) -> Answer:
        keystone.drop("appcred", one(request, "delete_application_credential")["id"])
        return Answer(204)

    base = "/v3/users/{user}/application_credentials"
    router.add("POST", base, made)
    router.add("GET", base, listed)
    router.add("GET", base + "/{id}", shown)
    router.add("DELETE", base + "/{id}", removed)
