"""What callers ask of the cleanup of idle clusters: who is a candidate and why not, policies and floors, holds, and a sweep at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from shared.domain.cleanup_policy import looser, wrong_with
from shared.domain.clusters import Cluster, Phase
from shared.domain.idleness import Hold, Progress, Stage, Step, Verdict, waits_for
from shared.domain.ports import ClusterFilter, Page
from shared.errors import Conflict, FieldError, InvalidRequest, NotFound, as_sentence
from shared.services.clusters import as_marker
from shared.services.sweeping import MOST_CLUSTERS, Rules, Swept, action_of, chosen_dry_run, moved, read_rules, write_moves

if TYPE_CHECKING:
    from shared.db.uow import Database, UnitOfWork
    from shared.domain.ports import Actor, Clock
    from shared.services.clusters import ClusterService
    from shared.services.idleness import Watch
    from shared.services.jobs import JobService
    from shared.services.sweeping import Sweeper

#: A hold ends by itself: who wants a cluster for good labels it persistent=true.
LONGEST_HOLD = timedelta(days=366)


@dataclass(frozen=True, slots=True)
class Explained:
    """Where a cluster stands, and why."""

    cluster: Cluster
    progress: Progress
    verdict: Verdict
    hold: Hold | None
    waits_for: tuple[str, str, datetime | None]
    action: str


@dataclass(frozen=True, slots=True)
class Ran:
    """What a sweep that was asked for came to."""

    dry_run: bool
    rules: Rules
    clusters: Sequence[Explained]
    swept: Swept | None  #: None: it only looked


class CleanupService:
    """Requests about cleanup, by an actor whose rights the caller has checked."""

    def __init__(
        self,
        database: Database,
        clusters: ClusterService,
        jobs: JobService,
        watch: Watch,
        sweeper: Sweeper,
        clock: Clock,
        *,
        region: str,
    ) -> None:
        self._database = database
        self._clusters = clusters
        self._jobs = jobs
        self._watch = watch
        self._sweeper = sweeper
        self._clock = clock
        self._region = region

    # -- looking ------------------------------------------------------------------------------------------------------

    def candidates(self, actor: Actor, *, limit: int, marker: str | None) -> Page[Explained]:
        """Every cluster of the project, looked at now; nothing is written."""
        after = as_marker(marker)
        plain = self._watch.plain_flavors(actor.project_id)
        with self._database.begin() as uow:
            if after and not uow.clusters.exists(actor.project_id, after):
                words = f"{marker!r} is not the id of an object in this list."
                raise InvalidRequest(words, errors=[FieldError("marker", "exists", words)])
            items = uow.clusters.select(actor.project_id, ClusterFilter(), limit=limit + 1, after=after)
            page = items[:limit]
            explained = self._explain(uow, actor.project_id, page, read_rules(uow, actor.project_id), plain)
        return Page(explained, str(page[-1].id) if len(items) > limit else None)

    def candidate(self, actor: Actor, cluster_ref: str) -> tuple[Explained, list[dict[str, Any]], list[dict[str, Any]]]:
        """One cluster, its steps with their evidence, and what earlier looks found; each newest first."""
        cluster = self._clusters.get(actor, cluster_ref)
        plain = self._watch.plain_flavors(actor.project_id)
        with self._database.begin() as uow:
            found = self._explain(uow, actor.project_id, [cluster], read_rules(uow, actor.project_id), plain)[0]
            return found, uow.cleanup.steps(cluster.id), uow.cleanup.verdicts(cluster.id)

    def _explain(
        self, uow: UnitOfWork, project_id: str, clusters: Sequence[Cluster], rules: Rules, plain: frozenset[str]
    ) -> list[Explained]:
        ids = [cluster.id for cluster in clusters]
        verdicts = self._watch.look(uow, project_id, clusters, rules.policy, plain)
        known = uow.cleanup.progress(ids)
        holds = uow.cleanup.holds(ids)
        now = self._clock.now()
        windows = rules.open(now)
        found = []
        for cluster in clusters:
            progress = known.get(cluster.id, Progress())
            waits = waits_for(progress, verdicts[cluster.id], rules.policy, windows, asleep=cluster.phase is Phase.HIBERNATED)
            if not rules.policy.enabled:
                waits = ("DISABLED", "The project's policy is switched off: nothing is looked at.", None)
            hold = holds.get(cluster.id)
            held = hold if hold is not None and hold.until_at > now else None
            action = progress.action or action_of(cluster, rules.policy)
            found.append(Explained(cluster, progress, verdicts[cluster.id], held, waits, action))
        return found

    # -- a sweep at once ----------------------------------------------------------------------------------------------

    def run(self, actor: Actor, *, dry_run: bool | None) -> Ran:
        """Look at all clusters now. A dry run writes nothing; otherwise it is the sweep that beat makes, with its one step a cluster.

        Raises InvalidRequest where the rules allow dry runs only and the caller asks for more, Conflict while another is under way.
        """
        with self._database.begin() as uow:
            rules = read_rules(uow, actor.project_id)
        dry = chosen_dry_run(rules, dry_run)
        swept = None if dry else self._sweeper.sweep(actor.project_id, by=actor.user_id)
        plain = self._watch.plain_flavors(actor.project_id)
        with self._database.begin() as uow:
            rules = read_rules(uow, actor.project_id)
            clusters = uow.clusters.select(actor.project_id, ClusterFilter(), limit=MOST_CLUSTERS, after=None)
            explained = self._explain(uow, actor.project_id, clusters, rules, plain)
        return Ran(dry, rules, explained, swept)

    # -- policies -----------------------------------------------------------------------------------------------------

    def policy(self, actor: Actor) -> dict[str, Any]:
        """The project's policy, its floor, and what counts of both."""
        with self._database.begin() as uow:
            return _policy_shown(uow, actor.project_id)

    def put_policy(self, actor: Actor, fields: Mapping[str, Any], *, findings: Sequence[FieldError] = ()) -> dict[str, Any]:
        """Write the project's policy; what it leaves out is as by default. Clusters on their way begin anew, under the new rules.

        Raises InvalidRequest that names each field below the floor.
        """
        with self._database.begin() as uow:
            uow.cleanup.await_turn(actor.project_id)
            wrong = [*findings, *wrong_with(fields), *looser(fields, read_rules(uow, actor.project_id).floor)]
            if wrong:
                raise InvalidRequest(as_sentence(wrong), errors=wrong)
            return self._write(uow, actor, "policy", fields)

    def put_floor(self, actor: Actor, fields: Mapping[str, Any], *, findings: Sequence[FieldError] = ()) -> dict[str, Any]:
        """Write the floor under the project's policy. A policy that is looser stays as written and counts as if it were not."""
        with self._database.begin() as uow:
            uow.cleanup.await_turn(actor.project_id)
            wrong = [*findings, *wrong_with(fields)]
            if wrong:
                raise InvalidRequest(as_sentence(wrong), errors=wrong)
            return self._write(uow, actor, "floor", fields)

    def _write(self, uow: UnitOfWork, actor: Actor, kind: str, content: Mapping[str, Any]) -> dict[str, Any]:
        before = read_rules(uow, actor.project_id)
        uow.cleanup.put_policy(actor.project_id, kind, content, actor.user_id)
        uow.audit.record(actor, f"cleanup:{kind}", None, {"content": dict(content)})
        after = read_rules(uow, actor.project_id)
        if before.policy != after.policy or before.windows != after.windows:
            self._restart(uow, actor, before)
        return _policy_shown(uow, actor.project_id)

    def _restart(self, uow: UnitOfWork, actor: Actor, before: Rules) -> None:
        """What was notified was notified of other rules."""
        waiting = uow.cleanup.waiting(actor.project_id)
        known = uow.cleanup.progress(waiting, lock=True)
        step = Step(Stage.ACTIVE, "POLICY_CHANGED", "The policy was changed; everything is looked at anew.")
        clusters = uow.clusters.select(actor.project_id, ClusterFilter(), limit=MOST_CLUSTERS, after=None) if waiting else []
        now = self._clock.now()
        moves = [moved(one, known[one.id], step, Verdict(one.id, now, ())) for one in clusters if one.id in known]
        write_moves(uow, actor.project_id, moves, before.policy, by=actor.user_id)

    # -- holds and cancels --------------------------------------------------------------------------------------------

    def hold(
        self, actor: Actor, cluster_ref: str, fields: Mapping[str, Any], *, findings: Sequence[FieldError] = ()
    ) -> tuple[Cluster, Hold]:
        """Keep a cluster until a moment; a hold that it had is replaced. Raises Conflict where it is being deleted already."""
        cluster = self._clusters.get(actor, cluster_ref)
        wrong = [*findings, *self._too_long(fields.get("until"))]
        if wrong:
            raise InvalidRequest(as_sentence(wrong), errors=wrong)
        with self._database.begin() as uow:
            locked = uow.clusters.get(actor.project_id, str(cluster.id), lock=True)
            if locked is None or locked.phase is Phase.DELETING:
                msg = f"Cluster {cluster.name!r} is being deleted."
                raise Conflict(msg, reason="CLUSTER_DELETING")
            uow.cleanup.put_hold(cluster.id, fields["until"], fields["why"], actor.user_id)
            uow.audit.record(actor, "cleanup:hold", cluster.id, {"until": fields["until"], "why": fields["why"]})
            return locked, uow.cleanup.holds([cluster.id])[cluster.id]

    def release(self, actor: Actor, cluster_ref: str) -> None:
        """End a hold. Its end counts as use: the idle time begins then. Raises NotFound where nobody holds the cluster."""
        cluster = self._clusters.get(actor, cluster_ref)
        with self._database.begin() as uow:
            if not uow.cleanup.drop_hold(cluster.id):
                msg = f"Nobody holds cluster {cluster.name!r}."
                raise NotFound(msg, reason="HOLD_NOT_FOUND")
            uow.audit.record(actor, "cleanup:release", cluster.id, {})

    def cancel(self, actor: Actor, cluster_ref: str) -> Explained:
        """Take a cluster back to the beginning: it must be idle for the whole time again.

        A hibernation whose job still waits is withdrawn. Raises Conflict where there is nothing to cancel, or where the job can't be
        withdrawn any more.
        """
        cluster = self._clusters.get(actor, cluster_ref)
        with self._database.begin() as uow:
            progress = uow.cleanup.progress([cluster.id]).get(cluster.id, Progress())
        if progress.stage is Stage.DELETING and progress.job_id is not None:
            self._jobs.cancel(actor, progress.job_id)
        plain = self._watch.plain_flavors(actor.project_id)
        with self._database.begin() as uow:
            uow.cleanup.await_turn(actor.project_id)
            uow.cleanup.hold_still(cluster.id)
            progress = uow.cleanup.progress([cluster.id], lock=True).get(cluster.id, Progress())
            if progress.stage is Stage.ACTIVE:
                msg = f"Cluster {cluster.name!r} is no candidate for cleanup."
                raise Conflict(msg, reason="NOT_A_CANDIDATE", hint="To keep it whatever its use: PUT /clusters/{id}/hold.")
            if progress.stage is Stage.DELETING and progress.job_state in {"queued", "running", "converging"}:
                msg = f"A job {progress.action}s cluster {cluster.name!r} at this moment."
                raise Conflict(msg, reason="CLEANUP_BEGUN", hint="Ask again in a moment.")
            rules = read_rules(uow, actor.project_id)
            verdict = self._watch.look(uow, actor.project_id, [cluster], rules.policy, plain)[cluster.id]
            step = Step(Stage.ACTIVE, "CANCELLED", f"Cancelled by {actor.user_name or actor.user_id}.")
            write_moves(uow, actor.project_id, [moved(cluster, progress, step, verdict)], rules.policy, by=actor.user_id)
            uow.audit.record(actor, "cleanup:cancel", cluster.id, {"from": progress.stage.value})
            return self._explain(uow, actor.project_id, [cluster], rules, plain)[0]

    def _too_long(self, until: datetime | None) -> list[FieldError]:
        if until is None:
            return []
        now = self._clock.now()
        if not now < until <= now + LONGEST_HOLD:
            words = (
                f"Must lie in the future, and at most {LONGEST_HOLD.days} days ahead; for good, label the cluster persistent=true."
            )
            return [FieldError("until", "range", words)]
        return []


def _policy_shown(uow: UnitOfWork, project_id: str) -> dict[str, Any]:
    written = uow.cleanup.policies(project_id)
    rules = read_rules(uow, project_id)
    last = max(written.values(), key=lambda row: row["updated_at"], default=None)
    return {
        "policy": dict(rules.own),
        "floor": dict(rules.floor),
        "effective": rules.policy.as_dict(),
        "windows": [{**_plain(window)} for window in rules.windows],
        "required_sources": sorted(source.value for source in rules.policy.required),
        "updated_by": last["updated_by"] if last else None,
        "updated_at": last["updated_at"] if last else None,
    }


def _plain(window: Any) -> dict[str, Any]:
    return {"start": window.start, "end": window.end, "time_zone": window.time_zone, "days": list(window.days)}
