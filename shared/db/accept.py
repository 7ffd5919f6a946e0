"""Acceptance: everything a 202 promises, in one statement, for as many requests at once as are waiting.

A commit costs a disk's flush and a round trip however little it writes. So requests that arrive while a commit is under way are
written together by the next one: with one caller nothing waits, with many the cost is shared. Each request's rows (key, cluster,
job, first event) are in one statement, so they are there together or not at all.
"""

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import psycopg2
from sqlalchemy import Connection, Engine, text

from shared.db.rows import as_json
from shared.domain.clusters import Cluster
from shared.domain.jobs import Job
from shared.domain.ports import Idempotency
from shared.errors import Unavailable

#: Bounds one statement's size; more than this wait for the next.
BATCH = 100

_PREPARED = "kcloud_accept_creates"

_CREATE = f"""
PREPARE {_PREPARED} (jsonb) AS
WITH x AS MATERIALIZED (SELECT * FROM jsonb_to_recordset($1) AS x(
    id uuid, project text, region text, name text, magnum_name text, template_id text, template_name text, nodes int, masters int,
    keypair text, flavor text, master_flavor text, labels jsonb, options jsonb, by text, job uuid, params jsonb, request text,
    at timestamptz, deadline timestamptz, key text, fingerprint text)),
k AS (INSERT INTO idempotency_keys (project_id, key, fingerprint, job_id, created_at)
    SELECT project, key, fingerprint, job, at FROM x WHERE key IS NOT NULL
    ON CONFLICT (project_id, key) DO NOTHING RETURNING job_id),
c AS (INSERT INTO clusters (id, project_id, region, name, magnum_name, template_id, template_name, node_count, master_count,
        keypair, flavor, master_flavor, labels, options, phase, created_by, created_at, updated_at)
    SELECT id, project, region, name, magnum_name, template_id, template_name, nodes, masters, keypair, flavor, master_flavor,
        labels, options, 'Pending', by, at, at FROM x WHERE key IS NULL OR job IN (SELECT job_id FROM k) RETURNING id),
j AS (INSERT INTO jobs (id, project_id, region, cluster_id, kind, state, params, step, requested_by, request_id, deadline_at,
        created_at, due_at)
    SELECT x.job, x.project, x.region, x.id, 'create', 'queued', x.params, 'accepted', x.by, x.request, x.deadline, x.at, now()
    FROM x WHERE x.key IS NULL OR x.job IN (SELECT job_id FROM k) RETURNING id),
e AS (INSERT INTO job_events (job_id, at, step, state) SELECT x.job, x.at, 'accepted', 'queued' FROM x
    WHERE x.key IS NULL OR x.job IN (SELECT job_id FROM k))
SELECT id FROM j
"""


class AlreadyWritten(Exception):
    """The rows are there: the connection broke after the commit, and before its answer."""


@dataclass(slots=True)
class _Waiting:
    row: dict[str, Any]
    job_id: UUID
    done: threading.Event = field(default_factory=threading.Event)
    leads: bool = False
    written: bool | None = None
    error: BaseException | None = None


class Acceptor:
    """Writes accepted creates, those that wait together in one statement.

    Whoever finds nobody writing writes; the others wait for it, and one of them writes what has gathered meanwhile. Where a
    statement is refused (a name that is taken), its requests are written one by one, so that each gets its own answer.
    """

    def __init__(self, execute: Callable[[str], Sequence[UUID]]) -> None:
        self._execute = execute
        self._lock = threading.Lock()
        self._queue: deque[_Waiting] = deque()
        self._busy = False

    def create(self, cluster: Cluster, job: Job, idempotency: Idempotency | None) -> bool:
        """Write key, cluster, job and first event. False where the key was used before, and nothing was written."""
        mine = _Waiting(_row(cluster, job, idempotency), job.id)
        with self._lock:
            self._queue.append(mine)
            mine.leads = not self._busy
            self._busy = True
        if not mine.leads:
            mine.done.wait()
        if mine.leads:
            self._lead()
        if mine.error is not None:
            raise mine.error
        return bool(mine.written)

    def _lead(self) -> None:
        """Write one batch, which holds the leader's own request, and hand the lead on."""
        with self._lock:
            batch = [self._queue.popleft() for _ in range(min(len(self._queue), BATCH))]
        try:
            self._write(batch)
        finally:
            with self._lock:
                heir = self._queue[0] if self._queue else None
                self._busy = heir is not None
            for waiting in batch:
                waiting.done.set()
            if heir is not None:
                heir.leads = True
                heir.done.set()

    def _write(self, batch: list[_Waiting], *, again: bool = False) -> None:
        try:
            written = set(self._execute(as_json([waiting.row for waiting in batch])))
        except AlreadyWritten:
            batch[0].written = True
            return
        except Exception as exc:  # noqa: BLE001 - it belongs to the requests, each of which raises its own
            if len(batch) > 1 or (isinstance(exc, Unavailable) and not again):
                # A connection that broke may have committed: ids are ours, so a second writing finds the first.
                for waiting in batch:
                    self._write([waiting], again=True)
                return
            batch[0].error = exc
            return
        for waiting in batch:
            waiting.written = waiting.job_id in written


class CreateWriter:
    """Runs the statement over a connection of its own, on which it was prepared: planning it costs more than running it.

    Used by one thread at a time, which the :class:`Acceptor` sees to.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connection: Any = None  # psycopg2's; every statement on it is a transaction of its own

    def __call__(self, rows: str) -> list[UUID]:
        """The ids of the jobs it wrote. After an error that may have broken the connection, the next call opens another."""
        try:
            with self._opened().cursor() as cursor:
                cursor.execute(f"EXECUTE {_PREPARED} (%s)", (rows,))
                return [UUID(row[0]) if isinstance(row[0], str) else row[0] for row in cursor.fetchall()]
        except psycopg2.Error as exc:
            if not isinstance(exc, psycopg2.IntegrityError):
                self._close()
            raise

    def _opened(self) -> Any:
        if self._connection is None:
            pooled = self._engine.raw_connection()
            connection: Any = pooled.driver_connection
            pooled.detach()
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(_CREATE)
            self._connection = connection
        return self._connection

    def _close(self) -> None:
        held, self._connection = self._connection, None
        if held is not None:
            with contextlib.suppress(psycopg2.Error):
                held.close()


def _row(cluster: Cluster, job: Job | None, idempotency: Idempotency | None) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": cluster.id,
        "project": cluster.project_id,
        "region": cluster.region,
        "name": cluster.name,
        "magnum_name": cluster.magnum_name,
        "template_id": cluster.template_id,
        "template_name": cluster.template_name,
        "nodes": cluster.node_count,
        "masters": cluster.master_count,
        "keypair": cluster.keypair,
        "flavor": cluster.flavor,
        "master_flavor": cluster.master_flavor,
        "labels": cluster.labels,
        "options": cluster.options,
        "by": cluster.created_by,
        "at": cluster.created_at,
    }
    if job is None:
        return row
    return row | {
        "job": job.id,
        "params": job.params,
        "request": job.request_id,
        "at": job.created_at,
        "deadline": job.deadline_at,
        "key": idempotency.key if idempotency else None,
        "fingerprint": idempotency.fingerprint if idempotency else None,
    }


class AcceptRepository:
    """Keys, and jobs on existing clusters, in an open transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def remember(self, project_id: str, idempotency: Idempotency, job_id: UUID) -> bool:
        """Bind a key to a job. False where the key was used before."""
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

    def cluster(self, cluster: Cluster) -> None:
        """Write a cluster that is to be made, apart from its job."""
        row = _row(cluster, None, None)
        row |= {"labels": as_json(cluster.labels), "options": as_json(cluster.options), "stack": cluster.network_stack_id}
        self._connection.execute(
            text(
                "INSERT INTO clusters (id, project_id, region, name, magnum_name, template_id, template_name, node_count,"
                " master_count, keypair, flavor, master_flavor, labels, options, phase, created_by, created_at, updated_at,"
                " network_stack_id) VALUES (:id, :project, :region, :name, :magnum_name, :template_id, :template_name, :nodes,"
                " :masters, :keypair, :flavor, :master_flavor, CAST(:labels AS jsonb), CAST(:options AS jsonb), 'Pending', :by, :at,"
                " :at, :stack)"
            ),
            row,
        )

    def change(self, job: Job) -> None:
        """Write a job on a cluster or stack that has its row, and its first event."""
        values: dict[str, Any] = {
            "id": job.id,
            "project": job.project_id,
            "region": job.region,
            "cluster": job.cluster_id,
            "stack": job.stack_id,
            "after": job.after_id,
            "kind": job.kind.value,
            "params": as_json(job.params),
            "by": job.requested_by,
            "request": job.request_id,
            "deadline": job.deadline_at,
            "at": job.created_at,
        }
        self._connection.execute(
            text(
                "WITH j AS (INSERT INTO jobs (id, project_id, region, cluster_id, stack_id, after_id, kind, state, params, step,"
                " requested_by, request_id, deadline_at, created_at, due_at) VALUES (:id, :project, :region, :cluster, :stack,"
                " :after, :kind, 'queued', CAST(:params AS jsonb), 'accepted', :by, :request, :deadline, :at, now()) RETURNING id)"
                " INSERT INTO job_events (job_id, at, step, state) SELECT id, :at, 'accepted', 'queued' FROM j"
            ),
            values,
        )
