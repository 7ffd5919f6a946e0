"""/match, /placements, /accelerators, /flavors and /clusters/available."""

from typing import Any, Final

from flask import Response

from api import inputs
from api.clusters import next_page
from api.idempotency import idempotency
from api.inputs import Param, Query, read_fields, wait_seconds
from api.kit import Kit
from api.promises import CHANGE, DONE, PROMISE, valid
from api.render import answer, job_json, listing, placement_json, rfc3339
from api.schemas import clusters as shown
from api.schemas import match as schemas
from api.spec import Blueprint, Outcome, operation
from shared.domain.jobs import Job, JobState
from shared.domain.ports import Actor
from shared.errors import FieldError
from shared.services.matching import AcceptedMatch

_MATCH: Final = schemas.MatchRequest()
_MANY: Final = schemas.MatchManyRequest()
_EXTEND: Final = schemas.PlacementExtend()
_ABOUT_HOLDING: Final = ("place", "lease_seconds")
LIST: Final = Query(
    (
        Param("cluster_id", inputs.uuid, {"type": "string", "format": "uuid"}, "Only those on this cluster."),
        Param("active", inputs.truth, {"type": "boolean"}, "Only those that are held, or only those that have ended."),
        inputs.LIMIT,
        inputs.UUID_MARKER,
    )
)


class MatchViews:
    """The operations on matches, placements and what there is to be placed on."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit

    def blueprint(self) -> Blueprint:
        """Their paths."""
        made = Blueprint("match", __name__, description="The best cluster for a workload, and what is held for it.")
        made.add_url_rule("/match/workload", view_func=self.match_workload, methods=["POST"])
        made.add_url_rule("/match/workloads", view_func=self.match_workloads, methods=["POST"])
        made.add_url_rule("/placements", view_func=self.list_placements, methods=["GET"])
        made.add_url_rule("/placements", view_func=self.create_placement, methods=["POST"])
        made.add_url_rule("/placements/<placement_id>", view_func=self.get_placement, methods=["GET"])
        made.add_url_rule("/placements/<placement_id>", view_func=self.extend_placement, methods=["PUT"])
        made.add_url_rule("/placements/<placement_id>", view_func=self.delete_placement, methods=["DELETE"])
        made.add_url_rule("/clusters/available", view_func=self.list_available, methods=["GET"])
        made.add_url_rule("/accelerators", view_func=self.list_accelerators, methods=["GET"])
        made.add_url_rule("/flavors", view_func=self.list_flavors, methods=["GET"])
        return made

    @operation(
        "Match a workload",
        {
            200: Outcome(
                "With `Prefer: wait`: the answer. With `validate_only`: nothing is wrong.", (schemas.Matched, shown.Validated), DONE
            ),
            202: Outcome("The match is promised.", schemas.MatchAccepted, PROMISE),
        },
        refusals=(409, 502, 504),
        body=schemas.MatchRequest,
        query=CHANGE,
        changes=True,
    )
    def match_workload(self) -> Response:
        """Every way to give it a place (use what is free, grow, wake, create), ranked, with what each costs and draws, and why the
        others fell out. With `place: true` the best way is taken: its capacity is held for the lease, and where nodes are lacking,
        the job that brings them is begun. Same workload and state, same answer.
        """
        actor = self._kit.guard.actor("match:workload")
        validate_only = CHANGE.read()["validate_only"]
        document, fields, findings = read_fields(_MATCH)
        work = {name: value for name, value in fields.items() if name not in _ABOUT_HOLDING}
        return self._matched(actor, document, [work], fields, findings, many=False, validate_only=validate_only)

    @operation(
        "Match many workloads",
        {
            200: Outcome(
                "With `Prefer: wait`: the answers. With `validate_only`: nothing is wrong.",
                (schemas.MatchedMany, shown.Validated),
                DONE,
            ),
            202: Outcome("The matches are promised.", schemas.MatchAccepted, PROMISE),
        },
        refusals=(409, 502, 504),
        body=schemas.MatchManyRequest,
        query=CHANGE,
        changes=True,
    )
    def match_workloads(self) -> Response:
        """One after the other, each with what those before it have left (with `place: true`); each answer tells its best way only."""
        actor = self._kit.guard.actor("match:workload")
        validate_only = CHANGE.read()["validate_only"]
        document, fields, findings = read_fields(_MANY)
        return self._matched(actor, document, fields.get("workloads", []), fields, findings, many=True, validate_only=validate_only)

    @operation(
        "Hold capacity for a workload",
        {
            201: Outcome("With `Prefer: wait`: the answer, with what is held.", schemas.Matched, DONE),
            200: Outcome("With `validate_only`: nothing is wrong, and nothing was done.", shown.Validated),
            202: Outcome("The match is promised.", schemas.MatchAccepted, PROMISE),
        },
        refusals=(409, 502, 504),
        body=schemas.MatchRequest,
        query=CHANGE,
        changes=True,
    )
    def create_placement(self) -> Response:
        """The same as `POST /match/workload` with `place: true`."""
        actor = self._kit.guard.actor("match:workload")
        validate_only = CHANGE.read()["validate_only"]
        document, fields, findings = read_fields(_MATCH)
        if fields.get("place") is False:
            findings = [*findings, FieldError("place", "fixed", "A placement is held: place can only be true here.")]
        work = {name: value for name, value in fields.items() if name not in _ABOUT_HOLDING}
        holding = fields | {"place": True}
        return self._matched(actor, document, [work], holding, findings, many=False, validate_only=validate_only, done=201)

    def _matched(
        self,
        actor: Actor,
        document: dict[str, Any],
        works: list[dict[str, Any]],
        fields: dict[str, Any],
        findings: list[FieldError],
        *,
        many: bool,
        validate_only: bool,
        done: int = 200,
    ) -> Response:
        accepted = self._kit.container.matching.request(
            actor,
            works,
            many=many,
            place=fields.get("place", False),
            lease_s=fields.get("lease_seconds"),
            findings=findings,
            idempotency=idempotency(actor, document),
            validate_only=validate_only,
            at_once=wait_seconds(self._kit.max_wait_s) is not None,
        )
        return valid() if accepted is None else self._answer(actor, accepted, done)

    def _answer(self, actor: Actor, accepted: AcceptedMatch, done: int) -> Response:
        job, applied = self._kit.waited(actor, accepted.job)
        headers = self._kit.promise_headers(job, f"/jobs/{job.id}", replayed=accepted.replayed)
        headers.update(applied)
        now = rfc3339(self._kit.container.clock.now())
        if job.state is JobState.SUCCEEDED and applied:
            return answer({**(job.result or {}), "match_id": str(job.id), "timestamp": now}, done, headers)
        body = {"message": _message(job), "job": job_json(job), "job_id": str(job.id), "timestamp": now}
        return answer(body, 202, headers)

    @operation(
        "List placements",
        {200: Outcome("The project's placements, newest first.", schemas.Placement, ("Link",), many=True)},
        query=LIST,
    )
    def list_placements(self) -> Response:
        """A bare array. Where there are more, the header Link has the next page's address."""
        actor = self._kit.guard.actor("placements:list")
        asked = LIST.read()
        page = self._kit.container.placements.page(
            actor, cluster_id=asked["cluster_id"], active=asked["active"], limit=asked["limit"], marker=asked["marker"]
        )
        return listing([placement_json(one) for one in page.items], next_page("/placements", asked, page.next_marker))

    @operation("Show a placement", {200: Outcome("The placement.", schemas.Placement)}, refusals=(404,), query=inputs.NOTHING)
    def get_placement(self, placement_id: str) -> Response:
        """Ended ones too, as long as their cluster is known."""
        actor = self._kit.guard.actor("placements:list")
        inputs.NOTHING.read()
        return answer(placement_json(self._kit.container.placements.get(actor, placement_id)))

    @operation(
        "Extend a placement",
        {200: Outcome("The placement with its new lease.", schemas.Placement)},
        refusals=(404, 409),
        body=schemas.PlacementExtend,
        query=inputs.NOTHING,
    )
    def extend_placement(self, placement_id: str) -> Response:
        """It is held for so many seconds from now on. One that has ended can't be held again: what it had may be another's."""
        actor = self._kit.guard.actor("match:workload")
        inputs.NOTHING.read()
        _, fields, findings = read_fields(_EXTEND)
        held = self._kit.container.placements.extend(actor, placement_id, fields.get("lease_seconds"), findings=findings)
        return answer(placement_json(held))

    @operation(
        "End a placement", {200: Outcome("The placement as it ended.", schemas.Placement)}, refusals=(404,), query=inputs.NOTHING
    )
    def delete_placement(self, placement_id: str) -> Response:
        """What it held is free at once. Ending it again changes nothing."""
        actor = self._kit.guard.actor("match:workload")
        inputs.NOTHING.read()
        return answer(placement_json(self._kit.container.placements.end(actor, placement_id)))

    @operation(
        "List clusters with room",
        {200: Outcome("Clusters that take work, and what is free on them.", schemas.AvailableClusters)},
        refusals=(502, 504),
        query=inputs.NOTHING,
    )
    def list_available(self) -> Response:
        """What placements leave free. Work that was put on a cluster without a placement is not known here."""
        actor = self._kit.guard.actor("placements:list")
        inputs.NOTHING.read()
        found = self._kit.container.placements.available(actor)
        now = rfc3339(self._kit.container.clock.now())
        return answer({"clusters": found, "total_count": len(found), "timestamp": now})

    @operation("List accelerators", {200: Outcome("The catalogue.", schemas.Accelerator, many=True)}, query=inputs.NOTHING)
    def list_accelerators(self) -> Response:
        """GPUs and NPUs, whole ones and slices, with their memory, watts and price."""
        self._kit.guard.actor("accelerators:list")
        inputs.NOTHING.read()
        return listing(self._kit.container.accelerators.accelerators(), None)

    @operation(
        "List flavors",
        {200: Outcome("The project's flavors, by name.", schemas.Flavor, many=True)},
        refusals=(502, 504),
        query=inputs.NOTHING,
    )
    def list_flavors(self) -> Response:
        """Each with what a node of it has, costs and draws, and where that was read."""
        actor = self._kit.guard.actor("accelerators:list")
        inputs.NOTHING.read()
        return listing(self._kit.container.accelerators.flavors(actor), None)


def _message(job: Job) -> str:
    ended = {JobState.FAILED: "has failed", JobState.CANCELLED: "was cancelled", JobState.SUCCEEDED: "is done"}
    return f"The match of {job.cluster_name or job.params.get('name')} {ended.get(job.state, 'is accepted')}."
