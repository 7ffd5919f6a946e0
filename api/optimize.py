"""/optimize/clusters."""

from typing import Any, Final

from flask import Response

from api.idempotency import idempotency
from api.inputs import read_fields
from api.kit import Kit
from api.promises import CHANGE, DONE, PROMISE, valid
from api.render import answer, job_json, rfc3339
from api.schemas import clusters as shown
from api.schemas import optimize as schemas
from api.spec import Blueprint, Outcome, operation
from shared.domain.jobs import Job, JobState

_REQUEST: Final = schemas.OptimizeRequest()


class OptimizeViews:
    """The operation that plans over all clusters."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit

    def blueprint(self) -> Blueprint:
        """Its path."""
        made = Blueprint("optimize", __name__, description="Which clusters could go, shrink or be made.")
        made.add_url_rule("/optimize/clusters", view_func=self.optimize_clusters, methods=["POST"])
        return made

    @operation(
        "Plan a consolidation",
        {
            200: Outcome(
                "With `Prefer: wait`: the plan. With `validate_only`: nothing is wrong.", (schemas.Plan, shown.Validated), DONE
            ),
            202: Outcome("The plan is promised.", schemas.PlanAccepted, PROMISE),
        },
        refusals=(409, 502, 504),
        body=schemas.OptimizeRequest,
        query=CHANGE,
        changes=True,
    )
    def optimize_clusters(self) -> Response:
        """Which moves, sizes, deletions and new clusters of the project would cost and draw the least, control planes included, with what is
        held packed on single nodes and all power budgets kept; with the bound that was proven and the reason for each step. Nothing is
        done: only placements with `movable: true` are moved in it, and whoever can move them carries it out.
        """
        actor = self._kit.guard.actor("optimize:clusters")
        validate_only = CHANGE.read()["validate_only"]
        document, fields, findings = read_fields(_REQUEST)
        promised = self._kit.container.consolidation.request(
            actor, fields, findings=findings, idempotency=idempotency(actor, document), validate_only=validate_only
        )
        if promised is None:
            return valid()
        job, applied = self._kit.waited(actor, promised[0])
        headers = self._kit.promise_headers(job, f"/jobs/{job.id}", replayed=promised[1])
        headers.update(applied)
        now = rfc3339(self._kit.container.clock.now())
        if job.state is JobState.SUCCEEDED and applied:
            return answer({"message": _message(job), **(job.result or {}), "plan_id": str(job.id), "timestamp": now}, 200, headers)
        body: dict[str, Any] = {"message": _message(job), "job": job_json(job), "job_id": str(job.id), "timestamp": now}
        return answer(body, 202, headers)


def _message(job: Job) -> str:
    ended = {JobState.FAILED: "has failed", JobState.CANCELLED: "was cancelled", JobState.SUCCEEDED: "is made"}
    return f"The plan over all clusters {ended.get(job.state, 'is accepted')}."
