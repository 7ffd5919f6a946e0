"""Cleanup of idle clusters: looks at a project's clusters, moves each by one step at the most, and asks for the jobs.

Nothing is deleted here: :class:`~shared.services.clusters.ClusterService` takes the request as it takes anybody's, in the same
transaction that has looked once more.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID, uuid4

from shared.domain.cleanup_policy import CleanupPolicy, Window, policy_from, tightened, windows_of
from shared.domain.clusters import Cluster, Phase, Scope
from shared.domain.idleness import Progress, Stage, Step, Verdict, next_step
from shared.domain.ports import Actor, ClusterFilter
from shared.errors import Conflict, FieldError, InvalidRequest, KcloudError, as_sentence
from shared.observability.logging import get_logger
from shared.observability.metrics import TURNS_FAILED
from shared.services.webhooks import enqueue_all

if TYPE_CHECKING:
    from shared.db.uow import Database, UnitOfWork
    from shared.domain.ports import Clock
    from shared.services.clusters import ClusterService
    from shared.services.idleness import Watch

log = get_logger(__name__)

#: Who asks for the jobs, as jobs and audit show it.
SWEEPER: Final = "policy:cleanup"
MOST_CLUSTERS: Final = 100_000
#: Clusters that are looked at together.
_PAGE: Final = 500
_TOLD: Final = frozenset({Stage.NOTIFIED, Stage.MARKED, Stage.CONFIRMED, Stage.DELETING})


@dataclass(frozen=True, slots=True)
class Rules:
    """What counts for a project: its policy, nowhere looser than its floor, and the windows that must all be open."""

    policy: CleanupPolicy
    windows: tuple[Window, ...]
    own: Mapping[str, Any]  #: the policy as it was written
    floor: Mapping[str, Any]

    def open(self, now: datetime) -> list[bool]:
        """Whether each window is open."""
        return [window.holds(now) for window in self.windows]


@dataclass(frozen=True, slots=True)
class Move:
    """One step of one cluster."""

    cluster: Cluster
    before: Progress
    after: Progress
    step: Step
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Swept:
    """What one sweep found and did."""

    looked_at: int = 0
    idle: int = 0
    moves: tuple[Move, ...] = ()
    done: tuple[Move, ...] = ()  #: hibernations and deletions that were asked for
    refused: Mapping[UUID, str] = field(default_factory=dict)  #: why a job could not be asked for


def read_rules(uow: UnitOfWork, project_id: str) -> Rules:
    """The project's rules as they stand."""
    written = uow.cleanup.policies(project_id)
    own = written["policy"]["content"] if "policy" in written else {}
    floor = written["floor"]["content"] if "floor" in written else {}
    policy = policy_from(own)
    return Rules(tightened(policy, floor), windows_of(policy, floor), own, floor)


def action_of(cluster: Cluster, policy: CleanupPolicy) -> str:
    """What is done about an idle cluster."""
    return "hibernate" if policy.hibernate_first and cluster.phase is not Phase.HIBERNATED else "delete"


class Sweeper:
    """Sweeps. Two at once of one project don't: the second is refused; and what a job was asked for once is not asked for again."""

    def __init__(self, database: Database, clusters: ClusterService, watch: Watch, clock: Clock, *, region: str) -> None:
        self._database = database
        self._clusters = clusters
        self._watch = watch
        self._clock = clock
        self._region = region

    def sweep_all(self, *, every_s: float, budget_s: float) -> int:
        """Sweep each project that is due, the longest unswept first, for up to ``budget_s``; how many were."""
        until = time.monotonic() + budget_s
        with self._database.single() as uow:
            projects = uow.cleanup.projects(self._region)
        swept = 0
        for project_id in projects:
            if time.monotonic() >= until:
                break
            with self._database.begin() as uow:
                due = uow.series.turn(f"cleanup:{project_id}", every_s=every_s * 0.8)
            if not due:
                continue
            try:
                self.sweep(project_id)
            except KcloudError as exc:
                TURNS_FAILED.labels("cleanup").inc()
                log.warning("cleanup.not_swept", project=project_id, reason=exc.reason, detail=exc.detail)
            else:
                swept += 1
        return swept

    def sweep(self, project_id: str, *, by: str = SWEEPER) -> Swept:
        """Look at all clusters of a project, and do what is due. Raises Conflict while another sweep of it is under way."""
        plain = self._watch.plain_flavors(project_id)
        with self._database.begin() as uow:
            if not uow.cleanup.take_turn(project_id):
                msg = "The project's clusters are being looked at at this moment."
                raise Conflict(msg, reason="SWEEP_RUNNING", hint="Ask again in a few seconds.")
            rules = read_rules(uow, project_id)
            if not rules.policy.enabled:
                return Swept()
            swept = Swept()
            due: list[tuple[str, UUID]] = []
            for clusters in self._pages(uow, project_id):
                verdicts = self._watch.look(uow, project_id, clusters, rules.policy, plain)
                known = uow.cleanup.progress(list(verdicts))
                moves, states = _moves(clusters, verdicts, known, rules.policy)
                uow.cleanup.put_verdicts(project_id, [_stored(verdict) for verdict in verdicts.values()])
                write_moves(uow, project_id, moves, rules.policy, by=by, others=states)
                idle = sum(verdict.idle for verdict in verdicts.values())
                swept = Swept(swept.looked_at + len(clusters), swept.idle + idle, (*swept.moves, *moves))
                due = sorted([*due, *self._due(clusters, verdicts, known, rules)])[: rules.policy.max_per_sweep]
        return self._do(project_id, [cluster_id for _, cluster_id in due], swept, plain, by=by)

    def _pages(self, uow: UnitOfWork, project_id: str) -> Iterator[list[Cluster]]:
        """The project's clusters of ours, some at a time: all of 10,000 with what is known of them would take 200 MB."""
        after = None
        while True:
            page = uow.clusters.select(project_id, ClusterFilter(managed=True), limit=_PAGE, after=after)
            yield [cluster for cluster in page if cluster.region == self._region]
            if len(page) < _PAGE:
                return
            after = page[-1].id

    def _due(
        self, clusters: Sequence[Cluster], verdicts: Mapping[UUID, Verdict], known: Mapping[UUID, Progress], rules: Rules
    ) -> list[tuple[str, UUID]]:
        """Confirmed by an earlier look, idle in this one, and inside the windows; each with what puts the longest idle first."""
        if rules.policy.dry_run or not all(rules.open(self._clock.now())):
            return []
        return [
            (str(progress.idle_since), cluster.id)
            for cluster in clusters
            if (progress := known.get(cluster.id)) is not None
            and progress.stage is Stage.CONFIRMED
            and verdicts[cluster.id].idle
            and next_step(progress, verdicts[cluster.id], rules.policy, asleep=_sleeps(cluster)) is None
        ]

    def _do(self, project_id: str, due: Sequence[UUID], swept: Swept, plain: frozenset[str], *, by: str) -> Swept:
        done: list[Move] = []
        refused: dict[UUID, str] = {}
        for cluster_id in due:
            try:
                made = self._act(project_id, cluster_id, plain, by=by)
            except KcloudError as exc:
                refused[cluster_id] = f"{exc.reason}: {exc.detail}"
                log.warning("cleanup.refused", cluster_id=str(cluster_id), reason=exc.reason, detail=exc.detail)
            else:
                done += [made] if made else []
        return replace(swept, done=tuple(done), refused=refused)

    def _act(self, project_id: str, cluster_id: UUID, plain: frozenset[str], *, by: str) -> Move | None:
        """Look once more, and ask for the job, in one transaction; None where the cluster is not due any more."""
        self._clusters.require_credential(Scope(self._region, project_id))
        actor = Actor(SWEEPER, project_id, frozenset({"member"}), request_id=f"cleanup-{uuid4()}")
        with self._database.begin() as uow:
            # A sweep that has read the cluster's row and not yet written it would undo what is written here.
            uow.cleanup.await_turn(project_id)
            uow.cleanup.hold_still(cluster_id)
            cluster = uow.clusters.get(project_id, str(cluster_id), lock=True)
            before = uow.cleanup.progress([cluster_id], lock=True).get(cluster_id)
            rules = read_rules(uow, project_id)
            if cluster is None or before is None or before.stage is not Stage.CONFIRMED:
                return None
            if rules.policy.dry_run or not rules.policy.enabled or not all(rules.open(self._clock.now())):
                return None
            verdict = self._watch.look(uow, project_id, [cluster], rules.policy, plain)[cluster_id]
            back = next_step(before, verdict, rules.policy, asleep=_sleeps(cluster))
            if back is not None or not verdict.idle:
                step = back or Step(Stage.ACTIVE, "NOT_IDLE", "Not every source says idle.")
                write_moves(uow, project_id, [moved(cluster, before, step, verdict)], rules.policy, by=by)
                return None
            action = action_of(cluster, rules.policy)
            why = {"reason": "IDLE", "idle_since": before.idle_since, "evidence": verdict.as_dict()}
            if action == "delete":
                self._clusters.refuse_delete(uow, cluster)
                accepted = self._clusters.delete_within(uow, actor, cluster, reason="PREEMPTED_BY_CLEANUP", params=why)
            else:
                accepted = self._clusters.hibernate_within(uow, actor, cluster, params=why)
            words = f"Idle since {before.idle_since:%Y-%m-%dT%H:%M:%SZ}; a job {action}s it."
            move = moved(cluster, before, Step(Stage.DELETING, "IDLE", words), verdict)
            move = replace(move, after=replace(move.after, action=action, job_id=accepted.job.id))
            write_moves(uow, project_id, [move], rules.policy, by=by)
            uow.audit.record(actor, f"cleanup:{action}", cluster_id, {"job_id": str(accepted.job.id), **why})
        log.info("cleanup.begun", cluster=cluster.name, action=action, job_id=str(accepted.job.id))
        return move


# -- steps -------------------------------------------------------------------------------------------------------------------


def _sleeps(cluster: Cluster) -> bool:
    return cluster.phase is Phase.HIBERNATED


def _stored(verdict: Verdict) -> dict[str, Any]:
    return {
        "cluster_id": verdict.cluster_id,
        "at": verdict.at,
        "key": verdict.key,
        "idle": verdict.idle,
        "evidence": verdict.as_dict(),
    }


def _moves(
    clusters: Sequence[Cluster],
    verdicts: Mapping[UUID, Verdict],
    known: Mapping[UUID, Progress],
    policy: CleanupPolicy,
) -> tuple[list[Move], dict[UUID, Progress]]:
    """The step of each cluster that makes one, and the rows of those that were looked at and stay."""
    moves: list[Move] = []
    stay: dict[UUID, Progress] = {}
    for cluster in clusters:
        verdict = verdicts[cluster.id]
        progress = known.get(cluster.id, Progress(since=verdict.at))
        step = next_step(progress, verdict, policy, asleep=_sleeps(cluster))
        if step is not None:
            moves.append(moved(cluster, progress, step, verdict))
        else:
            stay[cluster.id] = replace(progress, looked_at=verdict.at)
    return moves, stay


def moved(cluster: Cluster, before: Progress, step: Step, verdict: Verdict) -> Move:
    """The cluster after a step that this look leads to."""
    at = verdict.at
    back = step.stage is Stage.ACTIVE
    idle_since = None if back else (before.idle_since or at)
    notice = None if back else before.notice_id
    after = Progress(step.stage, since=at, idle_since=idle_since, looked_at=at, notice_id=notice)
    return Move(cluster, before, after, step, verdict)


def write_moves(
    uow: UnitOfWork,
    project_id: str,
    moves: Sequence[Move],
    policy: CleanupPolicy,
    *,
    by: str,
    others: Mapping[UUID, Progress] | None = None,
) -> None:
    """Write steps with their evidence, and tell the webhooks, in a fixed number of statements. ``others``: rows that only move on."""
    told = [move for move in moves if move.after.stage in _TOLD or move.before.stage in _TOLD]
    if told:
        events = [(f"cleanup.{move.after.stage.value}", _payload(move, policy)) for move in told]
        notices = enqueue_all(uow, project_id, events, at=told[0].verdict.at)
    else:
        notices = []
    by_cluster = {move.cluster.id: notice for move, notice in zip(told, notices, strict=True)}
    rows = dict(others or {})
    for move in moves:
        notice = by_cluster.get(move.cluster.id) if move.after.stage is Stage.NOTIFIED else move.after.notice_id
        rows[move.cluster.id] = replace(move.after, notice_id=notice)
    uow.cleanup.put_progress(project_id, rows)
    uow.cleanup.add_steps(
        project_id,
        [
            {
                "cluster_id": move.cluster.id,
                "at": move.verdict.at,
                "from_stage": move.before.stage.value,
                "to_stage": move.after.stage.value,
                "reason": move.step.reason,
                "detail": move.step.detail,
                "made_by": by,
                "evidence": move.verdict.as_dict(),
            }
            for move in moves
        ],
    )


def _payload(move: Move, policy: CleanupPolicy) -> dict[str, Any]:
    cluster = move.cluster
    idle_since = move.after.idle_since or move.before.idle_since
    return {
        "cluster_id": str(cluster.id),
        "cluster_name": cluster.name,
        "from": move.before.stage.value,
        "to": move.after.stage.value,
        "reason": move.step.reason,
        "detail": move.step.detail,
        "action": move.after.action or action_of(cluster, policy),
        "job_id": str(move.after.job_id) if move.after.job_id else None,
        "idle_since": idle_since.isoformat() if idle_since else None,
        "grace_hours": policy.grace_hours,
        "dry_run": policy.dry_run,
        "cancel": f"/cleanup/candidates/{cluster.id}/cancel",
    }


def chosen_dry_run(rules: Rules, asked: bool | None) -> bool:
    """Whether a sweep that is asked for only looks. Raises InvalidRequest where the rules say so and the caller otherwise."""
    if asked is False and rules.policy.dry_run:
        whose = "the project's floor" if rules.floor.get("dry_run") else "the project's policy"
        words = f"Must not be false: {whose} says dry_run. It is changed with PUT /cleanup/policy."
        wrong = [FieldError("dry_run", "policy", words)]
        raise InvalidRequest(as_sentence(wrong), errors=wrong)
    return rules.policy.dry_run if asked is None else asked
