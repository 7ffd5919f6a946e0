"""/telemetry."""

from flask import Response

from api import inputs
from api.kit import Kit
from api.render import listing
from api.schemas import telemetry as schemas
from api.spec import Blueprint, Outcome, operation


class TelemetryViews:
    """The operation on meters."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit

    def blueprint(self) -> Blueprint:
        """Its path."""
        made = Blueprint("telemetry", __name__, description="Meters: where measured power and use come from.")
        made.add_url_rule("/telemetry", view_func=self.list_meters, methods=["GET"])
        return made

    @operation(
        "List meters",
        {200: Outcome("The sources of TELEMETRY_FILE, in its order.", schemas.MeterSource, many=True)},
        query=inputs.NOTHING,
    )
    def list_meters(self) -> Response:
        """With what failed and what was left out at the last collection: values that cannot be true, sentinels, series of no known
        cluster. These name nodes of all projects, so an administrator may read them.
        """
        self._kit.guard.actor("telemetry:list")
        inputs.NOTHING.read()
        return listing(self._kit.container.collection.sources(), None)
