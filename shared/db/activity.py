"""What is known of clusters' use: samples, placements, jobs, connections. One statement each, however many clusters."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from shared.domain.idleness import Placed, Sample, Usage, Work

_IDS = "ANY(CAST(:ids AS uuid[]))"


class ActivityRepository:
    """Implements the ports ``UsageSource`` and ``PlacementSource`` over our own tables."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def usage(self, cluster_ids: Sequence[UUID], *, since: datetime) -> dict[UUID, Usage]:
        """See the port: the busiest node's and the busiest accelerator's use, which are known only where all were read."""
        rows = self._connection.execute(
            text(
                "SELECT cluster_id, max(gpu_usage_peak) AS gpu, max(time) FILTER (WHERE gpu_usage_peak IS NOT NULL) AS gpu_at,"
                " max(cpu_usage_peak) AS cpu, max(time) FILTER (WHERE cpu_usage_peak IS NOT NULL) AS cpu_at,"
                " max(running_pods) AS pods, max(time) FILTER (WHERE running_pods IS NOT NULL) AS pods_at"
                f" FROM cluster_metrics WHERE cluster_id = {_IDS} AND time >= :since GROUP BY cluster_id"
            ),
            {"ids": list(cluster_ids), "since": since},
        ).mappings()
        return {
            row["cluster_id"]: Usage(
                _sample(row["gpu"], row["gpu_at"]), _sample(row["cpu"], row["cpu_at"]), _sample(row["pods"], row["pods_at"])
            )
            for row in rows
        }

    def placed(self, cluster_ids: Sequence[UUID]) -> dict[UUID, Placed]:
        """See the port."""
        rows = self._connection.execute(
            text(
                "SELECT cluster_id, count(*) FILTER (WHERE ended_at IS NULL AND (expires_at IS NULL OR expires_at > now())),"
                " max(greatest(created_at, least(coalesce(ended_at, expires_at, now()), now())))"
                f" FROM placements WHERE cluster_id = {_IDS} GROUP BY cluster_id"
            ),
            {"ids": list(cluster_ids)},
        )
        return {row[0]: Placed(row[1], row[2]) for row in rows}

    def work(self, cluster_ids: Sequence[UUID]) -> dict[UUID, Work]:
        """Unfinished jobs of each of these clusters, and when a job last ended or the number of its nodes last changed."""
        rows = self._connection.execute(
            text(
                "SELECT c.id, j.unfinished, j.kind, greatest(j.last_at, (SELECT max(greatest(u.started_at, u.ended_at))"
                " FROM usage_intervals u WHERE u.cluster_id = c.id)) FROM clusters c CROSS JOIN LATERAL (SELECT"
                " count(*) FILTER (WHERE state IN ('queued','running','converging')) AS unfinished,"
                " (array_agg(kind ORDER BY seq) FILTER (WHERE state IN ('queued','running','converging')))[1] AS kind,"
                " max(finished_at) AS last_at FROM jobs WHERE lane = c.id) j"
                f" WHERE c.id = {_IDS}"
            ),
            {"ids": list(cluster_ids)},
        )
        return {row[0]: Work(row[1], row[2], row[3]) for row in rows}

    def connected(self, project_id: str) -> dict[UUID, tuple[str, ...]]:
        """By cluster, the names of the project's stacks that connect it with others."""
        rows = self._connection.execute(
            text(
                "SELECT s.name, m.key FROM stacks s CROSS JOIN LATERAL jsonb_object_keys(s.members) AS m(key)"
                " WHERE s.project_id = :project AND s.live AND s.deleted_at IS NULL ORDER BY s.seq"
            ),
            {"project": project_id},
        )
        found: dict[UUID, tuple[str, ...]] = {}
        for name, key in rows:
            found[UUID(key)] = (*found.get(UUID(key), ()), name)
        return found

    def added_flavors(self, cluster_ids: Sequence[UUID]) -> dict[UUID, list[str | None]]:
        """The flavors of the workers that were added to each of these clusters; None in the list: not known."""
        rows = self._connection.execute(
            text(f"SELECT cluster_id, array_agg(flavor) FROM node_groups WHERE cluster_id = {_IDS} GROUP BY cluster_id"),
            {"ids": list(cluster_ids)},
        )
        return {row[0]: list(row[1]) for row in rows}


def _sample(value: Any, at: datetime | None) -> Sample | None:
    return Sample(float(value), at) if value is not None and at is not None else None
