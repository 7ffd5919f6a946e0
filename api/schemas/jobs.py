"""Jobs, as they are shown."""

from marshmallow import fields

from api.schemas.fields import Strict
from shared.domain.jobs import JobKind, JobState


class JobLinks(Strict):
    """Where more about a job is."""

    self = fields.String(required=True)
    events = fields.String(required=True)
    cluster = fields.String(required=True, allow_none=True)
    stack = fields.String(required=True, allow_none=True)


class JobFailure(Strict):
    """Why a job failed, in the cloud's own words."""

    reason = fields.String(required=True, metadata={"description": "A stable code, such as QUOTA_EXCEEDED or NO_VALID_HOST."})
    detail = fields.String(required=True)
    hint = fields.String()
    upstream_request_id = fields.String(metadata={"description": "OpenStack's request id, to be found in its logs."})
    upstream_status = fields.Integer(metadata={"description": "OpenStack's HTTP status."})


class Job(Strict):
    """A job: what was promised, and how far it is."""

    id = fields.UUID(required=True)
    kind = fields.Enum(JobKind, by_value=True, required=True)
    state = fields.Enum(JobState, by_value=True, required=True)
    step = fields.String(required=True, metadata={"description": "The latest step of its history."})
    condition = fields.String(
        required=True, allow_none=True, metadata={"description": "While converging: progressing, slow or stalled."}
    )
    cluster_id = fields.UUID(required=True, allow_none=True, metadata={"description": "The cluster that it works on."})
    cluster_name = fields.String(required=True, allow_none=True)
    stack_id = fields.UUID(required=True, allow_none=True, metadata={"description": "The stack that it works on."})
    stack_name = fields.String(required=True, allow_none=True)
    params = fields.Dict(required=True, metadata={"description": "What was asked, such as node_count."})
    attempts = fields.Integer(required=True, metadata={"description": "How often a worker has talked to the cloud for it."})
    after = fields.UUID(
        required=True, allow_none=True, metadata={"description": "A job of another cluster or stack that must succeed first."}
    )
    blocked_by = fields.UUID(
        required=True, allow_none=True, metadata={"description": "The job on the same cluster or stack that comes first."}
    )
    created_at = fields.DateTime(required=True)
    due_at = fields.DateTime(required=True, metadata={"description": "When it is next to be worked on, while queued."})
    started_at = fields.DateTime(required=True, allow_none=True)
    submitted_at = fields.DateTime(required=True, allow_none=True, metadata={"description": "When Magnum took its call."})
    progress_at = fields.DateTime(
        required=True, allow_none=True, metadata={"description": "When its cluster was last seen to change."}
    )
    finished_at = fields.DateTime(required=True, allow_none=True)
    deadline_at = fields.DateTime(required=True, allow_none=True)
    cancel_requested_at = fields.DateTime(required=True, allow_none=True)
    cancel_reason = fields.String(required=True, allow_none=True)
    result = fields.Dict(required=True, allow_none=True)
    error = fields.Nested(JobFailure, required=True, allow_none=True)
    requested_by = fields.String(required=True, allow_none=True, metadata={"description": "The caller's user id."})
    request_id = fields.String(required=True, allow_none=True)
    links = fields.Nested(JobLinks, required=True)


class JobCancelled(Strict):
    """A cancellation that was honoured, or will be at the next safe point."""

    message = fields.String(required=True)
    job = fields.Nested(Job, required=True)
    job_id = fields.UUID(required=True)
    timestamp = fields.DateTime(required=True)


class JobEvent(Strict):
    """One step of a job's history."""

    seq = fields.Integer(required=True, metadata={"description": "Grows with every step; `after` takes it."})
    at = fields.DateTime(required=True)
    step = fields.String(required=True)
    state = fields.Enum(JobState, by_value=True, required=True)
    detail = fields.Dict(required=True)
