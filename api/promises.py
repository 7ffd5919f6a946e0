"""Answers that carry a job."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from flask import Response

from api import inputs
from api.inputs import Query
from api.kit import Kit
from api.render import answer, cluster_json, job_json, rfc3339
from shared.domain.clusters import Cluster
from shared.domain.jobs import Job, JobState
from shared.domain.ports import Accepted, Actor
from shared.errors import NotFound

PROMISE: Final = ("Location", "Operation-Location", "Retry-After", "Preference-Applied", "Idempotent-Replayed")
DONE: Final = ("Location", "Operation-Location", "Preference-Applied", "Idempotent-Replayed")
CHANGE: Final = Query((inputs.VALIDATE_ONLY,))


def answer_promise(
    kit: Kit, actor: Actor, accepted: Accepted, done: int, body: Callable[[Cluster, Job], dict[str, Any]]
) -> Response:
    """The answer to an accepted request: ``done`` where the caller waited and the job has succeeded, else 202."""
    job, applied = kit.waited(actor, accepted.job)
    cluster = accepted.cluster
    if applied:
        with suppress(NotFound):  # it may be deleted, as asked; then the last that was known of it is shown
            cluster = kit.container.clusters.get(actor, str(cluster.id))
    succeeded = job.state is JobState.SUCCEEDED and bool(applied)
    headers = kit.promise_headers(job, f"/clusters/{cluster.id}", replayed=accepted.replayed)
    headers.update(applied)
    return answer(body(cluster, job), done if succeeded else 202, headers)


def answer_change(kit: Kit, actor: Actor, accepted: Accepted | None, what: str) -> Response:
    """The answer to a change of a cluster; ``what`` begins its message, as in "The upgrade". None: it was only validated."""
    if accepted is None:
        return valid()
    return answer_promise(
        kit,
        actor,
        accepted,
        200,
        lambda cluster, job: {
            "message": f"{what} of cluster {cluster.name!r} {progress(job)}.",
            **change_json(kit, cluster, job),
        },
    )


def change_json(kit: Kit, cluster: Cluster, job: Job) -> dict[str, Any]:
    """What every answer to a change has."""
    return {
        "cluster_id": str(cluster.id),
        "timestamp": rfc3339(kit.container.clock.now()),
        "cluster": cluster_json(cluster, job),
        "job": job_json(job),
        "job_id": str(job.id),
    }


def progress(job: Job) -> str:
    """The end of a sentence about a job."""
    return {
        JobState.SUCCEEDED: "is done",
        JobState.FAILED: "has failed",
        JobState.CANCELLED: "was cancelled",
    }.get(job.state, "is accepted")


def valid() -> Response:
    """The answer to a request that was only to be checked, and is right."""
    return answer({"valid": True, "findings": []})
