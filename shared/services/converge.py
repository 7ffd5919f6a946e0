"""The convergence tick: one look at a scope's clouds, then every job that has arrived, failed, stalled or run late is moved.

A tick never costs a call per cluster. What changed since the last tick is at the head of the list sorted by ``updated_at``;
a deletion, which shows in no list, is asked for by itself, at growing intervals; and a list that Magnum refuses falls back to
GETs, longest unseen first, within the same share of Magnum's time.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from shared.db.clusters import observation
from shared.domain.clusters import Cluster, ObservedCluster, Phase, Scope
from shared.domain.jobs import OF_STACKS, Job, JobKind, JobState
from shared.domain.lifecycle import Continue, Fail, Limits, Resubmit, Succeed, Wait, decide, fingerprint, phase_of
from shared.domain.pacing import Costs, Look, choose, look_again_s, next_interval
from shared.errors import CloudError, LeaseLost
from shared.observability.logging import get_logger
from shared.observability.metrics import JOBS_FINISHED, TICK_SECONDS
from shared.services.looking import Gap, Seen, Sight, Watcher, back_to
from shared.services.sizing import after_end
from shared.services.stack_watch import StackWatch
from shared.services.usage import Sight as Used
from shared.services.usage import tell

if TYPE_CHECKING:
    from shared.db.clusters import ClusterRepository
    from shared.db.scopes import ScopeRow
    from shared.db.uow import Database
    from shared.domain.ports import Announcer, Clock, Cloud
    from shared.settings import EngineSettings

log = get_logger(__name__)

_GETS_PER_TICK_MAX = 400
#: The part of the GETs that goes to clusters which a list would show as well, in case one was missed.
_SAFETY_NET = 0.1


@dataclass(frozen=True)
class TickReport:
    """One tick, for logs and benchmarks."""

    look: str
    in_flight: int
    gets: int
    pages: int
    listed: int
    spent_s: float
    moved: int
    next_in_s: float
    took_s: float
    refused: str | None


class Converger:
    """Ticks of scopes. One instance serves all threads of a worker."""

    def __init__(self, database: Database, cloud: Cloud, clock: Clock, announcer: Announcer, *, engine: EngineSettings) -> None:
        self._database = database
        self._cloud = cloud
        self._clock = clock
        self._announcer = announcer
        self._engine = engine
        self._stacks = StackWatch(database, cloud, clock, announcer, engine=engine)

    def tick(self, scope: Scope) -> TickReport | None:
        """One tick; None where none is due or another worker is at it."""
        started = time.monotonic()
        with self._database.begin() as uow:
            row = uow.scopes.claim_tick(scope, uuid4(), ttl_s=self._engine.lease_ttl_s)
            if row is None:
                return None
            counts, oldest = uow.jobs.converging_counts(scope)
        try:
            return self._tick(row, counts, oldest, started)
        except LeaseLost:
            log.warning("tick.lease_lost", project=scope.project_id)
            return None
        except CloudError as exc:
            self._postpone(row, counts, exc)
            return None

    def _tick(self, row: ScopeRow, counts: dict[JobKind, int], oldest: datetime | None, started: float) -> TickReport:
        scope = row.scope
        stacks = sum(count for kind, count in counts.items() if kind in OF_STACKS)
        in_flight = sum(counts.values()) - stacks
        costs = Costs.from_dict(row.pacing)
        look, page = choose(in_flight, costs, row.interval_s)
        seen = Seen(look)
        moved = self._look_at_stacks(scope) if stacks else 0
        if in_flight:
            budget = min(self._engine.tick_budget_s, self._engine.magnum_share * self._engine.tick_max_s)
            settled: list[int] = []
            watcher = Watcher(
                self._cloud.gateway(scope),
                self._clock,
                seen,
                page_size=self._engine.page_size,
                budget_s=budget,
                settle=lambda uuids: settled.append(self._settle_found(row, seen, uuids)),
            )
            if look is Look.NEWEST and oldest is not None:
                watcher.newest(back_to(row.watermark, oldest), Gap.from_dict(row.pacing), page)
            moved += sum(settled)
            moved += self._apply(row, watcher.alone(self._due(row, seen, costs)))
        costs = costs.learn(gets=seen.gets, gets_s=seen.gets_s, pages=seen.pages, listed=seen.listed, listed_s=seen.listed_s)
        if in_flight and seen.refused is None:
            costs = costs.saw_changes(seen.changes if look is Look.NEWEST else moved, row.interval_s)
        pacing = costs.as_dict() | ({"gap": seen.gap.as_dict()} if seen.gap else {})
        with self._database.begin() as uow:
            # Held first: whoever submits a job now either is counted, or wakes the scope after this is written.
            uow.scopes.hold_tick(scope, row.token)
            stalled = uow.jobs.mark_conditions(scope, stall_s=self._engine.stall_s) if in_flight else 0
            left = sum(uow.jobs.converging_counts(scope)[0].values())
            took = time.monotonic() - started
            interval = next_interval(
                in_flight=left,
                spent_s=seen.spent_s,
                took_s=took,
                share=self._engine.magnum_share,
                minimum_s=self._engine.tick_min_s,
                idle_s=self._engine.tick_idle_s,
            )
            after = interval - took
            report = TickReport(
                look=str(look),
                in_flight=in_flight,
                gets=seen.gets,
                pages=seen.pages,
                listed=seen.listed,
                spent_s=round(seen.spent_s, 4),
                moved=moved,
                next_in_s=round(after, 3),
                took_s=round(took, 4),
                refused=seen.refused,
            )
            uow.scopes.release_tick(
                scope,
                row.token,
                after_s=after,
                interval_s=interval,
                watermark=seen.watermark,
                pacing=pacing,
                last=_as_dict(report),
            )
        TICK_SECONDS.labels(str(look)).observe(report.took_s)
        if in_flight:
            log.info("tick.done", project=scope.project_id, stalled=stalled, **_as_dict(report))
        return report

    def _look_at_stacks(self, scope: Scope) -> int:
        """Heat may be away while Magnum is not: clusters are looked at all the same."""
        try:
            return self._stacks.look(scope)
        except CloudError as exc:
            log.warning("tick.heat_error", project=scope.project_id, reason=exc.reason, detail=exc.detail)
            return 0

    # -- looking --------------------------------------------------------------------------------------------------

    def _due(self, row: ScopeRow, seen: Seen, costs: Costs) -> list[tuple[Job, Cluster]]:
        """Whom to look at by itself, within the tick's share of Magnum's time.

        All, where they are few or lists are refused. Else those that no list shows (deletions) and those past their deadline,
        and a few of the others, longest unseen first.
        """
        affordable = self._engine.magnum_share * max(row.interval_s, self._engine.tick_min_s) / costs.get_s
        limit = int(min(max(affordable, 10), _GETS_PER_TICK_MAX))
        with self._database.begin() as uow:
            if seen.look is Look.GETS or seen.refused is not None:
                return uow.clusters.converging_due(row.scope, limit=limit, which="all")
            net = max(int(limit * _SAFETY_NET), 5)
            return [
                *uow.clusters.converging_due(row.scope, limit=limit, which="unlisted"),
                *uow.clusters.converging_due(row.scope, limit=net, which="listed"),
            ]

    # -- deciding and writing ---------------------------------------------------------------------------------------

    def _settle_found(self, row: ScopeRow, seen: Seen, uuids: list[str]) -> int:
        """Decide the jobs that wait for these clusters of a page; how many moved."""
        with self._database.begin() as uow:
            pairs = uow.clusters.converging(row.scope, uuids)
        batch: list[Sight] = [
            (job, cluster, seen.found[cluster.magnum_uuid], seen.at[cluster.magnum_uuid])
            for job, cluster in pairs
            if cluster.magnum_uuid is not None
        ]
        return self._apply(row, batch)

    def _apply(self, row: ScopeRow, batch: list[Sight]) -> int:
        if not batch:
            return 0
        settled: list[dict[str, Any]] = []
        observations: list[dict[str, Any]] = []
        used: list[Used] = []
        events: list[tuple[Any, str, str, dict[str, Any]]] = []
        ended: dict[Any, Cluster] = {}
        for job, cluster, observed, at in batch:
            verdict = self._decide(job, cluster, observed, at)
            settled.append(verdict)
            state = JobState(verdict["state"])
            if observed is not None:
                active = job.kind if state in {JobState.CONVERGING, JobState.QUEUED} else None
                arrived = state is JobState.SUCCEEDED
                asleep = _asleep(cluster, job, arrived=arrived)
                verdict_of = _phase(cluster, observed, active, hibernated=asleep)
                observations.append(observation(cluster, observed, at, verdict_of, arrived=arrived))
                used.append((cluster, observed, at))
            if verdict["progressed"] and state is JobState.CONVERGING and observed is not None:
                seen_now = {"status": observed.raw_status, "node_count": observed.node_count}
                events.append((job.id, "observed", state.value, seen_now))
            if state is not JobState.CONVERGING:
                ended[job.id] = cluster
        with self._database.begin() as uow:
            uow.scopes.hold_tick(row.scope, row.token)
            before = uow.clusters.observe(observations)
            moved = [job for job in uow.jobs.settle(settled) if job.state is not JobState.CONVERGING]
            for job in moved:
                detail = job.error or job.result or {}
                step = job.step if job.state is JobState.QUEUED else job.state.value
                events.append((job.id, step, job.state.value, detail))
            uow.jobs.record(events)
            done = [job for job in moved if job.state is JobState.SUCCEEDED]
            uow.series.record_durations([job.id for job in done])
            _end_clusters(uow.clusters, moved, ended)
            after_end(uow, [job for job in moved if job.is_terminal])
            deleted = [job.of_cluster for job in done if job.kind is JobKind.DELETE]
            uow.clusters.mark_deleted(deleted)
            tell(uow, used, before)
            uow.usage.close([*deleted, *_vanished(moved)])
        for job in moved:
            if job.is_terminal:
                reason = (job.error or {}).get("reason", "")
                JOBS_FINISHED.labels(job.kind.value, job.state.value, reason).inc()
                self._announcer.finished(job)
        return len(moved)

    def _decide(self, job: Job, cluster: Cluster, observed: ObservedCluster | None, at: datetime) -> dict[str, Any]:
        limits = Limits(stall_s=self._engine.stall_s)
        decision = decide(job, observed, seen_before=cluster.first_seen_at is not None, now=at, limits=limits)
        age = (at - (job.submitted_at or job.created_at)).total_seconds()
        row: dict[str, Any] = {
            "id": job.id,
            "submitted_at": job.submitted_at,
            "state": JobState.CONVERGING.value,
            "step": None,
            "condition": None,
            "progressed": observed is not None and fingerprint(observed) != _fingerprint_of(cluster),
            "look_after_s": look_again_s(age, gone_is_the_goal=job.kind is JobKind.DELETE),
            "result": None,
            "error": None,
        }
        match decision:
            case Wait(condition=condition):
                return row | {"condition": condition}
            case Succeed(result):
                return row | {"state": JobState.SUCCEEDED.value, "step": "succeeded", "result": result}
            case Fail(error):
                return row | {"state": JobState.FAILED.value, "step": "failed", "error": error.as_dict()}
            case Resubmit(reason):
                return row | {"state": JobState.QUEUED.value, "step": "resubmitted", "result": {"dropped": reason}}
            case Continue(reason):
                return row | {"state": JobState.QUEUED.value, "step": "next", "result": {"next": reason}}

    def _postpone(self, row: ScopeRow, counts: dict[JobKind, int], exc: CloudError) -> None:
        """The cloud does not answer: look again soon, and mark what is late or stalled all the same."""
        log.warning("tick.cloud_error", project=row.scope.project_id, reason=exc.reason, detail=exc.detail)
        after = max(self._engine.tick_min_s, min(row.interval_s * 2, self._engine.tick_max_s))
        with self._database.begin() as uow:
            uow.scopes.hold_tick(row.scope, row.token)
            uow.jobs.mark_conditions(row.scope, stall_s=self._engine.stall_s)
            last = {"error": exc.reason, "detail": exc.detail, "in_flight": sum(counts.values())}
            uow.scopes.release_tick(
                row.scope, row.token, after_s=after, interval_s=after, watermark=None, pacing=row.pacing, last=last
            )


def _asleep(cluster: Cluster, job: Job, *, arrived: bool) -> bool:
    """Whether it has no workers because it was told so."""
    if arrived and job.kind in {JobKind.HIBERNATE, JobKind.WAKE}:
        return job.kind is JobKind.HIBERNATE
    return cluster.hibernated_sizes is not None


def _phase(
    cluster: Cluster, observed: ObservedCluster, active: JobKind | None, *, hibernated: bool
) -> tuple[Phase, str | None, str | None]:
    if active is None and cluster.generation > 1 and cluster.phase is Phase.DELETING:
        active = JobKind.DELETE
    return phase_of(observed, active, hibernated=hibernated)


def _fingerprint_of(cluster: Cluster) -> tuple[Any, ...]:
    return (cluster.status, cluster.status_reason, cluster.observed_node_count, cluster.magnum_updated_at)


def _vanished(moved: list[Job]) -> list[Any]:
    return [job.of_cluster for job in moved if (job.error or {}).get("reason") == "CLUSTER_GONE"]


def _end_clusters(clusters: ClusterRepository, moved: list[Job], ended: dict[Any, Cluster]) -> None:
    """What a failed job says about its cluster where the observation alone does not."""
    for job in moved:
        if job.state is not JobState.FAILED or job.id not in ended:
            continue
        error = job.error or {}
        if error.get("reason") == "CLUSTER_GONE":
            clusters.mark_gone([job.of_cluster])
        else:
            clusters.set_phase(job.of_cluster, Phase.FAILED, error.get("reason"), error.get("detail"))


def _as_dict(report: TickReport) -> dict[str, Any]:
    return {name: getattr(report, name) for name in TickReport.__dataclass_fields__}
