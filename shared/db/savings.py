"""The ledger of changes that take nodes away."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Connection, text

from shared.db.rows import as_json
from shared.domain.savings import HORIZON, Change, Entry, Ran


class SavingsRepository:
    """The table savings."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def running(self, cluster_id: UUID) -> dict[str, Change]:
        """What each group of a cluster runs now, as a change that leaves it so."""
        rows = self._connection.execute(
            text("SELECT node_group, role, flavor, node_count FROM usage_intervals WHERE cluster_id = :id AND ended_at IS NULL"),
            {"id": cluster_id},
        )
        return {row[0]: Change(row[1], row[2], row[3], row[3]) for row in rows}

    def add(
        self,
        job_id: UUID,
        project_id: str,
        cluster: tuple[UUID, str],
        kind: str,
        cause: str,
        by: str | None,
        groups: Mapping[str, Change],
    ) -> None:
        """A change was promised."""
        self._connection.execute(
            text(
                "INSERT INTO savings (job_id, project_id, cluster_id, cluster_name, kind, cause, requested_by, groups)"
                " VALUES (:job, :project, :id, :name, :kind, :cause, :by, CAST(:groups AS jsonb)) ON CONFLICT DO NOTHING"
            ),
            {
                "job": job_id,
                "project": project_id,
                "id": cluster[0],
                "name": cluster[1],
                "kind": kind,
                "cause": cause,
                "by": by,
                "groups": as_json({name: asdict(one) for name, one in groups.items()}),
            },
        )

    def select(self, project_id: str, start: datetime, end: datetime, *, limit: int) -> list[Entry]:
        """Changes of the project that may save something in [start, end), the latest first."""
        rows = self._connection.execute(
            text(
                "SELECT job_id, cluster_id, cluster_name, kind, cause, at, groups FROM savings WHERE project_id = :project"
                " AND at < :end AND at > :first ORDER BY seq DESC LIMIT :limit"
            ),
            {"project": project_id, "end": end, "first": start - HORIZON, "limit": limit},
        )
        return [
            Entry(row[0], row[1], row[2], row[3], row[4], row[5], {name: Change(**one) for name, one in row[6].items()})
            for row in rows
        ]

    def ran(self, cluster_ids: Sequence[UUID], start: datetime, end: datetime) -> dict[UUID, tuple[list[Ran], datetime | None]]:
        """What these clusters ran in [start, end), and when each ended as a whole; None where something of it still runs."""
        rows = self._connection.execute(
            text(
                "SELECT cluster_id, node_group, node_count, started_at, coalesce(ended_at, :end), ended_at IS NULL FROM usage_intervals"
                " WHERE cluster_id = ANY(CAST(:ids AS uuid[])) AND started_at < :end AND coalesce(ended_at, :end) >= :start"
            ),
            {"ids": list(cluster_ids), "start": start, "end": end},
        )
        found: dict[UUID, tuple[list[Ran], datetime | None]] = {one: ([], None) for one in cluster_ids}
        alive: set[UUID] = set()
        for key, group, nodes, began, ended, is_open in rows:
            found[key][0].append(Ran(group, nodes, began, ended))
            alive |= {key} if is_open else set()
        return {key: (ran, None if key in alive or not ran else max(one.end for one in ran)) for key, (ran, _) in found.items()}

    def forget_old(self, *, days: int) -> int:
        """Drop entries past their keeping time; how many."""
        return self._connection.execute(text("DELETE FROM savings WHERE at < now() - :age"), {"age": timedelta(days=days)}).rowcount
