"""Heat's routes, and the calls that belong to no stack."""

from functools import partial
from typing import Any

from simulator.heat import wishes
from simulator.heat.calls import Base
from simulator.heat.engine import Heat, pseudo
from simulator.heat.hot import VERSIONS, Document, parsed
from simulator.heat.inside import Inside
from simulator.heat.parameters import described
from simulator.heat.types import TYPES
from simulator.heat.views import ENVIRONMENT, Views
from simulator.heat.wire import HotError, bad, fault
from simulator.http import Answer, Request, Router
from simulator.identity import Keystone

#: What can follow a stack's name alone; the answer leads to the same behind its id.
_BEHIND = ("resources", "events", "template", "environment")
_ANY: dict[str, Any] = {"string": "", "number": 0, "boolean": False, "comma_delimited_list": [], "json": {}}


class Templates(Base):
    """The calls on documents."""

    def validate(self, request: Request) -> Answer:
        """POST /validate: the document without its parameters' values."""
        me = self._me(request)
        body = wishes.body_of(request)
        template = wishes.template_of(body)
        try:
            content = parsed(template)
            specs = content.get("parameters") or {}
            # A value of any kind will do: what a parameter may be is not the question here, and Heat asks for none.
            free = {
                name: {**spec, "constraints": [], "default": spec.get("default", _ANY[spec.get("type")])}
                for name, spec in specs.items()
            }
            loose = {**content, "parameters": free}
            found = Document(
                loose, {}, self._heat.clouds(me.project_id or "", me.user_id), pseudo("None", "None", me.project_id or "")
            )
            found.check_shape()
        except HotError as exc:
            kind = "HTTPBadRequest" if exc.kind == "StackValidationFailed" else exc.kind
            raise fault(400, kind, str(exc).replace(": : ", ": ")) from exc
        except (KeyError, AttributeError, TypeError) as exc:
            raise bad() from exc
        environment = {**ENVIRONMENT, "parameters": {}}
        return Answer(200, {"Description": found.description, "Parameters": described(specs), "Environment": environment})


def routes(heat: Heat, keystone: Keystone) -> Router:
    """Everything under /orchestration."""
    router = Router()
    views, inside = Views(heat, keystone), Inside(heat, keystone)

    def versions(request: Request) -> Answer:
        one = {"id": "v1.0", "status": "CURRENT", "links": [{"rel": "self", "href": f"{request.origin}/orchestration/v1/"}]}
        return Answer(300, {"versions": [one]})

    def types(request: Request) -> Answer:
        keystone.identify(request)
        return Answer(200, {"resource_types": sorted(TYPES)})

    def dialects(request: Request) -> Answer:
        keystone.identify(request)
        known = [{"version": f"heat_template_version.{one}", "type": "hot", "aliases": []} for one in VERSIONS if one[0].isdigit()]
        return Answer(200, {"template_versions": known})

    router.add("GET", "/", versions)
    base = "/v1/{project}"
    router.add("GET", base, versions)
    router.add("GET", f"{base}/resource_types", types)
    router.add("GET", f"{base}/template_versions", dialects)
    router.add("POST", f"{base}/validate", Templates(heat, keystone).validate)
    router.add("GET", f"{base}/stacks", views.listed)
    router.add("POST", f"{base}/stacks", views.create)
    router.add("GET", f"{base}/stacks/detail", views.listed)
    router.add("POST", f"{base}/stacks/preview", views.preview)
    router.add("GET PUT PATCH DELETE", f"{base}/stacks/{{ref}}", views.redirected)
    for behind in _BEHIND:
        router.add("GET", f"{base}/stacks/{{ref}}/{behind}", partial(views.redirected, behind=behind))
    one = f"{base}/stacks/{{name}}/{{id}}"
    router.add("GET", one, views.shown)
    router.add("PUT PATCH", one, views.update)
    router.add("DELETE", one, views.delete)
    router.add("PUT PATCH", f"{one}/preview", views.preview_update)
    router.add("GET", f"{one}/template", views.template)
    router.add("GET", f"{one}/environment", views.environment)
    router.add("GET", f"{one}/outputs", views.outputs)
    router.add("GET", f"{one}/outputs/{{key}}", views.outputs)
    router.add("GET", f"{one}/resources", inside.resources)
    router.add("GET", f"{one}/resources/{{resource}}", inside.resource)
    router.add("GET", f"{one}/events", inside.events)
    router.add("GET", f"{one}/resources/{{resource}}/events", inside.events)
    router.add("GET", f"{one}/resources/{{resource}}/events/{{event}}", inside.event)
    return router
