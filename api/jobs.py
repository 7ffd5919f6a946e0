"""/jobs."""

import time
from collections.abc import Iterator
from typing import Final
from uuid import UUID

from flask import Response, request

from api import inputs
from api.clusters import next_page
from api.inputs import Param, Query
from api.kit import Kit
from api.render import answer, encode, event_json, job_json, listing, rfc3339
from api.schemas import jobs as schemas
from api.spec import Blueprint, Outcome, operation
from shared.domain.jobs import JobKind, JobState
from shared.domain.ports import Actor, JobFilter
from shared.errors import FieldError, InvalidRequest, KcloudError, Unavailable

_STATES: Final = [state.value for state in JobState]
_KINDS: Final = [kind.value for kind in JobKind]
#: A stream ends after this long even where the job goes on; clients come back by themselves, with Last-Event-ID.
STREAM_S: Final = 300.0
_POLL_S: Final = 0.5
#: Proxies close what is silent for a minute.
_KEEP_ALIVE_S: Final = 15.0
_SEQ_MAX: Final = 2**63 - 1

LIST: Final = Query(
    (
        Param("state", inputs.one_of({s: s for s in _STATES}), {"type": "string", "enum": _STATES}, "Only jobs in this state."),
        Param("kind", inputs.one_of({k: k for k in _KINDS}), {"type": "string", "enum": _KINDS}, "Only jobs of this kind."),
        Param("cluster_id", inputs.uuid, {"type": "string", "format": "uuid"}, "Only jobs of this cluster."),
        Param("stack_id", inputs.uuid, {"type": "string", "format": "uuid"}, "Only jobs of this stack."),
        inputs.LIMIT,
        inputs.MARKER,
    )
)
EVENTS: Final = Query(
    (
        Param(
            "after",
            inputs.whole(0, 10**18 - 1),
            {"type": "integer", "minimum": 0, "maximum": 10**18 - 1},
            "Only what came after the event of this `seq`.",
            0,
        ),
    )
)


class JobViews:
    """The operations on jobs."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit

    def blueprint(self) -> Blueprint:
        """Their paths."""
        made = Blueprint("jobs", __name__, description="What was promised, and how far it is.")
        made.add_url_rule("/jobs", view_func=self.list_jobs, methods=["GET"])
        made.add_url_rule("/jobs/<job_id>", view_func=self.get_job, methods=["GET"])
        made.add_url_rule("/jobs/<job_id>", view_func=self.cancel_job, methods=["DELETE"])
        made.add_url_rule("/jobs/<job_id>/events", view_func=self.list_job_events, methods=["GET"])
        return made

    @operation("List jobs", {200: Outcome("The project's jobs, newest first.", schemas.Job, ("Link",), many=True)}, query=LIST)
    def list_jobs(self) -> Response:
        """A bare array. Where there are more, the header Link has the next page's address."""
        actor = self._kit.guard.actor("jobs:list")
        asked = LIST.read()
        where = JobFilter(asked["state"], asked["kind"], asked["cluster_id"], asked["stack_id"])
        page = self._kit.container.jobs.list(actor, where, limit=asked["limit"], marker=asked["marker"])
        return listing([job_json(job) for job in page.items], next_page("/jobs", asked, page.next_marker))

    @operation("Show a job", {200: Outcome("The job.", schemas.Job, ("Retry-After",))}, refusals=(404,), query=inputs.NOTHING)
    def get_job(self, job_id: str) -> Response:
        """`state` is queued, running, converging, succeeded, failed or cancelled; the last three are final."""
        actor = self._kit.guard.actor("jobs:get", job=job_id)
        inputs.NOTHING.read()
        jobs = self._kit.container.jobs
        job = jobs.get(actor, inputs.job_id(job_id))
        return answer(job_json(job), headers=None if job.is_terminal else {"Retry-After": str(jobs.retry_after(job))})

    @operation(
        "Cancel a job",
        {
            200: Outcome("The job is cancelled.", schemas.JobCancelled, ("Operation-Location",)),
            202: Outcome(
                "It will be cancelled at its next safe point.", schemas.JobCancelled, ("Operation-Location", "Retry-After")
            ),
        },
        refusals=(404, 409),
        query=inputs.NOTHING,
    )
    def cancel_job(self, job_id: str) -> Response:
        """A job that waits is cancelled at once. A create that Magnum works on is undone by a delete. What Magnum can't call
        back is refused with 409.
        """
        actor = self._kit.guard.actor("jobs:cancel", job=job_id)
        inputs.NOTHING.read()
        container = self._kit.container
        job = container.jobs.cancel(actor, inputs.job_id(job_id))
        done = job.state is JobState.CANCELLED
        body = {
            "message": "The job is cancelled." if done else "The job will be cancelled at its next safe point.",
            "job": job_json(job),
            "job_id": str(job.id),
            "timestamp": rfc3339(container.clock.now()),
        }
        headers = {"Operation-Location": f"/jobs/{job.id}"}
        if not job.is_terminal:
            headers["Retry-After"] = str(container.jobs.retry_after(job))
        return answer(body, 200 if done else 202, headers)

    @operation(
        "Show a job's history",
        {200: Outcome("Its steps, oldest first.", schemas.JobEvent, many=True)},
        refusals=(404,),
        query=EVENTS,
        more={200: {"text/event-stream": {"schema": {"type": "string"}}}},
    )
    def list_job_events(self, job_id: str) -> Response:
        """With `Accept: text/event-stream` the history is sent as it grows: an event `step` for each step, and `end` with the
        job once it has ended. A stream lasts five minutes at most; reconnecting with Last-Event-ID goes on where it stopped.
        """
        actor = self._kit.guard.actor("jobs:get", job=job_id)
        after = EVENTS.read()["after"]
        job = inputs.job_id(job_id)
        if request.accept_mimetypes.best_match(["application/json", "text/event-stream"]) == "text/event-stream":
            return self._stream(actor, job, max(after, _last_event_id()))
        events = self._kit.container.jobs.events(actor, job, after)
        return answer([event_json(event) for event in events])

    def _stream(self, actor: Actor, job_id: UUID, after: int) -> Response:
        self._kit.container.jobs.get(actor, job_id)  # a 404 must come before the stream begins
        if request.method == "HEAD":  # its answer has no body, so nothing would ever close a stream
            return Response(content_type="text/event-stream")
        if not self._kit.streams.take():
            raise Unavailable(
                "Too many event streams are open.",
                reason="TOO_MANY_STREAMS",
                hint="Ask without Accept: text/event-stream, or come back later.",
                retry_after_s=10,
            )
        stream = self._events(actor, job_id, after)
        response = Response(stream, content_type="text/event-stream", headers={"X-Accel-Buffering": "no"})
        # Called when the server is done with the answer, also where the client left before the first event.
        response.call_on_close(self._kit.streams.give_back)
        return response

    def _events(self, actor: Actor, job_id: UUID, after: int) -> Iterator[str]:
        jobs = self._kit.container.jobs
        until = time.monotonic() + STREAM_S
        silent_since = time.monotonic()
        yield "retry: 2000\n\n"
        while True:
            try:
                job = jobs.get(actor, job_id)  # before its events: what comes between is found by the next look
                events = jobs.events(actor, job_id, after)
            except KcloudError:
                return  # the client reconnects, and is told by a status then
            for event in events:
                after = event.seq
                yield f"id: {event.seq}\nevent: step\ndata: {encode(event_json(event))}\n\n"
            now = time.monotonic()
            if job.is_terminal:
                yield f"event: end\ndata: {encode(job_json(job))}\n\n"
                return
            if now >= until:
                return
            if events:
                silent_since = now
            elif now - silent_since > _KEEP_ALIVE_S:
                silent_since = now
                yield ": still there\n\n"
            time.sleep(_POLL_S)


def _last_event_id() -> int:
    text = request.headers.get("Last-Event-ID")
    if text is None:
        return 0
    if not text.isascii() or not text.isdigit() or int(text[:20]) > _SEQ_MAX:
        words = "Must be the id of an event of this stream."
        raise InvalidRequest(words, errors=[FieldError("Last-Event-ID", "invalid", words)], location="header")
    return int(text[:20])
