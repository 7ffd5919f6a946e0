"""Cleanup of idle clusters: policies, verdicts, how far each cluster has come, holds. Each read is one statement for many clusters."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from shared.db.rows import as_json
from shared.domain.idleness import Hold, Progress, Stage

_IDS = "ANY(CAST(:ids AS uuid[]))"


class CleanupRepository:
    """The tables cleanup_policies, cleanup_states, cleanup_steps, idle_verdicts and cluster_holds."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    # -- who, and one at a time -----------------------------------------------------------------------------------------

    def take_turn(self, project_id: str) -> bool:
        """Whether this transaction is the project's only sweep; it is until it ends."""
        found = self._connection.execute(
            text("SELECT pg_try_advisory_xact_lock(hashtextextended('cleanup:' || :project, 0))"), {"project": project_id}
        )
        return bool(found.scalar_one())

    def await_turn(self, project_id: str) -> None:
        """The same, after the sweep that is under way."""
        self._connection.execute(
            text("SELECT pg_advisory_xact_lock(hashtextextended('cleanup:' || :project, 0))"), {"project": project_id}
        )

    def projects(self, region: str) -> list[str]:
        """Projects that have clusters of ours, the longest unswept first."""
        rows = self._connection.execute(
            text(
                "SELECT p.project_id FROM (SELECT DISTINCT project_id FROM clusters WHERE region = :region AND managed"
                " AND deleted_at IS NULL) p LEFT JOIN series_state s ON s.name = 'cleanup:' || p.project_id"
                " ORDER BY s.done_until NULLS FIRST, p.project_id"
            ),
            {"region": region},
        )
        return [row[0] for row in rows]

    def hold_still(self, cluster_id: UUID) -> None:
        """Wait for whoever is adding rows about the cluster (a placement, a job), and keep others from it until the transaction ends.

        FOR UPDATE, because a new row that refers to the cluster takes FOR KEY SHARE on it.
        """
        self._connection.execute(text("SELECT 1 FROM clusters WHERE id = :id FOR UPDATE"), {"id": cluster_id})

    # -- policies -------------------------------------------------------------------------------------------------------

    def policies(self, project_id: str) -> dict[str, dict[str, Any]]:
        """The project's policy and floor as they were written: content, updated_by and updated_at by kind."""
        rows = self._connection.execute(
            text("SELECT kind, content, updated_by, updated_at FROM cleanup_policies WHERE project_id = :project"),
            {"project": project_id},
        ).mappings()
        return {row["kind"]: dict(row) for row in rows}

    def put_policy(self, project_id: str, kind: str, content: Mapping[str, Any], by: str) -> None:
        """Write a policy or a floor, in place of the one before."""
        self._connection.execute(
            text(
                "INSERT INTO cleanup_policies (project_id, kind, content, updated_by)"
                " VALUES (:project, :kind, CAST(:content AS jsonb), :by) ON CONFLICT (project_id, kind)"
                " DO UPDATE SET content = excluded.content, updated_by = excluded.updated_by, updated_at = now()"
            ),
            {"project": project_id, "kind": kind, "content": as_json(content), "by": by},
        )

    # -- how far each cluster has come ----------------------------------------------------------------------------------

    def progress(self, cluster_ids: Sequence[UUID], *, lock: bool = False) -> dict[UUID, Progress]:
        """Where these clusters are; one that is not here was never looked at."""
        rows = self._connection.execute(
            text(
                "SELECT s.cluster_id, s.stage, s.since, s.idle_since, s.looked_at, s.notice_id, s.action, s.job_id,"
                " (SELECT j.state FROM jobs j WHERE j.id = s.job_id) AS job_state, EXISTS (SELECT 1 FROM webhook_deliveries d"
                " WHERE d.event_id = s.notice_id AND d.state = 'pending') AS notice_pending"
                f" FROM cleanup_states s WHERE s.cluster_id = {_IDS}" + (" FOR UPDATE OF s" if lock else "")
            ),
            {"ids": list(cluster_ids)},
        ).mappings()
        return {
            row["cluster_id"]: Progress(
                Stage(row["stage"]),
                row["since"],
                row["idle_since"],
                row["looked_at"],
                row["notice_id"],
                row["notice_pending"],
                row["action"],
                row["job_id"],
                row["job_state"],
            )
            for row in rows
        }

    def put_progress(self, project_id: str, rows: Mapping[UUID, Progress]) -> None:
        """Write where these clusters are."""
        values = [
            {
                "cluster_id": cluster_id,
                "stage": one.stage.value,
                "since": one.since,
                "idle_since": one.idle_since,
                "looked_at": one.looked_at,
                "notice_id": one.notice_id,
                "action": one.action,
                "job_id": one.job_id,
            }
            for cluster_id, one in rows.items()
        ]
        if values:
            self._connection.execute(
                text(
                    "INSERT INTO cleanup_states (cluster_id, project_id, stage, since, idle_since, looked_at, notice_id, action,"
                    " job_id) SELECT cluster_id, :project, stage, since, idle_since, looked_at, notice_id, action, job_id"
                    " FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS x(cluster_id uuid, stage text, since timestamptz,"
                    " idle_since timestamptz, looked_at timestamptz, notice_id uuid, action text, job_id uuid) ORDER BY cluster_id"
                    " ON CONFLICT (cluster_id) DO UPDATE SET stage = excluded.stage, since = excluded.since,"
                    " idle_since = excluded.idle_since, looked_at = excluded.looked_at, notice_id = excluded.notice_id,"
                    " action = excluded.action, job_id = excluded.job_id"
                ),
                {"project": project_id, "rows": as_json(values)},
            )

    def waiting(self, project_id: str) -> list[UUID]:
        """The project's clusters that are on their way, but for those that a job works on."""
        rows = self._connection.execute(
            text("SELECT cluster_id FROM cleanup_states WHERE project_id = :project AND stage NOT IN ('active', 'deleting')"),
            {"project": project_id},
        )
        return [row[0] for row in rows]

    def add_steps(self, project_id: str, steps: Sequence[Mapping[str, Any]]) -> None:
        """Add to the clusters' histories: cluster_id, at, from_stage, to_stage, reason, detail, made_by, evidence."""
        if steps:
            self._connection.execute(
                text(
                    "INSERT INTO cleanup_steps (cluster_id, project_id, at, from_stage, to_stage, reason, detail, made_by, evidence)"
                    " SELECT cluster_id, :project, at, from_stage, to_stage, reason, detail, made_by, evidence"
                    " FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS x(cluster_id uuid, at timestamptz, from_stage text,"
                    " to_stage text, reason text, detail text, made_by text, evidence jsonb)"
                ),
                {"project": project_id, "rows": as_json(list(steps))},
            )

    def steps(self, cluster_id: UUID, *, limit: int = 100) -> list[dict[str, Any]]:
        """A cluster's latest steps, newest first."""
        rows = self._connection.execute(
            text(
                "SELECT at, from_stage, to_stage, reason, detail, made_by, evidence FROM cleanup_steps WHERE cluster_id = :id"
                " ORDER BY id DESC LIMIT :limit"
            ),
            {"id": cluster_id, "limit": limit},
        ).mappings()
        return [dict(row) for row in rows]

    # -- verdicts -------------------------------------------------------------------------------------------------------

    def put_verdicts(self, project_id: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add verdicts: cluster_id, at, key, idle, evidence. One that says the same as the latest only moves its time on."""
        if not rows:
            return
        needs = "AS x(cluster_id uuid, at timestamptz, key text, idle boolean, evidence jsonb)"
        values = {"project": project_id, "rows": as_json(list(rows))}
        self._connection.execute(
            text(
                f"UPDATE idle_verdicts v SET latest = false FROM jsonb_to_recordset(CAST(:rows AS jsonb)) {needs}"
                " WHERE v.cluster_id = x.cluster_id AND v.latest AND v.key <> x.key"
            ),
            {"rows": values["rows"]},
        )
        self._connection.execute(
            text(
                "INSERT INTO idle_verdicts AS v (cluster_id, project_id, key, idle, evidence, first_at, at)"
                " SELECT cluster_id, :project, key, idle, evidence, at, at"
                f" FROM jsonb_to_recordset(CAST(:rows AS jsonb)) {needs} ORDER BY cluster_id"
                " ON CONFLICT (cluster_id) WHERE latest DO UPDATE SET at = excluded.at, evidence = excluded.evidence,"
                " looks = v.looks + 1"
            ),
            values,
        )

    def verdicts(self, cluster_id: UUID, *, limit: int = 20) -> list[dict[str, Any]]:
        """What was found of a cluster, newest first: each says for how many looks, and from when to when."""
        rows = self._connection.execute(
            text(
                "SELECT first_at, at, looks, idle, evidence FROM idle_verdicts WHERE cluster_id = :id ORDER BY id DESC LIMIT :limit"
            ),
            {"id": cluster_id, "limit": limit},
        ).mappings()
        return [dict(row) for row in rows]

    # -- holds ----------------------------------------------------------------------------------------------------------

    def holds(self, cluster_ids: Sequence[UUID]) -> dict[UUID, Hold]:
        """The holds on these clusters, also those that are over."""
        rows = self._connection.execute(
            text(f"SELECT cluster_id, until_at, why, held_by, created_at FROM cluster_holds WHERE cluster_id = {_IDS}"),
            {"ids": list(cluster_ids)},
        )
        return {row[0]: Hold(row[1], row[2], row[3], row[4]) for row in rows}

    def put_hold(self, cluster_id: UUID, until_at: datetime, why: str, by: str) -> None:
        """Hold a cluster; a hold that it had is replaced."""
        self._connection.execute(
            text(
                "INSERT INTO cluster_holds (cluster_id, until_at, why, held_by) VALUES (:id, :until, :why, :by)"
                " ON CONFLICT (cluster_id) DO UPDATE SET until_at = excluded.until_at, why = excluded.why,"
                " held_by = excluded.held_by, created_at = now()"
            ),
            {"id": cluster_id, "until": until_at, "why": why, "by": by},
        )

    def drop_hold(self, cluster_id: UUID) -> bool:
        """Let a cluster go; False where nobody held it. When a hold ended counts as use, so it ends now and is kept."""
        found = self._connection.execute(
            text("UPDATE cluster_holds SET until_at = now() WHERE cluster_id = :id AND until_at > now() RETURNING 1"),
            {"id": cluster_id},
        )
        return found.first() is not None

    # -- keeping --------------------------------------------------------------------------------------------------------

    def forget_old(self, *, verdict_days: int, step_days: int) -> int:
        """Drop verdicts (but for each cluster's latest) and steps past their keeping time; how many rows went."""
        gone = self._connection.execute(
            text("DELETE FROM idle_verdicts WHERE NOT latest AND at < now() - :age"), {"age": timedelta(days=verdict_days)}
        ).rowcount
        gone += self._connection.execute(
            text("DELETE FROM cleanup_steps WHERE at < now() - :age"), {"age": timedelta(days=step_days)}
        ).rowcount
        return gone
