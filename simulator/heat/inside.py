"""Resources and events of a stack."""

from simulator.heat import shapes, wishes
from simulator.heat.calls import Base
from simulator.heat.hot import Document
from simulator.heat.model import Stack
from simulator.heat.wire import fault
from simulator.http import Answer, Request


class Inside(Base):
    """The calls on them."""

    def resources(self, request: Request) -> Answer:
        """GET /stacks/{name}/{id}/resources."""
        me = self._me(request)
        wanted = request.query
        with self._heat.lock:
            stack = self._find(request, me)
            document = self._heat.document(stack)
            gone = stack.deleted_at is not None or stack.action == "DELETE"
            names = list(stack.made) if gone else list(dict.fromkeys([*document.resources, *stack.made]))
            shown = [shapes.resource(stack, document, name, request) for name in names]
        kept = ("name", "resource_name"), ("type", "resource_type"), ("status", "resource_status")
        return Answer(
            200, {"resources": [one for one in shown if all(wanted.get(mine, one[key]) == one[key] for mine, key in kept)]}
        )

    def resource(self, request: Request) -> Answer:
        """GET /stacks/{name}/{id}/resources/{resource}."""
        me = self._me(request)
        with self._heat.lock:
            stack = self._find(request, me)
            document = self._heat.document(stack)
            name = self._named(stack, document, request)
            shown = shapes.resource(stack, document, name, request)
            told = {"description": "", "attributes": shapes.attributes(self._heat, stack, name)}
            return Answer(200, {"resource": {**shown, **told}})

    def _named(self, stack: Stack, document: Document, request: Request) -> str:
        name = request.variables["resource"]
        if stack.deleted_at is not None or (name not in document.resources and name not in stack.made):
            raise fault(404, "ResourceNotFound", f"The Resource ({name}) could not be found in Stack {stack.name}.")
        return name

    def events(self, request: Request) -> Answer:
        """GET /stacks/{name}/{id}/events and those of one resource: the newest first."""
        me = self._me(request)
        query = request.query
        limit = wishes.whole_number("limit", query["limit"]) if "limit" in query else None
        with self._heat.lock:
            stack = self._find(request, me)
            name = request.variables.get("resource")
            found = [one for one in reversed(stack.events) if name in {None, one["name"]}]
            places = [number for number, one in enumerate(found) if one["id"] == query.get("marker")]
            found = found[places[0] + 1 :] if places else found
            return Answer(200, {"events": [shapes.event(stack, one, request) for one in found[:limit]]})

    def event(self, request: Request) -> Answer:
        """GET .../resources/{resource}/events/{event}."""
        me = self._me(request)
        with self._heat.lock:
            stack = self._find(request, me)
            for one in stack.events:
                if one["id"] == request.variables["event"] and one["name"] == request.variables["resource"]:
                    more = {"resource_type": one["type"], "resource_properties": one["properties"]}
                    return Answer(200, {"event": {**shapes.event(stack, one, request), **more}})
        words = f"The Event ({request.variables['event']}) could not be found."
        raise fault(404, "EntityNotFound", words)
