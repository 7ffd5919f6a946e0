"""/cleanup and /clusters/{id}/hold: which clusters are idle, why not, and what is done about them."""

from typing import Any, Final

from flask import Response, request

from api import inputs
from api.clusters import next_page
from api.inputs import LIMIT, UUID_MARKER, Query, read_fields
from api.kit import Kit
from api.render import answer, listing, rfc3339
from api.schemas import cleanup as schemas
from api.spec import Blueprint, Outcome, operation
from shared.domain.clusters import Cluster
from shared.domain.idleness import Hold
from shared.errors import InvalidRequest, as_sentence
from shared.services.cleanup import Explained, Ran
from shared.services.sweeping import Move

_POLICY: Final = schemas.CleanupPolicyPut()
_FLOOR: Final = schemas.CleanupFloor()
_RUN: Final = schemas.CleanupRun()
_HOLD: Final = schemas.HoldPut()
_PAGE: Final = Query((LIMIT, UUID_MARKER))
#: Of the clusters that a look shows; GET /cleanup/candidates has all, by pages.
_MOST_SHOWN: Final = 1000


class CleanupViews:
    """The operations on the cleanup of idle clusters."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit

    def blueprint(self) -> Blueprint:
        """Their paths."""
        made = Blueprint("cleanup", __name__, description="Idle clusters, and what is done about them.")
        made.add_url_rule("/cleanup/candidates", view_func=self.list_candidates, methods=["GET"])
        made.add_url_rule("/cleanup/candidates/<cluster_id>", view_func=self.get_candidate, methods=["GET"])
        made.add_url_rule("/cleanup/candidates/<cluster_id>/cancel", view_func=self.cancel_cleanup, methods=["POST"])
        made.add_url_rule("/cleanup/idle-clusters", view_func=self.clean_up, methods=["POST"])
        made.add_url_rule("/cleanup/policy", view_func=self.get_cleanup_policy, methods=["GET"])
        made.add_url_rule("/cleanup/policy", view_func=self.put_cleanup_policy, methods=["PUT"])
        made.add_url_rule("/cleanup/floor", view_func=self.put_cleanup_floor, methods=["PUT"])
        made.add_url_rule("/clusters/<cluster_id>/hold", view_func=self.put_hold, methods=["PUT"])
        made.add_url_rule("/clusters/<cluster_id>/hold", view_func=self.delete_hold, methods=["DELETE"])
        return made

    # -- looking ------------------------------------------------------------------------------------------------------

    @operation(
        "Explain every cluster",
        {200: Outcome("Where each cluster stands, and why.", schemas.CleanupCandidate, ("Link",), many=True)},
        query=_PAGE,
    )
    def list_candidates(self) -> Response:
        """Looked at now, in the order of their making: what each source says, from which value and how old; which of them keep a
        cluster from being a candidate; and what one that is idle waits for. Nothing is written.
        """
        actor = self._kit.guard.actor("cleanup:get")
        asked = _PAGE.read()
        marker = str(asked["marker"]) if asked["marker"] else None
        page = self._kit.container.cleanup.candidates(actor, limit=asked["limit"], marker=marker)
        return listing([self._shown(one) for one in page.items], next_page("/cleanup/candidates", asked, page.next_marker))

    @operation(
        "Explain one cluster",
        {200: Outcome("Where it stands, why, and how it came there.", schemas.CleanupCandidateWithHistory)},
        refusals=(404,),
        query=inputs.NOTHING,
    )
    def get_candidate(self, cluster_id: str) -> Response:
        """With its steps, each with the evidence of the look that led to it, and what earlier looks found."""
        actor = self._kit.guard.actor("cleanup:get", cluster=cluster_id)
        inputs.NOTHING.read()
        found, steps, looks = self._kit.container.cleanup.candidate(actor, cluster_id)
        return answer(self._shown(found) | {"steps": steps, "looks": looks})

    @operation(
        "Take a cluster back",
        {200: Outcome("It is at the beginning again.", schemas.CleanupCandidate)},
        refusals=(404, 409),
        query=inputs.NOTHING,
    )
    def cancel_cleanup(self, cluster_id: str) -> Response:
        """It must be idle for the whole time again. A hibernation whose job still waits is withdrawn; a job that has begun is not,
        and neither is a delete.
        """
        actor = self._kit.guard.actor("cleanup:cancel", cluster=cluster_id)
        inputs.NOTHING.read()
        return answer(self._shown(self._kit.container.cleanup.cancel(actor, cluster_id)))

    @operation(
        "Look for idle clusters now",
        {
            200: Outcome("What was found. Nothing was asked for.", schemas.CleanupRan),
            202: Outcome("Jobs were asked for.", schemas.CleanupRan),
        },
        refusals=(409, 502, 504),
        body=schemas.CleanupRun,
        body_required=False,
        query=inputs.NOTHING,
    )
    def clean_up(self) -> Response:
        """A dry run, which is what the policy says by default, writes nothing. Otherwise it is the look that is made every minute
        anyway: each cluster takes one step at the most, so nothing that was not confirmed by an earlier look is touched.
        """
        actor = self._kit.guard.actor("cleanup:run")
        inputs.NOTHING.read()
        fields: dict[str, Any] = {}
        if request.content_length or (request.content_length is None and request.headers.get("Transfer-Encoding")):
            _, fields, findings = read_fields(_RUN)
            if findings:
                raise InvalidRequest(as_sentence(findings), errors=findings)
        ran = self._kit.container.cleanup.run(actor, dry_run=fields.get("dry_run"))
        return answer(self._ran(ran), 202 if ran.swept and ran.swept.done else 200)

    # -- policies -----------------------------------------------------------------------------------------------------

    @operation(
        "Show the cleanup policy",
        {200: Outcome("Policy, floor, and what counts of both.", schemas.CleanupPolicies)},
        query=inputs.NOTHING,
    )
    def get_cleanup_policy(self) -> Response:
        """A project that never wrote one has the default: everything is looked at, nothing is touched (`dry_run`)."""
        actor = self._kit.guard.actor("cleanup:get")
        inputs.NOTHING.read()
        return answer(self._kit.container.cleanup.policy(actor))

    @operation(
        "Write the cleanup policy",
        {200: Outcome("What counts now.", schemas.CleanupPolicies)},
        body=schemas.CleanupPolicyPut,
        query=inputs.NOTHING,
    )
    def put_cleanup_policy(self) -> Response:
        """In place of the one before. Each field below the floor is refused by name. Where something changes, clusters that are on
        their way begin anew: what their owners were told was told of other rules.
        """
        actor = self._kit.guard.actor("cleanup:policy")
        inputs.NOTHING.read()
        _, fields, findings = read_fields(_POLICY)
        return answer(self._kit.container.cleanup.put_policy(actor, fields, findings=findings))

    @operation(
        "Write the floor",
        {200: Outcome("What counts now.", schemas.CleanupPolicies)},
        body=schemas.CleanupFloor,
        query=inputs.NOTHING,
    )
    def put_cleanup_floor(self) -> Response:
        """What the project's policy can't go below; an empty object bounds nothing. A policy that is looser counts as strict as this."""
        actor = self._kit.guard.actor("cleanup:floor")
        inputs.NOTHING.read()
        _, fields, findings = read_fields(_FLOOR)
        return answer(self._kit.container.cleanup.put_floor(actor, fields, findings=findings))

    # -- holds --------------------------------------------------------------------------------------------------------

    @operation(
        "Keep a cluster for a time",
        {200: Outcome("It is kept.", schemas.ClusterHold)},
        refusals=(404, 409),
        body=schemas.HoldPut,
        query=inputs.NOTHING,
    )
    def put_hold(self, cluster_id: str) -> Response:
        """Whatever its use. A hold that it had is replaced. For good: its label `persistent=true`."""
        actor = self._kit.guard.actor("cleanup:hold", cluster=cluster_id)
        inputs.NOTHING.read()
        _, fields, findings = read_fields(_HOLD)
        cluster, hold = self._kit.container.cleanup.hold(actor, cluster_id, fields, findings=findings)
        return answer(_hold(cluster, hold))

    @operation("Let a cluster go", {204: Outcome("Nobody keeps it.")}, refusals=(404,), query=inputs.NOTHING)
    def delete_hold(self, cluster_id: str) -> Response:
        """Its idle time begins now."""
        actor = self._kit.guard.actor("cleanup:hold", cluster=cluster_id)
        inputs.NOTHING.read()
        self._kit.container.cleanup.release(actor, cluster_id)
        return Response(status=204)

    # -- rendering ----------------------------------------------------------------------------------------------------

    def _shown(self, one: Explained) -> dict[str, Any]:
        progress, verdict = one.progress, one.verdict
        code, detail, at = one.waits_for
        return {
            "cluster_id": str(one.cluster.id),
            "cluster_name": one.cluster.name,
            "stage": progress.stage.value,
            "since": rfc3339(progress.since),
            "idle_since": rfc3339(progress.idle_since),
            "idle": verdict.idle,
            "reasons": verdict.why_not,
            "sources": [reading.as_dict() for reading in verdict.readings],
            "waits_for": {"code": code, "detail": detail, "at": rfc3339(at)},
            "action": one.action,
            "job_id": str(progress.job_id) if progress.job_id else None,
            "hold": _hold(one.cluster, one.hold) if one.hold else None,
            "timestamp": rfc3339(verdict.at),
        }

    def _ran(self, ran: Ran) -> dict[str, Any]:
        done = ran.swept.done if ran.swept else ()
        moves = ran.swept.moves if ran.swept else ()
        refused = ran.swept.refused if ran.swept else {}
        on_the_way = [one for one in ran.clusters if one.verdict.idle or one.progress.stage.value != "active"]
        return {
            "message": _message(ran, len(on_the_way)),
            "cleaned_clusters": [str(move.cluster.id) for move in done],
            "timestamp": rfc3339(self._kit.container.clock.now()),
            "dry_run": ran.dry_run,
            "looked_at": len(ran.clusters),
            "steps": [_made(move) for move in (*moves, *done)],
            "refused": [{"cluster_id": str(cluster_id), "detail": words} for cluster_id, words in refused.items()],
            "clusters": [self._shown(one) for one in on_the_way[:_MOST_SHOWN]],
        }


def _message(ran: Ran, on_the_way: int) -> str:
    if not ran.rules.policy.enabled:
        return "Cleanup is switched off in this project; nothing was done."
    found = f"{on_the_way} of {len(ran.clusters)} clusters are idle or on their way"
    if ran.swept is None:
        return f"Dry run: {found}; nothing was done."
    return f"{found}; {len(ran.swept.done)} were sent to be hibernated or deleted."


def _made(move: Move) -> dict[str, Any]:
    return {
        "cluster_id": str(move.cluster.id),
        "cluster_name": move.cluster.name,
        "from_stage": move.before.stage.value,
        "to_stage": move.after.stage.value,
        "reason": move.step.reason,
        "detail": move.step.detail,
        "action": move.after.action,
        "job_id": str(move.after.job_id) if move.after.job_id else None,
    }


def _hold(cluster: Cluster, hold: Hold) -> dict[str, Any]:
    return {
        "cluster_id": str(cluster.id),
        "until": rfc3339(hold.until_at),
        "why": hold.why,
        "held_by": hold.held_by,
        "created_at": rfc3339(hold.created_at),
    }
