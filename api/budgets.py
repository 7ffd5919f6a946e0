"""/budgets."""

from typing import Final

from flask import Response

from api import inputs
from api.inputs import read_fields
from api.kit import Kit
from api.promises import CHANGE, valid
from api.render import answer, listing
from api.schemas import budgets as schemas
from api.schemas import clusters as shown
from api.spec import Blueprint, Outcome, operation

_CREATE: Final = schemas.BudgetCreate()


class BudgetViews:
    """The operations on budgets."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit

    def blueprint(self) -> Blueprint:
        """Their paths."""
        made = Blueprint("budgets", __name__, description="What a project may spend and draw.")
        made.add_url_rule("/budgets", view_func=self.list_budgets, methods=["GET"])
        made.add_url_rule("/budgets", view_func=self.add_budget, methods=["POST"])
        made.add_url_rule("/budgets/<budget_id>", view_func=self.get_budget, methods=["GET"])
        made.add_url_rule("/budgets/<budget_id>", view_func=self.delete_budget, methods=["DELETE"])
        return made

    @operation(
        "List budgets",
        {200: Outcome("The project's, oldest first.", schemas.Budget, many=True)},
        query=inputs.NOTHING,
    )
    def list_budgets(self) -> Response:
        """With what is used and expected, which thresholds are reached, and since when what adds nodes is refused. Looked at every minute."""
        actor = self._kit.guard.actor("budgets:list")
        inputs.NOTHING.read()
        return listing(self._kit.container.budgets.listed(actor), None)

    @operation(
        "Add a budget",
        {
            200: Outcome("With `validate_only`: nothing is wrong.", shown.Validated),
            201: Outcome("The budget, as it stands.", schemas.Budget),
        },
        refusals=(409,),
        body=schemas.BudgetCreate,
        query=CHANGE,
    )
    def add_budget(self) -> Response:
        """Of money in one currency (nothing is converted) or of energy, a month or a day of UTC; or of watts at any moment, which no change
        may exceed. At thresholds webhooks are told (`budget.threshold`), changes that add nodes are refused with `BUDGET_EXCEEDED`, or
        clusters are hibernated, but for held and persistent ones.
        """
        actor = self._kit.guard.actor("budgets:change")
        validate_only = CHANGE.read()["validate_only"]
        _, fields, findings = read_fields(_CREATE)
        if fields.get("binding"):
            self._kit.guard.actor("budgets:binding")
        made = self._kit.container.budgets.add(actor, fields, findings=findings, validate_only=validate_only)
        return valid() if made is None else answer(made, 201)

    @operation("Show a budget", {200: Outcome("As it stands.", schemas.Budget)}, refusals=(404,), query=inputs.NOTHING)
    def get_budget(self, budget_id: str) -> Response:
        """One of the project's."""
        actor = self._kit.guard.actor("budgets:list")
        inputs.NOTHING.read()
        return answer(self._kit.container.budgets.get(actor, budget_id))

    @operation("Remove a budget", {204: Outcome("It is gone.")}, refusals=(404,), query=inputs.NOTHING)
    def delete_budget(self, budget_id: str) -> Response:
        """What it refused may be asked for again. A binding one is an administrator's to remove."""
        actor = self._kit.guard.actor("budgets:change")
        inputs.NOTHING.read()
        if self._kit.container.budgets.is_binding(actor, budget_id):
            self._kit.guard.actor("budgets:binding")
        self._kit.container.budgets.delete(actor, budget_id)
        return Response(status=204)
