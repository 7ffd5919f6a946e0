"""Cluster types that were made by the API."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, text

from shared.db.rows import as_json


class ClusterTypeRepository:
    """The table cluster_types, by project and name."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def all(self, project_id: str) -> dict[str, dict[str, Any]]:
        """The project's types as they were written, by name."""
        rows = self._connection.execute(
            text("SELECT name, content FROM cluster_types WHERE project_id = :project ORDER BY name"), {"project": project_id}
        )
        return {row[0]: row[1] for row in rows}

    def add(self, project_id: str, name: str, content: Mapping[str, Any], by: str) -> bool:
        """Write a new one; False where the project has one of that name."""
        found = self._connection.execute(
            text(
                "INSERT INTO cluster_types (project_id, name, content, created_by)"
                " VALUES (:project, :name, CAST(:content AS jsonb), :by) ON CONFLICT DO NOTHING RETURNING 1"
            ),
            {"project": project_id, "name": name, "content": as_json(content), "by": by},
        )
        return found.first() is not None

    def replace(self, project_id: str, name: str, content: Mapping[str, Any]) -> bool:
        """Write another content; False where there is no such type."""
        found = self._connection.execute(
            text(
                "UPDATE cluster_types SET content = CAST(:content AS jsonb), updated_at = now()"
                " WHERE project_id = :project AND name = :name RETURNING 1"
            ),
            {"project": project_id, "name": name, "content": as_json(content)},
        )
        return found.first() is not None

    def delete(self, project_id: str, name: str) -> bool:
        """Forget one; False where there is no such type."""
        found = self._connection.execute(
            text("DELETE FROM cluster_types WHERE project_id = :project AND name = :name RETURNING 1"),
            {"project": project_id, "name": name},
        )
        return found.first() is not None
