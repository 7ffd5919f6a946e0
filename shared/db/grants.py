"""Grants on single clusters."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import Connection, text

from shared.domain.access import Grant, GrantRole, SubjectType


class GrantRepository:
    """The table cluster_grants."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def of(self, cluster_id: UUID) -> list[Grant]:
        """All of a cluster, oldest first."""
        rows = self._connection.execute(
            text(
                "SELECT subject_type, subject_id, role, granted_by, created_at FROM cluster_grants WHERE cluster_id = :cluster"
                " ORDER BY created_at, subject_type, subject_id"
            ),
            {"cluster": cluster_id},
        )
        return [Grant(SubjectType(row[0]), row[1], GrantRole(row[2]), row[3], row[4]) for row in rows]

    def roles(self, cluster_id: UUID, user_id: str, groups: Sequence[str]) -> list[GrantRole]:
        """The roles that a user has on a cluster, by himself and by these groups."""
        rows = self._connection.execute(
            text(
                "SELECT role FROM cluster_grants WHERE cluster_id = :cluster AND ((subject_type = 'user' AND subject_id = :user)"
                " OR (subject_type = 'group' AND subject_id = ANY(:groups)))"
            ),
            {"cluster": cluster_id, "user": user_id, "groups": list(groups)},
        )
        return [GrantRole(row[0]) for row in rows]

    def has_groups(self, cluster_id: UUID) -> bool:
        """Whether any group has a grant: only then do the caller's groups matter."""
        found = self._connection.execute(
            text("SELECT 1 FROM cluster_grants WHERE cluster_id = :cluster AND subject_type = 'group' LIMIT 1"),
            {"cluster": cluster_id},
        )
        return found.first() is not None

    def put(self, cluster_id: UUID, subject_type: SubjectType, subject_id: str, role: GrantRole, by: str) -> None:
        """Give a role, in place of the one that the subject had."""
        self._connection.execute(
            text(
                "INSERT INTO cluster_grants (cluster_id, subject_type, subject_id, role, granted_by)"
                " VALUES (:cluster, :type, :subject, :role, :by) ON CONFLICT (cluster_id, subject_type, subject_id)"
                " DO UPDATE SET role = excluded.role, granted_by = excluded.granted_by, created_at = now()"
            ),
            {"cluster": cluster_id, "type": subject_type.value, "subject": subject_id, "role": role.value, "by": by},
        )

    def delete(self, cluster_id: UUID, subject_type: SubjectType, subject_id: str) -> bool:
        """Take a role away; False where there was none."""
        found = self._connection.execute(
            text("DELETE FROM cluster_grants WHERE cluster_id = :cluster AND subject_type = :type AND subject_id = :subject"),
            {"cluster": cluster_id, "type": subject_type.value, "subject": subject_id},
        )
        return found.rowcount > 0
