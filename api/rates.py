"""/rate-cards."""

from typing import Final
from uuid import UUID

from flask import Response

from api import inputs
from api.inputs import read_fields
from api.kit import Kit
from api.promises import CHANGE, valid
from api.render import answer, listing
from api.schemas import clusters as shown
from api.schemas import rates as schemas
from api.spec import Blueprint, Outcome, operation
from shared.errors import NotFound
from shared.services.rates import SITE

_CREATE: Final = schemas.RateCardCreate()


class RateViews:
    """The operations on rate cards."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit

    def blueprint(self) -> Blueprint:
        """Their paths."""
        made = Blueprint("rates", __name__, description="What things cost, from when to when.")
        made.add_url_rule("/rate-cards", view_func=self.list_rate_cards, methods=["GET"])
        made.add_url_rule("/rate-cards", view_func=self.add_rate_card, methods=["POST"])
        made.add_url_rule("/rate-cards/<card_id>", view_func=self.delete_rate_card, methods=["DELETE"])
        return made

    @operation(
        "List rate cards",
        {200: Outcome("The project's cards and the site's, those that became valid last first.", schemas.RateCard, many=True)},
        query=inputs.NOTHING,
    )
    def list_rate_cards(self) -> Response:
        """At any moment the project's cards come before the site's, and of each the one that became valid last. What none of them
        prices has the default, marked `default`.
        """
        actor = self._kit.guard.actor("rates:list")
        inputs.NOTHING.read()
        return listing(self._kit.container.rates.cards(actor), None)

    @operation(
        "Add a rate card",
        {
            200: Outcome("With `validate_only`: nothing is wrong.", shown.Validated),
            201: Outcome("The card.", schemas.RateCard),
        },
        body=schemas.RateCardCreate,
        query=CHANGE,
    )
    def add_rate_card(self) -> Response:
        """It holds for the times that it names, also those that are past: prices are applied when costs are asked for, so the next
        question has them. Nothing is converted between currencies.
        """
        actor = self._kit.guard.actor("rates:change")
        validate_only = CHANGE.read()["validate_only"]
        _, fields, findings = read_fields(_CREATE)
        if fields.get("scope") == SITE:
            self._kit.guard.actor("rates:site")
        made = self._kit.container.rates.add(actor, fields, findings=findings, validate_only=validate_only)
        return valid() if made is None else answer(made, 201)

    @operation("Remove a rate card", {204: Outcome("It is gone.")}, refusals=(404,), query=inputs.NOTHING)
    def delete_rate_card(self, card_id: str) -> Response:
        """What it priced has other prices from the next question on, the past too."""
        actor = self._kit.guard.actor("rates:change")
        inputs.NOTHING.read()
        try:
            found = UUID(card_id)
        except ValueError:
            raise NotFound(f"The project has no rate card {card_id[:100]!r}.", reason="RATE_CARD_NOT_FOUND") from None
        if self._kit.container.rates.scope_of(actor, found) == SITE:
            self._kit.guard.actor("rates:site")
        self._kit.container.rates.delete(actor, found)
        return Response(status=204)
