"""/stacks."""

from typing import Final

from flask import Response

from api import inputs
from api.clusters import next_page
from api.idempotency import idempotency
from api.inputs import Query, read_fields
from api.kit import Kit
from api.promises import CHANGE, DONE, PROMISE, valid
from api.render import answer, job_json, listing, stack_json, stack_resource_json
from api.schemas import clusters as shown
from api.schemas import stacks as schemas
from api.spec import Blueprint, Outcome, operation
from shared.domain.jobs import JobState
from shared.domain.ports import AcceptedStack, Actor

_CREATE: Final = schemas.StackCreate()
_UPDATE: Final = schemas.StackUpdate()
_PREVIEW: Final = schemas.StackPreview()
LIST: Final = Query((inputs.LIMIT, inputs.UUID_MARKER))


class StackViews:
    """The operations on stacks."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit

    def blueprint(self) -> Blueprint:
        """Their paths."""
        made = Blueprint("stacks", __name__, description="Heat stacks of shipped templates: networks, connections, and more.")
        made.add_url_rule("/stacks", view_func=self.create_stack, methods=["POST"])
        made.add_url_rule("/stacks", view_func=self.list_stacks, methods=["GET"])
        made.add_url_rule("/stacks/preview", view_func=self.preview_stack, methods=["POST"])
        made.add_url_rule("/stacks/templates", view_func=self.list_stack_templates, methods=["GET"])
        made.add_url_rule("/stacks/<stack_id>", view_func=self.get_stack, methods=["GET"])
        made.add_url_rule("/stacks/<stack_id>", view_func=self.update_stack, methods=["PUT"])
        made.add_url_rule("/stacks/<stack_id>", view_func=self.delete_stack, methods=["DELETE"])
        return made

    @operation(
        "Create a stack",
        {
            200: Outcome("With `validate_only`: nothing is wrong, and nothing was done.", shown.Validated),
            201: Outcome("With `Prefer: wait`: the stack is made.", schemas.StackAccepted, DONE),
            202: Outcome("The stack is promised.", schemas.StackAccepted, PROMISE),
        },
        refusals=(409, 502, 504),
        body=schemas.StackCreate,
        query=CHANGE,
        changes=True,
    )
    def create_stack(self) -> Response:
        """Out of a shipped template. A network gets the next free range of the pool unless `cidr` names one; a range that overlaps
        a subnet of the project, or another network of this service, is refused.
        """
        actor = self._kit.guard.actor("stacks:create")
        validate_only = CHANGE.read()["validate_only"]
        document, fields, findings = read_fields(_CREATE)
        accepted = self._kit.container.stacks.request_create(
            actor, fields, findings=findings, idempotency=idempotency(actor, document), validate_only=validate_only
        )
        return self._answer(actor, accepted, 201)

    @operation(
        "List stacks",
        {200: Outcome("The project's stacks, in the order of their making.", schemas.Stack, ("Link",), many=True)},
        query=LIST,
    )
    def list_stacks(self) -> Response:
        """A bare array. Where there are more, the header Link has the next page's address."""
        actor = self._kit.guard.actor("stacks:list")
        asked = LIST.read()
        stacks = self._kit.container.stacks
        page = stacks.page(actor, limit=asked["limit"], marker=asked["marker"])
        jobs = stacks.jobs_of(page.items) if page.items else {}
        return listing([stack_json(one, jobs.get(one.id)) for one in page.items], next_page("/stacks", asked, page.next_marker))

    @operation(
        "List the shipped templates",
        {200: Outcome("What stacks can be made of.", schemas.StackTemplate, many=True)},
        query=inputs.NOTHING,
    )
    def list_stack_templates(self) -> Response:
        """With the parameters that each takes, in the words of the template."""
        self._kit.guard.actor("stacks:list")
        inputs.NOTHING.read()
        found = self._kit.container.stacks.templates.all.values()
        return listing([{"name": one.name, "description": one.description, "parameters": one.asked} for one in found], None)

    @operation(
        "Show a stack",
        {200: Outcome("The stack and what it made.", schemas.StackShown)},
        refusals=(404, 502, 504),
        query=inputs.NOTHING,
    )
    def get_stack(self, stack_id: str) -> Response:
        """By its id here, or by its id in Heat. The resources are asked of Heat now."""
        actor = self._kit.guard.actor("stacks:get")
        inputs.NOTHING.read()
        stacks = self._kit.container.stacks
        stack = stacks.get(actor, stack_id)
        resources = [stack_resource_json(one) for one in stacks.resources(stack)]
        return answer({**stack_json(stack, stacks.jobs_of([stack]).get(stack.id)), "resources": resources})

    @operation(
        "Change a stack",
        {
            200: Outcome(
                "With `Prefer: wait`: the stack is changed. With `validate_only`: it may be.",
                (schemas.StackAccepted, shown.Validated),
                DONE,
            ),
            202: Outcome("The change is promised.", schemas.StackAccepted, PROMISE),
        },
        refusals=(404, 409, 502, 504),
        body=schemas.StackUpdate,
        query=CHANGE,
        changes=True,
    )
    def update_stack(self, stack_id: str) -> Response:
        """Other parameters, or other members of a connection. `POST /stacks/preview` tells before what Heat would do."""
        actor = self._kit.guard.actor("stacks:update")
        validate_only = CHANGE.read()["validate_only"]
        document, fields, findings = read_fields(_UPDATE)
        accepted = self._kit.container.stacks.request_update(
            actor,
            stack_id,
            fields,
            findings=findings,
            idempotency=idempotency(actor, document),
            validate_only=validate_only,
        )
        return self._answer(actor, accepted, 200)

    @operation(
        "Delete a stack",
        {
            200: Outcome(
                "With `Prefer: wait`: the stack is gone. With `validate_only`: it may be deleted.",
                (schemas.StackAccepted, shown.Validated),
                DONE,
            ),
            202: Outcome("The removal is promised.", schemas.StackAccepted, PROMISE),
        },
        refusals=(404, 409, 502, 504),
        query=CHANGE,
        changes=True,
    )
    def delete_stack(self, stack_id: str) -> Response:
        """With what it made. A cluster's own network goes with its cluster, not by itself."""
        actor = self._kit.guard.actor("stacks:delete")
        validate_only = CHANGE.read()["validate_only"]
        accepted = self._kit.container.stacks.request_delete(
            actor, stack_id, idempotency=idempotency(actor, None), validate_only=validate_only
        )
        return self._answer(actor, accepted, 200)

    @operation(
        "Preview a stack",
        {200: Outcome("What Heat would make or change.", schemas.StackPreviewed)},
        refusals=(404, 409, 502, 504),
        body=schemas.StackPreview,
        query=inputs.NOTHING,
    )
    def preview_stack(self) -> Response:
        """Nothing is made or changed. What Heat refuses about the parameters is told in its words."""
        actor = self._kit.guard.actor("stacks:create")
        inputs.NOTHING.read()
        _, fields, findings = read_fields(_PREVIEW)
        return answer(self._kit.container.stacks.preview(actor, fields, findings=findings))

    def _answer(self, actor: Actor, accepted: AcceptedStack | None, done: int) -> Response:
        if accepted is None:
            return valid()
        job, applied = self._kit.waited(actor, accepted.job)
        stack = accepted.stack
        if applied:
            stack = self._kit.container.stacks.latest(stack)
        headers = self._kit.promise_headers(job, f"/stacks/{stack.id}", replayed=accepted.replayed)
        headers.update(applied)
        succeeded = job.state is JobState.SUCCEEDED and bool(applied)
        body = {**stack_json(stack, job), "job": job_json(job), "job_id": str(job.id)}
        return answer(body, done if succeeded else 202, headers)
