"""Cleanup of idle clusters, as it is asked for and shown."""

from typing import Any, Final

from marshmallow import fields

from api.schemas.fields import Amount, Count, Flag, Moment, Names, Part, RequestSchema, Strict, Text, refuse
from shared.domain.cleanup_policy import DAYS, MEASURED
from shared.domain.idleness import Stage, Status

_CLOCK: Final = r"^([01][0-9]|2[0-3]):[0-5][0-9]\Z"
_YEAR_H: Final = 8784
_SOURCES: Final = [source.value for source in MEASURED]


class Words(Names):
    """A list of a few known words."""

    def __init__(self, choices: list[str], **kwargs: Any) -> None:
        super().__init__(most=len(choices), longest=30, **kwargs)
        self.inner.metadata = {"enum": choices}
        self._choices = choices

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> list[Any]:
        found = super()._deserialize(value, attr, data, **kwargs)
        if not set(found) <= set(self._choices):
            raise refuse("choice", f"Each must be one of: {', '.join(self._choices)}.")
        return found


class CleanupWindow(RequestSchema):
    """Hours in which clusters may be hibernated or deleted."""

    start = Text(most=5, pattern=_CLOCK, means="Must be a time of day like 08:30.", metadata={"default": "08:00"})
    end = Text(
        most=5,
        pattern=_CLOCK,
        means="Must be a time of day like 18:00.",
        metadata={"description": "Not included. Before `start`: on the next day.", "default": "18:00"},
    )
    time_zone = Text(most=64, metadata={"default": "UTC", "examples": ["Asia/Seoul"]})
    days = Words(list(DAYS), metadata={"description": "Days on which it begins; by default all."})


class CleanupFloor(RequestSchema):
    """What the project's policy can't go below. What it leaves out, it does not bound."""

    dry_run = Flag(metadata={"description": "`true`: nothing is hibernated or deleted, whatever the policy says."})
    max_accelerator_percent = Amount(
        least=0, most=100, unit="%", metadata={"description": "Accelerators used less than this are idle.", "default": 10}
    )
    max_cpu_percent = Amount(least=0, most=100, unit="%", metadata={"description": "The same for CPU.", "default": 10})
    max_running_pods = Count(
        least=0, most=100_000, unit="pods", metadata={"description": "So many pods, the system's left out, are none.", "default": 0}
    )
    max_age_minutes = Amount(
        least=1, most=1440, unit="minutes", metadata={"description": "Older measurements are unknown.", "default": 15}
    )
    min_idle_hours = Amount(
        least=0, most=_YEAR_H, unit="hours", metadata={"description": "Idle for so long before anybody is told.", "default": 2}
    )
    grace_hours = Amount(
        least=0, most=_YEAR_H, unit="hours", metadata={"description": "From the notice to the deed.", "default": 1}
    )
    hibernate_first = Flag(metadata={"description": "Hibernate, and delete only what has long been asleep.", "default": True})
    asleep_hours = Amount(
        least=0, most=_YEAR_H, unit="hours", metadata={"description": "How long that is, beyond the grace.", "default": 168}
    )
    max_per_sweep = Count(
        least=1,
        most=1000,
        unit="clusters",
        metadata={"description": "Clusters that one look may hibernate or delete.", "default": 5},
    )
    sources = Words(
        _SOURCES,
        least=0,
        metadata={
            "description": "Measured sources without whose word a cluster counts as in use. `placements`, `last_operation`, `hold` and"
            " `persistent` are always required. Empty: rely on these alone."
        },
    )
    window = Part(CleanupWindow, metadata={"description": "With a floor's, both must be open."})


class CleanupPolicyPut(CleanupFloor):
    """The project's policy. What it leaves out is as by default."""

    enabled = Flag(metadata={"description": "Whether clusters are looked at by themselves.", "default": True})
    dry_run = Flag(metadata={"description": "Go all the way but for the deed.", "default": True})


class CleanupRun(RequestSchema):
    """How to look."""

    dry_run = Flag(metadata={"description": "Only look. By default as the policy says; `false` is refused where that says `true`."})


class HoldPut(RequestSchema):
    """Until when a cluster is kept, and why."""

    until = Moment(required=True, metadata={"description": "At most 366 days ahead."})
    why = Text(most=500, required=True, metadata={"description": "Shown to everybody who may see the cluster."})


# -- answers -----------------------------------------------------------------------------------------------------------------


class CleanupWindowShown(Strict):
    """A window."""

    start = fields.String(required=True)
    end = fields.String(required=True)
    time_zone = fields.String(required=True)
    days = fields.List(fields.String(), required=True)


class CleanupPolicyFull(Strict):
    """A policy with every knob."""

    enabled = fields.Boolean(required=True)
    dry_run = fields.Boolean(required=True)
    max_accelerator_percent = fields.Float(required=True)
    max_cpu_percent = fields.Float(required=True)
    max_running_pods = fields.Integer(required=True)
    max_age_minutes = fields.Float(required=True)
    min_idle_hours = fields.Float(required=True)
    grace_hours = fields.Float(required=True)
    hibernate_first = fields.Boolean(required=True)
    asleep_hours = fields.Float(required=True)
    max_per_sweep = fields.Integer(required=True)
    sources = fields.List(fields.String(), required=True)
    window = fields.Nested(CleanupWindowShown, required=True)


class CleanupPolicies(Strict):
    """The policy and the floor as they were written, and what counts of both."""

    policy = fields.Dict(keys=fields.String(), required=True)
    floor = fields.Dict(keys=fields.String(), required=True)
    effective = fields.Nested(CleanupPolicyFull, required=True)
    windows = fields.List(fields.Nested(CleanupWindowShown), required=True, metadata={"description": "All must be open."})
    required_sources = fields.List(fields.String(), required=True)
    updated_by = fields.String(required=True, allow_none=True)
    updated_at = fields.DateTime(required=True, allow_none=True)


class IdleSource(Strict):
    """What one source says."""

    source = fields.String(required=True)
    status = fields.String(required=True, metadata={"enum": [status.value for status in Status]})
    required = fields.Boolean(required=True)
    value = fields.Raw(
        required=True,
        allow_none=True,
        metadata={"description": "What it read: a number, a word, or null.", "type": ["number", "string", "null"]},
    )
    age_seconds = fields.Float(required=True, allow_none=True)
    detail = fields.String(required=True)


class CleanupReason(Strict):
    """Why a cluster is not idle."""

    code = fields.String(required=True)
    detail = fields.String(required=True)


class CleanupWait(Strict):
    """What a cluster waits for, and from when that may have come."""

    code = fields.String(required=True)
    detail = fields.String(required=True)
    at = fields.DateTime(required=True, allow_none=True)


class ClusterHold(Strict):
    """Who keeps a cluster."""

    cluster_id = fields.String(required=True)
    until = fields.DateTime(required=True)
    why = fields.String(required=True)
    held_by = fields.String(required=True)
    created_at = fields.DateTime(required=True)


class CleanupCandidate(Strict):
    """Where a cluster stands, and why."""

    cluster_id = fields.String(required=True)
    cluster_name = fields.String(required=True)
    stage = fields.String(required=True, metadata={"enum": [stage.value for stage in Stage]})
    since = fields.DateTime(required=True, allow_none=True)
    idle_since = fields.DateTime(required=True, allow_none=True)
    idle = fields.Boolean(required=True)
    reasons = fields.List(fields.Nested(CleanupReason), required=True, metadata={"description": "Why it is not idle."})
    sources = fields.List(fields.Nested(IdleSource), required=True)
    waits_for = fields.Nested(CleanupWait, required=True)
    action = fields.String(required=True, metadata={"enum": ["hibernate", "delete"]})
    job_id = fields.String(required=True, allow_none=True)
    hold = fields.Nested(ClusterHold, required=True, allow_none=True)
    timestamp = fields.DateTime(required=True)


class CleanupEvidence(Strict):
    """What a look found."""

    at = fields.DateTime(required=True)
    idle = fields.Boolean(required=True)
    sources = fields.List(fields.Nested(IdleSource), required=True)
    reasons = fields.List(fields.Nested(CleanupReason), required=True)


class CleanupStep(Strict):
    """A step, and what led to it."""

    at = fields.DateTime(required=True)
    from_stage = fields.String(required=True)
    to_stage = fields.String(required=True)
    reason = fields.String(required=True)
    detail = fields.String(required=True)
    made_by = fields.String(required=True)
    evidence = fields.Nested(CleanupEvidence, required=True)


class CleanupLooks(Strict):
    """Looks that found the same, one after the other."""

    first_at = fields.DateTime(required=True)
    at = fields.DateTime(required=True)
    looks = fields.Integer(required=True)
    idle = fields.Boolean(required=True)
    evidence = fields.Nested(CleanupEvidence, required=True)


class CleanupCandidateWithHistory(CleanupCandidate):
    """The same, with how it came there."""

    steps = fields.List(fields.Nested(CleanupStep), required=True, metadata={"description": "Newest first."})
    looks = fields.List(fields.Nested(CleanupLooks), required=True, metadata={"description": "Newest first."})


class CleanupMade(Strict):
    """A step that a sweep made."""

    cluster_id = fields.String(required=True)
    cluster_name = fields.String(required=True)
    from_stage = fields.String(required=True)
    to_stage = fields.String(required=True)
    reason = fields.String(required=True)
    detail = fields.String(required=True)
    action = fields.String(required=True, allow_none=True)
    job_id = fields.String(required=True, allow_none=True)


class CleanupRefused(Strict):
    """A cluster whose job could not be asked for."""

    cluster_id = fields.String(required=True)
    detail = fields.String(required=True)


class CleanupRan(Strict):
    """What a look came to."""

    message = fields.String(required=True)
    cleaned_clusters = fields.List(
        fields.String(),
        required=True,
        metadata={"description": "Ids of clusters for which a job was asked: hibernated or deleted."},
    )
    timestamp = fields.DateTime(required=True)
    dry_run = fields.Boolean(required=True)
    looked_at = fields.Integer(required=True, metadata={"description": "How many clusters."})
    steps = fields.List(fields.Nested(CleanupMade), required=True)
    refused = fields.List(fields.Nested(CleanupRefused), required=True)
    clusters = fields.List(
        fields.Nested(CleanupCandidate),
        required=True,
        metadata={"description": "Those that are idle or on their way, at most 1000."},
    )
