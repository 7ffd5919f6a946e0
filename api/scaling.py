"""/clusters/{id}/scale-policy and /clusters/{id}/scale-decision."""

from typing import Any, Final

from flask import Response

from api import inputs
from api.inputs import read_fields
from api.kit import Kit
from api.promises import CHANGE, valid
from api.render import answer, rfc3339
from api.schemas import clusters as shown
from api.schemas import scaling as schemas
from api.spec import Blueprint, Outcome, operation

_PUT: Final = schemas.ScalePolicyPut()
_ANALYZE: Final = schemas.AnalysisRequest()
_TIMES: Final = ("decided_at", "updated_at", "timestamp")


class ScalingViews:
    """The operations on scale policies."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit

    def blueprint(self) -> Blueprint:
        """Their paths."""
        made = Blueprint("scaling", __name__, description="How many workers a cluster should have.")
        made.add_url_rule("/clusters/<cluster_id>/scale-policy", view_func=self.get_scale_policy, methods=["GET"])
        made.add_url_rule("/clusters/<cluster_id>/scale-policy", view_func=self.put_scale_policy, methods=["PUT"])
        made.add_url_rule("/clusters/<cluster_id>/scale-policy", view_func=self.delete_scale_policy, methods=["DELETE"])
        made.add_url_rule("/clusters/<cluster_id>/scale-decision", view_func=self.get_scale_decision, methods=["GET"])
        made.add_url_rule("/scale-decisions", view_func=self.analyze_workloads, methods=["POST"])
        return made

    @operation(
        "Decide what workloads need",
        {200: Outcome("The decisions.", schemas.Analysis)},
        refusals=(404, 409, 502, 504),
        body=schemas.AnalysisRequest,
        query=inputs.NOTHING,
    )
    def analyze_workloads(self) -> Response:
        """Which clusters would have to grow, wake or be made so that these workloads run beside what is held now, and which carry none of
        them and could be smaller. Nothing is done and nothing is held. `action`, `cluster_id` and `target_nodes` are those of the
        decision that brings the most; all are in `decisions`.
        """
        actor = self._kit.guard.actor("scaling:analyze")
        inputs.NOTHING.read()
        _, fields, findings = read_fields(_ANALYZE)
        found = self._kit.container.analysis.analyze(
            actor, fields.get("workloads", []), cluster_ref=fields.get("cluster_id"), findings=findings
        )
        return answer(found | {"timestamp": rfc3339(self._kit.container.clock.now())})

    @operation(
        "Show a cluster's scale policy",
        {200: Outcome("The policy, and what last came of it.", schemas.ScalePolicy)},
        refusals=(404,),
        query=inputs.NOTHING,
    )
    def get_scale_policy(self, cluster_id: str) -> Response:
        """404 where it has none."""
        actor = self._kit.guard.actor("scaling:get", cluster=cluster_id)
        inputs.NOTHING.read()
        return answer(_plain(self._kit.container.scaling.policy(actor, cluster_id)))

    @operation(
        "Give a cluster a scale policy",
        {200: Outcome("The policy; or with `validate_only`, that nothing is wrong.", (schemas.ScalePolicy, shown.Validated))},
        refusals=(404, 409),
        body=schemas.ScalePolicyPut,
        query=CHANGE,
    )
    def put_scale_policy(self, cluster_id: str) -> Response:
        """In place of the one that it had. Switched on, it is applied about once a minute; each change is an ordinary job whose
        `requested_by` is `policy:scale`.
        """
        actor = self._kit.guard.actor("scaling:change", cluster=cluster_id)
        validate_only = CHANGE.read()["validate_only"]
        _, fields, findings = read_fields(_PUT)
        put = self._kit.container.scaling.put(actor, cluster_id, fields, findings=findings, validate_only=validate_only)
        return valid() if put is None else answer(_plain(put))

    @operation("Take a cluster's scale policy away", {204: Outcome("It has none.")}, refusals=(404,), query=inputs.NOTHING)
    def delete_scale_policy(self, cluster_id: str) -> Response:
        """What it has begun goes on."""
        actor = self._kit.guard.actor("scaling:change", cluster=cluster_id)
        inputs.NOTHING.read()
        self._kit.container.scaling.delete(actor, cluster_id)
        return Response(status=204)

    @operation(
        "Explain what a cluster's scale policy would do",
        {200: Outcome("The decision, and why.", schemas.ScaleDecision)},
        refusals=(404, 502, 504),
        query=inputs.NOTHING,
    )
    def get_scale_decision(self, cluster_id: str) -> Response:
        """Nothing is done. Without a policy, the usual one explains."""
        actor = self._kit.guard.actor("scaling:get", cluster=cluster_id)
        inputs.NOTHING.read()
        return answer(_plain(self._kit.container.scaling.explain(actor, cluster_id)))


def _plain(body: dict[str, Any]) -> dict[str, Any]:
    return body | {name: rfc3339(body[name]) for name in _TIMES if name in body}
