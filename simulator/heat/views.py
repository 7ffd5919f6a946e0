"""The Orchestration API, version 1."""

import uuid
from typing import Any

from simulator.heat import shapes, wishes
from simulator.heat.calls import Base
from simulator.heat.engine import pseudo
from simulator.heat.hot import Document, parsed
from simulator.heat.model import Stack
from simulator.heat.preview import changes
from simulator.heat.wire import HotError, fault, no_stack
from simulator.http import Answer, Request
from simulator.identity import Identity

_ACCEPTED = {"message": "The request is accepted for processing.<br /><br />\n\n\n", "code": "202 Accepted", "title": "Accepted"}
ENVIRONMENT = {"resource_registry": {"resources": {}}, "parameter_defaults": {}, "event_sinks": []}


class Views(Base):
    """The calls on stacks."""

    def _alive(self, request: Request, me: Identity) -> Stack:
        stack = self._find(request, me)
        if stack.deleted_at is not None:
            raise no_stack(stack.name)
        return stack

    def _document(self, template: Any, parameters: dict[str, Any], me: Identity, name: str, key: str = "None") -> Document:
        project = me.project_id or ""
        try:
            found = Document(template, parameters, self._heat.clouds(project, me.user_id), pseudo(key, name, project))
            found.check()
        except HotError as exc:
            raise wishes.refused(exc) from exc
        return found

    # -- all stacks -----------------------------------------------------------------------------------------------------

    def listed(self, request: Request) -> Answer:
        """GET /stacks."""
        me = self._me(request)
        with self._heat.lock:
            self._heat.settle()
            mine = [one for one in self._heat.stacks.values() if one.project_id == me.project_id]
            return Answer(200, wishes.page(request, mine))

    def create(self, request: Request) -> Answer:
        """POST /stacks."""
        me = self._me(request, "stacks:create", writes=True)
        with self._heat.lock:
            self._heat.settle()
            stack, document = self._wanted(request, me)
            if any(
                one.name == stack.name and one.project_id == me.project_id and one.deleted_at is None
                for one in self._heat.stacks.values()
            ):
                raise fault(409, "StackExists", f"The Stack ({stack.name}) already exists.")
            self._heat.create(stack, document)
            where = shapes.address(stack, request)
            return Answer(201, {"stack": {"id": stack.id, "links": shapes.links(stack, request)}}, {"Location": where})

    def _wanted(self, request: Request, me: Identity) -> tuple[Stack, Document]:
        body = wishes.body_of(request)
        name, key = wishes.name_of(body), str(uuid.uuid4())
        template, parameters = wishes.template_of(body), wishes.parameters_of(body)
        stack = Stack(
            id=key,
            name=name,
            project_id=me.project_id or "",
            user_id=me.user_id,
            user_name=me.user_name,
            template=template,
            parameters=parameters,
            tags=wishes.tags_of(body),
            created_at=self._heat.now(),
            **wishes.options_of(body),
        )
        return stack, self._document(template, parameters, me, name, key)

    def preview(self, request: Request) -> Answer:
        """POST /stacks/preview."""
        me = self._me(request, "stacks:preview", writes=True)
        with self._heat.lock:
            self._heat.settle()
            stack, document = self._wanted(request, me)
            shown = {**shapes.whole(stack, document, request), "id": "None", "stack_user_project_id": None}
            shown["outputs"] = []
            for name in ("stack_status", "stack_status_reason"):
                shown.pop(name)
            shown["resources"] = [shapes.change(stack, document, name) for name in document.order()]
            return Answer(200, {"stack": shown})

    def redirected(self, request: Request, behind: str = "") -> Answer:
        """Any call on /stacks/{ref}: where the stack really is. A deleted one is found by its id alone."""
        me = self._me(request)
        ref = request.variables["ref"]
        with self._heat.lock:
            self._heat.settle()
            for stack in self._heat.stacks.values():
                if stack.project_id == me.project_id and (ref == stack.id or (ref == stack.name and stack.deleted_at is None)):
                    break
            else:
                raise no_stack(ref)
            query = request.environ.get("QUERY_STRING")
            where = shapes.address(stack, request) + (f"/{behind}" if behind else "") + (f"?{query}" if query else "")
        words = f'The resource was found at <a href="{where}">{where}</a>;\nyou should be redirected automatically.\n\n'
        return Answer(302, {"message": words, "code": "302 Found", "title": "Found"}, {"Location": where})

    # -- one stack ------------------------------------------------------------------------------------------------------

    def shown(self, request: Request) -> Answer:
        """GET /stacks/{name}/{id}."""
        me = self._me(request)
        with self._heat.lock:
            stack = self._find(request, me)
            document = self._heat.document(stack)
            body = shapes.whole(stack, document, request)
            if request.query.get("resolve_outputs", "true").lower() != "false":
                body["outputs"] = shapes.outputs(self._heat, stack, document, values=True)
            return Answer(200, {"stack": body})

    def update(self, request: Request) -> Answer:
        """PUT: all is given anew, tags too. PATCH: what is not given stays."""
        patch = request.method == "PATCH"
        me = self._me(request, "stacks:update_patch" if patch else "stacks:update", writes=True)
        body = wishes.body_of(request)
        with self._heat.lock:
            stack, document, template, parameters = self._changed(request, me, body, patch=patch)
            tags, options = wishes.tags_of(body), wishes.options_of(body)
            if not patch or "tags" in body:
                stack.tags = tags
            stack.timeout_mins = options.get("timeout_mins", stack.timeout_mins)
            stack.disable_rollback = options.get("disable_rollback", stack.disable_rollback)
            self._heat.update(stack, document, template, parameters)
            return Answer(202, _ACCEPTED)

    def _changed(self, request: Request, me: Identity, body: dict[str, Any], *, patch: bool) -> tuple[Stack, Document, Any, Any]:
        stack = self._alive(request, me)
        if stack.action == "DELETE":
            raise fault(400, "NotSupported", "Updating a stack when it is deleting is not supported.")
        template = stack.template if patch and not body.get("template") else wishes.template_of(body)
        parameters = wishes.parameters_of(body)
        if patch:
            kept = {key: value for key, value in stack.parameters.items() if key not in (body.get("clear_parameters") or [])}
            parameters = kept | parameters
        return stack, self._document(template, parameters, me, stack.name, stack.id), template, parameters

    def preview_update(self, request: Request) -> Answer:
        """PUT and PATCH /stacks/{name}/{id}/preview."""
        me = self._me(request, "stacks:preview_update", writes=True)
        with self._heat.lock:
            body = wishes.body_of(request)
            stack, document, _, _ = self._changed(request, me, body, patch=request.method == "PATCH")
            old = self._heat.document(stack)
            told = {
                kind: [shapes.change(stack, old if kind == "deleted" else document, name) for name in names]
                for kind, names in changes(old, document).items()
            }
            return Answer(200, {"resource_changes": told})

    def delete(self, request: Request) -> Answer:
        """DELETE: 204 at once, gone later. Again while it goes: 204 as well."""
        me = self._me(request, "stacks:delete", writes=True)
        with self._heat.lock:
            stack = self._alive(request, me)
            if stack.status != "DELETE_IN_PROGRESS":
                self._heat.delete(stack)
            return Answer(204)

    def template(self, request: Request) -> Answer:
        """GET /stacks/{name}/{id}/template."""
        me = self._me(request)
        with self._heat.lock:
            return Answer(200, parsed(self._find(request, me).template))

    def environment(self, request: Request) -> Answer:
        """GET /stacks/{name}/{id}/environment."""
        me = self._me(request)
        with self._heat.lock:
            stack = self._find(request, me)
        return Answer(200, {**ENVIRONMENT, "parameters": stack.parameters, "encrypted_param_names": []})

    def outputs(self, request: Request) -> Answer:
        """GET /stacks/{name}/{id}/outputs, without values, and /outputs/{key}, with its value."""
        me = self._me(request)
        key = request.variables.get("key")
        with self._heat.lock:
            stack = self._find(request, me)
            found = shapes.outputs(self._heat, stack, self._heat.document(stack), values=key is not None)
        if key is None:
            return Answer(200, {"outputs": found})
        for one in found:
            if one["output_key"] == key:
                return Answer(200, {"output": one})
        raise fault(404, "NotFound", f"Specified output key {key} not found.")
