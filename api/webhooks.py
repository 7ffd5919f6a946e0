"""/webhooks: who is told of what."""

from typing import Final
from uuid import UUID

from flask import Response

from api import inputs
from api.inputs import read_fields
from api.kit import Kit
from api.render import answer, listing
from api.schemas import webhooks as schemas
from api.spec import Blueprint, Outcome, operation
from shared.services.webhooks import no_webhook

_CREATE: Final = schemas.WebhookCreate()


class WebhookViews:
    """The operations on the project's webhooks."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit

    def blueprint(self) -> Blueprint:
        """Their paths."""
        made = Blueprint("webhooks", __name__, description="Who is told of what.")
        made.add_url_rule("/webhooks", view_func=self.list_webhooks, methods=["GET"])
        made.add_url_rule("/webhooks", view_func=self.create_webhook, methods=["POST"])
        made.add_url_rule("/webhooks/<webhook_id>", view_func=self.delete_webhook, methods=["DELETE"])
        made.add_url_rule("/webhooks/<webhook_id>/deliveries", view_func=self.list_deliveries, methods=["GET"])
        return made

    @operation(
        "List webhooks",
        {200: Outcome("All of the project's, oldest first, without secrets.", schemas.Webhook, many=True)},
        query=inputs.NOTHING,
    )
    def list_webhooks(self) -> Response:
        """With how many deliveries wait or were given up, and what the latest try came to."""
        actor = self._kit.guard.actor("webhooks:list")
        inputs.NOTHING.read()
        return listing(self._kit.container.webhooks.all(actor), None)

    @operation(
        "Add a webhook",
        {201: Outcome("It is added.", schemas.WebhookMade)},
        refusals=(409,),
        body=schemas.WebhookCreate,
        query=inputs.NOTHING,
    )
    def create_webhook(self) -> Response:
        """Each event is posted as JSON (`id, event, project_id, at, data`) with `Kcloud-Signature: t=<time>,v1=<hex>`, the HMAC-SHA256
        with the secret over the time in seconds, a dot and the body. What is not answered with 2xx is sent up to ten times within
        about an hour and a half, at least once and in any order: `id` tells repeats.
        """
        actor = self._kit.guard.actor("webhooks:create")
        inputs.NOTHING.read()
        _, fields, findings = read_fields(_CREATE)
        return answer(self._kit.container.webhooks.create(actor, fields, findings=findings), 201)

    @operation("Remove a webhook", {204: Outcome("It is removed.")}, refusals=(404,), query=inputs.NOTHING)
    def delete_webhook(self, webhook_id: str) -> Response:
        """With what was still to be sent to it."""
        actor = self._kit.guard.actor("webhooks:delete")
        inputs.NOTHING.read()
        self._kit.container.webhooks.delete(actor, _id(webhook_id))
        return Response(status=204)

    @operation(
        "List a webhook's deliveries",
        {200: Outcome("The latest 50, newest first.", schemas.WebhookDelivery, many=True)},
        refusals=(404,),
        query=inputs.NOTHING,
    )
    def list_deliveries(self, webhook_id: str) -> Response:
        """What became of each event."""
        actor = self._kit.guard.actor("webhooks:list")
        inputs.NOTHING.read()
        return listing(self._kit.container.webhooks.deliveries(actor, _id(webhook_id)), None)


def _id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise no_webhook(text) from None
