"""Jobs: reading them, and every guarded step of their way.

Times that decide who may do what (leases, due times) are the database's own, so that a worker with a wrong clock neither
steals a lease nor keeps one. Every write of a worker is guarded by its lease's token; zero rows mean that it lost.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from shared.db.rows import JOB_COLUMNS, JOB_EXTRAS, as_json, event_from, job_from
from shared.domain.clusters import Scope
from shared.domain.jobs import Job, JobError, JobEvent, JobKind, JobState
from shared.domain.ports import JobFilter
from shared.errors import LeaseLost

#: A job's turn has come when no earlier job on its cluster or stack is unfinished, nor the one that it comes after.
_TURN = """NOT EXISTS (SELECT 1 FROM jobs b WHERE b.lane = j.lane AND b.seq < j.seq
    AND b.state IN ('queued', 'running', 'converging'))
    AND (j.after_id IS NULL OR NOT EXISTS (SELECT 1 FROM jobs a WHERE a.id = j.after_id
        AND a.state IN ('queued', 'running', 'converging')))"""
_NAME = (
    "coalesce((SELECT c.name FROM clusters c WHERE c.id = j.cluster_id), (SELECT s.name FROM stacks s WHERE s.id = j.stack_id),"
    " j.params ->> 'name')"
)


class JobRepository:
    """The jobs table and the history of each job."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    # -- reading --------------------------------------------------------------------------------------------------

    def get(self, job_id: UUID, project_id: str | None = None) -> Job | None:
        """One job; with ``project_id``, only if it is that project's."""
        row = (
            self._connection.execute(
                text(
                    f"SELECT {JOB_COLUMNS}{JOB_EXTRAS} FROM jobs j WHERE j.id = :id"
                    " AND (CAST(:project AS text) IS NULL OR j.project_id = :project)"
                ),
                {"id": job_id, "project": project_id},
            )
            .mappings()
            .first()
        )
        return job_from(row) if row else None

    def select(self, project_id: str, where: JobFilter, *, limit: int, after: UUID | None) -> list[Job]:
        """The project's jobs, newest first, older than ``after``."""
        rows = self._connection.execute(
            text(
                f"SELECT {JOB_COLUMNS}{JOB_EXTRAS} FROM jobs j WHERE j.project_id = :project"
                " AND (CAST(:state AS text) IS NULL OR j.state = :state)"
                " AND (CAST(:kind AS text) IS NULL OR j.kind = :kind)"
                " AND (CAST(:cluster AS uuid) IS NULL OR j.lane = :cluster)"
                " AND (CAST(:stack AS uuid) IS NULL OR j.lane = :stack)"
                " AND (CAST(:after AS uuid) IS NULL OR j.seq < (SELECT seq FROM jobs WHERE id = :after))"
                " ORDER BY j.seq DESC LIMIT :limit"
            ),
            {
                "project": project_id,
                "state": where.state,
                "kind": where.kind,
                "cluster": where.cluster_id,
                "stack": where.stack_id,
                "after": after,
                "limit": limit,
            },
        ).mappings()
        return [job_from(row) for row in rows]

    def active_of(self, lane: UUID) -> list[Job]:
        """The unfinished jobs of a cluster or stack, in their order."""
        rows = self._connection.execute(
            text(
                f"SELECT {JOB_COLUMNS}{JOB_EXTRAS} FROM jobs j WHERE j.lane = :lane"
                " AND j.state IN ('queued', 'running', 'converging') ORDER BY j.seq"
            ),
            {"lane": lane},
        ).mappings()
        return [job_from(row) for row in rows]

    def waiting_for(self, job_id: UUID) -> bool:
        """Whether an unfinished job of another cluster or stack comes after this one."""
        row = self._connection.execute(
            text("SELECT 1 FROM jobs WHERE after_id = :id AND state IN ('queued', 'running', 'converging') LIMIT 1"), {"id": job_id}
        )
        return row.first() is not None

    def active_kinds(self, cluster_ids: Sequence[UUID]) -> dict[UUID, JobKind]:
        """Of each cluster that has unfinished jobs, the kind of the first."""
        rows = self._connection.execute(
            text(
                "SELECT DISTINCT ON (lane) lane, kind FROM jobs WHERE lane = ANY(CAST(:ids AS uuid[]))"
                " AND state IN ('queued', 'running', 'converging') ORDER BY lane, seq"
            ),
            {"ids": list(cluster_ids)},
        )
        return {row[0]: JobKind(row[1]) for row in rows}

    def latest_of(self, lanes: Sequence[UUID]) -> dict[UUID, Job]:
        """Of each cluster or stack, the job that acts or waits first, else the last one that ended."""
        rows = self._connection.execute(
            text(
                f"SELECT x.* FROM unnest(CAST(:ids AS uuid[])) AS ids(id) CROSS JOIN LATERAL ("
                f" SELECT {JOB_COLUMNS}{JOB_EXTRAS} FROM jobs j WHERE j.lane = ids.id"
                " ORDER BY (j.state IN ('queued', 'running', 'converging')) DESC,"
                " CASE WHEN j.finished_at IS NULL THEN j.seq ELSE -j.seq END LIMIT 1) x"
            ),
            {"ids": list(lanes)},
        ).mappings()
        return {row["cluster_id"] or row["stack_id"]: job_from(row) for row in rows}

    def events(self, job_id: UUID, after_seq: int = 0) -> list[JobEvent]:
        """The history of a job, oldest first."""
        rows = self._connection.execute(
            text("SELECT * FROM job_events WHERE job_id = :id AND seq > :after ORDER BY seq LIMIT 1000"),
            {"id": job_id, "after": after_seq},
        ).mappings()
        return [event_from(row) for row in rows]

    def counts(self) -> list[tuple[str, str, int]]:
        """How many jobs there are by kind and state, for our own metrics; ended ones of the last day only."""
        rows = self._connection.execute(
            text(
                "SELECT kind, state, count(*) FROM jobs WHERE finished_at IS NULL OR finished_at > now() - interval '1 day'"
                " GROUP BY kind, state"
            )
        )
        return [(row[0], row[1], row[2]) for row in rows]

    def stalled(self) -> int:
        """How many converging jobs wait for a cluster that shows no change."""
        return int(
            self._connection.execute(
                text("SELECT count(*) FROM jobs WHERE state = 'converging' AND condition = 'stalled'")
            ).scalar_one()
        )

    def oldest_due_s(self) -> float:
        """Age in seconds of the job that has waited longest past its due time for a worker; 0 where none waits."""
        row = self._connection.execute(
            text(
                f"SELECT extract(epoch FROM now() - min(j.due_at)) FROM jobs j"
                f" WHERE j.state = 'queued' AND j.due_at <= now() AND {_TURN}"
            )
        ).scalar()
        return max(0.0, float(row or 0.0))

    # -- history --------------------------------------------------------------------------------------------------

    def record(self, events: Iterable[tuple[UUID, str, str, Mapping[str, Any]]]) -> None:
        """Append steps ``(job, step, state, detail)`` to the history."""
        rows = [{"job_id": str(j), "step": s, "state": st, "detail": d} for j, s, st, d in events]
        if rows:
            self._connection.execute(
                text(
                    "INSERT INTO job_events (job_id, step, state, detail, at) SELECT x.job_id, x.step, x.state, x.detail,"
                    " clock_timestamp() FROM jsonb_to_recordset(CAST(:rows AS jsonb))"
                    " AS x(job_id uuid, step text, state text, detail jsonb) JOIN jobs ON jobs.id = x.job_id"
                ),
                {"rows": as_json(rows)},
            )

    def last_wait(self, job_id: UUID) -> str | None:
        """The latest recorded step that is not a claim."""
        value: str | None = self._connection.execute(
            text("SELECT step FROM job_events WHERE job_id = :id AND step <> 'claimed' ORDER BY seq DESC LIMIT 1"),
            {"id": job_id},
        ).scalar()
        return value

    def last_error(self, job_id: UUID) -> dict[str, Any] | None:
        """What the cloud said at the latest attempt that was put off, in the form of :class:`JobError`."""
        detail: dict[str, Any] | None = self._connection.execute(
            text("SELECT detail FROM job_events WHERE job_id = :id AND step = 'retry' ORDER BY seq DESC LIMIT 1"), {"id": job_id}
        ).scalar()
        return {name: value for name, value in detail.items() if name in JobError.__dataclass_fields__} if detail else None

    # -- the relay ------------------------------------------------------------------------------------------------

    def take_due(self, *, limit: int, again_after_s: float) -> list[Job]:
        """Jobs whose turn has come, marked as sent; another relay running now gets others."""
        rows = self._connection.execute(
            text(
                f"""WITH due AS (SELECT j.id FROM jobs j WHERE j.state = 'queued' AND j.due_at <= now()
                    AND (j.dispatched_at IS NULL OR j.dispatched_at < now() - make_interval(secs => :again))
                    AND {_TURN} ORDER BY j.due_at, j.seq LIMIT :limit FOR UPDATE OF j SKIP LOCKED)
                UPDATE jobs j SET dispatched_at = now() FROM due WHERE j.id = due.id
                RETURNING {JOB_COLUMNS}, {_NAME} AS cluster_name"""
            ),
            {"limit": limit, "again": again_after_s},
        ).mappings()
        return sorted((job_from(row) for row in rows), key=lambda job: job.seq)

    def untake(self, job_ids: Sequence[UUID]) -> None:
        """The broker did not take these: they are due again at once."""
        self._connection.execute(
            text("UPDATE jobs SET dispatched_at = NULL WHERE id = ANY(CAST(:ids AS uuid[])) AND state = 'queued'"),
            {"ids": list(job_ids)},
        )

    def reclaim_expired(self, *, max_crashes: int, limit: int = 500) -> list[Job]:
        """Take back jobs whose worker let its lease run out: queued again, or failed after too many times."""
        rows = self._connection.execute(
            text(
                f"""WITH lost AS (SELECT id FROM jobs WHERE state = 'running' AND lease_expires_at < now()
                    LIMIT :limit FOR UPDATE SKIP LOCKED)
                UPDATE jobs j SET crashes = j.crashes + 1, lease_owner = NULL, lease_token = NULL, lease_expires_at = NULL,
                    dispatched_at = NULL, due_at = now(), step = 'lease_expired',
                    state = CASE WHEN j.crashes + 1 >= :max THEN 'failed' ELSE 'queued' END,
                    finished_at = CASE WHEN j.crashes + 1 >= :max THEN now() END,
                    error = CASE WHEN j.crashes + 1 >= :max THEN CAST(:error AS jsonb) END
                FROM lost WHERE j.id = lost.id RETURNING {JOB_COLUMNS}"""
            ),
            {
                "limit": limit,
                "max": max_crashes,
                "error": as_json(
                    JobError(
                        "POISON_JOB",
                        f"Workers died or hung {max_crashes} times while they held this job.",
                        "The workers' logs name the job's id; look there for what ends them.",
                    ).as_dict()
                ),
            },
        ).mappings()
        jobs = [job_from(row) for row in rows]
        self.record((job.id, "lease_expired", job.state.value, {"crashes": job.crashes}) for job in jobs)
        return jobs

    # -- the worker that holds a job --------------------------------------------------------------------------------

    def claim(self, job_id: UUID, *, owner: str, token: UUID, ttl_s: float) -> Job | None:
        """Take the lease of a due job whose turn it is; None where there is nothing to take."""
        row = (
            self._connection.execute(
                text(
                    f"""UPDATE jobs j SET state = 'running', lease_owner = :owner, lease_token = :token,
                    lease_expires_at = clock_timestamp() + make_interval(secs => :ttl), attempts = j.attempts + 1,
                    started_at = coalesce(j.started_at, now()), step = 'claimed'
                WHERE j.id = :id AND j.state = 'queued' AND j.due_at <= now() AND {_TURN} RETURNING {JOB_COLUMNS}"""
                ),
                {"id": job_id, "owner": owner, "token": token, "ttl": ttl_s},
            )
            .mappings()
            .first()
        )
        if row is None:
            return None
        job = job_from(row)
        self.record([(job.id, "claimed", "running", {"owner": owner, "attempt": job.attempts})])
        return job

    def declare_intent(self, job: Job, *, ttl_s: float, baseline: Mapping[str, Any] | None = None) -> Job:
        """Just before a mutating call: renew the lease, and leave a mark that the call may have been made."""
        return self._guarded(
            job,
            "intent_at = clock_timestamp(), lease_expires_at = clock_timestamp() + make_interval(secs => :ttl),"
            " step = 'calling', baseline = CAST(:baseline AS jsonb)",
            {"ttl": ttl_s, "baseline": as_json(baseline if baseline is not None else job.baseline)},
            alive=True,
        )

    def release_converging(self, job: Job, *, look_after_s: float, params: Mapping[str, Any] | None = None) -> Job:
        """The cloud took the call: ticks watch the job from here."""
        return self._guarded(
            job,
            "state = 'converging', step = 'submitted', submitted_at = clock_timestamp(), progress_at = clock_timestamp(),"
            " condition = 'progressing', intent_at = NULL, lease_owner = NULL, lease_token = NULL, lease_expires_at = NULL,"
            " params = CAST(:params AS jsonb), look_at = clock_timestamp() + make_interval(secs => :look)",
            {"params": as_json(params if params is not None else job.params), "look": look_after_s},
        )

    def release_queued(self, job: Job, *, after_s: float, step: str, forget_intent: bool, count: bool = True) -> Job:
        """Try again later. ``forget_intent``: the call is known not to have been executed. ``count``: as an attempt."""
        return self._guarded(
            job,
            "state = 'queued', step = :step, due_at = clock_timestamp() + make_interval(secs => :after), dispatched_at = NULL,"
            " lease_owner = NULL, lease_token = NULL, lease_expires_at = NULL,"
            " intent_at = CASE WHEN :forget THEN NULL ELSE intent_at END,"
            " attempts = attempts - CASE WHEN :count THEN 0 ELSE 1 END",
            {"step": step, "after": after_s, "forget": forget_intent, "count": count},
        )

    def finish(
        self,
        job: Job,
        state: JobState,
        *,
        step: str | None = None,
        result: Mapping[str, Any] | None = None,
        error: Mapping[str, Any] | None = None,
    ) -> Job:
        """End a job that this worker holds."""
        return self._guarded(
            job,
            "state = :state, step = :step, finished_at = clock_timestamp(), result = CAST(:result AS jsonb),"
            " error = CAST(:error AS jsonb), lease_owner = NULL, lease_token = NULL, lease_expires_at = NULL",
            {
                "state": state.value,
                "step": step or state.value,
                "result": as_json(result) if result is not None else None,
                "error": as_json(error) if error is not None else None,
            },
        )

    def keep_params(self, job: Job, params: Mapping[str, Any]) -> Job:
        """What a worker has decided about a job that it holds, so that another one goes on from there."""
        return self._guarded(job, "params = CAST(:params AS jsonb)", {"params": as_json(params)})

    def write_ended(self, job: Job, steps: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        """A job that was done as soon as it was asked for, with its history."""
        values = {
            "id": job.id,
            "project": job.project_id,
            "region": job.region,
            "kind": job.kind.value,
            "state": job.state.value,
            "params": as_json(job.params),
            "by": job.requested_by,
            "request": job.request_id,
            "at": job.created_at,
            "result": as_json(job.result) if job.result is not None else None,
        }
        self._connection.execute(
            text(
                "INSERT INTO jobs (id, project_id, region, kind, state, params, step, attempts, requested_by, request_id, created_at,"
                " due_at, started_at, finished_at, result) VALUES (:id, :project, :region, :kind, :state, CAST(:params AS jsonb),"
                " :state, 1, :by, :request, :at, :at, :at, clock_timestamp(), CAST(:result AS jsonb))"
            ),
            values,
        )
        self.record([(job.id, step, job.state.value, dict(detail)) for step, detail in steps])

    def _guarded(self, job: Job, changes: str, values: Mapping[str, Any], *, alive: bool = False) -> Job:
        still = " AND j.lease_expires_at > clock_timestamp()" if alive else ""
        row = (
            self._connection.execute(
                text(
                    f"UPDATE jobs j SET {changes} WHERE j.id = :id AND j.lease_token = :token AND j.state = 'running'{still}"
                    f" RETURNING {JOB_COLUMNS}"
                ),
                {"id": job.id, "token": job.lease_token, **values},
            )
            .mappings()
            .first()
        )
        if row is None:
            msg = f"Job {job.id} belongs to another worker now."
            raise LeaseLost(msg)
        return job_from(row)

    def deletes_to_check(self, scope: Scope, *, after_s: float, within_s: float, limit: int) -> dict[UUID, tuple[str | None, ...]]:
        """Deletes that succeeded so long ago and were not checked for leftovers: what each cluster's resources are named after."""
        rows = self._connection.execute(
            text(
                "SELECT j.id, c.magnum_uuid, c.magnum_name FROM jobs j JOIN clusters c ON c.id = j.cluster_id"
                " WHERE j.kind = 'delete' AND j.state = 'succeeded' AND j.region = :region AND j.project_id = :project"
                " AND j.finished_at BETWEEN now() - make_interval(secs => :within) AND now() - make_interval(secs => :after)"
                " AND NOT jsonb_exists(coalesce(j.result, '{}'), 'leftovers') ORDER BY j.finished_at LIMIT :limit"
            ),
            {"region": scope.region, "project": scope.project_id, "after": after_s, "within": within_s, "limit": limit},
        )
        return {row[0]: (row[1], row[2]) for row in rows}

    def note_leftovers(self, left: Mapping[UUID, Sequence[Mapping[str, Any]]]) -> None:
        """What was found, in the results of the deletes."""
        rows = [{"id": str(job_id), "items": list(items)} for job_id, items in left.items()]
        self._connection.execute(
            text(
                "UPDATE jobs j SET result = coalesce(j.result, '{}') || jsonb_build_object('leftovers', x.items)"
                " FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS x(id uuid, items jsonb) WHERE j.id = x.id"
            ),
            {"rows": as_json(rows)},
        )

    # -- requests ---------------------------------------------------------------------------------------------------

    def overtake(self, lane: UUID, *, reason: str, by: UUID | None, kinds: Iterable[JobKind]) -> list[Job]:
        """Withdraw the unfinished jobs of these ``kinds`` of a cluster or stack: at once where that is safe, else at the next safe point.

        Safe at once are jobs that wait and never began a call, and those the cloud already works on. A running job, and
        one whose last call may or may not have been executed, first finds out where it stands.
        """
        detail = as_json({"reason": reason, "by": by})
        rows = self._connection.execute(
            text(
                f"""UPDATE jobs j SET state = 'cancelled', step = 'cancelled', finished_at = clock_timestamp(),
                    cancel_requested_at = coalesce(j.cancel_requested_at, clock_timestamp()), cancel_reason = :reason,
                    result = CAST(:detail AS jsonb)
                WHERE j.lane = :lane AND j.kind = ANY(:kinds)
                  AND (j.state = 'converging' OR (j.state = 'queued' AND j.intent_at IS NULL)) RETURNING {JOB_COLUMNS}"""
            ),
            {"lane": lane, "reason": reason, "detail": detail, "kinds": [kind.value for kind in kinds]},
        ).mappings()
        ended = [job_from(row) for row in rows]
        self.record((job.id, "cancelled", "cancelled", {"reason": reason, "by": by}) for job in ended)
        rows = self._connection.execute(
            text(
                f"""UPDATE jobs j SET cancel_requested_at = coalesce(j.cancel_requested_at, clock_timestamp()),
                    cancel_reason = :reason, due_at = least(j.due_at, now())
                WHERE j.lane = :lane AND j.kind = ANY(:kinds) AND j.state IN ('queued', 'running')
                RETURNING {JOB_COLUMNS}"""
            ),
            {"lane": lane, "reason": reason, "kinds": [kind.value for kind in kinds]},
        ).mappings()
        pending = [job_from(row) for row in rows]
        self.record((job.id, "cancel_requested", job.state.value, {"reason": reason, "by": by}) for job in pending)
        return ended

    def cancel_one(self, job_id: UUID, *, reason: str) -> Job | None:
        """Cancel a job that waits and has not begun a call; None where it isn't so any more."""
        row = (
            self._connection.execute(
                text(
                    f"""UPDATE jobs j SET state = 'cancelled', step = 'cancelled', finished_at = clock_timestamp(),
                    cancel_requested_at = clock_timestamp(), cancel_reason = :reason
                WHERE j.id = :id AND j.state = 'queued' AND j.intent_at IS NULL RETURNING {JOB_COLUMNS}"""
                ),
                {"id": job_id, "reason": reason},
            )
            .mappings()
            .first()
        )
        if row is None:
            return None
        self.record([(job_id, "cancelled", "cancelled", {"reason": reason})])
        return job_from(row)

    def set_before(self, job_id: UUID, sizes: Mapping[str, int]) -> None:
        """What was wanted before this job was promised, now that an earlier promise is taken back."""
        self._connection.execute(
            text("UPDATE jobs SET params = params || jsonb_build_object('before', CAST(:sizes AS jsonb)) WHERE id = :id"),
            {"id": job_id, "sizes": as_json(sizes)},
        )

    # -- ticks --------------------------------------------------------------------------------------------------------

    def converging_counts(self, scope: Scope) -> tuple[dict[JobKind, int], datetime | None]:
        """How many jobs of each kind the scope's cloud works on, and when the oldest of them was submitted."""
        rows = self._connection.execute(
            text(
                "SELECT kind, count(*), min(submitted_at) FROM jobs WHERE state = 'converging' AND region = :region"
                " AND project_id = :project GROUP BY kind"
            ),
            {"region": scope.region, "project": scope.project_id},
        ).all()
        oldest = min((row[2] for row in rows if row[2] is not None), default=None)
        return {JobKind(row[0]): row[1] for row in rows}, oldest

    def settle(self, rows: Sequence[Mapping[str, Any]]) -> list[Job]:
        """Write what a tick decided about converging jobs, those still as they were when it looked; the moved ones.

        Each row: id, submitted_at (as read), state, step, condition, progressed, look_after_s, result, error.
        """
        if not rows:
            return []
        found = self._connection.execute(
            text(
                f"""UPDATE jobs j SET state = x.state,
                    step = CASE WHEN x.state = 'converging' THEN j.step ELSE x.step END,
                    condition = x.condition,
                    progress_at = CASE WHEN x.progressed THEN clock_timestamp() ELSE j.progress_at END,
                    look_at = clock_timestamp() + make_interval(secs => x.look_after_s),
                    finished_at = CASE WHEN x.state IN ('succeeded', 'failed', 'cancelled') THEN clock_timestamp() END,
                    due_at = CASE WHEN x.state = 'queued' THEN clock_timestamp() ELSE j.due_at END,
                    dispatched_at = CASE WHEN x.state = 'queued' THEN NULL ELSE j.dispatched_at END,
                    resubmits = CASE WHEN x.state = 'queued' AND x.step = 'next' THEN 0 WHEN x.state = 'queued' THEN j.resubmits + 1
                        ELSE j.resubmits END,
                    result = x.result, error = x.error
                FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS x(id uuid, submitted_at timestamptz, state text, step text,
                    condition text, progressed boolean, look_after_s float8, result jsonb, error jsonb)
                WHERE j.id = x.id AND j.state = 'converging' AND j.submitted_at = x.submitted_at RETURNING {JOB_COLUMNS}"""
            ),
            {"rows": as_json(list(rows))},
        ).mappings()
        return [job_from(row) for row in found]

    def mark_conditions(self, scope: Scope, *, stall_s: float) -> int:
        """Mark converging jobs whose cluster has not changed for ``stall_s`` as stalled; how many became so."""
        result = self._connection.execute(
            text(
                "UPDATE jobs SET condition = 'stalled' WHERE state = 'converging' AND region = :region"
                " AND project_id = :project AND condition IS DISTINCT FROM 'stalled'"
                " AND coalesce(progress_at, submitted_at) < now() - make_interval(secs => :stall)"
            ),
            {"region": scope.region, "project": scope.project_id, "stall": stall_s},
        )
        return result.rowcount

    def forget_old(self, *, days: int, batch: int = 2000) -> int:
        """Delete ended jobs older than ``days``, with their history, and keys of that age; how many jobs went."""
        self._connection.execute(
            text("DELETE FROM idempotency_keys WHERE created_at < now() - make_interval(days => :days)"), {"days": days}
        )
        result = self._connection.execute(
            text(
                "DELETE FROM jobs WHERE id IN (SELECT id FROM jobs WHERE finished_at < now() - make_interval(days => :days)"
                " ORDER BY finished_at LIMIT :batch)"
            ),
            {"days": days, "batch": batch},
        )
        return result.rowcount

    def now(self) -> datetime:
        """The database's time."""
        value: datetime = self._connection.execute(text("SELECT clock_timestamp()")).scalar_one()
        return value
