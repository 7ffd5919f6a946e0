"""Clusters: reading them, and writing what was asked and what Magnum showed."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from shared.db.rows import CLUSTER_COLUMNS, JOB_COLUMNS, as_json, cluster_from, job_from
from shared.domain.clusters import Cluster, NodeGroupSpec, ObservedCluster, Phase, Scope
from shared.domain.jobs import Job, JobKind
from shared.domain.ports import ClusterFilter
from shared.domain.usage import Known

_OBSERVED = """status = x.status, status_reason = x.status_reason, health_status = x.health_status,
    health_status_reason = x.health_status_reason, observed_node_count = x.node_count, observed_master_count = x.master_count,
    api_address = coalesce(x.api_address, c.api_address), coe_version = coalesce(x.coe_version, c.coe_version),
    stack_id = coalesce(x.stack_id, c.stack_id), flavor = coalesce(x.flavor, c.flavor),
    master_flavor = coalesce(x.master_flavor, c.master_flavor), keypair = coalesce(c.keypair, x.keypair),
    magnum_created_at = coalesce(x.created_at, c.magnum_created_at), magnum_updated_at = x.updated_at,
    first_seen_at = coalesce(c.first_seen_at, x.observed_at), observed_at = x.observed_at, gone = false"""

_OBSERVED_TYPE = """id uuid, generation int, status text, status_reason text, health_status text, health_status_reason jsonb,
    node_count int, master_count int, api_address text, coe_version text, stack_id text, flavor text, master_flavor text,
    keypair text, created_at timestamptz, updated_at timestamptz, observed_at timestamptz, phase text, reason text,
    reason_detail text, arrived boolean"""

_PREFIXED = ", ".join(f"{name} AS c_{name[2:]}" for name in CLUSTER_COLUMNS.split(", "))


class ClusterRepository:
    """The clusters table."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def get(self, project_id: str, ref: str, *, lock: bool = False) -> Cluster | None:
        """The project's cluster with our id or Magnum's uuid ``ref``; deleted ones are not found. ``lock``: for writing."""
        try:
            as_uuid = UUID(ref)
        except ValueError:
            return None
        row = (
            self._connection.execute(
                text(
                    f"SELECT {CLUSTER_COLUMNS} FROM clusters c WHERE c.project_id = :project AND c.deleted_at IS NULL"
                    " AND (c.id = :id OR c.magnum_uuid = :uuid) ORDER BY (c.id = :id) DESC LIMIT 1"
                    + (" FOR NO KEY UPDATE OF c" if lock else "")
                ),
                {"project": project_id, "id": as_uuid, "uuid": str(as_uuid)},
            )
            .mappings()
            .first()
        )
        return cluster_from(row) if row else None

    def by_id(self, cluster_id: UUID, *, lock: bool = False) -> Cluster | None:
        """One cluster, also a deleted one."""
        row = (
            self._connection.execute(
                text(f"SELECT {CLUSTER_COLUMNS} FROM clusters c WHERE c.id = :id" + (" FOR NO KEY UPDATE OF c" if lock else "")),
                {"id": cluster_id},
            )
            .mappings()
            .first()
        )
        return cluster_from(row) if row else None

    def select(self, project_id: str, where: ClusterFilter, *, limit: int, after: UUID | None) -> list[Cluster]:
        """The project's clusters in the order of their making, after the cluster ``after``."""
        rows = self._connection.execute(
            text(
                f"SELECT {CLUSTER_COLUMNS} FROM clusters c WHERE c.project_id = :project AND c.deleted_at IS NULL"
                " AND (CAST(:status AS text) IS NULL OR c.status = upper(:status) OR lower(c.phase) = lower(:status)"
                "   OR (c.status IS NULL AND upper(:status) = 'CREATE_REQUESTED'))"
                " AND (CAST(:workload AS text) IS NULL OR c.labels ->> 'workload_type' = :workload)"
                " AND (CAST(:managed AS boolean) IS NULL OR c.managed = :managed)"
                " AND (CAST(:after AS uuid) IS NULL OR c.seq > (SELECT seq FROM clusters WHERE id = :after))"
                " ORDER BY c.seq LIMIT :limit"
            ),
            {
                "project": project_id,
                "status": where.status,
                "workload": where.workload_type,
                "managed": where.managed,
                "after": after,
                "limit": limit,
            },
        ).mappings()
        return [cluster_from(row) for row in rows]

    def exists(self, project_id: str, cluster_id: UUID) -> bool:
        """Whether the project has or had this cluster (a marker may have been deleted since)."""
        return (
            self._connection.execute(
                text("SELECT 1 FROM clusters WHERE id = :id AND project_id = :project"),
                {"id": cluster_id, "project": project_id},
            ).first()
            is not None
        )

    def name_taken(self, project_id: str, region: str, name: str) -> bool:
        """Whether a live cluster of ours holds this name."""
        return (
            self._connection.execute(
                text(
                    "SELECT 1 FROM clusters WHERE project_id = :project AND region = :region AND name = :name AND live AND managed"
                ),
                {"project": project_id, "region": region, "name": name},
            ).first()
            is not None
        )

    # -- what was asked -----------------------------------------------------------------------------------------------

    def want(self, cluster_id: UUID, *, phase: Phase, node_count: int | None = None) -> None:
        """A change was accepted: a new generation of what is wanted."""
        self._connection.execute(
            text(
                "UPDATE clusters SET generation = generation + 1, phase = :phase, reason = NULL, reason_detail = NULL,"
                " node_count = coalesce(CAST(:count AS int), node_count), updated_at = now() WHERE id = :id"
            ),
            {"id": cluster_id, "phase": phase.value, "count": node_count},
        )

    def bind(self, cluster_id: UUID, uuid: str) -> None:
        """Magnum's uuid is known. The unique index refuses a second row for the same Magnum cluster."""
        self._connection.execute(
            text("UPDATE clusters SET magnum_uuid = :uuid, updated_at = now() WHERE id = :id"),
            {"id": cluster_id, "uuid": uuid},
        )

    def seen(self, cluster_id: UUID, status: str) -> None:
        """Magnum showed it: from now on its absence means that it is gone."""
        self._connection.execute(
            text(
                "UPDATE clusters SET first_seen_at = coalesce(first_seen_at, now()), observed_at = now(), status = :status"
                " WHERE id = :id"
            ),
            {"id": cluster_id, "status": status},
        )

    def set_phase(self, cluster_id: UUID, phase: Phase, reason: str | None = None, detail: str | None = None) -> None:
        """What a job's own course says about the cluster."""
        self._connection.execute(
            text(
                "UPDATE clusters SET phase = :phase, reason = :reason, reason_detail = :detail, updated_at = now() WHERE id = :id"
            ),
            {"id": cluster_id, "phase": phase.value, "reason": reason, "detail": detail},
        )

    def never_made(self, cluster_id: UUID, reason: str, detail: str) -> None:
        """The create ended without a cluster in Magnum: the row stays to tell why, but gives its name free."""
        self._connection.execute(
            text(
                "UPDATE clusters SET phase = 'Failed', reason = :reason, reason_detail = :detail, live = false,"
                " updated_at = now() WHERE id = :id"
            ),
            {"id": cluster_id, "reason": reason, "detail": detail},
        )

    def job_failed(self, job: Job) -> None:
        """A job ended without a worker to say so: the cluster shows why."""
        error = job.error or {}
        if job.kind is JobKind.CREATE:
            self._connection.execute(
                text(
                    "UPDATE clusters SET phase = 'Failed', reason = :reason, reason_detail = :detail,"
                    " live = magnum_uuid IS NOT NULL, updated_at = now() WHERE id = :id"
                ),
                {"id": job.of_cluster, "reason": error.get("reason"), "detail": error.get("detail")},
            )
        else:
            self.set_phase(job.of_cluster, Phase.FAILED, error.get("reason"), error.get("detail"))

    def mark_deleted(self, cluster_ids: Sequence[UUID]) -> None:
        """They are gone from Magnum by our doing."""
        self._connection.execute(
            text(
                "UPDATE clusters SET live = false, deleted_at = clock_timestamp(), status = 'DELETE_COMPLETE',"
                " phase = 'Deleting', reason = NULL, reason_detail = NULL, observed_generation = generation,"
                " updated_at = now() WHERE id = ANY(CAST(:ids AS uuid[])) AND deleted_at IS NULL"
            ),
            {"ids": list(cluster_ids)},
        )

    def mark_gone(self, cluster_ids: Sequence[UUID]) -> None:
        """They vanished from Magnum without our doing: shown as Failed, their names are free."""
        self._connection.execute(
            text(
                "UPDATE clusters SET live = false, gone = true, phase = 'Failed', reason = 'CLUSTER_GONE',"
                " reason_detail = 'The cluster was removed from Magnum outside this system.', updated_at = now()"
                " WHERE id = ANY(CAST(:ids AS uuid[])) AND deleted_at IS NULL"
            ),
            {"ids": list(cluster_ids)},
        )

    # -- what Magnum showed -------------------------------------------------------------------------------------------

    def observe(self, rows: Sequence[Mapping[str, Any]]) -> dict[UUID, Known]:
        """Write observations (made by :func:`observation`), each only if it is newer than the one we have.

        Newer is what was asked later by our clock, or what Magnum dates later (a change's end may have the date of its beginning): should
        our clock be set back, changes are seen all the same. Phase and reason are written only where nobody asked for a change since the row was read (same generation).
        Returns what was on record before, of each cluster that was written.
        """
        if not rows:
            return {}
        # All who write several clusters lock them in one order, so that a tick and an inventory can't deadlock.
        before = self._connection.execute(
            text(
                "SELECT id, status, magnum_updated_at FROM clusters WHERE id = ANY(CAST(:ids AS uuid[])) ORDER BY id FOR NO KEY UPDATE"
            ),
            {"ids": [row["id"] for row in rows]},
        )
        known = {row[0]: Known(row[1], row[2]) for row in before}
        written = self._connection.execute(
            text(
                f"""UPDATE clusters c SET {_OBSERVED},
                    phase = CASE WHEN c.generation = x.generation THEN x.phase ELSE c.phase END,
                    reason = CASE WHEN c.generation = x.generation THEN x.reason ELSE c.reason END,
                    reason_detail = CASE WHEN c.generation = x.generation THEN x.reason_detail ELSE c.reason_detail END,
                    observed_generation = CASE WHEN x.arrived THEN x.generation ELSE c.observed_generation END,
                    updated_at = CASE WHEN c.status IS DISTINCT FROM x.status
                        OR c.observed_node_count IS DISTINCT FROM x.node_count THEN now() ELSE c.updated_at END
                FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS x({_OBSERVED_TYPE})
                WHERE c.id = x.id AND c.deleted_at IS NULL AND (c.observed_at IS NULL OR c.observed_at <= x.observed_at
                    OR x.updated_at > c.magnum_updated_at OR (x.updated_at = c.magnum_updated_at
                    AND right(c.status, 12) = '_IN_PROGRESS' AND right(x.status, 12) <> '_IN_PROGRESS')) RETURNING c.id"""
            ),
            {"rows": as_json(list(rows))},
        )
        return {row[0]: known[row[0]] for row in written}

    def converging(self, scope: Scope, uuids: Sequence[str]) -> list[tuple[Job, Cluster]]:
        """Of these Magnum clusters, those a converging job waits for."""
        return self._pairs(
            "j.region = :region AND j.project_id = :project AND c.magnum_uuid = ANY(CAST(:uuids AS text[]))",
            {"region": scope.region, "project": scope.project_id, "uuids": list(uuids)},
        )

    def converging_due(self, scope: Scope, *, limit: int, which: str) -> list[tuple[Job, Cluster]]:
        """Jobs whose cluster should be looked at by itself now: past their deadline first, then longest unseen.

        ``which``: "unlisted" (deletions and those past their deadline), "listed" (the others), or "all", also those whose time
        to be looked at has not come.
        """
        unlisted = "(j.kind = 'delete' OR j.deadline_at <= now())"
        due = "(j.look_at <= now() OR j.deadline_at <= now())"
        condition = {"unlisted": f"{unlisted} AND {due}", "listed": f"NOT {unlisted} AND {due}", "all": "true"}[which]
        return self._pairs(
            f"j.region = :region AND j.project_id = :project AND {condition}"
            " ORDER BY (j.deadline_at <= now()) DESC, coalesce(c.observed_at, j.submitted_at) LIMIT :limit",
            {"region": scope.region, "project": scope.project_id, "limit": limit},
        )

    def _pairs(self, condition: str, values: Mapping[str, Any]) -> list[tuple[Job, Cluster]]:
        rows = self._connection.execute(
            text(
                f"SELECT {JOB_COLUMNS}, {_PREFIXED} FROM jobs j JOIN clusters c ON c.id = j.cluster_id"
                f" WHERE j.state = 'converging' AND {condition}"
            ),
            values,
        ).mappings()
        return [(job_from(row), cluster_from(row, "c_")) for row in rows]

    # -- node groups --------------------------------------------------------------------------------------------------

    def remember_sizes(self, cluster_id: UUID, sizes: Mapping[str, int]) -> None:
        """What to wake it with. The first memory stands: a hibernation that is tried again finds some groups at zero."""
        self._connection.execute(
            text(
                "UPDATE clusters SET hibernated_sizes = coalesce(hibernated_sizes, CAST(:sizes AS jsonb)), updated_at = now()"
                " WHERE id = :id"
            ),
            {"id": cluster_id, "sizes": as_json(sizes)},
        )

    def want_nodes(self, cluster_id: UUID, count: int) -> None:
        """How many workers are wanted, now that a change of several groups has arrived."""
        self._connection.execute(
            text("UPDATE clusters SET node_count = :count, updated_at = now() WHERE id = :id"), {"id": cluster_id, "count": count}
        )

    def forget_sizes(self, cluster_ids: Sequence[UUID]) -> None:
        """These are awake."""
        self._connection.execute(
            text("UPDATE clusters SET hibernated_sizes = NULL WHERE id = ANY(CAST(:ids AS uuid[]))"), {"ids": list(cluster_ids)}
        )

    def set_template(self, cluster_id: UUID, template_id: str, template_name: str | None) -> None:
        """The template it was made from, or was upgraded to."""
        self._connection.execute(
            text("UPDATE clusters SET template_id = :template, template_name = :name, updated_at = now() WHERE id = :id"),
            {"id": cluster_id, "template": template_id, "name": template_name},
        )

    def groups(self, cluster_id: UUID) -> dict[str, int]:
        """Nodes wanted in each node group that was added to the default one."""
        rows = self._connection.execute(
            text("SELECT name, node_count FROM node_groups WHERE cluster_id = :id ORDER BY name"), {"id": cluster_id}
        )
        return {row[0]: row[1] for row in rows}

    def want_group(self, cluster_id: UUID, spec: NodeGroupSpec) -> None:
        """A node group that is wanted besides the default one, or its new size."""
        self._connection.execute(
            text(
                "INSERT INTO node_groups (cluster_id, name, role, flavor, image, node_count, least, most, labels)"
                " VALUES (:id, :name, :role, :flavor, :image, :count, :least, :most, CAST(:labels AS jsonb))"
                " ON CONFLICT (cluster_id, name) DO UPDATE SET node_count = excluded.node_count, updated_at = now()"
            ),
            {
                "id": cluster_id,
                "name": spec.name,
                "role": spec.role,
                "flavor": spec.flavor,
                "image": spec.image,
                "count": spec.node_count,
                "least": spec.least or 0,
                "most": spec.most,
                "labels": as_json(spec.labels),
            },
        )

    def drop_group(self, cluster_id: UUID, name: str) -> None:
        """A node group that is no longer wanted."""
        self._connection.execute(
            text("DELETE FROM node_groups WHERE cluster_id = :id AND name = :name"), {"id": cluster_id, "name": name}
        )

    def manage(self, cluster_id: UUID, *, name: str, by: str) -> None:
        """Take over a cluster that was made elsewhere."""
        self._connection.execute(
            text(
                "UPDATE clusters SET managed = true, live = true, name = :name, created_by = :by, updated_at = now() WHERE id = :id"
            ),
            {"id": cluster_id, "name": name, "by": by},
        )

    # -- inventory ------------------------------------------------------------------------------------------------------

    def by_uuids(self, region: str, uuids: Sequence[str]) -> dict[str, Cluster]:
        """Rows that hold these Magnum clusters, deleted ones too; locked, so that what is read of them next is of the same moment."""
        rows = self._connection.execute(
            text(
                f"SELECT {CLUSTER_COLUMNS} FROM clusters c WHERE c.region = :region"
                " AND c.magnum_uuid = ANY(CAST(:uuids AS text[])) ORDER BY c.id FOR NO KEY UPDATE"
            ),
            {"region": region, "uuids": list(uuids)},
        ).mappings()
        return {row["magnum_uuid"]: cluster_from(row) for row in rows}

    def by_ids(self, ids: Sequence[UUID]) -> dict[UUID, Cluster]:
        """Rows of these ids, deleted ones too."""
        rows = self._connection.execute(
            text(f"SELECT {CLUSTER_COLUMNS} FROM clusters c WHERE c.id = ANY(CAST(:ids AS uuid[]))"), {"ids": list(ids)}
        ).mappings()
        return {row["id"]: cluster_from(row) for row in rows}

    def unseen_since(self, scope: Scope, since: datetime, *, limit: int) -> list[Cluster]:
        """Live clusters, known before ``since``, that no look has found since then."""
        rows = self._connection.execute(
            text(
                f"SELECT {CLUSTER_COLUMNS} FROM clusters c WHERE c.region = :region AND c.project_id = :project AND c.live"
                " AND c.magnum_uuid IS NOT NULL AND c.first_seen_at < :since AND c.observed_at < :since"
                " ORDER BY c.observed_at LIMIT :limit"
            ),
            {"region": scope.region, "project": scope.project_id, "since": since, "limit": limit},
        ).mappings()
        return [cluster_from(row) for row in rows]

    def add_found(self, cluster: Cluster) -> bool:
        """A cluster that inventory found in Magnum and no row holds. False where another inventory was first."""
        row = self._connection.execute(
            text(
                "INSERT INTO clusters (id, project_id, region, name, magnum_name, magnum_uuid, managed, template_id, node_count,"
                " master_count, keypair, flavor, master_flavor, labels, phase, created_by) VALUES (:id, :project, :region, :name,"
                " :magnum_name, :uuid, :managed, :template, :nodes, :masters, :keypair, :flavor, :master_flavor,"
                " CAST(:labels AS jsonb), :phase, :by) ON CONFLICT DO NOTHING RETURNING 1"
            ),
            {
                "id": cluster.id,
                "project": cluster.project_id,
                "region": cluster.region,
                "name": cluster.name,
                "magnum_name": cluster.magnum_name,
                "uuid": cluster.magnum_uuid,
                "managed": cluster.managed,
                "template": cluster.template_id,
                "nodes": cluster.node_count,
                "masters": cluster.master_count,
                "keypair": cluster.keypair,
                "flavor": cluster.flavor,
                "master_flavor": cluster.master_flavor,
                "labels": as_json(cluster.labels),
                "phase": cluster.phase.value,
                "by": cluster.created_by,
            },
        ).first()
        return row is not None

    def revive(self, cluster_id: UUID) -> None:
        """A cluster taken for deleted showed up in Magnum after all."""
        self._connection.execute(
            text("UPDATE clusters SET deleted_at = NULL, updated_at = now() WHERE id = :id"), {"id": cluster_id}
        )

    def counts(self) -> list[tuple[str, int]]:
        """Live clusters by phase."""
        rows = self._connection.execute(text("SELECT phase, count(*) FROM clusters WHERE live GROUP BY phase"))
        return [(row[0], row[1]) for row in rows]


def observation(
    cluster: Cluster,
    observed: ObservedCluster,
    at: datetime,
    verdict: tuple[Phase, str | None, str | None],
    *,
    arrived: bool,
) -> dict[str, Any]:
    """One row for :meth:`ClusterRepository.observe`."""
    phase, reason, detail = verdict
    return {
        "id": cluster.id,
        "generation": cluster.generation,
        "status": observed.raw_status,
        "status_reason": observed.status_reason,
        "health_status": observed.health_status,
        "health_status_reason": observed.health_status_reason,
        "node_count": observed.node_count,
        "master_count": observed.master_count,
        "api_address": observed.api_address,
        "coe_version": observed.coe_version,
        "stack_id": observed.stack_id,
        "flavor": observed.flavor,
        "master_flavor": observed.master_flavor,
        "keypair": observed.keypair,
        "created_at": observed.created_at,
        "updated_at": observed.updated_at,
        "observed_at": at,
        "phase": phase.value,
        "reason": reason,
        "reason_detail": detail,
        "arrived": arrived,
    }
