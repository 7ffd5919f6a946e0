"""From what Magnum shows to usage: which nodes run, from when."""

from datetime import datetime
from typing import Any

from shared.domain.clusters import Cluster, MagnumStatus, ObservedCluster


def usage_rows(cluster: Cluster, observed: ObservedCluster, at: datetime) -> list[dict[str, Any]]:
    """Rows for ``SeriesRepository.usage``; none where nothing is known to have changed.

    Nodes count from the moment that Magnum finished the change (its ``updated_at``), also when we saw it later; while a
    change is under way the counts of before stand.
    """
    status = observed.status
    known = (cluster.status, cluster.observed_node_count, cluster.observed_master_count)
    if known == (observed.raw_status, observed.node_count, observed.master_count):
        return []
    if not (status.complete or status is MagnumStatus.UPDATE_FAILED):
        return []
    since = observed.updated_at or observed.created_at or at
    if cluster.observed_at is not None and since < cluster.observed_at and cluster.status == observed.raw_status:
        since = at  # the count changed without Magnum dating it
    since = min(since, at)
    return [
        {
            "cluster_id": cluster.id,
            "project_id": cluster.project_id,
            "region": cluster.region,
            "role": role,
            "flavor": flavor,
            "nodes": nodes,
            "at": since,
        }
        for role, flavor, nodes in (
            ("worker", observed.flavor or cluster.flavor, observed.node_count),
            ("master", observed.master_flavor or cluster.master_flavor, observed.master_count),
        )
    ]
