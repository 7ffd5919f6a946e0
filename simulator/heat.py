"""Heat, as far as stacks of networks, server groups and cluster templates go. What a stack makes in Neutron is really made there."""

import threading
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from simulator.clock import Clock, iso
from simulator.hot import Document, HotError, dig
from simulator.http import Answer, HttpError, Request, Router
from simulator.identity import Identity, Keystone
from simulator.network import Neutron
from simulator.store import Store

#: Resource type -> (Neutron's kind, properties that are named differently there).
_NEUTRON = {
    "OS::Neutron::Net": ("network", {}),
    "OS::Neutron::Subnet": ("subnet", {"network": "network_id"}),
    "OS::Neutron::Router": ("router", {}),
    "OS::Neutron::Port": ("port", {"network": "network_id"}),
    "OS::Neutron::SecurityGroup": ("security_group", {}),
    "OS::Neutron::SecurityGroupRule": ("security_group_rule", {"security_group": "security_group_id"}),
}
_OTHERS = {"OS::Neutron::RouterInterface", "OS::Neutron::ExtraRouteSet", "OS::Nova::ServerGroup", "OS::Magnum::ClusterTemplate"}
TYPES = set(_NEUTRON) | _OTHERS
_SECONDS = 1.0


@dataclass
class Stack:
    """One stack. ``made``: physical id and type of each resource that exists."""

    id: str
    name: str
    project_id: str
    user_id: str
    template: Any
    parameters: dict[str, Any]
    tags: list[str]
    created_at: float
    status: str = "CREATE_IN_PROGRESS"
    reason: str = "Stack CREATE started"
    updated_at: float | None = None
    until: float = 0.0
    made: dict[str, dict[str, Any]] = field(default_factory=dict)
    failed: str | None = None
    deleted_at: float | None = None


class Heat:
    """The orchestration service."""

    def __init__(self, store: Store, neutron: Neutron, clock: Clock) -> None:
        self._store = store
        self._neutron = neutron
        self._clock = clock
        self.lock = threading.RLock()
        self.stacks: dict[str, Stack] = {key: Stack(**body) for key, body in store.all("stack")}
        self.seconds = _SECONDS
        self.fail_next: str | None = None  #: what the next resource that is made fails with

    def now(self) -> float:
        """The simulated time."""
        return self._clock.now()

    def settle(self) -> None:
        """Finish what is due."""
        now = self._clock.now()
        for stack in self.stacks.values():
            action, _, rest = stack.status.partition("_")
            if rest != "IN_PROGRESS" or stack.until > now:
                continue
            if action == "DELETE":
                stack.failed = self._undo(stack, list(stack.made))
            stack.status = f"{action}_{'FAILED' if stack.failed else 'COMPLETE'}"
            stack.reason = stack.failed or f"Stack {action} completed successfully"
            if stack.status == "DELETE_COMPLETE":
                stack.deleted_at = now
            self.keep(stack)

    def keep(self, stack: Stack) -> None:
        """Write it through."""
        self._store.put("stack", stack.id, asdict(stack))

    def begin(self, stack: Stack, action: str) -> None:
        """An action is under way from now on."""
        stack.status, stack.reason, stack.failed = f"{action}_IN_PROGRESS", f"Stack {action} started", None
        stack.until = self._clock.now() + self._clock.lasting(self.seconds)

    def make(self, stack: Stack, document: Document, action: str) -> None:
        """Make what the document has and the stack has not; what is in neither any more goes."""
        gone = [name for name in stack.made if name not in document.resources]
        stack.failed = self._undo(stack, gone) if gone else None
        for name in document.order() if stack.failed is None else []:
            spec = document.resources[name]
            properties = document.value(spec.get("properties") or {}, lambda ref: self._ref(stack, ref), self._attribute(stack))
            held = stack.made.get(name)
            if held is not None and held["properties"] == properties:
                continue
            try:
                self._fail_if_asked()
                physical = self._make_one(stack, spec["type"], properties, held)
            except HttpError as exc:
                words = _words(exc)
                stack.failed = f"Resource {action} failed: Conflict: resources.{name}: {words}"
                break
            stack.made[name] = {"id": physical, "type": spec["type"], "properties": properties}
        self.keep(stack)

    def _fail_if_asked(self) -> None:
        if self.fail_next:
            words, self.fail_next = self.fail_next, None
            raise HttpError(Answer(409, {"NeutronError": {"type": "Conflict", "message": words}}))

    def _make_one(self, stack: Stack, kind: str, properties: dict[str, Any], held: dict[str, Any] | None) -> str:
        if kind == "OS::Neutron::RouterInterface":
            port = self._neutron.attach(properties["router"], subnet=properties.get("subnet"), port=properties.get("port"))
            return str(port["id"])
        if kind == "OS::Neutron::ExtraRouteSet":
            if held is not None:
                self._neutron.routes_away(properties["router"], held["properties"]["routes"])
            self._neutron.routes_add(properties["router"], properties["routes"])
            return f"{properties['router']}.routes"
        if kind not in _NEUTRON:
            return str(uuid.uuid4())
        name, renamed = _NEUTRON[kind]
        body = {renamed.get(key, key): value for key, value in properties.items() if value is not None or key == "gateway_ip"}
        rules = body.pop("rules", [])
        if "external_gateway_info" in body:
            body["external_gateway_info"] = {"network_id": self._neutron.network_id(body["external_gateway_info"]["network"])}
        if held is not None:
            self._neutron.update(name, held["id"], body)
            return str(held["id"])
        made = self._neutron.create(name, stack.project_id, body)
        for rule in rules:
            self._neutron.create("security_group_rule", stack.project_id, {"security_group_id": made["id"], **rule})
        return str(made["id"])

    def _undo(self, stack: Stack, names: list[str]) -> str | None:
        for name in reversed(names):
            held = stack.made[name]
            kind, properties = held["type"], held["properties"]
            try:
                if kind == "OS::Neutron::RouterInterface":
                    self._neutron.detach(properties["router"], port=held["id"])
                elif kind == "OS::Neutron::ExtraRouteSet":
                    self._neutron.routes_away(properties["router"], properties["routes"])
                elif kind in _NEUTRON:
                    self._neutron.delete(_NEUTRON[kind][0], held["id"])
            except HttpError as exc:
                if exc.answer.status != 404:  # noqa: PLR2004 - gone already
                    return f"Resource DELETE failed: Conflict: resources.{name}: {_words(exc)}"
            del stack.made[name]
        return None

    @staticmethod
    def _ref(stack: Stack, name: str) -> Any:
        return stack.made.get(name, {}).get("id")

    def _attribute(self, stack: Stack) -> Callable[[str, list[Any]], Any]:
        def read(name: str, path: list[Any]) -> Any:
            held = stack.made.get(name)
            if held is None:
                return None
            kind = _NEUTRON.get(held["type"], ("", {}))[0]
            found = self._neutron.find(kind, held["id"]) if kind else None
            return dig(found, path)

        return read

    def outputs(self, stack: Stack, document: Document) -> list[dict[str, Any]]:
        """What the document tells, worked out."""
        return [
            {
                "output_key": name,
                "description": spec.get("description", "No description given"),
                "output_value": document.value(spec.get("value"), lambda ref: self._ref(stack, ref), self._attribute(stack)),
            }
            for name, spec in document.outputs.items()
        ]


def _words(exc: HttpError) -> str:
    body = exc.answer.body if isinstance(exc.answer.body, dict) else {}
    return str(body.get("NeutronError", {}).get("message", exc.answer.status))


def fault(status: int, kind: str, message: str) -> HttpError:
    """An error in Heat's shape."""
    titles = {400: "Bad Request", 403: "Forbidden", 404: "Not Found", 409: "Conflict"}
    explanations = {
        400: "The server could not comply with the request since it is either malformed or otherwise incorrect.",
        403: "Access was denied to this resource.",
        404: "The resource could not be found.",
        409: "There was a conflict when trying to complete your request.",
    }
    error = {"message": message, "traceback": None, "type": kind}
    body = {"code": status, "title": titles[status], "explanation": explanations[status], "error": error}
    return HttpError(Answer(status, body))


class Views:
    """The calls on stacks."""

    def __init__(self, heat: Heat, keystone: Keystone) -> None:
        self._heat = heat
        self._keystone = keystone

    def _me(self, request: Request, *, writes: bool = False) -> Identity:
        me = self._keystone.identify(request)
        if request.variables.get("project", me.project_id) != me.project_id or (
            writes and not me.roles & {"admin", "manager", "member"}
        ):
            raise fault(403, "Forbidden", "You are not authorized to complete this action.")
        return me

    def _find(self, request: Request, me: Identity, *, ref: str | None = None) -> Stack:
        self._heat.settle()
        wanted = ref or request.variables.get("id") or request.variables["ref"]
        named = [one for one in self._heat.stacks.values() if one.project_id == me.project_id and wanted in {one.id, one.name}]
        if named:  # one that is deleted is still found, where no other has its name
            return min(named, key=lambda one: (one.id != wanted, one.deleted_at is not None, -one.created_at))
        name = request.variables.get("name", wanted)
        raise fault(404, "EntityNotFound", f"The Stack ({name}) could not be found.")

    def _document(self, body: dict[str, Any]) -> Document:
        try:
            document = Document(body.get("template"), body.get("parameters") or {}, TYPES)
            document.order()
        except HotError as exc:
            kind = str(exc).split(":", 1)[0]
            raise fault(400, kind if " " not in kind else "StackValidationFailed", str(exc)) from exc
        return document

    def _view(self, stack: Stack, request: Request, *, whole: bool) -> dict[str, Any]:
        base = f"{request.origin}/orchestration/v1/{stack.project_id}"
        shown: dict[str, Any] = {
            "id": stack.id,
            "stack_name": stack.name,
            "description": "",
            "stack_status": stack.status,
            "stack_status_reason": stack.reason,
            "creation_time": str(iso(stack.created_at)).replace("+00:00", "Z"),
            "updated_time": str(iso(stack.updated_at)).replace("+00:00", "Z") if stack.updated_at else None,
            "deletion_time": str(iso(stack.deleted_at)).replace("+00:00", "Z") if stack.deleted_at else None,
            "stack_owner": None,
            "parent": None,
            "stack_user_project_id": stack.project_id,
            "tags": stack.tags,
            "links": [{"href": f"{base}/stacks/{stack.name}/{stack.id}", "rel": "self"}],
        }
        if whole:
            document = Document(stack.template, stack.parameters, TYPES)
            shown["parameters"] = {
                "OS::stack_id": stack.id,
                "OS::stack_name": stack.name,
                "OS::project_id": stack.project_id,
                **{name: str(value) for name, value in document.parameters.items()},
            }
            shown |= {"disable_rollback": True, "timeout_mins": None, "capabilities": [], "notification_topics": []}
            shown["outputs"] = self._heat.outputs(stack, document)
        return shown

    def listed(self, request: Request) -> Answer:
        """GET /stacks."""
        me = self._me(request)
        query = request.query
        with self._heat.lock:
            self._heat.settle()
            mine = [one for one in self._heat.stacks.values() if one.project_id == me.project_id and one.deleted_at is None]
            wanted = set(query["tags"].split(",")) if "tags" in query else set()
            named = [one for one in mine if wanted <= set(one.tags) and query.get("name", one.name) == one.name]
            return Answer(200, {"stacks": [self._view(one, request, whole=False) for one in reversed(named)]})

    def create(self, request: Request) -> Answer:
        """POST /stacks."""
        me = self._me(request, writes=True)
        body = request.json()
        with self._heat.lock:
            self._heat.settle()
            name = body.get("stack_name") or ""
            document = self._document(body)
            if any(
                one.name == name and one.project_id == me.project_id and one.deleted_at is None
                for one in self._heat.stacks.values()
            ):
                raise fault(409, "StackExists", f"The Stack ({name}) already exists.")
            stack = Stack(
                id=str(uuid.uuid4()),
                name=name,
                project_id=me.project_id or "",
                user_id=me.user_id,
                template=body.get("template"),
                parameters=body.get("parameters") or {},
                tags=[tag for tag in (body.get("tags") or "").split(",") if tag],
                created_at=self._heat.now(),
            )
            self._heat.stacks[stack.id] = stack
            self._heat.begin(stack, "CREATE")
            self._heat.make(stack, document, "CREATE")
            links = self._view(stack, request, whole=False)["links"]
            return Answer(201, {"stack": {"id": stack.id, "links": links}})

    def shown(self, request: Request) -> Answer:
        """GET /stacks/{name}/{id}, and /stacks/{ref}, which Heat answers with a redirection to that."""
        me = self._me(request)
        with self._heat.lock:
            stack = self._find(request, me)
            if "ref" in request.variables:
                where = self._view(stack, request, whole=False)["links"][0]["href"]
                query = request.environ.get("QUERY_STRING")
                return Answer(302, {"code": "302 Found"}, {"Location": f"{where}?{query}" if query else where})
            return Answer(200, {"stack": self._view(stack, request, whole=True)})

    def update(self, request: Request) -> Answer:
        """PUT /stacks/{name}/{id}."""
        me = self._me(request, writes=True)
        body = request.json()
        with self._heat.lock:
            stack = self._find(request, me)
            document = self._document(body)
            if stack.status.endswith("IN_PROGRESS"):
                words = f"Stack {stack.name} already has an action ({stack.status.split('_')[0]}) in progress."
                raise fault(409, "ActionInProgress", words)
            stack.template, stack.parameters = body.get("template"), body.get("parameters") or {}
            stack.updated_at = self._heat.now()
            self._heat.begin(stack, "UPDATE")
            self._heat.make(stack, document, "UPDATE")
            return Answer(202)

    def delete(self, request: Request) -> Answer:
        """DELETE /stacks/{name}/{id}."""
        me = self._me(request, writes=True)
        with self._heat.lock:
            stack = self._find(request, me)
            if stack.deleted_at is None and stack.status != "DELETE_IN_PROGRESS":
                self._heat.begin(stack, "DELETE")
                self._heat.keep(stack)
            return Answer(204)

    def preview(self, request: Request) -> Answer:
        """POST /stacks/preview."""
        self._me(request, writes=True)
        body = request.json()
        document = self._document(body)
        shown = [
            {
                "resource_name": name,
                "resource_type": document.resources[name]["type"],
                "resource_status": "COMPLETE",
                "resource_action": "INIT",
                "physical_resource_id": "",
            }
            for name in document.order()
        ]
        return Answer(
            200, {"stack": {"stack_name": body.get("stack_name"), "resources": shown, "parameters": body.get("parameters")}}
        )

    def preview_update(self, request: Request) -> Answer:
        """PUT /stacks/{name}/{id}/preview."""
        me = self._me(request, writes=True)
        with self._heat.lock:
            stack = self._find(request, me)
            document = self._document(request.json())
            old = Document(stack.template, stack.parameters, TYPES)
            changes: dict[str, list[dict[str, Any]]] = {"added": [], "deleted": [], "replaced": [], "updated": [], "unchanged": []}
            for name, spec in document.resources.items():
                if name not in old.resources:
                    kind = "added"
                else:
                    same = _plain(document, spec) == _plain(old, old.resources[name])
                    kind = "unchanged" if same else "updated"
                changes[kind].append(_brief(stack, name, spec["type"]))
            changes["deleted"] = [
                _brief(stack, name, spec["type"]) for name, spec in old.resources.items() if name not in document.resources
            ]
            return Answer(200, {"resource_changes": changes})

    def resources(self, request: Request) -> Answer:
        """GET /stacks/{name}/{id}/resources."""
        me = self._me(request)
        with self._heat.lock:
            stack = self._find(request, me)
            document = Document(stack.template, stack.parameters, TYPES)
            action = stack.status.split("_", maxsplit=1)[0]
            shown = []
            for name, spec in document.resources.items():
                made = stack.made.get(name)
                state = f"{action}_COMPLETE" if made else ("INIT_COMPLETE" if stack.deleted_at is None else "DELETE_COMPLETE")
                shown.append(
                    {
                        "resource_name": name,
                        "logical_resource_id": name,
                        "resource_type": spec["type"],
                        "resource_status": state,
                        "resource_status_reason": "state changed",
                        "physical_resource_id": made["id"] if made else "",
                        "required_by": [],
                        "creation_time": str(iso(stack.created_at)).replace("+00:00", "Z"),
                    }
                )
            return Answer(200, {"resources": shown})

    def validate(self, request: Request) -> Answer:
        """POST /validate."""
        self._me(request)
        body = request.json()
        parsed = Document({**_loaded(body), "parameters": {}, "resources": {}, "outputs": {}}, {}, TYPES)
        return Answer(200, {"Description": parsed.body.get("description", ""), "Parameters": _loaded(body).get("parameters") or {}})


def _loaded(body: dict[str, Any]) -> dict[str, Any]:
    import yaml

    text = body.get("template")
    found = yaml.safe_load(text) if isinstance(text, str) else text
    if not isinstance(found, dict):
        raise fault(400, "StackValidationFailed", "The template is not a JSON object or YAML mapping.")
    return found


def _plain(document: Document, spec: dict[str, Any]) -> Any:
    return document.value(spec.get("properties") or {}, lambda ref: f"<{ref}>", lambda name, path: f"<{name}.{path}>")


def _brief(stack: Stack, name: str, kind: str) -> dict[str, Any]:
    made = stack.made.get(name)
    return {"resource_name": name, "resource_type": kind, "physical_resource_id": made["id"] if made else ""}


def routes(heat: Heat, keystone: Keystone) -> Router:
    """Everything under /orchestration."""
    router = Router()
    views = Views(heat, keystone)

    def versions(request: Request) -> Answer:
        one = {"id": "v1.0", "status": "CURRENT", "links": [{"rel": "self", "href": f"{request.origin}/orchestration/v1/"}]}
        return Answer(300, {"versions": [one]})

    router.add("GET", "/", versions)
    base = "/v1/{project}"
    router.add("GET", base, versions)
    router.add("GET", f"{base}/stacks", views.listed)
    router.add("POST", f"{base}/stacks", views.create)
    router.add("POST", f"{base}/stacks/preview", views.preview)
    router.add("POST", f"{base}/validate", views.validate)
    router.add("GET", f"{base}/stacks/{{ref}}", views.shown)
    router.add("GET", f"{base}/stacks/{{name}}/{{id}}", views.shown)
    router.add("PUT", f"{base}/stacks/{{name}}/{{id}}", views.update)
    router.add("DELETE", f"{base}/stacks/{{name}}/{{id}}", views.delete)
    router.add("PUT", f"{base}/stacks/{{name}}/{{id}}/preview", views.preview_update)
    router.add("GET", f"{base}/stacks/{{name}}/{{id}}/resources", views.resources)
    return router
