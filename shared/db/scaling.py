"""Scale policies of clusters, and what is known of their use."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, text

from shared.db.rows import as_json
from shared.domain.scaling import Use


class HeldPolicy(NamedTuple):
    """A cluster's policy as it is stored, and the last that came of it."""

    cluster_id: UUID
    policy: dict[str, Any]
    enabled: bool
    decision: dict[str, Any] | None
    decided_at: datetime | None
    updated_by: str | None
    updated_at: datetime


_COLUMNS = ", ".join(f"p.{name}" for name in HeldPolicy._fields)


class ScalePolicyRepository:
    """The table scale_policies."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def get(self, cluster_id: UUID) -> HeldPolicy | None:
        """A cluster's policy; None where it has none."""
        row = self._connection.execute(
            text(f"SELECT {_COLUMNS} FROM scale_policies p WHERE p.cluster_id = :id"), {"id": cluster_id}
        ).first()
        return HeldPolicy(*row) if row else None

    def put(self, cluster_id: UUID, policy: Mapping[str, Any], *, by: str) -> None:
        """Give a cluster a policy, in place of the one that it had."""
        self._connection.execute(
            text(
                "INSERT INTO scale_policies (cluster_id, policy, enabled, updated_by) VALUES (:id, CAST(:policy AS jsonb), :on, :by)"
                " ON CONFLICT (cluster_id) DO UPDATE SET policy = excluded.policy, enabled = excluded.enabled,"
                " updated_by = excluded.updated_by, updated_at = now()"
            ),
            {"id": cluster_id, "policy": as_json(dict(policy)), "on": bool(policy["enabled"]), "by": by},
        )

    def delete(self, cluster_id: UUID) -> bool:
        """Take it away; False where there was none."""
        found = self._connection.execute(text("DELETE FROM scale_policies WHERE cluster_id = :id RETURNING 1"), {"id": cluster_id})
        return found.first() is not None

    def take_due(self, *, every_s: float, limit: int) -> list[tuple[UUID, str, str]]:
        """Cluster, region and project of policies that are switched on and due; of several callers at once, one gets each."""
        rows = self._connection.execute(
            text(
                "UPDATE scale_policies p SET decided_at = now() FROM clusters c WHERE c.id = p.cluster_id AND p.cluster_id IN"
                " (SELECT q.cluster_id FROM scale_policies q JOIN clusters d ON d.id = q.cluster_id WHERE q.enabled AND d.live"
                " AND d.managed AND (q.decided_at IS NULL OR q.decided_at <= now() - make_interval(secs => :every))"
                " ORDER BY q.decided_at NULLS FIRST LIMIT :limit FOR UPDATE OF q SKIP LOCKED)"
                " RETURNING c.id, c.region, c.project_id"
            ),
            {"every": every_s, "limit": limit},
        )
        return [(row[0], row[1], row[2]) for row in rows]

    def decided(self, cluster_id: UUID, decision: Mapping[str, Any]) -> None:
        """What came of it."""
        self._connection.execute(
            text("UPDATE scale_policies SET decision = CAST(:decision AS jsonb), decided_at = now() WHERE cluster_id = :id"),
            {"id": cluster_id, "decision": as_json(dict(decision))},
        )

    def hibernated_by(self, cluster_id: UUID) -> str | None:
        """Who asked for the cluster's latest hibernation; None where that is not known (any more)."""
        value: str | None = self._connection.execute(
            text("SELECT requested_by FROM jobs WHERE cluster_id = :id AND kind = 'hibernate' ORDER BY seq DESC LIMIT 1"),
            {"id": cluster_id},
        ).scalar()
        return value

    def changed_at(self, cluster_id: UUID) -> datetime | None:
        """When the number of the cluster's workers last changed, or a job that changes it ended; None where neither is known."""
        value: datetime | None = self._connection.execute(
            text(
                "SELECT greatest((SELECT max(finished_at) FROM jobs WHERE cluster_id = :id AND kind IN ('create','resize',"
                "'add_node_group','remove_node_group','hibernate','wake') AND state IN ('succeeded','failed')),"
                " (SELECT max(started_at) FROM usage_intervals WHERE cluster_id = :id AND role <> 'master'))"
            ),
            {"id": cluster_id},
        ).scalar()
        return value

    def use(self, cluster_id: UUID, *, within_s: float) -> Use:
        """The highest measured use of the last so many seconds; None for what nobody measured in them."""
        row = self._connection.execute(
            text(
                "SELECT max(cpu_usage), max(gpu_usage) FROM cluster_metrics WHERE cluster_id = :id"
                " AND time >= now() - make_interval(secs => :within)"
            ),
            {"id": cluster_id, "within": within_s},
        ).one()
        return Use(*(None if value is None else float(value) / 100 for value in row))
