"""Usage intervals: how many nodes of which flavor each node group of each cluster ran, and from when to when."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, text

from shared.db.rows import as_json
from shared.domain.clusters import Scope
from shared.domain.usage import GroupUse, Wanted

_TOLD = (
    "x(cluster_id uuid, project_id text, region text, role text, node_group text, flavor text, nodes int, at timestamptz,"
    " exact bool)"
)
_OPEN = "u.cluster_id = x.cluster_id AND u.node_group = x.node_group AND u.ended_at IS NULL"
_DIFFERS = "(u.node_count <> x.nodes OR (x.nodes > 0 AND u.flavor IS DISTINCT FROM coalesce(x.flavor, u.flavor)))"


class Running(NamedTuple):
    """What is on record of a cluster, and what is wanted of it."""

    cluster_id: UUID
    project_id: str
    region: str
    updated_at: datetime | None  #: when Magnum last changed it
    wanted: Wanted
    groups: dict[str, GroupUse]  #: each since its open interval began
    guessed: bool  #: the split over the groups is a guess


class Interval(NamedTuple):
    """A group's use within a window. ``exact``: the group's size was known, not guessed from the cluster's total."""

    cluster_id: UUID
    role: str
    node_group: str
    flavor: str | None
    nodes: int
    start: datetime
    end: datetime
    exact: bool
    is_open: bool  #: it has not ended


class Described(NamedTuple):
    """What costs need to know of a cluster besides its usage."""

    id: UUID
    name: str
    type: str
    labels: dict[str, str]
    options: dict[str, Any]
    created_at: datetime  #: or when it was first used, which is earlier for clusters that were made elsewhere
    first_placed_at: datetime | None  #: since when it is known what runs there


class Placed(NamedTuple):
    """A placement, as far as it says what share of a node was held."""

    cluster_id: UUID
    node_group: str
    workload: str
    node: int
    cpu_milli: int
    memory_mib: int
    devices_milli: int
    start: datetime
    end: datetime


class Energy(NamedTuple):
    """What a cluster drew on average in an hour, in watts; ``measured``: the part of the time with a measurement, 0..1."""

    cluster_id: UUID
    hour: datetime
    watts: float
    measured: float


class UsageRepository:
    """The table usage_intervals. No two intervals of a group overlap: the database refuses it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def running(self, cluster_ids: Sequence[UUID]) -> dict[UUID, Running]:
        """Of these clusters, those that live; their rows are held until the transaction ends, so that what is on record stays so."""
        self._hold(cluster_ids)
        rows = self._connection.execute(
            text(
                "SELECT c.id, c.project_id, c.region, c.magnum_updated_at, c.node_count, c.managed, c.hibernated_sizes IS NOT NULL AS asleep,"
                " coalesce((SELECT jsonb_agg(jsonb_build_array(g.name, g.role, g.flavor, g.node_count) ORDER BY g.name)"
                " FROM node_groups g WHERE g.cluster_id = c.id), '[]'::jsonb) AS groups,"
                " coalesce((SELECT jsonb_agg(jsonb_build_array(u.node_group, u.role, u.flavor, u.node_count, u.started_at, u.exact))"
                " FROM usage_intervals u WHERE u.cluster_id = c.id AND u.ended_at IS NULL), '[]'::jsonb) AS running"
                " FROM clusters c WHERE c.id = ANY(CAST(:ids AS uuid[])) AND c.live AND c.deleted_at IS NULL"
            ),
            {"ids": list(cluster_ids)},
        )
        found = {}
        for row in rows:
            groups = tuple(GroupUse(*each) for each in row.groups)
            wanted = Wanted(row.node_count, groups, managed=row.managed, asleep=row.asleep)
            on_record = {
                name: GroupUse(name, role, flavor, nodes, datetime.fromisoformat(began))
                for name, role, flavor, nodes, began, _ in row.running
            }
            guessed = not all(each[-1] for each in row.running)
            found[row.id] = Running(row.id, row.project_id, row.region, row.magnum_updated_at, wanted, on_record, guessed)
        return found

    def set(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """From ``at`` on, a group runs ``nodes`` nodes: the open interval that differs ends there, and the next begins there.

        Each row: cluster_id, project_id, region, role, node_group, flavor (None: as before), nodes, at, and exact. Telling the same again
        changes nothing. What is on record as ended stays: a change dated before that begins where it ended; one dated before the
        open interval began takes its place. So no second is counted twice, and none between two intervals is left out.
        """
        if not rows:
            return
        values = {"rows": as_json([{"exact": True, **row} for row in rows])}
        self._hold([row["cluster_id"] for row in rows])
        told = f"FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS {_TOLD}"
        replace = (
            "UPDATE usage_intervals u SET node_count = x.nodes, flavor = coalesce(x.flavor, u.flavor), exact = x.exact"
            f" {told} WHERE {_OPEN} AND {_DIFFERS} AND x.nodes > 0 AND x.at <= u.started_at"
        )
        end = f"UPDATE usage_intervals u SET ended_at = greatest(x.at, u.started_at) {told} WHERE {_OPEN} AND {_DIFFERS}"
        begin = (
            "INSERT INTO usage_intervals (cluster_id, project_id, region, role, node_group, flavor, node_count, started_at, exact)"
            " SELECT x.cluster_id, x.project_id, x.region, x.role, x.node_group, coalesce(x.flavor, l.flavor), x.nodes,"
            f" greatest(x.at, l.ended_at), x.exact {told} LEFT JOIN LATERAL (SELECT u.flavor, u.ended_at FROM usage_intervals u"
            " WHERE u.cluster_id = x.cluster_id AND u.node_group = x.node_group AND u.ended_at IS NOT NULL"
            " ORDER BY u.ended_at DESC, u.id DESC LIMIT 1) l ON true"
            f" WHERE x.nodes > 0 AND NOT EXISTS (SELECT 1 FROM usage_intervals u WHERE {_OPEN})"
        )
        for statement in (replace, end, begin):
            self._connection.execute(text(statement), values)

    def close(self, cluster_ids: Sequence[UUID]) -> None:
        """These clusters are gone: their usage ends now."""
        self._connection.execute(
            text(
                "UPDATE usage_intervals SET ended_at = greatest(clock_timestamp(), started_at)"
                " WHERE cluster_id = ANY(CAST(:ids AS uuid[])) AND ended_at IS NULL"
            ),
            {"ids": list(cluster_ids)},
        )

    # -- splits that were guessed -----------------------------------------------------------------------------------------

    def doubt(self, cluster_id: UUID) -> None:
        """How the cluster's workers are spread over its groups has to be read from the groups themselves."""
        self._mark(cluster_id, exact=False)

    def believe(self, cluster_id: UUID) -> None:
        """It was."""
        self._mark(cluster_id, exact=True)

    def doubted(self, scope: Scope, *, limit: int) -> list[tuple[UUID, str]]:
        """Our id and Magnum's of clusters whose groups should be read, oldest first."""
        rows = self._connection.execute(
            text(
                "SELECT c.id, c.magnum_uuid FROM clusters c JOIN usage_intervals u ON u.cluster_id = c.id AND u.ended_at IS NULL"
                " WHERE NOT u.exact AND c.live AND c.magnum_uuid IS NOT NULL AND c.region = :region AND c.project_id = :project"
                " GROUP BY c.id ORDER BY min(u.started_at) LIMIT :limit"
            ),
            {"region": scope.region, "project": scope.project_id, "limit": limit},
        )
        return [(row[0], row[1]) for row in rows]

    def _mark(self, cluster_id: UUID, *, exact: bool) -> None:
        self._connection.execute(
            text(
                "UPDATE usage_intervals SET exact = :exact WHERE cluster_id = :id AND ended_at IS NULL AND role = 'worker'"
                " AND exact <> :exact"
            ),
            {"id": cluster_id, "exact": exact},
        )

    # -- reading ------------------------------------------------------------------------------------------------------------

    def between(self, cluster_ids: Sequence[UUID], start: datetime, end: datetime) -> list[Interval]:
        """What of these clusters' use lies in [start, end), each interval cut to it; open ones end now."""
        rows = self._connection.execute(
            text(
                "SELECT cluster_id, role, node_group, flavor, node_count, greatest(started_at, :start),"
                " least(coalesce(ended_at, clock_timestamp()), :end), exact, ended_at IS NULL"
                " FROM usage_intervals WHERE cluster_id = ANY(CAST(:ids AS uuid[])) AND started_at < :end"
                " AND coalesce(ended_at, clock_timestamp()) > :start ORDER BY started_at, cluster_id, role, node_group"
            ),
            {"ids": list(cluster_ids), "start": start, "end": end},
        )
        return [interval for row in rows if (interval := Interval(*row)).end > interval.start]

    def clusters(self, project_id: str, start: datetime, end: datetime) -> list[Described]:
        """The project's clusters that used something in [start, end), also those that are no more."""
        return self._described(
            "c.project_id = :project AND EXISTS (SELECT 1 FROM usage_intervals u WHERE u.cluster_id = c.id AND u.started_at < :end"
            " AND coalesce(u.ended_at, clock_timestamp()) > :start)",
            {"project": project_id, "start": start, "end": end},
        )

    def cluster(self, cluster_id: UUID) -> Described:
        """One cluster."""
        return self._described("c.id = :id", {"id": cluster_id})[0]

    def _described(self, condition: str, values: Mapping[str, Any]) -> list[Described]:
        rows = self._connection.execute(
            text(
                "SELECT c.id, c.name, coalesce(c.template_name, c.template_id), c.labels, c.options,"
                " least(c.created_at, (SELECT min(u.started_at) FROM usage_intervals u WHERE u.cluster_id = c.id)),"
                " (SELECT min(p.created_at) FROM placements p WHERE p.cluster_id = c.id) FROM clusters c"
                f" WHERE {condition} ORDER BY c.seq"
            ),
            values,
        )
        return [Described(*row) for row in rows]

    def placed(self, cluster_ids: Sequence[UUID], start: datetime, end: datetime) -> list[Placed]:
        """The placements on these clusters that held something in [start, end)."""
        rows = self._connection.execute(
            text(
                "SELECT cluster_id, node_group, workload, node, cpu_milli, memory_mib, accelerators * share_milli, created_at,"
                " coalesce(ended_at, expires_at, greatest(:end, created_at)) FROM placements"
                " WHERE cluster_id = ANY(CAST(:ids AS uuid[])) AND created_at < :end"
                " AND coalesce(ended_at, expires_at, :end) > :start ORDER BY seq"
            ),
            {"ids": list(cluster_ids), "start": start, "end": end},
        )
        return [Placed(*row) for row in rows]

    def energy(self, cluster_ids: Sequence[UUID], start: datetime, end: datetime) -> list[Energy]:
        """The measured hours of these clusters that lie in [start, end), in whole or in part."""
        rows = self._connection.execute(
            text(
                "SELECT cluster_id, hour, joules / seconds, measured_seconds / seconds FROM cluster_energy"
                " WHERE cluster_id = ANY(CAST(:ids AS uuid[])) AND hour > CAST(:start AS timestamptz) - interval '1 hour'"
                " AND hour < :end AND measured_seconds > 0"
            ),
            {"ids": list(cluster_ids), "start": start, "end": end},
        )
        return [Energy(*row) for row in rows]

    def _hold(self, cluster_ids: Sequence[UUID]) -> None:
        # In the order in which observations lock clusters, so that two tellers wait for each other rather than deadlock.
        self._connection.execute(
            text("SELECT 1 FROM clusters WHERE id = ANY(CAST(:ids AS uuid[])) ORDER BY id FOR NO KEY UPDATE"),
            {"ids": list(cluster_ids)},
        )
