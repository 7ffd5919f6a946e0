"""Whether a cluster is idle: named sources that must all say so, and what is done about it, one step at a time.

A source says idle, active or unknown. What was measured too long ago, or was not measured, is unknown, and unknown counts as in
use. The vocabulary and the default numbers are those of K-Cloud's rule ``idle-cluster-cleanup``: utilisation below 10 %, idle for
two hours, no workload, an hour of grace, the exception ``persistent=true``, between 8 and 18 o'clock.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from shared.domain.cleanup_policy import CleanupPolicy, Source
from shared.domain.clusters import Cluster, MagnumStatus, Phase


class Status(StrEnum):
    """What a source says."""

    IDLE = "idle"
    ACTIVE = "active"
    UNKNOWN = "unknown"  #: not measured, too old, or its source failed; counts as active


class Stage(StrEnum):
    """How far the cleanup of a cluster has come."""

    ACTIVE = "active"  #: in use, or not known to be idle
    CANDIDATE = "candidate"  #: every source says idle; the idle time runs
    NOTIFIED = "notified"  #: idle for as long as the policy asks; the project's webhooks are told
    MARKED = "marked"  #: the webhooks have been told, or could not be; the grace runs
    CONFIRMED = "confirmed"  #: still idle when the grace ended; waits for the window and for its turn
    DELETING = "deleting"  #: looked at once more, and a job hibernates or deletes the cluster


#: From each stage, the stages that a cluster may go to, and what moves it.
STAGES: Final[dict[Stage, dict[Stage, str]]] = {
    Stage.ACTIVE: {Stage.CANDIDATE: "every source says idle"},
    Stage.CANDIDATE: {Stage.NOTIFIED: "idle without a break for min_idle_hours", Stage.ACTIVE: "use, or cancelled"},
    Stage.NOTIFIED: {Stage.MARKED: "no notice is still on its way", Stage.ACTIVE: "use, or cancelled"},
    Stage.MARKED: {Stage.CONFIRMED: "still idle after grace_hours", Stage.ACTIVE: "use, or cancelled"},
    Stage.CONFIRMED: {Stage.DELETING: "inside the windows, and idle when looked at once more", Stage.ACTIVE: "use, or cancelled"},
    Stage.DELETING: {Stage.ACTIVE: "it is hibernated now; or the job failed or was cancelled"},
}

#: A look this much later than the one before has missed what happened meanwhile: the idle time begins anew.
LONGEST_GAP: Final = timedelta(minutes=30)
#: What Magnum last said of a cluster is good for this long.
OBSERVATION_AGE: Final = timedelta(hours=1)
#: A clock may be this far ahead of the one that dated a sample.
_SKEW: Final = timedelta(minutes=1)
#: The label that keeps a cluster.
PERSISTENT_LABEL: Final = "persistent"
_YES, _NO = frozenset({"true", "yes", "1", "on"}), frozenset({"false", "no", "0", "off", ""})


@dataclass(frozen=True, slots=True)
class Sample:
    """The highest value that was measured of late, and when the latest measurement was made."""

    value: float
    at: datetime


@dataclass(frozen=True, slots=True)
class Usage:
    """What is known of a cluster's use: percent of accelerators and CPU (0-100), and pods that are not the system's."""

    accelerator_percent: Sample | None = None
    cpu_percent: Sample | None = None
    running_pods: Sample | None = None


@dataclass(frozen=True, slots=True)
class Placed:
    """Capacity that is held on a cluster: how many placements are open, and when the latest one began or ended."""

    open: int = 0
    last_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Hold:
    """Somebody wants a cluster kept until a moment."""

    until_at: datetime
    why: str
    held_by: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Work:
    """Jobs of a cluster: how many are unfinished, which kind comes first, and when the last one ended or its nodes last changed."""

    unfinished: int = 0
    kind: str | None = None
    last_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """All that is known of one cluster at a moment. None: that source failed, with the words in ``failures``."""

    cluster: Cluster
    usage: Usage | None = None
    placed: Placed | None = None
    work: Work | None = None
    hold: Hold | None = None
    hold_known: bool = False
    connected_by: tuple[str, ...] = ()  #: stacks that connect it with other clusters
    no_accelerator: bool = False  #: the flavors of all its workers are known to have none
    failures: Mapping[Source, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reading:
    """What one source says, from which value, and how old that is in seconds."""

    source: Source
    status: Status
    detail: str
    value: float | str | None = None
    age_s: float | None = None
    required: bool = True
    used_at: datetime | None = None  #: when it last saw use, where it knows

    @property
    def vetoes(self) -> bool:
        """Whether the cluster counts as in use by this reading. One that is not required vetoes only with what it knows."""
        return self.status is Status.ACTIVE or (self.required and self.status is not Status.IDLE)

    def as_dict(self) -> dict[str, Any]:
        """As stored and shown."""
        return {
            "source": self.source.value,
            "status": self.status.value,
            "required": self.required,
            "value": self.value,
            "age_seconds": None if self.age_s is None else round(self.age_s, 1),
            "detail": self.detail,
        }


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why a cluster is out of cleanup's reach, whatever its use."""

    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What all sources together say of a cluster at a moment."""

    cluster_id: UUID
    at: datetime
    readings: tuple[Reading, ...]
    obstacles: tuple[Obstacle, ...] = ()

    @property
    def idle(self) -> bool:
        """Whether nothing speaks against cleaning up: every source has its word, and no required one is missing."""
        complete = {reading.source for reading in self.readings} == set(Source)
        return complete and not self.obstacles and not any(reading.vetoes for reading in self.readings)

    @property
    def used_at(self) -> datetime | None:
        """When any source last saw use."""
        return max((reading.used_at for reading in self.readings if reading.used_at), default=None)

    @property
    def why_not(self) -> list[dict[str, str]]:
        """Each reason why the cluster is no candidate; empty where it is one."""
        reasons = [{"code": one.code, "detail": one.detail} for one in self.obstacles]
        for reading in self.readings:
            if reading.vetoes:
                word = "UNKNOWN" if reading.status is Status.UNKNOWN else "ACTIVE"
                reasons.append({"code": f"{reading.source.value.upper()}_{word}", "detail": reading.detail})
        return reasons

    @property
    def key(self) -> str:
        """The same for two verdicts that say the same, whatever their values."""
        said = [f"{reading.source}={reading.status}{'' if reading.required else '?'}" for reading in self.readings]
        return " ".join([*said, *(one.code for one in self.obstacles)])

    def as_dict(self) -> dict[str, Any]:
        """The evidence that is stored with a step."""
        return {
            "at": self.at.isoformat(),
            "idle": self.idle,
            "sources": [reading.as_dict() for reading in self.readings],
            "reasons": self.why_not,
        }


# -- judging -----------------------------------------------------------------------------------------------------------------


def judge(facts: Facts, policy: CleanupPolicy, now: datetime) -> Verdict:
    """What all sources say of a cluster. Looks at nothing but its arguments."""
    usage = facts.usage or Usage()
    readings = (
        _accelerators(facts, usage, policy, now),
        _measured(facts, Source.CPU_USE, usage.cpu_percent, policy.max_cpu_percent, "% CPU", policy, now),
        _measured(facts, Source.RUNNING_PODS, usage.running_pods, policy.max_running_pods, "pods", policy, now),
        _placements(facts, now),
        _last_operation(facts, now),
        _hold(facts, now),
        _persistent(facts.cluster),
    )
    required = policy.required
    return Verdict(
        facts.cluster.id,
        now,
        tuple(_requiring(reading, reading.source in required) for reading in readings),
        tuple(_obstacles(facts)),
    )


def _requiring(reading: Reading, required: bool) -> Reading:
    if required:
        return reading
    return Reading(
        reading.source, reading.status, reading.detail, reading.value, reading.age_s, required=False, used_at=reading.used_at
    )


def _unknown(facts: Facts, source: Source, words: str) -> Reading:
    return Reading(source, Status.UNKNOWN, facts.failures.get(source, words))


def is_asleep(cluster: Cluster) -> bool:
    """Whether a cluster is hibernated and Magnum shows no worker: then nothing can run in it, and nothing measures it."""
    return cluster.phase is Phase.HIBERNATED and cluster.observed_node_count == 0


def _seen(cluster: Cluster, now: datetime) -> timedelta | None:
    """How long ago Magnum showed the cluster; None where that is too long."""
    if cluster.observed_at is None:
        return None
    age = now - cluster.observed_at
    return age if -_SKEW <= age <= OBSERVATION_AGE else None


def _accelerators(facts: Facts, usage: Usage, policy: CleanupPolicy, now: datetime) -> Reading:
    if facts.no_accelerator and usage.accelerator_percent is None:
        return Reading(Source.ACCELERATOR_USE, Status.IDLE, "The flavors of its workers have no accelerator.", "none", 0.0)
    return _measured(
        facts,
        Source.ACCELERATOR_USE,
        usage.accelerator_percent,
        policy.max_accelerator_percent,
        "% of its accelerators",
        policy,
        now,
    )


def _measured(
    facts: Facts, source: Source, sample: Sample | None, most: float, unit: str, policy: CleanupPolicy, now: datetime
) -> Reading:
    """A percentage is idle below the policy's limit, a number of pods up to it."""
    seen = _seen(facts.cluster, now)
    if is_asleep(facts.cluster) and seen is not None and sample is None:
        return Reading(source, Status.IDLE, "It is hibernated and has no workers.", 0.0, seen.total_seconds())
    if source in facts.failures or sample is None:
        words = (
            f"Nothing measured it in the last {policy.max_age_minutes:g} minutes (docs/cleanup.md: where measurements come from)."
        )
        return _unknown(facts, source, words)
    age = (now - sample.at).total_seconds()
    limit = policy.max_age_minutes * 60.0
    if not sample.value >= 0.0:  # also what is no number
        return Reading(source, Status.UNKNOWN, f"The measured value {sample.value:g} makes no sense.", None, age)
    shown = f"{sample.value:g} {unit}"
    if age > limit or age < -_SKEW.total_seconds():
        words = f"The latest measurement ({shown}) is {age:.0f} s old; at most {limit:.0f} s count."
        return Reading(source, Status.UNKNOWN, words, sample.value, age)
    if source is Source.RUNNING_PODS:
        idle, bound = sample.value <= most, f"at most {most:g} count as idle"
    else:
        idle, bound = sample.value < most, f"less than {most:g} % counts as idle"
    words = f"At most {shown} in the last {policy.max_age_minutes:g} minutes; {bound}."
    return Reading(source, Status.IDLE if idle else Status.ACTIVE, words, sample.value, age, used_at=None if idle else sample.at)


def _placements(facts: Facts, now: datetime) -> Reading:
    placed = facts.placed
    if placed is None or Source.PLACEMENTS in facts.failures:
        return _unknown(facts, Source.PLACEMENTS, "The placements could not be read.")
    if placed.open:
        words = f"{placed.open} placement{'s hold' if placed.open > 1 else ' holds'} capacity on it."
        return Reading(Source.PLACEMENTS, Status.ACTIVE, words, placed.open, 0.0, used_at=now)
    words = f"No placement is open{f'; the last one ended {placed.last_at:%Y-%m-%dT%H:%M:%SZ}' if placed.last_at else ''}."
    return Reading(Source.PLACEMENTS, Status.IDLE, words, 0, 0.0, used_at=placed.last_at)


def _last_operation(facts: Facts, now: datetime) -> Reading:
    cluster, work = facts.cluster, facts.work
    source = Source.LAST_OPERATION
    if work is None or source in facts.failures:
        return _unknown(facts, source, "The jobs could not be read.")
    if work.unfinished:
        return Reading(source, Status.ACTIVE, f"A {work.kind} is under way.", work.kind, 0.0, used_at=now)
    if MagnumStatus.parse(cluster.status).in_progress:
        return Reading(source, Status.ACTIVE, f"Magnum is at work on it: {cluster.status}.", cluster.status, 0.0, used_at=now)
    seen = _seen(cluster, now)
    if seen is None:
        when = f"{cluster.observed_at:%Y-%m-%dT%H:%M:%SZ}" if cluster.observed_at else "never"
        words = f"Magnum last showed it {when}; what is older than {OBSERVATION_AGE.total_seconds() / 3600:g} h does not count."
        age = (now - cluster.observed_at).total_seconds() if cluster.observed_at else None
        return Reading(source, Status.UNKNOWN, words, None, age)
    # Not Magnum's updated_at: every poll of a cluster's health moves it.
    known = (work.last_at, cluster.created_at, cluster.magnum_created_at)
    last = max(at for at in known if at is not None)
    words = f"The last operation ended {last:%Y-%m-%dT%H:%M:%SZ}."
    return Reading(source, Status.IDLE, words, last.isoformat(), max(seen.total_seconds(), 0.0), used_at=min(last, now))


def _hold(facts: Facts, now: datetime) -> Reading:
    source = Source.HOLD
    if not facts.hold_known or source in facts.failures:
        return _unknown(facts, source, "The holds could not be read.")
    hold = facts.hold
    if hold is not None and hold.until_at > now:
        words = f"Held until {hold.until_at:%Y-%m-%dT%H:%M:%SZ}: {hold.why}"
        return Reading(source, Status.ACTIVE, words, hold.until_at.isoformat(), 0.0, used_at=now)
    return Reading(source, Status.IDLE, "Nobody holds it.", None, 0.0, used_at=hold.until_at if hold else None)


def _persistent(cluster: Cluster) -> Reading:
    source = Source.PERSISTENT
    value = cluster.labels.get(PERSISTENT_LABEL)
    if value is None:
        return Reading(source, Status.IDLE, "It has no label persistent.", None, 0.0)
    word = value.strip().lower()
    if word in _YES:
        return Reading(source, Status.ACTIVE, f"Its label persistent={value} keeps it.", value, 0.0)
    if word in _NO:
        return Reading(source, Status.IDLE, f"Its label persistent={value} does not keep it.", value, 0.0)
    return Reading(source, Status.UNKNOWN, f"Its label persistent={value!r:.60} is neither true nor false.", value[:255], 0.0)


def _obstacles(facts: Facts) -> Iterable[Obstacle]:
    cluster = facts.cluster
    if not cluster.managed:
        yield Obstacle("NOT_MANAGED", "It was made elsewhere; this service changes only what it made or took over.")
    if cluster.gone or not cluster.live:
        yield Obstacle("GONE", "Magnum does not have it.")
    elif cluster.phase not in {Phase.READY, Phase.HIBERNATED}:
        yield Obstacle("PHASE", f"It is {cluster.phase.value}; only clusters that are Ready or Hibernated are cleaned up.")
    if facts.connected_by:
        yield Obstacle("CLUSTER_CONNECTED", f"It is connected with others by {', '.join(facts.connected_by)}.")


# -- one step at a time --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a cluster's cleanup has come, as its row says."""

    stage: Stage = Stage.ACTIVE
    since: datetime | None = None  #: when it came to this stage
    idle_since: datetime | None = None  #: from when every look has found it idle
    looked_at: datetime | None = None  #: the last look
    notice_id: UUID | None = None  #: the event that its webhooks were sent
    notice_pending: bool = False  #: a delivery of it is still tried
    action: str | None = None  #: what the job does
    job_id: UUID | None = None
    job_state: str | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """A move to another stage, and why."""

    stage: Stage
    reason: str
    detail: str


def next_step(progress: Progress, verdict: Verdict, policy: CleanupPolicy, *, asleep: bool) -> Step | None:
    """The one step that a look leads to; None where the cluster stays. ``asleep``: it is hibernated, see :func:`is_asleep`.

    A look leads to one step at the most, so no cluster goes on fewer than five looks. The last step, to ``deleting``, is made by
    whoever asks for the job, after one more look in the transaction that holds the cluster's row.
    """
    stage = progress.stage
    if stage is Stage.DELETING:
        return _after_job(progress)
    if stage is not Stage.ACTIVE and (back := _back(progress, verdict)) is not None:
        return back
    if stage is Stage.ACTIVE:
        return Step(Stage.CANDIDATE, "IDLE", "Every source says idle.") if verdict.idle else None
    wait = ready_at(progress, policy, asleep=asleep)
    if wait is None or verdict.at < wait:
        return None
    if stage is Stage.CANDIDATE:
        hours = policy.asleep_hours if asleep else policy.min_idle_hours
        return Step(Stage.NOTIFIED, "IDLE_LONG_ENOUGH", f"Idle for {hours:g} h without a break.")
    if stage is Stage.NOTIFIED:
        return None if progress.notice_pending else Step(Stage.MARKED, "NOTICE_OUT", "No notice is still on its way.")
    if stage is Stage.MARKED:
        return Step(Stage.CONFIRMED, "GRACE_OVER", f"Still idle after {policy.grace_hours:g} h of grace.")
    return None


def ready_at(progress: Progress, policy: CleanupPolicy, *, asleep: bool) -> datetime | None:
    """When the next step is possible at the earliest, should the cluster stay idle; None where time does not decide."""
    if progress.stage is Stage.CANDIDATE and progress.idle_since is not None:
        return progress.idle_since + timedelta(hours=policy.asleep_hours if asleep else policy.min_idle_hours)
    if progress.stage is Stage.MARKED and progress.since is not None:
        return progress.since + timedelta(hours=policy.grace_hours)
    return progress.since if progress.stage in {Stage.NOTIFIED, Stage.CONFIRMED} else None


def _back(progress: Progress, verdict: Verdict) -> Step | None:
    if not verdict.idle:
        reasons = "; ".join(reason["detail"] for reason in verdict.why_not) or "A source is missing."
        return Step(Stage.ACTIVE, "NOT_IDLE", reasons)
    if progress.looked_at is None or verdict.at - progress.looked_at > LONGEST_GAP:
        return Step(Stage.ACTIVE, "UNWATCHED", "Nobody looked for too long; what happened meanwhile is not known.")
    if progress.idle_since is None or (verdict.used_at is not None and verdict.used_at > progress.idle_since):
        return Step(Stage.ACTIVE, "USED", "It was used between two looks.")
    return None


def _after_job(progress: Progress) -> Step | None:
    if progress.job_state in {"queued", "running", "converging"}:
        return None
    if progress.job_state == "succeeded":
        return Step(Stage.ACTIVE, "HIBERNATED", "It is hibernated.") if progress.action == "hibernate" else None
    ended = progress.job_state or "is past its keeping time"
    return Step(Stage.ACTIVE, "JOB_ENDED", f"The job that should {progress.action} it {ended}; everything is looked at anew.")


def waits_for(
    progress: Progress, verdict: Verdict, policy: CleanupPolicy, windows: Sequence[bool], *, asleep: bool
) -> tuple[str, str, datetime | None]:
    """Why a cluster is not further than it is: a code, the words, and the moment from which that may change."""
    at = ready_at(progress, policy, asleep=asleep)
    if progress.stage is Stage.DELETING:
        return "JOB", f"A job {progress.action}s it.", None
    if not verdict.idle:
        return "NOT_IDLE", "Not every source says idle.", None
    if progress.stage is Stage.ACTIVE:
        return "LOOK", "The next look makes it a candidate.", None
    if progress.stage is Stage.CANDIDATE:
        return "IDLE_TIME", "The idle time runs.", at
    if progress.stage is Stage.NOTIFIED:
        return "NOTICE", "The webhooks are being told.", None
    if progress.stage is Stage.MARKED:
        return "GRACE", "The grace runs.", at
    if policy.dry_run:
        return "DRY_RUN", "The policy says dry_run: nothing is done about it.", None
    if not all(windows):
        return "WINDOW", "It is outside the hours in which clusters are cleaned up.", None
    return "TURN", "The next look hibernates or deletes it, if it is idle then.", None
