"""/usage."""

from typing import Final

from flask import Response

from api import inputs
from api.inputs import Query
from api.kit import Kit
from api.render import answer, rfc3339
from api.schemas import usage as schemas
from api.spec import Blueprint, Outcome, operation

USAGE: Final = Query((inputs.START, inputs.END))


class UsageViews:
    """The operation on a project's metrics."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit

    def blueprint(self) -> Blueprint:
        """Their paths."""
        made = Blueprint("usage", __name__, description="What a project's clusters ran and drew.")
        made.add_url_rule("/usage", view_func=self.get_usage, methods=["GET"])
        return made

    @operation(
        "Show what the project's clusters ran and drew, by day",
        {200: Outcome("The days of UTC that touch the window.", schemas.ProjectUsage)},
        query=USAGE,
    )
    def get_usage(self) -> Response:
        """By default the last 30 days. From samples, also of clusters that are no more; what they cost is in /costs."""
        actor = self._kit.guard.actor("usage:list")
        asked = USAGE.read()
        found = self._kit.container.metering.by_day(actor, start=asked["start"], end=asked["end"])
        return answer(found | {"timestamp": rfc3339(self._kit.container.clock.now())})
