"""The audit trail: who did what that no job records."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from shared.db.rows import as_json
from shared.domain.ports import Actor


class AuditRepository:
    """The table audit_events; rows are only ever added."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def record(self, actor: Actor, action: str, cluster_id: UUID | None, detail: Mapping[str, Any]) -> None:
        """Write one line. No secret belongs in ``detail``."""
        self._connection.execute(
            text(
                "INSERT INTO audit_events (project_id, user_id, user_name, request_id, action, cluster_id, detail)"
                " VALUES (:project, :user, :name, :request, :action, :cluster, CAST(:detail AS jsonb))"
            ),
            {
                "project": actor.project_id,
                "user": actor.user_id,
                "name": actor.user_name,
                "request": actor.request_id,
                "action": action,
                "cluster": cluster_id,
                "detail": as_json(detail),
            },
        )

    def of_cluster(self, cluster_id: UUID, *, limit: int = 100) -> list[dict[str, Any]]:
        """The latest lines about a cluster, newest first."""
        rows = self._connection.execute(
            text(
                "SELECT at, user_id, user_name, request_id, action, detail FROM audit_events WHERE cluster_id = :cluster"
                " ORDER BY id DESC LIMIT :limit"
            ),
            {"cluster": cluster_id, "limit": limit},
        ).mappings()
        return [dict(row) for row in rows]
