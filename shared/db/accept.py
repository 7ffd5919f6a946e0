"""Acceptance: everything a 202 promises, in one statement.

One statement is one round trip and one commit. psycopg2 does not prepare statements, so PostgreSQL would parse and plan
the whole each time; the statement is therefore prepared once per connection under a name of its own.
"""

from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from shared.db.rows import as_json
from shared.domain.clusters import Cluster
from shared.domain.jobs import Job
from shared.domain.ports import Idempotency

_CLUSTER_VALUES = """
    (id, project_id, region, name, magnum_name, template_id, template_name, node_count, master_count, keypair, flavor,
     master_flavor, labels, options, phase, created_by, created_at, updated_at)
  SELECT $1::uuid, $2::text, $3::text, $4::text, $5::text, $6::text, $7::text, $8::int, $9::int, $10::text, $11::text,
     $12::text, $13::jsonb, $14::jsonb, 'Pending', $15::text, $19::timestamptz, $19::timestamptz"""

_JOB_VALUES = """
    (id, project_id, region, cluster_id, kind, state, params, step, requested_by, request_id, deadline_at, created_at, due_at)
  SELECT $16::uuid, $2::text, $3::text, c.id, 'create', 'queued', $17::jsonb, 'accepted', $15::text, $18::text,
     $20::timestamptz, $19::timestamptz, now()"""

_CREATE = f"""
PREPARE kcloud_accept_create AS
WITH key AS (
  INSERT INTO idempotency_keys (project_id, key, fingerprint, job_id, created_at)
  SELECT $2::text, $21::text, $22::text, $16::uuid, $19::timestamptz WHERE $21::text IS NOT NULL
  ON CONFLICT (project_id, key) DO NOTHING RETURNING 1),
c AS (INSERT INTO clusters {_CLUSTER_VALUES}
  WHERE $21::text IS NULL OR EXISTS (SELECT 1 FROM key) RETURNING id),
j AS (INSERT INTO jobs {_JOB_VALUES} FROM c RETURNING id, seq),
e AS (INSERT INTO job_events (job_id, at, step, state) SELECT j.id, $19::timestamptz, 'accepted', 'queued' FROM j)
SELECT seq FROM j
"""

_EXECUTE = f"EXECUTE kcloud_accept_create ({', '.join(['%s'] * 22)})"


class AcceptRepository:
    """Writes what a request promised."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def create(self, cluster: Cluster, job: Job, idempotency: Idempotency | None) -> bool:
        """Write key, cluster, job and first event. False where the key was used before, and nothing was written."""
        self._prepare()
        key, fingerprint = (idempotency.key, idempotency.fingerprint) if idempotency else (None, None)
        row = self._connection.exec_driver_sql(
            _EXECUTE,
            (
                str(cluster.id),
                cluster.project_id,
                cluster.region,
                cluster.name,
                cluster.magnum_name,
                cluster.template_id,
                cluster.template_name,
                cluster.node_count,
                cluster.master_count,
                cluster.keypair,
                cluster.flavor,
                cluster.master_flavor,
                as_json(cluster.labels),
                as_json(cluster.options),
                cluster.created_by,
                str(job.id),
                as_json(job.params),
                job.request_id,
                job.created_at,
                job.deadline_at,
                key,
                fingerprint,
            ),
        ).first()
        return row is not None

    def _prepare(self) -> None:
        info = self._connection.info  # lives as long as the DBAPI connection
        if not info.get("kcloud_accept_create"):
            self._connection.exec_driver_sql(_CREATE)
            info["kcloud_accept_create"] = True

    def remember(self, project_id: str, idempotency: Idempotency, job_id: UUID) -> bool:
        """Bind a key to a job in the open transaction. False where the key was used before."""
        row = self._connection.execute(
            text(
                "INSERT INTO idempotency_keys (project_id, key, fingerprint, job_id) VALUES (:p, :k, :f, :j)"
                " ON CONFLICT DO NOTHING RETURNING 1"
            ),
            {"p": project_id, "k": idempotency.key, "f": idempotency.fingerprint, "j": job_id},
        ).first()
        return row is not None

    def recall(self, project_id: str, key: str) -> tuple[str, UUID] | None:
        """Fingerprint and job of a key that was used before."""
        row = self._connection.execute(
            text("SELECT fingerprint, job_id FROM idempotency_keys WHERE project_id = :p AND key = :k"),
            {"p": project_id, "k": key},
        ).first()
        return (row[0], row[1]) if row else None

    def change(self, job: Job) -> None:
        """Write a job on an existing cluster, and its first event, in the open transaction."""
        values: dict[str, Any] = {
            "id": job.id,
            "project": job.project_id,
            "region": job.region,
            "cluster": job.cluster_id,
            "kind": job.kind.value,
            "params": as_json(job.params),
            "by": job.requested_by,
            "request": job.request_id,
            "deadline": job.deadline_at,
            "at": job.created_at,
        }
        self._connection.execute(
            text(
                "WITH j AS (INSERT INTO jobs (id, project_id, region, cluster_id, kind, state, params, step, requested_by,"
                " request_id, deadline_at, created_at, due_at) VALUES (:id, :project, :region, :cluster, :kind, 'queued',"
                " CAST(:params AS jsonb), 'accepted', :by, :request, :deadline, :at, now()) RETURNING id)"
                " INSERT INTO job_events (job_id, at, step, state) SELECT id, :at, 'accepted', 'queued' FROM j"
            ),
            values,
        )
