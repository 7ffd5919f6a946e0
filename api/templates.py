"""/templates."""

from typing import Final

from flask import Response

from api import inputs
from api.clusters import next_page
from api.inputs import Query, read_fields
from api.kit import Kit
from api.promises import CHANGE, valid
from api.render import answer, listing, template_json
from api.schemas import clusters as shown
from api.schemas import templates as schemas
from api.spec import Blueprint, Outcome, operation

_CREATE: Final = schemas.TemplateCreate()
_REPLACE: Final = schemas.TemplateReplace()
LIST: Final = Query((inputs.LIMIT, inputs.MARKER))


class TemplateViews:
    """The operations on cluster types and templates."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit

    def blueprint(self) -> Blueprint:
        """Their paths."""
        made = Blueprint("templates", __name__, description="What clusters can be made of.")
        made.add_url_rule("/templates", view_func=self.list_templates, methods=["GET"])
        made.add_url_rule("/templates", view_func=self.create_template, methods=["POST"])
        made.add_url_rule("/templates/<template_id>", view_func=self.get_template, methods=["GET"])
        made.add_url_rule("/templates/<template_id>", view_func=self.replace_template, methods=["PUT"])
        made.add_url_rule("/templates/<template_id>", view_func=self.delete_template, methods=["DELETE"])
        return made

    @operation(
        "List templates",
        {200: Outcome("Cluster types, and Magnum's templates that no type stands for.", schemas.Template, ("Link",), many=True)},
        refusals=(502, 504),
        query=LIST,
    )
    def list_templates(self) -> Response:
        """Types are shipped or made here, and become Magnum templates when a cluster is first made of them.

        Types come first, each kind in the order of names. Where there are more, the header Link has the next page's address.
        """
        actor = self._kit.guard.actor("templates:list")
        asked = LIST.read()
        page = self._kit.container.templates.page(actor, limit=asked["limit"], marker=asked["marker"])
        return listing([template_json(choice) for choice in page.items], next_page("/templates", asked, page.next_marker))

    @operation(
        "Create a template",
        {
            200: Outcome("With `validate_only`: nothing is wrong, and nothing was done.", shown.Validated),
            201: Outcome("The type is written.", schemas.Template, ("Location",)),
        },
        refusals=(409, 502, 504),
        body=schemas.TemplateCreate,
        query=CHANGE,
    )
    def create_template(self) -> Response:
        """A cluster type of the project. Its flavors, image and keypair must exist."""
        actor = self._kit.guard.actor("templates:create")
        validate_only = CHANGE.read()["validate_only"]
        document, fields, findings = read_fields(_CREATE)
        made = self._kit.container.templates.create(actor, document | fields, findings=findings, validate_only=validate_only)
        if made is None:
            return valid()
        return answer(template_json(made), 201, {"Location": f"/templates/{made.id}"})

    @operation(
        "Show a template",
        {200: Outcome("The template.", schemas.Template)},
        refusals=(404, 502, 504),
        query=inputs.NOTHING,
    )
    def get_template(self, template_id: str) -> Response:
        """By a type's name, or by a Magnum template's uuid or name."""
        actor = self._kit.guard.actor("templates:get")
        inputs.NOTHING.read()
        return answer(template_json(self._kit.container.templates.get(actor, template_id)))

    @operation(
        "Replace a template",
        {
            200: Outcome(
                "The type is written. With `validate_only`: nothing is wrong, and nothing was done.",
                (schemas.Template, shown.Validated),
            )
        },
        refusals=(404, 409, 502, 504),
        body=schemas.TemplateReplace,
        query=CHANGE,
    )
    def replace_template(self, template_id: str) -> Response:
        """Clusters that exist keep the Magnum template that they have; the next one is made of a new one."""
        actor = self._kit.guard.actor("templates:update")
        validate_only = CHANGE.read()["validate_only"]
        document, fields, findings = read_fields(_REPLACE)
        made = self._kit.container.templates.replace(
            actor, template_id, document | fields, findings=findings, validate_only=validate_only
        )
        return valid() if made is None else answer(template_json(made))

    @operation(
        "Delete a template",
        {204: Outcome("The type is forgotten.", None)},
        refusals=(404, 409, 502, 504),
        query=inputs.NOTHING,
    )
    def delete_template(self, template_id: str) -> Response:
        """Clusters that were made of it stay as they are. Shipped types and Magnum's own templates are not deleted here."""
        actor = self._kit.guard.actor("templates:delete")
        inputs.NOTHING.read()
        self._kit.container.templates.delete(actor, template_id)
        return Response(status=204)
